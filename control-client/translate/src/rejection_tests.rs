//! Bad resources of every kind: the path and the reason of each, and whether Envoy would refuse it too.

use millrace_observe::stats::Registry;
use millrace_proto::{LoadOptions, bootstrap_from_yaml};

use super::tests::bytes;
use super::*;
use crate::{Overrides, RejectionKind};

#[path = "rejection_tests/balancing.rs"]
mod balancing;
#[path = "rejection_tests/filters.rs"]
mod filters;
#[path = "rejection_tests/http2.rs"]
mod http2;
#[path = "rejection_tests/invalid.rs"]
mod invalid;

use balancing::BALANCING;
use invalid::INVALID;

/// `(type, resource, path, reason contains)`.
type Case = (Kind, &'static str, &'static str, &'static str);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Bootstrap,
    Cluster,
    Listener,
    Route,
    Load,
    Runtime,
    Scoped,
}

use Kind::{Bootstrap, Cluster as C, Listener as L, Load, Route, Runtime as R, Scoped};

/// What Envoy has and this build has not.
const NOT_SERVED: &[Case] = &[
    (
        C,
        "{name: c, transport_socket: {name: s, typed_config: {'@type': t/google.protobuf.Struct}}}",
        "transport_socket",
        "is not served by this build",
    ),
    (
        C,
        "{name: c, typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': t/HTTP, explicit_http_config: {http3_protocol_options: {}}}}}",
        "typed_extension_protocol_options[\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"].explicit_http_config.http3_protocol_options",
        "HTTP/3",
    ),
    (
        C,
        "{name: c, transport_socket: {name: t, typed_config: {'@type': t/envoy.extensions.transport_sockets.starttls.v3.UpstreamStartTlsConfig, tls_socket_config: {}}}}",
        "transport_socket",
        "UpstreamStartTlsConfig",
    ),
    (
        C,
        "{name: 'xdstp://a/b', type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}",
        "eds_cluster_config.service_name",
        "xdstp",
    ),
    (
        C,
        "{name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}, authorities: [{name: a}]}}}",
        "eds_cluster_config.eds_config.authorities",
        "xdstp",
    ),
    (
        C,
        "{name: c, type: EDS, eds_cluster_config: {eds_config: {api_config_source: {api_type: GRPC, grpc_services: [{google_grpc: {stat_prefix: s, target_uri: 'a:1', channel_credentials: {google_default: {}}}}]}}}}",
        "eds_cluster_config.eds_config.api_config_source.grpc_services[0].google_grpc.channel_credentials.google_default",
        "cloud",
    ),
    (
        C,
        "{name: c, type: EDS, eds_cluster_config: {eds_config: {api_config_source: {api_type: GRPC, grpc_services: [{google_grpc: {stat_prefix: s, target_uri: 'a:1', call_credentials: [{google_compute_engine: {}}]}}]}}}}",
        "eds_cluster_config.eds_config.api_config_source.grpc_services[0].google_grpc.call_credentials[0].google_compute_engine",
        "cloud",
    ),
    (
        C,
        "{name: c, type: EDS, eds_cluster_config: {eds_config: {api_config_source: {api_type: GRPC, grpc_services: [{initial_metadata: [{key: a, value: '%NODE%'}], google_grpc: {stat_prefix: s, target_uri: 'a:1'}}]}}}}",
        "eds_cluster_config.eds_config.api_config_source.grpc_services[0].initial_metadata[0].value",
        "operators",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, scoped_routes: {name: x, scope_key_builder: {fragments: [{header_value_extractor: {name: h, index: 0}}]}, rds_config_source: {ads: {}}, scoped_rds: {scoped_rds_config_source: {ads: {}}, srds_resources_locator: 'xdstp://a/b'}}}}]}]}",
        "filter_chains[0].filters[0].typed_config.scoped_routes.scoped_rds.srds_resources_locator",
        "xdstp",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, route_config: {}, http_filters: [{name: f, config_discovery: {config_source: {ads: {}}, type_urls: [t]}}]}}]}]}",
        "filter_chains[0].filters[0].typed_config.http_filters[0].config_discovery",
        "ECDS",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, rds: {route_config_name: 'xdstp://a/b', config_source: {ads: {}}}}}]}]}",
        "filter_chains[0].filters[0].typed_config.rds.route_config_name",
        "xdstp",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, filter_chains: [{transport_socket: {name: t, typed_config: {'@type': t/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport, downstream_tls_context: {}}}}]}",
        "filter_chains[0].transport_socket",
        "QuicDownstreamTransport",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, listener_filters: [{name: o, typed_config: {'@type': t/envoy.extensions.filters.listener.original_src.v3.OriginalSrc}}], filter_chains: [{}]}",
        "listener_filters[0]",
        "OriginalSrc",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, api_listener: {}, filter_chains: [{}]}",
        "api_listener",
        "gRPC clients",
    ),
    (
        L,
        "{name: l, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, route_config: {vhds: {config_source: {ads: {}}}}}}]}]}",
        "filter_chains[0].filters[0].typed_config.route_config.vhds",
        "tables of RDS only",
    ),
    (
        Route,
        "{virtual_hosts: [{name: a, domains: [x], routes: [{match: {prefix: /}, non_forwarding_action: {}}]}]}",
        "virtual_hosts[0].routes[0].non_forwarding_action",
        "forwarding",
    ),
    (Load, "{cluster_name: c, named_endpoints: {a: {}}}", "named_endpoints", "named endpoints"),
    (
        Load,
        "{cluster_name: c, endpoints: [{lb_endpoints: [{endpoint_name: a}]}]}",
        "endpoints[0].lb_endpoints[0].endpoint_name",
        "named endpoints",
    ),
    (
        Load,
        "{cluster_name: c, endpoints: [{leds_cluster_locality_config: {leds_collection_name: x}}]}",
        "endpoints[0].leds_cluster_locality_config",
        "LEDS",
    ),
    (
        Load,
        "{cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {envoy_internal_address: {server_listener_name: x}}}}]}]}",
        "endpoints[0].lb_endpoints[0].endpoint.address.envoy_internal_address",
        "internal listeners",
    ),
    (
        Bootstrap,
        "{dynamic_resources: {lds_resources_locator: 'xdstp://a/b'}}",
        "dynamic_resources.lds_resources_locator",
        "xdstp",
    ),
    (
        Bootstrap,
        "{static_resources: {clusters: [{name: x, http2_protocol_options: {}, filters: [{name: f}]}]}}",
        "static_resources.clusters[0].filters",
        "upstream side",
    ),
    (
        Bootstrap,
        "{static_resources: {clusters: [{name: x, load_balancing_policy: {policies: [{typed_extension_config: {name: b, typed_config: {'@type': t/envoy.extensions.load_balancing_policies.load_aware_locality.v3.LoadAwareLocality, endpoint_picking_policy: {policies: []}}}}]}}], listeners: [{address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: t, typed_config: {'@type': t/TCP, stat_prefix: s, cluster: x}}]}]}]}}",
        "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.cluster",
        "traffic to the static cluster 'x' cannot be served",
    ),
    (
        Bootstrap,
        "{static_resources: {clusters: [{name: x, load_balancing_policy: {policies: [{typed_extension_config: {name: b, typed_config: {'@type': t/envoy.extensions.load_balancing_policies.load_aware_locality.v3.LoadAwareLocality, endpoint_picking_policy: {policies: []}}}}]}}], listeners: [{address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: h, typed_config: {'@type': t/HCM, stat_prefix: s, route_config: {virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: x, weight: 1}]}}}]}]}}}]}]}]}}",
        "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route.weighted_clusters.clusters[0].name",
        "traffic to the static cluster 'x'",
    ),
];

