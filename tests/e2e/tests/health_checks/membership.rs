//! Who waits for checks, and who leaves because of them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::{TIMES, checked, fields, flags, stat, wait_flags, wait_for_more};
use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::{Directory, Proxy};
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::upstream::Reply;
use millrace_support::wait;

pub(crate) const CASES: &[Case] = &[
    case!(listeners_wait_for_the_first_checks),
    case!(names_are_resolved_and_then_checked),
    case!(an_endpoint_that_passes_stays_when_it_is_removed),
    case!(removed_endpoints_leave_at_once_when_asked),
    case!(a_new_endpoint_waits_for_its_first_check),
    case!(a_new_endpoint_may_be_left_out_until_then),
    case!(idle_connections_to_a_failed_endpoint_are_closed),
    case!(connections_to_a_failed_endpoint_are_closed_when_asked),
    case!(ejection_closes_connections_as_a_failed_check_does),
    case!(a_passed_check_ends_an_ejection),
    case!(many_endpoints_are_all_checked),
];

const HTTP: &str = "http_health_check: {path: /hc}";

fn listeners_wait_for_the_first_checks(subject: &Subject) {
    let (good, hanging) = (Endpoint::new(), Endpoint::answering(Reply::hang()));
    let times = "timeout: 2s, interval: 60s, unhealthy_threshold: 1, healthy_threshold: 1";
    let fields = format!("health_checks: [{{{times}, {HTTP}}}]");
    let bootstrap =
        Bootstrap::new().http(Http::to("up")).cluster("up", &[good.address(), hanging.address()], &fields);
    let proxy = Proxy::start_unready(subject, &bootstrap, &[]);
    wait_flags(&proxy, good.address(), "healthy");
    assert!(!proxy.is_ready());
    assert_eq!(
        (stat(&proxy, "failure"), flags(&proxy, hanging.address())),
        (0, "/failed_active_hc".to_owned())
    );
    proxy.wait_ready();
    assert_eq!(stat(&proxy, "failure"), 1);
    assert_eq!(flags(&proxy, hanging.address()), "/failed_active_hc/active_hc_timeout");
}

fn names_are_resolved_and_then_checked(subject: &Subject) {
    let endpoint = Endpoint::answering(Reply::ok("").after(Duration::from_millis(300)));
    let port = endpoint.address().port();
    let yaml = format!(
        "type: STRICT_DNS\ndns_lookup_family: V4_ONLY\n{}load_assignment:\n  cluster_name: up\n  endpoints:\n  - lb_endpoints:\n    - endpoint:\n        \
         address: {{socket_address: {{address: localhost, port_value: {port}}}}}\n",
        fields(HTTP, "")
    );
    let proxy = Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[], &yaml));
    assert_eq!(flags(&proxy, endpoint.address()), "healthy", "ready once it was checked");
    assert_eq!(proxy.client().get("/").status, 200);
}

fn replace(directory: &Path, name: &str, text: &str) {
    let hidden = directory.join(format!(".{name}.new"));
    std::fs::write(&hidden, text).expect("write a file");
    std::fs::rename(&hidden, directory.join(name)).expect("move a file");
}

/// Says which endpoints there are from now on.
pub(crate) fn discover(directory: &Path, version: u32, endpoints: &[SocketAddr]) {
    assign(directory, version, endpoints, &serde_json::json!({}));
}

/// The same with a `ClusterLoadAssignment.Policy`.
pub(crate) fn assign(directory: &Path, version: u32, endpoints: &[SocketAddr], policy: &serde_json::Value) {
    let one = |endpoint: &SocketAddr| {
        serde_json::json!({"endpoint": {"address": {"socket_address":
            {"address": endpoint.ip().to_string(), "port_value": endpoint.port()}}}})
    };
    let list: Vec<_> = endpoints.iter().map(one).collect();
    let assignment = serde_json::json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": "up",
        "endpoints": [{"lb_endpoints": list}],
        "policy": policy
    });
    let response = serde_json::json!({"version_info": version.to_string(), "resources": [assignment]});
    replace(directory, "eds.json", &response.to_string());
}

