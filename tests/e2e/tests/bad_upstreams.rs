//! Endpoints at their worst, and then well again: what each looks like, that nothing is lost but what it broke, that
//! retries do not multiply it, and that it is over at once.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::tcp::Refused;
use millrace_support::upstream::{Reply, Step, Then, Upstream};

pub(crate) const CASES: &[Case] = &[
    case!(well_again_at_once),
    case!(refusing_and_then_there),
    case!(a_late_answer_is_nobodys),
    case!(more_than_was_announced),
    case!(an_interim_answer_is_the_begin_of_the_last_one),
    case!(what_no_answer_begins_with_is_refused_before_it_ends),
    case!(all_refuse),
    case!(all_unhealthy),
    case!(a_budget_keeps_retries_few),
    case!(priorities_with_a_gap),
    case!(one_locality_in_two_priorities),
    case!(weights_of_zero_are_refused),
    case!(a_failing_endpoint_costs_its_own_requests_only),
];

/// What an endpoint does to every request until it is cured, and what the client gets: status, flag, details.
type Ill = (&'static str, fn() -> Reply, (&'static str, &'static str, &'static str));

const ILLS: &[Ill] = &[
    ("reset", Reply::reset, ("503", "UC", "upstream_reset_before_response_started{connection_termination}")),
    ("close", Reply::close, ("503", "UC", "upstream_reset_before_response_started{connection_termination}")),
    ("hang", Reply::hang, ("504", "UT", "response_timeout")),
    ("garbage", garbage, ("502", "UPE", "upstream_reset_before_response_started{protocol_error}")),
    ("half a head", half_a_head, ("502", "UPE", "upstream_reset_before_response_started{protocol_error}")),
    ("two lengths", two_lengths, ("502", "UPE", "upstream_reset_before_response_started{protocol_error}")),
    ("error", || Reply::status(500), ("500", "-", "via_upstream")),
];

fn garbage() -> Reply {
    Reply::raw("nonsense\r\n\r\n")
}

fn half_a_head() -> Reply {
    Reply::raw("HTTP/1.1 200 OK\r\nx: ").then(Then::Close)
}

fn two_lengths() -> Reply {
    Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx")
}

fn routed(subject: &Subject, endpoints: &[SocketAddr], route: &str, cluster: &str) -> Proxy {
    let routes = format!("- match: {{prefix: \"/\"}}\n  route: {{cluster: up{route}}}\n");
    let bootstrap = Bootstrap::new().http(Http::routes(&routes)).cluster("up", endpoints, cluster);
    Proxy::start(subject, &bootstrap)
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
}

fn well_again_at_once(subject: &Subject) {
    for (name, ill, verdict) in ILLS {
        let cured = Arc::new(AtomicUsize::new(0));
        let state = Arc::clone(&cured);
        let upstream = Upstream::start(move |_| match state.load(Ordering::SeqCst) {
            0 => ill(),
            _ => Reply::ok("well"),
        });
        // Where nothing hangs, time must not decide: machines stand still, too.
        let timeout = if verdict.1 == "UT" { "0.5s" } else { "10s" };
        let proxy = routed(subject, &[upstream.address()], &format!(", timeout: {timeout}"), "");
        let mut client = proxy.client();
        for n in 0..4 {
            assert_eq!(client.get("/").status.to_string(), verdict.0, "{name}");
            assert_eq!(proxy.log().line(n).verdict(), *verdict, "{name}");
        }
        cured.store(1, Ordering::SeqCst);
        is_well(&proxy, &mut client);
        proxy.wait_stat("cluster.up.upstream_rq_active", 0);
        proxy.wait_stat("cluster.up.upstream_rq_pending_active", 0);
    }
}

fn refusing_and_then_there(subject: &Subject) {
    let nobody = Refused::new();
    let address = nobody.address();
    let proxy = routed(subject, &[address], "", "");
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 503);
    }
    assert_eq!(proxy.log().line(3).get("flags"), "UF");
    drop(nobody);
    let listener = TcpListener::bind(address).expect("the port that was just free");
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                    _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
            });
        }
    });
    is_well(&proxy, &mut client);
}

