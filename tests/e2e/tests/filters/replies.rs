//! Replies of our own that the connection manager changes: `local_reply_config`.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::chain;

pub(crate) const CASES: &[Case] = &[
    case!(mappers_in_their_order),
    case!(formats_of_bodies),
    case!(filters_of_mappers),
    case!(replies_to_grpc),
    case!(requests_that_meet_no_filter),
];

const ROUTES: &str = "- match: {prefix: \"/direct\"}\n  response_headers_to_add: [{header: {key: x-route, value: r}}]\n  direct_response: {status: 403, body: {inline_string: forbidden}}\n\
- match: {prefix: \"/html\"}\n  response_headers_to_add: [{header: {key: content-type, value: text/html}}]\n  direct_response: {status: 402, body: {inline_string: html}}\n\
- match: {prefix: \"/empty\"}\n  direct_response: {status: 410}\n\
- match: {prefix: \"/redirect\"}\n  redirect: {path_redirect: /elsewhere}\n\
- match: {prefix: \"/up\"}\n  route: {cluster: up}\n";

fn start(subject: &Subject, config: &str, upstream: &Upstream) -> Proxy {
    let fault = ("fault", "fault.v3.HTTPFault", "abort: {header_abort: {}, percentage: {numerator: 100}}");
    let http = Http::routes(ROUTES).hcm(&chain(&[fault])).hcm(&format!("local_reply_config: {{{config}}}"));
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

fn status(value: u32) -> String {
    format!(
        "filter: {{status_code_filter: {{comparison: {{op: EQ, value: {{default_value: {value}, runtime_key: x.y}}}}}}}}"
    )
}

fn upstream() -> Upstream {
    Upstream::start(|_| Reply::with(404, &[("x-own", "1")], b"of the endpoint"))
}

fn mappers_in_their_order(subject: &Subject) {
    let upstream = upstream();
    let config = format!(
        "mappers: [{{{}, status_code: 419, body: {{inline_string: mapped}}, headers_to_add: [{{header: {{key: x-map, value: \"%RESPONSE_CODE_DETAILS% %REQ(:path)%\"}}}}, {{header: {{key: x-route, value: again}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}]}}, {{{}, status_code: 500}}, {{{}, status_code: 308}}]",
        status(403),
        status(403),
        status(301)
    );
    let proxy = start(subject, &config, &upstream);
    let mut client = proxy.client();
    let answer = client.get("/direct");
    assert_eq!(
        (answer.status, &*answer.body, answer.get("content-length")),
        (419, &b"mapped"[..], Some("6"))
    );
    assert_eq!(answer.get("x-map"), Some("direct_response /direct"));
    assert_eq!((answer.get("x-route"), answer.get("content-type")), (Some("again"), Some("text/plain")));
    assert_eq!(proxy.log().line(0).verdict(), ("419", "-", "direct_response"));
    let answer = client.get("/redirect");
    assert_eq!(answer.status, 308);
    assert!(answer.get("location").is_some_and(|location| location.ends_with("/elsewhere")));
    let answer = client.get("/up");
    assert_eq!((answer.status, &*answer.body, answer.get("x-map")), (404, &b"of the endpoint"[..], None));
    assert_eq!(client.get("/nowhere").status, 404);
    proxy.wait_stat("http.main.downstream_rq_4xx", 3);
    proxy.wait_stat("http.main.downstream_rq_3xx", 1);
}

fn formats_of_bodies(subject: &Subject) {
    let upstream = upstream();
    let config = format!(
        "body_format: {{json_format: {{code: \"%RESPONSE_CODE%\", text: \"%LOCAL_REPLY_BODY%\", none: \"%REQ(x-none)%\", path: \"%REQ(:path)%\"}}}}, mappers: [{{{}, body_format_override: {{text_format_source: {{inline_string: \"<b>%LOCAL_REPLY_BODY%</b> %RESP(:status)% %REQ(x-none)%\"}}, content_type: \"text/html; charset=UTF-8\"}}}}, {{{}, body_format_override: {{text_format_source: {{inline_string: \"%LOCAL_REPLY_BODY%\"}}}}}}]",
        status(403),
        status(404)
    );
    let proxy = start(subject, &config, &upstream);
    let mut client = proxy.client();
    for (path, code, kind, body) in [
        ("/direct", 403, Some("text/html; charset=UTF-8"), "<b>forbidden</b> 403 -"),
        (
            "/empty",
            410,
            Some("application/json"),
            "{\"code\":410,\"none\":null,\"path\":\"/empty\",\"text\":\"\"}\n",
        ),
        ("/nowhere", 404, None, ""),
        (
            "/html",
            402,
            Some("application/json"),
            "{\"code\":402,\"none\":null,\"path\":\"/html\",\"text\":\"html\"}\n",
        ),
    ] {
        let answer = client.get(path);
        let told =
            (answer.status, answer.get("content-type"), String::from_utf8_lossy(&answer.body).into_owned());
        assert_eq!(told, (code, kind, body.to_owned()), "{path}");
    }
}

fn filters_of_mappers(subject: &Subject) {
    let upstream = upstream();
    let flag = "filter: {response_flag_filter: {flags: [FI]}}";
    let header = "filter: {and_filter: {filters: [{header_filter: {header: {name: x-case, string_match: {exact: a}}}}, {status_code_filter: {comparison: {op: GE, value: {default_value: 400, runtime_key: x.y}}}}]}}";
    let config = format!(
        "mappers: [{{{header}, body: {{inline_string: by header}}}}, {{{flag}, status_code: 599, body: {{inline_string: by flag}}}}]"
    );
    let proxy = start(subject, &config, &upstream);
    let mut client = proxy.client();
    for (path, fields, code, body) in [
        ("/direct", &[("x-case", "a")][..], 403, "by header"),
        ("/up", &[("x-envoy-fault-abort-request", "503")], 599, "by flag"),
        ("/direct", &[], 403, "forbidden"),
    ] {
        let answer = client.get_with(path, fields);
        assert_eq!(
            (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
            (code, body.to_owned())
        );
    }
}

fn replies_to_grpc(subject: &Subject) {
    let upstream = upstream();
    let config = format!(
        "mappers: [{{{}, status_code: 401, body: {{inline_string: \"no entry\"}}, headers_to_add: [{{header: {{key: x-map, value: m}}}}]}}]",
        status(403)
    );
    let proxy = start(subject, &config, &upstream);
    let answer =
        proxy.client().get_with("/direct", &[("content-type", "application/grpc"), ("te", "trailers")]);
    assert_eq!((answer.status, answer.get("grpc-status"), answer.get("x-map")), (200, Some("16"), Some("m")));
    assert_eq!(answer.get("grpc-message"), Some("no entry"));
}

/// What is no request, or none that is taken, gets its answer through the filters of responses, too.
fn requests_that_meet_no_filter(subject: &Subject) {
    let upstream = upstream();
    let mutation =
        "mutations: {response_mutations: [{append: {header: {key: x-filter, value: \"%RESPONSE_CODE%\"}}}]}";
    let chain = chain(&[("header_mutation", "header_mutation.v3.HeaderMutation", mutation)]);
    let http = Http::routes(ROUTES).hcm(&chain).hcm("request_headers_timeout: 0.3s");
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    let large = format!("GET /up HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(70_000));
    for (bytes, status) in [
        ("GET /up HTTP/1.0\r\nhost: a\r\n\r\n", 426),
        ("GET /up HTTP/1.1\r\n\r\n", 400),
        ("GET /up HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n", 400),
        ("GET /up#x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("POST /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        ("nonsense\r\n\r\n", 400),
        (&large, 431),
        ("GET /up HTTP/1.1\r\nhos", 408),
    ] {
        let mut client = proxy.client();
        client.send(bytes.as_bytes());
        let answer = client.response("GET").expect("an answer");
        let shown = status.to_string();
        assert_eq!((answer.status, answer.get("x-filter")), (status, Some(&*shown)), "{bytes:.60}");
        assert!(answer.closes(), "{bytes:.60}");
    }
    let mut client = millrace_support::h2::Client::connect(proxy.listener("main"));
    let answer = client.exchange("GET", "/up#x", &[], b"").expect("an answer");
    assert_eq!((answer.status, answer.get("x-filter")), (400, Some("400")));
    assert!(client.is_alive() && upstream.requests().is_empty());
}
