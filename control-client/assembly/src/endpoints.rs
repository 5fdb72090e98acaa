//! EDS: load assignments, and the clusters that wait for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_ads::{Interest, Rejected, Resource, ResourceType, Update};
use millrace_config::{Cluster, SourceId};
use millrace_observe::stats::cluster as metric;
use millrace_translate::resource::{self, AssignmentRecords};

use crate::action::Action;
use crate::stored::{Failure, Stored};
use crate::{Assembly, Turn, checks, gauges};

/// One load assignment.
#[derive(Default)]
pub(crate) struct Assignment {
    /// The last good one.
    pub(crate) stored: Option<Stored>,
    pub(crate) failure: Option<Box<Failure>>,
    /// Names of the clusters that use it.
    users: Vec<Arc<str>>,
    remembered: Option<Box<Remembered>>,
}

/// What the last one was made of, and what became of it: the next one is compared with it.
struct Remembered {
    records: AssignmentRecords,
    made: Vec<Arc<Cluster>>,
}

/// Shorter assignments are read as a whole.
const REMEMBERED_FROM: usize = 4096;

/// Load assignments by where they come from and what they are called.
#[derive(Default)]
pub(crate) struct Assignments {
    by_name: BTreeMap<(SourceId, Arc<str>), Assignment>,
}

impl Assignments {
    /// A cluster uses it from now on; true when it is the first one.
    pub(crate) fn join(&mut self, source: SourceId, service: &Arc<str>, cluster: &Arc<str>) -> bool {
        let assignment = self.by_name.entry((source, service.clone())).or_default();
        let is_new = assignment.users.is_empty();
        if !assignment.users.contains(cluster) {
            assignment.users.push(cluster.clone());
        }
        is_new
    }

    /// A cluster uses it no more; true when it was the last one, and the assignment is forgotten.
    fn leave(&mut self, source: SourceId, service: &Arc<str>, cluster: &Arc<str>) -> bool {
        let key = (source, service.clone());
        let Some(assignment) = self.by_name.get_mut(&key) else { return false };
        assignment.users.retain(|user| user != cluster);
        let last = assignment.users.is_empty();
        if last {
            self.by_name.remove(&key);
        }
        last
    }

    fn get(&self, source: SourceId, service: &Arc<str>) -> Option<&Assignment> {
        self.by_name.get(&(source, service.clone()))
    }

    fn get_mut(&mut self, source: SourceId, service: &Arc<str>) -> Option<&mut Assignment> {
        self.by_name.get_mut(&(source, service.clone()))
    }

    /// Names of the clusters whose endpoints come from a source.
    pub(crate) fn users_of(&self, source: SourceId) -> impl Iterator<Item = &Arc<str>> {
        let first = (source, Arc::from(""));
        let of_source = self.by_name.range(first..).take_while(move |((from, _), _)| *from == source);
        of_source.flat_map(|(_, assignment)| &assignment.users)
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Assignment)> {
        self.by_name.iter().map(|((_, name), assignment)| (name, assignment))
    }
}

impl Assembly {
    pub(crate) fn update_endpoints(&mut self, turn: &mut Turn<'_>, source: SourceId, update: Update) {
        let mut rejected = update.broken;
        for resource in &update.changed {
            if let Err(reason) = self.put_assignment(turn, source, resource) {
                rejected.push(Rejected { name: resource.name.clone(), reason });
            }
        }
        for name in &update.unchanged {
            if let Some(assignment) = self.assignments.get_mut(source, name) {
                assignment.failure = None;
            }
        }
        // An assignment that does not exist, or is refused, is an answer, too: whoever waits for it serves without
        // endpoints. Last good endpoints stay in place, as in Envoy.
        for name in &update.removed {
            self.stop_waiting(turn, source, name, true);
        }
        for refused in &rejected {
            self.stop_waiting(turn, source, &refused.name, false);
        }
        self.acks.now(source, update.id, rejected, &mut self.out);
    }

    /// Clusters that warm for this assignment serve without it.
    fn stop_waiting(&mut self, turn: &mut Turn<'_>, source: SourceId, service: &Arc<str>, is_empty: bool) {
        for cluster in self.users(source, service) {
            if let Some(version) = self.clusters.stop_warming(&cluster) {
                if is_empty {
                    turn.stats.inc(version.cluster.scope, metric::UPDATE_EMPTY);
                }
                self.activate_cluster(turn, &cluster, version);
            }
        }
    }

