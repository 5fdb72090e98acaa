//! A shard's handle: where the hot path counts.

use std::sync::Arc;

use millrace_config::ScopeId;

use super::cluster_scopes::KnownZones;
use super::codes::CodeFamily;
use super::grpc_scopes::KnownGrpcScopes;
use super::metric::{Counter, Gauge, Histogram};
use super::registry::Registry;
use super::slots::ScopeSlots;

/// The counters of one thread. Single writer: not `Clone`, every change takes `&mut self`.
///
/// A scope costs nothing until it is used here for the first time; that first use allocates its array and
/// tells the [`Registry`] (the only lock, never taken again for that scope).
#[derive(Debug)]
pub struct ShardStats {
    registry: Registry,
    shard: usize,
    slots: Vec<Option<Arc<ScopeSlots>>>,
    pub(crate) grpc: KnownGrpcScopes,
    pub(crate) zones: KnownZones,
}

impl ShardStats {
    pub(crate) fn new(registry: Registry, shard: usize) -> Self {
        Self {
            registry,
            shard,
            slots: Vec::new(),
            grpc: KnownGrpcScopes::default(),
            zones: KnownZones::default(),
        }
    }

    /// Position among the registry's threads.
    pub(crate) fn shard(&self) -> usize {
        self.shard
    }

    #[inline]
    fn with(&mut self, scope: ScopeId, count: impl FnOnce(&ScopeSlots)) {
        let at = scope.0 as usize;
        if let Some(Some(slots)) = self.slots.get(at) {
            return count(slots);
        }
        self.inflate(scope);
        if let Some(Some(slots)) = self.slots.get(at) {
            count(slots);
        }
    }

    #[cold]
    pub(crate) fn inflate(&mut self, scope: ScopeId) {
        if let Some(slots) = self.registry.inflate(self.shard, scope) {
            self.keep(scope, slots);
        }
    }

    pub(crate) fn keep(&mut self, scope: ScopeId, slots: Arc<ScopeSlots>) {
        let at = scope.0 as usize;
        if self.slots.len() <= at {
            self.slots.resize(at + 1, None);
        }
        self.slots[at] = Some(slots);
    }

    /// Adds one.
    #[inline]
    pub fn inc(&mut self, scope: ScopeId, metric: Counter) {
        self.add(scope, metric, 1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&mut self, scope: ScopeId, metric: Counter, n: u64) {
        self.with(scope, |slots| slots.add(metric.0, n));
    }

    /// Sets this thread's part of a gauge; the printed value is the sum over threads.
    #[inline]
    pub fn gauge_set(&mut self, scope: ScopeId, metric: Gauge, value: u64) {
        self.with(scope, |slots| slots.gauge(metric.0, |_| value as i64));
    }

    /// Raises a gauge by one.
    #[inline]
    pub fn gauge_inc(&mut self, scope: ScopeId, metric: Gauge) {
        self.gauge_add(scope, metric, 1);
    }

    /// Lowers a gauge by one. What one thread raised another may lower: only the sum is printed.
    #[inline]
    pub fn gauge_dec(&mut self, scope: ScopeId, metric: Gauge) {
        self.gauge_add(scope, metric, -1);
    }

    /// Changes a gauge by `n`.
    #[inline]
    pub fn gauge_add(&mut self, scope: ScopeId, metric: Gauge, n: i64) {
        self.with(scope, |slots| slots.gauge(metric.0, |old| old.wrapping_add(n)));
    }

    /// Records a value (milliseconds unless the histogram's name says otherwise).
    #[inline]
    pub fn record(&mut self, scope: ScopeId, metric: Histogram, value: u64) {
        self.with(scope, |slots| slots.record(metric.0, value));
    }

    /// Counts a response code: `<family>upstream_rq_<code>`, its class and `completed`.
    #[inline]
    pub fn code(&mut self, scope: ScopeId, family: CodeFamily, code: u16) {
        self.with(scope, |slots| slots.codes.inc(family, code));
    }

    /// Counts a response that was sent to a client: its class and `completed`, in both scopes of a
    /// connection manager (kinds `Http` and `HttpListener`).
    pub fn downstream_response(&mut self, http: ScopeId, listener: ScopeId, status: u16) {
        use super::{http as h, http_listener as l};
        let class = match status / 100 {
            1 => Some((h::DOWNSTREAM_RQ_1XX, l::DOWNSTREAM_RQ_1XX)),
            2 => Some((h::DOWNSTREAM_RQ_2XX, l::DOWNSTREAM_RQ_2XX)),
            3 => Some((h::DOWNSTREAM_RQ_3XX, l::DOWNSTREAM_RQ_3XX)),
            4 => Some((h::DOWNSTREAM_RQ_4XX, l::DOWNSTREAM_RQ_4XX)),
            5 => Some((h::DOWNSTREAM_RQ_5XX, l::DOWNSTREAM_RQ_5XX)),
            _ => None,
        };
        self.inc(http, h::DOWNSTREAM_RQ_COMPLETED);
        self.inc(listener, l::DOWNSTREAM_RQ_COMPLETED);
        if let Some((of_http, of_listener)) = class {
            self.inc(http, of_http);
            self.inc(listener, of_listener);
        }
    }

    /// Counts a final upstream response in a cluster's scope, as Envoy charges it: plain, `canary.` if the
    /// endpoint is one, and `internal.` or `external.` by where the request came from.
    pub fn upstream_response(&mut self, cluster: ScopeId, status: u16, internal: bool, canary: bool) {
        self.code(cluster, CodeFamily::Plain, status);
        if canary {
            self.code(cluster, CodeFamily::Canary, status);
        }
        self.code(cluster, if internal { CodeFamily::Internal } else { CodeFamily::External }, status);
    }

    /// Lets go of scopes that the control thread retired. Call it when a new snapshot is taken.
    pub fn sweep(&mut self) {
        for scope in self.registry.retired_for(self.shard) {
            if let Some(slot) = self.slots.get_mut(scope.0 as usize) {
                *slot = None;
            }
            self.grpc.forget(scope);
            self.zones.forget(scope);
        }
    }

    /// The registry that these counters belong to.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}
