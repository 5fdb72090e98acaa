//! Upstreams that fail: what the client sees, what the log says, what is retried.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::any::{Answer, Origin, Version, http2_cluster};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::chaos::{Chaos, Fault, Plan};
use millrace_support::message::Response;
use millrace_support::process::Proxy;
use millrace_support::raw::{self, Client};
use millrace_support::subject::Subject;
use millrace_support::tcp::{Blackhole, Refused};
use millrace_support::upstream::{Reply, Step, Then, Upstream};

pub(crate) const CASES: &[Case] = &[
    case!(refused),
    case!(connect_timeout),
    case!(reset_before_the_response),
    case!(closed_before_the_response),
    case!(reset_within_the_response),
    case!(truncated_response_by_length),
    case!(garbage_instead_of_a_response),
    case!(closed_within_the_head),
    case!(bad_framing_from_the_upstream),
    case!(no_healthy_upstream),
    case!(stale_connection_is_not_blamed_on_the_client),
    case!(early_response_without_the_body),
    case!(early_response_then_the_rest_of_the_body),
    case!(response_to_nothing_is_not_used),
    case!(retry_on_connect_failure),
    case!(retry_on_5xx),
    case!(retry_on_reset),
    case!(no_retry_without_a_policy),
    case!(retries_are_bounded),
    case!(retry_when_the_endpoint_says),
    case!(retry_keeps_the_body),
    case!(retry_by_request_header),
    case!(retriable_status_codes),
    case!(per_try_timeout),
    case!(pending_overflow),
    case!(round_robin_over_endpoints),
    case!(clients_have_connections_of_their_own),
    case!(sliced_upstream_bytes),
];

fn start(subject: &Subject, upstream: &Upstream) -> Proxy {
    Proxy::start(subject, &Bootstrap::forward(upstream.address()))
}

fn routed(subject: &Subject, endpoints: &[std::net::SocketAddr], route: &str, cluster: &str) -> Proxy {
    let routes = format!("- match: {{prefix: \"/\"}}\n  route:\n    cluster: up\n{route}");
    let bootstrap = Bootstrap::new().http(Http::routes(&routes)).cluster("up", endpoints, cluster);
    Proxy::start(subject, &bootstrap)
}

fn seen(response: &Response) -> (u16, String) {
    (response.status, response.text())
}

fn refused(subject: &Subject) {
    let nobody = Refused::new();
    let proxy = Proxy::start(subject, &Bootstrap::forward(nobody.address()));
    let mut client = proxy.client();
    let response = client.get("/");
    assert_eq!(response.status, 503);
    let text =
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    assert_eq!(response.text(), text);
    assert_eq!(response.get("content-type"), Some("text/plain"));
    assert!(!response.closes());
    let line = proxy.log().line(0);
    let details = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}";
    assert_eq!(line.get("details"), details);
    assert_eq!((line.get("code"), line.get("flags")), ("503", "UF"));
    assert_eq!(line.get("fail"), "delayed_connect_error:_Connection_refused");
    proxy.wait_stat("cluster.up.upstream_cx_connect_fail", 1);
    assert_eq!(client.get("/").status, 503);
}

fn connect_timeout(subject: &Subject) {
    let hole = Blackhole::new();
    let proxy = routed(subject, &[hole.address()], "", "connect_timeout: 0.3s");
    let response = proxy.client().get("/");
    let text = "upstream connect error or disconnect/reset before headers. reset reason: connection timeout";
    assert_eq!(seen(&response), (503, text.to_owned()));
    assert_eq!(proxy.log().line(0).get("flags"), "UF");
    proxy.wait_stat("cluster.up.upstream_cx_connect_timeout", 1);
}

const TERMINATED: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination";

fn reset_before_the_response(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::reset());
    let proxy = start(subject, &upstream);
    assert_eq!(seen(&proxy.client().get("/")), (503, TERMINATED.to_owned()));
    let line = proxy.log().line(0);
    let details = "upstream_reset_before_response_started{connection_termination}";
    assert_eq!(line.verdict(), ("503", "UC", details));
}

