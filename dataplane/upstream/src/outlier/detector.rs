//! Who is out, for how long, and when it comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_config::{Address, OutlierDetection};

use super::rates::{HostRate, enough_members, judge};
use super::watch::{EXTERNAL, Finding, LOCAL};
use crate::health_check::{CheckFlags, SharedFlags};

use super::{ClusterHealth, Ejection, EjectionRates, Monitor, OutlierAction, OutlierEvent};

/// An endpoint that some shard has.
#[derive(Debug, Default)]
struct Member {
    monitor: Arc<Monitor>,
    /// Shards that have it.
    shards: u32,
    ejections: u32,
    /// Multiplies `base_ejection_time`; goes down again with every interval in which nothing happens.
    backoff: u32,
    jitter: Duration,
    ejected_at: Option<Time>,
    unejected_at: Option<Time>,
    degraded_at: Option<Time>,
    recovered_at: Option<Time>,
    /// Of the last interval, percent.
    rates: [Option<f64>; 2],
}

impl Member {
    /// Whether what began at `since` is over.
    fn is_due(&self, since: Option<Time>, config: &OutlierDetection, now: Time) -> bool {
        let out = config.base_ejection_time.saturating_mul(self.backoff).min(config.max_ejection_time);
        since.is_some_and(|at| at + out + self.jitter <= now)
    }

    /// The next time will be longer.
    fn back_off(&mut self, case: &mut Case<'_>) {
        let config = case.config;
        self.jitter = jitter(config.max_ejection_time_jitter, case.rng);
        let longest = config.max_ejection_time.saturating_add(config.base_ejection_time);
        if config.base_ejection_time.saturating_mul(self.backoff) < longest {
            self.backoff += 1;
        }
    }

    fn event(
        &self,
        address: &Address,
        action: OutlierAction,
        since: Option<Time>,
        now: Time,
    ) -> OutlierEvent {
        let since_last = since.map(|since| now.since(since));
        OutlierEvent { address: address.clone(), action, ejections: self.ejections, since_last }
    }
}

/// The endpoints of one cluster, of all shards together.
#[derive(Debug, Default)]
pub(super) struct Detector {
    members: BTreeMap<Address, Member>,
    /// How many are out.
    active: u32,
    next_sweep: Time,
    /// Mean and threshold of the last interval, percent.
    averages: [Option<(f64, f64)>; 2],
}

/// What decides about an ejection, besides the endpoint.
struct Case<'c> {
    config: &'c OutlierDetection,
    now: Time,
    rng: &'c mut Rng,
    events: &'c mut Vec<OutlierEvent>,
}

impl Detector {
    pub fn join(&mut self, address: &Address, flags: CheckFlags) -> (Arc<Monitor>, bool) {
        let known = self.members.contains_key(address);
        let member = self.members.entry(address.clone()).or_insert_with(|| Member {
            monitor: Arc::new(Monitor { checks: SharedFlags::new(flags), ..Monitor::default() }),
            ..Member::default()
        });
        member.shards += 1;
        (Arc::clone(&member.monitor), known)
    }

    /// What active checks say, and the fingerprint of those that said something.
    pub fn checks(&self, address: &Address) -> Option<(CheckFlags, u64)> {
        let monitor = &self.members.get(address)?.monitor;
        Some((monitor.checks.load(), monitor.checked_by.load(Ordering::Acquire)))
    }

    /// What active checks say, and the HTTP status of the last answer or 0.
    pub fn found(&self, address: &Address) -> Option<(CheckFlags, u16)> {
        let monitor = &self.members.get(address)?.monitor;
        Some((monitor.checks.load(), monitor.last_status.load(Ordering::Relaxed)))
    }

    pub fn uneject(&mut self, address: &Address, now: Time, events: &mut Vec<OutlierEvent>) -> bool {
        let Some(member) = self.members.get_mut(address).filter(|member| member.monitor.is_ejected()) else {
            return false;
        };
        self.active = self.active.saturating_sub(1);
        uneject(address, member, now, events);
        true
    }

    pub fn leave(&mut self, address: &Address, events: &mut Vec<OutlierEvent>) {
        let Some(member) = self.members.get_mut(address) else { return };
        member.shards = member.shards.saturating_sub(1);
        if member.shards > 0 {
            return;
        }
        if member.monitor.is_ejected() {
            self.active = self.active.saturating_sub(1);
            events.push(member.event(address, OutlierAction::Left, None, Time::ZERO));
        }
        self.members.remove(address);
    }

