//! What goes away, who notices, and that nobody else does.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::Http;
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Resource, Type, from_yaml};
use millrace_xds_tests::{World, clusters, get, never, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(a_removed_cluster_is_gone),
    case!(all_clusters_may_go),
    case!(a_removed_listener_refuses_and_drains),
    case!(an_absent_route_table_stays),
    case!(an_absent_assignment_stays),
    case!(a_removed_route_table_in_delta),
    case!(a_removed_assignment_in_delta),
    case!(another_listener_does_not_disturb),
    case!(only_changed_chains_drain),
    case!(a_listener_that_keeps_its_bytes_keeps_its_connections),
];

const DRAIN_AT_ONCE: &[&str] =
    &["--concurrency", "1", "--drain-time-s", "1", "--drain-strategy", "immediate"];

fn start(world: &World, subject: &Subject) -> Proxy {
    let proxy = Proxy::start_with(subject, &yaml::bootstrap(&world.plane, world.flavor), DRAIN_AT_ONCE);
    proxy.wait_listener("main");
    world.settle();
    proxy
}

fn a_removed_cluster_is_gone(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.remove(Type::Cluster, "up");
        world.plane.wait_ack(mark, Type::Cluster);
        wait::for_true("the cluster to go", || !clusters(&proxy).contains("up"));
        wait_get(&proxy, 503, "");
        if flavor.is_ads() {
            world.plane.wait_for(mark, "EDS without the cluster", |r| {
                r.is(Type::Endpoint)
                    && if r.delta { r.unsubscribe.contains("up") } else { r.names.is_empty() }
            });
        }
        world.plane.set(yaml::eds_cluster("up", flavor, ""));
        wait_get(&proxy, 200, "one");
    }
}

fn all_clusters_may_go(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = World::start(flavor);
        world.plane.update(|change| {
            change.set(yaml::static_cluster("a", &[], "")).set(yaml::static_cluster("b", &[], ""));
        });
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.update(|change| {
            change.clear(Type::Cluster);
        });
        world.plane.wait_ack(mark, Type::Cluster);
        wait::for_true("only the control plane is left", || {
            clusters(&proxy).into_iter().collect::<Vec<_>>() == ["xds"]
        });
    }
}

fn a_removed_listener_refuses_and_drains(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = start(&world, subject);
        let address = proxy.listener("main");
        let mut open = Client::connect(address);
        assert_eq!(open.get("/").text(), "one");
        let mark = world.plane.mark();
        world.plane.remove(Type::Listener, "main");
        world.plane.wait_ack(mark, Type::Listener);
        wait::for_true("the socket to close", || Client::try_connect(address).is_err());
        let last = open.get("/");
        assert_eq!((last.text(), last.closes()), ("one".into(), true), "served, and told to go");
        assert_eq!(open.end(), End::Closed(Vec::new()));
        assert_eq!(proxy.bound("main"), None);
    }
}

fn an_absent_route_table_stays(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    world.plane.update(|change| {
        change.remove(Type::Route, "r").set(yaml::route("unrelated", "up"));
    });
    world.plane.resend(Type::Route);
    world.plane.set(yaml::static_cluster("later", &[], ""));
    wait::for_true("a later change", || clusters(&proxy).contains("later"));
    assert_eq!(get(&proxy), (200, "one".into()));
}

fn an_absent_assignment_stays(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    world.plane.update(|change| {
        change.set(yaml::eds_cluster("other", Flavor::AdsSotw, "")).set(yaml::endpoints("other", &[]));
    });
    world.in_force(Type::Cluster);
    world.plane.update(|change| {
        change.remove(Type::Endpoint, "up");
        change.set(yaml::endpoints("other", &["127.0.0.1:1".parse().expect("an address")]));
    });
    world.in_force(Type::Endpoint);
    assert_eq!(get(&proxy), (200, "one".into()));
}

