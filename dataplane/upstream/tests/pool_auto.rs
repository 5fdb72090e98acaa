//! Pools whose connections learn their version of HTTP from ALPN, and pools that differ in what they ask of the
//! handshake.

mod common;

use std::sync::Arc;

use common::{cluster, endpoint};
use millrace_base::{Key, Time};
use millrace_config::HealthStatus::Healthy;
use millrace_config::{Cluster, LbPolicy};
use millrace_upstream::{
    Acquire, CloseReason, ClusterShared, ClusterState, ConnId, HostId,
    HttpProtocol::{self, Auto, Http1, Http2},
    PoolAction, PoolEvent,
    ResourcePriority::Default,
    TRANSPORTS_MAX, Transport, TransportKey,
};

fn key(slot: u32) -> Key {
    Key { slot, generation: 0 }
}

/// One endpoint, and the answers of its pools. Connections get the keys 1000, 1001 and so on.
struct Setup {
    config: Cluster,
    state: ClusterState,
    host: HostId,
    out: Vec<PoolAction>,
    counted: Vec<PoolEvent>,
    opened: Vec<(ConnId, HttpProtocol, TransportKey)>,
    requests: u32,
}

fn setup() -> Setup {
    let mut config = cluster(LbPolicy::RoundRobin, vec![vec![endpoint(0, 1, Healthy)]]);
    config.http.http2.max_concurrent_streams = 4;
    let state = ClusterState::new(&Arc::new(config.clone()), Arc::new(ClusterShared::default()), 1);
    let host = state.hosts().map(|(id, _)| id).next().expect("one endpoint");
    let (out, counted, opened) = (Vec::new(), Vec::new(), Vec::new());
    Setup { config, state, host, out, counted, opened, requests: 0 }
}

impl Setup {
    /// What the pool said since the last call, counts apart; connections that it asks for are bound.
    fn actions(&mut self) -> Vec<PoolAction> {
        let mut said = Vec::new();
        for action in std::mem::take(&mut self.out) {
            match action {
                PoolAction::Count(event) => self.counted.push(event),
                PoolAction::Connect { conn, protocol, transport, .. } => {
                    self.state.bind(conn, key(1000 + self.opened.len() as u32));
                    self.opened.push((conn, protocol, transport));
                }
                other => said.push(other),
            }
        }
        self.state.check_invariants();
        said
    }

    fn ask(&mut self, protocol: HttpProtocol, transport: TransportKey) -> Acquire {
        self.requests += 1;
        let waiter = key(self.requests);
        let answer = self.state.acquire(self.host, Default, protocol, transport, waiter, &mut self.out);
        self.actions();
        answer
    }

    fn queued(&mut self, protocol: HttpProtocol, transport: TransportKey) {
        let answer = self.ask(protocol, transport);
        assert!(matches!(answer, Acquire::Queued(_)), "{answer:?}");
    }

    /// Establishes connection `number`; gives the number of requests that anybody was assigned by it.
    fn agreed(&mut self, number: usize, protocol: HttpProtocol) -> usize {
        self.state.connected_as(self.opened[number].0, protocol, Time(1), &mut self.out);
        self.actions().iter().filter(|action| matches!(action, PoolAction::Assign { .. })).count()
    }

    fn key_of(&mut self, server_name: &str) -> TransportKey {
        let wanted = Transport { server_name: Some(server_name), ..Transport::default() };
        self.state.transport_key(&wanted).expect("room")
    }

    fn times(&self, event: PoolEvent) -> usize {
        self.counted.iter().filter(|counted| **counted == event).count()
    }
}

#[test]
fn until_it_knows_better_a_pool_opens_a_connection_for_each_request() {
    let mut s = setup();
    (0..3).for_each(|_| s.queued(Auto, TransportKey::DEFAULT));
    assert_eq!(s.opened.len(), 3);
    assert!(s.opened.iter().all(|opened| opened.1 == Auto));
    assert_eq!(s.times(PoolEvent::AutoConnectionOpened), 3);
    // The first one is HTTP/2 and has room for all; the others come in vain, as in Envoy.
    assert_eq!(s.agreed(0, Http2), 3);
    assert_eq!(s.agreed(1, Http2), 0);
    assert_eq!(s.agreed(2, Http1), 0);
    assert_eq!((s.times(PoolEvent::AutoIsHttp2), s.times(PoolEvent::AutoIsHttp1)), (2, 1));
}

#[test]
fn http1_serves_one_request_at_a_time() {
    let mut s = setup();
    (0..2).for_each(|_| s.queued(Auto, TransportKey::DEFAULT));
    assert_eq!(s.agreed(0, Http1), 1);
    s.queued(Auto, TransportKey::DEFAULT);
    assert_eq!(s.opened.len(), 3);
    s.state.released(s.opened[0].0, true, Time(2), &mut s.out);
    assert!(matches!(s.actions()[..], [PoolAction::Assign { .. }]));
    assert_eq!((s.agreed(1, Http1), s.agreed(2, Http1)), (1, 0));
}

