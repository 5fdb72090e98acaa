//! `/config_dump` and `/init_dump` about what control planes sent: it is shown as it came.

use millrace_e2e::{Case, case};
use millrace_proto::Message as _;
use millrace_proto::pb::envoy::config::core::v3::Metadata;
use millrace_proto::pb::google::protobuf::Any;
use millrace_support::bootstrap::Http;
use millrace_support::process::Proxy;
use millrace_support::subject::Subject;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Answer, Resource, Type, from_yaml};
use millrace_xds_tests::{World, clusters, dump, get};
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = &[
    case!(resources_are_shown_as_sent),
    case!(fields_that_nobody_knows_do_not_harm),
    case!(an_extension_that_nobody_knows_is_shown, not_envoy: "Envoy cannot print the type"),
    case!(one_list_of_resources),
    case!(masks_and_names),
    case!(endpoints_on_request),
    case!(what_start_up_waits_for),
    case!(a_refused_change_of_a_listener),
    case!(a_refusal_is_shown_until_the_next_update),
    case!(a_refused_change_of_a_cluster_or_route_table, not_envoy: "Envoy notes refusals of listeners only"),
];

/// Metadata of all kinds.
const METADATA: &str = "metadata: {filter_metadata: {envoy.lb: {canary: true, weight: 3.5, list: [a, null, {k: v}]}, \
                        istio: {services: [{host: a.b, name: a}]}}, typed_filter_metadata: {typed: {\"@type\": \
                        type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/a.b.C, value: \
                        {deep: {er: [1, 2]}}}, rule: {\"@type\": type.googleapis.com/google.protobuf.Duration, value: 1.500s}}}";

/// The resource as `/config_dump` is to show it.
fn printed(resource: &Resource) -> Value {
    let mut value =
        millrace_proto::to_json(&resource.body.type_url, &resource.body.value).unwrap_or_default();
    value["@type"] = json!(resource.body.type_url);
    value
}

/// The element of a list of a section for which the pointer gives this name.
fn shown(proxy: &Proxy, section: &str, list: &str, pointer: &str, name: &str) -> Value {
    let dumped = dump(proxy, section);
    let all = dumped[list].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|v| v.pointer(pointer).is_some_and(|n| n == name)).unwrap_or_default()
}

fn shown_cluster(proxy: &Proxy, name: &str) -> Value {
    shown(proxy, "ClustersConfigDump", "dynamic_active_clusters", "/cluster/name", name)
}

fn shown_listener(proxy: &Proxy, name: &str) -> Value {
    shown(proxy, "ListenersConfigDump", "dynamic_listeners", "/name", name)
}

fn shown_table(proxy: &Proxy, name: &str) -> Value {
    shown(proxy, "RoutesConfigDump", "dynamic_route_configs", "/route_config/name", name)
}

fn rich_cluster(world: &World) -> Resource {
    let fields = format!(
        "{METADATA}\nconnect_timeout: 1.25s\nper_connection_buffer_limit_bytes: 32768\nlb_policy: LEAST_REQUEST\n\
         circuit_breakers: {{thresholds: [{{max_connections: 4294967295, max_retries: 7}}, {{priority: HIGH}}]}}\n\
         alt_stat_name: alt\ncommon_lb_config: {{healthy_panic_threshold: {{value: 12.5}}}}\n"
    );
    yaml::static_cluster("rich", &[world.upstream.address()], &fields)
}

fn rich_listener(flavor: Flavor) -> Resource {
    let http = Http::rds("rich", &flavor.config_source())
        .named("rich")
        .listener(&format!("{METADATA}\ntraffic_direction: INBOUND\nper_connection_buffer_limit_bytes: 16384"))
        .hcm("common_http_protocol_options: {idle_timeout: 3600s}\nuse_remote_address: true\nserver_name: \"ü\"");
    yaml::listener(&http)
}

fn rich_table() -> Resource {
    let route = format!(
        "{{name: one, match: {{prefix: /a, headers: [{{name: x-h, string_match: {{safe_regex: {{regex: \"a.*\"}}}}}}]}}, \
         {METADATA}, route: {{cluster: rich, timeout: 0s, retry_policy: {{retry_on: 5xx, num_retries: 2}}}}, \
         request_headers_to_add: [{{header: {{key: x-a, value: \"%PROTOCOL%\"}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}]}}, \
         {{match: {{prefix: \"/\"}}, route: {{weighted_clusters: {{clusters: [{{name: up, weight: 1}}, {{name: rich, weight: 3}}]}}}}}}"
    );
    yaml::routes("rich", &route)
}

fn rich(world: &World) -> [Resource; 3] {
    let all = [rich_cluster(world), rich_listener(world.flavor), rich_table()];
    world.plane.update(|change| {
        for resource in &all {
            change.set(resource.clone());
        }
    });
    all
}

