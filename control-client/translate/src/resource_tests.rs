//! Resources that came on their own: what stays the same across versions, and what is counted and reported.

use millrace_config::{ClusterDiscovery, HealthStatus, NetworkFilter, RouteSource};
use millrace_observe::stats::Registry;
use millrace_proto::{message_from_json, yaml};

use super::*;
use crate::{Overrides, RejectionKind, Sources};

pub(super) fn context() -> Context {
    Context::new(Registry::new(), Overrides::default())
}

pub(super) fn bytes(type_url: &str, text: &str) -> Vec<u8> {
    let message = schema::Message::by_type_url(type_url).unwrap();
    message_from_json(message, &yaml::parse(text).unwrap()).unwrap()
}

pub(super) fn eds_cluster(cx: &mut Context, more: &str) -> Cluster {
    let text = format!("{{name: c, type: EDS, eds_cluster_config: {{eds_config: {{ads: {{}}}}}}, {more}}}");
    cluster(&bytes(CLUSTER, &text), None, cx).unwrap().value
}

fn load(cx: &mut Context, cluster: &Cluster, endpoints: &str) -> LoadAssignment {
    let text = format!("{{cluster_name: c, endpoints: [{endpoints}]}}");
    load_assignment(&bytes(CLUSTER_LOAD_ASSIGNMENT, &text), cluster, cx).unwrap().value
}

fn endpoint(address: &str, more: &str) -> String {
    format!("{{endpoint: {{address: {{socket_address: {{address: {address}, port_value: 1}}}}}}, {more}}}")
}

#[test]
fn an_eds_cluster_waits_for_its_assignment() {
    let mut cx = context();
    let built = eds_cluster(&mut cx, "load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: []}]}");
    let ClusterDiscovery::Eds { service_name, source, initial_fetch_timeout } = &built.discovery else {
        panic!("EDS")
    };
    assert_eq!((&**service_name, *source), ("c", Sources::ADS));
    assert_eq!(initial_fetch_timeout.unwrap().as_secs(), 15);
    assert!(built.localities.is_empty());
    let named = cluster(
        &bytes(CLUSTER, "{name: c, type: EDS, eds_cluster_config: {service_name: s, eds_config: {ads: {}, initial_fetch_timeout: 0s}}}"),
        None,
        &mut cx,
    )
    .unwrap()
    .value;
    let ClusterDiscovery::Eds { service_name, initial_fetch_timeout, .. } = &named.discovery else {
        panic!("EDS")
    };
    assert_eq!((&**service_name, *initial_fetch_timeout), ("s", None));
}

#[test]
fn endpoints_keep_their_scopes_by_address() {
    let mut cx = context();
    let mut c = eds_cluster(&mut cx, "");
    let (a, b) = (endpoint("10.0.0.1", ""), endpoint("10.0.0.2", "health_status: DRAINING"));
    let first =
        load(&mut cx, &c, &format!("{{priority: 1, lb_endpoints: [{b}]}}, {{lb_endpoints: [{a}, {a}]}}"));
    let [high, low] = &first.localities[..] else { panic!("two priorities") };
    assert_eq!((high.priority, low.priority, first.overprovisioning_factor), (0, 1, 140));
    // The second endpoint of one address is left out, as in Envoy.
    assert_eq!((high.endpoints.len(), low.endpoints[0].health), (1, HealthStatus::Draining));
    assert!(first.retired.is_empty());
    let (of_a, of_b) = (high.endpoints[0].scope, low.endpoints[0].scope);
    assert_ne!(of_a, of_b);

    c.localities = first.localities;
    let heavier = endpoint("10.0.0.1", "load_balancing_weight: 5");
    let second = load(&mut cx, &c, &format!("{{lb_endpoints: [{}, {heavier}]}}", endpoint("10.0.0.3", "")));
    let [new, kept] = &second.localities[0].endpoints[..] else { panic!("two endpoints") };
    assert_eq!((kept.scope, kept.weight, second.retired), (of_a, 5, vec![of_b]));
    assert!(new.scope != of_a && new.scope != of_b);

    // Nothing at all is a state too.
    c.localities = second.localities;
    let empty = load(&mut cx, &c, "");
    assert_eq!((empty.localities.len(), empty.retired.len()), (0, 2));
}

#[test]
fn a_static_cluster_keeps_the_scopes_of_its_endpoints() {
    let mut cx = context();
    let text = |address: &str| {
        let endpoints = endpoint(address, "");
        bytes(
            CLUSTER,
            &format!(
                "{{name: c, load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: [{endpoints}]}}]}}}}"
            ),
        )
    };
    let first = cluster(&text("10.0.0.1"), None, &mut cx).unwrap().value;
    let same = cluster(&text("10.0.0.1"), Some(&first), &mut cx).unwrap().value;
    assert_eq!(same.localities, first.localities);
    let other = cluster(&text("10.0.0.2"), Some(&first), &mut cx).unwrap().value;
    assert_eq!(
        retired_scopes(&first.localities, &other.localities),
        [first.localities[0].endpoints[0].scope]
    );
}

