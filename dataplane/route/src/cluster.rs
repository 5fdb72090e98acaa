//! Which cluster a forwarding route means for one request.

use std::sync::Arc;

use millrace_config::{
    Cluster, ClusterId, ClusterSpecifier, RouteForward, Snapshot, WeightedBy, WeightedCluster,
    WeightedClusters,
};
use millrace_http::RequestHead;

use crate::{HashInputs, hash};

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

/// The number that chooses among weighted clusters: out of a header field, or the hash of the route's policies, else
/// `random`. No policy makes a cookie.
pub fn weighted_number(
    weighted: &WeightedClusters,
    forward: &RouteForward,
    inputs: &HashInputs<'_>,
    random: u64,
) -> u64 {
    let found = match &weighted.by {
        WeightedBy::Chance => None,
        WeightedBy::Header(name) => inputs.head.and_then(|head| {
            let mut values = head.headers.values_name(name);
            let only = values.next().filter(|_| values.next().is_none())?;
            std::str::from_utf8(only).ok()?.trim().parse().ok()
        }),
        WeightedBy::HashPolicy => hash(&forward.hash_policies, &HashInputs { local: None, ..*inputs }).hash,
    };
    found.unwrap_or(random)
}

/// Resolves a route's cluster; `number` chooses among weighted ones.
pub fn cluster<'s>(
    forward: &RouteForward,
    head: &RequestHead,
    number: impl FnOnce(&WeightedClusters) -> u64,
    snapshot: &'s Snapshot,
) -> ClusterChoice<'s> {
    let ClusterSpecifier::Weighted(weighted) = &forward.cluster else {
        return ClusterChoice { cluster: plain(&forward.cluster, head, snapshot), weighted: None };
    };
    let mut left = number(weighted) % weighted.total.max(1);
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

/// The cluster that an entry of weighted clusters means.
pub fn entry_cluster(entry: &WeightedCluster, head: &RequestHead, snapshot: &Snapshot) -> Option<ClusterId> {
    plain(&entry.cluster, head, snapshot).map(|cluster| cluster.id)
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

#[cfg(test)]
mod tests {
    use millrace_config::{HashMethod, HashPolicy, HeaderMutations};

    use super::*;
    use crate::test::{bytes, head};

    fn forward(cluster: ClusterSpecifier) -> RouteForward {
        RouteForward::to(cluster)
    }

    #[test]
    fn weights_are_shares_and_zero_is_never_chosen() {
        let entry = |id, weight| WeightedCluster {
            cluster: ClusterSpecifier::Cluster(ClusterId(id)),
            weight,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            host_rewrite: None,
            metadata_match: None,
            per_filter: Vec::new(),
        };
        let clusters = vec![entry(0, 0), entry(1, 3), entry(2, 0), entry(3, 7)];
        let weighted = WeightedClusters { clusters, total: 10, by: WeightedBy::Chance };
        let route = forward(ClusterSpecifier::Weighted(Box::new(weighted)));
        let (mut counts, snapshot) = ([0; 4], Snapshot::default());
        for random in 0..1000 {
            let choice = cluster(&route, &head("GET", "h", "/"), |_| random, &snapshot);
            let index = choice.weighted.unwrap();
            assert_eq!(choice.entry(&route).unwrap().weight, [0, 3, 0, 7][index]);
            counts[index] += 1;
        }
        assert_eq!(counts, [0, 300, 0, 700]);
    }

    #[test]
    fn a_field_or_the_hash_may_choose() {
        let number = |by: WeightedBy, fields: &[&str]| {
            let mut request = head("GET", "h", "/");
            for value in fields {
                request.headers.append(b"x-n", value.as_bytes());
            }
            let weighted = WeightedClusters { clusters: Vec::new(), total: 10, by };
            let mut route = forward(ClusterSpecifier::Cluster(ClusterId(0)));
            let method = HashMethod::Header { name: bytes("x-n"), rewrite: None };
            route.hash_policies = vec![HashPolicy { method, terminal: false }];
            weighted_number(
                &weighted,
                &route,
                &HashInputs { head: Some(&request), ..HashInputs::default() },
                77,
            )
        };
        let header = || WeightedBy::Header(bytes("x-n"));
        let of = |by: fn() -> WeightedBy, fields: &[&str]| number(by(), fields);
        assert_eq!(of(|| WeightedBy::Chance, &["3"]), 77);
        let fields: [(&[&str], u64); 5] =
            [(&["3"], 3), (&[], 77), (&["3", "4"], 77), (&["x"], 77), (&["-1"], 77)];
        for (values, want) in fields {
            assert_eq!(number(header(), values), want, "{values:?}");
        }
        assert_eq!(of(|| WeightedBy::HashPolicy, &["a"]), millrace_base::hash::xxh64(b"a", 0));
        assert_eq!(of(|| WeightedBy::HashPolicy, &[]), 77);
    }

    #[test]
    fn an_unknown_or_unnamed_cluster_is_none() {
        let snapshot = Snapshot::default();
        let route = forward(ClusterSpecifier::Header(bytes("x-cl")));
        let mut request = head("GET", "h", "/");
        assert!(cluster(&route, &request, |_| 0, &snapshot).id().is_none());
        request.headers.append(b"x-cl", b"zz");
        assert!(cluster(&route, &request, |_| 0, &snapshot).cluster.is_none());
        assert!(
            cluster(&forward(ClusterSpecifier::Cluster(ClusterId(9))), &request, |_| 0, &snapshot)
                .id()
                .is_none()
        );
    }
}
