//! What the router makes of x-envoy fields that make no sense, and which statistics routes and virtual clusters have.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::message::Request;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::scripted::{self, BACK_OFF};
use super::{route, start_http};

pub(crate) const CASES: &[Case] = &[
    case!(fields_that_make_no_sense),
    case!(virtual_clusters),
    case!(routes_with_a_prefix),
    case!(statuses_of_grpc_requests),
    case!(canaries_and_interim_answers),
    case!(without_dynamic_stats),
];

/// `http_filters` with a router of these fields.
fn router(fields: &str) -> String {
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    format!("http_filters:\n- name: router\n  typed_config: {{\"@type\": {router}, {fields}}}\n")
}

fn count(proxy: &Proxy, name: &str) -> u64 {
    proxy.stat(name).unwrap_or(0)
}

fn fields_that_make_no_sense(subject: &Subject) {
    let upstream = scripted::upstream();
    let checked = router(
        "strict_check_headers: [x-envoy-upstream-rq-timeout-ms, x-envoy-upstream-rq-per-try-timeout-ms, \
         x-envoy-max-retries, x-envoy-retry-on, x-envoy-retry-grpc-on]",
    );
    let internal = "internal_address_config: {cidr_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}\n";
    let http = Http::routes(&route("/up", "cluster: up")).hcm(&format!("{internal}{checked}"));
    let proxy = start_http(subject, http, &[("up", upstream.address(), "")]);
    for (number, (name, value, good)) in [
        ("x-envoy-upstream-rq-timeout-ms", "x", false),
        ("x-envoy-upstream-rq-timeout-ms", "5000", true),
        ("x-envoy-upstream-rq-per-try-timeout-ms", "1.5", false),
        ("x-envoy-upstream-rq-per-try-timeout-ms", "-1", false),
        ("x-envoy-max-retries", "two", false),
        ("x-envoy-max-retries", "5000000000", true),
        ("x-envoy-retry-on", "5xx,nonsense", false),
        ("x-envoy-retry-on", "5xx, reset", true),
        ("x-envoy-retry-on", "cancelled", false),
        ("x-envoy-retry-grpc-on", "cancelled", true),
        ("x-envoy-retry-grpc-on", "5xx", false),
    ]
    .into_iter()
    .enumerate()
    {
        let case = number.to_string();
        let fields = [("x-forwarded-for", "10.0.0.1"), ("x-case", &case[..]), (name, value)];
        let response = proxy.client().get_with("/up", &fields);
        let log = proxy.log().case(&case);
        if good {
            assert_eq!((response.status, log.get("flags")), (200, "-"), "{name}: {value}");
            continue;
        }
        assert_eq!(response.text(), format!("invalid header '{name}' with value '{value}'"));
        assert!(response.closes(), "{name}: {value}");
        let details = format!("request_headers_failed_strict_check{{{name}}}");
        assert_eq!(log.verdict(), ("400", "IH", &details[..]));
    }
    // Only where there is a cluster to go to, and not for outsiders, whose fields are taken away.
    let bad = ("x-envoy-max-retries", "x");
    assert_eq!(proxy.client().get_with("/nowhere", &[("x-forwarded-for", "10.0.0.1"), bad]).status, 404);
    assert_eq!(proxy.client().get_with("/up", &[bad]).status, 200);
    assert_eq!(count(&proxy, "http.main.rq_total"), 13);
}

fn virtual_clusters(subject: &Subject) {
    let upstream = scripted::upstream();
    let hosts = format!(
        "- name: v\n  domains: [\"*\"]\n  virtual_clusters:\n\
         \x20 - {{name: reads, headers: [{{name: \":method\", string_match: {{exact: GET}}}}, \
                  {{name: \":path\", string_match: {{prefix: /a}}}}]}}\n\
         \x20 - {{name: writes, headers: [{{name: \":method\", string_match: {{exact: POST}}}}]}}\n\
         \x20 routes:\n\
         \x20 - match: {{prefix: /a}}\n    route: {{cluster: up, timeout: 0.5s, prefix_rewrite: /b, \
              retry_policy: {{retry_on: 5xx, num_retries: 1, {BACK_OFF}}}}}\n\
         \x20 - match: {{prefix: /d}}\n    direct_response: {{status: 200}}\n"
    );
    let proxy = start_http(subject, Http::virtual_hosts(&hosts), &[("up", upstream.address(), "")]);
    let asks = |case: &str, method: &str, path: &str, answers: &str| {
        let fields = [("host", "a"), ("x-case", case), ("x-answers", answers)];
        let mut client = proxy.client();
        client.request(method, path, &fields, b"");
        client.response(method).map_or(0, |response| response.status)
    };
    assert_eq!(asks("a", "GET", "/a", "200"), 200);
    assert_eq!(asks("b", "GET", "/a", "503,200"), 200);
    assert_eq!(asks("c", "POST", "/a", "503"), 503);
    assert_eq!(asks("d", "GET", "/a", "hang"), 504);
    assert_eq!(asks("e", "PUT", "/a", "200"), 200);
    assert_eq!(asks("f", "GET", "/d", "200"), 200);
    assert_eq!(asks("g", "GET", "/z", "200"), 404);
    for (name, expected) in [
        ("reads.upstream_rq_200", 2),
        ("reads.upstream_rq_2xx", 2),
        ("reads.upstream_rq_504", 1),
        ("reads.upstream_rq_completed", 3),
        ("reads.upstream_rq_total", 4),
        ("reads.upstream_rq_retry", 1),
        ("reads.upstream_rq_retry_success", 1),
        ("reads.upstream_rq_retry_limit_exceeded", 0),
        ("reads.upstream_rq_timeout", 1),
        ("writes.upstream_rq_503", 1),
        ("writes.upstream_rq_completed", 1),
        ("writes.upstream_rq_total", 2),
        ("writes.upstream_rq_retry", 1),
        ("writes.upstream_rq_retry_limit_exceeded", 1),
        ("writes.upstream_rq_retry_success", 0),
        ("other.upstream_rq_200", 1),
        ("other.upstream_rq_total", 1),
        ("other.upstream_rq_completed", 1),
    ] {
        assert_eq!(count(&proxy, &format!("vhost.v.vcluster.{name}")), expected, "{name}");
    }
}

