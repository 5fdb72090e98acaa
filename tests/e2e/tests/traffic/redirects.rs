//! Redirects of endpoints that are followed here (`internal_redirect_policy`).

use millrace_e2e::{Case, case};
use millrace_support::any::http2_cluster;
use millrace_support::bootstrap::Http;
use millrace_support::h2;
use millrace_support::message::Request;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::{route, start_http};

pub(crate) const CASES: &[Case] = &[
    case!(a_redirect_is_followed),
    case!(what_is_not_followed),
    case!(status_codes_and_methods),
    case!(fields_are_copied_from_the_redirect),
    case!(redirects_are_counted),
    case!(predicates),
    case!(where_redirects_lead),
    case!(bodies_are_kept_within_their_limit),
    case!(redirects_over_http2),
    case!(the_deprecated_fields),
];

/// Answers what `x-to` asks for with the status `x-status`, 302 by default; below `/target`, 200.
fn redirecting() -> Upstream {
    Upstream::start(|request: &Request| match request.fields.get("x-to") {
        Some(to) if !request.target.starts_with("/target") => {
            let status = request.fields.get("x-status").and_then(|s| s.parse().ok()).unwrap_or(302);
            Reply::with(status, &[("location", to), ("x-copy", "redirect")], b"redirected")
        }
        _ => Reply::ok("target"),
    })
}

/// Routes in front of one to `/target` and a direct one, all to the same upstream.
fn proxy(subject: &Subject, upstream: &Upstream, routes: &str) -> Proxy {
    let named =
        |name: &str| format!("- name: {name}\n  match: {{prefix: /{name}}}\n  route: {{cluster: up}}\n");
    let direct =
        "- match: {prefix: /direct}\n  direct_response: {status: 200, body: {inline_string: direct}}\n";
    let all = [routes, &named("target"), &named("plain"), direct].concat();
    start_http(subject, Http::routes(&all), &[("up", upstream.address(), "")])
}

fn policy(prefix: &str, policy: &str) -> String {
    route(prefix, &format!("cluster: up, internal_redirect_policy: {{{policy}}}"))
}

/// Status and body of a GET with these fields.
fn get(proxy: &Proxy, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let response = proxy.client().get_with(path, fields);
    (response.status, response.text())
}

fn followed() -> (u16, String) {
    (200, "target".into())
}

fn a_redirect_is_followed(subject: &Subject) {
    let upstream = redirecting();
    let rewritten =
        "cluster: up, internal_redirect_policy: {}, host_rewrite_literal: hh, prefix_rewrite: /aa";
    let proxy = proxy(subject, &upstream, &route("/a", rewritten));
    let to = [("x-to", "http://other:81/target/x?q#part"), ("x-mine", "1")];
    assert_eq!(get(&proxy, "/a/1?z", &to), followed());
    let seen = upstream.requests();
    let (first, second) = (&seen[0], &seen[1]);
    assert_eq!((first.target.as_str(), first.fields.get("host")), ("/aa/1?z", Some("hh")));
    assert_eq!((second.target.as_str(), second.fields.get("host")), ("/target/x?q", Some("other:81")));
    assert_eq!(second.fields.get("x-envoy-original-url"), Some("http://hh/aa/1?z"));
    assert_eq!(second.fields.get("x-envoy-original-path"), Some("/a/1?z"));
    assert_eq!(second.fields.get("x-mine"), Some("1"));
    assert_eq!(second.fields.get("x-request-id"), first.fields.get("x-request-id"));
    proxy.wait_stat("cluster.up.upstream_internal_redirect_succeeded_total", 1);
    // The redirect is no answer of the cluster; each pass is a request of its own.
    assert_eq!(proxy.stat("cluster.up.upstream_rq_completed"), Some(1));
    assert_eq!(
        (proxy.stat("http.main.downstream_rq_total"), proxy.stat("http.main.rq_total")),
        (Some(2), Some(2))
    );
    proxy.wait_stat("http.main.downstream_rq_completed", 1);
    proxy.wait_stat("http.main.downstream_rq_active", 0);
    let lines = proxy.log();
    assert_eq!(lines.line(0).verdict(), ("302", "-", "internal_redirect"));
    assert_eq!(lines.line(1).verdict(), ("200", "-", "via_upstream"));
    assert_eq!((lines.line(1).get("route"), lines.line(1).get("attempts")), ("target", "1"));
    upstream.assert_strict();
}

