//! What filters write about a request, and who reads it: `header_to_metadata`, `set_metadata`, `set_filter_state`.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http, listener, tcp_chain};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::{ALL, DIRECT, FORWARD, any, chain, rest, route};

pub(crate) const CASES: &[Case] = &[
    case!(rules_for_requests_and_responses),
    case!(rules_of_routes),
    case!(configured_metadata),
    case!(objects_of_requests),
    case!(objects_choose_the_route),
    case!(objects_of_connections),
    case!(a_connection_names_its_cluster),
    case!(metadata_choose_what_is_logged),
    case!(metadata_choose_the_endpoint),
    case!(metadata_are_limited),
    case!(metadata_of_the_configuration),
    case!(types_are_kept),
];

const RULES: &str = "header_to_metadata.v3.Config";
const SET: &str = "set_metadata.v3.Config";
const STATE: &str = "set_filter_state.v3.Config";

/// A proxy with these filters that logs these formats as `a`, `b` and so on.
fn start(
    subject: &Subject,
    filters: &[(&str, &str, &str)],
    routes: &str,
    upstream: &Upstream,
    formats: &[&str],
) -> Proxy {
    let http = Http::routes(routes).hcm(&chain(filters));
    let http =
        formats.iter().zip('a'..='z').fold(http, |http, (format, key)| http.logs(&key.to_string(), format));
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

/// What line `n` says of the formats.
fn line<const N: usize>(proxy: &Proxy, n: usize) -> [String; N] {
    let line = proxy.log().line(n);
    let mut keys = 'a'..='z';
    [(); N].map(|()| line.get(&keys.next().map(String::from).unwrap_or_default()).to_owned())
}

/// `FilterStateValue`s with a text each: key, factory, format.
fn objects(list: &[(&str, &str, &str)]) -> String {
    let one = |(key, factory, format): &(&str, &str, &str)| {
        let factory = if factory.is_empty() { String::new() } else { format!("factory_key: {factory}, ") };
        format!(
            "{{object_key: {key}, {factory}format_string: {{text_format_source: {{inline_string: \"{format}\"}}}}}}"
        )
    };
    format!("[{}]", list.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn rules_for_requests_and_responses(subject: &Subject) {
    let upstream = Upstream::start(|_| Reply::with(201, &[("x-r", "of the response")], b"x"));
    let rules = "stat_prefix: own, request_rules: [\
        {header: x-a, on_header_present: {key: a}, on_header_missing: {key: a, value: none}, remove: true}, \
        {header: x-n, on_header_present: {key: number, type: NUMBER, metadata_namespace: other}}, \
        {header: x-b, on_header_present: {key: b, encode: BASE64}}, \
        {header: x-p, on_header_present: {key: p, encode: BASE64, type: PROTOBUF_VALUE}}, \
        {cookie: ck, on_header_present: {key: c, regex_value_rewrite: {pattern: {regex: \"a(.)\"}, substitution: \"<\\\\1>\"}}}, \
        {header: \":path\", on_header_present: {key: path}}], \
        response_rules: [{header: \":status\", on_header_present: {key: status, type: NUMBER}}, \
        {header: x-r, on_header_present: {key: r}, remove: true}, \
        {header: x-none, on_header_missing: {key: miss, value: missing}}]";
    let formats =
        ["%DYNAMIC_METADATA(envoy.filters.http.header_to_metadata)%", "%DYNAMIC_METADATA(other:number)%"];
    let proxy = start(subject, &[("h2m", RULES, rules)], &rest(FORWARD), &upstream, &formats);
    let long = "q".repeat(9000);
    let mut client = proxy.client();
    for fields in [
        &[][..],
        &[("x-a", "1"), ("x-n", " 2.50 "), ("x-b", "aGk="), ("x-p", "GgNhYmM="), ("cookie", "z=1; ck=ab-ac")],
        &[("x-n", "x"), ("x-b", "***"), ("x-p", "/////w==")],
        &[("x-n", "1e30"), ("x-a", ""), ("x-b", "aGk")],
        &[("x-n", "-0.1"), ("x-a", &long)],
    ] {
        let answer = client.get_with("/p", fields);
        assert_eq!((answer.status, answer.get("x-r")), (201, None));
    }
    let response = r#""miss":"missing","path":"/p","r":"of the response","status":201}"#;
    for (n, (own, number)) in [
        (r#"{"a":"none","#, "-"),
        (r#"{"a":"1","b":"hi","c":"<b>-<c>","#, "2.5"),
        (r#"{"a":"none","#, "-"),
        (r#"{"b":"hi","#, "1e+30"),
        ("{", "-0.1"),
    ]
    .iter()
    .enumerate()
    {
        let response = match n {
            1 => response.replace("\"path\"", "\"p\":\"abc\",\"path\""),
            _ => response.to_owned(),
        };
        assert_eq!(line::<2>(&proxy, n), [format!("{own}{response}"), (*number).to_owned()], "{n}");
    }
    assert!(upstream.requests().iter().all(|request| request.fields.get("x-a").is_none()));
    for (name, value) in [
        ("request_rules_processed", 30),
        ("response_rules_processed", 15),
        ("request_metadata_added", 15),
        ("response_metadata_added", 15),
        ("request_header_not_found", 2),
        ("response_header_not_found", 5),
        ("base64_decode_failed", 1),
        ("header_value_too_long", 1),
        ("regex_substitution_failed", 0),
    ] {
        proxy.wait_stat(&format!("http_filter_name.own.{name}"), value);
    }
}

fn rules_of_routes(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let rule = |key: &str| {
        format!("request_rules: [{{header: x-a, on_header_present: {{metadata_namespace: ns, key: {key}}}}}]")
    };
    let routes = [route("/own", DIRECT, "h2m", RULES, &rule("route")), rest(DIRECT)].concat();
    let proxy =
        start(subject, &[("h2m", RULES, &rule("filter"))], &routes, &upstream, &["%DYNAMIC_METADATA(ns)%"]);
    for (n, (path, expected)) in [("/own", r#"{"route":"1"}"#), ("/", r#"{"filter":"1"}"#)].iter().enumerate()
    {
        proxy.client().get_with(path, &[("x-a", "1")]);
        assert_eq!(line::<1>(&proxy, n), [*expected]);
    }
}

fn configured_metadata(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let entries = "metadata: [{metadata_namespace: ns, value: {a: 1, l: [1], s: {x: 1}}}, \
        {metadata_namespace: ns, value: {a: 2}}, \
        {metadata_namespace: ns, value: {a: \"3\", l: [2], s: {z: true}}, allow_overwrite: true}]";
    let own = "metadata: [{metadata_namespace: own, value: {b: 1}}, {metadata_namespace: ns, value: {c: 1}}]";
    let routes = [route("/own", DIRECT, "sm", SET, own), rest(DIRECT)].concat();
    let formats = ["%DYNAMIC_METADATA(ns)%", "%DYNAMIC_METADATA(own:b)%", "%DYNAMIC_METADATA(ns:s:z)%"];
    let old = "metadata_namespace: ns, value: {old: {}}";
    let filters = [("sm", SET, entries), ("old", SET, old)];
    let proxy = start(subject, &filters, &routes, &upstream, &formats);
    let all = r#"{"a":"3","l":[1,2],"old":{},"s":{"x":1,"z":true}}"#;
    for (n, (path, b)) in [("/own", "1"), ("/", "-")].iter().enumerate() {
        proxy.client().get(path);
        assert_eq!(line::<3>(&proxy, n), [all, b, "true"]);
    }
}

fn objects_of_requests(subject: &Subject) {
    let upstream = Upstream::start(|request| Reply::ok(request.fields.get("x-seen").unwrap_or("nothing")));
    let list = objects(&[
        ("text", "envoy.string", "%REQ(x-k)%"),
        ("text", "envoy.string", "%FILTER_STATE(text:PLAIN)%!"),
        ("envoy.network.ip", "", "%REQ(x-ip)%"),
        ("envoy.tcp_proxy.cluster", "", "up"),
        ("flag", "envoy.bool", "1"),
    ]);
    let skipped = "{object_key: skipped, factory_key: envoy.string, skip_if_empty: true, format_string: {omit_empty_values: true, text_format_source: {inline_string: \"%REQ(x-k)%\"}}}";
    let fields = format!("on_request_headers: [{}, {skipped}]", list.trim_matches(['[', ']']));
    let routes = "- match: {prefix: \"/\"}\n  request_headers_to_add: [{header: {key: x-seen, value: \"%FILTER_STATE(text)%%FILTER_STATE(none)%\"}}]\n  route: {cluster: up}\n";
    let formats = [
        "%FILTER_STATE(text)%",
        "%FILTER_STATE(text:PLAIN)%",
        "%FILTER_STATE(envoy.network.ip:PLAIN)%",
        "%FILTER_STATE(envoy.tcp_proxy.cluster:PLAIN)% %FILTER_STATE(envoy.tcp_proxy.cluster)%",
        "%FILTER_STATE(flag)%",
        "%FILTER_STATE(skipped)%",
        "%FILTER_STATE(text:FIELD:x)%",
    ];
    let proxy = start(subject, &[("sfs", STATE, &fields)], routes, &upstream, &formats);
    let mut client = proxy.client();
    assert_eq!(client.get_with("/", &[("x-k", "a"), ("x-ip", "10.1.2.3")]).body, b"\"a!\"");
    assert_eq!(line::<7>(&proxy, 0), ["\"a!\"", "a!", "10.1.2.3:0", "up -", "true", "\"a\"", "-"]);
    assert_eq!(client.get_with("/", &[("x-ip", "no address")]).body, b"\"-!\"");
    assert_eq!(line::<7>(&proxy, 1), ["\"-!\"", "-!", "-", "up -", "true", "-", "-"]);
}

fn objects_choose_the_route(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let of = |clears: bool| {
        let list = objects(&[("k", "envoy.string", "%REQ(x-k)%"), ("envoy.network.ip", "", "%REQ(x-ip)%")]);
        format!("clear_route_cache: {clears}, on_request_headers: {list}")
    };
    let by = |matcher: &str, name: &str| {
        format!("- match: {{prefix: \"/\", {matcher}}}\n  name: {name}\n  {DIRECT}\n")
    };
    let metadata = |value: &str| format!("dynamic_metadata: [{{filter: ns, path: [{{key: v}}], {value}}}]");
    let routes = [
        by("filter_state: [{key: k, string_match: {exact: one}}]", "text"),
        by("filter_state: [{key: envoy.network.ip, address_match: {ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}}]", "address"),
        by(&metadata("value: {string_match: {prefix: s}}"), "string"),
        by(&metadata("value: {double_match: {range: {start: 1, end: 3}}}"), "number"),
        by(&metadata("value: {present_match: true}"), "present"),
        by("headers: [{name: x-inverted}], dynamic_metadata: [{filter: ns, path: [{key: v}], value: {present_match: true}, invert: true}]", "inverted"),
        rest(DIRECT),
    ]
    .concat();
    let text = "request_rules: [{header: x-s, on_header_present: {metadata_namespace: ns, key: v}}, {header: x-n, on_header_present: {metadata_namespace: ns, key: v, type: NUMBER}}]";
    for clears in [true, false] {
        let state = of(clears);
        let filters = [("h2m", RULES, text), ("sfs", STATE, &*state)];
        let proxy = start(subject, &filters, &routes, &upstream, &[]);
        for (n, (fields, expected)) in [
            (&[("x-k", "one")][..], "text"),
            (&[("x-k", "two"), ("x-ip", "10.3.2.1")], "address"),
            (&[("x-ip", "11.3.2.1")], "-"),
            (&[("x-s", "so")], "string"),
            (&[("x-n", "2.5")], "number"),
            (&[("x-n", "3")], "present"),
            (&[("x-inverted", "1")], "inverted"),
        ]
        .iter()
        .enumerate()
        {
            proxy.client().get_with("/", fields);
            let expected = if clears || *expected == "inverted" { *expected } else { "-" };
            assert_eq!(proxy.log().line(n).get("route"), expected, "{fields:?}");
        }
    }
}

/// A network filter in front of the terminal one.
fn network(list: &str) -> String {
    format!(
        "- name: state\n  typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config, on_new_connection: {list}}}\n"
    )
}

/// A filter chain with a filter in front.
fn before(filter: &str, chain: &str) -> String {
    let filter: String = filter.lines().map(|line| format!("  {line}\n")).collect();
    chain.replacen("- filters:\n", &format!("- filters:\n{filter}"), 1)
}

fn objects_of_connections(subject: &Subject) {
    let list = objects(&[
        ("peer", "envoy.string", "p=%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
        ("again", "envoy.string", "%FILTER_STATE(peer:PLAIN)%"),
    ]);
    let routes = [
        "- match: {prefix: \"/\", filter_state: [{key: peer, string_match: {prefix: \"p=127\"}}]}\n  name: by-peer\n  direct_response: {status: 200}\n",
        &rest(DIRECT),
    ]
    .concat();
    let own =
        format!("on_request_headers: {}", objects(&[("own", "envoy.string", "%FILTER_STATE(again:PLAIN)%")]));
    let http =
        Http::routes(&routes).hcm(&chain(&[("sfs", STATE, &own)])).logs("own", "%FILTER_STATE(own:PLAIN)%");
    let http = listener("main", "", &before(&network(&list), &http.filter_chain()));
    let tcp =
        before(&network(&list), &tcp_chain("tcp", "cluster: up", "", "\\town=%FILTER_STATE(again:PLAIN)%"));
    let upstream = Upstream::fixed("x");
    let bootstrap = Bootstrap::new().listener(&http).listener(&listener("tcp", "", &tcp));
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[upstream.address()], ""));
    assert_eq!(proxy.client().get("/").status, 200);
    let line = proxy.log().line(0);
    assert_eq!((line.get("route"), line.get("own")), ("by-peer", "p=127.0.0.1"));
    let mut client = Client::connect(proxy.listener("tcp"));
    assert_eq!(client.get_with("/", &[("connection", "close")]).status, 200);
    client.finish_sending();
    assert_eq!(proxy.log().line(1).get("own"), "p=127.0.0.1");
}

fn a_connection_names_its_cluster(subject: &Subject) {
    let (up, other) = (Upstream::fixed("up"), Upstream::fixed("other"));
    let tcp = |name: &str, list: &[(&str, &str, &str)]| {
        let chain = before(&network(&objects(list)), &tcp_chain(name, "cluster: up", "", ""));
        listener(name, "", &chain)
    };
    let bootstrap = Bootstrap::new()
        .listener(&tcp("named", &[("envoy.tcp_proxy.cluster", "", "other")]))
        .listener(&tcp("unknown", &[("envoy.tcp_proxy.cluster", "", "nobody")]))
        .listener(&tcp("idle", &[("envoy.tcp_proxy.per_connection_idle_timeout_ms", "", "200")]))
        .cluster("up", &[up.address()], "")
        .cluster("other", &[other.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    let ask = |name: &str| {
        let mut client = Client::connect(proxy.listener(name));
        client.get_with("/", &[("connection", "close")]).body
    };
    assert_eq!(ask("named"), b"other");
    let mut client = Client::connect(proxy.listener("unknown"));
    assert!(client.end() != End::Open);
    proxy.wait_stat("tcp.unknown.downstream_cx_no_route", 1);
    let mut client = Client::connect(proxy.listener("idle"));
    assert!(client.end() != End::Open);
    proxy.wait_stat("tcp.idle.idle_timeout", 1);
}

fn metadata_choose_what_is_logged(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let rule = "request_rules: [{header: x-log, on_header_present: {metadata_namespace: ns, key: log}}]";
    for (missing, logged) in [("", &["/yes", "/none"][..]), (", match_if_key_not_found: false", &["/yes"])] {
        let log = format!(
            "access_log:\n- name: file\n  filter: {{metadata_filter: {{matcher: {{filter: ns, path: [{{key: log}}], value: {{string_match: {{exact: \"yes\"}}}}}}{missing}}}}}\n  typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: \"@DIR@/access.log\", log_format: {{text_format_source: {{inline_string: \"path=%REQ(:PATH)%\\n\"}}}}}}\n"
        );
        let http = Http::routes(&rest(DIRECT)).hcm(&chain(&[("h2m", RULES, rule)])).hcm(&log).without_log();
        let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
        let proxy = Proxy::start(subject, &bootstrap);
        let mut client = proxy.client();
        client.get_with("/no", &[("x-log", "no")]);
        client.get("/none");
        client.get_with("/yes", &[("x-log", "yes")]);
        let last = proxy.log().line(logged.len() - 1);
        assert_eq!(last.get("path"), "/yes");
        let mut paths: Vec<_> = proxy.log().lines().iter().map(|line| line.get("path").to_owned()).collect();
        paths.sort();
        paths.reverse();
        assert_eq!(paths, logged);
    }
}

fn metadata_choose_the_endpoint(subject: &Subject) {
    let upstreams = ["one", "two", "three"].map(Upstream::fixed);
    let endpoints: Vec<_> = upstreams
        .iter()
        .zip(["one", "two", "three"])
        .map(|(upstream, name)| {
            let address = upstream.address();
            format!(
                "{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}, metadata: {{filter_metadata: {{envoy.lb: {{who: {name}, kind: all}}}}}}}}",
                address.ip(),
                address.port()
            )
        })
        .collect();
    let fields = format!(
        "type: STATIC\nlb_subset_config: {{fallback_policy: NO_FALLBACK, subset_selectors: [{{keys: [who]}}, {{keys: [kind, who]}}]}}\nload_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{}]}}]}}",
        endpoints.join(", ")
    );
    let rule =
        "request_rules: [{header: x-who, on_header_present: {metadata_namespace: envoy.lb, key: who}}]";
    let routes = [
        "- match: {prefix: \"/all\"}\n  route: {cluster: up, metadata_match: {filter_metadata: {envoy.lb: {kind: all, who: one}}}}\n",
        &rest(FORWARD),
    ]
    .concat();
    let http = Http::routes(&routes).hcm(&chain(&[("h2m", RULES, rule)]));
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &fields));
    let mut client = proxy.client();
    for _ in 0..3 {
        for name in ["one", "two", "three"] {
            assert_eq!(client.get_with("/", &[("x-who", name)]).body, name.as_bytes());
            assert_eq!(client.get_with("/all", &[("x-who", name)]).body, name.as_bytes());
        }
        assert_eq!(client.get("/all").body, b"one");
    }
    assert_eq!(client.get_with("/", &[("x-who", "nobody")]).status, 503);
}

fn metadata_are_limited(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let descriptor = |key: &str, value: &str| {
        format!(
            "{{entries: [{{key: {key}, value: {value}}}], token_bucket: {{max_tokens: 1, fill_interval: 600s}}}}"
        )
    };
    let limit = format!(
        "stat_prefix: rl, token_bucket: {{max_tokens: 1000, fill_interval: 600s}}, filter_enabled: {ALL}, filter_enforced: {ALL}, descriptors: [{}, {}, {}]",
        descriptor("user", "alice"),
        descriptor("tier", "gold"),
        descriptor("kind", "default")
    );
    let key = |namespace: &str| format!("metadata_key: {{key: {namespace}, path: [{{key: v}}]}}");
    let actions = format!(
        "rate_limits: [{{actions: [{{metadata: {{descriptor_key: user, {}}}}}]}}, {{actions: [{{metadata: {{descriptor_key: tier, source: ROUTE_ENTRY, {}}}}}]}}, {{actions: [{{metadata: {{descriptor_key: kind, default_value: default, {}}}}}]}}]",
        key("ns"),
        key("tiers"),
        key("kinds")
    );
    let routes = format!(
        "- match: {{prefix: \"/gold\"}}\n  metadata: {{filter_metadata: {{tiers: {{v: gold}}, kinds: {{v: x}}}}}}\n  route: {{cluster: up, {actions}}}\n- match: {{prefix: \"/\"}}\n  route: {{cluster: up, {actions}}}\n"
    );
    let rule = "request_rules: [{header: x-user, on_header_present: {metadata_namespace: ns, key: v}}, {header: x-kind, on_header_present: {metadata_namespace: kinds, key: v}}]";
    let filters = [("h2m", RULES, rule), ("rl", "local_ratelimit.v3.LocalRateLimit", &*limit)];
    let proxy = start(subject, &filters, &routes, &upstream, &[]);
    let mut client = proxy.client();
    let some = ("x-kind", "some");
    for (path, fields, status) in [
        ("/", &[some, ("x-user", "alice")][..], 200),
        ("/", &[some, ("x-user", "alice")], 429),
        ("/", &[some, ("x-user", "bob")], 200),
        ("/gold", &[some], 200),
        ("/gold", &[some], 429),
        ("/", &[], 200),
        ("/", &[], 429),
        ("/", &[some], 200),
    ] {
        assert_eq!(client.get_with(path, fields).status, status, "{path} {fields:?}");
    }
}

fn metadata_of_the_configuration(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let hosts = "- name: all\n  domains: [\"*\"]\n  metadata: {filter_metadata: {h: {y: {z: 1.5}}}}\n  routes:\n  - match: {prefix: \"/\"}\n    metadata: {filter_metadata: {r: {x: text, l: [1, true]}}}\n    direct_response: {status: 200}\n";
    let formats = [
        "%METADATA(ROUTE:r:x)%",
        "%METADATA(ROUTE:r)%",
        "%METADATA(VIRTUAL_HOST:h:y:z)%",
        "%METADATA(VIRTUAL_HOST:h:none)%",
        "%METADATA(ROUTE:r:x):2%",
    ];
    let http = formats
        .iter()
        .zip('a'..='z')
        .fold(Http::virtual_hosts(hosts), |http, (format, key)| http.logs(&key.to_string(), format));
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    proxy.client().get("/");
    assert_eq!(line::<5>(&proxy, 0), ["text", r#"{"l":[1,true],"x":"text"}"#, "1.5", "-", "te"]);
}

/// JSON logs have numbers as numbers.
fn types_are_kept(subject: &Subject) {
    let upstream = Upstream::fixed("x");
    let rule = "request_rules: [{header: x-n, on_header_present: {metadata_namespace: ns, key: v, type: NUMBER}}, {header: x-t, on_header_present: {metadata_namespace: ns, key: text}}]";
    let state = format!(
        "on_request_headers: {}",
        objects(&[("k", "envoy.string", "q"), ("b", "envoy.bool", "false")])
    );
    let log = format!(
        "access_log:\n- name: file\n  typed_config: {}\n",
        any("x", "").replace("envoy.extensions.filters.http.x", "envoy.extensions.access_loggers.file.v3.FileAccessLog").replace(
            '}',
            ", path: \"@DIR@/access.log\", log_format: {json_format: {n: \"%DYNAMIC_METADATA(ns:v)%\", all: \"%DYNAMIC_METADATA(ns)%\", two: \"a%DYNAMIC_METADATA(ns:v)%\", text: \"%DYNAMIC_METADATA(ns:text)%\", k: \"%FILTER_STATE(k)%\", plain: \"%FILTER_STATE(k:PLAIN)%\", b: \"%FILTER_STATE(b)%\", none: \"%FILTER_STATE(none)%\"}}}"
        )
    );
    let filters = [("h2m", RULES, rule), ("sfs", STATE, &*state)];
    let http =
        Http::routes(&rest(DIRECT)).hcm(&chain(&filters)).hcm(&log.replace("{n:", "{\"n\":")).without_log();
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""));
    proxy.client().get_with("/", &[("x-n", "2.5"), ("x-t", "1")]);
    let wanted = r#"{"all":{"text":"1","v":2.5},"b":false,"k":"q","n":2.5,"none":null,"plain":"q","text":"1","two":"a2.5"}"#;
    let line = proxy.log().line(0);
    assert_eq!(line, millrace_support::access_log::Line::of(wanted));
}
