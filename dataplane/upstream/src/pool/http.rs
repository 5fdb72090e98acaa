//! HTTP pools: who waits, who is served, and which connections are opened. An HTTP/1 connection carries one
//! request at a time, an HTTP/2 connection as many as the peer and the cluster's options allow.

use millrace_base::{Key, Time};

use super::conn::{ConnState, Kind, PoolId};
use super::limits::AHEAD_MAX;
use super::{
    Acquire, CloseReason, Conn, ConnId, HttpProtocol, PoolAction, PoolEvent, PoolFailure, WaitId, Waiter,
};
use crate::host::HostPool;
use crate::{ClusterState, HostId, ResourcePriority, TransportKey};

/// Streams that a new HTTP/2 connection is given before its peer has said how many it serves (RFC 9113 section 6.5.2 asks
/// servers for no less).
const STREAMS_BEFORE_SETTINGS: u32 = 100;

impl ClusterState {
    /// Asks for a connection to `host` for one request in `protocol`. A connection that has room serves at
    /// once, the least loaded one first; else the request waits for the connections that are opened.
    pub fn acquire(
        &mut self,
        host: HostId,
        priority: ResourcePriority,
        protocol: HttpProtocol,
        transport: TransportKey,
        waiter: Key,
        out: &mut Vec<PoolAction>,
    ) -> Acquire {
        let pool = PoolId { host, priority, protocol, transport };
        let Some(entry) = self.hosts.get(host.0).filter(|h| h.present) else {
            return Acquire::Refused(PoolFailure::HostGone);
        };
        let best = entry.pool(pool).and_then(|pool| pool.ready.best());
        if self.config.http.predictive_preconnect_ratio > 1.0 {
            self.connect_ahead(pool, out);
        }
        if let Some(conn) = best {
            let Some(counted) = self.take_request(priority) else {
                out.push(PoolAction::Count(PoolEvent::RequestOverflow));
                return Acquire::Refused(PoolFailure::RequestOverflow);
            };
            let answer = match self.start_stream(ConnId(conn), counted, out) {
                Some(key) => Acquire::Reuse { conn: key, id: ConnId(conn) },
                None => Acquire::Refused(PoolFailure::HostGone),
            };
            if self.config.http.preconnect_ratio > 1.0 {
                self.connect_for_waiters(pool, out);
            }
            self.debug_check();
            return answer;
        }
        if !self.open_pool(pool, out) {
            return Acquire::Refused(PoolFailure::PoolOverflow);
        }
        if !self.budget(priority).pending.try_acquire(self.thresholds(priority).max_pending_requests) {
            self.close_pool(pool);
            out.push(PoolAction::Count(PoolEvent::PendingOverflow));
            return Acquire::Refused(PoolFailure::PendingOverflow);
        }
        let wait = self.waiters.insert(Waiter::new(waiter, pool));
        self.transports.hold(transport);
        if let Some(entry) = self.hosts.get_mut(host.0) {
            entry.pool_mut(pool).waiters.push_back(&mut self.waiters, wait);
        }
        out.push(PoolAction::Count(PoolEvent::PendingTotal));
        self.connect_for_waiters(pool, out);
        self.debug_check();
        Acquire::Queued(WaitId(wait))
    }

    /// Tells the pool the shard's key of a connection that it asked for.
    pub fn bind(&mut self, conn: ConnId, key: Key) {
        if let Some(entry) = self.conns.get_mut(conn.0) {
            entry.key = Some(key);
        }
    }

