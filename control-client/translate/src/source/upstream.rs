//! A static cluster as the control client reaches it.

use std::time::Duration;

use millrace_ads::source::{Endpoint, Upstream};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::config::core::v3::address::Address;
use millrace_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use millrace_proto::pb::envoy::extensions::upstreams::http::v3 as options;
use millrace_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options as by;
use millrace_proto::{Message, schema};

use super::tls;
use crate::context::Context;
use crate::error::Rejection;
use crate::{address, extension, fields, value};

const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
const HTTP: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The static cluster of this name; `kind` and `path` are those of the reference.
pub(super) fn named(name: &str, kind: &str, path: &Path, cx: &mut Context) -> Result<Upstream, Rejection> {
    let statics = std::sync::Arc::clone(&cx.statics);
    let found = statics.cluster(name).filter(|(_, cluster)| !is_eds(cluster));
    let Some((cluster_path, cluster)) = found else {
        let why = format!(
            "{kind} must have a statically defined non-EDS cluster: '{name}' does not exist, was added via api, or is an \
             EDS cluster"
        );
        return Err(Rejection::new(path, why));
    };
    upstream(cluster, &cluster_path, cx)
}

fn is_eds(cluster: &pb::Cluster) -> bool {
    matches!(cluster.cluster_discovery_type, Some(ClusterDiscoveryType::Type(kind)) if kind == DiscoveryType::Eds as i32)
}

/// Checks the fields of a static cluster as the control client serves them, and translates it.
pub(crate) fn upstream(cluster: &pb::Cluster, path: &Path, cx: &mut Context) -> Result<Upstream, Rejection> {
    let message = schema::Message::by_name(CLUSTER)
        .ok_or_else(|| Rejection::new(path, "this build has no schema of clusters"))?;
    fields::check_control(message, &cluster.encode_to_vec(), path, cx)?;
    let resolves = match &cluster.cluster_discovery_type {
        None => false,
        Some(ClusterDiscoveryType::Type(number)) => {
            match DiscoveryType::try_from(*number).unwrap_or_default() {
                DiscoveryType::Static => false,
                DiscoveryType::StrictDns | DiscoveryType::LogicalDns => true,
                other => {
                    let why =
                        format!("clusters of type {} are not served by this build", other.as_str_name());
                    return Err(Rejection::not_served(&path.join("type"), why));
                }
            }
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            let any = custom.typed_config.as_ref();
            let path = path.join("cluster_type");
            return Err(extension::not_served("cluster type", &custom.name, any, &path));
        }
    };
    let options = cluster.upstream_connection_options.as_ref();
    Ok(Upstream {
        name: cluster.name.clone(),
        endpoints: endpoints(cluster, resolves, path)?,
        connect_timeout: cluster.connect_timeout.as_ref().map_or(CONNECT_TIMEOUT, value::duration),
        keepalive: keepalive(cluster, path)?,
        tcp_keepalive: options.and_then(|options| options.tcp_keepalive.as_ref()).map(|keepalive| {
            let number =
                |n: &Option<millrace_proto::pb::google::protobuf::UInt32Value>| n.as_ref().map(|n| n.value);
            (
                number(&keepalive.keepalive_probes),
                number(&keepalive.keepalive_time),
                number(&keepalive.keepalive_interval),
            )
        }),
        tls: tls::upstream(cluster.transport_socket.as_ref(), &path.join("transport_socket"), cx)?,
    })
}

/// By priority, then in configuration order.
fn endpoints(cluster: &pb::Cluster, resolves: bool, path: &Path) -> Result<Vec<Endpoint>, Rejection> {
    let path = path.join("load_assignment").join("endpoints");
    let localities = cluster.load_assignment.as_ref().map_or(&[][..], |load| &load.endpoints[..]);
    let mut order: Vec<usize> = (0..localities.len()).collect();
    order.sort_by_key(|i| localities[*i].priority);
    let mut out = Vec::new();
    for i in order {
        for (j, endpoint) in localities[i].lb_endpoints.iter().enumerate() {
            let path = path.at(i).join("lb_endpoints").at(j).join("endpoint");
            let host = match &endpoint.host_identifier {
                Some(HostIdentifier::Endpoint(endpoint)) => endpoint.address.as_ref(),
                Some(HostIdentifier::EndpointName(_)) | None => None,
            };
            let Some(host) = host else {
                return Err(Rejection::new(&path.join("address"), "value is required"));
            };
            out.push(endpoint_of(host, resolves, &path.join("address"))?);
        }
    }
    Ok(out)
}

fn endpoint_of(host: &core::Address, resolves: bool, path: &Path) -> Result<Endpoint, Rejection> {
    match &host.address {
        Some(Address::SocketAddress(socket)) if resolves => {
            let port = address::port(socket, &path.join("socket_address"))?;
            Ok(Endpoint::Inet(socket.address.clone(), port))
        }
        _ => Ok(match address::address(host, path)? {
            millrace_config::Address::Inet(socket) => Endpoint::Inet(socket.ip().to_string(), socket.port()),
            millrace_config::Address::Pipe { path, .. } => Endpoint::Unix(std::path::PathBuf::from(&*path)),
        }),
    }
}

/// `connection_keepalive` of the HTTP/2 options; pings that only idle connections get do not count.
fn keepalive(cluster: &pb::Cluster, path: &Path) -> Result<Option<(Duration, Duration)>, Rejection> {
    let deprecated = cluster.http2_protocol_options.clone();
    let http2 = match cluster.typed_extension_protocol_options.get(HTTP) {
        None => deprecated,
        Some(any) => {
            let mut path = path.join("typed_extension_protocol_options");
            path.key(HTTP);
            if extension::type_of(any) != HTTP {
                return Err(extension::not_served("protocol options", HTTP, Some(any), &path));
            }
            let options: options::HttpProtocolOptions = extension::open(any, &path)?;
            http2_of(options)
        }
    };
    let settings = http2.and_then(|http2| http2.connection_keepalive);
    Ok(settings.and_then(|settings| {
        let interval = value::limit(settings.interval.as_ref())?;
        Some((interval, settings.timeout.as_ref().map_or(interval, value::duration)))
    }))
}

fn http2_of(options: options::HttpProtocolOptions) -> Option<core::Http2ProtocolOptions> {
    use by::explicit_http_config::ProtocolConfig;
    match options.upstream_protocol_options? {
        by::UpstreamProtocolOptions::ExplicitHttpConfig(explicit) => match explicit.protocol_config? {
            ProtocolConfig::Http2ProtocolOptions(http2) => Some(http2),
            ProtocolConfig::HttpProtocolOptions(_) | ProtocolConfig::Http3ProtocolOptions(_) => None,
        },
        by::UpstreamProtocolOptions::UseDownstreamProtocolConfig(same) => same.http2_protocol_options,
        by::UpstreamProtocolOptions::AutoConfig(auto) => auto.http2_protocol_options,
    }
}
