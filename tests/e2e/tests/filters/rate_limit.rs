//! The filter `local_ratelimit`.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;

use super::{ALL, DIRECT, FORWARD, chain, rest, route, start};

pub(crate) const CASES: &[Case] = &[
    case!(refuses_what_is_above_the_limit),
    case!(statuses_and_grpc),
    case!(tells_the_client),
    case!(is_not_enforced_unless_asked),
    case!(descriptors_of_the_filter),
    case!(descriptors_of_routes_and_stages),
    case!(per_connection),
    case!(is_one_bucket_for_all_shards),
    case!(tokens_come_back),
    case!(requests_that_cost_more),
    case!(requests_that_give_tokens_back),
    case!(hits_of_a_routes_policies_do_not_count),
    case!(descriptors_of_address_ranges),
    case!(a_bucket_for_each_value),
    case!(policies_say_what_is_told),
    case!(policies_for_the_end_and_with_limits),
];

const KIND: &str = "local_ratelimit.v3.LocalRateLimit";

fn proxy(subject: &Subject, routes: &str, upstream: &Upstream) -> Proxy {
    start(subject, &[("rl", KIND, "stat_prefix: whole")], routes, upstream)
}

fn of(prefix: &str, action: &str, fields: &str) -> String {
    let stat = if prefix == "/" { "all" } else { prefix.trim_matches('/') };
    let fields = format!("stat_prefix: \"{stat}\", filter_enabled: {ALL}, filter_enforced: {ALL}, {fields}");
    route(prefix, action, "rl", KIND, &fields)
}

fn bucket(max: u32) -> String {
    format!("token_bucket: {{max_tokens: {max}, fill_interval: 600s}}")
}

fn count(proxy: &Proxy, prefix: &str, expected: [u64; 4]) {
    for (name, value) in ["enabled", "ok", "rate_limited", "enforced"].iter().zip(expected) {
        proxy.wait_stat(&format!("{prefix}.http_local_rate_limit.{name}"), value);
    }
}

fn refuses_what_is_above_the_limit(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &of("/one", DIRECT, &bucket(2)), &upstream);
    let mut client = proxy.client();
    let statuses: Vec<u16> = (0..4).map(|_| client.get("/one").status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(proxy.log().line(2).verdict(), ("429", "RL", "local_rate_limited"));
    let refused = client.get("/one");
    assert_eq!(
        (refused.text().as_str(), refused.get("content-type")),
        ("local_rate_limited", Some("text/plain"))
    );
    count(&proxy, "one", [5, 2, 3, 3]);
    count(&proxy, "whole", [0, 0, 0, 0]);
}

fn statuses_and_grpc(subject: &Subject) {
    let routes = [
        of("/low", DIRECT, &format!("status: {{code: 200}}, {}", bucket(0))),
        of("/high", DIRECT, &format!("status: {{code: 503}}, {}", bucket(0))),
        of("/exhausted", DIRECT, &format!("rate_limited_as_resource_exhausted: true, {}", bucket(0))),
    ]
    .concat();
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &routes, &upstream);
    let mut client = proxy.client();
    assert_eq!([client.get("/low").status, client.get("/high").status], [429, 503]);
    for (path, status) in [("/low", "14"), ("/exhausted", "8")] {
        let response = client.get_with(path, &[("content-type", "application/grpc")]);
        assert_eq!((response.status, response.get("grpc-status")), (200, Some(status)), "{path}");
        assert_eq!(response.get("grpc-message"), Some("local_rate_limited"));
    }
}

