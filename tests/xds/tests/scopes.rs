//! `scoped_routes`: a key of header fields chooses the route table, inline and over SRDS.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::Http;
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Resource, Type, from_yaml};
use millrace_xds_tests::{World, dump, never};

pub(crate) const CASES: &[Case] = &[
    case!(inline_scopes),
    case!(scopes_come_change_and_go),
    case!(a_listener_waits_for_its_scopes_and_their_tables),
    case!(a_conflicting_scope_is_refused),
    case!(a_scope_may_hold_its_table),
    case!(two_listeners_have_the_same_scopes),
    case!(scopes_in_the_dump_and_the_counters),
];

/// Two fragments: the field `x-a`, and the value of `k` in `x-b`.
const KEY: &str = "scope_key_builder: {fragments: [\
    {header_value_extractor: {name: x-a, index: 0}}, \
    {header_value_extractor: {name: X-B, element_separator: ';', element: {separator: '=', key: k}}}]}";

/// Routes that answer with this text.
fn says(text: &str) -> String {
    format!("{{match: {{prefix: \"/\"}}, direct_response: {{status: 200, body: {{inline_string: {text}}}}}}}")
}

/// A scope; `routes` is its table.
fn scope_text(name: &str, key: [&str; 2], routes: &str) -> String {
    let [a, b] = key;
    format!("{{name: {name}, key: {{fragments: [{{string_key: {a}}}, {{string_key: {b}}}]}}, {routes}}}")
}

fn scope(name: &str, key: [&str; 2], table: &str) -> Resource {
    from_yaml(Type::ScopedRoute, &scope_text(name, key, &format!("route_configuration_name: {table}")))
}

/// A listener with scopes from SRDS.
fn scoped_listener(name: &str, flavor: Flavor) -> Resource {
    let source = flavor.config_source();
    let scoped = format!(
        "{{name: scopes, {KEY}, rds_config_source: {source}, scoped_rds: {{scoped_rds_config_source: {source}}}}}"
    );
    yaml::listener(&Http::scoped(&scoped).named(name))
}

/// The scopes a (1, 1) and b (1, 2) with tables that say so.
fn world(flavor: Flavor) -> World {
    let world = World::start(flavor);
    world.plane.update(|change| {
        change.set(scoped_listener("main", flavor));
        change.set(scope("a", ["v1", "v1"], "ta")).set(scope("b", ["v1", "v2"], "tb"));
        change.set(yaml::routes("ta", &says("a"))).set(yaml::routes("tb", &says("b")));
    });
    world
}

fn start(world: &World, subject: &Subject) -> Proxy {
    let proxy = Proxy::start(subject, &yaml::bootstrap(&world.plane, world.flavor));
    proxy.wait_listener("main");
    proxy
}

/// Status and body on one connection.
fn ask_on(client: &mut Client, fields: &[(&str, &str)]) -> (u16, String) {
    let response = client.get_with("/", fields);
    (response.status, response.text())
}

fn ask(proxy: &Proxy, a: &str, b: &str) -> (u16, String) {
    ask_on(&mut proxy.client(), &[("x-a", a), ("x-b", &format!("n=0;k={b}"))])
}

#[track_caller]
fn wait_ask(proxy: &Proxy, a: &str, b: &str, status: u16, body: &str) {
    wait::for_true(&format!("{a} {b}: {status} {body}"), || ask(proxy, a, b) == (status, body.to_owned()));
}

