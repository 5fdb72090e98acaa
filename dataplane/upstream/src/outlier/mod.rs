//! Outlier detection: endpoints that fail get no requests for a while.
//!
//! What a try told is counted on its shard ([`watch`]). Failures in a row are counted for all shards together, without a
//! lock and without a write while all is well; so are the sums that success rates follow from, once in a while. Who
//! is out, for how long, and when it comes back is decided under a lock ([`detector`]), which only an outlier or the
//! end of an interval takes. Shards notice by the version of the cluster's health, which they read before each choice.
//!
//! The rules are Envoy's (`docs/configuration.md` names what is not served).

mod detector;
mod rates;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_base::Time;
use millrace_config::Address;

use detector::Detector;
pub(crate) use watch::Watch;
use watch::{Bucket, Counters};

use crate::health_check::{CheckFlags, SharedFlags};

/// What a try, or a TCP connection, told about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryResult {
    /// It answered with this HTTP status, or with a gRPC status that this one stands for.
    Status(u16),
    /// The same, and it says of itself that it is degraded.
    Degraded(u16),
    /// A connection is there; whether the endpoint answers remains to be seen.
    Connected,
    /// A connection is there, and nothing else will be known (TCP).
    ConnectedForGood,
    /// Nothing came in time; the client sees this status.
    TimedOut(u16),
    /// It could not be reached, or ended the try without an answer.
    Failed,
}

/// Why an endpoint counts as an outlier (`OutlierEjectionType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ejection {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    SuccessRateLocalOrigin,
    FailurePercentage,
    FailurePercentageLocalOrigin,
}

/// What happened to an endpoint; for statistics and the event log.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierEvent {
    /// The endpoint.
    pub address: Address,
    /// What happened.
    pub action: OutlierAction,
    /// How often it was ejected so far.
    pub ejections: u32,
    /// Time since the action before (an ejection: since it last came back; a return: since it was ejected).
    pub since_last: Option<Duration>,
}

/// See [`OutlierEvent`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutlierAction {
    /// It is an outlier; what becomes of that follows.
    Detected(Ejection),
    /// Too many are out already.
    Overflow,
    /// It is out, or would be if `enforcing` had it so.
    Eject {
        /// Why.
        why: Ejection,
        /// False when only counted.
        enforced: bool,
        /// Success rates in percent, where they were the reason.
        rates: Option<EjectionRates>,
    },
    /// It is back.
    Uneject,
    /// An answer said that it is degraded: it stays in use, behind those that are not.
    Degrade,
    /// It is degraded no longer.
    Recover,
    /// It was out when it left the cluster.
    Left,
}

/// Success rates behind an ejection, percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EjectionRates {
    /// Of the endpoint.
    pub host: f64,
    /// Mean of the cluster, and the threshold that follows from it; `None` for a failure percentage.
    pub cluster: Option<(f64, f64)>,
}

/// What all shards know about one endpoint.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Monitor {
    counters: Counters,
    buckets: [Bucket; 2],
    ejected: AtomicBool,
    /// It gets requests only where the healthy ones do not suffice.
    degraded: AtomicBool,
    /// What active checks say.
    pub checks: SharedFlags,
    /// The HTTP status that the last check was answered with, or 0.
    pub last_status: AtomicU16,
    /// The fingerprint of the checks that had a result last; 0 before any.
    pub checked_by: AtomicU64,
}

impl Monitor {
    #[inline]
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }
}

/// The health of one cluster's endpoints as traffic and checks tell it, the same for every shard.
#[derive(Debug, Default)]
pub struct ClusterHealth {
    /// Counts up when an endpoint goes or comes back.
    version: AtomicU64,
    detector: Mutex<Detector>,
}

impl ClusterHealth {
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Detector> {
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard has an endpoint, or checks it. `flags` are those of one that nobody has yet. True: somebody had.
    pub(crate) fn join(&self, address: &Address, flags: CheckFlags) -> (Arc<Monitor>, bool) {
        self.lock().join(address, flags)
    }

    /// What active checks say of an endpoint; nothing of one that no shard has. Slow: for the control thread.
    pub fn checks(&self, address: &Address) -> Option<CheckFlags> {
        self.lock().checks(address).map(|(flags, _)| flags)
    }

    /// The same, with the HTTP status that the last check was answered with, if it was.
    pub fn found(&self, address: &Address) -> Option<(CheckFlags, Option<u16>)> {
        let (flags, status) = self.lock().found(address)?;
        Some((flags, Some(status).filter(|status| *status != 0)))
    }

    /// True once a check of this configuration had a result. Slow: for the control thread.
    pub fn is_checked(&self, address: &Address, fingerprint: u64) -> bool {
        self.lock().checks(address).is_some_and(|(_, by)| by == fingerprint.max(1))
    }

    /// Traffic told that an endpoint shall get nothing; its next check decides. True when that is news.
    pub(crate) fn exclude(&self, monitor: &Monitor) -> bool {
        let news = monitor.checks.change(CheckFlags::EXCLUDED, CheckFlags::default());
        if news {
            self.changed();
        }
        news
    }

    /// A shard has it no longer. Once no shard has, it is forgotten.
    pub(crate) fn leave(&self, address: &Address, events: &mut Vec<OutlierEvent>) {
        self.lock().leave(address, events);
    }

    /// The endpoint passed a check: it comes back before its time. True when it was out.
    pub fn uneject(&self, address: &Address, now: Time, events: &mut Vec<OutlierEvent>) -> bool {
        let news = self.lock().uneject(address, now, events);
        if news {
            self.changed();
        }
        news
    }

    /// Whether an endpoint is out, and whether it counts as degraded because an answer said so. Slow: for the admin
    /// interface.
    pub fn seen_by_traffic(&self, address: &Address) -> (bool, bool) {
        self.lock().seen_by_traffic(address)
    }

    /// Mean success rate of the last interval and the threshold that followed from it, percent: of answers, and of
    /// local origin. For the admin interface.
    pub fn averages(&self) -> [Option<(f64, f64)>; 2] {
        self.lock().averages()
    }

    /// Success rate of an endpoint in the last interval, percent: `(external, local origin)`; for the admin interface.
    pub fn success_rates(&self, address: &Address) -> (Option<f64>, Option<f64>) {
        self.lock().success_rates(address)
    }
}
