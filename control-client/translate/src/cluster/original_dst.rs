//! `ORIGINAL_DST` clusters: `Cluster.original_dst_lb_config` and `cleanup_interval`.

use std::time::Duration;

use millrace_config::{ClusterDiscovery, OriginalDst};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy};
use millrace_proto::pb::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;

use crate::error::Rejection;
use crate::value;

const HEADER: &str = "x-envoy-original-dst-host";
const CLEANUP_INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn discovery(cluster: &pb::Cluster, path: &Path) -> Result<ClusterDiscovery, Rejection> {
    if cluster.lb_policy() != LbPolicy::ClusterProvided {
        let why = format!(
            "cluster: LB policy {} is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed with \
             cluster type 'ORIGINAL_DST'",
            cluster.lb_policy().as_str_name()
        );
        return Err(Rejection::new(&path.join("lb_policy"), why));
    }
    if cluster.load_assignment.is_some() {
        let why = "ORIGINAL_DST clusters must have no load assignment configured";
        return Err(Rejection::new(&path.join("load_assignment"), why));
    }
    let none = pb::cluster::OriginalDstLbConfig::default();
    let config = match &cluster.lb_config {
        Some(LbConfig::OriginalDstLbConfig(config)) => config,
        _ => &none,
    };
    let path = path.join("original_dst_lb_config");
    let name = config.http_header_name.as_str();
    let header = match (config.use_http_header, name) {
        (true, "") => Some(HEADER.as_bytes().into()),
        (true, name) => Some(name.to_ascii_lowercase().into_bytes().into()),
        (false, "") => None,
        (false, name) => {
            let why = format!(
                "ORIGINAL_DST cluster: invalid config http_header_name={name} and use_http_header is false. Set \
                 use_http_header to true if http_header_name is desired."
            );
            return Err(Rejection::new(&path.join("http_header_name"), why));
        }
    };
    let metadata_key = config.metadata_key.as_ref().map(|key| match key.path.as_slice() {
        [one] => match &one.segment {
            Some(Segment::Key(name)) => Ok((key.key.as_str().into(), name.as_str().into())),
            Some(Segment::Index(_)) | None => {
                Err(Rejection::new(&path.join("metadata_key").join("path").at(0), "a key is required"))
            }
        },
        _ => {
            let why = "only values right in a namespace of metadata are served by this build";
            Err(Rejection::not_served(&path.join("metadata_key").join("path"), why))
        }
    });
    let port = config.upstream_port_override.as_ref();
    Ok(ClusterDiscovery::OriginalDst(OriginalDst {
        header,
        metadata_key: metadata_key.transpose()?,
        port_override: port.and_then(|port| u16::try_from(port.value).ok()),
        cleanup_interval: cluster.cleanup_interval.as_ref().map_or(CLEANUP_INTERVAL, value::duration),
    }))
}