    /// One assignment for every cluster that uses it: all of them take it, or none.
    fn put_assignment(
        &mut self,
        turn: &mut Turn<'_>,
        source: SourceId,
        resource: &Resource,
    ) -> Result<(), String> {
        let users = self.users(source, &resource.name);
        let records = (resource.body.len() >= REMEMBERED_FROM).then(|| AssignmentRecords::of(&resource.body));
        let records = records.flatten();
        let remembered = self.assignments.get_mut(source, &resource.name).and_then(|a| a.remembered.take());
        let mut built = Vec::with_capacity(users.len());
        for name in &users {
            let Some(entry) = self.clusters.entries.get(name) else { continue };
            let Some(latest) = entry.latest().map(|version| version.cluster.clone()) else { continue };
            let before = entry.active.as_ref().map(|version| version.cluster.clone());
            let scope = latest.scope;
            let old = remembered.as_ref().filter(|old| {
                // Endpoints that still pass their checks stay, which records know nothing of.
                latest.health_check.is_none()
                    && before
                        .as_ref()
                        .is_some_and(|before| old.made.iter().any(|made| Arc::ptr_eq(made, before)))
            });
            let known = old.map(|old| &old.records).zip(records.as_ref());
            match self.with_assignment(latest, before.as_deref(), &resource.body, known) {
                Ok(mut cluster) => {
                    let mut localities = std::mem::take(&mut cluster.localities);
                    checks::keep_passing(turn.host, before.as_deref(), Some(&cluster), &mut localities);
                    cluster.localities = localities;
                    built.push((name, before, Arc::new(cluster)));
                }
                Err(reason) => {
                    turn.stats.inc(scope, metric::UPDATE_REJECTED);
                    let failure = Failure::new(resource, turn.wall, &reason);
                    if let Some(assignment) = self.assignments.get_mut(source, &resource.name) {
                        assignment.failure = Some(failure);
                    }
                    return Err(reason);
                }
            }
        }
        if let Some(assignment) = self.assignments.get_mut(source, &resource.name) {
            assignment.stored = Some(Stored::new(resource, turn.wall));
            assignment.failure = None;
            let made = || built.iter().map(|(.., cluster)| Arc::clone(cluster)).collect();
            assignment.remembered = records.map(|records| Box::new(Remembered { records, made: made() }));
        }
        for (name, before, cluster) in built {
            gauges::assignment(turn, &cluster, &resource.version);
            self.take_endpoints(turn, name, before, cluster);
        }
        Ok(())
    }

    fn take_endpoints(
        &mut self,
        turn: &mut Turn<'_>,
        name: &Arc<str>,
        before: Option<Arc<Cluster>>,
        cluster: Arc<Cluster>,
    ) {
        if let Some(mut version) = self.clusters.stop_warming(name) {
            version.cluster = cluster;
            return self.activate_cluster(turn, name, version);
        }
        let active = self.clusters.entries.get_mut(name).and_then(|entry| entry.active.as_mut());
        let Some(version) = active else { return };
        version.cluster = cluster.clone();
        self.publish_endpoints(turn, before, cluster);
    }

    /// The cluster with the endpoints of an assignment; those that the version in force has keep their numbers.
    fn with_assignment(
        &mut self,
        cluster: Arc<Cluster>,
        before: Option<&Cluster>,
        body: &[u8],
        known: Option<(&AssignmentRecords, &AssignmentRecords)>,
    ) -> Result<Cluster, String> {
        let previous = before.map_or(&cluster.localities, |before| &before.localities);
        let changed = known
            .and_then(|known| resource::changed_assignment(body, known, &cluster, previous, &mut self.cx));
        let load = match changed {
            Some(load) => load,
            None => {
                let read = resource::load_assignment_after(body, &cluster, previous, &mut self.cx);
                self.taken(read)?
            }
        };
        let mut cluster = Arc::unwrap_or_clone(cluster);
        cluster.localities = load.localities;
        cluster.overprovisioning_factor = load.overprovisioning_factor;
        cluster.balancing.weighted_priority_health = load.weighted_priority_health;
        cluster.endpoints_version = before.map_or(0, |before| before.endpoints_version) + 1;
        Ok(cluster)
    }

    /// The cluster with the endpoints that are known already, if they are.
    pub(crate) fn with_known_endpoints(
        &mut self,
        turn: &mut Turn<'_>,
        source: SourceId,
        service: &Arc<str>,
        cluster: &Arc<Cluster>,
    ) -> Option<Arc<Cluster>> {
        let stored = self.assignments.get(source, service)?.stored.clone()?;
        let active = self.clusters.entries.get(&cluster.name).and_then(|entry| entry.active.as_ref());
        let before = active.map(|version| version.cluster.clone());
        let body = stored.body.bytes();
        let built = self.with_assignment(cluster.clone(), before.as_deref(), &body, None).ok()?;
        turn.stats.inc(cluster.scope, metric::ASSIGNMENT_USE_CACHED);
        Some(Arc::new(built))
    }

    /// A cluster is done with an assignment.
    pub(crate) fn leave_assignment(&mut self, source: SourceId, service: &Arc<str>, cluster: &Arc<str>) {
        if self.assignments.leave(source, service, cluster) {
            let interest = Interest::Name(service.clone());
            self.out.push(Action::Unsubscribe(source, ResourceType::Endpoint, interest));
        }
    }

    fn users(&self, source: SourceId, service: &Arc<str>) -> Vec<Arc<str>> {
        self.assignments.get(source, service).map(|assignment| assignment.users.clone()).unwrap_or_default()
    }
}
