//! Gauges of clusters that nobody keeps up to date: worked out when somebody asks.

use millrace_config::{Cluster, LbPolicy};
use millrace_observe::stats::{ControlStats, cluster as metric};
use millrace_shard::shared::Shared;

/// Sets the gauges of one cluster.
pub(super) fn refresh(stats: &mut ControlStats, cluster: &Cluster, shared: &Shared) {
    tables(stats, cluster, shared);
}

/// How the hash ring or the Maglev table is divided.
fn tables(stats: &mut ControlStats, cluster: &Cluster, shared: &Shared) {
    let sizes = match cluster.lb_policy {
        LbPolicy::RingHash(_) => {
            (metric::RING_HASH_LB_MIN_HASHES_PER_HOST, metric::RING_HASH_LB_MAX_HASHES_PER_HOST)
        }
        LbPolicy::Maglev(_) => {
            (metric::MAGLEV_LB_MIN_ENTRIES_PER_HOST, metric::MAGLEV_LB_MAX_ENTRIES_PER_HOST)
        }
        _ => return,
    };
    let Some(shape) = shared.table_shape(cluster.id) else { return };
    stats.gauge_set(cluster.scope, sizes.0, u64::from(shape.least));
    stats.gauge_set(cluster.scope, sizes.1, u64::from(shape.most));
    if matches!(cluster.lb_policy, LbPolicy::RingHash(_)) {
        stats.gauge_set(cluster.scope, metric::RING_HASH_LB_SIZE, shape.size);
    }
}
