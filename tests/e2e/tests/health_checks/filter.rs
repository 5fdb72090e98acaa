//! The filter that answers the checks that others make of this proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::config::with_file;
use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2;
use millrace_support::message::Response;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};
use millrace_support::wait;

pub(crate) const CASES: &[Case] = &[
    case!(the_proxy_answers_for_itself),
    case!(the_proxy_answers_for_its_clusters),
    case!(checks_with_a_body_are_answered_behind_it),
    case!(endpoints_answer_in_pass_through_mode),
    case!(answers_are_kept_for_a_while),
    case!(failing_shows_in_every_answer),
    case!(a_failing_proxy_is_left_by_another),
    case!(the_cache_needs_pass_through_mode),
];

const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck";
const NAME: &str = "x-envoy-upstream-healthchecked-cluster";
const FAIL: &str = "x-envoy-immediate-health-check-fail";

fn http(fields: &str) -> Http {
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    Http::to("up").hcm(&format!(
        "http_filters:\n- name: checks\n  typed_config: {{\"@type\": {FILTER}, {fields}, headers: [{{name: \":path\", \
         string_match: {{exact: /hc}}}}]}}\n- name: envoy.filters.http.router\n  typed_config: {{\"@type\": {router}}}\n"
    ))
}

fn bootstrap(upstream: &Upstream, fields: &str) -> Bootstrap {
    let node = "node: {id: tested, cluster: own-cluster}";
    Bootstrap::new().top(node).http(http(fields)).cluster("up", &[upstream.address()], "")
}

fn proxy(subject: &Subject, upstream: &Upstream, fields: &str) -> Proxy {
    Proxy::start(subject, &bootstrap(upstream, fields))
}

/// Status, who was checked, and whether checks shall fail.
fn verdict(response: &Response) -> (u16, Option<&str>, Option<&str>) {
    (response.status, response.get(NAME), response.get(FAIL))
}

fn the_proxy_answers_for_itself(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &upstream, "pass_through_mode: false");
    let mut client = proxy.client();
    assert_eq!(verdict(&client.get("/hc")), (200, Some("own-cluster"), None));
    assert_eq!(verdict(&client.get("/other")), (200, None, None));
    assert_eq!(upstream.only_request().target, "/other");
    assert_eq!(proxy.log().line(0).get("details"), "health_check_ok");
    // Checks are no requests of clients.
    proxy.wait_stat("http.main.downstream_rq_total", 2);
    proxy.wait_stat("http.main.tracing.health_check", 1);
    proxy.wait_stat("http.main.downstream_rq_2xx", 1);
    assert_eq!(proxy.stat("http.main.downstream_rq_completed"), Some(1));
}

fn checks_with_a_body_are_answered_behind_it(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &upstream, "pass_through_mode: false");
    let mut client = proxy.client();
    for body in [&b"hello"[..], b""] {
        let response = client.exchange("POST", "/hc", &[], body);
        assert_eq!((response.status, response.closes()), (200, false));
    }
    let mut client = h2::Client::connect(proxy.listener("main"));
    let response = client.exchange("POST", "/hc", &[], b"hello");
    assert_eq!(response.map(|response| response.status), Ok(200));
    proxy.wait_stat("http.main.health_check.request_total", 3);
    assert_eq!(proxy.stat("http.main.health_check.ok"), Some(3));
    assert_eq!(proxy.stat("http.main.downstream_rq_response_before_rq_complete"), Some(0));
    assert_eq!(upstream.requests().len(), 0);
}

fn the_proxy_answers_for_its_clusters(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let healthy = upstream.address();
    let load = format!(
        "load_assignment:\n  cluster_name: up\n  endpoints:\n  - lb_endpoints:\n    - endpoint: {{address: {{socket_address: \
         {{address: 127.0.0.1, port_value: {}}}}}}}\n    - health_status: UNHEALTHY\n      endpoint: {{address: \
         {{socket_address: {{address: 127.0.0.2, port_value: {}}}}}}}\n",
        healthy.port(),
        healthy.port()
    );
    let cases = [
        ("up: {value: 50}", 200, "health_check_ok_cluster_healthy"),
        ("up: {value: 51}", 503, "health_check_failed_cluster_unhealthy"),
        ("none: {value: 0}", 503, "health_check_failed_no_cluster_found"),
        ("empty: {value: 1}", 503, "health_check_failed_cluster_empty"),
        ("empty: {value: 0}", 200, "health_check_ok_cluster_healthy"),
    ];
    for (least, status, details) in cases {
        let fields = format!("pass_through_mode: false, cluster_min_healthy_percentages: {{{least}}}");
        let node = "node: {id: tested, cluster: own-cluster}";
        let bootstrap = Bootstrap::new().top(node).http(http(&fields)).cluster("up", &[], &load).cluster(
            "empty",
            &[],
            "",
        );
        let proxy = Proxy::start(subject, &bootstrap);
        assert_eq!(proxy.client().get("/hc").status, status, "{least}");
        let failed = u64::from(status != 200);
        for (name, expected) in [("failed", failed), ("ok", 1 - failed), ("request_total", 1)] {
            proxy.wait_stat(&format!("http.main.health_check.{name}"), expected);
        }
        if let Some(why) = details.strip_prefix("health_check_failed_cluster_") {
            proxy.wait_stat(&format!("http.main.health_check.failed_cluster_{why}"), 1);
        }
        assert_eq!(proxy.log().line(0).get("details"), details);
    }
}

