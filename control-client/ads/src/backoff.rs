//! When to connect again, and to which service.

use std::time::Duration;

use millrace_base::Rng;

use crate::limits::{BACKOFF_BASE, BACKOFF_MAX};

/// Exponential back-off with full jitter, as Envoy's: the wait is drawn from zero up to an interval that doubles.
#[derive(Debug)]
pub(crate) struct Backoff {
    interval: Duration,
}

impl Backoff {
    pub fn new() -> Self {
        Self { interval: BACKOFF_BASE }
    }

    /// How long to wait now.
    pub fn next(&mut self, rng: &mut Rng) -> Duration {
        let interval = self.interval;
        self.interval = (interval * 2).min(BACKOFF_MAX);
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.below(nanos))
    }

    /// The server answered.
    pub fn reset(&mut self) {
        self.interval = BACKOFF_BASE;
    }
}

/// Attempts at the primary that must fail, none of them answered, before the failover service is tried.
const PRIMARY_FAILURES: u32 = 2;

/// Which service the next attempt goes to. Once the primary has answered it is the only one, as in Envoy; until then
/// attempts alternate as soon as the primary has failed twice in a row, also after the failover has served for a while.
/// (Envoy alternates without a pause; we back off before every attempt.)
#[derive(Debug)]
pub(crate) struct Failover {
    services: usize,
    current: usize,
    primary_failures: u32,
    primary_answered: bool,
    last_answer: Option<usize>,
}

impl Failover {
    /// `services` is 1 or 2.
    pub fn new(services: usize) -> Self {
        Self { services, current: 0, primary_failures: 0, primary_answered: false, last_answer: None }
    }

    pub fn current(&self) -> usize {
        self.current
    }

    /// The attempt failed or the stream ended.
    pub fn failed(&mut self) {
        if self.primary_answered || self.services < 2 {
            return;
        }
        if self.current == 0 {
            self.primary_failures = self.primary_failures.saturating_add(1);
            self.current = usize::from(self.primary_failures >= PRIMARY_FAILURES);
        } else {
            self.current = 0;
        }
    }

    /// What is known came from another service than the current one.
    pub fn has_moved(&self) -> bool {
        self.last_answer.is_some_and(|last| last != self.current)
    }

    /// The current service sent a response.
    pub fn answered(&mut self) {
        self.primary_answered |= self.current == 0;
        self.last_answer = Some(self.current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_up_to_the_maximum_and_start_over() {
        let (mut rng, mut backoff) = (Rng::new(1), Backoff::new());
        for exponent in 0..20 {
            let bound = (BACKOFF_BASE * 2u32.pow(exponent.min(10))).min(BACKOFF_MAX);
            assert!(backoff.next(&mut rng) < bound);
        }
        assert_eq!(backoff.interval, BACKOFF_MAX);
        backoff.reset();
        assert!(backoff.next(&mut rng) < BACKOFF_BASE);
    }

    #[test]
    fn services_alternate_until_the_primary_answers() {
        let mut failover = Failover::new(2);
        let mut tried = Vec::new();
        for _ in 0..6 {
            tried.push(failover.current());
            failover.failed();
        }
        assert_eq!(tried, [0, 0, 1, 0, 1, 0]);
        assert_eq!(failover.current(), 1);
        failover.answered();
        failover.failed();
        assert_eq!(failover.current(), 0, "the primary is asked again when the failover ends");
        assert!(failover.has_moved());
        failover.failed();
        assert_eq!(failover.current(), 1);
        failover.failed();
        failover.answered();
        failover.failed();
        failover.failed();
        assert_eq!(failover.current(), 0, "a primary that has answered stays");
        assert!(!failover.has_moved());
        let mut single = Failover::new(1);
        for _ in 0..5 {
            single.failed();
            assert_eq!(single.current(), 0);
        }
    }
}
