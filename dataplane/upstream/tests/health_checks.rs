//! Active health checks: thresholds, flags, intervals and conversations.

mod common;

use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_config::{
    Cluster, HeaderMutations, HealthCheck, HealthCheckIntervals, HealthCheckKind, HealthStatus,
    HttpHealthCheck, LbPolicy, TcpHealthCheck,
};
use millrace_http::RequestHead;
use millrace_upstream::health_check::{
    CheckEvent, CheckFlags, Conversation, Failure, FailureKind, Reply, Session, Transition, Verdict, interval,
};
use millrace_upstream::{ChooseContext, ClusterShared, ClusterState};

use common::{cluster, endpoint};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn check(kind: HealthCheckKind) -> HealthCheck {
    HealthCheck {
        fingerprint: 7,
        timeout: seconds(1),
        intervals: HealthCheckIntervals {
            interval: seconds(10),
            no_traffic: seconds(60),
            no_traffic_healthy: seconds(90),
            unhealthy: seconds(20),
            unhealthy_edge: seconds(2),
            healthy_edge: seconds(3),
            initial_jitter: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_percent: 0,
        },
        unhealthy_threshold: 3,
        healthy_threshold: 2,
        reuse_connection: true,
        always_log_failures: false,
        always_log_success: false,
        event_logs: Vec::new(),
        alpn: None,
        transport_match: None,
        kind,
        ignore_health_on_removal: false,
        ignore_new_hosts: false,
    }
}

fn tcp(receive: &[&[u8]]) -> HealthCheckKind {
    let receive = receive.iter().map(|bytes| bytes.to_vec()).collect();
    HealthCheckKind::Tcp(TcpHealthCheck { proxy_protocol: None, send: b"ping".to_vec(), receive })
}

fn http() -> HttpHealthCheck {
    HttpHealthCheck {
        host: "".into(),
        path: "/".into(),
        method: "GET",
        send: Vec::new(),
        receive: Vec::new(),
        response_bytes: Some(1024),
        headers: HeaderMutations::default(),
        expected: vec![(200, 201)],
        retriable: vec![(503, 504)],
        http2: false,
        service_name: None,
    }
}

fn checked(check: &HealthCheck, count: u8) -> Arc<Cluster> {
    let endpoints = (1..=count).map(|number| endpoint(number, 1, HealthStatus::Unknown)).collect();
    let mut config = cluster(LbPolicy::RoundRobin, vec![endpoints]);
    config.health_check = Some(Arc::new(check.clone()));
    Arc::new(config)
}

const NETWORK: Failure = Failure::of(FailureKind::Network);

#[test]
fn thresholds_are_those_of_envoy() {
    let check = check(tcp(&[]));
    let (config, shared) = (checked(&check, 1), Arc::new(ClusterShared::default()));
    let address = config.localities[0].endpoints[0].address.clone();
    let mut session = Session::begin(&shared.health, &config, &address);
    assert_eq!((session.flags(), session.is_first()), (CheckFlags::FAILED, true));
    assert!(!shared.health.is_checked(&address, 7));
    // The first success passes, whatever the threshold.
    let first = session.succeeded(false, &check, &shared.health);
    assert_eq!(
        (first.transition, first.after, first.first),
        (Transition::Changed, CheckFlags::default(), true)
    );
    assert_eq!(first.events, [CheckEvent::AddHealthy { first: true }]);
    assert!(shared.health.is_checked(&address, 7) && !shared.health.is_checked(&address, 8));
    // Three failures of the network in a row fail; a success in between begins anew.
    for result in [false, false, true, false, false] {
        let outcome = match result {
            true => session.succeeded(false, &check, &shared.health),
            false => session.failed(NETWORK, &check, &shared.health),
        };
        let expected = if result { Transition::Unchanged } else { Transition::Pending };
        assert_eq!((outcome.transition, outcome.after), (expected, CheckFlags::default()));
        assert_eq!(outcome.events, []);
    }
    let late = Failure::of(FailureKind::NetworkTimeout);
    let failed = session.failed(late, &check, &shared.health);
    assert_eq!(failed.after, CheckFlags::FAILED.with(CheckFlags::TIMED_OUT));
    assert_eq!(failed.events, [CheckEvent::EjectUnhealthy(late)]);
    assert_eq!(session.failed(NETWORK, &check, &shared.health).after, CheckFlags::FAILED);
    // Two successes pass again.
    let pending = session.succeeded(false, &check, &shared.health);
    assert_eq!((pending.transition, pending.after), (Transition::Pending, CheckFlags::FAILED));
    assert_eq!(
        session.succeeded(false, &check, &shared.health).events,
        [CheckEvent::AddHealthy { first: false }]
    );
    // What the endpoint itself says needs no threshold.
    let active = Failure { status: 500, ..Failure::of(FailureKind::Active) };
    assert_eq!(session.failed(active, &check, &shared.health).after, CheckFlags::FAILED);
    session.end(&shared.health, &address, &mut Vec::new());
    assert_eq!(shared.health.checks(&address), None);
}

