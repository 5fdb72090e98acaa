//! Start, spread over workers, and end without losing a request.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::ledger::{self, Plan, Running};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::upstream::{Reply, Upstream};
use rustix::process::Signal;

pub(crate) const CASES: &[Case] = &[
    case!(connections_spread_when_balanced_exactly),
    case!(connections_spread_by_default, not_envoy: "Envoy leaves the spread to the kernel's hash"),
    case!(many_workers_serve),
    case!(terminates_when_idle),
    case!(drain_loses_nothing, not_envoy: "Envoy cuts everything at SIGTERM"),
    case!(drain_finishes_a_slow_response, not_envoy: "Envoy cuts everything at SIGTERM"),
    case!(drain_has_an_end, not_envoy: "Envoy cuts everything at SIGTERM"),
    case!(interrupt_drains_too, not_envoy: "Envoy cuts everything at SIGINT"),
    case!(second_signal_ends_at_once, not_envoy: "Envoy ends at the first signal"),
    case!(tcp_connections_drain, not_envoy: "Envoy cuts everything at SIGTERM"),
    case!(access_log_is_complete_after_the_end),
    case!(log_is_reopened_on_sigusr1),
    case!(children_leave_no_file_behind, not_envoy: "counts descriptors of millrace"),
];

const DRAIN: [&str; 4] = ["--concurrency", "2", "--drain-time-s", "5"];
const LONG: Duration = Duration::from_secs(10);

fn spread(subject: &Subject, listener: &str) -> Vec<u64> {
    let upstream = Upstream::fixed("x");
    let bootstrap =
        Bootstrap::new().http(Http::to("up").listener(listener)).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start_with(subject, &bootstrap, &["--concurrency", "2"]);
    let target = proxy.listener("main");
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(target)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    proxy.wait_stat("http.main.downstream_cx_active", 10);
    let name = |n| format!("listener.127.0.0.1_0.worker_{n}.downstream_cx_active");
    (0..2).map(|n| proxy.stat(&name(n)).unwrap_or(0)).collect()
}

fn connections_spread_when_balanced_exactly(subject: &Subject) {
    assert_eq!(spread(subject, "connection_balance_config: {exact_balance: {}}"), [5, 5]);
}

fn connections_spread_by_default(subject: &Subject) {
    assert_eq!(spread(subject, ""), [5, 5]);
}

fn many_workers_serve(subject: &Subject) {
    let upstream = ledger::upstream();
    let bootstrap = Bootstrap::forward(upstream.address());
    let proxy = Proxy::start_with(subject, &bootstrap, &["--concurrency", "4"]);
    let plan = Plan { connections: 32, requests: 20, max_body: 2000, ..Plan::default() };
    let books = ledger::run(proxy.listener("main"), &plan);
    books.assert_all_answered();
    books.assert_exactly_once(&upstream);
    proxy.wait_stat("server.concurrency", 4);
}

fn terminates_when_idle(subject: &Subject) {
    for signal in [Signal::TERM, Signal::INT] {
        let upstream = Upstream::fixed("x");
        let mut proxy = Proxy::start(subject, &Bootstrap::forward(upstream.address()));
        let begin = Instant::now();
        proxy.signal(signal);
        assert_eq!(proxy.wait_exit(LONG).and_then(|s| s.code()), Some(0));
        assert!(begin.elapsed() < Duration::from_secs(3), "{signal:?}: {:?}", begin.elapsed());
    }
}

fn drain_by(subject: &Subject, signal: Signal) {
    let upstream = ledger::upstream();
    let bootstrap = Bootstrap::forward(upstream.address());
    let mut proxy = Proxy::start_with(subject, &bootstrap, &DRAIN);
    let plan = Plan { connections: 12, requests: 100_000, max_body: 30_000, ..Plan::default() };
    let running = Running::start(proxy.listener("main"), &plan);
    upstream.wait_for(200);
    proxy.signal(signal);
    assert_eq!(proxy.wait_exit(LONG).and_then(|s| s.code()), Some(0));
    let books = running.finish();
    books.assert_nothing_lost();
    books.assert_exactly_once(&upstream);
    upstream.assert_strict();
}

fn drain_loses_nothing(subject: &Subject) {
    drain_by(subject, Signal::TERM);
}

fn interrupt_drains_too(subject: &Subject) {
    drain_by(subject, Signal::INT);
}

fn slow_upstream(millis: u64) -> Upstream {
    Upstream::start(move |_| Reply::ok("slow").after(Duration::from_millis(millis)))
}

