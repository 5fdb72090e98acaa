//! Messages pass unchanged: framing, connections, methods and statuses.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::ledger::{self, Plan};
use millrace_support::message::Framing;
use millrace_support::process::Proxy;
use millrace_support::raw::{self, Client, End};
use millrace_support::rng::Rng;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

pub(crate) const CASES: &[Case] = &[
    case!(one_request),
    case!(keep_alive_uses_one_upstream_connection),
    case!(connection_close_is_honoured),
    case!(pipelined_requests_are_answered_in_order),
    case!(a_request_in_single_bytes),
    case!(bodies_by_length),
    case!(chunked_request_body),
    case!(chunked_response_body),
    case!(response_until_close_becomes_chunked),
    case!(empty_chunked_request),
    case!(head_response_has_no_body),
    case!(statuses_without_body),
    case!(methods_pass),
    case!(large_bodies_both_ways),
    case!(ledger_over_many_connections),
    case!(http_1_0_is_refused_by_default),
    case!(http_1_0_when_accepted),
    case!(http_1_0_keep_alive),
    case!(trailers_are_dropped_by_default),
    case!(trailers_pass_when_enabled),
    case!(client_half_close_cancels_the_request),
    case!(idle_connection_closed_by_the_client_costs_nothing),
    case!(absolute_form_target),
];

fn forward(subject: &Subject, upstream: &Upstream) -> Proxy {
    Proxy::start(subject, &Bootstrap::forward(upstream.address()))
}

fn one_request(subject: &Subject) {
    let upstream = Upstream::fixed("hello");
    let proxy = forward(subject, &upstream);
    let response = proxy.client().get("/a/b?c=d");
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(response.framing, Framing::Length(5));
    let request = upstream.only_request();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/a/b?c=d"));
    assert_eq!(request.fields.get("host"), Some("test.local"));
    assert_eq!(proxy.log().line(0).verdict(), ("200", "-", "via_upstream"));
    upstream.assert_strict();
}

fn keep_alive_uses_one_upstream_connection(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    for _ in 0..5 {
        let response = client.get("/");
        assert_eq!((response.status, response.closes()), (200, false));
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (5, 1));
    proxy.wait_stat("http.main.downstream_cx_total", 1);
    proxy.wait_stat("http.main.downstream_rq_total", 5);
    proxy.wait_stat("cluster.up.upstream_cx_total", 1);
    proxy.wait_stat("cluster.up.upstream_rq_200", 5);
}

fn connection_close_is_honoured(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    let response = client.get_with("/", &[("connection", "close")]);
    assert!(response.closes());
    assert_eq!(client.end(), End::Closed(Vec::new()));
    // The upstream connection is the proxy's own matter and stays.
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!(upstream.connections(), 1);
    assert!(!upstream.requests()[0].fields.has("connection"));
}

fn pipelined_requests_are_answered_in_order(subject: &Subject) {
    let upstream = Upstream::start(|request| Reply::ok(&request.target));
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    let targets: Vec<String> = (0..20).map(|n| format!("/{n}")).collect();
    let all: Vec<u8> = targets.iter().flat_map(|t| raw::encode("GET", t, &[("host", "a")], b"")).collect();
    client.send(&all);
    for target in &targets {
        assert_eq!(client.response("GET").map(|r| r.text()), Ok(target.clone()));
    }
    upstream.assert_strict();
}

fn a_request_in_single_bytes(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    for byte in raw::encode_chunked("POST", "/slow", &[("host", "a")], &[b"one", b"two"], &[]) {
        client.send(&[byte]);
        std::thread::sleep(Duration::from_micros(300));
    }
    assert_eq!(client.response("POST").map(|r| r.text()), Ok("onetwo".to_owned()));
    upstream.assert_strict();
}

fn bodies_by_length(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    for len in [1, 100, 16 * 1024 - 1, 16 * 1024, 65_536, 300_001] {
        let body = Rng::new(len as u64).bytes(len);
        let response = client.exchange("POST", "/", &[], &body);
        assert_eq!(response.framing, Framing::Length(len as u64));
        assert!(response.body == body, "body of {len} octets changed");
    }
    assert!(upstream.requests().iter().all(|r| matches!(r.framing, Framing::Length(_))));
    upstream.assert_strict();
}

