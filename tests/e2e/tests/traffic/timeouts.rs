//! Every timeout of a request: what the client sees and what the log says. The table of `docs/operations.md`.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::tcp::Blackhole;
use millrace_support::upstream::Upstream;

use super::scripted;

pub(crate) const CASES: &[Case] = &[
    case!(of_routes_and_streams),
    case!(of_the_request),
    case!(of_a_body_that_waits_in_the_pool),
    case!(asked_for_by_the_request),
    case!(of_connections_of_clients),
    case!(of_old_connections),
    case!(of_connections_to_endpoints),
    case!(of_streams_to_endpoints),
];

/// What is sent: a whole request that is answered so, or one whose body never ends.
enum Asked {
    Whole(&'static str),
    Half,
}

use Asked::{Half, Whole};

struct Row {
    name: &'static str,
    route: &'static str,
    hcm: &'static str,
    asked: Asked,
    /// 0: the response had begun, and ends in the middle.
    status: u16,
    text: &'static str,
    verdict: (&'static str, &'static str, &'static str),
    counter: &'static str,
}

const STREAM_IDLE: &str = "http.main.downstream_rq_idle_timeout";
const DURATION: &str = "http.main.downstream_rq_max_duration_reached";
const LATE: &str = "upstream request timeout";

const ROWS: &[Row] = &[
    Row {
        name: "timeout",
        route: "timeout: 0.3s",
        hcm: "",
        asked: Whole("hang"),
        status: 504,
        text: LATE,
        verdict: ("504", "UT", "response_timeout"),
        counter: "cluster.up.upstream_rq_timeout",
    },
    Row {
        name: "timeout behind the head",
        route: "timeout: 0.3s",
        hcm: "",
        asked: Whole("half"),
        status: 0,
        text: "",
        verdict: ("200", "UT", "response_timeout"),
        counter: "cluster.up.upstream_rq_timeout",
    },
    Row {
        name: "idle_timeout of a route",
        route: "timeout: 0s, idle_timeout: 0.3s",
        hcm: "stream_idle_timeout: 9s",
        asked: Whole("hang"),
        status: 504,
        text: "stream timeout",
        verdict: ("504", "SI", "stream_idle_timeout"),
        counter: STREAM_IDLE,
    },
    Row {
        name: "stream_idle_timeout behind the head",
        route: "timeout: 0s",
        hcm: "stream_idle_timeout: 0.3s",
        asked: Whole("half"),
        status: 0,
        text: "",
        verdict: ("200", "SI", "stream_idle_timeout"),
        counter: STREAM_IDLE,
    },
    Row {
        name: "stream_idle_timeout of a request",
        route: "timeout: 0s",
        hcm: "stream_idle_timeout: 0.3s",
        asked: Half,
        status: 408,
        text: "stream timeout",
        verdict: ("408", "SI", "stream_idle_timeout"),
        counter: STREAM_IDLE,
    },
    Row {
        name: "max_stream_duration",
        route: "timeout: 0s",
        hcm: "common_http_protocol_options: {max_stream_duration: 0.3s}",
        asked: Whole("hang"),
        status: 504,
        text: "downstream duration timeout",
        verdict: ("504", "-", "max_duration_timeout"),
        counter: DURATION,
    },
    Row {
        name: "max_stream_duration of a route behind the head",
        route: "max_stream_duration: {max_stream_duration: 0.3s}",
        hcm: "common_http_protocol_options: {max_stream_duration: 9s}",
        asked: Whole("half"),
        status: 0,
        text: "",
        verdict: ("200", "-", "max_duration_timeout"),
        counter: DURATION,
    },
    Row {
        name: "max_stream_duration of a route and a request",
        route: "max_stream_duration: {max_stream_duration: 0.3s}",
        hcm: "",
        asked: Half,
        status: 408,
        text: "downstream duration timeout",
        verdict: ("408", "-", "max_duration_timeout"),
        counter: DURATION,
    },
];

fn proxy(subject: &Subject, upstream: &Upstream, route: &str, hcm: &str, cluster: &str) -> Proxy {
    let routes = super::route("/", &format!("cluster: up, {route}"));
    let http = Http::routes(&routes).hcm(hcm);
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], cluster))
}

fn of_routes_and_streams(subject: &Subject) {
    for row in ROWS {
        let upstream = scripted::upstream();
        let proxy = proxy(subject, &upstream, row.route, row.hcm, "");
        let mut client = proxy.client();
        match row.asked {
            Whole(answers) => {
                client.request("GET", "/", &[("host", "a"), ("x-case", "a"), ("x-answers", answers)], b"");
            }
            Half => client.send(b"POST / HTTP/1.1\r\nhost: a\r\nx-case: a\r\ncontent-length: 5\r\n\r\nab"),
        }
        match (row.status, client.response("GET")) {
            (0, got) => assert!(got.is_err(), "{}", row.name),
            (status, got) => assert_eq!(
                got.map(|r| (r.status, r.text())),
                Ok((status, row.text.to_owned())),
                "{}",
                row.name
            ),
        }
        assert_eq!(proxy.log().case("a").verdict(), row.verdict, "{}", row.name);
        proxy.wait_stat(row.counter, 1);
        proxy.wait_stat("cluster.up.upstream_rq_active", 0);
        proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    }
}

