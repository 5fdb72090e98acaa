//! `envoy.clusters.aggregate` (`extensions.clusters.aggregate.v3.ClusterConfig`).

use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;
use millrace_proto::pb::envoy::extensions::clusters::aggregate::v3::ClusterConfig;

use crate::error::Rejection;
use crate::extension;

const TYPE: &str = "envoy.extensions.clusters.aggregate.v3.ClusterConfig";

/// Names of the clusters that an aggregate cluster stands for, in their order; they need not exist. `None` for a
/// cluster of another type.
pub(super) fn members(cluster: &pb::Cluster, path: &Path) -> Result<Option<Vec<String>>, Rejection> {
    let Some(ClusterDiscoveryType::ClusterType(custom)) = &cluster.cluster_discovery_type else {
        return Ok(None);
    };
    let Some(any) = custom.typed_config.as_ref().filter(|any| extension::type_of(any) == TYPE) else {
        return Ok(None);
    };
    let config: ClusterConfig = extension::open(any, &path.join("cluster_type").join("typed_config"))?;
    Ok(Some(config.clusters))
}
