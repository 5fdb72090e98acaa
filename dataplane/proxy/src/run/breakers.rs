//! Gauges of circuit breakers: which are open, and with `track_remaining` what is left. Worked out when somebody asks.

use millrace_base::Time;
use millrace_config::{Cluster, Thresholds};
use millrace_observe::stats::{ControlStats, Gauge, cluster as metric};
use millrace_shard::shared::Shared;
use millrace_upstream::{ClusterShared, PriorityBudgets};

/// The two gauges of each breaker, in the order of [`PriorityBudgets::state`].
type Gauges = [(Gauge, Gauge); 5];

const DEFAULT: Gauges = [
    (metric::CIRCUIT_BREAKERS_DEFAULT_CX_OPEN, metric::CIRCUIT_BREAKERS_DEFAULT_REMAINING_CX),
    (metric::CIRCUIT_BREAKERS_DEFAULT_RQ_PENDING_OPEN, metric::CIRCUIT_BREAKERS_DEFAULT_REMAINING_PENDING),
    (metric::CIRCUIT_BREAKERS_DEFAULT_RQ_OPEN, metric::CIRCUIT_BREAKERS_DEFAULT_REMAINING_RQ),
    (metric::CIRCUIT_BREAKERS_DEFAULT_RQ_RETRY_OPEN, metric::CIRCUIT_BREAKERS_DEFAULT_REMAINING_RETRIES),
    (metric::CIRCUIT_BREAKERS_DEFAULT_CX_POOL_OPEN, metric::CIRCUIT_BREAKERS_DEFAULT_REMAINING_CX_POOLS),
];

const HIGH: Gauges = [
    (metric::CIRCUIT_BREAKERS_HIGH_CX_OPEN, metric::CIRCUIT_BREAKERS_HIGH_REMAINING_CX),
    (metric::CIRCUIT_BREAKERS_HIGH_RQ_PENDING_OPEN, metric::CIRCUIT_BREAKERS_HIGH_REMAINING_PENDING),
    (metric::CIRCUIT_BREAKERS_HIGH_RQ_OPEN, metric::CIRCUIT_BREAKERS_HIGH_REMAINING_RQ),
    (metric::CIRCUIT_BREAKERS_HIGH_RQ_RETRY_OPEN, metric::CIRCUIT_BREAKERS_HIGH_REMAINING_RETRIES),
    (metric::CIRCUIT_BREAKERS_HIGH_CX_POOL_OPEN, metric::CIRCUIT_BREAKERS_HIGH_REMAINING_CX_POOLS),
];

/// Sets the gauges of one cluster. Nothing is taken of what no shard has used.
pub(super) fn refresh(stats: &mut ControlStats, cluster: &Cluster, shared: &Shared, now: Time) {
    let breakers = &cluster.circuit_breakers;
    let states = shared.breakers(cluster.id, |of: &ClusterShared| {
        [of.default.state(&breakers.default, now), of.high.state(&breakers.high, now)]
    });
    let untouched = |thresholds: &Thresholds| PriorityBudgets::default().state(thresholds, now);
    let tracked = [&breakers.default, &breakers.high];
    let states = match states {
        Some(states) => states,
        None if tracked.iter().any(|thresholds| thresholds.track_remaining) => tracked.map(untouched),
        None => return,
    };
    for ((gauges, states), thresholds) in [DEFAULT, HIGH].iter().zip(&states).zip(tracked) {
        for ((open, remaining), state) in gauges.iter().zip(states) {
            stats.gauge_set(cluster.scope, *open, u64::from(state.open));
            if thresholds.track_remaining {
                stats.gauge_set(cluster.scope, *remaining, state.remaining);
            }
        }
    }
}
