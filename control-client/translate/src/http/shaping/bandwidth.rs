//! `extensions.filters.http.bandwidth_limit.v3.BandwidthLimit`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millrace_config::{BandwidthLimit, HttpFilterKind, PerFilterConfig};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::http::bandwidth_limit::v3 as pb;
use millrace_proto::pb::envoy::extensions::filters::http::bandwidth_limit::v3::bandwidth_limit::EnableMode;

use super::enabled;
use crate::context::Context;
use crate::error::Rejection;
use crate::value;

pub(super) const TYPE: &str = "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit";

const FILL_INTERVAL: Duration = Duration::from_millis(50);
/// Names of the trailers, behind the configured prefix.
const TRAILERS: [&str; 4] = [
    "bandwidth-request-delay-ms",
    "bandwidth-response-delay-ms",
    "bandwidth-request-filter-delay-ms",
    "bandwidth-response-filter-delay-ms",
];

pub(super) fn filter(config: &pb::BandwidthLimit, cx: &Context) -> HttpFilterKind {
    HttpFilterKind::BandwidthLimit(Arc::new(limit(config, cx)))
}

pub(super) fn of_route(
    config: &pb::BandwidthLimit,
    path: &Path,
    cx: &Context,
) -> Result<PerFilterConfig, Rejection> {
    if config.limit_kbps.is_none() {
        let why = "limit must be set for per route filter config";
        return Err(Rejection::new(&path.join("limit_kbps"), why));
    }
    Ok(PerFilterConfig::BandwidthLimit(Arc::new(limit(config, cx))))
}

fn limit(config: &pb::BandwidthLimit, cx: &Context) -> BandwidthLimit {
    let (request, response) = match config.enable_mode() {
        EnableMode::Disabled => (false, false),
        EnableMode::Request => (true, false),
        EnableMode::Response => (false, true),
        EnableMode::RequestAndResponse => (true, true),
    };
    let prefix = match config.response_trailer_prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}-"),
    };
    let names = || TRAILERS.map(|name| value::lower_bytes(&format!("{prefix}{name}")));
    let scope = format!("{}.http_bandwidth_limit", config.stat_prefix);
    BandwidthLimit {
        scope: cx.scope(ScopeKind::HttpBandwidthLimit, &scope),
        request,
        response,
        kib_per_second: config.limit_kbps.as_ref().map(|limit| limit.value),
        fill_interval: config.fill_interval.as_ref().map_or(FILL_INTERVAL, value::duration),
        enabled: enabled(config.runtime_enabled.as_ref(), cx),
        trailers: config.enable_response_trailers.then(names),
        shared: OnceLock::new(),
    }
}