fn a_late_answer_is_nobodys(subject: &Subject) {
    let asked = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::ok("late").after(Duration::from_millis(700)),
        _ => Reply::ok("fresh"),
    });
    let proxy = routed(subject, &[upstream.address()], ", timeout: 0.3s", "");
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 504);
    assert_eq!(proxy.log().line(0).verdict(), ("504", "UT", "response_timeout"));
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "fresh");
        std::thread::sleep(Duration::from_millis(60));
    }
}

fn more_than_was_announced(subject: &Subject) {
    let upstream =
        Upstream::start(|_| Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and much more"));
    let proxy = routed(subject, &[upstream.address()], "", "");
    let mut client = proxy.client();
    for _ in 0..5 {
        // What is too much goes with its connection; no client sees it.
        assert_eq!(client.get("/").text(), "ok");
        proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    }
    assert_eq!(upstream.connections(), 5);
}

fn an_interim_answer_is_the_begin_of_the_last_one(subject: &Subject) {
    let asked = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::raw("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n").then(Then::Close),
        1 => Reply::raw("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        _ => Reply::close(),
    });
    let retry = ", retry_policy: {retry_on: 5xx, num_retries: 3}";
    let proxy = routed(subject, &[upstream.address()], retry, "");
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 503);
    let late = "upstream_reset_after_response_started{connection_termination}";
    assert_eq!(proxy.log().line(0).verdict(), ("503", "UC", late));
    assert_eq!(upstream.requests().len(), 1, "no other try follows");
    assert_eq!(client.get("/").text(), "ok");
    proxy.wait_stat("cluster.up.upstream_rq_103", 2);
    proxy.wait_stat("cluster.up.upstream_rq_completed", 3);
    assert_eq!(proxy.stat("cluster.up.upstream_rq_503").unwrap_or(0), 0);
    assert_eq!(proxy.stat("cluster.up.upstream_rq_retry").unwrap_or(0), 0);
}

fn what_no_answer_begins_with_is_refused_before_it_ends(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::raw("SSH-2.0-nobody ever ends this line"));
    let proxy = routed(subject, &[upstream.address()], ", timeout: 0s", "");
    assert_eq!(proxy.client().get("/").status, 502);
    let verdict = ("502", "UPE", "upstream_reset_before_response_started{protocol_error}");
    assert_eq!(proxy.log().line(0).verdict(), verdict);
    proxy.wait_stat("cluster.up.upstream_cx_protocol_error", 1);
}

fn all_refuse(subject: &Subject) {
    let nobody: Vec<Refused> = (0..3).map(|_| Refused::new()).collect();
    let endpoints: Vec<SocketAddr> = nobody.iter().map(Refused::address).collect();
    let retries = ", retry_policy: {retry_on: connect-failure, num_retries: 2}";
    let proxy = routed(subject, &endpoints, retries, "");
    assert_eq!(proxy.client().get("/").status, 503);
    assert_eq!(proxy.log().line(0).get("flags"), "URX,UF");
    // One try and two more, no storm.
    proxy.wait_stat("cluster.up.upstream_cx_connect_fail", 3);
    assert_eq!(proxy.stat("cluster.up.upstream_rq_retry"), Some(2));
}

fn all_unhealthy(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let (ip, port) = (upstream.address().ip(), upstream.address().port());
    let endpoint =
        format!("endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}");
    let assignment = format!(
        "load_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{{health_status: UNHEALTHY, {endpoint}}}]}}]}}"
    );
    // Panic serves it all the same, and no panic does not.
    let panicking = routed(subject, &[], "", &assignment);
    assert_eq!(panicking.client().get("/").status, 200);
    assert_eq!(panicking.stat("cluster.up.lb_healthy_panic"), Some(1));
    let never = format!("common_lb_config: {{healthy_panic_threshold: {{value: 0}}}}\n{assignment}");
    let proxy = routed(subject, &[], "", &never);
    assert_eq!(proxy.client().get("/").status, 503);
    assert_eq!(proxy.log().line(0).verdict(), ("503", "UH", "no_healthy_upstream"));
}

