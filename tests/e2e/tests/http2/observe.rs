//! What access logs, statistics and headers say about HTTP/2.

use millrace_e2e::{Case, case};
use millrace_support::any::{Answer, Body, Caller, Origin, Question, Version, http2_cluster};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::frame::{self, code};
use millrace_support::h2::{Client, Reply, Upstream, client, hpack};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::wait;

use super::{cluster, start};

pub(crate) const CASES: &[Case] = &[
    case!(access_log_of_every_pairing),
    case!(access_log_operators),
    case!(default_access_log),
    case!(connections_and_requests_are_counted),
    case!(resets_are_counted),
    case!(gauges_return_to_zero),
    case!(attacks_are_counted),
    case!(connections_spread_and_share_upstreams, not_envoy: "Envoy leaves the spread to the kernel's hash"),
    case!(local_replies),
    case!(grpc_local_replies),
];

const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

fn access_log_of_every_pairing(subject: &Subject) {
    for up in VERSIONS {
        let origin = Origin::start(up, |_| Answer {
            status: 201,
            body: Body::Length(b"seven b".to_vec()),
            ..Answer::default()
        });
        let proxy = start(subject, &origin, "");
        for down in VERSIONS {
            let question = Question {
                method: "POST",
                path: "/p".into(),
                fields: vec![("x-case", down.name().into())],
                body: Body::Length(b"body".to_vec()),
                ..Question::default()
            };
            let got = Caller::connect(down, proxy.listener("main")).ask(&question);
            assert_eq!(got.map(|g| g.status), Ok(201));
            let line = proxy.log().case(down.name());
            assert_eq!(line.verdict(), ("201", "-", "via_upstream"));
            let fields = ["method", "path", "protocol", "rx", "tx", "cluster"].map(|key| line.get(key));
            assert_eq!(fields, ["POST", "/p", down.name(), "4", "7", "up"], "{up:?}");
        }
    }
}

fn access_log_operators(subject: &Subject) {
    for up in VERSIONS {
        let origin = Origin::start(up, |_| Answer { status: 200, ..Answer::default() });
        let format =
            "%PROTOCOL%|%UPSTREAM_PROTOCOL%|%REQ(:AUTHORITY)%|%REQ(:SCHEME)%|%UPSTREAM_HOST%|%STREAM_ID%";
        let kind = "\"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
        let log = format!(
            "access_log:\n- name: f\n  typed_config:\n    {kind}\n    path: \"@DIR@/log\"\n    log_format: {{text_format_source: {{inline_string: \"{format}\\n\"}}}}\n"
        );
        let http = Http::to("up").without_log().hcm(&log);
        let proxy = Proxy::start(
            subject,
            &Bootstrap::new().http(http).cluster("up", &[origin.address()], &cluster(up)),
        );
        let mut client = Client::connect(proxy.listener("main"));
        assert_eq!(client.get("/").status, 200);
        let path = proxy.directory().join("log");
        let read = || std::fs::read_to_string(&path).unwrap_or_default();
        wait::for_true("the line", || read().ends_with('\n'));
        let address = origin.address().to_string();
        let line = read();
        let start = format!("HTTP/2|{}|test.local|http|{address}|", up.name());
        assert!(line.starts_with(&start), "{line}");
    }
}

fn default_access_log(subject: &Subject) {
    let origin = Origin::start(Version::Http2, |_| Answer { status: 200, ..Answer::default() });
    let kind = "\"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
    let log = format!("access_log:\n- name: f\n  typed_config:\n    {kind}\n    path: \"@DIR@/log\"\n");
    let http = Http::to("up").without_log().hcm(&log);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[origin.address()], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(Client::connect(proxy.listener("main")).get("/p?q").status, 200);
    let path = proxy.directory().join("log");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    wait::for_true("the line", || read().ends_with('\n'));
    assert!(read().contains("] \"GET /p?q HTTP/2\" 200 - 0 0 "), "{}", read());
}

