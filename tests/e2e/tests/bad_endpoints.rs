//! Endpoints at their worst in HTTP/2, names that flap, and retries when everything fails; `bad_upstreams` is the same
//! for HTTP/1.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::dns::{NameServer, Say};
use millrace_support::h2;
use millrace_support::h2::{Act, Reply, Upstream};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream;

pub(crate) const CASES: &[Case] = &[
    case!(well_again_at_once_over_http2),
    case!(a_late_answer_over_http2_is_nobodys),
    case!(lies_about_length),
    case!(lies_about_length_over_http2),
    case!(nothing_is_lost_while_a_name_flaps),
    case!(a_name_that_fails_at_first_is_cured_within_a_second),
    case!(retries_of_endpoints_that_hang_stay_within_their_budget),
    case!(retries_without_a_budget_stay_within_the_breaker),
];

fn routed(subject: &Subject, endpoint: std::net::SocketAddr, route: &str, cluster: &str) -> Proxy {
    let routes = format!("- match: {{prefix: \"/\"}}\n  route: {{cluster: up{route}}}\n");
    Proxy::start(subject, &Bootstrap::new().http(Http::routes(&routes)).cluster("up", &[endpoint], cluster))
}

/// The next requests are served, the first within a second.
#[track_caller]
fn is_well(proxy: &Proxy, client: &mut Client) {
    let began = Instant::now();
    assert_eq!(client.get("/").status, 200);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for _ in 0..5 {
        assert_eq!(proxy.client().get("/").status, 200);
    }
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    proxy.wait_stat("cluster.up.upstream_rq_pending_active", 0);
}

/// What an endpoint does to every request until it is cured, and what the client gets: status, flag, details.
type Ill = (&'static str, fn() -> Reply, (&'static str, &'static str, &'static str));

const ENDED: &str = "upstream_reset_before_response_started{connection_termination}";

const ILLS: &[Ill] = &[
    ("reset", || Reply::reset(2), ("503", "UR", "upstream_reset_before_response_started{remote_reset}")),
    (
        "refused",
        || Reply::reset(7),
        ("503", "UR", "upstream_reset_before_response_started{remote_refused_stream_reset}"),
    ),
    ("close", || Reply::default().act(Act::Close), ("503", "UC", ENDED)),
    ("abort", || Reply::default().act(Act::Abort), ("503", "UC", ENDED)),
    ("hang", Reply::hang, ("504", "UT", "response_timeout")),
    (
        "goaway",
        || Reply::default().act(Act::Goaway(0, 2)).act(Act::Close),
        ("503", "UR", "upstream_reset_before_response_started{remote_refused_stream_reset}"),
    ),
    ("error", || Reply::with(500, &[], b""), ("500", "-", "via_upstream")),
];

fn well_again_at_once_over_http2(subject: &Subject) {
    let mut wrong = Vec::new();
    for (name, ill, verdict) in ILLS {
        let cured = Arc::new(AtomicBool::new(false));
        let state = Arc::clone(&cured);
        let upstream =
            Upstream::start(move |_| if state.load(Ordering::SeqCst) { Reply::ok("well") } else { ill() });
        // Where nothing hangs, time must not decide: machines stand still, too.
        let timeout = if verdict.1 == "UT" { "0.5s" } else { "10s" };
        let route = format!(", timeout: {timeout}");
        let proxy = routed(subject, upstream.address(), &route, &http2_cluster(""));
        let mut client = proxy.client();
        for n in 0..3 {
            client.get("/");
            let line = proxy.log().line(n);
            if line.verdict() != *verdict {
                wrong.push(format!("{name}: {:?}", line.verdict()));
            }
        }
        cured.store(true, Ordering::SeqCst);
        is_well(&proxy, &mut client);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn a_late_answer_over_http2_is_nobodys(subject: &Subject) {
    let asked = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::ok("late").after(Duration::from_millis(600)),
        _ => Reply::ok("fresh"),
    });
    let proxy = routed(subject, upstream.address(), ", timeout: 0.3s", &http2_cluster(""));
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 504);
    assert_eq!(proxy.log().line(0).verdict(), ("504", "UT", "response_timeout"));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(600) {
        assert_eq!(client.get("/").text(), "fresh");
    }
    assert_eq!(upstream.connections(), 1, "a reset does not cost the connection");
}

/// What a client of HTTP/1.1 and one of HTTP/2 see of an answer: its body, or that it is not whole.
fn seen(proxy: &Proxy) -> [Option<String>; 2] {
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", "a")], b"");
    let one = client.response("GET").ok().map(|response| response.text());
    let mut client = h2::Client::connect(proxy.listener("main"));
    let two = client.exchange("GET", "/", &[], b"").ok().map(|response| response.text());
    [one, two]
}

fn lies_about_length(subject: &Subject) {
    // Less than was announced is never taken for the whole.
    let short = upstream::Upstream::start(|_| {
        upstream::Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").then(upstream::Then::Close)
    });
    let proxy = routed(subject, short.address(), "", "");
    assert_eq!(seen(&proxy), [None, None]);
    // More is cut off, with its connection.
    let long = upstream::Upstream::start(|_| {
        upstream::Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhalf and more")
    });
    let proxy = routed(subject, long.address(), "", "");
    assert_eq!(seen(&proxy), [Some("half".to_owned()), Some("half".to_owned())]);
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
}