fn closed_before_the_response(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::close());
    let proxy = start(subject, &upstream);
    assert_eq!(seen(&proxy.client().get("/")), (503, TERMINATED.to_owned()));
    assert_eq!(proxy.log().line(0).get("flags"), "UC");
}

fn cut(subject: &Subject, reply: Reply) {
    let upstream = Upstream::start(move |_| reply.clone());
    let proxy = start(subject, &upstream);
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", "a")], b"");
    assert!(client.response("GET").is_err());
    let line = proxy.log().line(0);
    let details = "upstream_reset_after_response_started{protocol_error}";
    assert_eq!(line.verdict(), ("200", "UPE", details));
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
}

fn reset_within_the_response(subject: &Subject) {
    let pause = Step::Sleep(Duration::from_millis(100));
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    cut(subject, Reply::raw(head).step(pause).step(Step::Reset));
}

fn truncated_response_by_length(subject: &Subject) {
    cut(subject, Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").then(Then::Close));
}

fn closed_within_the_head(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::raw("HTTP/1.1 200 OK\r\nx: ").then(Then::Close));
    let proxy = start(subject, &upstream);
    assert_eq!(proxy.client().get("/").status, 502);
    let details = "upstream_reset_before_response_started{protocol_error}";
    assert_eq!(proxy.log().line(0).verdict(), ("502", "UPE", details));
    proxy.wait_stat("cluster.up.upstream_cx_protocol_error", 1);
    proxy.wait_stat("cluster.up.upstream_cx_destroy_remote_with_active_rq", 1);
}

fn garbage_instead_of_a_response(subject: &Subject) {
    for garbage in ["nonsense\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n", "\0\0\0\0\0\0\0\0\r\n\r\n"] {
        let upstream = Upstream::start(move |_| Reply::raw(garbage));
        let proxy = start(subject, &upstream);
        let text = "upstream connect error or disconnect/reset before headers. reset reason: protocol error";
        assert_eq!(seen(&proxy.client().get("/")), (502, text.to_owned()), "{garbage:?}");
        let line = proxy.log().line(0);
        assert_eq!((line.get("code"), line.get("flags")), ("502", "UPE"));
        assert_eq!(line.get("details"), "upstream_reset_before_response_started{protocol_error}");
        proxy.wait_stat("cluster.up.upstream_cx_active", 0);
        proxy.wait_stat("cluster.up.upstream_cx_protocol_error", 1);
    }
}

fn bad_framing_from_the_upstream(subject: &Subject) {
    let heads = [
        "content-length: 1\r\ncontent-length: 2\r\n",
        "content-length: -1\r\n",
        "content-length: 1\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: xchunked\r\n",
        "bad name: 1\r\ncontent-length: 1\r\n",
    ];
    for head in heads {
        let bytes = format!("HTTP/1.1 200 OK\r\n{head}\r\nx");
        let upstream = Upstream::start(move |_| Reply::raw(&bytes));
        let proxy = start(subject, &upstream);
        assert_eq!(proxy.client().get("/").status, 502, "{head:?}");
        assert_eq!(proxy.log().line(0).get("flags"), "UPE", "{head:?}");
    }
}

fn no_healthy_upstream(subject: &Subject) {
    let proxy = routed(subject, &[], "", "load_assignment: {cluster_name: up}");
    assert_eq!(seen(&proxy.client().get("/")), (503, "no healthy upstream".to_owned()));
    assert_eq!(proxy.log().line(0).verdict(), ("503", "UH", "no_healthy_upstream"));
    proxy.wait_stat("cluster.up.upstream_cx_none_healthy", 1);
}

/// An upstream that closes kept-alive connections when idle: the next request gets a fresh one.
fn stale_connection_is_not_blamed_on_the_client(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x").then(Then::Close));
    let proxy = start(subject, &upstream);
    let mut client = proxy.client();
    for n in 1..=5 {
        assert_eq!(client.get("/").status, 200, "request {n}");
        proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    }
    assert_eq!(upstream.connections(), 5);
}

