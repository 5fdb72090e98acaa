//! CDS and EDS.

use std::sync::Arc;
use std::time::Duration;

use millrace_ads::ResourceType::{Cluster, Endpoint};
use millrace_observe::stats::{ScopeKind, cluster as metric, cluster_manager};

use super::lab::*;
use crate::Action;

#[test]
fn good_ones_serve_beside_bad_ones() {
    let mut lab = Lab::serving();
    let bad = "{ name: bad, connect_timeout: -1s }".to_owned();
    let actions = lab.say(Cluster, &[static_cluster("a", 1), bad.clone(), static_cluster("b", 2)], &[]);
    let verdict = &verdicts(&actions)[0];
    assert_eq!(verdict.rejected.len(), 1);
    assert_eq!(&*verdict.rejected[0].name, "bad");
    assert!(verdict.rejected[0].reason.contains("connect_timeout"), "{}", verdict.rejected[0].reason);
    let snapshot = lab.assembly.snapshot();
    assert!(snapshot.cluster_by_name("a").is_some() && snapshot.cluster_by_name("b").is_some());
    assert!(snapshot.cluster_by_name("bad").is_none());
    // The last good version stays when a worse one comes.
    lab.say(Cluster, &[bad.replace("bad", "a")], &[]);
    assert!(lab.assembly.snapshot().cluster_by_name("a").is_some());
    let entry = lab.assembly.dynamic_clusters().find(|entry| entry.name == "a").unwrap();
    assert!(entry.active.is_some());
    assert!(entry.failure.unwrap().details.contains("connect_timeout"));
}

#[test]
fn an_update_publishes_what_changed_only() {
    let mut lab = Lab::serving();
    lab.say(Cluster, &[static_cluster("a", 1), static_cluster("b", 2)], &[]);
    let before = lab.assembly.snapshot().cluster_by_name("b").unwrap().clone();
    let actions = lab.say(Cluster, &[static_cluster("a", 3)], &[]);
    let published = published(&actions);
    assert_eq!(published[0].clusters.len(), 1);
    assert!(published[0].cluster_names.is_none(), "no new name");
    assert!(Arc::ptr_eq(&before, lab.assembly.snapshot().cluster_by_name("b").unwrap()));
}

#[test]
fn a_changed_cluster_takes_the_endpoints_that_are_known() {
    let mut lab = Lab::serving();
    lab.say(Cluster, &[eds_cluster("a")], &[]);
    lab.say(Endpoint, &[assignment("a", &[1, 2])], &[]);
    let changed = eds_cluster("a").replace("1s", "2s");
    let actions = lab.say(Cluster, &[changed], &[]);
    assert_eq!(verdicts(&actions).len(), 1, "nothing to wait for");
    assert!(
        actions.iter().any(|action| matches!(action, Action::Refresh(_, Endpoint, name) if &**name == "a"))
    );
    let cluster = lab.assembly.snapshot().cluster_by_name("a").unwrap();
    assert_eq!(cluster.connect_timeout, Duration::from_secs(2));
    assert_eq!(cluster.localities[0].endpoints.len(), 2);
}

#[test]
fn endpoints_that_never_come_are_given_up() {
    let mut lab = Lab::serving();
    let actions = lab.say(Cluster, &[eds_cluster("a"), static_cluster("b", 1)], &[]);
    assert!(verdicts(&actions).is_empty());
    assert!(lab.assembly.snapshot().cluster_by_name("b").is_some(), "siblings do not wait");
    let actions = lab.after(Duration::from_secs(15));
    assert_eq!(verdicts(&actions).len(), 1);
    let cluster = lab.assembly.snapshot().cluster_by_name("a").unwrap();
    assert!(cluster.localities.is_empty());
    assert_eq!(lab.registry.counter(cluster.scope, metric::INIT_FETCH_TIMEOUT), 1);
    // They are welcome later.
    lab.say(Endpoint, &[assignment("a", &[7])], &[]);
    assert_eq!(lab.assembly.snapshot().cluster_by_name("a").unwrap().localities[0].endpoints.len(), 1);
}

#[test]
fn endpoints_keep_their_numbers() {
    let mut lab = Lab::serving();
    lab.say(Cluster, &[eds_cluster("a")], &[]);
    lab.say(Endpoint, &[assignment("a", &[1, 2])], &[]);
    let scopes = |lab: &Lab| -> Vec<_> {
        let cluster = lab.assembly.snapshot().cluster_by_name("a").unwrap();
        cluster.localities[0].endpoints.iter().map(|endpoint| endpoint.scope).collect()
    };
    let before = scopes(&lab);
    lab.say(Endpoint, &[assignment("a", &[2, 3])], &[]);
    let after = scopes(&lab);
    assert_eq!(after[0], before[1]);
    assert!(!before.contains(&after[1]));
    let cluster = lab.assembly.snapshot().cluster_by_name("a").unwrap().scope;
    assert_eq!(lab.registry.gauge(cluster, metric::MEMBERSHIP_TOTAL), 2);
    assert_eq!(lab.registry.counter(cluster, metric::MEMBERSHIP_CHANGE), 2, "the first ones count, too");
    // Long after, the scope of the endpoint that left is free for somebody else, unless a connection still counts in it.
    let mut shard = lab.registry.attach_shard("worker_0");
    shard.gauge_inc(before[0], millrace_observe::stats::host::CX_ACTIVE);
    lab.after(Duration::from_secs(601));
    assert_ne!(lab.registry.host_scope(), before[0]);
    shard.gauge_dec(before[0], millrace_observe::stats::host::CX_ACTIVE);
    lab.after(Duration::from_secs(601));
    shard.sweep();
    assert_eq!(lab.registry.host_scope(), before[0]);
}

