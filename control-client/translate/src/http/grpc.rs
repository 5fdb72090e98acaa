//! The HTTP filters for gRPC: `grpc_stats`, `grpc_web` and `grpc_http1_bridge`.

use std::sync::Arc;

use super::{istio_alpn, shaping};
use millrace_config::{GrpcHttp1Bridge, GrpcMethods, GrpcStats, HttpFilterKind};
use millrace_proto::pb::envoy::config::core::v3::GrpcMethodList;
use millrace_proto::pb::envoy::extensions::filters::http::grpc_http1_bridge::v3::Config;
use millrace_proto::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig;
use millrace_proto::pb::envoy::extensions::filters::http::grpc_stats::v3::filter_config::PerMethodStatSpecifier;

/// Type of the configuration of `grpc_stats`.
pub(super) const STATS: &str = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig";
/// Type of the configuration of `grpc_web`.
pub(super) const WEB: &str = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";
/// Type of the configuration of `grpc_http1_bridge`.
pub(super) const HTTP1_BRIDGE: &str = "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config";

/// Filters that a route can switch off and not configure.
pub(crate) const WITHOUT_ROUTE_CONFIGURATION: [&str; 7] = [
    STATS,
    WEB,
    HTTP1_BRIDGE,
    istio_alpn::TYPE,
    shaping::DECOMPRESSOR,
    shaping::ADMISSION_CONTROL,
    shaping::ADAPTIVE_CONCURRENCY,
];

pub(super) fn stats(config: &FilterConfig) -> HttpFilterKind {
    let methods = match &config.per_method_stat_specifier {
        Some(PerMethodStatSpecifier::IndividualMethodStatsAllowlist(list)) => listed(list),
        Some(PerMethodStatSpecifier::StatsForAllMethods(all)) if all.value => GrpcMethods::All,
        Some(PerMethodStatSpecifier::StatsForAllMethods(_)) | None => GrpcMethods::None,
    };
    HttpFilterKind::GrpcStats(Arc::new(GrpcStats {
        methods,
        upstream_time: config.enable_upstream_stats,
        replace_dots: config.replace_dots_in_grpc_service_name,
    }))
}

fn listed(list: &GrpcMethodList) -> GrpcMethods {
    let mut methods: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for service in &list.services {
        let name: Arc<str> = service.name.as_str().into();
        methods.extend(service.method_names.iter().map(|method| (Arc::clone(&name), method.as_str().into())));
    }
    methods.sort();
    methods.dedup();
    GrpcMethods::Listed(methods)
}

pub(super) fn http1_bridge(config: &Config) -> HttpFilterKind {
    HttpFilterKind::GrpcHttp1Bridge(GrpcHttp1Bridge {
        upgrade_protobuf: config.upgrade_protobuf_to_grpc,
        ignore_query: config.ignore_query_parameters,
    })
}