fn early_response_without_the_body(subject: &Subject) {
    let upstream = Upstream::with_early(
        |_| Some(Reply::with(413, &[("connection", "close")], b"no").then(Then::Close)),
        |_| Reply::ok(""),
    );
    let proxy = start(subject, &upstream);
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nsome");
    let response = client.response("POST").expect("the early response");
    assert_eq!(seen(&response), (413, "no".to_owned()));
    assert_eq!(proxy.log().line(0).get("code"), "413");
}

/// Nothing of the abandoned body may be read as the next request, on either side.
fn early_response_then_the_rest_of_the_body(subject: &Subject) {
    let upstream = Upstream::with_early(
        |head| (head.target == "/early").then(|| Reply::with(403, &[], b"no")),
        |_| Reply::ok("second"),
    );
    let proxy = start(subject, &upstream);
    let mut client = proxy.client();
    let smuggled = raw::encode("GET", "/smuggled", &[("host", "a")], b"");
    client.send(
        format!("POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", smuggled.len()).as_bytes(),
    );
    assert_eq!(client.response("POST").map(|r| r.status), Ok(403));
    client.send(&smuggled);
    client.request("GET", "/second", &[("host", "a")], b"");
    // Either the connection ends or the next answer is the one to the next request.
    if let Ok(response) = client.response("GET") {
        assert_eq!(response.text(), "second");
    }
    assert_eq!(proxy.client().get("/second").text(), "second");
    assert!(upstream.requests().iter().all(|r| r.target != "/smuggled"));
    upstream.assert_strict();
}

/// Bytes behind a complete response belong to nobody: the connection is not used again.
fn response_to_nothing_is_not_used(subject: &Subject) {
    let extra = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let upstream = Upstream::start(move |request| {
        if request.target == "/first" { Reply::ok("first").send(extra) } else { Reply::ok("second") }
    });
    let proxy = start(subject, &upstream);
    assert_eq!(proxy.client().get("/first").text(), "first");
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    assert_eq!(proxy.client().get("/second").text(), "second");
    assert_eq!(upstream.connections(), 2);
}

const RETRY: &str = "    retry_policy:\n      num_retries: 3\n      retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}\n      ";

fn retry_on_connect_failure(subject: &Subject) {
    let (nobody, upstream) = (Refused::new(), Upstream::fixed("x"));
    let route = format!("{RETRY}retry_on: connect-failure\n");
    let proxy = routed(subject, &[nobody.address(), upstream.address()], &route, "");
    let mut client = proxy.client();
    for n in 0..6 {
        let case = n.to_string();
        assert_eq!(client.get_with("/", &[("x-case", &case)]).status, 200);
        let line = proxy.log().case(&case);
        assert!(matches!(line.get("attempts"), "1" | "2" | "3"), "{line:?}");
    }
    assert_eq!(upstream.requests().len(), 6);
    assert!(proxy.stat("cluster.up.upstream_rq_retry").is_some_and(|n| n > 0));
}

/// Answers 503 until the `n`th request.
fn failing_until(n: usize) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::start(move |request| {
        if count.fetch_add(1, Ordering::SeqCst) + 1 < n {
            Reply::status(503)
        } else {
            Reply::bytes(200, &request.body)
        }
    })
}

fn retry_on_5xx(subject: &Subject) {
    let upstream = failing_until(3);
    let route = format!("{RETRY}retry_on: 5xx\n    timeout: 5s\n");
    let proxy = routed(subject, &[upstream.address()], &route, "");
    assert_eq!(proxy.client().get("/").status, 200);
    let line = proxy.log().line(0);
    assert_eq!((line.verdict(), line.get("attempts")), (("200", "-", "via_upstream"), "3"));
    proxy.wait_stat("cluster.up.upstream_rq_retry", 2);
    proxy.wait_stat("cluster.up.upstream_rq_retry_success", 1);
}

fn retry_on_reset(subject: &Subject) {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 { Reply::reset() } else { Reply::ok("x") }
    });
    let proxy = routed(subject, &[upstream.address()], &format!("{RETRY}retry_on: reset\n"), "");
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!(proxy.log().line(0).get("attempts"), "2");
}

