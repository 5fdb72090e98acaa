//! Changes of endpoints on their way to the shards: told one by one, and kept back for a while when nobody comes or goes
//! (`common_lb_config.update_merge_window`).

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_base::Time;
use millrace_config::{Cluster, ClusterId, EndpointChanges, Update};
use millrace_observe::stats::cluster_manager;

use crate::deadlines::Due;
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
}

impl Merges {
    /// Shards get the latest endpoints now, whatever was kept back.
    pub(crate) fn delivered(&mut self, id: ClusterId, turn: &Turn<'_>) {
        if let Some(delivery) = self.clusters.get_mut(&id) {
            *delivery = Delivery { last: Some(turn.now), due: None };
        }
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
        before: Option<Arc<Cluster>>,
        cluster: Arc<Cluster>,
    ) {
        let manager = self.manager_scopes.clusters;
        let window = cluster.balancing.update_merge_window;
        if window.is_zero() {
            turn.stats.inc(manager, cluster_manager::CLUSTER_UPDATED);
            return self.publish_cluster(turn, before, cluster);
        }
        let mergeable = before.as_ref().is_some_and(|before| keeps_members(before, &cluster));
        let delivery = self.merges.clusters.entry(cluster.id).or_default();
        let over = delivery.last.is_none_or(|last| turn.now.since(last) > window);
        if mergeable && !over {
            if delivery.due.is_none() {
                let due = turn.now + window;
                delivery.due = Some(due);
                self.deadlines.insert(due, Due::Merged(cluster.id));
            }
            gauges::membership(turn.stats, &cluster);
            if let Some(before) = before.filter(|before| before.localities != cluster.localities) {
                self.endpoints_left(turn, &before, &cluster);
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
        self.publish_cluster(turn, before, cluster);
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
    pub(crate) fn endpoint_changes(&self, update: &Update) -> Vec<EndpointChanges> {
        // The last word on a cluster counts: shards see only that.
        let last: BTreeMap<ClusterId, &Option<Arc<Cluster>>> =
            update.clusters.iter().map(|(id, cluster)| (*id, cluster)).collect();
        let changes = |(id, cluster): (ClusterId, &Option<Arc<Cluster>>)| {
            EndpointChanges::between(self.snapshot.cluster(id)?, cluster.as_ref()?)
        };
        last.into_iter().filter_map(changes).collect()
    }
}

/// True when the same endpoints are in the same places: health, weights and metadata may have changed.
fn keeps_members(before: &Cluster, after: &Cluster) -> bool {
    let addresses = |cluster: &Cluster| -> Vec<_> {
        let endpoints = cluster.localities.iter().flat_map(|locality| &locality.endpoints);
        endpoints.map(|endpoint| endpoint.address.clone()).collect()
    };
    before.localities.len() == after.localities.len() && addresses(before) == addresses(after)
}