    /// A connection of an [`HttpProtocol::Auto`] pool is established and ALPN agreed upon this version (HTTP/1.1
    /// where it agreed upon nothing). Then as [`Self::connected`]. Other pools know what they open.
    pub fn connected_as(
        &mut self,
        conn: ConnId,
        protocol: HttpProtocol,
        now: Time,
        out: &mut Vec<PoolAction>,
    ) {
        let (kind, room) = self.room(protocol);
        let automatic = |c: &&mut Conn| c.state == ConnState::Connecting && c.protocol == HttpProtocol::Auto;
        if let Some(entry) = self.conns.get_mut(conn.0).filter(automatic) {
            let expected = std::mem::replace(&mut entry.limit, room);
            entry.kind = kind;
            let pool = entry.pool();
            let (learned, event) = match kind {
                Kind::Http2 => (HttpProtocol::Http2, PoolEvent::AutoIsHttp2),
                Kind::Http1 | Kind::Tcp => (HttpProtocol::Http1, PoolEvent::AutoIsHttp1),
            };
            self.pool_mut(pool, |pool| {
                pool.coming = pool.coming - u64::from(expected) + u64::from(room);
                pool.learned = Some(learned);
            });
            out.push(PoolAction::Count(event));
        }
        self.connected(conn, now, out);
    }

    /// The connection is established. Serves those that wait the longest, as many as it has room for. One of an
    /// [`HttpProtocol::Auto`] pool needs [`Self::connected_as`].
    pub fn connected(&mut self, conn: ConnId, now: Time, out: &mut Vec<PoolAction>) {
        let Some(entry) = self.conns.get_mut(conn.0).filter(|c| c.state == ConnState::Connecting) else {
            return;
        };
        (entry.connected_at, entry.idle_since) = (now, now);
        if entry.kind == Kind::Tcp {
            self.tcp_connected(conn);
        } else {
            entry.aged = true;
            entry.state = ConnState::Idle;
            let (pool, room, closing) = (entry.pool(), entry.limit, entry.closing.take());
            self.pool_mut(pool, |pool| {
                pool.connecting -= 1;
                pool.coming -= u64::from(room);
                pool.open += 1;
            });
            self.age.push_back(&mut self.conns, conn.0);
            self.idle.push_back(&mut self.conns, conn.0);
            self.refresh(conn);
            self.settle(pool, out);
            if let Some(reason) = closing {
                self.stop_using(conn, reason, out);
                self.settle(pool, out);
            }
        }
        self.debug_check();
    }

    /// The connection could not be established in time or at all. Every request that waits in its pool
    /// fails, as in Envoy: the endpoint looks dead and a retry may choose another.
    pub fn connect_failed(&mut self, conn: ConnId, out: &mut Vec<PoolAction>) {
        let Some(entry) = self.forget(conn) else { return };
        if entry.kind != Kind::Tcp {
            while let Some(waiter) = self.pop_waiter(entry.pool()) {
                out.push(PoolAction::Count(PoolEvent::PendingFailureEject));
                out.push(PoolAction::Fail { waiter: waiter.key, reason: PoolFailure::ConnectFailed });
            }
        }
        self.retire(entry.host);
        self.debug_check();
    }

    /// The connection is gone, whoever closed it. Requests on it are over; the shard answers for them.
    pub fn closed(&mut self, conn: ConnId, out: &mut Vec<PoolAction>) {
        match self.conns.get(conn.0).map(|c| c.state) {
            Some(ConnState::Connecting) => return self.connect_failed(conn, out),
            Some(ConnState::Idle | ConnState::Busy) => {}
            None => return,
        }
        match self.forget(conn) {
            Some(entry) if entry.kind != Kind::Tcp => self.settle(entry.pool(), out),
            Some(entry) => self.retire(entry.host),
            None => {}
        }
        self.debug_check();
    }

    /// A waiting request no longer wants a connection. One that is being opened for it is kept, as in Envoy.
    pub fn cancel(&mut self, wait: WaitId, out: &mut Vec<PoolAction>) {
        let Some(pool) = self.waiters.get(wait.0).map(|w| w.pool) else { return };
        self.take_waiter(pool, wait.0);
        out.push(PoolAction::Count(PoolEvent::Cancelled));
        self.settle(pool, out);
        self.debug_check();
    }

