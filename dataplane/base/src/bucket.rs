//! A token bucket that any number of threads may draw from, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Time;

/// Tokens that come back evenly over time, up to a maximum. A new bucket is full.
///
/// The whole state is one moment: the one at which the bucket was, or would have been, empty. It is kept as the bits
/// of a floating-point number of nanoseconds, so that a fraction of a token is not lost whatever the rate.
#[derive(Debug)]
pub struct TokenBucket {
    empty_at: AtomicU64,
    max_tokens: f64,
    nanos_per_token: f64,
}

impl TokenBucket {
    /// `tokens_per_fill` tokens every `fill_interval`, which must not be zero, and at most `max_tokens`.
    pub fn new(max_tokens: u64, tokens_per_fill: u64, fill_interval: Duration) -> Self {
        let nanos_per_token = fill_interval.as_nanos() as f64 / tokens_per_fill.max(1) as f64;
        let empty_at = AtomicU64::new(f64::NEG_INFINITY.to_bits());
        Self {
            empty_at,
            max_tokens: max_tokens as f64,
            nanos_per_token: nanos_per_token.max(f64::MIN_POSITIVE),
        }
    }

    /// The same bucket, with so many tokens in it at `now`.
    #[must_use]
    pub fn holding(self, tokens: u64, now: Time) -> Self {
        let empty_at = now.0 as f64 - tokens as f64 * self.nanos_per_token;
        Self { empty_at: AtomicU64::new(empty_at.to_bits()), ..self }
    }

    /// The most that it holds.
    pub fn max_tokens(&self) -> u64 {
        self.max_tokens as u64
    }

    /// Tokens that come back in a second; orders buckets by how strict they are.
    pub fn tokens_per_second(&self) -> f64 {
        1e9 / self.nanos_per_token
    }

    fn held(&self, empty_at: u64, now: Time) -> f64 {
        let since = now.0 as f64 - f64::from_bits(empty_at);
        (since / self.nanos_per_token).clamp(0.0, self.max_tokens)
    }

    /// Takes one token; false, and nothing taken, when there is less than one.
    pub fn take_one(&self, now: Time) -> bool {
        self.take(now, |held| if held >= 1.0 { 1.0 } else { 0.0 }) > 0.0
    }

    /// Takes so many tokens; false, and nothing taken, when there are fewer, and for none at all.
    pub fn take_all(&self, wanted: u64, now: Time) -> bool {
        let wanted = wanted as f64;
        self.take(now, |held| if held >= wanted { wanted } else { 0.0 }) > 0.0
    }

    /// Takes as many whole tokens as there are, at most `wanted`; tells how many.
    pub fn take_up_to(&self, wanted: u64, now: Time) -> u64 {
        self.take(now, |held| held.floor().min(wanted as f64)) as u64
    }

    /// Puts so many tokens back; what does not fit into it is lost.
    pub fn give(&self, tokens: u64, now: Time) {
        let mut before = self.empty_at.load(Ordering::Relaxed);
        loop {
            let held = (self.held(before, now) + tokens as f64).min(self.max_tokens);
            let after = (now.0 as f64 - held * self.nanos_per_token).to_bits();
            match self.empty_at.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now_there) => before = now_there,
            }
        }
    }

    fn take(&self, now: Time, choose: impl Fn(f64) -> f64) -> f64 {
        let mut before = self.empty_at.load(Ordering::Relaxed);
        loop {
            let held = self.held(before, now);
            let taken = choose(held);
            if taken <= 0.0 {
                return 0.0;
            }
            let from = match held < self.max_tokens {
                true => f64::from_bits(before),
                false => now.0 as f64 - self.max_tokens * self.nanos_per_token,
            };
            let after = (from + taken * self.nanos_per_token).to_bits();
            match self.empty_at.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return taken,
                Err(now_there) => before = now_there,
            }
        }
    }

    /// Whole tokens in it.
    pub fn remaining(&self, now: Time) -> u64 {
        self.held(self.empty_at.load(Ordering::Relaxed), now) as u64
    }

    /// How long until a whole token is in it; zero when one is.
    pub fn next_token(&self, now: Time) -> Duration {
        let held = self.held(self.empty_at.load(Ordering::Relaxed), now);
        Duration::from_nanos(((1.0 - held).max(0.0) * self.nanos_per_token) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    const fn at(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    #[test]
    fn tokens_given_back_fit_or_are_lost() {
        let bucket = TokenBucket::new(5, 1, Duration::from_secs(600));
        bucket.give(3, at(1));
        assert_eq!(bucket.remaining(at(1)), 5);
        assert!(bucket.take_all(4, at(1)));
        bucket.give(2, at(2));
        assert_eq!(bucket.remaining(at(2)), 3);
        bucket.give(0, at(2));
        assert_eq!(bucket.remaining(at(2)), 3);
        bucket.give(u64::MAX, at(2));
        assert!(bucket.take_all(5, at(2)) && !bucket.take_one(at(2)));
    }

    #[test]
    fn tokens_come_back_evenly_up_to_the_maximum() {
        let bucket = TokenBucket::new(2, 1, Duration::from_secs(10));
        assert!(bucket.take_one(at(0)) && bucket.take_one(at(150)) && !bucket.take_one(at(300)));
        assert_eq!(bucket.next_token(at(300)), Duration::from_millis(9_700));
        assert!(!bucket.take_one(at(9_999)) && bucket.take_one(at(10_000)));
        assert_eq!((bucket.remaining(at(100_000)), bucket.next_token(at(100_000))), (2, Duration::ZERO));
        assert_eq!(TokenBucket::new(0, 1, Duration::from_secs(1)).take_up_to(5, at(9)), 0);
    }

    #[test]
    fn a_part_is_given_when_there_is_not_all() {
        let bucket = TokenBucket::new(1000, 1000, Duration::from_secs(1)).holding(50, at(0));
        assert_eq!(bucket.take_up_to(80, at(0)), 50);
        assert_eq!(bucket.take_up_to(80, at(50)), 50);
        assert_eq!(bucket.take_up_to(80, at(10_000)), 80);
        assert_eq!(bucket.remaining(at(10_000)), 920);
    }

    #[test]
    fn threads_together_take_no_more_than_there_is() {
        let bucket = TokenBucket::new(1000, 1, Duration::from_secs(3600));
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        taken.fetch_add(u32::from(bucket.take_one(at(5))), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 1000);
    }
}
