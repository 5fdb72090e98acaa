//! `extensions.filters.http.fault.v3.HTTPFault`.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    Fault, FaultAbort, FaultDelay, FaultFilter, FaultRate, Fraction, HttpFilterKind, PerFilterConfig,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::common::fault::v3 as common;
use millrace_proto::pb::envoy::extensions::filters::http::fault::v3 as pb;

use crate::context::Context;
use crate::error::Rejection;
use crate::{matcher, value};

pub(super) const TYPE: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

pub(super) fn filter(
    config: &pb::HttpFault,
    stat_prefix: &str,
    path: &Path,
    cx: &Context,
) -> Result<HttpFilterKind, Rejection> {
    let scope = cx.scope(ScopeKind::HttpFault, &format!("{stat_prefix}.fault"));
    let fault = Arc::new(fault(config, path, cx)?);
    Ok(HttpFilterKind::Fault(Arc::new(FaultFilter::new(fault, scope))))
}

pub(super) fn of_route(
    config: &pb::HttpFault,
    path: &Path,
    cx: &Context,
) -> Result<PerFilterConfig, Rejection> {
    Ok(PerFilterConfig::Fault(Arc::new(fault(config, path, cx)?)))
}

fn fault(config: &pb::HttpFault, path: &Path, cx: &Context) -> Result<Fault, Rejection> {
    let integer = |key: &str, default: &str| cx.runtime.integer(or(key, default));
    let body = config.abort.as_ref().map_or("", |abort| abort.response_body.as_str());
    Ok(Fault {
        delay: delay(config, path, cx)?,
        delay_override: integer(&config.delay_duration_runtime, "fault.http.delay.fixed_duration_ms")
            .map(Duration::from_millis),
        abort: abort(config, path, cx)?,
        abort_http_override: integer(&config.abort_http_status_runtime, "fault.http.abort.http_status")
            .and_then(|status| u16::try_from(status).ok())
            .filter(|status| (200..600).contains(status)),
        abort_grpc_override: integer(&config.abort_grpc_status_runtime, "fault.http.abort.grpc_status")
            .and_then(|status| u32::try_from(status).ok()),
        abort_body: if body.is_empty() { "fault filter abort".into() } else { body.into() },
        rate: rate(config, path, cx)?,
        upstream_cluster: value::text(&config.upstream_cluster),
        downstream_nodes: config.downstream_nodes.iter().map(|node| value::bytes(node)).collect(),
        headers: matcher::headers(&config.headers, &path.join("headers"))?,
        max_active: integer(&config.max_active_faults_runtime, "fault.http.max_active_faults")
            .or(config.max_active_faults.as_ref().map(|max| u64::from(max.value))),
    })
}

fn or<'k>(key: &'k str, default: &'k str) -> &'k str {
    if key.is_empty() { default } else { key }
}

fn delay(
    config: &pb::HttpFault,
    path: &Path,
    cx: &Context,
) -> Result<Option<(FaultDelay, Fraction)>, Rejection> {
    use common::fault_delay::FaultDelaySecifier as By;
    let Some(delay) = &config.delay else { return Ok(None) };
    let by = match &delay.fault_delay_secifier {
        // Envoy counts milliseconds.
        Some(By::FixedDelay(delay)) => {
            FaultDelay::Fixed(Duration::from_millis(value::duration(delay).as_millis() as u64))
        }
        Some(By::HeaderDelay(_)) => FaultDelay::Header,
        None => {
            return Err(Rejection::new(&path.join("delay").join("fault_delay_secifier"), "is required"));
        }
    };
    let key = or(&config.delay_percent_runtime, "fault.http.delay.fixed_delay_percent");
    Ok(Some((by, cx.runtime.percent(key, delay.percentage.as_ref()))))
}

fn abort(
    config: &pb::HttpFault,
    path: &Path,
    cx: &Context,
) -> Result<Option<(FaultAbort, Fraction)>, Rejection> {
    use pb::fault_abort::ErrorType as By;
    let Some(abort) = &config.abort else { return Ok(None) };
    let by = match &abort.error_type {
        Some(By::HttpStatus(status)) => FaultAbort::Http(u16::try_from(*status).unwrap_or(u16::MAX)),
        Some(By::GrpcStatus(status)) => FaultAbort::Grpc(*status),
        Some(By::HeaderAbort(_)) => FaultAbort::Header,
        None => return Err(Rejection::new(&path.join("abort").join("error_type"), "is required")),
    };
    let key = or(&config.abort_percent_runtime, "fault.http.abort.abort_percent");
    Ok(Some((by, cx.runtime.percent(key, abort.percentage.as_ref()))))
}

fn rate(
    config: &pb::HttpFault,
    path: &Path,
    cx: &Context,
) -> Result<Option<(FaultRate, Fraction)>, Rejection> {
    use common::fault_rate_limit::LimitType as By;
    let Some(limit) = &config.response_rate_limit else { return Ok(None) };
    let by = match &limit.limit_type {
        Some(By::FixedLimit(fixed)) => FaultRate::Fixed(fixed.limit_kbps),
        Some(By::HeaderLimit(_)) => FaultRate::Header,
        None => {
            return Err(Rejection::new(&path.join("response_rate_limit").join("limit_type"), "is required"));
        }
    };
    let key = or(&config.response_rate_limit_percent_runtime, "fault.http.rate_limit.response_percent");
    Ok(Some((by, cx.runtime.percent(key, limit.percentage.as_ref()))))
}