    /// The connections that are being opened for a waiting request are not opened after all, and it does not wait any more:
    /// load is shed. Others that wait keep what is being opened for them.
    pub fn shed(&mut self, wait: WaitId, conns: &[ConnId]) {
        let Some(pool) = self.waiters.get(wait.0).map(|w| w.pool) else { return };
        self.take_waiter(pool, wait.0);
        for conn in conns {
            self.forget(*conn);
        }
        self.retire(pool.host);
        self.debug_check();
    }

    /// Brings a pool to rest after a change: connections with room serve waiters, missing ones are opened, and
    /// idle ones of a host that is gone are closed.
    pub(crate) fn settle(&mut self, pool: PoolId, out: &mut Vec<PoolAction>) {
        let Some(host) = self.hosts.get(pool.host.0) else { return };
        let present = host.present;
        if host.pool(pool).is_some_and(|p| p.waiters.len() > 0) {
            self.serve_waiters(pool, out);
        }
        if !present {
            while let Some(conn) = self.pool(pool).and_then(|p| p.ready.any_idle()) {
                self.close(ConnId(conn), CloseReason::HostGone, out);
            }
            // One whose peer allows no stream may have been all that the breaker left to those that wait.
            if self.pool(pool).is_some_and(|p| p.waiters.len() > 0 && p.connections() == 0) {
                self.connect_for_waiters(pool, out);
            }
            self.retire(pool.host);
        }
    }

    fn serve_waiters(&mut self, pool: PoolId, out: &mut Vec<PoolAction>) {
        let waits = |p: &HostPool| p.waiters.first().and(p.ready.best());
        while let Some(conn) = self.pool(pool).and_then(waits) {
            let Some(waiter) = self.pop_waiter(pool) else { break };
            let assigned = match self.take_request(pool.priority) {
                Some(counted) => self.start_stream(ConnId(conn), counted, out),
                None => None,
            };
            match assigned {
                Some(key) => {
                    out.push(PoolAction::Assign { waiter: waiter.key, conn: key, id: ConnId(conn) });
                }
                None => {
                    out.push(PoolAction::Count(PoolEvent::RequestOverflow));
                    out.push(PoolAction::Fail { waiter: waiter.key, reason: PoolFailure::RequestOverflow });
                }
            }
        }
        self.connect_for_waiters(pool, out);
    }

    /// Opens connections until every waiter of the pool has room coming, as far as the breaker allows.
    pub(super) fn connect_for_waiters(&mut self, at: PoolId, out: &mut Vec<PoolAction>) {
        let (kind, room) = self.room_of(at);
        let mut ahead = 0;
        while self.wants_connection(at, kind) {
            let Some(pool) = self.pool(at) else { return };
            let needed = u64::from(pool.waiters.len()) > pool.coming;
            ahead += usize::from(!needed);
            if ahead > AHEAD_MAX {
                return;
            }
            if !self.open_connection(at, (kind, room), out) {
                return;
            }
        }
    }

    /// Opens a connection of a pool, if the breakers allow it.
    pub(super) fn open_connection(
        &mut self,
        at: PoolId,
        (kind, room): (Kind, u32),
        out: &mut Vec<PoolAction>,
    ) -> bool {
        let opened = match at.protocol {
            HttpProtocol::Http1 => PoolEvent::ConnectionOpened,
            HttpProtocol::Http2 => PoolEvent::Http2ConnectionOpened,
            HttpProtocol::Auto => PoolEvent::AutoConnectionOpened,
        };
        let none_yet = self.pool(at).is_none_or(|pool| pool.connections() == 0);
        let permit = self.permit(at.host, at.priority, none_yet);
        if permit.is_none_or(|permit| permit.overflow) {
            out.push(PoolAction::Count(PoolEvent::ConnectionOverflow));
        }
        let Some(permit) = permit else { return false };
        let mut conn = Conn::new(at, kind);
        conn.limit = room;
        conn.counted_host = permit.counted_host;
        self.transports.hold(at.transport);
        let conn = ConnId(self.conns.insert(conn));
        self.pool_mut(at, |pool| {
            pool.connecting += 1;
            pool.coming += u64::from(room);
        });
        out.push(PoolAction::Count(opened));
        let PoolId { host, priority, protocol, transport } = at;
        out.push(PoolAction::Connect { conn, host, priority, protocol, transport });
        true
    }

