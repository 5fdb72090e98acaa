//! Load balancing: which endpoint a request reaches, and what is counted.

pub(crate) mod choices;
pub(crate) mod hashing;
pub(crate) mod load_streams;
pub(crate) mod loads;
pub(crate) mod localities;
pub(crate) mod subsets;
pub(crate) mod vectors;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;

pub(crate) const CASES: &[Case] =
    &[case!(override_hosts), case!(override_hosts_of_metadata), case!(least_request_by_full_scan)];

/// An endpoint of a test's cluster.
pub(super) struct Host {
    pub upstream: Upstream,
    /// More fields of its `LbEndpoint`, each with a comma before it.
    pub fields: String,
}

/// `count` upstreams that answer with their position.
pub(super) fn hosts(count: usize, fields: impl Fn(usize) -> String) -> Vec<Host> {
    (0..count).map(|n| Host { upstream: Upstream::fixed(&n.to_string()), fields: fields(n) }).collect()
}

/// With metadata `envoy.lb`.
pub(super) fn lb(metadata: &str) -> String {
    format!(", metadata: {{filter_metadata: {{envoy.lb: {{{metadata}}}}}}}")
}

/// One `LocalityLbEndpoints` as flow YAML; `fields` has a comma after each field.
pub(super) fn locality(fields: &str, hosts: &[Host]) -> String {
    let one = |host: &Host| {
        let port = host.upstream.address().port();
        let fields = &host.fields;
        format!(
            "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}{fields}}}"
        )
    };
    let list: Vec<String> = hosts.iter().map(one).collect();
    format!("{{{fields} lb_endpoints: [{}]}}", list.join(", "))
}

/// A cluster `up` of these localities.
pub(super) fn cluster(fields: &str, localities: &[String]) -> String {
    format!("{fields}\nload_assignment: {{cluster_name: up, endpoints: [{}]}}\n", localities.join(", "))
}

/// A proxy whose route to `up` has these fields (flow YAML, each with a comma before it).
pub(super) fn routed(subject: &Subject, route: &str, cluster: &str) -> Proxy {
    let route = format!("- match: {{prefix: \"/\"}}\n  route: {{cluster: up{route}}}\n");
    Proxy::start(subject, &Bootstrap::new().http(Http::routes(&route)).cluster("up", &[], cluster))
}

/// The position of the upstream that answers, or the status of another answer, negative.
pub(super) fn ask(client: &mut Client, target: &str, fields: &[(&str, &str)]) -> i32 {
    let response = client.get_with(target, fields);
    match response.status {
        200 => response.text().parse().expect("an upstream answers with its position"),
        other => -i32::from(other),
    }
}

/// How often each of `count` upstreams answered `requests` times.
pub(super) fn counts(
    client: &mut Client,
    requests: usize,
    count: usize,
    fields: &[(&str, &str)],
) -> Vec<usize> {
    let mut seen = vec![0; count];
    for _ in 0..requests {
        let host = ask(client, "/", fields);
        *seen.get_mut(usize::try_from(host).expect("an upstream answers")).expect("a known upstream") += 1;
    }
    seen
}

/// A typed policy of `envoy.extensions.load_balancing_policies`, as flow YAML.
pub(super) fn policy(kind: &str) -> String {
    format!(
        "{{policies: [{{typed_extension_config: {{name: p, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.load_balancing_policies.{kind}}}}}}}]}}"
    )
}

fn override_hosts(subject: &Subject) {
    let all = hosts(3, |n| if n == 1 { ", health_status: UNHEALTHY".into() } else { String::new() });
    let kind = format!(
        "override_host.v3.OverrideHost, override_host_sources: [{{header: x-host}}], fallback_policy: {}",
        policy("round_robin.v3.RoundRobin")
    );
    let fields = format!("load_balancing_policy: {}", policy(&kind));
    let proxy = routed(subject, "", &cluster(&fields, &[locality("", &all)]));
    let mut client = proxy.client();
    let address = |n: usize| all[n].upstream.address().to_string();
    let (first, second, third) = (address(0), address(1), address(2));
    for _ in 0..4 {
        assert_eq!(ask(&mut client, "/", &[("x-host", &third)]), 2);
        assert_eq!(ask(&mut client, "/", &[("x-host", &second)]), 1, "whatever its health");
        let list = format!("10.9.9.9:1, {third}, {first}");
        assert_eq!(ask(&mut client, "/", &[("x-host", &list)]), 2, "unknown ones are passed over");
    }
    assert_eq!(counts(&mut client, 8, 3, &[("x-host", "10.9.9.9:1")]), [4, 0, 4]);
    assert_eq!(counts(&mut client, 8, 3, &[]), [4, 0, 4]);
}

fn override_hosts_of_metadata(subject: &Subject) {
    let all = hosts(3, |_| String::new());
    let kind = format!(
        "override_host.v3.OverrideHost, override_host_sources: [{{metadata: {{key: envoy.lb, path: [{{key: to}}]}}}}, \
         {{header: x-host}}], selected_host_key: {{key: out, path: [{{key: a}}, {{key: b}}]}}, fallback_policy: {}",
        policy("round_robin.v3.RoundRobin")
    );
    let fields = format!("load_balancing_policy: {}", policy(&kind));
    let rules = "request_rules: [{header: x-to, on_header_present: {metadata_namespace: envoy.lb, key: to}}, \
                 {header: x-number, on_header_present: {metadata_namespace: envoy.lb, key: to, type: NUMBER}}]";
    let hcm = crate::filters::chain(&[("metadata", "header_to_metadata.v3.Config", rules)]);
    let route = "- match: {prefix: \"/\"}\n  route: {cluster: up}\n  \
                 response_headers_to_add: [{header: {key: x-out, value: \"%DYNAMIC_METADATA(out:a:b)%\"}}]\n";
    let http = Http::routes(route).hcm(&hcm);
    let cluster = cluster(&fields, &[locality("", &all)]);
    let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &cluster));
    let mut client = proxy.client();
    let address = |n: usize| all[n].upstream.address().to_string();
    for _ in 0..4 {
        assert_eq!(ask(&mut client, "/", &[("x-to", &address(2))]), 2);
        let list = format!("10.9.9.9:1,{}", address(1));
        assert_eq!(ask(&mut client, "/", &[("x-to", &list), ("x-host", &address(2))]), 1);
        assert_eq!(ask(&mut client, "/", &[("x-number", "5"), ("x-host", &address(0))]), 0, "no text");
    }
    assert_eq!(counts(&mut client, 9, 3, &[]), [3; 3]);
    let answer = client.get_with("/", &[("x-to", &address(1))]);
    assert_eq!(answer.get("x-out"), Some(&*address(1)));
}

fn least_request_by_full_scan(subject: &Subject) {
    let all = hosts(4, |_| String::new());
    let kind = policy("least_request.v3.LeastRequest, selection_method: FULL_SCAN");
    let fields = format!("load_balancing_policy: {kind}");
    let proxy = routed(subject, "", &cluster(&fields, &[locality("", &all)]));
    let seen = counts(&mut proxy.client(), 200, 4, &[]);
    // Nobody is busy, so each has the same chance: 50 within six deviations.
    assert!(seen.iter().all(|n| (13..=87).contains(n)), "{seen:?}");
}
