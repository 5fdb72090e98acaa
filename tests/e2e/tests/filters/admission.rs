//! The filters `admission_control` and `adaptive_concurrency`.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::any::{Answer, Body, Origin, Version, http2_cluster};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Step, Upstream};

use super::{FORWARD, chain, rest, start};

pub(crate) const CASES: &[Case] = &[
    case!(failures_are_answered_with_refusals),
    case!(what_is_a_success),
    case!(few_requests_are_never_refused),
    case!(no_more_at_a_time_than_the_limit),
    case!(the_limit_follows_the_latency),
    case!(switched_off),
];

const ADMISSION: &str = "admission_control.v3.AdmissionControl";
const CONCURRENCY: &str = "adaptive_concurrency.v3.AdaptiveConcurrency";

/// Answers the status that the path names.
fn statuses() -> Upstream {
    Upstream::start(|request| {
        let status = request.target.trim_start_matches('/').parse().unwrap_or(200);
        Reply::bytes(status, b"x")
    })
}

fn counted(proxy: &Proxy, name: &str) -> u64 {
    proxy.stat(&format!("http.main.admission_control.{name}")).unwrap_or(0)
}

/// Of many requests to an endpoint that fails most are refused, but never more than configured.
fn failures_are_answered_with_refusals(subject: &Subject) {
    let upstream = statuses();
    let fields = "success_criteria: {}, sampling_window: 60s, max_rejection_probability: {default_value: {value: 50}, runtime_key: x}";
    let proxy = start(subject, &[("a", ADMISSION, fields)], &rest(FORWARD), &upstream);
    // On one connection: what is seen is kept by each worker.
    let mut client = proxy.client();
    let answers: Vec<u16> = (0..400).map(|_| client.get("/500").status).collect();
    let refused = answers.iter().filter(|status| **status == 503).count();
    // 50 %, give or take 4 standard deviations.
    assert!((150..=245).contains(&refused), "{refused}");
    proxy.wait_stat("http.main.admission_control.rq_rejected", refused as u64);
    assert_eq!(counted(&proxy, "rq_failure"), 400 - refused as u64);
    let first = answers.iter().position(|status| *status == 503).unwrap_or(0);
    let line = proxy.log().line(first);
    assert_eq!((line.get("details"), line.get("flags")), ("denied_by_admission_control", "-"));
}

fn what_is_a_success(subject: &Subject) {
    // Trailers of HTTP/1.1 endpoints do not come as far as the filters of Envoy.
    let origin = Origin::start(Version::Http2, |seen| match seen.path.as_str() {
        "/grpc-ok" => grpc("0"),
        "/grpc-bad" => grpc("14"),
        path => Answer { status: path.trim_start_matches('/').parse().unwrap_or(200), ..Answer::default() },
    });
    for (criteria, paths, successes) in [
        ("{}", &["/200", "/404", "/500", "/grpc-ok", "/grpc-bad"][..], 3),
        (
            "{http_criteria: {http_success_status: [{start: 200, end: 300}, {start: 500, end: 501}]}}",
            &["/200", "/404", "/500"],
            2,
        ),
        ("{grpc_criteria: {grpc_success_status: [14]}}", &["/grpc-ok", "/grpc-bad"], 1),
    ] {
        let fields = format!(
            "success_criteria: {criteria}, max_rejection_probability: {{default_value: {{value: 0}}, runtime_key: x}}"
        );
        let bootstrap = Bootstrap::new()
            .http(Http::to("up").hcm(&chain(&[("a", ADMISSION, &fields)])))
            .cluster("up", &[origin.address()], &http2_cluster(""));
        let proxy = Proxy::start(subject, &bootstrap);
        let mut client = proxy.client();
        for path in paths {
            client.get(path);
        }
        proxy.wait_stat("http.main.admission_control.rq_success", successes);
        assert_eq!(counted(&proxy, "rq_failure"), paths.len() as u64 - successes, "{criteria}");
    }
}

