//! `LoadBalancingPolicy`: balancers as extensions, some around others.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use millrace_config::{
    Balancing, ClientSideWeights, ConsistentHashing, HashFunction, LbPolicy, LeastRequest, LoadStream,
    LocalityMode, MetadataPlace, OverrideHostSource, PeakEwma,
};
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::extensions::load_balancing_policies as policies;
use millrace_proto::pb::envoy::r#type::metadata::v3::MetadataKey;
use millrace_proto::pb::google::protobuf::{Any, Duration};
use millrace_proto::{Path, contrib};
use policies::common::v3 as common;
use policies::common::v3::locality_lb_config::LocalityConfigSpecifier;
use policies::common::v3::locality_lb_config::zone_aware_lb_config::LocalityBasis;

use super::subset;
use crate::context::Context;
use crate::error::Rejection;
use crate::metadata::{pairs, path_of};
use crate::{extension, hash_policy, value};

/// Most balancers around one another.
const DEPTH_MAX: usize = 8;

const BLACKOUT: StdDuration = StdDuration::from_secs(10);
const EXPIRATION: StdDuration = StdDuration::from_secs(180);
const REPORTING: StdDuration = StdDuration::from_secs(10);
const UPDATE: StdDuration = StdDuration::from_secs(1);
const UPDATE_MIN: StdDuration = StdDuration::from_millis(100);
/// The shortest `decay_time` of peak-EWMA: less would forget every answer before the next.
const DECAY_MIN: StdDuration = StdDuration::from_millis(1);

const PREFIX: &str = "envoy.extensions.load_balancing_policies.";

/// The first policy that Envoy knows; others are passed over.
pub(super) fn policy(
    policy: &pb::LoadBalancingPolicy,
    path: &Path,
    depth: usize,
    out: &mut Balancing,
    cx: &Context,
) -> Result<LbPolicy, Rejection> {
    let path = path.join("policies");
    if depth == DEPTH_MAX {
        return Err(Rejection::new(&path, format!("more than {DEPTH_MAX} balancers around one another")));
    }
    for (i, one) in policy.policies.iter().enumerate() {
        let Some(config) = &one.typed_extension_config else { continue };
        let path = path.at(i).join("typed_extension_config");
        let Some(any) = &config.typed_config else {
            return Err(extension::not_served("balancer", &config.name, None, &path));
        };
        let kind = extension::type_of(any);
        let Some(kind) = kind.strip_prefix(PREFIX).filter(|kind| is_known(kind)) else { continue };
        return match served(kind, any, &path.join("typed_config"), depth, out, cx)? {
            Some(policy) => Ok(policy),
            None => Err(extension::not_served("balancer", &config.name, Some(any), &path)),
        };
    }
    let names: Vec<&str> = policy
        .policies
        .iter()
        .filter_map(|one| Some(one.typed_extension_config.as_ref()?.name.as_str()))
        .collect();
    let why = format!(
        "didn't find a registered load balancer factory implementation with names from [{}]",
        names.join(", ")
    );
    Err(Rejection::new(&path, why))
}

/// The balancers of Envoy 1.40, and one of its contrib build.
fn is_known(kind: &str) -> bool {
    matches!(
        kind,
        "round_robin.v3.RoundRobin"
            | "random.v3.Random"
            | "least_request.v3.LeastRequest"
            | "ring_hash.v3.RingHash"
            | "maglev.v3.Maglev"
            | "subset.v3.Subset"
            | "override_host.v3.OverrideHost"
            | "wrr_locality.v3.WrrLocality"
            | "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin"
            | "cluster_provided.v3.ClusterProvided"
            | "dynamic_modules.v3.DynamicModulesLoadBalancerConfig"
            | "load_aware_locality.v3.LoadAwareLocality"
            | "peak_ewma.v3alpha.PeakEwma"
    )
}

