//! The filter `bandwidth_limit`.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::any::{Body, Caller, Question, Version};
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::{FORWARD, rest, route, start};

pub(crate) const CASES: &[Case] = &[
    case!(slow_responses),
    case!(slow_requests),
    case!(both_directions_at_once),
    case!(streams_share_the_limit),
    case!(routes_have_limits_of_their_own),
    case!(trailers_tell_the_delay),
    case!(switched_off),
    case!(counters),
];

const KIND: &str = "bandwidth_limit.v3.BandwidthLimit";

fn limit(mode: &str, kib: u32) -> String {
    format!("stat_prefix: bw, enable_mode: {mode}, limit_kbps: {kib}")
}

fn ask(body: Body) -> Question {
    let method = if matches!(body, Body::None) { "GET" } else { "POST" };
    Question { method, path: "/".into(), body, ..Question::default() }
}

/// 40 KiB at 64 KiB a second, of which a twentieth goes at once.
fn slow_responses(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::bytes(200, &[b'x'; 40 * 1024]));
    for version in [Version::Http1, Version::Http2] {
        let proxy = start(subject, &[("b", KIND, &limit("RESPONSE", 64))], &rest(FORWARD), &upstream);
        let mut caller = Caller::connect(version, proxy.listener("main"));
        let before = Instant::now();
        let got = caller.ask(&ask(Body::None)).expect("an answer");
        let took = before.elapsed();
        assert_eq!(got.body.len(), 40 * 1024);
        assert!(took >= Duration::from_millis(500), "{version:?}: {took:?}");
        proxy.wait_stat("bw.http_bandwidth_limit.response_allowed_total_size", 40 * 1024);
    }
}

fn slow_requests(subject: &Subject) {
    let upstream = Upstream::echo();
    for version in [Version::Http1, Version::Http2] {
        let proxy = start(subject, &[("b", KIND, &limit("REQUEST", 64))], &rest(FORWARD), &upstream);
        let mut caller = Caller::connect(version, proxy.listener("main"));
        let pieces = vec![vec![b'x'; 20 * 1024], vec![b'y'; 20 * 1024]];
        let before = Instant::now();
        let got = caller.ask(&ask(Body::Streamed(pieces.clone()))).expect("an answer");
        let took = before.elapsed();
        assert!(got.status == 200 && got.body == pieces.concat(), "{version:?} {}", got.status);
        assert!(took >= Duration::from_millis(500), "{version:?}: {took:?}");
        proxy.wait_stat("bw.http_bandwidth_limit.request_allowed_total_size", 40 * 1024);
    }
    upstream.assert_strict();
}

fn both_directions_at_once(subject: &Subject) {
    let upstream = Upstream::echo();
    for version in [Version::Http1, Version::Http2] {
        let config = limit("REQUEST_AND_RESPONSE", 64);
        let proxy = start(subject, &[("b", KIND, &config)], &rest(FORWARD), &upstream);
        let mut caller = Caller::connect(version, proxy.listener("main"));
        let before = Instant::now();
        let got = caller.ask(&ask(Body::Length(vec![b'x'; 20 * 1024]))).expect("an answer");
        assert_eq!((got.status, got.body.len()), (200, 20 * 1024));
        assert!(before.elapsed() >= Duration::from_millis(500), "{version:?}");
    }
}

fn streams_share_the_limit(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::bytes(200, &[b'x'; 16 * 1024]));
    let proxy = start(subject, &[("b", KIND, &limit("RESPONSE", 64))], &rest(FORWARD), &upstream);
    let address = proxy.listener("main");
    let before = Instant::now();
    let callers: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(move || {
                let mut caller = Caller::connect(Version::Http1, address);
                caller.ask(&ask(Body::None)).expect("an answer").body.len()
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.join().expect("a caller"), 16 * 1024);
    }
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(600), "{took:?}");
}

fn routes_have_limits_of_their_own(subject: &Subject) {
    let own = "stat_prefix: own, enable_mode: RESPONSE, limit_kbps: 10000";
    let routes = [route("/fast", FORWARD, "b", KIND, own), rest(FORWARD)].concat();
    let upstream = Upstream::start(|_| Reply::bytes(200, &[b'x'; 100]));
    let proxy = start(subject, &[("b", KIND, &limit("RESPONSE", 64))], &routes, &upstream);
    let mut client = proxy.client();
    client.get("/fast");
    client.get("/fast");
    client.get("/");
    proxy.wait_stat("own.http_bandwidth_limit.response_allowed_total_size", 200);
    proxy.wait_stat("bw.http_bandwidth_limit.response_allowed_total_size", 100);
}

fn trailers_tell_the_delay(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::bytes(200, &[b'x'; 20 * 1024]));
    let config = limit("RESPONSE", 64) + ", enable_response_trailers: true, response_trailer_prefix: x";
    let proxy = start(subject, &[("b", KIND, &config)], &rest(FORWARD), &upstream);
    let mut caller = Caller::connect(Version::Http2, proxy.listener("main"));
    let got = caller.ask(&ask(Body::None)).expect("an answer");
    assert_eq!(got.body.len(), 20 * 1024);
    let of = |name: &str| got.trailers.get(name).and_then(|millis| millis.parse::<u64>().ok());
    for name in ["x-bandwidth-response-delay-ms", "x-bandwidth-response-filter-delay-ms"] {
        assert!(of(name).is_some_and(|millis| (150..5000).contains(&millis)), "{name} {:?}", got.trailers);
    }
    assert_eq!(of("x-bandwidth-request-delay-ms"), None);
}

fn switched_off(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::bytes(200, &[b'x'; 200 * 1024]));
    for config in [
        limit("DISABLED", 1),
        limit("REQUEST", 1),
        limit("RESPONSE", 1) + ", runtime_enabled: {default_value: false, runtime_key: x}",
    ] {
        let proxy = start(subject, &[("b", KIND, &config)], &rest(FORWARD), &upstream);
        assert_eq!(proxy.client().get("/").body.len(), 200 * 1024, "{config}");
        assert_eq!(proxy.stat("bw.http_bandwidth_limit.response_enabled"), Some(0));
    }
}

fn counters(subject: &Subject) {
    let upstream = Upstream::echo();
    let config = limit("REQUEST_AND_RESPONSE", 1024);
    let proxy = start(subject, &[("b", KIND, &config)], &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    client.exchange("POST", "/", &[], &[b'x'; 500]);
    client.exchange("POST", "/", &[], &[b'x'; 300]);
    for (name, value) in [
        ("request_enabled", 2),
        ("response_enabled", 2),
        ("request_incoming_total_size", 800),
        ("request_allowed_total_size", 800),
        ("response_incoming_total_size", 800),
        ("response_allowed_total_size", 800),
        ("request_enforced", 0),
        ("response_pending", 0),
        ("request_pending", 0),
        ("response_allowed_size", 300),
    ] {
        proxy.wait_stat(&format!("bw.http_bandwidth_limit.{name}"), value);
    }
}
