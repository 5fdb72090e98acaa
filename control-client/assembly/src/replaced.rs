//! One version of a cluster's endpoints after another: what differs is worked out once, for all who ask.

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_config::{Address, Cluster, EndpointChanges, LocalityEndpoints, ScopeId, Splice};
use millrace_translate::resource;

/// A version that another one takes the place of.
pub(crate) struct Replaced {
    pub(crate) before: Arc<Cluster>,
    /// `None` when both have little in common.
    changes: Option<EndpointChanges>,
}

impl Replaced {
    /// What differs in `next`: as whoever made it knows, else found by comparing everything.
    pub(crate) fn by(before: Arc<Cluster>, next: &Cluster, splices: Option<Vec<Splice>>) -> Self {
        let changes = match splices {
            Some(splices) => Some(EndpointChanges { cluster: next.id, since: Arc::clone(&before), splices }),
            None => EndpointChanges::between(&before, next),
        };
        Self { before, changes }
    }

    /// True when the same endpoints are in the same places: health, weights and metadata may have changed.
    pub(crate) fn keeps_members(&self, next: &Cluster) -> bool {
        let Some(changes) = &self.changes else {
            let addresses =
                |cluster: &Cluster| -> Vec<_> { addresses(&cluster.localities).cloned().collect() };
            return self.before.localities.len() == next.localities.len()
                && addresses(&self.before) == addresses(next);
        };
        let same_number = changes.splices.iter().all(|splice| splice.removed == splice.added);
        same_number && addresses(&changes.removed()).eq(addresses(&changes.added(next)))
    }

    /// How many priorities have other addresses than before.
    pub(crate) fn changed_priorities(&self, next: &Cluster) -> u64 {
        match &self.changes {
            // Whatever is not told of is in both.
            Some(changes) => {
                let places = |of: Vec<LocalityEndpoints>, cluster: &Cluster| -> Vec<LocalityEndpoints> {
                    let priorities = cluster.localities.iter().map(|locality| locality.priority);
                    of.into_iter()
                        .zip(priorities)
                        .map(|(of, priority)| LocalityEndpoints { priority, ..of })
                        .collect()
                };
                let removed = places(changes.removed(), &self.before);
                changed_priorities(&removed, &places(changes.added(next), next))
            }
            None => changed_priorities(&self.before.localities, &next.localities),
        }
    }

    /// The scopes of endpoints that are gone.
    pub(crate) fn left(&self, next: &Cluster) -> Vec<ScopeId> {
        match &self.changes {
            Some(changes) => resource::retired_scopes(&changes.removed(), &changes.added(next)),
            None => resource::retired_scopes(&self.before.localities, &next.localities),
        }
    }

    pub(crate) fn into_changes(self) -> Option<EndpointChanges> {
        self.changes
    }
}

/// How many priorities have other addresses in one list than in the other.
pub(crate) fn changed_priorities(before: &[LocalityEndpoints], now: &[LocalityEndpoints]) -> u64 {
    let priorities: BTreeSet<u32> = before.iter().chain(now).map(|locality| locality.priority).collect();
    let of = |all: &[LocalityEndpoints], priority: u32| -> Vec<Address> {
        let same = all.iter().filter(|locality| locality.priority == priority);
        same.flat_map(|locality| &locality.endpoints).map(|endpoint| endpoint.address.clone()).collect()
    };
    let differs = |priority: &u32| {
        let (mut before, mut now) = (of(before, *priority), of(now, *priority));
        if before == now {
            return false;
        }
        before.sort_unstable();
        now.sort_unstable();
        before != now
    };
    priorities.iter().filter(|priority| differs(priority)).count() as u64
}

fn addresses(localities: &[LocalityEndpoints]) -> impl Iterator<Item = &Address> {
    localities.iter().flat_map(|locality| &locality.endpoints).map(|endpoint| &endpoint.address)
}