const HCM: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

fn chain(port: u16, cluster: &str) -> String {
    format!(
        "{{filter_chain_match: {{destination_port: {port}}}, filters: [{{name: h, typed_config: {{'@type': t/{HCM}, stat_prefix: s, \
         route_config: {{virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}]}}]}}}}}}]}}"
    )
}

fn listener_of(cx: &mut Context, previous: Option<&Listener>, fields: &str) -> Listener {
    let text =
        format!("{{name: l, address: {{socket_address: {{address: 127.0.0.1, port_value: 1}}}}, {fields}}}");
    listener(&bytes(LISTENER, &text), previous, cx).unwrap().value
}

#[test]
fn filter_chains_that_stay_are_the_same_ones() {
    let mut cx = context();
    cx.cluster_added(&"a".into());
    cx.cluster_added(&"b".into());
    let tcp = "default_filter_chain: {filters: [{name: t, typed_config: {'@type': t/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: a}}]}";
    let chains = |second: &str| format!("filter_chains: [{}, {}], {tcp}", chain(80, "a"), chain(81, second));
    let first = listener_of(&mut cx, None, &chains("a"));
    let second = listener_of(&mut cx, Some(&first), &chains("b"));
    assert!(Arc::ptr_eq(&first.filter_chains[0], &second.filter_chains[0]));
    assert!(!Arc::ptr_eq(&first.filter_chains[1], &second.filter_chains[1]));
    let default = |listener: &Listener| Arc::clone(listener.default_filter_chain.as_ref().unwrap());
    assert!(Arc::ptr_eq(&default(&first), &default(&second)));
    // Metadata is not part of what a chain does; the listener's name in statistics is.
    let named = chains("b").replace(
        "default_filter_chain: {",
        "default_filter_chain: {metadata: {filter_metadata: {a: {k: v}, b: {}}}, ",
    );
    let third = listener_of(&mut cx, Some(&second), &named);
    assert!(Arc::ptr_eq(&default(&third), &default(&second)));
    let counted = listener_of(&mut cx, Some(&second), &format!("stat_prefix: other, {}", chains("b")));
    assert!(!Arc::ptr_eq(&counted.filter_chains[0], &second.filter_chains[0]));
    // Chains move freely.
    let swapped = format!("filter_chains: [{}, {}]", chain(81, "b"), chain(80, "a"));
    let fourth = listener_of(&mut cx, Some(&second), &swapped);
    assert!(Arc::ptr_eq(&fourth.filter_chains[1], &second.filter_chains[0]));
    assert!(fourth.default_filter_chain.is_none());
}

#[test]
fn inline_routes_need_their_clusters_and_rds_does_not() {
    let mut cx = context();
    let text = format!("{{address: {{pipe: {{path: /x}}}}, filter_chains: [{}]}}", chain(80, "late"));
    let missing = listener(&bytes(LISTENER, &text), None, &mut cx).unwrap_err();
    assert!(missing.path.ends_with("route_config.virtual_hosts[0].routes[0].route.cluster"), "{missing}");
    assert_eq!(missing.reason, "route: unknown cluster 'late'");
    cx.cluster_added(&"late".into());
    assert!(listener(&bytes(LISTENER, &text), None, &mut cx).is_ok());
    cx.cluster_removed("late");
    assert!(listener(&bytes(LISTENER, &text), None, &mut cx).is_err());
    let table = "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: late}}]}]}";
    assert!(route_configuration(&bytes(ROUTE_CONFIGURATION, table), &mut cx).is_ok());
    let strict = table.replace("name: r,", "name: r, validate_clusters: true,");
    assert!(route_configuration(&bytes(ROUTE_CONFIGURATION, &strict), &mut cx).is_err());
}

#[test]
fn scopes_name_tables_or_hold_them() {
    let mut cx = context();
    let tables = Subscription { source: Sources::ADS, initial_fetch_timeout: None };
    let mut scope = |routes: &str| {
        let text =
            format!("{{name: s, key: {{fragments: [{{string_key: a}}, {{string_key: b}}]}}, {routes}}}");
        scoped_route(&bytes(SCOPED_ROUTE_CONFIGURATION, &text), tables, &mut cx).unwrap()
    };
    let on_demand = scope("route_configuration_name: t, on_demand: true");
    assert_eq!(on_demand.unsupported[0].path, "on_demand");
    let named = on_demand.value;
    assert_eq!(named.key, ["a", "b"].map(|part| std::sync::Arc::from(part.as_bytes())));
    let millrace_config::ScopeRoutes::Rds(id) = named.routes else { panic!("RDS") };
    let held = scope("route_configuration: {name: t, virtual_hosts: [{name: v, domains: [x]}]}").value;
    let millrace_config::ScopeRoutes::Inline(table) = held.routes else { panic!("inline") };
    assert!(table.virtual_host(b"x").is_some());
    assert_eq!(cx.route_tables.find("t", Sources::ADS), Some(id));
}

