//! Active health checks on a shard: which endpoints it checks, when, and what follows from the results.
//!
//! Every endpoint of a cluster with `health_checks` is checked by one shard, which its address decides about; all shards
//! see the result in the cluster's shared health. [`connection`] is what is said to an endpoint, [`outcome`] what a result does.
//! The rules and the conversations are those of `millrace_upstream::health_check`.

mod connection;
mod log;
mod members;
mod outcome;
mod request;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Key, Slab, Time};
use millrace_config::{Address, Cluster, ClusterId, Endpoint, EndpointChanges, HealthCheck, LocalityName};
use millrace_observe::stats::cluster as metric;
use millrace_ring::timer::TimerId;
use millrace_upstream::ClusterShared;
use millrace_upstream::health_check::{CheckFlags, Failure, FailureKind, Session};

use self::connection::Talk;
pub use self::members::Members;
pub(crate) use self::members::View;
use crate::own_endpoints::{gone, owner};
use crate::shard::Shard;
use crate::token::Kind;

/// Checks that begin within [`PACE`], or a share of those that are due: ten thousand that are due at once must not burst,
/// and must have begun within a second.
const CHECKS_PER_PACE: usize = 24;
const SHARE_PER_PACE: usize = 128;
const PACE: Duration = Duration::from_millis(2);

/// All checks of a shard.
#[derive(Debug, Default)]
pub(crate) struct HealthChecks {
    clusters: BTreeMap<ClusterId, Checks>,
    probes: Slab<Box<Probe>>,
    /// Checks that are due and have not begun.
    due: VecDeque<Key>,
    /// A timer will look at them.
    paced: bool,
    /// Until then so many may begin.
    pace_ends: Time,
    room: usize,
    /// How often endpoints were compared with the configuration.
    rounds: u64,
}

/// The checks of one cluster.
#[derive(Debug)]
struct Checks {
    cluster: Arc<Cluster>,
    check: Arc<HealthCheck>,
    shared: Arc<ClusterShared>,
    /// By where the endpoint serves.
    probes: BTreeMap<Address, Key>,
    /// Of these, those without a result.
    unchecked: usize,
}

/// One endpoint under check.
#[derive(Debug)]
struct Probe {
    cluster: ClusterId,
    endpoint: Endpoint,
    locality: LocalityName,
    session: Session,
    /// The end of the interval or, while a check is under way, of its time.
    timer: Option<TimerId>,
    in_flight: bool,
    /// It is among those that are due.
    queued: bool,
    /// The connection, if there is one or about to be.
    talk: Option<Talk>,
    /// When endpoints were last compared with the configuration, and it was there.
    seen: u64,
}

impl HealthChecks {
    /// True when nothing is checked.
    pub(crate) fn is_empty(&self) -> bool {
        self.probes.is_empty()
    }

    /// Timers that may be armed, for tests.
    pub(crate) fn timers(&self) -> usize {
        self.probes.iter().filter(|(_, probe)| probe.timer.is_some()).count() + usize::from(self.paced)
    }

    /// Connections, for tests.
    pub(crate) fn connections(&self) -> usize {
        self.probes.iter().filter(|(_, probe)| probe.talk.is_some()).count()
    }
}

impl Shard {
    /// Begins, changes and ends checks as this version of a cluster wants it; it serves, or warms until the checks have
    /// had results.
    pub(crate) fn sync_checks(&mut self, cluster: &Arc<Cluster>, changes: Option<&EndpointChanges>) {
        let id = cluster.id;
        let Some(check) = &cluster.health_check else { return self.end_checks(id) };
        let shared = &self.shared;
        let checks = self.health_checks.clusters.entry(id).or_insert_with(|| Checks {
            cluster: Arc::clone(cluster),
            check: Arc::clone(check),
            shared: shared.cluster(id),
            probes: BTreeMap::new(),
            unchecked: 0,
        });
        let others = checks.check.fingerprint != check.fingerprint;
        let known = changes.filter(|changes| !others && Arc::ptr_eq(&changes.since, &checks.cluster));
        checks.cluster = Arc::clone(cluster);
        checks.check = Arc::clone(check);
        if others {
            self.restart_checks(id);
        }
        self.health_checks.rounds += 1;
        let round = self.health_checks.rounds;
        let come = known.map(|changes| changes.added(cluster));
        let shards = self.shared.doors().len();
        for (added, locality) in come.as_ref().unwrap_or(&cluster.localities).iter().zip(&cluster.localities)
        {
            for endpoint in added.endpoints.iter().filter(|endpoint| endpoint.is_checked()) {
                if owner(&endpoint.address, shards) == self.index {
                    self.sync_probe(id, endpoint, &locality.locality, round);
                }
            }
        }
        self.end_probes_of_before(id, round, known);
        self.tell_when_checked(id);
    }