fn no_retry_without_a_policy(subject: &Subject) {
    let upstream = failing_until(2);
    let proxy = start(subject, &upstream);
    assert_eq!(proxy.client().get("/").status, 503);
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(proxy.log().line(0).verdict(), ("503", "-", "via_upstream"));
}

/// `rate_limited_retry_back_off`: the delay that a response asks for, at the least.
fn retry_when_the_endpoint_says(subject: &Subject) {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::with(503, &[("retry-after", "1")], b""),
        1 => Reply::with(503, &[("retry-after", "400")], b""),
        _ => Reply::ok("x"),
    });
    let limited = "rate_limited_retry_back_off: {reset_headers: [{name: Retry-After, format: SECONDS}]}";
    let route = format!("{RETRY}retry_on: 5xx\n      {limited}\n");
    let proxy = routed(subject, &[upstream.address()], &route, "");
    let began = std::time::Instant::now();
    assert_eq!(proxy.client().get("/").status, 200);
    let took = began.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_millis(2500)).contains(&took), "{took:?}");
    assert_eq!(proxy.stat("cluster.up.upstream_rq_retry_backoff_ratelimited"), Some(1));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_retry_backoff_exponential"), Some(1));
}

fn retries_are_bounded(subject: &Subject) {
    let upstream = failing_until(100);
    let proxy = routed(subject, &[upstream.address()], &format!("{RETRY}retry_on: 5xx\n"), "");
    assert_eq!(proxy.client().get("/").status, 503);
    assert_eq!(upstream.requests().len(), 4);
    let line = proxy.log().line(0);
    assert_eq!((line.verdict(), line.get("attempts")), (("503", "URX", "via_upstream"), "4"));
    proxy.wait_stat("cluster.up.upstream_rq_retry_limit_exceeded", 1);
}

fn retry_keeps_the_body(subject: &Subject) {
    let upstream = failing_until(3);
    let proxy = routed(subject, &[upstream.address()], &format!("{RETRY}retry_on: 5xx\n"), "");
    let body = "the same body".repeat(500);
    let response = proxy.client().exchange("POST", "/", &[], body.as_bytes());
    assert_eq!(seen(&response), (200, body.clone()));
    assert!(upstream.requests().iter().all(|r| r.body == body.as_bytes()));
    upstream.assert_strict();
}

/// Only a peer that `internal_address_config` names may ask for retries.
fn retry_by_request_header(subject: &Subject) {
    let upstream = failing_until(4);
    let hcm = "use_remote_address: true\ninternal_address_config: {cidr_ranges: [{address_prefix: 127.0.0.2, prefix_len: 32}]}";
    let bootstrap = Bootstrap::new().http(Http::to("up").hcm(hcm)).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    let fields = [("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "2")];
    assert_eq!(proxy.client().get_with("/", &fields).status, 503);
    assert_eq!(upstream.requests().len(), 1);
    let mut internal = Client::connect_from("127.0.0.2", proxy.listener("main"));
    assert_eq!(internal.get_with("/", &fields).status, 200);
    assert_eq!(upstream.requests().len(), 4);
    assert!(!upstream.requests()[1].fields.has("x-envoy-retry-on"));
}

fn retriable_status_codes(subject: &Subject) {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 { Reply::status(418) } else { Reply::ok("x") }
    });
    let route = format!("{RETRY}retry_on: retriable-status-codes\n      retriable_status_codes: [418]\n");
    let proxy = routed(subject, &[upstream.address()], &route, "");
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!(upstream.requests().len(), 2);
}

fn per_try_timeout(subject: &Subject) {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 { Reply::hang() } else { Reply::ok("x") }
    });
    let route = format!("{RETRY}retry_on: 5xx\n      per_try_timeout: 0.3s\n");
    let proxy = routed(subject, &[upstream.address()], &route, "");
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!(upstream.connections(), 2);
    assert_eq!(upstream.requests()[1].fields.get("x-envoy-expected-rq-timeout-ms"), Some("300"));
    proxy.wait_stat("cluster.up.upstream_rq_per_try_timeout", 1);
}

