//! The filter `fault`: aborts, delays and slow answers.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::any::{Body, Caller, Question, Version};
use millrace_support::message::Response;
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::{DIRECT, FORWARD, rest, route, start};

pub(crate) const CASES: &[Case] = &[
    case!(aborts),
    case!(aborts_asked_for),
    case!(delays),
    case!(a_body_that_came_while_it_was_delayed),
    case!(a_client_that_leaves_while_it_is_delayed),
    case!(only_some_requests),
    case!(percentages),
    case!(no_more_at_a_time),
    case!(slow_answers),
    case!(counters),
];

const KIND: &str = "fault.v3.HTTPFault";
const ALL: &str = "percentage: {numerator: 100}";

fn proxy(subject: &Subject, routes: &str, upstream: &Upstream) -> Proxy {
    start(subject, &[("fault", KIND, "")], routes, upstream)
}

fn of(prefix: &str, fields: &str) -> String {
    route(prefix, DIRECT, "fault", KIND, fields)
}

fn shown(response: &Response) -> (u16, String) {
    (response.status, response.text())
}

fn aborts(subject: &Subject) {
    let routes = [
        of("/http", &format!("abort: {{http_status: 418, {ALL}}}")),
        of("/grpc", &format!("abort: {{grpc_status: 14, {ALL}}}")),
        of("/odd", &format!("abort: {{grpc_status: 77, {ALL}}}")),
        of("/body", &format!("abort: {{http_status: 503, response_body: own, {ALL}}}")),
        rest(DIRECT),
    ]
    .concat();
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &routes, &upstream);
    let mut client = proxy.client();
    assert_eq!(shown(&client.get("/http")), (418, "fault filter abort".into()));
    assert_eq!(proxy.log().line(0).verdict(), ("418", "FI", "fault_filter_abort"));
    assert_eq!(shown(&client.get("/grpc")), (200, "fault filter abort".into()));
    assert_eq!(shown(&client.get("/body")), (503, "own".into()));
    assert_eq!(client.get("/").status, 200);
    for (path, status) in [("/http", "2"), ("/grpc", "14"), ("/odd", "77")] {
        let response = client.get_with(path, &[("content-type", "application/grpc")]);
        assert_eq!((response.status, response.get("grpc-status")), (200, Some(status)), "{path}");
        assert_eq!(response.get("grpc-message"), Some("fault filter abort"));
    }
}

fn aborts_asked_for(subject: &Subject) {
    let fields = format!("abort: {{header_abort: {{}}, {ALL}}}");
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &[of("/never", ""), of("/", &fields)].concat(), &upstream);
    let mut client = proxy.client();
    for (list, status) in [
        (&[][..], 200),
        (&[("x-envoy-fault-abort-request", "418")], 418),
        (&[("x-envoy-fault-abort-request", "199")], 200),
        (&[("x-envoy-fault-abort-request", "600")], 200),
        (&[("x-envoy-fault-abort-request", "x")], 200),
        (&[("x-envoy-fault-abort-request", "500"), ("x-envoy-fault-abort-grpc-request", "5")], 500),
        (&[("x-envoy-fault-abort-request", "418"), ("x-envoy-fault-abort-request-percentage", "0")], 200),
        (&[("x-envoy-fault-abort-request", "418"), ("x-envoy-fault-abort-request-percentage", "200")], 418),
    ] {
        assert_eq!(client.get_with("/", list).status, status, "{list:?}");
    }
    let grpc = client
        .get_with("/", &[("x-envoy-fault-abort-grpc-request", "5"), ("content-type", "application/grpc")]);
    assert_eq!(grpc.get("grpc-status"), Some("5"));
    // Where the route does not say that headers count, they do not.
    assert_eq!(client.get_with("/never", &[("x-envoy-fault-abort-request", "418")]).status, 200);
}

