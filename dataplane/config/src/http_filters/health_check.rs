//! `extensions.filters.http.health_check.v3.HealthCheck`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_base::Time;

use crate::{ClusterId, HeaderMatcher, ScopeId};

/// The filter of a chain: it answers, or watches, the checks that others make of this proxy.
#[derive(Debug)]
pub struct HealthCheckFilter {
    /// `pass_through_mode`: endpoints answer.
    pub pass_through: bool,
    /// `cache_time`: what they answered last; `None` when nothing is kept.
    pub cache: Option<HealthCheckCache>,
    /// `cluster_min_healthy_percentages`, whole percent, by the clusters' names.
    pub min_healthy: Vec<(ClusterId, u64)>,
    /// `headers`: a request that matches all of them is a check.
    pub headers: Vec<HeaderMatcher>,
    /// Statistics scope `http.<prefix>.health_check.`.
    pub scope: ScopeId,
}

/// The last answer, the same for all shards. It is forgotten whenever another period begins, as in Envoy, however long
/// ago it came.
#[derive(Debug)]
pub struct HealthCheckCache {
    period: Duration,
    /// The number of the period that it belongs to, whether it was degraded, and its status; 0 for none.
    last: AtomicU64,
}

/// Bits of the status, and of the mark of a degraded answer above it.
const STATUS_BITS: u32 = 16;
const DEGRADED: u64 = 1 << STATUS_BITS;

impl HealthCheckCache {
    /// Nothing kept yet.
    pub fn new(period: Duration) -> Self {
        Self { period: period.max(Duration::from_millis(1)), last: AtomicU64::new(0) }
    }

    fn number(&self, now: Time) -> u64 {
        // From 1 on, so that 0 means that there is none.
        u64::try_from(u128::from(now.0) / self.period.as_nanos().max(1)).unwrap_or(u64::MAX) + 1
    }

    /// The status that is good now, and whether the answer was degraded.
    pub fn get(&self, now: Time) -> Option<(u16, bool)> {
        let last = self.last.load(Ordering::Relaxed);
        let known = last >> (STATUS_BITS + 1) == self.number(now);
        known.then_some((last as u16, last & DEGRADED != 0))
    }

    /// Keeps an answer.
    pub fn set(&self, now: Time, status: u16, degraded: bool) {
        let mark = if degraded { DEGRADED } else { 0 };
        let last = self.number(now) << (STATUS_BITS + 1) | mark | u64::from(status);
        self.last.store(last, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_until_the_period_ends() {
        let cache = HealthCheckCache::new(Duration::from_secs(1));
        let at = |milliseconds: u64| Time(milliseconds * 1_000_000);
        assert_eq!(cache.get(at(0)), None);
        cache.set(at(1900), 503, true);
        assert_eq!((cache.get(at(1999)), cache.get(at(2000))), (Some((503, true)), None));
        cache.set(at(2000), 200, false);
        assert_eq!(cache.get(at(2500)), Some((200, false)));
    }
}
