//! CDS: clusters come, warm, serve and go.

use std::collections::HashSet;
use std::sync::Arc;

use millrace_ads::{Interest, Rejected, Resource, ResourceType, Update};
use millrace_config::{Cluster, ClusterDiscovery, ClusterId, LocalityEndpoints, SourceId};
use millrace_observe::stats::{cluster as metric, cluster_manager};
use millrace_translate::{Sources, resource};

use crate::action::{Action, Level};
use crate::cluster_book::ClusterVersion;
use crate::deadlines::Due;
use crate::replaced::{Replaced, changed_priorities};
use crate::secrets::cluster_secrets;
use crate::start::Wait;
use crate::stored::{Failure, Stored};
use crate::{Assembly, Turn, checks, gauges};

impl Assembly {
    /// Additions and changes first, then removals, so that a route never points into nothing in between.
    pub(crate) fn update_clusters(
        &mut self,
        turn: &mut Turn<'_>,
        source: SourceId,
        aggregated: bool,
        update: Update,
    ) {
        let mut rejected = update.broken;
        let mut warming = HashSet::new();
        for resource in &update.changed {
            match self.put_cluster(turn, source, resource) {
                Ok(()) => {}
                Err(reason) => rejected.push(Rejected { name: resource.name.clone(), reason }),
            }
            if self.clusters.entries.get(&resource.name).is_some_and(|entry| entry.warming.is_some()) {
                warming.insert(resource.name.clone());
            }
        }
        for name in &update.unchanged {
            if let Some(entry) = self.clusters.entries.get_mut(name) {
                entry.failure = None;
            }
        }
        for name in &update.removed {
            self.remove_cluster(turn, name);
        }
        self.versions.clusters = update.version.clone();
        let has_changed = !update.changed.is_empty() || !update.removed.is_empty();
        self.count_cds(turn, &update.version, rejected.is_empty(), has_changed);
        let is_first = self.startup.is_waiting(&Wait::Cds);
        if is_first {
            warming.iter().for_each(|name| self.startup.wait(Wait::Cluster(name.clone())));
            self.startup.done(&Wait::Cds);
        }
        // The first clusters are acknowledged at once, as Envoy does: LDS waits for them anyway.
        if aggregated && !is_first {
            self.acks.when_warm(source, update.id, rejected, warming, &mut self.out);
        } else {
            self.acks.now(source, update.id, rejected, &mut self.out);
        }
    }

    /// Takes a new or changed cluster; it serves at once unless something of it has to come first.
    fn put_cluster(
        &mut self,
        turn: &mut Turn<'_>,
        source: SourceId,
        resource: &Resource,
    ) -> Result<(), String> {
        if self.clusters.entries.get(&resource.name).is_some_and(|entry| entry.is_static) {
            let text = format!("cds: the static cluster '{}' cannot be changed", resource.name);
            self.log(Level::Debug, text);
            return Ok(());
        }
        let previous = self.clusters.entries.get(&resource.name).and_then(|entry| entry.active.as_ref());
        let previous = previous.map(|version| version.cluster.clone());
        // Before translation, so that the name that came is the one that everything shares.
        self.cx.cluster_ids.intern_shared(&resource.name);
        let translated = resource::cluster(&resource.body, previous.as_deref(), &mut self.cx);
        let checked = self.taken(translated).and_then(|mut cluster| {
            if cluster.name == resource.name {
                take_parents_source(&mut cluster.discovery, source);
                return Ok(cluster);
            }
            Err(format!("name: '{}' came as the resource '{}'", cluster.name, resource.name))
        });
        let cluster = match checked {
            Ok(cluster) => cluster,
            Err(reason) => {
                let failure = Failure::new(resource, turn.wall, &reason);
                if let Some(entry) = self.clusters.entries.get_mut(&resource.name) {
                    entry.failure = Some(failure);
                }
                return Err(reason);
            }
        };
        let stored = Stored::new(resource, turn.wall);
        self.clusters.entry(&resource.name, false).failure = None;
        self.introduce_cluster(turn, cluster, stored);
        Ok(())
    }

