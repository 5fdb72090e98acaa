//! `extensions.filters.http.local_ratelimit.v3.LocalRateLimit`.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    DescriptorLimit, Fraction, HeaderOption, HttpFilterKind, LocalRateLimit, PerFilterConfig,
    TokenBucketConfig, VirtualHostRateLimits,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::extensions::common::ratelimit::v3 as common;
use millrace_proto::pb::envoy::extensions::filters::http::local_ratelimit::v3 as pb;
use millrace_proto::pb::envoy::r#type::v3 as kinds;

use super::rate_limit_actions;
use crate::context::Context;
use crate::error::Rejection;
use crate::{headers, value};

pub(super) const TYPE: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

/// As often as Envoy fills a bucket at the most.
const FILL_INTERVAL_MIN: Duration = Duration::from_millis(50);

pub(super) fn filter(
    config: &pb::LocalRateLimit,
    path: &Path,
    cx: &Context,
) -> Result<HttpFilterKind, Rejection> {
    Ok(HttpFilterKind::LocalRateLimit(Arc::new(limit(config, path, cx)?)))
}

pub(super) fn of_route(
    config: &pb::LocalRateLimit,
    path: &Path,
    cx: &Context,
) -> Result<PerFilterConfig, Rejection> {
    if config.token_bucket.is_none() {
        let why = "local rate limit token bucket must be set for per filter configs";
        return Err(Rejection::new(&path.join("token_bucket"), why));
    }
    Ok(PerFilterConfig::LocalRateLimit(Arc::new(limit(config, path, cx)?)))
}

fn limit(config: &pb::LocalRateLimit, path: &Path, cx: &Context) -> Result<LocalRateLimit, Rejection> {
    if config.local_cluster_rate_limit.is_some() {
        let path = path.join("local_cluster_rate_limit");
        let why = match config.local_rate_limit_per_downstream_connection {
            true => {
                "local_cluster_rate_limit is set and local_rate_limit_per_downstream_connection is set to true"
            }
            false => "local_cluster_rate_limit is set but no local cluster name is present",
        };
        return Err(Rejection::new(&path, why));
    }
    let scope = format!("{}.http_local_rate_limit", config.stat_prefix);
    let scope = cx.scope(ScopeKind::HttpLocalRateLimit, &scope);
    let status = config.status.as_ref().map_or(429, |status| status.code);
    let headers =
        |list: &[core::HeaderValueOption], name: &'static str| -> Result<Vec<HeaderOption>, Rejection> {
            let path = path.join(name);
            list.iter().enumerate().map(|(i, one)| headers::option(one, &path.at(i))).collect()
        };
    let wrong = "local rate limit token bucket fill timer must be >= 50ms";
    Ok(LocalRateLimit {
        status: u16::try_from(status).ok().filter(|status| *status >= 400).unwrap_or(429),
        bucket: config
            .token_bucket
            .as_ref()
            .map(|config| bucket(config, wrong, &path.join("token_bucket")))
            .transpose()?,
        descriptors: descriptors(&config.descriptors, &path.join("descriptors"))?,
        enabled: fraction(config.filter_enabled.as_ref(), cx),
        enforced: fraction(config.filter_enforced.as_ref(), cx),
        request_headers: headers(
            &config.request_headers_to_add_when_not_enforced,
            "request_headers_to_add_when_not_enforced",
        )?,
        response_headers: headers(&config.response_headers_to_add, "response_headers_to_add")?,
        max_dynamic: value::number(config.max_dynamic_descriptors.as_ref(), 20),
        stage: config.stage,
        per_connection: config.local_rate_limit_per_downstream_connection,
        ratelimit_headers: config.enable_x_ratelimit_headers()
            == common::XRateLimitHeadersRfcVersion::DraftVersion03,
        retry_after: config.enable_retry_after_header,
        virtual_host: match config.vh_rate_limits() {
            common::VhRateLimitsOptions::Override => VirtualHostRateLimits::Override,
            common::VhRateLimitsOptions::Include => VirtualHostRateLimits::Include,
            common::VhRateLimitsOptions::Ignore => VirtualHostRateLimits::Ignore,
        },
        always_default: value::flag(config.always_consume_default_token_bucket.as_ref(), true),
        resource_exhausted: config.rate_limited_as_resource_exhausted,
        rate_limits: rate_limit_actions::own(&config.rate_limits, &path.join("rate_limits"))?,
        ..LocalRateLimit::unlimited(scope)
    }
    .with_buckets())
}

fn fraction(value: Option<&core::RuntimeFractionalPercent>, cx: &Context) -> Fraction {
    value.map_or(Fraction { numerator: 0, denominator: 100 }, |value| cx.runtime.fraction(value))
}

fn bucket(config: &kinds::TokenBucket, wrong: &str, path: &Path) -> Result<TokenBucketConfig, Rejection> {
    let fill_interval = config.fill_interval.as_ref().map_or(Duration::ZERO, value::duration);
    if fill_interval < FILL_INTERVAL_MIN {
        return Err(Rejection::new(&path.join("fill_interval"), wrong));
    }
    Ok(TokenBucketConfig {
        max_tokens: config.max_tokens,
        tokens_per_fill: value::number(config.tokens_per_fill.as_ref(), 1),
        fill_interval,
    })
}

fn descriptors(
    list: &[common::LocalRateLimitDescriptor],
    path: &Path,
) -> Result<Vec<DescriptorLimit>, Rejection> {
    let mut out: Vec<DescriptorLimit> = Vec::with_capacity(list.len());
    for (i, descriptor) in list.iter().enumerate() {
        let path = path.at(i);
        let mut entries = Vec::with_capacity(descriptor.entries.len());
        for entry in &descriptor.entries {
            entries.push((entry.key.as_str().into(), entry.value.as_str().into()));
        }
        if out.iter().any(|earlier| earlier.entries == entries) {
            let names: Vec<String> = entries.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let why = format!("duplicate descriptor in the local rate descriptor: {}", names.join(", "));
            return Err(Rejection::new(&path, why));
        }
        let path = path.join("token_bucket");
        let Some(config) = &descriptor.token_bucket else {
            return Err(Rejection::new(&path, "value is required"));
        };
        let wrong = "local rate limit descriptor token bucket fill timer must be >= 50ms";
        out.push(DescriptorLimit {
            entries,
            bucket: bucket(config, wrong, &path)?,
            shadow: descriptor.shadow_mode,
        });
    }
    Ok(out)
}