fn drain_finishes_a_slow_response(subject: &Subject) {
    let upstream = slow_upstream(1000);
    let mut proxy = Proxy::start_with(subject, &Bootstrap::forward(upstream.address()), &DRAIN);
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", "a")], b"");
    proxy.wait_stat("cluster.up.upstream_rq_active", 1);
    proxy.signal(Signal::TERM);
    let response = client.response("GET").expect("the response in flight");
    assert_eq!((response.text().as_str(), response.closes()), ("slow", true));
    assert_eq!(client.end(), End::Closed(Vec::new()));
    assert_eq!(proxy.wait_exit(LONG).and_then(|s| s.code()), Some(0));
}

fn drain_has_an_end(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::hang());
    let arguments = ["--concurrency", "1", "--drain-time-s", "1"];
    let mut proxy = Proxy::start_with(subject, &Bootstrap::forward(upstream.address()), &arguments);
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", "a")], b"");
    proxy.wait_stat("cluster.up.upstream_rq_active", 1);
    let begin = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_exit(LONG).and_then(|s| s.code()), Some(0));
    let took = begin.elapsed();
    assert!((Duration::from_millis(700)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

fn second_signal_ends_at_once(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::hang());
    let arguments = ["--concurrency", "1", "--drain-time-s", "60"];
    let mut proxy = Proxy::start_with(subject, &Bootstrap::forward(upstream.address()), &arguments);
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", "a")], b"");
    proxy.wait_stat("cluster.up.upstream_rq_active", 1);
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit(Duration::from_millis(500)).is_none(), "ended although a request is in flight");
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit(Duration::from_secs(2)).is_some(), "still there after a second signal");
}

fn tcp_connections_drain(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Echo);
    let bootstrap = Bootstrap::new().tcp("main", "cluster: up").cluster("up", &[upstream.address()], "");
    let mut proxy = Proxy::start_with(subject, &bootstrap, &DRAIN);
    let mut client = proxy.client();
    client.send(b"before");
    assert!(client.wire().exact(6, "echo").is_ok());
    proxy.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(200));
    client.send(b"after");
    assert_eq!(client.wire().exact(5, "echo"), Ok(b"after".to_vec()));
    client.finish_sending();
    assert_eq!(client.end(), End::Closed(Vec::new()));
    assert_eq!(proxy.wait_exit(LONG).and_then(|s| s.code()), Some(0));
}

fn access_log_is_complete_after_the_end(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let mut proxy = Proxy::start(subject, &Bootstrap::forward(upstream.address()));
    let mut client = proxy.client();
    for _ in 0..500 {
        client.get("/");
    }
    drop(client);
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit(LONG).is_some());
    assert_eq!(proxy.log().lines().len(), 500);
}

fn log_is_reopened_on_sigusr1(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(subject, &Bootstrap::forward(upstream.address()));
    proxy.client().get("/");
    proxy.log().line(0);
    let (current, rotated) = (proxy.directory().join("access.log"), proxy.directory().join("access.log.1"));
    assert!(std::fs::rename(&current, rotated).is_ok());
    proxy.signal(Signal::USR1);
    // Lines may go to the old file until the new one is there, so requests go on until it has one.
    millrace_support::wait::for_true("a line in a new log file", || {
        proxy.client().get("/");
        std::thread::sleep(Duration::from_millis(50));
        !proxy.log().lines().is_empty()
    });
    assert!(current.exists());
    assert!(!proxy.log().line(0).get("code").is_empty());
}

fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).map_or(0, Iterator::count)
}

fn children_leave_no_file_behind(subject: &Subject) {
    let upstream = Upstream::start(|r| if r.target == "/reset" { Reply::reset() } else { Reply::ok("x") });
    let proxy = Proxy::start(subject, &Bootstrap::forward(upstream.address()));
    assert_eq!(proxy.client().get("/").status, 200);
    proxy.wait_stat("http.main.downstream_cx_active", 0);
    let before = descriptors(&proxy);
    for n in 0..100 {
        let mut client = proxy.client();
        client.request("GET", if n % 3 == 0 { "/reset" } else { "/" }, &[("host", "a")], b"");
        if n % 2 == 0 {
            client.reset();
        } else {
            assert!(client.response("GET").is_ok());
        }
    }
    proxy.wait_stat("http.main.downstream_cx_active", 0);
    millrace_support::wait::for_true("descriptors to be closed", || descriptors(&proxy) <= before + 4);
}