/// A proxy whose endpoints come from a file.
fn discovered(subject: &Subject, directory: &Path, endpoints: &[SocketAddr], more: &str) -> Proxy {
    discover(directory, 1, endpoints);
    let source = format!(
        "{{resource_api_version: V3, path_config_source: {{path: \"{}\"}}}}",
        directory.join("eds.json").display()
    );
    let yaml = format!(
        "type: EDS\neds_cluster_config: {{eds_config: {source}}}\nhealth_checks: [{{{TIMES}, {HTTP}}}]\n{more}"
    );
    let node = "node: {id: tested, cluster: tests}";
    Proxy::start(subject, &Bootstrap::new().top(node).http(Http::to("up")).cluster("up", &[], &yaml))
}

fn an_endpoint_that_passes_stays_when_it_is_removed(subject: &Subject) {
    let (stays, leaves) = (Endpoint::new(), Endpoint::new());
    let directory = Directory::new();
    let proxy = discovered(subject, directory.path(), &[stays.address(), leaves.address()], "");
    wait_flags(&proxy, leaves.address(), "healthy");
    discover(directory.path(), 2, &[stays.address()]);
    wait_flags(&proxy, leaves.address(), "/pending_dynamic_removal");
    let (before, mut client) = (leaves.served(), proxy.client());
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(leaves.served() > before, "it still serves");
    proxy.wait_stat("cluster.up.membership_total", 2);
    // It may come back.
    discover(directory.path(), 3, &[stays.address(), leaves.address()]);
    wait_flags(&proxy, leaves.address(), "healthy");
    discover(directory.path(), 4, &[stays.address()]);
    wait_flags(&proxy, leaves.address(), "/pending_dynamic_removal");
    leaves.answer(Reply::status(503));
    wait_flags(&proxy, leaves.address(), "missing");
    proxy.wait_stat("cluster.up.membership_total", 1);
    proxy.wait_stat("cluster.up.health_check.healthy", 1);
}

fn removed_endpoints_leave_at_once_when_asked(subject: &Subject) {
    let (stays, leaves) = (Endpoint::new(), Endpoint::new());
    let directory = Directory::new();
    let endpoints = [stays.address(), leaves.address()];
    let proxy = discovered(subject, directory.path(), &endpoints, "ignore_health_on_host_removal: true\n");
    wait_flags(&proxy, leaves.address(), "healthy");
    discover(directory.path(), 2, &[stays.address()]);
    wait_flags(&proxy, leaves.address(), "missing");
    let checks = leaves.checks().len();
    wait_for_more(&proxy, "success", 4);
    assert!(leaves.checks().len() <= checks + 1);
    assert_eq!(stat(&proxy, "healthy"), 1);
}

fn a_new_endpoint_waits_for_its_first_check(subject: &Subject) {
    let (first, second) = (Endpoint::new(), Endpoint::answering(Reply::status(500)));
    let directory = Directory::new();
    let proxy = discovered(subject, directory.path(), &[first.address()], "");
    wait_flags(&proxy, first.address(), "healthy");
    discover(directory.path(), 2, &[first.address(), second.address()]);
    wait_flags(&proxy, second.address(), "/failed_active_hc");
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(second.served(), 0);
    second.answer(Reply::ok(""));
    wait_flags(&proxy, second.address(), "healthy");
}

fn a_new_endpoint_may_be_left_out_until_then(subject: &Subject) {
    let (first, second) = (Endpoint::new(), Endpoint::answering(Reply::hang()));
    let directory = Directory::new();
    let more = "common_lb_config: {ignore_new_hosts_until_first_hc: true}\n";
    let proxy = discovered(subject, directory.path(), &[first.address()], more);
    wait_flags(&proxy, first.address(), "healthy");
    discover(directory.path(), 2, &[first.address(), second.address()]);
    wait_flags(&proxy, second.address(), "/failed_active_hc/pending_active_hc");
    wait_flags(&proxy, second.address(), "/failed_active_hc/active_hc_timeout");
    proxy.wait_stat("cluster.up.membership_excluded", 0);
}

fn idle_connections_to_a_failed_endpoint_are_closed(subject: &Subject) {
    let endpoint = Endpoint::new();
    let proxy = checked(subject, &[endpoint.address()], HTTP, "");
    wait_flags(&proxy, endpoint.address(), "healthy");
    assert_eq!(proxy.client().get("/").status, 200);
    proxy.wait_stat("cluster.up.upstream_cx_active", 1);
    endpoint.answer(Reply::status(500));
    wait_flags(&proxy, endpoint.address(), "/failed_active_hc");
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    assert_eq!(proxy.stat("cluster.up.upstream_cx_destroy_local"), Some(1));
}

