//! `extensions.filters.http.router.v3.Router`.

use millrace_config::{HttpFilterKind, StrictHeader, StrictHeaders};
use millrace_proto::pb::envoy::extensions::filters::http::router::v3::Router;

use crate::value;

/// Type of the configuration.
pub(super) const TYPE: &str = "envoy.extensions.filters.http.router.v3.Router";

pub(super) fn router(router: &Router) -> HttpFilterKind {
    HttpFilterKind::Router {
        suppress_envoy_headers: router.suppress_envoy_headers,
        respect_expected_rq_timeout: router.respect_expected_rq_timeout,
        strict_check_headers: strict_headers(&router.strict_check_headers),
        suppress_grpc_statuses: router.suppress_grpc_request_failure_code_stats,
        no_dynamic_stats: !value::flag(router.dynamic_stats.as_ref(), true),
    }
}

/// Each field once. No other names pass the constraints of the schema.
fn strict_headers(names: &[String]) -> StrictHeaders {
    let mut fields = StrictHeaders::default();
    for name in names {
        let field = match name.as_str() {
            "x-envoy-upstream-rq-timeout-ms" => StrictHeader::RqTimeoutMs,
            "x-envoy-upstream-rq-per-try-timeout-ms" => StrictHeader::RqPerTryTimeoutMs,
            "x-envoy-max-retries" => StrictHeader::MaxRetries,
            "x-envoy-retry-grpc-on" => StrictHeader::RetryGrpcOn,
            "x-envoy-retry-on" => StrictHeader::RetryOn,
            _ => continue,
        };
        if !fields.contains(&Some(field))
            && let Some(free) = fields.iter_mut().find(|place| place.is_none())
        {
            *free = Some(field);
        }
    }
    fields
}
