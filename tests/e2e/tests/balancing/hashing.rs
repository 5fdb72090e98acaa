//! Hash policies, against a ring computed here by its definition.

use std::net::SocketAddr;

use millrace_base::hash::xxh64;
use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;

use super::{Host, ask, cluster, hosts, lb, locality, policy, routed};

pub(crate) const CASES: &[Case] = &[
    case!(parts_of_the_request),
    case!(combinations),
    case!(cookies),
    case!(source_address_and_tcp),
    case!(the_balancers_own_policy),
    case!(objects_of_filter_state),
];

const COUNT: usize = 10;

/// 103 positions for each of ten endpoints: the default ring.
fn ring() -> Vec<(u64, i32)> {
    let position = |host: usize, n: usize| (xxh64(format!("host-{host}_{n}").as_bytes(), 0), host as i32);
    let mut ring: Vec<_> = (0..COUNT).flat_map(|host| (0..103).map(move |n| position(host, n))).collect();
    ring.sort_unstable();
    ring
}

fn of(hash: u64) -> i32 {
    let ring = ring();
    let at = ring.partition_point(|(position, _)| *position < hash);
    ring[at % ring.len()].1
}

fn text(value: &str) -> i32 {
    of(xxh64(value.as_bytes(), 0))
}

fn ten() -> Vec<Host> {
    hosts(COUNT, |n| lb(&format!("hash_key: host-{n}")))
}

fn started(subject: &Subject, hosts: &[Host], policies: &str, more: &str) -> Proxy {
    let route = format!(", hash_policy: [{policies}]{more}");
    routed(subject, &route, &cluster("lb_policy: RING_HASH", &[locality("", hosts)]))
}

/// The endpoints that 20 requests reach.
fn spread(client: &mut Client, target: &str, fields: &[(&str, &str)]) -> usize {
    let mut seen: Vec<i32> = (0..20).map(|_| ask(client, target, fields)).collect();
    seen.sort_unstable();
    seen.dedup();
    seen.len()
}

fn parts_of_the_request(subject: &Subject) {
    let all = ten();
    let proxy = started(subject, &all, "{header: {header_name: X-Key}}", "");
    let mut client = proxy.client();
    for value in ["1", "abc", "", "a much longer value than thirty-two bytes"] {
        assert_eq!(ask(&mut client, "/", &[("x-key", value)]), text(value), "{value}");
    }
    let both = of(xxh64(b"b", xxh64(b"a", 0)));
    assert_eq!(ask(&mut client, "/", &[("x-key", "a"), ("x-key", "b")]), both);
    assert_eq!(ask(&mut client, "/", &[("x-key", "b"), ("x-key", "a")]), both, "whatever the order");
    assert!(spread(&mut client, "/", &[]) > 3, "without a hash the choice is random");

    let rewrite = "{header: {header_name: x-key, regex_rewrite: {pattern: {regex: \"^/([a-z]+)/.*\"}, substitution: \"\\\\1\"}}}";
    let proxy = started(subject, &all, rewrite, "");
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, "/", &[("x-key", "/abc/def")]), text("abc"));
    assert_eq!(ask(&mut client, "/", &[("x-key", "none")]), text("none"));

    let proxy = started(subject, &all, "{query_parameter: {name: q}}", "");
    let mut client = proxy.client();
    for (target, value) in [("/?q=1", "1"), ("/?a=2&q=a%20b", "a%20b"), ("/?q", ""), ("/?q=1&q=2", "1")] {
        assert_eq!(ask(&mut client, target, &[]), text(value), "{target}");
    }
    assert!(spread(&mut client, "/?a=q", &[]) > 3);

    // What goes upstream is hashed.
    let proxy = started(subject, &all, "{header: {header_name: \":path\"}}", ", prefix_rewrite: \"/new/\"");
    assert_eq!(ask(&mut proxy.client(), "/a", &[]), text("/new/a"));
}

fn combinations(subject: &Subject) {
    let all = ten();
    let two = "{header: {header_name: x-a}}, {header: {header_name: x-b}}";
    let (a, b) = (xxh64(b"1", 0), xxh64(b"2", 0));
    let proxy = started(subject, &all, two, "");
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, "/", &[("x-a", "1"), ("x-b", "2")]), of(a.rotate_left(1) ^ b));
    assert_eq!(ask(&mut client, "/", &[("x-b", "2")]), of(b));
    let terminal = "{header: {header_name: x-a}, terminal: true}, {header: {header_name: x-b}}";
    let proxy = started(subject, &all, terminal, "");
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, "/", &[("x-a", "1"), ("x-b", "2")]), of(a));
    assert_eq!(ask(&mut client, "/", &[("x-b", "2")]), of(b));
    // Nobody sets this filter state.
    let state = "{filter_state: {key: nothing}}, {header: {header_name: x-a}}";
    let proxy = started(subject, &all, state, "");
    assert_eq!(ask(&mut proxy.client(), "/", &[("x-a", "1")]), of(a));
}

