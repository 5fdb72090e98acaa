//! `ClusterStats` of what was counted.

use std::collections::BTreeMap;

use millrace_base::Time;
use millrace_config::Address;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::config::core::v3::address::Address as Kind;
use millrace_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use millrace_proto::pb::envoy::config::endpoint::v3::cluster_stats::DroppedRequests;
use millrace_proto::pb::envoy::config::endpoint::v3::{
    ClusterStats, EndpointLoadMetricStats, UpstreamEndpointStats, UpstreamLocalityStats,
};
use millrace_proto::pb::google::protobuf::Duration;
use millrace_upstream::{LoadMetrics, MetricSum};

use super::tally::{Counts, Load, Place};

/// One cluster. As in Envoy, endpoints and localities without any request are left out, the cluster is not.
pub(super) fn cluster_stats(load: &Load, endpoint_granularity: bool, now: Time) -> ClusterStats {
    let mut localities: BTreeMap<&Place, UpstreamLocalityStats> = BTreeMap::new();
    let mut metrics: BTreeMap<&Place, LoadMetrics> = BTreeMap::new();
    for host in load.hosts.values().filter(|host| !host.is_idle()) {
        let locality = localities.entry(&host.place).or_default();
        add(locality, host.counts);
        locality.total_requests_in_progress += host.active;
        if !host.metrics.is_empty() {
            metrics.entry(&host.place).or_default().merge(&host.metrics);
        }
        if endpoint_granularity {
            locality.upstream_endpoint_stats.push(UpstreamEndpointStats {
                address: Some(address(&host.address)),
                total_successful_requests: host.counts.success,
                total_requests_in_progress: host.active,
                total_error_requests: host.counts.error,
                total_issued_requests: host.counts.issued,
                load_metric_stats: metric_stats(&host.metrics),
                ..UpstreamEndpointStats::default()
            });
        }
    }
    for (place, counts) in load.sums.iter().filter(|(_, counts)| **counts != Counts::default()) {
        add(localities.entry(place).or_default(), *counts);
    }
    for (place, metrics) in metrics {
        localities.entry(place).or_default().load_metric_stats = metric_stats(&metrics);
    }
    let elapsed = now.since(load.since);
    let on_purpose = (load.dropped.on_purpose > 0).then(|| DroppedRequests {
        category: load.category.to_string(),
        dropped_count: load.dropped.on_purpose,
    });
    ClusterStats {
        cluster_name: load.name.to_string(),
        cluster_service_name: load.service_name.as_deref().unwrap_or_default().to_owned(),
        upstream_locality_stats: localities.into_iter().map(|(place, stats)| named(place, stats)).collect(),
        total_dropped_requests: load.dropped.overflow + load.dropped.on_purpose,
        dropped_requests: on_purpose.into_iter().collect(),
        load_report_interval: Some(Duration {
            seconds: i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX),
            nanos: elapsed.subsec_nanos().cast_signed(),
        }),
    }
}

fn add(locality: &mut UpstreamLocalityStats, counts: Counts) {
    locality.total_successful_requests += counts.success;
    locality.total_error_requests += counts.error;
    locality.total_issued_requests += counts.issued;
}

fn metric_stats(metrics: &LoadMetrics) -> Vec<EndpointLoadMetricStats> {
    let stats = |(name, sum): (&str, MetricSum)| EndpointLoadMetricStats {
        metric_name: name.to_owned(),
        num_requests_finished_with_metric: sum.responses,
        total_metric_value: sum.total,
    };
    metrics.iter().map(stats).collect()
}

fn named(
    (priority, (region, zone, sub_zone)): &Place,
    stats: UpstreamLocalityStats,
) -> UpstreamLocalityStats {
    let locality =
        core::Locality { region: region.to_string(), zone: zone.to_string(), sub_zone: sub_zone.to_string() };
    UpstreamLocalityStats { locality: Some(locality), priority: *priority, ..stats }
}

pub(in crate::run) fn address(address: &Address) -> core::Address {
    let kind = match address {
        Address::Inet(socket) => Kind::SocketAddress(core::SocketAddress {
            address: socket.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(u32::from(socket.port()))),
            ..core::SocketAddress::default()
        }),
        Address::Pipe { path, mode } => Kind::Pipe(core::Pipe { path: path.to_string(), mode: *mode }),
    };
    core::Address { address: Some(kind) }
}
