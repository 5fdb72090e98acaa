//! Outlier detection: who is ejected, for how long, and what is counted. Each case holds for Envoy, too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::config::with_file;
use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::message::Request;
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::tcp::Refused;
use millrace_support::upstream::{Reply, Step, Upstream};

pub(crate) const CASES: &[Case] = &[
    case!(five_failures_in_a_row_eject_one_of_ten_and_nobody_else_notices),
    case!(an_endpoint_comes_back_when_its_time_is_over),
    case!(no_more_than_the_share_is_ejected),
    case!(one_may_always_be_ejected),
    case!(gateway_failures_are_detected_but_not_enforced),
    case!(an_endpoint_that_refuses_is_ejected),
    case!(timeouts_count_as_failures),
    case!(resets_count_as_failures),
    case!(split_local_failures_count_apart),
    case!(split_answers_keep_their_status),
    case!(grpc_statuses_in_heads_count),
    case!(success_rates_are_compared),
    case!(failure_percentages_are_enforced_when_asked),
    case!(tcp_connections_that_fail_eject),
    case!(ejection_into_panic),
    case!(an_endpoint_that_says_it_is_degraded_is_spared),
    case!(errors_of_an_error_matcher),
    case!(all_connections_are_left_when_one_is_ejected),
    case!(max_ejection_time_shorter_than_the_base_is_refused),
];

const PREFIX: &str = "cluster.up.outlier_detection.ejections";

/// An endpoint that answers with a status of our choice.
struct Switched {
    status: Arc<AtomicU16>,
    upstream: Upstream,
}

impl Switched {
    fn new() -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let answer = Arc::clone(&status);
        let upstream = Upstream::start(move |_| Reply::status(answer.load(Ordering::Relaxed)));
        Self { status, upstream }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn requests(&self) -> usize {
        self.upstream.requests().len()
    }
}

fn many(count: usize) -> Vec<Switched> {
    (0..count).map(|_| Switched::new()).collect()
}

fn proxy(subject: &Subject, endpoints: &[SocketAddr], detection: &str, route: &str) -> Proxy {
    let routes = format!("- match: {{prefix: \"/\"}}\n  route:\n    cluster: up\n{route}");
    let cluster = format!("outlier_detection: {{{detection}}}");
    let bootstrap = Bootstrap::new().http(Http::routes(&routes)).cluster("up", endpoints, &cluster);
    Proxy::start(subject, &bootstrap)
}

fn with(subject: &Subject, endpoints: &[Switched], detection: &str) -> Proxy {
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.upstream.address()).collect();
    proxy(subject, &addresses, detection, "")
}

/// Requests until the endpoint has had so many; returns how many answers were not 200.
fn until(proxy: &Proxy, endpoint: &Switched, wanted: usize) -> usize {
    let mut client = proxy.client();
    let (mut failures, mut sent) = (0, 0);
    while endpoint.requests() < wanted {
        assert!(sent < wanted * 40, "{wanted} requests never reached the endpoint");
        failures += usize::from(client.get("/").status != 200);
        sent += 1;
    }
    failures
}

/// Asks until it holds.
#[track_caller]
fn eventually(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "it never came true");
    }
}

fn statuses(proxy: &Proxy, requests: usize) -> Vec<u16> {
    let mut client = proxy.client();
    (0..requests).map(|_| client.get("/").status).collect()
}

fn stats(proxy: &Proxy, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| proxy.stat(&format!("{PREFIX}_{name}")).unwrap_or(u64::MAX)).collect()
}

fn five_failures_in_a_row_eject_one_of_ten_and_nobody_else_notices(subject: &Subject) {
    let endpoints = many(10);
    let proxy = with(subject, &endpoints, "");
    endpoints[3].answer(500);
    assert_eq!(until(&proxy, &endpoints[3], 5), 5);
    proxy.wait_stat(&format!("{PREFIX}_active"), 1);
    assert_eq!(statuses(&proxy, 100), [200; 100]);
    assert_eq!(endpoints[3].requests(), 5);
    let names = [
        "enforced_total",
        "enforced_consecutive_5xx",
        "detected_consecutive_5xx",
        "total",
        "consecutive_5xx",
        "overflow",
        "detected_consecutive_gateway_failure",
    ];
    assert_eq!(stats(&proxy, &names), [1, 1, 1, 1, 1, 0, 0]);
    assert_eq!(proxy.stat("cluster.up.membership_healthy"), Some(9));
    let clusters = proxy.admin_get("/clusters").text();
    let address = endpoints[3].upstream.address();
    assert!(
        clusters.contains(&format!("up::{address}::health_flags::/failed_outlier_check\n")),
        "{clusters}"
    );
    assert_eq!(clusters.matches("health_flags::healthy").count(), 9);
    let json = proxy.admin_get("/clusters?format=json").text();
    assert_eq!(
        json.matches("\"failed_outlier_check\": true").count()
            + json.matches("\"failed_outlier_check\":true").count(),
        1,
        "{json}"
    );
}

