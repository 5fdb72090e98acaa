//! Resources and bootstraps from short templates, so that a test shows only what it is about.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::tls::{CA, CLIENT, CLIENT_KEY, Security};
use super::{Address, ControlPlane, Resource, Type, from_yaml};
use crate::bootstrap::{Bootstrap, Http};

/// How a subject talks to the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// One aggregated stream, state of the world.
    AdsSotw,
    /// One aggregated stream, incremental.
    AdsDelta,
    /// A stream for each subscription, state of the world.
    Sotw,
    /// A stream for each subscription, incremental.
    Delta,
}

impl Flavor {
    /// All four.
    pub const ALL: [Self; 4] = [Self::AdsSotw, Self::AdsDelta, Self::Sotw, Self::Delta];

    /// True for the two incremental ones.
    pub fn is_delta(self) -> bool {
        matches!(self, Self::AdsDelta | Self::Delta)
    }

    /// True for the two aggregated ones.
    pub fn is_ads(self) -> bool {
        matches!(self, Self::AdsSotw | Self::AdsDelta)
    }

    /// `ApiConfigSource` as flow YAML; `cluster` is the control plane's.
    pub fn api_config_source(self, cluster: &str) -> String {
        let api_type = if self.is_delta() { "DELTA_GRPC" } else { "GRPC" };
        format!(
            "{{api_type: {api_type}, transport_api_version: V3, set_node_on_first_message_only: true, \
             grpc_services: [{{envoy_grpc: {{cluster_name: {cluster}}}}}]}}"
        )
    }

    /// `ConfigSource` as flow YAML.
    pub fn config_source(self) -> String {
        self.config_source_with("")
    }

    /// `ConfigSource` as flow YAML with more fields, such as `initial_fetch_timeout: 1s`.
    pub fn config_source_with(self, fields: &str) -> String {
        let source = match self {
            Self::AdsSotw | Self::AdsDelta => "ads: {}".into(),
            Self::Sotw | Self::Delta => format!("api_config_source: {}", self.api_config_source("xds")),
        };
        let comma = if fields.is_empty() { "" } else { ", " };
        format!("{{resource_api_version: V3, {source}{comma}{fields}}}")
    }

    /// `dynamic_resources` of a bootstrap; `fields` are more fields of both sources.
    pub fn dynamic_resources(self, fields: &str) -> String {
        let source = self.config_source_with(fields);
        let mut out = format!("dynamic_resources:\n  cds_config: {source}\n  lds_config: {source}\n");
        if self.is_ads() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  ads_config: {}", self.api_config_source("xds"));
        }
        out
    }
}

/// Fields of a cluster that speaks HTTP/2 to its endpoints.
pub const HTTP2: &str = "typed_extension_protocol_options:\n  \
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
    \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    \
    explicit_http_config: {http2_protocol_options: {}}\n";

fn block(text: &str) -> String {
    text.lines().map(|line| format!("            {line}\n")).collect()
}

fn transport_socket(security: Security) -> String {
    if security == Security::None {
        return String::new();
    }
    let mut out = String::from(
        "transport_socket:\n  name: envoy.transport_sockets.tls\n  typed_config:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n    \
         sni: control.test\n    common_tls_context:\n      validation_context:\n        \
         trusted_ca:\n          inline_string: |\n",
    );
    out.push_str(&block(CA));
    out.push_str(
        "        match_typed_subject_alt_names:\n        - {san_type: DNS, matcher: {exact: control.test}}\n",
    );
    if security == Security::Mutual {
        out.push_str("      tls_certificates:\n      - certificate_chain:\n          inline_string: |\n");
        out.push_str(&block(CLIENT));
        out.push_str("        private_key:\n          inline_string: |\n");
        out.push_str(&block(CLIENT_KEY));
    }
    out
}