fn verdict(kind: Kind, text: &str) -> Rejection {
    let network = "envoy.extensions.filters.network";
    let text = text
        .replace("t/TLS", "t/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext")
        .replace("t/HTTP,", "t/envoy.extensions.upstreams.http.v3.HttpProtocolOptions,")
        .replace("t/HCM", &format!("t/{network}.http_connection_manager.v3.HttpConnectionManager"))
        .replace("t/TCP", &format!("t/{network}.tcp_proxy.v3.TcpProxy"));
    let mut cx = Context::new(Registry::new(), Overrides::default());
    let verdict = match kind {
        Bootstrap => {
            let parsed = bootstrap_from_yaml(&text, &LoadOptions::default()).unwrap();
            crate::bootstrap(&parsed.bytes, &mut cx).map(drop)
        }
        C => cluster(&bytes(CLUSTER, &text), None, &mut cx).map(drop),
        L => listener(&bytes(LISTENER, &text), None, &mut cx).map(drop),
        Route => route_configuration(&bytes(ROUTE_CONFIGURATION, &text), &mut cx).map(drop),
        Scoped => {
            let tables = Subscription { source: crate::Sources::ADS, initial_fetch_timeout: None };
            scoped_route(&bytes(SCOPED_ROUTE_CONFIGURATION, &text), tables, &mut cx).map(drop)
        }
        R => runtime(&bytes(RUNTIME, &text), &mut cx).map(drop),
        Load => {
            let eds = "{name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}";
            let cluster = cluster(&bytes(CLUSTER, eds), None, &mut cx).unwrap().value;
            load_assignment(&bytes(CLUSTER_LOAD_ASSIGNMENT, &text), &cluster, &mut cx).map(drop)
        }
    };
    verdict.expect_err(&text)
}

fn check(cases: &[Case], wanted: RejectionKind) {
    let mut wrong = Vec::new();
    for (kind, text, path, reason) in cases {
        let found = verdict(*kind, text);
        if found.path != *path || !found.reason.contains(reason) || found.kind != wanted {
            wrong.push(format!("{text}\n    wanted {path}: {reason}\n    found  {found} ({:?})", found.kind));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn what_envoy_refuses_is_refused_with_its_path() {
    assert!(INVALID.len() >= 60);
    check(INVALID, RejectionKind::Invalid);
    check(http2::INVALID, RejectionKind::Invalid);
    check(BALANCING, RejectionKind::Invalid);
    check(filters::INVALID, RejectionKind::Invalid);
}

#[test]
fn what_is_not_served_is_refused_with_its_path() {
    check(NOT_SERVED, RejectionKind::NotServed);
    check(filters::NOT_SERVED, RejectionKind::NotServed);
}
