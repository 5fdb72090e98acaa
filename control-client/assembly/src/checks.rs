//! Active health checks: clusters warm until their endpoints have had a first check, and endpoints that pass stay when
//! discovery drops them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use millrace_config::{
    Address, AddressSet, Cluster, ClusterDiscovery, ClusterId, Endpoint, HealthStatus, LocalityEndpoints,
};
use millrace_observe::stats::cluster_manager;

use crate::action::Host;
use crate::cluster_book::ClusterVersion;
use crate::replaced::Replaced;
use crate::start::Wait;
use crate::{Assembly, Turn};

impl Assembly {
    /// The shards have told that checks of a cluster have had results.
    pub fn health_changed(&mut self, turn: &mut Turn<'_>, id: ClusterId) {
        let Some(name) = self.clusters.checked_name(id) else { return };
        let Some(entry) = self.clusters.entries.get(&name) else { return };
        let warming = entry.warming.as_ref().filter(|_| entry.waits_for_checks);
        if warming.is_some_and(|version| turn.host.is_checked(&version.cluster)) {
            if let Some(version) = self.clusters.stop_warming(&name) {
                self.activate_cluster(turn, &name, version);
            }
        } else if self.startup.is_waiting(&Wait::Cluster(name.clone())) {
            self.settle_checked(turn, &name);
        }
        self.drop_leaving(turn, &name);
        self.end_turn(turn);
    }

    /// Gives a version back that may serve; one whose endpoints have not been checked warms instead.
    pub(crate) fn checked_version(
        &mut self,
        turn: &Turn<'_>,
        name: &Arc<str>,
        version: ClusterVersion,
    ) -> Option<ClusterVersion> {
        if version.cluster.health_check.is_none() {
            return Some(version);
        }
        self.clusters.checks(&version.cluster);
        if turn.host.is_checked(&version.cluster) {
            return Some(version);
        }
        self.next.warming.push(version.cluster.clone());
        self.clusters.start_warming(name, version, None);
        if let Some(entry) = self.clusters.entries.get_mut(name) {
            entry.waits_for_checks = true;
        }
        None
    }

    /// Shards check what they heard of last: of a cluster that warms that is the warming version, whatever changed in the
    /// one that serves.
    pub(crate) fn warm_last(&mut self) {
        let warming = |(id, _): &(ClusterId, Option<Arc<Cluster>>)| {
            let entry = self.clusters.entries.get(&self.clusters.checked_name(*id)?)?;
            let version = entry.warming.as_ref().filter(|_| entry.waits_for_checks)?;
            Some(version.cluster.clone())
        };
        let mut last: Vec<Arc<Cluster>> = self.next.clusters.iter().filter_map(warming).collect();
        self.next.warming.append(&mut last);
    }

    /// Start-up waits for the checks of a cluster of the bootstrap.
    pub(crate) fn await_checks(&mut self, turn: &Turn<'_>, cluster: &Cluster) {
        if cluster.health_check.is_none() {
            return;
        }
        self.clusters.checks(cluster);
        // Endpoints that are still to come are waited for with them.
        if matches!(cluster.discovery, ClusterDiscovery::Static) && !turn.host.is_checked(cluster) {
            self.startup.wait(Wait::Cluster(cluster.name.clone()));
        }
    }

    /// The names of a cluster of the bootstrap were resolved for the first time.
    pub(crate) fn resolved_first(&mut self, turn: &Turn<'_>, name: &Arc<str>) {
        if let Some(entry) = self.clusters.entries.get_mut(name) {
            entry.is_resolved = true;
        }
        self.settle_checked(turn, name);
    }

    /// Start-up waits no more for a cluster that serves and whose endpoints have been checked.
    fn settle_checked(&mut self, turn: &Turn<'_>, name: &Arc<str>) {
        let Some(entry) = self.clusters.entries.get(name) else { return };
        let serves = entry.active.as_ref().filter(|_| entry.warming.is_none() && entry.is_resolved);
        if serves.is_some_and(|version| turn.host.is_checked(&version.cluster)) {
            self.settled(name);
        }
    }

