//! The filter `header_mutation`.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::{DIRECT, FORWARD, any, chain, rest, route, start};

pub(crate) const CASES: &[Case] = &[
    case!(fields_of_requests),
    case!(fields_of_responses),
    case!(query_parameters),
    case!(levels),
    case!(answers_of_other_filters),
    case!(trailers),
];

const KIND: &str = "header_mutation.v3.HeaderMutation";

fn add(key: &str, value: &str, more: &str) -> String {
    format!("{{append: {{header: {{key: {key}, value: \"{value}\"}}{more}}}}}")
}

fn fields_of_requests(subject: &Subject) {
    let steps = [
        add("x-empty", "%REQ(x-none)%", ""),
        add("x-kept", "%REQ(x-none)%", ", keep_empty_value: true"),
        add("user-agent", "b", ""),
        add("x-over", "new", ", append_action: OVERWRITE_IF_EXISTS_OR_ADD"),
        add("x-see", "%REQ(x-over)%", ""),
        add("x-absent", "no", ", append_action: OVERWRITE_IF_EXISTS"),
        add("x-there", "no", ", append_action: ADD_IF_ABSENT"),
        "{remove: x-gone}".to_owned(),
        "{remove_on_match: {key_matcher: {prefix: x-m-}}}".to_owned(),
    ];
    let fields = format!("mutations: {{request_mutations: [{}]}}", steps.join(", "));
    let upstream = Upstream::fixed("x");
    let proxy = start(subject, &[("hm", KIND, &fields)], &rest(FORWARD), &upstream);
    proxy.client().get_with(
        "/",
        &[
            ("user-agent", "a"),
            ("x-over", "old"),
            ("x-there", "yes"),
            ("x-gone", "1"),
            ("x-m-a", "1"),
            ("x-m-b", "2"),
        ],
    );
    let request = upstream.only_request();
    for (name, value) in [
        ("x-empty", None),
        ("x-kept", Some("")),
        ("user-agent", Some("a,b")),
        ("x-over", Some("new")),
        ("x-see", Some("new")),
        ("x-absent", None),
        ("x-there", Some("yes")),
        ("x-gone", None),
        ("x-m-a", None),
        ("x-m-b", None),
    ] {
        assert_eq!(request.fields.get(name), value, "{name}");
    }
}

fn fields_of_responses(subject: &Subject) {
    let steps =
        [add("x-status", "%RESPONSE_CODE% %REQ(:path)%", ""), "{remove: x-secret}".to_owned()].join(", ");
    let fields = format!("mutations: {{response_mutations: [{steps}]}}");
    let upstream = Upstream::start(|_| Reply::with(201, &[("x-secret", "s")], b"x"));
    let routes = [format!("- match: {{prefix: \"/direct\"}}\n  {DIRECT}\n"), rest(FORWARD)].concat();
    let proxy = start(subject, &[("hm", KIND, &fields)], &routes, &upstream);
    let mut client = proxy.client();
    let response = client.get("/a");
    assert_eq!((response.get("x-status"), response.get("x-secret")), (Some("201 /a"), None));
    assert_eq!(client.get("/direct").get("x-status"), Some("200 /direct"));
}

fn query_parameters(subject: &Subject) {
    let steps = "{append: {record: {key: a, value: \"x y\"}}}, {append: {record: {key: b, value: \"2\"}, action: ADD_IF_ABSENT}}, {remove: gone}, {append: {record: {key: over, value: \"%REQ(x-v)%\"}, action: OVERWRITE_IF_EXISTS}}";
    let fields = format!("mutations: {{query_parameter_mutations: [{steps}]}}");
    let upstream = Upstream::start(|request| Reply::ok(&request.target));
    let proxy = start(subject, &[("hm", KIND, &fields)], &rest(FORWARD), &upstream);
    let mut client = proxy.client();
    for (target, expected) in [
        ("/y", "/y?a=x%20y&b=2"),
        ("/y?a=1&b=1&gone=2&gone=3&c", "/y?a=1&a=x%20y&b=1&c="),
        ("/y?over=1&over=2&z=3", "/y?a=x%20y&b=2&over=v%26%3D%3F&z=3"),
    ] {
        assert_eq!(client.get_with(target, &[("x-v", "v&=?")]).text(), expected, "{target}");
    }
}

