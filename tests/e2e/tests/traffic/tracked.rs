//! What clusters count on demand: sizes, timeout budgets; and by the zones of their endpoints.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::message::Request;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tcp::Refused;
use millrace_support::wait;

use super::route;
use super::scripted::{self, BACK_OFF};

pub(crate) const CASES: &[Case] = &[
    case!(sizes_of_requests_and_responses),
    case!(timeout_budgets),
    case!(a_cluster_that_is_not_tracked),
    case!(zones_are_counted_apart),
    case!(endpoints_are_listed),
];

const TRACKED: &str = "track_cluster_stats: {timeout_budgets: true, request_response_sizes: true}";

fn start(subject: &Subject, routes: &str, clusters: &[(&str, std::net::SocketAddr, &str)]) -> Proxy {
    let bootstrap = Bootstrap::new().http(Http::routes(routes)).top("stats_flush_interval: 0.05s");
    let bootstrap = clusters
        .iter()
        .fold(bootstrap, |all, (name, endpoint, fields)| all.cluster(name, &[*endpoint], fields));
    Proxy::start(subject, &bootstrap)
}

/// How often a histogram of a cluster was written, and the sum; `None` if it does not exist.
fn histogram(proxy: &Proxy, cluster: &str, name: &str) -> Option<(u64, f64)> {
    let text = proxy.admin_get("/stats/prometheus").text();
    let labels = format!("{{envoy_cluster_name=\"{cluster}\"}} ");
    let value = |what: &str| -> Option<f64> {
        let line = format!("envoy_cluster_{name}_{what}{labels}");
        text.lines().find_map(|l| l.strip_prefix(&line)?.parse().ok())
    };
    Some((value("count")? as u64, value("sum")?))
}

#[track_caller]
fn wait_for(proxy: &Proxy, cluster: &str, name: &str, count: u64) -> f64 {
    let mut last = None;
    let found = wait::until(wait::PATIENCE, || {
        last = histogram(proxy, cluster, name);
        last.filter(|(found, _)| *found == count)
    });
    assert!(found.is_some(), "{name}: waited for {count}, stands at {last:?}");
    found.map_or(0.0, |(_, sum)| sum)
}

/// Histograms keep two digits.
#[track_caller]
fn about(found: f64, expected: usize) {
    let expected = expected as f64;
    assert!((found - expected).abs() <= expected * 0.06, "{found} is not {expected}");
}

/// Bytes and fields of a head as the proxy sent it, `host` being `:authority`.
fn head(request: &Request) -> (usize, usize) {
    let fields = request.fields.0.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let pseudo = ":method:path:scheme".len() + request.method.len() + request.target.len() + "http".len();
    (fields + ":authority".len() - "host".len() + pseudo, request.fields.0.len() + 3)
}

fn sizes_of_requests_and_responses(subject: &Subject) {
    let upstream = scripted::upstream();
    let proxy = start(subject, &route("/", "cluster: up"), &[("up", upstream.address(), TRACKED)]);
    let mut client = proxy.client();
    client.request("POST", "/sized", &[("host", "a"), ("x-more", "than others")], &[b'q'; 64]);
    assert_eq!(client.response("POST").map(|r| r.text()), Ok("try 1".to_owned()));
    let sum = |name| wait_for(&proxy, "up", name, 1);
    let (bytes, fields) = upstream.requests().first().map(head).expect("a request");
    about(sum("upstream_rq_headers_size"), bytes);
    about(sum("upstream_rq_headers_count"), fields);
    about(sum("upstream_rq_body_size"), 64);
    about(sum("upstream_rs_body_size"), "try 1".len());
    // `:status: 200` and `content-length: 5`.
    about(sum("upstream_rs_headers_count"), 2);
    about(sum("upstream_rs_headers_size"), 25);
}

fn timeout_budgets(subject: &Subject) {
    let (upstream, nobody) = (scripted::upstream(), Refused::new());
    let policy = format!("retry_policy: {{retry_on: 5xx, num_retries: 1, {BACK_OFF}}}");
    let short = format!("retry_policy: {{retry_on: 5xx, num_retries: 1, per_try_timeout: 0.1s, {BACK_OFF}}}");
    let routes = [
        route("/up", &format!("cluster: up, timeout: 0.2s, {policy}")),
        route("/short", &format!("cluster: up, timeout: 0.4s, {short}")),
        route("/nobody", &format!("cluster: nobody, {policy}")),
    ];
    let clusters =
        [("up", upstream.address(), "track_timeout_budgets: true"), ("nobody", nobody.address(), TRACKED)];
    let proxy = start(subject, &routes.concat(), &clusters);
    let ask = |path: &str, case: &str, answers: &str| {
        proxy.client().get_with(path, &[("x-case", case), ("x-answers", answers)]).status
    };
    let count = |tries: u64, requests: u64| {
        let of_tries = wait_for(&proxy, "up", "upstream_rq_timeout_budget_per_try_percent_used", tries);
        (of_tries, wait_for(&proxy, "up", "upstream_rq_timeout_budget_percent_used", requests))
    };
    assert_eq!(ask("/up", "a", "503"), 503);
    count(2, 1);
    // Without a timeout of its own a try uses nothing of it, and is not counted when the request's is over.
    assert_eq!(ask("/up", "b", "hang"), 504);
    assert!(count(2, 2).0 < 1.0);
    // Both tries use all of their time, and half of the request's.
    assert_eq!(ask("/short", "c", "hang"), 504);
    let (tries, requests) = count(4, 3);
    assert!(tries > 190.0, "{tries}");
    assert!(requests > 140.0, "{requests}");
    // A request that no endpoint answers has used nothing.
    assert_eq!(ask("/nobody", "d", ""), 503);
    wait_for(&proxy, "nobody", "upstream_rq_timeout_budget_per_try_percent_used", 2);
    wait_for(&proxy, "nobody", "upstream_rq_headers_count", 2);
    assert_eq!(histogram(&proxy, "nobody", "upstream_rq_timeout_budget_percent_used"), Some((0, 0.0)));
    assert_eq!(histogram(&proxy, "nobody", "upstream_rs_headers_count"), Some((0, 0.0)));
    assert_eq!(histogram(&proxy, "up", "upstream_rq_headers_count"), None);
}