fn tells_the_client(subject: &Subject) {
    let more = "enable_x_ratelimit_headers: DRAFT_VERSION_03, enable_retry_after_header: true, response_headers_to_add: [{header: {key: x-rl, value: \"%REQ(:path)%\"}}]";
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &of("/told", FORWARD, &format!("{}, {more}", bucket(2))), &upstream);
    let mut client = proxy.client();
    let told = |response: &millrace_support::message::Response| {
        ["limit", "remaining", "reset"]
            .map(|name| response.get(&format!("x-ratelimit-{name}")).unwrap_or("none").to_owned())
    };
    assert_eq!(told(&client.get("/told")), ["2", "1", "0"]);
    assert_eq!(told(&client.get("/told")), ["2", "0", "600"]);
    let refused = client.get("/told");
    assert_eq!((refused.status, told(&refused)), (429, ["2", "0", "600"].map(str::to_owned)));
    assert_eq!((refused.get("retry-after"), refused.get("x-rl")), (Some("600"), Some("/told")));
}

fn is_not_enforced_unless_asked(subject: &Subject) {
    let none = "token_bucket: {max_tokens: 0, fill_interval: 600s}";
    let marked = "request_headers_to_add_when_not_enforced: [{header: {key: x-limited, value: \"1\"}}]";
    let routes = [
        route("/off", FORWARD, "rl", KIND, &format!("stat_prefix: none, {none}")),
        route(
            "/",
            FORWARD,
            "rl",
            KIND,
            &format!("stat_prefix: shadow, filter_enabled: {ALL}, {none}, {marked}"),
        ),
    ]
    .concat();
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &routes, &upstream);
    let mut client = proxy.client();
    assert_eq!([client.get("/off").status, client.get("/").status], [200, 200]);
    let requests = upstream.requests();
    assert_eq!(requests.iter().map(|r| r.fields.get("x-limited")).collect::<Vec<_>>(), [None, Some("1")]);
    count(&proxy, "none", [0, 0, 0, 0]);
    count(&proxy, "shadow", [1, 0, 1, 0]);
}

fn descriptors_of_the_filter(subject: &Subject) {
    let descriptors = "descriptors: [{entries: [{key: k, value: v}], token_bucket: {max_tokens: 1, fill_interval: 600s}}, {entries: [{key: client, value: a}, {key: generic_key, value: g}], token_bucket: {max_tokens: 2, fill_interval: 600s}}]";
    let actions = "rate_limits: [{actions: [{request_headers: {header_name: x-k, descriptor_key: k}}]}, {actions: [{request_headers: {header_name: x-c, descriptor_key: client}}, {generic_key: {descriptor_value: g}}]}]";
    let more = "enable_x_ratelimit_headers: DRAFT_VERSION_03";
    let upstream = Upstream::fixed("x");
    let proxy = proxy(
        subject,
        &of("/d", DIRECT, &format!("{}, {descriptors}, {actions}, {more}", bucket(5))),
        &upstream,
    );
    let mut client = proxy.client();
    let mut ask = |fields: &[(&str, &str)]| {
        let response = client.get_with("/d", fields);
        let told = |name| response.get(name).unwrap_or("none").to_owned();
        (response.status, told("x-ratelimit-limit"), told("x-ratelimit-remaining"))
    };
    let is = |status: u16, limit: &str, remaining: &str| (status, limit.to_owned(), remaining.to_owned());
    assert_eq!(ask(&[("x-k", "v")]), is(200, "1", "0"));
    assert_eq!(ask(&[("x-k", "v")]), is(429, "1", "0"));
    assert_eq!(ask(&[("x-k", "other")]), is(200, "5", "3"));
    assert_eq!(ask(&[("x-c", "a")]), is(200, "2", "1"));
    assert_eq!(ask(&[("x-c", "a")]), is(200, "2", "0"));
    assert_eq!(ask(&[("x-c", "a")]), is(429, "2", "0"));
    // What a descriptor refuses costs the default bucket nothing.
    assert_eq!(ask(&[]), is(200, "5", "0"));
    assert_eq!(ask(&[]), is(429, "5", "0"));
}

