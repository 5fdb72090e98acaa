//! `config.route.v3.RetryPolicy`.

use std::time::Duration;

use millrace_config::{
    BackOff, RateLimitedBackOff, ResetHeader, ResetHeaderFormat, RetryConditions, RetryPolicy,
};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3 as pb;
use millrace_proto::pb::envoy::config::route::v3::retry_policy::retry_host_predicate::ConfigType;
use millrace_proto::pb::envoy::config::route::v3::retry_policy::{
    RateLimitedRetryBackOff, ResetHeaderFormat as Format,
};

use crate::error::Rejection;
use crate::{extension, matcher, value};

const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

pub(super) fn policy(policy: &pb::RetryPolicy, path: &Path) -> Result<RetryPolicy, Rejection> {
    // Words that nobody knows are skipped, as Envoy skips them.
    let (on, _) = RetryConditions::parse(&policy.retry_on);
    let statuses_path = path.join("retriable_status_codes");
    let statuses = policy.retriable_status_codes.iter().enumerate().map(|(i, status)| {
        u16::try_from(*status).map_err(|_| Rejection::new(&statuses_path.at(i), "not an HTTP status"))
    });
    let attempts = u32::try_from(policy.host_selection_retry_max_attempts).unwrap_or(0);
    Ok(RetryPolicy {
        on,
        num_retries: value::number(policy.num_retries.as_ref(), 1),
        per_try_timeout: value::limit(policy.per_try_timeout.as_ref()),
        per_try_idle_timeout: value::limit(policy.per_try_idle_timeout.as_ref()),
        retriable_status_codes: statuses.collect::<Result<_, _>>()?,
        retriable_headers: matcher::headers(&policy.retriable_headers, &path.join("retriable_headers"))?,
        retriable_request_headers: matcher::headers(
            &policy.retriable_request_headers,
            &path.join("retriable_request_headers"),
        )?,
        back_off: back_off(policy, path)?,
        rate_limited: policy.rate_limited_retry_back_off.as_ref().map(rate_limited),
        host_selection_attempts: attempts.max(1),
        avoid_previous_hosts: avoid_previous_hosts(policy, path)?,
    })
}

fn back_off(policy: &pb::RetryPolicy, path: &Path) -> Result<BackOff, Rejection> {
    let Some(back_off) = &policy.retry_back_off else {
        return Ok(BackOff::default());
    };
    let base =
        back_off.base_interval.as_ref().map_or(Duration::ZERO, value::duration).max(Duration::from_millis(1));
    let max = back_off.max_interval.as_ref().map_or(base.saturating_mul(10), value::duration);
    if max < base {
        let path = path.join("retry_back_off").join("max_interval");
        return Err(Rejection::new(
            &path,
            "retry_policy.max_interval must greater than or equal to the base_interval",
        ));
    }
    Ok(BackOff { base, max })
}

fn rate_limited(by: &RateLimitedRetryBackOff) -> RateLimitedBackOff {
    let headers = by.reset_headers.iter().map(|header| ResetHeader {
        name: header.name.to_ascii_lowercase().into_bytes().into(),
        format: match header.format() {
            Format::Seconds => ResetHeaderFormat::Seconds,
            Format::UnixTimestamp => ResetHeaderFormat::UnixTimestamp,
        },
    });
    let max = by.max_interval.as_ref().map_or(Duration::from_secs(300), value::duration);
    RateLimitedBackOff { max, headers: headers.collect() }
}

fn avoid_previous_hosts(policy: &pb::RetryPolicy, path: &Path) -> Result<bool, Rejection> {
    let path = path.join("retry_host_predicate");
    for (i, predicate) in policy.retry_host_predicate.iter().enumerate() {
        let any = predicate.config_type.as_ref().map(|ConfigType::TypedConfig(any)| any);
        let known = match any {
            Some(any) => extension::type_of(any) == PREVIOUS_HOSTS,
            None => predicate.name == "envoy.retry_host_predicates.previous_hosts",
        };
        if !known {
            return Err(extension::not_served("retry host predicate", &predicate.name, any, &path.at(i)));
        }
    }
    Ok(!policy.retry_host_predicate.is_empty())
}
