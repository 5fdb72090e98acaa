//! A budget that requests take units of: exact over all shards, and without a write that shards share for each request.
//!
//! While less than half of the limit is taken a shard takes several units at once and keeps what it gets back, in a count
//! on a cache line of its own. Near the limit it takes one at a time and gives back at once; and before it refuses it takes
//! what other shards keep. So no more than the limit is ever in use, and nothing is refused while a unit is free.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Budget;

/// Units that a shard takes at once while the limit is far.
const BATCH: u32 = 16;

/// Units that one shard keeps for its next requests.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Kept(AtomicU32);

impl Kept {
    fn take(&self) -> bool {
        self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, |kept| kept.checked_sub(1)).is_ok()
    }
}

/// What all shards share of it.
#[derive(Debug, Default)]
pub struct LeasedBudget {
    /// Units in use, and those that shards keep.
    taken: Budget,
    /// Of each shard that uses it.
    keepers: Mutex<Vec<Arc<Kept>>>,
}

impl LeasedBudget {
    /// Units in use now, by all shards. Slow path: for gauges, and for retries that depend on it.
    pub fn used(&self) -> u32 {
        let keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: u32 = keepers.iter().map(|keeper| keeper.0.load(Ordering::Relaxed)).sum();
        self.taken.used().saturating_sub(kept)
    }

    /// Takes a unit that another shard keeps.
    #[cold]
    fn steal(&self) -> bool {
        let keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        keepers.iter().any(|keeper| keeper.take())
    }
}

/// A shard's end of a [`LeasedBudget`]; gives back what it keeps when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Lease(Option<Arc<Kept>>);

impl Lease {
    /// Takes one unit unless `limit` are in use already.
    #[inline]
    pub fn try_acquire(&mut self, budget: &LeasedBudget, limit: u32) -> bool {
        let kept = self.0.get_or_insert_with(|| join(budget));
        if budget.taken.used() > limit {
            // The limit was lowered.
            return budget.used() < limit && budget.steal();
        }
        if kept.take() {
            return true;
        }
        if budget.taken.used() < limit / 2 {
            let batch = BATCH.min(limit / 8).max(1);
            if budget.taken.try_acquire_many(batch, limit) {
                kept.0.fetch_add(batch - 1, Ordering::Relaxed);
                return true;
            }
        }
        budget.taken.try_acquire(limit) || budget.steal()
    }

    /// Gives one unit back.
    #[inline]
    pub fn release(&self, budget: &LeasedBudget, limit: u32) {
        match &self.0 {
            Some(kept) if budget.taken.used() <= limit / 2 && kept.0.load(Ordering::Relaxed) < BATCH => {
                kept.0.fetch_add(1, Ordering::Relaxed);
            }
            kept => {
                let more = kept.as_ref().map_or(0, |kept| kept.0.swap(0, Ordering::Relaxed));
                budget.taken.release_many(more + 1);
            }
        }
    }

    /// The shard has no use for it any more.
    pub fn end(&mut self, budget: &LeasedBudget) {
        let Some(kept) = self.0.take() else { return };
        let mut keepers = budget.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        keepers.retain(|keeper| !Arc::ptr_eq(keeper, &kept));
        budget.taken.release_many(kept.0.swap(0, Ordering::Relaxed));
    }
}

#[cold]
fn join(budget: &LeasedBudget) -> Arc<Kept> {
    let kept = Arc::new(Kept::default());
    budget.keepers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&kept));
    kept
}

#[cfg(test)]
mod tests {
    use millrace_base::Rng;

    use super::*;

    /// Shards that take and give back in any order, beside a count that is shared plainly.
    #[test]
    fn no_more_than_the_limit_and_no_refusal_below_it() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let limit = 1 + rng.below(if seed % 2 == 0 { 8 } else { 200 }) as u32;
            let budget = LeasedBudget::default();
            let mut shards: Vec<(Lease, u32)> = (0..3).map(|_| (Lease::default(), 0)).collect();
            for _ in 0..2000 {
                let total: u32 = shards.iter().map(|(_, held)| held).sum();
                let (lease, held) = &mut shards[rng.below(3) as usize];
                if rng.below(2) == 0 {
                    let granted = lease.try_acquire(&budget, limit);
                    assert_eq!(granted, total < limit, "{total} of {limit}, seed {seed}");
                    *held += u32::from(granted);
                } else if *held > 0 {
                    lease.release(&budget, limit);
                    *held -= 1;
                }
                let total: u32 = shards.iter().map(|(_, held)| held).sum();
                assert_eq!(budget.used(), total, "seed {seed}");
                assert!(budget.taken.used() <= limit);
            }
            for (lease, held) in &mut shards {
                (0..*held).for_each(|_| lease.release(&budget, limit));
                lease.end(&budget);
            }
            assert_eq!(budget.taken.used(), 0);
        }
    }

    #[test]
    fn the_limit_is_exact_under_four_threads() {
        const LIMIT: u32 = 20;
        let (budget, held) = (Arc::new(LeasedBudget::default()), Arc::new(AtomicU32::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|seed| {
                let (budget, held) = (Arc::clone(&budget), Arc::clone(&held));
                std::thread::spawn(move || {
                    let (mut lease, mut rng, mut own) = (Lease::default(), Rng::new(seed), 0);
                    for _ in 0..50_000 {
                        if rng.below(2) == 0 && lease.try_acquire(&budget, LIMIT) {
                            own += 1;
                            let all = held.fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(all <= LIMIT, "{all} held at once");
                        } else if own > 0 {
                            own -= 1;
                            held.fetch_sub(1, Ordering::SeqCst);
                            lease.release(&budget, LIMIT);
                        }
                    }
                    held.fetch_sub(own, Ordering::SeqCst);
                    (0..own).for_each(|_| lease.release(&budget, LIMIT));
                    lease.end(&budget);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        assert_eq!((budget.taken.used(), budget.used()), (0, 0));
    }

    #[test]
    fn a_limit_that_is_lowered_holds_at_once() {
        let (budget, mut lease) = (LeasedBudget::default(), Lease::default());
        assert!((0..30).all(|_| lease.try_acquire(&budget, 1024)));
        assert!(!lease.try_acquire(&budget, 30) && !lease.try_acquire(&budget, 10));
        (0..21).for_each(|_| lease.release(&budget, 10));
        assert_eq!(budget.used(), 9);
        assert!(lease.try_acquire(&budget, 10) && !lease.try_acquire(&budget, 10));
    }
}
