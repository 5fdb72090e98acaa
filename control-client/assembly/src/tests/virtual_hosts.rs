//! VHDS.

use std::time::Duration;

use millrace_ads::ResourceType::{Listener, Route, VirtualHost};
use millrace_ads::{Interest, Rejected};
use millrace_observe::stats::{ScopeKind, vhds};

use super::lab::*;
use crate::Action;

/// A table with VHDS and the host `own` of its own.
fn open_table(fields: &str) -> String {
    format!(
        "{{ name: r, vhds: {{ config_source: {{ ads: {{}}, resource_api_version: V3 }} }}, {fields} \
         virtual_hosts: [{{ name: own, domains: [own] }}] }}"
    )
}

fn host(name: &str, domain: &str) -> String {
    format!(
        "{{ name: {name}, domains: ['{domain}'], routes: [{{ match: {{ prefix: / }}, \
         direct_response: {{ status: 200, body: {{ inline_string: abc }} }} }}] }}"
    )
}

/// Names of the virtual hosts by which these domains are served.
fn served(lab: &Lab, domains: &[&str]) -> Vec<String> {
    let table = lab.assembly.snapshot().route_tables[0].clone().unwrap();
    let name =
        |domain: &&str| table.virtual_host(domain.as_bytes()).map_or("-".into(), |h| h.name.to_string());
    domains.iter().map(name).collect()
}

/// A listener whose table `r` waits for its virtual hosts.
fn waiting() -> Lab {
    let mut lab = Lab::serving();
    lab.say(Listener, &[rds_listener("l", 80, "r")], &[]);
    let actions = lab.say(Route, &[open_table("")], &[]);
    assert_eq!(subscribed(&actions, VirtualHost), ["*"]);
    assert!(lab.host.log.is_empty(), "the listener waits");
    lab
}

fn unsubscribed(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Unsubscribe(_, VirtualHost, Interest::Wildcard)))
}

fn rejected(actions: &[Action]) -> Vec<Rejected> {
    verdicts(actions)[0].rejected.clone()
}

fn names(rejected: &[Rejected]) -> Vec<&str> {
    rejected.iter().map(|one| &*one.name).collect()
}

#[test]
fn hosts_join_their_table_and_the_listener_waits_for_them() {
    let mut lab = waiting();
    // What is said again of the table is not what it waits for.
    lab.say(Route, &[], &["r"]);
    assert!(lab.host.log.is_empty());
    let actions = lab.say(VirtualHost, &[host("r/a", "a"), host("r/b", "b")], &[]);
    assert!(rejected(&actions).is_empty());
    assert_eq!(lab.host.log, ["bind l"]);
    assert_eq!(served(&lab, &["own", "a", "b", "c"]), ["own", "r/a", "r/b", "-"]);
    lab.say(VirtualHost, &[host("r/b", "c")], &["r/a"]);
    assert_eq!(served(&lab, &["own", "a", "b", "c"]), ["own", "-", "-", "r/b"]);
    let actions = lab.say(VirtualHost, &[host("other/a", "d")], &["r/unknown"]);
    assert!(published(&actions).is_empty() && rejected(&actions).is_empty());
    let scope = lab.registry.scope(ScopeKind::Vhds, "s.rds.vhds.r");
    assert_eq!(lab.registry.counter(scope, vhds::CONFIG_RELOAD), 2);
    assert_eq!(lab.registry.counter(scope, vhds::UPDATE_SUCCESS), 3);
}

#[test]
fn no_hosts_are_an_answer_and_silence_is_given_up() {
    for said in [vec![], vec![host("other/a", "a")]] {
        let mut lab = waiting();
        lab.say(VirtualHost, &said, &[]);
        assert_eq!(lab.host.log, ["bind l"]);
    }
    let mut lab = waiting();
    lab.after(Duration::from_millis(14_999));
    assert!(lab.host.log.is_empty());
    lab.after(Duration::from_millis(1));
    assert_eq!(lab.host.log, ["bind l"]);
    let scope = lab.registry.scope(ScopeKind::Vhds, "s.rds.vhds.r");
    assert_eq!(lab.registry.counter(scope, vhds::INIT_FETCH_TIMEOUT), 1);
    lab.say(VirtualHost, &[host("r/a", "a")], &[]);
    assert_eq!(served(&lab, &["a"]), ["r/a"]);
}

