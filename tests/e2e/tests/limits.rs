//! Bounds on size and time, and what crossing them looks like on the wire and in the log.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Step, Upstream};

pub(crate) const CASES: &[Case] = &[
    case!(header_section_too_large),
    case!(too_many_fields),
    case!(configured_header_limits),
    case!(long_target),
    case!(response_header_section_too_large),
    case!(request_headers_timeout),
    case!(request_timeout_covers_the_body),
    case!(longest_duration_of_a_stream),
    case!(stream_idle_timeout_before_the_response),
    case!(stream_idle_timeout_within_the_response),
    case!(connection_idle_timeout),
    case!(an_idle_connection_takes_one_more_request),
    case!(max_connection_duration),
    case!(max_requests_per_connection),
    case!(route_timeout),
    case!(route_timeout_after_the_head),
    case!(slow_client_body_is_not_cut_by_the_route_timeout),
    case!(slow_reader_costs_only_itself),
];

fn start(subject: &Subject, upstream: &Upstream, hcm: &str) -> Proxy {
    let http = Http::to("up").hcm(hcm);
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

fn routed(subject: &Subject, upstream: &Upstream, route: &str) -> Proxy {
    let routes = format!("- match: {{prefix: \"/\"}}\n  route: {{cluster: up, {route}}}\n");
    let http = Http::routes(&routes);
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

fn header_section_too_large(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &upstream, "");
    let fits = "a".repeat(59 * 1024);
    assert_eq!(proxy.client().get_with("/", &[("x-big", &fits)]).status, 200);
    let mut client = proxy.client();
    let response = client.get_with("/", &[("x-big", &"a".repeat(61 * 1024))]);
    assert_eq!((response.status, response.closes()), (431, true));
    assert!(matches!(client.end(), End::Closed(_) | End::Reset));
    assert_eq!(proxy.log().line(1).verdict(), ("431", "DPE", "http1.headers_too_large"));
    assert_eq!(upstream.requests().len(), 1);
}

fn too_many_fields(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &upstream, "");
    let fits = vec![("x-n", "1"); 90];
    assert_eq!(proxy.client().get_with("/", &fits).status, 200);
    let response = proxy.client().get_with("/", &vec![("x-n", "1"); 120]);
    assert_eq!((response.status, response.closes()), (431, true));
    assert_eq!(proxy.log().line(1).verdict(), ("431", "DPE", "http1.too_many_headers"));
}

fn configured_header_limits(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let hcm = "max_request_headers_kb: 4\ncommon_http_protocol_options: {max_headers_count: 10}";
    let proxy = start(subject, &upstream, hcm);
    assert_eq!(proxy.client().get_with("/", &[("x-n", "1"); 8]).status, 200);
    assert_eq!(proxy.client().get_with("/", &[("x-n", "1"); 12]).status, 431);
    assert_eq!(proxy.client().get_with("/", &[("x-big", &"a".repeat(5000))]).status, 431);
}

/// Envoy counts the target towards the header section; millrace has a limit of 32 KiB for it besides.
fn long_target(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &upstream, "");
    assert_eq!(proxy.client().get(&format!("/{}", "p".repeat(30_000))).status, 200);
    let response = proxy.client().get(&format!("/{}", "p".repeat(62_000)));
    let expected = if subject.is_envoy() { 431 } else { 414 };
    assert_eq!((response.status, response.closes()), (expected, true));
    assert_eq!(proxy.log().line(1).get("details"), "http1.headers_too_large");
}

fn response_header_section_too_large(subject: &Subject) {
    let big = "b".repeat(300_000);
    let upstream = Upstream::start(move |_| Reply::with(200, &[("x-big", &big)], b"x"));
    let proxy = start(subject, &upstream, "");
    let response = proxy.client().get("/");
    assert_eq!(response.status, 502);
    assert_eq!(proxy.log().line(0).get("flags"), "UPE");
}

fn request_headers_timeout(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &upstream, "request_headers_timeout: 0.3s");
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-unfinish");
    let begin = Instant::now();
    let response = client.response("GET").expect("a response");
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert_eq!((response.status, response.closes()), (408, true));
    assert_eq!(response.text(), "request header timeout");
    assert_eq!(proxy.log().line(0).verdict(), ("408", "-", "request_header_timeout"));
}

fn request_timeout_covers_the_body(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &upstream, "request_timeout: 0.3s");
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
    let response = client.response("POST").expect("a response");
    assert_eq!((response.status, response.text().as_str()), (408, "request timeout"));
    assert_eq!(proxy.log().line(0).verdict(), ("408", "-", "request_overall_timeout"));
}