fn inline_scopes(subject: &Subject) {
    let table = |text: &str| {
        format!(
            "route_configuration: {{name: {text}, virtual_hosts: [{{name: v, domains: ['*'], routes: [{}]}}]}}",
            says(text)
        )
    };
    let list = [
        scope_text("a", ["v1", "v1"], &table("a")),
        scope_text("b", ["v1", "v2"], &table("b")),
        scope_text("c", ["v1", "v2"], &table("c")),
        scope_text("a", ["v3", "v3"], &table("d")),
    ];
    let list = format!("{{scoped_route_configurations: [{}]}}", list.join(", "));
    let scoped = format!("{{name: scopes, {KEY}, scoped_route_configurations_list: {list}}}");
    let proxy =
        Proxy::start(subject, &millrace_support::bootstrap::Bootstrap::new().http(Http::scoped(&scoped)));
    proxy.wait_listener("main");
    assert_eq!(ask(&proxy, "v1", "v2"), (200, "c".into()), "the last one of a key");
    assert_eq!(ask(&proxy, "v3", "v3"), (200, "d".into()), "the last one of a name");
    assert_eq!(ask(&proxy, "v1", "v1").0, 404);
    assert_eq!(proxy.log().line(2).verdict(), ("404", "NR", "route_not_found"));
    let inline = &dump(&proxy, "ScopedRoutesConfigDump")["inline_scoped_route_configs"][0];
    assert_eq!(inline["name"], "scopes", "{inline:#}");
    assert!(inline["scoped_route_configs"].as_array().is_some_and(|all| !all.is_empty()), "{inline:#}");
    let mut client = proxy.client();
    for fields in [
        &[][..],
        &[("x-a", "v1")],
        &[("x-b", "k=v2")],
        &[("x-a", "v1"), ("x-b", "v2")],
        &[("x-a", "v0"), ("x-a", "v1"), ("x-b", "k=v2")],
        &[("x-a", "v1"), ("x-b", "k=v2=")],
        &[("x-a", "v1"), ("x-b", " k =v2")],
    ] {
        assert_eq!(ask_on(&mut client, fields), (404, String::new()), "{fields:?}");
    }
    for fields in [
        &[("x-a", "v1"), ("x-b", "k=v2")][..],
        &[("x-a", "v1"), ("x-a", "v0"), ("x-b", "k=v2;k=v3")],
        &[("x-a", "v1"), ("x-b", "a;b=1;k=v2;c")],
    ] {
        assert_eq!(ask_on(&mut client, fields), (200, "c".into()), "{fields:?}");
    }
}

fn scopes_come_change_and_go(subject: &Subject) {
    for flavor in Flavor::ALL {
        let world = world(flavor);
        let proxy = start(&world, subject);
        assert_eq!((ask(&proxy, "v1", "v1").1, ask(&proxy, "v1", "v2").1), ("a".into(), "b".into()));
        assert_eq!(ask(&proxy, "v2", "v2").0, 404);
        let mut kept = proxy.client();
        let fields = [("x-a", "v1"), ("x-b", "k=v1")];
        assert_eq!(ask_on(&mut kept, &fields).1, "a");
        world.plane.set(yaml::routes("ta", &says("a2")));
        wait_ask(&proxy, "v1", "v1", 200, "a2");
        assert_eq!(ask_on(&mut kept, &fields).1, "a2", "the connection stays");
        world.plane.update(|change| {
            change.set(scope("b", ["v2", "v2"], "tb")).set(scope("c", ["v1", "v2"], "tc"));
            change.set(yaml::routes("tc", &says("c")));
        });
        wait_ask(&proxy, "v2", "v2", 200, "b");
        wait_ask(&proxy, "v1", "v2", 200, "c");
        world.plane.set(scope("c", ["v1", "v2"], "ta"));
        wait_ask(&proxy, "v1", "v2", 200, "a2");
        world.plane.remove(Type::ScopedRoute, "a");
        wait_ask(&proxy, "v1", "v1", 404, "");
        assert_eq!(ask_on(&mut kept, &fields).0, 404);
        assert_eq!(ask(&proxy, "v1", "v2"), (200, "a2".into()), "another scope has the table still");
    }
}

fn a_listener_waits_for_its_scopes_and_their_tables(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = world(flavor);
        world.plane.hold(Type::ScopedRoute);
        world.plane.hold(Type::Route);
        let proxy = world.unready(subject, "");
        world
            .plane
            .wait_for(0, "SRDS", |r| r.is(Type::ScopedRoute) && r.names.is_empty() && r.subscribe.is_empty());
        never(Duration::from_millis(200), "ready without its scopes", || proxy.is_ready());
        world.plane.release(Type::ScopedRoute);
        world.plane.wait_for(0, "RDS", |r| r.is(Type::Route));
        never(Duration::from_millis(200), "ready without their tables", || proxy.is_ready());
        world.plane.release(Type::Route);
        proxy.wait_ready();
        wait_ask(&proxy, "v1", "v1", 200, "a");
    }
}