    /// Out, and degraded.
    pub fn seen_by_traffic(&self, address: &Address) -> (bool, bool) {
        let monitor = self.members.get(address).map(|member| &member.monitor);
        monitor.map_or((false, false), |monitor| (monitor.is_ejected(), monitor.is_degraded()))
    }

    pub fn averages(&self) -> [Option<(f64, f64)>; 2] {
        self.averages
    }

    pub fn success_rates(&self, address: &Address) -> (Option<f64>, Option<f64>) {
        let rates = self.members.get(address).map(|member| member.rates).unwrap_or_default();
        (rates[EXTERNAL], rates[LOCAL])
    }

    /// An answer said that its endpoint is degraded. `max_ejection_percent` does not count it: it still serves.
    fn degrade(&mut self, address: &Address, case: &mut Case<'_>) -> bool {
        let Some(member) = self.members.get_mut(address) else { return false };
        if member.monitor.degraded.swap(true, Ordering::Relaxed) {
            return false;
        }
        member.degraded_at = Some(case.now);
        member.back_off(case);
        case.events.push(member.event(address, OutlierAction::Degrade, member.unejected_at, case.now));
        true
    }

    /// A threshold of failures in a row was reached.
    fn consecutive(&mut self, address: &Address, why: Ejection, case: &mut Case<'_>) -> bool {
        let Some(member) = self.members.get(address) else { return false };
        if member.monitor.is_ejected() {
            return false;
        }
        let monitor = Arc::clone(&member.monitor);
        let ejected = self.outlier(address, why, None, case);
        // A new row may begin, also where the endpoint stays.
        monitor.counters.reset(why);
        ejected
    }

    /// Counts an outlier, and ejects it where that is enforced and not too many are out. True when it is out now.
    fn outlier(
        &mut self,
        address: &Address,
        why: Ejection,
        rates: Option<EjectionRates>,
        case: &mut Case<'_>,
    ) -> bool {
        let size = self.members.len();
        let Some(member) = self.members.get_mut(address) else { return false };
        let (config, now) = (case.config, case.now);
        case.events.push(member.event(address, OutlierAction::Detected(why), None, now));
        let share = 100.0 * f64::from(self.active + 1) / size as f64;
        let forced = config.always_eject_one_host && self.active == 0;
        if share > f64::from(config.max_ejection_percent.min(100)) && !forced {
            case.events.push(member.event(address, OutlierAction::Overflow, None, now));
            return false;
        }
        let since = member.unejected_at;
        // An endpoint that two rules name in one interval is out once.
        let already = member.monitor.is_ejected();
        let enforced = case.rng.chance(u64::from(enforcing(config, why)), 100) && !already;
        if enforced {
            self.active += 1;
            member.monitor.ejected.store(true, Ordering::Relaxed);
            member.ejections += 1;
            member.ejected_at = Some(now);
            member.back_off(case);
        }
        let action = OutlierAction::Eject { why, enforced, rates };
        case.events.push(member.event(address, action, since, now));
        enforced
    }

    /// The end of an interval: endpoints come back, success rates are judged. True when an endpoint came or went.
    fn sweep(&mut self, case: &mut Case<'_>) -> bool {
        let mut changed = false;
        let (config, now) = (case.config, case.now);
        let mut sums = Vec::with_capacity(self.members.len());
        for (address, member) in &mut self.members {
            if member.monitor.is_degraded() && member.is_due(member.degraded_at, config, now) {
                member.monitor.degraded.store(false, Ordering::Relaxed);
                member.recovered_at = Some(now);
                case.events.push(member.event(address, OutlierAction::Recover, member.ejected_at, now));
                changed = true;
            }
            if member.monitor.is_ejected() && member.is_due(member.ejected_at, config, now) {
                self.active = self.active.saturating_sub(1);
                uneject(address, member, now, case.events);
                changed = true;
            }
            sums.push([EXTERNAL, LOCAL].map(|origin| member.monitor.buckets[origin].take()));
            member.rates = [None; 2];
        }
        for origin in [EXTERNAL, LOCAL] {
            changed |= self.judge_rates(origin, &sums, case);
        }
        for member in self.members.values_mut() {
            if member.monitor.is_ejected() || member.monitor.is_degraded() {
                continue;
            }
            if member.unejected_at.max(member.recovered_at).is_some_and(|at| now.since(at) >= config.interval)
            {
                member.backoff = member.backoff.saturating_sub(1);
            }
        }
        changed
    }