#[test]
fn virtual_hosts_follow_the_rules_of_their_table() {
    let mut cx = context();
    let table = "{name: r, vhds: {config_source: {ads: {}, initial_fetch_timeout: 3s}}, virtual_hosts: [{name: a, domains: [a]}], \
         max_direct_response_body_size_bytes: 2}";
    let table = route_configuration(&bytes(ROUTE_CONFIGURATION, table), &mut cx).unwrap().value;
    let vhds = table.vhds.unwrap();
    assert_eq!((vhds.source, vhds.initial_fetch_timeout.unwrap().as_secs()), (Sources::ADS, 3));
    let mut host = |domain: &str, body: &str| {
        let text = format!(
            "{{name: h, domains: ['{domain}'], routes: [{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: {body}}}}}}}]}}"
        );
        virtual_host(&bytes(VIRTUAL_HOST, &text), &table, &mut cx)
    };
    let long = host("B", "xyz").unwrap_err();
    assert_eq!(long.path, "routes[0].direct_response.body");
    let (b, c) = (host("B", "xy").unwrap().value.into(), host("c", "xy").unwrap().value.into());
    let joined = table.with_hosts([&b, &c]).unwrap();
    let names = ["a", "b", "c", "d"].map(|name| joined.virtual_host(name.as_bytes()).is_some());
    assert_eq!(names, [true, true, true, false]);
    let twice = table.with_hosts([&b, &c, &b]).unwrap_err();
    assert_eq!(twice, "Only unique values for domains are permitted. Duplicate entry of domain b in route r");
}

#[test]
fn virtual_hosts_need_the_incremental_variant() {
    let mut cx = context();
    let with_ads = |api_type: &str| {
        let text = format!(
            "{{dynamic_resources: {{ads_config: {{api_type: {api_type}, grpc_services: [{{google_grpc: {{stat_prefix: s, target_uri: 'a:1'}}}}]}}}}}}"
        );
        let parsed =
            millrace_proto::bootstrap_from_yaml(&text, &millrace_proto::LoadOptions::default()).unwrap();
        let mut cx = context();
        crate::bootstrap(&parsed.bytes, &mut cx).unwrap();
        cx
    };
    let table = bytes(ROUTE_CONFIGURATION, "{name: r, vhds: {config_source: {ads: {}}}}");
    assert!(route_configuration(&table, &mut cx).is_ok(), "nothing arrives then");
    assert!(route_configuration(&table, &mut with_ads("DELTA_GRPC")).is_ok());
    let refused = route_configuration(&table, &mut with_ads("GRPC")).unwrap_err();
    assert_eq!(refused.path, "vhds.config_source");
    assert!(refused.reason.starts_with("vhds: ADS must use DELTA_GRPC"), "{refused}");
}

#[test]
fn tables_over_rds_are_named_once() {
    let mut cx = context();
    let manager = |name: &str, timeout: &str| {
        format!(
            "{{filter_chain_match: {{server_names: [{name}.test]}}, filters: [{{name: h, typed_config: {{'@type': t/{HCM}, stat_prefix: s, rds: {{route_config_name: {name}, \
             config_source: {{ads: {{}}, {timeout}}}}}}}}}]}}"
        )
    };
    let fields =
        format!("filter_chains: [{}, {}]", manager("r1", ""), manager("r2", "initial_fetch_timeout: 0s"));
    let built = listener_of(&mut cx, None, &fields);
    let ids: Vec<_> = built
        .filter_chains
        .iter()
        .map(|chain| match &chain.filters[0] {
            NetworkFilter::HttpConnectionManager(manager) => match manager.routes {
                RouteSource::Rds(id) => id,
                RouteSource::Inline(_) | RouteSource::Scoped(_) => panic!("RDS"),
            },
            NetworkFilter::TcpProxy(_) => panic!("HTTP"),
        })
        .collect();
    assert_eq!(cx.route_tables.find("r1", Sources::ADS), Some(ids[0]));
    let second = cx.route_tables.get(ids[1]).unwrap();
    assert_eq!((&*second.name, second.source, second.initial_fetch_timeout), ("r2", Sources::ADS, None));
    listener_of(&mut cx, None, &fields);
    assert_eq!(cx.route_tables.iter().count(), 2);
}

