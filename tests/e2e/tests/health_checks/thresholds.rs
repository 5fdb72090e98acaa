//! When an endpoint fails, when it passes again, and what is told of it.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::{bootstrap, checked, flags, stat, wait_flags, wait_for_more};
use millrace_e2e::{Case, case};
use millrace_support::process::{Directory, Proxy};
use millrace_support::subject::Subject;
use millrace_support::upstream::Reply;
use millrace_support::wait;

pub(crate) const CASES: &[Case] = &[
    case!(an_unexpected_status_fails_at_once_and_recovers_after_the_threshold),
    case!(retriable_statuses_and_the_network_count_towards_the_threshold),
    case!(an_endpoint_that_hangs_times_out),
    case!(an_endpoint_that_refuses_never_passes),
    case!(resets_and_closes_are_failures_of_the_network),
    case!(degraded_endpoints_serve_when_no_other_does),
    case!(all_failed_is_panic_and_the_cure_shows_within_a_second),
    case!(traffic_may_fail_an_endpoint_at_once),
    case!(an_answer_to_a_check_may_exclude_its_endpoint),
    case!(events_are_logged),
    case!(every_failure_and_success_is_logged_when_asked),
    case!(one_check_passes_a_new_endpoint),
    case!(no_traffic_has_intervals_of_its_own),
    case!(admin_tells_what_checks_say),
];

const HTTP: &str = "http_health_check: {path: /hc}";

fn closed() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// Two endpoints of which the second can be changed.
fn pair(subject: &Subject, check: &str) -> (Endpoint, Endpoint, Proxy) {
    let (good, other) = (Endpoint::new(), Endpoint::new());
    let proxy = checked(subject, &[good.address(), other.address()], check, "");
    wait_flags(&proxy, other.address(), "healthy");
    (good, other, proxy)
}

fn statuses(proxy: &Proxy, requests: usize) -> Vec<u16> {
    let mut client = proxy.client();
    (0..requests).map(|_| client.get("/").status).collect()
}

/// Waits until ten requests in a row are all answered by this endpoint. Workers of Envoy hear of health later than its
/// admin endpoint.
#[track_caller]
fn serves_alone(proxy: &Proxy, endpoint: &Endpoint) {
    wait::for_true("one endpoint serves alone", || {
        let before = endpoint.served();
        assert_eq!(statuses(proxy, 10), [200; 10]);
        endpoint.served() - before == 10
    });
}

fn an_unexpected_status_fails_at_once_and_recovers_after_the_threshold(subject: &Subject) {
    let (good, other, proxy) = pair(subject, HTTP);
    proxy.wait_stat("cluster.up.membership_healthy", 2);
    other.answer(Reply::status(503));
    wait_flags(&proxy, other.address(), "/failed_active_hc");
    proxy.wait_stat("cluster.up.membership_healthy", 1);
    proxy.wait_stat("cluster.up.health_check.healthy", 1);
    assert_eq!(stat(&proxy, "network_failure"), 0);
    serves_alone(&proxy, &good);
    let checks = other.checks().len();
    other.answer(Reply::ok(""));
    wait_flags(&proxy, other.address(), "healthy");
    assert!(other.checks().len() >= checks + 2);
    proxy.wait_stat("cluster.up.membership_healthy", 2);
    proxy.wait_stat("cluster.up.health_check.healthy", 2);
}

fn retriable_statuses_and_the_network_count_towards_the_threshold(subject: &Subject) {
    let check = "http_health_check: {path: /hc, retriable_statuses: [{start: 500, end: 504}]}, \
                 unhealthy_edge_interval: 0.6s";
    let (_good, other, proxy) = pair(subject, check);
    // The interval before the second failure shows that one is not enough.
    let failures = stat(&proxy, "failure");
    other.answer(Reply::status(503));
    assert_eq!(statuses(&proxy, 1), [200], "the cluster has traffic from now on");
    wait::for_true("a failure", || stat(&proxy, "failure") == failures + 1);
    assert_eq!(flags(&proxy, other.address()), "healthy");
    wait_flags(&proxy, other.address(), "/failed_active_hc");
    assert!(stat(&proxy, "failure") >= failures + 2);
    other.answer(Reply::ok(""));
    wait_flags(&proxy, other.address(), "healthy");
    let failures = stat(&proxy, "network_failure");
    other.answer(Reply::reset());
    wait::for_true("a failure", || stat(&proxy, "network_failure") == failures + 1);
    assert_eq!(flags(&proxy, other.address()), "healthy");
    wait_flags(&proxy, other.address(), "/failed_active_hc");
}

