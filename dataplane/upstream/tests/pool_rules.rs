//! Rules of the pools that the random model leaves out: updates under load, drain, health failures, memory.

mod common;

use std::sync::Arc;

use common::{cluster, endpoint};
use millrace_base::{Key, Time};
use millrace_config::HealthStatus::{Healthy, Unhealthy};
use millrace_config::{Cluster, LbPolicy};
use millrace_upstream::{
    Acquire, CloseReason, ClusterShared, ClusterState, ConnId, HostId,
    HttpProtocol::Http1,
    PoolAction, PoolEvent, PoolFailure,
    ResourcePriority::{Default, High},
    TransportKey,
};

fn key(slot: u32) -> Key {
    Key { slot, generation: 0 }
}

fn two_hosts() -> Cluster {
    cluster(LbPolicy::RoundRobin, vec![vec![endpoint(0, 1, Healthy), endpoint(1, 1, Healthy)]])
}

struct Setup {
    config: Cluster,
    state: ClusterState,
    budgets: Arc<ClusterShared>,
    hosts: Vec<HostId>,
    out: Vec<PoolAction>,
}

fn setup(config: Cluster) -> Setup {
    let budgets = Arc::new(ClusterShared::default());
    let state = ClusterState::new(&Arc::new(config.clone()), Arc::clone(&budgets), 1);
    let hosts = state.hosts().map(|(id, _)| id).collect();
    Setup { config, state, budgets, hosts, out: Vec::new() }
}

impl Setup {
    fn actions(&mut self) -> Vec<PoolAction> {
        let mut actions = std::mem::take(&mut self.out);
        actions.retain(|action| !matches!(action, PoolAction::Count(_)));
        actions
    }

    /// Queues waiter `slot` at host `host` and binds the connection that is opened for it.
    fn queue(&mut self, host: usize, slot: u32) -> ConnId {
        let answer = self.state.acquire(
            self.hosts[host],
            Default,
            Http1,
            TransportKey::DEFAULT,
            key(slot),
            &mut self.out,
        );
        assert!(matches!(answer, Acquire::Queued(_)));
        let [PoolAction::Connect { conn, .. }] = self.actions()[..] else {
            unreachable!("one connection expected")
        };
        self.state.bind(conn, key(100 + slot));
        conn
    }

    fn busy(&mut self, host: usize, slot: u32) -> ConnId {
        let conn = self.queue(host, slot);
        self.state.connected(conn, Time(1), &mut self.out);
        let assign = PoolAction::Assign { waiter: key(slot), conn: key(100 + slot), id: conn };
        assert_eq!(self.actions(), [assign]);
        conn
    }

    fn update(&mut self, change: impl FnOnce(&mut Cluster)) {
        change(&mut self.config);
        self.state.update(&Arc::new(self.config.clone()), &mut self.out);
    }
}

#[test]
fn a_removed_host_finishes_what_it_has() {
    let mut s = setup(two_hosts());
    let idle = s.busy(1, 1);
    let busy = s.busy(1, 2);
    s.state.released(idle, true, Time(2), &mut s.out);
    s.update(|config| drop(config.localities[0].endpoints.pop()));
    let host = s.hosts[1];
    let close =
        |conn, id| PoolAction::Close { conn: Some(key(conn)), id, host, reason: CloseReason::HostGone };
    assert_eq!(s.actions(), [close(101, idle)]);
    assert!(!s.state.host(host).unwrap().present);
    let refused = s.state.acquire(host, Default, Http1, TransportKey::DEFAULT, key(9), &mut s.out);
    assert_eq!(refused, Acquire::Refused(PoolFailure::HostGone));
    s.state.released(busy, true, Time(3), &mut s.out);
    assert_eq!(s.actions(), [close(102, busy)]);
    assert!(s.state.host(host).is_none() && s.state.is_quiescent());
    assert_eq!(s.budgets.default.connections.used(), 0);
}

#[test]
fn a_removed_host_still_serves_who_waits_for_it() {
    let mut s = setup(two_hosts());
    let conn = s.queue(1, 1);
    s.update(|config| drop(config.localities[0].endpoints.pop()));
    assert_eq!(s.actions(), []);
    s.state.connected(conn, Time(2), &mut s.out);
    assert!(matches!(s.actions()[..], [PoolAction::Assign { .. }]));
    s.state.released(conn, true, Time(3), &mut s.out);
    assert!(matches!(s.actions()[..], [PoolAction::Close { reason: CloseReason::HostGone, .. }]));
    assert!(s.state.host(s.hosts[1]).is_none());
}

