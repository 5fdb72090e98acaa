//! Which header fields the proxy adds, changes and removes.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::{self, Client};
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

pub(crate) const CASES: &[Case] = &[
    case!(request_fields_by_default),
    case!(response_fields_by_default),
    case!(forwarded_for_with_remote_address),
    case!(forwarded_for_never_names_127_0_0_1),
    case!(external_address_is_named),
    case!(forwarded_for_is_kept_without_remote_address),
    case!(forwarded_for_skip_append),
    case!(request_id_is_made_and_replaced),
    case!(request_id_is_preserved_when_asked),
    case!(external_envoy_fields_are_removed),
    case!(internal_envoy_fields_are_obeyed),
    case!(server_header_transformations),
    case!(via_is_appended),
    case!(hop_by_hop_fields_end_here),
    case!(repeated_fields_keep_their_order),
    case!(header_case_proper),
    case!(suppressed_envoy_fields),
    case!(underscores_can_be_refused),
    case!(date_of_the_upstream_is_kept),
];

fn proxy(subject: &Subject, upstream: &Upstream, hcm: &str) -> Proxy {
    let http = Http::to("up").hcm(hcm);
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

fn request_fields_by_default(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &upstream, "");
    proxy.client().get_with("/", &[("User-Agent", "curl"), ("X-Own", "Value")]);
    let fields = upstream.only_request().fields;
    let mut names = fields.names();
    names.sort_unstable();
    let expected = [
        "host",
        "user-agent",
        "x-envoy-expected-rq-timeout-ms",
        "x-forwarded-proto",
        "x-own",
        "x-request-id",
    ];
    assert_eq!(names, expected);
    assert!(
        fields.0.iter().all(|(n, _)| n.to_ascii_lowercase() == *n),
        "names are in lower case: {fields:?}"
    );
    assert_eq!(fields.get("x-forwarded-proto"), Some("http"));
    assert_eq!(fields.get("x-envoy-expected-rq-timeout-ms"), Some("15000"));
    assert_eq!(fields.get("x-own"), Some("Value"));
}

fn response_fields_by_default(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::with(200, &[("Server", "origin"), ("X-Own", "Value")], b"x"));
    let proxy = proxy(subject, &upstream, "");
    let response = proxy.client().get("/");
    let mut names = response.fields.names();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "date", "server", "x-envoy-upstream-service-time", "x-own"]);
    assert_eq!(response.get("server"), Some("envoy"));
    assert_eq!(response.reason, "OK");
    let time: u64 =
        response.get("x-envoy-upstream-service-time").and_then(|v| v.parse().ok()).unwrap_or(9999);
    assert!(time < 5000);
    let date = response.get("date").unwrap_or("");
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date:?}");
}

fn forwarded_for_with_remote_address(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &upstream, "use_remote_address: true");
    let mut client = Client::connect_from("127.0.0.2", proxy.listener("main"));
    client.get("/");
    client.get_with("/", &[("x-forwarded-for", "10.1.2.3"), ("x-forwarded-proto", "https")]);
    let requests = upstream.requests();
    assert_eq!(requests[0].fields.get("x-forwarded-for"), Some("127.0.0.2"));
    assert_eq!(requests[1].fields.get("x-forwarded-for"), Some("10.1.2.3,127.0.0.2"));
    assert_eq!(requests[1].fields.get("x-forwarded-proto"), Some("http"));
    assert_eq!(requests[0].fields.get("x-envoy-external-address"), Some("127.0.0.2"));
}

/// The loopback address itself says nothing to anybody: the host's own address stands for it.
fn forwarded_for_never_names_127_0_0_1(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &upstream, "use_remote_address: true");
    proxy.client().get("/");
    let fields = upstream.only_request().fields;
    let named: std::net::IpAddr =
        fields.get("x-forwarded-for").and_then(|v| v.parse().ok()).expect("an address");
    assert!(
        !named.is_loopback()
            || std::net::UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect("192.0.2.1:9")).is_err()
    );
}

