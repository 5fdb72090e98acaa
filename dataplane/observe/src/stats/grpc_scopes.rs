//! Scopes of gRPC calls: clients name them, so they are bounded, as [`super::cluster_scopes`] says.

use std::collections::HashMap;

use millrace_config::ScopeId;

use super::cluster_scopes::Beside;
use super::registry::{State, printable};
use super::scope::ScopeKind;
use super::shard::ShardStats;

/// What a call came as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GrpcProtocol {
    /// gRPC: `cluster.<name>.grpc.`.
    Grpc,
    /// gRPC-Web: `cluster.<name>.grpc-web.`.
    Web,
}

impl GrpcProtocol {
    /// Length of a method's name from which on it has no scope of its own.
    pub const NAME_BYTES_MAX: usize = 256;

    fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Web => "grpc-web",
        }
    }
}

impl State {
    /// The scope of one method, or of all calls without a name (empty). `None` when the cluster is gone, or there is no
    /// room.
    fn grpc_scope(&mut self, cluster: ScopeId, protocol: GrpcProtocol, method: &str) -> Option<ScopeId> {
        let dot = if method.is_empty() { "" } else { "." };
        let name = |parent: &str| printable(&format!("{parent}.{}{dot}{method}", protocol.name()));
        let what = (Beside::Call(protocol), method);
        self.scope_beside(cluster, what, |parent| (ScopeKind::Grpc, name(parent)))
    }
}

/// One shard's part: the scopes that it knows.
#[derive(Debug, Default)]
pub(crate) struct KnownGrpcScopes(HashMap<(u32, GrpcProtocol), OfCalls>);

#[derive(Debug, Default)]
struct OfCalls {
    known: HashMap<Box<str>, ScopeId>,
    /// There was no room for a method, and all methods that have a scope are known: nothing is asked for again.
    full: bool,
}

impl KnownGrpcScopes {
    pub(crate) fn forget(&mut self, cluster: ScopeId) {
        if !self.0.is_empty() {
            self.0.remove(&(cluster.0, GrpcProtocol::Grpc));
            self.0.remove(&(cluster.0, GrpcProtocol::Web));
        }
    }
}

impl ShardStats {
    /// The scope (kind [`ScopeKind::Grpc`]) in which calls to a cluster count, those of one method (`service.method`) or
    /// all others. It is valid until the next [`ShardStats::sweep`]; `None` when the cluster is gone. At most 256
    /// methods of a cluster and 4,096 of the process have scopes of their own: further ones count with those
    /// without a name, and in its `methods_overflow` each time. Locks once for each name.
    pub fn grpc_scope(
        &mut self,
        cluster: ScopeId,
        protocol: GrpcProtocol,
        method: Option<&str>,
    ) -> Option<ScopeId> {
        let calls = self.grpc.0.get(&(cluster.0, protocol));
        if let Some(known) = calls.and_then(|calls| calls.known.get(method.unwrap_or_default())) {
            return Some(*known);
        }
        let full = method.is_some() && calls.is_some_and(|calls| calls.full);
        if !full && let Some(scope) = self.new_grpc_scope(cluster, protocol, method.unwrap_or_default()) {
            return Some(scope);
        }
        method?;
        let rest = self.grpc_scope(cluster, protocol, None)?;
        self.inc(rest, super::grpc::METHODS_OVERFLOW);
        Some(rest)
    }

