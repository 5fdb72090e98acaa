//! SRDS.

use std::time::Duration;

use millrace_ads::ResourceType::{Listener, Route, ScopedRoute};
use millrace_config::ScopeRoutes;
use millrace_observe::stats::{ScopeKind, scoped_rds};

use super::lab::*;
use crate::Action;

const ADS: &str = "{ ads: {}, resource_api_version: V3 }";

fn scoped_listener(name: &str, port: u16, scopes: &str) -> String {
    let scoped = format!(
        "scoped_routes: {{ name: {scopes}, rds_config_source: {ADS}, scoped_rds: {{ scoped_rds_config_source: {ADS} }}, \
         scope_key_builder: {{ fragments: [{{ header_value_extractor: {{ name: x, index: 0 }} }}] }} }}"
    );
    listener(name, port, &chain("", &scoped))
}

fn scope(name: &str, key: &str, table: &str) -> String {
    format!(
        "{{ name: {name}, key: {{ fragments: [{{ string_key: '{key}' }}] }}, route_configuration_name: {table} }}"
    )
}

/// `<scope>:<table>` for each key.
fn served(lab: &Lab, at: usize, keys: &[&str]) -> Vec<String> {
    let snapshot = lab.assembly.snapshot();
    let scopes = snapshot.scope_tables[at].clone().unwrap();
    let one = |key: &&str| {
        let Some(found) = scopes.find(std::iter::once(Some(key.as_bytes()))) else { return "-".to_owned() };
        let scope = &scopes.scopes()[found];
        let table = match &scope.routes {
            ScopeRoutes::Rds(id) => {
                snapshot.route_table(*id).map_or("none".into(), |table| table.name.to_string())
            }
            ScopeRoutes::Inline(table) => table.name.to_string(),
        };
        format!("{}:{table}", scope.name)
    };
    keys.iter().map(one).collect()
}

fn rejected(actions: &[Action]) -> Vec<String> {
    verdicts(actions)[0].rejected.iter().map(|one| format!("{}: {}", one.name, one.reason)).collect()
}

fn unsubscribed(actions: &[Action], ty: millrace_ads::ResourceType) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Unsubscribe(_, of, _) if *of == ty)).count()
}

/// A listener with the scopes a and b, whose tables are t and u.
fn ready() -> Lab {
    let mut lab = Lab::serving();
    let actions = lab.say(Listener, &[scoped_listener("l", 80, "s")], &[]);
    assert_eq!(subscribed(&actions, ScopedRoute), ["*"]);
    let actions = lab.say(ScopedRoute, &[scope("a", "1", "t"), scope("b", "2", "u")], &[]);
    assert_eq!(subscribed(&actions, Route), ["t", "u"]);
    lab.say(Route, &[table("t", "c")], &[]);
    assert!(lab.host.log.is_empty(), "the other table is still to come");
    lab.say(Route, &[table("u", "c")], &[]);
    assert_eq!(lab.host.log, ["bind l"]);
    lab
}

#[test]
fn a_listener_waits_for_its_scopes_and_their_tables() {
    let lab = ready();
    assert_eq!(served(&lab, 0, &["1", "2", "3"]), ["a:t", "b:u", "-"]);
    let counters = lab.registry.scope(ScopeKind::ScopedRds, "s.scoped_rds.s");
    assert_eq!(lab.registry.counter(counters, scoped_rds::UPDATE_SUCCESS), 1);
    let mut lab = Lab::serving();
    lab.say(Listener, &[scoped_listener("l", 80, "s")], &[]);
    lab.say(ScopedRoute, &[], &[]);
    assert_eq!(lab.host.log, ["bind l"], "no scopes are an answer");
    assert_eq!(served(&lab, 0, &["1"]), ["-"]);
}

