//! Which cluster a forwarding route means for one request.

use std::sync::Arc;

use millrace_config::{Cluster, ClusterId, ClusterSpecifier, RouteForward, Snapshot, WeightedCluster};
use millrace_http::RequestHead;

/// The answer of [`cluster()`].
#[derive(Clone, Copy, Debug)]
pub struct ClusterChoice<'s> {
    /// The cluster; `None` answers `cluster_not_found_status` with details `cluster_not_found`.
    pub cluster: Option<&'s Arc<Cluster>>,
    /// Index into [`millrace_config::WeightedClusters::clusters`], whose mutations apply, too.
    pub weighted: Option<usize>,
}

impl ClusterChoice<'_> {
    /// The id of the cluster.
    pub fn id(&self) -> Option<ClusterId> {
        self.cluster.map(|cluster| cluster.id)
    }

    /// The entry of the weighted clusters that was chosen.
    pub fn entry<'f>(&self, forward: &'f RouteForward) -> Option<&'f WeightedCluster> {
        match &forward.cluster {
            ClusterSpecifier::Weighted(weighted) => weighted.clusters.get(self.weighted?),
            ClusterSpecifier::Cluster(_) | ClusterSpecifier::Header(_) => None,
        }
    }
}

/// Resolves a route's cluster; `random` chooses among weighted ones.
pub fn cluster<'s>(
    forward: &RouteForward,
    head: &RequestHead,
    random: u64,
    snapshot: &'s Snapshot,
) -> ClusterChoice<'s> {
    let ClusterSpecifier::Weighted(weighted) = &forward.cluster else {
        return ClusterChoice { cluster: plain(&forward.cluster, head, snapshot), weighted: None };
    };
    let mut left = random % weighted.total.max(1);
    for (index, entry) in weighted.clusters.iter().enumerate() {
        match left.checked_sub(u64::from(entry.weight)) {
            Some(rest) => left = rest,
            None => {
                let cluster = plain(&entry.cluster, head, snapshot);
                return ClusterChoice { cluster, weighted: Some(index) };
            }
        }
    }
    ClusterChoice { cluster: None, weighted: None }
}

fn plain<'s>(
    specifier: &ClusterSpecifier,
    head: &RequestHead,
    snapshot: &'s Snapshot,
) -> Option<&'s Arc<Cluster>> {
    match specifier {
        ClusterSpecifier::Cluster(id) => snapshot.cluster(*id),
        ClusterSpecifier::Header(name) => {
            let value = match &**name {
                b":authority" | b"host" => Some(head.authority()),
                b":path" => Some(head.path()),
                b":method" => Some(head.method()),
                b":scheme" => Some(head.scheme()),
                name => head.headers.get_name(name),
            };
            snapshot.cluster_by_name(std::str::from_utf8(value?).ok()?)
        }
        // The compiler never nests them.
        ClusterSpecifier::Weighted(_) => None,
    }
}
