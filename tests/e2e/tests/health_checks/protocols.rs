//! What is asked over HTTP, HTTP/2, gRPC and TCP, and which answers pass.

use std::net::SocketAddr;

use super::endpoint::Endpoint;
use super::{checked, flags, stat, wait_flags, wait_for_more};
use crate::config::with_file;
use millrace_e2e::{Case, case};
use millrace_support::any::{Answer, Body, Origin, Version, http2_cluster};
use millrace_support::bootstrap::Bootstrap;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::upstream::Reply;
use millrace_support::wait;

pub(crate) const CASES: &[Case] = &[
    case!(http_asks_as_envoy_does),
    case!(http_requests_have_the_configured_head),
    case!(http_may_have_a_body_and_expect_one),
    case!(expected_statuses_replace_200),
    case!(connections_are_reused_unless_told_otherwise),
    case!(an_answer_may_end_its_connection),
    case!(the_service_must_have_the_name),
    case!(http2_checks_pass_and_fail),
    case!(grpc_serving_passes_and_nothing_else),
    case!(grpc_asks_as_envoy_does),
    case!(tcp_without_payload_asks_for_a_connection),
    case!(tcp_payloads_are_sent_and_found),
    case!(tcp_checks_begin_with_the_proxy_protocol),
    case!(endpoints_say_where_and_whether_they_are_checked),
    case!(what_cannot_be_is_refused),
];

fn http_asks_as_envoy_does(subject: &Subject) {
    let endpoint = Endpoint::new();
    let proxy = checked(subject, &[endpoint.address()], "http_health_check: {path: /hc}", "");
    wait_flags(&proxy, endpoint.address(), "healthy");
    let text = String::from_utf8(endpoint.checks()[0].raw.clone()).expect("a head");
    assert_eq!(text, "GET /hc HTTP/1.1\r\nhost: up\r\nuser-agent: Envoy/HC\r\n\r\n");
    endpoint.upstream.assert_strict();
}

fn http_requests_have_the_configured_head(subject: &Subject) {
    let endpoint = Endpoint::new();
    let check = "http_health_check: {path: /hc, host: checked.test, method: OPTIONS, \
                 request_headers_to_add: [{header: {key: x-a, value: \"%PROTOCOL% %DOWNSTREAM_REMOTE_ADDRESS%\"}}], \
                 request_headers_to_remove: [user-agent]}";
    let proxy = checked(subject, &[endpoint.address()], check, "");
    wait_flags(&proxy, endpoint.address(), "healthy");
    let text = String::from_utf8(endpoint.checks()[0].raw.clone()).expect("a head");
    let expected = "OPTIONS /hc HTTP/1.1\r\nhost: checked.test\r\nx-a: HTTP/1.1 127.0.0.1:0\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(text, expected);
}

fn http_may_have_a_body_and_expect_one(subject: &Subject) {
    let endpoint = Endpoint::answering(Reply::chunked(&[], &[b"all is w", b"ell today"], &[]));
    // "ping", "well", "day".
    let check = "http_health_check: {path: /hc, method: POST, send: {text: '70696e67'}, \
                 receive: [{text: '77656c6c'}, {text: '646179'}]}";
    let proxy = checked(subject, &[endpoint.address()], check, "");
    wait_flags(&proxy, endpoint.address(), "healthy");
    let check = &endpoint.checks()[0];
    assert_eq!((&check.body[..], check.fields.get("content-length")), (&b"ping"[..], Some("4")));
    endpoint.answer(Reply::ok("today all is well"));
    wait_flags(&proxy, endpoint.address(), "/failed_active_hc");
    assert_eq!(stat(&proxy, "network_failure"), 0);
    // What is beyond the first 1024 octets is not looked at.
    endpoint.answer(Reply::ok(&format!("{}well day", "x".repeat(1020))));
    wait_for_more(&proxy, "failure", 3);
    assert_eq!(flags(&proxy, endpoint.address()), "/failed_active_hc");
    endpoint.answer(Reply::ok(&format!("{}wellday", "x".repeat(1017))));
    wait_flags(&proxy, endpoint.address(), "healthy");
}