#[test]
fn a_removed_cluster_settles_what_waited_for_it() {
    let mut lab = Lab::serving();
    lab.say(Cluster, &[eds_cluster("a")], &[]);
    let actions = lab.say(Cluster, &[], &["a"]);
    assert_eq!(verdicts(&actions).len(), 2);
    assert!(actions.iter().any(|action| matches!(action, Action::Unsubscribe(_, Endpoint, _))));
    let manager = lab.registry.scope(ScopeKind::ClusterManager, "");
    assert_eq!(lab.registry.gauge(manager, cluster_manager::WARMING_CLUSTERS), 0);
}

#[test]
fn clusters_of_the_bootstrap_stay() {
    let tls = "{name: tls, load_balancing_policy: {policies: [{typed_extension_config: {name: b, typed_config: {\"@type\": \
               type.googleapis.com/envoy.extensions.load_balancing_policies.load_aware_locality.v3.LoadAwareLocality, \
               endpoint_picking_policy: {policies: []}}}}]}, transport_socket: {name: t, typed_config: {\"@type\": \
               type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}}";
    let mut lab = Lab::with(&format!("{BOOTSTRAP}  - {}\n  - {tls}\n", static_cluster("own", 1)));
    lab.start();
    let sent = ["own", "xds", "tls"].map(|name| static_cluster(name, 9));
    let actions = lab.say(Cluster, &sent, &["own", "xds", "tls"]);
    assert!(verdicts(&actions)[0].rejected.is_empty());
    let snapshot = lab.assembly.snapshot();
    for name in ["own", "xds"] {
        let cluster = snapshot.cluster_by_name(name).unwrap();
        assert_eq!(cluster.localities[0].endpoints[0].address.to_string(), "127.0.0.1:1", "{name}");
    }
    assert!(snapshot.cluster_by_name("tls").is_none(), "it is the control client's");
}

#[test]
fn two_clusters_share_an_assignment() {
    let mut lab = Lab::serving();
    let shared = |name: &str| eds_cluster(name).replace("eds_config:", "service_name: s, eds_config:");
    let actions = lab.say(Cluster, &[shared("a"), shared("b")], &[]);
    assert_eq!(subscribed(&actions, Endpoint), ["s"]);
    let actions = lab.say(Endpoint, &[assignment("s", &[1])], &[]);
    assert_eq!(published(&actions)[0].clusters.len(), 2);
    let actions = lab.say(Cluster, &[], &["a"]);
    assert!(!actions.iter().any(|action| matches!(action, Action::Unsubscribe(..))));
    let actions = lab.say(Cluster, &[], &["b"]);
    assert!(actions.iter().any(|action| matches!(action, Action::Unsubscribe(..))));
}

#[test]
fn a_bad_assignment_leaves_the_good_one() {
    let mut lab = Lab::serving();
    lab.say(Cluster, &[eds_cluster("a"), eds_cluster("b")], &[]);
    lab.say(Endpoint, &[assignment("a", &[1]), assignment("b", &[2])], &[]);
    let bad = assignment("a", &[1]).replace("127.0.0.1", "nowhere");
    let actions = lab.say(Endpoint, &[bad, assignment("b", &[3])], &[]);
    let rejected = &verdicts(&actions)[0].rejected;
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].reason.contains("endpoints[0].lb_endpoints[0].endpoint.address"), "{rejected:?}");
    let address = |name: &str| {
        let cluster = lab.assembly.snapshot().cluster_by_name(name).unwrap();
        cluster.localities[0].endpoints[0].address.to_string()
    };
    assert_eq!((address("a"), address("b")), ("127.0.0.1:1".to_owned(), "127.0.0.1:3".to_owned()));
}

#[test]
fn what_was_replaced_is_freed_here_and_only_when_nobody_holds_it() {
    let mut lab = Lab::serving();
    lab.say(Cluster, &[static_cluster("a", 1)], &[]);
    // A shard that has not taken the update yet, and a request under way.
    let held = lab.assembly.snapshot().cluster_by_name("a").unwrap().clone();
    let freed = Arc::downgrade(&held);
    lab.say(Cluster, &[static_cluster("a", 2)], &[]);
    lab.after(Duration::from_secs(2));
    drop(held);
    assert!(freed.upgrade().is_some(), "the last one to let go is the control thread");
    lab.after(Duration::from_secs(2));
    assert!(freed.upgrade().is_none());
}
