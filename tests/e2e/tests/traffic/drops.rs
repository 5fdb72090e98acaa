//! `drop_overloads`: the control plane has requests to a cluster refused, whatever its endpoints could do.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::route;

pub(crate) const CASES: &[Case] = &[
    case!(all_requests_are_dropped),
    case!(a_share_of_the_requests_is_dropped),
    case!(the_runtime_limits_what_is_dropped),
    case!(calls_and_copies_are_dropped_too),
    case!(headers_of_envoy_may_be_suppressed),
];

/// The cluster `up` of one endpoint that drops so much.
fn cluster(upstream: &Upstream, percentage: &str) -> String {
    let (ip, port) = (upstream.address().ip(), upstream.address().port());
    format!(
        "load_assignment:\n  cluster_name: up\n  \
         policy: {{drop_overloads: [{{category: throttle, drop_percentage: {percentage}}}]}}\n  \
         endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}}}]}}]\n"
    )
}

fn bootstrap(upstream: &Upstream, percentage: &str, action: &str) -> Bootstrap {
    let http = Http::routes(&route("/", &format!("cluster: up{action}")));
    Bootstrap::new().http(http).cluster("up", &[], &cluster(upstream, percentage))
}

const ALL: &str = "{numerator: 100}";
const UNCONDITIONAL: (&str, &str, &str) = ("503", "UDO", "unconditional_drop_overload");

fn all_requests_are_dropped(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x"));
    let retries = ", retry_policy: {retry_on: 5xx, num_retries: 3}";
    let proxy = Proxy::start(subject, &bootstrap(&upstream, ALL, retries));
    let response = proxy.client().get("/");
    assert_eq!((response.status, &*response.text()), (503, "unconditional drop overload"));
    assert_eq!(response.get("x-envoy-unconditional-drop-overload"), Some("true"));
    assert_eq!(response.get("x-envoy-drop-overload"), None);
    assert_eq!(proxy.log().line(0).verdict(), UNCONDITIONAL);
    assert_eq!(upstream.connections(), 0);
    for (name, value) in [
        ("cluster.up.upstream_rq_503", 1),
        ("cluster.up.upstream_rq_completed", 1),
        ("cluster.up.external.upstream_rq_5xx", 1),
        ("cluster.up.upstream_rq_total", 0),
        ("cluster.up.upstream_rq_retry", 0),
        ("http.main.rq_total", 1),
    ] {
        assert_eq!(proxy.stat(name).unwrap_or(0), value, "{name}");
    }
    let dump: String = proxy.admin_get("/config_dump?resource=static_endpoint_configs&include_eds").text();
    let dump: String = dump.split_whitespace().collect();
    let share = r#""drop_percentage":{"numerator":1000000,"denominator":"MILLION"}"#;
    let policy =
        format!(r#""drop_overloads":[{{"category":"throttle",{share}}}],"overprovisioning_factor":140"#);
    assert!(dump.contains(&policy), "{dump}");
}

fn a_share_of_the_requests_is_dropped(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x"));
    let proxy = Proxy::start(subject, &bootstrap(&upstream, "{numerator: 500000, denominator: MILLION}", ""));
    let mut client = proxy.client();
    let responses: Vec<_> = (0..200).map(|_| client.get("/")).collect();
    for (n, response) in responses.iter().enumerate() {
        let verdict = match response.status {
            200 => ("200", "-", "via_upstream"),
            _ => ("503", "DO", "drop_overload"),
        };
        assert_eq!(proxy.log().line(n).verdict(), verdict);
        let dropped = response.status != 200;
        assert_eq!(response.get("x-envoy-drop-overload"), dropped.then_some("true"));
        assert_eq!(&*response.text(), if dropped { "drop overload" } else { "x" });
    }
    let dropped = responses.iter().filter(|response| response.status == 503).count() as u64;
    assert!((60..=140).contains(&dropped), "{dropped} of 200");
    assert_eq!(proxy.stat("cluster.up.upstream_rq_503"), Some(dropped));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_total"), Some(200 - dropped));
}

fn the_runtime_limits_what_is_dropped(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x"));
    let limit = "layered_runtime: {layers: [{name: s, static_layer: {load_balancing_policy.drop_overload_limit: 0}}]}\n";
    let proxy = Proxy::start(subject, &bootstrap(&upstream, ALL, "").top(limit));
    for _ in 0..5 {
        assert_eq!(proxy.client().get("/").status, 200);
    }
}

fn calls_and_copies_are_dropped_too(subject: &Subject) {
    let (upstream, copies) = (Upstream::start(|_| Reply::ok("x")), Upstream::start(|_| Reply::ok("x")));
    let mirror = ", request_mirror_policies: [{cluster: up}]";
    let http =
        Http::routes(&(route("/call", "cluster: up") + &route("/", &format!("cluster: other{mirror}"))));
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[], &cluster(&copies, ALL));
    let proxy = Proxy::start(subject, &bootstrap.cluster("other", &[upstream.address()], ""));
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    proxy.wait_stat("cluster.up.upstream_rq_503", 1);
    assert_eq!(proxy.stat("cluster.up.internal.upstream_rq_503"), Some(1));
    client.request("POST", "/call", &[("host", "a"), ("content-type", "application/grpc")], b"");
    let response = client.response("POST").expect("an answer");
    assert_eq!((response.status, response.get("grpc-status")), (200, Some("14")));
    assert_eq!(response.get("grpc-message"), Some("unconditional drop overload"));
    assert_eq!(response.get("x-envoy-unconditional-drop-overload"), Some("true"));
    assert_eq!((copies.connections(), upstream.connections()), (0, 1));
}

fn headers_of_envoy_may_be_suppressed(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x"));
    let router = "http_filters:\n- name: envoy.filters.http.router\n  typed_config:\n    \
                  \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n    \
                  suppress_envoy_headers: true\n";
    let http = Http::routes(&route("/", "cluster: up")).hcm(router);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[], &cluster(&upstream, ALL));
    let proxy = Proxy::start(subject, &bootstrap);
    let response = proxy.client().get("/");
    assert_eq!((response.status, response.get("x-envoy-unconditional-drop-overload")), (503, None));
}