fn endpoints_answer_in_pass_through_mode(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::status(204));
    let proxy = proxy(subject, &upstream, "pass_through_mode: true");
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(verdict(&client.get("/hc")), (204, Some("own-cluster"), None));
    }
    assert_eq!(upstream.requests().len(), 2);
    proxy.wait_stat("cluster.up.upstream_rq_total", 2);
    assert_eq!(proxy.stat("cluster.up.upstream_rq_2xx").unwrap_or(0), 0);
}

fn answers_are_kept_for_a_while(subject: &Subject) {
    let status = Arc::new(AtomicU16::new(503));
    let answer = Arc::clone(&status);
    let degraded = [("x-envoy-degraded", "")];
    let upstream = Upstream::start(move |_| Reply::with(answer.load(Ordering::Relaxed), &degraded, b""));
    let proxy = proxy(subject, &upstream, "pass_through_mode: true, cache_time: 1s");
    let mut client = proxy.client();
    // Until two questions fall into one period.
    wait::for_true("a kept answer", || {
        let before = upstream.requests().len();
        let (first, second) = (client.get("/hc"), client.get("/hc"));
        assert_eq!((first.status, second.status), (503, 503));
        upstream.requests().len() < before + 2 && second.get("x-envoy-degraded").is_some()
    });
    status.store(200, Ordering::Relaxed);
    wait::for_true("another answer", || client.get("/hc").status == 200);
}

fn failing_shows_in_every_answer(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &upstream, "pass_through_mode: true");
    assert_eq!(proxy.admin_post("/healthcheck/fail").status, 200);
    wait::for_true("a failed check", || proxy.client().get("/hc").status == 503);
    let check = proxy.client().get("/hc");
    assert_eq!((verdict(&check), check.closes()), ((503, Some("own-cluster"), Some("true")), true));
    let other = proxy.client().get("/other");
    assert_eq!((verdict(&other), other.closes()), ((200, None, Some("true")), true));
    assert_eq!(proxy.admin_post("/healthcheck/ok").status, 200);
    wait::for_true("a passed check", || proxy.client().get("/hc").status == 200);
    assert_eq!(verdict(&proxy.client().get("/other")), (200, None, None));
}

/// Two proxies, one in front of the other, as in a mesh.
fn a_failing_proxy_is_left_by_another(subject: &Subject) {
    let upstream = Upstream::fixed("behind");
    let inner = proxy(subject, &upstream, "pass_through_mode: true");
    let check = "health_checks: [{timeout: 1s, interval: 30s, no_traffic_interval: 30s, unhealthy_threshold: 1, \
                 healthy_threshold: 1, http_health_check: {path: /hc, service_name_matcher: {prefix: own}}}]";
    let endpoints = [inner.listener("main")];
    let outer =
        Proxy::start(subject, &Bootstrap::new().http(Http::to("up")).cluster("up", &endpoints, check));
    assert_eq!(outer.client().get("/").text(), "behind");
    assert_eq!(inner.admin_post("/healthcheck/fail").status, 200);
    wait::for_true("a passive failure", || {
        outer.client().get("/");
        outer.stat("cluster.up.health_check.passive_failure") >= Some(1)
    });
    outer.wait_stat("cluster.up.membership_excluded", 1);
}

fn the_cache_needs_pass_through_mode(subject: &Subject) {
    let yaml = bootstrap(&Upstream::fixed(""), "pass_through_mode: false, cache_time: 1s").yaml();
    let finished = with_file(subject, "bad.yaml", &yaml, &["--mode", "validate"]);
    assert_eq!(finished.code, Some(1));
    let said = format!("{}{}", finished.stderr, finished.stdout);
    assert!(said.contains("cache_time_ms must not be set"), "{said}");
}