    /// Lets a translated cluster serve, or warm if its endpoints come from elsewhere.
    pub(crate) fn introduce_cluster(&mut self, turn: &mut Turn<'_>, cluster: Cluster, stored: Stored) {
        let name = cluster.name.clone();
        // A warming cluster counts as one that exists, as in Envoy.
        self.cx.cluster_added(&name);
        let entry = self.clusters.entry(&name, false);
        let before = entry.latest().map(|version| version.cluster.clone());
        let replaced = entry.warming.as_ref().map(|version| cluster_secrets(&version.cluster));
        self.let_go_of_discovery(before.as_deref(), &cluster);
        let parent = self.startup.clusters_source();
        cluster_secrets(&cluster).iter().for_each(|secret| self.use_secret(turn, secret, parent));
        self.release_secrets(turn, &replaced.unwrap_or_default());
        match &cluster.discovery {
            ClusterDiscovery::Static
            | ClusterDiscovery::OriginalDst(_)
            | ClusterDiscovery::Aggregate(_)
            | ClusterDiscovery::ForwardProxy(_) => {
                self.activate_cluster(turn, &name, ClusterVersion { cluster: Arc::new(cluster), stored });
            }
            ClusterDiscovery::Eds { service_name, source, initial_fetch_timeout } => {
                let (service_name, source) = (service_name.clone(), *source);
                let deadline = initial_fetch_timeout.map(|timeout| turn.now + timeout);
                turn.stats.inc(cluster.scope, metric::UPDATE_ATTEMPT);
                let is_new = self.assignments.join(source, &service_name, &name);
                if is_new {
                    let interest = Interest::Name(service_name.clone());
                    self.out.push(Action::Subscribe(source, ResourceType::Endpoint, interest));
                } else {
                    self.out.push(Action::Refresh(source, ResourceType::Endpoint, service_name.clone()));
                }
                let mut version = ClusterVersion { cluster: Arc::new(cluster), stored };
                // Endpoints that are known already are good for the new version, too.
                if let Some(cluster) =
                    self.with_known_endpoints(turn, source, &service_name, &version.cluster)
                {
                    version.cluster = cluster;
                    return self.activate_cluster(turn, &name, version);
                }
                self.clusters.start_warming(&name, version, deadline);
                if let Some(at) = deadline {
                    self.deadlines.insert(at, Due::Cluster(name));
                }
            }
            ClusterDiscovery::Dns { wait_for_warm, .. } => {
                let waits = *wait_for_warm;
                let version = ClusterVersion { cluster: Arc::new(cluster), stored };
                self.clusters.resolves(&version.cluster);
                self.out.push(Action::WatchDns(version.cluster.clone()));
                if waits {
                    self.clusters.start_warming(&name, version, None);
                } else {
                    self.activate_cluster(turn, &name, version);
                }
            }
        }
    }

    /// A cluster of the bootstrap asks for its endpoints.
    pub(crate) fn warm_static(&mut self, turn: &mut Turn<'_>, cluster: &Arc<Cluster>) {
        let ClusterDiscovery::Eds { service_name, source, initial_fetch_timeout } = &cluster.discovery else {
            return;
        };
        let deadline = initial_fetch_timeout.map(|timeout| turn.now + timeout);
        turn.stats.inc(cluster.scope, metric::UPDATE_ATTEMPT);
        if self.assignments.join(*source, service_name, &cluster.name) {
            let interest = Interest::Name(service_name.clone());
            self.out.push(Action::Subscribe(*source, ResourceType::Endpoint, interest));
        }
        let version = ClusterVersion { cluster: cluster.clone(), stored: Stored::default() };
        self.clusters.start_warming(&cluster.name, version, deadline);
        if let Some(at) = deadline {
            self.deadlines.insert(at, Due::Cluster(cluster.name.clone()));
        }
    }

    /// Ends what the version before `next` asked for and `next` does not.
    fn let_go_of_discovery(&mut self, before: Option<&Cluster>, next: &Cluster) {
        let Some(before) = before else { return };
        match (&before.discovery, &next.discovery) {
            (
                ClusterDiscovery::Eds { service_name: old, source: from, .. },
                ClusterDiscovery::Eds { service_name: new, source: to, .. },
            ) if old == new && from == to => {}
            (ClusterDiscovery::Eds { service_name, source, .. }, _) => {
                self.leave_assignment(*source, service_name, &before.name);
            }
            (ClusterDiscovery::Dns { .. }, ClusterDiscovery::Dns { .. }) => {}
            (ClusterDiscovery::Dns { .. }, _) => {
                if self.clusters.resolves_no_more(before.id) {
                    self.out.push(Action::UnwatchDns(before.id));
                }
            }
            (
                ClusterDiscovery::Static
                | ClusterDiscovery::OriginalDst(_)
                | ClusterDiscovery::Aggregate(_)
                | ClusterDiscovery::ForwardProxy(_),
                _,
            ) => {}
        }
    }

