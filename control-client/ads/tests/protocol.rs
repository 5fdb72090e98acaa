//! The rules that no recording of Envoy shows: withheld verdicts, wildcards, back-off, failover, rate limits, times to
//! live.

mod helpers;

use std::time::Duration;

use helpers::{Lab, any, delta, name, names, options, reject, resource, sotw, wrapped};
use millrace_ads::limits::{NACK_INTERVAL, NACKS_AT_ONCE, UNANSWERED_MAX};
use millrace_ads::source::Variant;
use millrace_ads::{ConnectedState, Input, Interest, Request, ResourceType, UpdateId, Verdict};
use millrace_base::Time;

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoint;
const LDS: ResourceType = ResourceType::Listener;

fn clusters(variant: Variant) -> Lab {
    let mut lab = Lab::connected(variant, &[(CDS, Interest::Wildcard)]);
    lab.sent.clear();
    lab
}

#[test]
fn only_the_newest_state_of_the_world_is_answered() {
    let mut lab = clusters(Variant::Sotw);
    let first = lab.respond(sotw(CDS, "n1", "1", vec![any(CDS, "a", "x")]));
    let second = lab.respond(sotw(CDS, "n2", "2", vec![any(CDS, "a", "x"), any(CDS, "b", "x")]));
    assert_eq!(names(&second), [vec!["b"], vec![], vec!["a"], vec![]], "a was handed out already");
    lab.accept(&second);
    assert!(lab.sent.is_empty(), "the first has no verdict");
    lab.accept(&first);
    let ack = lab.sotw();
    assert_eq!((&*ack.response_nonce, &*ack.version_info, ack.error_detail), ("n2", "2", None));
}

#[test]
fn a_verdict_counts_for_later_responses_with_the_same_body() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut lab = clusters(variant);
        let response = |nonce: &str, version: &str| match variant {
            Variant::Sotw => sotw(CDS, nonce, version, vec![any(CDS, "a", "x")]),
            Variant::Delta => delta(CDS, nonce, version, vec![resource(CDS, "a", "1", Some("x"), 0)], &[]),
        };
        let first = lab.respond(response("n1", "1"));
        let second = lab.respond(response("n2", "2"));
        lab.accept(&second);
        lab.verdict(&first, reject("a", "no good"));
        let last = match lab.sent.pop() {
            Some(Request::Sotw(it)) => it.error_detail,
            Some(Request::Delta(it)) => it.error_detail,
            None => None,
        };
        assert_eq!(last.map(|s| s.message).as_deref(), Some("Error adding/updating cluster(s) a: no good"));
        let third = lab.respond(response("n3", "3"));
        assert_eq!(names(&third)[0], ["a"], "a rejected body is tried again");
    }
}

#[test]
fn a_nack_outlives_its_nonce_where_the_next_response_says_nothing_about_it() {
    let mut lab = Lab::connected(Variant::Sotw, &[(EDS, name("a")), (EDS, name("b"))]);
    lab.sent.clear();
    let first = lab.respond(sotw(EDS, "n1", "1", vec![any(EDS, "a", "x")]));
    let second = lab.respond(sotw(EDS, "n2", "2", vec![any(EDS, "b", "x")]));
    lab.verdict(&first, reject("a", "no"));
    lab.accept(&second);
    let nack = lab.sotw();
    assert_eq!(nack.response_nonce, "n2");
    assert!(nack.error_detail.is_some_and(|status| status.message.contains("a: no")));
}

