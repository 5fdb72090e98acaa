//! `config.route.v3.RetryPolicy`.

use std::time::Duration;

use millrace_config::{
    BackOff, MetadataPairs, RateLimitedBackOff, ResetHeader, ResetHeaderFormat, RetryConditions, RetryPolicy,
};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3 as pb;
use millrace_proto::pb::envoy::config::route::v3::retry_policy::retry_host_predicate::ConfigType as HostConfig;
use millrace_proto::pb::envoy::config::route::v3::retry_policy::retry_priority::ConfigType as PriorityConfig;
use millrace_proto::pb::envoy::config::route::v3::retry_policy::{
    RateLimitedRetryBackOff, ResetHeaderFormat as Format,
};

use millrace_proto::pb::envoy::extensions::retry::host::omit_host_metadata::v3::OmitHostMetadataConfig;
use millrace_proto::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;

use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, matcher, metadata, value};

const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
const OMIT_CANARY_HOSTS: &str = "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate";
const OMIT_HOST_METADATA: &str = "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig";
const PREVIOUS_PRIORITIES: &str =
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";

pub(crate) fn policy(
    policy: &pb::RetryPolicy,
    path: &Path,
    cx: &mut Context,
) -> Result<RetryPolicy, Rejection> {
    // Words that nobody knows are skipped, as Envoy skips them.
    let (on, _) = RetryConditions::parse(&policy.retry_on);
    if on.has(RetryConditions::HTTP3_POST_CONNECT_FAILURE) {
        cx.report(&path.join("retry_on"), "HTTP/3 is not served by this build");
    }
    no_options(policy, path)?;
    let avoided = avoided(policy, path)?;
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
        avoid_previous_hosts: avoided.previous_hosts,
        avoid_canaries: avoided.canaries,
        avoid_metadata: avoided.metadata,
        avoid_priorities_every: previous_priorities(policy, path)?,
        refresh_cluster: policy.refresh_cluster_on_retry,
    })
}

/// Envoy knows the kind of extension, and has none of it.
fn no_options(policy: &pb::RetryPolicy, path: &Path) -> Result<(), Rejection> {
    let Some(predicate) = policy.retry_options_predicates.first() else { return Ok(()) };
    let (name, path) = (&predicate.name, path.join("retry_options_predicates").at(0));
    Err(match &predicate.typed_config {
        Some(any) => extension::not_registered(name, any, &path),
        None => Rejection::new(&path.join("typed_config"), "value is required"),
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

/// What `retry_host_predicate` says.
#[derive(Default)]
struct Avoided {
    previous_hosts: bool,
    canaries: bool,
    metadata: Vec<MetadataPairs>,
}

fn avoided(policy: &pb::RetryPolicy, path: &Path) -> Result<Avoided, Rejection> {
    let path = path.join("retry_host_predicate");
    let mut out = Avoided::default();
    for (i, predicate) in policy.retry_host_predicate.iter().enumerate() {
        let any = predicate.config_type.as_ref().map(|HostConfig::TypedConfig(any)| any);
        let Some(any) = any else {
            // Names alone stand for extensions without configuration, as in Envoy.
            match predicate.name.as_str() {
                "envoy.retry_host_predicates.previous_hosts" => out.previous_hosts = true,
                "envoy.retry_host_predicates.omit_canary_hosts" => out.canaries = true,
                name => return Err(extension::not_served("retry host predicate", name, None, &path.at(i))),
            }
            continue;
        };
        match extension::type_of(any).as_str() {
            PREVIOUS_HOSTS => out.previous_hosts = true,
            OMIT_CANARY_HOSTS => out.canaries = true,
            OMIT_HOST_METADATA => {
                let config: OmitHostMetadataConfig = extension::open(any, &path.at(i))?;
                let wanted = metadata::matching(&[config.metadata_match.as_ref()]);
                out.metadata.push(wanted.map_or_else(Default::default, |wanted| wanted.pairs.clone()));
            }
            _ => {
                let name = &predicate.name;
                return Err(extension::not_served("retry host predicate", name, Some(any), &path.at(i)));
            }
        }
    }
    Ok(out)
}

fn previous_priorities(policy: &pb::RetryPolicy, path: &Path) -> Result<Option<u32>, Rejection> {
    let Some(priority) = &policy.retry_priority else { return Ok(None) };
    let path = path.join("retry_priority");
    let any = priority.config_type.as_ref().map(|PriorityConfig::TypedConfig(any)| any);
    match any {
        Some(any) if extension::type_of(any) == PREVIOUS_PRIORITIES => {
            let config: PreviousPrioritiesConfig = extension::open(any, &path)?;
            Ok(Some(u32::try_from(config.update_frequency).unwrap_or(1).max(1)))
        }
        _ => Err(extension::not_served("retry priority", &priority.name, any, &path)),
    }
}
