//! Changes while traffic flows: what is accepted, what is refused, and what both are called in stats and dumps.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::Http;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Resource, Type};
use millrace_xds_tests::{World, clusters, dump, get, never, wait_get};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    case!(endpoints_move),
    case!(routes_change),
    case!(listeners_come_and_change),
    case!(clusters_come),
    case!(a_refusal_keeps_the_version),
    case!(a_refusal_in_delta_names_only_the_nonce),
    case!(a_refused_cluster_leaves_the_others),
    case!(a_refused_listener_leaves_the_others),
    case!(a_route_to_an_unknown_cluster_is_accepted),
    case!(a_new_name_repeats_the_last_nonce),
    case!(unsolicited_endpoints_are_accepted_and_ignored),
    case!(two_listeners_share_a_route_table),
    case!(endpoints_by_service_name),
    case!(counters),
    case!(versions_in_the_dump),
    case!(a_refused_listener_shows_in_the_dump),
];

fn endpoints_move(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let two = Upstream::fixed("two");
        world.plane.set(yaml::endpoints("up", &[two.address()]));
        world.in_force(Type::Endpoint);
        wait_get(&proxy, 200, "two");
        world.plane.set(yaml::endpoints("up", &[]));
        wait_get(&proxy, 503, "no healthy upstream");
        world.plane.set(yaml::endpoints("up", &[world.upstream.address()]));
        wait_get(&proxy, 200, "one");
    }
}

/// A route that answers with this text.
fn says(text: &str) -> String {
    format!("{{match: {{prefix: \"/\"}}, direct_response: {{status: 200, body: {{inline_string: {text}}}}}}}")
}

fn routes_change(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mut kept = proxy.client();
        assert_eq!(kept.get("/").text(), "one");
        for n in 0..5 {
            world.plane.set(yaml::routes("r", &says(&format!("n{n}"))));
            world.in_force(Type::Route);
            wait_get(&proxy, 200, &format!("n{n}"));
        }
        assert_eq!(
            kept.get("/").text(),
            "n4",
            "the connection stays, and its next request meets the new routes"
        );
    }
}

fn listeners_come_and_change(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        world.plane.set(yaml::listener(&Http::routes(&format!("- {}\n", says("a"))).named("more")));
        world.in_force(Type::Listener);
        let address = proxy.wait_listener("more");
        assert_eq!(millrace_support::raw::Client::connect(address).get("/").text(), "a");
        world.plane.set(yaml::listener(&Http::routes(&format!("- {}\n", says("b"))).named("more")));
        world.in_force(Type::Listener);
        millrace_support::wait::for_true("the new chain", || {
            let mut client = millrace_support::raw::Client::connect(proxy.wait_listener("more"));
            client.get("/").text() == "b"
        });
        assert_eq!(proxy.bound("more"), Some(address), "the socket stays");
        assert_eq!(get(&proxy), (200, "one".into()));
    }
}

fn clusters_come(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let two = Upstream::fixed("two");
        world.plane.update(|change| {
            change.set(yaml::eds_cluster("other", flavor, ""));
            change.set(yaml::endpoints("other", &[two.address()]));
            change.set(yaml::route("r", "other"));
        });
        wait_get(&proxy, 200, "two");
        assert!(clusters(&proxy).contains("other"));
    }
}

/// A cluster that Envoy refuses for what it means, not for its form.
fn bad_cluster() -> Resource {
    yaml::static_cluster("bad", &[], "lb_policy: CLUSTER_PROVIDED\n")
}

fn a_refusal_keeps_the_version(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::Sotw] {
        let world = World::start(flavor);
        let _proxy = world.proxy(subject);
        let before = world.plane.acks(Type::Cluster)[0].clone();
        let mark = world.plane.mark();
        world.plane.set(bad_cluster());
        let nack = world.plane.wait_nack(mark, Type::Cluster);
        assert_eq!(nack.version, before.version, "the version in force");
        assert_ne!(nack.nonce, before.nonce, "the refused response");
        assert_eq!(nack.error.as_ref().map(|e| e.code), Some(13));
        assert!(nack.reason().contains("bad"), "{}", nack.reason());
        let mark = world.plane.mark();
        world.plane.remove(Type::Cluster, "bad");
        let ack = world.plane.wait_ack(mark, Type::Cluster);
        assert_eq!(Some(ack.version), ack.accepts);
    }
}