fn expected_statuses_replace_200(subject: &Subject) {
    let endpoint = Endpoint::answering(Reply::status(204));
    let check =
        "http_health_check: {path: /hc, expected_statuses: [{start: 201, end: 300}, {start: 418, end: 419}]}";
    let proxy = checked(subject, &[endpoint.address()], check, "");
    wait_flags(&proxy, endpoint.address(), "healthy");
    for (status, expected) in
        [(200, "/failed_active_hc"), (418, "healthy"), (419, "/failed_active_hc"), (299, "healthy")]
    {
        endpoint.answer(Reply::status(status));
        wait_flags(&proxy, endpoint.address(), expected);
    }
}

fn connections_are_reused_unless_told_otherwise(subject: &Subject) {
    for (more, reused) in [("", true), (", reuse_connection: false", false)] {
        let endpoint = Endpoint::new();
        let check = format!("http_health_check: {{path: /hc}}{more}");
        let proxy = checked(subject, &[endpoint.address()], &check, "");
        wait_for_more(&proxy, "success", 5);
        let (checks, connections) = (endpoint.checks().len(), endpoint.upstream.connections());
        match reused {
            true => assert_eq!(connections, 1),
            false => assert!(connections >= checks, "{connections} connections for {checks} checks"),
        }
    }
}

fn an_answer_may_end_its_connection(subject: &Subject) {
    let answers = [
        Reply::with(200, &[("connection", "close")], b"x"),
        Reply::until_close(b"what comes"),
        Reply::raw("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx"),
    ];
    for answer in answers {
        let endpoint = Endpoint::answering(answer);
        let proxy = checked(subject, &[endpoint.address()], "http_health_check: {path: /hc}", "");
        wait_for_more(&proxy, "success", 4);
        assert_eq!(stat(&proxy, "failure"), 0);
        assert!(endpoint.upstream.connections() >= 4);
    }
}

fn the_service_must_have_the_name(subject: &Subject) {
    let named = |name| Reply::with(200, &[("x-envoy-upstream-healthchecked-cluster", name)], b"");
    let endpoint = Endpoint::answering(named("locations-1"));
    let check = "http_health_check: {path: /hc, service_name_matcher: {prefix: locations}}";
    let proxy = checked(subject, &[endpoint.address()], check, "");
    wait_flags(&proxy, endpoint.address(), "healthy");
    assert!(stat(&proxy, "verify_cluster") >= 1);
    endpoint.answer(named("others"));
    wait_flags(&proxy, endpoint.address(), "/failed_active_hc");
    endpoint.answer(named("locations"));
    wait_flags(&proxy, endpoint.address(), "healthy");
    endpoint.answer(Reply::ok(""));
    wait_flags(&proxy, endpoint.address(), "/failed_active_hc");
}

/// An origin over HTTP/2 that answers with what the list says for the number of the request, and with the last entry
/// from then on.
fn scripted(answers: Vec<Answer>) -> Origin {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Origin::start(Version::Http2, move |_| {
        let at = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        answers[at.min(answers.len() - 1)].clone()
    })
}

fn http2_checks_pass_and_fail(subject: &Subject) {
    let status = |status| Answer { status, ..Answer::default() };
    let origin = scripted(vec![status(200), status(503), status(200)]);
    let check =
        "http_health_check: {path: /hc, codec_client_type: HTTP2}, always_log_health_check_failures: true";
    let proxy = checked(subject, &[origin.address()], check, &http2_cluster(""));
    wait::for_true("a failure", || stat(&proxy, "failure") == 1);
    wait_flags(&proxy, origin.address(), "healthy");
    let asked = &origin.requests()[0];
    assert_eq!((&*asked.method, &*asked.path, &*asked.authority), ("GET", "/hc", "up"));
    assert_eq!(asked.fields.get("user-agent"), Some("Envoy/HC"));
    assert_eq!(stat(&proxy, "network_failure"), 0);
    assert_eq!(origin.violations(), Vec::<String>::new());
}

