//! `drop_overloads`: requests to a cluster that its control plane has refused, whatever the endpoints could do.

use millrace_base::Rng;
use millrace_config::{Cluster, ClusterId};
use millrace_filter::http::LocalReply;
use millrace_filter::http::router::reply;
use millrace_observe::stats::cluster as metric;

use crate::shard::Shard;

/// All requests.
const MILLION: u32 = 1_000_000;

/// True when the next request to the cluster is refused.
#[cold]
pub(super) fn is_due(cluster: &Cluster, rng: &mut Rng) -> bool {
    let share = cluster.drop_overload.as_ref().map_or(0, |drops| drops.per_million);
    share >= MILLION || rng.chance(share.into(), MILLION.into())
}

impl Shard {
    /// The answer to a request that is refused. `announce` is false with `suppress_envoy_headers`.
    #[cold]
    pub(super) fn refuse_on_purpose(&mut self, cluster: ClusterId, announce: bool) -> LocalReply {
        // The answer counts for the cluster, which may have had no other request on this shard.
        let state = self.clusters.inflate(cluster, &self.snapshot, &self.shared, &mut self.rng);
        let config = state.map(|state| state.config());
        if let Some(config) = config {
            self.stats.inc(config.scope, metric::UPSTREAM_RQ_DROP_OVERLOAD);
        }
        let share = config.and_then(|config| config.drop_overload.as_ref()).map(|drops| drops.per_million);
        reply::drop_overload(share == Some(MILLION), announce)
    }
}
