//! The filter `json_to_metadata`.

use millrace_e2e::{Case, case};
use millrace_support::any::{Body, Caller, Question, Version};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::{DIRECT, FORWARD, chain, rest, route};

pub(crate) const CASES: &[Case] = &[
    case!(values_of_requests),
    case!(what_is_no_json),
    case!(content_types_of_requests),
    case!(values_of_responses),
    case!(values_choose_the_route),
    case!(routes_have_their_own_rules),
    case!(values_that_are_there_may_stay),
    case!(bodies_are_limited),
    case!(other_filters_in_front),
    case!(requests_of_http2),
];

const KIND: &str = "json_to_metadata.v3.JsonToMetadata";
const OWN: &str = "%DYNAMIC_METADATA(envoy.filters.http.json_to_metadata)%";
const RULES: &str = "request_rules: {rules: [\
    {selectors: [{key: a}], on_present: {key: a}, on_missing: {key: a, value: miss}, on_error: {key: a, value: err}}, \
    {selectors: [{key: \"n\"}], on_present: {key: num, type: NUMBER}}, \
    {selectors: [{key: \"n\"}], on_present: {key: str, type: STRING}, on_missing: {key: str, value: m}}, \
    {selectors: [{key: o}, {key: x}], on_present: {metadata_namespace: ns, key: x}, on_missing: {metadata_namespace: ns, key: x, value: {deep: [1]}}}, \
    {selectors: [{key: \"n\"}], on_present: {key: fixed, value: 7}, on_missing: {key: fixed, value: 8}}]}";
const JSON: (&str, &str) = ("content-type", "application/json");

