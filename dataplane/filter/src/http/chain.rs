//! The chain of HTTP filters: which of them run for a request, and with which per-route configuration.
//!
//! Filters are variants of [`HttpFilterKind`] and dispatched statically by [`super::StreamFilters`]. The router is the
//! last of every chain.

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
    levels(filter, Some(config), selected, weighted).next()
}

/// All entries for `filter`, in the same order.
pub fn levels<'c>(
    filter: &str,
    config: Option<&'c RouteConfiguration>,
    selected: Option<Selected<'c>>,
    weighted: Option<&'c WeightedCluster>,
) -> impl Iterator<Item = &'c PerFilterConfig> {
    let levels: [Option<&PerFilterConfigs>; 4] = [
        weighted.map(|w| &w.per_filter),
        selected.map(|s| &s.route.per_filter),
        selected.map(|s| &s.virtual_host.per_filter),
        config.map(|c| &c.per_filter),
    ];
    levels.into_iter().flatten().filter_map(move |level| {
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
    matches!(filter.kind, HttpFilterKind::Router { .. })
        || enabled(filter.disabled, per_route(&filter.name, config, selected, weighted))
}

/// `disabled` of the chain's entry, unless a level of the route says otherwise.
pub(super) fn enabled(disabled: bool, per_route: Option<&PerFilterConfig>) -> bool {
    match per_route {
        Some(PerFilterConfig::Disabled(disabled)) => !disabled,
        Some(_) => true,
        None => !disabled,
    }
}

/// The router's options in this chain.
pub fn router(hcm: &HttpConnectionManager) -> RouterOptions {
    let router = hcm.http_filters.iter().rev().find_map(|filter| match filter.kind {
        HttpFilterKind::Router {
            suppress_envoy_headers,
            respect_expected_rq_timeout,
            strict_check_headers,
            suppress_grpc_statuses,
            no_dynamic_stats,
        } => Some(RouterOptions {
            suppress_envoy_headers,
            respect_expected_rq_timeout,
            strict_check_headers,
            suppress_grpc_statuses,
            no_dynamic_stats,
            max_stream_duration: hcm.max_stream_duration,
        }),
        _ => None,
    });
    router.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_config::{ClusterId, ClusterSpecifier, HeaderMutations, Route, VirtualHost};

    use super::*;
    use crate::http::test::{hcm, route, virtual_host};

    fn level(disabled: Option<bool>) -> PerFilterConfigs {
        let other: PerFilterConfigs = vec![("a".into(), PerFilterConfig::Disabled(true))];
        let own = disabled.map(|disabled| ("f".into(), PerFilterConfig::Disabled(disabled)));
        other.into_iter().chain(own).collect()
    }

    #[test]
    fn the_most_specific_level_decides() {
        let ask = |levels: [Option<bool>; 4]| {
            let [weighted, on_route, on_host, on_config] = levels.map(level);
            let mut config = RouteConfiguration::default();
            config.per_filter = on_config;
            let virtual_host = Arc::new(VirtualHost { per_filter: on_host, ..virtual_host() });
            let route = Arc::new(Route { per_filter: on_route, ..route() });
            let weighted = WeightedCluster {
                cluster: ClusterSpecifier::Cluster(ClusterId(0)),
                weight: 1,
                request_headers: HeaderMutations::default(),
                response_headers: HeaderMutations::default(),
                host_rewrite: None,
                metadata_match: None,
                per_filter: weighted,
            };
            let selected = Selected { virtual_host: &virtual_host, route: &route };
            let found = per_route("f", &config, Some(selected), Some(&weighted));
            found.map(|config| matches!(config, PerFilterConfig::Disabled(true)))
        };
        assert_eq!(ask([None; 4]), None);
        assert_eq!(ask([None, None, None, Some(true)]), Some(true));
        assert_eq!(ask([None, None, Some(false), Some(true)]), Some(false));
        assert_eq!(ask([None, Some(true), Some(false), Some(true)]), Some(true));
        assert_eq!(ask([Some(false), Some(true), None, Some(true)]), Some(false));
    }

    #[test]
    fn levels_switch_filters_on_and_off() {
        assert!(enabled(false, None) && !enabled(true, None));
        assert!(enabled(true, Some(&PerFilterConfig::Disabled(false))));
        assert!(!enabled(false, Some(&PerFilterConfig::Disabled(true))));
    }

    #[test]
    fn the_router_always_runs_and_tells_its_options() {
        let mut hcm = hcm();
        assert!(runs(&hcm.http_filters[0], &RouteConfiguration::default(), None, None));
        hcm.http_filters[0].kind = HttpFilterKind::Router {
            suppress_envoy_headers: true,
            respect_expected_rq_timeout: true,
            strict_check_headers: [None; 5],
            suppress_grpc_statuses: true,
            no_dynamic_stats: true,
        };
        let options = router(&hcm);
        assert!(options.suppress_envoy_headers && options.respect_expected_rq_timeout);
        assert!(options.suppress_grpc_statuses && options.no_dynamic_stats);
        hcm.http_filters.clear();
        assert!(!router(&hcm).suppress_envoy_headers);
    }
}