fn cookies(subject: &Subject) {
    let all = ten();
    let made = "{cookie: {name: id, ttl: 9.5s, path: /p, attributes: [{name: SameSite, value: Strict}, {name: Secure}]}}";
    let proxy = started(subject, &all, made, "");
    let mut client = proxy.client();
    let response = client.get("/");
    let cookie = response.get("set-cookie").expect("a cookie is made").to_owned();
    let value = cookie.strip_prefix("id=\"").and_then(|rest| rest.split('"').next()).expect("a quoted value");
    assert_eq!(cookie, format!("id=\"{value}\"; Max-Age=9; Path=/p; SameSite=Strict; Secure; HttpOnly"));
    assert!(value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit()), "{value}");
    assert_eq!(response.text(), text(value).to_string());
    for (sent, value) in [("id=abc", "abc"), ("a=1; id=\"abc\"; id=def", "abc"), ("aid=1; id=xyz", "xyz")] {
        let response = client.get_with("/", &[("cookie", sent)]);
        assert_eq!(response.text(), text(value).to_string(), "{sent}");
        assert_eq!(response.get("set-cookie"), None, "{sent}");
    }
    assert!(
        client.get_with("/", &[("cookie", "id=")]).get("set-cookie").is_some(),
        "an empty one counts as none"
    );
    let proxy = started(subject, &all, "{cookie: {name: id, ttl: 0s}}", "");
    let session = proxy.client().get("/").get("set-cookie").map(str::to_owned).expect("a cookie is made");
    assert!(session.starts_with("id=\"") && session.ends_with("\"; HttpOnly"), "{session}");
    let proxy = started(subject, &all, "{cookie: {name: id}}", "");
    let mut client = proxy.client();
    assert_eq!(client.get("/").get("set-cookie"), None);
    assert!(spread(&mut client, "/", &[]) > 3);
}

fn source_address_and_tcp(subject: &Subject) {
    let all = ten();
    let proxy = started(subject, &all, "{connection_properties: {source_ip: true}}", "");
    for source in ["127.0.0.1", "127.0.0.7", "127.0.0.9"] {
        let mut client = Client::connect_from(source, proxy.listener("main"));
        assert_eq!(ask(&mut client, "/", &[]), text(source), "{source}");
    }
    let fields = "cluster: up\nhash_policy: [{source_ip: {}}]";
    let cluster = cluster("lb_policy: MAGLEV", &[locality("", &all)]);
    let bootstrap = Bootstrap::new().tcp("main", fields).cluster("up", &[], &cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    let mut chosen = Vec::new();
    for source in ["127.0.0.1", "127.0.0.7", "127.0.0.9", "127.0.0.20"] {
        let once = |target: SocketAddr| Client::connect_from(source, target).get("/").text();
        let first = once(proxy.listener("main"));
        assert_eq!(once(proxy.listener("main")), first, "{source}");
        chosen.push(first);
    }
    assert_eq!(chosen, ["3", "0", "3", "7"], "the table of Envoy");
}

fn the_balancers_own_policy(subject: &Subject) {
    let all = ten();
    let own = "ring_hash.v3.RingHash, consistent_hashing_lb_config: {hash_policy: [{header: {header_name: x-own}}]}";
    let fields = format!("load_balancing_policy: {}", policy(own));
    let route = ", hash_policy: [{header: {header_name: x-key}}]";
    let proxy = routed(subject, route, &cluster(&fields, &[locality("", &all)]));
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, "/", &[("x-own", "1"), ("x-key", "2")]), text("1"));
    assert!(spread(&mut client, "/", &[("x-key", "2")]) > 3);
    // Endpoints hashed by their addresses, and by their names.
    let named = hosts(COUNT, |_| String::new());
    let key = |host: &Host| host.upstream.address().to_string();
    let mut ring: Vec<(u64, usize)> = (0..COUNT)
        .flat_map(|host| (0..103).map(move |n| (host, n)))
        .map(|(host, n)| (xxh64(format!("{}_{n}", key(&named[host])).as_bytes(), 0), host))
        .collect();
    ring.sort_unstable();
    let proxy = routed(subject, route, &cluster("lb_policy: RING_HASH", &[locality("", &named)]));
    let mut client = proxy.client();
    for value in ["1", "2", "3", "4", "5"] {
        let hash = xxh64(value.as_bytes(), 0);
        let at = ring.partition_point(|(position, _)| *position < hash);
        assert_eq!(ask(&mut client, "/", &[("x-key", value)]), ring[at % ring.len()].1 as i32, "{value}");
    }
}

/// The object's own hash decides; what has none does not count.
fn objects_of_filter_state(subject: &Subject) {
    let all = ten();
    let cluster = cluster("lb_policy: RING_HASH", &[locality("", &all)]);
    let routes =
        "- match: {prefix: \"/\"}\n  route: {cluster: up, hash_policy: [{filter_state: {key: user}}]}\n";
    let extensions = "type.googleapis.com/envoy.extensions.filters.http";
    for (factory, hashes) in [("envoy.hashable_string", true), ("envoy.string", false)] {
        let filters = format!(
            "http_filters:\n- name: state\n  typed_config: {{\"@type\": {extensions}.set_filter_state.v3.Config, \
             on_request_headers: [{{object_key: user, factory_key: {factory}, skip_if_empty: true, format_string: \
             {{omit_empty_values: true, text_format_source: {{inline_string: \"%REQ(x-user)%\"}}}}}}]}}\n- name: router\n  \
             typed_config: {{\"@type\": {extensions}.router.v3.Router}}\n"
        );
        let http = Http::routes(routes).hcm(&filters);
        let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &cluster));
        let mut client = proxy.client();
        if !hashes {
            assert!(spread(&mut client, "/", &[("x-user", "1")]) > 3);
            continue;
        }
        for user in ["1", "abc", "Abc", "a much longer value than thirty-two bytes", "5", "6"] {
            assert_eq!(ask(&mut client, "/", &[("x-user", user)]), text(user), "{user}");
        }
        assert!(spread(&mut client, "/", &[]) > 3, "without an object the choice is random");
    }
}