    /// Puts a version in force.
    pub(crate) fn activate_cluster(&mut self, turn: &mut Turn<'_>, name: &Arc<str>, version: ClusterVersion) {
        let secrets = cluster_secrets(&version.cluster);
        if !self.are_secrets_answered(&secrets) {
            self.clusters.start_warming(name, version, None);
            if let Some(entry) = self.clusters.entries.get_mut(name) {
                entry.waits_for_secrets = true;
            }
            return;
        }
        let Some(version) = self.checked_version(turn, name, version) else { return };
        self.clusters.stop_warming(name);
        let cluster = version.cluster.clone();
        let before = self.clusters.activate(name, version);
        let counter = match before {
            Some(_) => cluster_manager::CLUSTER_MODIFIED,
            None => cluster_manager::CLUSTER_ADDED,
        };
        turn.stats.inc(self.manager_scopes.clusters, counter);
        if let Some(before) = &before {
            self.release_secrets(turn, &cluster_secrets(&before.cluster));
        }
        let replaced = before.map(|before| Replaced::by(before.cluster, &cluster, None));
        self.publish_cluster(turn, replaced, cluster);
        self.settled(name);
    }

    /// Gives the shards a new version of a cluster.
    pub(crate) fn publish_cluster(
        &mut self,
        turn: &mut Turn<'_>,
        replaced: Option<Replaced>,
        cluster: Arc<Cluster>,
    ) {
        gauges::membership(turn.stats, &cluster);
        let changed = match &replaced {
            Some(replaced) => replaced.changed_priorities(&cluster),
            None => changed_priorities(&[], &cluster.localities),
        };
        gauges::endpoints_told(turn.stats, changed, &cluster);
        if let Some(replaced) = replaced {
            self.endpoints_left(turn, &replaced, &cluster);
            self.merges.told(&cluster, replaced);
        }
        self.merges.delivered(cluster.id, turn);
        self.next.clusters.push((cluster.id, Some(cluster)));
    }

    /// The scopes of endpoints that are gone are buried.
    pub(crate) fn endpoints_left(&mut self, turn: &Turn<'_>, replaced: &Replaced, cluster: &Cluster) {
        self.graveyard.hosts(turn.now, replaced.left(cluster), &mut self.deadlines);
    }

    pub(crate) fn settled(&mut self, name: &Arc<str>) {
        self.startup.done(&Wait::Cluster(name.clone()));
        self.acks.settled(name, &mut self.out);
    }

    fn remove_cluster(&mut self, turn: &mut Turn<'_>, name: &Arc<str>) {
        if self.clusters.entries.get(name).is_none_or(|entry| entry.is_static) {
            return;
        }
        let Some(entry) = self.clusters.remove(name) else { return };
        if let Some(latest) = entry.latest() {
            let cluster = latest.cluster.clone();
            match &cluster.discovery {
                ClusterDiscovery::Eds { service_name, source, .. } => {
                    self.leave_assignment(*source, service_name, name);
                }
                ClusterDiscovery::Dns { .. } => {
                    self.clusters.resolves_no_more(cluster.id);
                    self.out.push(Action::UnwatchDns(cluster.id));
                }
                ClusterDiscovery::Static
                | ClusterDiscovery::OriginalDst(_)
                | ClusterDiscovery::Aggregate(_)
                | ClusterDiscovery::ForwardProxy(_) => {}
            }
        }
        for version in entry.warming.as_deref().into_iter().chain(&entry.active) {
            self.release_secrets(turn, &cluster_secrets(&version.cluster));
        }
        if entry.waits_for_checks
            && entry.active.is_none()
            && let Some(warming) = &entry.warming
        {
            // Shards check its endpoints.
            self.next.clusters.push((warming.cluster.id, None));
        }
        if let Some(active) = entry.active {
            self.merges.forget(active.cluster.id);
            self.next.clusters.push((active.cluster.id, None));
            turn.stats.inc(self.manager_scopes.clusters, cluster_manager::CLUSTER_REMOVED);
            self.graveyard.cluster(turn.now, active.cluster, &mut self.deadlines);
        }
        self.cx.cluster_removed(name);
        self.settled(name);
    }