fn what_is_not_followed(subject: &Subject) {
    let upstream = redirecting();
    let proxy = proxy(subject, &upstream, &policy("/a", ""));
    for (to, reason) in [
        ("/target", "bad_location"),
        ("nonsense", "bad_location"),
        ("https://o/target", "unsafe_scheme"),
        ("http://o/nowhere", "no_route"),
        ("http://o:8080", "no_route"),
    ] {
        let counter = format!("http.main.passthrough_internal_redirect_{reason}");
        let before = proxy.stat(&counter).unwrap_or(0);
        assert_eq!(get(&proxy, "/a", &[("x-to", to)]), (302, "redirected".into()), "{to}");
        proxy.wait_stat(&counter, before + 1);
    }
    proxy.wait_stat("cluster.up.upstream_internal_redirect_failed_total", 5);
    assert_eq!(proxy.stat("cluster.up.upstream_rq_302"), Some(5));
    assert_eq!(proxy.log().line(0).verdict(), ("302", "-", "via_upstream"));
    // Without a location, or with a status that is not listed.
    assert_eq!(get(&proxy, "/a", &[("x-to", "http://o/target"), ("x-status", "301")]).0, 301);
    assert_eq!(proxy.stat("cluster.up.upstream_internal_redirect_failed_total"), Some(5));
}

fn status_codes_and_methods(subject: &Subject) {
    let upstream = redirecting();
    let proxy = proxy(subject, &upstream, &policy("/a", "redirect_response_codes: [301, 303, 307, 308]"));
    let to = ("x-to", "http://o/target");
    for (status, method, sent_on, kept) in [
        ("301", "POST", "POST", true),
        ("303", "POST", "GET", false),
        ("307", "PUT", "PUT", true),
        ("303", "GET", "GET", true),
    ] {
        let before = upstream.requests().len();
        let body: &[u8] = if method == "GET" { b"" } else { b"hello" };
        let response = proxy.client().exchange(method, "/a", &[to, ("x-status", status)], body);
        assert_eq!((response.status, response.text()), followed(), "{status} {method}");
        let last = &upstream.requests()[before + 1];
        assert_eq!((last.method.as_str(), &*last.body), (sent_on, if kept { body } else { b"" }), "{status}");
        assert_eq!(last.fields.has("content-length"), kept && method != "GET", "{status} {method}");
    }
    assert_eq!(get(&proxy, "/a", &[to]).0, 302);
    upstream.assert_strict();
}

fn fields_are_copied_from_the_redirect(subject: &Subject) {
    let upstream = redirecting();
    let proxy = proxy(subject, &upstream, &policy("/a", "response_headers_to_copy: [X-Copy, x-gone]"));
    let fields =
        [("x-to", "http://o/target"), ("x-copy", "request"), ("x-gone", "request"), ("x-stays", "1")];
    assert_eq!(get(&proxy, "/a", &fields), followed());
    let last = &upstream.requests()[1].fields;
    assert_eq!(
        (last.get("x-copy"), last.has("x-gone"), last.get("x-stays")),
        (Some("redirect"), false, Some("1"))
    );
}

fn redirects_are_counted(subject: &Subject) {
    let upstream = redirecting();
    let routes =
        [policy("/none", "max_internal_redirects: 0"), policy("/three", "max_internal_redirects: 3")]
            .concat();
    let proxy = proxy(subject, &upstream, &routes);
    let again = |path: &str| get(&proxy, path, &[("x-to", &format!("http://o{path}"))]).0;
    assert_eq!((again("/none"), again("/three")), (302, 302));
    assert_eq!(upstream.requests().len(), 1 + 4);
    proxy.wait_stat("http.main.passthrough_internal_redirect_too_many_redirects", 2);
    proxy.wait_stat("cluster.up.upstream_internal_redirect_succeeded_total", 3);
}

fn predicates(subject: &Subject) {
    let upstream = redirecting();
    let with = |prefix: &str, kind: &str, more: &str| {
        let kind = format!("\"@type\": type.googleapis.com/envoy.extensions.internal_redirect.{kind}");
        let policy_fields = format!("{more}, predicates: [{{name: p, typed_config: {{{kind}}}}}]");
        policy(prefix, &policy_fields)
    };
    let allowed = "allow_listed_routes.v3.AllowListedRoutesConfig, allowed_route_names: [target]";
    let routes = [
        with("/allow", allowed, "max_internal_redirects: 1"),
        with("/prev", "previous_routes.v3.PreviousRoutesConfig", "max_internal_redirects: 5"),
        with("/safe", "safe_cross_scheme.v3.SafeCrossSchemeConfig", "allow_cross_scheme_redirect: true"),
        policy("/cross", "allow_cross_scheme_redirect: true"),
    ]
    .concat();
    let proxy = proxy(subject, &upstream, &routes);
    let to = |path: &str, to: &str| get(&proxy, path, &[("x-to", to)]).0;
    assert_eq!((to("/allow", "http://o/target"), to("/allow", "http://o/direct")), (200, 302));
    assert_eq!((to("/safe", "https://o/target"), to("/cross", "https://o/target")), (302, 200));
    let before = upstream.requests().len();
    assert_eq!(to("/prev", "http://o/prev"), 302);
    assert_eq!(upstream.requests().len(), before + 2);
    proxy.wait_stat("http.main.passthrough_internal_redirect_predicate", 3);
}

