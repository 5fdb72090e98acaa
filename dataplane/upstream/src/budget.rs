//! What all shards share of a cluster: the counters of its circuit breakers, its health, its tables and the endpoints that
//! requests named.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millrace_base::Time;
use millrace_config::{Address, Thresholds};

use crate::lb::SharedTables;
use crate::retry::Recent;
use crate::{ClusterHealth, LeasedBudget, LoadBook, MetricBooks, OnDemandBook};

/// `core.v3.RoutingPriority`: which thresholds and which pool a request uses. Not an endpoint's priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourcePriority {
    /// `DEFAULT`.
    #[default]
    Default,
    /// `HIGH`.
    High,
}

impl ResourcePriority {
    /// Both priorities, in index order.
    pub const ALL: [Self; 2] = [Self::Default, Self::High];

    /// 0 for `DEFAULT`, 1 for `HIGH`.
    #[inline]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// One counter on cache lines of its own (two lines: the adjacent-line prefetcher pairs them).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Budget(AtomicU32);

impl Budget {
    /// Takes one unit unless `limit` are taken already. Never leaves more than `limit` taken, however many
    /// threads compete.
    #[inline]
    pub fn try_acquire(&self, limit: u32) -> bool {
        // The counter guards no other memory, so relaxed order is enough.
        self.0
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < limit).then_some(used + 1))
            .is_ok()
    }

    /// Takes so many units, or none if that would leave more than `limit` taken.
    pub(crate) fn try_acquire_many(&self, units: u32, limit: u32) -> bool {
        let more = |used: u32| used.checked_add(units).filter(|used| *used <= limit);
        self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives so many units back.
    pub(crate) fn release_many(&self, units: u32) {
        let before = self.0.fetch_sub(units, Ordering::Relaxed);
        debug_assert!(before >= units, "a budget was released more often than acquired");
    }

    /// Takes one unit even above the limit. Only for the first connection of a pool, which Envoy always
    /// allows: a request queued for an endpoint without any connection could otherwise wait for ever.
    #[inline]
    pub fn acquire_forced(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives one unit back.
    #[inline]
    pub fn release(&self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a budget was released more often than acquired");
    }

    /// Units taken now, by all shards.
    #[inline]
    pub fn used(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The circuit breakers of one priority.
#[derive(Debug, Default)]
pub struct PriorityBudgets {
    /// Upstream connections, connecting ones included.
    pub connections: Budget,
    /// Requests that wait for a connection.
    pub pending: Budget,
    /// Requests on a connection. Not counted while `max_requests` is `u32::MAX` and no retry budget needs it.
    pub requests: LeasedBudget,
    /// Retries between their back-off and the end of their attempt.
    pub retries: Budget,
    /// Requests that began in `budget_interval`; counted for a retry budget that has one.
    pub recent: Recent,
    /// Connection pools of HTTP: one for each shard, endpoint, version and kind of handshake in use. Not counted while
    /// neither `max_connection_pools` nor `track_remaining` asks for it.
    pub pools: Budget,
}

impl PriorityBudgets {
    /// How each breaker stands, as its gauges say it: connections, pending requests, requests, retries, pools.
    pub fn state(&self, thresholds: &Thresholds, now: Time) -> [BreakerState; 5] {
        let number = |limit: u32| u64::from(limit);
        let retries = number(crate::retry::limit(thresholds, self, now));
        let pools = thresholds.max_connection_pools.map_or(u64::MAX, u64::from);
        let mut state = [
            (self.connections.used(), number(thresholds.max_connections)),
            (self.pending.used(), number(thresholds.max_pending_requests)),
            (self.requests.used(), number(thresholds.max_requests)),
            (self.retries.used(), retries),
            (self.pools.used(), pools),
        ]
        .map(|(used, limit)| {
            let used = u64::from(used);
            BreakerState { open: used > 0 && used >= limit, remaining: limit.saturating_sub(used) }
        });
        if thresholds.retry_budget.is_some() {
            // It depends on requests: Envoy tells nothing then.
            state[3].remaining = 0;
        }
        state
    }
}

/// How one circuit breaker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerState {
    /// It refuses. One that lets nothing through and was never asked is not open.
    pub open: bool,
    /// Units left, `remaining_*` of `track_remaining`.
    pub remaining: u64,
}

/// Connections by endpoint: one count for all shards, made when the first of them opens a connection there.
#[derive(Debug, Default)]
pub struct HostBudgets(Mutex<BTreeMap<Address, Arc<Budget>>>);

impl HostBudgets {
    /// The count of an endpoint.
    pub(crate) fn of(&self, address: &Address) -> Arc<Budget> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(address.clone()).or_default())
    }

    /// A shard has no use for the count any more.
    pub(crate) fn forget(&self, address: &Address, budget: Arc<Budget>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(budget);
        if known.get(address).is_some_and(|budget| Arc::strong_count(budget) == 1) {
            known.remove(address);
        }
    }
}

/// What all shards share of one cluster: its circuit breakers, and what traffic tells of its endpoints.
#[derive(Debug, Default)]
pub struct ClusterShared {
    /// Priority `DEFAULT`.
    pub default: PriorityBudgets,
    /// Priority `HIGH`.
    pub high: PriorityBudgets,
    /// Endpoints that are out.
    pub health: ClusterHealth,
    /// Tables of balancers that hash.
    pub tables: SharedTables,
    /// Endpoints that requests named.
    pub on_demand: OnDemandBook,
    /// Connections to each endpoint, where `per_host_thresholds` limit them.
    pub host_connections: HostBudgets,
    /// What endpoints report on streams of their own.
    pub load_book: LoadBook,
    /// What they report with responses, for load reports.
    pub load_metrics: MetricBooks,
    /// The cluster has had a connection for traffic: its checks keep to their intervals.
    pub has_traffic: AtomicBool,
}

impl ClusterShared {
    /// The breakers of one priority.
    #[inline]
    pub fn of(&self, priority: ResourcePriority) -> &PriorityBudgets {
        match priority {
            ResourcePriority::Default => &self.default,
            ResourcePriority::High => &self.high,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_under_four_threads() {
        const LIMIT: u32 = 3;
        let budget = Arc::new(Budget::default());
        let held = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (budget, held) = (Arc::clone(&budget), Arc::clone(&held));
                std::thread::spawn(move || {
                    let mut granted = 0u32;
                    for _ in 0..50_000 {
                        if budget.try_acquire(LIMIT) {
                            let now_held = held.fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(now_held <= LIMIT, "{now_held} units held at once");
                            granted += 1;
                            held.fetch_sub(1, Ordering::SeqCst);
                            budget.release();
                        }
                        assert!(budget.used() <= LIMIT);
                    }
                    granted
                })
            })
            .collect();
        let granted: u32 = threads.into_iter().map(|t| t.join().unwrap()).sum();
        assert!(granted >= 50_000, "at least one thread always gets through, got {granted}");
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn zero_admits_nothing_and_the_maximum_everything() {
        let budget = Budget::default();
        assert!(!budget.try_acquire(0));
        assert!(budget.try_acquire(u32::MAX));
        assert!(!budget.try_acquire(1));
        budget.acquire_forced();
        assert_eq!(budget.used(), 2);
    }
}
