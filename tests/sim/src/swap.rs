//! New versions of the cluster while requests are under way, and what its circuit breakers must hold meanwhile.

use std::sync::Arc;

use millrace_config::{Cluster, EndpointChanges, HealthStatus, Update};
use millrace_observe::stats::cluster;
use millrace_shard::shared::Message;

use crate::churn;
use crate::fixture::{self, Mode};
use crate::world::World;

/// Thresholds from here on are none.
const THRESHOLD_MAX: u32 = 1_000;

impl World {
    /// Publishes the cluster with some of its endpoints; every other time shards are told which ones changed.
    pub(crate) fn swap(&mut self, hard: bool) {
        let Some(full) = self.snapshot.clusters.first().cloned().flatten() else { return };
        let mut cluster = Cluster::clone(&full);
        let version = self.published.as_ref().map_or(self.snapshot.version, |c| c.endpoints_version) + 1;
        cluster.endpoints_version = version;
        let rng = &mut self.rng;
        churn::thin_out(&mut cluster, rng);
        for endpoint in cluster.localities.iter_mut().flat_map(|l| &mut l.endpoints) {
            if hard && rng.chance(1, 2) {
                endpoint.health = HealthStatus::Unhealthy;
            }
        }
        let gone = hard && rng.chance(1, 5);
        let told = !gone && rng.chance(1, 2);
        let before = self.published.take().filter(|_| told);
        let changes = before.and_then(|before| EndpointChanges::between(&before, &cluster));
        let id = cluster.id;
        let cluster = Arc::new(cluster);
        self.published = Some(cluster.clone());
        let clusters = vec![(id, (!gone).then_some(cluster))];
        let endpoints = changes.into_iter().collect();
        let update = Arc::new(Update { version, clusters, endpoints, ..Update::default() });
        self.tell_all(|| Message::Update(update.clone()));
    }

    /// Endpoints are checked no longer: whatever is left afterwards belongs to requests.
    pub(crate) fn end_checks(&mut self) {
        if !self.setup.knobs.checks {
            return;
        }
        let version = self.snapshot.version + 1_000;
        let clusters = self.snapshot.clusters.iter().flatten().map(|cluster| {
            let mut cluster =
                Cluster { health_check: None, endpoints_version: version, ..Cluster::clone(cluster) };
            cluster.balancing.load_stream = None;
            (cluster.id, Some(Arc::new(cluster)))
        });
        let update = Arc::new(Update { version, clusters: clusters.collect(), ..Update::default() });
        self.tell_all(|| Message::Update(update.clone()));
    }

    /// However many shards there are: no more requests are under way than the threshold says.
    pub(crate) fn look_at_breakers(&mut self) {
        let most = self.setup.knobs.breakers.max_requests;
        // `upstream_rq_active` counts TCP sessions too, which no threshold on requests bounds.
        let sessions = self.setup.mode == Mode::Tcp;
        if most >= THRESHOLD_MAX || self.churn.is_some() || sessions {
            return;
        }
        let scope = fixture::cluster_scope(&self.registry);
        let active = self.registry.gauge(scope, cluster::UPSTREAM_RQ_ACTIVE);
        if active > u64::from(most) {
            self.ledger.violation(format!("{active} requests under way, {most} allowed"));
        }
    }
}