    /// What a new connection of a pool carries. An automatic pool counts on what its last connection became, and on one
    /// request at a time before.
    pub(super) fn room_of(&self, at: PoolId) -> (Kind, u32) {
        match at.protocol {
            HttpProtocol::Auto => self.room(self.pool(at).and_then(|p| p.learned).unwrap_or_default()),
            known => self.room(known),
        }
    }

    /// What a new connection carries, and how many requests at a time until its peer says more.
    fn room(&self, protocol: HttpProtocol) -> (Kind, u32) {
        match protocol {
            HttpProtocol::Http1 | HttpProtocol::Auto => (Kind::Http1, 1),
            HttpProtocol::Http2 => {
                let http = &self.config.http;
                let requests = http.max_requests_per_connection.unwrap_or(u32::MAX);
                let streams = http.http2.max_concurrent_streams.min(STREAMS_BEFORE_SETTINGS);
                (Kind::Http2, streams.min(requests).max(1))
            }
        }
    }

    /// Forgets a connection and has the shard close it.
    pub(crate) fn close(&mut self, conn: ConnId, reason: CloseReason, out: &mut Vec<PoolAction>) {
        if let Some(entry) = self.forget(conn) {
            out.push(PoolAction::Close { conn: entry.key, id: conn, host: entry.host, reason });
        }
    }

    /// Removes a connection with everything that it holds.
    fn forget(&mut self, conn: ConnId) -> Option<Conn> {
        if self.conns.get(conn.0)?.kind == Kind::Tcp {
            return self.forget_tcp(conn);
        }
        let entry = self.conns.get(conn.0)?;
        let (at, limit, streams, counted) = (entry.pool(), entry.limit, entry.streams, entry.counted);
        let (state, aged, level) = (entry.state, entry.aged, entry.level);
        if state == ConnState::Idle {
            self.idle.remove(&mut self.conns, conn.0);
        }
        if aged {
            self.age.remove(&mut self.conns, conn.0);
        }
        if let Some(host) = self.hosts.get_mut(at.host.0) {
            host.active_requests -= streams;
            self.active -= streams;
            let pool = host.pool_mut(at);
            if let Some(level) = level {
                pool.ready.remove(&mut self.conns, conn.0, level);
            }
            match state {
                ConnState::Connecting => {
                    pool.connecting -= 1;
                    pool.coming -= u64::from(limit);
                }
                ConnState::Idle | ConnState::Busy => pool.open -= 1,
            }
        }
        self.close_pool(at);
        self.transports.release(at.transport);
        let budget = self.budget(at.priority);
        budget.connections.release();
        (0..counted).for_each(|_| self.give_request_back(at.priority));
        let entry = self.conns.remove(conn.0)?;
        if entry.counted_host {
            self.release_host_connection(entry.host);
        }
        Some(entry)
    }

    fn pop_waiter(&mut self, pool: PoolId) -> Option<Waiter> {
        let first = self.pool(pool)?.waiters.first()?;
        self.take_waiter(pool, first)
    }

    fn take_waiter(&mut self, pool: PoolId, wait: Key) -> Option<Waiter> {
        let entry = self.hosts.get_mut(pool.host.0)?;
        entry.pool_mut(pool).waiters.remove(&mut self.waiters, wait);
        self.close_pool(pool);
        self.transports.release(pool.transport);
        self.budget(pool.priority).pending.release();
        self.waiters.remove(wait)
    }

    pub(super) fn pool(&self, pool: PoolId) -> Option<&HostPool> {
        self.hosts.get(pool.host.0)?.pool(pool)
    }

    pub(super) fn pool_mut(&mut self, pool: PoolId, change: impl FnOnce(&mut HostPool)) {
        if let Some(host) = self.hosts.get_mut(pool.host.0) {
            change(host.pool_mut(pool));
        }
    }
}