fn external_address_is_named(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &upstream, "use_remote_address: true\nxff_num_trusted_hops: 1");
    proxy.client().get_with("/", &[("x-forwarded-for", "8.8.8.8")]);
    assert_eq!(upstream.only_request().fields.get("x-envoy-external-address"), Some("8.8.8.8"));
}

fn forwarded_for_is_kept_without_remote_address(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &upstream, "");
    proxy.client().get_with("/", &[("x-forwarded-for", "10.1.2.3"), ("x-forwarded-proto", "https")]);
    let fields = upstream.only_request().fields;
    assert_eq!(fields.get("x-forwarded-for"), Some("10.1.2.3"));
    assert_eq!(fields.get("x-forwarded-proto"), Some("https"));
}

fn forwarded_for_skip_append(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &upstream, "use_remote_address: true\nskip_xff_append: true");
    proxy.client().get_with("/", &[("x-forwarded-for", "10.1.2.3")]);
    assert_eq!(upstream.only_request().fields.get("x-forwarded-for"), Some("10.1.2.3"));
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

fn request_id_is_made_and_replaced(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let edge = proxy(subject, &upstream, "use_remote_address: true");
    let inner = proxy(subject, &upstream, "");
    edge.client().get("/");
    edge.client().get_with("/", &[("x-request-id", "mine")]);
    let response = inner.client().get_with("/", &[("x-request-id", "mine")]);
    let ids: Vec<String> =
        upstream.requests().iter().map(|r| r.fields.get("x-request-id").unwrap_or("").to_owned()).collect();
    assert!(is_uuid(&ids[0]) && is_uuid(&ids[1]) && ids[0] != ids[1], "{ids:?}");
    assert_eq!(ids[2], "mine");
    assert!(!response.fields.has("x-request-id"));
}

fn request_id_is_preserved_when_asked(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let hcm = "use_remote_address: true\npreserve_external_request_id: true\nalways_set_request_id_in_response: true";
    let proxy = proxy(subject, &upstream, hcm);
    let response = proxy.client().get_with("/", &[("x-request-id", "mine")]);
    assert_eq!(upstream.only_request().fields.get("x-request-id"), Some("mine"));
    assert_eq!(response.get("x-request-id"), Some("mine"));
}

const TIMEOUT: (&str, &str) = ("x-envoy-upstream-rq-timeout-ms", "7000");

/// Nobody is internal unless `internal_address_config` says so.
fn external_envoy_fields_are_removed(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &upstream, "use_remote_address: true");
    let spoofed =
        [TIMEOUT, ("x-envoy-internal", "true"), ("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "9")];
    proxy.client().get_with("/", &spoofed);
    let fields = upstream.only_request().fields;
    assert_eq!(fields.get("x-envoy-expected-rq-timeout-ms"), Some("15000"));
    for (name, _) in spoofed {
        assert!(!fields.has(name), "{name}: {fields:?}");
    }
}

fn internal_envoy_fields_are_obeyed(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let internal = "internal_address_config: {cidr_ranges: [{address_prefix: 127.0.0.0, prefix_len: 8}]}";
    let proxy = proxy(subject, &upstream, &format!("use_remote_address: true\n{internal}"));
    Client::connect_from("127.0.0.2", proxy.listener("main")).get_with("/", &[TIMEOUT]);
    let fields = upstream.only_request().fields;
    assert_eq!(fields.get("x-envoy-expected-rq-timeout-ms"), Some("7000"));
    assert_eq!(fields.get("x-envoy-internal"), Some("true"));
    assert!(!fields.has(TIMEOUT.0));
}

fn server_header_transformations(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::with(200, &[("server", "origin")], b"x"));
    let cases = [
        ("server_name: mill", "mill"),
        ("server_header_transformation: PASS_THROUGH", "origin"),
        ("server_header_transformation: APPEND_IF_ABSENT", "origin"),
        ("server_header_transformation: OVERWRITE", "envoy"),
    ];
    for (hcm, expected) in cases {
        let proxy = proxy(subject, &upstream, hcm);
        assert_eq!(proxy.client().get("/").get("server"), Some(expected), "{hcm}");
    }
}

