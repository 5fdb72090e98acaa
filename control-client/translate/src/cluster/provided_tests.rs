//! `ORIGINAL_DST` and aggregate clusters, and where their connections come from.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{Cluster, ClusterDiscovery, LbPolicy};
use millrace_observe::stats::Registry;

use millrace_proto::{message_from_json, schema, yaml};

use crate::context::{Context, Overrides};
use crate::error::{Rejection, RejectionKind};
use crate::resource;

fn of(fields: &str) -> Result<Cluster, Rejection> {
    let message = schema::Message::by_type_url(resource::CLUSTER).unwrap();
    let bytes = message_from_json(message, &yaml::parse(&format!("{{name: c, {fields}}}")).unwrap()).unwrap();
    let mut cx = Context::new(Registry::new(), Overrides::default());
    resource::cluster(&bytes, None, &mut cx).map(|translated| translated.value)
}

const PROVIDED: &str = "load_balancing_policy: {policies: [{typed_extension_config: {name: p, typed_config: {'@type': t/envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided}}}]}";

fn aggregate(fields: &str) -> String {
    format!(
        "cluster_type: {{name: a, typed_config: {{'@type': t/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [x, z, x]}}}}, {fields}"
    )
}

#[test]
fn original_destinations_come_from_where_the_configuration_says() {
    let discovery = |fields: &str| {
        let text = format!("type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, {fields}");
        let cluster = of(&text).unwrap();
        assert_eq!(cluster.lb_policy, LbPolicy::ClusterProvided);
        let ClusterDiscovery::OriginalDst(config) = cluster.discovery else { panic!("{text}") };
        config
    };
    let plain = discovery("");
    assert_eq!((plain.header, plain.metadata_key, plain.port_override), (None, None, None));
    assert_eq!(plain.cleanup_interval, Duration::from_secs(5));
    let full = discovery(
        "cleanup_interval: 0.5s, original_dst_lb_config: {use_http_header: true, upstream_port_override: 8080, \
         metadata_key: {key: ns, path: [{key: k}]}}",
    );
    assert_eq!(full.header.as_deref(), Some(&b"x-envoy-original-dst-host"[..]));
    assert_eq!((full.port_override, full.cleanup_interval), (Some(8080), Duration::from_millis(500)));
    assert_eq!(full.metadata_key, Some((Arc::from("ns"), Arc::from("k"))));
    let named = discovery("original_dst_lb_config: {use_http_header: true, http_header_name: X-Where}");
    assert_eq!(named.header.as_deref(), Some(&b"x-where"[..]));
}

#[test]
fn members_of_an_aggregate_need_not_exist() {
    for policy in ["lb_policy: CLUSTER_PROVIDED", PROVIDED] {
        let ClusterDiscovery::Aggregate(members) = of(&aggregate(policy)).unwrap().discovery else {
            panic!("{policy}")
        };
        assert!(members.len() == 3 && members[0] == members[2] && members[0] != members[1]);
    }
}

#[test]
fn balancers_and_types_of_clusters_must_fit() {
    let subset = "lb_subset_config: {subset_selectors: [{keys: [a]}]}";
    let round_robin = PROVIDED.replace("cluster_provided.v3.ClusterProvided", "round_robin.v3.RoundRobin");
    for (fields, reason) in [
        ("type: ORIGINAL_DST".to_owned(), "LB policy ROUND_ROBIN is not valid for Cluster type ORIGINAL_DST"),
        (format!("type: ORIGINAL_DST, {PROVIDED}"), "Only 'CLUSTER_PROVIDED' is allowed with cluster type"),
        (
            format!("type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, {round_robin}"),
            "cluster provided LB not specified but cluster 'c' provided one",
        ),
        (
            "type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, load_assignment: {cluster_name: c}".to_owned(),
            "must have no load assignment configured",
        ),
        (
            "type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, original_dst_lb_config: {http_header_name: x}"
                .to_owned(),
            "invalid config http_header_name=x and use_http_header is false",
        ),
        (
            format!("type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, {subset}"),
            "LB policy CLUSTER_PROVIDED cannot be combined with lb_subset_config",
        ),
        ("lb_policy: CLUSTER_PROVIDED".to_owned(), "LB specified but cluster 'c' did not provide one"),
        (PROVIDED.to_owned(), "LB specified but cluster 'c' did not provide one"),
        (aggregate(""), "LB not specified but cluster 'c' provided one"),
    ] {
        let error = of(&fields).unwrap_err();
        assert!(error.reason.contains(reason) && error.kind == RejectionKind::Invalid, "{fields}: {error}");
    }
}

#[test]
fn connections_come_from_one_address_of_each_family() {
    let bind = |fields: &str| {
        of(&format!("upstream_bind_config: {{{fields}}}")).map(|cluster| *cluster.bind.unwrap())
    };
    let four = "source_address: {address: 127.0.0.6, port_value: 0}";
    let option = "socket_options: [{level: 1, name: 9, int_value: 1, ip_version: SOCKET_IP_VERSION_IPV6}, \
                  {level: 1, name: 2, buf_value: AAE=}, {level: 1, name: 3, int_value: 1, type: {datagram: {}}}, \
                  {level: 1, name: 4, int_value: 1, state: STATE_BOUND}]";
    let plain = bind(&format!("{four}, freebind: true, {option}")).unwrap();
    assert!(plain.freebind && plain.source_for(true).unwrap().address.to_string() == "127.0.0.6:0");
    let options = &plain.sources[0].socket_options;
    assert_eq!(options.iter().map(|o| (o.name, o.ipv6)).collect::<Vec<_>>(), [(9, Some(true)), (2, None)]);
    assert_eq!((&options[0].value[..], &options[1].value[..]), (&1_i32.to_ne_bytes()[..], &[0, 1][..]));
    let extra = "extra_source_addresses: [{address: {address: '::6', port_value: 0}, socket_options: {}}]";
    let both = bind(&format!("{four}, {extra}, {option}")).unwrap();
    assert_eq!(both.source_for(true).unwrap().address.to_string(), "[::6]:0");
    assert!(both.sources[1].socket_options.is_empty());
    for (fields, reason) in [
        (extra.to_owned(), "no source_address"),
        (format!("{four}, {}", extra.replace("::6", "127.0.0.7")), "two same IP version"),
        (
            format!("{four}, {extra}, additional_source_addresses: [{{address: '::7', port_value: 0}}]"),
            "Can't specify both",
        ),
        ("source_address: {address: nope, port_value: 0}".to_owned(), "malformed IP address: nope"),
    ] {
        let error = bind(&fields).unwrap_err();
        assert!(error.reason.contains(reason), "{error}");
    }
}

#[test]
fn nobody_checks_endpoints_that_clients_name() {
    let checks = "health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, \
                  tcp_health_check: {}}]";
    assert!(of(checks).unwrap().health_check.is_some());
    for provided in
        ["type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED", &aggregate("lb_policy: CLUSTER_PROVIDED")]
    {
        assert!(of(&format!("{provided}, {checks}")).unwrap().health_check.is_none(), "{provided}");
    }
}
