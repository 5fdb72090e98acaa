//! What a subject says first, and in which order it asks.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::Http;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Entry, Type};
use millrace_xds_tests::{World, get, never, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(all_flavors_forward),
    case!(order_on_one_stream),
    case!(order_in_delta),
    case!(a_stream_for_each_subscription),
    case!(node_is_sent_once),
    case!(listeners_wait_for_clusters),
    case!(ready_waits_for_listeners),
    case!(a_bad_resource_at_the_start),
    case!(an_absent_control_plane_at_the_start),
    case!(no_timeout_waits_for_ever),
];

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

/// Position in the record of the first entry that satisfies `probe`.
fn position(world: &World, what: &str, probe: impl Fn(&Entry) -> bool) -> usize {
    let found = world.plane.record().iter().position(probe);
    found.unwrap_or_else(|| unreachable!("no {what} in\n{}", world.plane.transcript(0)))
}

fn request(world: &World, ty: Type) -> usize {
    position(world, "request", |e| e.request().is_some_and(|r| r.is(ty)))
}

fn ack(world: &World, ty: Type) -> usize {
    position(world, "ACK", |e| e.request().is_some_and(|r| r.is(ty) && r.is_ack()))
}

fn all_flavors_forward(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        assert_eq!(get(&proxy), (200, "one".into()), "{flavor:?}");
        for ty in Type::ALL {
            assert!(world.plane.nacks(ty).is_empty(), "{flavor:?}\n{}", world.plane.transcript(0));
        }
    }
}

fn assert_order(world: &World) {
    let (cds, eds, lds, rds) = (
        request(world, Type::Cluster),
        request(world, Type::Endpoint),
        request(world, Type::Listener),
        request(world, Type::Route),
    );
    assert!(cds < eds && eds < lds && lds < rds, "{}", world.plane.transcript(0));
    assert!(eds < ack(world, Type::Cluster), "EDS comes before the ACK of CDS");
    assert!(rds < ack(world, Type::Listener), "RDS comes before the ACK of LDS");
    assert_eq!(world.plane.streams().len(), 1, "one stream for everything");
}

fn order_on_one_stream(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let _proxy = world.proxy(subject);
    assert_order(&world);
    let requests = world.plane.requests();
    let (first, second) = (&requests[0], &requests[1]);
    assert!(first.is(Type::Cluster) && first.names.is_empty() && first.version.is_empty());
    assert!(second.is(Type::Endpoint) && second.names == names(&["up"]) && second.nonce.is_empty());
    for ty in [Type::Cluster, Type::Endpoint, Type::Listener, Type::Route] {
        let ack = &world.plane.acks(ty)[0];
        assert_eq!(Some(&ack.version), ack.accepts.as_ref());
        let repeated = if ty.is_full_state() { 0 } else { 1 };
        assert_eq!(ack.names.len(), repeated, "an ACK repeats the names");
    }
}

fn order_in_delta(subject: &Subject) {
    let world = World::start(Flavor::AdsDelta);
    let _proxy = world.proxy(subject);
    assert_order(&world);
    let requests = world.plane.requests();
    assert!(requests[0].subscribe.is_empty() && requests[0].initial_versions.is_empty());
    assert_eq!(requests[1].subscribe, names(&["up"]));
    for ty in [Type::Cluster, Type::Endpoint, Type::Listener, Type::Route] {
        let ack = &world.plane.acks(ty)[0];
        assert!(ack.subscribe.is_empty() && ack.unsubscribe.is_empty(), "an ACK holds only the nonce");
    }
}

fn a_stream_for_each_subscription(subject: &Subject) {
    for (flavor, methods) in [
        (Flavor::Sotw, ["StreamClusters", "StreamEndpoints", "StreamListeners", "StreamRoutes"]),
        (Flavor::Delta, ["DeltaClusters", "DeltaEndpoints", "DeltaListeners", "DeltaRoutes"]),
    ] {
        let world = World::start(flavor);
        let _proxy = world.proxy(subject);
        let seen: Vec<String> = world.plane.streams().into_iter().map(|s| s.method).collect();
        assert_eq!(seen, methods, "{flavor:?}");
    }
}

