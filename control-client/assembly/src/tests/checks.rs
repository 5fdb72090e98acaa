//! Clusters whose endpoints are checked.

use millrace_ads::ResourceType::{Cluster, Endpoint};
use millrace_config::Address;

use super::lab::*;
use crate::{Action, Phase};

const CHECKS: &str = "health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, \
                      tcp_health_check: {}}]";

fn checked(cluster: &str) -> String {
    cluster.replace("connect_timeout: 1s", &format!("connect_timeout: 1s, {CHECKS}"))
}

fn endpoints(lab: &Lab, name: &str) -> Vec<(u16, bool)> {
    let cluster = lab.assembly.snapshot().cluster_by_name(name);
    let all = cluster.iter().flat_map(|cluster| &cluster.localities).flat_map(|locality| &locality.endpoints);
    let port = |address: &Address| match address {
        Address::Inet(inet) => inet.port(),
        Address::Pipe { .. } => 0,
    };
    all.map(|endpoint| (port(&endpoint.address), endpoint.leaving)).collect()
}

#[test]
fn a_cluster_warms_until_its_endpoints_were_checked() {
    let mut lab = Lab::serving();
    lab.host.unchecked = true;
    let actions = lab.say(Cluster, &[checked(&static_cluster("a", 1)), static_cluster("b", 2)], &[]);
    assert!(verdicts(&actions).is_empty(), "acknowledged when it is warm");
    let published = published(&actions);
    assert_eq!((published[0].clusters.len(), published[0].warming.len()), (1, 1));
    assert!(lab.assembly.snapshot().cluster_by_name("a").is_none());
    let id = published[0].warming[0].id;
    assert!(lab.work(|assembly, turn| assembly.health_changed(turn, id)).is_empty(), "not yet");
    lab.host.unchecked = false;
    let actions = lab.work(|assembly, turn| assembly.health_changed(turn, id));
    assert_eq!(verdicts(&actions).len(), 1);
    assert_eq!(endpoints(&lab, "a").len(), 1);
    // What was checked already serves at once.
    let changed = checked(&static_cluster("a", 1)).replace("connect_timeout: 1s", "connect_timeout: 2s");
    assert_eq!(verdicts(&lab.say(Cluster, &[changed], &[])).len(), 1);
}

#[test]
fn a_cluster_that_goes_while_it_warms_is_checked_no_more() {
    let mut lab = Lab::serving();
    lab.host.unchecked = true;
    let actions = lab.say(Cluster, &[checked(&static_cluster("a", 1))], &[]);
    let id = published(&actions)[0].warming[0].id;
    let actions = lab.say(Cluster, &[], &["a"]);
    assert!(published(&actions)[0].clusters.iter().any(|(gone, cluster)| *gone == id && cluster.is_none()));
}

#[test]
fn endpoints_that_pass_stay_until_they_fail() {
    let mut lab = Lab::serving();
    lab.say(Cluster, &[checked(&eds_cluster("a"))], &[]);
    lab.say(Endpoint, &[assignment("a", &[1, 2, 3])], &[]);
    lab.host.passing = vec![1, 2];
    lab.say(Endpoint, &[assignment("a", &[1])], &[]);
    assert_eq!(endpoints(&lab, "a"), [(1, false), (2, true)], "3 failed already");
    // The next assignment counts from what it says itself.
    lab.say(Endpoint, &[assignment("a", &[4])], &[]);
    assert_eq!(endpoints(&lab, "a"), [(4, false), (1, true), (2, true)]);
    lab.say(Endpoint, &[assignment("a", &[2, 4])], &[]);
    assert_eq!(endpoints(&lab, "a"), [(2, false), (4, false), (1, true)]);
    lab.host.passing = vec![2];
    let id = lab.assembly.snapshot().cluster_by_name("a").map(|cluster| cluster.id).unwrap();
    let actions = lab.work(|assembly, turn| assembly.health_changed(turn, id));
    assert!(matches!(&actions[0], Action::Publish(_)));
    assert_eq!(endpoints(&lab, "a"), [(2, false), (4, false)]);
    let ignored = checked(&eds_cluster("a"))
        .replace("connect_timeout", "ignore_health_on_host_removal: true, connect_timeout");
    lab.say(Cluster, &[ignored], &[]);
    lab.say(Endpoint, &[assignment("a", &[4])], &[]);
    assert_eq!(endpoints(&lab, "a"), [(4, false)]);
}

#[test]
fn start_up_waits_for_the_checks_of_the_bootstrap() {
    let bootstrap = format!("{BOOTSTRAP}  - {}\n", checked(&static_cluster("a", 1)));
    let mut lab = Lab::with(&bootstrap);
    lab.host.unchecked = true;
    lab.work(crate::Assembly::start);
    assert_eq!(lab.assembly.phase(), Phase::Primary);
    assert_eq!(lab.assembly.unready(), ["Cluster a"]);
    lab.host.unchecked = false;
    let id = lab.assembly.snapshot().cluster_by_name("a").map(|cluster| cluster.id).unwrap();
    lab.work(|assembly, turn| assembly.health_changed(turn, id));
    assert!(lab.assembly.phase() > Phase::Primary);
}
