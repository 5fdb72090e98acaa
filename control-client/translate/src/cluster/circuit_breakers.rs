//! `config.cluster.v3.CircuitBreakers`.

use std::time::Duration;

use millrace_config::{CircuitBreakers, RetryBudget, Thresholds};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::core::v3::RoutingPriority;

use crate::context::Context;
use crate::error::Rejection;
use crate::value;

/// Of several thresholds for one priority the first counts, as in Envoy. The runtime may say otherwise, under
/// `circuit_breakers.<cluster>.<priority>.<field>`.
pub(super) fn circuit_breakers(
    breakers: Option<&pb::CircuitBreakers>,
    cluster: &str,
    path: &Path,
    cx: &Context,
) -> Result<CircuitBreakers, Rejection> {
    let per_host = breakers.map_or(&[][..], |breakers| &breakers.per_host_thresholds[..]);
    let others = |t: &pb::circuit_breakers::Thresholds| {
        t.max_pending_requests.is_some()
            || t.max_requests.is_some()
            || t.max_retries.is_some()
            || t.max_connection_pools.is_some()
            || t.retry_budget.is_some()
    };
    if let Some(at) = per_host.iter().position(others) {
        let path = path.join("circuit_breakers").join("per_host_thresholds").at(at);
        return Err(Rejection::new(&path, "Unsupported field in per_host_thresholds"));
    }
    let find = |priority, name| {
        let list = breakers.map_or(&[][..], |breakers| &breakers.thresholds[..]);
        let own = list.iter().find(|t| t.priority() == priority);
        let mut found = own.map_or_else(Thresholds::default, thresholds);
        let of_host = per_host.iter().filter(|t| t.priority() == priority);
        found.max_connections_per_host =
            of_host.filter_map(|t| Some(t.max_connections.as_ref()?.value)).next();
        from_runtime(found, &format!("circuit_breakers.{cluster}.{name}"), cx)
    };
    Ok(CircuitBreakers {
        default: find(RoutingPriority::Default, "default"),
        high: find(RoutingPriority::High, "high"),
    })
}

fn from_runtime(mut thresholds: Thresholds, prefix: &str, cx: &Context) -> Thresholds {
    let number = |name: &str| {
        let found = cx.runtime.integer(&format!("{prefix}.{name}"));
        found.map(|found| u32::try_from(found).unwrap_or(u32::MAX))
    };
    let take = |name: &str, field: &mut u32| {
        if let Some(found) = number(name) {
            *field = found;
        }
    };
    take("max_connections", &mut thresholds.max_connections);
    take("max_pending_requests", &mut thresholds.max_pending_requests);
    take("max_requests", &mut thresholds.max_requests);
    take("max_retries", &mut thresholds.max_retries);
    thresholds.max_connection_pools = number("max_connection_pools").or(thresholds.max_connection_pools);
    if let Some(budget) = &mut thresholds.retry_budget {
        take("retry_budget.min_retry_concurrency", &mut budget.min_concurrency);
        let key = format!("{prefix}.retry_budget.budget_percent");
        budget.percent = cx.runtime.double_of(&key, budget.percent);
    }
    thresholds
}

fn thresholds(by: &pb::circuit_breakers::Thresholds) -> Thresholds {
    let default = Thresholds::default();
    let retry_budget = by.retry_budget.as_ref().map(|budget| {
        let percent = budget.budget_percent.as_ref().map_or(20.0, |percent| percent.value);
        let min_concurrency = value::number(budget.min_retry_concurrency.as_ref(), 3);
        let interval = budget.budget_interval.as_ref().map_or(Duration::ZERO, value::duration);
        RetryBudget { percent, min_concurrency, interval }
    });
    Thresholds {
        max_connections: value::number(by.max_connections.as_ref(), default.max_connections),
        max_pending_requests: value::number(by.max_pending_requests.as_ref(), default.max_pending_requests),
        max_requests: value::number(by.max_requests.as_ref(), default.max_requests),
        max_retries: value::number(by.max_retries.as_ref(), default.max_retries),
        retry_budget,
        max_connection_pools: by.max_connection_pools.as_ref().map(|max| max.value),
        track_remaining: by.track_remaining,
        max_connections_per_host: None,
    }
}
