//! Listeners and clusters: filter-chain choice, discovery by name, balancing, circuit breakers.

use std::net::SocketAddr;
use std::time::Duration;

use crate::health_checks::membership::{assign, discover};
use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::{Directory, Proxy};
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

pub(crate) const CASES: &[Case] = &[
    case!(filter_chain_by_source),
    case!(no_filter_chain_matches),
    case!(two_listeners),
    case!(dns_clusters),
    case!(dns_name_that_does_not_exist),
    case!(endpoint_weights),
    case!(random_and_least_request_reach_everybody),
    case!(unhealthy_endpoints_are_left_out),
    case!(priorities),
    case!(max_requests),
    case!(max_retries),
    case!(max_requests_per_upstream_connection),
    case!(upstream_idle_timeout),
    case!(endpoints_that_nobody_tells_again),
];

fn tcp_chain(source: &str, cluster: &str) -> String {
    let matcher = if source.is_empty() {
        String::new()
    } else {
        format!(
            "filter_chain_match: {{source_prefix_ranges: [{{address_prefix: {source}, prefix_len: 32}}]}}\n    "
        )
    };
    format!(
        "  - {matcher}filters:\n    - name: tcp\n      typed_config:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n        \
         stat_prefix: {cluster}\n        cluster: {cluster}\n"
    )
}

fn chains(subject: &Subject, list: &str, clusters: &[(&str, SocketAddr)]) -> Proxy {
    let listener = format!(
        "- name: main\n  address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}\n  filter_chains:\n{list}"
    );
    let mut bootstrap = Bootstrap::new().listener(&listener);
    for (name, address) in clusters {
        bootstrap = bootstrap.cluster(name, &[*address], "");
    }
    Proxy::start(subject, &bootstrap)
}

fn filter_chain_by_source(subject: &Subject) {
    let (a, b) = (Upstream::fixed("a"), Upstream::fixed("b"));
    let list = tcp_chain("127.0.0.3", "a") + &tcp_chain("", "b");
    let proxy = chains(subject, &list, &[("a", a.address()), ("b", b.address())]);
    let target = proxy.listener("main");
    assert_eq!(Client::connect_from("127.0.0.3", target).get("/").text(), "a");
    assert_eq!(Client::connect_from("127.0.0.4", target).get("/").text(), "b");
}

fn no_filter_chain_matches(subject: &Subject) {
    let a = Upstream::fixed("a");
    let proxy = chains(subject, &tcp_chain("127.0.0.3", "a"), &[("a", a.address())]);
    let mut stranger = Client::connect_from("127.0.0.4", proxy.listener("main"));
    assert!(matches!(
        stranger.end(),
        millrace_support::raw::End::Closed(_) | millrace_support::raw::End::Reset
    ));
    proxy.wait_stat("listener.127.0.0.1_0.no_filter_chain_match", 1);
}

fn two_listeners(subject: &Subject) {
    let (a, b) = (Upstream::fixed("a"), Upstream::fixed("b"));
    let bootstrap = Bootstrap::new()
        .http(Http::to("a").named("first"))
        .http(Http::to("b").named("second"))
        .cluster("a", &[a.address()], "")
        .cluster("b", &[b.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(Client::connect(proxy.listener("first")).get("/").text(), "a");
    assert_eq!(Client::connect(proxy.listener("second")).get("/").text(), "b");
}

/// A cluster whose only endpoint is a host name.
fn by_name(name: &str, kind: &str, host: &str, port: u16) -> String {
    format!(
        "type: {kind}\ndns_lookup_family: V4_ONLY\nload_assignment:\n  cluster_name: {name}\n  endpoints:\n  \
         - lb_endpoints:\n    - endpoint: {{address: {{socket_address: {{address: {host}, port_value: {port}}}}}}}\n"
    )
}

fn dns_clusters(subject: &Subject) {
    let upstream = Upstream::fixed("found");
    for kind in ["STRICT_DNS", "LOGICAL_DNS"] {
        let cluster = by_name("up", kind, "localhost", upstream.address().port());
        let proxy =
            Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[], &cluster));
        assert_eq!(proxy.client().get("/").text(), "found", "{kind}");
        proxy.wait_stat("cluster.up.membership_total", 1);
        assert!(proxy.stat("cluster.up.update_success").is_some_and(|n| n >= 1), "{kind}");
    }
}

fn dns_name_that_does_not_exist(subject: &Subject) {
    let cluster = by_name("up", "STRICT_DNS", "no-such-host.invalid", 80);
    let proxy = Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[], &cluster));
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.text().as_str()), (503, "no healthy upstream"));
}

fn endpoints(list: &[(SocketAddr, &str)]) -> String {
    let mut out = "load_assignment:\n  cluster_name: up\n  endpoints:\n  - lb_endpoints:\n".to_owned();
    for (address, extra) in list {
        let (ip, port) = (address.ip(), address.port());
        out.push_str(&format!(
            "    - {{endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}{extra}}}\n"
        ));
    }
    out
}

fn counts(subject: &Subject, upstreams: &[Upstream], cluster: &str, requests: usize) -> Vec<usize> {
    let proxy = Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &[], cluster));
    let mut client = proxy.client();
    for _ in 0..requests {
        assert_eq!(client.get("/").status, 200);
    }
    upstreams.iter().map(|u| u.requests().len()).collect()
}

fn endpoint_weights(subject: &Subject) {
    let upstreams = [Upstream::fixed("a"), Upstream::fixed("b")];
    let list = [
        (upstreams[0].address(), ", load_balancing_weight: 3"),
        (upstreams[1].address(), ", load_balancing_weight: 1"),
    ];
    assert_eq!(counts(subject, &upstreams, &endpoints(&list), 40), [30, 10]);
}