#[test]
fn what_never_comes_is_given_up() {
    let mut lab = Lab::serving();
    lab.say(Listener, &[scoped_listener("l", 80, "s")], &[]);
    lab.after(Duration::from_secs(15));
    assert_eq!(lab.host.log, ["bind l"]);
    let counters = lab.registry.scope(ScopeKind::ScopedRds, "s.scoped_rds.s");
    assert_eq!(lab.registry.counter(counters, scoped_rds::INIT_FETCH_TIMEOUT), 1);
    let mut lab = Lab::serving();
    lab.say(Listener, &[scoped_listener("l", 80, "s")], &[]);
    lab.say(ScopedRoute, &[scope("a", "1", "t")], &[]);
    assert!(lab.host.log.is_empty());
    lab.after(Duration::from_secs(15));
    assert_eq!(
        (&lab.host.log[..], served(&lab, 0, &["1"])),
        (&["bind l".to_owned()][..], vec!["a:none".into()])
    );
}

#[test]
fn tables_follow_their_scopes() {
    let mut lab = ready();
    let actions = lab.say(ScopedRoute, &[scope("b", "2", "t")], &[]);
    assert!(subscribed(&actions, Route).is_empty());
    assert_eq!(served(&lab, 0, &["1", "2"]), ["a:t", "b:t"]);
    assert_eq!(unsubscribed(&lab.after(Duration::from_secs(600)), Route), 1, "u");
    lab.say(ScopedRoute, &[], &["a"]);
    assert_eq!(served(&lab, 0, &["1", "2"]), ["-", "b:t"]);
    assert_eq!(unsubscribed(&lab.after(Duration::from_secs(600)), Route), 0, "b has it still");
    lab.say(Listener, &[], &["l"]);
    let actions = lab.after(Duration::from_secs(600));
    assert_eq!((unsubscribed(&actions, ScopedRoute), unsubscribed(&actions, Route)), (1, 0));
    assert!(lab.assembly.snapshot().scope_tables[0].is_none());
    assert_eq!(unsubscribed(&lab.after(Duration::from_secs(600)), Route), 1);
}

#[test]
fn a_bad_scope_is_refused_alone() {
    let mut lab = ready();
    let bad = "{ name: bad, key: { fragments: [] }, route_configuration_name: t }".to_owned();
    let refused = rejected(&lab.say(ScopedRoute, &[bad, scope("c", "3", "t")], &[]));
    assert!(refused.len() == 1 && refused[0].starts_with("bad: key.fragments"), "{refused:?}");
    let refused = rejected(&lab.say(ScopedRoute, &[scope("d", "1", "t"), scope("e", "5", "t")], &[]));
    let conflict = "d: scope key conflict found, first scope is 'a', second scope is 'd'";
    assert_eq!(refused, [conflict]);
    assert_eq!(served(&lab, 0, &["1", "3", "5"]), ["a:t", "c:t", "e:t"]);
    // Keys may move within one response, in any order.
    let refused = rejected(&lab.say(ScopedRoute, &[scope("a", "2", "t"), scope("b", "1", "u")], &[]));
    assert!(refused.is_empty());
    assert_eq!(served(&lab, 0, &["1", "2"]), ["b:u", "a:t"]);
}

#[test]
fn connection_managers_share_their_scopes() {
    let mut lab = ready();
    let actions = lab.say(Listener, &[scoped_listener("m", 81, "other")], &[]);
    assert!(subscribed(&actions, ScopedRoute).is_empty() && subscribed(&actions, Route).is_empty());
    assert_eq!(lab.host.log, ["bind l", "bind m"], "everything is known already");
    assert_eq!(served(&lab, 1, &["1", "2"]), ["a:t", "b:u"]);
    lab.say(ScopedRoute, &[scope("a", "7", "t")], &["b"]);
    for at in 0..2 {
        assert_eq!(served(&lab, at, &["1", "2", "7"]), ["-", "-", "a:t"]);
    }
    lab.say(Listener, &[], &["l"]);
    assert_eq!(unsubscribed(&lab.after(Duration::from_secs(600)), ScopedRoute), 0);
    assert_eq!(served(&lab, 1, &["7"]), ["a:t"]);
}