#[test]
fn a_pool_that_knows_its_endpoint_waits_for_streams() {
    let mut s = setup();
    s.queued(Auto, TransportKey::DEFAULT);
    assert_eq!(s.agreed(0, Http2), 1);
    for _ in 0..3 {
        assert!(matches!(s.ask(Auto, TransportKey::DEFAULT), Acquire::Reuse { .. }));
    }
    (0..4).for_each(|_| s.queued(Auto, TransportKey::DEFAULT));
    assert_eq!(s.opened.len(), 2, "four streams are expected of the second connection");
    // It was wrong: the other three get connections of their own.
    assert_eq!(s.agreed(1, Http1), 1);
    assert_eq!(s.opened.len(), 5);
    assert_eq!((2..5).map(|n| s.agreed(n, Http1)).sum::<usize>(), 3);
}

#[test]
fn http2_rules_hold_once_it_is_http2() {
    let mut s = setup();
    s.queued(Auto, TransportKey::DEFAULT);
    s.state.set_stream_limit(s.opened[0].0, 1, &mut s.out);
    assert_eq!(s.agreed(0, Http2), 1);
    s.state.set_stream_limit(s.opened[0].0, 2, &mut s.out);
    assert!(matches!(s.ask(Auto, TransportKey::DEFAULT), Acquire::Reuse { .. }));
    s.queued(Auto, TransportKey::DEFAULT);
    s.state.retire_conn(s.opened[0].0, &mut s.out);
    (0..2).for_each(|_| s.state.stream_ended(s.opened[0].0, Time(2), &mut s.out));
    let closed = PoolAction::Close {
        conn: Some(key(1000)),
        id: s.opened[0].0,
        host: s.host,
        reason: CloseReason::Retired,
    };
    assert_eq!(s.actions(), [closed]);
}

#[test]
fn an_automatic_connection_that_fails_takes_its_waiters_along() {
    let mut s = setup();
    s.queued(Auto, TransportKey::DEFAULT);
    s.state.connect_failed(s.opened[0].0, &mut s.out);
    assert!(matches!(s.actions()[..], [PoolAction::Fail { .. }]));
    assert!(s.state.is_quiescent());
}

#[test]
fn other_handshakes_share_no_connection() {
    let mut s = setup();
    let a = s.key_of("a.example");
    s.queued(Http1, a);
    let b = s.key_of("b.example");
    s.queued(Http1, b);
    s.queued(Http1, TransportKey::DEFAULT);
    s.queued(Http2, a);
    let asked: Vec<_> = s.opened.iter().map(|(_, protocol, transport)| (*protocol, *transport)).collect();
    assert_eq!(asked, [(Http1, a), (Http1, b), (Http1, TransportKey::DEFAULT), (Http2, a)]);
    assert_eq!(s.state.transport(a).server_name, Some("a.example"));
    (0..4).for_each(|n| assert_eq!(s.agreed(n, Http1), 1, "{n} serves its own"));
    s.state.released(s.opened[1].0, true, Time(2), &mut s.out);
    assert_eq!(s.key_of("a.example"), a);
    s.queued(Http1, a);
    assert_eq!(s.key_of("b.example"), b, "an idle connection keeps its key");
    assert!(matches!(s.ask(Http1, b), Acquire::Reuse { id, .. } if id == s.opened[1].0));
}

#[test]
fn keys_come_back_when_their_connections_are_gone() {
    let mut s = setup();
    for n in 0..3 * TRANSPORTS_MAX {
        let key = s.key_of(&format!("{n}.example"));
        s.queued(Http1, key);
        s.state.connected(s.opened[n].0, Time(1), &mut s.out);
        s.state.released(s.opened[n].0, false, Time(2), &mut s.out);
        assert_eq!(s.actions().len(), 2, "assigned and closed");
    }
    assert!(s.opened.iter().all(|(_, _, key)| *key <= s.opened[1].2), "few positions");
    assert!(s.state.is_quiescent());
}

#[test]
fn an_endpoint_that_leaves_takes_every_pool_along() {
    let mut s = setup();
    let a = s.key_of("a.example");
    s.queued(Http1, a);
    s.queued(Auto, TransportKey::DEFAULT);
    assert_eq!((s.agreed(0, Http1), s.agreed(1, Http2)), (1, 1));
    s.state.released(s.opened[0].0, true, Time(2), &mut s.out);
    s.actions();
    let mut without = s.config.clone();
    without.localities.clear();
    s.state.update(&Arc::new(without), &mut s.out);
    assert!(matches!(s.actions()[..], [PoolAction::Close { reason: CloseReason::HostGone, .. }]));
    s.state.stream_ended(s.opened[1].0, Time(3), &mut s.out);
    assert!(matches!(s.actions()[..], [PoolAction::Close { .. }]));
    assert!(s.state.is_quiescent() && s.state.host(s.host).is_none());
}