    /// Ends the checks of endpoints that this round has not seen.
    fn end_probes_of_before(&mut self, id: ClusterId, round: u64, known: Option<&EndpointChanges>) {
        let probes = &self.health_checks.probes;
        let Some(checks) = self.health_checks.clusters.get(&id) else { return };
        let is_seen = |key: Key| probes.get(key).is_some_and(|probe| probe.seen == round);
        let gone = gone(&checks.probes, known, is_seen);
        gone.into_iter().for_each(|key| self.end_probe(key));
    }

    /// One endpoint that this shard checks.
    fn sync_probe(&mut self, id: ClusterId, endpoint: &Endpoint, locality: &LocalityName, round: u64) {
        let Some(checks) = self.health_checks.clusters.get_mut(&id) else { return };
        if let Some(key) = checks.probes.get(&endpoint.address).copied() {
            let Some(probe) = self.health_checks.probes.get_mut(key) else { return };
            let moved = probe.endpoint.check_address() != endpoint.check_address();
            probe.endpoint.clone_from(endpoint);
            probe.locality.clone_from(locality);
            probe.seen = round;
            if moved {
                self.abandon_check(key);
                self.wait_for_first(key);
            }
            return;
        }
        let session = Session::begin(&checks.shared.health, &checks.cluster, &endpoint.address);
        let scope = checks.cluster.scope;
        let flags = session.flags();
        let key = self.health_checks.probes.insert(Box::new(Probe {
            cluster: id,
            endpoint: endpoint.clone(),
            locality: locality.clone(),
            session,
            timer: None,
            in_flight: false,
            queued: false,
            talk: None,
            seen: round,
        }));
        checks.probes.insert(endpoint.address.clone(), key);
        checks.unchecked += 1;
        if !flags.has(CheckFlags::FAILED) {
            self.stats.gauge_inc(scope, metric::HEALTH_CHECK_HEALTHY);
        }
        if flags.has(CheckFlags::DEGRADED) {
            self.stats.gauge_inc(scope, metric::HEALTH_CHECK_DEGRADED);
        }
        self.wait_for_first(key);
    }

    /// The configuration of a cluster's checks is another one: what was found out stays until it is found out anew.
    fn restart_checks(&mut self, id: ClusterId) {
        let Some(checks) = self.health_checks.clusters.get_mut(&id) else { return };
        checks.unchecked = checks.probes.len();
        let keys: Vec<Key> = checks.probes.values().copied().collect();
        for key in keys {
            if let Some(probe) = self.health_checks.probes.get_mut(key) {
                probe.session.restart();
            }
            self.abandon_check(key);
            self.wait_for_first(key);
        }
    }

    /// The first check begins at once, or within `initial_jitter`.
    fn wait_for_first(&mut self, key: Key) {
        let Some(probe) = self.health_checks.probes.get(key) else { return };
        let Some(checks) = self.health_checks.clusters.get(&probe.cluster) else { return };
        let jitter = u64::try_from(checks.check.intervals.initial_jitter.as_millis()).unwrap_or(u64::MAX);
        let wait = if jitter > 0 { self.rng.below(jitter).max(1) } else { 0 };
        self.arm_probe(key, self.io.now + Duration::from_millis(wait));
    }

    fn arm_probe(&mut self, key: Key, at: Time) {
        let Some(probe) = self.health_checks.probes.get_mut(key) else { return };
        match probe.timer {
            Some(timer) => {
                self.wheel.reset(timer, at);
            }
            None => probe.timer = Some(self.wheel.insert(at, Kind::HealthCheckTimer.token(key).0)),
        }
    }

    /// The interval is over, or the time of the check.
    pub(crate) fn health_check_timer(&mut self, key: Key) {
        let Some(probe) = self.health_checks.probes.get_mut(key) else { return };
        probe.timer = None;
        if probe.in_flight {
            return self.health_check_late(key);
        }
        if !std::mem::replace(&mut probe.queued, true) {
            self.health_checks.due.push_back(key);
        }
        if !self.health_checks.paced {
            self.begin_due_checks();
        }
    }