fn lies_about_length_over_http2(subject: &Subject) {
    for announced in ["10", "2"] {
        let lies = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&lies);
        let upstream = Upstream::start(move |_| match state.load(Ordering::SeqCst) {
            true => Reply::with(200, &[("content-length", announced)], b"half"),
            false => Reply::ok("well"),
        });
        let proxy = routed(subject, upstream.address(), "", &http2_cluster(""));
        for body in seen(&proxy).into_iter().flatten() {
            assert_eq!(body, "", "{announced}: nobody takes it for an answer");
        }
        lies.store(false, Ordering::SeqCst);
        is_well(&proxy, &mut proxy.client());
    }
}

const NAME: &str = "up.test";

/// A cluster whose name is asked for every 50 ms.
fn named(subject: &Subject, server: &NameServer, port: u16) -> Proxy {
    let options =
        ", dns_resolver_options: {no_default_search_domain: true}, query_tries: 1, query_timeout_seconds: 1";
    let cluster = format!(
        "type: STRICT_DNS\ndns_lookup_family: V4_ONLY\ndns_refresh_rate: 0.05s\ndns_failure_refresh_rate: {{base_interval: \
         0.05s, max_interval: 0.1s}}\n{}load_assignment:\n  cluster_name: up\n  endpoints:\n  - lb_endpoints:\n    - endpoint: \
         {{address: {{socket_address: {{address: {NAME}, port_value: {port}}}}}}}\n",
        server.resolver(options)
    );
    Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[], &cluster))
}

/// An endpoint on every address of 127.0.0.0/8.
fn everywhere() -> u16 {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                    // A client that is gone needs no answer.
                    _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
            });
        }
    });
    port
}

fn nothing_is_lost_while_a_name_flaps(subject: &Subject) {
    let server = NameServer::start();
    server.set_addresses(NAME, &["127.0.0.1"]);
    let proxy = named(subject, &server, everywhere());
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    let changes = || proxy.stat("cluster.up.membership_change").unwrap_or(0);
    let failures = || proxy.stat("cluster.up.update_failure").unwrap_or(0);
    for round in 0..6_u8 {
        let (change, failed) = (changes(), failures());
        let flap = match round % 3 {
            0 => Say::Addresses(vec![[127, 0, 1, round + 1].into(), [127, 0, 2, round + 1].into()], 60),
            1 => Say::Failure,
            _ => Say::Addresses(vec![[127, 0, 3, round + 1].into()], 60),
        };
        let fails = matches!(flap, Say::Failure);
        server.set(NAME, flap);
        let began = Instant::now();
        while if fails { failures() == failed } else { changes() == change } {
            assert_eq!(client.get("/").status, 200, "round {round}");
            assert!(began.elapsed() < Duration::from_secs(10), "round {round} is never noticed");
        }
        for _ in 0..20 {
            assert_eq!(client.get("/").status, 200, "round {round}");
        }
    }
    assert_eq!(proxy.stat("http.main.downstream_rq_5xx"), Some(0));
}

fn a_name_that_fails_at_first_is_cured_within_a_second(subject: &Subject) {
    let server = NameServer::start();
    server.set(NAME, Say::Failure);
    let proxy = named(subject, &server, everywhere());
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 503);
    assert_eq!(proxy.log().line(0).verdict(), ("503", "UH", "no_healthy_upstream"));
    server.set_addresses(NAME, &["127.0.0.1"]);
    let cured = Instant::now();
    while client.get("/").status != 200 {
        assert!(cured.elapsed() < Duration::from_secs(1), "not cured within a second");
    }
}

/// So many requests at once; each status.
fn burst(proxy: &Proxy, count: usize) -> Vec<u16> {
    let clients: Vec<_> = (0..count)
        .map(|_| {
            let mut client = proxy.client();
            std::thread::spawn(move || client.get("/").status)
        })
        .collect();
    clients.into_iter().map(|client| client.join().expect("a client")).collect()
}

fn retries_of_endpoints_that_hang_stay_within_their_budget(subject: &Subject) {
    let upstream = upstream::Upstream::start(|_| upstream::Reply::hang());
    let budget = "circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 20}, min_retry_concurrency: 2}}]}";
    let retries = ", timeout: 5s, retry_policy: {retry_on: \"5xx\", num_retries: 5, per_try_timeout: 0.2s, \
                   retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}";
    let proxy = routed(subject, upstream.address(), retries, budget);
    let statuses = burst(&proxy, 40);
    assert!(statuses.iter().all(|status| *status == 504), "{statuses:?}");
    // A fifth of those under way, and fewer are under way each time.
    let tries = upstream.requests().len();
    assert!((41..=90).contains(&tries), "{tries} tries of 40 requests; without a budget 240");
    assert!(proxy.stat("cluster.up.upstream_rq_retry_overflow") > Some(20));
}

fn retries_without_a_budget_stay_within_the_breaker(subject: &Subject) {
    let upstream = upstream::Upstream::start(|_| upstream::Reply::hang());
    let retries = ", timeout: 5s, retry_policy: {retry_on: \"5xx\", num_retries: 5, per_try_timeout: 0.2s, \
                   retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}";
    let proxy = routed(subject, upstream.address(), retries, "");
    let statuses = burst(&proxy, 40);
    assert!(statuses.iter().all(|status| *status == 504), "{statuses:?}");
    // Three at a time (`max_retries`), five times.
    let tries = upstream.requests().len();
    assert!((41..=60).contains(&tries), "{tries} tries of 40 requests");
    assert!(proxy.stat("cluster.up.upstream_rq_retry_overflow") >= Some(20));
}
