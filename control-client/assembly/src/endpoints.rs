//! EDS: load assignments, and the clusters that wait for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_ads::{Interest, Rejected, Resource, ResourceType, Update};
use millrace_config::{Cluster, ClusterDiscovery, SourceId, Splice};
use millrace_observe::stats::cluster as metric;
use millrace_translate::resource::{
    self, AssignmentRecords, EarlierAssignment, LoadAssignment, SentAssignment,
};

use crate::action::Action;
use crate::deadlines::Due;
use crate::replaced::Replaced;
use crate::stale::Life;
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
    /// A deadline to compress its bytes is set.
    packs: bool,
    pub(crate) life: Life,
    /// A deadline to look whether its time is over is set.
    pub(crate) is_watched: bool,
}

/// What the last one was made of, and what became of it: the next one is compared with it.
struct Remembered {
    records: AssignmentRecords,
    made: Vec<Made>,
}

impl Remembered {
    fn made(&self, cluster: &Arc<Cluster>) -> Option<&Made> {
        self.made.iter().find(|made| Arc::ptr_eq(&made.cluster, cluster))
    }
}

/// What became of an assignment in one cluster.
#[derive(Clone)]
struct Made {
    cluster: Arc<Cluster>,
    /// The same without endpoints, which the next version is a copy of.
    bare: Arc<Cluster>,
}

/// A cluster on its way to other endpoints.
struct Built {
    name: Arc<str>,
    before: Option<Arc<Cluster>>,
    made: Made,
    splices: Option<Vec<Splice>>,
    stale_after: Option<Duration>,
}

/// What replaces the endpoints of a cluster.
struct Endpoints {
    load: LoadAssignment,
    /// In what they differ from those before, when that is known.
    splices: Option<Vec<Splice>>,
}

/// Shorter assignments are read as a whole.
const REMEMBERED_FROM: usize = 4096;

