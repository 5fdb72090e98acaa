//! Streams of load reports on a shard (`enable_oob_load_report`): which endpoints it asks, and when it asks them again.
//!
//! Every endpoint of a cluster that wants it is asked by one shard, which its address decides about; the balancers of all
//! shards read what it says in the cluster's book. [`connection`] is what is said to one; the words are those of
//! `millrace_upstream::LoadStream`.

mod connection;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Key, Slab};
use millrace_config::{Cluster, ClusterId, Endpoint, EndpointChanges, LoadStream};
use millrace_observe::stats::cluster as metric;
use millrace_ring::timer::TimerId;
use millrace_upstream::{ClusterShared, Received, StreamEnd};

use self::connection::Talk;
use crate::own_endpoints::{gone, owner};
use crate::shard::Shard;
use crate::token::Kind;

/// The most that is waited before an endpoint is asked again: a random part of this, which doubles with each failure.
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// A stream that has said nothing for so many periods is given up.
const SILENT_PERIODS: u32 = 3;

/// All streams of a shard.
#[derive(Debug, Default)]
pub(crate) struct LoadReports {
    clusters: BTreeMap<ClusterId, Asked>,
    sessions: Slab<Box<Session>>,
    /// How often endpoints were compared with the configuration.
    rounds: u64,
}

/// One cluster.
#[derive(Debug)]
struct Asked {
    cluster: Arc<Cluster>,
    stream: Arc<LoadStream>,
    shared: Arc<ClusterShared>,
    /// By where the endpoint serves.
    sessions: BTreeMap<millrace_config::Address, Key>,
}

/// One endpoint.
#[derive(Debug)]
struct Session {
    cluster: ClusterId,
    endpoint: Endpoint,
    /// The next attempt or, with a connection, the end of its time to say something.
    timer: Option<TimerId>,
    talk: Option<Box<Talk>>,
    back_off: Duration,
    /// It has no load reports: it is asked no more.
    terminated: bool,
    /// When endpoints were last compared with the configuration, and it was there.
    seen: u64,
}

impl LoadReports {
    /// True when nobody is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Timers that may be armed, for tests.
    pub(crate) fn timers(&self) -> usize {
        self.sessions.iter().filter(|(_, session)| session.timer.is_some()).count()
    }

    /// Connections, for tests.
    pub(crate) fn connections(&self) -> usize {
        self.sessions.iter().filter(|(_, session)| session.talk.is_some()).count()
    }
}

impl Shard {
    /// Begins and ends streams as this version of a cluster wants it.
    pub(crate) fn sync_load_reports(&mut self, cluster: &Arc<Cluster>, changes: Option<&EndpointChanges>) {
        let id = cluster.id;
        let Some(stream) = &cluster.balancing.load_stream else { return self.end_load_reports(id) };
        if self.load_reports.clusters.get(&id).is_some_and(|asked| asked.stream != *stream) {
            self.end_load_reports(id);
        }
        let shared = &self.shared;
        let asked = self.load_reports.clusters.entry(id).or_insert_with(|| Asked {
            cluster: Arc::clone(cluster),
            stream: Arc::clone(stream),
            shared: shared.cluster(id),
            sessions: BTreeMap::new(),
        });
        let fresh = asked.sessions.is_empty();
        let known = changes.filter(|changes| !fresh && Arc::ptr_eq(&changes.since, &asked.cluster));
        asked.cluster = Arc::clone(cluster);
        self.load_reports.rounds += 1;
        let round = self.load_reports.rounds;
        let come = known.map(|changes| changes.added(cluster));
        let shards = self.shared.doors().len();
        for locality in come.as_ref().unwrap_or(&cluster.localities).iter() {
            for endpoint in &locality.endpoints {
                if owner(&endpoint.address, shards) == self.index {
                    self.sync_load_session(id, endpoint, round);
                }
            }
        }
        self.end_load_sessions_of_before(id, round, known);
    }

    /// Ends the streams of endpoints that this round has not seen.
    fn end_load_sessions_of_before(&mut self, id: ClusterId, round: u64, known: Option<&EndpointChanges>) {
        let sessions = &self.load_reports.sessions;
        let Some(asked) = self.load_reports.clusters.get(&id) else { return };
        let is_seen = |key: Key| sessions.get(key).is_some_and(|session| session.seen == round);
        let gone = gone(&asked.sessions, known, is_seen);
        gone.into_iter().for_each(|key| self.end_load_session(key));
    }

    /// One endpoint that this shard asks. The first time is a random part of the period away.
    fn sync_load_session(&mut self, id: ClusterId, endpoint: &Endpoint, round: u64) {
        let Some(asked) = self.load_reports.clusters.get_mut(&id) else { return };
        if let Some(key) = asked.sessions.get(&endpoint.address) {
            if let Some(session) = self.load_reports.sessions.get_mut(*key) {
                session.endpoint.clone_from(endpoint);
                session.seen = round;
            }
            return;
        }
        let (scope, period) = (asked.cluster.scope, asked.stream.period);
        let key = self.load_reports.sessions.insert(Box::new(Session {
            cluster: id,
            endpoint: endpoint.clone(),
            timer: None,
            talk: None,
            back_off: BACK_OFF,
            terminated: false,
            seen: round,
        }));
        asked.sessions.insert(endpoint.address.clone(), key);
        self.stats.gauge_inc(scope, metric::LB_ORCA_OOB_ACTIVE_SESSIONS);
        self.arm_load_session_within(key, period);
    }

