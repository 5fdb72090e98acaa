//! What the result of a check changes: statistics, the event log, the balancers of all shards, the next check.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use millrace_base::Key;
use millrace_config::{Address, ClusterId};
use millrace_observe::stats::cluster as metric;
use millrace_upstream::HostId;
use millrace_upstream::health_check::{
    CheckFlags, Failure, FailureKind, Outcome, Transition, Verdict, interval,
};

use super::log;
use crate::own_endpoints::owner;
use crate::shard::Shard;
use crate::shared::Message;

impl Shard {
    /// A check has a result.
    pub(super) fn check_is_over(&mut self, key: Key, verdict: Verdict, verified: bool) {
        let Some(probe) = self.health_checks.probes.get(key) else { return };
        let Some(checks) = self.health_checks.clusters.get(&probe.cluster) else { return };
        if verified {
            self.stats.inc(checks.cluster.scope, metric::HEALTH_CHECK_VERIFY_CLUSTER);
        }
        match verdict {
            Verdict::Passed { degraded, status } => self.check_passed(key, degraded, status),
            Verdict::Failed(failure) => self.check_failed(key, failure),
        }
    }

    fn check_passed(&mut self, key: Key, degraded: bool, status: u16) {
        let Some(probe) = self.health_checks.probes.get_mut(key) else { return };
        let Some(checks) = self.health_checks.clusters.get(&probe.cluster) else { return };
        let (shared, check, scope) = (checks.shared.clone(), checks.check.clone(), checks.cluster.scope);
        probe.session.answered(status);
        let outcome = probe.session.succeeded(degraded, &check, &shared.health);
        self.stats.inc(scope, metric::HEALTH_CHECK_SUCCESS);
        let transition = outcome.transition;
        self.take_outcome(key, &outcome);
        self.uneject_checked(key, &outcome);
        self.wait_for_next(key, true, transition);
    }

    pub(super) fn check_failed(&mut self, key: Key, failure: Failure) {
        if let Some(probe) = self.health_checks.probes.get(key) {
            probe.session.answered(failure.status);
        }
        let transition = self.count_failure(key, failure);
        self.wait_for_next(key, false, transition);
    }

    /// A failure changes what is known, whether or not a check is under way.
    fn count_failure(&mut self, key: Key, failure: Failure) -> Transition {
        let unknown = Transition::Unchanged;
        let Some(probe) = self.health_checks.probes.get_mut(key) else { return unknown };
        let Some(checks) = self.health_checks.clusters.get(&probe.cluster) else { return unknown };
        let (shared, check, scope) = (checks.shared.clone(), checks.check.clone(), checks.cluster.scope);
        let outcome = probe.session.failed(failure, &check, &shared.health);
        self.stats.inc(scope, metric::HEALTH_CHECK_FAILURE);
        if failure.kind.is_network() {
            self.stats.inc(scope, metric::HEALTH_CHECK_NETWORK_FAILURE);
        } else if failure.kind == FailureKind::Passive {
            self.stats.inc(scope, metric::HEALTH_CHECK_PASSIVE_FAILURE);
        }
        self.take_outcome(key, &outcome);
        outcome.transition
    }

    /// Statistics, the log, and whoever must hear of it.
    fn take_outcome(&mut self, key: Key, outcome: &Outcome) {
        let Some(probe) = self.health_checks.probes.get(key) else { return };
        let (id, leaving) = (probe.cluster, probe.endpoint.leaving);
        let Some(checks) = self.health_checks.clusters.get_mut(&id) else { return };
        checks.unchecked -= usize::from(outcome.first);
        let (scope, last) = (checks.cluster.scope, outcome.first && checks.unchecked == 0);
        let when = (self.io.now, self.wall);
        let place = (&probe.endpoint, &probe.locality);
        log::write(&mut self.logs, (&checks.check, &checks.cluster), place, &outcome.events, when);
        let change = |flag| (outcome.before.has(flag), outcome.after.has(flag));
        match change(CheckFlags::FAILED) {
            (true, false) => self.stats.gauge_inc(scope, metric::HEALTH_CHECK_HEALTHY),
            (false, true) => self.stats.gauge_dec(scope, metric::HEALTH_CHECK_HEALTHY),
            _ => {}
        }
        match change(CheckFlags::DEGRADED) {
            (false, true) => self.stats.gauge_inc(scope, metric::HEALTH_CHECK_DEGRADED),
            (true, false) => self.stats.gauge_dec(scope, metric::HEALTH_CHECK_DEGRADED),
            _ => {}
        }
        let failed = change(CheckFlags::FAILED) == (false, true);
        if last || (failed && leaving) {
            self.shared.tell_control(id);
        }
        if failed {
            self.tell_shards(id);
        }
    }

