//! What chooses among clusters, and which hash policies count.

use millrace_base::hash::xxh64;
use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::upstream::{Reply, Upstream};

use super::{Host, ask, cluster, counts, hosts, lb, locality, policy, routed};

pub(crate) const CASES: &[Case] = &[
    case!(weighted_clusters_by_a_field),
    case!(weighted_clusters_by_the_hash),
    case!(the_clusters_own_hash_policy),
    case!(weighted_clusters_of_tcp_and_subsets),
    case!(peak_ewma, not_envoy: "a contrib extension: the ordinary build refuses it"),
];

const BY_KEY: &str = "hash_policy: [{header: {header_name: x-key}}]";

/// Clusters `a` and `b` with weights 1 and 3, whose upstreams say 0 and 1.
fn weighted(subject: &Subject, by: &str, route: &str) -> (Proxy, Vec<Host>) {
    let all = hosts(2, |_| String::new());
    let route = format!(
        "- match: {{prefix: \"/\"}}\n  route: {{weighted_clusters: {{clusters: [{{name: a, weight: 1}}, \
         {{name: b, weight: 3}}], {by}}}{route}}}\n"
    );
    let bootstrap = Bootstrap::new()
        .http(Http::routes(&route))
        .cluster("a", &[all[0].upstream.address()], "")
        .cluster("b", &[all[1].upstream.address()], "");
    (Proxy::start(subject, &bootstrap), all)
}

fn weighted_clusters_by_a_field(subject: &Subject) {
    let (proxy, _upstreams) = weighted(subject, "header_name: X-Number", "");
    let mut client = proxy.client();
    for (number, cluster) in [("0", 0), ("1", 1), ("3", 1), ("4", 0), ("4000000000001", 1), ("40", 0)] {
        assert_eq!(ask(&mut client, "/", &[("x-number", number)]), cluster, "{number}");
    }
    // What is no number, or two of them, leaves it to chance.
    for fields in [&[("x-number", "x")][..], &[("x-number", "0"), ("x-number", "0")], &[]] {
        let seen = counts(&mut client, 100, 2, fields);
        assert!((5..=50).contains(&seen[0]), "{fields:?}: {seen:?}");
    }
}

fn weighted_clusters_by_the_hash(subject: &Subject) {
    let (proxy, _upstreams) = weighted(subject, "use_hash_policy: true", &format!(", {BY_KEY}"));
    let mut client = proxy.client();
    for n in 0..40 {
        let key = format!("key-{n}");
        let cluster = i32::from(!xxh64(key.as_bytes(), 0).is_multiple_of(4));
        assert_eq!(ask(&mut client, "/", &[("x-key", &key)]), cluster, "{key}");
    }
    let seen = counts(&mut client, 100, 2, &[]);
    assert!((5..=50).contains(&seen[0]), "without a hash it is chance: {seen:?}");
    // Unless it is asked for, the policy of the route chooses endpoints only.
    let (proxy, _upstreams) = weighted(subject, "use_hash_policy: false", &format!(", {BY_KEY}"));
    let seen = counts(&mut proxy.client(), 100, 2, &[("x-key", "key-1")]);
    assert!((5..=50).contains(&seen[0]), "{seen:?}");
}

/// The endpoints that 20 requests reach.
fn spread(client: &mut Client, fields: &[(&str, &str)]) -> usize {
    counts(client, 20, 6, fields).iter().filter(|count| **count > 0).count()
}

fn the_clusters_own_hash_policy(subject: &Subject) {
    let all = hosts(6, |n| lb(&format!("hash_key: host-{n}")));
    let options = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": \
                   type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: \
                   {http_protocol_options: {}}, hash_policy: [{header: {header_name: x-cluster}}]}}";
    let ring = format!("lb_policy: RING_HASH\n{options}");
    let proxy = routed(subject, &format!(", {BY_KEY}"), &cluster(&ring, &[locality("", &all)]));
    let mut client = proxy.client();
    assert_eq!(spread(&mut client, &[("x-cluster", "1")]), 1);
    assert!(spread(&mut client, &[("x-key", "1")]) > 2, "the cluster's replaces that of the route");
    let own = "ring_hash.v3.RingHash, consistent_hashing_lb_config: {hash_policy: [{header: {header_name: x-own}}]}";
    let typed = format!("load_balancing_policy: {}\n{options}", policy(own));
    let proxy = routed(subject, &format!(", {BY_KEY}"), &cluster(&typed, &[locality("", &all)]));
    let mut client = proxy.client();
    assert_eq!(spread(&mut client, &[("x-own", "1")]), 1);
    assert!(spread(&mut client, &[("x-cluster", "1")]) > 2, "and the balancer's that of the cluster");
}

fn weighted_clusters_of_tcp_and_subsets(subject: &Subject) {
    let all: Vec<TcpUpstream> = (0..4).map(|_| TcpUpstream::start(Role::FinishFirst)).collect();
    let one = |(n, upstream): (usize, &TcpUpstream)| {
        let (port, tag) = (upstream.address().port(), ["a", "b", "c", "d"][n]);
        format!(
            "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}, \
             metadata: {{filter_metadata: {{envoy.lb: {{v: {tag}, s: x}}}}}}}}"
        )
    };
    let list: Vec<String> = all.iter().enumerate().map(one).collect();
    let up = format!(
        "lb_subset_config: {{subset_selectors: [{{keys: [s, v]}}, {{keys: [s]}}]}}\n\
         load_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{}]}}]}}",
        list.join(", ")
    );
    let wanted = |tag: &str| format!("metadata_match: {{filter_metadata: {{envoy.lb: {{v: {tag}}}}}}}");
    let fields = format!(
        "weighted_clusters: {{clusters: [{{name: up, weight: 1, {}}}, {{name: up, weight: 1, {}}}]}}\n\
         metadata_match: {{filter_metadata: {{envoy.lb: {{s: x, v: a}}}}}}",
        wanted("b"),
        wanted("d")
    );
    let proxy = Proxy::start(subject, &Bootstrap::new().tcp("main", &fields).cluster("up", &[], &up));
    for _ in 0..40 {
        assert_eq!(proxy.client().wire().exact(8, "greeting"), Ok(b"greeting".to_vec()));
    }
    let seen: Vec<u64> = all.iter().map(|upstream| upstream.connections() as u64).collect();
    assert!(seen[1] > 3 && seen[3] > 3 && seen[1] + seen[3] == 40, "{seen:?}");
}

/// The slow one of three gets few requests, whether or not the filter is there that Envoy measures with.
fn peak_ewma(subject: &Subject) {
    let slow = |n: usize| {
        let (body, delay) = (n.to_string(), if n == 1 { 60 } else { 1 });
        Upstream::start(move |_| Reply::ok(&body).after(std::time::Duration::from_millis(delay)))
    };
    let all: Vec<Host> = (0..3).map(|n| Host { upstream: slow(n), fields: String::new() }).collect();
    let fields = format!("load_balancing_policy: {}", policy("peak_ewma.v3alpha.PeakEwma, decay_time: 60s"));
    let filters = "http_filters:\n- name: times\n  typed_config: {\"@type\": \
                   type.googleapis.com/envoy.extensions.filters.http.peak_ewma.v3alpha.PeakEwmaConfig}\n\
                   - name: router\n  typed_config: {\"@type\": \
                   type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}\n";
    let http = Http::to("up").hcm(filters);
    let up = cluster(&fields, &[locality("", &all)]);
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &up));
    let seen = counts(&mut proxy.client(), 150, 3, &[]);
    assert!(seen[1] < 10 && seen[0] > 20 && seen[2] > 20, "{seen:?}");
}
