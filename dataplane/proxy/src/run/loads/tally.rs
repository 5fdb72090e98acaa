//! What was sent where since the last report: differences of the endpoints' counters, whatever comes and goes meanwhile.
//!
//! Counters are read when an endpoint joins and when it leaves, and at every report. One that left is read on for a
//! while, because its requests still end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millrace_base::Time;
use millrace_config::{Address, Cluster, ClusterDiscovery, ClusterId, LocalityEndpoints, ScopeId, Update};
use millrace_driver::xds::Clusters;
use millrace_upstream::LoadMetrics;

/// Endpoints that left are read this long; half of the time after which their scopes are given to others.
const FOLLOWED: Duration = Duration::from_secs(300);
/// Endpoints of one cluster that left and are kept apart; more are kept as sums of their localities.
const LEFT_MAX: usize = 1024;
/// Localities of one cluster that are kept apart for such sums; more are one without a name.
const PLACES_MAX: usize = 256;
/// Removed clusters that wait for a report; the loads of more are forgotten.
const REMOVED_MAX: usize = 1024;

/// Counters as they stand.
pub(super) trait Counters {
    /// Of an endpoint: what was counted since the start, and how many requests are in flight now.
    fn host(&self, scope: ScopeId) -> (Counts, u64);
    /// Of a cluster: requests that it turned away since the start.
    fn dropped(&self, scope: ScopeId) -> Dropped;
}

/// What endpoints of a cluster reported of themselves since the last look; it is nobody else's then.
pub(super) type TakeMetrics<'a> = &'a dyn Fn(ClusterId) -> BTreeMap<ScopeId, LoadMetrics>;

/// Requests that a cluster turned away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Its circuit breakers.
    pub overflow: u64,
    /// `drop_overloads`.
    pub on_purpose: u64,
}

/// Requests of one endpoint or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub issued: u64,
    pub success: u64,
    pub error: u64,
}

impl Counts {
    fn add(&mut self, more: Self) {
        self.issued += more.issued;
        self.success += more.success;
        self.error += more.error;
    }

    fn since(self, before: Self) -> Self {
        Self {
            issued: self.issued.wrapping_sub(before.issued),
            success: self.success.wrapping_sub(before.success),
            error: self.error.wrapping_sub(before.error),
        }
    }
}

/// A locality at a priority.
pub(super) type Place = (u32, (Arc<str>, Arc<str>, Arc<str>));

/// An endpoint that is or was in a cluster.
#[derive(Debug)]
pub(super) struct Host {
    pub place: Place,
    pub address: Address,
    /// Counted since the last report.
    pub counts: Counts,
    /// In flight when it was read last.
    pub active: u64,
    /// What it reported of itself since the last report.
    pub metrics: LoadMetrics,
    read: Counts,
    left: Option<Time>,
}

impl Host {
    fn read(&mut self, scope: ScopeId, counters: &dyn Counters) {
        let (now, active) = counters.host(scope);
        self.counts.add(now.since(self.read));
        (self.read, self.active) = (now, active);
    }

    pub fn is_idle(&self) -> bool {
        self.active == 0 && self.counts == Counts::default() && self.metrics.is_empty()
    }
}

/// One cluster of a report.
#[derive(Debug)]
pub(super) struct Load {
    pub name: Arc<str>,
    /// `eds_cluster_config.service_name`, where it is another name than the cluster's.
    pub service_name: Option<Arc<str>>,
    pub hosts: BTreeMap<ScopeId, Host>,
    /// Of endpoints that are not kept any more.
    pub sums: BTreeMap<Place, Counts>,
    pub dropped: Dropped,
    /// The last category of `drop_overloads`.
    pub category: Arc<str>,
    pub since: Time,
    scope: ScopeId,
    dropped_read: Dropped,
    removed: bool,
}

