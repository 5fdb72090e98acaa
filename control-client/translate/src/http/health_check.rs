//! `extensions.filters.http.health_check.v3.HealthCheck`.

use std::sync::Arc;

use millrace_config::{HealthCheckCache, HealthCheckFilter, HttpFilterKind};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::http::health_check::v3 as pb;

use crate::context::Context;
use crate::error::Rejection;
use crate::{matcher, value};

pub(super) const TYPE: &str = "envoy.extensions.filters.http.health_check.v3.HealthCheck";

pub(super) fn filter(
    config: &pb::HealthCheck,
    stat_prefix: &str,
    path: &Path,
    cx: &mut Context,
) -> Result<HttpFilterKind, Rejection> {
    let pass_through = value::flag(config.pass_through_mode.as_ref(), false);
    let cache_time = value::limit(config.cache_time.as_ref());
    if !pass_through && cache_time.is_some() {
        let why = "cache_time_ms must not be set when path_through_mode is disabled";
        return Err(Rejection::new(&path.join("cache_time"), why));
    }
    let headers_path = path.join("headers");
    let one = |(i, header)| matcher::header(header, &headers_path.at(i));
    let headers = config.headers.iter().enumerate().map(one).collect::<Result<_, _>>()?;
    let mut named: Vec<_> = config.cluster_min_healthy_percentages.iter().collect();
    named.sort_by_key(|(name, _)| *name);
    let least = named.into_iter().filter(|_| !pass_through);
    let min_healthy =
        least.map(|(name, percent)| (cx.cluster_ids.intern(name), percent.value as u64)).collect();
    let cache = cache_time.map(HealthCheckCache::new);
    let scope = cx.scope(ScopeKind::HttpHealthCheck, &format!("{stat_prefix}.health_check"));
    let filter = HealthCheckFilter { pass_through, cache, min_healthy, headers, scope };
    Ok(HttpFilterKind::HealthCheck(Arc::new(filter)))
}