    fn arm_load_session_within(&mut self, key: Key, most: Duration) {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        let wait = Duration::from_millis(self.rng.below(most.max(1)));
        self.arm_load_session(key, wait);
    }

    fn arm_load_session(&mut self, key: Key, wait: Duration) {
        let at = self.io.now + wait;
        let Some(session) = self.load_reports.sessions.get_mut(key) else { return };
        match session.timer {
            Some(timer) => {
                self.wheel.reset(timer, at);
            }
            None => session.timer = Some(self.wheel.insert(at, Kind::LoadReportTimer.token(key).0)),
        }
    }

    /// An endpoint is asked, or has not said anything for too long.
    pub(crate) fn load_report_timer(&mut self, key: Key) {
        let Some(session) = self.load_reports.sessions.get_mut(key) else { return };
        session.timer = None;
        match session.talk {
            Some(_) => self.load_stream_failed(key),
            None => self.open_load_stream(key),
        }
    }

    /// Waits for the next report.
    fn await_load_report(&mut self, key: Key) {
        let Some(session) = self.load_reports.sessions.get(key) else { return };
        let Some(asked) = self.load_reports.clusters.get(&session.cluster) else { return };
        let wait = asked.stream.period.saturating_mul(SILENT_PERIODS);
        self.arm_load_session(key, wait);
    }

    /// Counts what came, and tells balancers.
    fn take_load_reports(&mut self, key: Key, received: Received) {
        let Some(session) = self.load_reports.sessions.get_mut(key) else { return };
        let Some(asked) = self.load_reports.clusters.get(&session.cluster) else { return };
        if received.reports > 0 {
            session.back_off = BACK_OFF;
            let scope = asked.cluster.scope;
            self.stats.add(scope, metric::LB_ORCA_OOB_REPORTS_RECEIVED, u64::from(received.reports));
            self.stats.add(scope, metric::LB_ORCA_OOB_REPORT_ERRORS, u64::from(received.errors));
            if let Some(weight) = received.weight {
                let book = &asked.shared.load_book;
                book.report(&session.endpoint.address, weight, &asked.cluster, self.io.now);
            }
            self.await_load_report(key);
        }
        match received.end {
            Some(StreamEnd::Failed) => self.load_stream_failed(key),
            Some(StreamEnd::Unimplemented) => self.load_stream_terminated(key),
            None => {}
        }
    }

    /// The stream is over: another one comes after a while.
    fn load_stream_failed(&mut self, key: Key) {
        let Some(session) = self.load_reports.sessions.get_mut(key) else { return };
        let back_off = session.back_off;
        session.back_off = (back_off * 2).min(BACK_OFF_MAX);
        if let Some(asked) = self.load_reports.clusters.get(&session.cluster) {
            self.stats.inc(asked.cluster.scope, metric::LB_ORCA_OOB_STREAM_FAILURES);
        }
        self.close_load_stream(key);
        self.arm_load_session_within(key, back_off);
    }

    /// The endpoint does not know what it is asked for.
    fn load_stream_terminated(&mut self, key: Key) {
        let Some(session) = self.load_reports.sessions.get_mut(key) else { return };
        session.terminated = true;
        if let Some(asked) = self.load_reports.clusters.get(&session.cluster) {
            self.stats.inc(asked.cluster.scope, metric::LB_ORCA_OOB_STREAM_TERMINATED);
            self.stats.gauge_dec(asked.cluster.scope, metric::LB_ORCA_OOB_ACTIVE_SESSIONS);
        }
        self.leave_load_stream(key);
    }

    /// No timer, and no connection.
    fn leave_load_stream(&mut self, key: Key) {
        let Some(session) = self.load_reports.sessions.get_mut(key) else { return };
        if let Some(timer) = session.timer.take() {
            self.wheel.cancel(timer);
        }
        self.close_load_stream(key);
    }

    /// The endpoint is gone.
    fn end_load_session(&mut self, key: Key) {
        self.leave_load_stream(key);
        let Some(session) = self.load_reports.sessions.remove(key) else { return };
        let Some(asked) = self.load_reports.clusters.get_mut(&session.cluster) else { return };
        asked.sessions.remove(&session.endpoint.address);
        asked.shared.load_book.forget(&session.endpoint.address);
        if !session.terminated {
            self.stats.gauge_dec(asked.cluster.scope, metric::LB_ORCA_OOB_ACTIVE_SESSIONS);
        }
    }

    /// The cluster is gone, or does not ask any more.
    pub(crate) fn end_load_reports(&mut self, id: ClusterId) {
        let Some(asked) = self.load_reports.clusters.get(&id) else { return };
        let keys: Vec<Key> = asked.sessions.values().copied().collect();
        keys.into_iter().for_each(|key| self.end_load_session(key));
        self.load_reports.clusters.remove(&id);
        self.shared.forget_cluster(id);
    }

    /// The shard ends.
    pub(crate) fn stop_load_reports(&mut self) {
        let ids: Vec<ClusterId> = self.load_reports.clusters.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end_load_reports(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_small_as_docs_limits_says() {
        assert!(size_of::<Session>() <= 256, "{}", size_of::<Session>());
        assert!(size_of::<Talk>() <= 1280, "{}", size_of::<Talk>());
    }
}
