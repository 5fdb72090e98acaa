//! HTTP/1.1 pools: one request per connection at a time, the warmest idle connection first.

use millrace_base::{Key, Time};

use super::conn::{ConnState, Kind};
use super::{Acquire, CloseReason, Conn, ConnId, PoolAction, PoolEvent, PoolFailure, WaitId, Waiter};
use crate::host::HostPool;
use crate::{ClusterState, HostId, ResourcePriority};

impl ClusterState {
    /// Asks for a connection to `host` for one HTTP/1 request.
    pub fn acquire(
        &mut self,
        host: HostId,
        priority: ResourcePriority,
        waiter: Key,
        out: &mut Vec<PoolAction>,
    ) -> Acquire {
        let Some(entry) = self.hosts.get(host.0).filter(|h| h.present) else {
            return Acquire::Refused(PoolFailure::HostGone);
        };
        if let Some(conn) = entry.pools[priority.index()].idle.last() {
            let Some(counted) = self.take_request(priority) else {
                out.push(PoolAction::Count(PoolEvent::RequestOverflow));
                return Acquire::Refused(PoolFailure::RequestOverflow);
            };
            let answer = match self.start_request(ConnId(conn), counted, out) {
                Some(key) => Acquire::Reuse { conn: key, id: ConnId(conn) },
                None => Acquire::Refused(PoolFailure::HostGone),
            };
            self.debug_check();
            return answer;
        }
        if !self.budget(priority).pending.try_acquire(self.thresholds(priority).max_pending_requests) {
            out.push(PoolAction::Count(PoolEvent::PendingOverflow));
            return Acquire::Refused(PoolFailure::PendingOverflow);
        }
        let wait = self.waiters.insert(Waiter::new(waiter, host, priority));
        if let Some(entry) = self.hosts.get_mut(host.0) {
            entry.pools[priority.index()].waiters.push_back(&mut self.waiters, wait);
        }
        out.push(PoolAction::Count(PoolEvent::PendingTotal));
        self.connect_for_waiters(host, priority, out);
        self.debug_check();
        Acquire::Queued(WaitId(wait))
    }

    /// Tells the pool the shard's key of a connection that it asked for.
    pub fn bind(&mut self, conn: ConnId, key: Key) {
        if let Some(entry) = self.conns.get_mut(conn.0) {
            entry.key = Some(key);
        }
    }

    /// The connection is established. Serves the longest waiting request, if any.
    pub fn connected(&mut self, conn: ConnId, now: Time, out: &mut Vec<PoolAction>) {
        let Some(entry) = self.conns.get_mut(conn.0).filter(|c| c.state == ConnState::Connecting) else {
            return;
        };
        entry.connected_at = now;
        let (host, priority) = (entry.host, entry.priority);
        if entry.kind == Kind::Tcp {
            self.tcp_connected(conn);
        } else {
            entry.aged = true;
            self.pool_mut(host, priority, |pool| pool.connecting -= 1);
            self.age.push_back(&mut self.conns, conn.0);
            self.rest(conn, now);
            self.settle(host, priority, out);
        }
        self.debug_check();
    }

    /// The connection could not be established in time or at all. Every request that waits in its pool
    /// fails, as in Envoy: the endpoint looks dead and a retry may choose another.
    pub fn connect_failed(&mut self, conn: ConnId, out: &mut Vec<PoolAction>) {
        let Some((host, priority, kind)) = self.forget(conn).map(|c| (c.host, c.priority, c.kind)) else {
            return;
        };
        if kind == Kind::Http1 {
            while let Some(waiter) = self.pop_waiter(host, priority) {
                out.push(PoolAction::Count(PoolEvent::PendingFailureEject));
                out.push(PoolAction::Fail { waiter: waiter.key, reason: PoolFailure::ConnectFailed });
            }
        }
        self.retire(host);
        self.debug_check();
    }