/// A TCP proxy in front of endpoints that are checked over HTTP elsewhere.
fn sessions(subject: &Subject, upstream: SocketAddr, checked_at: SocketAddr, more: &str) -> Proxy {
    let yaml = format!(
        "health_checks: [{{{TIMES}, {HTTP}}}]\n{more}load_assignment:\n  cluster_name: up\n  endpoints:\n  - lb_endpoints:\n    - endpoint:\n        \
         address: {{socket_address: {{address: {}, port_value: {}}}}}\n        health_check_config: {{port_value: {}}}\n",
        upstream.ip(),
        upstream.port(),
        checked_at.port()
    );
    Proxy::start(subject, &Bootstrap::new().tcp("main", "cluster: up").cluster("up", &[], &yaml))
}

fn connections_to_a_failed_endpoint_are_closed_when_asked(subject: &Subject) {
    for closes in [false, true] {
        let (upstream, endpoint) = (TcpUpstream::start(Role::Echo), Endpoint::new());
        let more = format!("close_connections_on_host_health_failure: {closes}\n");
        let proxy = sessions(subject, upstream.address(), endpoint.address(), &more);
        wait_flags(&proxy, upstream.address(), "healthy");
        let mut client = proxy.client();
        client.send(b"a");
        proxy.wait_stat("cluster.up.upstream_cx_active", 1);
        wait::for_true("an echo", || upstream.received() == 1);
        endpoint.answer(Reply::status(500));
        wait_flags(&proxy, upstream.address(), "/failed_active_hc");
        if closes {
            proxy.wait_stat("cluster.up.upstream_cx_active", 0);
            client.end();
        } else {
            wait_for_more(&proxy, "failure", 3);
            assert_eq!(proxy.stat("cluster.up.upstream_cx_active"), Some(1));
        }
    }
}

const OUTLIERS: &str = "outlier_detection: {consecutive_5xx: 1, max_ejection_percent: 100, interval: 3600s, \
                        base_ejection_time: 3600s, max_ejection_time: 3600s";

fn ejection_closes_connections_as_a_failed_check_does(subject: &Subject) {
    let failing = millrace_support::upstream::Upstream::start(|_| Reply::status(500));
    let cluster = format!("{OUTLIERS}}}\n");
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[failing.address()], &cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(proxy.client().get("/").status, 500);
    proxy.wait_stat("cluster.up.outlier_detection.ejections_active", 1);
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    assert_eq!(proxy.stat("cluster.up.upstream_cx_destroy_local"), Some(1));
}

fn a_passed_check_ends_an_ejection(subject: &Subject) {
    for ends in [true, false] {
        let endpoint = millrace_support::upstream::Upstream::start(|request| match request.target.as_str() {
            "/hc" => Reply::ok(""),
            _ => Reply::status(500),
        });
        let more = format!("{OUTLIERS}, successful_active_health_check_uneject_host: {ends}}}\n");
        let proxy = checked(subject, &[endpoint.address()], HTTP, &more);
        wait_flags(&proxy, endpoint.address(), "healthy");
        assert_eq!(proxy.client().get("/").status, 500);
        proxy.wait_stat("cluster.up.outlier_detection.ejections_enforced_total", 1);
        if ends {
            wait_flags(&proxy, endpoint.address(), "healthy");
            proxy.wait_stat("cluster.up.outlier_detection.ejections_active", 0);
        } else {
            wait_for_more(&proxy, "success", 3);
            assert_eq!(flags(&proxy, endpoint.address()), "/failed_outlier_check");
        }
    }
}

fn many_endpoints_are_all_checked(subject: &Subject) {
    // One server for all of 127.0.0.0/8.
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let endpoints: Vec<SocketAddr> = (0..400_u16)
        .map(|n| SocketAddr::from(([127, 1, (n / 200) as u8, (n % 200 + 1) as u8], port)))
        .collect();
    let times =
        "timeout: 5s, interval: 60s, unhealthy_threshold: 1, healthy_threshold: 1, initial_jitter: 0.2s";
    let fields = format!("health_checks: [{{{times}, tcp_health_check: {{}}}}]");
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &endpoints, &fields);
    let proxy = Proxy::start_with(subject, &bootstrap, &["--concurrency", "2"]);
    assert_eq!((stat(&proxy, "attempt"), stat(&proxy, "success"), stat(&proxy, "healthy")), (400, 400, 400));
    proxy.wait_stat("cluster.up.membership_healthy", 400);
}
