//! The entries of weighted clusters that the tries of one request go to (`refresh_cluster_on_retry`).

use millrace_config::{ClusterId, WeightedClusters};

/// Which entries were tried. As in Envoy, every entry is tried once, by weight among the rest, and the order of the first
/// round is that of the rounds behind it.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The cluster of the first try, whose retry policy and budget hold for all.
    pub home: ClusterId,
    number: u64,
    tried: Vec<usize>,
    turn: usize,
}

impl Rotation {
    /// A request whose first try went to the entry `first` of the cluster `home`; `number` chooses among the rest.
    pub fn new(home: ClusterId, first: usize, number: u64) -> Self {
        Self { home, number, tried: vec![first], turn: 0 }
    }

    /// The entry of the next try; `None` when it is that of the last one: the entries that are left weigh nothing.
    pub fn next(&mut self, weighted: &WeightedClusters) -> Option<usize> {
        if self.tried.len() >= weighted.clusters.len() {
            let index = self.tried.get(self.turn % self.tried.len().max(1)).copied();
            self.turn += 1;
            return index;
        }
        let entries = || weighted.clusters.iter().enumerate().filter(|(i, _)| !self.tried.contains(i));
        let total: u64 = entries().map(|(_, entry)| u64::from(entry.weight)).sum();
        let mut left = self.number.checked_rem(total)?;
        let chosen = entries().find(|(_, entry)| match left.checked_sub(u64::from(entry.weight)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        let (index, _) = chosen?;
        self.tried.push(index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_config::{ClusterSpecifier, HeaderMutations, WeightedBy, WeightedCluster};

    use super::*;

    fn weighted(weights: &[u32]) -> WeightedClusters {
        let entry = |(id, weight): (usize, &u32)| WeightedCluster {
            cluster: ClusterSpecifier::Cluster(ClusterId(id as u32)),
            weight: *weight,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            host_rewrite: None,
            metadata_match: None,
            per_filter: Vec::new(),
        };
        let total = weights.iter().map(|w| u64::from(*w)).sum();
        let clusters = weights.iter().enumerate().map(entry).collect();
        WeightedClusters { clusters, total, by: WeightedBy::Header(Arc::from(&b"x-n"[..])) }
    }

    fn order(weights: &[u32], first: usize, number: u64) -> Vec<Option<usize>> {
        let weighted = weighted(weights);
        let mut rotation = Rotation::new(ClusterId(0), first, number);
        (0..6).map(|_| rotation.next(&weighted)).collect()
    }

    #[test]
    fn entries_take_turns_as_envoy_1_40_took_them() {
        let all = |order: [usize; 6]| order.map(Some).to_vec();
        assert_eq!(order(&[10, 10, 10], 0, 3), all([1, 2, 0, 1, 2, 0]));
        assert_eq!(order(&[10, 10, 10], 1, 13), all([2, 0, 1, 2, 0, 1]));
        assert_eq!(order(&[10, 10, 10], 2, 25), all([0, 1, 2, 0, 1, 2]));
        assert_eq!(order(&[10], 0, 3), all([0; 6]));
    }

    #[test]
    fn entries_without_weight_end_the_turns() {
        assert_eq!(order(&[5, 5, 0], 0, 3), [Some(1), None, None, None, None, None]);
    }
}