fn longest_duration_of_a_stream(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::hang());
    let proxy = start(subject, &upstream, "common_http_protocol_options: {max_stream_duration: 0.3s}");
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.text().as_str()), (504, "downstream duration timeout"));
    assert_eq!(proxy.log().line(0).verdict(), ("504", "-", "max_duration_timeout"));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_504").unwrap_or(0), 0);
}

fn stream_idle_timeout_before_the_response(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::hang());
    let proxy = start(subject, &upstream, "stream_idle_timeout: 0.3s");
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.text().as_str()), (504, "stream timeout"));
    assert_eq!(proxy.log().line(0).verdict(), ("504", "SI", "stream_idle_timeout"));
}

fn stream_idle_timeout_within_the_response(subject: &Subject) {
    let upstream =
        Upstream::start(|_| Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").step(Step::Hang));
    let proxy = start(subject, &upstream, "stream_idle_timeout: 0.3s");
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", "a")], b"");
    assert!(client.response("GET").is_err());
    assert_eq!(proxy.log().line(0).verdict(), ("200", "SI", "stream_idle_timeout"));
    assert!(upstream.violations().is_empty());
}

fn an_idle_connection_takes_one_more_request(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &upstream, "common_http_protocol_options: {idle_timeout: 0.2s}");
    let mut client = proxy.client();
    assert!(!client.get("/").closes());
    proxy.wait_stat("http.main.downstream_cx_idle_timeout", 1);
    let last = client.get("/");
    assert_eq!((last.status, last.closes()), (200, true));
    assert_eq!(proxy.stat("http.main.downstream_cx_drain_close"), Some(0));
}

fn connection_idle_timeout(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &upstream, "common_http_protocol_options: {idle_timeout: 0.3s}");
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    let begin = Instant::now();
    assert_eq!(client.end(), End::Closed(Vec::new()));
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    proxy.wait_stat("http.main.downstream_cx_idle_timeout", 1);
}

fn max_connection_duration(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &upstream, "common_http_protocol_options: {max_connection_duration: 0.3s}");
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.end(), End::Closed(Vec::new()));
    proxy.wait_stat("http.main.downstream_cx_max_duration_reached", 1);
}

fn max_requests_per_connection(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &upstream, "common_http_protocol_options: {max_requests_per_connection: 3}");
    let mut client = proxy.client();
    let closing: Vec<bool> = (0..3).map(|_| client.get("/").closes()).collect();
    assert_eq!(closing, [false, false, true]);
    assert_eq!(client.end(), End::Closed(Vec::new()));
}

fn route_timeout(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::hang());
    let proxy = routed(subject, &upstream, "timeout: 0.3s");
    let mut client = proxy.client();
    let response = client.get("/");
    assert_eq!((response.status, response.text().as_str()), (504, "upstream request timeout"));
    assert_eq!(upstream.only_request().fields.get("x-envoy-expected-rq-timeout-ms"), Some("300"));
    assert_eq!(proxy.log().line(0).verdict(), ("504", "UT", "response_timeout"));
    // The upstream connection has an unanswered request: it must not be used again.
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    proxy.wait_stat("cluster.up.upstream_rq_timeout", 1);
}

fn route_timeout_after_the_head(subject: &Subject) {
    let upstream =
        Upstream::start(|_| Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").step(Step::Hang));
    let proxy = routed(subject, &upstream, "timeout: 0.3s");
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", "a")], b"");
    assert!(client.response("GET").is_err());
    assert_eq!(proxy.log().line(0).verdict(), ("200", "UT", "response_timeout"));
}

/// The timer starts when the request is complete.
fn slow_client_body_is_not_cut_by_the_route_timeout(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = routed(subject, &upstream, "timeout: 0.5s");
    let mut client = proxy.client();
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nslow");
    std::thread::sleep(Duration::from_millis(800));
    client.send(b"slow");
    assert_eq!(client.response("POST").map(|r| (r.status, r.text())), Ok((200, "slowslow".to_owned())));
}

fn slow_reader_costs_only_itself(subject: &Subject) {
    let big = "z".repeat(32 << 20);
    let upstream =
        Upstream::start(
            move |request| if request.target == "/big" { Reply::ok(&big) } else { Reply::ok("small") },
        );
    let proxy = start(subject, &upstream, "");
    let mut slow = proxy.client();
    slow.request("GET", "/big", &[("host", "a")], b"");
    std::thread::sleep(Duration::from_millis(300));
    let mut quick = Client::connect(proxy.listener("main"));
    for _ in 0..20 {
        assert_eq!(quick.get("/small").text(), "small");
    }
    let memory = resident(&proxy);
    assert!(memory < 160 << 20, "{memory} octets resident with one slow reader");
    assert_eq!(slow.response("GET").map(|r| r.body.len()), Ok(32 << 20));
}

fn resident(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}
