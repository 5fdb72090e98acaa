//! `extensions.filters.network.tcp_proxy.v3.TcpProxy`.

use std::time::Duration;

use millrace_config::{BackOff, TcpClusterSpecifier, TcpProxy, TcpWeightedCluster};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3 as pb;

use crate::access_log::access_logs;
use crate::context::Context;
use crate::error::Rejection;
use crate::{hash_policy, metadata, value};

/// Type of the configuration.
pub(crate) const TYPE: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Clusters need not exist: Envoy too finds out when a connection comes.
pub(crate) fn tcp_proxy(proxy: &pb::TcpProxy, path: &Path, cx: &mut Context) -> Result<TcpProxy, Rejection> {
    let cluster = match &proxy.cluster_specifier {
        Some(pb::tcp_proxy::ClusterSpecifier::Cluster(name)) => {
            TcpClusterSpecifier::Cluster(cx.target_cluster(name, &path.join("cluster"))?)
        }
        Some(pb::tcp_proxy::ClusterSpecifier::WeightedClusters(list)) => {
            let path = path.join("weighted_clusters");
            let mut entries = Vec::with_capacity(list.clusters.len());
            for (i, entry) in list.clusters.iter().enumerate() {
                let path = path.join("clusters").at(i).join("name");
                let own = entry.metadata_match.as_ref();
                entries.push(TcpWeightedCluster {
                    cluster: cx.target_cluster(&entry.name, &path)?,
                    weight: entry.weight,
                    metadata_match: metadata::matching(&[proxy.metadata_match.as_ref(), own]),
                });
            }
            let total = entries.iter().map(|entry| u64::from(entry.weight)).sum();
            if total == 0 {
                return Err(Rejection::new(&path, "the sum of the weights must be greater than 0"));
            }
            TcpClusterSpecifier::Weighted(entries, total)
        }
        None => return Err(Rejection::new(&path.join("cluster_specifier"), "is required")),
    };
    Ok(TcpProxy {
        stat_prefix: proxy.stat_prefix.as_str().into(),
        scope: cx.scope(ScopeKind::Tcp, &proxy.stat_prefix),
        cluster,
        idle_timeout: value::limit_or(proxy.idle_timeout.as_ref(), IDLE_TIMEOUT),
        max_connect_attempts: value::number(proxy.max_connect_attempts.as_ref(), 1),
        back_off: back_off(proxy, path)?,
        duration_jitter_percent: proxy
            .max_downstream_connection_duration_jitter_percentage
            .as_ref()
            .map_or(0.0, |percent| percent.value),
        check_drain_close: proxy.check_drain_close.as_ref().is_some_and(|check| check.value),
        max_downstream_connection_duration: value::limit(proxy.max_downstream_connection_duration.as_ref()),
        hash_policies: hash_policy::of_connection(&proxy.hash_policy),
        metadata_match: metadata::matching(&[proxy.metadata_match.as_ref()]),
        access_logs: access_logs(&proxy.access_log, &path.join("access_log"), cx)?,
    })
}

/// `backoff_options`; the longest pause is ten times the first by default.
fn back_off(proxy: &pb::TcpProxy, path: &Path) -> Result<Option<BackOff>, Rejection> {
    let Some(options) = &proxy.backoff_options else { return Ok(None) };
    let path = path.join("backoff_options");
    let Some(base) = options.base_interval.as_ref().map(value::duration) else {
        return Err(Rejection::new(&path.join("base_interval"), "value is required"));
    };
    let max = options.max_interval.as_ref().map_or(base.saturating_mul(10), value::duration);
    if max < base {
        return Err(Rejection::new(&path, "max_backoff must be greater or equal to base_backoff"));
    }
    Ok(Some(BackOff { base, max }))
}
