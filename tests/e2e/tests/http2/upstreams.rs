//! HTTP/2 upstreams that refuse, leave, die, lie, or allow little.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::any::{Version, http2_cluster, protocol_options};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::frame::{self, code, setting};
use millrace_support::h2::{Act, Client, Lost, Reply, Upstream, hpack};
use millrace_support::process::Proxy;
use millrace_support::raw;
use millrace_support::subject::Subject;
use millrace_support::wait;

pub(crate) const CASES: &[Case] = &[
    case!(reset_before_the_head),
    case!(reset_behind_the_head),
    case!(refused_stream_is_retried),
    case!(streams_above_the_last_of_a_goaway_are_retried),
    case!(goaway_moves_the_next_request_to_a_new_connection),
    case!(upstream_that_dies_in_the_middle),
    case!(upstream_that_dies_is_retried_on_a_new_connection),
    case!(max_concurrent_streams_of_the_cluster),
    case!(max_concurrent_streams_of_the_upstream),
    case!(circuit_breaker_counts_streams),
    case!(max_requests_per_connection),
    case!(max_connection_duration),
    case!(idle_timeout),
    case!(keepalive_closes_a_dead_connection),
    case!(one_connection_serves_all),
    case!(malformed_responses),
    case!(bodies_of_another_length),
    case!(upstream_that_speaks_http1),
    case!(response_trailers_only),
    case!(informational_flood_is_bounded, not_envoy: "Envoy swallows interim responses without end"),
];

const RETRY: &str = "retry_policy: {num_retries: 3, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}, retry_on: ";

/// A proxy with more fields of the route and of the cluster.
fn routed(subject: &Subject, upstream: &Upstream, route: &str, cluster: &str) -> Proxy {
    let routes = format!("- match: {{prefix: \"/\"}}\n  route: {{cluster: up, timeout: 8s{route}}}\n");
    let bootstrap =
        Bootstrap::new().http(Http::routes(&routes)).cluster("up", &[upstream.address()], cluster);
    Proxy::start(subject, &bootstrap)
}

fn plain(subject: &Subject, upstream: &Upstream) -> Proxy {
    routed(subject, upstream, "", &http2_cluster(""))
}

fn reset_before_the_head(subject: &Subject) {
    let codes = [code::INTERNAL_ERROR, code::CANCEL, code::PROTOCOL_ERROR, code::REFUSED_STREAM];
    let verdicts = [("503", "UR"), ("503", "UR"), ("502", "UPE"), ("503", "UR")];
    let upstream = Upstream::start(move |asked| match asked.get(":path")[1..].parse::<usize>() {
        Ok(n) => Reply::reset(codes[n]),
        Err(_) => Reply::ok("x"),
    });
    let proxy = plain(subject, &upstream);
    let mut client = Client::connect(proxy.listener("main"));
    for (n, verdict) in verdicts.into_iter().enumerate() {
        let case = n.to_string();
        let response =
            client.exchange("GET", &format!("/{n}"), &[("x-case", &case)], b"").expect("a response");
        let line = proxy.log().case(&case);
        assert_eq!((line.get("code"), line.get("flags")), verdict, "code {}", codes[n]);
        assert_eq!(response.status.to_string(), verdict.0);
        assert!(line.get("details").starts_with("upstream_reset_before_response_started{"), "{line:?}");
        assert_eq!(client.get("/x").status, 200);
    }
    assert_eq!(upstream.connections(), 1);
    upstream.assert_strict();
}

fn reset_behind_the_head(subject: &Subject) {
    let upstream = Upstream::start(|_| {
        Reply::default()
            .head(200, &[], false)
            .data(b"part", false)
            .wait(Duration::from_millis(100))
            .act(Act::Reset(2))
    });
    let proxy = plain(subject, &upstream);
    let mut client = Client::connect(proxy.listener("main"));
    let lost = client.exchange("GET", "/", &[("x-case", "two")], b"");
    assert!(matches!(lost, Err(Lost::Reset(_, Some(200)))), "{lost:?}");
    assert_eq!(proxy.log().case("two").get("flags"), "UR");
    assert!(client.is_alive());
    let mut one = proxy.client();
    one.request("GET", "/", &[("host", "a")], b"");
    assert!(one.response("GET").is_err());
}

