//! `lb_policy`, `common_lb_config`, `lb_subset_config` and `load_balancing_policy`.

mod subset;
mod typed;

use std::time::Duration;

use millrace_config::{
    Balancing, ConsistentHashing, HashFunction, HealthStatus, HostStatusSet, LbPolicy, LeastRequest,
    LocalityMode, Maglev, RingHash, SlowStart, ZoneAware,
};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, LbConfig, LbPolicy as By, RingHashLbConfig, SlowStartConfig,
    common_lb_config::{ConsistentHashingLbConfig, LocalityConfigSpecifier, ZoneAwareLbConfig},
    ring_hash_lb_config,
};
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::r#type::v3::Percent;
use millrace_proto::pb::google::protobuf::{UInt32Value, UInt64Value};

use crate::context::Context;
use crate::error::Rejection;
use crate::value;

const PANIC_THRESHOLD: f64 = 50.0;
const MERGE_WINDOW: Duration = Duration::from_secs(1);
const PANIC_RUNTIME: &str = "upstream.healthy_panic_threshold";
const ZONES_RUNTIME: &str = "upstream.zone_routing.enabled";
const ZONES_SIZE_RUNTIME: &str = "upstream.zone_routing.min_cluster_size";
const ZONES_FORCE_RUNTIME: &str = "upstream.zone_routing.force_local_zone.min_size";

/// The typed policy when there is one, else what the older fields say. `provides`: the type of the cluster has a
/// balancer of its own, which must be asked for, as it must not be of other clusters.
pub(super) fn balancing(
    cluster: &pb::Cluster,
    provides: bool,
    path: &Path,
    cx: &Context,
) -> Result<(LbPolicy, Balancing), Rejection> {
    let common = cluster.common_lb_config.as_ref();
    let window = common.and_then(|common| common.update_merge_window.as_ref());
    let mut balancing = Balancing {
        locality: LocalityMode::ZoneAware(zone_aware(None, cx)),
        local_locality: cx.node_locality.clone(),
        local_cluster: cx.local_cluster,
        update_merge_window: window.map_or(MERGE_WINDOW, value::duration),
        ..Balancing::default()
    };
    if let Some(set) = common.and_then(|common| common.override_host_status.as_ref()) {
        let add = |set: HostStatusSet, status| set.with(health_status(status));
        balancing.override_host_status = set.statuses().fold(HostStatusSet::EMPTY, add);
    }
    let policy = match &cluster.load_balancing_policy {
        Some(policy) => {
            check_alone(cluster, path)?;
            typed::policy(policy, &path.join("load_balancing_policy"), 0, &mut balancing, cx)?
        }
        None => legacy(cluster, path, &mut balancing, cx)?,
    };
    match (policy == LbPolicy::ClusterProvided, provides) {
        (true, false) => {
            let why = format!(
                "cluster manager: cluster provided LB specified but cluster '{}' did not provide one. Check cluster \
                 documentation.",
                cluster.name
            );
            Err(Rejection::new(&path.join("lb_policy"), why))
        }
        (false, true) => {
            let why = format!(
                "cluster manager: cluster provided LB not specified but cluster '{}' provided one. Check cluster \
                 documentation.",
                cluster.name
            );
            Err(Rejection::new(&path.join("lb_policy"), why))
        }
        _ => Ok((policy, balancing)),
    }
}

/// A typed policy says everything itself.
fn check_alone(cluster: &pb::Cluster, path: &Path) -> Result<(), Rejection> {
    if cluster.lb_subset_config.is_some() {
        let why = "cluster: load_balancing_policy cannot be combined with lb_subset_config";
        return Err(Rejection::new(&path.join("lb_subset_config"), why));
    }
    let common = cluster.common_lb_config.as_ref();
    let partial = |common: &CommonLbConfig| {
        common.locality_config_specifier.is_some() || common.consistent_hashing_lb_config.is_some()
    };
    if common.is_some_and(partial) {
        let why = "cluster: load_balancing_policy cannot be combined with partial fields (zone_aware_lb_config, \
                   locality_weighted_lb_config, consistent_hashing_lb_config) of common_lb_config";
        return Err(Rejection::new(&path.join("common_lb_config"), why));
    }
    Ok(())
}

