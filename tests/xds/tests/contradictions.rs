//! Assignments that contradict themselves: refused with the last good one in force, or served as they are.

use std::net::SocketAddr;

use millrace_e2e::{Case, case};
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::xds::yaml::Flavor;
use millrace_support::xds::{Type, from_yaml};
use millrace_xds_tests::{World, get, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(weights_of_zero_are_refused),
    case!(priorities_need_not_be_complete),
    case!(an_empty_assignment_is_one),
];

const FLAVORS: [Flavor; 2] = [Flavor::AdsSotw, Flavor::AdsDelta];

/// A locality with one endpoint.
fn locality(at: SocketAddr, locality: &str, endpoint: &str) -> String {
    format!(
        "{{{locality}lb_endpoints: [{{{endpoint}endpoint: {{address: {{socket_address: {{address: \"{}\", port_value: {}}}}}}}}}]}}",
        at.ip(),
        at.port()
    )
}

fn assign(world: &World, localities: &[String]) {
    let text = format!("{{cluster_name: up, endpoints: [{}]}}", localities.join(", "));
    world.plane.set(from_yaml(Type::Endpoint, &text));
}

fn weights_of_zero_are_refused(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let other = Upstream::fixed("other");
        for (place, endpoint) in
            [("", "load_balancing_weight: 0, "), ("load_balancing_weight: 0, ", ""), ("priority: 129, ", "")]
        {
            let mark = world.plane.mark();
            assign(&world, &[locality(other.address(), place, endpoint)]);
            let refused = world.plane.wait_nack(mark, Type::Endpoint);
            assert!(!refused.reason().is_empty());
            assert_eq!(get(&proxy), (200, "one".into()), "{place}{endpoint}");
        }
        assign(
            &world,
            &[locality(other.address(), "load_balancing_weight: 1, ", "load_balancing_weight: 1, ")],
        );
        wait_get(&proxy, 200, "other");
    }
}

fn priorities_need_not_be_complete(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let (fifth, third) = (Upstream::fixed("fifth"), Upstream::fixed("third"));
        assign(&world, &[locality(fifth.address(), "priority: 5, ", "")]);
        wait_get(&proxy, 200, "fifth");
        let gap =
            [locality(fifth.address(), "priority: 5, ", ""), locality(third.address(), "priority: 3, ", "")];
        assign(&world, &gap);
        wait_get(&proxy, 200, "third");
        // A locality of nobody in front changes nothing.
        let empty = "{priority: 0, locality: {zone: z}, lb_endpoints: []}".to_owned();
        assign(&world, &[empty, gap[0].clone()]);
        wait_get(&proxy, 200, "fifth");
        proxy.wait_stat("cluster.up.membership_total", 1);
    }
}

fn an_empty_assignment_is_one(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        assign(&world, &[]);
        wait_get(&proxy, 503, "no healthy upstream");
        assign(&world, &[locality(world.upstream.address(), "", "")]);
        wait_get(&proxy, 200, "one");
    }
}