fn grpc(status: &str, message: &[u8]) -> Answer {
    Answer {
        status: 200,
        fields: vec![("content-type", "application/grpc".to_owned())],
        body: Body::Streamed(vec![message.to_vec()]),
        trailers: vec![("grpc-status", status.to_owned())],
        ..Answer::default()
    }
}

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

fn grpc_serving_passes_and_nothing_else(subject: &Subject) {
    let trailers_only = Answer {
        status: 200,
        fields: vec![("content-type", "application/grpc".to_owned()), ("grpc-status", "12".to_owned())],
        ..Answer::default()
    };
    let bad = [
        grpc("0", &[0, 0, 0, 0, 2, 8, 2]),
        grpc("5", SERVING),
        grpc("0", &[0, 0, 0, 0, 0]),
        trailers_only,
        Answer { status: 503, ..Answer::default() },
        Answer { fields: vec![("content-type", "text/html".to_owned())], ..grpc("0", SERVING) },
    ];
    let count = bad.len() as u64;
    for answer in bad {
        let shown = format!("{answer:?}");
        let origin = scripted(vec![grpc("0", SERVING), answer]);
        let proxy = checked(subject, &[origin.address()], "grpc_health_check: {}", &http2_cluster(""));
        wait_flags(&proxy, origin.address(), "/failed_active_hc");
        assert_eq!((stat(&proxy, "success"), stat(&proxy, "network_failure")), (1, 0), "{shown}");
    }
    assert_eq!(count, 6);
}

fn grpc_asks_as_envoy_does(subject: &Subject) {
    let origin = scripted(vec![grpc("0", SERVING)]);
    let check =
        "grpc_health_check: {service_name: the.service, initial_metadata: [{header: {key: x-a, value: b}}]}";
    let proxy = checked(subject, &[origin.address()], check, &http2_cluster(""));
    wait_flags(&proxy, origin.address(), "healthy");
    wait_for_more(&proxy, "success", 2);
    let asked = &origin.requests()[0];
    assert_eq!((&*asked.method, &*asked.path), ("POST", "/grpc.health.v1.Health/Check"));
    assert_eq!(asked.authority, "up");
    let field = |name| asked.fields.get(name).map(str::to_owned);
    let fields = ["content-type", "te", "user-agent", "grpc-timeout", "x-a"].map(field);
    let expected =
        ["application/grpc", "trailers", "Envoy/HC", "400m", "b"].map(|text| Some(text.to_owned()));
    assert_eq!(fields, expected);
    assert_eq!(asked.body, [&[0, 0, 0, 0, 13, 10, 11][..], b"the.service"].concat());
    assert_eq!(stat(&proxy, "failure"), 0);
    assert_eq!(origin.violations(), Vec::<String>::new());
}

fn tcp_without_payload_asks_for_a_connection(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Silent);
    let proxy = checked(subject, &[upstream.address()], "tcp_health_check: {}", "");
    wait_flags(&proxy, upstream.address(), "healthy");
    wait_for_more(&proxy, "success", 3);
    assert_eq!((upstream.received(), stat(&proxy, "failure")), (0, 0));
    assert!(upstream.connections() >= 3, "each check has a connection of its own");
}

fn tcp_payloads_are_sent_and_found(subject: &Subject) {
    let cases: [(Role, &str, &str, bool); 3] = [
        (Role::Echo, "send: {text: '0102030405'}, receive: [{text: '0102'}, {text: '05'}]", "healthy", true),
        (Role::Echo, "send: {text: '0102030405'}, receive: [{text: '0304'}, {text: '02'}]", "", false),
        (Role::Silent, "send: {text: '01'}, receive: [{text: '01'}]", "", false),
    ];
    for (role, check, _, passes) in cases {
        let upstream = TcpUpstream::start(role);
        let check = format!("tcp_health_check: {{{check}}}");
        let proxy = checked(subject, &[upstream.address()], &check, "");
        if passes {
            wait_for_more(&proxy, "success", 3);
            assert_eq!((upstream.connections(), stat(&proxy, "failure")), (1, 0));
        } else {
            wait_for_more(&proxy, "network_failure", 2);
            assert_eq!(flags(&proxy, upstream.address()), "/failed_active_hc/active_hc_timeout");
            assert_eq!(stat(&proxy, "success"), 0);
        }
    }
}