fn chunked_request_body(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = forward(subject, &upstream);
    let body = Rng::new(5).bytes(100_000);
    let pieces: Vec<&[u8]> = body.chunks(777).collect();
    let mut client = proxy.client();
    client.send(&raw::encode_chunked("PUT", "/", &[("host", "a")], &pieces, &[]));
    assert!(client.response("PUT").is_ok_and(|r| r.body == body));
    let request = upstream.only_request();
    assert!(matches!(request.framing, Framing::Chunked(_)), "{:?}", request.framing);
    upstream.assert_strict();
}

fn chunked_response_body(subject: &Subject) {
    let body = Rng::new(6).bytes(50_000);
    let sent = body.clone();
    let upstream = Upstream::start(move |_| Reply::chunked(&[], &sent.chunks(999).collect::<Vec<_>>(), &[]));
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    for _ in 0..2 {
        let response = client.get("/");
        assert!(matches!(response.framing, Framing::Chunked(_)));
        assert!(response.body == body);
    }
    assert_eq!(upstream.connections(), 1);
}

fn response_until_close_becomes_chunked(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::until_close(b"the whole body"));
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    for n in 1..=2 {
        let response = client.get("/");
        assert!(matches!(response.framing, Framing::Chunked(_)), "{:?}", response.framing);
        assert_eq!((response.text().as_str(), response.closes()), ("the whole body", false));
        assert_eq!(upstream.connections(), n);
    }
}

fn empty_chunked_request(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    client.send(&raw::encode_chunked("POST", "/", &[("host", "a")], &[], &[]));
    assert_eq!(client.response("POST").map(|r| r.status), Ok(200));
    assert!(upstream.only_request().body.is_empty());
    assert_eq!(client.get("/").status, 200);
    upstream.assert_strict();
}

fn head_response_has_no_body(subject: &Subject) {
    let upstream = Upstream::start(|request| {
        if request.method == "HEAD" {
            Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n")
        } else {
            Reply::ok("after")
        }
    });
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    let head = client.exchange("HEAD", "/", &[], b"");
    assert_eq!((head.status, head.get("content-length")), (200, Some("1234")));
    assert_eq!(client.get("/").text(), "after");
    assert_eq!(upstream.connections(), 1);
}

fn statuses_without_body(subject: &Subject) {
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/204" => Reply::status(204),
        "/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 99\r\n\r\n"),
        _ => Reply::ok("after"),
    });
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    assert_eq!(client.get("/204").status, 204);
    let not_modified = client.get("/304");
    assert_eq!((not_modified.status, not_modified.get("etag")), (304, Some("\"x\"")));
    assert_eq!(client.get("/").text(), "after");
    assert_eq!(upstream.connections(), 1);
}

fn methods_pass(subject: &Subject) {
    let upstream = Upstream::fixed("");
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];
    for method in methods {
        assert_eq!(client.exchange(method, "/", &[], b"").status, 200, "{method}");
    }
    let seen: Vec<String> = upstream.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(seen, methods);
    upstream.assert_strict();
}

fn large_bodies_both_ways(subject: &Subject) {
    let upstream = ledger::upstream();
    let proxy = forward(subject, &upstream);
    let plan = Plan { connections: 2, requests: 4, max_body: 4 << 20, seed: 9, ..Plan::default() };
    let books = ledger::run(proxy.listener("main"), &plan);
    books.assert_all_answered();
    books.assert_exactly_once(&upstream);
    upstream.assert_strict();
}

fn ledger_over_many_connections(subject: &Subject) {
    let upstream = ledger::upstream();
    let bootstrap = Bootstrap::forward(upstream.address());
    let proxy = Proxy::start_with(subject, &bootstrap, &["--concurrency", "2"]);
    let plan = Plan { connections: 16, requests: 40, pipeline: 3, ..Plan::default() };
    let books = ledger::run(proxy.listener("main"), &plan);
    books.assert_all_answered();
    books.assert_exactly_once(&upstream);
    upstream.assert_strict();
    proxy.wait_stat("http.main.downstream_cx_active", 0);
    proxy.wait_stat("http.main.downstream_rq_active", 0);
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    assert_eq!(proxy.stat("cluster.up.upstream_rq_completed"), Some(640));
}

fn http_1_0_is_refused_by_default(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    let response = client.response("GET");
    assert_eq!(response.map(|r| (r.status, r.closes())), Ok((426, true)));
    assert_eq!(client.end(), End::Closed(Vec::new()));
    assert!(upstream.requests().is_empty());
    assert_eq!(proxy.log().line(0).verdict(), ("426", "DPE", "low_version"));
}

