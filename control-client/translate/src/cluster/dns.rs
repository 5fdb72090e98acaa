//! Clusters that resolve names: `STRICT_DNS`, `LOGICAL_DNS` and `extensions.clusters.dns.v3.DnsCluster`.

use std::time::Duration;

use millrace_config::{ClusterDiscovery, DnsLookupFamily, DnsSchedule, DnsTarget};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use millrace_proto::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as NewFamily;
use millrace_proto::pb::envoy::extensions::clusters::dns::v3::DnsCluster;

use crate::error::Rejection;
use crate::{extension, value};

const TYPE: &str = "envoy.extensions.clusters.dns.v3.DnsCluster";
const REFRESH_RATE: Duration = Duration::from_secs(5);

/// The extension, when the cluster is one.
pub(super) fn extension(cluster: &pb::Cluster, path: &Path) -> Result<Option<DnsCluster>, Rejection> {
    let any = match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::ClusterType(custom)) => custom.typed_config.as_ref(),
        Some(ClusterDiscoveryType::Type(_)) | None => None,
    };
    let path = path.join("cluster_type").join("typed_config");
    any.filter(|any| extension::type_of(any) == TYPE).map(|any| extension::open(any, &path)).transpose()
}

/// What the extension stands for.
pub(super) fn kind(extension: &DnsCluster) -> DiscoveryType {
    match extension.all_addresses_in_single_endpoint {
        true => DiscoveryType::LogicalDns,
        false => DiscoveryType::StrictDns,
    }
}

/// The extension's settings win; without it those of the cluster count.
pub(super) fn discovery(
    cluster: &pb::Cluster,
    kind: DiscoveryType,
    targets: Vec<DnsTarget>,
    path: &Path,
) -> Result<ClusterDiscovery, Rejection> {
    let wait_for_warm = value::flag(cluster.wait_for_warm_on_init.as_ref(), true);
    let logical = kind == DiscoveryType::LogicalDns;
    let rate = |rate: Option<&_>| rate.map_or(REFRESH_RATE, value::duration);
    let jitter = |jitter: Option<&_>| jitter.map_or(Duration::ZERO, value::duration);
    Ok(match extension(cluster, path)? {
        Some(own) => ClusterDiscovery::Dns {
            logical,
            targets,
            family: match own.dns_lookup_family() {
                NewFamily::Unspecified | NewFamily::Auto => DnsLookupFamily::Auto,
                NewFamily::V4Only => DnsLookupFamily::V4Only,
                NewFamily::V6Only => DnsLookupFamily::V6Only,
                NewFamily::V4Preferred => DnsLookupFamily::V4Preferred,
                NewFamily::All => DnsLookupFamily::All,
            },
            schedule: DnsSchedule {
                refresh_rate: rate(own.dns_refresh_rate.as_ref()),
                respect_ttl: own.respect_dns_ttl,
                jitter: jitter(own.dns_jitter.as_ref()),
                ..DnsSchedule::default()
            },
            resolver: None,
            wait_for_warm,
        },
        None => ClusterDiscovery::Dns {
            logical,
            targets,
            family: family(cluster.dns_lookup_family()),
            schedule: DnsSchedule {
                refresh_rate: rate(cluster.dns_refresh_rate.as_ref()),
                respect_ttl: cluster.respect_dns_ttl,
                jitter: jitter(cluster.dns_jitter.as_ref()),
                ..DnsSchedule::default()
            },
            resolver: None,
            wait_for_warm,
        },
    })
}

fn family(family: pb::cluster::DnsLookupFamily) -> DnsLookupFamily {
    use pb::cluster::DnsLookupFamily as Family;
    match family {
        Family::Auto => DnsLookupFamily::Auto,
        Family::V4Only => DnsLookupFamily::V4Only,
        Family::V6Only => DnsLookupFamily::V6Only,
        Family::V4Preferred => DnsLookupFamily::V4Preferred,
        Family::All => DnsLookupFamily::All,
    }
}
