//! What a connection carries: requests begin and end on it, the peer limits them, and it stops taking more.

use millrace_base::{Key, Time};

use super::conn::{ConnState, Kind};
use super::ready::{self, STARVED};
use super::{CloseReason, ConnId, PoolAction, PoolEvent};
use crate::{ClusterState, Host, ResourcePriority};

impl ClusterState {
    /// The request on an HTTP/1 connection is complete in both directions. With `reusable` the connection
    /// serves the next one; without, it is closed.
    pub fn released(&mut self, conn: ConnId, reusable: bool, now: Time, out: &mut Vec<PoolAction>) {
        self.end_stream(conn, (!reusable).then_some(CloseReason::NotReusable), now, out);
    }

    /// HTTP/2: one stream of `conn` is over, whatever its end. The connection serves on unless it is closing;
    /// then it is closed with its last stream.
    pub fn stream_ended(&mut self, conn: ConnId, now: Time, out: &mut Vec<PoolAction>) {
        self.end_stream(conn, None, now, out);
    }

    /// HTTP/2: the peer allows so many streams at a time (`SETTINGS_MAX_CONCURRENT_STREAMS`); the cluster's own
    /// `max_concurrent_streams` holds besides. Streams above a lowered limit go on. Without effect before
    /// [`Self::connected`].
    pub fn set_stream_limit(&mut self, conn: ConnId, streams: u32, out: &mut Vec<PoolAction>) {
        let own = self.config.http.http2.max_concurrent_streams;
        let Some(entry) = self.conns.get_mut(conn.0) else { return };
        if entry.kind != Kind::Http2 || entry.state == ConnState::Connecting {
            return;
        }
        entry.limit = streams.min(own);
        let pool = entry.pool();
        self.refresh(conn);
        self.settle(pool, out);
        self.debug_check();
    }

    /// HTTP/2: GOAWAY came, or the connection shall take no new stream for another reason. It is closed when
    /// its last stream ends, at once without any.
    pub fn retire_conn(&mut self, conn: ConnId, out: &mut Vec<PoolAction>) {
        let Some(entry) = self.conns.get(conn.0).filter(|c| c.kind == Kind::Http2) else { return };
        let pool = entry.pool();
        self.stop_using(conn, CloseReason::Retired, out);
        self.settle(pool, out);
        self.debug_check();
    }

    /// No more requests for this connection. One that is still connecting serves who waits for it by then.
    pub(super) fn stop_using(&mut self, conn: ConnId, reason: CloseReason, out: &mut Vec<PoolAction>) {
        let Some(entry) = self.conns.get_mut(conn.0) else { return };
        if entry.state == ConnState::Idle {
            return self.close(conn, reason, out);
        }
        entry.closing.get_or_insert(reason);
        self.refresh(conn);
    }

    /// Takes a unit of the request budget; `Some(false)` when nobody needs the count.
    #[inline]
    pub(super) fn take_request(&mut self, priority: ResourcePriority) -> Option<bool> {
        let thresholds = self.thresholds(priority);
        let unlimited = thresholds.max_requests == u32::MAX
            && thresholds.retry_budget.is_none()
            && !thresholds.track_remaining;
        if unlimited {
            return Some(false);
        }
        let limit = thresholds.max_requests;
        let budget = &self.budgets.of(priority).requests;
        self.leases[priority.index()].try_acquire(budget, limit).then_some(true)
    }

    /// Gives a unit of the request budget back.
    #[inline]
    pub(super) fn give_request_back(&self, priority: ResourcePriority) {
        let limit = self.thresholds(priority).max_requests;
        self.leases[priority.index()].release(&self.budgets.of(priority).requests, limit);
    }

    /// A request begins on a connection that has room.
    pub(super) fn start_stream(
        &mut self,
        conn: ConnId,
        counted: bool,
        out: &mut Vec<PoolAction>,
    ) -> Option<Key> {
        let limit = self.config.http.max_requests_per_connection;
        let entry = self.conns.get_mut(conn.0)?;
        let was_idle = entry.state == ConnState::Idle;
        entry.state = ConnState::Busy;
        entry.streams += 1;
        entry.counted += u32::from(counted);
        entry.requests = entry.requests.saturating_add(1);
        if entry.closing.is_none() && limit.is_some_and(|limit| entry.requests >= limit) {
            entry.closing = Some(CloseReason::MaxRequests);
            out.push(PoolAction::Count(PoolEvent::ConnectionMaxRequests));
        }
        debug_assert!(entry.key.is_some(), "a connection is bound before it is established");
        let key = entry.key;
        if was_idle {
            self.idle.remove(&mut self.conns, conn.0);
        }
        self.place(conn, |host| host.active_requests += 1);
        self.active += 1;
        key
    }

    fn end_stream(&mut self, conn: ConnId, doubt: Option<CloseReason>, now: Time, out: &mut Vec<PoolAction>) {
        let Some(entry) = self.conns.get_mut(conn.0).filter(|c| c.state == ConnState::Busy) else { return };
        debug_assert!(entry.kind != Kind::Tcp, "a TCP session ends with its connection");
        let pool = entry.pool();
        let counted = entry.counted > 0;
        match doubt.or(entry.closing).filter(|_| entry.streams == 1) {
            Some(reason) => self.close(conn, reason, out),
            None => {
                entry.streams -= 1;
                entry.counted -= u32::from(counted);
                if entry.streams == 0 {
                    entry.state = ConnState::Idle;
                    entry.idle_since = now;
                    self.idle.push_back(&mut self.conns, conn.0);
                }
                self.place(conn, |host| host.active_requests -= 1);
                self.active -= 1;
                if counted {
                    self.give_request_back(pool.priority);
                }
            }
        }
        self.settle(pool, out);
        self.debug_check();
    }

    /// Moves a connection to where its load, its limit and its state put it in its pool.
    pub(super) fn refresh(&mut self, conn: ConnId) {
        self.place(conn, |_| ());
    }

    /// The same, with a change of its host besides.
    #[inline]
    pub(super) fn place(&mut self, conn: ConnId, change: impl FnOnce(&mut Host)) {
        let Some(entry) = self.conns.get_mut(conn.0) else { return };
        let level = match entry.state {
            ConnState::Connecting => None,
            ConnState::Busy if entry.closing.is_some() || entry.streams >= entry.limit => None,
            ConnState::Idle if entry.limit == 0 => Some(STARVED),
            ConnState::Idle | ConnState::Busy => Some(ready::level_of(entry.streams)),
        };
        let before = std::mem::replace(&mut entry.level, level);
        let pool = entry.pool();
        let Some(host) = self.hosts.get_mut(pool.host.0) else { return };
        change(host);
        if before == level {
            return;
        }
        let pool = host.pool_mut(pool);
        if let Some(before) = before {
            pool.ready.remove(&mut self.conns, conn.0, before);
        }
        if let Some(level) = level {
            pool.ready.push(&mut self.conns, conn.0, level);
        }
    }
}
