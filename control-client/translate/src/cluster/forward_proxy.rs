//! `envoy.clusters.dynamic_forward_proxy` (`extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig`).

use millrace_config::{ForwardProxyCluster, UpstreamHttp, UpstreamTransport};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;
use millrace_proto::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::ClusterConfig;
use millrace_proto::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::cluster_config::ClusterImplementationSpecifier as By;

use crate::context::Context;
use crate::error::Rejection;
use crate::{dns_cache, extension};

const TYPE: &str = "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig";

/// The configuration of a cluster of this type, and where it stands; `None` for a cluster of another one.
pub(super) fn config(cluster: &pb::Cluster, path: &Path) -> Result<Option<ClusterConfig>, Rejection> {
    let Some(ClusterDiscoveryType::ClusterType(custom)) = &cluster.cluster_discovery_type else {
        return Ok(None);
    };
    let Some(any) = custom.typed_config.as_ref().filter(|any| extension::type_of(any) == TYPE) else {
        return Ok(None);
    };
    extension::open(any, &path.join("cluster_type").join("typed_config")).map(Some)
}

/// Where the cluster finds its endpoints. Its cache exists from now on, so nothing may fail behind this.
pub(super) fn discovery(
    config: &ClusterConfig,
    transport: &UpstreamTransport,
    path: &Path,
    cx: &mut Context,
) -> Result<ForwardProxyCluster, Rejection> {
    let path = path.join("cluster_type").join("typed_config");
    let cache = match &config.cluster_implementation_specifier {
        Some(By::DnsCacheConfig(cache)) => Some(cache),
        // Refused by the table of fields.
        Some(By::SubClustersConfig(_)) | None => None,
    };
    let cache = dns_cache::cache(cache, &path, cx)?;
    Ok(ForwardProxyCluster { cache, default_port: if transport.tls.is_some() { 443 } else { 80 } })
}

/// Endpoints must prove that they are the host that was asked for, unless the configuration says otherwise.
pub(super) fn check_names(
    cluster: &pb::Cluster,
    config: &ClusterConfig,
    http: &mut UpstreamHttp,
    path: &Path,
) -> Result<(), Rejection> {
    let typed = !cluster.typed_extension_protocol_options.is_empty();
    if !typed && cluster.upstream_http_protocol_options.is_none() {
        (http.auto_sni, http.auto_san_validation) = (true, true);
    }
    if config.allow_insecure_cluster_options || (http.auto_sni && http.auto_san_validation) {
        return Ok(());
    }
    let why = "dynamic_forward_proxy cluster must have auto_sni and auto_san_validation true unless \
               allow_insecure_cluster_options is set.";
    Err(Rejection::new(&path.join("cluster_type").join("typed_config"), why))
}
