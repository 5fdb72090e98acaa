//! Scopes beside a cluster's own: those it asks for, and one for each zone of its endpoints. They go when it goes.

use std::collections::BTreeMap;

use millrace_config::ScopeId;

use super::registry::{Registry, State};
use super::scope::ScopeKind;
use super::shard::ShardStats;

/// Zones of one cluster's endpoints that are counted for; more are not.
const CLUSTER_ZONES_MAX: usize = 64;

/// The same of all clusters.
const ZONES_MAX: usize = 16_384;

/// The registry's part, by the cluster's scope.
#[derive(Debug, Default)]
pub(crate) struct ClusterScopes {
    of: BTreeMap<u32, OfCluster>,
    zones: usize,
}

#[derive(Debug, Default)]
struct OfCluster {
    asked: Vec<ScopeId>,
    zones: Vec<(Box<str>, ScopeId)>,
}

impl ClusterScopes {
    /// The scopes of a cluster that is retired.
    pub(crate) fn forget(&mut self, cluster: ScopeId) -> Vec<ScopeId> {
        let Some(gone) = self.of.remove(&cluster.0) else { return Vec::new() };
        self.zones -= gone.zones.len();
        gone.asked.into_iter().chain(gone.zones.into_iter().map(|(_, scope)| scope)).collect()
    }
}

impl State {
    fn cluster_name(&self, cluster: ScopeId) -> Option<&str> {
        let scope = self.scopes.get(cluster.0 as usize)?;
        (scope.live && scope.kind == ScopeKind::Cluster).then_some(&*scope.name)
    }

    fn zone_scope(&mut self, cluster: ScopeId, from: &str, to: &str) -> Option<ScopeId> {
        let name = self.cluster_name(cluster)?;
        // As in Envoy, colons of zones are printed.
        let name = format!("{name}.zone.{from}.{to}").replace(['\0', '\n', '\r'], "_");
        let known = self.beside.of.get(&cluster.0).map(|of| &of.zones[..]).unwrap_or_default();
        if let Some((_, scope)) = known.iter().find(|(zone, _)| **zone == *to) {
            return Some(*scope);
        }
        if known.len() >= CLUSTER_ZONES_MAX || self.beside.zones >= ZONES_MAX {
            return None;
        }
        let scope = self.named((ScopeKind::ClusterZone, name.into()));
        self.beside.of.entry(cluster.0).or_default().zones.push((to.into(), scope));
        self.beside.zones += 1;
        Some(scope)
    }
}

impl Registry {
    /// The scope of kind [`ScopeKind::ClusterSizes`] or [`ScopeKind::ClusterBudgets`] of a cluster; it exists from the
    /// first call on.
    pub fn cluster_scope(&self, cluster: ScopeId, kind: ScopeKind) -> Option<ScopeId> {
        let mut state = self.lock();
        let name = state.cluster_name(cluster)?.into();
        let scope = state.named((kind, name));
        let of = state.beside.of.entry(cluster.0).or_default();
        if !of.asked.contains(&scope) {
            of.asked.push(scope);
        }
        Some(scope)
    }
}

/// One shard's part: the zones that it knows, in the order of their clusters' scopes. Every request asks, and a search
/// costs less than a hash.
#[derive(Debug, Default)]
pub(crate) struct KnownZones(Vec<(u32, Zones)>);

/// The zones of one cluster's endpoints, and who counts for each; nobody where there was no room.
type Zones = Vec<(Box<str>, Option<ScopeId>)>;

impl KnownZones {
    pub(crate) fn forget(&mut self, cluster: ScopeId) {
        if let Ok(at) = self.0.binary_search_by_key(&cluster.0, |(id, _)| *id) {
            self.0.remove(at);
        }
    }

    fn of(&mut self, cluster: ScopeId) -> &mut Zones {
        let at = self.0.binary_search_by_key(&cluster.0, |(id, _)| *id).unwrap_or_else(|at| {
            self.0.insert(at, (cluster.0, Vec::new()));
            at
        });
        &mut self.0[at].1
    }
}

impl ShardStats {
    /// The scope (kind [`ScopeKind::ClusterZone`]) in which what endpoints of the zone `to` answered counts, too.
    /// `from` is the zone that this process is in. `None` without room. Locks once for each zone.
    pub fn zone_scope(&mut self, cluster: ScopeId, from: &str, to: &str) -> Option<ScopeId> {
        let known = self.zones.of(cluster);
        if let Some((_, scope)) = known.iter().find(|(zone, _)| **zone == *to) {
            return *scope;
        }
        let scope = self.registry().lock().zone_scope(cluster, from, to);
        // What found no room is remembered, but not for ever.
        let known = self.zones.of(cluster);
        known.truncate(2 * CLUSTER_ZONES_MAX - 1);
        known.push((to.into(), scope));
        scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_bounded_and_go_with_their_cluster() {
        let registry = Registry::new();
        let mut shard = registry.attach_shard("worker_0");
        let cluster = registry.scope(ScopeKind::Cluster, "a");
        let zones: Vec<_> =
            (0..70).map(|zone| shard.zone_scope(cluster, "here", &format!("z{zone}"))).collect();
        assert!(zones[..64].iter().all(Option::is_some) && zones[64..].iter().all(Option::is_none));
        assert_eq!(shard.zone_scope(cluster, "here", "z3"), zones[3]);
        let sizes = registry.cluster_scope(cluster, ScopeKind::ClusterSizes);
        assert_eq!(registry.cluster_scope(cluster, ScopeKind::ClusterSizes), sizes);
        registry.retire(cluster);
        assert_eq!(shard.zone_scope(registry.scope(ScopeKind::Server, ""), "here", "z"), None);
        assert_eq!(registry.cluster_scope(cluster, ScopeKind::ClusterSizes), None);
        shard.sweep();
        let again = registry.scope(ScopeKind::Cluster, "a");
        assert!(shard.zone_scope(again, "here", "z80").is_some());
    }
}
