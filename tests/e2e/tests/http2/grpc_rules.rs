//! What the proxy itself knows about gRPC: status mapping, deadlines, retries, and the three filters.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::{Client, Lost, Reply, Response, Upstream};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;

pub(crate) const CASES: &[Case] = &[
    case!(statuses_of_local_replies),
    case!(statuses_of_upstream_responses_stay),
    case!(retry_on_status),
    case!(deadline_by_the_header),
    case!(deadline_is_capped),
    case!(deadline_without_configuration),
    case!(stats_by_method),
    case!(web_binary),
    case!(web_text),
    case!(bridge_of_http1),
];

const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];
/// A message of five octets with its prefix.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

fn proxy(subject: &Subject, upstream: &Upstream, route: &str, filters: &str) -> Proxy {
    let routes = format!("- match: {{prefix: \"/\"}}\n  route: {{cluster: up{route}}}\n");
    let mut http = Http::routes(&routes);
    if !filters.is_empty() {
        let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
        http = http.hcm(&format!(
            "http_filters:\n{filters}- name: envoy.filters.http.router\n  typed_config: {{\"@type\": {router}}}\n"
        ));
    }
    Proxy::start(
        subject,
        &Bootstrap::new().http(http).cluster("up", &[upstream.address()], &http2_cluster("")),
    )
}

fn filter(name: &str, kind: &str, fields: &str) -> String {
    let url = format!("type.googleapis.com/envoy.extensions.filters.http.{name}.v3.{kind}");
    format!("- name: envoy.filters.http.{name}\n  typed_config: {{\"@type\": {url}{fields}}}\n")
}

/// A server that sends one message back and ends well, unless the path says otherwise.
fn server() -> Upstream {
    Upstream::start(|asked| match asked.get(":path") {
        "/s.S/Hang" => Reply::hang(),
        "/s.S/Late" => Reply::default()
            .head(200, &[("content-type", "application/grpc")], false)
            .trailers(&[("grpc-status", "5"), ("grpc-message", "late")]),
        "/s.S/Fail" => Reply::with(200, &[("content-type", "application/grpc"), ("grpc-status", "5")], b""),
        _ => Reply::default()
            .head(200, &[("content-type", asked.get("content-type"))], false)
            .data(&asked.body, false)
            .trailers(&[("grpc-status", "0"), ("grpc-message", "")]),
    })
}

fn call(client: &mut Client, path: &str, more: &[(&str, &str)]) -> Result<Response, Lost> {
    let fields = [&GRPC[..], more].concat();
    let id = client.head("POST", path, &fields, false);
    client.body(id, MESSAGE, true);
    client.response(id)
}

/// gRPC's document http-grpc-status-mapping.
fn statuses_of_local_replies(subject: &Subject) {
    let table = [
        (400, "13"),
        (401, "16"),
        (403, "7"),
        (404, "12"),
        (429, "14"),
        (502, "14"),
        (503, "14"),
        (504, "14"),
        (418, "2"),
        (500, "2"),
    ];
    let routes: String = table
        .iter()
        .map(|(status, _)| format!("- match: {{path: \"/{status}\"}}\n  direct_response: {{status: {status}, body: {{inline_string: \"why: 100%\"}}}}\n"))
        .collect();
    let proxy = Proxy::start(subject, &Bootstrap::new().http(Http::routes(&routes)));
    let mut client = Client::connect(proxy.listener("main"));
    for (status, code) in table {
        let response = call(&mut client, &format!("/{status}"), &[]).expect("a response");
        assert_eq!((response.status, response.get("grpc-status")), (200, Some(code)), "{status}");
        assert_eq!(response.get("grpc-message"), Some("why: 100%25"), "{status}");
        assert_eq!((response.body.len(), response.trailers.0.len()), (0, 0), "{status}");
        assert_eq!(client.get(&format!("/{status}")).status, status);
    }
    client.assert_strict();
}

fn statuses_of_upstream_responses_stay(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::bytes(503, b"plain"));
    let proxy = proxy(subject, &upstream, "", "");
    let mut client = Client::connect(proxy.listener("main"));
    let response = call(&mut client, "/s.S/M", &[]).expect("a response");
    assert_eq!(
        (response.status, response.text().as_str(), response.get("grpc-status")),
        (503, "plain", None)
    );
}

fn retry_on_status(subject: &Subject) {
    let upstream = Upstream::start(|asked| {
        let first = asked.stream == 1;
        let status = if first { asked.get("x-fail") } else { "0" };
        Reply::with(200, &[("content-type", "application/grpc"), ("grpc-status", status)], b"")
    });
    let retry = ", retry_policy: {num_retries: 2, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}, retry_on: \"unavailable,cancelled,internal\"}";
    for (status, retried) in [("14", true), ("1", true), ("13", true), ("5", false), ("4", false)] {
        let proxy = proxy(subject, &upstream, retry, "");
        let mut client = Client::connect(proxy.listener("main"));
        let response = call(&mut client, "/s.S/M", &[("x-fail", status)]).expect("a response");
        let expected = if retried { "0" } else { status };
        assert_eq!(response.get("grpc-status"), Some(expected), "{status}");
        proxy.wait_stat("cluster.up.upstream_rq_retry", u64::from(retried));
    }
}

/// Each way to let a route obey `grpc-timeout`, up to a limit, with the status that a missed deadline has in Envoy: a
/// timeout of the route is a 504, and that is UNAVAILABLE by gRPC's own document.
const DEADLINES: [(&str, &str); 2] = [
    (", max_stream_duration: {grpc_timeout_header_max: LIMIT}", "4"),
    (", timeout: 0s, max_grpc_timeout: LIMIT", "14"),
];

