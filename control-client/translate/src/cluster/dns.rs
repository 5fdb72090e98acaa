//! Clusters that resolve names: `STRICT_DNS`, `LOGICAL_DNS` and `extensions.clusters.dns.v3.DnsCluster`.

use std::time::Duration;

use millrace_config::{ClusterDiscovery, DnsLookupFamily, DnsSchedule, DnsTarget};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use millrace_proto::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as NewFamily;
use millrace_proto::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use millrace_proto::pb::google::protobuf as wkt;

use super::dns_resolver;
use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, value};

const TYPE: &str = "envoy.extensions.clusters.dns.v3.DnsCluster";

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
    cx: &Context,
) -> Result<ClusterDiscovery, Rejection> {
    let wait_for_warm = value::flag(cluster.wait_for_warm_on_init.as_ref(), true);
    let logical = kind == DiscoveryType::LogicalDns;
    let default = DnsSchedule::default();
    let time = |field: Option<&_>, default| field.map_or(default, value::duration);
    let (family, schedule, resolver) = match extension(cluster, path)? {
        Some(own) => {
            let path = path.join("cluster_type").join("typed_config");
            let failure = own.dns_failure_refresh_rate.as_ref();
            let failure = failure.map(|rate| (rate.base_interval.as_ref(), rate.max_interval.as_ref()));
            let schedule = DnsSchedule {
                refresh_rate: time(own.dns_refresh_rate.as_ref(), default.refresh_rate),
                failure_refresh: failure_refresh(failure, &path)?,
                respect_ttl: own.respect_dns_ttl,
                min_refresh_rate: time(own.dns_min_refresh_rate.as_ref(), default.min_refresh_rate),
                jitter: time(own.dns_jitter.as_ref(), default.jitter),
            };
            let resolver = own.typed_dns_resolver_config.as_ref();
            let resolver = resolver
                .map(|config| dns_resolver::typed(config, &path.join("typed_dns_resolver_config")))
                .transpose()?;
            (
                new_family(own.dns_lookup_family()),
                schedule,
                resolver.unwrap_or_else(|| cx.dns_resolver.clone()),
            )
        }
        None => {
            let failure = cluster.dns_failure_refresh_rate.as_ref();
            let failure = failure.map(|rate| (rate.base_interval.as_ref(), rate.max_interval.as_ref()));
            let schedule = DnsSchedule {
                refresh_rate: time(cluster.dns_refresh_rate.as_ref(), default.refresh_rate),
                failure_refresh: failure_refresh(failure, path)?,
                respect_ttl: cluster.respect_dns_ttl,
                min_refresh_rate: default.min_refresh_rate,
                jitter: time(cluster.dns_jitter.as_ref(), default.jitter),
            };
            let resolver = dns_resolver::of_cluster(cluster, path)?.or_else(|| cx.dns_resolver.clone());
            (family(cluster.dns_lookup_family()), schedule, resolver)
        }
    };
    Ok(ClusterDiscovery::Dns { logical, targets, family, schedule, resolver, wait_for_warm })
}

/// `dns_failure_refresh_rate`: by default the longest wait is ten times the first.
pub(crate) fn failure_refresh(
    rate: Option<(Option<&wkt::Duration>, Option<&wkt::Duration>)>,
    path: &Path,
) -> Result<Option<(Duration, Duration)>, Rejection> {
    let Some((base, max)) = rate else { return Ok(None) };
    let path = path.join("dns_failure_refresh_rate");
    let base = value::duration(
        base.ok_or_else(|| Rejection::new(&path.join("base_interval"), "value is required"))?,
    );
    let max = max.map_or(base.saturating_mul(10), value::duration);
    if max < base {
        let why =
            "dns_failure_refresh_rate must have max_interval greater than or equal to the base_interval";
        return Err(Rejection::new(&path.join("max_interval"), why));
    }
    Ok(Some((base, max)))
}

fn new_family(family: NewFamily) -> DnsLookupFamily {
    match family {
        NewFamily::Unspecified | NewFamily::Auto => DnsLookupFamily::Auto,
        NewFamily::V4Only => DnsLookupFamily::V4Only,
        NewFamily::V6Only => DnsLookupFamily::V6Only,
        NewFamily::V4Preferred => DnsLookupFamily::V4Preferred,
        NewFamily::All => DnsLookupFamily::All,
    }
}

pub(crate) fn family(family: pb::cluster::DnsLookupFamily) -> DnsLookupFamily {
    use pb::cluster::DnsLookupFamily as Family;
    match family {
        Family::Auto => DnsLookupFamily::Auto,
        Family::V4Only => DnsLookupFamily::V4Only,
        Family::V6Only => DnsLookupFamily::V6Only,
        Family::V4Preferred => DnsLookupFamily::V4Preferred,
        Family::All => DnsLookupFamily::All,
    }
}