fn where_redirects_lead(subject: &Subject) {
    let upstream = redirecting();
    let away = "- match: {prefix: /away}\n  redirect: {path_redirect: /zz}\n";
    let nowhere = route("/nowhere", "cluster_header: x-none");
    let proxy = proxy(subject, &upstream, &[&policy("/from", ""), away, &*nowhere].concat());
    assert_eq!(get(&proxy, "/from", &[("x-to", "http://o/direct")]), (200, "direct".into()));
    let response = proxy.client().get_with("/from", &[("x-to", "http://o/away")]);
    assert_eq!((response.status, response.get("location")), (301, Some("http://o/zz")));
    assert_eq!(get(&proxy, "/from", &[("x-to", "http://o/nowhere")]).0, 503);
    let line = proxy.log().line(5);
    assert_eq!(line.verdict(), ("503", "NC", "cluster_not_found"));
    // The connection goes on.
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get_with("/from", &[("x-to", "http://o/target")]).text(), "target");
    }
}

fn bodies_are_kept_within_their_limit(subject: &Subject) {
    let upstream = redirecting();
    let codes = "redirect_response_codes: [307]";
    let routes = [
        policy("/small", codes).replace("  route:", "  request_body_buffer_limit: 1000\n  route:"),
        policy("/old", codes).replace("  route:", "  per_request_buffer_limit_bytes: 1000\n  route:"),
        policy("/large", codes),
    ]
    .concat();
    let proxy = proxy(subject, &upstream, &routes);
    let fields = [("x-to", "http://o/target"), ("x-status", "307")];
    let body = b"0123456789".repeat(5_000);
    for (path, status) in [("/small", 307), ("/old", 307), ("/large", 200)] {
        let response = proxy.client().exchange("POST", path, &fields, &body);
        assert_eq!(response.status, status, "{path}");
    }
    assert!(upstream.requests().last().is_some_and(|last| last.body == body));
    proxy.wait_stat("cluster.up.retry_or_shadow_abandoned", 2);
    assert_eq!(proxy.client().exchange("POST", "/small", &fields, b"short").status, 200);
    // In pieces, and without a length.
    let mut client = proxy.client();
    client.send(b"POST /large HTTP/1.1\r\nhost: a\r\nx-to: http://o/target\r\nx-status: 307\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    proxy.wait_stat("cluster.up.upstream_rq_active", 1);
    client.send(b"2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.response("POST").map(|r| r.status), Ok(200));
    assert!(upstream.requests().last().is_some_and(|last| last.body == b"abcde"));
    upstream.assert_strict();
}

fn redirects_over_http2(subject: &Subject) {
    let upstream = h2::upstream::Upstream::start(|asked| match asked.get("x-to") {
        "" => h2::reply::Reply::ok("plain"),
        _ if asked.get(":path").starts_with("/target") => h2::reply::Reply::ok("target"),
        to => h2::reply::Reply::with(307, &[("location", to)], b"redirected"),
    });
    let routes = [policy("/a", "redirect_response_codes: [307]"), route("/", "cluster: up")].concat();
    let proxy = start_http(subject, Http::routes(&routes), &[("up", upstream.address(), &http2_cluster(""))]);
    let mut client = h2::client::Client::connect(proxy.listener("main"));
    let body = b"0123456789".repeat(9_000);
    let id = client.request("POST", "/a", &[("x-to", "http://other/target")], &body);
    assert_eq!(client.response(id).map(|r| (r.status, r.text())), Ok(followed()));
    let id = client.head("POST", "/a", &[("x-to", "http://other/target")], false);
    client.body(id, b"with", false);
    client.session().headers(id, &[("x-trailer", "t")], true);
    assert_eq!(client.response(id).map(|r| r.status), Ok(200));
    let seen = upstream.requests();
    assert!(seen[0].body == body && seen[1].body == body);
    assert_eq!(seen[1].get(":authority"), "other");
    if !subject.is_envoy() {
        // Envoy loses them.
        assert_eq!(seen[3].trailers.get("x-trailer"), Some("t"));
    }
    assert_eq!((&*seen[3].body, upstream.connections()), (&b"with"[..], 1));
    proxy.wait_stat("cluster.up.upstream_rq_active", 0);
    upstream.assert_strict();
}

fn the_deprecated_fields(subject: &Subject) {
    let upstream = redirecting();
    let old = "cluster: up, internal_redirect_action: HANDLE_INTERNAL_REDIRECT, max_internal_redirects: 2";
    let routes = route("/a", old);
    let enabled = "layered_runtime: {layers: [{name: s, static_layer: {envoy.features.enable_all_deprecated_features: true}}]}\n";
    let named = "- match: {prefix: /target}\n  route: {cluster: up}\n";
    let bootstrap = millrace_support::bootstrap::Bootstrap::new()
        .http(Http::routes(&[&*routes, named].concat()))
        .cluster("up", &[upstream.address()], "")
        .top(enabled);
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(get(&proxy, "/a", &[("x-to", "http://o/target")]), followed());
    assert_eq!(get(&proxy, "/a", &[("x-to", "http://o/a")]).0, 302);
    assert_eq!(upstream.requests().len(), 2 + 3);
}
