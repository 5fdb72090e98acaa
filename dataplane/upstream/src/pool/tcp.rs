//! TCP: a connection per session, never queued and never reused.

use super::conn::{ConnState, Kind, PoolId};
use super::{Conn, ConnId, HttpProtocol, PoolAction, PoolEvent, PoolFailure};
use crate::{ClusterState, HostId, ResourcePriority, TransportKey};

impl ClusterState {
    /// Asks for a new connection to `host` for one TCP session. On success the caller opens it, binds it and
    /// reports `connected` or `connect_failed`, later `closed`.
    pub fn acquire_tcp(
        &mut self,
        host: HostId,
        priority: ResourcePriority,
        out: &mut Vec<PoolAction>,
    ) -> Result<ConnId, PoolFailure> {
        if !self.hosts.get(host.0).is_some_and(|h| h.present) {
            return Err(PoolFailure::HostGone);
        }
        let Some(permit) = self.permit(host, priority, false) else {
            out.push(PoolAction::Count(PoolEvent::ConnectionOverflow));
            return Err(PoolFailure::ConnectionOverflow);
        };
        let (budget, thresholds) = (self.budget(priority), self.thresholds(priority));
        if !budget.pending.try_acquire(thresholds.max_pending_requests) {
            budget.connections.release();
            if permit.counted_host {
                self.release_host_connection(host);
            }
            out.push(PoolAction::Count(PoolEvent::PendingOverflow));
            return Err(PoolFailure::PendingOverflow);
        }
        out.push(PoolAction::Count(PoolEvent::PendingTotal));
        out.push(PoolAction::Count(PoolEvent::TcpConnectionOpened));
        let pool = PoolId { host, priority, protocol: HttpProtocol::Http1, transport: TransportKey::DEFAULT };
        let mut conn = Conn::new(pool, Kind::Tcp);
        conn.pending = true;
        conn.counted_host = permit.counted_host;
        if let Some(host) = self.hosts.get_mut(host.0) {
            host.tcp_connections += 1;
        }
        let id = ConnId(self.conns.insert(conn));
        self.debug_check();
        Ok(id)
    }

    pub(super) fn tcp_connected(&mut self, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(conn.0) else { return };
        entry.state = ConnState::Busy;
        entry.pending = false;
        let (host, priority) = (entry.host, entry.priority);
        if let Some(host) = self.hosts.get_mut(host.0) {
            host.active_requests += 1;
            self.active += 1;
        }
        self.budget(priority).pending.release();
    }

    pub(super) fn forget_tcp(&mut self, conn: ConnId) -> Option<Conn> {
        let entry = self.conns.remove(conn.0)?;
        if let Some(host) = self.hosts.get_mut(entry.host.0) {
            host.tcp_connections -= 1;
            host.active_requests -= u32::from(entry.state == ConnState::Busy);
            self.active -= u32::from(entry.state == ConnState::Busy);
        }
        let budget = self.budget(entry.priority);
        budget.connections.release();
        if entry.pending {
            budget.pending.release();
        }
        if entry.counted_host {
            self.release_host_connection(entry.host);
        }
        Some(entry)
    }
}
