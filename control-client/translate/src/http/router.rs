//! `extensions.filters.http.router.v3.Router`.

use millrace_config::HttpFilterKind;
use millrace_proto::pb::envoy::extensions::filters::http::router::v3::Router;

/// Type of the configuration.
pub(super) const TYPE: &str = "envoy.extensions.filters.http.router.v3.Router";

pub(super) fn router(router: &Router) -> HttpFilterKind {
    HttpFilterKind::Router {
        suppress_envoy_headers: router.suppress_envoy_headers,
        respect_expected_rq_timeout: router.respect_expected_rq_timeout,
    }
}