/// What replaced another assignment is compressed when it has had this long to be replaced itself.
const PACK_AFTER: Duration = Duration::from_secs(1);

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

    pub(crate) fn get(&self, source: SourceId, service: &Arc<str>) -> Option<&Assignment> {
        self.by_name.get(&(source, service.clone()))
    }

    pub(crate) fn get_mut(&mut self, source: SourceId, service: &Arc<str>) -> Option<&mut Assignment> {
        self.by_name.get_mut(&(source, service.clone()))
    }

    /// A cluster that an assignment was made into has another version of the same endpoints, or fewer of them.
    pub(crate) fn replaced(&mut self, before: &Arc<Cluster>, cluster: &Arc<Cluster>) {
        let ClusterDiscovery::Eds { service_name, source, .. } = &cluster.discovery else { return };
        let remembered = self.get_mut(*source, service_name).and_then(|found| found.remembered.as_mut());
        for made in remembered.into_iter().flat_map(|remembered| &mut remembered.made) {
            if Arc::ptr_eq(&made.cluster, before) {
                made.cluster = cluster.clone();
            }
        }
    }

    /// The bytes have had time to be replaced.
    pub(crate) fn pack(&mut self, source: SourceId, service: &Arc<str>) {
        let Some(assignment) = self.get_mut(source, service) else { return };
        assignment.packs = false;
        if let Some(stored) = &mut assignment.stored {
            stored.pack();
        }
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
                self.told_again(turn, source, name);
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
    pub(crate) fn put_assignment(
        &mut self,
        turn: &mut Turn<'_>,
        source: SourceId,
        resource: &Resource,
    ) -> Result<(), String> {
        let is_long = resource.body.len() >= REMEMBERED_FROM;
        let sent = is_long.then(|| SentAssignment::of(&resource.body)).flatten();
        let remembered = self.assignments.get_mut(source, &resource.name).and_then(|a| a.remembered.take());
        let built = match self.build_all(turn, source, resource, sent.as_ref(), remembered.as_deref()) {
            Ok(built) => built,
            Err(reason) => {
                if let Some(assignment) = self.assignments.get_mut(source, &resource.name) {
                    assignment.failure = Some(Failure::new(resource, turn.wall, &reason));
                    assignment.remembered = remembered;
                }
                return Err(reason);
            }
        };
        let made = built.iter().map(|one| one.made.clone()).collect();
        let remembered = sent.map(|sent| Box::new(Remembered { records: sent.into_records(), made }));
        self.store_assignment(turn, source, resource, remembered);
        let stale_after = built.iter().find_map(|one| one.stale_after);
        self.begin_life(turn, source, &resource.name, stale_after);
        for one in built {
            gauges::assignment(turn, &one.made.cluster, &resource.version);
            self.take_endpoints(turn, one);
        }
        Ok(())
    }

    /// Every cluster that uses an assignment, with its endpoints.
    fn build_all(
        &mut self,
        turn: &mut Turn<'_>,
        source: SourceId,
        resource: &Resource,
        sent: Option<&SentAssignment<'_>>,
        remembered: Option<&Remembered>,
    ) -> Result<Vec<Built>, String> {
        let mut built = Vec::new();
        for name in self.users(source, &resource.name) {
            built.extend(self.build(turn, name, resource, sent, remembered)?);
        }
        Ok(built)
    }

    /// Clusters serve without endpoints although an assignment is stored.
    pub(crate) fn take_nothing(&mut self, turn: &mut Turn<'_>, source: SourceId, service: &Arc<str>) {
        let body = resource::empty_load_assignment(service).into();
        let nothing = Resource { name: service.clone(), version: "".into(), body };
        // What follows is compared with nothing.
        if let Some(assignment) = self.assignments.get_mut(source, service) {
            assignment.remembered = None;
        }
        for one in self.build_all(turn, source, &nothing, None, None).unwrap_or_default() {
            turn.stats.inc(one.made.cluster.scope, metric::ASSIGNMENT_STALE);
            self.take_endpoints(turn, one);
        }
    }

    /// Notes what is in force from now on.
    fn store_assignment(
        &mut self,
        turn: &Turn<'_>,
        source: SourceId,
        resource: &Resource,
        remembered: Option<Box<Remembered>>,
    ) {
        let Some(assignment) = self.assignments.get_mut(source, &resource.name) else { return };
        if assignment.stored.is_some() && remembered.is_some() {
            assignment.stored = Some(Stored::unpacked(resource, turn.wall));
            if !std::mem::replace(&mut assignment.packs, true) {
                let due = Due::Packed(source, resource.name.clone());
                self.deadlines.insert(turn.now + PACK_AFTER, due);
            }
        } else {
            assignment.stored = Some(Stored::new(resource, turn.wall));
        }
        assignment.failure = None;
        assignment.remembered = remembered;
    }

    /// One cluster with the endpoints of an assignment; `None` when there is no such cluster.
    fn build(
        &mut self,
        turn: &mut Turn<'_>,
        name: Arc<str>,
        resource: &Resource,
        sent: Option<&SentAssignment<'_>>,
        remembered: Option<&Remembered>,
    ) -> Result<Option<Built>, String> {
        let Some(entry) = self.clusters.entries.get(&name) else { return Ok(None) };
        let Some(latest) = entry.latest().map(|version| version.cluster.clone()) else { return Ok(None) };
        let before = entry.active.as_ref().map(|version| version.cluster.clone());
        let quick = match (&before, sent, remembered) {
            (Some(before), Some(sent), Some(remembered)) => {
                self.changed_endpoints(turn, before, &latest, sent, remembered)
            }
            _ => None,
        };
        let endpoints = match quick {
            Some(endpoints) => endpoints,
            None => self.read_endpoints(turn, before.as_deref(), &latest, &resource.body)?,
        };
        let known = remembered.and_then(|remembered| remembered.made(&latest));
        let bare = match known {
            Some(made) => made.bare.clone(),
            None => Arc::new(Cluster { localities: Vec::new(), ..Cluster::clone(&latest) }),
        };
        let stale_after = endpoints.load.stale_after;
        let cluster = Arc::new(with_endpoints(&bare, before.as_deref(), endpoints.load));
        let made = Made { cluster, bare };
        Ok(Some(Built { name, before, made, splices: endpoints.splices, stale_after }))
    }

    /// The endpoints of an assignment, made of those before; `None` when everything has to be read.
    fn changed_endpoints(
        &mut self,
        turn: &Turn<'_>,
        before: &Arc<Cluster>,
        latest: &Cluster,
        sent: &SentAssignment<'_>,
        remembered: &Remembered,
    ) -> Option<Endpoints> {
        remembered.made(before)?;
        let (named, leaving) = checks::told_apart(before);
        let earlier = EarlierAssignment { records: &remembered.records, made: &named, leaving: &leaving };
        let mut changed = resource::changed_assignment(sent, earlier, latest, &mut self.cx)?;
        let localities = &mut changed.load.localities;
        let some_stay = checks::keep_passing(&*turn.host, latest, (before, &changed.gone), localities);
        let told = leaving.is_empty() && !some_stay;
        Some(Endpoints { load: changed.load, splices: changed.splices.filter(|_| told) })
    }

    /// All endpoints of an assignment; those that the version in force has keep their numbers.
    fn read_endpoints(
        &mut self,
        turn: &mut Turn<'_>,
        before: Option<&Cluster>,
        latest: &Cluster,
        body: &[u8],
    ) -> Result<Endpoints, String> {
        let previous = before.map_or(&latest.localities, |before| &before.localities);
        let read = resource::load_assignment_after(body, latest, previous, &mut self.cx);
        let mut load = match self.taken(read) {
            Ok(load) => load,
            Err(reason) => {
                turn.stats.inc(latest.scope, metric::UPDATE_REJECTED);
                return Err(reason);
            }
        };
        if let Some(before) = before {
            checks::keep_passing(&*turn.host, latest, (before, &before.localities), &mut load.localities);
        }
        Ok(Endpoints { load, splices: None })
    }

    fn take_endpoints(&mut self, turn: &mut Turn<'_>, built: Built) {
        let Built { name, before, made: Made { cluster, .. }, splices, .. } = built;
        if let Some(mut version) = self.clusters.stop_warming(&name) {
            version.cluster = cluster;
            return self.activate_cluster(turn, &name, version);
        }
        let active = self.clusters.entries.get_mut(&name).and_then(|entry| entry.active.as_mut());
        let Some(version) = active else { return };
        version.cluster = cluster.clone();
        let replaced = before.map(|before| Replaced::by(before, &cluster, splices));
        self.publish_endpoints(turn, replaced, cluster);
    }

    /// The cluster with the endpoints that are known already, if they are.
    pub(crate) fn with_known_endpoints(
        &mut self,
        turn: &mut Turn<'_>,
        source: SourceId,
        service: &Arc<str>,
        cluster: &Arc<Cluster>,
    ) -> Option<Arc<Cluster>> {
        let assignment = self.assignments.get(source, service)?;
        let stored = assignment.stored.clone().filter(|_| !assignment.life.is_over())?;
        let active = self.clusters.entries.get(&cluster.name).and_then(|entry| entry.active.as_ref());
        let before = active.map(|version| version.cluster.clone());
        let made_of = |before: &Arc<Cluster>| {
            let remembered = assignment.remembered.as_ref()?;
            remembered.made(before)?;
            let (named, _) = checks::told_apart(before);
            remembered.records.fits(&named).then(|| named.into_owned())
        };
        let load = match before.as_ref().and_then(|before| Some((before, made_of(before)?))) {
            Some((before, localities)) => LoadAssignment {
                localities,
                overprovisioning_factor: before.overprovisioning_factor,
                weighted_priority_health: before.balancing.weighted_priority_health,
                stale_after: None,
                drop_overload: before.drop_overload.clone(),
                retired: Vec::new(),
            },
            None => {
                let previous = before.as_ref().map_or(&cluster.localities, |before| &before.localities);
                let body = stored.body.bytes();
                let read = resource::load_assignment_after(&body, cluster, previous, &mut self.cx);
                self.taken(read).ok()?
            }
        };
        let built = Arc::new(with_endpoints(cluster, before.as_deref(), load));
        self.remember_another(source, service, cluster, &built);
        turn.stats.inc(cluster.scope, metric::ASSIGNMENT_USE_CACHED);
        Some(built)
    }

    /// Another version of a cluster has the endpoints of the assignment in force.
    fn remember_another(
        &mut self,
        source: SourceId,
        service: &Arc<str>,
        bare: &Arc<Cluster>,
        built: &Arc<Cluster>,
    ) {
        let assignment = self.assignments.get_mut(source, service);
        if let Some(remembered) = assignment.and_then(|assignment| assignment.remembered.as_mut()) {
            remembered.made.retain(|made| made.cluster.id != built.id);
            remembered.made.push(Made { cluster: built.clone(), bare: bare.clone() });
        }
    }

    /// A cluster is done with an assignment.
    pub(crate) fn leave_assignment(&mut self, source: SourceId, service: &Arc<str>, cluster: &Arc<str>) {
        if self.assignments.leave(source, service, cluster) {
            let interest = Interest::Name(service.clone());
            self.out.push(Action::Unsubscribe(source, ResourceType::Endpoint, interest));
        }
    }

    pub(crate) fn users(&self, source: SourceId, service: &Arc<str>) -> Vec<Arc<str>> {
        self.assignments.get(source, service).map(|assignment| assignment.users.clone()).unwrap_or_default()
    }
}

/// A cluster with the endpoints of an assignment.
fn with_endpoints(bare: &Cluster, before: Option<&Cluster>, load: LoadAssignment) -> Cluster {
    let mut cluster = bare.clone();
    cluster.localities = load.localities;
    cluster.overprovisioning_factor = load.overprovisioning_factor;
    cluster.balancing.weighted_priority_health = load.weighted_priority_health;
    cluster.drop_overload = load.drop_overload;
    cluster.endpoints_version = before.map_or(0, |before| before.endpoints_version) + 1;
    cluster
}