fn descriptors_of_routes_and_stages(subject: &Subject) {
    let descriptor = |value: &str| {
        format!(
            "{{entries: [{{key: generic_key, value: {value}}}], token_bucket: {{max_tokens: 0, fill_interval: 600s}}}}"
        )
    };
    let limits = |values: &[&str]| {
        let list: Vec<String> = values.iter().map(|value| descriptor(value)).collect();
        format!("{}, descriptors: [{}]", bucket(1000), list.join(", "))
    };
    let policy = |stage: u32, value: &str| {
        format!("{{stage: {stage}, actions: [{{generic_key: {{descriptor_value: {value}}}}}]}}")
    };
    let to = |more: &str| format!("route: {{cluster: up, {more}}}");
    let own = format!("rate_limits: [{}, {}]", policy(0, "route"), policy(3, "staged"));
    let hosts = [
        of("/own", &to(&own), &limits(&["route"])),
        of("/stage", &to(&own), &format!("stage: 3, {}", limits(&["staged"]))),
        of("/wrong", &to(&own), &limits(&["staged"])),
        of("/host", &to("timeout: 5s"), &limits(&["host"])),
        of("/overridden", &to(&own), &limits(&["host"])),
        of("/include", &to(&own), &format!("vh_rate_limits: INCLUDE, {}", limits(&["host"]))),
        of("/flag", &to(&format!("{own}, include_vh_rate_limits: true")), &limits(&["host"])),
        of("/ignore", &to("timeout: 5s"), &format!("vh_rate_limits: IGNORE, {}", limits(&["host"]))),
    ];
    let routes = hosts.concat();
    let host = format!(
        "- name: all\n  domains: [\"*\"]\n  rate_limits: [{}]\n  routes:\n{}",
        policy(0, "host"),
        routes.lines().map(|line| format!("  {line}\n")).collect::<String>()
    );
    let http = Http::virtual_hosts(&host).hcm(&chain(&[("rl", KIND, "stat_prefix: whole")]));
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    let mut client = proxy.client();
    for (path, status) in [
        ("/own", 429),
        ("/stage", 429),
        ("/wrong", 200),
        ("/host", 429),
        ("/overridden", 200),
        ("/include", 429),
        ("/flag", 429),
        ("/ignore", 200),
    ] {
        assert_eq!(client.get(path).status, status, "{path}");
    }
}

fn per_connection(subject: &Subject) {
    let fields = format!("{}, local_rate_limit_per_downstream_connection: true", bucket(1));
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &[of("/per", DIRECT, &fields), rest(DIRECT)].concat(), &upstream);
    for _ in 0..3 {
        let mut client = proxy.client();
        assert_eq!([client.get("/per").status, client.get("/per").status], [200, 429]);
    }
}

fn is_one_bucket_for_all_shards(subject: &Subject) {
    let http = Http::routes(&of("/", DIRECT, &bucket(50))).hcm(&chain(&[("rl", KIND, "stat_prefix: whole")]));
    let proxy = Proxy::start_with(subject, &Bootstrap::new().http(http), &["--concurrency", "2"]);
    let address = proxy.listener("main");
    let served: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = millrace_support::raw::Client::connect(address);
                    (0..40).filter(|_| client.get("/").status == 200).count()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client")).sum()
    });
    assert_eq!(served, 50);
}

fn tokens_come_back(subject: &Subject) {
    let fields = "token_bucket: {max_tokens: 1, fill_interval: 0.2s}";
    let upstream = Upstream::fixed("x");
    let proxy = proxy(subject, &of("/", DIRECT, fields), &upstream);
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    millrace_support::wait::for_true("a token to come back", || client.get("/").status == 200);
}

/// A limit of its own policies, with one descriptor of five tokens.
fn of_policies(subject: &Subject, entry: &str, policies: &str, upstream: &Upstream) -> Proxy {
    let fields = format!(
        "stat_prefix: rl, token_bucket: {{max_tokens: 1000, fill_interval: 600s}}, filter_enabled: {ALL}, filter_enforced: {ALL}, descriptors: [{{entries: [{entry}], token_bucket: {{max_tokens: 5, fill_interval: 600s}}}}], rate_limits: [{policies}]"
    );
    start(subject, &[("rl", "local_ratelimit.v3.LocalRateLimit", &fields)], &rest(DIRECT), upstream)
}

