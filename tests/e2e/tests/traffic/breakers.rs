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