impl Load {
    fn new(cluster: &Cluster, counters: &dyn Counters, now: Time) -> Self {
        let mut load = Self {
            name: cluster.name.clone(),
            service_name: None,
            hosts: BTreeMap::new(),
            sums: BTreeMap::new(),
            dropped: Dropped::default(),
            category: Arc::default(),
            since: now,
            scope: cluster.scope,
            dropped_read: counters.dropped(cluster.scope),
            removed: false,
        };
        load.update(cluster, counters, now);
        load
    }

    /// Takes the endpoints as they are now.
    fn update(&mut self, cluster: &Cluster, counters: &dyn Counters, now: Time) {
        if self.removed || self.scope != cluster.scope {
            if !self.removed {
                self.read_dropped(counters);
            }
            self.scope = cluster.scope;
            self.dropped_read = counters.dropped(cluster.scope);
            self.removed = false;
        }
        if let Some(drops) = &cluster.drop_overload {
            self.category.clone_from(&drops.category);
        }
        self.service_name = match &cluster.discovery {
            ClusterDiscovery::Eds { service_name, .. } if *service_name != cluster.name => {
                Some(service_name.clone())
            }
            _ => None,
        };
        let mut present = BTreeSet::new();
        for LocalityEndpoints { locality, priority, endpoints, .. } in &cluster.localities {
            let place = (*priority, locality.clone());
            for endpoint in endpoints {
                // Of two endpoints with one scope the first one has it.
                if !present.insert(endpoint.scope) {
                    continue;
                }
                let host = self.hosts.entry(endpoint.scope).or_insert_with(|| {
                    let (read, active) = counters.host(endpoint.scope);
                    let (place, address) = (place.clone(), endpoint.address.clone());
                    let (counts, metrics) = (Counts::default(), LoadMetrics::default());
                    Host { place, address, counts, active, metrics, read, left: None }
                });
                host.left = None;
                host.place.clone_from(&place);
            }
        }
        self.leave(|scope| !present.contains(&scope), counters, now);
    }

    /// Endpoints leave.
    fn leave(&mut self, leaves: impl Fn(ScopeId) -> bool, counters: &dyn Counters, now: Time) {
        let mut left = self.hosts.values().filter(|host| host.left.is_some()).count();
        let (sums, mut full) = (&mut self.sums, Vec::new());
        for (scope, host) in
            self.hosts.iter_mut().filter(|(scope, host)| host.left.is_none() && leaves(**scope))
        {
            host.read(*scope, counters);
            host.left = Some(now);
            left += 1;
            if left > LEFT_MAX {
                full.push(*scope);
            }
        }
        for host in full.iter().filter_map(|scope| self.hosts.remove(scope)) {
            fold(sums, host);
        }
    }

    fn read_dropped(&mut self, counters: &dyn Counters) {
        let (now, before) = (counters.dropped(self.scope), self.dropped_read);
        self.dropped.overflow += now.overflow.wrapping_sub(before.overflow);
        self.dropped.on_purpose += now.on_purpose.wrapping_sub(before.on_purpose);
        self.dropped_read = now;
    }

    /// The cluster is gone; what was counted is reported once more.
    fn remove(&mut self, counters: &dyn Counters, now: Time) {
        if !self.removed {
            self.read_dropped(counters);
            self.leave(|_| true, counters, now);
            self.removed = true;
        }
    }

    /// Reads what left long ago for the last time.
    fn let_go(&mut self, counters: &dyn Counters, now: Time) {
        let old = |host: &Host| host.left.is_some_and(|left| left + FOLLOWED <= now);
        for (scope, mut host) in self.hosts.extract_if(.., |_, host| old(host)) {
            host.read(scope, counters);
            fold(&mut self.sums, host);
        }
    }

    /// Metrics of endpoints that are not kept any more are let go.
    fn read(&mut self, counters: &dyn Counters, metrics: &BTreeMap<ScopeId, LoadMetrics>) {
        if !self.removed {
            self.read_dropped(counters);
        }
        for (scope, host) in &mut self.hosts {
            host.read(*scope, counters);
            if let Some(more) = metrics.get(scope) {
                host.metrics.merge(more);
            }
        }
    }

