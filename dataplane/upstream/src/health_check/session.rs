//! The state of one endpoint's checks: what a result changes, and how long to wait for the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millrace_base::Rng;
use millrace_config::{Address, Cluster, HealthCheck};

use super::{CheckFlags, Failure, FailureKind, initial_flags};
use crate::outlier::Monitor;
use crate::{ClusterHealth, OutlierEvent};

/// What a result did to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Nothing.
    Unchanged,
    /// It counts, but the threshold is not reached.
    Pending,
    /// The endpoint is another one for the balancer.
    Changed,
}

/// What there is to be logged (`envoy.data.core.v3.HealthCheckEvent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckEvent {
    /// It passes from now on.
    AddHealthy {
        /// By its first check.
        first: bool,
    },
    /// It fails from now on.
    EjectUnhealthy(Failure),
    /// A check failed.
    Failed {
        /// Why.
        failure: Failure,
        /// It was the first one.
        first: bool,
    },
    /// A check succeeded, and nothing changed.
    Succeeded,
    /// It says that it is degraded.
    Degraded,
    /// No longer.
    NoLongerDegraded,
}

/// See [`Session::succeeded`].
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was known before.
    pub before: CheckFlags,
    /// What is known now.
    pub after: CheckFlags,
    /// How they differ.
    pub transition: Transition,
    /// For the event log, in their order.
    pub events: Vec<CheckEvent>,
    /// It was the first result under this configuration.
    pub first: bool,
}

/// One endpoint under check.
#[derive(Debug)]
pub struct Session {
    monitor: Arc<Monitor>,
    first: bool,
    /// The endpoint was known before: a first failure counts like that of a new one.
    known: bool,
    passed: u32,
    failed: u32,
}

impl Session {
    /// Begins to check an endpoint; the cluster's health has it until [`Self::end`].
    pub fn begin(health: &ClusterHealth, cluster: &Cluster, address: &Address) -> Self {
        let (monitor, known) = health.join(address, initial_flags(cluster, true));
        Self { monitor, first: true, known, passed: 0, failed: 0 }
    }

    /// The endpoint is checked no more.
    pub fn end(self, health: &ClusterHealth, address: &Address, events: &mut Vec<OutlierEvent>) {
        health.leave(address, events);
    }

    /// The configuration of the checks is another one: the next result is the first.
    pub fn restart(&mut self) {
        (self.first, self.known, self.passed, self.failed) = (true, true, 0, 0);
    }

    /// What is known now.
    pub fn flags(&self) -> CheckFlags {
        self.monitor.checks.load()
    }

    /// True until there was a result.
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// True when outlier detection keeps the endpoint out.
    pub fn is_ejected(&self) -> bool {
        self.monitor.is_ejected()
    }

    /// A check is over: notes the HTTP status of its answer, 0 without one.
    pub fn answered(&self, status: u16) {
        if self.monitor.last_status.load(Ordering::Relaxed) != status {
            self.monitor.last_status.store(status, Ordering::Relaxed);
        }
    }

    /// The endpoint passed a check.
    pub fn succeeded(&mut self, degraded: bool, check: &HealthCheck, health: &ClusterHealth) -> Outcome {
        let before = self.flags();
        let (mut set, mut clear) = (CheckFlags::default(), CheckFlags::default());
        let mut transition = Transition::Unchanged;
        let mut events = Vec::new();
        self.failed = 0;
        if before.has(CheckFlags::FAILED) {
            self.passed += 1;
            if self.first || self.passed == check.healthy_threshold {
                let told = CheckFlags::FAILED.with(CheckFlags::TIMED_OUT).with(CheckFlags::EXCLUDED);
                clear = clear.with(told);
                transition = Transition::Changed;
                events.push(CheckEvent::AddHealthy { first: self.first });
            } else {
                transition = Transition::Pending;
            }
        }
        if transition != Transition::Changed && check.always_log_success {
            events.push(CheckEvent::Succeeded);
        }
        self.end_pending(before, &mut clear, &mut transition);
        if degraded != before.has(CheckFlags::DEGRADED) {
            events.push(if degraded { CheckEvent::Degraded } else { CheckEvent::NoLongerDegraded });
            *(if degraded { &mut set } else { &mut clear }) =
                (if degraded { set } else { clear }).with(CheckFlags::DEGRADED);
            if transition == Transition::Unchanged {
                transition = Transition::Changed;
            }
        }
        self.settle(check, health, Change { before, set, clear }, transition, events)
    }

