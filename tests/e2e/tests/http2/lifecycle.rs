//! How downstream connections and streams of HTTP/2 come to their ends: drain, limits and timeouts.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::frame::{self, code, flag, kind, setting};
use millrace_support::h2::{Client, End, Lost, Reply, Upstream, client, hpack};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use rustix::process::Signal;

pub(crate) const CASES: &[Case] = &[
    case!(drain_announces_twice_and_finishes, not_envoy: "Envoy cuts everything at SIGTERM"),
    case!(drain_closes_idle_connections, not_envoy: "Envoy cuts everything at SIGTERM"),
    case!(drain_takes_streams_until_the_second_goaway, not_envoy: "Envoy cuts everything at SIGTERM"),
    case!(drain_loses_nothing, not_envoy: "Envoy cuts everything at SIGTERM"),
    case!(drain_by_the_admin_endpoint),
    case!(idle_timeout),
    case!(idle_timeout_spares_a_busy_connection),
    case!(max_connection_duration),
    case!(max_requests_per_connection),
    case!(max_concurrent_streams),
    case!(route_timeout),
    case!(route_timeout_of_a_body_in_pieces),
    case!(route_timeout_behind_the_head),
    case!(stream_idle_timeout),
    case!(flush_timeout),
    case!(flush_timeout_does_not_count),
    case!(request_headers_timeout),
    case!(request_timeout),
    case!(max_stream_duration),
    case!(keepalive),
    case!(silent_client_is_closed, not_envoy: "Envoy waits for the idle timeout of an hour"),
    case!(http1_on_an_http2_listener),
    case!(preface_in_pieces),
];

const LONG: Duration = Duration::from_secs(10);
const DRAIN: [&str; 4] = ["--concurrency", "2", "--drain-time-s", "5"];

fn by_path() -> Upstream {
    Upstream::start(|asked| match asked.get(":path") {
        "/hang" => Reply::hang(),
        "/slow" => Reply::ok("slow").after(Duration::from_millis(900)),
        "/long" => Reply::ok(&"x".repeat(4000)),
        "/part" => Reply::default().head(200, &[], false).data(b"part", false),
        _ => Reply::ok("x"),
    })
}

fn bootstrap(upstream: &Upstream, hcm: &str, route: &str) -> Bootstrap {
    let routes = format!("- match: {{prefix: \"/\"}}\n  route: {{cluster: up{route}}}\n");
    let http = Http::routes(&routes).hcm(hcm);
    Bootstrap::new().http(http).cluster("up", &[upstream.address()], &http2_cluster(""))
}

fn started(subject: &Subject, upstream: &Upstream, hcm: &str, route: &str) -> (Proxy, Client) {
    let proxy = Proxy::start(subject, &bootstrap(upstream, hcm, route));
    let mut client = Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/").status, 200);
    (proxy, client)
}

/// First "no more, but I take what is under way", then the last stream that was taken.
fn drain_announces_twice_and_finishes(subject: &Subject) {
    let upstream = by_path();
    let mut proxy = Proxy::start_with(subject, &bootstrap(&upstream, "drain_timeout: 0.2s", ""), &DRAIN);
    let mut client = Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/").status, 200);
    let id = client.head("GET", "/slow", &[], true);
    upstream.wait_heads(2);
    proxy.signal(Signal::TERM);
    assert_eq!(client.response(id).map(|r| r.text()), Ok("slow".into()));
    assert_eq!(client.session().end_within(LONG), Some(End::Closed));
    let goaways = client.session().goaways.clone();
    assert_eq!(goaways.first(), Some(&(0x7fff_ffff, code::NO_ERROR)));
    assert_eq!(goaways.last(), Some(&(id, code::NO_ERROR)));
    assert_eq!(proxy.wait_exit(LONG).and_then(|s| s.code()), Some(0));
    upstream.assert_strict();
}

fn drain_closes_idle_connections(subject: &Subject) {
    let upstream = by_path();
    let mut proxy = Proxy::start_with(subject, &bootstrap(&upstream, "drain_timeout: 0.2s", ""), &DRAIN);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(proxy.listener("main"))).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    proxy.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.session().end_within(LONG), Some(End::Closed));
        assert_eq!(client.session().goaways.last(), Some(&(1, code::NO_ERROR)));
    }
    assert_eq!(proxy.wait_exit(LONG).and_then(|s| s.code()), Some(0));
}

