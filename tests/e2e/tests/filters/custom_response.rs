//! The filter `custom_response`.

use millrace_e2e::{Case, case};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2;
use millrace_support::message::{Request, Response};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::chain;

pub(crate) const CASES: &[Case] = &[
    case!(replies_of_policies),
    case!(replies_that_replace_replies),
    case!(replies_to_head_and_grpc),
    case!(answers_are_dropped_whole),
    case!(a_request_begins_anew),
    case!(where_redirects_lead),
    case!(redirects_that_are_not_made),
    case!(bodies_and_methods_of_redirected_requests),
    case!(retries_come_first),
    case!(statuses_without_bodies),
    case!(over_http2),
];

pub(super) const KIND: &str = "custom_response.v3.CustomResponse";

/// An answer with the status and the fields that the target asks for, such as `/s503`.
pub(super) fn upstream() -> Upstream {
    Upstream::start(|request: &Request| {
        let digits = request.target.strip_prefix("/s").and_then(|rest| rest.get(..3));
        let status = digits.and_then(|digits| digits.parse().ok()).unwrap_or(200);
        Reply::with(status, &[("x-up", "1"), ("content-type", "text/up")], b"of the endpoint")
    })
}

pub(super) fn input(name: &str, fields: &str) -> String {
    format!(
        "{{name: i, typed_config: {{\"@type\": type.googleapis.com/envoy.type.matcher.v3.{name}MatchInput{fields}}}}}"
    )
}

pub(super) fn status_input() -> String {
    input("HttpResponseStatusCode", "")
}

/// `single_predicate` as flow YAML.
pub(super) fn single(input: &str, by: &str) -> String {
    format!("{{single_predicate: {{input: {input}, value_match: {{{by}}}}}}}")
}

pub(super) fn status(code: u16) -> String {
    single(&status_input(), &format!("exact: \"{code}\""))
}

fn policy(kind: &str, fields: &str) -> String {
    format!(
        "{{action: {{name: a, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.http.custom_response.{kind}, {fields}}}}}}}"
    )
}

fn local(fields: &str) -> String {
    policy("local_response_policy.v3.LocalResponsePolicy", fields)
}

pub(super) fn body(text: &str) -> String {
    local(&format!("body: {{inline_string: \"{text}\"}}"))
}

pub(super) fn redirect(fields: &str) -> String {
    policy("redirect_policy.v3.RedirectPolicy", fields)
}

/// A matcher with these entries.
pub(super) fn list(entries: &[(String, String)]) -> String {
    let entries: Vec<String> =
        entries.iter().map(|(on, then)| format!("{{predicate: {on}, on_match: {then}}}")).collect();
    format!("{{matcher_list: {{matchers: [{}]}}}}", entries.join(", "))
}

pub(super) fn filter(matcher: &str) -> String {
    format!("custom_response_matcher: {matcher}")
}

/// Fields of a route, a virtual host and so on.
pub(super) fn level(matcher: &str) -> String {
    format!("typed_per_filter_config: {{custom: {}}}", super::any(KIND, &filter(matcher)))
}

const DIRECT: &str = "- name: direct\n  match: {prefix: /direct}\n  response_headers_to_add: [{header: {key: x-route, value: r}}]\n  direct_response: {status: 503, body: {inline_string: direct}}\n";
const GONE: &str = "- match: {prefix: /gone}\n  route: {cluster_header: x-none}\n";
pub(super) const UP: &str = "- name: up\n  match: {prefix: /s}\n  response_headers_to_add: [{header: {key: x-route, value: r}}]\n  route: {cluster: up}\n";