fn requests_that_cost_more(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let generic = "actions: [{generic_key: {descriptor_value: g}}]";
    let entry = "{key: generic_key, value: g}";
    let ask = |hits: &str, requests: &[&str]| -> Vec<u16> {
        let policy = format!("{{hits_addend: {{{hits}}}, {generic}}}");
        let proxy = of_policies(subject, entry, &policy, &upstream);
        let mut client = proxy.client();
        requests.iter().map(|hits| client.get_with("/", &[("x-hits", hits)]).status).collect()
    };
    assert_eq!(ask("number: 3", &["", "", ""]), [200, 429, 429]);
    assert_eq!(ask("number: 0", &["", ""]), [429, 429]);
    let requests = ["3", "3", "2.9", "x", "-1", "1"];
    assert_eq!(ask("format: \"%REQ(x-hits)%\"", &requests), [200, 429, 200, 200, 200, 429]);
}

fn requests_that_give_tokens_back(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let policy = |op: &str, hits: &str| {
        format!(
            "{{hits_addend: {{{hits}}}, actions: [{{header_value_match: {{descriptor_value: g, headers: [{{name: x-op, string_match: {{exact: {op}}}}}]}}}}]}}"
        )
    };
    let policies = [
        policy("take3", "number: 3"),
        policy("take1", "number: 1"),
        policy("give0", "number: 0, is_negative_hits: true"),
        policy("give2", "number: 2, is_negative_hits: true"),
        policy("give1000", "number: 1000, is_negative_hits: true"),
        policy("give", "format: \"%REQ(x-hits)%\", is_negative_hits: true"),
    ];
    let proxy = of_policies(subject, "{key: header_match, value: g}", &policies.join(", "), &upstream);
    let mut client = proxy.client();
    for (op, status) in [
        ("give0", 200),
        ("take3", 200),
        ("take3", 429),
        ("give2", 200),
        ("take3", 200),
        ("take1", 200),
        ("take1", 429),
        ("give1000", 200),
        ("take3", 200),
        ("take3", 429),
        ("take1", 200),
        ("take1", 200),
        ("take1", 429),
        // By the format: 1 of 1.5.
        ("give", 200),
        ("take1", 200),
        ("take1", 429),
    ] {
        assert_eq!(client.get_with("/", &[("x-op", op), ("x-hits", "1.5")]).status, status, "{op}");
    }
}

/// Of a route's policies the filter takes the descriptors alone, as Envoy does.
fn hits_of_a_routes_policies_do_not_count(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let descriptors = "descriptors: [{entries: [{key: generic_key, value: g}], token_bucket: {max_tokens: 2, fill_interval: 600s}}]";
    for hits in ["number: 2", "number: 2, is_negative_hits: true", "format: \"%REQ(x-none)%\""] {
        let limits = format!(
            "rate_limits: [{{hits_addend: {{{hits}}}, actions: [{{generic_key: {{descriptor_value: g}}}}]}}]"
        );
        let route = format!("route: {{cluster: up, {limits}}}");
        let plain = format!("{}, {descriptors}", bucket(1000));
        let proxy = proxy(subject, &of("/", &route, &plain), &upstream);
        let mut client = proxy.client();
        assert_eq!([(); 3].map(|()| client.get("/").status), [200, 200, 429], "{hits}");
    }
}

fn descriptors_of_address_ranges(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    for (range, invert, limited) in
        [("127.0.0.0", false, true), ("10.0.0.0", false, false), ("10.0.0.0", true, true)]
    {
        let policy = format!(
            "{{hits_addend: {{number: 5}}, actions: [{{remote_address_match: {{descriptor_value: v, address_matcher: {{ranges: [{{address_prefix: {range}, prefix_len: 8}}], invert_match: {invert}}}}}}}]}}"
        );
        let proxy = of_policies(subject, "{key: remote_address_match, value: v}", &policy, &upstream);
        let mut client = proxy.client();
        assert_eq!(client.get("/").status, 200);
        assert_eq!(client.get("/").status, if limited { 429 } else { 200 }, "{range} {invert}");
    }
}

