//! The filters `cors` and `csrf`.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;

use super::{DIRECT, FORWARD, any, chain, rest, route, start};

pub(crate) const CASES: &[Case] = &[
    case!(preflight_requests_are_answered),
    case!(answers_to_allowed_origins_say_so),
    case!(policies_are_looked_up_by_level),
    case!(the_deprecated_policies),
    case!(changes_must_come_from_their_own_origin),
];

const CORS: &str = "cors.v3.CorsPolicy";
const CSRF: &str = "csrf.v3.CsrfPolicy";
const OK: &str = "allow_origin_string_match: [{exact: \"http://ok.test\"}]";

type Expected = &'static [(&'static str, Option<&'static str>)];

fn check(response: &millrace_support::message::Response, expected: Expected) {
    for (name, value) in expected {
        assert_eq!(response.get(name), *value, "{name}: {response:?}");
    }
}

fn preflight_requests_are_answered(subject: &Subject) {
    let all = format!(
        "{OK}, allow_methods: \"GET,PUT\", allow_headers: x-a, expose_headers: x-e, max_age: \"100\", allow_credentials: true, allow_private_network_access: true"
    );
    let star = "allow_origin_string_match: [{prefix: \"*\"}], allow_methods: \"*\", allow_headers: \"*\"";
    let routes = [
        route("/all", FORWARD, "cors", CORS, &all),
        route("/star", FORWARD, "cors", CORS, star),
        route(
            "/no",
            FORWARD,
            "cors",
            CORS,
            &format!("{OK}, allow_methods: \"*\", forward_not_matching_preflights: false"),
        ),
        route("/direct", DIRECT, "cors", CORS, OK),
    ]
    .concat();
    let upstream = Upstream::fixed("upstream");
    let proxy = start(subject, &[("cors", "cors.v3.Cors", "")], &routes, &upstream);
    let mut client = proxy.client();
    let mut ask = |path: &str, origin: &str| {
        let fields = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-q"),
            ("access-control-request-private-network", "true"),
        ];
        client.exchange("OPTIONS", path, &fields, b"")
    };
    let response = ask("/all", "http://ok.test");
    assert_eq!((response.status, response.text().as_str()), (200, ""));
    check(
        &response,
        &[
            ("access-control-allow-origin", Some("http://ok.test")),
            ("access-control-allow-credentials", Some("true")),
            ("access-control-allow-methods", Some("GET,PUT")),
            ("access-control-allow-headers", Some("x-a")),
            ("access-control-max-age", Some("100")),
            ("access-control-allow-private-network", Some("true")),
            ("access-control-expose-headers", Some("x-e")),
            ("content-type", None),
        ],
    );
    assert_eq!(proxy.log().line(0).verdict(), ("200", "-", "cors_response"));
    let star = ask("/star", "http://any.test");
    check(
        &star,
        &[
            ("access-control-allow-origin", Some("http://any.test")),
            ("access-control-allow-methods", Some("PUT")),
            ("access-control-allow-headers", Some("x-q")),
            ("access-control-allow-private-network", None),
        ],
    );
    // An origin that is not allowed is the upstream's business, unless the policy says otherwise.
    assert_eq!(ask("/all", "http://bad.test").text(), "upstream");
    let refused = ask("/no", "http://bad.test");
    assert_eq!(refused.text(), "");
    check(&refused, &[("access-control-allow-origin", None), ("access-control-allow-methods", Some("PUT"))]);
    // A route that does not forward has no policy.
    assert_eq!(ask("/direct", "http://ok.test").text(), "hello");
    proxy.wait_stat("http.main.cors.origin_valid", 2);
    proxy.wait_stat("http.main.cors.origin_invalid", 2);
}

fn answers_to_allowed_origins_say_so(subject: &Subject) {
    let routes = [
        route("/ok", FORWARD, "cors", CORS, &format!("{OK}, expose_headers: x-e, allow_credentials: true")),
        route(
            "/shadow",
            FORWARD,
            "cors",
            CORS,
            &format!("{OK}, filter_enabled: {{default_value: {{}}}}, shadow_enabled: {{default_value: {{numerator: 100}}}}"),
        ),
    ]
    .concat();
    let upstream = Upstream::fixed("upstream");
    let proxy = start(subject, &[("cors", "cors.v3.Cors", "")], &routes, &upstream);
    let mut client = proxy.client();
    let allowed = client.get_with("/ok", &[("origin", "http://ok.test")]);
    check(
        &allowed,
        &[
            ("access-control-allow-origin", Some("http://ok.test")),
            ("access-control-allow-credentials", Some("true")),
            ("access-control-expose-headers", Some("x-e")),
        ],
    );
    for (path, origin) in [("/ok", "http://bad.test"), ("/shadow", "http://ok.test")] {
        let response = client.get_with(path, &[("origin", origin)]);
        assert_eq!((response.status, response.get("access-control-allow-origin")), (200, None), "{path}");
    }
    assert_eq!(client.get("/ok").get("access-control-allow-origin"), None);
    proxy.wait_stat("http.main.cors.origin_valid", 2);
    proxy.wait_stat("http.main.cors.origin_invalid", 1);
}

