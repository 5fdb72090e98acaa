//! Weights of localities, zone-aware routing, priorities weighed otherwise.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;

use super::{Host, cluster, counts, hosts, locality, policy, routed};

pub(crate) const CASES: &[Case] =
    &[case!(weights), case!(zones), case!(forced_and_weighed_zones), case!(degraded_and_weighted_priorities)];

/// Within six standard deviations of a share of all requests.
fn near(got: usize, share: f64, requests: usize) -> bool {
    let deviation = (requests as f64 * share * (1.0 - share)).sqrt();
    (got as f64 - requests as f64 * share).abs() <= 6.0 * deviation + 1.0
}

fn weights(subject: &Subject) {
    let all = hosts(5, |n| if n == 4 { ", health_status: UNHEALTHY".into() } else { String::new() });
    let groups = [
        locality("locality: {zone: a}, load_balancing_weight: 1,", &all[..1]),
        locality("locality: {zone: b}, load_balancing_weight: 3,", &all[1..3]),
        // Half of its endpoints serve, 70 % of its weight counts.
        locality("locality: {zone: c}, load_balancing_weight: 10,", &all[3..]),
        locality("locality: {zone: d},", &hosts(1, |_| String::new())),
    ];
    let legacy =
        "common_lb_config: {locality_weighted_lb_config: {}, healthy_panic_threshold: {value: 0}}".to_owned();
    let kind = policy("round_robin.v3.RoundRobin, locality_lb_config: {locality_weighted_lb_config: {}}");
    let typed =
        format!("load_balancing_policy: {kind}\ncommon_lb_config: {{healthy_panic_threshold: {{value: 0}}}}");
    for fields in [legacy, typed] {
        let proxy = routed(subject, "", &cluster(&fields, &groups));
        let seen = counts(&mut proxy.client(), 220, 5, &[]);
        let want = [20, 30, 30, 140, 0];
        let fits = seen.iter().zip(want).all(|(got, want): (&usize, usize)| got.abs_diff(want) <= 2);
        assert!(fits, "{seen:?} for {fields}");
    }
}

/// The proxy is in zone `a`, together with one of two endpoints of its own cluster.
fn zoned(subject: &Subject, upstreams: &str, fields: &str, own: &[(&str, usize)]) -> Proxy {
    let one = |(zone, count): &(&str, usize)| {
        let list: Vec<String> = (0..*count)
            .map(|n| {
                format!(
                    "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}",
                    n + 1
                )
            })
            .collect();
        format!("{{locality: {{zone: {zone}}}, lb_endpoints: [{}]}}", list.join(", "))
    };
    let local: Vec<String> = own.iter().map(one).collect();
    let local = format!("load_assignment: {{cluster_name: own, endpoints: [{}]}}", local.join(", "));
    let bootstrap = Bootstrap::new()
        .http(Http::to("up"))
        .cluster("up", &[], &format!("{fields}\n{upstreams}"))
        .cluster("own", &[], &local)
        .top(
            "node: {id: me, cluster: mine, locality: {zone: a}}\ncluster_manager: {local_cluster_name: own}",
        );
    Proxy::start(subject, &bootstrap)
}

fn in_zones(hosts: &[Host], zones: &[(&str, std::ops::Range<usize>)]) -> String {
    let groups: Vec<String> = zones
        .iter()
        .map(|(zone, range)| locality(&format!("locality: {{zone: {zone}}},"), &hosts[range.clone()]))
        .collect();
    cluster("", &groups)
}

