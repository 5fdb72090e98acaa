//! Nothing is in force before what it needs is there, and the old version serves until then.

use std::time::{Duration, Instant};

use millrace_e2e::{Case, case};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Options, Resource, Type, from_yaml};
use millrace_xds_tests::{World, dump, get, never, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(a_changed_cluster_serves_in_its_old_form_until_it_is_warm),
    case!(the_ack_waits_for_warm_clusters),
    case!(separate_streams_do_not_wait),
    case!(a_cluster_without_endpoints_times_out),
    case!(a_listener_without_routes_is_not_bound),
    case!(a_listener_without_routes_times_out),
    case!(a_changed_listener_serves_in_its_old_form_until_it_is_warm),
    case!(silence_at_the_start_times_out),
    case!(a_removed_warming_cluster_is_forgotten),
    case!(a_refused_first_assignment_ends_the_wait),
    case!(a_refused_first_route_table_ends_the_wait),
    case!(refusals_at_the_start_end_the_wait),
];

const FLAVORS: [Flavor; 2] = [Flavor::AdsSotw, Flavor::AdsDelta];

fn a_changed_cluster_serves_in_its_old_form_until_it_is_warm(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::with(flavor, Options { answer_repeats: false, ..Options::default() });
        let proxy = world.proxy(subject);
        let two = Upstream::fixed("two");
        world.plane.hold(Type::Endpoint);
        let mark = world.plane.mark();
        world.plane.update(|change| {
            change.set(yaml::eds_cluster("up", flavor, "connect_timeout: 3s"));
            change.set(yaml::endpoints("up", &[two.address()]));
        });
        if !subject.is_envoy() {
            // Decision 0011: endpoints that are known are good for the new version, too; nothing waits.
            world.plane.wait_ack(mark, Type::Cluster);
            assert_eq!(get(&proxy), (200, "one".into()), "{flavor:?}");
            let active = dump(&proxy, "ClustersConfigDump")["dynamic_active_clusters"][0].clone();
            assert_eq!(active["cluster"]["connect_timeout"], "3s", "{active:#}");
            world.plane.release(Type::Endpoint);
            wait_get(&proxy, 200, "two");
            continue;
        }
        proxy.wait_stat("cluster_manager.warming_clusters", 1);
        assert_eq!(get(&proxy), (200, "one".into()), "{flavor:?}");
        let warming = dump(&proxy, "ClustersConfigDump");
        assert_eq!(warming["dynamic_warming_clusters"][0]["cluster"]["name"], "up", "{warming:#}");
        assert_eq!(warming["dynamic_active_clusters"][0]["cluster"]["name"], "up", "{warming:#}");
        world.plane.release(Type::Endpoint);
        world.plane.wait_ack(mark, Type::Cluster);
        wait_get(&proxy, 200, "two");
        proxy.wait_stat("cluster_manager.warming_clusters", 0);
    }
}

fn the_ack_waits_for_warm_clusters(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let _proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.set(yaml::eds_cluster("late", flavor, ""));
        world.plane.wait_for(mark, "EDS", |r| r.is(Type::Endpoint));
        never(Duration::from_millis(400), "CDS was accepted with a warming cluster", || {
            world.plane.requests_since(mark).iter().any(|r| r.is(Type::Cluster))
        });
        world.plane.set(yaml::endpoints("late", &[]));
        world.plane.wait_ack(mark, Type::Cluster);
    }
}

fn separate_streams_do_not_wait(subject: &Subject) {
    for flavor in [Flavor::Sotw, Flavor::Delta] {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.set(yaml::eds_cluster("late", flavor, ""));
        world.plane.wait_ack(mark, Type::Cluster);
        proxy.wait_stat("cluster_manager.warming_clusters", 1);
    }
}

fn a_cluster_without_endpoints_times_out(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        let source = flavor.config_source_with("initial_fetch_timeout: 0.5s");
        let started = Instant::now();
        world.plane.update(|change| {
            change.set(yaml::eds_cluster_from("late", &source, "")).set(yaml::route("r", "late"));
        });
        world.plane.wait_ack(mark, Type::Cluster);
        if flavor.is_ads() {
            assert!(started.elapsed() >= Duration::from_millis(450), "{:?}", started.elapsed());
        }
        wait_get(&proxy, 503, "no healthy upstream");
        proxy.wait_stat("cluster.late.init_fetch_timeout", 1);
        proxy.wait_stat("cluster_manager.warming_clusters", 0);
        world.plane.set(yaml::endpoints("late", &[world.upstream.address()]));
        wait_get(&proxy, 200, "one");
    }
}

fn a_listener_without_routes_is_not_bound(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.set(yaml::rds_listener("more", "late", flavor));
        world.plane.wait_ack(mark, Type::Listener);
        proxy.wait_stat("listener_manager.total_listeners_warming", 1);
        assert_eq!(proxy.bound("more"), None);
        let dumped = dump(&proxy, "ListenersConfigDump");
        let all = dumped["dynamic_listeners"].as_array().cloned().unwrap_or_default();
        assert!(all.iter().any(|l| l["warming_state"]["listener"]["name"] == "more"), "{dumped:#}");
        world.plane.set(yaml::route("late", "up"));
        proxy.wait_listener("more");
        proxy.wait_stat("listener_manager.total_listeners_warming", 0);
    }
}