fn levels(subject: &Subject) {
    let per = |value: &str| {
        let step = add("x-l", value, "");
        any(
            "header_mutation.v3.HeaderMutationPerRoute",
            &format!("mutations: {{request_mutations: [{step}], response_mutations: [{step}]}}"),
        )
    };
    let host = format!(
        "- name: all\n  domains: [\"*\"]\n  typed_per_filter_config: {{hm: {}}}\n  routes:\n  - match: {{prefix: \"/\"}}\n    {FORWARD}\n    typed_per_filter_config: {{hm: {}}}\n",
        per("host"),
        per("route")
    );
    for (most_specific_wins, expected) in [(false, "own,route,host"), (true, "own,host,route")] {
        let step = add("x-l", "own", "");
        let fields = format!(
            "mutations: {{request_mutations: [{step}], response_mutations: [{step}]}}, most_specific_header_mutations_wins: {most_specific_wins}"
        );
        let http = Http::virtual_hosts(&host).hcm(&chain(&[("hm", KIND, &fields)]));
        let upstream = Upstream::fixed("x");
        let proxy =
            Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
        let response = proxy.client().get("/");
        assert_eq!(response.fields.all("x-l").join(","), expected);
        assert_eq!(upstream.only_request().fields.all("x-l").join(","), expected);
    }
}

/// They pass the filters behind the one that answers, too, and what it says of the request does not happen.
fn answers_of_other_filters(subject: &Subject) {
    let step = add("x-hm", "%REQ(x-rq)%yes", "");
    let fields = format!(
        "mutations: {{request_mutations: [{}], response_mutations: [{step}]}}",
        add("x-rq", "seen ", "")
    );
    let fault = "abort: {http_status: 503, percentage: {numerator: 100}}";
    let routes = [route("/abort", DIRECT, "fault", "fault.v3.HTTPFault", fault), rest(DIRECT)].concat();
    let upstream = Upstream::fixed("x");
    let filters = [("fault", "fault.v3.HTTPFault", ""), ("hm", KIND, &*fields)];
    let proxy = start(subject, &filters, &routes, &upstream);
    let mut client = proxy.client();
    let aborted = client.get("/abort");
    assert_eq!((aborted.status, aborted.get("x-hm")), (503, Some("yes")));
    assert_eq!(client.get("/").get("x-hm"), Some("seen yes"));
}

fn trailers(subject: &Subject) {
    let fields = format!(
        "mutations: {{response_trailers_mutations: [{{remove: x-gone}}, {}], request_trailers_mutations: [{}]}}",
        add("x-t", "%RESPONSE_CODE%", ""),
        add("x-rt", "1", "")
    );
    let upstream = Upstream::start(|_| Reply::chunked(&[], &[b"x"], &[("x-gone", "1"), ("x-kept", "1")]));
    let http = Http::to("up")
        .hcm(&chain(&[("hm", KIND, &fields)]))
        .hcm("http_protocol_options: {enable_trailers: true}");
    let options = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http_protocol_options: {enable_trailers: true}}}}";
    let proxy =
        Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], options));
    let mut client = proxy.client();
    client.send(&millrace_support::raw::encode_chunked(
        "POST",
        "/",
        &[("host", "a")],
        &[b"y"],
        &[("x-a", "1")],
    ));
    let response = client.response("POST").expect("a response");
    assert_eq!(response.trailers.get("x-gone"), None);
    assert_eq!((response.trailers.get("x-kept"), response.trailers.get("x-t")), (Some("1"), Some("200")));
    let request = upstream.only_request();
    assert_eq!((request.trailers.get("x-a"), request.trailers.get("x-rt")), (Some("1"), Some("1")));
}
