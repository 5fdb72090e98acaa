//! The end of connections that nobody asked to end: idle and age limits, vanished hosts, drain.

use std::time::Duration;

use millrace_base::{Key, Time};

use super::conn::{ConnState, Kind, PoolId};
use super::{CloseReason, ConnId, HttpProtocol, PoolAction, PoolEvent};
use crate::{ClusterState, HostId, ResourcePriority, TransportKey};

impl ClusterState {
    /// When [`Self::expire`] has something to do next, or `None`. A change of configuration may move it.
    pub fn next_expiry(&self) -> Option<Time> {
        let idle = self.due(self.idle.first(), self.config.http.idle_timeout, |c| c.idle_since);
        let age = self.due(self.age.first(), self.config.http.max_connection_duration, |c| c.connected_at);
        match (idle, age) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn due(
        &self,
        first: Option<Key>,
        limit: Option<Duration>,
        since: fn(&super::Conn) -> Time,
    ) -> Option<Time> {
        Some(since(self.conns.get(first?)?) + limit?)
    }

    /// Closes HTTP connections that were idle for `idle_timeout` or open for `max_connection_duration`; of the
    /// latter, busy ones take no new request and close when their last one ends.
    pub fn expire(&mut self, now: Time, out: &mut Vec<PoolAction>) {
        while let Some(conn) = self.idle.first() {
            match self.due(Some(conn), self.config.http.idle_timeout, |c| c.idle_since) {
                Some(due) if due <= now => {}
                _ => break,
            }
            out.push(PoolAction::Count(PoolEvent::ConnectionIdleTimeout));
            self.close_idle(conn, CloseReason::Idle, out);
        }
        while let Some(conn) = self.age.first() {
            match self.due(Some(conn), self.config.http.max_connection_duration, |c| c.connected_at) {
                Some(due) if due <= now => {}
                _ => break,
            }
            out.push(PoolAction::Count(PoolEvent::ConnectionMaxDuration));
            self.age.remove(&mut self.conns, conn);
            let Some(entry) = self.conns.get_mut(conn) else { break };
            entry.aged = false;
            if entry.state == ConnState::Idle {
                self.close_idle(conn, CloseReason::MaxDuration, out);
            } else {
                entry.closing = Some(CloseReason::MaxDuration);
                self.refresh(ConnId(conn));
            }
        }
        self.debug_check();
    }

    /// Closes idle connections now and the others when their last request ends. Later requests get new ones;
    /// a connection that is being opened serves only those that wait when it is there.
    pub fn drain(&mut self, out: &mut Vec<PoolAction>) {
        for conn in self.keys_where(|c| c.kind != Kind::Tcp && c.state != ConnState::Idle) {
            self.stop_using(ConnId(conn), CloseReason::Drain, out);
        }
        let mut idle = self.idle.len();
        while let Some(conn) = self.idle.first().filter(|_| idle > 0) {
            idle -= 1;
            self.close_idle(conn, CloseReason::Drain, out);
        }
        self.debug_check();
    }

    /// Closes an idle connection. Where its peer allowed no stream, requests may wait for another.
    fn close_idle(&mut self, conn: Key, reason: CloseReason, out: &mut Vec<PoolAction>) {
        let Some(pool) = self.conns.get(conn).map(super::Conn::pool) else { return };
        self.close(ConnId(conn), reason, out);
        self.settle(pool, out);
    }

    /// The host left the cluster: its idle connections close, it finishes what it has, then it is forgotten.
    pub(crate) fn dismiss(&mut self, host: HostId, out: &mut Vec<PoolAction>) {
        self.settle_host(host, out);
    }

    /// Closes every connection of a host at once, requests under way included.
    pub(crate) fn close_all(&mut self, host: HostId, reason: CloseReason, out: &mut Vec<PoolAction>) {
        for conn in self.keys_where(|c| c.host == host) {
            self.close(ConnId(conn), reason, out);
        }
        self.settle_host(host, out);
    }

    /// Closes a host's idle connections now and the others when their last request ends.
    pub(crate) fn drain_host(&mut self, host: HostId, out: &mut Vec<PoolAction>) {
        for conn in self.keys_where(|c| c.host == host && c.kind != Kind::Tcp) {
            self.stop_using(ConnId(conn), CloseReason::HostUnhealthy, out);
        }
        self.settle_host(host, out);
    }

    fn settle_host(&mut self, host: HostId, out: &mut Vec<PoolAction>) {
        for priority in ResourcePriority::ALL {
            for protocol in [HttpProtocol::Http1, HttpProtocol::Http2] {
                let transport = TransportKey::DEFAULT;
                self.settle(PoolId { host, priority, protocol, transport }, out);
            }
        }
        let others: Vec<PoolId> =
            self.hosts.get(host.0).map(|h| h.others(host).collect()).unwrap_or_default();
        for pool in others {
            self.settle(pool, out);
        }
    }

    fn keys_where(&self, wanted: impl Fn(&super::Conn) -> bool) -> Vec<Key> {
        self.conns.iter().filter(|(_, conn)| wanted(conn)).map(|(key, _)| key).collect()
    }

    /// Drops a host that left the cluster once nothing refers to it.
    pub(crate) fn retire(&mut self, host: HostId) {
        let done = |h: &&crate::Host| {
            !h.present && h.connections() == 0 && h.pending_requests() == 0 && h.active_requests == 0
        };
        if self.hosts.get(host.0).filter(done).is_some() {
            self.hosts.remove(host.0);
        }
    }
}