    /// The endpoints of a warming cluster have not come in time: it serves without them.
    pub(crate) fn cluster_is_due(&mut self, turn: &mut Turn<'_>, name: &Arc<str>) {
        let Some(entry) = self.clusters.entries.get(name) else { return };
        if entry.deadline.is_none_or(|at| at > turn.now) {
            return;
        }
        if let Some(version) = self.clusters.stop_warming(name) {
            turn.stats.inc(version.cluster.scope, metric::INIT_FETCH_TIMEOUT);
            self.log(Level::Warning, format!("eds: no endpoints of the cluster '{name}' came in time"));
            self.activate_cluster(turn, name, version);
        }
    }

    /// What the names of a cluster resolve to now.
    pub fn resolved(
        &mut self,
        turn: &mut Turn<'_>,
        id: ClusterId,
        localities: Option<Vec<LocalityEndpoints>>,
        warm: bool,
    ) {
        let Some(name) = self.clusters.resolved_name(id) else { return };
        if let Some(mut localities) = localities {
            self.resolved_to(turn, &name, &mut localities);
        }
        if warm && let Some(version) = self.clusters.stop_warming(&name) {
            self.activate_cluster(turn, &name, version);
        } else if warm {
            self.resolved_first(turn, &name);
        }
        self.end_turn(turn);
    }

    fn resolved_to(&mut self, turn: &mut Turn<'_>, name: &Arc<str>, localities: &mut Vec<LocalityEndpoints>) {
        let Some(entry) = self.clusters.entries.get_mut(name) else { return };
        let known = entry.active.as_ref().map(|version| version.cluster.clone());
        if let (Some(known), Some(latest)) = (known.as_deref(), entry.latest()) {
            checks::keep_passing(turn.host, &latest.cluster, (known, &known.localities), localities);
        }
        let old = known.as_deref().map(|cluster| &cluster.localities[..]).unwrap_or_default();
        keep_scopes(localities, old, || self.cx.registry.host_scope());
        if let Some(version) = &mut entry.warming {
            version.cluster = Arc::new(with_localities(&version.cluster, localities, known.as_deref()));
        } else if let Some(version) = &mut entry.active {
            version.cluster = Arc::new(with_localities(&version.cluster, localities, known.as_deref()));
            let cluster = version.cluster.clone();
            let replaced = known.map(|known| Replaced::by(known, &cluster, None));
            self.publish_endpoints(turn, replaced, cluster);
        }
    }
}

/// `self: {}` means the source that the cluster came from.
fn take_parents_source(discovery: &mut ClusterDiscovery, parent: SourceId) {
    if let ClusterDiscovery::Eds { source, .. } = discovery
        && *source == Sources::SAME_AS_PARENT
    {
        *source = parent;
    }
}

/// A cluster with other endpoints.
pub(crate) fn with_localities(
    cluster: &Cluster,
    localities: &mut Vec<LocalityEndpoints>,
    before: Option<&Cluster>,
) -> Cluster {
    let version = before.map_or(0, |before| before.endpoints_version) + 1;
    Cluster { localities: std::mem::take(localities), endpoints_version: version, ..cluster.clone() }
}

/// Endpoints that stay keep their numbers.
fn keep_scopes(
    new: &mut [LocalityEndpoints],
    old: &[LocalityEndpoints],
    mut fresh: impl FnMut() -> millrace_config::ScopeId,
) {
    let known: std::collections::BTreeMap<_, _> =
        old.iter().flat_map(|l| &l.endpoints).map(|e| (&e.address, e.scope)).collect();
    for endpoint in new.iter_mut().flat_map(|l| &mut l.endpoints) {
        endpoint.scope = known.get(&endpoint.address).copied().unwrap_or_else(&mut fresh);
    }
}
