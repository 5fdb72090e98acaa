//! The route table: who matches, where it goes, and what is rewritten on the way.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

pub(crate) const CASES: &[Case] = &[
    case!(domains_by_precedence),
    case!(no_virtual_host_and_no_route),
    case!(path_matchers),
    case!(first_match_wins),
    case!(header_and_query_matchers),
    case!(missing_cluster_at_run_time),
    case!(cluster_by_header),
    case!(weighted_clusters),
    case!(prefix_rewrite),
    case!(regex_rewrite),
    case!(host_rewrite),
    case!(redirects),
    case!(direct_responses),
    case!(header_changes),
    case!(header_changes_by_level),
    case!(formatters_in_headers),
    case!(strip_port_and_normalise),
    case!(method_and_case_matching),
];

/// Answers with the name it was given and the target it saw.
fn named(name: &'static str) -> Upstream {
    Upstream::start(move |request| Reply::ok(&format!("{name} {}", request.target)))
}

fn routes(subject: &Subject, upstream: &Upstream, yaml: &str) -> Proxy {
    let http = Http::routes(yaml);
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

fn direct(path: &str, body: &str) -> String {
    format!("- match: {{{path}}}\n  direct_response: {{status: 200, body: {{inline_string: \"{body}\"}}}}\n")
}

fn by_host(client: &mut Client, host: &str) -> (u16, String) {
    client.request("GET", "/", &[("host", host)], b"");
    let response = client.response("GET").expect("a response");
    (response.status, response.text())
}

fn domains_by_precedence(subject: &Subject) {
    let mut hosts = String::new();
    for (n, domain) in
        ["*", "*.test", "*.b.test", "a.b.test", "a.*", "a.b.*", "a.b.test:81"].iter().enumerate()
    {
        hosts.push_str(&format!("- name: h{n}\n  domains: [\"{domain}\"]\n  routes:\n"));
        hosts.push_str(&format!("  - match: {{prefix: \"/\"}}\n    direct_response: {{status: 200, body: {{inline_string: \"{domain}\"}}}}\n"));
    }
    let proxy = Proxy::start(subject, &Bootstrap::new().http(Http::virtual_hosts(&hosts)));
    let mut client = proxy.client();
    let expected = [
        ("a.b.test", "a.b.test"),
        ("A.B.TEST", "a.b.test"),
        ("a.b.test:81", "a.b.test:81"),
        ("a.b.test:82", "a.b.*"),
        ("x.b.test", "*.b.test"),
        ("x.test", "*.test"),
        ("a.b.else", "a.b.*"),
        ("a.else", "a.*"),
        ("else", "*"),
        ("b.test", "*.test"),
    ];
    for (host, domain) in expected {
        assert_eq!(by_host(&mut client, host), (200, domain.to_owned()), "{host}");
    }
}

fn no_virtual_host_and_no_route(subject: &Subject) {
    let hosts = "- name: only\n  domains: [\"known.test\"]\n  routes:\n  - match: {path: \"/here\"}\n    direct_response: {status: 200}\n";
    let proxy = Proxy::start(subject, &Bootstrap::new().http(Http::virtual_hosts(hosts)));
    let mut client = proxy.client();
    assert_eq!(by_host(&mut client, "unknown.test"), (404, String::new()));
    assert_eq!(by_host(&mut client, "known.test"), (404, String::new()));
    for n in 0..2 {
        assert_eq!(proxy.log().line(n).verdict(), ("404", "NR", "route_not_found"));
    }
    proxy.wait_stat("http.main.no_route", 2);
}

fn path_matchers(subject: &Subject) {
    let yaml = [
        direct("path: \"/exact\"", "exact"),
        direct("path_separated_prefix: \"/sep\"", "separated"),
        direct("safe_regex: {regex: \"/re/[0-9]+\"}", "regex"),
        direct("prefix: \"/pre\"", "prefix"),
    ]
    .concat();
    let upstream = Upstream::fixed("unused");
    let proxy = routes(subject, &upstream, &yaml);
    let mut client = proxy.client();
    let expected = [
        ("/exact", "exact"),
        ("/exact?q=1", "exact"),
        ("/exact/", ""),
        ("/sep", "separated"),
        ("/sep/x", "separated"),
        ("/sep?x", "separated"),
        ("/separate", ""),
        ("/re/12", "regex"),
        ("/re/12?x=1", "regex"),
        ("/re/12x", ""),
        ("/x/re/12", ""),
        ("/prefixed", "prefix"),
        ("/PREFIX", ""),
    ];
    for (target, body) in expected {
        let response = client.get(target);
        assert_eq!(response.text(), body, "{target}");
        assert_eq!(response.status, if body.is_empty() { 404 } else { 200 }, "{target}");
    }
}

fn first_match_wins(subject: &Subject) {
    let yaml = [direct("prefix: \"/a\"", "first"), direct("path: \"/a/b\"", "second")].concat();
    let upstream = Upstream::fixed("unused");
    let proxy = routes(subject, &upstream, &yaml);
    assert_eq!(proxy.client().get("/a/b").text(), "first");
}

fn header_and_query_matchers(subject: &Subject) {
    let header = |m: &str, body: &str| direct(&format!("prefix: \"/h\", headers: [{m}]"), body);
    let query = |m: &str, body: &str| direct(&format!("prefix: \"/q\", query_parameters: [{m}]"), body);
    let yaml = [
        header("{name: x-a, string_match: {exact: one}}", "exact"),
        header("{name: x-a, string_match: {prefix: tw}}", "prefix"),
        header("{name: x-a, string_match: {safe_regex: {regex: \"[0-9]+\"}}}", "regex"),
        header("{name: x-n, range_match: {start: 10, end: 20}}", "range"),
        header("{name: x-p, present_match: true}", "present"),
        header(
            "{name: x-i, string_match: {exact: gone}, invert_match: true}, {name: x-j, present_match: true}",
            "inverted",
        ),
        query("{name: k, string_match: {exact: v}}", "query"),
        query("{name: flag, present_match: true}", "flag"),
    ]
    .concat();
    let upstream = Upstream::fixed("unused");
    let proxy = routes(subject, &upstream, &yaml);
    let mut client = proxy.client();
    let headers = [
        (("x-a", "one"), "exact"),
        (("x-a", "two"), "prefix"),
        (("x-a", "33"), "regex"),
        (("x-a", "33x"), ""),
        (("x-n", "10"), "range"),
        (("x-n", "20"), ""),
        (("x-p", ""), "present"),
        // An absent field never matches a value, not even an inverted one.
        (("x-j", "1"), ""),
    ];
    for (field, body) in headers {
        assert_eq!(client.get_with("/h", &[field]).text(), body, "{field:?}");
    }
    for (target, body) in [
        ("/q?k=v", "query"),
        ("/q?a=1&k=v", "query"),
        ("/q?k=w", ""),
        ("/q?flag", "flag"),
        ("/q?flag=0", "flag"),
    ] {
        assert_eq!(client.get(target).text(), body, "{target}");
    }
}

fn missing_cluster_at_run_time(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy =
        routes(subject, &upstream, "- match: {prefix: \"/\"}\n  route: {cluster_header: x-cluster}\n");
    let response = proxy.client().get_with("/", &[("x-cluster", "absent")]);
    assert_eq!((response.status, response.text().as_str()), (503, ""));
    assert_eq!(proxy.log().line(0).verdict(), ("503", "NC", "cluster_not_found"));
}

fn cluster_by_header(subject: &Subject) {
    let upstream = named("a");
    let proxy =
        routes(subject, &upstream, "- match: {prefix: \"/\"}\n  route: {cluster_header: x-cluster}\n");
    assert_eq!(proxy.client().get_with("/", &[("x-cluster", "up")]).text(), "a /");
    // A request without the field has no cluster to go to.
    assert_eq!(proxy.client().get("/").status, 503);
}

fn weighted_clusters(subject: &Subject) {
    let (a, b) = (named("a"), named("b"));
    let yaml = "- match: {prefix: \"/\"}\n  route:\n    weighted_clusters:\n      clusters:\n      - {name: a, weight: 75}\n      - {name: b, weight: 25}\n";
    let bootstrap = Bootstrap::new().http(Http::routes(yaml)).cluster("a", &[a.address()], "").cluster(
        "b",
        &[b.address()],
        "",
    );
    let proxy = Proxy::start(subject, &bootstrap);
    let mut client = proxy.client();
    for _ in 0..400 {
        assert_eq!(client.get("/").status, 200);
    }
    let (to_a, to_b) = (a.requests().len(), b.requests().len());
    assert_eq!(to_a + to_b, 400);
    // Six standard deviations around 100.
    assert!((48..=152).contains(&to_b), "{to_a} to {to_b}");
}

fn prefix_rewrite(subject: &Subject) {
    let upstream = named("a");
    let yaml = "- match: {prefix: \"/old/\"}\n  route: {cluster: up, prefix_rewrite: \"/new/\"}\n\
                - match: {path: \"/gone\"}\n  route: {cluster: up, prefix_rewrite: \"/\"}\n";
    let proxy = routes(subject, &upstream, yaml);
    assert_eq!(proxy.client().get("/old/x?y=/old/").text(), "a /new/x?y=/old/");
    assert_eq!(proxy.client().get("/gone?q=1").text(), "a /?q=1");
    assert_eq!(upstream.requests()[0].fields.get("x-envoy-original-path"), Some("/old/x?y=/old/"));
}

fn regex_rewrite(subject: &Subject) {
    let upstream = named("a");
    let yaml = "- match: {prefix: \"/\"}\n  route:\n    cluster: up\n    regex_rewrite: {pattern: {regex: \"^/service/([^/]+)(/.*)$\"}, substitution: \"\\\\2/instance/\\\\1\"}\n";
    let proxy = routes(subject, &upstream, yaml);
    assert_eq!(proxy.client().get("/service/foo/v1/api?a=b").text(), "a /v1/api/instance/foo?a=b");
    assert_eq!(proxy.client().get("/other").text(), "a /other");
}

fn host_rewrite(subject: &Subject) {
    let upstream = Upstream::start(|request| Reply::ok(request.fields.get("host").unwrap_or("")));
    let yaml = "- match: {path: \"/literal\"}\n  route: {cluster: up, host_rewrite_literal: new.test}\n\
                - match: {path: \"/header\"}\n  route: {cluster: up, host_rewrite_header: x-host}\n\
                - match: {path: \"/append\"}\n  route: {cluster: up, host_rewrite_literal: new.test, append_x_forwarded_host: true}\n\
                - match: {prefix: \"/\"}\n  route: {cluster: up}\n";
    let proxy = routes(subject, &upstream, yaml);
    let mut client = proxy.client();
    assert_eq!(client.get("/literal").text(), "new.test");
    assert_eq!(client.get_with("/header", &[("x-host", "by.header")]).text(), "by.header");
    assert_eq!(client.get("/append").text(), "new.test");
    assert_eq!(client.get("/").text(), "test.local");
    assert_eq!(upstream.requests()[2].fields.get("x-forwarded-host"), Some("test.local"));
}

fn redirects(subject: &Subject) {
    let upstream = Upstream::fixed("unused");
    let yaml = "- match: {path: \"/https\"}\n  redirect: {https_redirect: true}\n\
                - match: {path: \"/host\"}\n  redirect: {host_redirect: new.test, response_code: FOUND}\n\
                - match: {path: \"/path\"}\n  redirect: {path_redirect: \"/elsewhere\"}\n\
                - match: {prefix: \"/pre/\"}\n  redirect: {prefix_rewrite: \"/post/\", port_redirect: 8443, response_code: PERMANENT_REDIRECT}\n\
                - match: {path: \"/strip\"}\n  redirect: {path_redirect: \"/s\", strip_query: true, response_code: SEE_OTHER}\n";
    let proxy = routes(subject, &upstream, yaml);
    let mut client = proxy.client();
    let expected = [
        ("/https?q=1", 301, "https://test.local/https?q=1"),
        ("/host", 302, "http://new.test/host"),
        ("/path?q=1", 301, "http://test.local/elsewhere?q=1"),
        ("/pre/x", 308, "http://test.local:8443/post/x"),
        ("/strip?q=1", 303, "http://test.local/s"),
    ];
    for (n, (target, status, location)) in expected.into_iter().enumerate() {
        let response = client.get(target);
        assert_eq!((response.status, response.get("location")), (status, Some(location)), "{target}");
        assert!(response.body.is_empty());
        assert_eq!(proxy.log().line(n).get("details"), "direct_response");
    }
}

fn direct_responses(subject: &Subject) {
    let upstream = Upstream::fixed("unused");
    let yaml = "- match: {path: \"/plain\"}\n  direct_response: {status: 418, body: {inline_string: \"short and stout\"}}\n\
                - match: {path: \"/empty\"}\n  direct_response: {status: 200}\n";
    let proxy = routes(subject, &upstream, yaml);
    let mut client = proxy.client();
    let response = client.get("/plain");
    assert_eq!((response.status, response.text().as_str()), (418, "short and stout"));
    assert_eq!(response.get("content-type"), Some("text/plain"));
    let empty = client.get("/empty");
    assert_eq!((empty.status, empty.get("content-length")), (200, Some("0")));
    assert_eq!(proxy.log().line(0).verdict(), ("418", "-", "direct_response"));
    assert!(upstream.requests().is_empty());
}

fn header_changes(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::with(200, &[("x-drop", "1"), ("x-keep", "1")], b"x"));
    let yaml = "- match: {prefix: \"/\"}\n  route: {cluster: up}\n  \
                request_headers_to_add:\n  - header: {key: x-new, value: added}\n  \
                - {header: {key: x-over, value: replaced}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}\n  \
                - {header: {key: x-absent, value: default}, append_action: ADD_IF_ABSENT}\n  \
                - {header: {key: x-only, value: seen}, append_action: OVERWRITE_IF_EXISTS}\n  \
                request_headers_to_remove: [x-secret]\n  \
                response_headers_to_add:\n  - header: {key: x-resp, value: added}\n  \
                response_headers_to_remove: [x-drop]\n";
    let proxy = routes(subject, &upstream, yaml);
    let fields = [("x-new", "own"), ("x-over", "own"), ("x-absent", "own"), ("x-secret", "1")];
    let response = proxy.client().get_with("/", &fields);
    let seen = upstream.only_request().fields;
    assert_eq!(seen.all("x-new"), ["own", "added"]);
    assert_eq!(seen.all("x-over"), ["replaced"]);
    assert_eq!(seen.all("x-absent"), ["own"]);
    assert!(!seen.has("x-only") && !seen.has("x-secret"));
    assert_eq!((response.get("x-resp"), response.get("x-keep")), (Some("added"), Some("1")));
    assert!(!response.fields.has("x-drop"));
}

