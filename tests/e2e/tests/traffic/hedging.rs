//! Tries beside each other (`hedge_on_per_try_timeout`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::any::http2_cluster;
use millrace_support::h2;
use millrace_support::message::Request;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Step, Upstream};

use super::scripted::{self, BACK_OFF};
use super::{route, start};

pub(crate) const CASES: &[Case] = &[
    case!(the_first_good_answer_wins),
    case!(bad_answers_wait_for_better_ones),
    case!(when_nobody_answers),
    case!(without_retries_nothing_is_hedged),
    case!(bodies_are_sent_with_every_try),
    case!(hedging_over_http2),
    case!(a_late_try_that_begins_to_answer_answers),
    case!(a_client_that_leaves_ends_all_tries),
];

const HEDGE: &str = "timeout: 1s, hedge_policy: {hedge_on_per_try_timeout: true}";

/// `/two` with two retries, `/one` with one, `/none` without, `/over` without a budget for any.
fn proxy(subject: &Subject, upstream: std::net::SocketAddr, fields: &str) -> Proxy {
    let retries = |n: u32| {
        format!("retry_policy: {{retry_on: 5xx, num_retries: {n}, per_try_timeout: 0.2s, {BACK_OFF}}}")
    };
    let routes = [
        route("/two", &format!("cluster: up, {HEDGE}, {}", retries(2))),
        route("/one", &format!("cluster: up, {HEDGE}, {}", retries(1))),
        route("/none", &format!("cluster: up, {HEDGE}, retry_policy: {{per_try_timeout: 0.2s}}")),
        route("/over", &format!("cluster: over, {HEDGE}, {}", retries(2))),
    ]
    .concat();
    let none = format!("circuit_breakers: {{thresholds: [{{max_retries: 0}}]}}\n{fields}");
    start(subject, &routes, &[("up", upstream, fields), ("over", upstream, &none)])
}

/// One exchange: status, body, and the line of the log.
fn ask(proxy: &Proxy, path: &str, answers: &str) -> (u16, String, String, String, String) {
    let case = format!("{path} {answers}").replace([' ', ',', '|', '@', '/'], "_");
    let response = proxy.client().get_with(path, &[("x-case", &case), ("x-answers", answers)]);
    let line = proxy.log().case(&case);
    let of = |key: &str| line.get(key).to_owned();
    (response.status, response.text(), of("flags"), of("details"), of("attempts"))
}

fn expected(status: u16, text: &str, flags: &str, attempts: &str) -> (u16, String, String, String, String) {
    let details = if status == 504 { "response_timeout" } else { "via_upstream" };
    (status, text.into(), flags.into(), details.into(), attempts.into())
}

fn the_first_good_answer_wins(subject: &Subject) {
    let upstream = scripted::upstream();
    let proxy = proxy(subject, upstream.address(), "");
    assert_eq!(ask(&proxy, "/two", "hang,200"), expected(200, "try 2", "-", "2"));
    assert_eq!(upstream.requests()[0].fields.get("x-envoy-expected-rq-timeout-ms"), Some("1000"));
    proxy.wait_stat("cluster.up.upstream_rq_retry_success", 1);
    assert_eq!(ask(&proxy, "/two", "200@300,hang,hang"), expected(200, "try 1", "-", "2"));
    assert_eq!(ask(&proxy, "/two", "200@400,200@500"), expected(200, "try 1", "-", "2"));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    // The late answers were no retries.
    assert_eq!(proxy.stat("cluster.up.upstream_rq_retry_success"), Some(1));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_retry"), Some(3));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_per_try_timeout"), Some(0));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_completed"), Some(3));
}

fn bad_answers_wait_for_better_ones(subject: &Subject) {
    let upstream = scripted::upstream();
    let proxy = proxy(subject, upstream.address(), "");
    assert_eq!(ask(&proxy, "/two", "hang,503,200"), expected(200, "try 3", "-", "3"));
    assert_eq!(ask(&proxy, "/two", "503@450,200@300"), expected(200, "try 2", "-", "3"));
    // A retry, although its time was over and there was no other.
    assert_eq!(ask(&proxy, "/two", "hang,hang,200@300"), expected(200, "try 3", "URX", "3"));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_retry_success"), Some(2));
    // The second says 503 first and is not retried; the late one says no better.
    assert_eq!(ask(&proxy, "/one", "503@400,503"), expected(503, "try 1", "URX", "2"));
    assert_eq!(ask(&proxy, "/one", "500@300,reset"), expected(500, "try 1", "URX", "2"));
    assert_eq!(ask(&proxy, "/one", "200@400,503"), expected(200, "try 1", "URX", "2"));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
}