#[test]
fn first_failures_are_told_and_a_known_endpoint_gets_no_second_chance() {
    let check = check(tcp(&[]));
    let (config, shared) = (checked(&check, 1), Arc::new(ClusterShared::default()));
    let address = config.localities[0].endpoints[0].address.clone();
    let mut session = Session::begin(&shared.health, &config, &address);
    let first = session.failed(NETWORK, &check, &shared.health);
    assert_eq!((first.transition, first.after), (Transition::Unchanged, CheckFlags::FAILED));
    assert_eq!(first.events, [CheckEvent::Failed { failure: NETWORK, first: true }]);
    session.succeeded(false, &check, &shared.health);
    assert_eq!(session.succeeded(false, &check, &shared.health).after, CheckFlags::default());
    session.restart();
    assert_eq!(session.failed(NETWORK, &check, &shared.health).after, CheckFlags::FAILED);
}

#[test]
fn intervals_depend_on_the_result_and_on_traffic() {
    let mut check = check(tcp(&[]));
    let mut rng = Rng::new(1);
    let mut wait = |check: &HealthCheck, passed, transition, traffic| {
        interval(check, passed, transition, traffic, &mut rng).as_millis() / 1000
    };
    use Transition::{Changed, Pending, Unchanged};
    let with = [
        (true, Unchanged, 10),
        (true, Changed, 10),
        (true, Pending, 3),
        (false, Pending, 2),
        (false, Changed, 20),
    ];
    for (passed, transition, expected) in with {
        assert_eq!(wait(&check, passed, transition, true), expected, "{passed} {transition:?}");
    }
    let without = [(true, Unchanged, 90), (true, Pending, 60), (false, Unchanged, 60), (false, Pending, 60)];
    for (passed, transition, expected) in without {
        assert_eq!(wait(&check, passed, transition, false), expected, "{passed} {transition:?}");
    }
    (check.intervals.jitter, check.intervals.jitter_percent) = (seconds(5), 50);
    let all: Vec<u128> = (0..200).map(|_| wait(&check, true, Unchanged, true)).collect();
    assert!(all.iter().all(|time| (10..20).contains(time)), "{all:?}");
    assert!(all.iter().any(|time| *time >= 15) && all.iter().any(|time| *time < 13));
}

#[test]
fn balancers_follow_checks() {
    let check = check(tcp(&[]));
    let (config, shared) = (checked(&check, 2), Arc::new(ClusterShared::default()));
    let mut state = ClusterState::new(&config, Arc::clone(&shared), 1);
    let mut rng = Rng::new(3);
    let mut chosen = |state: &mut ClusterState| {
        let context = ChooseContext { now: Time(1), ..ChooseContext::default() };
        let mut all: Vec<_> =
            (0..8).filter_map(|_| state.choose_host(&mut rng, &context).ok()).map(|c| c.host).collect();
        all.sort_by_key(|id| format!("{id:?}"));
        all.dedup();
        all.len()
    };
    assert_eq!(chosen(&mut state), 2, "all fail: panic");
    let address = config.localities[0].endpoints[0].address.clone();
    let mut session = Session::begin(&shared.health, &config, &address);
    session.succeeded(false, &check, &shared.health);
    assert_eq!(chosen(&mut state), 1);
    let excluded = Failure { exclude: true, ..Failure::of(FailureKind::Active) };
    session.failed(excluded, &check, &shared.health);
    state.leave_failed(&mut Vec::new());
    let out = state.hosts().filter(|(_, host)| host.excluded).count();
    assert_eq!((out, chosen(&mut state)), (1, 2));
}

/// Feeds a conversation in pieces of `size` and returns what came of it.
fn converse(check: &HealthCheck, answer: &[u8], size: usize) -> (Reply, Vec<u8>) {
    let config = checked(check, 1);
    let mut conversation = Conversation::new(check, &config, Time::ZERO);
    let mut request = RequestHead::new();
    request.set_method(b"GET");
    request.set_path(b"/");
    request.set_authority(b"up");
    let mut wire = Vec::new();
    let mut last = conversation.begin(check, &request, &mut wire);
    for piece in answer.chunks(size) {
        assert_eq!(last.verdict, None, "a verdict before the end");
        last = conversation.receive(check, piece, Time::ZERO, &mut wire);
    }
    (last, wire)
}

fn failed(kind: FailureKind, status: u16, retriable: bool) -> Option<Verdict> {
    Some(Verdict::Failed(Failure { kind, retriable, status, exclude: false }))
}

