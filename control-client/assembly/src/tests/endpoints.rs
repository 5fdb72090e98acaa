//! EDS with many endpoints: what the shards are told, and when.

use std::sync::Arc;
use std::time::Duration;

use millrace_ads::ResourceType::{Cluster, Endpoint};
use millrace_config::Update;
use millrace_observe::stats::{ScopeKind, cluster as cluster_metric, cluster_manager};

use super::lab::*;

const SECOND: Duration = Duration::from_secs(1);

/// One endpoint of an assignment: port, weight, health.
type One = (u16, u32, &'static str);

fn many(ones: &[One]) -> String {
    let one = |(port, weight, health): &One| {
        format!(
            "{{ health_status: {health}, load_balancing_weight: {weight}, endpoint: {{ address: {{ \
             socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}"
        )
    };
    let endpoints: Vec<String> = ones.iter().map(one).collect();
    format!("{{ cluster_name: a, endpoints: [{{ lb_endpoints: [{}] }}] }}", endpoints.join(", "))
}

fn healthy(ports: impl IntoIterator<Item = u16>) -> Vec<One> {
    ports.into_iter().map(|port| (port, 1, "HEALTHY")).collect()
}

fn with(ones: &[One]) -> Lab {
    let mut lab = Lab::serving();
    lab.say(Cluster, &[eds_cluster("a")], &[]);
    lab.say(Endpoint, &[many(ones)], &[]);
    lab
}

/// What the shards get of the cluster; and the same as if the assignment had been read alone.
fn told(lab: &mut Lab, ones: &[One]) -> Vec<Arc<Update>> {
    let actions = lab.say(Endpoint, &[many(ones)], &[]);
    let found = published(&actions);
    if !found.is_empty() {
        let mut alone = with(ones);
        let shape = |lab: &mut Lab| -> Vec<_> {
            let cluster = lab.assembly.snapshot().cluster_by_name("a").unwrap();
            let endpoints = cluster.localities.iter().flat_map(|locality| &locality.endpoints);
            endpoints.map(|e| (e.address.to_string(), e.weight, e.health)).collect()
        };
        assert_eq!(shape(lab), shape(&mut alone));
    }
    found
}

#[test]
fn a_change_among_many_is_told_as_that_change() {
    let mut all = healthy(1..301);
    let mut lab = with(&all);
    let scopes = |lab: &Lab| -> std::collections::BTreeMap<String, _> {
        let cluster = lab.assembly.snapshot().cluster_by_name("a").unwrap();
        let endpoints = cluster.localities.iter().flat_map(|locality| &locality.endpoints);
        endpoints.map(|e| (e.address.to_string(), e.scope)).collect()
    };
    let before = scopes(&lab);
    all.remove(100);
    all.insert(7, (1000, 5, "DEGRADED"));
    all[200].1 = 9;
    let published = told(&mut lab, &all);
    let changes = &published[0].endpoints[0];
    let seen: Vec<_> = changes.splices.iter().map(|s| (s.at, s.removed, s.added)).collect();
    assert_eq!(seen, [(7, 0, 1), (101, 1, 0), (200, 1, 1)]);
    let after = scopes(&lab);
    assert!(after.iter().all(|(address, scope)| before.get(address).is_none_or(|old| old == scope)));
    assert!(!before.values().any(|scope| *scope == after["127.0.0.1:1000"]));
    // Another list altogether, and back.
    for ports in [2000..2300_u16, 1..301] {
        assert_eq!(told(&mut lab, &healthy(ports))[0].clusters.len(), 1);
    }
}

#[test]
fn what_is_wrong_with_a_changed_endpoint_is_said_with_its_place() {
    let all = healthy(1..301);
    let mut lab = with(&all);
    let bad = many(&all).replace("port_value: 250 ", "port_value: 70000 ");
    let actions = lab.say(Endpoint, &[bad], &[]);
    let reason = &verdicts(&actions)[0].rejected[0].reason;
    assert!(reason.contains("endpoints[0].lb_endpoints[249]"), "{reason}");
    // An address that is there already counts once.
    let mut twice = all.clone();
    twice[10] = (200, 1, "HEALTHY");
    lab.say(Endpoint, &[many(&twice)], &[]);
    let cluster = lab.assembly.snapshot().cluster_by_name("a").unwrap();
    assert_eq!(cluster.localities[0].endpoints.len(), 299);
    assert_eq!(cluster.localities[0].endpoints[10].address.to_string(), "127.0.0.1:200");
    // Weights that are too much together are refused, although each new one alone is not.
    let mut heavy = all.clone();
    (heavy[3].1, heavy[4].1) = (u32::MAX, 5);
    let actions = lab.say(Endpoint, &[many(&heavy)], &[]);
    assert!(verdicts(&actions)[0].rejected[0].reason.contains("sum of the weights"));
}

#[test]
fn changes_without_members_are_merged_and_members_come_at_once() {
    let mut all = healthy(1..4);
    let mut lab = with(&all);
    let manager = lab.registry.scope(ScopeKind::ClusterManager, "");
    let counts = |lab: &Lab| {
        [
            cluster_manager::CLUSTER_UPDATED,
            cluster_manager::UPDATE_OUT_OF_MERGE_WINDOW,
            cluster_manager::CLUSTER_UPDATED_VIA_MERGE,
            cluster_manager::UPDATE_MERGE_CANCELLED,
        ]
        .map(|counter| lab.registry.counter(manager, counter))
    };
    // The first one after a rest goes out at once, the next ones wait together.
    all[0].2 = "UNHEALTHY";
    assert_eq!(told(&mut lab, &all).len(), 1);
    assert_eq!(counts(&lab), [1, 1, 0, 0]);
    lab.after(SECOND / 2);
    all[1].2 = "UNHEALTHY";
    assert!(told(&mut lab, &all).is_empty());
    all[2].1 = 7;
    assert!(told(&mut lab, &all).is_empty());
    let actions = lab.after(SECOND);
    let update = &published(&actions)[0];
    assert_eq!(update.endpoints[0].splices.iter().map(|s| s.removed).sum::<u32>(), 2);
    assert_eq!(counts(&lab), [1, 1, 1, 0]);
    // Somebody leaves: that, and what waits, takes effect now.
    all[0].1 = 3;
    assert!(told(&mut lab, &all).is_empty());
    all.remove(2);
    assert_eq!(told(&mut lab, &all).len(), 1);
    assert_eq!(counts(&lab), [2, 1, 1, 1]);
    assert!(published(&lab.after(SECOND)).is_empty(), "nothing is left to tell");
}

#[test]
fn without_a_window_nothing_waits() {
    let mut lab = Lab::serving();
    let eager =
        eds_cluster("a").replace("type: EDS", "common_lb_config: { update_merge_window: 0s }, type: EDS");
    lab.say(Cluster, &[eager], &[]);
    for weight in 1..4 {
        let actions = lab.say(Endpoint, &[many(&[(1, weight, "HEALTHY")])], &[]);
        assert_eq!(published(&actions).len(), 1);
    }
}

/// Endpoints that shards have of the cluster.
fn ports(lab: &Lab) -> usize {
    let cluster = lab.assembly.snapshot().cluster_by_name("a").unwrap();
    cluster.localities.iter().map(|locality| locality.endpoints.len()).sum()
}

#[test]
fn endpoints_hold_for_as_long_as_their_assignment_says() {
    let mut lab = with(&healthy(1..3));
    let holds = |count: u16| {
        let all = many(&healthy(1..=count));
        all.replace("cluster_name: a,", "cluster_name: a, policy: { endpoint_stale_after: 10s },")
    };
    lab.after(SECOND * 100);
    assert_eq!(ports(&lab), 2, "without it they stay");
    lab.say(Endpoint, &[holds(3)], &[]);
    lab.after(SECOND * 9);
    lab.say(Endpoint, &[holds(4)], &[]);
    lab.after(SECOND * 9);
    assert_eq!(ports(&lab), 4);
    lab.after(SECOND);
    assert_eq!(ports(&lab), 0, "ten seconds since the last one");
    let stat = |lab: &Lab, name| lab.registry.counter(lab.registry.scope(ScopeKind::Cluster, "a"), name);
    assert_eq!(stat(&lab, cluster_metric::ASSIGNMENT_TIMEOUT_RECEIVED), 2);
    assert_eq!(stat(&lab, cluster_metric::ASSIGNMENT_STALE), 1);
    lab.again("a");
    assert_eq!(ports(&lab), 4, "told again without a change");
    lab.after(SECOND * 9);
    lab.again("a");
    lab.after(SECOND * 9);
    assert_eq!(ports(&lab), 4);
    lab.say(Endpoint, &[many(&healthy(1..6))], &[]);
    lab.after(SECOND * 100);
    assert_eq!(ports(&lab), 5, "the next one says nothing of it");
}