fn when_nobody_answers(subject: &Subject) {
    let upstream = scripted::upstream();
    let proxy = proxy(subject, upstream.address(), "");
    let late = "upstream request timeout";
    assert_eq!(ask(&proxy, "/two", "hang"), expected(504, late, "URX,UT", "3"));
    proxy.wait_stat("cluster.up.upstream_rq_timeout", 3);
    proxy.wait_stat("cluster.up.upstream_rq_504", 3);
    assert_eq!(ask(&proxy, "/one", "hang,reset"), expected(504, late, "URX,UT", "2"));
    proxy.wait_stat("cluster.up.upstream_rq_503", 1);
    proxy.wait_stat("cluster.up.upstream_rq_504", 4);
    assert_eq!(proxy.stat("cluster.up.upstream_rq_timeout"), Some(4));
    let (status, text, ..) = ask(&proxy, "/one", "reset,reset");
    assert_eq!((status, text.contains("connection termination")), (503, true));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
}

fn without_retries_nothing_is_hedged(subject: &Subject) {
    let upstream = scripted::upstream();
    let proxy = proxy(subject, upstream.address(), "");
    assert_eq!(ask(&proxy, "/none", "200@400"), expected(200, "try 1", "-", "1"));
    assert_eq!(ask(&proxy, "/over", "200@400"), expected(200, "try 1", "UO", "1"));
    proxy.wait_stat("cluster.over.upstream_rq_retry_overflow", 1);
    assert_eq!(ask(&proxy, "/over", "hang"), expected(504, "upstream request timeout", "UO,UT", "1"));
}

fn bodies_are_sent_with_every_try(subject: &Subject) {
    let upstream = scripted::upstream();
    let proxy = proxy(subject, upstream.address(), "");
    let body = b"0123456789".repeat(3_000);
    let fields = [("x-case", "body"), ("x-answers", "hang,hang,200")];
    let response = proxy.client().exchange("POST", "/two", &fields, &body);
    assert_eq!((response.status, response.text()), (200, "try 3".into()));
    assert!(upstream.requests().iter().all(|r| r.body == body));
    assert_eq!(upstream.requests().len(), 3);
    upstream.assert_strict();
}

fn hedging_over_http2(subject: &Subject) {
    let count = AtomicUsize::new(0);
    let upstream = h2::upstream::Upstream::start(move |asked| {
        let delay = |millis| h2::reply::Act::Wait(Duration::from_millis(millis));
        match (count.fetch_add(1, Ordering::SeqCst), asked.get("x-answers")) {
            (0, _) => h2::reply::Reply::hang(),
            (2, _) => h2::reply::Reply(vec![delay(300)]).head(200, &[], false).data(b"late", true),
            (3, _) => h2::reply::Reply::hang(),
            _ => h2::reply::Reply::ok("soon"),
        }
    });
    let proxy = proxy(subject, upstream.address(), &http2_cluster(""));
    let mut client = h2::client::Client::connect(proxy.listener("main"));
    for text in ["soon", "late"] {
        let id = client.request("POST", "/two", &[], b"0123456789");
        assert_eq!(client.response(id).map(|r| (r.status, r.text())), Ok((200, text.to_owned())));
    }
    millrace_support::wait::for_true("the losers are reset", || upstream.resets().len() == 2);
    assert!(upstream.requests().iter().all(|r| r.body == b"0123456789"));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    upstream.assert_strict();
}

fn a_late_try_that_begins_to_answer_answers(subject: &Subject) {
    let late = Step::Sleep(Duration::from_millis(300));
    let head = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate";
    let first = Reply::new().step(late.clone()).send(head).step(late).send(answer);
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_: &Request| match count.fetch_add(1, Ordering::SeqCst) {
        0 => first.clone(),
        _ => Reply::hang(),
    });
    let proxy = proxy(subject, upstream.address(), "");
    assert_eq!(ask(&proxy, "/two", ""), expected(200, "late", "-", "2"));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    for (name, expected) in [("103", 1), ("200", 1), ("completed", 2), ("retry", 1)] {
        assert_eq!(proxy.stat(&format!("cluster.up.upstream_rq_{name}")), Some(expected), "{name}");
    }
}

fn a_client_that_leaves_ends_all_tries(subject: &Subject) {
    let upstream = scripted::upstream();
    let proxy = proxy(subject, upstream.address(), "");
    let mut client = proxy.client();
    client.request("GET", "/two", &[("host", "a"), ("x-case", "left"), ("x-answers", "hang")], b"");
    proxy.wait_stat("cluster.up.upstream_rq_active", 2);
    client.reset();
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    proxy.wait_stat("cluster.up.upstream_cx_active", 0);
    assert_eq!(proxy.log().case("left").get("flags"), "DC");
}
