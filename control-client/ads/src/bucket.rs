//! `rate_limit_settings`: a token bucket for requests.

use std::time::Duration;

use millrace_base::Time;

/// Nanoseconds that a bucket of one token a second needs for a thousandth of a token, times a thousand.
const NANOS_TIMES_MILLI: u64 = 1_000_000_000_000;

/// Starts full.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// What one token takes to come back.
    token: Duration,
    /// Time to fill an empty bucket.
    capacity: Duration,
    /// When the bucket is, or was, full; in the future by one `token` for each that is missing.
    full_at: Time,
    /// `control_plane.rate_limit_enforced`.
    pub enforced: u64,
    /// A request waits: it is counted once.
    blocked: bool,
}

impl Bucket {
    /// `tokens`, of which there is at least one, and thousandths of a token that come back each second.
    pub fn new(tokens: u32, milli_per_second: u64) -> Self {
        let token = Duration::from_nanos(NANOS_TIMES_MILLI / milli_per_second.max(1));
        Self {
            token,
            capacity: token.saturating_mul(tokens.max(1)),
            full_at: Time::ZERO,
            enforced: 0,
            blocked: false,
        }
    }

    /// Takes a token. False when there is none; [`Self::ready_at`] says when there is.
    pub fn take(&mut self, now: Time) -> bool {
        let base = self.full_at.max(now);
        let allowed = (base + self.token).since(now) <= self.capacity;
        if allowed {
            self.full_at = base + self.token;
        } else if !self.blocked {
            self.enforced += 1;
        }
        self.blocked = !allowed;
        allowed
    }

    /// When a request that waits may leave.
    pub fn ready_at(&self) -> Option<Time> {
        let missing = u64::try_from(self.capacity.as_nanos()).unwrap_or(u64::MAX);
        self.blocked.then(|| Time((self.full_at + self.token).0.saturating_sub(missing)))
    }

    /// Nothing waits any longer: the stream is gone.
    pub fn unblock(&mut self) {
        self.blocked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_run_out_and_come_back() {
        let mut bucket = Bucket::new(3, 10_000);
        let start = Time(5_000_000_000);
        assert!((0..3).all(|_| bucket.take(start)));
        assert!(!bucket.take(start) && !bucket.take(start));
        assert_eq!(bucket.enforced, 1, "one request waits");
        let ready = bucket.ready_at().unwrap();
        assert_eq!(ready, start + Duration::from_millis(100));
        assert!(bucket.take(ready) && !bucket.take(ready));
        let later = ready + Duration::from_secs(60);
        assert!((0..3).all(|_| bucket.take(later)) && !bucket.take(later), "no more than the capacity");
    }
}
