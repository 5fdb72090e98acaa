//! How many retries a cluster may have under way: `max_retries` or `retry_budget`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_base::Time;
use millrace_config::Thresholds;

use crate::budget::PriorityBudgets;

/// The number of concurrent retries that the thresholds allow at this moment.
pub(crate) fn limit(thresholds: &Thresholds, budgets: &PriorityBudgets, now: Time) -> u32 {
    match thresholds.retry_budget {
        None => thresholds.max_retries,
        Some(budget) => {
            let load = match budget.interval {
                Duration::ZERO => f64::from(budgets.requests.used()) + f64::from(budgets.pending.used()),
                interval => budgets.recent.count(now, interval) as f64,
            };
            ((budget.percent / 100.0 * load) as u32).max(budget.min_concurrency)
        }
    }
}

/// Takes a retry, or refuses (count `upstream_rq_retry_overflow`).
pub(crate) fn try_retry(thresholds: &Thresholds, budgets: &PriorityBudgets, now: Time) -> bool {
    budgets.retries.try_acquire(limit(thresholds, budgets, now))
}

/// Parts of `budget_interval` that are counted apart: a request counts for that much less than the whole at most.
const PARTS: u64 = 32;

/// How many requests began of late, on all shards. Takes memory when the first one is counted.
#[derive(Debug, Default)]
pub struct Recent(OnceLock<Box<[AtomicU64; PARTS as usize]>>);

impl Recent {
    /// Counts one that begins now.
    pub(crate) fn add(&self, now: Time, interval: Duration) {
        let parts = self.0.get_or_init(|| Box::new([const { AtomicU64::new(0) }; PARTS as usize]));
        let number = number(now, interval);
        let part = &parts[(number % PARTS) as usize];
        // The number of the part stands above its count, so that an old count is told from a new one.
        let tag = number << 32;
        let count = |old: u64| if old & !COUNT == tag & !COUNT { old.saturating_add(1) } else { tag | 1 };
        part.update(Ordering::Relaxed, Ordering::Relaxed, count);
    }

    /// Those that began in the last interval.
    fn count(&self, now: Time, interval: Duration) -> u64 {
        let Some(parts) = self.0.get() else { return 0 };
        let newest = number(now, interval) & COUNT;
        let recent = |part: &AtomicU64| {
            let seen = part.load(Ordering::Relaxed);
            let age = newest.wrapping_sub(seen >> 32) & COUNT;
            (age < PARTS).then_some(seen & COUNT)
        };
        parts.iter().filter_map(recent).sum()
    }
}

/// The lower half of a part.
const COUNT: u64 = 0xffff_ffff;

/// The number of the part that a moment falls into.
fn number(now: Time, interval: Duration) -> u64 {
    let width = (interval.as_nanos() as u64 / PARTS).max(1);
    now.0 / width
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_config::RetryBudget;

    const NOW: Time = Time::ZERO;

    fn budget(interval: Duration) -> Thresholds {
        let budget = RetryBudget { percent: 20.0, min_concurrency: 3, interval };
        Thresholds { retry_budget: Some(budget), max_retries: 0, ..Thresholds::default() }
    }

    #[test]
    fn a_retry_budget_follows_the_load_but_not_below_its_minimum() {
        let (budgets, thresholds) = (PriorityBudgets::default(), budget(Duration::ZERO));
        assert_eq!((0..9).filter(|_| try_retry(&thresholds, &budgets, NOW)).count(), 3);
        let mut lease = crate::leased::Lease::default();
        for _ in 0..24 {
            assert!(lease.try_acquire(&budgets.requests, u32::MAX) && budgets.pending.try_acquire(u32::MAX));
        }
        // 20 % of 48 is 9.6.
        assert_eq!((0..99).filter(|_| try_retry(&thresholds, &budgets, NOW)).count(), 6);
        assert_eq!(budgets.retries.used(), 9);
    }

    #[test]
    fn with_an_interval_the_requests_that_began_in_it_count() {
        let interval = Duration::from_secs(32);
        let (budgets, thresholds) = (PriorityBudgets::default(), budget(interval));
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        assert!(budgets.pending.try_acquire(u32::MAX));
        assert_eq!(limit(&thresholds, &budgets, at(100)), 3, "nobody began");
        (0..50).for_each(|_| budgets.recent.add(at(100), interval));
        (0..30).for_each(|_| budgets.recent.add(at(101), interval));
        assert_eq!(limit(&thresholds, &budgets, at(101)), 16);
        assert_eq!(limit(&thresholds, &budgets, at(131)), 16, "within the interval");
        assert_eq!(limit(&thresholds, &budgets, at(132)), 6, "the first second is over");
        assert_eq!(limit(&thresholds, &budgets, at(133)), 3);
        // The place of the old count.
        budgets.recent.add(at(132), interval);
        assert_eq!(budgets.recent.count(at(132), interval), 31);
        assert_eq!(budgets.recent.count(at(100_000), interval), 0);
    }

    #[test]
    fn without_a_budget_max_retries_holds() {
        let budgets = PriorityBudgets::default();
        let thresholds = Thresholds::default();
        assert_eq!((0..9).filter(|_| try_retry(&thresholds, &budgets, NOW)).count(), 3);
        budgets.retries.release();
        assert!(try_retry(&thresholds, &budgets, NOW));
    }
}