fn a_refusal_in_delta_names_only_the_nonce(subject: &Subject) {
    for flavor in [Flavor::AdsDelta, Flavor::Delta] {
        let world = World::start(flavor);
        let _proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.set(bad_cluster());
        let nack = world.plane.wait_nack(mark, Type::Cluster);
        assert_eq!(nack.error.as_ref().map(|e| e.code), Some(13));
        assert!(nack.reason().contains("bad"), "{}", nack.reason());
        assert!(nack.subscribe.is_empty() && nack.unsubscribe.is_empty() && nack.initial_versions.is_empty());
    }
}

fn a_refused_cluster_leaves_the_others(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let two = Upstream::fixed("two");
        let mark = world.plane.mark();
        world.plane.update(|change| {
            change.set(bad_cluster());
            change.set(yaml::static_cluster("good", &[two.address()], ""));
            change.set(yaml::route("r", "good"));
        });
        world.plane.wait_nack(mark, Type::Cluster);
        wait_get(&proxy, 200, "two");
        let names = clusters(&proxy);
        assert!(names.contains("good") && names.contains("up") && !names.contains("bad"), "{names:?}");
    }
}

fn bad_listener() -> Resource {
    yaml::listener(&Http::to("absent").named("bad").route_config("validate_clusters: true"))
}

fn a_refused_listener_leaves_the_others(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.update(|change| {
            change.set(bad_listener());
            change.set(yaml::rds_listener("good", "r", flavor));
        });
        let nack = world.plane.wait_nack(mark, Type::Listener);
        assert!(nack.reason().contains("bad") && nack.reason().contains("absent"), "{}", nack.reason());
        proxy.wait_listener("good");
        assert_eq!((proxy.bound("bad"), get(&proxy)), (None, (200, "one".into())));
    }
}

fn a_route_to_an_unknown_cluster_is_accepted(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    world.plane.set(yaml::route("r", "absent"));
    world.in_force(Type::Route);
    wait_get(&proxy, 503, "");
}

fn a_new_name_repeats_the_last_nonce(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let _proxy = world.proxy(subject);
    let last = world.plane.acks(Type::Endpoint)[0].clone();
    let mark = world.plane.mark();
    world.plane.update(|change| {
        change.set(yaml::eds_cluster("other", Flavor::AdsSotw, "")).set(yaml::endpoints("other", &[]));
    });
    let request = world.plane.wait_for(mark, "EDS for both", |r| r.is(Type::Endpoint));
    assert_eq!((&request.nonce, &request.version), (&last.nonce, &last.version));
    assert_eq!(request.names.into_iter().collect::<Vec<_>>(), ["other", "up"]);
    let ack = world.plane.wait_ack(mark, Type::Endpoint);
    assert_eq!(ack.names.len(), 2);
    world.plane.wait_ack(mark, Type::Cluster);
}

fn unsolicited_endpoints_are_accepted_and_ignored(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    let mark = world.plane.mark();
    world.plane.send_unasked(yaml::endpoints("stranger", &[]));
    world.plane.wait_ack(mark, Type::Endpoint);
    assert!(!clusters(&proxy).contains("stranger"));
    assert_eq!(get(&proxy), (200, "one".into()));
}

fn counters(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    proxy.wait_stat("control_plane.connected_state", 1);
    proxy.wait_stat("cluster_manager.cds.update_success", 1);
    proxy.wait_stat("listener_manager.lds.update_success", 1);
    proxy.wait_stat("http.main.rds.r.update_success", 1);
    proxy.wait_stat("cluster.up.update_success", 1);
    assert_eq!(proxy.stat("cluster_manager.cds.update_rejected"), Some(0));
    let mark = world.plane.mark();
    world.plane.update(|change| {
        change.set(bad_cluster()).set(bad_listener());
    });
    world.plane.wait_nack(mark, Type::Cluster);
    world.plane.wait_nack(mark, Type::Listener);
    proxy.wait_stat("cluster_manager.cds.update_rejected", 1);
    proxy.wait_stat("listener_manager.lds.update_rejected", 1);
    world
        .plane
        .set(yaml::routes("r", "{match: {safe_regex: {regex: \"(\"}}, direct_response: {status: 200}}"));
    world.plane.wait_nack(mark, Type::Route);
    proxy.wait_stat("http.main.rds.r.update_rejected", 1);
    proxy.wait_stat("cluster_manager.active_clusters", 2);
    proxy.wait_stat("cluster_manager.warming_clusters", 0);
    proxy.wait_stat("listener_manager.total_listeners_active", 1);
    world.plane.update(|change| {
        change.remove(Type::Cluster, "bad").remove(Type::Listener, "bad");
    });
    proxy.wait_stat("cluster_manager.cds.update_success", 2);
    let attempts = proxy.stat("cluster_manager.cds.update_attempt").unwrap_or_default();
    assert!(attempts >= 3, "{attempts}");
    let text = proxy.admin_get("/stats").text();
    let version = world.plane.acks(Type::Cluster).pop().map(|a| a.version).unwrap_or_default();
    assert!(text.contains(&format!("cluster_manager.cds.version_text: \"{version}\"")), "{text}");
}