/// Waits for the answer to a call with this `grpc-timeout` that the server never answers.
#[track_caller]
fn times_out(proxy: &Proxy, timeout: &str, status: &str) -> Duration {
    let mut client = Client::connect(proxy.listener("main"));
    let begin = Instant::now();
    let response = call(&mut client, "/s.S/Hang", &[("grpc-timeout", timeout)]).expect("a response");
    assert_eq!((response.status, response.get("grpc-status")), (200, Some(status)), "{response:?}");
    begin.elapsed()
}

fn deadline_by_the_header(subject: &Subject) {
    let upstream = server();
    for (route, status) in DEADLINES {
        let proxy = proxy(subject, &upstream, &route.replace("LIMIT", "60s"), "");
        let took = times_out(&proxy, "300m", status);
        assert!((Duration::from_millis(250)..Duration::from_secs(3)).contains(&took), "{route}: {took:?}");
    }
}

fn deadline_is_capped(subject: &Subject) {
    let upstream = server();
    for (route, status) in DEADLINES {
        let proxy = proxy(subject, &upstream, &route.replace("LIMIT", "0.3s"), "");
        let took = times_out(&proxy, "1H", status);
        assert!((Duration::from_millis(250)..Duration::from_secs(3)).contains(&took), "{route}: {took:?}");
    }
}

/// Without either field the header is only passed on, and the route's own timeout holds.
fn deadline_without_configuration(subject: &Subject) {
    let upstream = server();
    let proxy = proxy(subject, &upstream, ", timeout: 0.5s", "");
    let took = times_out(&proxy, "10m", "14");
    assert!(took >= Duration::from_millis(400), "{took:?}");
    assert_eq!(upstream.heads()[0].get("grpc-timeout"), "10m");
}

fn stats_by_method(subject: &Subject) {
    let upstream = server();
    let stats =
        filter("grpc_stats", "FilterConfig", ", stats_for_all_methods: true, emit_filter_state: false");
    let proxy = proxy(subject, &upstream, "", &stats);
    let mut client = Client::connect(proxy.listener("main"));
    for path in ["/s.S/Good", "/s.S/Good", "/s.S/Fail"] {
        assert!(call(&mut client, path, &[]).is_ok());
    }
    for (name, value) in [
        ("cluster.up.grpc.s.S.Good.0", 2),
        ("cluster.up.grpc.s.S.Good.success", 2),
        ("cluster.up.grpc.s.S.Good.total", 2),
        ("cluster.up.grpc.s.S.Good.request_message_count", 2),
        ("cluster.up.grpc.s.S.Good.response_message_count", 2),
        ("cluster.up.grpc.s.S.Fail.5", 1),
        ("cluster.up.grpc.s.S.Fail.failure", 1),
    ] {
        proxy.wait_stat(name, value);
    }
}

/// The trailers become a last message with the highest bit set.
fn web_binary(subject: &Subject) {
    let upstream = server();
    let proxy = proxy(subject, &upstream, "", &filter("grpc_web", "GrpcWeb", ""));
    let fields = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")];
    let response = proxy.client().exchange("POST", "/s.S/M", &fields, MESSAGE);
    assert_eq!((response.status, response.get("content-type")), (200, Some("application/grpc-web+proto")));
    assert!(response.body.starts_with(MESSAGE), "{:?}", response.text());
    let trailers = &response.body[MESSAGE.len()..];
    let text = String::from_utf8_lossy(&trailers[5..]).replace(' ', "");
    assert_eq!((trailers[0], usize::from(trailers[4])), (0x80, trailers.len() - 5));
    assert!(text.contains("grpc-status:0\r\n"), "{text:?}");
    let seen = upstream.only_request();
    assert_eq!((seen.get("content-type"), seen.get("te")), ("application/grpc", "trailers"));
    assert_eq!(seen.body, MESSAGE);
    upstream.assert_strict();
}

fn web_text(subject: &Subject) {
    let upstream = server();
    let proxy = proxy(subject, &upstream, "", &filter("grpc_web", "GrpcWeb", ""));
    let fields = [("content-type", "application/grpc-web-text"), ("accept", "application/grpc-web-text")];
    // Base64 of MESSAGE.
    let response = proxy.client().exchange("POST", "/s.S/M", &fields, b"AAAAAAVoZWxsbw==");
    assert_eq!(
        (response.status, response.get("content-type")),
        (200, Some("application/grpc-web-text+proto"))
    );
    assert!(response.text().starts_with("AAAAAAVoZWxsb"), "{}", response.text());
    assert_eq!(upstream.only_request().body, MESSAGE);
}

/// A whole response with the status among its fields, for clients that know no trailers.
fn bridge_of_http1(subject: &Subject) {
    let upstream = server();
    let proxy = proxy(subject, &upstream, "", &filter("grpc_http1_bridge", "Config", ""));
    let good = proxy.client().exchange("POST", "/s.S/M", &[("content-type", "application/grpc")], MESSAGE);
    assert_eq!((good.status, good.get("grpc-status")), (200, Some("0")));
    assert_eq!(good.body, MESSAGE);
    let late = proxy.client().exchange("POST", "/s.S/Late", &[("content-type", "application/grpc")], MESSAGE);
    assert_eq!(
        (late.status, late.get("grpc-status"), late.get("grpc-message")),
        (503, Some("5"), Some("late"))
    );
    upstream.assert_strict();
}