/// A stream that was opened before the client could know of the end is served or refused, never dropped: a client may
/// send it again.
fn drain_takes_streams_until_the_second_goaway(subject: &Subject) {
    let upstream = by_path();
    let mut proxy = Proxy::start_with(subject, &bootstrap(&upstream, "drain_timeout: 0.2s", ""), &DRAIN);
    let mut client = Client::connect(proxy.listener("main"));
    let slow = client.head("GET", "/slow", &[], true);
    upstream.wait_heads(1);
    proxy.signal(Signal::TERM);
    assert!(client.session().until(|s| !s.goaways.is_empty()));
    let late = client.head("GET", "/", &[], true);
    let verdict = client.response(late);
    let last = client.session().goaways.last().map_or(0, |g| g.0);
    let told = matches!(verdict, Ok(_) | Err(Lost::Reset(code::REFUSED_STREAM, _))) || last < late;
    assert!(told, "{verdict:?} with last stream {last}");
    assert_eq!(client.response(slow).map(|r| r.text()), Ok("slow".into()));
    assert_eq!(client.session().end_within(LONG), Some(End::Closed));
    assert_eq!(proxy.wait_exit(LONG).and_then(|s| s.code()), Some(0));
}

/// Keeps five streams in flight until it is told to stop. Returns how many were answered, and those lost although the
/// proxy had not said that it would not take them.
fn busy(target: SocketAddr, name: usize) -> (usize, Vec<String>) {
    let mut client = Client::connect(target);
    let (mut flying, mut answered, mut lost) = (VecDeque::new(), 0, Vec::new());
    loop {
        let open = client.session().goaways.is_empty() && client.session().end.is_none();
        while open && flying.len() < 5 {
            let id = client.head("GET", "/", &[("x-id", &format!("{name}-{answered}"))], true);
            flying.push_back(id);
        }
        let Some(id) = flying.pop_front() else { return (answered, lost) };
        match client.response(id) {
            Ok(response) if response.status == 200 => answered += 1,
            verdict => {
                let last = client.session().goaways.iter().map(|g| g.0).min().unwrap_or(u32::MAX);
                let announced = id > last || matches!(verdict, Err(Lost::Reset(code::REFUSED_STREAM, _)));
                if !announced {
                    lost.push(format!("{name}: stream {id} of last {last}: {verdict:?}"));
                }
            }
        }
        client.session().forget(id);
    }
}

/// A client that obeys GOAWAY loses nothing.
fn drain_loses_nothing(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x").after(Duration::from_millis(3)));
    let mut proxy = Proxy::start_with(subject, &bootstrap(&upstream, "drain_timeout: 0.2s", ""), &DRAIN);
    let target = proxy.listener("main");
    let clients: Vec<_> = (0..8).map(|n| std::thread::spawn(move || busy(target, n))).collect();
    upstream.wait_heads(300);
    proxy.signal(Signal::TERM);
    let books: Vec<_> = clients.into_iter().map(|c| c.join().expect("a client")).collect();
    let lost: Vec<&String> = books.iter().flat_map(|(_, lost)| lost).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(books.iter().map(|(answered, _)| answered).sum::<usize>() >= 300);
    assert_eq!(proxy.wait_exit(LONG).and_then(|s| s.code()), Some(0));
    upstream.assert_strict();
}

fn drain_by_the_admin_endpoint(subject: &Subject) {
    let upstream = by_path();
    let arguments = ["--concurrency", "1", "--drain-time-s", "3", "--drain-strategy", "immediate"];
    let proxy = Proxy::start_with(subject, &bootstrap(&upstream, "drain_timeout: 0.2s", ""), &arguments);
    let mut client = Client::connect(proxy.listener("main"));
    let id = client.head("GET", "/slow", &[], true);
    upstream.wait_heads(1);
    proxy.admin_post("/drain_listeners?graceful&skip_exit");
    assert_eq!(client.response(id).map(|r| r.text()), Ok("slow".into()));
    // Envoy looks whether it drains when it encodes a response.
    assert!(client.session().until(|s| !s.goaways.is_empty()), "no GOAWAY");
    assert_eq!(client.session().end_within(LONG), Some(End::Closed));
    assert_eq!(client.session().goaways.last(), Some(&(id, code::NO_ERROR)));
}

