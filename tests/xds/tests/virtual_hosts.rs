//! VHDS: virtual hosts that come on their own.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Resource, Type, from_yaml};
use millrace_xds_tests::{World, dump, get, never, wait_get};

pub(crate) const CASES: &[Case] = &[
    case!(hosts_come_change_and_go),
    case!(a_listener_waits_for_the_first_hosts),
    case!(a_table_without_hosts_serves_its_own),
    case!(a_later_table_has_its_hosts_too),
    case!(a_refused_host_leaves_its_last_version),
    case!(hosts_survive_their_tables_changes),
    case!(hosts_come_back_after_a_reconnect),
    case!(state_of_the_world_is_refused),
];

const INCREMENTAL: [Flavor; 2] = [Flavor::AdsDelta, Flavor::Delta];

/// Routes that answer with this text.
fn says(text: &str) -> String {
    format!(
        "[{{match: {{prefix: \"/\"}}, direct_response: {{status: 200, body: {{inline_string: {text}}}}}}}]"
    )
}

/// The table `r` with VHDS and the host `own`, which says `text`.
fn open_table(flavor: Flavor, text: &str) -> Resource {
    let (source, routes) = (flavor.config_source_with("initial_fetch_timeout: 2s"), says(text));
    let text = format!(
        "name: r\nvhds: {{config_source: {source}}}\n\
         virtual_hosts: [{{name: own, domains: [own.test], routes: {routes}}}]"
    );
    from_yaml(Type::Route, &text)
}

/// A virtual host of `r` that says `text`.
fn host(name: &str, domain: &str, text: &str) -> Resource {
    let text = format!("name: r/{name}\ndomains: [\"{domain}\"]\nroutes: {}", says(text));
    from_yaml(Type::VirtualHost, &text)
}

fn world(flavor: Flavor) -> World {
    let world = World::start(flavor);
    world.plane.set(open_table(flavor, "own"));
    world
}

/// Status and body for this host.
fn ask(proxy: &Proxy, host: &str) -> (u16, String) {
    let mut client = proxy.client();
    client.request("GET", "/", &[("host", host)], b"");
    client.response("GET").map_or((0, String::new()), |response| (response.status, response.text()))
}

#[track_caller]
fn wait_ask(proxy: &Proxy, host: &str, status: u16, body: &str) {
    wait::for_true(&format!("{host}: {status} {body}"), || ask(proxy, host) == (status, body.to_owned()));
}

fn hosts_come_change_and_go(subject: &Subject) {
    for flavor in INCREMENTAL {
        let world = world(flavor);
        world.plane.update(|change| {
            change.set(host("a", "test.local", "a")).set(host("b", "b.test", "b"));
        });
        let proxy = world.proxy(subject);
        let first = world.plane.wait_for(0, "VHDS", |r| r.is(Type::VirtualHost));
        assert!(first.subscribe.is_empty(), "all of them, whatever their table");
        assert_eq!(get(&proxy), (200, "a".into()));
        assert_eq!(ask(&proxy, "b.test"), (200, "b".into()));
        assert_eq!(ask(&proxy, "own.test"), (200, "own".into()));
        assert_eq!(ask(&proxy, "c.test").0, 404);
        let mut kept = proxy.client();
        assert_eq!(kept.get("/").text(), "a");
        world.plane.update(|change| {
            change.set(host("a", "test.local", "a2")).set(host("c", "c.test", "c"));
        });
        world.in_force(Type::VirtualHost);
        wait_get(&proxy, 200, "a2");
        wait_ask(&proxy, "c.test", 200, "c");
        assert_eq!(kept.get("/").text(), "a2", "the connection stays");
        assert_eq!(ask(&proxy, "b.test"), (200, "b".into()));
        world.plane.remove(Type::VirtualHost, "r/a");
        wait_get(&proxy, 404, "");
        assert_eq!(ask(&proxy, "b.test"), (200, "b".into()));
        proxy.wait_stat("http.main.rds.vhds.r.update_success", 3);
        proxy.wait_stat("http.main.rds.vhds.r.config_reload", 3);
        let dumped = dump(&proxy, "RoutesConfigDump");
        let hosts = dumped["dynamic_route_configs"][0]["route_config"]["virtual_hosts"].clone();
        let names: Vec<_> = hosts.as_array().into_iter().flatten().map(|h| h["name"].clone()).collect();
        assert_eq!(names, ["own", "r/b", "r/c"], "{dumped:#}");
    }
}

