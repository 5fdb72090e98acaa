//! Scopes beside a cluster's own: those it asks for, one for each zone of its endpoints, and those of gRPC calls
//! ([`super::grpc_scopes`]). They come into being while traffic flows, are bounded, and go when the cluster goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_config::ScopeId;

use super::grpc_scopes::GrpcProtocol;
use super::registry::{Registry, State};
use super::scope::ScopeKind;
use super::shard::ShardStats;

/// Zones of one cluster's endpoints that are counted for; more are not.
const CLUSTER_ZONES_MAX: usize = 64;

/// The same of all clusters.
const ZONES_MAX: usize = 16_384;

/// Methods of one cluster that have scopes of their own.
pub(crate) const CLUSTER_METHODS_MAX: usize = 256;

/// The same of all clusters.
pub(crate) const METHODS_MAX: usize = 4096;

/// What a scope beside a cluster's own counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Beside {
    /// What the cluster asks for, without a name.
    Asked(ScopeKind),
    /// Answers of a zone, by its name.
    Zone,
    /// Calls of a method, by its name; of all others without one.
    Call(GrpcProtocol),
}

impl Beside {
    /// Where names of this kind are counted, and how many there may be of a cluster and of all.
    fn bound(self, name: &str) -> Option<(usize, [usize; 2])> {
        match self {
            Self::Zone => Some((0, [CLUSTER_ZONES_MAX, ZONES_MAX])),
            Self::Call(_) if !name.is_empty() => Some((1, [CLUSTER_METHODS_MAX, METHODS_MAX])),
            Self::Asked(_) | Self::Call(_) => None,
        }
    }
}

/// The registry's part, by the cluster's scope.
#[derive(Debug, Default)]
pub(crate) struct ClusterScopes {
    of: BTreeMap<u32, OfCluster>,
    counts: [usize; 2],
}

#[derive(Debug, Default)]
struct OfCluster {
    scopes: BTreeMap<(Beside, Box<str>), ScopeId>,
    counts: [usize; 2],
}

impl ClusterScopes {
    /// The scopes of a cluster that is retired.
    pub(crate) fn forget(&mut self, cluster: ScopeId) -> Vec<ScopeId> {
        let Some(gone) = self.of.remove(&cluster.0) else { return Vec::new() };
        self.counts.iter_mut().zip(gone.counts).for_each(|(all, own)| *all -= own);
        gone.scopes.into_values().collect()
    }

    /// Those of one kind, by their names.
    pub(crate) fn all(&self, cluster: ScopeId, what: Beside) -> Vec<(Box<str>, ScopeId)> {
        let scopes = self.of.get(&cluster.0).map(|of| &of.scopes).into_iter().flatten();
        scopes.filter(|((kind, _), _)| *kind == what).map(|((_, name), id)| (name.clone(), *id)).collect()
    }
}

impl State {
    /// The scope of something beside a cluster's own, made by the first call: `print` makes its kind and full name from the
    /// cluster's. `None` when the cluster is gone, or there is no room.
    pub(crate) fn scope_beside(
        &mut self,
        cluster: ScopeId,
        (what, name): (Beside, &str),
        print: impl FnOnce(&str) -> (ScopeKind, Arc<str>),
    ) -> Option<ScopeId> {
        let parent = self.scopes.get(cluster.0 as usize)?;
        if !parent.live || parent.kind != ScopeKind::Cluster {
            return None;
        }
        let key = (what, Box::from(name));
        let of = self.beside.of.get(&cluster.0);
        if let Some(known) = of.and_then(|of| of.scopes.get(&key)) {
            return Some(*known);
        }
        let bound = what.bound(name);
        if let Some((at, [most, most_of_all])) = bound
            && (of.is_some_and(|of| of.counts[at] >= most) || self.beside.counts[at] >= most_of_all)
        {
            return None;
        }
        let printed = print(&parent.name);
        let scope = self.named(printed);
        let of = self.beside.of.entry(cluster.0).or_default();
        of.scopes.insert(key, scope);
        if let Some((at, _)) = bound {
            of.counts[at] += 1;
            self.beside.counts[at] += 1;
        }
        Some(scope)
    }
}

impl Registry {
    /// The scope of kind [`ScopeKind::ClusterSizes`] or [`ScopeKind::ClusterBudgets`] of a cluster; it exists from the
    /// first call on.
    pub fn cluster_scope(&self, cluster: ScopeId, kind: ScopeKind) -> Option<ScopeId> {
        self.lock().scope_beside(cluster, (Beside::Asked(kind), ""), |parent| (kind, parent.into()))
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
        // As in Envoy, colons of zones are printed.
        let printed = |parent: &str| format!("{parent}.zone.{from}.{to}").replace(['\0', '\n', '\r'], "_");
        let named = |parent: &str| (ScopeKind::ClusterZone, printed(parent).into());
        let scope = self.registry().lock().scope_beside(cluster, (Beside::Zone, to), named);
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