#[test]
fn runtime_layers_are_flat() {
    let mut cx = context();
    let text = "{name: r, layer: {a: {b: 1, c: {numerator: 3}}, d.e: 'x'}}";
    let values = runtime(&bytes(RUNTIME, text), &mut cx).unwrap().value;
    assert_eq!((&*values.name, values.values.len()), ("r", 3));
    assert_eq!(values.values["a.b"], RuntimeValue::Number(1.0));
    assert_eq!(values.values["d.e"], RuntimeValue::Text("x".into()));
    let empty = runtime(&bytes(RUNTIME, "{name: r}"), &mut cx).unwrap().value;
    assert!(empty.values.is_empty());
}

#[test]
fn unknown_fields_of_dynamic_resources() {
    let mut unknown = bytes(CLUSTER, "{name: c}");
    unknown.extend([0xf8, 0xff, 0x01, 0x01]);
    let mut cx = context();
    let first = cluster(&unknown, None, &mut cx).unwrap();
    assert_eq!(first.unsupported.len(), 1);
    // Counted every time, reported once.
    assert!(cluster(&unknown, None, &mut cx).unwrap().unsupported.is_empty());
    assert_eq!((cx.dynamic_unknown_fields, cx.static_unknown_fields), (2, 0));
    let silent = Overrides { ignore_unknown_dynamic_fields: true, ..Overrides::default() };
    let mut cx = Context::new(Registry::new(), silent);
    assert!(cluster(&unknown, None, &mut cx).unwrap().unsupported.is_empty());
    let strict = Overrides { reject_unknown_dynamic_fields: true, ..Overrides::default() };
    let refused = cluster(&unknown, None, &mut Context::new(Registry::new(), strict)).unwrap_err();
    assert_eq!(refused.kind, RejectionKind::Invalid);
    assert!(refused.reason.contains("unknown field number 4095"), "{refused}");
}

#[test]
fn self_is_the_source_of_the_resource() {
    let mut cx = context();
    let text = "{name: c, type: EDS, eds_cluster_config: {eds_config: {self: {}}}}";
    let built = cluster(&bytes(CLUSTER, text), None, &mut cx).unwrap().value;
    let ClusterDiscovery::Eds { source, .. } = built.discovery else { panic!("EDS") };
    assert_eq!(source, Sources::SAME_AS_PARENT);
}

#[test]
fn a_refused_cluster_leaves_no_scope_behind() {
    let mut cx = context();
    let probe = |cx: &Context| {
        let scope = cx.registry.host_scope();
        scope.0
    };
    let before = probe(&cx);
    let text = "{name: c, lb_policy: CLUSTER_PROVIDED, load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 1.2.3.4, port_value: 1}}}}]}]}}";
    assert!(cluster(&bytes(CLUSTER, text), None, &mut cx).is_err());
    let c = eds_cluster(&mut cx, "");
    let named = probe(&cx);
    let bad = "{cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 1.2.3.4, port_value: 1}}}}, {endpoint: {address: {socket_address: {address: nope, port_value: 1}}}}]}]}";
    assert!(load_assignment(&bytes(CLUSTER_LOAD_ASSIGNMENT, bad), &c, &mut cx).is_err());
    // Only the probes and the good cluster's own scope were added.
    assert_eq!((named - before, probe(&cx) - named), (2, 1));
}

#[test]
fn garbage_is_refused() {
    let mut cx = context();
    let c = eds_cluster(&mut cx, "");
    let mut rng = millrace_base::Rng::new(3);
    let seeds = [
        bytes(CLUSTER, "{name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}"),
        bytes(LISTENER, &format!("{{address: {{pipe: {{path: /x}}}}, filter_chains: [{}]}}", chain(80, "a"))),
        bytes(
            CLUSTER_LOAD_ASSIGNMENT,
            &format!("{{cluster_name: c, endpoints: [{{lb_endpoints: [{}]}}]}}", endpoint("10.0.0.1", "")),
        ),
        bytes(RUNTIME, "{name: r, layer: {a: {b: 1}}}"),
    ];
    for _ in 0..4000 {
        let mut data = seeds[rng.below(4) as usize].clone();
        for _ in 0..=rng.below(6) {
            let at = rng.below(data.len() as u64) as usize;
            match rng.below(3) {
                0 => data[at] = rng.next_u64() as u8,
                1 => data.insert(at, rng.next_u64() as u8),
                _ => drop(data.remove(at)),
            }
            if data.is_empty() {
                data.push(0);
            }
        }
        // Either verdict is fine; only a panic is a finding.
        let _ = cluster(&data, None, &mut cx);
        let _ = listener(&data, None, &mut cx);
        let _ = route_configuration(&data, &mut cx);
        let _ = load_assignment(&data, &c, &mut cx);
        let _ = runtime(&data, &mut cx);
    }
}
