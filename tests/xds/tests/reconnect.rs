//! Control planes that end, die, hang and come back, while the last good configuration serves.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Answer, Code, Event, Transport, Type};
use millrace_xds_tests::{World, clusters, get, never, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(a_new_stream_names_the_versions),
    case!(a_new_delta_stream_names_what_it_has),
    case!(a_refused_resource_is_not_named),
    case!(what_changed_meanwhile_arrives),
    case!(what_went_meanwhile_goes),
    case!(a_dead_control_plane_changes_nothing),
    case!(a_lost_connection_is_made_again),
    case!(retries_are_spread),
    case!(a_control_plane_that_refuses_streams),
    case!(a_control_plane_that_flaps),
    case!(a_control_plane_that_hangs),
    case!(a_slow_control_plane),
    case!(a_status_of_any_kind_is_retried),
];

const KINDS: [Type; 4] = [Type::Cluster, Type::Endpoint, Type::Listener, Type::Route];

fn a_new_stream_names_the_versions(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::Sotw] {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let versions: Vec<String> = KINDS
            .iter()
            .map(|ty| world.plane.acks(*ty).pop().map(|a| a.version).unwrap_or_default())
            .collect();
        let mark = world.plane.mark();
        world.plane.end_streams(Code::Unavailable, "bye");
        for (ty, version) in KINDS.into_iter().zip(versions) {
            let first = world.plane.wait_for(mark, "the first request", |r| r.is(ty) && r.first);
            assert_eq!((first.version, first.nonce), (version, String::new()), "{flavor:?} {ty:?}");
            assert_eq!(first.names.len(), usize::from(!ty.is_full_state()), "{ty:?}");
        }
        let with_node = world.plane.requests_since(mark).into_iter().filter(|r| r.node.is_some()).count();
        assert_eq!(with_node, if flavor.is_ads() { 1 } else { 4 });
        assert_eq!(get(&proxy), (200, "one".into()));
    }
}

fn a_new_delta_stream_names_what_it_has(subject: &Subject) {
    for flavor in [Flavor::AdsDelta, Flavor::Delta] {
        let world = World::start(flavor);
        let _proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.end_streams(Code::Unavailable, "bye");
        for (ty, name) in KINDS.into_iter().zip(["up", "up", "main", "r"]) {
            let first = world.plane.wait_for(mark, "the first request", |r| r.is(ty) && r.first);
            assert_eq!(first.initial_versions.keys().collect::<Vec<_>>(), [name], "{flavor:?} {ty:?}");
            assert_eq!(first.subscribe.len(), usize::from(!ty.is_full_state()), "{flavor:?} {ty:?}");
            assert_eq!(first.nonce, "");
        }
    }
}

fn a_refused_resource_is_not_named(subject: &Subject) {
    let world = World::start(Flavor::AdsDelta);
    let _proxy = world.proxy(subject);
    let mark = world.plane.mark();
    world.plane.set(yaml::static_cluster("bad", &[], "lb_policy: CLUSTER_PROVIDED\n"));
    world.plane.wait_nack(mark, Type::Cluster);
    world.plane.end_streams(Code::Unavailable, "bye");
    let first = world.plane.wait_for(mark, "the first request", |r| r.is(Type::Cluster) && r.first);
    assert_eq!(first.initial_versions.into_keys().collect::<Vec<_>>(), ["up"]);
}

fn what_changed_meanwhile_arrives(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        world.plane.stop();
        let two = Upstream::fixed("two");
        world.plane.set(yaml::endpoints("up", &[two.address()]));
        assert_eq!(get(&proxy), (200, "one".into()));
        world.plane.restart();
        wait_get(&proxy, 200, "two");
    }
}

fn what_went_meanwhile_goes(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        world.plane.set(yaml::static_cluster("brief", &[], ""));
        let proxy = world.proxy(subject);
        assert!(clusters(&proxy).contains("brief"));
        world.plane.stop();
        world.plane.remove(Type::Cluster, "brief");
        world.plane.restart();
        millrace_support::wait::for_true("the cluster to go", || !clusters(&proxy).contains("brief"));
        assert_eq!(get(&proxy), (200, "one".into()));
    }
}