fn legacy(
    cluster: &pb::Cluster,
    path: &Path,
    balancing: &mut Balancing,
    cx: &Context,
) -> Result<LbPolicy, Rejection> {
    if let Some(common) = &cluster.common_lb_config {
        match &common.locality_config_specifier {
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => {
                balancing.locality = LocalityMode::Weighted;
            }
            Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zone)) => {
                balancing.locality = LocalityMode::ZoneAware(zone_aware(Some(zone), cx));
            }
            None => {}
        }
        let hashing = common.consistent_hashing_lb_config.as_ref();
        if hashing.is_some_and(|hashing| hashing.use_hostname_for_hashing) {
            check_hostnames(cluster, path)?;
        }
        balancing.consistent_hashing = hashing.map(consistent_hashing).unwrap_or_default();
    }
    if let Some(config) = &cluster.lb_subset_config {
        balancing.subset = subset::legacy(config, &path.join("lb_subset_config"))?;
    }
    match cluster.lb_policy() {
        By::RoundRobin => {
            if let Some(LbConfig::RoundRobinLbConfig(config)) = &cluster.lb_config {
                balancing.slow_start = legacy_slow_start(config.slow_start_config.as_ref(), cx);
            }
            Ok(LbPolicy::RoundRobin)
        }
        By::Random => Ok(LbPolicy::Random),
        By::LeastRequest => Ok(LbPolicy::LeastRequest(match &cluster.lb_config {
            Some(LbConfig::LeastRequestLbConfig(config)) => {
                balancing.slow_start = legacy_slow_start(config.slow_start_config.as_ref(), cx);
                least_request(config.choice_count.as_ref(), config.active_request_bias.as_ref(), cx)
            }
            _ => LeastRequest::default(),
        })),
        By::RingHash => match &cluster.lb_config {
            Some(LbConfig::RingHashLbConfig(config)) => {
                legacy_ring(config, &path.join("ring_hash_lb_config"))
            }
            _ => Ok(LbPolicy::RingHash(RingHash::default())),
        },
        By::Maglev => match &cluster.lb_config {
            Some(LbConfig::MaglevLbConfig(config)) => {
                maglev(config.table_size.as_ref(), &path.join("maglev_lb_config"))
            }
            _ => Ok(LbPolicy::Maglev(Maglev::default())),
        },
        By::LoadBalancingPolicyConfig => {
            let why = "cluster: field load_balancing_policy need to be set";
            Err(Rejection::new(&path.join("load_balancing_policy"), why))
        }
        By::ClusterProvided if balancing.subset.is_some() => {
            let why = "cluster: LB policy CLUSTER_PROVIDED cannot be combined with lb_subset_config";
            Err(Rejection::new(&path.join("lb_subset_config"), why))
        }
        By::ClusterProvided => Ok(LbPolicy::ClusterProvided),
    }
}

/// Only endpoints of `STRICT_DNS` are hashed by their names, unless a typed policy asks for it.
fn check_hostnames(cluster: &pb::Cluster, path: &Path) -> Result<(), Rejection> {
    use pb::cluster::DiscoveryType;
    let kind = match &cluster.cluster_discovery_type {
        // What stands there instead of a type has none.
        Some(ClusterDiscoveryType::ClusterType(_)) => "",
        Some(ClusterDiscoveryType::Type(number)) => match DiscoveryType::try_from(*number) {
            Ok(DiscoveryType::StrictDns) => return Ok(()),
            Ok(DiscoveryType::LogicalDns) => "envoy.cluster.logical_dns",
            Ok(DiscoveryType::Eds) => "envoy.cluster.eds",
            Ok(DiscoveryType::OriginalDst) => "envoy.cluster.original_dst",
            Ok(DiscoveryType::Static) | Err(_) => "envoy.cluster.static",
        },
        None => "envoy.cluster.static",
    };
    let why =
        format!("Cannot use hostname for consistent hashing loadbalancing for cluster of type: '{kind}'");
    let path = path.join("common_lb_config").join("consistent_hashing_lb_config");
    Err(Rejection::new(&path.join("use_hostname_for_hashing"), why))
}

/// `healthy_panic_threshold` as a whole number of percent.
pub(super) fn panic_threshold(cluster: &pb::Cluster, cx: &Context) -> f64 {
    let common = cluster.common_lb_config.as_ref();
    let configured = common.and_then(|common| common.healthy_panic_threshold.as_ref());
    let percent = configured.map_or(PANIC_THRESHOLD, |percent| percent.value.round());
    cx.runtime.integer(PANIC_RUNTIME).map_or(percent, |own| own as f64).min(100.0)
}

fn zone_aware(from: Option<&ZoneAwareLbConfig>, cx: &Context) -> ZoneAware {
    zones(
        from.and_then(|zone| zone.routing_enabled.as_ref()),
        from.and_then(|zone| zone.min_cluster_size.as_ref()),
        from.is_some_and(|zone| zone.fail_traffic_on_panic),
        None,
        cx,
    )
}

fn zones(
    enabled: Option<&Percent>,
    size: Option<&UInt64Value>,
    fail_traffic_on_panic: bool,
    force_local: Option<u32>,
    cx: &Context,
) -> ZoneAware {
    let default = ZoneAware::default();
    let percent =
        enabled.map_or(default.routing_enabled, |percent| percent.value.round().clamp(0.0, 100.0) as u32);
    let percent = cx.runtime.integer(ZONES_RUNTIME).map_or(percent, |own| own.min(100) as u32);
    let size = size.map_or(default.min_cluster_size, |size| size.value);
    let runtime_force = cx.runtime.integer(ZONES_FORCE_RUNTIME).filter(|min| *min > 0).map(|min| min as u32);
    ZoneAware {
        routing_enabled: percent,
        min_cluster_size: cx.runtime.integer(ZONES_SIZE_RUNTIME).unwrap_or(size),
        fail_traffic_on_panic,
        force_local: runtime_force.or(force_local),
        by_weight: false,
    }
}

