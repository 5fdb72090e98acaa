//! Subsets by metadata, with every fallback.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;

use super::{Host, ask, cluster, counts, hosts, lb, locality, policy};

pub(crate) const CASES: &[Case] = &[
    case!(selectors_and_fallbacks),
    case!(keys_fallback_and_lists),
    case!(fallback_list_and_weighted_clusters),
    case!(single_hosts_and_typed),
];

/// A proxy with one route for each metadata: `/0` and so on.
fn started(subject: &Subject, fields: &str, all: &[Host], routes: &[&str]) -> Proxy {
    let route = |(n, metadata): (usize, &&str)| {
        let matching = match *metadata {
            "" => String::new(),
            other => format!(", metadata_match: {{filter_metadata: {{envoy.lb: {{{other}}}}}}}"),
        };
        format!("- match: {{path: \"/{n}\"}}\n  route: {{cluster: up{matching}}}\n")
    };
    let routes: String = routes.iter().enumerate().map(route).collect();
    let cluster = cluster(fields, &[locality("", all)]);
    Proxy::start(subject, &Bootstrap::new().http(Http::routes(&routes)).cluster("up", &[], &cluster))
}

/// The endpoints that each route reaches, or the status.
fn reached(proxy: &Proxy, routes: usize) -> Vec<Vec<i32>> {
    let mut client = proxy.client();
    let of = |n: usize| {
        let mut seen: Vec<i32> = (0..12).map(|_| ask(&mut client, &format!("/{n}"), &[])).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    };
    (0..routes).map(of).collect()
}

fn four() -> Vec<Host> {
    let metadata = ["v: 1, s: x", "v: 1, s: y", "v: 2, s: x", "t: 0"];
    hosts(4, |n| lb(metadata[n]))
}

fn selectors_and_fallbacks(subject: &Subject) {
    let all = four();
    let routes = ["v: 1", "v: 1, s: y", "v: 3", "s: x", "", "v: \"1\""];
    let subsets = |fallback: &str| {
        format!("lb_subset_config: {{{fallback} subset_selectors: [{{keys: [v]}}, {{keys: [s, v]}}]}}")
    };
    let none = vec![-503];
    let proxy = started(subject, &subsets(""), &all, &routes);
    let stat = |name: &str| proxy.stat(&format!("cluster.up.lb_subsets_{name}"));
    let seen = reached(&proxy, routes.len());
    assert_eq!(seen, [vec![0, 1], vec![1], none.clone(), none.clone(), none.clone(), none.clone()]);
    // Envoy counts them once for each worker and once for its main thread.
    let copies = if subject.is_envoy() { 2 } else { 1 };
    assert_eq!((stat("active"), stat("created")), (Some(5 * copies), Some(5 * copies)));
    assert_eq!(stat("selected"), Some(24));
    assert_eq!(stat("fallback"), Some(0));

    let proxy = started(subject, &subsets("fallback_policy: ANY_ENDPOINT,"), &all, &routes);
    let any = vec![0, 1, 2, 3];
    let seen = reached(&proxy, routes.len());
    assert_eq!(seen, [vec![0, 1], vec![1], any.clone(), any.clone(), any.clone(), any.clone()]);
    assert_eq!(proxy.stat("cluster.up.lb_subsets_fallback"), Some(48));

    let default = "fallback_policy: DEFAULT_SUBSET, default_subset: {s: x},";
    let proxy = started(subject, &subsets(default), &all, &routes);
    assert_eq!(reached(&proxy, routes.len())[2..], [vec![0, 2], vec![0, 2], vec![0, 2], vec![0, 2]]);

    let nobody = "fallback_policy: DEFAULT_SUBSET, default_subset: {s: nobody}, panic_mode_any: true,";
    let proxy = started(subject, &subsets(nobody), &all, &routes);
    assert_eq!(reached(&proxy, routes.len())[2], any);
    assert_eq!(proxy.stat("cluster.up.lb_subsets_fallback_panic"), Some(48));
}