fn an_endpoint_comes_back_when_its_time_is_over(subject: &Subject) {
    let endpoints = many(3);
    let detection = "interval: 0.2s, base_ejection_time: 0.5s, max_ejection_percent: 50, consecutive_5xx: 2";
    let proxy = with(subject, &endpoints, detection);
    endpoints[0].answer(503);
    until(&proxy, &endpoints[0], 2);
    proxy.wait_stat(&format!("{PREFIX}_active"), 1);
    let began = Instant::now();
    endpoints[0].answer(200);
    proxy.wait_stat(&format!("{PREFIX}_active"), 0);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(300), "back after {took:?}");
    // Envoy tells its workers within `update_merge_window`, 1 s.
    eventually(|| {
        assert_eq!(statuses(&proxy, 3), [200; 3]);
        endpoints[0].requests() >= 5
    });
    assert_eq!(proxy.stat("cluster.up.membership_healthy"), Some(3));
}

fn no_more_than_the_share_is_ejected(subject: &Subject) {
    let endpoints = many(4);
    let proxy = with(subject, &endpoints, "max_ejection_percent: 25, consecutive_5xx: 2");
    for endpoint in &endpoints[..2] {
        endpoint.answer(500);
    }
    until(&proxy, &endpoints[0], 2);
    until(&proxy, &endpoints[1], 2);
    proxy.wait_stat(&format!("{PREFIX}_overflow"), 1);
    assert_eq!(stats(&proxy, &["active", "enforced_total", "detected_consecutive_5xx"]), [1, 1, 2]);
}

fn one_may_always_be_ejected(subject: &Subject) {
    let endpoints = many(4);
    let proxy = with(subject, &endpoints, "consecutive_5xx: 2, always_eject_one_host: true");
    endpoints[2].answer(500);
    until(&proxy, &endpoints[2], 2);
    proxy.wait_stat(&format!("{PREFIX}_active"), 1);
    assert_eq!(statuses(&proxy, 12), [200; 12]);
    let endpoints = many(4);
    let proxy = with(subject, &endpoints, "consecutive_5xx: 2");
    endpoints[2].answer(500);
    until(&proxy, &endpoints[2], 2);
    proxy.wait_stat(&format!("{PREFIX}_overflow"), 1);
    assert_eq!(stats(&proxy, &["active"]), [0]);
}

fn gateway_failures_are_detected_but_not_enforced(subject: &Subject) {
    let endpoints = many(2);
    let detection = "consecutive_gateway_failure: 3, consecutive_5xx: 100, max_ejection_percent: 100";
    let proxy = with(subject, &endpoints, detection);
    endpoints[1].answer(502);
    until(&proxy, &endpoints[1], 3);
    proxy.wait_stat(&format!("{PREFIX}_detected_consecutive_gateway_failure"), 1);
    let names = ["active", "enforced_consecutive_gateway_failure", "total", "overflow"];
    assert_eq!(stats(&proxy, &names), [0; 4]);
    let endpoints = many(2);
    let proxy =
        with(subject, &endpoints, &format!("{detection}, enforcing_consecutive_gateway_failure: 100"));
    endpoints[1].answer(502);
    until(&proxy, &endpoints[1], 3);
    proxy.wait_stat(&format!("{PREFIX}_active"), 1);
    assert_eq!(stats(&proxy, &names), [1, 1, 0, 0]);
}