    /// All shards leave the endpoints of a cluster that have failed. This one, too, does so when it takes its messages:
    /// whoever found it out may be in the middle of an exchange with the endpoint.
    pub(crate) fn tell_shards(&self, id: ClusterId) {
        for door in self.shared.doors() {
            // With a full mailbox the shard will see it when it looks after its connections.
            let _ = door.send(Message::HealthChanged(id));
        }
    }

    /// Closes what leads to endpoints that have failed, on this shard.
    pub(crate) fn leave_failed(&mut self, id: ClusterId) {
        if let Some(state) = self.clusters.get_mut(id) {
            state.leave_failed(&mut self.actions);
            self.run_pool_actions(id);
        }
    }

    /// `successful_active_health_check_uneject_host`.
    fn uneject_checked(&mut self, key: Key, outcome: &Outcome) {
        let Some(probe) = self.health_checks.probes.get(key) else { return };
        if outcome.after.has(CheckFlags::FAILED) || !probe.session.is_ejected() {
            return;
        }
        let Some(checks) = self.health_checks.clusters.get(&probe.cluster) else { return };
        if !checks.cluster.outlier_detection.as_ref().is_some_and(|by| by.uneject_on_success) {
            return;
        }
        let (scope, name) = (checks.cluster.scope, Arc::clone(&checks.cluster.name));
        let mut events = Vec::new();
        checks.shared.health.uneject(&probe.endpoint.address, self.io.now, &mut events);
        self.count_outlier_events(scope, &name, events);
    }

    /// The next check comes after the interval that the result asks for.
    fn wait_for_next(&mut self, key: Key, passed: bool, transition: Transition) {
        let Some(probe) = self.health_checks.probes.get_mut(key) else { return };
        let Some(checks) = self.health_checks.clusters.get(&probe.cluster) else { return };
        probe.in_flight = false;
        let has_traffic = checks.shared.has_traffic.load(Ordering::Relaxed);
        let wait = interval(&checks.check, passed, transition, has_traffic, &mut self.rng);
        self.arm_probe(key, self.io.now + wait);
    }

    /// An answer to this stream's request told that its endpoint shall get nothing more.
    #[cold]
    pub(crate) fn exclude_host_of(&mut self, stream: Key) {
        let Some(facts) = self.streams.get(stream).map(|stream| &stream.facts) else { return };
        if let (Some(cluster), Some(host)) = (facts.plan.and_then(|plan| plan.cluster), facts.host) {
            self.exclude_host(cluster, host);
        }
    }

    fn exclude_host(&mut self, id: ClusterId, host: HostId) {
        let Some(state) = self.clusters.get_mut(id) else { return };
        if !state.exclude(host) {
            return;
        }
        let Some(address) = state.host(host).map(|host| host.address.clone()) else { return };
        let by = owner(&address, self.shared.doors().len());
        if by == self.index {
            self.fail_check(id, &address);
        } else if let Some(door) = self.shared.doors().get(by) {
            // With a full mailbox the endpoint stays excluded, and its next check decides.
            let _ = door.send(Message::FailHealthCheck(id, address));
        }
    }

    /// The endpoint fails by what traffic told.
    pub(crate) fn fail_check(&mut self, id: ClusterId, address: &Address) {
        let Some(checks) = self.health_checks.clusters.get(&id) else { return };
        if let Some(key) = checks.probes.get(address).copied() {
            self.count_failure(key, Failure::of(FailureKind::Passive));
        }
    }
}
