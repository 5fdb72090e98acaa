//! Rules of HTTP/2 pools that the random model leaves out: load, limits of the peer, ends of connections.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{cluster, endpoint};
use millrace_base::{Key, Time};
use millrace_config::HealthStatus::Healthy;
use millrace_config::{Cluster, LbPolicy};
use millrace_upstream::{
    Acquire, CloseReason, ClusterShared, ClusterState, ConnId, HostId,
    HttpProtocol::{Http1, Http2},
    PoolAction, PoolEvent, PoolFailure,
    ResourcePriority::Default,
    TransportKey,
};

fn key(slot: u32) -> Key {
    Key { slot, generation: 0 }
}

/// One endpoint, and the answers of its pool. Connections get the keys 1000, 1001 and so on.
struct Setup {
    config: Cluster,
    state: ClusterState,
    budgets: Arc<ClusterShared>,
    host: HostId,
    out: Vec<PoolAction>,
    opened: Vec<ConnId>,
    requests: u32,
}

fn setup(change: impl FnOnce(&mut Cluster)) -> Setup {
    let mut config = cluster(LbPolicy::RoundRobin, vec![vec![endpoint(0, 1, Healthy)]]);
    config.http.http2.max_concurrent_streams = 4;
    change(&mut config);
    let budgets = Arc::new(ClusterShared::default());
    let state = ClusterState::new(&Arc::new(config.clone()), Arc::clone(&budgets), 1);
    let host = state.hosts().map(|(id, _)| id).next().expect("one endpoint");
    Setup { config, state, budgets, host, out: Vec::new(), opened: Vec::new(), requests: 0 }
}

impl Setup {
    /// What the pool said since the last call; connections that it asks for are bound.
    fn actions(&mut self) -> Vec<PoolAction> {
        let mut actions = std::mem::take(&mut self.out);
        actions.retain(|action| !matches!(action, PoolAction::Count(_)));
        for action in &actions {
            if let PoolAction::Connect { conn, protocol: Http2, .. } = action {
                self.state.bind(*conn, key(1000 + self.opened.len() as u32));
                self.opened.push(*conn);
            }
        }
        actions
    }

    fn ask(&mut self) -> Acquire {
        self.requests += 1;
        let waiter = key(self.requests);
        let answer =
            self.state.acquire(self.host, Default, Http2, TransportKey::DEFAULT, waiter, &mut self.out);
        self.actions();
        answer
    }