/// The first attempt of everything is refused. Even a POST may be sent again, since nothing was done about it.
fn refused_stream_is_retried(subject: &Subject) {
    let upstream = Upstream::start(|asked| match asked.get("x-envoy-attempt-count") {
        "1" => Reply::reset(code::REFUSED_STREAM),
        _ => Reply::bytes(200, &asked.body),
    });
    let routes = format!("- match: {{prefix: \"/\"}}\n  route: {{cluster: up, {RETRY}refused-stream}}}}\n");
    let hosts = format!(
        "- name: all\n  domains: [\"*\"]\n  include_request_attempt_count: true\n  routes:\n{}",
        routes.lines().map(|l| format!("  {l}\n")).collect::<String>()
    );
    let bootstrap = Bootstrap::new().http(Http::virtual_hosts(&hosts)).cluster(
        "up",
        &[upstream.address()],
        &http2_cluster(""),
    );
    let proxy = Proxy::start(subject, &bootstrap);
    for version in [Version::Http1, Version::Http2] {
        let text = match version {
            Version::Http1 => proxy.client().exchange("POST", "/", &[], b"body").text(),
            Version::Http2 => {
                let mut client = Client::connect(proxy.listener("main"));
                client.exchange("POST", "/", &[], b"body").expect("a response").text()
            }
        };
        assert_eq!(text, "body", "{version:?}");
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (4, 1));
}

/// Two requests are in flight when GOAWAY names the first: it finishes, and the second goes elsewhere.
fn streams_above_the_last_of_a_goaway_are_retried(subject: &Subject) {
    let script = |asked: &millrace_support::h2::Asked| match (asked.connection, asked.get(":path")) {
        (0, "/first") => Reply::ok("first").after(Duration::from_millis(600)),
        (0, _) => Reply::default().act(Act::Goaway(asked.stream - 2, code::NO_ERROR)),
        _ => Reply::ok("elsewhere"),
    };
    let upstream = Upstream::start(script);
    let proxy =
        routed(subject, &upstream, &format!(", {RETRY}\"reset,refused-stream\"}}"), &http2_cluster(""));
    let mut client = Client::connect(proxy.listener("main"));
    let first = client.head("GET", "/first", &[], true);
    upstream.wait_heads(1);
    let second = client.head("GET", "/second", &[], true);
    assert_eq!(client.response(second).map(|r| r.text()), Ok("elsewhere".into()));
    assert_eq!(client.response(first).map(|r| r.text()), Ok("first".into()));
    assert_eq!(upstream.connections(), 2);
    wait::for_true("the retired connection to end", || upstream.active() == 1);
}

fn goaway_moves_the_next_request_to_a_new_connection(subject: &Subject) {
    let upstream = Upstream::start(|asked| {
        let reply = Reply::default().act(Act::Goaway(0x7fff_ffff, code::NO_ERROR));
        let reply = reply.act(Act::Goaway(asked.stream, code::NO_ERROR)).wait(Duration::from_millis(50));
        Reply([reply.0, Reply::ok("x").0].concat())
    });
    let proxy = plain(subject, &upstream);
    let mut client = Client::connect(proxy.listener("main"));
    for n in 1..=4 {
        assert_eq!(client.get("/").status, 200);
        assert_eq!(upstream.connections(), n);
    }
    wait::for_true("all connections to end", || upstream.active() == 0);
    upstream.assert_strict();
}

/// Ten streams lose their connection: those without a head get 503, the one with a head is reset.
fn upstream_that_dies_in_the_middle(subject: &Subject) {
    let upstream = Upstream::start(|asked| match asked.get(":path") {
        "/part" => Reply::default().head(200, &[], false).data(b"part", false),
        "/die" => Reply::default().act(Act::Abort),
        "/hang" => Reply::hang(),
        _ => Reply::ok("x"),
    });
    let proxy = plain(subject, &upstream);
    let mut client = Client::connect(proxy.listener("main"));
    let part = client.head("GET", "/part", &[], true);
    assert!(client.session().until(|s| s.peek(part).is_some_and(|r| r.body.len() == 4)));
    let hanging: Vec<u32> = (0..8).map(|_| client.head("GET", "/hang", &[], true)).collect();
    upstream.wait_heads(9);
    let die = client.head("GET", "/die", &[], true);
    for id in hanging.into_iter().chain([die]) {
        assert_eq!(client.response(id).map(|r| r.status), Ok(503), "stream {id}");
    }
    let lost = client.response(part);
    assert!(matches!(lost, Err(Lost::Reset(_, Some(200)))), "{lost:?}");
    assert_eq!(client.get("/").status, 200);
    assert_eq!(upstream.connections(), 2);
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    client.assert_strict();
}