    /// The time is over within which others began.
    pub(crate) fn next_pace(&mut self) {
        self.health_checks.paced = false;
        self.begin_due_checks();
    }

    /// Begins checks that are due, not too many at once.
    fn begin_due_checks(&mut self) {
        let now = self.io.now;
        let checks = &mut self.health_checks;
        if now >= checks.pace_ends {
            checks.pace_ends = now + PACE;
            checks.room = CHECKS_PER_PACE.max(checks.due.len() / SHARE_PER_PACE);
        }
        while self.health_checks.room > 0 {
            let Some(key) = self.health_checks.due.pop_front() else { return };
            self.health_checks.room -= 1;
            self.begin_check(key);
        }
        if !self.health_checks.due.is_empty() {
            self.health_checks.paced = true;
            let token = Kind::HealthCheckPace.token(Key { slot: 0, generation: 0 });
            self.wheel.insert(self.health_checks.pace_ends, token.0);
        }
    }

    fn begin_check(&mut self, key: Key) {
        let Some(probe) = self.health_checks.probes.get_mut(key) else { return };
        probe.queued = false;
        if probe.in_flight || probe.timer.is_some() {
            return;
        }
        let Some(checks) = self.health_checks.clusters.get(&probe.cluster) else { return };
        let (scope, late) = (checks.cluster.scope, self.io.now + checks.check.timeout);
        probe.in_flight = true;
        let connected = probe.talk.is_some();
        self.stats.inc(scope, metric::HEALTH_CHECK_ATTEMPT);
        self.arm_probe(key, late);
        if connected { self.converse(key) } else { self.open_check(key) }
    }

    /// No answer came in time.
    fn health_check_late(&mut self, key: Key) {
        self.give_up_check(key);
        self.check_failed(key, Failure::of(FailureKind::NetworkTimeout));
    }

    /// A check that is under way, or a connection that waits for the next, is of no interest any more.
    fn abandon_check(&mut self, key: Key) {
        let Some(probe) = self.health_checks.probes.get_mut(key) else { return };
        probe.in_flight = false;
        if let Some(timer) = probe.timer.take() {
            self.wheel.cancel(timer);
        }
        self.close_check(key);
    }

    /// The endpoint is checked no more, or by somebody else.
    fn end_probe(&mut self, key: Key) {
        self.abandon_check(key);
        let Some(probe) = self.health_checks.probes.remove(key) else { return };
        let Some(checks) = self.health_checks.clusters.get_mut(&probe.cluster) else { return };
        checks.probes.remove(&probe.endpoint.address);
        checks.unchecked -= usize::from(probe.session.is_first());
        let (id, scope, flags) = (probe.cluster, checks.cluster.scope, probe.session.flags());
        let (shared, name) = (Arc::clone(&checks.shared), Arc::clone(&checks.cluster.name));
        if !flags.has(CheckFlags::FAILED) {
            self.stats.gauge_dec(scope, metric::HEALTH_CHECK_HEALTHY);
        }
        if flags.has(CheckFlags::DEGRADED) {
            self.stats.gauge_dec(scope, metric::HEALTH_CHECK_DEGRADED);
        }
        let mut events = Vec::new();
        probe.session.end(&shared.health, &probe.endpoint.address, &mut events);
        self.count_outlier_events(scope, &name, events);
        self.tell_when_checked(id);
    }

    /// The cluster is gone, or is checked no more.
    pub(crate) fn end_checks(&mut self, id: ClusterId) {
        let Some(checks) = self.health_checks.clusters.get(&id) else { return };
        let keys: Vec<Key> = checks.probes.values().copied().collect();
        keys.into_iter().for_each(|key| self.end_probe(key));
        self.health_checks.clusters.remove(&id);
        self.shared.forget_cluster(id);
    }

    /// The shard ends.
    pub(crate) fn stop_checks(&mut self) {
        let ids: Vec<ClusterId> = self.health_checks.clusters.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end_checks(id));
        self.health_checks.due.clear();
    }

    /// The control thread hears when all checks of this shard have had results: the cluster may be warm.
    fn tell_when_checked(&mut self, id: ClusterId) {
        if self.health_checks.clusters.get(&id).is_some_and(|checks| checks.unchecked == 0) {
            self.shared.tell_control(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_small_as_docs_limits_says() {
        assert!(size_of::<Probe>() <= 320, "{}", size_of::<Probe>());
    }
}