fn an_endpoint_that_hangs_times_out(subject: &Subject) {
    let (_good, other, proxy) = pair(subject, HTTP);
    other.answer(Reply::hang());
    wait_flags(&proxy, other.address(), "/failed_active_hc/active_hc_timeout");
    assert!(stat(&proxy, "network_failure") >= 2);
    other.answer(Reply::status(500));
    wait_flags(&proxy, other.address(), "/failed_active_hc");
    other.answer(Reply::ok(""));
    wait_flags(&proxy, other.address(), "healthy");
}

fn an_endpoint_that_refuses_never_passes(subject: &Subject) {
    let (good, refusing) = (Endpoint::new(), closed());
    let proxy = checked(subject, &[good.address(), refusing], HTTP, "");
    wait_for_more(&proxy, "network_failure", 3);
    assert_eq!(flags(&proxy, refusing), "/failed_active_hc");
    assert_eq!(flags(&proxy, good.address()), "healthy");
    assert_eq!((stat(&proxy, "healthy"), stat(&proxy, "passive_failure")), (1, 0));
    assert_eq!(statuses(&proxy, 10), [200; 10]);
    assert_eq!(proxy.stat("cluster.up.upstream_cx_connect_fail"), Some(0), "checks are no traffic");
}

fn resets_and_closes_are_failures_of_the_network(subject: &Subject) {
    let (_good, other, proxy) = pair(subject, HTTP);
    for bad in [
        Reply::reset(),
        Reply::close(),
        Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
            .then(millrace_support::upstream::Then::Close),
        Reply::raw("HTTQ/1.1 200 OK\r\n\r\n"),
    ] {
        let failures = stat(&proxy, "network_failure");
        other.answer(bad);
        wait_flags(&proxy, other.address(), "/failed_active_hc");
        assert!(stat(&proxy, "network_failure") > failures);
        other.answer(Reply::ok(""));
        wait_flags(&proxy, other.address(), "healthy");
    }
}

fn degraded_endpoints_serve_when_no_other_does(subject: &Subject) {
    let (good, other, proxy) = pair(subject, HTTP);
    other.answer(Reply::with(200, &[("x-envoy-degraded", "")], b""));
    wait_flags(&proxy, other.address(), "/degraded_active_hc");
    proxy.wait_stat("cluster.up.health_check.degraded", 1);
    proxy.wait_stat("cluster.up.membership_degraded", 1);
    proxy.wait_stat("cluster.up.membership_healthy", 1);
    good.answer(Reply::status(500));
    wait_flags(&proxy, good.address(), "/failed_active_hc");
    serves_alone(&proxy, &other);
    other.answer(Reply::ok(""));
    wait_flags(&proxy, other.address(), "healthy");
}

fn all_failed_is_panic_and_the_cure_shows_within_a_second(subject: &Subject) {
    let (good, other, proxy) = pair(subject, HTTP);
    for endpoint in [&good, &other] {
        endpoint.answer(Reply::status(500));
        wait_flags(&proxy, endpoint.address(), "/failed_active_hc");
    }
    wait::for_true("panic", || {
        assert_eq!(statuses(&proxy, 1), [200]);
        proxy.stat("cluster.up.lb_healthy_panic") > Some(0)
    });
    let before = (good.served(), other.served());
    assert_eq!(statuses(&proxy, 20), [200; 20]);
    assert_eq!((good.served() - before.0, other.served() - before.1), (10, 10));
    good.answer(Reply::ok(""));
    let cured = Instant::now();
    wait_flags(&proxy, good.address(), "healthy");
    assert!(cured.elapsed() < Duration::from_secs(1), "{:?}", cured.elapsed());
}