fn a_listener_without_routes_times_out(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let source = flavor.config_source_with("initial_fetch_timeout: 0.5s");
        let late = millrace_support::bootstrap::Http::rds("late", &source).named("more");
        world.plane.set(yaml::listener(&late));
        let address = proxy.wait_listener("more");
        assert_eq!(millrace_support::raw::Client::connect(address).get("/").status, 404, "{flavor:?}");
        world.plane.set(yaml::route("late", "up"));
        world.in_force(Type::Route);
        millrace_support::wait::for_true("the routes to arrive", || {
            millrace_support::raw::Client::connect(address).get("/").status == 200
        });
    }
}

fn a_changed_listener_serves_in_its_old_form_until_it_is_warm(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let address = proxy.listener("main");
        world.plane.set(yaml::rds_listener("main", "next", flavor));
        world.plane.wait_for(0, "RDS for the next table", |r| {
            r.is(Type::Route) && (r.names.contains("next") || r.subscribe.contains("next"))
        });
        never(Duration::from_millis(200), "the old listener stopped to serve", || {
            get(&proxy) != (200, "one".into())
        });
        let two = Upstream::fixed("two");
        world.plane.update(|change| {
            change.set(yaml::static_cluster("two", &[two.address()], "")).set(yaml::route("next", "two"));
        });
        wait_get(&proxy, 200, "two");
        assert_eq!(proxy.bound("main"), Some(address));
    }
}

fn silence_at_the_start_times_out(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        for ty in Type::ALL {
            world.plane.hold(ty);
        }
        let started = Instant::now();
        let proxy = world.unready(subject, "initial_fetch_timeout: 0.5s");
        proxy.wait_ready();
        assert!(started.elapsed() >= Duration::from_millis(900), "CDS and then LDS: {:?}", started.elapsed());
        proxy.wait_stat("cluster_manager.cds.init_fetch_timeout", 1);
        proxy.wait_stat("listener_manager.lds.init_fetch_timeout", 1);
        for ty in Type::ALL {
            world.plane.release(ty);
        }
        wait_get(&proxy, 200, "one");
    }
}

fn a_removed_warming_cluster_is_forgotten(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.set(yaml::eds_cluster("late", flavor, ""));
        proxy.wait_stat("cluster_manager.warming_clusters", 1);
        world.plane.remove(Type::Cluster, "late");
        world.plane.wait_ack(mark, Type::Cluster);
        proxy.wait_stat("cluster_manager.warming_clusters", 0);
        assert_eq!(get(&proxy), (200, "one".into()));
    }
}

/// Endpoints that are no addresses.
fn bad_endpoints(cluster: &str) -> Resource {
    let endpoint = "{endpoint: {address: {socket_address: {address: not.an.address, port_value: 1}}}}";
    from_yaml(
        Type::Endpoint,
        &format!("cluster_name: {cluster}\nendpoints: [{{lb_endpoints: [{endpoint}]}}]"),
    )
}

fn bad_routes(name: &str) -> Resource {
    yaml::routes(name, "{match: {safe_regex: {regex: \"(\"}}, direct_response: {status: 200}}")
}

/// Whoever waits for endpoints serves without them at once, not after 15 s.
fn a_refused_first_assignment_ends_the_wait(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.update(|change| {
            change.set(yaml::eds_cluster("late", flavor, "")).set(bad_endpoints("late"));
        });
        world.plane.wait_nack(mark, Type::Endpoint);
        world.plane.wait_ack(mark, Type::Cluster);
        proxy.wait_stat("cluster_manager.warming_clusters", 0);
        world.plane.set(yaml::endpoints("late", &[world.upstream.address()]));
        world.plane.set(yaml::route("r", "late"));
        wait_get(&proxy, 200, "one");
    }
}

fn a_refused_first_route_table_ends_the_wait(subject: &Subject) {
    for flavor in FLAVORS {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.update(|change| {
            change.set(yaml::rds_listener("late", "late", flavor)).set(bad_routes("late"));
        });
        world.plane.wait_nack(mark, Type::Route);
        let address = proxy.wait_listener("late");
        assert_eq!(Client::connect(address).get("/").status, 404, "{flavor:?}");
        world.plane.set(yaml::route("late", "up"));
        wait::for_true("the good one", || Client::connect(address).get("/").text() == "one");
    }
}

fn refusals_at_the_start_end_the_wait(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = World::start(flavor);
        world.plane.update(|change| {
            change.set(bad_endpoints("up")).set(bad_routes("r"));
        });
        let proxy = Proxy::start(subject, &yaml::bootstrap(&world.plane, flavor));
        assert_eq!(Client::connect(proxy.wait_listener("main")).get("/").status, 404, "{flavor:?}");
        world.plane.set(yaml::endpoints("up", &[world.upstream.address()]));
        world.plane.set(yaml::route("r", "up"));
        wait_get(&proxy, 200, "one");
    }
}