fn grpc(status: &str) -> Answer {
    Answer {
        status: 200,
        fields: vec![("content-type", "application/grpc".into())],
        body: Body::Streamed(vec![b"\0\0\0\0\0".to_vec()]),
        trailers: vec![("grpc-status", status.into())],
        ..Answer::default()
    }
}

fn few_requests_are_never_refused(subject: &Subject) {
    let upstream = statuses();
    let fields =
        "success_criteria: {}, sampling_window: 10s, rps_threshold: {default_value: 100, runtime_key: x}";
    let proxy = start(subject, &[("a", ADMISSION, fields)], &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    for _ in 0..100 {
        assert_eq!(client.get("/500").status, 500);
    }
    assert_eq!(counted(&proxy, "rq_rejected"), 0);
}

const GRADIENT: &str = "gradient_controller_config: {concurrency_limit_params: {concurrency_update_interval: 0.1s}, min_rtt_calc_params: {interval: 600s, request_count: 5, jitter: {value: 0}}}";

/// The first limit is that of the measurement: three.
fn no_more_at_a_time_than_the_limit(subject: &Subject) {
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/slow" => Reply::new().step(Step::Hang),
        _ => Reply::ok("x"),
    });
    let fields = format!("{GRADIENT}, concurrency_limit_exceeded_status: {{code: TooManyRequests}}");
    let proxy = start(subject, &[("c", CONCURRENCY, &fields)], &rest(FORWARD), &upstream);
    let mut slow: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut slow {
        client.request("GET", "/slow", &[("host", "a")], b"");
    }
    upstream.wait_for(3);
    let refused = proxy.client().get("/");
    assert_eq!((refused.status, refused.text().as_str()), (429, "reached concurrency limit"));
    assert_eq!(proxy.log().line(0).get("details"), "reached_concurrency_limit");
    proxy.wait_stat("http.main.adaptive_concurrency.gradient_controller.rq_blocked", 1);
    proxy.wait_stat("http.main.adaptive_concurrency.gradient_controller.min_rtt_calculation_active", 1);
    // Whoever leaves makes room.
    drop(slow.pop());
    proxy.wait_stat("http.main.downstream_rq_active", 2);
    assert_eq!(proxy.client().get("/").status, 200);
}

fn the_limit_follows_the_latency(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::ok("x").after(Duration::from_millis(5)));
    let proxy = start(subject, &[("c", CONCURRENCY, GRADIENT)], &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    let of = |name: &str| {
        proxy.stat(&format!("http.main.adaptive_concurrency.gradient_controller.{name}")).unwrap_or(0)
    };
    for _ in 0..5 {
        assert_eq!(client.get("/").status, 200);
    }
    proxy.wait_stat("http.main.adaptive_concurrency.gradient_controller.min_rtt_calculation_active", 0);
    let measured = of("min_rtt_msecs");
    assert!((5..100).contains(&measured), "{measured}");
    // Requests that take as long as the measured ones: the limit grows.
    let mut asked = 0;
    while of("concurrency_limit") <= 5 {
        assert_eq!(client.get("/").status, 200);
        asked += 1;
        assert!(asked < 2000, "{}", of("concurrency_limit"));
    }
    assert!(of("gradient") >= 500 && of("burst_queue_size") >= 1);
}

fn switched_off(subject: &Subject) {
    let off = "enabled: {default_value: false, runtime_key: x}";
    let upstream = statuses();
    let filters = [
        ("a", ADMISSION, &*format!("{off}, success_criteria: {{}}")),
        ("c", CONCURRENCY, &*format!("{off}, {GRADIENT}")),
    ];
    let flag = |disabled: &str| {
        format!(
            "- match: {{prefix: /}}\n  {FORWARD}\n  typed_per_filter_config: {{a: {{\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, {disabled}}}}}\n"
        )
    };
    let proxy = start(subject, &filters, &flag("disabled: true"), &upstream);
    let mut client = proxy.client();
    for _ in 0..50 {
        assert_eq!(client.get("/500").status, 500);
    }
    assert_eq!(counted(&proxy, "rq_failure"), 0);
}