    fn judge_rates(&mut self, origin: usize, sums: &[[(u32, u32); 2]], case: &mut Case<'_>) -> bool {
        let volume =
            case.config.success_rate.request_volume.min(case.config.failure_percentage.request_volume);
        let enough = enough_members(self.members.len(), case.config);
        let mut rates = Vec::new();
        for (index, (member, sums)) in self.members.values_mut().zip(sums).enumerate() {
            let (success, total) = sums[origin];
            if total == 0 || member.monitor.is_ejected() {
                continue;
            }
            let rate = f64::from(success) * 100.0 / f64::from(total);
            member.rates[origin] = (enough && total >= volume).then_some(rate);
            rates.push(HostRate { index, success: rate, volume: total });
        }
        let verdict = judge(&rates, self.members.len(), case.config);
        self.averages[origin] = verdict.cluster;
        if verdict.by_success_rate.is_empty() && verdict.by_failures.is_empty() {
            return false;
        }
        let addresses: Vec<Address> = self.members.keys().cloned().collect();
        let (by_rate, by_share) = match origin {
            EXTERNAL => (Ejection::SuccessRate, Ejection::FailurePercentage),
            _ => (Ejection::SuccessRateLocalOrigin, Ejection::FailurePercentageLocalOrigin),
        };
        let mut changed = false;
        for rate in &verdict.by_success_rate {
            let rates = EjectionRates { host: rate.success, cluster: verdict.cluster };
            changed |= self.outlier(&addresses[rate.index], by_rate, Some(rates), case);
        }
        for rate in &verdict.by_failures {
            let rates = EjectionRates { host: rate.success, cluster: None };
            changed |= self.outlier(&addresses[rate.index], by_share, Some(rates), case);
        }
        changed
    }
}

fn uneject(address: &Address, member: &mut Member, now: Time, events: &mut Vec<OutlierEvent>) {
    member.monitor.ejected.store(false, Ordering::Relaxed);
    member.monitor.counters.reset_all();
    member.unejected_at = Some(now);
    events.push(member.event(address, OutlierAction::Uneject, member.ejected_at, now));
}

fn jitter(most: Duration, rng: &mut Rng) -> Duration {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rng.below(most.saturating_add(1)))
}

fn enforcing(config: &OutlierDetection, why: Ejection) -> u32 {
    match why {
        Ejection::Consecutive5xx => config.consecutive_5xx.enforcing,
        Ejection::ConsecutiveGatewayFailure => config.consecutive_gateway_failure.enforcing,
        Ejection::ConsecutiveLocalOriginFailure => config.consecutive_local_origin_failure.enforcing,
        Ejection::SuccessRate => config.success_rate.enforcing,
        Ejection::SuccessRateLocalOrigin => config.success_rate.enforcing_local_origin,
        Ejection::FailurePercentage => config.failure_percentage.enforcing,
        Ejection::FailurePercentageLocalOrigin => config.failure_percentage.enforcing_local_origin,
    }
}

impl ClusterHealth {
    /// See [`Detector::consecutive`] and [`Detector::degrade`].
    pub(crate) fn found_by_traffic(
        &self,
        address: &Address,
        finding: Finding,
        at: (&OutlierDetection, Time),
        rng: &mut Rng,
        events: &mut Vec<OutlierEvent>,
    ) {
        let mut case = Case { config: at.0, now: at.1, rng, events };
        let mut detector = self.lock();
        let changed = match finding {
            Finding::Degraded => detector.degrade(address, &mut case),
            Finding::Outlier(why) => detector.consecutive(address, why, &mut case),
        };
        if changed {
            self.changed();
        }
    }

    /// Ends the interval if it is over; of all shards one does. Returns when the next one ends.
    pub(crate) fn sweep(
        &self,
        config: &OutlierDetection,
        now: Time,
        rng: &mut Rng,
        events: &mut Vec<OutlierEvent>,
    ) -> Time {
        let mut detector = self.lock();
        if detector.next_sweep <= now {
            // The first one only begins an interval.
            let begins = detector.next_sweep == Time::ZERO;
            detector.next_sweep = now + config.interval;
            if !begins && detector.sweep(&mut Case { config, now, rng, events }) {
                self.changed();
            }
        }
        detector.next_sweep
    }
}