fn consistent_hashing(from: &ConsistentHashingLbConfig) -> ConsistentHashing {
    ConsistentHashing {
        use_hostname: from.use_hostname_for_hashing,
        balance_factor: value::number(from.hash_balance_factor.as_ref(), 0),
        ..ConsistentHashing::default()
    }
}

fn legacy_slow_start(config: Option<&SlowStartConfig>, cx: &Context) -> Option<SlowStart> {
    let config = config?;
    let (window, aggression) = (config.slow_start_window.as_ref(), config.aggression.as_ref());
    slow_start(window, aggression, config.min_weight_percent, cx)
}

fn slow_start(
    window: Option<&millrace_proto::pb::google::protobuf::Duration>,
    aggression: Option<&core::RuntimeDouble>,
    min_weight: Option<Percent>,
    cx: &Context,
) -> Option<SlowStart> {
    let window =
        Duration::from_millis(u64::try_from(value::duration(window?).as_millis()).unwrap_or(u64::MAX));
    let aggression = aggression.map_or(1.0, |aggression| cx.runtime.double(aggression));
    (!window.is_zero()).then_some(SlowStart {
        window,
        // What is no positive number counts as linear, as in Envoy.
        aggression: if aggression.is_finite() && aggression > 0.0 { aggression } else { 1.0 },
        min_weight: min_weight.map_or(0.1, |percent| (percent.value / 100.0).clamp(0.0, 1.0)),
    })
}

fn least_request(
    choices: Option<&UInt32Value>,
    bias: Option<&core::RuntimeDouble>,
    cx: &Context,
) -> LeastRequest {
    let bias = bias.map_or(1.0, |bias| cx.runtime.double(bias));
    LeastRequest {
        choice_count: value::number(choices, 2),
        // A negative or absurd bias counts as none, as in Envoy.
        active_request_bias: if bias.is_finite() && bias >= 0.0 { bias } else { 1.0 },
        full_scan: false,
    }
}

fn legacy_ring(config: &RingHashLbConfig, path: &Path) -> Result<LbPolicy, Rejection> {
    let function = match config.hash_function() {
        ring_hash_lb_config::HashFunction::XxHash => HashFunction::XxHash,
        ring_hash_lb_config::HashFunction::MurmurHash2 => HashFunction::MurmurHash2,
    };
    ring(config.minimum_ring_size.as_ref(), config.maximum_ring_size.as_ref(), function, path)
}

fn ring(
    min: Option<&UInt64Value>,
    max: Option<&UInt64Value>,
    hash_function: HashFunction,
    path: &Path,
) -> Result<LbPolicy, Rejection> {
    let default = RingHash::default();
    let ring = RingHash {
        minimum_ring_size: min.map_or(default.minimum_ring_size, |size| size.value),
        maximum_ring_size: max.map_or(default.maximum_ring_size, |size| size.value),
        hash_function,
    };
    if ring.minimum_ring_size > ring.maximum_ring_size {
        let (min, max) = (ring.minimum_ring_size, ring.maximum_ring_size);
        let why = format!("ring hash: minimum_ring_size ({min}) > maximum_ring_size ({max})");
        return Err(Rejection::new(&path.join("minimum_ring_size"), why));
    }
    Ok(LbPolicy::RingHash(ring))
}

fn maglev(size: Option<&UInt64Value>, path: &Path) -> Result<LbPolicy, Rejection> {
    let size = size.map_or(u64::from(Maglev::default().table_size), |size| size.value);
    let prime = size >= 2
        && (2..).take_while(|divisor| divisor * divisor <= size).all(|divisor| !size.is_multiple_of(divisor));
    match u32::try_from(size) {
        Ok(table_size) if prime => Ok(LbPolicy::Maglev(Maglev { table_size })),
        _ => Err(Rejection::new(&path.join("table_size"), "The table size of maglev must be prime number")),
    }
}

/// The model's word for a status.
pub(super) fn health_status(status: core::HealthStatus) -> HealthStatus {
    match status {
        core::HealthStatus::Unknown => HealthStatus::Unknown,
        core::HealthStatus::Healthy => HealthStatus::Healthy,
        core::HealthStatus::Unhealthy => HealthStatus::Unhealthy,
        core::HealthStatus::Draining => HealthStatus::Draining,
        core::HealthStatus::Timeout => HealthStatus::Timeout,
        core::HealthStatus::Degraded => HealthStatus::Degraded,
    }
}

#[cfg(test)]
mod tests;