#[test]
fn names_wait_for_the_verdict_in_sotw_and_never_in_delta() {
    let mut lab = Lab::connected(Variant::Sotw, &[(EDS, name("a"))]);
    lab.sent.clear();
    let update = lab.respond(sotw(EDS, "n1", "1", vec![any(EDS, "a", "x")]));
    lab.client.subscribe(EDS, name("b"));
    lab.run();
    assert!(lab.sent.is_empty());
    lab.accept(&update);
    let ack = lab.sotw();
    assert_eq!((&*ack.response_nonce, ack.resource_names), ("n1", vec!["a".to_owned(), "b".to_owned()]));

    let mut lab = Lab::connected(Variant::Delta, &[(EDS, name("a"))]);
    lab.sent.clear();
    let update = lab.respond(delta(EDS, "n1", "1", vec![resource(EDS, "a", "1", Some("x"), 0)], &[]));
    lab.client.subscribe(EDS, name("b"));
    lab.client.unsubscribe(EDS, &name("a"));
    lab.run();
    let change = lab.delta();
    assert_eq!((&*change.response_nonce, &change.resource_names_subscribe[..]), ("", &["b".to_owned()][..]));
    assert_eq!(change.resource_names_unsubscribe, ["a"]);
    lab.accept(&update);
    assert_eq!(lab.delta().response_nonce, "n1");
}

#[test]
fn a_verdict_after_the_stream_is_lost_is_not_sent_but_counts() {
    let mut lab = clusters(Variant::Delta);
    let added = |version: &str| vec![resource(CDS, "a", version, Some(version), 0)];
    let update = lab.respond(delta(CDS, "n1", "1", added("a1"), &[]));
    lab.input(Input::Disconnected);
    lab.accept(&update);
    lab.wait();
    lab.input(Input::Connected);
    let first = lab.delta();
    assert!(first.resource_names_subscribe.is_empty() && first.node.is_some());
    assert_eq!(first.initial_resource_versions["a"], "a1");
    let update = lab.respond(delta(CDS, "n1", "2", added("a2"), &[]));
    lab.verdict(&update, reject("a", "no"));
    lab.sent.clear();
    lab.reconnect();
    assert_eq!(lab.delta().initial_resource_versions["a"], "a1", "what is in force, not what was refused");
}

#[test]
fn the_wildcard_is_explicit_beside_names() {
    let mut lab = Lab::connected(Variant::Delta, &[(CDS, Interest::Wildcard)]);
    assert!(lab.delta().resource_names_subscribe.is_empty());
    lab.client.subscribe(CDS, name("x"));
    lab.run();
    assert_eq!(lab.delta().resource_names_subscribe, ["*", "x"]);
    lab.client.unsubscribe(CDS, &Interest::Wildcard);
    lab.run();
    assert_eq!(lab.delta().resource_names_unsubscribe, ["*"]);
    lab.reconnect();
    assert_eq!(lab.delta().resource_names_subscribe, ["x"]);
}

#[test]
fn the_last_name_gone_is_an_empty_list_and_unwanted_responses_are_acknowledged() {
    let mut lab = Lab::connected(Variant::Sotw, &[(EDS, name("a"))]);
    lab.sent.clear();
    lab.client.unsubscribe(EDS, &name("a"));
    lab.run();
    assert!(lab.sotw().resource_names.is_empty());
    lab.input(Input::Response(sotw(EDS, "n1", "1", vec![any(EDS, "a", "x")])));
    assert_eq!((lab.sotw().response_nonce, lab.updates.len()), ("n1".to_owned(), 0));
    lab.input(Input::Disconnected);
    assert_eq!(lab.client.deadline(), None, "nothing to connect for");
}

#[test]
fn first_requests_follow_the_order_in_which_control_planes_push() {
    let all = [(LDS, Interest::Wildcard), (EDS, name("a")), (CDS, Interest::Wildcard)];
    let lab = Lab::connected(Variant::Sotw, &all);
    let urls: Vec<_> = lab
        .sent
        .iter()
        .map(|request| match request {
            Request::Sotw(it) => it.type_url.clone(),
            Request::Delta(it) => it.type_url.clone(),
        })
        .collect();
    assert_eq!(urls, [CDS.type_url(), EDS.type_url(), LDS.type_url()]);
}