#[test]
fn a_bad_host_is_refused_alone() {
    let mut lab = waiting();
    let bad = "{ name: r/bad, domains: [] }".to_owned();
    let actions = lab.say(VirtualHost, &[host("r/a", "a"), bad, host("r/c", "c")], &[]);
    assert_eq!(names(&rejected(&actions)), ["r/bad"]);
    assert_eq!(served(&lab, &["a", "c"]), ["r/a", "r/c"]);
    // The last good version stays.
    let actions = lab.say(VirtualHost, &[host("r/a", "own"), host("r/d", "d")], &[]);
    let refused = rejected(&actions);
    assert_eq!(names(&refused), ["r/a"]);
    assert!(refused[0].reason.contains("Duplicate entry of domain own in route r"), "{refused:?}");
    assert_eq!(served(&lab, &["own", "a", "d"]), ["own", "r/a", "r/d"]);
    // Domains may move within one response, in any order.
    let actions = lab.say(VirtualHost, &[host("r/a", "d"), host("r/d", "a")], &[]);
    assert!(rejected(&actions).is_empty());
    assert_eq!(served(&lab, &["a", "d"]), ["r/d", "r/a"]);
    // What two want goes to the first.
    let actions = lab.say(VirtualHost, &[host("r/x", "x"), host("r/y", "x"), host("r/c", "e")], &[]);
    assert_eq!(names(&rejected(&actions)), ["r/y"]);
    assert_eq!(served(&lab, &["x", "c", "e"]), ["r/x", "-", "r/c"]);
}

#[test]
fn hosts_stay_when_their_table_changes_and_go_with_it() {
    let mut lab = waiting();
    lab.say(VirtualHost, &[host("r/a", "a")], &[]);
    let actions = lab.say(Route, &[open_table("ignore_port_in_host_matching: true,")], &[]);
    assert!(subscribed(&actions, VirtualHost).is_empty());
    assert_eq!(served(&lab, &["own", "a"]), ["own", "r/a"]);
    // A table that cannot hold them is refused.
    for (fields, reason) in [
        ("max_direct_response_body_size_bytes: 1,", "virtual host 'r/a': routes[0]"),
        ("response_headers_to_add: [],", "domain a in route r"),
    ] {
        let bad = open_table(fields);
        let bad = if fields.starts_with("response") { bad.replace("[own]", "[a]") } else { bad };
        let refused = rejected(&lab.say(Route, &[bad], &[]));
        assert!(refused.len() == 1 && refused[0].reason.contains(reason), "{refused:?}");
        assert_eq!(served(&lab, &["own", "a"]), ["own", "r/a"]);
    }
    let actions = lab.say(Route, &[table("r", "c")], &[]);
    assert!(unsubscribed(&actions));
    assert_eq!(served(&lab, &["a"]), ["v"]);
}

#[test]
fn a_later_table_finds_its_hosts() {
    let mut lab = waiting();
    let bad = "{ name: m/bad, domains: [] }".to_owned();
    let actions = lab.say(VirtualHost, &[host("m/a", "a"), bad, host("m/own", "own"), host("r/a", "a")], &[]);
    assert!(rejected(&actions).is_empty(), "nobody asks for those of m");
    lab.say(Listener, &[rds_listener("m", 81, "m")], &[]);
    let actions = lab.say(Route, &[open_table("").replace("name: r", "name: m")], &[]);
    assert!(subscribed(&actions, VirtualHost).is_empty());
    assert_eq!(lab.host.log, ["bind l", "bind m"]);
    let logged =
        actions.iter().filter(|action| matches!(action, Action::Log(crate::Level::Warning, _))).count();
    assert_eq!(logged, 2, "the bad one, and the one that takes a domain of the table");
    let table = lab.assembly.snapshot().route_tables[1].clone().unwrap();
    let name = |domain: &str| table.virtual_host(domain.as_bytes()).map(|h| h.name.to_string());
    assert_eq!((name("a").as_deref(), name("own").as_deref()), (Some("m/a"), Some("own")));
}

#[test]
fn tables_of_one_name_share_their_hosts() {
    let own_stream = "config_source: { api_config_source: { api_type: DELTA_GRPC, \
         grpc_services: [{ envoy_grpc: { cluster_name: xds } }] } }";
    let mut lab = waiting();
    lab.say(VirtualHost, &[host("r/a", "a")], &[]);
    let other = rds_listener("m", 81, "r")
        .replace("config_source: { ads: {}, resource_api_version: V3 }", own_stream);
    let actions = lab.say(Listener, &[other], &[]);
    let source = actions.iter().find_map(|action| match action {
        Action::Subscribe(source, Route, _) => Some(*source),
        _ => None,
    });
    lab.say_from(source.unwrap(), Route, &[open_table("")], &[]);
    assert_eq!(lab.host.log, ["bind l", "bind m"], "the hosts are known already");
    let refused = rejected(&lab.say(VirtualHost, &[host("r/a", "own")], &[]));
    assert_eq!(names(&refused), ["r/a"]);
    lab.say(VirtualHost, &[host("r/a", "b")], &[]);
    for table in &lab.assembly.snapshot().route_tables {
        assert!(table.as_ref().unwrap().virtual_host(b"b").is_some());
    }
    lab.say(Listener, &[], &["m"]);
    let actions = lab.after(Duration::from_secs(600));
    assert!(!unsubscribed(&actions));
    lab.say(Listener, &[], &["l"]);
    let actions = lab.after(Duration::from_secs(600));
    assert!(unsubscribed(&actions));
}