fn connections_and_requests_are_counted(subject: &Subject) {
    let origin = Origin::start(Version::Http2, |_| Answer { status: 200, ..Answer::default() });
    let proxy = start(subject, &origin, "");
    let mut client = Client::connect(proxy.listener("main"));
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(proxy.client().get("/").status, 200);
    for (name, value) in [
        ("http.main.downstream_cx_http2_total", 1),
        ("http.main.downstream_cx_http2_active", 1),
        ("http.main.downstream_rq_http2_total", 3),
        ("http.main.downstream_cx_http1_total", 1),
        ("http.main.downstream_rq_http1_total", 1),
        ("http.main.downstream_rq_total", 4),
        ("http.main.downstream_rq_2xx", 4),
        ("cluster.up.upstream_cx_http2_total", 1),
        ("cluster.up.upstream_cx_total", 1),
        ("cluster.up.upstream_rq_total", 4),
        ("cluster.up.upstream_rq_2xx", 4),
    ] {
        proxy.wait_stat(name, value);
    }
    drop(client);
    proxy.wait_stat("http.main.downstream_cx_http2_active", 0);
}

fn resets_are_counted(subject: &Subject) {
    let upstream = Upstream::start(|asked| match asked.get(":path") {
        "/reset" => Reply::reset(code::INTERNAL_ERROR),
        "/hang" => Reply::hang(),
        _ => Reply::ok("x"),
    });
    let bootstrap =
        Bootstrap::new().http(Http::to("up")).cluster("up", &[upstream.address()], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/reset").status, 503);
    let id = client.head("GET", "/hang", &[], true);
    upstream.wait_heads(2);
    client.reset(id, code::CANCEL);
    for (name, value) in [
        ("http2.rx_reset", 1),
        ("cluster.up.http2.rx_reset", 1),
        ("cluster.up.http2.tx_reset", 1),
        ("http.main.downstream_rq_rx_reset", 1),
        ("cluster.up.upstream_rq_rx_reset", 1),
        ("cluster.up.upstream_rq_tx_reset", 1),
        ("cluster.up.upstream_rq_503", 1),
    ] {
        proxy.wait_stat(name, value);
    }
}

fn gauges_return_to_zero(subject: &Subject) {
    let origin = Origin::start(Version::Http2, |seen| Answer {
        status: 200,
        body: Body::Length(seen.body.clone()),
        ..Answer::default()
    });
    let proxy = start(subject, &origin, "");
    let mut client = Client::connect(proxy.listener("main"));
    let ids: Vec<u32> = (0..20).map(|n| client.request("POST", "/", &[], &vec![b'x'; n * 1000])).collect();
    for (n, id) in ids.into_iter().enumerate() {
        if n % 3 == 0 {
            client.reset(id, code::CANCEL);
        } else {
            assert_eq!(client.response(id).map(|r| r.body.len()), Ok(n * 1000));
        }
    }
    drop(client);
    for name in [
        "http.main.downstream_rq_active",
        "http.main.downstream_cx_active",
        "http.main.downstream_cx_http2_active",
        "cluster.up.upstream_rq_active",
        "cluster.up.upstream_rq_pending_active",
        "cluster.up.http2.streams_active",
        "http2.streams_active",
    ] {
        proxy.wait_stat(name, 0);
    }
}

/// What is sent behind a POST that is not complete, and the counter that stands at 1 in the end.
type Attack = (fn(u32) -> Vec<u8>, &'static str);

const ATTACKS: [Attack; 5] = [
    (|_| frame::priority(1, 0), "http2.inbound_priority_frames_flood"),
    (|_| frame::window_update(0, 1), "http2.inbound_window_update_frames_flood"),
    (|_| frame::data(1, b"", false), "http2.inbound_empty_frames_flood"),
    (
        |n| {
            let head = hpack::block(&client::head("GET", "/", &[]));
            [frame::headers(2 * n + 3, &head, true), frame::rst_stream(2 * n + 3, code::CANCEL)].concat()
        },
        "http.main.downstream_rq_too_many_premature_resets",
    ),
    (|n| frame::headers(2 * n + 3, &hpack::literal("Upper", "1"), true), "http2.rx_messaging_error"),
];

fn attacks_are_counted(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    for (next, counter) in ATTACKS {
        let bootstrap =
            Bootstrap::new().http(Http::to("up")).cluster("up", &[upstream.address()], &http2_cluster(""));
        let proxy = Proxy::start(subject, &bootstrap);
        let mut client = Client::connect(proxy.listener("main"));
        client.head("POST", "/", &[], false);
        for n in 0..20_000 {
            client.session().send(&next(n));
            if n % 10 == 9 {
                client.session().read(std::time::Duration::from_micros(200));
            }
            if client.session().end.is_some() || !client.session().goaways.is_empty() {
                break;
            }
        }
        assert!(client.session().end_within(std::time::Duration::from_secs(5)).is_some(), "{counter}");
        wait::for_true(counter, || proxy.stat(counter).is_some_and(|n| n > 0));
        proxy.wait_stat("http.main.downstream_cx_active", 0);
    }
}

/// Connections of HTTP/2 live long, so that their spread matters; and each worker needs no more than one upstream.
fn connections_spread_and_share_upstreams(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let bootstrap =
        Bootstrap::new().http(Http::to("up")).cluster("up", &[upstream.address()], &http2_cluster(""));
    let proxy = Proxy::start_with(subject, &bootstrap, &["--concurrency", "2"]);
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(proxy.listener("main"))).collect();
    for client in &mut clients {
        for _ in 0..5 {
            assert_eq!(client.get("/").status, 200);
        }
    }
    let name = |n| format!("listener.127.0.0.1_0.worker_{n}.downstream_cx_active");
    assert_eq!([0, 1].map(|n| proxy.stat(&name(n)).unwrap_or(0)), [5, 5]);
    assert!((1..=2).contains(&upstream.connections()), "{} upstream connections", upstream.connections());
    upstream.assert_strict();
}

fn local_replies(subject: &Subject) {
    let routes = "- match: {path: \"/direct\"}\n  direct_response: {status: 418, body: {inline_string: \"short\"}}\n- match: {path: \"/redirect\"}\n  redirect: {path_redirect: \"/to\"}\n- match: {path: \"/nowhere\"}\n  route: {cluster: up}\n";
    let refused = millrace_support::tcp::Refused::new();
    let http = Http::routes(routes);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[refused.address()], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = Client::connect(proxy.listener("main"));
    let direct = client.get("/direct");
    assert_eq!(
        (direct.status, direct.text().as_str(), direct.get("content-length")),
        (418, "short", Some("5"))
    );
    let redirect = client.get("/redirect");
    assert_eq!((redirect.status, redirect.get("location")), (301, Some("http://test.local/to")));
    assert_eq!(client.get("/other").status, 404);
    assert_eq!(client.get("/nowhere").status, 503);
    assert_eq!(client.exchange("HEAD", "/direct", &[], b"").map(|r| (r.status, r.body.len())), Ok((418, 0)));
    let log = proxy.log();
    log.line(4);
    let flags: Vec<String> = log.lines().iter().map(|l| l.get("flags").to_owned()).collect();
    assert_eq!(flags, ["-", "-", "NR", "UF,URX", "-"].map(|f| if f == "UF,URX" { "UF" } else { f }));
    client.assert_strict();
}

/// A local reply to a gRPC request is trailers-only with the mapped status.
fn grpc_local_replies(subject: &Subject) {
    let routes = "- match: {path: \"/u/unavailable\"}\n  route: {cluster: up}\n- match: {path: \"/u/denied\"}\n  direct_response: {status: 403, body: {inline_string: \"not you\"}}\n";
    let refused = millrace_support::tcp::Refused::new();
    let bootstrap =
        Bootstrap::new().http(Http::routes(routes)).cluster("up", &[refused.address()], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = Client::connect(proxy.listener("main"));
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    for (path, status, message) in
        [("/u/unavailable", "14", None), ("/u/unknown", "12", None), ("/u/denied", "7", Some("not you"))]
    {
        let id = client.request("POST", path, &grpc, b"\0\0\0\0\0");
        let response = client.response(id).expect("a response");
        assert_eq!((response.status, response.get("grpc-status")), (200, Some(status)), "{path}");
        assert_eq!(response.get("content-type"), Some("application/grpc"), "{path}");
        assert!(message.is_none() || response.get("grpc-message") == message, "{response:?}");
        assert_eq!((response.body.len(), client.session().received(id).blocks.len()), (0, 1), "{path}");
    }
    client.assert_strict();
}