#[test]
fn the_node_is_in_every_request_without_the_option() {
    let mut options = options(Variant::Sotw);
    options.node_on_first_message_only = false;
    let mut lab = Lab::new(options);
    lab.client.subscribe(CDS, Interest::Wildcard);
    lab.run();
    lab.input(Input::Connected);
    let update = lab.respond(sotw(CDS, "n1", "1", Vec::new()));
    lab.accept(&update);
    assert!(lab.sent.iter().all(|request| matches!(request, Request::Sotw(it) if it.node.is_some())));
    assert_eq!(lab.sent.len(), 2);
}

#[test]
fn attempts_back_off_and_fail_over() {
    let mut options = options(Variant::Delta);
    options.services = 2;
    let mut lab = Lab::new(options);
    lab.run();
    assert!(lab.connects.is_empty(), "nothing is wanted yet");
    lab.client.subscribe(CDS, Interest::Wildcard);
    lab.run();
    let mut waits = Vec::new();
    for _ in 0..5 {
        let before = lab.now;
        lab.input(Input::Disconnected);
        lab.wait();
        waits.push(lab.now - before);
    }
    assert_eq!(lab.connects, [0, 0, 1, 0, 1, 0]);
    assert!(
        waits.iter().zip(0..).all(|(wait, n)| *wait < Duration::from_millis(500) * (1 << n)),
        "{waits:?}"
    );
    lab.input(Input::Disconnected);
    lab.wait();
    lab.input(Input::Connected);
    assert_eq!(lab.states, [ConnectedState::Failover]);
    let _ = lab.respond(delta(CDS, "n1", "1", Vec::new(), &[]));
    let before = lab.now;
    lab.reconnect();
    lab.reconnect();
    assert!(lab.now - before < Duration::from_millis(1500), "a response resets the back-off");
    assert_eq!(lab.connects[6..], [1, 0, 1], "a failover that has answered is not kept");
    assert_eq!(lab.states[1..3], [ConnectedState::None, ConnectedState::Primary]);
    lab.reconnect();
    let _ = lab.respond(delta(CDS, "n2", "2", Vec::new(), &[]));
    lab.reconnect();
    lab.reconnect();
    assert_eq!(lab.connects[9..], [0, 0, 0], "a primary that has answered is");
    assert_eq!(ConnectedState::Primary as u32, 1);
}