pub(super) fn start(subject: &Subject, matcher: &str, upstream: &Upstream, routes: &str) -> Proxy {
    let filters = chain(&[("custom", KIND, &filter(matcher))]);
    let http = Http::routes(&[routes, DIRECT, GONE, UP].concat()).hcm(&filters);
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

pub(super) fn told(answer: &Response) -> (u16, String) {
    (answer.status, answer.text())
}

pub(super) fn is(status: u16, body: &str) -> (u16, String) {
    (status, body.to_owned())
}

fn replies_of_policies(subject: &Subject) {
    let upstream = upstream();
    let format = "body: {inline_string: B}, body_format: {json_format: {body: \"%LOCAL_REPLY_BODY%\", code: \"%RESPONSE_CODE%\", why: \"%RESPONSE_CODE_DETAILS%\", up: \"%RESP(x-up)%\", path: \"%REQ(:path)%\"}, content_type: text/unused}";
    let fields = "response_headers_to_add: [{header: {key: x-add, value: \"%RESPONSE_CODE% %RESP(x-up)%.%REQ(:path)%\"}}, {header: {key: content-type, value: text/mine}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-route, value: absent}, append_action: ADD_IF_ABSENT}]";
    let matcher = list(&[
        (status(503), local(&format!("{format}, status_code: 480, {fields}"))),
        (status(504), local("body: {inline_string: B}, response_code_details: mine")),
        (status(505), local("status_code: 200, preserve_response_code_details: true")),
    ]);
    let proxy = start(subject, &matcher, &upstream, "");
    let mut client = proxy.client();
    let answer = client.get("/s503?q");
    let text = "{\"body\":\"B\",\"code\":503,\"path\":\"/s503?q\",\"up\":\"1\",\"why\":\"via_upstream\"}\n";
    assert_eq!(told(&answer), is(480, text));
    assert_eq!(answer.get("content-length"), Some(text.len().to_string().as_str()));
    assert_eq!((answer.get("x-add"), answer.get("x-up")), (Some("503 ./s503?q"), None));
    assert_eq!((answer.get("content-type"), answer.get("x-route")), (Some("text/mine"), Some("r")));
    let answer = client.get("/s504");
    assert_eq!((told(&answer), answer.get("content-type")), (is(504, "B"), Some("text/plain")));
    let answer = client.get("/s505");
    assert_eq!((told(&answer), answer.get("content-type")), (is(200, ""), None));
    assert_eq!(told(&client.get("/s500")), is(500, "of the endpoint"));
    // The cluster counts what its endpoint said, the connection manager what the client got.
    proxy.wait_stat("cluster.up.upstream_rq_503", 1);
    proxy.wait_stat("cluster.up.upstream_rq_505", 1);
    proxy.wait_stat("http.main.downstream_rq_4xx", 1);
    proxy.wait_stat("http.main.downstream_rq_2xx", 1);
    let lines = proxy.log();
    assert_eq!(lines.line(0).verdict(), ("480", "-", ""));
    assert_eq!(lines.line(1).verdict(), ("504", "-", "mine"));
    assert_eq!(lines.line(2).verdict(), ("200", "-", "via_upstream"));
    assert_eq!((lines.line(0).get("route"), lines.line(0).get("attempts")), ("up", "1"));
    upstream.assert_strict();
}

fn replies_that_replace_replies(subject: &Subject) {
    let upstream = upstream();
    let own = single(&input("HttpResponseLocalReply", ""), "exact: \"true\"");
    let format = "body_format: {text_format_source: {inline_string: \"<%LOCAL_REPLY_BODY%> %RESPONSE_CODE_DETAILS%\"}}, preserve_response_code_details: true";
    let mapped = "local_reply_config: {mappers: [{filter: {status_code_filter: {comparison: {op: EQ, value: {default_value: 555, runtime_key: x.y}}}}, status_code: 556, body_format_override: {text_format_source: {inline_string: \"mapped(%LOCAL_REPLY_BODY%)\"}}}]}";
    let matcher = list(&[
        (format!("{{and_matcher: {{predicate: [{own}, {}]}}}}", status(503)), local(format)),
        (own, local("status_code: 410")),
        (status(504), local("status_code: 555, body: {inline_string: B}")),
    ]);
    let filters = chain(&[("custom", KIND, &filter(&matcher))]);
    let http = Http::routes(&[DIRECT, GONE, UP].concat()).hcm(&filters).hcm(mapped);
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    let mut client = proxy.client();
    let answer = client.get("/direct");
    // Only routes to a cluster add their fields once more.
    assert_eq!((told(&answer), answer.get("x-route")), (is(503, "<direct> direct_response"), None));
    assert_eq!(told(&client.get("/gone")), is(503, "<> cluster_not_found"));
    assert_eq!(told(&client.get("/nowhere")), is(410, ""));
    assert_eq!(told(&client.get("/s503")), is(503, "of the endpoint"));
    assert_eq!(told(&client.get("/s504")), is(556, "mapped(B)"));
    let lines = proxy.log();
    assert_eq!(lines.line(1).verdict(), ("503", "NC", "cluster_not_found"));
    assert_eq!(lines.line(2).verdict(), ("410", "NR", ""));
}

fn replies_to_head_and_grpc(subject: &Subject) {
    let upstream = upstream();
    let add = "response_headers_to_add: [{header: {key: x-add, value: a}}]";
    let matcher = list(&[(status(503), local(&format!("body: {{inline_string: \"some text\"}}, {add}")))]);
    let proxy = start(subject, &matcher, &upstream, "");
    let mut client = proxy.client();
    let answer = client.exchange("HEAD", "/s503", &[], b"");
    assert_eq!((told(&answer), answer.get("content-length")), (is(503, ""), Some("9")));
    let answer = client.get_with("/s503", &[("content-type", "application/grpc"), ("te", "trailers")]);
    assert_eq!((answer.status, answer.get("content-type")), (200, Some("application/grpc")));
    assert_eq!((answer.get("grpc-status"), answer.get("grpc-message")), (Some("14"), Some("some text")));
    assert_eq!(answer.get("x-add"), Some("a"));
    assert_eq!(told(&client.get("/s200")), is(200, "of the endpoint"));
}

fn answers_are_dropped_whole(subject: &Subject) {
    let upstream = Upstream::start(|request: &Request| match request.target.as_str() {
        "/s1" => Reply::chunked(&[], &[b"some", b"pieces"], &[("x-trailer", "t")]),
        "/s2" => Reply::with(200, &[], &vec![b'x'; 600_000]),
        "/s3" => Reply::until_close(b"until the end"),
        "/s4" => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"),
        _ => Reply::with(204, &[], b""),
    });
    let matcher = list(&[(status(200), body("instead"))]);
    let proxy = start(subject, &matcher, &upstream, "");
    let mut client = proxy.client();
    for path in ["/s1", "/s2", "/s3", "/s4"] {
        assert_eq!(told(&client.get(path)), is(200, "instead"), "{path}");
        assert_eq!(client.get("/s").status, 204, "{path}");
    }
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    proxy.wait_stat("http.main.downstream_rq_active", 0);
}

fn a_request_begins_anew(subject: &Subject) {
    let upstream = upstream();
    let fields = "uri: \"https://other:81/s200/x?q#part\", status_code: 207, request_headers_to_add: [{header: {key: x-asks, value: \"%RESPONSE_CODE% %REQ(:path)%\"}}], response_headers_to_add: [{header: {key: x-add, value: \"%RESPONSE_CODE%\"}}]";
    let matcher = list(&[
        (status(503), redirect(fields)),
        (status(504), redirect("redirect_action: {path_redirect: /s503}")),
        (status(200), body("never")),
    ]);
    let proxy = start(subject, &matcher, &upstream, "");
    let mut client = proxy.client();
    let answer = client.get_with("/s503?a", &[("x-mine", "1")]);
    assert_eq!(told(&answer), is(207, "of the endpoint"));
    assert_eq!((answer.get("x-up"), answer.get("x-add")), (Some("1"), Some("200")));
    let seen = upstream.requests();
    let (first, second) = (&seen[0].fields, &seen[1]);
    assert_eq!((second.target.as_str(), second.fields.get("host")), ("/s200/x?q", Some("other:81")));
    assert_eq!(second.fields.get("x-asks"), Some("503 /s200/x?q"));
    assert_eq!((second.fields.get("x-mine"), second.fields.has("x-envoy-original-url")), (Some("1"), false));
    assert_eq!(second.fields.get("x-request-id"), first.get("x-request-id"));
    // What a redirect is answered is not matched, and has the status of the first answer.
    assert_eq!(told(&client.get("/s504")), is(504, "of the endpoint"));
    for (code, count) in [("503", 2), ("504", 1), ("200", 1)] {
        proxy.wait_stat(&format!("cluster.up.upstream_rq_{code}"), count);
    }
    proxy.wait_stat("http.main.downstream_rq_total", 4);
    proxy.wait_stat("http.main.rq_total", 4);
    proxy.wait_stat("http.main.downstream_rq_completed", 2);
    proxy.wait_stat("http.main.downstream_rq_active", 0);
    let lines = proxy.log();
    assert_eq!(lines.line(0).verdict(), ("503", "-", "internal_redirect"));
    assert_eq!(lines.line(1).verdict(), ("207", "-", "via_upstream"));
    assert_eq!(lines.line(3).verdict(), ("504", "-", "via_upstream"));
    upstream.assert_strict();
}

fn where_redirects_lead(subject: &Subject) {
    let upstream = upstream();
    let to = |path: &str| redirect(&format!("uri: \"http://o{path}\""));
    let matcher = list(&[
        (status(501), to("/direct")),
        (status(502), to("/away")),
        (status(505), to("/gone")),
        (status(404), to("/s200")),
    ]);
    let away = "- match: {prefix: /away}\n  redirect: {path_redirect: /elsewhere}\n";
    let proxy = start(subject, &matcher, &upstream, away);
    let mut client = proxy.client();
    assert_eq!(told(&client.get("/s501")), is(501, "direct"));
    let answer = client.get("/s502");
    assert_eq!((told(&answer), answer.get("location")), (is(502, ""), Some("http://o/elsewhere")));
    assert_eq!(told(&client.get("/s505")), is(505, ""));
    // A reply of our own leads to a redirect, too.
    assert_eq!(told(&client.get("/nowhere")), is(404, "of the endpoint"));
    let lines = proxy.log();
    assert_eq!(lines.line(0).verdict(), ("501", "-", "internal_redirect"));
    assert_eq!(lines.line(1).verdict(), ("501", "-", "direct_response"));
    assert_eq!(lines.line(5).verdict(), ("505", "NC", "cluster_not_found"));
    assert_eq!(lines.line(6).verdict(), ("404", "NR", "internal_redirect"));
    assert_eq!(lines.line(7).verdict(), ("404", "-", "via_upstream"));
}

fn redirects_that_are_not_made(subject: &Subject) {
    let upstream = upstream();
    let matcher = list(&[
        (status(501), redirect("uri: \"http://o/nowhere\"")),
        (status(502), redirect("redirect_action: {host_redirect: \"a b\"}")),
        (status(503), redirect("uri: \"http://o/s200\"")),
    ]);
    let routed = format!(
        "- match: {{prefix: /s504}}\n  route: {{cluster: up}}\n  {}\n",
        level(&list(&[(status(504), redirect("uri: \"http://o/nowhere\""))]))
    );
    let proxy = start(subject, &matcher, &upstream, &routed);
    let mut client = proxy.client();
    for code in [501, 502, 504] {
        assert_eq!(told(&client.get(&format!("/s{code}"))), is(code, "of the endpoint"));
    }
    proxy.wait_stat("http.main.custom_response_redirect_no_route", 1);
    proxy.wait_stat("http.main.custom_response_invalid_uri", 1);
    proxy.wait_stat("custom_response_redirect_no_route", 1);
    assert_eq!(proxy.stat("custom_response_invalid_uri"), Some(0));
    assert_eq!(proxy.log().line(0).verdict(), ("501", "-", "via_upstream"));
    assert_eq!(upstream.requests().len(), 3);
    // The endpoint answers before it has all of the request.
    let early = Upstream::with_early(|_| Some(Reply::with(503, &[], b"early")), |_| Reply::ok("late"));
    let proxy = start(subject, &matcher, &early, "");
    let mut client = proxy.client();
    client.send(b"POST /s503 HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
    let answer = client.response("POST").expect("an answer");
    assert_eq!((told(&answer), answer.closes()), (is(503, "early"), true));
}

fn bodies_and_methods_of_redirected_requests(subject: &Subject) {
    let upstream = upstream();
    let matcher = list(&[(status(503), redirect("uri: \"http://o/s200\""))]);
    let proxy = start(subject, &matcher, &upstream, "");
    let mut client = proxy.client();
    let answer = client.exchange("POST", "/s503", &[("content-type", "text/mine")], b"hello");
    assert_eq!(told(&answer), is(503, "of the endpoint"));
    let second = &upstream.requests()[1];
    assert_eq!((second.method.as_str(), &*second.body), ("GET", &b""[..]));
    assert_eq!(
        (second.fields.get("content-type"), second.fields.has("content-length")),
        (Some("text/mine"), false)
    );
    let mut client = proxy.client();
    let answer = client.exchange("HEAD", "/s503", &[], b"");
    assert_eq!((told(&answer), answer.get("content-length")), (is(503, ""), Some("15")));
    if !subject.is_envoy() {
        // Envoy asks with GET, and sends the body of that answer to a client that asked with HEAD.
        assert_eq!(upstream.requests()[3].method, "HEAD");
        assert_eq!(told(&client.get("/s503")), is(503, "of the endpoint"));
    }
    upstream.assert_strict();
}

fn retries_come_first(subject: &Subject) {
    let upstream = upstream();
    let retries = "retry_policy: {retry_on: 5xx, num_retries: 1, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}";
    let routes = format!("- match: {{prefix: /s50}}\n  route: {{cluster: up, {retries}}}\n");
    let matcher = list(&[(status(503), redirect("uri: \"http://o/s200\"")), (status(502), body("instead"))]);
    let proxy = start(subject, &matcher, &upstream, &routes);
    let mut client = proxy.client();
    assert_eq!(told(&client.get("/s502")), is(502, "instead"));
    assert_eq!(told(&client.exchange("POST", "/s503", &[], b"hello")), is(503, "of the endpoint"));
    let seen = upstream.requests();
    let targets: Vec<&str> = seen.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, ["/s502", "/s502", "/s503", "/s503", "/s200"]);
    if !subject.is_envoy() {
        // Envoy sends what it has kept for retries, in the GET.
        assert_eq!(&*seen[4].body, b"");
    }
    let lines = proxy.log();
    assert_eq!(lines.line(0).verdict(), ("502", "URX", ""));
    assert_eq!(lines.line(1).verdict(), ("503", "URX", "internal_redirect"));
    assert_eq!((lines.line(2).verdict(), lines.line(2).get("attempts")), (("503", "-", "via_upstream"), "1"));
    proxy.wait_stat("cluster.up.upstream_rq_retry", 2);
}

fn statuses_without_bodies(subject: &Subject) {
    if subject.is_envoy() {
        // It sends the bodies, which are no part of such answers.
        return;
    }
    let upstream = upstream();
    let matcher = list(&[
        (status(503), local("status_code: 204, body: {inline_string: text}")),
        (status(504), redirect("uri: \"http://o/s200\", status_code: 304")),
        (status(404), redirect("uri: \"http://o/s503\", status_code: 201")),
    ]);
    let proxy = start(subject, &matcher, &upstream, "");
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(told(&client.get("/s503")), is(204, ""));
        assert_eq!(told(&client.get("/s504")), is(200, "of the endpoint"));
        assert_eq!(told(&client.get("/s404")), is(201, "of the endpoint"));
    }
}

