//! How many connections pools open: the limit of one endpoint, over all shards, and connections ahead of need.

mod common;

use std::sync::Arc;

use common::{cluster, endpoint};
use millrace_base::{Key, Rng, Time};
use millrace_config::HealthStatus::{Healthy, Unhealthy};
use millrace_config::{Cluster, LbPolicy};
use millrace_upstream::HttpProtocol::Http1;
use millrace_upstream::ResourcePriority::Default;
use millrace_upstream::{
    Acquire, ChooseContext, ClusterShared, ClusterState, ConnId, HostId, HttpProtocol, PoolAction, PoolEvent,
    PoolFailure, TransportKey,
};

fn key(slot: u32) -> Key {
    Key { slot, generation: 0 }
}

fn of_one(limit: Option<u32>, ratio: f64) -> Cluster {
    let health = if ratio < 0.0 { Unhealthy } else { Healthy };
    let mut config = cluster(LbPolicy::RoundRobin, vec![vec![endpoint(0, 1, health)]]);
    config.circuit_breakers.default.max_connections_per_host = limit;
    config.http.preconnect_ratio = ratio.abs();
    config
}

struct Shard {
    state: ClusterState,
    host: HostId,
    out: Vec<PoolAction>,
}

impl Shard {
    fn new(config: &Cluster, shared: &Arc<ClusterShared>) -> Self {
        let state = ClusterState::new(&Arc::new(config.clone()), Arc::clone(shared), 1);
        let host = state.hosts().map(|(id, _)| id).next().expect("an endpoint");
        Self { state, host, out: Vec::new() }
    }

    fn ask(&mut self, slot: u32) -> Acquire {
        self.state.acquire(self.host, Default, Http1, TransportKey::DEFAULT, key(slot), &mut self.out)
    }

    /// Connections that were asked for, and how often there were too many.
    fn opened(&mut self) -> (Vec<ConnId>, usize) {
        let overflow = PoolAction::Count(PoolEvent::ConnectionOverflow);
        let overflows = self.out.iter().filter(|action| **action == overflow).count();
        let opened = self.out.drain(..).filter_map(|action| match action {
            PoolAction::Connect { conn, .. } => Some(conn),
            _ => None,
        });
        (opened.collect(), overflows)
    }
}

#[test]
fn one_endpoint_has_so_many_connections_of_all_shards() {
    let (config, shared) = (of_one(Some(3), 1.0), Arc::new(ClusterShared::default()));
    let (mut a, mut b) = (Shard::new(&config, &shared), Shard::new(&config, &shared));
    for slot in 0..2 {
        assert!(matches!(a.ask(slot), Acquire::Queued(_)) && matches!(b.ask(slot), Acquire::Queued(_)));
    }
    let ((of_a, none), (of_b, over)) = (a.opened(), b.opened());
    assert_eq!((of_a.len(), none, of_b.len(), over), (2, 0, 1, 1));
    // A pool without any opens one all the same.
    let mut c = Shard::new(&config, &shared);
    assert!(matches!(c.ask(0), Acquire::Queued(_)));
    let (of_c, over) = c.opened();
    assert_eq!((of_c.len(), over), (1, 1));
    c.state.connect_failed(of_c[0], &mut c.out);
    // One less: room for another.
    a.state.connect_failed(of_a[0], &mut a.out);
    a.out.clear();
    assert!(matches!(b.ask(5), Acquire::Queued(_)));
    assert_eq!(b.opened().0.len(), 1);
    // As many as may be, for sessions of TCP too.
    assert!(a.state.acquire_tcp(a.host, Default, &mut a.out).is_err());
}

#[test]
fn connections_are_opened_ahead_by_their_ratio() {
    let shared = Arc::new(ClusterShared::default());
    let opened = |ratio: f64, requests: u32| {
        let mut shard = Shard::new(&of_one(None, ratio), &shared);
        (0..requests).for_each(|slot| _ = shard.ask(slot));
        let (opened, _) = shard.opened();
        for conn in &opened {
            shard.state.closed(*conn, &mut shard.out);
        }
        opened.len()
    };
    // As Envoy 1.40 opened them.
    assert_eq!(
        [opened(1.0, 4), opened(1.5, 4), opened(2.0, 1), opened(2.0, 3), opened(3.0, 2)],
        [4, 6, 2, 6, 6]
    );
    // An endpoint that is not healthy gets what it is asked for.
    assert_eq!(opened(-2.0, 3), 3);
}