fn resources_are_shown_as_sent(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = World::start(flavor);
        let [cluster, listener, table] = rich(&world);
        let proxy = world.proxy(subject);
        proxy.wait_listener("rich");
        assert_eq!(shown_cluster(&proxy, "rich")["cluster"], printed(&cluster), "{flavor:?}");
        assert_eq!(
            shown_listener(&proxy, "rich")["active_state"]["listener"],
            printed(&listener),
            "{flavor:?}"
        );
        assert_eq!(shown_table(&proxy, "rich")["route_config"], printed(&table), "{flavor:?}");
        assert!(world.plane.nacks(Type::Cluster).is_empty() && world.plane.nacks(Type::Listener).is_empty());
    }
}

fn fields_that_nobody_knows_do_not_harm(subject: &Subject) {
    let world = World::start(Flavor::AdsDelta);
    for ty in [Type::Cluster, Type::Endpoint, Type::Listener, Type::Route] {
        world.plane.next_answer(ty, Answer::Padded(100));
    }
    let [cluster, listener, table] = rich(&world);
    let proxy = world.proxy(subject);
    proxy.wait_listener("rich");
    assert_eq!(get(&proxy), (200, "one".into()));
    assert_eq!(shown_cluster(&proxy, "rich")["cluster"], printed(&cluster));
    assert_eq!(shown_listener(&proxy, "rich")["active_state"]["listener"], printed(&listener));
    assert_eq!(shown_table(&proxy, "rich")["route_config"], printed(&table));
}

/// A cluster (`metadata` is field 25) with typed metadata of a type that no schema has.
fn with_unknown_extension() -> Resource {
    let mut resource = yaml::static_cluster("rich", &[], "");
    let any = Any { type_url: "type.googleapis.com/nobody.knows.This".into(), value: vec![8, 1, 0xff] };
    let mut metadata = Metadata::default();
    metadata.typed_filter_metadata.insert("strange".into(), any);
    let bytes = metadata.encode_to_vec();
    resource.body.value.extend_from_slice(&[0xca, 0x01, u8::try_from(bytes.len()).unwrap_or(0)]);
    resource.body.value.extend_from_slice(&bytes);
    resource
}

fn an_extension_that_nobody_knows_is_shown(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    world.plane.set(with_unknown_extension());
    let proxy = world.proxy(subject);
    let cluster = shown_cluster(&proxy, "rich");
    let strange = &cluster["cluster"]["metadata"]["typed_filter_metadata"]["strange"];
    assert_eq!(strange["@type"], "type.googleapis.com/nobody.knows.This", "{cluster:#}");
    assert_eq!(strange["value"], "CAH/", "its octets in base64");
    assert_eq!(shown_cluster(&proxy, "up")["cluster"]["name"], "up", "the others are there, too");
}

/// `configs` of `/config_dump` with this query.
fn configs(proxy: &Proxy, query: &str) -> Vec<Value> {
    let body = proxy.admin_get(&format!("/config_dump?{query}")).body;
    let tree: Value = serde_json::from_slice(&body).unwrap_or_default();
    tree["configs"].as_array().cloned().unwrap_or_default()
}

fn one_list_of_resources(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    rich(&world);
    let proxy = world.proxy(subject);
    proxy.wait_listener("rich");
    let names = |query: &str, pointer: &str| -> Vec<String> {
        let mut all: Vec<String> = configs(&proxy, query)
            .iter()
            .map(|v| v.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned())
            .collect();
        all.sort();
        all
    };
    assert_eq!(names("resource=dynamic_active_clusters", "/cluster/name"), ["rich", "up"]);
    assert_eq!(names("resource=static_clusters", "/cluster/name"), ["xds"]);
    assert_eq!(names("resource=dynamic_warming_clusters", "/cluster/name"), [""; 0]);
    assert_eq!(names("resource=dynamic_listeners", "/name"), ["main", "rich"]);
    assert_eq!(names("resource=dynamic_route_configs", "/route_config/name"), ["r", "rich"]);
    assert_eq!(names("resource=dynamic_listeners&name_regex=ri.*", "/name"), ["rich"]);
    assert_eq!(names("resource=dynamic_route_configs&name_regex=r", "/route_config/name"), ["r"]);
    let types = names("resource=dynamic_listeners", "/@type");
    assert_eq!(types[0], "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener");
    let absent = proxy.admin_get("/config_dump?resource=nothing");
    assert_eq!(absent.status, 404, "{}", absent.text());
    let single = proxy.admin_get("/config_dump?resource=version_info");
    assert_eq!(single.status, 400, "{}", single.text());
}

fn masks_and_names(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    rich(&world);
    let proxy = world.proxy(subject);
    proxy.wait_listener("rich");
    let masked =
        configs(&proxy, "resource=dynamic_active_clusters&mask=cluster.name,version_info&name_regex=rich");
    let version = world.plane.acks(Type::Cluster).pop().map(|a| a.version).unwrap_or_default();
    let url = "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster";
    let cluster = json!({"@type": Type::Cluster.url(), "name": "rich"});
    assert_eq!(masked, [json!({"@type": url, "version_info": version, "cluster": cluster})]);
    let masked = configs(&proxy, "mask=dynamic_route_configs");
    assert_eq!(masked.len(), 1, "{masked:#?}");
    assert_eq!(masked[0]["@type"], "type.googleapis.com/envoy.admin.v3.RoutesConfigDump");
    let tables = masked[0]["dynamic_route_configs"].as_array().cloned().unwrap_or_default();
    assert_eq!(tables.len(), 2, "{masked:#?}");
    assert!(tables.iter().all(|t| t["route_config"]["virtual_hosts"].is_array()), "{masked:#?}");
    let wrong = proxy.admin_get("/config_dump?mask=no_such_field");
    assert_eq!(wrong.status, 400, "{}", wrong.text());
}

