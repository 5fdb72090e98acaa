//! The control thread's handle: a few gauges of every cluster, which are not worth an array of counters each.

use millrace_config::ScopeId;

use super::metric::{Counter, Gauge};
use super::registry::Registry;

/// Counts under the registry's lock, which the forwarding path never takes. Values add to those of the shards.
#[derive(Debug)]
pub struct ControlStats(Registry);

impl ControlStats {
    pub(crate) fn new(registry: Registry) -> Self {
        Self(registry)
    }

    /// Adds one.
    pub fn inc(&mut self, scope: ScopeId, metric: Counter) {
        self.add(scope, metric, 1);
    }

    /// Adds `n`.
    pub fn add(&mut self, scope: ScopeId, metric: Counter, n: u64) {
        self.0.lock().change_control(scope, metric.0, |old| old.wrapping_add(n));
    }

    /// Sets the control thread's part of a gauge; the printed value is the sum over threads.
    pub fn gauge_set(&mut self, scope: ScopeId, metric: Gauge, value: u64) {
        self.0.lock().change_control(scope, metric.0, |_| value << 1 | 1);
    }

    /// The registry that these counters belong to.
    pub fn registry(&self) -> &Registry {
        &self.0
    }
}
