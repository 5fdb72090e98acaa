//! Circuit breakers: of one endpoint, from the runtime, exact over all workers; connections ahead of need.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::route;

pub(crate) const CASES: &[Case] = &[
    case!(connections_to_one_endpoint),
    case!(thresholds_of_the_runtime),
    case!(requests_over_all_workers),
    case!(connections_ahead_of_need),
    case!(connections_for_coming_requests),
    case!(pools_of_all_workers),
    case!(what_remains_of_all_workers),
];

fn slow() -> Upstream {
    Upstream::start(|_| Reply::ok("x").after(Duration::from_millis(400)))
}

fn bootstrap(endpoints: &[&Upstream], cluster: &str) -> Bootstrap {
    let addresses: Vec<_> = endpoints.iter().map(|upstream| upstream.address()).collect();
    let http = Http::routes(&route("/", "cluster: up, timeout: 20s"));
    Bootstrap::new().http(http).cluster("up", &addresses, cluster)
}

/// So many requests at once; the statuses of their answers.
fn at_once(proxy: &Proxy, requests: usize) -> Vec<u16> {
    let mut clients: Vec<Client> = (0..requests).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.request("GET", "/", &[("host", "a")], b""));
    clients.iter_mut().map(|client| client.response("GET").map_or(0, |response| response.status)).collect()
}

fn connections_to_one_endpoint(subject: &Subject) {
    let (first, second) = (slow(), slow());
    let limits = "lb_policy: ROUND_ROBIN\ncircuit_breakers: {per_host_thresholds: [{max_connections: 2}]}";
    let proxy = Proxy::start(subject, &bootstrap(&[&first, &second], limits));
    // Whoever finds no connection waits for one.
    assert_eq!(at_once(&proxy, 10), [200; 10]);
    assert_eq!((first.connections(), second.connections()), (2, 2));
    assert!(proxy.stat("cluster.up.upstream_cx_overflow").is_some_and(|refused| refused > 0));
    assert_eq!(proxy.stat("cluster.up.upstream_cx_active"), Some(4));
}

fn thresholds_of_the_runtime(subject: &Subject) {
    let upstream = slow();
    let values =
        "circuit_breakers.up.default.max_connections: 1, circuit_breakers.up.default.max_pending_requests: 1";
    let runtime = format!("layered_runtime: {{layers: [{{name: s, static_layer: {{{values}}}}}]}}\n");
    let limits = "circuit_breakers: {thresholds: [{max_connections: 9, max_pending_requests: 9}]}";
    let proxy = Proxy::start(subject, &bootstrap(&[&upstream], limits).top(&runtime));
    let (mut first, mut second) = (proxy.client(), proxy.client());
    first.request("GET", "/", &[("host", "a")], b"");
    proxy.wait_stat("cluster.up.upstream_rq_active", 1);
    second.request("GET", "/", &[("host", "a")], b"");
    proxy.wait_stat("cluster.up.upstream_rq_pending_active", 1);
    assert_eq!(at_once(&proxy, 2), [503, 503]);
    assert_eq!(first.response("GET").map(|r| r.status), Ok(200));
    assert_eq!(second.response("GET").map(|r| r.status), Ok(200));
    assert_eq!(upstream.connections(), 1);
    proxy.wait_stat("cluster.up.upstream_rq_pending_overflow", 2);
}

fn requests_over_all_workers(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x").after(Duration::from_millis(1500)));
    let limits = "circuit_breakers: {thresholds: [{max_requests: 5}]}";
    let proxy = Proxy::start_with(subject, &bootstrap(&[&upstream], limits), &["--concurrency", "2"]);
    let statuses = at_once(&proxy, 40);
    let served = statuses.iter().filter(|status| **status == 200).count();
    // Envoy may let one more in while two workers look at the same moment.
    let most = if subject.is_envoy() { 8 } else { 5 };
    assert!((5..=most).contains(&served), "{served} of 40");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    proxy.wait_stat("cluster.up.upstream_rq_active_overflow", (40 - served) as u64);
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
}

