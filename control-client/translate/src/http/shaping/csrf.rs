//! `extensions.filters.http.csrf.v3.CsrfPolicy`.

use std::sync::Arc;

use millrace_config::{CsrfFilter, CsrfPolicy, Fraction, HttpFilterKind, PerFilterConfig};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use millrace_proto::pb::envoy::extensions::filters::http::csrf::v3 as pb;

use crate::context::Context;
use crate::error::Rejection;
use crate::matcher;

pub(super) const TYPE: &str = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy";

pub(super) fn filter(
    config: &pb::CsrfPolicy,
    stat_prefix: &str,
    path: &Path,
    cx: &Context,
) -> Result<HttpFilterKind, Rejection> {
    let scope = cx.scope(ScopeKind::HttpCsrf, &format!("{stat_prefix}.csrf"));
    let policy = Arc::new(policy(config, path, cx)?);
    Ok(HttpFilterKind::Csrf(Arc::new(CsrfFilter { policy, scope })))
}

pub(super) fn of_route(
    config: &pb::CsrfPolicy,
    path: &Path,
    cx: &Context,
) -> Result<PerFilterConfig, Rejection> {
    Ok(PerFilterConfig::Csrf(Arc::new(policy(config, path, cx)?)))
}

fn policy(config: &pb::CsrfPolicy, path: &Path, cx: &Context) -> Result<CsrfPolicy, Rejection> {
    let fraction = |value: Option<&RuntimeFractionalPercent>| {
        value.map_or(Fraction { numerator: 0, denominator: 100 }, |value| cx.runtime.fraction(value))
    };
    let origins = path.join("additional_origins");
    let one = |(i, origin)| matcher::string(origin, &origins.at(i));
    Ok(CsrfPolicy {
        enabled: fraction(config.filter_enabled.as_ref()),
        shadow: fraction(config.shadow_enabled.as_ref()),
        additional_origins: config
            .additional_origins
            .iter()
            .enumerate()
            .map(one)
            .collect::<Result<_, _>>()?,
    })
}