/// Every setting is that of the most specific level which has it.
fn policies_are_looked_up_by_level(subject: &Subject) {
    let of_route = any(CORS, "max_age: \"7\"");
    let of_host = any(CORS, &format!("{OK}, max_age: \"9\", allow_methods: GET"));
    let host = format!(
        "- name: all\n  domains: [\"*\"]\n  typed_per_filter_config: {{cors: {of_host}}}\n  routes:\n  - match: {{prefix: \"/\"}}\n    {FORWARD}\n    typed_per_filter_config: {{cors: {of_route}}}\n"
    );
    let http = Http::virtual_hosts(&host).hcm(&chain(&[("cors", "cors.v3.Cors", "")]));
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    let fields = [("origin", "http://ok.test"), ("access-control-request-method", "PUT")];
    let response = proxy.client().exchange("OPTIONS", "/", &fields, b"");
    check(
        &response,
        &[
            ("access-control-allow-origin", Some("http://ok.test")),
            ("access-control-max-age", Some("7")),
            ("access-control-allow-methods", Some("GET")),
        ],
    );
}

fn the_deprecated_policies(subject: &Subject) {
    let host = format!(
        "- name: all\n  domains: [\"*\"]\n  cors: {{{OK}, max_age: \"9\"}}\n  routes:\n  - match: {{prefix: \"/own\"}}\n    route: {{cluster: up, cors: {{max_age: \"7\"}}}}\n  - match: {{prefix: \"/\"}}\n    {FORWARD}\n"
    );
    let http = Http::virtual_hosts(&host).hcm(&chain(&[("cors", "cors.v3.Cors", "")]));
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    let mut client = proxy.client();
    let fields = [("origin", "http://ok.test"), ("access-control-request-method", "PUT")];
    for (path, age) in [("/own", "7"), ("/", "9")] {
        let response = client.exchange("OPTIONS", path, &fields, b"");
        assert_eq!(response.get("access-control-max-age"), Some(age), "{path}");
        assert_eq!(response.get("access-control-allow-origin"), Some("http://ok.test"));
    }
}

fn changes_must_come_from_their_own_origin(subject: &Subject) {
    let on = "filter_enabled: {default_value: {numerator: 100}}";
    let off = "filter_enabled: {default_value: {}}";
    let shadow = "shadow_enabled: {default_value: {numerator: 100}}";
    let routes = [
        route("/on", DIRECT, "csrf", CSRF, &format!("{on}, additional_origins: [{{exact: other.test}}]")),
        route("/shadow", DIRECT, "csrf", CSRF, &format!("{off}, {shadow}")),
        rest(DIRECT),
    ]
    .concat();
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &[("csrf", CSRF, off)], &routes, &upstream);
    let mut client = proxy.client();
    for (method, path, fields, status) in [
        ("POST", "/on", &[][..], 403),
        ("POST", "/on", &[("origin", "http://a.test")], 200),
        ("POST", "/on", &[("origin", "http://b.test")], 403),
        ("POST", "/on", &[("origin", "null"), ("referer", "http://a.test/x")], 403),
        ("POST", "/on", &[("referer", "http://a.test/x")], 200),
        ("POST", "/on", &[("origin", "https://other.test")], 200),
        ("POST", "/on", &[("origin", "https://other.test:99")], 403),
        ("PATCH", "/on", &[("origin", "http://b.test")], 403),
        ("DELETE", "/on", &[("origin", "a.test")], 200),
        ("PUT", "/on", &[("origin", "http://b.test")], 403),
        ("GET", "/on", &[("origin", "http://b.test")], 200),
        ("POST", "/shadow", &[], 200),
        ("POST", "/", &[], 200),
    ] {
        let all: Vec<_> = [("host", "a.test")].iter().chain(fields).copied().collect();
        client.request(method, path, &all, b"");
        let response = client.response(method).expect("a response");
        assert_eq!(response.status, status, "{method} {path} {fields:?}");
        if status == 403 {
            assert_eq!(response.text(), "Invalid origin");
        }
    }
    assert_eq!(proxy.log().line(0).verdict(), ("403", "-", "csrf_origin_mismatch"));
    for (name, value) in [("missing_source_origin", 3), ("request_invalid", 4), ("request_valid", 4)] {
        proxy.wait_stat(&format!("http.main.csrf.{name}"), value);
    }
}