fn tcp_checks_begin_with_the_proxy_protocol(subject: &Subject) {
    // "PROXY TCP4 127.0.0.1 127.0.0.1 ", and the signature of version 2 with LOCAL and no length.
    let v1 = "50524f58592054435034203132372e302e302e31203132372e302e302e3120";
    let v2 = "0d0a0d0a000d0a515549540a20000000";
    for (version, expected) in [("V1", v1), ("V2", v2)] {
        let upstream = TcpUpstream::start(Role::Echo);
        let check = format!(
            "tcp_health_check: {{proxy_protocol_config: {{version: {version}}}, send: {{text: '2122'}}, \
             receive: [{{text: '{expected}'}}, {{text: '2122'}}]}}"
        );
        let proxy = checked(subject, &[upstream.address()], &check, "");
        wait_flags(&proxy, upstream.address(), "healthy");
    }
}

/// A cluster with one endpoint that says this of its checks.
fn with_endpoint(subject: &Subject, endpoint: SocketAddr, says: &str) -> Proxy {
    let yaml = format!(
        "health_checks: [{{{}, http_health_check: {{path: /hc, host: common}}}}]\n\
         load_assignment:\n  cluster_name: up\n  endpoints:\n  - lb_endpoints:\n    - endpoint:\n        \
         address: {{socket_address: {{address: {}, port_value: {}}}}}\n        health_check_config: {{{says}}}\n",
        super::TIMES,
        endpoint.ip(),
        endpoint.port(),
    );
    let http = millrace_support::bootstrap::Http::to("up");
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &yaml))
}

fn endpoints_say_where_and_whether_they_are_checked(subject: &Subject) {
    let (endpoint, other) = (Endpoint::answering(Reply::status(500)), Endpoint::new());
    let port = format!("port_value: {}, hostname: own", other.address().port());
    let address = format!(
        "address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}",
        other.address().port()
    );
    for (says, host) in [(port, "own"), (address, "common")] {
        let proxy = with_endpoint(subject, endpoint.address(), &says);
        wait_flags(&proxy, endpoint.address(), "healthy");
        let last = other.checks().pop().expect("a check");
        assert_eq!(last.fields.get("host"), Some(host));
        assert_eq!(proxy.client().get("/").status, 200);
    }
    assert_eq!((endpoint.checks().len(), endpoint.served()), (0, 2));
    let proxy = with_endpoint(subject, endpoint.address(), "disable_active_health_check: true");
    assert_eq!(flags(&proxy, endpoint.address()), "healthy");
    assert_eq!((stat(&proxy, "attempt"), proxy.client().get("/").status), (0, 200));
}

fn what_cannot_be_is_refused(subject: &Subject) {
    let cases = [
        ("grpc_health_check: {}", "cluster must support HTTP/2 for gRPC healthchecking"),
        ("tcp_health_check: {send: {text: '0'}}", "invalid hex string"),
        (
            "http_health_check: {path: /, send: {text: 'aa'}}",
            "HTTP health check cannot specify a request payload",
        ),
        ("http_health_check: {path: /, expected_statuses: [{start: 1, end: 200}]}", "expecting start >= 100"),
        (
            "http_health_check: {path: /, receive: [{text: 'aabb'}], response_buffer_size: 1}",
            "The expected response length",
        ),
        ("http_health_check: {}", "path"),
    ];
    for (check, why) in cases {
        let bootstrap = Bootstrap::new().cluster("up", &[], &super::fields(check, ""));
        let finished = with_file(subject, "bad.yaml", &bootstrap.yaml(), &["--mode", "validate"]);
        assert_eq!(finished.code, Some(1), "{check}");
        let said = format!("{}{}", finished.stderr, finished.stdout).to_lowercase();
        assert!(said.contains(&why.to_lowercase()), "{check}: {finished:?}");
    }
}
