//! Aggregate clusters: the priorities of several clusters as one list.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tcp::Refused;
use millrace_support::upstream::{Reply, Upstream};
use millrace_support::wait;

pub(crate) const CASES: &[Case] = &[
    case!(the_first_member_serves),
    case!(the_second_serves_when_the_first_cannot),
    case!(traffic_spills_over_by_health),
    case!(levels_within_a_member),
    case!(without_members_there_is_no_endpoint),
    case!(retries_go_on_in_the_next_member),
    case!(statistics_belong_to_whom_they_do_in_envoy),
    case!(tcp_connections),
    case!(members_are_checked_as_they_are_without_it),
];

fn aggregate(members: &str) -> String {
    format!(
        "lb_policy: CLUSTER_PROVIDED\ncluster_type: {{name: envoy.clusters.aggregate, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [{members}]}}}}\n"
    )
}

/// A cluster with endpoints: address, priority, status.
fn member(list: &[(SocketAddr, u32, &str)]) -> String {
    let mut out = "load_assignment:\n  cluster_name: x\n  endpoints:\n".to_owned();
    for (address, priority, health) in list {
        let (ip, port) = (address.ip(), address.port());
        out.push_str(&format!(
            "  - {{priority: {priority}, lb_endpoints: [{{health_status: {health}, endpoint: {{address: {{socket_address: \
             {{address: {ip}, port_value: {port}}}}}}}}}]}}\n"
        ));
    }
    out
}

fn start(subject: &Subject, http: Http, members: &[(&str, String)]) -> Proxy {
    let mut bootstrap = Bootstrap::new().http(http).cluster("up", &[], &aggregate("a, missing, b"));
    for (name, text) in members {
        bootstrap = bootstrap.cluster(name, &[], text);
    }
    Proxy::start(subject, &bootstrap)
}

/// How many of 200 requests each upstream got.
fn counts(proxy: &Proxy, upstreams: &[&Upstream]) -> Vec<usize> {
    let mut client = proxy.client();
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 200);
    }
    upstreams.iter().map(|upstream| upstream.requests().len()).collect()
}

fn the_first_member_serves(subject: &Subject) {
    let (a, b) = (Upstream::fixed("a"), Upstream::fixed("b"));
    let one = |upstream: &Upstream| member(&[(upstream.address(), 0, "HEALTHY")]);
    let proxy = start(subject, Http::to("up"), &[("a", one(&a)), ("b", one(&b))]);
    assert_eq!(counts(&proxy, &[&a, &b]), [200, 0]);
}

fn the_second_serves_when_the_first_cannot(subject: &Subject) {
    let (a, b) = (Upstream::fixed("a"), Upstream::fixed("b"));
    let first = member(&[(a.address(), 0, "UNHEALTHY")]);
    let second = member(&[(b.address(), 0, "HEALTHY")]);
    let proxy = start(subject, Http::to("up"), &[("a", first), ("b", second)]);
    assert_eq!(counts(&proxy, &[&a, &b]), [0, 200]);
}

fn traffic_spills_over_by_health(subject: &Subject) {
    let upstreams: Vec<_> = (0..3).map(|_| Upstream::fixed("x")).collect();
    // Half of two: 70 % stay.
    let first = member(&[(upstreams[0].address(), 0, "HEALTHY"), (upstreams[1].address(), 0, "UNHEALTHY")]);
    let second = member(&[(upstreams[2].address(), 0, "HEALTHY")]);
    let proxy = start(subject, Http::to("up"), &[("a", first), ("b", second)]);
    let got = counts(&proxy, &[&upstreams[0], &upstreams[1], &upstreams[2]]);
    // Far beyond five standard deviations of 140.
    assert!((105..=175).contains(&got[0]) && got[1] == 0, "{got:?}");
}

fn members_are_checked_as_they_are_without_it(subject: &Subject) {
    let ill = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&ill);
    let a = Upstream::start(move |request| match request.target.as_str() {
        "/hc" if state.load(Ordering::Relaxed) => Reply::status(503),
        _ => Reply::ok("a"),
    });
    let b = Upstream::fixed("b");
    let check = "health_checks: [{timeout: 1s, interval: 0.05s, no_traffic_interval: 0.05s, unhealthy_threshold: 1, \
                 healthy_threshold: 1, http_health_check: {path: /hc}}]\n";
    let first = format!("{check}{}", member(&[(a.address(), 0, "HEALTHY")]));
    let second = member(&[(b.address(), 0, "HEALTHY")]);
    let proxy = start(subject, Http::to("up"), &[("a", first), ("b", second)]);
    let mut client = proxy.client();
    for (is_ill, body) in [(false, "a"), (true, "b"), (false, "a")] {
        ill.store(is_ill, Ordering::Relaxed);
        wait::for_true(body, || client.get("/").text() == body);
    }
    assert!(proxy.stat("cluster.a.health_check.failure") > Some(0));
}