    /// Begins the next interval.
    fn restart(&mut self, now: Time) {
        for host in self.hosts.values_mut() {
            (host.counts, host.metrics) = (Counts::default(), LoadMetrics::default());
        }
        self.hosts.retain(|_, host| host.left.is_none() || !host.is_idle());
        self.sums.clear();
        self.dropped = Dropped::default();
        self.since = now;
    }
}

/// Keeps what an endpoint counted with those of its locality.
fn fold(sums: &mut BTreeMap<Place, Counts>, host: Host) {
    let has_room = sums.len() < PLACES_MAX || sums.contains_key(&host.place);
    let place = if has_room { host.place } else { Place::default() };
    sums.entry(place).or_default().add(host.counts);
}

/// Which clusters are counted for.
#[derive(Debug, Default)]
enum Wanted {
    #[default]
    Nothing,
    All,
    Named(BTreeSet<String>),
}

impl Wanted {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

/// Everything that is counted for a control plane.
#[derive(Debug, Default)]
pub(super) struct Tally {
    wanted: Wanted,
    loads: BTreeMap<ClusterId, Load>,
}

impl Tally {
    /// Counts for these clusters from now on, or goes on counting for those that it counted for already.
    pub fn collect<'a>(
        &mut self,
        wanted: Clusters,
        clusters: impl Iterator<Item = &'a Arc<Cluster>>,
        counters: &dyn Counters,
        now: Time,
    ) {
        self.wanted = match wanted {
            Clusters::All => Wanted::All,
            Clusters::Named(names) => Wanted::Named(names.into_iter().collect()),
        };
        self.loads.retain(|_, load| self.wanted.has(&load.name));
        for cluster in clusters {
            self.change(cluster.id, Some(cluster), counters, now);
        }
    }

    /// Clusters come, change and go. Must be told before anybody counts in what is new.
    pub fn update(&mut self, update: &Update, counters: &dyn Counters, now: Time) {
        for (id, cluster) in &update.clusters {
            self.change(*id, cluster.as_ref(), counters, now);
        }
        let mut removed: Vec<_> =
            self.loads.iter().filter(|(_, load)| load.removed).map(|(id, load)| (load.since, *id)).collect();
        if removed.len() > REMOVED_MAX {
            removed.sort_unstable();
            removed.truncate(removed.len() - REMOVED_MAX);
            removed.iter().for_each(|(_, id)| drop(self.loads.remove(id)));
        }
    }

    fn change(&mut self, id: ClusterId, cluster: Option<&Arc<Cluster>>, counters: &dyn Counters, now: Time) {
        match (self.loads.get_mut(&id), cluster) {
            (Some(load), Some(cluster)) => load.update(cluster, counters, now),
            (None, Some(cluster)) if self.wanted.has(&cluster.name) => {
                self.loads.insert(id, Load::new(cluster, counters, now));
            }
            (Some(load), None) => load.remove(counters, now),
            (None, _) => {}
        }
    }

    /// Lets go of endpoints whose counters are about to be given to others; call it every few seconds.
    pub fn let_go(&mut self, counters: &dyn Counters, now: Time) {
        self.loads.values_mut().for_each(|load| load.let_go(counters, now));
    }

    /// What was counted since the last report.
    pub fn read(&mut self, counters: &dyn Counters, metrics: TakeMetrics<'_>) -> impl Iterator<Item = &Load> {
        self.loads.iter_mut().for_each(|(id, load)| load.read(counters, &metrics(*id)));
        self.loads.values()
    }

    /// The report was taken: counts anew.
    pub fn restart(&mut self, now: Time) {
        self.loads.values_mut().for_each(|load| load.restart(now));
        self.loads.retain(|_, load| !load.removed || !load.hosts.is_empty());
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
