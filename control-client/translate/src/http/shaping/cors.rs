//! `extensions.filters.http.cors.v3`, and the deprecated fields of routes and virtual hosts.

use std::sync::Arc;

use millrace_config::{CorsFilter, CorsPolicy, Fraction, HttpFilterKind, PerFilterConfig, StringMatcher};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use millrace_proto::pb::envoy::config::route::v3 as route;
use millrace_proto::pb::envoy::extensions::filters::http::cors::v3 as pb;
use millrace_proto::pb::envoy::r#type::matcher::v3 as matchers;

use crate::context::Context;
use crate::error::Rejection;
use crate::{matcher, value};

pub(super) const TYPE: &str = "envoy.extensions.filters.http.cors.v3.Cors";
pub(super) const POLICY: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";

pub(super) fn filter(stat_prefix: &str, cx: &Context) -> HttpFilterKind {
    let scope = cx.scope(ScopeKind::HttpCors, &format!("{stat_prefix}.cors"));
    HttpFilterKind::Cors(CorsFilter { scope })
}

pub(super) fn of_route(
    policy: &pb::CorsPolicy,
    path: &Path,
    cx: &Context,
) -> Result<PerFilterConfig, Rejection> {
    Ok(PerFilterConfig::Cors(Arc::new(CorsPolicy {
        allow_origins: origins(&policy.allow_origin_string_match, path)?,
        allow_methods: value::bytes(&policy.allow_methods),
        allow_headers: value::bytes(&policy.allow_headers),
        expose_headers: value::bytes(&policy.expose_headers),
        max_age: value::bytes(&policy.max_age),
        allow_credentials: policy.allow_credentials.as_ref().map(|on| on.value),
        allow_private_network: policy.allow_private_network_access.as_ref().map(|on| on.value),
        forward_not_matching: policy.forward_not_matching_preflights.as_ref().map(|on| on.value),
        enabled: fraction(policy.filter_enabled.as_ref(), 100, cx),
        shadow: fraction(policy.shadow_enabled.as_ref(), 0, cx),
    })))
}

/// `cors` of a route or virtual host.
pub(crate) fn deprecated(
    policy: Option<&route::CorsPolicy>,
    path: &Path,
    cx: &Context,
) -> Result<Option<Arc<CorsPolicy>>, Rejection> {
    use route::cors_policy::EnabledSpecifier;
    let Some(policy) = policy else { return Ok(None) };
    let path = path.join("cors");
    let enabled = policy.enabled_specifier.as_ref().map(|EnabledSpecifier::FilterEnabled(enabled)| enabled);
    Ok(Some(Arc::new(CorsPolicy {
        allow_origins: origins(&policy.allow_origin_string_match, &path)?,
        allow_methods: value::bytes(&policy.allow_methods),
        allow_headers: value::bytes(&policy.allow_headers),
        expose_headers: value::bytes(&policy.expose_headers),
        max_age: value::bytes(&policy.max_age),
        allow_credentials: policy.allow_credentials.as_ref().map(|on| on.value),
        allow_private_network: policy.allow_private_network_access.as_ref().map(|on| on.value),
        forward_not_matching: policy.forward_not_matching_preflights.as_ref().map(|on| on.value),
        enabled: fraction(enabled, 100, cx),
        shadow: fraction(policy.shadow_enabled.as_ref(), 0, cx),
    })))
}

fn origins(list: &[matchers::StringMatcher], path: &Path) -> Result<Vec<StringMatcher>, Rejection> {
    let path = path.join("allow_origin_string_match");
    list.iter().enumerate().map(|(i, one)| matcher::string(one, &path.at(i))).collect()
}

fn fraction(value: Option<&RuntimeFractionalPercent>, default: u32, cx: &Context) -> Fraction {
    value.map_or(Fraction { numerator: default, denominator: 100 }, |value| cx.runtime.fraction(value))
}