fn levels_within_a_member(subject: &Subject) {
    let upstreams: Vec<_> = (0..3).map(|_| Upstream::fixed("x")).collect();
    let first = member(&[(upstreams[0].address(), 0, "UNHEALTHY"), (upstreams[1].address(), 1, "HEALTHY")]);
    let second = member(&[(upstreams[2].address(), 0, "HEALTHY")]);
    let proxy = start(subject, Http::to("up"), &[("a", first), ("b", second)]);
    assert_eq!(counts(&proxy, &[&upstreams[0], &upstreams[1], &upstreams[2]]), [0, 200, 0]);
}

fn without_members_there_is_no_endpoint(subject: &Subject) {
    let proxy = start(subject, Http::to("up"), &[("b", "load_assignment: {cluster_name: b}".to_owned())]);
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.text().as_str()), (503, "no healthy upstream"));
    assert_eq!(proxy.log().line(0).get("flags"), "UH");
    proxy.wait_stat("cluster.up.upstream_cx_none_healthy", 1);
}

fn retries_go_on_in_the_next_member(subject: &Subject) {
    let (gone, b) = (Refused::new(), Upstream::fixed("b"));
    let first = member(&[(gone.address(), 0, "HEALTHY")]);
    let detection = "outlier_detection: {consecutive_local_origin_failure: 1, split_external_local_origin_errors: true, \
                     max_ejection_percent: 100}\n";
    let second = member(&[(b.address(), 0, "HEALTHY")]);
    let routes = "- match: {prefix: \"/\"}\n  route: {cluster: up, retry_policy: {retry_on: connect-failure, num_retries: 9, \
                  retry_back_off: {base_interval: 0.3s, max_interval: 0.6s}}}\n";
    let proxy = start(subject, Http::routes(routes), &[("a", first + detection), ("b", second)]);
    assert_eq!(proxy.client().get("/").text(), "b");
    proxy.wait_stat("cluster.a.outlier_detection.ejections_active", 1);
    proxy.wait_stat("cluster.b.upstream_rq_total", 1);
}

fn statistics_belong_to_whom_they_do_in_envoy(subject: &Subject) {
    let a = Upstream::start(|request| match request.fields.get("x-fail") {
        Some(_) => Reply::status(503),
        None => Reply::ok("a"),
    });
    let routes =
        "- match: {prefix: \"/\"}\n  route: {cluster: up, retry_policy: {retry_on: 5xx, num_retries: 2}}\n";
    let first = member(&[(a.address(), 0, "HEALTHY")]);
    let proxy = start(subject, Http::routes(routes), &[("a", first)]);
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.get_with("/", &[("x-fail", "1")]).status, 503);
    for (stat, value) in [
        ("cluster.up.upstream_rq_200", 1),
        ("cluster.up.upstream_rq_503", 1),
        ("cluster.up.upstream_rq_completed", 2),
        ("cluster.up.upstream_rq_retry", 2),
        ("cluster.up.upstream_rq_retry_limit_exceeded", 1),
        ("cluster.up.upstream_rq_total", 0),
        ("cluster.up.upstream_cx_total", 0),
        ("cluster.up.membership_total", 0),
        ("cluster.a.upstream_rq_total", 4),
    ] {
        assert_eq!(proxy.stat(stat), Some(value), "{stat}");
    }
    assert!(proxy.stat("cluster.a.upstream_cx_total").is_some_and(|count| count > 0));
    assert_eq!(proxy.stat("cluster.a.upstream_rq_completed").unwrap_or(0), 0);
    let line = proxy.log().line(0);
    assert_eq!((line.get("cluster"), line.get("host")), ("up", &*a.address().to_string()));
}

fn tcp_connections(subject: &Subject) {
    let (a, b) = (Upstream::fixed("a"), Upstream::fixed("b"));
    let bootstrap = Bootstrap::new()
        .tcp("main", "cluster: up")
        .cluster("up", &[], &aggregate("a, b"))
        .cluster("a", &[], &member(&[(a.address(), 0, "UNHEALTHY")]))
        .cluster("b", &[], &member(&[(b.address(), 0, "HEALTHY")]));
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(proxy.client().get("/").text(), "b");
    proxy.wait_stat("cluster.b.upstream_cx_total", 1);
    assert_eq!(proxy.stat("cluster.up.upstream_cx_total"), Some(0));
    let line = proxy.log().line(0);
    assert_eq!(line.get("cluster"), "up");
}
