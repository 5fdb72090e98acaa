//! Token buckets that `local_ratelimit` makes while it runs: one for each value of a descriptor that names none.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millrace_base::{Time, TokenBucket};

use crate::TokenBucketConfig;

/// The bucket of one value.
#[derive(Debug)]
pub struct DynamicBucket {
    /// Full when it was made.
    pub bucket: TokenBucket,
    used: AtomicU64,
    forgotten: AtomicBool,
}

impl DynamicBucket {
    /// It counts as used at `now`. False when it was given up for other values: another one has to be asked for.
    pub fn touch(&self, now: Time) -> bool {
        self.used.store(now.0, Ordering::Relaxed);
        !self.forgotten.load(Ordering::Relaxed)
    }

    /// Its value was given up for another one.
    pub fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Relaxed)
    }
}

/// The buckets of one `LocalRateLimitDescriptor` with entries that have no value.
///
/// [`DynamicBuckets::bucket`] locks; who asks often keeps what it is given, and asks again once
/// [`DynamicBucket::touch`] says so.
#[derive(Debug)]
pub struct DynamicBuckets {
    id: u64,
    config: TokenBucketConfig,
    max: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_values: HashMap<Arc<[u8]>, Arc<DynamicBucket>>,
    /// Each value once, by a time at or before that of its last use.
    oldest: BinaryHeap<Reverse<(u64, Arc<[u8]>)>>,
}

/// The next [`DynamicBuckets::id`].
static IDS: AtomicU64 = AtomicU64::new(0);

impl DynamicBuckets {
    /// `max`: `max_dynamic_descriptors`. With one value more, the one that was used longest ago is forgotten.
    pub(crate) fn new(config: TokenBucketConfig, max: u32) -> Self {
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Self { id, config, max: (max as usize).max(1), known: Mutex::default() }
    }

    /// Unlike that of any others in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The bucket of `values`, new when they are not known.
    pub fn bucket(&self, values: &[u8], now: Time) -> Arc<DynamicBucket> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = known.by_values.get(values) {
            bucket.touch(now);
            return Arc::clone(bucket);
        }
        if known.by_values.len() >= self.max {
            known.forget_oldest();
        }
        let made = Arc::new(DynamicBucket {
            bucket: self.config.bucket(),
            used: AtomicU64::new(now.0),
            forgotten: AtomicBool::new(false),
        });
        let values: Arc<[u8]> = values.into();
        known.oldest.push(Reverse((now.0, Arc::clone(&values))));
        known.by_values.insert(values, Arc::clone(&made));
        made
    }
}

impl Known {
    fn forget_oldest(&mut self) {
        while let Some(Reverse((at, values))) = self.oldest.pop() {
            let used = self.by_values.get(&values).map_or(0, |bucket| bucket.used.load(Ordering::Relaxed));
            // It was used since it was put here.
            if used > at {
                self.oldest.push(Reverse((used, values)));
                continue;
            }
            if let Some(bucket) = self.by_values.remove(&values) {
                bucket.forgotten.store(true, Ordering::Relaxed);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_value_used_longest_ago_is_forgotten() {
        let config =
            TokenBucketConfig { max_tokens: 1, tokens_per_fill: 1, fill_interval: Duration::from_secs(9) };
        let buckets = DynamicBuckets::new(config, 2);
        let (a, b) = (buckets.bucket(b"a", Time(1)), buckets.bucket(b"b", Time(2)));
        assert!(a.bucket.take_one(Time(2)) && b.bucket.take_one(Time(2)));
        assert!(a.touch(Time(3)));
        let c = buckets.bucket(b"c", Time(4));
        assert!(!b.touch(Time(5)) && a.touch(Time(6)) && c.touch(Time(5)));
        // What comes back is full.
        assert!(buckets.bucket(b"b", Time(7)).bucket.take_one(Time(7)));
        assert!(c.is_forgotten() && !a.is_forgotten());
        assert!(!buckets.bucket(b"a", Time(8)).bucket.take_one(Time(8)));
    }
}