fn upstream_that_dies_is_retried_on_a_new_connection(subject: &Subject) {
    let upstream = Upstream::start(|asked| match asked.connection {
        0 => Reply::default().act(Act::Abort),
        _ => Reply::ok("x"),
    });
    let proxy = routed(subject, &upstream, &format!(", {RETRY}reset}}"), &http2_cluster(""));
    let mut client = Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/").status, 200);
    assert_eq!(upstream.connections(), 2);
}

fn slow() -> Upstream {
    Upstream::start(|_| Reply::ok("x").after(Duration::from_millis(200)))
}

/// Sends so many GETs at once and returns their statuses, sorted.
fn burst(client: &mut Client, count: usize) -> Vec<u16> {
    let ids: Vec<u32> = (0..count).map(|_| client.head("GET", "/", &[], true)).collect();
    let mut statuses: Vec<u16> =
        ids.into_iter().map(|id| client.response(id).map_or(0, |response| response.status)).collect();
    statuses.sort_unstable();
    statuses
}

fn max_concurrent_streams_of_the_cluster(subject: &Subject) {
    let upstream = slow();
    let proxy = routed(subject, &upstream, "", &http2_cluster("max_concurrent_streams: 2"));
    let mut client = Client::connect(proxy.listener("main"));
    assert_eq!(burst(&mut client, 6), [200; 6]);
    assert!(upstream.peaks().iter().all(|peak| *peak <= 2), "{:?}", upstream.peaks());
    assert!(upstream.connections() >= 2, "one connection for six requests at a time");
}

fn max_concurrent_streams_of_the_upstream(subject: &Subject) {
    let settings = [(setting::MAX_CONCURRENT_STREAMS, 3)];
    let upstream = Upstream::with(&settings, |_| None, |_| Reply::ok("x").after(Duration::from_millis(100)));
    let proxy = plain(subject, &upstream);
    let mut client = Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/").status, 200);
    for _ in 0..3 {
        assert_eq!(burst(&mut client, 9), [200; 9]);
        assert!(upstream.peaks()[0] <= 3, "{:?}", upstream.peaks());
    }
}

fn circuit_breaker_counts_streams(subject: &Subject) {
    let upstream = slow();
    let breakers = "circuit_breakers: {thresholds: [{max_requests: 2}]}\n";
    let proxy = routed(subject, &upstream, "", &(breakers.to_owned() + &http2_cluster("")));
    let mut client = Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/").status, 200);
    assert_eq!(burst(&mut client, 5), [200, 200, 503, 503, 503]);
    assert_eq!(upstream.requests().len(), 3);
    proxy.log().line(5);
    assert_eq!(proxy.log().lines().iter().filter(|l| l.get("flags") == "UO").count(), 3);
}

fn max_requests_per_connection(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let options = "common_http_protocol_options: {max_requests_per_connection: 2}, explicit_http_config: {http2_protocol_options: {}}";
    let proxy = routed(subject, &upstream, "", &protocol_options(options));
    let mut client = Client::connect(proxy.listener("main"));
    for _ in 0..6 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(upstream.connections(), 3);
    wait::for_true("used up connections to end", || upstream.active() <= 1);
}

fn max_connection_duration(subject: &Subject) {
    let upstream = Upstream::start(|asked| match asked.get(":path") {
        "/slow" => Reply::ok("slow").after(Duration::from_millis(700)),
        _ => Reply::ok("x"),
    });
    let options = "common_http_protocol_options: {max_connection_duration: 0.3s}, explicit_http_config: {http2_protocol_options: {}}";
    let proxy = routed(subject, &upstream, "", &protocol_options(options));
    let mut client = Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/slow").text(), "slow");
    assert_eq!(client.get("/").status, 200);
    assert_eq!(upstream.connections(), 2);
}