fn a_bucket_for_each_value(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let descriptors = "max_dynamic_descriptors: 2, descriptors: [{entries: [{key: k}], token_bucket: {max_tokens: 1, fill_interval: 600s}}, {entries: [{key: k, value: known}], token_bucket: {max_tokens: 2, fill_interval: 600s}}]";
    let actions = "rate_limits: [{actions: [{request_headers: {header_name: x-k, descriptor_key: k}}]}]";
    let proxy =
        proxy(subject, &of("/", DIRECT, &format!("{}, {descriptors}, {actions}", bucket(1000))), &upstream);
    let mut client = proxy.client();
    let mut ask = |value: &str| client.get_with("/", &[("x-k", value)]).status;
    assert_eq!(["a", "a", "b", "b", "a"].map(&mut ask), [200, 429, 200, 429, 429]);
    assert_eq!(["known", "known", "known"].map(&mut ask), [200, 200, 429]);
    // A third value has the one forgotten that was asked for longest ago.
    assert_eq!(["c", "a", "b", "a"].map(&mut ask), [200, 429, 200, 429]);
}

fn policies_say_what_is_told(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    for (filter, policy, told) in [
        ("OFF", "DRAFT_VERSION_03", true),
        ("OFF", "UNSPECIFIED", false),
        ("DRAFT_VERSION_03", "\"OFF\"", false),
        ("DRAFT_VERSION_03", "UNSPECIFIED", true),
    ] {
        let policies = format!(
            "enable_x_ratelimit_headers: \"{filter}\", rate_limits: [{{x_ratelimit_option: {policy}, actions: [{{request_headers: {{header_name: x-k, descriptor_key: k}}}}]}}]"
        );
        let descriptors = "descriptors: [{entries: [{key: k, value: v}], token_bucket: {max_tokens: 1, fill_interval: 600s}}]";
        let fields = format!("{}, {descriptors}, {policies}", bucket(2));
        let proxy = proxy(subject, &of("/", DIRECT, &fields), &upstream);
        let mut client = proxy.client();
        let mut ask = |value| {
            let response = client.get_with("/", &[("x-k", value)]);
            (response.status, response.get("x-ratelimit-limit").map(str::to_owned))
        };
        let limit = |is: bool, limit: &str| is.then(|| limit.to_owned());
        assert_eq!(ask("v"), (200, limit(told, "1")), "{filter} {policy}");
        assert_eq!(ask("v"), (429, limit(told, "1")), "{filter} {policy}");
        // Of the default bucket the filter says it.
        let default = filter != "OFF";
        assert_eq!(ask("other"), (200, limit(default, "2")), "{filter} {policy}");
        assert_eq!(ask("other"), (429, limit(default, "2")), "{filter} {policy}");
    }
}

fn policies_for_the_end_and_with_limits(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let descriptors = "descriptors: [{entries: [{key: generic_key, value: g}], token_bucket: {max_tokens: 1, fill_interval: 600s}}]";
    let generic = "actions: [{generic_key: {descriptor_value: g}}]";
    let done = format!("rate_limits: [{{apply_on_stream_done: true, {generic}}}]");
    let limit = format!(
        "rate_limits: [{{limit: {{dynamic_metadata: {{metadata_key: {{key: k, path: [{{key: a}}]}}}}}}, {generic}}}]"
    );
    let plain = format!("{}, {descriptors}", bucket(1000));
    let to = |more: &str| format!("route: {{cluster: up, {more}}}");
    let routes = [
        of("/own", FORWARD, &format!("{plain}, {done}")),
        of("/done", &to(&done), &plain),
        of("/limit", &to(&limit), &plain),
    ];
    let proxy = proxy(subject, &routes.concat(), &upstream);
    let mut client = proxy.client();
    for (path, statuses) in [("/own", [200, 200]), ("/done", [200, 429]), ("/limit", [200, 429])] {
        assert_eq!([client.get(path).status, client.get(path).status], statuses, "{path}");
    }
}