    /// Endpoints that only stayed because they passed go once they fail.
    fn drop_leaving(&mut self, turn: &mut Turn<'_>, name: &Arc<str>) {
        let Some(entry) = self.clusters.entries.get_mut(name) else { return };
        let Some(version) = &mut entry.active else { return };
        let before = version.cluster.clone();
        let host = &*turn.host;
        let goes = |one: &Endpoint| one.leaving && !host.passes_checks(before.id, &one.address);
        if !before.localities.iter().flat_map(|locality| &locality.endpoints).any(goes) {
            return;
        }
        let mut localities = before.localities.clone();
        localities.iter_mut().for_each(|locality| locality.endpoints.retain(|one| !goes(one)));
        localities.retain(|locality| !locality.endpoints.is_empty());
        let endpoints_version = before.endpoints_version + 1;
        let cluster = Arc::new(Cluster { localities, endpoints_version, ..Cluster::clone(&before) });
        version.cluster = cluster.clone();
        self.assignments.replaced(&before, &cluster);
        turn.stats.inc(self.manager_scopes.clusters, cluster_manager::CLUSTER_UPDATED);
        let replaced = Replaced::by(before, &cluster, None);
        self.publish_cluster(turn, Some(replaced), cluster);
    }
}

/// The endpoints of a cluster that discovery names, and those that only stay because they pass their checks.
pub(crate) fn told_apart(cluster: &Cluster) -> (Cow<'_, [LocalityEndpoints]>, Vec<LocalityEndpoints>) {
    let stays = |locality: &LocalityEndpoints| locality.endpoints.iter().any(|endpoint| endpoint.leaving);
    if cluster.health_check.is_none() || !cluster.localities.iter().any(stays) {
        return (Cow::Borrowed(&cluster.localities), Vec::new());
    }
    let only = |leaving: bool| -> Vec<LocalityEndpoints> {
        let of = |locality: &LocalityEndpoints| {
            let LocalityEndpoints { locality: name, priority, weight, endpoints } = locality;
            let endpoints = endpoints.iter().filter(|one| one.leaving == leaving).cloned().collect();
            LocalityEndpoints { locality: name.clone(), priority: *priority, weight: *weight, endpoints }
        };
        cluster.localities.iter().map(of).filter(|locality| !locality.endpoints.is_empty()).collect()
    };
    (Cow::Owned(only(false)), only(true))
}

/// Adds to the endpoints that discovery names now those that it has dropped and that pass their checks, unless
/// `ignore_health_on_host_removal` of the next version. `before` are the version in force and those of its endpoints that
/// may be missing now. True when there are any.
pub(crate) fn keep_passing(
    host: &dyn Host,
    next: &Cluster,
    before: (&Cluster, &[LocalityEndpoints]),
    localities: &mut Vec<LocalityEndpoints>,
) -> bool {
    let (before, dropped) = before;
    if before.health_check.is_none() || next.health_check.as_ref().is_none_or(|c| c.ignore_health_on_removal)
    {
        return false;
    }
    let candidates = dropped.iter().flat_map(|locality| &locality.endpoints).map(|one| &one.address);
    let candidates: AddressSet<'_> = candidates.collect();
    let named = localities.iter().flat_map(|locality| &locality.endpoints).map(|one| &one.address);
    let named: HashSet<Address> = named.filter(|address| candidates.contains(address)).cloned().collect();
    let mut any = false;
    for old in dropped {
        for endpoint in &old.endpoints {
            let usable = !matches!(
                endpoint.health,
                HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout
            );
            let may_stay = usable && endpoint.is_checked() && !named.contains(&endpoint.address);
            if !may_stay || !host.passes_checks(before.id, &endpoint.address) {
                continue;
            }
            any = true;
            let mut kept = endpoint.clone();
            kept.leaving = true;
            let same =
                |new: &&mut LocalityEndpoints| new.locality == old.locality && new.priority == old.priority;
            match localities.iter_mut().find(same) {
                Some(locality) => locality.endpoints.push(kept),
                None => {
                    let (locality, priority, weight) = (old.locality.clone(), old.priority, old.weight);
                    localities.push(LocalityEndpoints { locality, priority, weight, endpoints: vec![kept] });
                }
            }
        }
    }
    localities.sort_by_key(|locality| locality.priority);
    any
}