/// `max_stream_duration` of a cluster: of each try, and what an internal client says instead.
fn of_streams_to_endpoints(subject: &Subject) {
    let upstream = scripted::upstream();
    let options = millrace_support::any::protocol_options(
        "common_http_protocol_options: {max_stream_duration: 0.3s}, explicit_http_config: {http_protocol_options: {}}",
    );
    let hcm = "internal_address_config: {cidr_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}";
    let retry = "timeout: 9s, retry_policy: {retry_on: \"reset,refused-stream\", num_retries: 1}";
    let proxy = proxy(subject, &upstream, retry, hcm, &options);
    let details = "upstream_max_stream_duration_reached";
    let asks = |case: &'static str, answers: &'static str, more: &[(&'static str, &'static str)]| {
        let mut client = proxy.client();
        let fields = [&[("host", "a"), ("x-case", case), ("x-answers", answers)], more].concat();
        client.request("GET", "/", &fields, b"");
        client.response("GET").map(|response| (response.status, response.text())).ok()
    };
    let told = |case: &str| {
        let line = proxy.log().case(case);
        let (status, flags, details) = line.verdict();
        format!("{status} {flags} {details}")
    };
    let over = Some((504, "upstream max stream duration reached".to_owned()));
    assert_eq!(asks("a", "hang", &[]), over);
    assert_eq!(told("a"), format!("504 URX,UMSDR {details}"));
    assert_eq!(asks("b", "hang,200", &[]), Some((200, "try 2".into())));
    assert_eq!(asks("c", "half", &[]), None);
    assert_eq!(told("c"), format!("200 UMSDR {details}"));
    // Two for the first, one each for the others.
    proxy.wait_stat("cluster.up.upstream_rq_max_duration_reached", 4);
    assert_eq!(proxy.stat("cluster.up.upstream_rq_504").unwrap_or(0), 0);
    let internal =
        |millis| [("x-forwarded-for", "10.0.0.1"), ("x-envoy-upstream-stream-duration-ms", millis)];
    assert_eq!(asks("d", "200@600", &internal("5000")), Some((200, "try 1".into())));
    assert_eq!(asks("e", "200@600", &internal("0")), Some((200, "try 1".into())));
    let outsider = [("x-envoy-upstream-stream-duration-ms", "5000")];
    assert_eq!(asks("f", "200@900", &outsider), over);
    let fields = upstream.requests().into_iter().map(|request| request.fields);
    assert!(fields.into_iter().all(|fields| !fields.has("x-envoy-upstream-stream-duration-ms")));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
}

fn of_the_request(subject: &Subject) {
    let upstream = scripted::upstream();
    let head = "request_headers_timeout: 0.3s";
    let whole = "request_timeout: 0.3s";
    for (hcm, sent, text, details, counter) in [
        (
            head,
            &b"GET / HTTP/1.1\r\nhost:"[..],
            "request header timeout",
            "request_header_timeout",
            "header_timeout",
        ),
        (
            whole,
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab",
            "request timeout",
            "request_overall_timeout",
            "timeout",
        ),
    ] {
        let proxy = proxy(subject, &upstream, "timeout: 0s", hcm, "");
        let mut client = proxy.client();
        client.send(sent);
        let response = client.response("GET").expect("an answer of the proxy");
        assert_eq!((response.status, response.text(), response.closes()), (408, text.to_owned(), true));
        assert_eq!(proxy.log().line(0).verdict(), ("408", "-", details));
        proxy.wait_stat(&format!("http.main.downstream_rq_{counter}"), 1);
    }
}

/// `x-envoy-upstream-rq-timeout-ms` and its kin, of an internal client.
fn asked_for_by_the_request(subject: &Subject) {
    let upstream = scripted::upstream();
    let hcm = "internal_address_config: {cidr_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}";
    let proxy = proxy(subject, &upstream, "timeout: 9s", hcm, "");
    let limit = ("x-envoy-upstream-rq-timeout-ms", "300");
    let hang = [("x-forwarded-for", "10.0.0.1"), ("x-answers", "hang"), limit];
    let began = Instant::now();
    let response = proxy.client().get_with("/", &[&hang[..], &[("x-case", "a")]].concat());
    assert_eq!((response.status, response.text()), (504, LATE.to_owned()));
    assert!(began.elapsed() < Duration::from_secs(5));
    let other = ("x-envoy-upstream-rq-timeout-alt-response", "1");
    let response = proxy.client().get_with("/", &[&hang[..], &[("x-case", "b"), other]].concat());
    assert_eq!((response.status, response.text()), (204, String::new()));
    assert_eq!(proxy.log().case("b").verdict(), ("204", "UT", "response_timeout"));
    assert_eq!(upstream.requests()[0].fields.get("x-envoy-expected-rq-timeout-ms"), Some("300"));
}

