//! One shard's eye on one endpoint: failures in a row, and sums for success rates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use millrace_config::OutlierDetection;

use super::{Ejection, Monitor, TryResult};

/// Results that a shard counts for itself before it tells the others: a success rate is late by that many at most.
const TALLY_MAX: u32 = 16;

/// External and local origin: index into buckets and tallies.
pub(super) const EXTERNAL: usize = 0;
pub(super) const LOCAL: usize = 1;

/// Failures in a row, of all shards.
#[derive(Debug, Default)]
pub(super) struct Counters {
    consecutive_5xx: AtomicU32,
    gateway: AtomicU32,
    local: AtomicU32,
}

impl Counters {
    fn of(&self, why: Ejection) -> Option<&AtomicU32> {
        match why {
            Ejection::Consecutive5xx => Some(&self.consecutive_5xx),
            Ejection::ConsecutiveGatewayFailure => Some(&self.gateway),
            Ejection::ConsecutiveLocalOriginFailure => Some(&self.local),
            Ejection::SuccessRate
            | Ejection::SuccessRateLocalOrigin
            | Ejection::FailurePercentage
            | Ejection::FailurePercentageLocalOrigin => None,
        }
    }

    pub fn reset(&self, why: Ejection) {
        if let Some(counter) = self.of(why) {
            reset(counter);
        }
    }

    pub fn reset_all(&self) {
        [&self.consecutive_5xx, &self.gateway, &self.local].into_iter().for_each(reset);
    }
}

/// Written only when there is something to forget, so that the line stays shared by all cores while all is well.
#[inline]
fn reset(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}

/// True for the failure that reaches the threshold, and for no other.
fn reaches(counter: &AtomicU32, threshold: u32) -> bool {
    counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1) == threshold
}

/// Results of one interval, of all shards.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    success: AtomicU32,
    total: AtomicU32,
}

impl Bucket {
    /// Takes the sums: `(successes, all)`.
    pub fn take(&self) -> (u32, u32) {
        let total = self.total.swap(0, Ordering::Relaxed);
        (self.success.swap(0, Ordering::Relaxed).min(total), total)
    }
}

#[derive(Debug, Default)]
struct Tally {
    success: u32,
    total: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Watch {
    pub monitor: Arc<Monitor>,
    tallies: [Tally; 2],
}

/// What one result says of its endpoint besides how it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A threshold of failures in a row is reached.
    Outlier(Ejection),
    /// It is degraded, which was not known.
    Degraded,
}

/// One result may reach two thresholds.
pub(crate) type Findings = [Option<Finding>; 2];

impl Watch {
    pub fn new(monitor: Arc<Monitor>) -> Self {
        Self { monitor, tallies: Default::default() }
    }

    /// Counts a result.
    #[inline]
    pub fn take(&mut self, result: TryResult, config: &OutlierDetection) -> Findings {
        if config.split_local_origin {
            return match result {
                TryResult::Status(status) => self.status(status, config),
                TryResult::Degraded(status) => self.degraded(status, config),
                TryResult::Connected | TryResult::ConnectedForGood => self.local_success(),
                TryResult::TimedOut(_) | TryResult::Failed => self.local_failure(config),
            };
        }
        match result {
            TryResult::Status(status) | TryResult::TimedOut(status) => self.status(status, config),
            TryResult::Degraded(status) => self.degraded(status, config),
            TryResult::Connected => [None; 2],
            TryResult::ConnectedForGood => self.status(200, config),
            TryResult::Failed => self.status(503, config),
        }
    }

    fn status(&mut self, status: u16, config: &OutlierDetection) -> Findings {
        let failed = status >= 500;
        self.count(EXTERNAL, !failed);
        let counters = &self.monitor.counters;
        if !failed {
            reset(&counters.consecutive_5xx);
            reset(&counters.gateway);
            return [None; 2];
        }
        let mut reached = [None; 2];
        if matches!(status, 502..=504) {
            let threshold = config.consecutive_gateway_failure.threshold;
            let why = Ejection::ConsecutiveGatewayFailure;
            reached[0] = reaches(&counters.gateway, threshold).then_some(Finding::Outlier(why));
        } else {
            reset(&counters.gateway);
        }
        let threshold = config.consecutive_5xx.threshold;
        let why = Ejection::Consecutive5xx;
        reached[1] = reaches(&counters.consecutive_5xx, threshold).then_some(Finding::Outlier(why));
        reached
    }

    /// Nothing is wrong with the answer, only few should follow it.
    fn degraded(&mut self, status: u16, config: &OutlierDetection) -> Findings {
        let reached = self.status(status, config);
        let news = config.detect_degraded && status < 500 && !self.monitor.is_degraded();
        if news { [Some(Finding::Degraded), None] } else { reached }
    }

    fn local_success(&mut self) -> Findings {
        self.count(LOCAL, true);
        reset(&self.monitor.counters.local);
        [None; 2]
    }

    fn local_failure(&mut self, config: &OutlierDetection) -> Findings {
        self.count(LOCAL, false);
        let threshold = config.consecutive_local_origin_failure.threshold;
        let reached = reaches(&self.monitor.counters.local, threshold);
        [reached.then_some(Finding::Outlier(Ejection::ConsecutiveLocalOriginFailure)), None]
    }

    #[inline]
    fn count(&mut self, origin: usize, success: bool) {
        let tally = &mut self.tallies[origin];
        tally.total += 1;
        tally.success += u32::from(success);
        if tally.total >= TALLY_MAX {
            self.tell(origin);
        }
    }

    fn tell(&mut self, origin: usize) {
        let tally = std::mem::take(&mut self.tallies[origin]);
        if tally.total > 0 {
            let bucket = &self.monitor.buckets[origin];
            bucket.success.fetch_add(tally.success, Ordering::Relaxed);
            bucket.total.fetch_add(tally.total, Ordering::Relaxed);
        }
    }

    /// Tells everything that this shard has counted for itself.
    pub fn flush(&mut self) {
        self.tell(EXTERNAL);
        self.tell(LOCAL);
    }
}
