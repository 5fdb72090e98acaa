//! `extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency`.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{AdaptiveConcurrency, GradientConfig, GradientState, HttpFilterKind, MinRtt};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::http::adaptive_concurrency::v3 as pb;
use millrace_proto::pb::envoy::extensions::filters::http::adaptive_concurrency::v3::adaptive_concurrency::ConcurrencyControllerConfig;
use millrace_proto::pb::envoy::r#type::v3::Percent;

use super::enabled;
use crate::context::Context;
use crate::error::Rejection;
use crate::value;

pub(in crate::http) const TYPE: &str =
    "envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency";

pub(super) fn filter(
    config: &pb::AdaptiveConcurrency,
    stat_prefix: &str,
    path: &Path,
    cx: &Context,
) -> Result<HttpFilterKind, Rejection> {
    let Some(ConcurrencyControllerConfig::GradientControllerConfig(gradient)) =
        &config.concurrency_controller_config
    else {
        return Err(Rejection::new(&path.join("concurrency_controller_config"), "is required"));
    };
    let gradient = controller(gradient, &path.join("gradient_controller_config"))?;
    let status = config.concurrency_limit_exceeded_status.as_ref().map_or(503, |status| status.code);
    let scope = format!("{stat_prefix}.adaptive_concurrency.gradient_controller");
    Ok(HttpFilterKind::AdaptiveConcurrency(Arc::new(AdaptiveConcurrency {
        scope: cx.scope(ScopeKind::HttpGradientController, &scope),
        enabled: enabled(config.enabled.as_ref(), cx),
        status: u16::try_from(status).ok().filter(|status| *status >= 400).unwrap_or(503),
        state: GradientState::new(&gradient),
        gradient,
    })))
}

fn controller(config: &pb::GradientControllerConfig, path: &Path) -> Result<GradientConfig, Rejection> {
    let (Some(limits), Some(rtt)) = (&config.concurrency_limit_params, &config.min_rtt_calc_params) else {
        return Err(Rejection::new(path, "value is required"));
    };
    let measuring_limit = value::number(rtt.min_concurrency.as_ref(), 3);
    let interval = rtt.interval.as_ref().map_or(Duration::ZERO, value::duration);
    let min_rtt = match (interval.is_zero(), &rtt.fixed_value) {
        (_, Some(fixed)) if interval.is_zero() => MinRtt::Fixed(value::duration(fixed)),
        (false, _) => MinRtt::Measured {
            interval,
            jitter: part(rtt.jitter.as_ref(), 15.0),
            requests: value::number(rtt.request_count.as_ref(), 50),
        },
        (true, _) => {
            let why = "Please specify either `interval` or `fixed_value` for the minimum RTT";
            return Err(Rejection::new(&path.join("min_rtt_calc_params"), why));
        }
    };
    Ok(GradientConfig {
        percentile: part(config.sample_aggregate_percentile.as_ref(), 50.0),
        max_limit: value::number(limits.max_concurrency_limit.as_ref(), 1000),
        min_limit: value::number(limits.min_concurrency_limit.as_ref(), measuring_limit),
        update_interval: limits.concurrency_update_interval.as_ref().map_or(Duration::ZERO, value::duration),
        min_rtt,
        measuring_limit,
        buffer: part(rtt.buffer.as_ref(), 25.0),
    })
}

fn part(percent: Option<&Percent>, default: f64) -> f64 {
    percent.map_or(default, |percent| percent.value) / 100.0
}