fn delays(subject: &Subject) {
    let routes = [
        of("/both", &format!("delay: {{fixed_delay: 0.2s, {ALL}}}, abort: {{http_status: 503, {ALL}}}")),
        of("/asked", &format!("delay: {{header_delay: {{}}, {ALL}}}")),
        route("/", FORWARD, "fault", KIND, &format!("delay: {{fixed_delay: 0.2s, {ALL}}}")),
    ]
    .concat();
    let upstream = Upstream::echo();
    let proxy = proxy(subject, &routes, &upstream);
    let delayed = |ask: &dyn Fn() -> (u16, String), expected: (u16, &str), delay: u64| {
        let before = Instant::now();
        let (status, body) = ask();
        assert_eq!((status, &*body), expected);
        assert!(before.elapsed() >= Duration::from_millis(delay));
    };
    delayed(&|| shown(&proxy.client().get("/both")), (503, "fault filter abort"), 200);
    assert_eq!(proxy.log().line(0).get("flags"), "DI,FI");
    delayed(
        &|| shown(&proxy.client().get_with("/asked", &[("x-envoy-fault-delay-request", "150")])),
        (200, "hello"),
        150,
    );
    let post = || shown(&proxy.client().exchange("POST", "/", &[], b"body"));
    delayed(&post, (200, "body"), 200);
    let line = proxy.log().line(2);
    assert_eq!((line.get("flags"), line.get("code")), ("DI", "200"));
    // The rest of the body comes while the request waits.
    for version in [Version::Http1, Version::Http2] {
        let mut caller = Caller::connect(version, proxy.listener("main"));
        let body = Body::Streamed(vec![vec![b'x'; 100_000], vec![b'y'; 50_000]]);
        let question = Question { method: "POST", path: "/up".into(), body, ..Question::default() };
        let got = caller.ask(&question).expect("a response");
        assert_eq!((got.status, got.body.len()), (200, 150_000), "{version:?}");
    }
}

/// A request that is whole when it is aborted leaves its connection as it was; one that is not ends it.
fn a_body_that_came_while_it_was_delayed(subject: &Subject) {
    let fields = format!("delay: {{fixed_delay: 0.2s, {ALL}}}, abort: {{http_status: 503, {ALL}}}");
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &of("/", &fields), &upstream);
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
    let whole = client.response("POST").expect("an answer");
    assert_eq!((whole.status, whole.closes()), (503, false));
    assert_eq!(proxy.log().line(0).get("rx"), "4");
    let large = client.exchange("POST", "/", &[], &[b'x'; 100_000]);
    assert_eq!((large.status, large.closes()), (503, false));
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nbody");
    let part = client.response("POST").expect("an answer");
    assert_eq!((part.status, part.closes()), (503, true));
}

fn a_client_that_leaves_while_it_is_delayed(subject: &Subject) {
    let fields = format!("delay: {{fixed_delay: 60s, {ALL}}}");
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &route("/", FORWARD, "fault", KIND, &fields), &upstream);
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", "a")], b"");
    proxy.wait_stat("http.main.fault.active_faults", 1);
    client.reset();
    proxy.wait_stat("http.main.fault.active_faults", 0);
    assert_eq!(proxy.log().line(0).get("flags"), "DI,DC");
    let mut h2 = millrace_support::h2::Client::connect(proxy.listener("main"));
    let id = h2.request("GET", "/", &[], b"");
    proxy.wait_stat("http.main.fault.active_faults", 1);
    h2.reset(id, 8);
    proxy.wait_stat("http.main.fault.active_faults", 0);
    assert!(h2.is_alive() && upstream.requests().is_empty());
}

fn only_some_requests(subject: &Subject) {
    let abort = format!("abort: {{http_status: 500, {ALL}}}");
    let routes = [
        route("/cluster", FORWARD, "fault", KIND, &format!("{abort}, upstream_cluster: up")),
        route("/other", FORWARD, "fault", KIND, &format!("{abort}, upstream_cluster: elsewhere")),
        of("/none", &format!("{abort}, upstream_cluster: up")),
        of("/node", &format!("{abort}, downstream_nodes: [a, b]")),
        of("/header", &format!("{abort}, headers: [{{name: x-a, string_match: {{exact: one}}}}]")),
    ]
    .concat();
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &routes, &upstream);
    let mut client = proxy.client();
    for (path, fields, status) in [
        ("/cluster", &[][..], 500),
        ("/other", &[], 200),
        ("/none", &[], 200),
        ("/node", &[], 200),
        ("/node", &[("x-envoy-downstream-service-node", "b")], 500),
        ("/node", &[("x-envoy-downstream-service-node", "c")], 200),
        ("/header", &[("x-a", "one")], 500),
        ("/header", &[("x-a", "two")], 200),
    ] {
        assert_eq!(client.get_with(path, fields).status, status, "{path} {fields:?}");
    }
}