fn accepts_http_1_0(subject: &Subject, upstream: &Upstream) -> Proxy {
    let http = Http::to("up")
        .hcm("http_protocol_options: {accept_http_10: true, default_host_for_http_10: old.test}");
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

fn http_1_0_when_accepted(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::chunked(&[], &[b"one", b"two"], &[]));
    let proxy = accepts_http_1_0(subject, &upstream);
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.0\r\n\r\n");
    let response = client.response("GET").expect("a response to HTTP/1.0");
    assert_eq!((response.status, response.text().as_str()), (200, "onetwo"));
    assert_eq!(response.framing, Framing::UntilClose);
    let request = upstream.only_request();
    assert_eq!((request.version.as_str(), request.fields.get("host")), ("HTTP/1.1", Some("old.test")));
    assert_eq!(proxy.log().line(0).get("protocol"), "HTTP/1.0");
    upstream.assert_strict();
}

fn http_1_0_keep_alive(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = accepts_http_1_0(subject, &upstream);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send(b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
        let response = client.response("GET").expect("a response to HTTP/1.0");
        assert_eq!((response.status, response.get("connection")), (200, Some("keep-alive")));
    }
    proxy.wait_stat("http.main.downstream_cx_total", 1);
}

fn send_trailers(proxy: &Proxy) -> millrace_support::message::Response {
    let mut client = proxy.client();
    let trailers = [("x-request-trailer", "1")];
    client.send(&raw::encode_chunked("POST", "/", &[("host", "a")], &[b"body"], &trailers));
    client.response("POST").expect("a response")
}

fn with_trailers() -> Upstream {
    Upstream::start(|_| Reply::chunked(&[], &[b"answer"], &[("x-response-trailer", "2")]))
}

fn trailers_are_dropped_by_default(subject: &Subject) {
    let upstream = with_trailers();
    let proxy = forward(subject, &upstream);
    let response = send_trailers(&proxy);
    assert_eq!(response.text(), "answer");
    assert!(response.trailers.0.is_empty());
    assert!(upstream.only_request().trailers.0.is_empty());
    upstream.assert_strict();
}

fn trailers_pass_when_enabled(subject: &Subject) {
    let upstream = with_trailers();
    let http = Http::to("up").hcm("http_protocol_options: {enable_trailers: true}");
    let options = "typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
                   \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    \
                   explicit_http_config: {http_protocol_options: {enable_trailers: true}}\n";
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], options);
    let proxy = Proxy::start(subject, &bootstrap);
    let response = send_trailers(&proxy);
    assert_eq!(response.trailers.get("x-response-trailer"), Some("2"));
    assert_eq!(upstream.only_request().trailers.get("x-request-trailer"), Some("1"));
    upstream.assert_strict();
}

fn client_half_close_cancels_the_request(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("late").after(Duration::from_millis(500)));
    let proxy = forward(subject, &upstream);
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", "a")], b"");
    upstream_has_head(&proxy);
    client.finish_sending();
    assert_eq!(client.end(), End::Closed(Vec::new()));
    assert_eq!(proxy.log().line(0).verdict(), ("0", "DC", "downstream_remote_disconnect"));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    assert_eq!(proxy.client().get("/").status, 200);
}

fn upstream_has_head(proxy: &Proxy) {
    proxy.wait_stat("cluster.up.upstream_rq_active", 1);
}

fn idle_connection_closed_by_the_client_costs_nothing(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = forward(subject, &upstream);
    drop(proxy.client());
    let client = proxy.client();
    // A connection that is reset before it is accepted may go uncounted.
    proxy.wait_stat("http.main.downstream_cx_total", 2);
    client.reset();
    let mut after = proxy.client();
    assert_eq!(after.get("/").status, 200);
    drop(after);
    proxy.wait_stat("http.main.downstream_cx_active", 0);
    assert_eq!(proxy.stat("http.main.downstream_cx_total"), Some(3));
}

fn absolute_form_target(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = forward(subject, &upstream);
    let mut client = Client::connect(proxy.listener("main"));
    client.request("GET", "http://real.test:81/p?q=1", &[("host", "other.test")], b"");
    assert_eq!(client.response("GET").map(|r| r.status), Ok(200));
    let request = upstream.only_request();
    assert_eq!(request.target, "/p?q=1");
    assert_eq!(request.fields.get("host"), Some("real.test:81"));
}