fn idle_timeout(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let options = "common_http_protocol_options: {idle_timeout: 0.3s}, explicit_http_config: {http2_protocol_options: {}}";
    let proxy = routed(subject, &upstream, "", &protocol_options(options));
    let mut client = Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/").status, 200);
    wait::for_true("the idle connection to end", || upstream.active() == 0);
    proxy.wait_stat("cluster.up.upstream_cx_idle_timeout", 1);
    assert_eq!(client.get("/").status, 200);
}

/// An upstream that accepts and never says anything does not answer PING either.
fn keepalive_closes_a_dead_connection(subject: &Subject) {
    let dead = millrace_support::tcp::TcpUpstream::start(millrace_support::tcp::Role::Sink);
    let keepalive = http2_cluster("connection_keepalive: {interval: 0.2s, timeout: 0.3s}");
    let routes = "- match: {prefix: \"/\"}\n  route: {cluster: up, timeout: 8s}\n";
    let bootstrap = Bootstrap::new().http(Http::routes(routes)).cluster("up", &[dead.address()], &keepalive);
    let proxy = Proxy::start(subject, &bootstrap);
    let begin = std::time::Instant::now();
    let mut client = Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/").status, 503);
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    proxy.wait_stat("cluster.up.http2.keepalive_timeout", 1);
}

/// Requests of many clients share one connection where one is enough.
fn one_connection_serves_all(subject: &Subject) {
    let upstream = slow();
    let proxy = plain(subject, &upstream);
    assert_eq!(Client::connect(proxy.listener("main")).get("/").status, 200);
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(proxy.listener("main"))).collect();
    let ids: Vec<u32> = clients.iter_mut().map(|c| c.head("GET", "/", &[], true)).collect();
    for (client, id) in clients.iter_mut().zip(ids) {
        assert_eq!(client.response(id).map(|r| r.status), Ok(200));
    }
    assert_eq!(upstream.connections(), 1);
    assert!(upstream.peaks()[0] > 5, "{:?}", upstream.peaks());
}

type Block = &'static [(&'static str, &'static str)];

/// Responses that no client may see; the last column is DATA with END_STREAM.
const MALFORMED: &[(&str, Block, &[u8])] = &[
    ("no status", &[("x", "1")], b"x"),
    ("empty status", &[(":status", "")], b"x"),
    ("status in letters", &[(":status", "abc")], b"x"),
    ("status of two digits", &[(":status", "20")], b"x"),
    ("status twice", &[(":status", "200"), (":status", "200")], b"x"),
    ("a request's pseudo field", &[(":status", "200"), (":path", "/")], b"x"),
    ("a pseudo field behind another", &[("x", "1"), (":status", "200")], b"x"),
    ("an upper-case name", &[(":status", "200"), ("X-Upper", "1")], b"x"),
    ("a space in a name", &[(":status", "200"), ("x y", "1")], b"x"),
    ("CRLF in a value", &[(":status", "200"), ("x", "a\r\nb: c")], b"x"),
    ("NUL in a value", &[(":status", "200"), ("x", "a\0b")], b"x"),
    ("connection", &[(":status", "200"), ("connection", "close")], b"x"),
    ("transfer-encoding", &[(":status", "200"), ("transfer-encoding", "chunked")], b"x"),
    ("length in letters", &[(":status", "200"), ("content-length", "1x")], b"x"),
    ("two lengths", &[(":status", "200"), ("content-length", "1"), ("content-length", "2")], b"x"),
    ("switching protocols", &[(":status", "101")], b"x"),
];