fn an_endpoint_that_refuses_is_ejected(subject: &Subject) {
    let (good, refused) = (Upstream::fixed("good"), Refused::new());
    let addresses = [good.address(), refused.address()];
    let proxy = proxy(subject, &addresses, "consecutive_5xx: 3, max_ejection_percent: 50", "");
    let seen = statuses(&proxy, 6);
    assert_eq!(seen.iter().filter(|status| **status == 503).count(), 3, "{seen:?}");
    proxy.wait_stat(&format!("{PREFIX}_active"), 1);
    assert_eq!(statuses(&proxy, 10), [200; 10]);
    assert_eq!(
        stats(&proxy, &["enforced_consecutive_5xx", "detected_consecutive_local_origin_failure"]),
        [1, 0]
    );
}

fn timeouts_count_as_failures(subject: &Subject) {
    let (good, slow) = (Upstream::fixed("good"), Upstream::start(|_| Reply::hang()));
    let addresses = [good.address(), slow.address()];
    for route in [
        "    timeout: 0.1s\n",
        "    retry_policy: {retry_on: reset, num_retries: 0, per_try_timeout: 0.1s}\n",
    ] {
        let proxy = proxy(subject, &addresses, "consecutive_5xx: 2, max_ejection_percent: 50", route);
        let seen = statuses(&proxy, 4);
        assert_eq!(seen.iter().filter(|status| **status == 504).count(), 2, "{route}: {seen:?}");
        proxy.wait_stat(&format!("{PREFIX}_active"), 1);
        assert_eq!(statuses(&proxy, 6), [200; 6]);
    }
}

fn resets_count_as_failures(subject: &Subject) {
    let partial = || Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nxx").step(Step::Reset);
    let before: fn() -> Reply = Reply::reset;
    for (reply, ejected) in [(before, 1), (partial as fn() -> Reply, 0)] {
        let (good, bad) = (Upstream::fixed("good"), Upstream::start(move |_| reply()));
        let addresses = [good.address(), bad.address()];
        let proxy = proxy(subject, &addresses, "consecutive_5xx: 2, max_ejection_percent: 50", "");
        for _ in 0..8 {
            let mut client = proxy.client();
            client.request("GET", "/", &[("host", "a")], b"");
            let _ = client.response("GET");
        }
        proxy.wait_stat(&format!("{PREFIX}_active"), ejected);
        let reached = if ejected == 1 { 2 } else { 4 };
        assert_eq!(bad.requests().len(), reached);
    }
}

fn split_local_failures_count_apart(subject: &Subject) {
    let (good, refused) = (Upstream::fixed("good"), Refused::new());
    let addresses = [good.address(), refused.address()];
    let detection = "split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, max_ejection_percent: 50";
    let proxy = proxy(subject, &addresses, detection, "");
    let seen = statuses(&proxy, 4);
    assert_eq!(seen.iter().filter(|status| **status == 503).count(), 2, "{seen:?}");
    proxy.wait_stat(&format!("{PREFIX}_enforced_consecutive_local_origin_failure"), 1);
    assert_eq!(statuses(&proxy, 10), [200; 10]);
    assert_eq!(stats(&proxy, &["active", "enforced_consecutive_5xx", "total"]), [1, 0, 0]);
}

fn split_answers_keep_their_status(subject: &Subject) {
    let endpoints = many(2);
    let detection = "split_external_local_origin_errors: true, consecutive_gateway_failure: 2, consecutive_5xx: 4, \
                     max_ejection_percent: 50";
    let proxy = with(subject, &endpoints, detection);
    endpoints[0].answer(500);
    until(&proxy, &endpoints[0], 4);
    proxy.wait_stat(&format!("{PREFIX}_enforced_consecutive_5xx"), 1);
    assert_eq!(stats(&proxy, &["detected_consecutive_gateway_failure"]), [0]);
}

fn grpc_statuses_in_heads_count(subject: &Subject) {
    let reply = |status: &'static str| {
        move |_: &Request| {
            Reply::with(200, &[("content-type", "application/grpc"), ("grpc-status", status)], b"")
        }
    };
    for (status, ejected) in [("14", 1), ("5", 0)] {
        let (good, bad) = (Upstream::start(reply("0")), Upstream::start(reply(status)));
        let addresses = [good.address(), bad.address()];
        let proxy = proxy(subject, &addresses, "consecutive_5xx: 2, max_ejection_percent: 50", "");
        let mut client = proxy.client();
        for _ in 0..8 {
            let fields = [("content-type", "application/grpc"), ("te", "trailers")];
            assert_eq!(client.exchange("POST", "/a.B/C", &fields, b"").status, 200);
        }
        proxy.wait_stat(&format!("{PREFIX}_active"), ejected);
        assert_eq!(bad.requests().len(), if ejected == 1 { 2 } else { 4 });
    }
}