fn a_dead_control_plane_changes_nothing(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    let mut open = proxy.client();
    assert_eq!(open.get("/").text(), "one");
    proxy.wait_stat("control_plane.connected_state", 1);
    world.plane.stop();
    proxy.wait_stat("control_plane.connected_state", 0);
    for stat in ["cluster_manager.cds", "listener_manager.lds", "http.main.rds.r", "cluster.up"] {
        let failures = proxy.stat(&format!("{stat}.update_failure")).unwrap_or_default();
        assert!(failures > 0, "{stat}.update_failure");
    }
    never(Duration::from_millis(700), "the proxy noticed that its control plane is dead", || {
        open.get("/").text() != "one" || get(&proxy) != (200, "one".into()) || !proxy.is_ready()
    });
    world.plane.restart();
    proxy.wait_stat("control_plane.connected_state", 1);
    assert_eq!(open.get("/").text(), "one");
}

fn a_lost_connection_is_made_again(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        for n in 0..3 {
            let mark = world.plane.mark();
            world.plane.drop_connections();
            world.plane.wait_for(mark, "a new stream", |r| r.is(Type::Listener) && r.first);
            world.plane.set(yaml::routes(
                "r",
                &format!("{{match: {{prefix: \"/\"}}, direct_response: {{status: 200, body: {{inline_string: n{n}}}}}}}"),
            ));
            wait_get(&proxy, 200, &format!("n{n}"));
        }
    }
}

fn retries_are_spread(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let _proxy = world.proxy(subject);
    world.plane.transport(Transport::Refuse(Code::Unavailable, "busy".into()));
    let mark = world.plane.mark();
    world.plane.drop_connections();
    let count =
        || world.plane.record().iter().skip(mark).filter(|e| matches!(e.event, Event::Connected(_))).count();
    // Exponential from 500 ms with jitter: a handful in two seconds, never a storm.
    never(Duration::from_secs(2), "a storm of connections", || count() > 20);
    assert!(count() >= 1, "nobody tried again");
}

fn a_control_plane_that_refuses_streams(subject: &Subject) {
    recovers(subject, &Transport::Refuse(Code::Unavailable, "busy".into()));
}

fn a_control_plane_that_flaps(subject: &Subject) {
    recovers(subject, &Transport::Flap);
}

/// Serves on while new connections are treated badly, and comes back afterwards.
#[track_caller]
fn recovers(subject: &Subject, transport: &Transport) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.transport(transport.clone());
        world.plane.drop_connections();
        world.plane.wait_entry(mark, "another connection", |e| matches!(e.event, Event::Connected(_)));
        assert_eq!(get(&proxy), (200, "one".into()));
        world.plane.transport(Transport::Normal);
        if *transport == Transport::Mute {
            world.plane.drop_connections();
        }
        world.plane.wait_for(mark, "a new stream", |r| r.is(Type::Listener) && r.first);
        world.plane.set(yaml::endpoints("up", &[]));
        wait_get(&proxy, 503, "no healthy upstream");
    }
}

fn a_control_plane_that_hangs(subject: &Subject) {
    recovers(subject, &Transport::Mute);
}

fn a_slow_control_plane(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    world.plane.transport(Transport::Trickle(1, Duration::from_millis(1)));
    let proxy = world.unready(subject, "");
    proxy.wait_ready();
    assert_eq!(get(&proxy), (200, "one".into()));
}

fn a_status_of_any_kind_is_retried(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    for code in
        [Code::Ok, Code::ResourceExhausted, Code::Unauthenticated, Code::Internal, Code::Unimplemented]
    {
        let mark = world.plane.mark();
        world.plane.answer_now(Type::Cluster, Answer::End(code, "ended".into()));
        world.plane.wait_for(mark, &format!("a stream after {code:?}"), |r| r.is(Type::Listener) && r.first);
        assert_eq!(get(&proxy), (200, "one".into()));
    }
}