fn over_http2(subject: &Subject) {
    let upstream = h2::upstream::Upstream::start(|asked| match asked.get(":path") {
        "/s503" => h2::reply::Reply::with(503, &[], &[b'x'; 200_000]),
        "/s504" => h2::reply::Reply::with(504, &[], b"replaced"),
        _ => h2::reply::Reply::ok("other"),
    });
    let matcher = list(&[(status(503), body("instead")), (status(504), redirect("uri: \"http://o/s200\""))]);
    let filters = chain(&[("custom", KIND, &filter(&matcher))]);
    let http = Http::routes(UP).hcm(&filters);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = h2::client::Client::connect(proxy.listener("main"));
    let long = vec![b'y'; 100_000];
    for _ in 0..3 {
        for (path, sent, expected) in [
            ("/s503", &b""[..], (503, "instead")),
            ("/s504", b"", (504, "other")),
            ("/s503", &long, (503, "instead")),
            ("/s504", &long, (504, "other")),
            ("/s200", b"", (200, "other")),
        ] {
            let method = if sent.is_empty() { "GET" } else { "POST" };
            let id = client.request(method, path, &[], sent);
            let answer = client.response(id).expect("an answer");
            assert_eq!((answer.status, answer.text().as_str()), expected, "{path}");
        }
    }
    // One connection carries all of it.
    assert_eq!(upstream.connections(), 1);
    let mut http1 = proxy.client();
    assert_eq!(told(&http1.get("/s503")), is(503, "instead"));
    assert_eq!(told(&http1.get("/s504")), is(504, "other"));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    upstream.assert_strict();
}