fn a_conflicting_scope_is_refused(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = world(flavor);
        let proxy = start(&world, subject);
        let mark = world.plane.mark();
        world.plane.set(scope("c", ["v1", "v1"], "tb"));
        let nack = world.plane.wait_nack(mark, Type::ScopedRoute);
        assert!(nack.reason().contains("scope key conflict"), "{}", nack.reason());
        assert_eq!((ask(&proxy, "v1", "v1").1, ask(&proxy, "v1", "v2").1), ("a".into(), "b".into()));
        world.plane.set(scope("c", ["v3", "v3"], "tb"));
        wait_ask(&proxy, "v3", "v3", 200, "b");
    }
}

fn a_scope_may_hold_its_table(subject: &Subject) {
    let world = world(Flavor::AdsDelta);
    let proxy = start(&world, subject);
    let table = format!(
        "route_configuration: {{name: held, virtual_hosts: [{{name: v, domains: ['*'], routes: [{}]}}]}}",
        says("held")
    );
    world.plane.set(from_yaml(Type::ScopedRoute, &scope_text("c", ["v3", "v3"], &table)));
    wait_ask(&proxy, "v3", "v3", 200, "held");
    let mark = world.plane.mark();
    world.plane.set(from_yaml(Type::ScopedRoute, &scope_text("c", ["v3", "v3"], "on_demand: false")));
    let nack = world.plane.wait_nack(mark, Type::ScopedRoute);
    assert!(nack.reason().contains("route_configuration_name is empty"), "{}", nack.reason());
}

fn two_listeners_have_the_same_scopes(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = world(flavor);
        let proxy = start(&world, subject);
        world.plane.set(scoped_listener("more", flavor));
        let address = proxy.wait_listener("more");
        let more = || ask_on(&mut Client::connect(address), &[("x-a", "v1"), ("x-b", "k=v1")]);
        wait::for_true("the second listener", || more() == (200, "a".into()));
        world.plane.set(scope("a", ["v1", "v1"], "tb"));
        wait_ask(&proxy, "v1", "v1", 200, "b");
        wait::for_true("the second listener", || more() == (200, "b".into()));
    }
}

fn scopes_in_the_dump_and_the_counters(subject: &Subject) {
    let world = world(Flavor::AdsSotw);
    let proxy = start(&world, subject);
    proxy.wait_stat("http.main.scoped_rds.scopes.update_success", 1);
    proxy.wait_stat("http.main.scoped_rds.scopes.config_reload", 1);
    proxy.wait_stat("http.main.scoped_rds.scopes.all_scopes", 2);
    proxy.wait_stat("http.main.scoped_rds.scopes.active_scopes", 2);
    proxy.wait_stat("http.main.rds.ta.update_success", 1);
    let dumped = dump(&proxy, "ScopedRoutesConfigDump");
    let scopes = &dumped["dynamic_scoped_route_configs"][0];
    assert_eq!(scopes["name"], "scopes", "{dumped:#}");
    let version = world.plane.acks(Type::ScopedRoute).pop().map(|a| a.version).unwrap_or_default();
    assert_eq!(scopes["version_info"], version.as_str());
    let names = scopes["scoped_route_configs"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<_> = names.iter().map(|scope| scope["name"].as_str().unwrap_or_default()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
    assert!(scopes["last_updated"].is_string());
    let tables = dump(&proxy, "RoutesConfigDump")["dynamic_route_configs"].clone();
    let tables = tables.as_array().cloned().unwrap_or_default();
    assert!(tables.iter().any(|table| table["route_config"]["name"] == "ta"), "{tables:#?}");
}