fn a_listener_waits_for_the_first_hosts(subject: &Subject) {
    for flavor in INCREMENTAL {
        let world = world(flavor);
        world.plane.hold(Type::VirtualHost);
        world.plane.set(host("a", "test.local", "a"));
        let proxy = world.unready(subject, "");
        world.plane.wait_for(0, "VHDS", |r| r.is(Type::VirtualHost));
        never(Duration::from_millis(300), "ready without its hosts", || proxy.is_ready());
        world.plane.release(Type::VirtualHost);
        wait_get(&proxy, 200, "a");
    }
}

fn a_table_without_hosts_serves_its_own(subject: &Subject) {
    for flavor in INCREMENTAL {
        let world = world(flavor);
        let proxy = world.proxy(subject);
        assert_eq!(ask(&proxy, "own.test"), (200, "own".into()));
        world.plane.set(host("a", "test.local", "a"));
        wait_get(&proxy, 200, "a");
    }
}

/// Envoy drops the virtual hosts of tables that it does not have, and never asks again.
fn a_later_table_has_its_hosts_too(subject: &Subject) {
    if subject.is_envoy() {
        return;
    }
    for flavor in INCREMENTAL {
        let world = world(flavor);
        let source = flavor.config_source();
        world.plane.update(|change| {
            let text = format!("name: later/b\ndomains: [\"*\"]\nroutes: {}", says("b"));
            change.set(host("a", "test.local", "a")).set(from_yaml(Type::VirtualHost, &text));
        });
        let proxy = world.proxy(subject);
        world.plane.update(|change| {
            change.set(yaml::rds_listener("more", "later", flavor));
            change.set(from_yaml(Type::Route, &format!("name: later\nvhds: {{config_source: {source}}}")));
        });
        let address = proxy.wait_listener("more");
        wait::for_true("the host", || millrace_support::raw::Client::connect(address).get("/").text() == "b");
    }
}

fn a_refused_host_leaves_its_last_version(subject: &Subject) {
    for flavor in INCREMENTAL {
        let world = world(flavor);
        world.plane.set(host("a", "test.local", "a"));
        let proxy = world.proxy(subject);
        assert_eq!(get(&proxy), (200, "a".into()));
        let mark = world.plane.mark();
        world.plane.set(host("a", "own.test", "thief"));
        let nack = world.plane.wait_nack(mark, Type::VirtualHost);
        assert!(nack.reason().contains("own.test"), "{}", nack.reason());
        assert_eq!((get(&proxy).1, ask(&proxy, "own.test").1), ("a".into(), "own".into()));
        world.plane.set(host("a", "test.local", "a3"));
        wait_get(&proxy, 200, "a3");
    }
}

fn hosts_survive_their_tables_changes(subject: &Subject) {
    for flavor in INCREMENTAL {
        let world = world(flavor);
        world.plane.set(host("a", "test.local", "a"));
        let proxy = world.proxy(subject);
        assert_eq!(get(&proxy), (200, "a".into()));
        world.plane.set(open_table(flavor, "owned"));
        wait_ask(&proxy, "own.test", 200, "owned");
        assert_eq!(get(&proxy), (200, "a".into()));
    }
}

fn hosts_come_back_after_a_reconnect(subject: &Subject) {
    for flavor in INCREMENTAL {
        let world = world(flavor);
        world.plane.set(host("a", "test.local", "a"));
        let proxy = world.proxy(subject);
        assert_eq!(get(&proxy), (200, "a".into()));
        let mark = world.plane.mark();
        world.plane.drop_connections();
        let again = world.plane.wait_for(mark, "VHDS again", |r| r.is(Type::VirtualHost));
        assert!(again.initial_versions.contains_key("r/a"), "{again:?}");
        assert_eq!(get(&proxy), (200, "a".into()));
        world.plane.set(host("a", "test.local", "a2"));
        wait_get(&proxy, 200, "a2");
    }
}

fn state_of_the_world_is_refused(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::Sotw] {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.set(open_table(flavor, "own"));
        let nack = world.plane.wait_nack(mark, Type::Route);
        assert!(nack.reason().contains("DELTA_GRPC"), "{}", nack.reason());
        assert_eq!(get(&proxy), (200, "one".into()));
    }
}