fn idle_timeout(subject: &Subject) {
    let upstream = by_path();
    let hcm = "common_http_protocol_options: {idle_timeout: 0.3s}\ndrain_timeout: 0.1s";
    let (proxy, mut client) = started(subject, &upstream, hcm, "");
    let begin = Instant::now();
    assert_eq!(client.session().end_within(LONG), Some(End::Closed));
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    assert_eq!(client.session().goaways.last(), Some(&(1, code::NO_ERROR)));
    proxy.wait_stat("http.main.downstream_cx_idle_timeout", 1);
    proxy.wait_stat("http2.goaway_sent", 1);
    assert_eq!(proxy.stat("http.main.downstream_cx_drain_close"), Some(0));
}

fn idle_timeout_spares_a_busy_connection(subject: &Subject) {
    let upstream = by_path();
    let hcm = "common_http_protocol_options: {idle_timeout: 0.3s}\ndrain_timeout: 0.1s";
    let (_proxy, mut client) = started(subject, &upstream, hcm, "");
    assert_eq!(client.get("/slow").text(), "slow");
    assert!(client.session().goaways.is_empty());
}

fn max_connection_duration(subject: &Subject) {
    let upstream = by_path();
    let hcm = "common_http_protocol_options: {max_connection_duration: 0.3s}\ndrain_timeout: 0.1s";
    let (proxy, mut client) = started(subject, &upstream, hcm, "");
    let id = client.head("GET", "/slow", &[], true);
    assert_eq!(client.response(id).map(|r| r.text()), Ok("slow".into()));
    assert!(client.session().end_within(LONG).is_some());
    assert_eq!(client.session().goaways.last(), Some(&(id, code::NO_ERROR)));
    proxy.wait_stat("http.main.downstream_cx_max_duration_reached", 1);
}

fn max_requests_per_connection(subject: &Subject) {
    let upstream = by_path();
    let hcm = "common_http_protocol_options: {max_requests_per_connection: 3}\ndrain_timeout: 0.1s";
    let (_proxy, mut client) = started(subject, &upstream, hcm, "");
    assert_eq!(client.get("/").status, 200);
    assert!(client.session().goaways.is_empty());
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.session().end_within(LONG), Some(End::Closed));
    assert_eq!(client.session().goaways.last().map(|g| g.1), Some(code::NO_ERROR));
}

/// What we announce we enforce, stream by stream.
fn max_concurrent_streams(subject: &Subject) {
    let upstream = by_path();
    let (proxy, mut client) =
        started(subject, &upstream, "http2_protocol_options: {max_concurrent_streams: 3}", "");
    assert_eq!(client.session().peer_setting(frame::setting::MAX_CONCURRENT_STREAMS), Some(3));
    let slow: Vec<u32> = (0..3).map(|_| client.head("GET", "/slow", &[], true)).collect();
    upstream.wait_heads(4);
    let above = client.head("GET", "/above", &[], true);
    let verdict = client.response(above);
    let refused = matches!(verdict, Err(Lost::Reset(code::REFUSED_STREAM, None)));
    // Envoy ends the connection.
    if subject.is_envoy() && !refused {
        return;
    }
    assert!(refused, "{verdict:?}");
    for id in slow {
        assert_eq!(client.response(id).map(|r| r.text()), Ok("slow".into()));
    }
    assert_eq!(client.get("/").status, 200);
    assert!(upstream.heads().iter().all(|h| h.get(":path") != "/above"));
    drop(proxy);
}

fn route_timeout(subject: &Subject) {
    let upstream = by_path();
    let (proxy, mut client) = started(subject, &upstream, "", ", timeout: 0.3s");
    let response = client.exchange("GET", "/hang", &[("x-case", "t")], b"").expect("a response");
    assert_eq!((response.status, response.text().as_str()), (504, "upstream request timeout"));
    assert_eq!(proxy.log().case("t").verdict(), ("504", "UT", "response_timeout"));
    // Other than in HTTP/1.1 the upstream connection serves on.
    assert!(!upstream.resets().is_empty() && upstream.active() == 1);
    assert_eq!(client.get("/").status, 200);
    assert_eq!(upstream.connections(), 1);
}

