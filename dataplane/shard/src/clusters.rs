//! The clusters that this shard has used: inflated at first use, kept across updates.

use std::sync::Arc;

use millrace_base::{Rng, Time};
use millrace_config::{ClusterDiscovery, ClusterId, EndpointChanges, Snapshot};
use millrace_upstream::{ClusterState, Dropped, PoolAction};

use crate::shared::Shared;

/// Cluster states by id.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    states: Vec<Option<Box<ClusterState>>>,
    /// The cluster that this proxy is an endpoint of, once a cluster in use compares itself with it.
    local: Option<ClusterId>,
}

/// Endpoints that requests named under one configuration may serve under the other.
fn keeps_demanded(before: &ClusterDiscovery, after: &ClusterDiscovery) -> bool {
    match (before.forward_proxy(), after.forward_proxy()) {
        (Some(before), Some(after)) => before.cache.id == after.cache.id,
        (None, None) => after.is_on_demand(),
        _ => false,
    }
}

impl Clusters {
    /// The state of a cluster that is configured, made now if this is its first use.
    #[inline]
    pub(crate) fn inflate(
        &mut self,
        id: ClusterId,
        snapshot: &Snapshot,
        shared: &Shared,
        rng: &mut Rng,
    ) -> Option<&mut ClusterState> {
        let at = id.0 as usize;
        if self.states.get(at).is_none_or(Option::is_none) {
            let config = snapshot.cluster(id)?;
            if self.states.len() <= at {
                self.states.resize_with(at + 1, || None);
            }
            let mut state = ClusterState::new(config, shared.cluster(id), rng.next_u64());
            if let Some(local) = config.balancing.local_cluster {
                state.set_local_cluster(snapshot.cluster(local));
                self.local = Some(local);
            }
            self.states[at] = Some(Box::new(state));
        }
        // A cluster that left the configuration finishes its connections but takes no new request.
        snapshot.cluster(id)?;
        self.states.get_mut(at)?.as_deref_mut()
    }

    /// The state of a cluster that was used before.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: ClusterId) -> Option<&mut ClusterState> {
        self.states.get_mut(id.0 as usize)?.as_deref_mut()
    }

    pub(crate) fn get(&self, id: ClusterId) -> Option<&ClusterState> {
        self.states.get(id.0 as usize)?.as_deref()
    }

    /// Ids of the clusters in use.
    pub(crate) fn ids(&self) -> Vec<ClusterId> {
        let used = self.states.iter().enumerate().filter(|(_, state)| state.is_some());
        used.map(|(at, _)| ClusterId(at as u32)).collect()
    }

    /// Takes over what an update says of one cluster; actions are for the caller to run.
    pub(crate) fn update(
        &mut self,
        id: ClusterId,
        snapshot: &Snapshot,
        changes: Option<&EndpointChanges>,
        out: &mut Vec<PoolAction>,
    ) -> Dropped {
        if self.local == Some(id) {
            for state in self.states.iter_mut().flatten() {
                state.set_local_cluster(snapshot.cluster(id));
            }
        }
        let Some(state) = self.get_mut(id) else { return Dropped::default() };
        let mut dropped = Dropped::default();
        match snapshot.cluster(id) {
            Some(config) if !Arc::ptr_eq(config, state.config()) => {
                if !keeps_demanded(&state.config().discovery, &config.discovery) {
                    state.leave_on_demand(&mut dropped, out);
                }
                state.update_by(config, changes, out);
            }
            Some(_) => {}
            None => state.drain(out),
        }
        dropped
    }

    /// Drops a state that nothing uses any more and that the configuration no longer knows.
    pub(crate) fn forget_if_gone(&mut self, id: ClusterId, snapshot: &Snapshot, shared: &Shared) -> Dropped {
        let mut dropped = Dropped::default();
        let gone = snapshot.cluster(id).is_none() && self.get(id).is_some_and(ClusterState::is_quiescent);
        if let (true, Some(slot)) = (gone, self.states.get_mut(id.0 as usize)) {
            if let Some(mut state) = slot.take() {
                state.leave_on_demand(&mut dropped, &mut Vec::new());
                state.leave_health();
            }
            shared.forget_cluster(id);
        }
        dropped
    }

    /// Closes connections that are due, and idle ones of a cluster that left the configuration: one that was opened for
    /// a request that was waiting by then would stay.
    pub(crate) fn expire(
        &mut self,
        id: ClusterId,
        snapshot: &Snapshot,
        now: Time,
        out: &mut Vec<PoolAction>,
    ) {
        let Some(state) = self.get_mut(id) else { return };
        if snapshot.cluster(id).is_none() {
            state.drain(out);
        } else if state.next_expiry().is_some_and(|at| at <= now) {
            state.expire(now, out);
        }
    }
}