fn traffic_may_fail_an_endpoint_at_once(subject: &Subject) {
    let good = Endpoint::new();
    let told = millrace_support::upstream::Upstream::start(|request| match request.target.as_str() {
        "/hc" => Reply::ok(""),
        _ => Reply::with(200, &[("x-envoy-immediate-health-check-fail", "true")], b""),
    });
    let times = "timeout: 1s, interval: 60s, unhealthy_threshold: 3, healthy_threshold: 1";
    let fields = format!("health_checks: [{{{times}, {HTTP}}}]");
    let endpoints = [good.address(), told.address()];
    let bootstrap = millrace_support::bootstrap::Bootstrap::new()
        .http(millrace_support::bootstrap::Http::to("up"))
        .cluster("up", &endpoints, &fields);
    let proxy = Proxy::start(subject, &bootstrap);
    wait_flags(&proxy, told.address(), "healthy");
    let answers = statuses(&proxy, 2);
    assert_eq!(answers, [200, 200]);
    wait_flags(&proxy, told.address(), "/failed_active_hc/excluded_via_immediate_hc_fail");
    proxy.wait_stat("cluster.up.health_check.passive_failure", 1);
    proxy.wait_stat("cluster.up.membership_excluded", 1);
    serves_alone(&proxy, &good);
}

fn an_answer_to_a_check_may_exclude_its_endpoint(subject: &Subject) {
    let (_good, other, proxy) = pair(subject, HTTP);
    let told = [("x-envoy-immediate-health-check-fail", "true")];
    // Of an answer that passes the field says nothing.
    other.answer(Reply::with(200, &told, b""));
    wait_for_more(&proxy, "success", 4);
    assert_eq!(flags(&proxy, other.address()), "healthy");
    other.answer(Reply::with(503, &told, b""));
    wait_flags(&proxy, other.address(), "/failed_active_hc/excluded_via_immediate_hc_fail");
    proxy.wait_stat("cluster.up.membership_excluded", 1);
    other.answer(Reply::ok(""));
    wait_flags(&proxy, other.address(), "healthy");
    proxy.wait_stat("cluster.up.membership_excluded", 0);
}

/// The events of the log so far, times left out.
fn events(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let event = |line: &str| {
        let (head, tail) = line.split_once("\"timestamp\":\"").unwrap_or((line, ""));
        format!("{head}{}", tail.split_once("\",").map_or("", |(_, rest)| rest))
    };
    text.lines().map(event).collect()
}

fn logged(subject: &Subject, more: &str) -> (Endpoint, Directory, std::path::PathBuf, Proxy) {
    let endpoint = Endpoint::new();
    let directory = Directory::new();
    let path = directory.path().join("events");
    let sink =
        "type.googleapis.com/envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink";
    let check = format!(
        "{HTTP}, event_logger: [{{name: envoy.health_check.event_sink.file, typed_config: {{\"@type\": {sink}, \
         event_log_path: \"{}\"}}}}]{more}",
        path.display()
    );
    let proxy = Proxy::start(subject, &bootstrap(&[endpoint.address()], &check, ""));
    wait_flags(&proxy, endpoint.address(), "healthy");
    (endpoint, directory, path, proxy)
}

fn head(endpoint: &Endpoint) -> String {
    format!(
        "{{\"health_checker_type\":\"HTTP\",\"host\":{{\"socket_address\":{{\"protocol\":\"TCP\",\"address\":\"127.0.0.1\",\
         \"port_value\":{},\"resolver_name\":\"\",\"ipv4_compat\":false,\"network_namespace_filepath\":\"\"}}}},\
         \"cluster_name\":\"up\",",
        endpoint.address().port()
    )
}

const LOCALITY: &str = "\"locality\":{\"region\":\"\",\"zone\":\"\",\"sub_zone\":\"\"}";

fn events_are_logged(subject: &Subject) {
    let (endpoint, _directory, path, proxy) = logged(subject, "");
    let degraded = Reply::with(200, &[("x-envoy-degraded", "")], b"");
    for (answer, flags) in [
        (Reply::status(503), "/failed_active_hc"),
        (Reply::ok(""), "healthy"),
        (degraded, "/degraded_active_hc"),
        (Reply::ok(""), "healthy"),
    ] {
        endpoint.answer(answer);
        wait_flags(&proxy, endpoint.address(), flags);
    }
    let head = head(&endpoint);
    let expected = [
        format!("{head}\"add_healthy_event\":{{\"first_check\":true}},{LOCALITY}}}"),
        format!(
            "{head}\"eject_unhealthy_event\":{{\"failure_type\":\"ACTIVE\",\"http_status_code\":503}},{LOCALITY}}}"
        ),
        format!("{head}\"add_healthy_event\":{{\"first_check\":false}},{LOCALITY}}}"),
        format!("{head}\"degraded_healthy_host\":{{}},{LOCALITY}}}"),
        format!("{head}\"no_longer_degraded_host\":{{}},{LOCALITY}}}"),
    ];
    wait::for_true("all events", || events(&path).len() >= expected.len());
    assert_eq!(events(&path), expected);
}