fn random_and_least_request_reach_everybody(subject: &Subject) {
    for policy in ["RANDOM", "LEAST_REQUEST"] {
        let upstreams = [Upstream::fixed("a"), Upstream::fixed("b"), Upstream::fixed("c")];
        let list: Vec<_> = upstreams.iter().map(|u| (u.address(), "")).collect();
        let seen = counts(subject, &upstreams, &format!("lb_policy: {policy}\n{}", endpoints(&list)), 150);
        assert_eq!(seen.iter().sum::<usize>(), 150);
        // Far beyond six standard deviations of 50.
        assert!(seen.iter().all(|n| (15..=85).contains(n)), "{policy}: {seen:?}");
    }
}

fn unhealthy_endpoints_are_left_out(subject: &Subject) {
    let upstreams = [Upstream::fixed("a"), Upstream::fixed("b"), Upstream::fixed("c")];
    let list = [
        (upstreams[0].address(), ""),
        (upstreams[1].address(), ", health_status: UNHEALTHY"),
        (upstreams[2].address(), ", health_status: HEALTHY"),
    ];
    assert_eq!(counts(subject, &upstreams, &endpoints(&list), 20), [10, 0, 10]);
}

fn priorities(subject: &Subject) {
    let upstreams = [Upstream::fixed("a"), Upstream::fixed("b")];
    let one = |u: &Upstream, priority: u32, health: &str| {
        let port = u.address().port();
        format!(
            "  - priority: {priority}\n    lb_endpoints:\n    - {{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, \
             port_value: {port}}}}}}}, health_status: {health}}}\n"
        )
    };
    let all = |health: &str| {
        format!(
            "load_assignment:\n  cluster_name: up\n  endpoints:\n{}{}",
            one(&upstreams[0], 0, health),
            one(&upstreams[1], 1, "HEALTHY")
        )
    };
    assert_eq!(counts(subject, &upstreams, &all("HEALTHY"), 10), [10, 0]);
    assert_eq!(counts(subject, &upstreams, &all("UNHEALTHY"), 10), [10, 10]);
}

fn breakers(subject: &Subject, upstream: &Upstream, thresholds: &str, route: &str) -> Proxy {
    let routes = format!("- match: {{prefix: \"/\"}}\n  route:\n    cluster: up\n{route}");
    let cluster = format!("circuit_breakers: {{thresholds: [{{{thresholds}}}]}}");
    let bootstrap =
        Bootstrap::new().http(Http::routes(&routes)).cluster("up", &[upstream.address()], &cluster);
    Proxy::start(subject, &bootstrap)
}

fn max_requests(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x").after(Duration::from_millis(400)));
    let proxy = breakers(subject, &upstream, "max_requests: 1", "");
    let mut first = proxy.client();
    first.request("GET", "/", &[("host", "a")], b"");
    proxy.wait_stat("cluster.up.upstream_rq_active", 1);
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.get("x-envoy-overloaded")), (503, Some("true")));
    assert_eq!(first.response("GET").map(|r| r.status), Ok(200));
    assert_eq!(proxy.client().get("/").status, 200);
}

fn max_retries(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::status(503));
    let route = "    retry_policy: {retry_on: 5xx, num_retries: 5}\n";
    let proxy = breakers(subject, &upstream, "max_retries: 0", route);
    assert_eq!(proxy.client().get("/").status, 503);
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(proxy.log().line(0).get("flags"), "UO");
    proxy.wait_stat("cluster.up.upstream_rq_retry_overflow", 1);
}

const OPTIONS: &str = "typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
    \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    \
    explicit_http_config: {http_protocol_options: {}}\n    common_http_protocol_options: ";

fn max_requests_per_upstream_connection(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let cluster = format!("{OPTIONS}{{max_requests_per_connection: 2}}\n");
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[upstream.address()], &cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = proxy.client();
    for _ in 0..6 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(upstream.connections(), 3);
    proxy.wait_stat("cluster.up.upstream_cx_max_requests", 3);
}

fn upstream_idle_timeout(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let cluster = format!("{OPTIONS}{{idle_timeout: 0.3s}}\n");
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[upstream.address()], &cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(proxy.client().get("/").status, 200);
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    proxy.wait_stat("cluster.up.upstream_cx_idle_timeout", 1);
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!(upstream.connections(), 2);
}

fn endpoints_that_nobody_tells_again(subject: &Subject) {
    let (endpoint, directory) = (Upstream::fixed("x"), Directory::new());
    let policy = serde_json::json!({"endpoint_stale_after": "1s"});
    assign(directory.path(), 1, &[endpoint.address()], &policy);
    let file = directory.path().join("eds.json");
    let cluster = format!(
        "type: EDS\neds_cluster_config: {{eds_config: {{resource_api_version: V3, path_config_source: {{path: \"{}\"}}}}}}",
        file.display()
    );
    let bootstrap = Bootstrap::new().top("node: {id: tested, cluster: tests}").http(Http::to("up"));
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[], &cluster));
    proxy.wait_stat("cluster.up.assignment_stale", 1);
    assert_eq!(proxy.stat("cluster.up.assignment_timeout_received"), Some(1));
    proxy.wait_stat("cluster.up.membership_total", 0);
    assert_eq!(proxy.client().get("/").status, 503);
    discover(directory.path(), 2, &[endpoint.address()]);
    proxy.wait_stat("cluster.up.membership_total", 1);
    assert_eq!(proxy.client().get("/").status, 200);
}
