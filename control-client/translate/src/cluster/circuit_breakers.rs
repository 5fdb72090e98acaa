//! `config.cluster.v3.CircuitBreakers`.

use millrace_config::{CircuitBreakers, Thresholds};
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::core::v3::RoutingPriority;

use crate::value;

/// Of several thresholds for one priority the first counts, as in Envoy.
pub(super) fn circuit_breakers(breakers: Option<&pb::CircuitBreakers>) -> CircuitBreakers {
    let find = |priority| {
        let list = breakers.map_or(&[][..], |breakers| &breakers.thresholds[..]);
        list.iter().find(|t| t.priority() == priority).map_or_else(Thresholds::default, thresholds)
    };
    CircuitBreakers { default: find(RoutingPriority::Default), high: find(RoutingPriority::High) }
}

fn thresholds(by: &pb::circuit_breakers::Thresholds) -> Thresholds {
    let default = Thresholds::default();
    let retry_budget = by.retry_budget.as_ref().map(|budget| {
        let percent = budget.budget_percent.as_ref().map_or(20.0, |percent| percent.value);
        (percent, value::number(budget.min_retry_concurrency.as_ref(), 3))
    });
    Thresholds {
        max_connections: value::number(by.max_connections.as_ref(), default.max_connections),
        max_pending_requests: value::number(by.max_pending_requests.as_ref(), default.max_pending_requests),
        max_requests: value::number(by.max_requests.as_ref(), default.max_requests),
        max_retries: value::number(by.max_retries.as_ref(), default.max_retries),
        retry_budget,
        track_remaining: by.track_remaining,
    }
}