fn of_connections_of_clients(subject: &Subject) {
    let upstream = scripted::upstream();
    let hcm = "common_http_protocol_options: {max_connection_duration: 0.4s}\ndrain_timeout: 0.3s";
    let proxy = proxy(subject, &upstream, "timeout: 0s", hcm, "");
    // A request that is under way is finished, and told that the connection ends.
    let mut busy = proxy.client();
    let response = busy.get_with("/", &[("x-case", "a"), ("x-answers", "200@600")]);
    assert_eq!((response.status, response.closes()), (200, true));
    let mut idle = proxy.client();
    assert_eq!(idle.get("/").status, 200);
    let began = Instant::now();
    idle.end_within(Duration::from_secs(5));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    proxy.wait_stat("http.main.downstream_cx_max_duration_reached", 2);
    proxy.wait_stat("http.main.downstream_cx_active", 0);
}

/// `http1_safe_max_connection_duration` and `max_connection_duration_jitter`.
fn of_old_connections(subject: &Subject) {
    let upstream = scripted::upstream();
    let hcm = "common_http_protocol_options: {max_connection_duration: 0.3s}\nhttp1_safe_max_connection_duration: true";
    let safe = proxy(subject, &upstream, "timeout: 0s", hcm, "");
    let mut client = safe.client();
    assert!(!client.get("/").closes());
    safe.wait_stat("http.main.downstream_cx_max_duration_reached", 1);
    // It waits for a next request, and ends with its answer.
    assert_eq!(safe.stat("http.main.downstream_cx_active"), Some(1));
    let last = client.get("/");
    assert_eq!((last.status, last.closes()), (200, true));
    client.end_within(Duration::from_secs(5));
    let hcm = "common_http_protocol_options: {max_connection_duration: 0.6s, max_connection_duration_jitter: {value: 100}}\n\
               drain_timeout: 0.1s";
    let spread = proxy(subject, &upstream, "timeout: 0s", hcm, "");
    let began = Instant::now();
    let mut clients: Vec<_> = (0..16).map(|_| spread.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    for client in &mut clients {
        client.end_within(Duration::from_secs(5));
    }
    // All within the first third of what may be: 1 in 40 million.
    assert!(began.elapsed() > Duration::from_millis(800), "{:?}", began.elapsed());
    spread.wait_stat("http.main.downstream_cx_max_duration_reached", 16);
}

fn of_connections_to_endpoints(subject: &Subject) {
    let hole = Blackhole::new();
    let routes = super::route("/", "cluster: up");
    let bootstrap = Bootstrap::new().http(Http::routes(&routes)).cluster(
        "up",
        &[hole.address()],
        "connect_timeout: 0.3s",
    );
    let proxy_of_hole = Proxy::start(subject, &bootstrap);
    assert_eq!(proxy_of_hole.client().get("/").status, 503);
    let details = "upstream_reset_before_response_started{connection_timeout}";
    assert_eq!(proxy_of_hole.log().line(0).verdict(), ("503", "UF", details));
    let upstream = scripted::upstream();
    let options = millrace_support::any::protocol_options(
        "common_http_protocol_options: {max_connection_duration: 0.3s}, explicit_http_config: {http_protocol_options: {}}",
    );
    let proxy = proxy(subject, &upstream, "timeout: 0s", "", &options);
    let response = proxy.client().get_with("/", &[("x-case", "a"), ("x-answers", "200@500")]);
    assert_eq!(response.text(), "try 1");
    proxy.wait_stat("cluster.up.upstream_cx_max_duration_reached", 1);
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!(upstream.connections(), 2);
}

/// The body of a request that has no connection yet is read, so that `timeout` runs from its end.
fn of_a_body_that_waits_in_the_pool(subject: &Subject) {
    let upstream = scripted::upstream();
    let routes =
        super::route("/first", "cluster: up, timeout: 0s") + &super::route("/", "cluster: up, timeout: 0.3s");
    let one = "circuit_breakers: {thresholds: [{max_connections: 1}]}";
    let bootstrap = Bootstrap::new().http(Http::routes(&routes)).cluster("up", &[upstream.address()], one);
    let proxy = Proxy::start(subject, &bootstrap);
    let mut first = Client::connect(proxy.listener("main"));
    first.request("GET", "/first", &[("host", "a"), ("x-answers", "hang")], b"");
    proxy.wait_stat("cluster.up.upstream_rq_active", 1);
    let mut second = Client::connect(proxy.listener("main"));
    let body = vec![b'b'; 100_000];
    second.request("POST", "/", &[("host", "a")], &body);
    let response = second.response("POST").expect("an answer before the connection is free");
    assert_eq!((response.status, response.text().as_str()), (504, LATE));
    assert!(!response.closes(), "all of the request was read");
    assert_eq!(proxy.log().line(0).verdict(), ("504", "UT", "response_timeout"));
    assert_eq!(proxy.log().line(0).get("rx"), "100000");
}