    /// The request on `conn` is complete in both directions. With `reusable` the connection serves the next
    /// one; without, it is closed.
    pub fn released(&mut self, conn: ConnId, reusable: bool, now: Time, out: &mut Vec<PoolAction>) {
        let Some(entry) = self.conns.get(conn.0).filter(|c| c.state == ConnState::Busy) else { return };
        debug_assert!(entry.kind == Kind::Http1, "a TCP session ends with its connection");
        let (host, priority) = (entry.host, entry.priority);
        let reason = if reusable { entry.closing } else { Some(CloseReason::NotReusable) };
        match reason {
            Some(reason) => self.close(conn, reason, out),
            None => {
                self.end_request(conn);
                self.rest(conn, now);
            }
        }
        self.settle(host, priority, out);
        self.debug_check();
    }

    /// The connection is gone, whoever closed it. A request on it is over; the shard answers for it.
    pub fn closed(&mut self, conn: ConnId, out: &mut Vec<PoolAction>) {
        match self.conns.get(conn.0).map(|c| c.state) {
            Some(ConnState::Connecting) => return self.connect_failed(conn, out),
            Some(ConnState::Idle | ConnState::Busy) => {}
            None => return,
        }
        if let Some(entry) = self.forget(conn) {
            self.settle(entry.host, entry.priority, out);
        }
        self.debug_check();
    }

    /// A waiting request no longer wants a connection. One that is being opened for it is kept, as in Envoy.
    pub fn cancel(&mut self, wait: WaitId, out: &mut Vec<PoolAction>) {
        let Some((host, priority)) = self.waiters.get(wait.0).map(|w| (w.host, w.priority)) else { return };
        self.take_waiter(host, priority, wait.0);
        out.push(PoolAction::Count(PoolEvent::Cancelled));
        self.settle(host, priority, out);
        self.debug_check();
    }

    /// Takes a unit of the request budget; `Some(false)` when nobody needs the count.
    #[inline]
    fn take_request(&self, priority: ResourcePriority) -> Option<bool> {
        let thresholds = self.thresholds(priority);
        let unlimited = thresholds.max_requests == u32::MAX
            && thresholds.retry_budget.is_none()
            && !thresholds.track_remaining;
        if unlimited {
            return Some(false);
        }
        self.budget(priority).requests.try_acquire(thresholds.max_requests).then_some(true)
    }

    /// Idle to Busy.
    fn start_request(&mut self, conn: ConnId, counted: bool, out: &mut Vec<PoolAction>) -> Option<Key> {
        let limit = self.config.http.max_requests_per_connection;
        self.idle.remove(&mut self.conns, conn.0);
        let entry = self.conns.get(conn.0)?;
        let host = self.hosts.get_mut(entry.host.0)?;
        let pool = &mut host.pools[entry.priority.index()];
        pool.idle.remove(&mut self.conns, conn.0);
        pool.busy += 1;
        host.active_requests += 1;
        let entry = self.conns.get_mut(conn.0)?;
        entry.state = ConnState::Busy;
        entry.counted = counted;
        entry.requests = entry.requests.saturating_add(1);
        if entry.closing.is_none() && limit.is_some_and(|limit| entry.requests >= limit) {
            entry.closing = Some(CloseReason::MaxRequests);
            out.push(PoolAction::Count(PoolEvent::ConnectionMaxRequests));
        }
        debug_assert!(entry.key.is_some(), "a connection is bound before it is established");
        entry.key
    }

    /// Busy to nothing yet: `rest` or removal follows.
    fn end_request(&mut self, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(conn.0) else { return };
        let (host, priority, counted) = (entry.host, entry.priority, entry.counted);
        entry.counted = false;
        if let Some(host) = self.hosts.get_mut(host.0) {
            host.active_requests -= 1;
            host.pools[priority.index()].busy -= 1;
        }
        if counted {
            self.budget(priority).requests.release();
        }
    }

    /// Puts an established connection on top of its pool's idle stack.
    fn rest(&mut self, conn: ConnId, now: Time) {
        let Some(entry) = self.conns.get_mut(conn.0) else { return };
        entry.state = ConnState::Idle;
        entry.idle_since = now;
        let (host, priority) = (entry.host, entry.priority);
        self.idle.push_back(&mut self.conns, conn.0);
        if let Some(host) = self.hosts.get_mut(host.0) {
            host.pools[priority.index()].idle.push_back(&mut self.conns, conn.0);
        }
    }