fn keys_fallback_and_lists(subject: &Subject) {
    let all = four();
    let routes = ["v: 9, s: x", "s: z", "t: 5", "t: 0", "v: 7"];
    let fields = "lb_subset_config: {fallback_policy: ANY_ENDPOINT, default_subset: {v: 2}, subset_selectors: [\
                  {keys: [s, v], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [s]}, \
                  {keys: [s], fallback_policy: NO_FALLBACK}, {keys: [t], fallback_policy: DEFAULT_SUBSET}, \
                  {keys: [v], fallback_policy: ANY_ENDPOINT}]}";
    let proxy = started(subject, fields, &all, &routes);
    let seen = reached(&proxy, routes.len());
    // As in Envoy, `s` begins the keys of the first selector, so its own fallback is lost.
    assert_eq!(seen, [vec![0, 2], vec![0, 1, 2, 3], vec![2], vec![3], vec![0, 1, 2, 3]]);

    let listed = hosts(3, |n| lb(["v: [1, 2]", "v: 2", "v: [3]"][n]));
    let routes = ["v: 1", "v: 2", "v: [3]", "v: 3"];
    let lists =
        |any: bool| format!("lb_subset_config: {{subset_selectors: [{{keys: [v]}}], list_as_any: {any}}}");
    let proxy = started(subject, &lists(true), &listed, &routes);
    assert_eq!(reached(&proxy, 4), [vec![0], vec![0, 1], vec![-503], vec![2]]);
    let proxy = started(subject, &lists(false), &listed, &routes);
    assert_eq!(reached(&proxy, 4), [vec![-503], vec![1], vec![2], vec![-503]]);
}

fn fallback_list_and_weighted_clusters(subject: &Subject) {
    let all = four();
    let routes = [
        "s: x, fallback_list: [{v: 9}, {v: 2}, {v: 1}]",
        "fallback_list: [{v: 9}]",
        "v: 1, fallback_list: []",
    ];
    let fields = "lb_subset_config: {metadata_fallback_policy: FALLBACK_LIST, subset_selectors: [{keys: [v]}, {keys: [s, v]}]}";
    let proxy = started(subject, fields, &all, &routes);
    assert_eq!(reached(&proxy, 3), [vec![2], vec![-503], vec![0, 1]]);

    let route = "- match: {prefix: \"/\"}\n  route: {metadata_match: {filter_metadata: {envoy.lb: {v: 1, s: x}}}, \
                 weighted_clusters: {clusters: [{name: up, weight: 1, metadata_match: {filter_metadata: {envoy.lb: {s: y}}}}]}}\n";
    let fields = "lb_subset_config: {subset_selectors: [{keys: [s, v]}]}";
    let cluster = cluster(fields, &[locality("", &all)]);
    let bootstrap = Bootstrap::new().http(Http::routes(route)).cluster("up", &[], &cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    assert_eq!(counts(&mut proxy.client(), 6, 4, &[]), [0, 6, 0, 0]);
}

fn single_hosts_and_typed(subject: &Subject) {
    let all = hosts(3, |n| {
        let health = if n == 0 { ", health_status: UNHEALTHY" } else { "" };
        lb(["id: a", "id: b", "id: b"][n]) + health
    });
    let routes = ["id: a", "id: b", "id: c"];
    let fields = "lb_subset_config: {fallback_policy: ANY_ENDPOINT, subset_selectors: [{keys: [id], single_host_per_subset: true}]}\n\
                  common_lb_config: {healthy_panic_threshold: {value: 0}}";
    let proxy = started(subject, fields, &all, &routes);
    assert_eq!(reached(&proxy, 3), [vec![0], vec![1], vec![1, 2]], "health does not matter to a single host");

    let kind = format!(
        "subset.v3.Subset, allow_redundant_keys: true, subset_selectors: [{{keys: [v]}}], subset_lb_policy: {}",
        policy("least_request.v3.LeastRequest")
    );
    let all = four();
    let routes = ["v: 1, other: 3", "v: 2", "other: 3"];
    let proxy = started(subject, &format!("load_balancing_policy: {}", policy(&kind)), &all, &routes);
    assert_eq!(reached(&proxy, 3), [vec![0, 1], vec![2], vec![-503]]);
}
