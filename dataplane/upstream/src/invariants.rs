//! What must hold between two calls, recomputed from scratch.

use millrace_base::Key;

use crate::members::Member;
use crate::pool::{Conn, ConnState, HttpProtocol, Kind, PoolId};
use crate::{ClusterState, Host, HostId, ResourcePriority, TransportKey};

/// Up to this many connections and waiters debug builds check after every call.
const SMALL: usize = 64;

impl ClusterState {
    /// Panics when a counter or list disagrees with the connections and waiters. For tests and simulation.
    pub fn check_invariants(&self) {
        for (id, host) in self.hosts.iter() {
            for priority in ResourcePriority::ALL {
                for protocol in [HttpProtocol::Http1, HttpProtocol::Http2] {
                    let transport = TransportKey::DEFAULT;
                    self.check_pool(PoolId { host: HostId(id), priority, protocol, transport }, host);
                }
            }
            host.others(HostId(id)).for_each(|pool| self.check_pool(pool, host));
            let of_host = || self.conns.iter().map(|(_, c)| c).filter(|c| c.host.0 == id);
            let tcp = of_host().filter(|c| c.kind == Kind::Tcp).count() as u32;
            assert_eq!(host.tcp_connections, tcp, "tcp connections");
            let sessions = of_host().filter(|c| c.kind == Kind::Tcp && c.state == ConnState::Busy).count();
            let streams = of_host().map(|c| c.streams).sum::<u32>();
            assert_eq!(host.active_requests, sessions as u32 + streams, "active requests");
            assert!(host.present || host.connections() + host.pending_requests() > 0, "a host lingers");
        }
        let active: u32 = self.hosts.iter().map(|(_, host)| host.active_requests).sum();
        assert_eq!(self.active, active, "active requests of all hosts");
        for key in self.transports.keys() {
            let connections = self.conns.iter().filter(|(_, c)| c.transport == key).count();
            let waiters = self.waiters.iter().filter(|(_, w)| w.pool.transport == key).count();
            assert_eq!(self.transports.uses(key) as usize, connections + waiters, "uses of a transport");
        }
        for (_, conn) in self.conns.iter().filter(|(_, c)| c.kind != Kind::Tcp) {
            let known = self.hosts.get(conn.host.0).is_some_and(|host| host.pool(conn.pool()).is_some());
            assert!(known, "a connection without a pool");
            assert_eq!(conn.state == ConnState::Busy, conn.streams > 0, "busy");
            assert!(conn.kind == Kind::Http2 || conn.streams <= 1, "two requests on an HTTP/1 connection");
            assert!(conn.counted <= conn.streams, "counted");
        }
        let idle = self.conns.iter().filter(|(_, c)| c.state == ConnState::Idle).count() as u32;
        assert_eq!(self.idle.len(), idle, "idle connections of the cluster");
        assert_eq!(self.idle.keys(&self.conns).count() as u32, idle, "idle order");
        let aged = self.conns.iter().filter(|(_, c)| c.aged).count() as u32;
        assert_eq!(self.age.len(), aged, "aged connections");
        assert_eq!(self.age.keys(&self.conns).count() as u32, aged, "age order");
        assert!(self.hosts().all(|(_, host)| host.present), "a member is gone");
        let follows = |member: &Member| {
            self.hosts.get(member.id.0).is_some_and(|host| *member == Member::of(member.id, host))
        };
        let stale = self.balancer.has_stale_members();
        assert!(stale || self.members.iter().flatten().all(follows), "a member is not as its host");
    }

    fn check_pool(&self, id: PoolId, host: &Host) {
        let own = |(_, c): &(Key, &Conn)| c.kind != Kind::Tcp && c.pool() == id;
        // Nothing is allocated here: the simulator counts what a request allocates.
        let conns = || self.conns.iter().filter(own);
        let waiting = self.waiters.iter().filter(|(_, w)| w.pool == id).count() as u32;
        let Some(pool) = host.pool(id) else {
            return assert!(conns().next().is_none() && waiting == 0, "a pool that was never used");
        };
        let connecting = || conns().filter(|(_, c)| c.state == ConnState::Connecting);
        assert_eq!(pool.connecting as usize, connecting().count(), "connecting");
        assert_eq!(pool.coming, connecting().map(|(_, c)| u64::from(c.limit)).sum(), "coming");
        assert_eq!(pool.connections() as usize, conns().count(), "connections");
        let mut listed = 0;
        pool.ready.each(&self.conns, |key, level| {
            listed += 1;
            assert_eq!(self.conns.get(key).and_then(|c| c.level), Some(level), "level");
        });
        assert_eq!(conns().filter(|(_, c)| c.level.is_some()).count(), listed, "levels");
        for (_, conn) in conns() {
            let serves = conn.state == ConnState::Busy && conn.streams < conn.limit && conn.closing.is_none();
            assert_eq!(conn.level.is_some(), serves || conn.state == ConnState::Idle, "room");
            assert!(conn.state != ConnState::Idle || conn.closing.is_none(), "idle, but closing");
        }
        assert_eq!(pool.waiters.len(), waiting, "waiters");
        assert_eq!(pool.waiters.keys(&self.waiters).count() as u32, waiting, "waiter list");
        assert!(waiting == 0 || pool.ready.best().is_none(), "a request waits beside a connection with room");
        assert!(waiting == 0 || pool.connections() > 0, "a request waits for nothing");
        assert!(!pool.counted || !pool.is_empty(), "an empty pool is counted");
        assert!(
            host.present || pool.ready.any_idle().is_none(),
            "a host that is gone keeps idle connections"
        );
    }

    #[inline]
    pub(crate) fn debug_check(&self) {
        if cfg!(debug_assertions) && self.conns.len() + self.waiters.len() + self.hosts.len() <= SMALL {
            self.check_invariants();
        }
    }
}
