//! Peak-EWMA: how long an endpoint takes to answer. A time above the estimate counts at once, one below it the more the
//! longer nothing was known; without requests the estimate fades. The rules are those of linkerd2-proxy (and Finagle).

use std::time::Duration;

use millrace_base::Time;
use millrace_config::{LbPolicy, PeakEwma};

use crate::{ClusterState, Host, HostId, TryResult};

/// What is known of an endpoint's times on this shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtt {
    /// The estimate at the time `at`.
    nanos: f64,
    at: Time,
    /// It has answered a request.
    answered: bool,
}

impl Default for Rtt {
    fn default() -> Self {
        Self { nanos: 0.0, at: Time::MAX, answered: false }
    }
}

/// [`PeakEwma`] in the numbers that each choice needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peak {
    /// `-1 / decay_time`, in nanoseconds.
    fading: f64,
    default_nanos: f64,
    penalty: Option<f64>,
}

impl From<&PeakEwma> for Peak {
    fn from(config: &PeakEwma) -> Self {
        Self {
            fading: -1.0 / config.decay.as_nanos().max(1) as f64,
            default_nanos: config.default_rtt.as_nanos() as f64,
            penalty: config.penalty,
        }
    }
}

impl Peak {
    /// The share of an estimate that is left after so many nanoseconds.
    #[inline]
    fn kept(&self, nanos: u64) -> f64 {
        (nanos as f64 * self.fading).exp()
    }
}

impl Rtt {
    /// The estimate as it is now.
    #[inline]
    pub fn faded(self, peak: &Peak, now: Time) -> Self {
        if self.at >= now {
            // It never was looked at, or was in this turn.
            return if self.at == Time::MAX { Self::new(peak, now) } else { self };
        }
        Self { nanos: self.nanos * peak.kept(now.0 - self.at.0), at: now, ..self }
    }

    #[cold]
    fn new(peak: &Peak, now: Time) -> Self {
        Self { nanos: peak.default_nanos, at: now, answered: false }
    }

    /// With the time that an answer took.
    pub fn with(self, took: Duration, peak: &Peak, now: Time) -> Self {
        let (took, before) = (took.as_nanos() as f64, self.started(peak, now));
        let nanos = if took > before.nanos {
            took
        } else {
            let kept = peak.kept(now.0.saturating_sub(before.at.0));
            before.nanos * kept + took * (1.0 - kept)
        };
        Self { nanos, at: now, answered: true }
    }

    /// With the time that a try has had without an answer: it takes longer, but nobody knows how much.
    pub fn at_least(self, had: Duration, peak: &Peak, now: Time) -> Self {
        let before = self.started(peak, now);
        if had.as_nanos() as f64 > before.nanos { self.with(had, peak, now) } else { before }
    }

    fn started(self, peak: &Peak, now: Time) -> Self {
        if self.at == Time::MAX { Self::new(peak, now) } else { self }
    }

    /// What another request would cost: the smaller the better. `active` requests are with the endpoint.
    #[inline]
    pub fn cost(self, active: u32, peak: &Peak) -> f64 {
        const MILLISECOND: f64 = 1_000_000.0;
        match peak.penalty {
            Some(penalty) if !self.answered && active > 0 => (penalty + f64::from(active)) * MILLISECOND,
            _ => self.nanos * (f64::from(active) + 1.0),
        }
    }
}

impl ClusterState {
    #[inline]
    pub(crate) fn times_tries(&self) -> bool {
        matches!(self.config.lb_policy, LbPolicy::PeakEwma(_))
    }

    /// Takes the time that a try has had since it was sent.
    #[inline]
    pub fn time_try(&self, host: HostId, result: TryResult, took: Duration, now: Time) {
        let LbPolicy::PeakEwma(config) = &self.config.lb_policy else { return };
        let Some(known) = self.hosts.get(host.0).and_then(Host::rtt) else { return };
        let (rtt, peak) = (known.get(), Peak::from(config));
        match result {
            TryResult::Status(_) | TryResult::Degraded(_) => known.set(rtt.with(took, &peak, now)),
            TryResult::TimedOut(_) | TryResult::Failed => known.set(rtt.at_least(took, &peak, now)),
            TryResult::Connected | TryResult::ConnectedForGood => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peak() -> Peak {
        Peak::from(&PeakEwma::default())
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn millis(rtt: Rtt) -> f64 {
        rtt.nanos / 1e6
    }

    #[test]
    fn peaks_count_at_once_and_fade() {
        let new = Rtt::default().faded(&peak(), at(1));
        assert!((millis(new) - 30.0).abs() < 1e-9 && !new.answered);
        let slow = new.with(Duration::from_millis(500), &peak(), at(1));
        assert!((millis(slow) - 500.0).abs() < 1e-9 && slow.answered);
        // One decay later 1/e of it is left.
        let later = slow.faded(&peak(), at(11));
        assert!((millis(later) - 500.0 / std::f64::consts::E).abs() < 1e-6);
        // Faster answers count by the time since the last one.
        let faster = slow.with(Duration::from_millis(10), &peak(), at(11));
        let kept = (-1.0_f64).exp();
        assert!((millis(faster) - (500.0 * kept + 10.0 * (1.0 - kept))).abs() < 1e-6);
        assert!(millis(slow.with(Duration::from_millis(10), &peak(), at(1))) > 499.9, "no time has gone by");
    }

    #[test]
    fn silence_raises_and_never_lowers() {
        let known = Rtt::default().with(Duration::from_millis(100), &peak(), at(1));
        assert!((millis(known.at_least(Duration::from_millis(3), &peak(), at(4))) - 100.0).abs() < 1e-9);
        assert!((millis(known.at_least(Duration::from_secs(2), &peak(), at(4))) - 2000.0).abs() < 1e-9);
    }

    #[test]
    fn costs_are_times_requests_and_strangers_may_be_penalised() {
        let known = Rtt::default().with(Duration::from_millis(100), &peak(), at(1));
        assert!((known.cost(0, &peak()) - 100e6).abs() < 1.0 && (known.cost(4, &peak()) - 500e6).abs() < 1.0);
        let strict = Peak { penalty: Some(1e6), ..peak() };
        let new = Rtt::default().faded(&strict, at(1));
        assert!((new.cost(0, &strict) - 30e6).abs() < 1.0);
        assert!((new.cost(2, &strict) - 1_000_002e6).abs() < 1.0);
        assert!((new.cost(2, &peak()) - 90e6).abs() < 1.0);
        assert!((known.cost(2, &strict) - 300e6).abs() < 1.0);
    }
}