fn served(
    kind: &str,
    any: &Any,
    path: &Path,
    depth: usize,
    out: &mut Balancing,
    cx: &Context,
) -> Result<Option<LbPolicy>, Rejection> {
    Ok(Some(match kind {
        "round_robin.v3.RoundRobin" => {
            let config: policies::round_robin::v3::RoundRobin = extension::open(any, path)?;
            out.slow_start = slow_start(config.slow_start_config.as_ref(), cx);
            locality(config.locality_lb_config.as_ref(), out, cx);
            LbPolicy::RoundRobin
        }
        "random.v3.Random" => {
            let config: policies::random::v3::Random = extension::open(any, path)?;
            locality(config.locality_lb_config.as_ref(), out, cx);
            LbPolicy::Random
        }
        "least_request.v3.LeastRequest" => least_request(&extension::open(any, path)?, out, cx),
        "ring_hash.v3.RingHash" => ring_hash(&extension::open(any, path)?, path, out)?,
        "maglev.v3.Maglev" => {
            let config: policies::maglev::v3::Maglev = extension::open(any, path)?;
            hashing(config.consistent_hashing_lb_config.as_ref(), path, out)?;
            weighted(config.locality_weighted_lb_config.is_some(), out);
            super::maglev(config.table_size.as_ref(), path)?
        }
        "subset.v3.Subset" => {
            let config: policies::subset::v3::Subset = extension::open(any, path)?;
            let child =
                child(config.subset_lb_policy.as_ref(), &path.join("subset_lb_policy"), depth, out, cx)?;
            out.subset = Some(subset::typed(&config, path)?);
            child
        }
        "override_host.v3.OverrideHost" => {
            let config: policies::override_host::v3::OverrideHost = extension::open(any, path)?;
            let child =
                child(config.fallback_policy.as_ref(), &path.join("fallback_policy"), depth, out, cx)?;
            override_host(&config, path, out)?;
            child
        }
        "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin" => {
            client_side_weights(&extension::open(any, path)?, out, cx)
        }
        "wrr_locality.v3.WrrLocality" => {
            let config: policies::wrr_locality::v3::WrrLocality = extension::open(any, path)?;
            let path = path.join("endpoint_picking_policy");
            let child = child(config.endpoint_picking_policy.as_ref(), &path, depth, out, cx)?;
            if !matches!(child, LbPolicy::ClientSideWeightedRoundRobin(_)) {
                let why = "Currently WrrLocalityLoadBalancer only supports ClientSideWeightedRoundRobinLoadBalancer \
                           as its endpoint picking policy.";
                return Err(Rejection::new(&path, why));
            }
            out.locality = LocalityMode::Weighted;
            child
        }
        "peak_ewma.v3alpha.PeakEwma" => LbPolicy::PeakEwma(peak_ewma(&extension::open(any, path)?)),
        "cluster_provided.v3.ClusterProvided" => LbPolicy::ClusterProvided,
        _ => return Ok(None),
    }))
}

fn client_side_weights(
    config: &policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin,
    out: &mut Balancing,
    cx: &Context,
) -> LbPolicy {
    let period = |period: Option<&Duration>, default| period.map_or(default, value::duration);
    out.slow_start = slow_start(config.slow_start_config.as_ref(), cx);
    out.utilization_metrics =
        config.metric_names_for_computing_utilization.iter().map(|name| value::text(name)).collect();
    out.load_stream = load_stream(config).map(Arc::new);
    LbPolicy::ClientSideWeightedRoundRobin(ClientSideWeights {
        blackout: period(config.blackout_period.as_ref(), BLACKOUT),
        expiration: period(config.weight_expiration_period.as_ref(), EXPIRATION),
        update: period(config.weight_update_period.as_ref(), UPDATE).max(UPDATE_MIN),
        error_penalty: config.error_utilization_penalty.map_or(0.0, |penalty| f64::from(penalty.value)),
    })
}

/// The stream of reports that each endpoint is asked for.
fn load_stream(
    config: &policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin,
) -> Option<LoadStream> {
    config.enable_oob_load_report.filter(|enabled| enabled.value)?;
    let period = config.oob_reporting_period.as_ref().map(value::duration);
    let own = config.oob_reporting_config.clone().unwrap_or_default();
    Some(LoadStream {
        // Milliseconds are what Envoy counts in: less than one is none.
        period: period.filter(|period| period.as_millis() > 0).unwrap_or(REPORTING),
        port: u16::try_from(own.port_value).unwrap_or(0),
        authority: value::text(&own.authority),
        transport_match: own.transport_socket_match_criteria.as_ref().map(|by| pairs(by).into()),
    })
}

fn peak_ewma(config: &contrib::PeakEwma) -> PeakEwma {
    let default = PeakEwma::default();
    PeakEwma {
        decay: config.decay_time.as_ref().map_or(default.decay, value::duration).max(DECAY_MIN),
        default_rtt: config.default_rtt.as_ref().map_or(default.default_rtt, value::duration),
        penalty: config.penalty_value.map(|penalty| penalty.value),
    }
}

fn child(
    child: Option<&pb::LoadBalancingPolicy>,
    path: &Path,
    depth: usize,
    out: &mut Balancing,
    cx: &Context,
) -> Result<LbPolicy, Rejection> {
    match child {
        Some(child) => policy(child, path, depth + 1, out, cx),
        None => Err(Rejection::new(path, "value is required")),
    }
}