fn zones(subject: &Subject) {
    let all = hosts(8, |_| String::new());
    let stat = |proxy: &Proxy, name: &str| proxy.stat(&format!("cluster.up.lb_{name}")).unwrap_or(0);
    // As large a share of the endpoints as of the proxies: everything stays.
    let even = in_zones(&all, &[("b", 0..4), ("a", 4..8)]);
    let proxy = zoned(subject, &even, "", &[("a", 1), ("b", 1)]);
    assert_eq!(counts(&mut proxy.client(), 40, 8, &[])[4..].iter().sum::<usize>(), 40);
    assert_eq!(stat(&proxy, "zone_routing_all_directly"), 40);
    assert!(stat(&proxy, "recalculate_zone_structures") > 0);

    // A quarter of the endpoints for half of the proxies: half of the requests stay.
    let uneven = in_zones(&all, &[("a", 0..2), ("b", 2..8)]);
    let proxy = zoned(subject, &uneven, "", &[("a", 1), ("b", 1)]);
    let local: usize = counts(&mut proxy.client(), 400, 8, &[])[..2].iter().sum();
    assert!(near(local, 0.5, 400), "{local}");
    assert_eq!(stat(&proxy, "zone_routing_sampled"), local as u64);
    assert_eq!(stat(&proxy, "zone_routing_cross_zone"), 400 - local as u64);

    // Too few endpoints, no proxy in its own zone, and switched off.
    let proxy = zoned(
        subject,
        &even,
        "common_lb_config: {zone_aware_lb_config: {min_cluster_size: 9}}",
        &[("a", 1), ("b", 1)],
    );
    let local: usize = counts(&mut proxy.client(), 80, 8, &[])[4..].iter().sum();
    assert_eq!(local, 40);
    assert!(stat(&proxy, "zone_cluster_too_small") > 0);
    let proxy = zoned(subject, &even, "", &[("c", 1), ("b", 1)]);
    assert_eq!(counts(&mut proxy.client(), 80, 8, &[])[4..].iter().sum::<usize>(), 40);
    assert!(stat(&proxy, "local_cluster_not_ok") > 0);
    let proxy = zoned(
        subject,
        &even,
        "common_lb_config: {zone_aware_lb_config: {routing_enabled: {value: 0}}}",
        &[("a", 1), ("b", 1)],
    );
    assert_eq!(counts(&mut proxy.client(), 80, 8, &[])[4..].iter().sum::<usize>(), 40);
    assert_eq!(stat(&proxy, "zone_routing_all_directly"), 0);
}

fn forced_and_weighed_zones(subject: &Subject) {
    let zone = |fields: &str| {
        let kind = format!(
            "round_robin.v3.RoundRobin, locality_lb_config: {{zone_aware_lb_config: {{min_cluster_size: 1, {fields}}}}}"
        );
        format!("load_balancing_policy: {}", policy(&kind))
    };
    let all = hosts(8, |_| String::new());
    let uneven = in_zones(&all, &[("a", 0..2), ("b", 2..8)]);
    let local = |fields: &str, own: &[(&str, usize)], upstreams: &str| {
        let proxy = zoned(subject, upstreams, &zone(fields), own);
        counts(&mut proxy.client(), 400, 8, &[])[..2].iter().sum::<usize>()
    };
    let even: &[(&str, usize)] = &[("a", 1), ("b", 1)];
    // Everything stays while the zone has so many endpoints; else a quarter of them serve half of the proxies.
    for (fields, share) in [
        ("force_locality_direct_routing: true", 1.0),
        ("force_local_zone: {}", 1.0),
        ("force_local_zone: {min_size: 2}", 1.0),
        ("force_local_zone: {min_size: 3}", 0.5),
    ] {
        let got = local(fields, even, &uneven);
        assert!(near(got, share, 400), "{fields}: {got}");
    }
    // All proxies are in one zone: only force makes a difference.
    assert_eq!(local("force_local_zone: {min_size: 1}", &[("a", 2)], &uneven), 400);
    assert!(near(local("fail_traffic_on_panic: true", &[("a", 2)], &uneven), 0.25, 400));
    // Two of eight have half of the weight.
    let heavy = hosts(8, |n| format!(", load_balancing_weight: {}", if n < 2 { 3 } else { 1 }));
    let heavy = in_zones(&heavy, &[("a", 0..2), ("b", 2..8)]);
    assert!(near(local("locality_basis: HEALTHY_HOSTS_NUM", even, &heavy), 0.5, 400));
    assert_eq!(local("locality_basis: HEALTHY_HOSTS_WEIGHT", even, &heavy), 400);
}

fn degraded_and_weighted_priorities(subject: &Subject) {
    // One of two endpoints of the first level serves, with a quarter of the weight: 35 % instead of 70.
    let all = hosts(3, |n| match n {
        0 => ", load_balancing_weight: 1".into(),
        1 => ", load_balancing_weight: 3, health_status: UNHEALTHY".into(),
        _ => String::new(),
    });
    let groups = [locality("priority: 0,", &all[..2]), locality("priority: 1,", &all[2..])];
    for (fields, share) in [("", 0.70), (", policy: {weighted_priority_health: true}", 0.35)] {
        let text =
            cluster("lb_policy: RANDOM\ncommon_lb_config: {healthy_panic_threshold: {value: 0}}", &groups);
        let text =
            text.trim_end().strip_suffix('}').map(|head| format!("{head}{fields}}}\n")).expect("flow YAML");
        let proxy = routed(subject, "", &text);
        let seen = counts(&mut proxy.client(), 400, 3, &[]);
        assert!(near(seen[0], share, 400) && seen[1] == 0, "{seen:?} {fields}");
    }
}