#[test]
fn any_change_of_the_endpoints_closes_idle_connections_when_configured() {
    let mut config = two_hosts();
    config.close_on_host_set_change = true;
    let mut s = setup(config);
    let (idle, busy) = (s.busy(0, 1), s.busy(1, 2));
    s.state.released(idle, true, Time(1), &mut s.out);
    assert_eq!(s.actions(), []);
    s.update(|config| config.localities[0].endpoints[0].weight += 1);
    assert!(matches!(s.actions()[..], [PoolAction::Close { reason: CloseReason::Drain, .. }]));
    s.state.released(busy, true, Time(2), &mut s.out);
    assert!(matches!(s.actions()[..], [PoolAction::Close { reason: CloseReason::Drain, .. }]));
    assert_eq!(s.budgets.default.connections.used(), 0);
}

#[test]
fn a_health_failure_closes_connections_only_when_configured() {
    for close in [false, true] {
        let mut config = two_hosts();
        config.close_on_health_failure = close;
        let mut s = setup(config);
        s.busy(1, 1);
        s.busy(0, 2);
        s.update(|config| config.localities[0].endpoints[1].health = Unhealthy);
        let reasons: Vec<_> = s
            .actions()
            .iter()
            .map(|action| match action {
                PoolAction::Close { conn, reason, .. } => (*conn, *reason),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [(Some(key(101)), CloseReason::HostUnhealthy)];
        assert_eq!(reasons, if close { &expected[..] } else { &[] });
        // What was opened since then stays, as long as the host only stays unhealthy.
        s.busy(1, 3);
        s.update(|config| config.localities[0].endpoints[0].weight += 1);
        assert_eq!(s.actions(), []);
    }
}

#[test]
fn hosts_that_stay_keep_their_connections_wherever_they_move() {
    let mut s = setup(cluster(LbPolicy::RoundRobin, vec![(0..6).map(|n| endpoint(n, 1, Healthy)).collect()]));
    let conns: Vec<ConnId> = (0..6).map(|n| s.busy(n, n as u32)).collect();
    let ids = |s: &Setup| s.state.hosts().map(|(id, _)| id).collect::<Vec<_>>();
    let hosts = s.hosts.clone();
    // One more in the middle, one less at the front, two change places, one repeats.
    s.update(|config| config.localities[0].endpoints.insert(3, endpoint(9, 1, Healthy)));
    assert_eq!([&ids(&s)[..3], &ids(&s)[4..]].concat(), hosts);
    s.update(|config| drop(config.localities[0].endpoints.remove(0)));
    s.update(|config| config.localities[0].endpoints.swap(0, 5));
    assert_eq!((ids(&s)[0], ids(&s)[5]), (hosts[5], hosts[1]));
    s.update(|config| config.localities[0].endpoints.push(endpoint(1, 1, Healthy)));
    let now = ids(&s);
    assert!(now[5] == hosts[1] && !hosts.contains(&now[6]), "a repeated address is another host");
    s.update(|config| drop(config.localities[0].endpoints.pop()));
    assert_eq!(ids(&s), now[..6]);
    assert_eq!(s.actions(), []);
    for (n, conn) in conns.into_iter().enumerate() {
        let present = s.state.host_of(conn).and_then(|id| s.state.host(id)).is_some_and(|host| host.present);
        assert_eq!(present, n != 0);
        s.state.released(conn, true, Time(9), &mut s.out);
    }
    let closed = s.actions();
    assert!(matches!(closed[..], [PoolAction::Close { reason: CloseReason::HostGone, .. }]), "{closed:?}");
    assert_eq!(s.budgets.default.connections.used(), 5);
}

#[test]
fn an_update_without_other_endpoints_touches_no_host() {
    let mut s = setup(two_hosts());
    let before: Vec<_> = s.state.hosts().map(|(id, host)| (id, host.hostname.clone())).collect();
    s.update(|config| config.buffer_limit_bytes = 7);
    assert_eq!(s.state.config().buffer_limit_bytes, 7);
    assert!(
        s.state
            .hosts()
            .zip(&before)
            .all(|((id, host), (old, name))| id == *old && std::sync::Arc::ptr_eq(&host.hostname, name))
    );
    assert!(s.out.is_empty());
}

#[test]
fn a_retry_under_way_keeps_the_state() {
    let s = setup(two_hosts());
    assert!(s.state.is_quiescent() && s.state.try_retry(Default, Time(9)));
    assert!(!s.state.is_quiescent());
    s.state.end_retry(Default);
    assert!(s.state.is_quiescent());
}

#[test]
fn drain_closes_idle_connections_and_lets_requests_end() {
    let mut s = setup(two_hosts());
    let (idle, busy) = (s.busy(0, 1), s.busy(0, 2));
    s.state.released(idle, true, Time(2), &mut s.out);
    s.state.drain(&mut s.out);
    assert!(
        matches!(s.actions()[..], [PoolAction::Close { id, reason: CloseReason::Drain, .. }] if id == idle)
    );
    s.state.released(busy, true, Time(3), &mut s.out);
    assert!(
        matches!(s.actions()[..], [PoolAction::Close { id, reason: CloseReason::Drain, .. }] if id == busy)
    );
    // The cluster itself goes on.
    s.busy(0, 3);
}

#[test]
fn the_first_connection_of_a_pool_is_opened_above_the_limit() {
    let mut config = two_hosts();
    config.circuit_breakers.default.max_connections = 1;
    let mut s = setup(config);
    s.busy(0, 1);
    s.queue(1, 2);
    assert_eq!(s.budgets.default.connections.used(), 2);
    // The second request of a pool waits for its first connection.
    assert!(matches!(
        s.state.acquire(s.hosts[0], Default, Http1, TransportKey::DEFAULT, key(3), &mut s.out),
        Acquire::Queued(_)
    ));
    assert!(s.out.contains(&PoolAction::Count(PoolEvent::ConnectionOverflow)));
    assert_eq!(s.actions(), []);
    // The breakers and pools of the other priority are its own.
    assert!(matches!(
        s.state.acquire(s.hosts[0], High, Http1, TransportKey::DEFAULT, key(4), &mut s.out),
        Acquire::Queued(_)
    ));
    assert!(matches!(s.actions()[..], [PoolAction::Connect { .. }]));
    assert_eq!(s.budgets.high.connections.used(), 1);
}

#[test]
fn unlimited_requests_touch_no_shared_counter() {
    let mut config = two_hosts();
    config.circuit_breakers.default.max_requests = u32::MAX;
    let mut s = setup(config.clone());
    let conn = s.busy(0, 1);
    assert_eq!(s.budgets.default.requests.used(), 0);
    // A limit that arrives later counts from then on and never below zero.
    s.update(|config| config.circuit_breakers.default.max_requests = 5);
    s.state.released(conn, true, Time(2), &mut s.out);
    assert_eq!(s.budgets.default.requests.used(), 0);
    assert!(matches!(
        s.state.acquire(s.hosts[0], Default, Http1, TransportKey::DEFAULT, key(2), &mut s.out),
        Acquire::Reuse { .. }
    ));
    assert_eq!(s.budgets.default.requests.used(), 1);
}

#[test]
fn late_reports_change_nothing() {
    let mut s = setup(two_hosts());
    let conn = s.busy(0, 1);
    s.state.closed(conn, &mut s.out);
    s.state.closed(conn, &mut s.out);
    s.state.connected(conn, Time(1), &mut s.out);
    s.state.connect_failed(conn, &mut s.out);
    s.state.released(conn, true, Time(1), &mut s.out);
    assert_eq!(s.actions(), []);
    assert_eq!(s.budgets.default.connections.used(), 0);
    assert!(s.state.is_quiescent());
}

#[test]
fn shards_share_one_exact_limit() {
    const LIMIT: u32 = 5;
    let mut config = two_hosts();
    config.circuit_breakers.default.max_connections = LIMIT;
    let (config, budgets) = (Arc::new(config), Arc::new(ClusterShared::default()));
    let shards: Vec<_> = (0..4)
        .map(|seed| {
            let mut state = ClusterState::new(&config, Arc::clone(&budgets), seed);
            let budgets = Arc::clone(&budgets);
            std::thread::spawn(move || {
                let (mut out, mut held, mut refused) = (Vec::new(), Vec::new(), 0);
                let hosts: Vec<_> = state.hosts().map(|(id, _)| id).collect();
                for turn in 0..20_000 {
                    match state.acquire_tcp(hosts[turn % 2], Default, &mut out) {
                        Ok(conn) => held.push(conn),
                        Err(error) => {
                            assert_eq!(error, PoolFailure::ConnectionOverflow);
                            refused += 1;
                            held.drain(..).for_each(|conn| state.connect_failed(conn, &mut out));
                        }
                    }
                    out.clear();
                    assert!(budgets.default.connections.used() <= LIMIT);
                    assert!(held.len() <= LIMIT as usize);
                }
                held.drain(..).for_each(|conn| state.connect_failed(conn, &mut out));
                refused
            })
        })
        .collect();
    let refused: usize = shards.into_iter().map(|shard| shard.join().unwrap()).sum();
    assert!(refused >= 4 * 20_000 / (LIMIT as usize + 2), "{refused} refusals");
    assert_eq!(budgets.default.connections.used() + budgets.default.pending.used(), 0);
}