fn least_request(
    config: &policies::least_request::v3::LeastRequest,
    out: &mut Balancing,
    cx: &Context,
) -> LbPolicy {
    use policies::least_request::v3::least_request::SelectionMethod;
    out.slow_start = slow_start(config.slow_start_config.as_ref(), cx);
    locality(config.locality_lb_config.as_ref(), out, cx);
    let basic = super::least_request(config.choice_count.as_ref(), config.active_request_bias.as_ref(), cx);
    LbPolicy::LeastRequest(LeastRequest {
        full_scan: config.selection_method() == SelectionMethod::FullScan,
        ..basic
    })
}

fn ring_hash(
    config: &policies::ring_hash::v3::RingHash,
    path: &Path,
    out: &mut Balancing,
) -> Result<LbPolicy, Rejection> {
    use policies::ring_hash::v3::ring_hash::HashFunction as Function;
    let function = match config.hash_function() {
        Function::DefaultHash | Function::XxHash => HashFunction::XxHash,
        Function::MurmurHash2 => HashFunction::MurmurHash2,
    };
    #[allow(deprecated)]
    let older = (config.use_hostname_for_hashing, value::number(config.hash_balance_factor.as_ref(), 0));
    match &config.consistent_hashing_lb_config {
        Some(own) => hashing(Some(own), path, out)?,
        None => (out.consistent_hashing.use_hostname, out.consistent_hashing.balance_factor) = older,
    }
    weighted(config.locality_weighted_lb_config.is_some(), out);
    super::ring(config.minimum_ring_size.as_ref(), config.maximum_ring_size.as_ref(), function, path)
}

fn hashing(
    config: Option<&common::ConsistentHashingLbConfig>,
    path: &Path,
    out: &mut Balancing,
) -> Result<(), Rejection> {
    let Some(config) = config else { return Ok(()) };
    let path = path.join("consistent_hashing_lb_config").join("hash_policy");
    out.consistent_hashing = ConsistentHashing {
        use_hostname: config.use_hostname_for_hashing,
        balance_factor: value::number(config.hash_balance_factor.as_ref(), 0),
        hash_policies: hash_policy::policies(&config.hash_policy, &path)?.into(),
    };
    Ok(())
}

fn slow_start(config: Option<&common::SlowStartConfig>, cx: &Context) -> Option<millrace_config::SlowStart> {
    let config = config?;
    let window = config.slow_start_window.as_ref();
    super::slow_start(window, config.aggression.as_ref(), config.min_weight_percent, cx)
}

fn weighted(weighted: bool, out: &mut Balancing) {
    if weighted {
        out.locality = LocalityMode::Weighted;
    }
}

fn locality(config: Option<&common::LocalityLbConfig>, out: &mut Balancing, cx: &Context) {
    match config.and_then(|config| config.locality_config_specifier.as_ref()) {
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => out.locality = LocalityMode::Weighted,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zone)) => {
            #[allow(deprecated)]
            let older = zone.force_locality_direct_routing.then_some(1);
            let own = zone.force_local_zone.as_ref();
            let force = own.map(|force| value::number(force.min_size.as_ref(), 1)).or(older);
            let mut zones = super::zones(
                zone.routing_enabled.as_ref(),
                zone.min_cluster_size.as_ref(),
                zone.fail_traffic_on_panic,
                force,
                cx,
            );
            zones.by_weight = zone.locality_basis() == LocalityBasis::HealthyHostsWeight;
            out.locality = LocalityMode::ZoneAware(zones);
        }
        None => {}
    }
}

fn override_host(
    config: &policies::override_host::v3::OverrideHost,
    path: &Path,
    out: &mut Balancing,
) -> Result<(), Rejection> {
    let (selected, path) = (path.join("selected_host_key"), path.join("override_host_sources"));
    let mut sources = Vec::new();
    for (i, source) in config.override_host_sources.iter().enumerate() {
        match (source.header.as_str(), &source.metadata) {
            ("", None) => return Err(Rejection::new(&path.at(i), "Empty override source")),
            ("", Some(key)) => {
                sources.push(OverrideHostSource::Metadata(place(key, &path.at(i).join("metadata"))?));
            }
            (_, Some(_)) => return Err(Rejection::new(&path.at(i), "Only one override source must be set")),
            (header, None) => sources.push(OverrideHostSource::Header(value::lower_bytes(header))),
        }
    }
    out.override_host = sources.into();
    if let Some(key) = &config.selected_host_key {
        out.selected_host = Some(Arc::new(place(key, &selected)?));
    }
    Ok(())
}

fn place(key: &MetadataKey, path: &Path) -> Result<MetadataPlace, Rejection> {
    Ok(MetadataPlace { namespace: key.key.as_str().into(), path: path_of(key, path)? })
}