fn percentages(subject: &Subject) {
    let fields = "abort: {http_status: 500, percentage: {numerator: 300000, denominator: MILLION}}";
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &of("/", fields), &upstream);
    let mut client = proxy.client();
    let aborted = (0..2000).filter(|_| client.get("/").status == 500).count();
    // Five standard deviations of a fair 30 %.
    assert!((497..=703).contains(&aborted), "{aborted} of 2000");
}

fn no_more_at_a_time(subject: &Subject) {
    let fields = format!("delay: {{fixed_delay: 60s, {ALL}}}, max_active_faults: 1");
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &of("/", &fields), &upstream);
    let mut first = proxy.client();
    first.request("GET", "/", &[("host", "a")], b"");
    proxy.wait_stat("http.main.fault.active_faults", 1);
    assert_eq!(proxy.client().get("/").status, 200);
    proxy.wait_stat("http.main.fault.faults_overflow", 1);
    proxy.wait_stat("http.main.fault.delays_injected", 1);
}

/// A body of 48 KiB at 64 KiB a second takes 700 ms at least.
fn slow_answers(subject: &Subject) {
    let fields = format!("response_rate_limit: {{fixed_limit: {{limit_kbps: 64}}, {ALL}}}");
    let asked = format!("response_rate_limit: {{header_limit: {{}}, {ALL}}}");
    let routes =
        [route("/asked", FORWARD, "fault", KIND, &asked), route("/", FORWARD, "fault", KIND, &fields)]
            .concat();
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/close" => Reply::until_close(&[b'x'; 48 * 1024]),
        "/chunked" => Reply::chunked(&[], &[&[b'x'; 24 * 1024], &[b'x'; 24 * 1024]], &[]),
        _ => Reply::bytes(200, &[b'x'; 48 * 1024]),
    });
    let proxy = proxy(subject, &routes, &upstream);
    let least = Duration::from_millis(650);
    for path in ["/length", "/close", "/chunked"] {
        for version in [Version::Http1, Version::Http2] {
            let mut caller = Caller::connect(version, proxy.listener("main"));
            let before = Instant::now();
            let question = Question { method: "GET", path: path.into(), ..Question::default() };
            let got = caller.ask(&question).expect("a response");
            assert_eq!((got.status, got.body.len()), (200, 48 * 1024), "{path} {version:?}");
            assert!(before.elapsed() >= least, "{path} {version:?}: {:?}", before.elapsed());
        }
    }
    let mut client = Client::connect(proxy.listener("main"));
    let before = Instant::now();
    let response = client.get_with("/asked", &[("x-envoy-fault-throughput-response", "64")]);
    assert!(response.body.len() == 48 * 1024 && before.elapsed() >= least);
    assert_eq!(client.get("/asked").body.len(), 48 * 1024);
    proxy.wait_stat("http.main.fault.response_rl_injected", 7);
    proxy.wait_stat("http.main.fault.active_faults", 0);
}

fn counters(subject: &Subject) {
    let routes = [
        of("/both", &format!("delay: {{fixed_delay: 0.01s, {ALL}}}, abort: {{http_status: 503, {ALL}}}")),
        of("/", &format!("abort: {{http_status: 503, {ALL}}}")),
    ]
    .concat();
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &routes, &upstream);
    let mut client = proxy.client();
    for path in ["/both", "/", "/both"] {
        assert_eq!(client.get(path).status, 503);
    }
    for (name, value) in [
        ("aborts_injected", 3),
        ("delays_injected", 2),
        ("active_faults", 0),
        ("faults_overflow", 0),
        ("response_rl_injected", 0),
    ] {
        proxy.wait_stat(&format!("http.main.fault.{name}"), value);
    }
}
