//! The chain of HTTP filters: which of them run for a request, and with which per-route configuration.
//!
//! Filters are variants of [`HttpFilterKind`] and dispatched statically. The router is the last of every
//! chain; the others come with their issues.

use millrace_config::{
    HttpConnectionManager, HttpFilter, HttpFilterKind, PerFilterConfig, PerFilterConfigs, RouteConfiguration,
    WeightedCluster,
};
use millrace_route::Selected;

use super::router::request::RouterOptions;

/// The most specific entry for `filter`: weighted cluster, route, virtual host, route configuration.
pub fn per_route<'c>(
    filter: &str,
    config: &'c RouteConfiguration,
    selected: Option<Selected<'c>>,
    weighted: Option<&'c WeightedCluster>,
) -> Option<&'c PerFilterConfig> {
    let levels: [Option<&PerFilterConfigs>; 4] = [
        weighted.map(|w| &w.per_filter),
        selected.map(|s| &s.route.per_filter),
        selected.map(|s| &s.virtual_host.per_filter),
        Some(&config.per_filter),
    ];
    levels.into_iter().flatten().find_map(|level| {
        let at = level.binary_search_by(|(name, _)| (**name).cmp(filter)).ok()?;
        Some(&level[at].1)
    })
}

/// Whether a filter runs for a request. The router always does: Envoy refuses to have it disabled.
pub fn runs(
    filter: &HttpFilter,
    config: &RouteConfiguration,
    selected: Option<Selected<'_>>,
    weighted: Option<&WeightedCluster>,
) -> bool {
    match filter.kind {
        HttpFilterKind::Router { .. } => true,
        #[allow(unreachable_patterns, reason = "other filters join the enum with their issues")]
        _ => match per_route(&filter.name, config, selected, weighted) {
            Some(PerFilterConfig::Disabled(disabled)) => !disabled,
            None => !filter.disabled,
        },
    }
}

/// The router's options in this chain.
pub fn router(hcm: &HttpConnectionManager) -> RouterOptions {
    let router = hcm.http_filters.iter().rev().map(|filter| match filter.kind {
        HttpFilterKind::Router { suppress_envoy_headers, respect_expected_rq_timeout } => {
            RouterOptions { suppress_envoy_headers, respect_expected_rq_timeout }
        }
    });
    router.into_iter().next().unwrap_or_default()
}