/// Every second request to this endpoint fails.
fn half_bad() -> Upstream {
    let turn = AtomicU16::new(0);
    Upstream::start(move |_| match turn.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => Reply::status(500),
        _ => Reply::status(200),
    })
}

fn success_rates_are_compared(subject: &Subject) {
    let good: Vec<_> = (0..5).map(|_| Upstream::fixed("good")).collect();
    let bad = half_bad();
    let mut addresses: Vec<_> = good.iter().map(Upstream::address).collect();
    addresses.push(bad.address());
    let detection = "interval: 1s, success_rate_request_volume: 10, max_ejection_percent: 20";
    let proxy = proxy(subject, &addresses, detection, "");
    let began = Instant::now();
    // In whichever interval they fall, one of them holds enough.
    while proxy.stat(&format!("{PREFIX}_active")) != Some(1) {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody was ejected");
        statuses(&proxy, 180);
    }
    let names = [
        "enforced_success_rate",
        "detected_success_rate",
        "success_rate",
        "total",
        "enforced_failure_percentage",
    ];
    assert_eq!(stats(&proxy, &names), [1, 1, 1, 1, 0]);
    let before = bad.requests().len();
    assert_eq!(statuses(&proxy, 30), [200; 30]);
    assert_eq!(bad.requests().len(), before);
}

fn failure_percentages_are_enforced_when_asked(subject: &Subject) {
    let good: Vec<_> = (0..2).map(|_| Upstream::fixed("good")).collect();
    let bad = half_bad();
    let addresses = [good[0].address(), good[1].address(), bad.address()];
    let detection = "interval: 1s, failure_percentage_threshold: 40, failure_percentage_minimum_hosts: 3, \
                     failure_percentage_request_volume: 10, enforcing_failure_percentage: 100, max_ejection_percent: 50";
    let proxy = proxy(subject, &addresses, detection, "");
    let began = Instant::now();
    while proxy.stat(&format!("{PREFIX}_active")) != Some(1) {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody was ejected");
        statuses(&proxy, 90);
    }
    let names =
        ["enforced_failure_percentage", "detected_failure_percentage", "enforced_success_rate", "total"];
    assert_eq!(stats(&proxy, &names), [1, 1, 0, 0]);
}