/// 40 requests at a time fail, and a tenth of them may be tried again at a time.
fn a_budget_keeps_retries_few(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::status(503).after(Duration::from_millis(100)));
    let budget = "circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 10}, min_retry_concurrency: 1}}]}";
    let retries = ", retry_policy: {retry_on: 5xx, num_retries: 5}";
    let proxy = routed(subject, &[upstream.address()], retries, budget);
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let mut client = proxy.client();
            std::thread::spawn(move || (0..5).filter(|_| client.get("/").status == 503).count())
        })
        .collect();
    let answered: usize = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    assert_eq!(answered, 200, "each request has its answer");
    let tries = upstream.requests().len();
    assert!((201..=300).contains(&tries), "{tries} tries of 200 requests; without a budget 1,200");
    assert!(proxy.stat("cluster.up.upstream_rq_retry_overflow") > Some(100));
}

fn priorities(upstreams: &[(&Upstream, &str)]) -> String {
    let mut out = "load_assignment:\n  cluster_name: up\n  endpoints:\n".to_owned();
    for (upstream, more) in upstreams {
        let (ip, port) = (upstream.address().ip(), upstream.address().port());
        out.push_str(&format!(
            "  - {{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}}}], {more}}}\n"
        ));
    }
    out
}

fn priorities_with_a_gap(subject: &Subject) {
    let upstream = Upstream::fixed("second");
    let proxy = routed(subject, &[], "", &priorities(&[(&upstream, "priority: 2")]));
    for _ in 0..5 {
        assert_eq!(proxy.client().get("/").text(), "second");
    }
}

fn one_locality_in_two_priorities(subject: &Subject) {
    let (first, second) = (Upstream::fixed("first"), Upstream::fixed("second"));
    let place = "locality: {zone: z}, priority:";
    let assignment = priorities(&[(&second, &format!("{place} 1")), (&first, &format!("{place} 0"))]);
    let proxy = routed(subject, &[], "", &assignment);
    for _ in 0..10 {
        assert_eq!(proxy.client().get("/").text(), "first");
    }
}

/// The configuration is refused before anything serves.
fn weights_of_zero_are_refused(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let (ip, port) = (upstream.address().ip(), upstream.address().port());
    let endpoint =
        format!("endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}");
    let endpoints = format!(
        "load_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{{load_balancing_weight: 0, {endpoint}}}]}}]}}"
    );
    let cluster = Bootstrap::new().http(Http::to("up")).cluster("up", &[], &endpoints);
    let weighted =
        "- match: {prefix: \"/\"}\n  route: {weighted_clusters: {clusters: [{name: up, weight: 0}]}}\n";
    let routes = Bootstrap::new().http(Http::routes(weighted)).cluster("up", &[upstream.address()], "");
    for bootstrap in [cluster, routes] {
        let directory = millrace_support::process::Directory::new();
        let config = directory.write("bootstrap.yaml", &bootstrap.yaml());
        let mut command = subject.command();
        command.arg("-c").arg(config).args(["--mode", "validate"]);
        let finished = millrace_support::process::run(command);
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    }
}

/// One of four resets every request; the others serve theirs, and with retries nobody notices.
fn a_failing_endpoint_costs_its_own_requests_only(subject: &Subject) {
    let good: Vec<Upstream> = (0..3).map(|_| Upstream::fixed("good")).collect();
    let bad = Upstream::start(|_| Reply::new().step(Step::Reset));
    let mut endpoints: Vec<SocketAddr> = good.iter().map(Upstream::address).collect();
    endpoints.push(bad.address());
    let plain = routed(subject, &endpoints, "", "");
    let mut client = plain.client();
    let failed = (0..80).filter(|_| client.get("/").status == 503).count();
    assert_eq!(failed, 20, "one in four, in turn");
    let retries = ", retry_policy: {retry_on: \"reset,connect-failure\", num_retries: 2}";
    let retrying = routed(subject, &endpoints, retries, "");
    let mut client = retrying.client();
    assert!((0..80).all(|_| client.get("/").status == 200));
    assert_eq!(
        retrying.stat("cluster.up.upstream_rq_retry_success"),
        retrying.stat("cluster.up.upstream_rq_retry")
    );
}