fn node_is_sent_once(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let _proxy = world.proxy(subject);
        let requests = world.plane.requests();
        let streams: BTreeSet<u64> = requests.iter().map(|r| r.stream).collect();
        let with_node: Vec<_> = requests.iter().filter(|r| r.node.is_some()).collect();
        assert_eq!(with_node.len(), streams.len(), "one node for each stream");
        for request in with_node {
            let node = request.node.clone().unwrap_or_default();
            assert_eq!((node.id.as_str(), node.cluster.as_str()), ("sidecar-1", "tests"));
            assert_eq!(node.user_agent_name, "envoy");
            assert!(node.metadata.is_some_and(|m| m.fields.contains_key("k")));
            assert_eq!(node.locality.map(|l| l.zone), Some("z1".into()));
            assert!(!node.extensions.is_empty(), "the extensions are named");
        }
    }
}

fn listeners_wait_for_clusters(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = World::start(flavor);
        world.plane.hold(Type::Endpoint);
        let proxy = world.unready(subject, "");
        world.plane.wait_for(0, "EDS", |r| r.is(Type::Endpoint));
        // Only at the start: a change of a running proxy is not accepted before its clusters are warm.
        world.plane.wait_ack(0, Type::Cluster);
        never(Duration::from_millis(400), "LDS was asked before the clusters were warm", || {
            world.plane.requests().iter().any(|r| r.is(Type::Listener))
        });
        assert!(!proxy.is_ready());
        world.plane.release(Type::Endpoint);
        proxy.wait_ready();
        world.settle();
    }
}

fn ready_waits_for_listeners(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    world.plane.hold(Type::Route);
    let proxy = world.unready(subject, "");
    world.plane.wait_for(0, "RDS", |r| r.is(Type::Route));
    never(Duration::from_millis(300), "ready although a listener is warming", || proxy.is_ready());
    let info = proxy.admin_get("/server_info").text();
    assert!(info.contains("\"state\": \"INITIALIZING\""), "{info}");
    world.plane.release(Type::Route);
    proxy.wait_ready();
    let info = proxy.admin_get("/server_info").text();
    assert!(info.contains("\"state\": \"LIVE\""), "{info}");
}

fn a_bad_resource_at_the_start(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        world.plane.update(|change| {
            change.set(yaml::static_cluster("bad", &[], "lb_policy: CLUSTER_PROVIDED\n"));
            change.set(yaml::listener(
                &Http::to("absent").named("bad").route_config("validate_clusters: true"),
            ));
        });
        let proxy = Proxy::start(subject, &yaml::bootstrap(&world.plane, flavor));
        proxy.wait_listener("main");
        assert_eq!(get(&proxy), (200, "one".into()), "{flavor:?}");
        world.plane.wait_nack(0, Type::Cluster);
        world.plane.wait_nack(0, Type::Listener);
    }
}

fn an_absent_control_plane_at_the_start(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        world.plane.stop();
        let proxy = world.unready(subject, "initial_fetch_timeout: 0.5s");
        assert!(!proxy.is_ready());
        proxy.wait_ready();
        assert_eq!(proxy.stat("control_plane.connected_state").unwrap_or(0), 0);
        world.plane.restart();
        wait_get(&proxy, 200, "one");
    }
}

fn no_timeout_waits_for_ever(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    world.plane.hold(Type::Cluster);
    let proxy = world.unready(subject, "initial_fetch_timeout: 0s");
    world.plane.wait_for(0, "CDS", |r| r.is(Type::Cluster));
    never(Duration::from_millis(700), "ready without clusters", || proxy.is_ready());
    world.plane.release(Type::Cluster);
    wait_get(&proxy, 200, "one");
}
