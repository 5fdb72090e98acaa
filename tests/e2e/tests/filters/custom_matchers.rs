//! Which answers the filter `custom_response` replaces: matchers, levels, and the filters around it.

use millrace_e2e::{Case, case};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2;
use millrace_support::message::Response;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;

use super::chain;
use super::custom_response::{
    KIND, UP, body, filter, input, is, level, list, redirect, single, start, status, status_input, told,
    upstream,
};

pub(crate) const CASES: &[Case] =
    &[case!(matchers), case!(levels), case!(filters_around), case!(answers_that_were_held)];

/// A `matcher_tree` over the status.
fn map(kind: &str, entries: &[(&str, String)], otherwise: &str) -> String {
    let entries: Vec<String> = entries.iter().map(|(key, then)| format!("\"{key}\": {then}")).collect();
    format!(
        "{{matcher_tree: {{input: {}, {kind}: {{map: {{{}}}}}}}, on_no_match: {otherwise}}}",
        status_input(),
        entries.join(", ")
    )
}

fn matchers(subject: &Subject) {
    let upstream = upstream();
    let of_request = |name: &str| input("HttpRequestHeader", &format!(", header_name: \"{name}\""));
    let of_response = |name: &str| input("HttpResponseHeader", &format!(", header_name: \"{name}\""));
    let nested =
        || format!("{{matcher: {}}}", list(&[(single(&of_response("x-none"), "exact: a"), body("inner"))]));
    let kept = |action: String| action.replacen('{', "{keep_matching: true, ", 1);
    let class = single(&input("HttpResponseStatusCodeClass", ""), "prefix: \"5\"");
    let routes = [
        ("nested", list(&[(status(503), nested()), (class.clone(), body("after"))]), "after"),
        ("exact", map("exact_match_map", &[("503", nested())], &body("none")), "none"),
        (
            "prefix",
            map("prefix_match_map", &[("503", nested()), ("50", body("b")), ("5", body("c"))], &body("none")),
            "b",
        ),
        ("kept", list(&[(status(503), kept(body("first"))), (class, body("second"))]), "of the endpoint"),
        (
            "keptmap",
            map("prefix_match_map", &[("50", kept(body("a"))), ("5", body("b"))], &body("none")),
            "of the endpoint",
        ),
        ("any", format!("{{on_no_match: {}}}", body("any")), "any"),
        (
            "not",
            list(&[(
                format!("{{not_matcher: {}}}", single(&of_response("x-none"), "exact: a")),
                body("not"),
            )]),
            "not",
        ),
        ("route", list(&[(single(&of_response("x-route"), "suffix: \",r\""), body("joined"))]), "joined"),
        (
            "path",
            list(&[(
                single(&of_request(":path"), "safe_regex: {google_re2: {}, regex: \"/s50./.*\"}"),
                body("path"),
            )]),
            "path",
        ),
        (
            "host",
            list(&[(single(&of_request("host"), "contains: A, ignore_case: true"), body("host"))]),
            "host",
        ),
    ];
    let all: String = routes
        .iter()
        .map(|(name, matcher, _)| {
            format!(
                "- match: {{path: /s503/{name}}}\n  response_headers_to_add: [{{header: {{key: x-route, value: a}}}}, {{header: {{key: x-route, value: r}}}}]\n  route: {{cluster: up}}\n  {}\n",
                level(matcher)
            )
        })
        .collect();
    let proxy = start(subject, "{}", &upstream, &all);
    let mut client = proxy.client();
    for (name, _, found) in &routes {
        assert_eq!(told(&client.get(&format!("/s503/{name}"))), is(503, found), "{name}");
    }
}