#[test]
fn versions_are_named_to_the_control_plane_that_gave_them() {
    let mut options = options(Variant::Delta);
    options.services = 2;
    let mut lab = Lab::new(options);
    lab.client.subscribe(CDS, Interest::Wildcard);
    lab.run();
    lab.input(Input::Disconnected);
    lab.wait();
    lab.reconnect();
    assert_eq!(lab.connects, [0, 0, 1]);
    lab.sent.clear();
    let update = lab.respond(delta(CDS, "n1", "1", vec![resource(CDS, "a", "7", Some("x"), 0)], &[]));
    lab.accept(&update);
    lab.sent.clear();
    lab.reconnect();
    assert!(lab.delta().initial_resource_versions.is_empty(), "the primary did not give them");
    lab.reconnect();
    assert_eq!(lab.delta().initial_resource_versions.into_keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(lab.connects, [0, 0, 1, 0, 1]);
}

#[test]
fn requests_wait_for_tokens() {
    let mut options = options(Variant::Delta);
    options.rate_limit = Some((2, 10_000));
    let mut lab = Lab::new(options);
    for ty in [CDS, LDS, ResourceType::ScopedRoute] {
        lab.client.subscribe(ty, Interest::Wildcard);
    }
    lab.run();
    lab.input(Input::Connected);
    assert_eq!((lab.sent.len(), lab.client.pending_requests(), lab.client.rate_limit_enforced()), (2, 1, 1));
    let before = lab.now;
    lab.wait();
    assert_eq!((lab.sent.len(), lab.now - before), (3, Duration::from_millis(100)));
    assert_eq!(lab.client.deadline(), None);
}

#[test]
fn a_storm_of_bad_updates_slows_down_and_holds_no_memory() {
    let mut lab = clusters(Variant::Delta);
    for round in 0..1000 {
        let content = format!("{round}");
        let added = vec![resource(CDS, "a", "1", Some(&content), 0)];
        let update = lab.respond(delta(CDS, &format!("n{round}"), "1", added, &[]));
        lab.verdict(&update, reject("a", "no"));
    }
    assert_eq!(lab.sent.len(), NACKS_AT_ONCE as usize);
    assert!(lab.client.deadline().is_some_and(|at| at <= lab.now + NACK_INTERVAL));
    let before = lab.sent.len();
    while lab.client.deadline().is_some() {
        lab.wait();
    }
    assert_eq!(lab.sent.len() - before, UNANSWERED_MAX, "older answers are void");
}

#[test]
fn verdicts_that_never_come_do_not_pile_up() {
    let mut lab = clusters(Variant::Delta);
    let mut updates = Vec::new();
    for round in 0..UNANSWERED_MAX + 10 {
        let added = vec![resource(CDS, &format!("r{round}"), "1", Some("x"), 0)];
        updates.push(lab.respond(delta(CDS, &format!("n{round}"), "1", added, &[])));
    }
    for update in &updates {
        lab.accept(update);
    }
    lab.client.verdict(UpdateId::NO_VERDICT, Verdict::default());
    lab.client.verdict(UpdateId(u64::MAX), Verdict::default());
    lab.run();
    assert_eq!(lab.sent.len(), UNANSWERED_MAX);
    lab.sent.clear();
    lab.reconnect();
    assert_eq!(lab.delta().initial_resource_versions.len(), updates.len(), "late verdicts count");
}

#[test]
fn a_resource_lives_as_long_as_it_is_renewed() {
    let second = Duration::from_secs(1);
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut lab = clusters(variant);
        let response = |nonce: &str, content: Option<&str>| {
            let one = resource(CDS, "a", "1", content, 3);
            match variant {
                Variant::Sotw => sotw(CDS, nonce, "1", vec![wrapped(&one)]),
                Variant::Delta => delta(CDS, nonce, "1", vec![one], &[]),
            }
        };
        let mut first = response("n1", Some("x"));
        if let millrace_ads::Response::Sotw(it) = &mut first {
            it.resources.push(any(CDS, "b", "x"));
        }
        let update = lab.respond(first);
        lab.accept(&update);
        lab.now = lab.now + second * 2;
        let beat = lab.respond(response("n2", None));
        assert_eq!(names(&beat), [vec![], vec![], vec!["a"], vec![]], "b stays, although not named");
        lab.accept(&beat);
        lab.now = lab.now + second * 2;
        lab.run();
        assert!(lab.updates.is_empty(), "renewed");
        lab.wait();
        let gone = lab.updates.pop().expect("an update");
        assert_eq!((gone.id, names(&gone)), (UpdateId::NO_VERDICT, [vec![], vec!["a"], vec![], vec![]]));
        let late = lab.respond(response("n3", None));
        assert_eq!(names(&late)[3], ["a"], "a heartbeat of what is gone");
    }
}

#[test]
fn what_comes_out_of_turn_is_ignored() {
    let mut lab = Lab::connected(Variant::Sotw, &[(EDS, name("a"))]);
    lab.sent.clear();
    lab.input(Input::Connected);
    lab.input(Input::Response(sotw(CDS, "n", "1", Vec::new())));
    let mut unknown = sotw(EDS, "n", "1", Vec::new());
    if let millrace_ads::Response::Sotw(it) = &mut unknown {
        it.type_url = "type.googleapis.com/istio.workload.Workload".to_owned();
    }
    lab.input(Input::Response(unknown));
    assert_eq!((lab.client.ignored_responses(), lab.sent.len(), lab.updates.len()), (2, 0, 0));
    lab.input(Input::Disconnected);
    lab.input(Input::Disconnected);
    lab.input(Input::Response(sotw(EDS, "n", "1", Vec::new())));
    assert!(lab.updates.is_empty());
    assert!(lab.client.deadline().is_some_and(|at| at > Time::ZERO));
}
