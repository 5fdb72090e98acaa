//! Clusters that a control plane only wants checked (HDS). They serve no traffic: shards hear of them as they do of
//! clusters that warm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{Cluster, ClusterId};
use millrace_translate::resource;

use crate::secrets::cluster_secrets;
use crate::{Assembly, Turn};

impl Assembly {
    /// Puts a `HealthCheckSpecifier` in force: checks that are in both go on, all others end. Gives its `interval`.
    ///
    /// # Errors
    /// Why it cannot be served; the one before stays in force.
    pub fn assign_checks(
        &mut self,
        turn: &mut Turn<'_>,
        specifier: &[u8],
    ) -> Result<Option<Duration>, String> {
        let translated = resource::health_check_specifier(specifier, &mut self.cx);
        let assigned = self.taken(translated);
        let result = assigned.map(|assigned| {
            self.replace_checked(turn, assigned.clusters);
            assigned.interval
        });
        self.end_turn(turn);
        result
    }

    /// What is checked for a control plane, in its order.
    pub fn health_clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.checked_only.iter().map(|cluster| &**cluster)
    }

    fn replace_checked(&mut self, turn: &mut Turn<'_>, clusters: Vec<Cluster>) {
        let clusters: Vec<Arc<Cluster>> = clusters.into_iter().map(Arc::new).collect();
        let parent = self.startup.clusters_source();
        for used in clusters.iter().flat_map(|cluster| cluster_secrets(cluster)) {
            self.use_secret(turn, &used, parent);
        }
        let old = std::mem::replace(&mut self.checked_only, clusters);
        let stay: BTreeMap<ClusterId, &Arc<Cluster>> = self.checked_only.iter().map(|c| (c.id, c)).collect();
        let gone = old.iter().filter(|cluster| !stay.contains_key(&cluster.id));
        self.next.clusters.extend(gone.map(|cluster| (cluster.id, None)));
        self.next.warming.extend(self.checked_only.iter().cloned());
        for cluster in old {
            self.release_secrets(turn, &cluster_secrets(&cluster));
        }
    }
}