/// Route first, then virtual host, then route configuration.
fn header_changes_by_level(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let add = |value: &str, by: &str| {
        format!("{by}request_headers_to_add: [{{header: {{key: x-level, value: {value}}}}}]\n")
    };
    let hosts = format!(
        "- name: all\n  domains: [\"*\"]\n{}  routes:\n  - match: {{prefix: \"/\"}}\n    route: {{cluster: up}}\n{}",
        add("host", "  "),
        add("route", "    ")
    );
    let http = Http::virtual_hosts(&hosts).route_config(&add("table", ""));
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    proxy.client().get("/");
    assert_eq!(upstream.only_request().fields.all("x-level"), ["route", "host", "table"]);
}

fn formatters_in_headers(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let add = |key: &str, value: &str| format!("  - header: {{key: {key}, value: \"{value}\"}}\n");
    let yaml = [
        "- name: the-route\n  match: {prefix: \"/\"}\n  route: {cluster: up}\n  request_headers_to_add:\n"
            .to_owned(),
        add("x-client", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
        add("x-path", "%REQ(:PATH)%"),
        add("x-copy", "[%REQ(x-own)%]"),
        add("x-protocol", "%PROTOCOL%"),
        add("x-percent", "100%%"),
        "  response_headers_to_add:\n".to_owned(),
        add("x-code", "%RESPONSE_CODE%"),
        add("x-cluster", "%UPSTREAM_CLUSTER%"),
        add("x-route", "%ROUTE_NAME%"),
    ]
    .concat();
    let proxy = routes(subject, &upstream, &yaml);
    let response = proxy.client().get_with("/p?q", &[("x-own", "mine")]);
    let seen = upstream.only_request().fields;
    let expected = [
        ("x-client", "127.0.0.1"),
        ("x-path", "/p?q"),
        ("x-copy", "[mine]"),
        ("x-protocol", "HTTP/1.1"),
        ("x-percent", "100%"),
    ];
    for (name, value) in expected {
        assert_eq!(seen.get(name), Some(value), "{name}");
    }
    for (name, value) in [("x-code", "200"), ("x-cluster", "up"), ("x-route", "the-route")] {
        assert_eq!(response.get(name), Some(value), "{name}");
    }
}

fn strip_port_and_normalise(subject: &Subject) {
    let upstream =
        Upstream::start(|r| Reply::ok(&format!("{} {}", r.fields.get("host").unwrap_or(""), r.target)));
    let start = |hcm: &str| {
        let http = Http::to("up").hcm(hcm);
        Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
    };
    let plain = start("");
    assert_eq!(plain.client().get("/a/../b//c/%2e/d").text(), "test.local /a/../b//c/%2e/d");
    let tidy = start("normalize_path: true\nmerge_slashes: true\nstrip_any_host_port: true");
    let mut client = tidy.client();
    client.request("GET", "/a/../b//c/%2e/d?x=/../y", &[("host", "h.test:99")], b"");
    assert_eq!(client.response("GET").map(|r| r.text()), Ok("h.test /b/c/d?x=/../y".to_owned()));
    let refusing = start("path_with_escaped_slashes_action: REJECT_REQUEST\nnormalize_path: true");
    assert_eq!(refusing.client().get("/a%2fb").status, 400);
    refusing.wait_stat("http.main.downstream_rq_failed_path_normalization", 1);
    let redirecting = start("path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT\nnormalize_path: true");
    let response = redirecting.client().get("/a%2fb");
    assert_eq!((response.status, response.get("location")), (307, Some("/a/b")));
    let grpc = redirecting.client().get_with("/a%2fb", &[("content-type", "application/grpc")]);
    assert_eq!((grpc.status, grpc.get("grpc-status")), (200, Some("13")));
    redirecting.wait_stat("http.main.downstream_rq_redirected_with_normalized_path", 1);
    redirecting.wait_stat("http.main.downstream_rq_failed_path_normalization", 1);
}

fn method_and_case_matching(subject: &Subject) {
    let yaml = [
        direct("prefix: \"/m\", headers: [{name: \":method\", string_match: {exact: POST}}]", "post"),
        direct("prefix: \"/m\"", "other"),
        direct("prefix: \"/c\", case_sensitive: false", "insensitive"),
    ]
    .concat();
    let upstream = Upstream::fixed("unused");
    let proxy = routes(subject, &upstream, &yaml);
    let mut client = proxy.client();
    assert_eq!(client.exchange("POST", "/m", &[], b"").text(), "post");
    assert_eq!(client.get("/m").text(), "other");
    assert_eq!(client.get("/Cc").text(), "insensitive");
}