    /// Brings a pool to rest after a change: idle connections serve waiters, missing ones are opened, and
    /// those of a host that is gone are closed.
    pub(crate) fn settle(&mut self, host: HostId, priority: ResourcePriority, out: &mut Vec<PoolAction>) {
        while let Some(conn) = self.pool(host, priority).and_then(|p| p.waiters.first().and(p.idle.last())) {
            let Some(waiter) = self.pop_waiter(host, priority) else { break };
            let assigned = match self.take_request(priority) {
                Some(counted) => self.start_request(ConnId(conn), counted, out),
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
        self.connect_for_waiters(host, priority, out);
        while let Some(conn) = self.pool(host, priority).and_then(|pool| pool.idle.last()) {
            let present = self.hosts.get(host.0).is_some_and(|h| h.present);
            let closing = self.conns.get(conn).and_then(|c| c.closing);
            match closing.or((!present).then_some(CloseReason::HostGone)) {
                Some(reason) => self.close(ConnId(conn), reason, out),
                None => break,
            }
        }
        self.retire(host);
    }

    /// Opens connections until every waiter of the pool has one coming, as far as the breaker allows.
    fn connect_for_waiters(&mut self, host: HostId, priority: ResourcePriority, out: &mut Vec<PoolAction>) {
        while let Some(pool) = self.pool(host, priority).filter(|p| p.waiters.len() > p.connecting) {
            let none_yet = pool.connections() == 0;
            let connections = &self.budget(priority).connections;
            if !connections.try_acquire(self.thresholds(priority).max_connections) {
                out.push(PoolAction::Count(PoolEvent::ConnectionOverflow));
                if !none_yet {
                    return;
                }
                connections.acquire_forced();
            }
            let conn = ConnId(self.conns.insert(Conn::new(host, priority, Kind::Http1)));
            self.pool_mut(host, priority, |pool| pool.connecting += 1);
            out.push(PoolAction::Count(PoolEvent::ConnectionOpened));
            out.push(PoolAction::Connect { conn, host, priority });
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
        let (kind, state) = self.conns.get(conn.0).map(|c| (c.kind, c.state))?;
        if kind == Kind::Tcp {
            return self.forget_tcp(conn);
        }
        let (host, priority, aged) = self.conns.get(conn.0).map(|c| (c.host, c.priority, c.aged))?;
        match state {
            ConnState::Connecting => self.pool_mut(host, priority, |pool| pool.connecting -= 1),
            ConnState::Busy => self.end_request(conn),
            ConnState::Idle => {
                self.idle.remove(&mut self.conns, conn.0);
                if let Some(host) = self.hosts.get_mut(host.0) {
                    host.pools[priority.index()].idle.remove(&mut self.conns, conn.0);
                }
            }
        }
        if aged {
            self.age.remove(&mut self.conns, conn.0);
        }
        self.budget(priority).connections.release();
        self.conns.remove(conn.0)
    }

    fn pop_waiter(&mut self, host: HostId, priority: ResourcePriority) -> Option<Waiter> {
        let first = self.pool(host, priority)?.waiters.first()?;
        self.take_waiter(host, priority, first)
    }

    fn take_waiter(&mut self, host: HostId, priority: ResourcePriority, wait: Key) -> Option<Waiter> {
        let entry = self.hosts.get_mut(host.0)?;
        entry.pools[priority.index()].waiters.remove(&mut self.waiters, wait);
        self.budget(priority).pending.release();
        self.waiters.remove(wait)
    }

    fn pool(&self, host: HostId, priority: ResourcePriority) -> Option<&HostPool> {
        Some(&self.hosts.get(host.0)?.pools[priority.index()])
    }

    fn pool_mut(&mut self, host: HostId, priority: ResourcePriority, change: impl FnOnce(&mut HostPool)) {
        if let Some(host) = self.hosts.get_mut(host.0) {
            change(&mut host.pools[priority.index()]);
        }
    }
}