    /// It did not.
    pub fn failed(&mut self, failure: Failure, check: &HealthCheck, health: &ClusterHealth) -> Outcome {
        let before = self.flags();
        let (mut set, mut clear) = (CheckFlags::default(), CheckFlags::default());
        let mut transition = Transition::Unchanged;
        let mut events = Vec::new();
        self.passed = 0;
        let mut out = before.has(CheckFlags::FAILED);
        if failure.exclude {
            set = set.with(CheckFlags::EXCLUDED);
        }
        if !out {
            let at_once = (!failure.kind.is_network() && !failure.retriable) || (self.first && self.known);
            self.failed += u32::from(!at_once);
            if at_once || self.failed == check.unhealthy_threshold {
                set = set.with(CheckFlags::FAILED);
                out = true;
                transition = Transition::Changed;
                events.push(CheckEvent::EjectUnhealthy(failure));
            } else {
                transition = Transition::Pending;
            }
        }
        let late = failure.kind == FailureKind::NetworkTimeout && out;
        *(if late { &mut set } else { &mut clear }) =
            (if late { set } else { clear }).with(CheckFlags::TIMED_OUT);
        self.end_pending(before, &mut clear, &mut transition);
        if self.first || check.always_log_failures {
            events.push(CheckEvent::Failed { failure, first: self.first });
        }
        self.settle(check, health, Change { before, set, clear }, transition, events)
    }

    /// An endpoint that was left out until its first check counts now, whatever the result.
    fn end_pending(&self, before: CheckFlags, clear: &mut CheckFlags, transition: &mut Transition) {
        if before.has(CheckFlags::PENDING) {
            *clear = clear.with(CheckFlags::PENDING);
            *transition = Transition::Changed;
        }
    }

    fn settle(
        &mut self,
        check: &HealthCheck,
        health: &ClusterHealth,
        change: Change,
        transition: Transition,
        events: Vec<CheckEvent>,
    ) -> Outcome {
        if self.monitor.checks.change(change.set, change.clear) {
            health.changed();
        }
        let first = std::mem::take(&mut self.first);
        if first {
            self.monitor.checked_by.store(check.fingerprint.max(1), Ordering::Release);
        }
        Outcome { before: change.before, after: self.flags(), transition, events, first }
    }
}

struct Change {
    before: CheckFlags,
    set: CheckFlags,
    clear: CheckFlags,
}

/// The time until the next check. `has_traffic` is false for a cluster that never had a connection.
pub fn interval(
    check: &HealthCheck,
    passed: bool,
    transition: Transition,
    has_traffic: bool,
    rng: &mut Rng,
) -> Duration {
    let by = &check.intervals;
    let pending = transition == Transition::Pending;
    let base = match (has_traffic, passed, pending) {
        (true, false, true) => by.unhealthy_edge,
        (true, false, false) => by.unhealthy,
        (true, true, true) => by.healthy_edge,
        (true, true, false) => by.interval,
        (false, true, false) => by.no_traffic_healthy,
        (false, _, _) => by.no_traffic,
    };
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let share = milliseconds(base).saturating_mul(u64::from(by.jitter_percent)) / 100;
    let mut jitter = |most: u64| Duration::from_millis(if most > 0 { rng.below(most) } else { 0 });
    base.saturating_add(jitter(share)).saturating_add(jitter(milliseconds(by.jitter)))
}