fn tcp_connections_that_fail_eject(subject: &Subject) {
    let (good, refused) = (Upstream::fixed("good"), Refused::new());
    let cluster = "outlier_detection: {consecutive_5xx: 2, max_ejection_percent: 50}";
    let addresses = [good.address(), refused.address()];
    let bootstrap = Bootstrap::new()
        .tcp("tcp", "stat_prefix: tcp\ncluster: up\nmax_connect_attempts: 1\n")
        .cluster("up", &addresses, cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    let target = proxy.listener("tcp");
    for _ in 0..4 {
        let mut client = Client::connect(target);
        let _ = client.try_send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let _ = client.response("GET");
    }
    proxy.wait_stat(&format!("{PREFIX}_active"), 1);
    for _ in 0..4 {
        assert_eq!(Client::connect(target).get("/").text(), "good");
    }
}

fn ejection_into_panic(subject: &Subject) {
    let endpoints = many(2);
    let proxy = with(subject, &endpoints, "consecutive_5xx: 1, max_ejection_percent: 100");
    endpoints.iter().for_each(|endpoint| endpoint.answer(500));
    until(&proxy, &endpoints[0], 1);
    until(&proxy, &endpoints[1], 1);
    proxy.wait_stat(&format!("{PREFIX}_active"), 2);
    let before = [endpoints[0].requests(), endpoints[1].requests()];
    eventually(|| {
        assert_eq!(statuses(&proxy, 2), [500; 2]);
        proxy.stat("cluster.up.lb_healthy_panic").unwrap_or(0) >= 6
    });
    let now = [endpoints[0].requests(), endpoints[1].requests()];
    assert!(now[0] > before[0] && now[1] > before[1], "everybody is used in panic: {before:?}, {now:?}");
}

fn an_endpoint_that_says_it_is_degraded_is_spared(subject: &Subject) {
    let answer = |status: u16| Reply::with(status, &[("x-envoy-degraded", "")], b"");
    let degraded = Arc::new(AtomicU16::new(500));
    let says = Arc::clone(&degraded);
    let some = Upstream::start(move |_| match says.load(Ordering::Relaxed) {
        0 => Reply::status(200),
        status => answer(status),
    });
    let other = Upstream::fixed("other");
    let detection = "interval: 1s, base_ejection_time: 1s, detect_degraded_hosts: true";
    let proxy = proxy(subject, &[some.address(), other.address()], detection, "");
    eventually(|| statuses(&proxy, 4).contains(&500));
    assert_eq!(proxy.stat(&format!("{PREFIX}_detected_degradation")), Some(0), "a failure is one");
    degraded.store(200, Ordering::Relaxed);
    eventually(|| {
        statuses(&proxy, 2);
        proxy.stat("cluster.up.membership_degraded") == Some(1)
    });
    let flags = proxy.admin_get("/clusters").text();
    assert_eq!(flags.matches("health_flags::/degraded_outlier_detection\n").count(), 1, "{flags}");
    degraded.store(0, Ordering::Relaxed);
    let names = ["detected_degradation", "enforced_total", "total", "active"];
    assert_eq!(stats(&proxy, &names), [1, 0, 0, 0]);
    proxy.wait_stat("cluster.up.membership_degraded", 0);
    let before = some.requests().len();
    eventually(|| {
        statuses(&proxy, 2);
        some.requests().len() > before
    });
}

fn errors_of_an_error_matcher(subject: &Subject) {
    let some = Upstream::start(|_| Reply::with(200, &[("x-failed", "1")], b""));
    let other = Upstream::start(|_| Reply::status(503));
    let cluster = "outlier_detection: {consecutive_5xx: 2, max_ejection_percent: 100, \
                   enforcing_consecutive_gateway_failure: 100, consecutive_gateway_failure: 1}\n\
                   typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
                   '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    \
                   explicit_http_config: {http_protocol_options: {}}\n    outlier_detection: {error_matcher: {and_match: {rules: [\
                   {http_response_headers_match: {headers: [{name: x-failed, present_match: true}]}}, \
                   {not_match: {http_response_headers_match: {headers: [{name: x-fine, present_match: true}]}}}]}}}";
    let addresses = [some.address(), other.address()];
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &addresses, cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    eventually(|| {
        statuses(&proxy, 2);
        proxy.stat(&format!("{PREFIX}_active")) == Some(1)
    });
    // One endpoint is out, and 503 is no error.
    assert_eq!(statuses(&proxy, 8), [503; 8]);
    let names = ["enforced_consecutive_5xx", "detected_consecutive_gateway_failure"];
    assert_eq!(stats(&proxy, &names), [1, 0]);
}

fn all_connections_are_left_when_one_is_ejected(subject: &Subject) {
    let endpoints = many(3);
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.upstream.address()).collect();
    let cluster = "outlier_detection: {consecutive_5xx: 1, max_ejection_percent: 100}\n\
                   common_lb_config: {close_connections_on_host_set_change: true}";
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &addresses, cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    until(&proxy, &endpoints[0], 1);
    until(&proxy, &endpoints[1], 1);
    let open = proxy.stat("cluster.up.upstream_cx_active");
    assert!(open >= Some(2), "{open:?}");
    endpoints[2].answer(500);
    until(&proxy, &endpoints[2], endpoints[2].requests() + 1);
    proxy.wait_stat(&format!("{PREFIX}_active"), 1);
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    assert_eq!(statuses(&proxy, 4), [200; 4]);
}

fn max_ejection_time_shorter_than_the_base_is_refused(subject: &Subject) {
    let detection = "outlier_detection: {base_ejection_time: 10s, max_ejection_time: 5s}";
    let endpoint = Upstream::fixed("x");
    let bootstrap = Bootstrap::new().http(Http::to("up")).cluster("up", &[endpoint.address()], detection);
    let finished = with_file(subject, "outliers.yaml", &bootstrap.yaml(), &["--mode", "validate"]);
    assert_ne!(finished.code, Some(0));
    let text = finished.stderr + &finished.stdout;
    assert!(text.contains("max_ejection_time"), "{text}");
}