#[test]
fn http1_answers_are_judged_however_they_are_cut() {
    let passed = Some(Verdict::Passed { degraded: false, status: 200 });
    let plain = check(HealthCheckKind::Http(Box::new(http())));
    let cases: [(&str, Option<Verdict>, bool); 7] = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", passed, false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", passed, false),
        (
            "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nx-envoy-degraded: 1\r\ncontent-length: 0\r\n\r\n",
            Some(Verdict::Passed { degraded: true, status: 200 }),
            false,
        ),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", passed, true),
        ("HTTP/1.1 500 Bad\r\ncontent-length: 0\r\n\r\n", failed(FailureKind::Active, 500, false), false),
        ("HTTP/1.1 503 Bad\r\ncontent-length: 0\r\n\r\n", failed(FailureKind::Active, 503, true), false),
        ("HTTP/1.1 204 None\r\n\r\n", failed(FailureKind::Active, 204, false), false),
    ];
    for (answer, verdict, close) in cases {
        for size in [1, 7, 1000] {
            let (reply, wire) = converse(&plain, answer.as_bytes(), size);
            assert_eq!((reply.verdict, reply.close), (verdict, close), "{answer}");
            assert_eq!(wire, b"GET / HTTP/1.1\r\nhost: up\r\n\r\n");
        }
    }
    for bad in ["HTTX/1.1 200 OK\r\n\r\n", "HTTP/1.1 101 Switch\r\n\r\n"] {
        let (reply, _) = converse(&plain, bad.as_bytes(), 1000);
        assert_eq!((reply.verdict, reply.close), (failed(FailureKind::Network, 0, false), true), "{bad}");
    }
    let (reply, _) = converse(&plain, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nmore", 1000);
    assert_eq!((reply.verdict, reply.close), (passed, true), "bytes that nobody asked for");
    let mut once = plain;
    once.reuse_connection = false;
    assert!(converse(&once, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 1000).0.close);
}

#[test]
fn an_end_of_the_connection_may_be_the_end_of_the_answer() {
    let check = check(HealthCheckKind::Http(Box::new(http())));
    let config = checked(&check, 1);
    let request = RequestHead::new();
    let network = failed(FailureKind::Network, 0, false);
    for (answer, clean, verdict) in [
        (&b"HTTP/1.1 200 OK\r\n\r\nabc"[..], true, Some(Verdict::Passed { degraded: false, status: 200 })),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", false, network),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", true, network),
        (b"", true, network),
    ] {
        let mut conversation = Conversation::new(&check, &config, Time::ZERO);
        conversation.begin(&check, &request, &mut Vec::new());
        assert_eq!(conversation.receive(&check, answer, Time::ZERO, &mut Vec::new()).verdict, None);
        let reply = conversation.ended(&check, clean);
        assert_eq!((reply.verdict, reply.close), (verdict, true));
    }
    // Between two checks it tells nothing.
    let mut conversation = Conversation::new(&check, &config, Time::ZERO);
    assert_eq!(conversation.ended(&check, true), Reply { close: true, ..Reply::default() });
}

#[test]
fn payloads_are_found_and_names_compared() {
    let mut with = http();
    with.receive = vec![b"all".to_vec(), b"well".to_vec()];
    with.response_bytes = Some(12);
    with.service_name =
        Some(millrace_config::StringMatcher::Prefix { value: b"up"[..].into(), ignore_case: false });
    let check = check(HealthCheckKind::Http(Box::new(with)));
    let answer = |name: &str, body: &str| {
        let head =
            format!("x-envoy-upstream-healthchecked-cluster: {name}\r\ncontent-length: {}", body.len());
        converse(&check, format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").as_bytes(), 5).0
    };
    let passed = Some(Verdict::Passed { degraded: false, status: 200 });
    let active = failed(FailureKind::Active, 200, false);
    let cases = [
        ("upper", "all is well!", passed, true),
        ("upper", "all is  well", passed, true),
        ("upper", "all is   well", active, false),
        ("upper", "well all", active, false),
        ("down", "all well", active, true),
    ];
    for (name, body, verdict, verified) in cases {
        let reply = answer(name, body);
        assert_eq!((reply.verdict, reply.verified), (verdict, verified), "{name} {body}");
    }
    let check = self::check(tcp(&[b"po", b"ng"]));
    for size in [1, 9] {
        let (reply, wire) = converse(&check, b"..pong", size);
        let passed = Some(Verdict::Passed { degraded: false, status: 0 });
        assert_eq!((reply.verdict, &wire[..]), (passed, &b"ping"[..]));
    }
}

#[test]
fn checks_of_another_kind_than_their_connection_fail() {
    let plain = check(HealthCheckKind::Http(Box::new(http())));
    let config = checked(&plain, 1);
    let mut conversation = Conversation::new(&plain, &config, Time::ZERO);
    let other = check(HealthCheckKind::Grpc(Box::default()));
    let reply = conversation.begin(&other, &RequestHead::new(), &mut Vec::new());
    assert_eq!((reply.verdict, reply.close), (failed(FailureKind::Network, 0, false), true));
    assert!(Conversation::is_connect_only(&check(tcp(&[]))) && !Conversation::is_connect_only(&plain));
}