#[test]
fn a_connection_that_is_taken_is_replaced_ahead() {
    let mut shard = Shard::new(&of_one(None, 2.0), &Arc::new(ClusterShared::default()));
    assert!(matches!(shard.ask(0), Acquire::Queued(_)));
    let (first, _) = shard.opened();
    assert_eq!(first.len(), 2);
    for (slot, conn) in first.iter().enumerate() {
        shard.state.bind(*conn, key(100 + slot as u32));
        shard.state.connected(*conn, Time::ZERO, &mut shard.out);
    }
    shard.out.clear();
    assert!(matches!(shard.ask(1), Acquire::Reuse { .. }));
    assert_eq!(shard.opened().0.len(), 2);
    shard.state.check_invariants();
}

#[test]
fn pools_are_counted_over_all_shards_and_one_that_is_idle_makes_room() {
    let mut config = of_one(None, 1.0);
    config.circuit_breakers.default.max_connection_pools = Some(2);
    let shared = Arc::new(ClusterShared::default());
    let (mut a, mut b) = (Shard::new(&config, &shared), Shard::new(&config, &shared));
    let mut c = Shard::new(&config, &shared);
    assert!(matches!(a.ask(0), Acquire::Queued(_)) && matches!(a.ask(1), Acquire::Queued(_)));
    assert!(matches!(b.ask(0), Acquire::Queued(_)));
    assert_eq!(shared.default.pools.used(), 2);
    assert_eq!(c.ask(0), Acquire::Refused(PoolFailure::PoolOverflow));
    assert!(c.out.contains(&PoolAction::Count(PoolEvent::PoolOverflow)));
    // With its last connection and its last waiter a pool is gone.
    let (of_b, _) = b.opened();
    b.state.connect_failed(of_b[0], &mut b.out);
    assert_eq!(shared.default.pools.used(), 1);
    assert!(matches!(c.ask(0), Acquire::Queued(_)));
    // The other pool of the same endpoint is busy, then idle: it ends for a third.
    let http2 = |shard: &mut Shard| {
        let (host, out) = (shard.host, &mut shard.out);
        shard.state.acquire(host, Default, HttpProtocol::Http2, TransportKey::DEFAULT, key(9), out)
    };
    assert_eq!(http2(&mut a), Acquire::Refused(PoolFailure::PoolOverflow));
    let (of_a, _) = a.opened();
    for (slot, conn) in of_a.iter().enumerate() {
        a.state.bind(*conn, key(slot as u32));
        a.state.connected(*conn, Time::ZERO, &mut a.out);
    }
    assert_eq!(http2(&mut a), Acquire::Refused(PoolFailure::PoolOverflow));
    of_a.iter().for_each(|conn| a.state.released(*conn, true, Time::ZERO, &mut a.out));
    a.out.clear();
    assert!(matches!(http2(&mut a), Acquire::Queued(_)));
    assert_eq!(a.out.iter().filter(|action| matches!(action, PoolAction::Close { .. })).count(), 2);
    assert_eq!(shared.default.pools.used(), 2);
}

#[test]
fn connections_are_opened_for_the_endpoints_of_coming_requests() {
    let endpoints = (0..4).map(|at| endpoint(at, 1, Healthy)).collect();
    let mut config = cluster(LbPolicy::RoundRobin, vec![endpoints]);
    config.http.predictive_preconnect_ratio = 3.0;
    let mut state = ClusterState::new(&Arc::new(config), Arc::default(), 1);
    let (mut rng, mut out) = (Rng::new(5), Vec::new());
    let mut choose = |state: &mut ClusterState| {
        state.choose_host(&mut rng, &ChooseContext::default()).expect("an endpoint").host
    };
    let first = choose(&mut state);
    let answer = state.acquire(first, Default, Http1, TransportKey::DEFAULT, key(0), &mut out);
    assert!(matches!(answer, Acquire::Queued(_)));
    let hosts: Vec<_> = out
        .iter()
        .filter_map(|action| match action {
            PoolAction::Connect { host, .. } => Some(*host),
            _ => None,
        })
        .collect();
    // Three ahead, then its own; those ahead are those that come next.
    assert_eq!((hosts.len(), hosts[3]), (4, first));
    assert_eq!([choose(&mut state), choose(&mut state), choose(&mut state)], hosts[..3]);
    assert_eq!(choose(&mut state), first);
}
