//! How a cluster on one shard follows the health that all shards share: results in, and what outlier detection and
//! active checks say of an endpoint noticed before the next choice.

use std::sync::atomic::Ordering;

use millrace_base::Time;
use millrace_config::Cluster;

use crate::health_check::initial_flags;
use crate::outlier::Watch;
use crate::pool::{CloseReason, PoolAction};
use crate::{ClusterShared, ClusterState, Host, HostHealth, HostId, OutlierEvent, TryResult};

/// What a shard keeps for it.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// The version of the shared health that the balancer's tables follow.
    seen: u64,
    /// When the shard looks at the interval next; `None` without outlier detection.
    next_look: Option<Time>,
    events: Vec<OutlierEvent>,
    /// Endpoints that have failed since the last call of [`ClusterState::leave_failed`].
    failed: Vec<HostId>,
    /// The health of some has changed since then.
    changed: bool,
}

/// True when endpoints of this cluster are watched.
pub(crate) fn is_watched(config: &Cluster) -> bool {
    config.outlier_detection.is_some() || config.health_check.is_some()
}

impl Watched {
    /// A new endpoint is watched, if the cluster's are; one that other shards have ejected is out at once.
    pub fn join(&mut self, host: &mut Host, config: &Cluster, shared: &ClusterShared) {
        if is_watched(config) {
            let (monitor, _) = shared.health.join(&host.address, initial_flags(config, host.is_checked));
            host.watch = Some(Box::new(Watch::new(monitor)));
            host.settle_health();
        }
    }
}

impl ClusterState {
    /// True when [`Self::report`] or [`Self::time_try`] wants to hear of tries.
    #[inline]
    pub fn hears_tries(&self) -> bool {
        self.config.outlier_detection.is_some() || self.times_tries()
    }

    /// Counts what a try told about its endpoint. True when [`Self::take_outlier_events`] has something.
    #[inline]
    #[must_use]
    pub fn report(&mut self, host: HostId, result: TryResult, now: Time) -> bool {
        let Some(config) = &self.config.outlier_detection else { return false };
        let Some(host) = self.hosts.get_mut(host.0) else { return false };
        let Some(watch) = &mut host.watch else { return false };
        let findings = watch.take(result, config);
        if findings == [None; 2] {
            return false;
        }
        for finding in findings.into_iter().flatten() {
            let (rng, events) = (&mut self.rng, &mut self.watched.events);
            self.budgets.health.found_by_traffic(&host.address, finding, (config, now), rng, events);
        }
        !self.watched.events.is_empty()
    }

    /// What outlier detection did since the last call.
    pub fn take_outlier_events(&mut self) -> Vec<OutlierEvent> {
        std::mem::take(&mut self.watched.events)
    }

    /// When [`Self::look_at_outliers`] wants to be called; `None` without outlier detection.
    pub fn next_outlier_look(&self) -> Option<Time> {
        self.config.outlier_detection.as_ref()?;
        Some(self.watched.next_look.unwrap_or(Time::ZERO))
    }

    /// Looks whether an interval is over. True as for [`Self::report`].
    #[must_use]
    pub fn look_at_outliers(&mut self, now: Time) -> bool {
        let Some(config) = &self.config.outlier_detection else { return false };
        for (_, host) in self.hosts.iter_mut() {
            if let Some(watch) = &mut host.watch {
                watch.flush();
            }
        }
        let (rng, events) = (&mut self.rng, &mut self.watched.events);
        // Never further away than one interval, whatever it was when the last one began.
        let next = self.budgets.health.sweep(config, now, rng, events).min(now + config.interval);
        self.watched.next_look = Some(next);
        !self.watched.events.is_empty()
    }

    /// Follows what was found out on any shard since the last choice.
    #[inline]
    pub(crate) fn notice_health(&mut self) {
        // Of a cluster that nobody watches the version stays what it is.
        if self.budgets.health.version() != self.watched.seen {
            self.follow_health();
        }
    }

    #[cold]
    fn follow_health(&mut self) {
        self.watched.seen = self.budgets.health.version();
        let mut changed = false;
        for (key, host) in self.hosts.iter_mut().filter(|(_, host)| host.present) {
            let was = host.health;
            changed |= host.settle_health();
            if was != HostHealth::Unhealthy && host.health == HostHealth::Unhealthy {
                self.watched.failed.push(HostId(key));
            }
        }
        if changed {
            self.balancer.invalidate();
            self.watched.changed = true;
        }
    }

    /// Leaves the endpoints that have failed: their connections are closed, or else those that are idle, and the others
    /// when their last request ends (`close_connections_on_host_health_failure`).
    pub fn leave_failed(&mut self, out: &mut Vec<PoolAction>) {
        self.notice_health();
        for id in std::mem::take(&mut self.watched.failed) {
            if self.config.close_on_health_failure {
                self.close_all(id, CloseReason::HostUnhealthy, out);
            } else {
                self.drain_host(id, out);
            }
        }
        if std::mem::take(&mut self.watched.changed) && self.config.close_on_host_set_change {
            self.drain(out);
        }
    }

    /// A connection for traffic was opened: checks of the cluster keep to their intervals from now on.
    pub fn has_traffic(&self) {
        if !self.budgets.has_traffic.load(Ordering::Relaxed) {
            self.budgets.has_traffic.store(true, Ordering::Relaxed);
        }
    }

    /// An answer told that its endpoint shall get nothing more (`x-envoy-immediate-health-check-fail`). True when that is
    /// news, and whoever checks the endpoint must hear of it.
    #[must_use]
    pub fn exclude(&mut self, host: HostId) -> bool {
        let Some(host) = self.hosts.get(host.0).filter(|host| host.is_checked) else { return false };
        host.watch.as_ref().is_some_and(|watch| self.budgets.health.exclude(&watch.monitor))
    }

    /// Outlier detection, or active checks, were turned on or off.
    pub(crate) fn watch_all(&mut self) {
        let config = self.config.clone();
        let ids: Vec<HostId> = self.hosts().map(|(id, _)| id).collect();
        for id in ids {
            self.unwatch(id);
            if let Some(host) = self.hosts.get_mut(id.0) {
                self.watched.join(host, &config, &self.budgets);
                host.settle_health();
            }
        }
        self.balancer.invalidate();
    }

    /// The shard's part in an endpoint ends.
    pub(crate) fn unwatch(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(id.0) else { return };
        if host.watch.take().is_some() {
            self.budgets.health.leave(&host.address, &mut self.watched.events);
        }
    }

    /// The shard forgets the cluster: others must not count its endpoints as watched by it.
    pub fn leave_health(&mut self) {
        let ids: Vec<HostId> = self.hosts().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.unwatch(id));
    }

    /// Endpoints of this shard that get no requests since they are outliers.
    pub fn ejected_hosts(&self) -> usize {
        let out = |host: &Host| host.watch.as_ref().is_some_and(|watch| watch.monitor.is_ejected());
        self.hosts().filter(|(_, host)| out(host)).count()
    }
}
