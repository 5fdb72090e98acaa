//! Changes of endpoints on their way to the shards: told one by one, and kept back for a while when nobody comes or goes
//! (`common_lb_config.update_merge_window`).

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_base::Time;
use millrace_config::{Cluster, ClusterId, EndpointChanges, Update};
use millrace_observe::stats::cluster_manager;

use crate::deadlines::Due;
use crate::replaced::Replaced;
use crate::{Assembly, Turn, gauges};

/// When a cluster's endpoints reached the shards last.
#[derive(Debug, Default)]
struct Delivery {
    last: Option<Time>,
    /// There are changes that did not, which wait for this time.
    due: Option<Time>,
}

/// Deliveries of clusters whose endpoints change.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    clusters: BTreeMap<ClusterId, Delivery>,
    /// What new versions of this turn change of those before them.
    told: Vec<(Arc<Cluster>, EndpointChanges)>,
}

impl Merges {
    /// Shards get the latest endpoints now, whatever was kept back.
    pub(crate) fn delivered(&mut self, id: ClusterId, turn: &Turn<'_>) {
        if let Some(delivery) = self.clusters.get_mut(&id) {
            *delivery = Delivery { last: Some(turn.now), due: None };
        }
    }

    /// In what a version that shards get differs from the one before it.
    pub(crate) fn told(&mut self, cluster: &Arc<Cluster>, replaced: Replaced) {
        self.told.extend(replaced.into_changes().map(|changes| (Arc::clone(cluster), changes)));
    }

    /// The cluster is gone.
    pub(crate) fn forget(&mut self, id: ClusterId) {
        self.clusters.remove(&id);
    }
}

impl Assembly {
    /// Gives the shards other endpoints of a cluster, now or when the window is over.
    pub(crate) fn publish_endpoints(
        &mut self,
        turn: &mut Turn<'_>,
        replaced: Option<Replaced>,
        cluster: Arc<Cluster>,
    ) {
        let manager = self.manager_scopes.clusters;
        let window = cluster.balancing.update_merge_window;
        if window.is_zero() {
            turn.stats.inc(manager, cluster_manager::CLUSTER_UPDATED);
            return self.publish_cluster(turn, replaced, cluster);
        }
        let mergeable = replaced.as_ref().is_some_and(|replaced| replaced.keeps_members(&cluster));
        let delivery = self.merges.clusters.entry(cluster.id).or_default();
        let over = delivery.last.is_none_or(|last| turn.now.since(last) > window);
        if mergeable && !over {
            if delivery.due.is_none() {
                let due = turn.now + window;
                delivery.due = Some(due);
                self.deadlines.insert(due, Due::Merged(cluster.id));
            }
            gauges::membership(turn.stats, &cluster);
            if let Some(replaced) = replaced {
                self.endpoints_left(turn, &replaced, &cluster);
            }
            return;
        }
        if mergeable {
            turn.stats.inc(manager, cluster_manager::UPDATE_OUT_OF_MERGE_WINDOW);
        }
        if delivery.due.is_some() {
            turn.stats.inc(manager, cluster_manager::UPDATE_MERGE_CANCELLED);
        }
        turn.stats.inc(manager, cluster_manager::CLUSTER_UPDATED);
        self.publish_cluster(turn, replaced, cluster);
    }

    /// A window is over.
    pub(crate) fn deliver_merged(&mut self, turn: &mut Turn<'_>, id: ClusterId) {
        let due = self.merges.clusters.get(&id).and_then(|delivery| delivery.due);
        if due.is_none_or(|due| due > turn.now) {
            return;
        }
        let name = self.snapshot.cluster(id).map(|cluster| cluster.name.clone());
        let entry = name.and_then(|name| self.clusters.entries.get(&name));
        let Some(version) = entry.and_then(|entry| entry.active.as_ref()) else { return };
        let cluster = version.cluster.clone();
        turn.stats.inc(self.manager_scopes.clusters, cluster_manager::CLUSTER_UPDATED_VIA_MERGE);
        self.merges.delivered(id, turn);
        self.next.clusters.push((id, Some(cluster)));
    }

    /// What clusters of an update have for other endpoints than those that shards know.
    pub(crate) fn endpoint_changes(&mut self, update: &Update) -> Vec<EndpointChanges> {
        // The last word on a cluster counts: shards see only that.
        let last: BTreeMap<ClusterId, &Option<Arc<Cluster>>> =
            update.clusters.iter().map(|(id, cluster)| (*id, cluster)).collect();
        let mut told = std::mem::take(&mut self.merges.told);
        let changes = |(id, cluster): (ClusterId, &Option<Arc<Cluster>>)| {
            let (known, cluster) = (self.snapshot.cluster(id)?, cluster.as_ref()?);
            let fits = |(next, changes): &(Arc<Cluster>, EndpointChanges)| {
                Arc::ptr_eq(next, cluster) && Arc::ptr_eq(&changes.since, known)
            };
            match told.iter().position(fits) {
                Some(at) => Some(told.swap_remove(at).1),
                None => EndpointChanges::between(known, cluster),
            }
        };
        last.into_iter().filter_map(changes).collect()
    }
}
