//! `core.v3.ApiConfigSource`: gRPC and REST control planes.

use std::time::Duration;

use millrace_ads::source::{ConfigSource, GrpcService, GrpcSource, RestSource, Variant};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3 as pb;
use millrace_proto::pb::envoy::config::core::v3::api_config_source::ApiType;

use super::{grpc, upstream};
use crate::context::Context;
use crate::error::Rejection;
use crate::value;

const NAME: &str = "envoy.config.core.v3.ApiConfigSource";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Envoy's defaults of `rate_limit_settings`.
const TOKENS: u32 = 100;
const TOKENS_PER_SECOND: f64 = 10.0;

/// `dynamic_resources.ads_config`, which may name a second service to fail over to.
pub(crate) fn ads(
    config: &pb::ApiConfigSource,
    path: &Path,
    cx: &mut Context,
) -> Result<GrpcSource, Rejection> {
    version(config.transport_api_version(), &path.join("transport_api_version"))?;
    let variant = grpc_variant(config, path)?;
    grpc_source(config, variant, 2, path, cx)
}

fn grpc_variant(config: &pb::ApiConfigSource, path: &Path) -> Result<Variant, Rejection> {
    match config.api_type() {
        ApiType::Grpc => Ok(Variant::Sotw),
        ApiType::DeltaGrpc => Ok(Variant::Delta),
        other => {
            let why = format!("{NAME} type must be gRPC: {}", other.as_str_name());
            Err(Rejection::new(&path.join("api_type"), why))
        }
    }
}

/// `cluster_manager.load_stats_config` or `hds_config`, which name one service; both gRPC types mean the same stream.
pub(crate) fn one_service(
    config: &pb::ApiConfigSource,
    path: &Path,
    cx: &mut Context,
) -> Result<GrpcService, Rejection> {
    version(config.transport_api_version(), &path.join("transport_api_version"))?;
    let variant = grpc_variant(config, path)?;
    let services = grpc_source(config, variant, 1, path, cx)?.services;
    let none = || Rejection::new(&path.join("grpc_services"), "no gRPC service is named");
    services.into_iter().next().ok_or_else(none)
}

/// `api_config_source` of one resource or of all of one type.
pub(super) fn api(
    config: &pb::ApiConfigSource,
    path: &Path,
    cx: &mut Context,
) -> Result<ConfigSource, Rejection> {
    match config.api_type() {
        ApiType::Grpc | ApiType::DeltaGrpc => {
            let variant = match config.api_type() {
                ApiType::DeltaGrpc => Variant::Delta,
                _ => Variant::Sotw,
            };
            let source = grpc_source(config, variant, 1, path, cx)?;
            version(config.transport_api_version(), &path.join("transport_api_version"))?;
            Ok(ConfigSource::Grpc(source))
        }
        ApiType::Rest => {
            let source = rest(config, path, cx)?;
            version(config.transport_api_version(), &path.join("transport_api_version"))?;
            Ok(ConfigSource::Rest(source))
        }
        other @ (ApiType::AggregatedGrpc | ApiType::AggregatedDeltaGrpc) => {
            let why = format!("Unsupported config source {}", other.as_str_name());
            Err(Rejection::new(&path.join("api_type"), why))
        }
        ApiType::DeprecatedAndUnavailableDoNotUse => {
            let why = "api_type must be one of REST, GRPC and DELTA_GRPC";
            Err(Rejection::new(&path.join("api_type"), why))
        }
    }
}

/// Only v3 travels, which an unset version (`AUTO`) means too.
pub(super) fn version(version: pb::ApiVersion, path: &Path) -> Result<(), Rejection> {
    match version {
        pb::ApiVersion::V3 | pb::ApiVersion::Auto => Ok(()),
        pb::ApiVersion::V2 => Err(Rejection::new(path, "the v2 API is gone, from Envoy too")),
    }
}

fn grpc_source(
    config: &pb::ApiConfigSource,
    variant: Variant,
    services_max: usize,
    path: &Path,
    cx: &mut Context,
) -> Result<GrpcSource, Rejection> {
    if config.cluster_names.is_empty() && config.grpc_services.is_empty() {
        let why = "API configs must have either a gRPC service or a cluster name defined";
        return Err(Rejection::new(path, why));
    }
    if !config.cluster_names.is_empty() {
        let why = format!("{NAME}::(DELTA_)GRPC must not have a cluster name specified");
        return Err(Rejection::new(&path.join("cluster_names"), why));
    }
    let services_path = path.join("grpc_services");
    if config.grpc_services.len() > services_max {
        let why =
            format!("{NAME}::(DELTA_)GRPC must have no more than {services_max} gRPC services specified");
        return Err(Rejection::new(&services_path, why));
    }
    let mut services = Vec::with_capacity(config.grpc_services.len());
    for (i, service) in config.grpc_services.iter().enumerate() {
        services.push(grpc::service(service, NAME, &services_path.at(i), cx)?);
    }
    Ok(GrpcSource {
        variant,
        services,
        set_node_on_first_message_only: config.set_node_on_first_message_only,
        rate_limit: config.rate_limit_settings.as_ref().map(rate_limit),
    })
}

/// Tokens, and tokens a second in thousandths.
fn rate_limit(settings: &pb::RateLimitSettings) -> (u32, u64) {
    let rate = settings.fill_rate.as_ref().map_or(TOKENS_PER_SECOND, |rate| rate.value);
    (value::number(settings.max_tokens.as_ref(), TOKENS), ((rate * 1000.0) as u64).max(1))
}

fn rest(config: &pb::ApiConfigSource, path: &Path, cx: &mut Context) -> Result<RestSource, Rejection> {
    if config.cluster_names.is_empty() && config.grpc_services.is_empty() {
        let why = "API configs must have either a gRPC service or a cluster name defined";
        return Err(Rejection::new(path, why));
    }
    if !config.grpc_services.is_empty() {
        let why = format!("{NAME}, if not a gRPC type, must not have a gRPC service specified");
        return Err(Rejection::new(&path.join("grpc_services"), why));
    }
    let [cluster] = &config.cluster_names[..] else {
        let why = format!("{NAME} must have a singleton cluster name specified");
        return Err(Rejection::new(&path.join("cluster_names"), why));
    };
    let target = upstream::named(cluster, NAME, &path.join("cluster_names").at(0), cx)?;
    let Some(delay) = &config.refresh_delay else {
        let why = "refresh_delay is required for REST API configuration sources";
        return Err(Rejection::new(&path.join("refresh_delay"), why));
    };
    let refresh_delay = value::duration(delay);
    if refresh_delay.is_zero() {
        return Err(Rejection::new(&path.join("refresh_delay"), "value must be greater than 0s"));
    }
    Ok(RestSource {
        authority: target.name.clone(),
        target,
        refresh_delay,
        request_timeout: config.request_timeout.as_ref().map_or(REQUEST_TIMEOUT, value::duration),
    })
}