/// The timer starts when the request is complete, whichever of its parts that is and however far the first has come.
fn route_timeout_of_a_body_in_pieces(subject: &Subject) {
    for wait_for_upstream in [false, true] {
        for pieces in 0..3 {
            let upstream = by_path();
            let proxy = Proxy::start(subject, &bootstrap(&upstream, "", ", timeout: 0.3s"));
            let mut client = Client::connect(proxy.listener("main"));
            let id = client.head("POST", "/hang", &[], false);
            if wait_for_upstream {
                upstream.wait_heads(1);
            }
            for _ in 0..pieces {
                client.body(id, b"piece", false);
            }
            client.body(id, b"", true);
            let response = client.response(id);
            let status = response.map(|r| r.status);
            assert_eq!(
                status,
                Ok(504),
                "{pieces} pieces, {wait_for_upstream}: {} complete",
                upstream.requests().len()
            );
        }
    }
}

fn route_timeout_behind_the_head(subject: &Subject) {
    let upstream = by_path();
    let (proxy, mut client) = started(subject, &upstream, "", ", timeout: 0.3s");
    let lost = client.exchange("GET", "/part", &[("x-case", "t")], b"");
    assert!(matches!(lost, Err(Lost::Reset(_, Some(200)))), "{lost:?}");
    assert_eq!(proxy.log().case("t").verdict(), ("200", "UT", "response_timeout"));
    assert_eq!(client.get("/").status, 200);
}

fn stream_idle_timeout(subject: &Subject) {
    let upstream = by_path();
    let (proxy, mut client) = started(subject, &upstream, "stream_idle_timeout: 0.3s", "");
    let response = client.exchange("GET", "/hang", &[("x-case", "one")], b"").expect("a response");
    assert_eq!((response.status, response.text().as_str()), (504, "stream timeout"));
    assert_eq!(proxy.log().case("one").verdict(), ("504", "SI", "stream_idle_timeout"));
    let lost = client.exchange("GET", "/part", &[("x-case", "two")], b"");
    assert!(matches!(lost, Err(Lost::Reset(_, Some(200)))), "{lost:?}");
    assert_eq!(proxy.log().case("two").get("flags"), "SI");
    assert_eq!(client.get("/").status, 200);
}

/// A client that gives no window for the rest of a response that is whole, and then the code that ends it.
fn unread(subject: &Subject, upstream: &Upstream, hcm: &str, route: &str) -> (Proxy, Client, u32) {
    let proxy = Proxy::start(subject, &bootstrap(upstream, hcm, route));
    let mut client = Client::connect_with(proxy.listener("main"), &[(setting::INITIAL_WINDOW_SIZE, 1000)]);
    let id = client.next_id();
    client.session().open(id);
    client.session().hold(id);
    client.session().headers(id, &client::head("GET", "/long", &[("x-case", "f")]), true);
    client.session().until(|s| s.peek(id).is_some_and(|r| r.body.len() == 1000));
    (proxy, client, id)
}

fn flush_timeout(subject: &Subject) {
    let upstream = by_path();
    for (hcm, route) in [
        ("stream_idle_timeout: 9s\nstream_flush_timeout: 0.3s", ""),
        ("stream_idle_timeout: 0.3s", ""),
        ("stream_flush_timeout: 9s", ", flush_timeout: 0.3s"),
        ("stream_flush_timeout: 0.3s", ", idle_timeout: 9s"),
        ("stream_flush_timeout: 0.3s\ncommon_http_protocol_options: {max_stream_duration: 0.1s}", ""),
    ] {
        let (proxy, mut client, id) = unread(subject, &upstream, hcm, route);
        client.session().until(|s| s.peek(id).is_some_and(|r| r.reset.is_some()));
        let reset = client.session().peek(id).and_then(|r| r.reset);
        assert_eq!(reset, Some(code::INTERNAL_ERROR), "{hcm} {route}");
        assert_eq!(proxy.log().case("f").verdict(), ("200", "-", "via_upstream"), "{hcm} {route}");
        assert_eq!(proxy.stat("http2.tx_flush_timeout"), Some(1), "{hcm} {route}");
        assert_eq!(proxy.stat("http.main.downstream_rq_tx_reset").unwrap_or(0), 0);
        assert_eq!(proxy.stat("http.main.downstream_rq_idle_timeout").unwrap_or(0), 0);
    }
}