fn another_listener_does_not_disturb(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = start(&world, subject);
        let mut open = proxy.client();
        assert_eq!(open.get("/").text(), "one");
        for n in 0..3 {
            let prefix = format!("name: r{n}");
            world
                .plane
                .set(yaml::listener(&Http::to("up").named("more").route_config(&format!("# {prefix}"))));
            world.in_force(Type::Listener);
            let next = open.get("/");
            assert_eq!((next.text(), next.closes()), ("one".into(), false));
        }
        world.plane.remove(Type::Listener, "more");
        world.in_force(Type::Listener);
        assert!(!open.get("/").closes());
    }
}

/// Two chains, told apart by the client's address; each answers with its text.
fn two_chains(first: &str, second: &str) -> Resource {
    let chain = |source: &str, text: &str| {
        format!(
            "- name: chain-{source}\n  \
               filter_chain_match: {{source_prefix_ranges: [{{address_prefix: {source}, prefix_len: 32}}]}}\n  \
               filters:\n  - name: http\n    typed_config:\n      \
                 \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n      \
                 stat_prefix: chain\n      \
                 http_filters: [{{name: router, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]\n      \
                 route_config: {{virtual_hosts: [{{name: v, domains: [\"*\"], routes: [{{match: {{prefix: \"/\"}}, direct_response: {{status: 200, body: {{inline_string: {text}}}}}}}]}}]}}\n"
        )
    };
    let text = format!(
        "name: chains\naddress: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}\nfilter_chains:\n{}{}",
        chain("127.0.0.1", first),
        chain("127.0.0.2", second)
    );
    from_yaml(Type::Listener, &text)
}

fn only_changed_chains_drain(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        world.plane.set(two_chains("a1", "b1"));
        let proxy = start(&world, subject);
        let address = proxy.wait_listener("chains");
        let mut first = Client::connect(address);
        let mut second = Client::connect_from("127.0.0.2", address);
        assert_eq!((first.get("/").text(), second.get("/").text()), ("a1".into(), "b1".into()));
        world.plane.set(two_chains("a1", "b2"));
        world.in_force(Type::Listener);
        wait::for_true("the changed chain", || {
            Client::connect_from("127.0.0.2", address).get("/").text() == "b2"
        });
        let last = second.get("/");
        assert_eq!((last.text(), last.closes()), ("b1".into(), true), "the changed chain drains");
        assert_eq!(second.end(), End::Closed(Vec::new()));
        // Longer than the drain time: whoever would be drained is by now.
        assert_eq!(first.end_within(Duration::from_millis(1500)), End::Open);
        let next = first.get("/");
        assert_eq!((next.text(), next.closes()), ("a1".into(), false), "the other one does not");
        assert_eq!(proxy.bound("chains"), Some(address));
    }
}

fn a_listener_that_keeps_its_bytes_keeps_its_connections(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = start(&world, subject);
        let mut open = proxy.client();
        assert_eq!(open.get("/").text(), "one");
        for ty in [Type::Cluster, Type::Endpoint, Type::Listener, Type::Route] {
            world.plane.resend(ty);
            world.in_force(ty);
            let next = open.get("/");
            assert_eq!((next.text(), next.closes()), ("one".into(), false), "{flavor:?} {ty:?}");
        }
        assert_eq!(world.upstream.connections(), 1, "the upstream connection stays too");
    }
}

/// Envoy accepts the removal and keeps what it has: a listener needs its routes, and a cluster its endpoints.
fn a_removed_route_table_in_delta(subject: &Subject) {
    kept_in_delta(subject, Type::Route, "r");
}

fn a_removed_assignment_in_delta(subject: &Subject) {
    kept_in_delta(subject, Type::Endpoint, "up");
}

fn kept_in_delta(subject: &Subject, ty: Type, name: &str) {
    let world = World::start(Flavor::AdsDelta);
    let proxy = world.proxy(subject);
    world.plane.remove(ty, name);
    world.in_force(ty);
    never(Duration::from_millis(200), "it went", || get(&proxy) != (200, "one".into()));
}
