//! What must hold between two calls, recomputed from scratch.

use crate::pool::{ConnState, Kind};
use crate::{ClusterState, ResourcePriority};

/// Up to this many connections and waiters debug builds check after every call.
const SMALL: usize = 64;

impl ClusterState {
    /// Panics when a counter or list disagrees with the connections and waiters. For tests and simulation.
    pub fn check_invariants(&self) {
        let mut idle = 0;
        for (id, host) in self.hosts.iter() {
            let count = |kind, state| {
                let same = |c: &crate::pool::Conn| c.host.0 == id && c.kind == kind && c.state == state;
                self.conns.iter().filter(|(_, c)| same(c)).count() as u32
            };
            for priority in ResourcePriority::ALL {
                let pool = &host.pools[priority.index()];
                let of = |state| {
                    let same = |c: &crate::pool::Conn| {
                        c.host.0 == id && c.kind == Kind::Http1 && c.priority == priority && c.state == state
                    };
                    self.conns.iter().filter(|(_, c)| same(c)).count() as u32
                };
                assert_eq!(pool.connecting, of(ConnState::Connecting), "connecting");
                assert_eq!(pool.busy, of(ConnState::Busy), "busy");
                assert_eq!(pool.idle.len(), of(ConnState::Idle), "idle");
                assert_eq!(pool.idle.keys(&self.conns).count() as u32, pool.idle.len(), "idle list");
                let waiting =
                    self.waiters.iter().filter(|(_, w)| w.host.0 == id && w.priority == priority).count()
                        as u32;
                assert_eq!(pool.waiters.len(), waiting, "waiters");
                assert_eq!(pool.waiters.keys(&self.waiters).count() as u32, waiting, "waiter list");
                assert!(waiting == 0 || pool.idle.len() == 0, "a request waits beside an idle connection");
                assert!(waiting == 0 || pool.connections() > 0, "a request waits for nothing");
                assert!(host.present || pool.idle.len() == 0, "a host that is gone keeps idle connections");
                idle += pool.idle.len();
            }
            let tcp = count(Kind::Tcp, ConnState::Connecting) + count(Kind::Tcp, ConnState::Busy);
            assert_eq!(host.tcp_connections, tcp, "tcp connections");
            let active = count(Kind::Tcp, ConnState::Busy) + count(Kind::Http1, ConnState::Busy);
            assert_eq!(host.active_requests, active, "active requests");
            assert!(host.present || tcp + host.connections() + host.pending_requests() > 0, "a host lingers");
        }
        assert_eq!(self.idle.len(), idle, "idle connections of the cluster");
        assert_eq!(self.idle.keys(&self.conns).count() as u32, idle, "idle order");
        let aged = self.conns.iter().filter(|(_, c)| c.aged).count() as u32;
        assert_eq!(self.age.len(), aged, "aged connections");
        assert_eq!(self.age.keys(&self.conns).count() as u32, aged, "age order");
        assert!(self.hosts().all(|(_, host)| host.present), "a member is gone");
    }

    #[inline]
    pub(crate) fn debug_check(&self) {
        if cfg!(debug_assertions) && self.conns.len() + self.waiters.len() + self.hosts.len() <= SMALL {
            self.check_invariants();
        }
    }
}
