//! LDS and RDS.

use std::sync::Arc;
use std::time::Duration;

use millrace_ads::ResourceType::{Cluster, Listener, Route};
use millrace_config::ListenerChange;

use super::lab::*;
use crate::Action;

const DIRECT: &str = "route_config: { name: i, virtual_hosts: [{ name: v, domains: ['*'], routes: [\
     { match: { prefix: / }, direct_response: { status: 200 } }] }] }";

fn bound(lab: &mut Lab) -> Vec<String> {
    std::mem::take(&mut lab.host.log)
}

#[test]
fn an_old_version_serves_while_the_new_one_warms() {
    let mut lab = Lab::serving();
    lab.say(Listener, &[rds_listener("l", 80, "r1")], &[]);
    lab.say(Route, &[table("r1", "a")], &[]);
    assert_eq!(bound(&mut lab), ["bind l"]);
    let old = lab.assembly.snapshot().listeners[0].clone();
    let actions = lab.say(Listener, &[rds_listener("l", 80, "r2")], &[]);
    assert_eq!(subscribed(&actions, Route), ["r2"]);
    assert!(published(&actions).is_empty());
    assert!(Arc::ptr_eq(&old, &lab.assembly.snapshot().listeners[0]));
    let actions = lab.say(Route, &[table("r2", "a")], &[]);
    assert_eq!(bound(&mut lab), ["replace l"]);
    assert!(
        matches!(&published(&actions)[0].listeners[..], [ListenerChange::Replace(new, _)] if !Arc::ptr_eq(new, &old))
    );
    // The old table outlives its connections' drain.
    let actions = lab.after(Duration::from_secs(599));
    assert!(actions.is_empty());
    let actions = lab.after(Duration::from_secs(1));
    assert!(actions.iter().any(|action| matches!(action, Action::Unsubscribe(_, Route, _))));
    assert_eq!(published(&actions)[0].route_tables.len(), 1);
}

#[test]
fn unchanged_filter_chains_stay_the_same_object() {
    let mut lab = Lab::serving();
    let (one, two) = (chain("{ destination_port: 1 }", DIRECT), chain("{ destination_port: 2 }", DIRECT));
    lab.say(Listener, &[listener("l", 80, &format!("{one}, {two}"))], &[]);
    let old = lab.assembly.snapshot().listeners[0].clone();
    let changed = two.replace("status: 200", "status: 201");
    lab.say(Listener, &[listener("l", 80, &format!("{one}, {changed}"))], &[]);
    let new = &lab.assembly.snapshot().listeners[0];
    assert!(Arc::ptr_eq(&old.filter_chains[0], &new.filter_chains[0]));
    assert!(!Arc::ptr_eq(&old.filter_chains[1], &new.filter_chains[1]));
}

#[test]
fn an_address_belongs_to_one_listener() {
    let mut lab = Lab::serving();
    let on = |name: &str, port| listener(name, port, &chain("", DIRECT));
    lab.say(Listener, &[on("a", 80)], &[]);
    let actions = lab.say(Listener, &[on("b", 80), on("c", 81)], &[]);
    let rejected = &verdicts(&actions)[0].rejected;
    assert_eq!((rejected.len(), &*rejected[0].name), (1, "b"));
    assert!(rejected[0].reason.contains("duplicate address '127.0.0.1:80'"), "{rejected:?}");
    // Within one update it can move.
    let actions = lab.say(Listener, &[on("b", 80)], &["a"]);
    assert!(verdicts(&actions)[0].rejected.is_empty());
    let names: Vec<_> = lab.assembly.snapshot().listeners.iter().map(|l| l.name.to_string()).collect();
    assert_eq!(names, ["c", "b"]);
}

#[test]
fn a_port_in_use_is_the_verdict() {
    let mut lab = Lab::serving();
    lab.host.taken.push(80);
    let on = |name: &str, port| listener(name, port, &chain("", DIRECT));
    let actions = lab.say(Listener, &[on("a", 80), on("b", 81)], &[]);
    let rejected = &verdicts(&actions)[0].rejected;
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].reason.contains("already in use"));
    assert_eq!(lab.assembly.snapshot().listeners.len(), 1);
}

#[test]
fn a_listener_can_change_its_address() {
    let mut lab = Lab::serving();
    let on = |port| listener("a", port, &chain("", DIRECT));
    lab.say(Listener, &[on(80)], &[]);
    bound(&mut lab);
    let actions = lab.say(Listener, &[on(81)], &[]);
    assert_eq!(bound(&mut lab), ["bind a", "unbind a"]);
    assert!(matches!(&published(&actions)[0].listeners[..], [ListenerChange::Remove(..)]));
    assert!(actions.iter().any(|action| matches!(action, Action::Listen(_))));
    assert_eq!(lab.assembly.snapshot().listeners.len(), 1);
}

#[test]
fn inline_tables_must_name_clusters_that_exist() {
    let mut lab = Lab::serving();
    let inline = "route_config: { name: i, virtual_hosts: [{ name: v, domains: ['*'], routes: [\
         { match: { prefix: / }, route: { cluster: a } }] }] }";
    let on = listener("l", 80, &chain("", inline));
    let actions = lab.say(Listener, std::slice::from_ref(&on), &[]);
    assert!(verdicts(&actions)[0].rejected[0].reason.contains("unknown cluster 'a'"));
    lab.say(Cluster, &[static_cluster("a", 1)], &[]);
    let actions = lab.say(Listener, &[on], &[]);
    assert!(verdicts(&actions)[0].rejected.is_empty());
}

#[test]
fn a_removed_listener_that_warms_lets_go_of_its_table() {
    let mut lab = Lab::serving();
    lab.say(Listener, &[rds_listener("l", 80, "r")], &[]);
    lab.say(Listener, &[], &["l"]);
    let actions = lab.after(Duration::ZERO);
    assert!(actions.iter().any(|action| matches!(action, Action::Unsubscribe(_, Route, _))));
    assert!(lab.host.log.is_empty());
}

#[test]
fn a_bad_table_leaves_the_good_one_and_a_missing_one_is_given_up() {
    let mut lab = Lab::serving();
    lab.say(Listener, &[rds_listener("l", 80, "r")], &[]);
    let actions = lab.after(Duration::from_secs(15));
    assert!(actions.iter().any(|action| matches!(action, Action::Listen(_))), "404 is better than nothing");
    lab.say(Route, &[table("r", "a")], &[]);
    let good = lab.assembly.snapshot().route_tables[0].clone().unwrap();
    let actions = lab.say(Route, &["{ name: r, virtual_hosts: [{ name: v }] }".to_owned()], &[]);
    let rejected = &verdicts(&actions)[0].rejected;
    assert!(rejected[0].reason.contains("virtual_hosts[0].domains"), "{rejected:?}");
    assert!(Arc::ptr_eq(&good, lab.assembly.snapshot().route_tables[0].as_ref().unwrap()));
}