fn endpoints_on_request(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    let proxy = world.proxy(subject);
    let section = |v: &Value| v["@type"].as_str().is_some_and(|t| t.ends_with(".EndpointsConfigDump"));
    assert!(!configs(&proxy, "").iter().any(section));
    assert!(configs(&proxy, "include_eds").iter().any(section));
    let all = configs(&proxy, "resource=dynamic_endpoint_configs&include_eds");
    let port = world.upstream.address().port();
    let endpoints = all.iter().find(|v| v["endpoint_config"]["cluster_name"] == "up");
    let endpoint = endpoints.and_then(|v| v.pointer("/endpoint_config/endpoints/0/lb_endpoints/0")).cloned();
    let endpoint = endpoint.unwrap_or_default();
    let socket = &endpoint["endpoint"]["address"]["socket_address"];
    assert_eq!(
        (&socket["port_value"], &endpoint["health_status"]),
        (&json!(port), &json!("HEALTHY")),
        "{all:#?}"
    );
}

fn what_start_up_waits_for(subject: &Subject) {
    let world = World::start(Flavor::AdsSotw);
    world.plane.hold(Type::Route);
    let proxy = world.unready(subject, "");
    world.plane.wait_for(0, "RDS", |r| r.is(Type::Route));
    let text = || proxy.admin_get("/init_dump").text();
    let named = wait::until(wait::PATIENCE, || text().contains("main").then_some(()));
    assert!(named.is_some(), "{}", text());
    assert!(text().contains("unready_targets_dumps"), "{}", text());
    world.plane.release(Type::Route);
    proxy.wait_ready();
    wait::for_true("nothing to wait for", || !text().contains("main"));
}

/// The same listener, but for a route to a cluster that does not exist.
fn broken(name: &str) -> Resource {
    yaml::listener(&Http::to("absent").named(name).route_config("validate_clusters: true"))
}

fn a_refused_change_of_a_listener(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let good = shown_listener(&proxy, "main");
        assert!(good["error_state"].is_null(), "{good:#}");
        let mark = world.plane.mark();
        let bad = broken("main");
        world.plane.set(bad.clone());
        world.plane.wait_nack(mark, Type::Listener);
        let after = shown_listener(&proxy, "main");
        assert_eq!(after["active_state"], good["active_state"], "{after:#}");
        let error = &after["error_state"];
        assert_eq!(error["failed_configuration"], printed(&bad), "{after:#}");
        assert!(error["details"].as_str().is_some_and(|d| d.contains("absent")), "{after:#}");
        assert!(error["last_update_attempt"].is_string(), "{after:#}");
        world.plane.set(yaml::rds_listener("main", "r", flavor));
        world.in_force(Type::Listener);
        wait::for_true("the error to go", || shown_listener(&proxy, "main")["error_state"].is_null());
        assert_eq!(get(&proxy), (200, "one".into()));
    }
}

/// What was refused once and does not come again is not shown for ever.
fn a_refusal_is_shown_until_the_next_update(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = World::start(flavor);
        let proxy = world.proxy(subject);
        let mark = world.plane.mark();
        world.plane.set(broken("bad"));
        world.plane.wait_nack(mark, Type::Listener);
        assert!(shown_listener(&proxy, "bad")["error_state"].is_object());
        world.plane.update(|change| {
            change.remove(Type::Listener, "bad").set(yaml::rds_listener("more", "r", flavor));
        });
        proxy.wait_listener("more");
        world.in_force(Type::Listener);
        assert_eq!(shown_listener(&proxy, "bad"), Value::Null, "{flavor:?}");
    }
}

fn a_refused_change_of_a_cluster_or_route_table(subject: &Subject) {
    let world = World::start(Flavor::AdsDelta);
    let proxy = world.proxy(subject);
    let mark = world.plane.mark();
    let cluster = yaml::static_cluster("up", &[], "lb_policy: CLUSTER_PROVIDED\n");
    let table = from_yaml(Type::Route, "{name: r, virtual_hosts: [{name: v, domains: []}]}");
    world.plane.update(|change| {
        change.set(cluster.clone()).set(table.clone());
    });
    world.plane.wait_nack(mark, Type::Cluster);
    world.plane.wait_nack(mark, Type::Route);
    let found = shown_cluster(&proxy, "up");
    assert_eq!(found["error_state"]["failed_configuration"], printed(&cluster), "{found:#}");
    assert_eq!(found["cluster"]["type"], "EDS", "the last good one is in force");
    let found = shown_table(&proxy, "r");
    assert_eq!(found["error_state"]["failed_configuration"], printed(&table), "{found:#}");
    assert_eq!((get(&proxy), clusters(&proxy).contains("up")), ((200, "one".into()), true));
}