fn via_is_appended(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::with(200, &[("via", "1.1 origin")], b"x"));
    let proxy = proxy(subject, &upstream, "via: mill");
    let response = proxy.client().get_with("/", &[("via", "1.0 before")]);
    assert_eq!(upstream.only_request().fields.get("via"), Some("1.0 before, mill"));
    assert_eq!(response.get("via"), Some("1.1 origin, mill"));
}

fn hop_by_hop_fields_end_here(subject: &Subject) {
    let upstream = Upstream::start(|_| {
        let fields = [("keep-alive", "timeout=5"), ("proxy-connection", "x"), ("connection", "keep-alive")];
        Reply::with(200, &fields, b"x")
    });
    let proxy = proxy(subject, &upstream, "");
    let fields = [
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=9"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers, deflate"),
        ("x-kept", "1"),
    ];
    let response = proxy.client().get_with("/", &fields);
    let seen = upstream.only_request().fields;
    for name in ["connection", "keep-alive", "proxy-connection"] {
        assert!(!seen.has(name), "{name} reached the upstream: {seen:?}");
        assert!(!response.fields.has(name), "{name} reached the client: {:?}", response.fields);
    }
    assert_eq!(seen.get("x-kept"), Some("1"));
    upstream.assert_strict();
}

fn repeated_fields_keep_their_order(subject: &Subject) {
    let upstream =
        Upstream::start(|_| Reply::with(200, &[("set-cookie", "a=1"), ("set-cookie", "b=2")], b"x"));
    let proxy = proxy(subject, &upstream, "");
    let response = proxy.client().get_with("/", &[("x-two", "1"), ("x-other", "-"), ("x-two", "2")]);
    assert_eq!(response.fields.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(upstream.only_request().fields.all("x-two"), ["1", "2"]);
}

fn header_case_proper(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy =
        proxy(subject, &upstream, "http_protocol_options: {header_key_format: {proper_case_words: {}}}");
    let mut client = proxy.client();
    client.send(&raw::encode("GET", "/", &[("host", "a")], b""));
    let response = client.response("GET").expect("a response");
    assert!(response.fields.0.iter().any(|(n, _)| n == "Content-Length"), "{:?}", response.fields);
    assert!(response.fields.0.iter().any(|(n, _)| n == "X-Envoy-Upstream-Service-Time"));
}

fn suppressed_envoy_fields(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let filter = "http_filters:\n- name: envoy.filters.http.router\n  typed_config:\n    \
                  \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n    \
                  suppress_envoy_headers: true\n";
    let proxy = proxy(subject, &upstream, filter);
    let response = proxy.client().get("/");
    assert!(!response.fields.has("x-envoy-upstream-service-time"));
    assert!(!upstream.only_request().fields.has("x-envoy-expected-rq-timeout-ms"));
}

fn underscores_can_be_refused(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let options = "common_http_protocol_options: {headers_with_underscores_action: ";
    let refusing = proxy(subject, &upstream, &format!("{options}REJECT_REQUEST}}"));
    assert_eq!(refusing.client().get_with("/", &[("a_b", "1")]).status, 400);
    let dropping = proxy(subject, &upstream, &format!("{options}DROP_HEADER}}"));
    assert_eq!(dropping.client().get_with("/", &[("a_b", "1")]).status, 200);
    assert!(!upstream.only_request().fields.has("a_b"));
}

fn date_of_the_upstream_is_kept(subject: &Subject) {
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    let upstream = Upstream::start(move |_| Reply::with(200, &[("date", old)], b"x"));
    let proxy = proxy(subject, &upstream, "");
    assert_eq!(proxy.client().get("/").get("date"), Some(old));
}
