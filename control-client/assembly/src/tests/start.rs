//! Start-up, in Envoy's order (`reference/meshes.md` 3.2).

use std::time::Duration;

use millrace_ads::ResourceType::{Cluster, Endpoint, Listener, Route, Runtime};

use super::lab::*;
use crate::{Action, Phase};

fn is(actions: &[Action], wanted: fn(&Action) -> bool) -> bool {
    actions.iter().any(wanted)
}

fn clusters_ready(actions: &[Action]) -> bool {
    is(actions, |action| matches!(action, Action::ClustersReady))
}

fn listeners_ready(actions: &[Action]) -> bool {
    is(actions, |action| matches!(action, Action::ListenersReady))
}

#[test]
fn clusters_then_endpoints_then_listeners_then_routes() {
    let mut lab = Lab::new();
    let actions = lab.start();
    assert_eq!(subscribed(&actions, Cluster), ["*"]);
    assert!(subscribed(&actions, Listener).is_empty(), "LDS waits for warm clusters");
    let actions = lab.say(Cluster, &[eds_cluster("a"), eds_cluster("b")], &[]);
    assert_eq!(subscribed(&actions, Endpoint), ["a", "b"]);
    assert_eq!(verdicts(&actions).len(), 1, "the first clusters are acknowledged at once");
    assert_eq!(lab.assembly.unready(), ["Cluster a", "Cluster b"]);
    let actions = lab.say(Endpoint, &[assignment("a", &[1])], &[]);
    assert_eq!((verdicts(&actions).len(), clusters_ready(&actions)), (1, false));
    let actions = lab.say(Endpoint, &[assignment("b", &[2])], &[]);
    assert_eq!(verdicts(&actions).len(), 1);
    assert!(clusters_ready(&actions) && !listeners_ready(&actions));
    assert_eq!(subscribed(&actions, Listener), ["*"]);
    let actions = lab.say(Listener, &[rds_listener("l", 80, "r")], &[]);
    assert_eq!(subscribed(&actions, Route), ["r"]);
    assert_eq!(verdicts(&actions).len(), 1, "a warming listener is acknowledged");
    assert!(!listeners_ready(&actions) && lab.host.log.is_empty());
    let actions = lab.say(Route, &[table("r", "a")], &[]);
    assert!(listeners_ready(&actions));
    assert_eq!(lab.host.log, ["bind l"]);
    assert_eq!(lab.assembly.phase(), Phase::Done);
    let published = published(&actions);
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].route_tables.len(), 1);
    let at = |wanted: fn(&Action) -> bool| actions.iter().position(wanted).unwrap();
    let publish = at(|action| matches!(action, Action::Publish(_)));
    assert!(publish < at(|action| matches!(action, Action::Listen(_))), "the table before the listener");
}

#[test]
fn what_never_comes_is_waited_for_fifteen_seconds() {
    let mut lab = Lab::new();
    lab.start();
    let actions = lab.after(Duration::from_millis(14_999));
    assert!(!clusters_ready(&actions));
    let actions = lab.after(Duration::from_millis(1));
    assert!(clusters_ready(&actions), "CDS was given up");
    assert_eq!(subscribed(&actions, Listener), ["*"]);
    let actions = lab.after(Duration::from_secs(15));
    assert!(listeners_ready(&actions));
    let scope = lab.registry.scope(millrace_observe::stats::ScopeKind::Cds, "");
    assert_eq!(lab.registry.counter(scope, millrace_observe::stats::cds::INIT_FETCH_TIMEOUT), 1);
}

#[test]
fn a_timeout_of_zero_waits_for_ever() {
    let patient =
        BOOTSTRAP.replace("cds_config: { ads: {},", "cds_config: { ads: {}, initial_fetch_timeout: 0s,");
    let mut lab = Lab::with(&patient);
    lab.start();
    let actions = lab.after(Duration::from_secs(1_000_000));
    assert!(!clusters_ready(&actions));
    assert_eq!(lab.assembly.unready(), ["CDS"]);
    let actions = lab.say(Cluster, &[], &[]);
    assert!(clusters_ready(&actions));
}

#[test]
fn a_refused_first_answer_is_an_answer() {
    let mut lab = Lab::new();
    lab.start();
    let actions = lab.say(Cluster, &["{ name: bad, type: EDS }".to_owned()], &[]);
    assert!(clusters_ready(&actions));
    assert_eq!(verdicts(&actions)[0].rejected.len(), 1);
}

#[test]
fn runtime_layers_come_before_clusters() {
    let layered = format!(
        "{BOOTSTRAP}
layered_runtime:
  layers:
  - name: dynamic
    rtds_layer: {{ name: dynamic, rtds_config: {{ ads: {{}}, resource_api_version: V3 }} }}
"
    );
    let mut lab = Lab::with(&layered);
    let actions = lab.start();
    assert_eq!(subscribed(&actions, Runtime), ["dynamic"]);
    assert!(subscribed(&actions, Cluster).is_empty());
    let actions = lab.say(Runtime, &["{ name: dynamic, layer: { a.b: 7 } }".to_owned()], &[]);
    assert_eq!(subscribed(&actions, Cluster), ["*"]);
    assert_eq!(lab.assembly.context().runtime.integer("a.b"), Some(7));
}