/// Each is answered with an error of ours, and neither client version sees any of it.
fn malformed_responses(subject: &Subject) {
    let upstream = Upstream::start(|asked| match asked.get(":path")[1..].parse::<usize>() {
        Ok(n) => Reply::default().block(MALFORMED[n].1, false).data(MALFORMED[n].2, true),
        Err(_) => Reply::ok("good"),
    });
    let proxy = plain(subject, &upstream);
    let mut client = Client::connect(proxy.listener("main"));
    let mut wrong = Vec::new();
    for (n, (name, ..)) in MALFORMED.iter().enumerate() {
        let response = client.exchange("GET", &format!("/{n}"), &[], b"").map(|r| r.status);
        let one = proxy.client().get(&format!("/{n}")).status;
        if !matches!(response, Ok(502 | 503)) || !matches!(one, 502 | 503) {
            wrong.push(format!("{name}: {response:?} to HTTP/2, {one} to HTTP/1.1"));
        }
        assert_eq!(client.get("/good").text(), "good", "{name}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    client.assert_strict();
    upstream.assert_strict();
}

/// The answer to the preface is not HTTP/2: an error at once instead of waiting.
fn bodies_of_another_length(subject: &Subject) {
    let upstream = Upstream::start(|asked| {
        Reply(Vec::new()).head(200, &[("content-length", &asked.get(":path")[1..])], false).data(b"abc", true)
    });
    let proxy = plain(subject, &upstream);
    let mut client = Client::connect(proxy.listener("main"));
    for length in ["2", "4"] {
        let fields = [("x-case", length)];
        let id = client.request("GET", &format!("/{length}"), &fields, b"");
        assert!(client.response(id).is_err(), "{length}");
        let (code, flags) = ("200", "UPE");
        let details = "upstream_reset_after_response_started{protocol_error}";
        assert_eq!(proxy.log().case(length).verdict(), (code, flags, details));
    }
    assert_eq!(client.get("/3").status, 200);
    proxy.wait_stat("cluster.up.http2.tx_reset", 2);
    for name in ["upstream_cx_protocol_error", "http2.rx_messaging_error"] {
        assert_eq!(proxy.stat(&format!("cluster.up.{name}")).unwrap_or(0), 0, "{name}");
    }
    // Those of requests are no error of the connection either, and count as the client's resets.
    let before = proxy.stat("http.main.downstream_rq_rx_reset").unwrap_or(0);
    let id = client.head("POST", "/3", &[("content-length", "4"), ("x-case", "request")], false);
    client.body(id, b"abc", true);
    assert!(client.response(id).is_err());
    assert_eq!(proxy.log().case("request").verdict(), ("0", "DPE", "http2.remote_reset"));
    proxy.wait_stat("http.main.downstream_rq_rx_reset", before + 1);
    assert_eq!(proxy.stat("http2.rx_messaging_error").unwrap_or(0), 0);
    assert_eq!(client.get("/3").status, 200);
}

fn upstream_that_speaks_http1(subject: &Subject) {
    let upstream = millrace_support::upstream::Upstream::fixed("x");
    let bootstrap = Bootstrap::forward(upstream.address()).yaml();
    assert!(bootstrap.contains("cluster: up"));
    let bootstrap =
        Bootstrap::new().http(Http::to("up")).cluster("up", &[upstream.address()], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = Client::connect(proxy.listener("main"));
    for _ in 0..3 {
        let response = client.get("/");
        assert!(matches!(response.status, 502 | 503), "{}", response.status);
    }
}

fn response_trailers_only(subject: &Subject) {
    let upstream = Upstream::start(|_| {
        Reply::with(
            200,
            &[("content-type", "application/grpc"), ("grpc-status", "5"), ("grpc-message", "gone")],
            b"",
        )
    });
    let proxy = plain(subject, &upstream);
    let mut client = Client::connect(proxy.listener("main"));
    let id = client.request(
        "POST",
        "/s/m",
        &[("content-type", "application/grpc"), ("te", "trailers")],
        b"\0\0\0\0\0",
    );
    let response = client.response(id).expect("a response");
    assert_eq!((response.get("grpc-status"), response.get("grpc-message")), (Some("5"), Some("gone")));
    assert_eq!((response.body.len(), client.session().received(id).blocks.len()), (0, 1));
}

fn informational_flood_is_bounded(subject: &Subject) {
    let interim = frame::headers(1, &hpack::block(&[(":status", "103"), ("link", "x")]), false);
    let flood = interim.repeat(20_000);
    let upstream = Upstream::start(move |asked| match asked.get(":path") {
        "/flood" => Reply::default().act(Act::Raw(flood.clone())),
        _ => Reply::ok("x"),
    });
    let proxy = plain(subject, &upstream);
    let mut client = raw::Client::connect(proxy.listener("main"));
    client.request("GET", "/flood", &[("host", "a")], b"");
    let response = client.response("GET").expect("a response");
    assert!(matches!(response.status, 502 | 503), "{}", response.status);
    assert!(response.interim.len() < 1000, "{} interim responses", response.interim.len());
}