fn connections_ahead_of_need(subject: &Subject) {
    let upstream = slow();
    let ahead = "preconnect_policy: {per_upstream_preconnect_ratio: 2.0}";
    let proxy = Proxy::start(subject, &bootstrap(&[&upstream], ahead));
    assert_eq!(at_once(&proxy, 1), [200]);
    proxy.wait_stat("cluster.up.upstream_cx_active", 2);
    // Three more under way: six connections, three of them for those to come.
    assert_eq!(at_once(&proxy, 3), [200; 3]);
    proxy.wait_stat("cluster.up.upstream_cx_active", 6);
    assert_eq!(proxy.stat("cluster.up.upstream_rq_total"), Some(4));
}

fn connections_for_coming_requests(subject: &Subject) {
    let endpoints: Vec<_> = (0..4).map(|_| Upstream::start(|_| Reply::ok("x"))).collect();
    let endpoints: Vec<_> = endpoints.iter().collect();
    let ahead = "lb_policy: ROUND_ROBIN\npreconnect_policy: {predictive_preconnect_ratio: 3.0}";
    let proxy = Proxy::start(subject, &bootstrap(&endpoints, ahead));
    assert_eq!(at_once(&proxy, 1), [200]);
    // Of its own, and three for those to come.
    proxy.wait_stat("cluster.up.upstream_cx_active", 4);
    for _ in 0..3 {
        assert_eq!(at_once(&proxy, 1), [200]);
    }
    assert_eq!(endpoints.iter().map(|endpoint| endpoint.connections()).collect::<Vec<_>>(), [1; 4]);
    assert_eq!(proxy.stat("cluster.up.upstream_cx_total"), Some(4));
}

fn pools_of_all_workers(subject: &Subject) {
    let (first, second) = (slow(), slow());
    let limits = "lb_policy: ROUND_ROBIN\ncircuit_breakers: {thresholds: [{max_connection_pools: 2, track_remaining: true}]}";
    let proxy = Proxy::start_with(subject, &bootstrap(&[&first, &second], limits), &["--concurrency", "2"]);
    let statuses = at_once(&proxy, 24);
    let served = statuses.iter().filter(|status| **status == 200).count();
    let overflows = proxy.stat("cluster.up.upstream_cx_pool_overflow");
    assert!(served > 0 && statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert_eq!(overflows, Some((24 - served) as u64));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_503").unwrap_or(0), (24 - served) as u64);
    assert_eq!(proxy.stat("cluster.up.circuit_breakers.default.cx_pool_open"), Some(1));
    assert_eq!(proxy.stat("cluster.up.circuit_breakers.default.remaining_cx_pools"), Some(0));
}

fn what_remains_of_all_workers(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x").after(Duration::from_millis(1500)));
    let limits =
        "circuit_breakers: {thresholds: [{track_remaining: true, max_connections: 9, max_requests: 7}]}";
    let proxy = Proxy::start_with(subject, &bootstrap(&[&upstream], limits), &["--concurrency", "2"]);
    let remaining = |name: &str| proxy.stat(&format!("cluster.up.circuit_breakers.default.remaining_{name}"));
    let all = ["cx", "rq", "pending", "retries"];
    assert_eq!(all.map(remaining), [Some(9), Some(7), Some(1024), Some(3)]);
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.request("GET", "/", &[("host", "a")], b""));
    proxy.wait_stat("cluster.up.circuit_breakers.default.remaining_rq", 3);
    assert_eq!(all.map(remaining), [Some(5), Some(3), Some(1024), Some(3)]);
    for client in &mut clients {
        assert_eq!(client.response("GET").map(|response| response.status), Ok(200));
    }
    proxy.wait_stat("cluster.up.circuit_breakers.default.remaining_rq", 7);
    assert_eq!(proxy.stat("cluster.up.circuit_breakers.high.remaining_rq"), None);
}