fn levels(subject: &Subject) {
    let upstream = upstream();
    let matcher = |code: u16, text: &str| list(&[(status(code), body(text))]);
    let off = "typed_per_filter_config: {custom: {\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}";
    let hosts = format!(
        "- name: v\n  domains: [\"*\"]\n  {}\n  routes:\n  - match: {{prefix: /s50}}\n    route: {{cluster: up}}\n    {}\n  - match: {{prefix: /s51}}\n    route: {{cluster: up}}\n    {off}\n  - match: {{prefix: /}}\n    route: {{cluster: up}}\n",
        level(&matcher(502, "host")),
        level(&matcher(501, "route")),
    );
    let all = format!(
        "{{matcher_list: {{matchers: [{{predicate: {}, on_match: {}}}]}}}}",
        single(&status_input(), "prefix: \"5\""),
        body("filter")
    );
    let http = Http::virtual_hosts(&hosts).hcm(&chain(&[("custom", KIND, &filter(&all))]));
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    let mut client = proxy.client();
    for (code, found) in
        [(501, "route"), (502, "host"), (503, "filter"), (511, "of the endpoint"), (404, "of the endpoint")]
    {
        assert_eq!(told(&client.get(&format!("/s{code}"))), is(code, found));
    }
}

fn filters_around(subject: &Subject) {
    let upstream = upstream();
    let adds = |name: &str| {
        format!("mutations: {{response_mutations: [{{append: {{header: {{key: {name}, value: \"1\"}}}}}}]}}")
    };
    let behind = single(&input("HttpResponseHeader", ", header_name: x-behind"), "exact: \"1\"");
    let matcher = list(&[
        (format!("{{and_matcher: {{predicate: [{behind}, {}]}}}}", status(503)), body("instead")),
        (status(504), redirect("uri: \"http://o/s200\"")),
    ]);
    let (before, after) = (adds("x-before"), adds("x-behind"));
    let fault = "abort: {header_abort: {}, percentage: {numerator: 100}}";
    let filters = chain(&[
        ("fault", "fault.v3.HTTPFault", fault),
        ("before", "header_mutation.v3.HeaderMutation", &before),
        ("custom", KIND, &filter(&matcher)),
        ("behind", "header_mutation.v3.HeaderMutation", &after),
    ]);
    let http = Http::routes(UP).hcm(&filters);
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    let mut client = proxy.client();
    let answer = client.get("/s503");
    // No filter sees a reply that takes the place of an answer.
    let marks = |answer: &Response| (answer.get("x-before").is_some(), answer.get("x-behind").is_some());
    assert_eq!((told(&answer), marks(&answer)), (is(503, "instead"), (false, false)));
    let answer = client.get("/s504");
    assert_eq!((told(&answer), marks(&answer)), (is(504, "of the endpoint"), (true, true)));
    // A request that a filter before this one has answered may be answered otherwise, and cannot begin anew.
    let abort = |code| [("x-envoy-fault-abort-request", code)];
    let answer = client.get_with("/s200", &abort("503"));
    assert_eq!((told(&answer), marks(&answer)), (is(503, "instead"), (false, false)));
    let answer = client.get_with("/s200", &abort("504"));
    assert_eq!((told(&answer), marks(&answer)), (is(504, "fault filter abort"), (true, true)));
}

/// The filter behind keeps heads until it knows how the call ended.
fn answers_that_were_held(subject: &Subject) {
    let upstream = h2::upstream::Upstream::start(|asked| match asked.get(":path") {
        "/s200" => h2::reply::Reply::ok("other"),
        path => {
            let status = if path == "/s14" { "14" } else { "5" };
            let head = h2::reply::Reply(Vec::new()).head(200, &[("content-type", "application/grpc")], false);
            head.data(b"\0\0\0\0\x01x", false).trailers(&[("grpc-status", status)])
        }
    });
    let of_status = |status: &str| {
        single(&input("HttpResponseHeader", ", header_name: grpc-status"), &format!("exact: \"{status}\""))
    };
    let matcher =
        list(&[(of_status("14"), body("instead")), (of_status("5"), redirect("uri: \"http://o/s200\""))]);
    let filters =
        chain(&[("custom", KIND, &filter(&matcher)), ("bridge", "grpc_http1_bridge.v3.Config", "")]);
    let http = Http::routes(UP).hcm(&filters);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], &http2_cluster(""));
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = proxy.client();
    let mut call = |path: &str| {
        let fields = [("content-type", "application/grpc")];
        client.exchange("POST", path, &fields, b"\0\0\0\0\0")
    };
    for _ in 0..2 {
        let answer = call("/s14");
        assert_eq!((answer.status, answer.get("grpc-message")), (200, Some("instead")));
        let answer = call("/s5");
        assert_eq!(told(&answer), is(503, "other"));
    }
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
}