/// A static cluster `name` whose endpoint is the control plane.
pub fn plane_cluster(bootstrap: Bootstrap, name: &str, plane: &ControlPlane) -> Bootstrap {
    let fields = format!("connect_timeout: 1s\n{HTTP2}{}", transport_socket(plane.security()));
    match plane.address() {
        Address::Tcp(address) => bootstrap.cluster(name, &[*address], &fields),
        Address::Unix(path) => {
            let load = format!(
                "load_assignment:\n  cluster_name: {name}\n  endpoints:\n  - lb_endpoints:\n    \
                 - endpoint: {{address: {{pipe: {{path: \"{}\"}}}}}}\n",
                path.display()
            );
            bootstrap.cluster(name, &[], &format!("type: STATIC\n{fields}{load}"))
        }
    }
}

/// The node of every bootstrap here.
pub const NODE: &str = "node: {id: sidecar-1, cluster: tests, metadata: {k: v}, locality: {zone: z1}}\n";

/// A bootstrap without any resource of its own, driven by this control plane.
pub fn bootstrap(plane: &ControlPlane, flavor: Flavor) -> Bootstrap {
    bootstrap_with(plane, flavor, "")
}

/// As [`bootstrap`], with more fields of the CDS and LDS sources.
pub fn bootstrap_with(plane: &ControlPlane, flavor: Flavor, fields: &str) -> Bootstrap {
    let base = Bootstrap::new().top(NODE).top(&flavor.dynamic_resources(fields));
    plane_cluster(base, "xds", plane)
}

/// A cluster with EDS; `fields` are more of its fields.
#[track_caller]
pub fn eds_cluster(name: &str, flavor: Flavor, fields: &str) -> Resource {
    eds_cluster_from(name, &flavor.config_source(), fields)
}

/// A cluster with EDS from this `ConfigSource`.
#[track_caller]
pub fn eds_cluster_from(name: &str, source: &str, fields: &str) -> Resource {
    let text = format!("name: {name}\ntype: EDS\neds_cluster_config: {{eds_config: {source}}}\n{fields}");
    from_yaml(Type::Cluster, &text)
}

fn load_assignment(name: &str, endpoints: &[SocketAddr]) -> String {
    let list: Vec<String> = endpoints
        .iter()
        .map(|e| {
            let (ip, port) = (e.ip(), e.port());
            format!(
                "{{endpoint: {{address: {{socket_address: {{address: \"{ip}\", port_value: {port}}}}}}}}}"
            )
        })
        .collect();
    format!("{{cluster_name: {name}, endpoints: [{{lb_endpoints: [{}]}}]}}", list.join(", "))
}

/// A STATIC cluster with these endpoints; `fields` are more of its fields.
#[track_caller]
pub fn static_cluster(name: &str, endpoints: &[SocketAddr], fields: &str) -> Resource {
    let load = load_assignment(name, endpoints);
    from_yaml(Type::Cluster, &format!("name: {name}\ntype: STATIC\nload_assignment: {load}\n{fields}"))
}

/// A `ClusterLoadAssignment` with these endpoints in one locality.
#[track_caller]
pub fn endpoints(cluster: &str, endpoints: &[SocketAddr]) -> Resource {
    from_yaml(Type::Endpoint, &load_assignment(cluster, endpoints))
}

/// A listener on a port of the kernel's choice, without access log.
#[track_caller]
pub fn listener(http: &Http) -> Resource {
    from_yaml(Type::Listener, &http.clone().without_log().yaml())
}

/// A listener `name` with the route table `route` from RDS.
#[track_caller]
pub fn rds_listener(name: &str, route: &str, flavor: Flavor) -> Resource {
    listener(&Http::rds(route, &flavor.config_source()).named(name))
}

/// A route table that sends everything to one cluster.
#[track_caller]
pub fn route(name: &str, cluster: &str) -> Resource {
    routes(name, &format!("{{match: {{prefix: \"/\"}}, route: {{cluster: {cluster}}}}}"))
}

/// A route table with these routes (flow YAML, separated by commas) under the domain `*`.
#[track_caller]
pub fn routes(name: &str, list: &str) -> Resource {
    let text = format!("name: {name}\nvirtual_hosts: [{{name: all, domains: [\"*\"], routes: [{list}]}}]");
    from_yaml(Type::Route, &text)
}