fn every_failure_and_success_is_logged_when_asked(subject: &Subject) {
    let more = ", always_log_health_check_failures: true, always_log_health_check_success: true";
    let (endpoint, _directory, path, proxy) = logged(subject, more);
    wait_for_more(&proxy, "success", 3);
    endpoint.answer(Reply::status(418));
    wait_flags(&proxy, endpoint.address(), "/failed_active_hc");
    wait_for_more(&proxy, "failure", 3);
    let head = head(&endpoint);
    let success = format!("{head}{LOCALITY},\"successful_health_check_event\":{{}}}}");
    let failure = format!(
        "{head}\"health_check_failure_event\":{{\"failure_type\":\"ACTIVE\",\"first_check\":false,\"http_status_code\":418}},\
         {LOCALITY}}}"
    );
    let count = |line: &String| events(&path).iter().filter(|event| *event == line).count();
    wait::for_true("all events", || count(&success) >= 2 && count(&failure) >= 3);
}

fn one_check_passes_a_new_endpoint(subject: &Subject) {
    let endpoint = Endpoint::new();
    let times =
        "timeout: 1s, interval: 60s, no_traffic_interval: 60s, unhealthy_threshold: 9, healthy_threshold: 9";
    let fields = format!("health_checks: [{{{times}, {HTTP}}}]");
    let bootstrap = millrace_support::bootstrap::Bootstrap::new()
        .http(millrace_support::bootstrap::Http::to("up"))
        .cluster("up", &[endpoint.address()], &fields);
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(flags(&proxy, endpoint.address()), "healthy", "it is ready once the endpoint was checked");
    assert_eq!((stat(&proxy, "attempt"), stat(&proxy, "success")), (1, 1));
    assert_eq!(statuses(&proxy, 2), [200, 200]);
    assert_eq!(endpoint.checks().len(), 1);
}

fn no_traffic_has_intervals_of_its_own(subject: &Subject) {
    let endpoint = Endpoint::new();
    let times = "timeout: 1s, interval: 0.05s, no_traffic_interval: 0.3s, unhealthy_threshold: 1, healthy_threshold: 1";
    let fields = format!("health_checks: [{{{times}, {HTTP}}}]");
    let bootstrap = millrace_support::bootstrap::Bootstrap::new()
        .http(millrace_support::bootstrap::Http::to("up"))
        .cluster("up", &[endpoint.address()], &fields);
    let proxy = Proxy::start(subject, &bootstrap);
    let pace = || {
        let (from, began) = (endpoint.checks().len(), Instant::now());
        wait::for_true("checks", || endpoint.checks().len() >= from + 3);
        began.elapsed()
    };
    assert!(pace() > Duration::from_millis(500), "three intervals of 300 ms, the first one partly over");
    assert_eq!(statuses(&proxy, 1), [200]);
    // The interval that has begun goes on.
    pace();
    assert!(pace() < Duration::from_millis(500), "three intervals of 50 ms");
}

fn admin_tells_what_checks_say(subject: &Subject) {
    let (good, other, proxy) = pair(subject, HTTP);
    other.answer(Reply::hang());
    good.answer(Reply::with(200, &[("x-envoy-degraded", "")], b""));
    wait_flags(&proxy, other.address(), "/failed_active_hc/active_hc_timeout");
    wait_flags(&proxy, good.address(), "/degraded_active_hc");
    let text = proxy.admin_get("/clusters?format=json").text();
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let hosts = all["cluster_statuses"][0]["host_statuses"].as_array().cloned().unwrap_or_default();
    let health: Vec<_> = hosts.iter().map(|host| host["health_status"].clone()).collect();
    let expected = [
        serde_json::json!({"eds_health_status": "HEALTHY", "failed_active_degraded_check": true}),
        serde_json::json!({
            "eds_health_status": "HEALTHY",
            "failed_active_health_check": true,
            "active_hc_timeout": true
        }),
    ];
    assert_eq!(health, expected);
}