/// A proxy with these filters that logs what the filter wrote as `own`, and the namespace `ns` as `ns`.
fn start(
    subject: &Subject,
    filters: &[(&str, &str, &str)],
    routes: &str,
    listener: &str,
    upstream: &Upstream,
) -> Proxy {
    let http = Http::routes(routes).hcm(&chain(filters)).listener(listener);
    let http = http.logs("own", OWN).logs("ns", "%DYNAMIC_METADATA(ns)%");
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

/// What is written of each body: of the filter's own namespace, and of `ns`.
fn assert_written(subject: &Subject, cases: &[(&[u8], &str, &str)]) -> Proxy {
    let upstream = Upstream::echo();
    let proxy = start(subject, &[("j2m", KIND, RULES)], &rest(FORWARD), "", &upstream);
    let mut client = proxy.client();
    let shown = |body: &[u8]| String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
    for (body, ..) in cases {
        let response = client.exchange("POST", "/", &[JSON], body);
        assert_eq!((response.status, response.body == *body), (200, true), "{}", shown(body));
    }
    for (n, (body, own, ns)) in cases.iter().enumerate() {
        let line = proxy.log().line(n);
        assert_eq!((line.get("own"), line.get("ns")), (*own, *ns), "{}", shown(body));
    }
    upstream.assert_strict();
    proxy
}

fn counted(proxy: &Proxy, direction: &str, expected: [u64; 4]) {
    let names = ["success", "mismatched_content_type", "no_body", "invalid_json_body"];
    for (name, value) in names.iter().zip(expected) {
        let name = format!("json_to_metadata.{direction}.{name}");
        assert_eq!(proxy.stat(&name), Some(value), "{name}");
    }
}

fn values_of_requests(subject: &Subject) {
    let deep = r#"{"x":{"deep":[1]}}"#;
    let missing = r#"{"a":"miss","fixed":7,"str":"m"}"#;
    let nothing = r#"{"a":"miss","fixed":8,"str":"m"}"#;
    let long = format!("{{\"a\":\"{}\"}}", "q".repeat(8193));
    let nested = format!("{{\"z\":{}{}}}", "[".repeat(999), "]".repeat(999));
    let proxy = assert_written(
        subject,
        &[
            (b"{}", missing, deep),
            (br#"{"a":1}"#, r#"{"a":1,"fixed":7,"str":"m"}"#, deep),
            (br#"{"a":1.5,"n":1.5}"#, r#"{"a":1.5,"fixed":7,"num":1.5,"str":"1.500000"}"#, deep),
            (br#"{"a":true,"n":true}"#, r#"{"a":true,"fixed":7,"num":1,"str":"1"}"#, deep),
            (br#"{"a":null,"n":null}"#, missing, deep),
            (br#"{"a":{"b":1},"n":[]}"#, missing, deep),
            (br#"{"n":" 2.5 "}"#, r#"{"a":"miss","fixed":7,"num":2.5,"str":" 2.5 "}"#, deep),
            (br#"{"n":"x"}"#, r#"{"a":"miss","fixed":7,"str":"x"}"#, deep),
            (br#"{"n":""}"#, r#"{"a":"miss","fixed":7}"#, deep),
            (br#"{"n":-7}"#, r#"{"a":"miss","fixed":7,"num":-7,"str":"-7"}"#, deep),
            (
                br#"{"n":12345678901234567890123}"#,
                r#"{"a":"miss","fixed":7,"num":1.2345678901234568e+22,"str":"12345678901234567741440.000000"}"#,
                deep,
            ),
            (br#"{"o":{"x":1}}"#, missing, r#"{"x":1}"#),
            (br#"{"o":[1]}"#, missing, deep),
            (br#"{"o":{"x":{}}}"#, missing, deep),
            (b"\"text\"", nothing, deep),
            (b"null", nothing, deep),
            (br#"[{"a":1}]"#, missing, deep),
            (b"", nothing, deep),
            (br#"{"a":1,"a":2}"#, r#"{"a":2,"fixed":7,"str":"m"}"#, deep),
            (br#"{"\u0061":"\ud83d\ude00"}"#, "{\"a\":\"\u{1f600}\",\"fixed\":7,\"str\":\"m\"}", deep),
            (b"\xef\xbb\xbf{\"a\":1}", r#"{"a":1,"fixed":7,"str":"m"}"#, deep),
            (b"{\"a\":1}\0", r#"{"a":1,"fixed":7,"str":"m"}"#, deep),
            (long.as_bytes(), missing, deep),
            (nested.as_bytes(), missing, deep),
        ],
    );
    counted(&proxy, "rq", [23, 0, 1, 0]);
    counted(&proxy, "resp", [0; 4]);
}

fn what_is_no_json(subject: &Subject) {
    let error = r#"{"a":"err"}"#;
    let nested = "[".repeat(1001) + &"]".repeat(1001);
    let bodies: [&[u8]; 16] = [
        b"   ",
        b"{",
        b"{\"a\":1}x",
        b"{\"a\":1,}",
        b"{\"a\":\"\\ud800\"}",
        b"// c\n{}",
        b"{\"a\":01}",
        b"{\"a\":NaN}",
        b"{'a':1}",
        b"{\"a\":\"q\tq\"}",
        b"{\"a\":\"\xff\"}",
        b"{\"n\":18446744073709551615}",
        b"{\"n\":1e999}",
        b"{\"a\":1.}",
        b"tru",
        nested.as_bytes(),
    ];
    let proxy = assert_written(subject, &bodies.map(|body| (body, error, "-")));
    counted(&proxy, "rq", [0, 0, 0, 16]);
}

fn content_types_of_requests(subject: &Subject) {
    let types = "allow_empty_content_type: true, allow_content_types: [text/plain, x/y], allow_content_types_regex: {regex: \"a.*b\"}, rules";
    let rules = RULES.replacen("rules: [", &format!("{types}: ["), 1);
    let upstream = Upstream::echo();
    for (rules, allowed, others) in [
        (&*rules, &["text/plain", "x/y", "axb", ""][..], &["application/json", "xaxb", "X/Y"][..]),
        (RULES, &["application/json"], &["application/json; charset=utf-8", "Application/json", ""]),
    ] {
        let proxy = start(subject, &[("j2m", KIND, rules)], &rest(FORWARD), "", &upstream);
        let kinds = || allowed.iter().chain(others);
        for kind in kinds() {
            let fields = if kind.is_empty() { vec![] } else { vec![("content-type", *kind)] };
            assert_eq!(proxy.client().exchange("POST", "/", &fields, br#"{"a":1}"#).status, 200);
        }
        for (n, kind) in kinds().enumerate() {
            let read = n < allowed.len();
            let expected = if read { r#"{"a":1,"fixed":7,"str":"m"}"# } else { r#"{"a":"err"}"# };
            assert_eq!(proxy.log().line(n).get("own"), expected, "{kind}");
        }
        counted(&proxy, "rq", [allowed.len() as u64, others.len() as u64, 0, 0]);
    }
}

const ANSWERS: &str = "response_rules: {rules: [{selectors: [{key: a}], on_present: {key: a}, on_missing: {key: a, value: miss}, on_error: {key: a, value: err}}]}";

fn values_of_responses(subject: &Subject) {
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/streamed" => Reply::chunked(&[JSON], &[b"{\"a\":", b"\"streamed\"}"], &[("x-t", "1")]),
        "/other" => Reply::with(200, &[("content-type", "text/plain")], b"{}"),
        "/empty" => Reply::with(200, &[JSON], b""),
        "/none" => Reply::with(204, &[JSON], b""),
        "/broken" => Reply::with(200, &[JSON], b"{"),
        "/long" => Reply::with(200, &[JSON], &[b' '; 2000]),
        _ => Reply::with(200, &[JSON], b"{\"a\":true}"),
    });
    let limit = "per_connection_buffer_limit_bytes: 1000";
    let direct = format!("- match: {{path: \"/direct\"}}\n  {DIRECT}\n");
    let routes = [direct, rest(FORWARD)].concat();
    let proxy = start(subject, &[("j2m", KIND, ANSWERS)], &routes, limit, &upstream);
    let cases = [
        ("/", 200, "{\"a\":true}", r#"{"a":true}"#),
        ("/streamed", 200, "{\"a\":\"streamed\"}", r#"{"a":"streamed"}"#),
        ("/other", 200, "{}", r#"{"a":"err"}"#),
        ("/empty", 200, "", r#"{"a":"miss"}"#),
        ("/none", 204, "", r#"{"a":"miss"}"#),
        ("/broken", 200, "{", r#"{"a":"err"}"#),
        ("/long", 500, "Internal Server Error", "-"),
        ("/direct", 200, "hello", r#"{"a":"err"}"#),
    ];
    for (path, status, body, _) in cases {
        let response = proxy.client().get(path);
        assert_eq!((response.status, &*response.text()), (status, body), "{path}");
    }
    for (n, (path, _, _, own)) in cases.iter().enumerate() {
        let line = proxy.log().line(n);
        assert_eq!(line.get("own"), *own, "{path} {line:?}");
    }
    counted(&proxy, "resp", [2, 2, 2, 1]);
    counted(&proxy, "rq", [0; 4]);
}

fn values_choose_the_route(subject: &Subject) {
    let by = "- match: {prefix: \"/\", dynamic_metadata: [{filter: envoy.filters.http.json_to_metadata, path: [{key: a}], value: {string_match: {exact: chosen}}}]}\n  name: chosen\n  direct_response: {status: 201}\n";
    let upstream = Upstream::echo();
    let routes = [by, &rest(FORWARD)].concat();
    let proxy = start(subject, &[("j2m", KIND, RULES)], &routes, "", &upstream);
    let mut client = proxy.client();
    for (body, status) in [(r#"{"a":"chosen"}"#, 201), (r#"{"a":"other"}"#, 200), (r#"{"a":"chosen"}"#, 201)]
    {
        assert_eq!(client.exchange("POST", "/", &[JSON], body.as_bytes()).status, status, "{body}");
    }
}

fn routes_have_their_own_rules(subject: &Subject) {
    let own = "request_rules: {rules: [{selectors: [{key: a}], on_present: {key: own}}]}";
    let upstream = Upstream::start(|_| Reply::with(200, &[JSON], b"{\"a\":\"of the answer\"}"));
    let routes = [route("/own", FORWARD, "j2m", KIND, own), rest(FORWARD)].concat();
    let proxy = start(subject, &[("j2m", KIND, ANSWERS)], &routes, "", &upstream);
    for path in ["/own", "/"] {
        assert_eq!(proxy.client().exchange("POST", path, &[JSON], b"{\"a\":1}").status, 200);
    }
    for (n, expected) in [r#"{"own":1}"#, r#"{"a":"of the answer"}"#].iter().enumerate() {
        assert_eq!(proxy.log().line(n).get("own"), *expected);
    }
}

fn values_that_are_there_may_stay(subject: &Subject) {
    let set =
        ("set", "set_metadata.v3.Config", "metadata: [{metadata_namespace: ns, value: {a: kept, b: kept}}]");
    let write = |key: &str, more: &str| {
        format!("{{selectors: [{{key: v}}], on_present: {{metadata_namespace: ns, key: {key}{more}}}}}")
    };
    let preserve = ", preserve_existing_metadata_value: true";
    let rules =
        [write("a", preserve), write("b", ""), write("c", ""), write("c", &format!("{preserve}, value: 2"))];
    let rules = format!("request_rules: {{rules: [{}]}}", rules.join(", "));
    let upstream = Upstream::echo();
    let proxy = start(subject, &[set, ("j2m", KIND, &rules)], &rest(FORWARD), "", &upstream);
    proxy.client().exchange("POST", "/", &[JSON], b"{\"v\":1}");
    assert_eq!(proxy.log().line(0).get("ns"), r#"{"a":"kept","b":1,"c":2}"#);
}

fn bodies_are_limited(subject: &Subject) {
    let upstream = Upstream::echo();
    let limit = "per_connection_buffer_limit_bytes: 1000";
    let proxy = start(subject, &[("j2m", KIND, RULES)], &rest(FORWARD), limit, &upstream);
    let refused = proxy.client().exchange("POST", "/", &[JSON], &[b' '; 3000]);
    assert_eq!((refused.status, refused.text().as_str()), (413, "Payload Too Large"));
    assert_eq!(proxy.log().line(0).verdict(), ("413", "-", "request_payload_too_large"));
    assert_eq!(proxy.client().exchange("POST", "/", &[("content-type", "x/y")], &[b' '; 3000]).status, 200);
    assert_eq!(proxy.client().exchange("POST", "/", &[JSON], &[b' '; 900]).status, 200);
    counted(&proxy, "rq", [0, 1, 0, 1]);
    proxy.wait_stat("http.main.downstream_rq_too_large", 1);
    let rules = RULES.replace("request_rules", "response_rules");
    let upstream = Upstream::start(|_| Reply::with(200, &[JSON], &[b' '; 3000]));
    let proxy = start(subject, &[("j2m", KIND, &rules)], &rest(FORWARD), limit, &upstream);
    assert_eq!(proxy.client().get("/").status, 500);
    assert_eq!(proxy.log().line(0).verdict(), ("500", "-", "response_payload_too_large"));
    proxy.wait_stat("http.main.rs_too_large", 1);
}

/// Who comes before may have held the request, or have delayed it while some of it came.
fn other_filters_in_front(subject: &Subject) {
    let buffer = ("buffer", "buffer.v3.Buffer", "max_request_bytes: 1000000");
    let delay = ("fault", "fault.v3.HTTPFault", "delay: {fixed_delay: 0.02s, percentage: {numerator: 100}}");
    let upstream = Upstream::echo();
    for filters in [&[buffer][..], &[delay], &[buffer, delay], &[delay, buffer]] {
        let filters = [filters, &[("j2m", KIND, RULES)]].concat();
        let proxy = start(subject, &filters, &rest(FORWARD), "", &upstream);
        let mut sent = 0;
        for version in [Version::Http1, Version::Http2] {
            let mut caller = Caller::connect(version, proxy.listener("main"));
            for length in [1, 300_000] {
                let end = format!("\",\"a\":{sent}}}").into_bytes();
                let pieces = vec![b"{\"b\":\"".to_vec(), vec![b'x'; length], end];
                let got = caller.ask(&posted(Body::Streamed(pieces.clone()), vec![])).expect("a response");
                assert_eq!((got.status, got.body == pieces.concat()), (200, true), "{version:?} {filters:?}");
                sent += 1;
            }
        }
        for n in 0..sent {
            let expected = format!("{{\"a\":{n},\"fixed\":7,\"str\":\"m\"}}");
            assert_eq!(proxy.log().line(n).get("own"), expected, "{filters:?}");
        }
    }
    upstream.assert_strict();
}

fn posted(body: Body, trailers: Vec<(&'static str, String)>) -> Question {
    let fields = vec![("content-type", "application/json".into())];
    Question { method: "POST", path: "/".into(), fields, body, trailers }
}

fn requests_of_http2(subject: &Subject) {
    let upstream = Upstream::echo();
    let proxy = start(subject, &[("j2m", KIND, RULES)], &rest(FORWARD), "", &upstream);
    let mut caller = Caller::connect(Version::Http2, proxy.listener("main"));
    let pieces = vec![b"{\"b\":\"".to_vec(), vec![b'x'; 300_000], b"\",\"a\":3}".to_vec()];
    for trailers in [vec![], vec![("x-t", "1".to_owned())]] {
        let got = caller.ask(&posted(Body::Streamed(pieces.clone()), trailers)).expect("a response");
        assert_eq!((got.status, got.body == pieces.concat()), (200, true));
    }
    for n in 0..2 {
        assert_eq!(proxy.log().line(n).get("own"), r#"{"a":3,"fixed":7,"str":"m"}"#);
    }
    upstream.assert_strict();
}