fn a_cluster_that_is_not_tracked(subject: &Subject) {
    let upstream = scripted::upstream();
    let proxy = start(subject, &route("/", "cluster: up"), &[("up", upstream.address(), "")]);
    assert_eq!(proxy.client().get("/").status, 200);
    wait_for(&proxy, "up", "upstream_rq_time", 1);
    for name in ["upstream_rq_headers_size", "upstream_rq_timeout_budget_percent_used"] {
        assert_eq!(histogram(&proxy, "up", name), None);
    }
}

fn zones_are_counted_apart(subject: &Subject) {
    let upstream = scripted::upstream();
    let address = upstream.address();
    let cluster = |name: &str, locality: &str| {
        let endpoint = format!(
            "endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}",
            address.ip(),
            address.port()
        );
        format!(
            "load_assignment: {{cluster_name: {name}, endpoints: [{{{locality}lb_endpoints: [{{{endpoint}}}]}}]}}"
        )
    };
    let policy = format!("retry_policy: {{retry_on: 5xx, num_retries: 1, {BACK_OFF}}}");
    let routes =
        ["up", "nowhere"].map(|name| route(&format!("/{name}"), &format!("cluster: {name}, {policy}")));
    let bootstrap = Bootstrap::new()
        .http(Http::routes(&routes.concat()))
        .top("node: {id: me, cluster: mine, locality: {zone: here}}")
        .cluster("up", &[], &cluster("up", "locality: {zone: \"th.e:re\"}, "))
        .cluster("nowhere", &[], &cluster("nowhere", ""));
    let proxy = Proxy::start(subject, &bootstrap);
    for (case, answers, status) in [("a", "200", 200), ("b", "503", 503), ("c", "503,204", 204)] {
        let response = proxy.client().get_with("/up", &[("x-case", case), ("x-answers", answers)]);
        assert_eq!(response.status, status);
    }
    assert_eq!(proxy.client().get("/nowhere").status, 200);
    let text = proxy.admin_get("/stats?type=Counters").text();
    let zones: Vec<&str> = text.lines().filter(|line| line.contains(".zone.")).collect();
    let of = |name: &str| format!("cluster.up.zone.here.th.e:re.upstream_rq_{name}");
    let expected = [("200", 1), ("204", 1), ("2xx", 2), ("503", 1), ("5xx", 1), ("completed", 3)];
    assert_eq!(zones, expected.map(|(name, count)| format!("{}: {count}", of(name))));
    let prometheus = proxy.admin_get("/stats/prometheus").text();
    let line = "envoy_cluster_zone_here_th_e_re_upstream_rq_xx\
                {envoy_response_code_class=\"2\",envoy_cluster_name=\"up\"} 2";
    assert!(prometheus.lines().any(|l| l == line), "{prometheus}");
}

fn endpoints_are_listed(subject: &Subject) {
    let upstream = scripted::upstream();
    let fields = "track_cluster_stats: {per_endpoint_stats: true}";
    let clusters = [("up", upstream.address(), fields), ("quiet", upstream.address(), "")];
    let proxy = start(subject, &route("/", "cluster: up"), &clusters);
    for (case, answers) in [("a", "200"), ("b", "503")] {
        proxy.client().get_with("/", &[("x-case", case), ("x-answers", answers)]);
    }
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    let text = proxy.admin_get("/stats?filter=%5C.endpoint%5C.&usedonly").text();
    let of = |name: &str| {
        format!("cluster.up.endpoint.{}.{name}", upstream.address().to_string().replace(':', "_"))
    };
    let expected = [
        ("cx_connect_fail", 0),
        ("cx_total", 1),
        ("rq_error", 1),
        ("rq_success", 1),
        ("rq_timeout", 0),
        ("rq_total", 2),
        ("cx_active", 1),
        ("rq_active", 0),
        ("rq_pending_active", 0),
        ("healthy", 1),
    ];
    let expected: String = expected.iter().map(|(name, value)| format!("{}: {value}\n", of(name))).collect();
    assert_eq!(text, expected);
    let prometheus = proxy.admin_get("/stats/prometheus?filter=rq_success").text();
    let labels = format!("envoy_cluster_name=\"up\",envoy_endpoint_address=\"{}\"", upstream.address());
    let line = format!("envoy_cluster_endpoint_rq_success{{{labels}}} 1");
    assert!(prometheus.lines().any(|l| l == line), "{prometheus}");
}