/// Neither the limits of a stream at work nor one of 0 end a flush: a second stream has met its limit meanwhile.
fn flush_timeout_does_not_count(subject: &Subject) {
    let upstream = by_path();
    for (hcm, route) in [
        ("stream_idle_timeout: 0.3s\nstream_flush_timeout: 0s", ""),
        ("stream_flush_timeout: 9s", ", idle_timeout: 0.3s"),
        ("stream_idle_timeout: 0.3s", ", flush_timeout: 0s"),
    ] {
        let (proxy, mut client, id) = unread(subject, &upstream, hcm, route);
        let lost = client.exchange("GET", "/hang", &[], b"").expect("an answer");
        assert_eq!(lost.status, 504, "{hcm} {route}");
        client.session().grant(id, 10_000);
        let whole = client.response(id).expect("the rest");
        assert_eq!(whole.body.len(), 4000, "{hcm} {route}");
        assert_eq!(proxy.stat("http2.tx_flush_timeout").unwrap_or(0), 0);
    }
}

/// A header block that never ends: the connection cannot go on, since nothing else may come in between.
fn request_headers_timeout(subject: &Subject) {
    let upstream = by_path();
    let (_proxy, mut client) = started(subject, &upstream, "request_headers_timeout: 0.3s", "");
    let id = client.next_id();
    client.session().open(id);
    let block = hpack::block(&client::head("GET", "/", &[]));
    client.session().send(&frame::frame(kind::HEADERS, flag::END_STREAM, id, &block));
    let begin = Instant::now();
    let verdict = client.response(id);
    assert!(begin.elapsed() < Duration::from_secs(3), "{verdict:?} after {:?}", begin.elapsed());
    assert!(!matches!(verdict, Err(Lost::Timeout)), "{verdict:?}");
}

fn request_timeout(subject: &Subject) {
    let upstream = by_path();
    let (proxy, mut client) = started(subject, &upstream, "request_timeout: 0.3s", "");
    let id = client.head("POST", "/", &[("x-case", "t")], false);
    client.body(id, b"half", false);
    let response = client.response(id).expect("a response");
    assert_eq!((response.status, response.text().as_str()), (408, "request timeout"));
    assert_eq!(proxy.log().case("t").verdict(), ("408", "-", "request_overall_timeout"));
    assert_eq!(client.get("/").status, 200);
}

fn max_stream_duration(subject: &Subject) {
    let upstream = by_path();
    let hcm = "common_http_protocol_options: {max_stream_duration: 0.3s}";
    let (_proxy, mut client) = started(subject, &upstream, hcm, "");
    assert_eq!(client.get("/hang").status, 504);
    let lost = client.exchange("GET", "/part", &[], b"");
    assert!(matches!(lost, Err(Lost::Reset(_, Some(200)))), "{lost:?}");
    assert_eq!(client.get("/").status, 200);
}

/// PINGs that are answered keep the connection, those that are not end it.
fn keepalive(subject: &Subject) {
    let upstream = by_path();
    let hcm = "http2_protocol_options: {connection_keepalive: {interval: 0.2s, timeout: 0.3s}}";
    let (proxy, mut client) = started(subject, &upstream, hcm, "");
    assert_eq!(client.session().end_within(Duration::from_millis(1200)), None);
    assert_eq!(client.get("/").status, 200);
    client.session().polite = false;
    assert!(client.session().end_within(LONG).is_some());
    proxy.wait_stat("http2.keepalive_timeout", 1);
}

/// A connection that never says which protocol it speaks.
fn silent_client_is_closed(subject: &Subject) {
    let upstream = by_path();
    let (proxy, _client) = started(subject, &upstream, "request_headers_timeout: 0.3s", "");
    let mut silent = Client::connect_silent(proxy.listener("main"), &[]);
    silent.session().send(&frame::PREFACE[..10]);
    assert!(silent.session().end_within(Duration::from_secs(5)).is_some());
}

fn http1_on_an_http2_listener(subject: &Subject) {
    let upstream = by_path();
    let (proxy, mut client) = started(subject, &upstream, "codec_type: HTTP2", "");
    let mut one = proxy.client();
    one.request("GET", "/", &[("host", "a")], b"");
    assert!(one.response("GET").is_err());
    assert_eq!(client.get("/").status, 200);
    assert_eq!(upstream.requests().len(), 2);
}

fn preface_in_pieces(subject: &Subject) {
    let upstream = by_path();
    let (proxy, _client) = started(subject, &upstream, "", "");
    let mut client = Client::connect_silent(proxy.listener("main"), &[]);
    let id = client.next_id();
    client.session().open(id);
    let head = frame::headers(id, &hpack::block(&client::head("GET", "/", &[])), true);
    for byte in [frame::PREFACE, &frame::settings(&[]), &head].concat() {
        client.session().send(&[byte]);
    }
    assert_eq!(client.response(id).map(|r| r.status), Ok(200));
}
