//! How many retries a cluster may have under way: `max_retries` or `retry_budget`.

use millrace_config::Thresholds;

use crate::budget::PriorityBudgets;

/// The number of concurrent retries that the thresholds allow at this moment.
pub(crate) fn limit(thresholds: &Thresholds, budgets: &PriorityBudgets) -> u32 {
    match thresholds.retry_budget {
        None => thresholds.max_retries,
        Some((percent, min_concurrency)) => {
            let load = f64::from(budgets.requests.used()) + f64::from(budgets.pending.used());
            ((percent / 100.0 * load) as u32).max(min_concurrency)
        }
    }
}

/// Takes a retry, or refuses (count `upstream_rq_retry_overflow`).
pub(crate) fn try_retry(thresholds: &Thresholds, budgets: &PriorityBudgets) -> bool {
    budgets.retries.try_acquire(limit(thresholds, budgets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_budget_follows_the_load_but_not_below_its_minimum() {
        let budgets = PriorityBudgets::default();
        let thresholds =
            Thresholds { retry_budget: Some((20.0, 3)), max_retries: 0, ..Thresholds::default() };
        assert_eq!((0..9).filter(|_| try_retry(&thresholds, &budgets)).count(), 3);
        let mut lease = crate::leased::Lease::default();
        for _ in 0..24 {
            assert!(lease.try_acquire(&budgets.requests, u32::MAX) && budgets.pending.try_acquire(u32::MAX));
        }
        // 20 % of 48 is 9.6.
        assert_eq!((0..99).filter(|_| try_retry(&thresholds, &budgets)).count(), 6);
        assert_eq!(budgets.retries.used(), 9);
    }

    #[test]
    fn without_a_budget_max_retries_holds() {
        let budgets = PriorityBudgets::default();
        let thresholds = Thresholds::default();
        assert_eq!((0..9).filter(|_| try_retry(&thresholds, &budgets)).count(), 3);
        budgets.retries.release();
        assert!(try_retry(&thresholds, &budgets));
    }
}