fn routes_with_a_prefix(subject: &Subject) {
    let upstream = scripted::upstream();
    let routes = "- match: {prefix: /a}\n  route: {cluster: up}\n  stat_prefix: r\n\
                  - match: {prefix: /}\n  route: {cluster: up}\n";
    let proxy = start_http(subject, Http::routes(routes), &[("up", upstream.address(), "")]);
    for (path, answers) in [("/a", "200"), ("/a", "200"), ("/a/b", "404"), ("/b", "200")] {
        proxy.client().get_with(path, &[("x-case", path), ("x-answers", answers)]);
    }
    for (name, expected) in [("200", 2), ("2xx", 2), ("404", 1), ("completed", 3), ("total", 3)] {
        let name = format!("vhost.all.route.r.upstream_rq_{name}");
        assert_eq!(count(&proxy, &name), expected, "{name}");
    }
    assert_eq!(proxy.stat("vhost.all.vcluster.other.upstream_rq_total"), None);
}

fn statuses_of_grpc_requests(subject: &Subject) {
    let upstream = scripted::upstream();
    let hcm = router("suppress_grpc_request_failure_code_stats: true");
    let policy = format!("cluster: up, retry_policy: {{retry_on: gateway-error, {BACK_OFF}}}");
    let http = Http::routes(&route("/", &policy)).hcm(&hcm);
    let proxy = start_http(subject, http, &[("up", upstream.address(), "")]);
    let grpc = ("content-type", "application/grpc");
    for (case, answers) in [("a", "500"), ("b", "503,200")] {
        proxy.client().get_with("/", &[("x-case", case), ("x-answers", answers), grpc]);
    }
    proxy.client().get_with("/", &[("x-case", "c"), ("x-answers", "404")]);
    for (name, expected) in [
        ("upstream_rq_200", 0),
        ("upstream_rq_500", 0),
        ("upstream_rq_5xx", 0),
        ("upstream_rq_404", 1),
        ("upstream_rq_completed", 3),
        ("external.upstream_rq_500", 1),
        ("external.upstream_rq_completed", 3),
        ("retry.upstream_rq_503", 0),
        ("retry.upstream_rq_completed", 1),
    ] {
        assert_eq!(count(&proxy, &format!("cluster.up.{name}")), expected, "{name}");
    }
}

fn canaries_and_interim_answers(subject: &Subject) {
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let upstream = Upstream::start(move |_: &Request| Reply::raw(hints));
    let endpoint = format!(
        "metadata: {{filter_metadata: {{envoy.lb: {{canary: true}}}}}}, \
         endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}",
        upstream.address().port()
    );
    let cluster = format!(
        "load_assignment: {{cluster_name: up, endpoints: [{{locality: {{zone: there}}, lb_endpoints: [{{{endpoint}}}]}}]}}"
    );
    let http = Http::routes(&route("/", "cluster: up"))
        .hcm(&router("suppress_grpc_request_failure_code_stats: true"));
    let bootstrap = Bootstrap::new()
        .http(http)
        .top("node: {id: me, cluster: mine, locality: {zone: here}}")
        .cluster("up", &[], &cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    let response = proxy.client().get_with("/", &[("content-type", "application/grpc")]);
    assert_eq!(response.status, 200);
    proxy.wait_stat("cluster.up.upstream_rq_completed", 2);
    let families = ["external", "canary", "zone.here.there"];
    for name in ["upstream_rq_103", "upstream_rq_200"] {
        assert_eq!(count(&proxy, &format!("cluster.up.{name}")), 0, "suppressed");
        for family in families {
            assert_eq!(count(&proxy, &format!("cluster.up.{family}.{name}")), 1, "{family}");
        }
    }
    assert!(proxy.admin_get("/clusters").text().contains("::canary::true"));
}

fn without_dynamic_stats(subject: &Subject) {
    let upstream = scripted::upstream();
    let policy = format!("cluster: up, retry_policy: {{retry_on: 5xx, {BACK_OFF}}}");
    let routes = format!("{}  stat_prefix: r\n", route("/", &policy));
    let http = Http::routes(&routes).hcm(&router("dynamic_stats: false"));
    let proxy = start_http(subject, http, &[("up", upstream.address(), "")]);
    let fields = [("x-case", "a"), ("x-answers", "503,200")];
    assert_eq!(proxy.client().get_with("/", &fields).status, 200);
    proxy.wait_stat("cluster.up.upstream_rq_retry_success", 1);
    proxy.wait_stat("http.main.downstream_rq_2xx", 1);
    for name in ["cluster.up.upstream_rq", "cluster.up.external.upstream_rq", "vhost.all.route.r.upstream_rq"]
    {
        assert_eq!(count(&proxy, &format!("{name}_completed")), 0, "{name}");
    }
    for (name, expected) in [("upstream_rq_total", 2), ("retry.upstream_rq_503", 1)] {
        assert_eq!(count(&proxy, &format!("cluster.up.{name}")), expected, "{name}");
    }
}