    /// The number of the connection that serves a request at once.
    fn served(&mut self) -> usize {
        match self.ask() {
            Acquire::Reuse { conn, id } => {
                let number = conn.slot as usize - 1000;
                assert_eq!(self.opened[number], id);
                number
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn queued(&mut self) {
        let answer = self.ask();
        assert!(matches!(answer, Acquire::Queued(_)), "{answer:?}");
    }

    /// Establishes connection `number`; gives the number of requests that it serves at once.
    fn connected(&mut self, number: usize) -> usize {
        self.state.connected(self.opened[number], Time(1), &mut self.out);
        let of = |action: &&PoolAction| matches!(action, PoolAction::Assign { id, .. } if *id == self.opened[number]);
        let served = self.out.iter().filter(of).count();
        self.actions();
        served
    }

    fn end(&mut self, number: usize) -> Vec<PoolAction> {
        self.state.stream_ended(self.opened[number], Time(2), &mut self.out);
        self.actions()
    }

    fn closes(&self, number: usize, reason: CloseReason) -> PoolAction {
        let (conn, id) = (Some(key(1000 + number as u32)), self.opened[number]);
        PoolAction::Close { conn, id, host: self.host, reason }
    }
}

#[test]
fn one_connection_serves_as_many_as_it_may() {
    let mut s = setup(|_| {});
    (0..4).for_each(|_| s.queued());
    assert_eq!(s.opened.len(), 1);
    s.queued();
    assert_eq!(s.opened.len(), 2, "the fifth request needs another connection");
    assert_eq!(s.connected(0), 4);
    assert_eq!(s.connected(1), 1);
    assert_eq!(s.state.host(s.host).unwrap().active_requests, 5);
    assert_eq!(s.budgets.default.connections.used(), 2);
    assert_eq!(s.budgets.default.requests.used(), 5);
    assert_eq!(s.budgets.default.pending.used(), 0);
}

#[test]
fn the_opening_of_a_connection_is_counted_as_http2() {
    let mut s = setup(|_| {});
    assert!(matches!(
        s.state.acquire(s.host, Default, Http2, TransportKey::DEFAULT, key(1), &mut s.out),
        Acquire::Queued(_)
    ));
    assert!(s.out.contains(&PoolAction::Count(PoolEvent::Http2ConnectionOpened)));
    assert!(matches!(s.out[..], [.., PoolAction::Connect { protocol: Http2, .. }]));
}

#[test]
fn the_least_loaded_connection_is_next_and_the_warmest_among_equals() {
    let mut s = setup(|_| {});
    (0..9).for_each(|_| s.queued());
    assert_eq!((0..3).map(|n| s.connected(n)).collect::<Vec<_>>(), [4, 4, 1]);
    assert_eq!([s.served(), s.served()], [2, 2]);
    (0..3).for_each(|_| drop(s.end(0)));
    (0..3).for_each(|_| drop(s.end(1)));
    assert_eq!([s.served(), s.served()], [1, 0], "both carry one; the second became so last");
    for (number, streams) in [(0, 2), (1, 2), (2, 3)] {
        (0..streams).for_each(|_| drop(s.end(number)));
    }
    // Idle ones: always the same serves, so that the others end.
    for _ in 0..3 {
        assert_eq!(s.served(), 2);
        s.end(2);
    }
}

#[test]
fn load_far_above_the_exact_levels_is_balanced_within_a_quarter() {
    let mut s = setup(|config| {
        config.http.http2.max_concurrent_streams = 1000;
        config.circuit_breakers.default.max_requests = u32::MAX;
        config.circuit_breakers.default.max_pending_requests = u32::MAX;
    });
    // A new connection is given a hundred streams until its endpoint has said how many it serves.
    (0..201).for_each(|_| s.queued());
    assert_eq!((0..3).map(|n| s.connected(n)).collect::<Vec<_>>(), [100, 100, 1]);
    for number in 0..3 {
        s.state.set_stream_limit(s.opened[number], 1000, &mut s.out);
        s.actions();
    }
    let mut load = [100usize, 100, 1];
    for _ in 0..2500 {
        let number = s.served();
        load[number] += 1;
        let least = *load.iter().min().unwrap();
        assert!(load[number] - 1 <= least + least / 4 + 1, "{load:?}, took {number}");
    }
    assert_eq!(s.opened.len(), 3);
}

#[test]
fn the_peer_limits_the_streams_and_the_option_still_holds() {
    let mut s = setup(|_| {});
    s.queued();
    s.connected(0);
    let first = s.opened[0];
    s.state.set_stream_limit(first, 2, &mut s.out);
    assert_eq!(s.served(), 0);
    s.queued();
    assert_eq!(s.opened.len(), 2, "a new connection is thought to have room for what the option says");
    s.state.set_stream_limit(first, 100, &mut s.out);
    assert!(matches!(s.actions()[..], [PoolAction::Assign { id, .. }] if id == first));
    assert_eq!(s.served(), 0);
    assert_eq!(s.connected(1), 0);
    assert_eq!(s.served(), 1, "four is the limit of the first");
    // Lowered below what it carries: nothing new until there is room.
    s.state.set_stream_limit(first, 1, &mut s.out);
    for _ in 0..3 {
        s.end(0);
        assert_eq!(s.served(), 1);
        s.end(1);
    }
    s.end(0);
    assert_eq!(s.served(), 0);
}

#[test]
fn a_peer_that_allows_no_stream_is_left_at_its_idle_end() {
    let mut s = setup(|config| config.circuit_breakers.default.max_connections = 1);
    s.queued();
    s.connected(0);
    s.end(0);
    s.state.set_stream_limit(s.opened[0], 0, &mut s.out);
    s.queued();
    assert_eq!(s.opened.len(), 1, "the breaker allows one");
    let later = Time(2) + Duration::from_secs(3600);
    assert_eq!(s.state.next_expiry(), Some(later));
    s.state.expire(later, &mut s.out);
    let said = s.actions();
    assert!(said[0] == s.closes(0, CloseReason::Idle) && matches!(said[1..], [PoolAction::Connect { .. }]));
    assert_eq!(s.connected(1), 1);
}

#[test]
fn who_waits_beside_a_peer_that_allows_no_stream_is_served_when_the_host_leaves() {
    let mut s = setup(|config| config.circuit_breakers.default.max_connections = 1);
    s.queued();
    s.connected(0);
    s.end(0);
    s.state.set_stream_limit(s.opened[0], 0, &mut s.out);
    s.queued();
    assert_eq!(s.opened.len(), 1, "the breaker allows one");
    s.config.localities[0].endpoints.clear();
    s.state.update(&Arc::new(s.config.clone()), &mut s.out);
    let said = s.actions();
    assert!(
        said[0] == s.closes(0, CloseReason::HostGone) && matches!(said[1..], [PoolAction::Connect { .. }])
    );
    assert_eq!(s.connected(1), 1);
    assert_eq!(s.end(1), [s.closes(1, CloseReason::HostGone)]);
    assert!(s.state.is_quiescent());
}

#[test]
fn a_retired_connection_ends_with_its_last_stream() {
    let mut s = setup(|_| {});
    (0..2).for_each(|_| s.queued());
    s.connected(0);
    s.state.retire_conn(s.opened[0], &mut s.out);
    assert_eq!(s.actions(), []);
    s.queued();
    assert_eq!(s.opened.len(), 2, "no room on a connection that goes away");
    assert_eq!(s.end(0), []);
    let said = s.end(0);
    assert_eq!(said, [s.closes(0, CloseReason::Retired)]);
    s.connected(1);
    s.end(1);
    s.state.retire_conn(s.opened[1], &mut s.out);
    assert_eq!(s.actions(), [s.closes(1, CloseReason::Retired)], "at once without a stream");
    s.state.retire_conn(s.opened[1], &mut s.out);
    assert!(s.actions().is_empty() && s.state.is_quiescent());
    assert_eq!(s.budgets.default.connections.used() + s.budgets.default.requests.used(), 0);
}

#[test]
fn requests_per_connection_bound_its_room() {
    let mut s = setup(|config| config.http.max_requests_per_connection = Some(2));
    (0..5).for_each(|_| s.queued());
    assert_eq!(s.opened.len(), 3, "two requests each");
    assert_eq!((0..3).map(|n| s.connected(n)).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(s.end(0), []);
    let said = s.end(0);
    assert_eq!(said, [s.closes(0, CloseReason::MaxRequests)]);
}

#[test]
fn an_old_connection_takes_no_new_stream() {
    let mut s = setup(|config| config.http.max_connection_duration = Some(Duration::from_secs(10)));
    s.queued();
    s.connected(0);
    s.state.expire(Time(1) + Duration::from_secs(10), &mut s.out);
    assert!(s.out.contains(&PoolAction::Count(PoolEvent::ConnectionMaxDuration)));
    assert_eq!(s.actions(), []);
    s.queued();
    assert_eq!(s.opened.len(), 2);
    let said = s.end(0);
    assert_eq!(said, [s.closes(0, CloseReason::MaxDuration)]);
}

#[test]
fn the_end_of_a_connection_gives_back_all_its_streams() {
    let mut s = setup(|_| {});
    (0..3).for_each(|_| s.queued());
    s.connected(0);
    s.state.closed(s.opened[0], &mut s.out);
    assert!(s.actions().is_empty() && s.state.is_quiescent());
    assert_eq!(s.state.host(s.host).unwrap().active_requests, 0);
    let budget = &s.budgets.default;
    assert_eq!(budget.requests.used() + budget.connections.used() + budget.pending.used(), 0);
    // Late words about it change nothing.
    s.end(0);
    s.state.set_stream_limit(s.opened[0], 9, &mut s.out);
    s.state.connected(s.opened[0], Time(3), &mut s.out);
    assert_eq!(s.actions(), []);
}

#[test]
fn a_failed_connection_fails_everybody_who_waits_for_it() {
    let mut s = setup(|_| {});
    (0..3).for_each(|_| s.queued());
    s.state.connect_failed(s.opened[0], &mut s.out);
    let fail = |slot| PoolAction::Fail { waiter: key(slot), reason: PoolFailure::ConnectFailed };
    assert_eq!(s.actions(), [fail(1), fail(2), fail(3)]);
    assert!(s.state.is_quiescent());
}

#[test]
fn streams_are_what_the_request_breaker_counts() {
    let mut s = setup(|config| config.circuit_breakers.default.max_requests = 2);
    (0..2).for_each(|_| s.queued());
    assert_eq!(s.connected(0), 2);
    assert_eq!(s.ask(), Acquire::Refused(PoolFailure::RequestOverflow));
    s.end(0);
    assert_eq!(s.served(), 0);
}

#[test]
fn the_versions_have_pools_of_their_own() {
    let mut s = setup(|_| {});
    s.queued();
    s.connected(0);
    assert!(matches!(
        s.state.acquire(s.host, Default, Http1, TransportKey::DEFAULT, key(9), &mut s.out),
        Acquire::Queued(_)
    ));
    assert!(matches!(s.actions()[..], [PoolAction::Connect { protocol: Http1, .. }]));
    assert_eq!(s.state.host(s.host).unwrap().connections(), 2);
}

#[test]
fn a_removed_host_finishes_its_streams() {
    let mut s = setup(|config| config.localities[0].endpoints.push(endpoint(1, 1, Healthy)));
    (0..2).for_each(|_| s.queued());
    s.connected(0);
    let host = s.host;
    drop(s.config.localities[0].endpoints.remove(0));
    s.state.update(&Arc::new(s.config.clone()), &mut s.out);
    assert_eq!(s.actions(), []);
    assert_eq!(s.ask(), Acquire::Refused(PoolFailure::HostGone));
    assert_eq!(s.end(0), []);
    let said = s.end(0);
    assert_eq!(said, [s.closes(0, CloseReason::HostGone)]);
    assert!(s.state.host(host).is_none());
}

#[test]
fn drain_lets_streams_end_and_sends_new_ones_elsewhere() {
    let mut s = setup(|_| {});
    s.queued();
    s.connected(0);
    assert_eq!([s.served(), s.served(), s.served()], [0; 3]);
    s.queued();
    s.state.drain(&mut s.out);
    assert_eq!(s.connected(1), 1, "who waited is served");
    s.queued();
    assert_eq!(s.opened.len(), 3);
    let said = s.end(1);
    assert_eq!(said, [s.closes(1, CloseReason::Drain)]);
}