    /// Asks the registry, and takes the array at once, so that the scope is this shard's from now on.
    #[cold]
    fn new_grpc_scope(&mut self, cluster: ScopeId, protocol: GrpcProtocol, method: &str) -> Option<ScopeId> {
        let registry = self.registry().clone();
        let mut state = registry.lock();
        // The cluster's own array, too: with it this shard is told when they are retired.
        self.keep(cluster, state.inflate(self.shard(), cluster)?);
        let scope = state.grpc_scope(cluster, protocol, method);
        let found = match scope {
            Some(scope) => vec![(Box::from(method), scope)],
            None => state.beside.all(cluster, Beside::Call(protocol)),
        };
        for (_, scope) in &found {
            self.keep(*scope, state.inflate(self.shard(), *scope)?);
        }
        drop(state);
        let calls = self.grpc.0.entry((cluster.0, protocol)).or_default();
        calls.known.extend(found);
        calls.full |= scope.is_none();
        scope
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster_scopes::{CLUSTER_METHODS_MAX, METHODS_MAX};
    use super::super::{Registry, grpc as metric};
    use super::*;

    #[test]
    fn calls_have_scopes_below_their_cluster() {
        let registry = Registry::new();
        let cluster = registry.scope(ScopeKind::Cluster, "c");
        let mut shard = registry.attach_shard("worker_0");
        let mut scope = |protocol, name| shard.grpc_scope(cluster, protocol, name).unwrap();
        let all = scope(GrpcProtocol::Grpc, None);
        let method = scope(GrpcProtocol::Grpc, Some("a.S.M"));
        let web = scope(GrpcProtocol::Web, Some("a.S.M"));
        assert_eq!(scope(GrpcProtocol::Grpc, Some("a.S.M")), method);
        let name = |id: ScopeId| registry.lock().scopes[id.0 as usize].name.to_string();
        assert_eq!([name(all), name(method), name(web)], ["c.grpc", "c.grpc.a.S.M", "c.grpc-web.a.S.M"]);
        let route = registry.scope(ScopeKind::Route, "r");
        assert_eq!(shard.grpc_scope(route, GrpcProtocol::Grpc, None), None);
    }

    #[test]
    fn methods_are_bounded_and_what_is_left_over_is_counted() {
        let registry = Registry::new();
        let cluster = registry.scope(ScopeKind::Cluster, "c");
        let mut shards = [registry.attach_shard("worker_0"), registry.attach_shard("worker_1")];
        for i in 0..CLUSTER_METHODS_MAX + 10 {
            let name = format!("s.m{i}");
            for shard in &mut shards {
                let scope = shard.grpc_scope(cluster, GrpcProtocol::Grpc, Some(&name)).unwrap();
                shard.inc(scope, metric::TOTAL);
            }
        }
        let all = registry.scope(ScopeKind::Grpc, "c.grpc");
        assert_eq!(registry.counter(all, metric::METHODS_OVERFLOW), 20);
        assert_eq!(registry.counter(all, metric::TOTAL), 20);
        let first = registry.scope(ScopeKind::Grpc, "c.grpc.s.m0");
        assert_eq!(registry.counter(first, metric::TOTAL), 2);
        // A shard that learns late that there is no room knows the others' methods.
        let mut late = registry.attach_shard("worker_2");
        for name in ["s.new", "s.m5"] {
            let scope = late.grpc_scope(cluster, GrpcProtocol::Grpc, Some(name)).unwrap();
            assert_eq!(scope == all, name == "s.new");
        }
    }

    #[test]
    fn they_leave_with_their_cluster_and_make_room() {
        let registry = Registry::new();
        let mut shard = registry.attach_shard("worker_0");
        let mut clusters = Vec::new();
        for c in 0..=METHODS_MAX / CLUSTER_METHODS_MAX {
            let cluster = registry.scope(ScopeKind::Cluster, &format!("c{c}"));
            for m in 0..CLUSTER_METHODS_MAX {
                shard.grpc_scope(cluster, GrpcProtocol::Grpc, Some(&format!("s.m{m}"))).unwrap();
            }
            clusters.push(cluster);
        }
        let last = registry.scope(ScopeKind::Grpc, &format!("c{}.grpc", clusters.len() - 1));
        assert_eq!(registry.counter(last, metric::METHODS_OVERFLOW), CLUSTER_METHODS_MAX as u64);
        let count = |registry: &Registry| {
            let state = registry.lock();
            state.scopes.iter().filter(|s| s.live && s.kind == ScopeKind::Grpc).count()
        };
        let before = count(&registry);
        registry.retire(clusters[0]);
        assert_eq!(count(&registry), before - CLUSTER_METHODS_MAX);
        shard.sweep();
        assert_eq!(shard.grpc_scope(clusters[0], GrpcProtocol::Grpc, Some("s.m1")), None);
        let again = registry.scope(ScopeKind::Cluster, "again");
        let scope = shard.grpc_scope(again, GrpcProtocol::Grpc, Some("s.m1")).unwrap();
        shard.inc(scope, metric::TOTAL);
        assert_eq!(registry.counter(registry.scope(ScopeKind::Grpc, "again.grpc.s.m1"), metric::TOTAL), 1);
    }
}