fn pending_overflow(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x").after(Duration::from_millis(600)));
    let breakers = "circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 1}]}";
    let proxy = routed(subject, &[upstream.address()], "", breakers);
    let (mut first, mut second) = (proxy.client(), proxy.client());
    first.request("GET", "/", &[("host", "a")], b"");
    proxy.wait_stat("cluster.up.upstream_rq_active", 1);
    second.request("GET", "/", &[("host", "a")], b"");
    proxy.wait_stat("cluster.up.upstream_rq_pending_active", 1);
    let response = proxy.client().get_with("/", &[("x-case", "third")]);
    let text = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
    assert_eq!(seen(&response), (503, text.to_owned()));
    assert_eq!(response.get("x-envoy-overloaded"), Some("true"));
    let line = proxy.log().case("third");
    assert_eq!(line.verdict(), ("503", "UO", "upstream_reset_before_response_started{overflow}"));
    assert_eq!(first.response("GET").map(|r| r.status), Ok(200));
    assert_eq!(second.response("GET").map(|r| r.status), Ok(200));
    proxy.wait_stat("cluster.up.upstream_rq_pending_overflow", 1);
}

fn round_robin_over_endpoints(subject: &Subject) {
    let upstreams: Vec<Upstream> = (0..3).map(|_| Upstream::fixed("x")).collect();
    let endpoints: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let proxy = routed(subject, &endpoints, "", "lb_policy: ROUND_ROBIN");
    let mut client = proxy.client();
    for _ in 0..30 {
        client.get("/");
    }
    let counts: Vec<usize> = upstreams.iter().map(|u| u.requests().len()).collect();
    assert_eq!(counts, [10, 10, 10]);
}

fn sliced_upstream_bytes(subject: &Subject) {
    let upstream = Upstream::start(|request| {
        Reply::chunked(&[("x-echo", "1")], &request.body.chunks(100).collect::<Vec<_>>(), &[])
    });
    let slow = Plan { slice: 7, ..Plan::default() };
    let chaos = Chaos::start(upstream.address(), 4, move |rng, _| {
        let fault = rng.one_in(4).then(|| (rng.between(0, 3000), Fault::Reset));
        (slow.clone(), Plan { fault, ..slow.clone() })
    });
    let proxy = Proxy::start(subject, &Bootstrap::forward(chaos.address()));
    let body = "0123456789".repeat(300);
    let mut good = 0;
    for _ in 0..20 {
        let mut client = proxy.client();
        client.request("POST", "/", &[("host", "a")], body.as_bytes());
        match client.response("POST") {
            Ok(response) if response.status == 200 => {
                assert_eq!(response.text(), body);
                good += 1;
            }
            Ok(response) => assert!(matches!(response.status, 502 | 503), "{response:?}"),
            Err(_) => {}
        }
    }
    assert!(good > 0);
    upstream.assert_strict();
}

fn clients_have_connections_of_their_own(subject: &Subject) {
    for (version, options) in [(Version::Http1, String::new()), (Version::Http2, http2_cluster(""))] {
        let origin = Origin::start(version, |_| Answer { status: 200, ..Answer::default() });
        let fields = format!("connection_pool_per_downstream_connection: true\n{options}");
        let proxy = routed(subject, &[origin.address()], "", &fields);
        let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
        for _ in 0..2 {
            for client in &mut clients {
                assert_eq!(client.get("/").status, 200);
            }
        }
        assert_eq!(proxy.stat("cluster.up.upstream_cx_total"), Some(3), "{version:?}");
        clients.pop();
        proxy.wait_stat("http.main.downstream_cx_active", 2);
        // What a client leaves behind is idle, and nobody else's.
        assert_eq!(proxy.client().get("/").status, 200);
        assert_eq!(proxy.stat("cluster.up.upstream_cx_total"), Some(4), "{version:?}");
        assert_eq!(proxy.stat("cluster.up.upstream_cx_active"), Some(4), "{version:?}");
    }
}