fn versions_in_the_dump(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    let version = |ty| world.plane.acks(ty).pop().map(|a| a.version).unwrap_or_default();
    let dumped = dump(&proxy, "ClustersConfigDump");
    assert_eq!(dumped["version_info"], version(Type::Cluster).as_str(), "{dumped:#}");
    let active = &dumped["dynamic_active_clusters"][0];
    assert_eq!(active["version_info"], version(Type::Cluster).as_str());
    assert_eq!(active["cluster"]["name"], "up");
    assert!(active["last_updated"].is_string());
    assert_eq!(dumped["static_clusters"][0]["cluster"]["name"], "xds");
    let dumped = dump(&proxy, "ListenersConfigDump");
    assert_eq!(dumped["version_info"], version(Type::Listener).as_str(), "{dumped:#}");
    let active = &dumped["dynamic_listeners"][0];
    assert_eq!(active["name"], "main");
    assert_eq!(active["active_state"]["version_info"], version(Type::Listener).as_str());
    assert_eq!(active["active_state"]["listener"]["name"], "main");
    let dumped = dump(&proxy, "RoutesConfigDump");
    let table = &dumped["dynamic_route_configs"][0];
    assert_eq!(table["version_info"], version(Type::Route).as_str(), "{dumped:#}");
    assert_eq!(table["route_config"]["name"], "r");
    let dumped = dump(&proxy, "EndpointsConfigDump");
    let named = |v: &serde_json::Value| v["endpoint_config"]["cluster_name"] == "up";
    let dynamic = dumped["dynamic_endpoint_configs"].as_array().cloned().unwrap_or_default();
    assert!(dynamic.iter().any(named), "{dumped:#}");
}

fn a_refused_listener_shows_in_the_dump(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    let mark = world.plane.mark();
    world.plane.set(bad_listener());
    world.plane.wait_nack(mark, Type::Listener);
    let dumped = dump(&proxy, "ListenersConfigDump");
    let all = dumped["dynamic_listeners"].as_array().cloned().unwrap_or_default();
    let bad = all.into_iter().find(|l| l["name"] == "bad").unwrap_or_default();
    let details = bad["error_state"]["details"].as_str().unwrap_or_default().to_owned();
    assert!(details.contains("absent"), "{dumped:#}");
    assert!(bad["active_state"].is_null(), "{dumped:#}");
    // The proxy does not ask again by itself.
    let mark = world.plane.mark();
    never(Duration::from_millis(300), "asked again after a refusal", || {
        world.plane.requests_since(mark).iter().any(|r| r.is(Type::Listener))
    });
}

fn two_listeners_share_a_route_table(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = World::start(flavor);
        world.plane.set(yaml::rds_listener("more", "r", flavor));
        let proxy = world.proxy(subject);
        let more = || millrace_support::raw::Client::connect(proxy.wait_listener("more")).get("/").text();
        assert_eq!((get(&proxy).1, more()), ("one".into(), "one".into()));
        world.plane.set(yaml::routes("r", &says("shared")));
        wait_get(&proxy, 200, "shared");
        millrace_support::wait::for_true("the second listener", || more() == "shared");
        world.plane.remove(Type::Listener, "more");
        world.in_force(Type::Listener);
        world.plane.set(yaml::routes("r", &says("alone")));
        wait_get(&proxy, 200, "alone");
    }
}

fn endpoints_by_service_name(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let source = flavor.config_source();
        world.plane.update(|change| {
            let text = format!(
                "name: named\ntype: EDS\neds_cluster_config: {{service_name: behind, eds_config: {source}}}"
            );
            change.set(millrace_support::xds::from_yaml(Type::Cluster, &text));
            change.set(yaml::endpoints("behind", &[world.upstream.address()]));
            change.set(yaml::route("r", "named"));
        });
        let proxy = world.proxy(subject);
        wait_get(&proxy, 200, "one");
        world.plane.wait_for(0, "EDS by service name", |r| {
            r.is(Type::Endpoint) && (r.names.contains("behind") || r.subscribe.contains("behind"))
        });
    }
}
