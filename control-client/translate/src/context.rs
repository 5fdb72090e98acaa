//! What every translation needs besides the message itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_config::{BindConfig, ClusterId, DnsResolver, LocalityName, ScopeId};
use millrace_observe::stats::{Registry, ScopeKind};
use millrace_proto::Path;

use crate::dns_cache::DnsCaches;
use crate::error::{Rejection, Unsupported};
use crate::interned::{ClusterIds, RouteTables, ScopeTables, Sources};
use crate::runtime::Runtime;
use crate::secrets::Secrets;
use crate::shared_buckets::SharedBuckets;
use crate::source::StaticResources;
use crate::transport_socket::SharedCredentials;

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--service-node`.
    pub service_node: Option<String>,
    /// `--service-cluster`.
    pub service_cluster: Option<String>,
    /// `--service-zone`.
    pub service_zone: Option<String>,
    /// `--allow-unknown-static-fields`: field numbers that no type knows are reported, not refused.
    pub allow_unknown_static_fields: bool,
    /// `--reject-unknown-dynamic-fields`.
    pub reject_unknown_dynamic_fields: bool,
    /// `--ignore-unknown-dynamic-fields`: they are not even reported.
    pub ignore_unknown_dynamic_fields: bool,
}

/// Whether a message came with the bootstrap or over xDS; decides what unknown fields do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From the bootstrap.
    Static,
    /// From a control plane.
    Dynamic,
}

/// Most things that were reported once and are remembered, so that they are not reported again.
const REPORTED_MAX: usize = 4096;

/// The state of the control thread that translation reads and adds to.
#[derive(Debug)]
pub struct Context {
    /// Where statistics scopes come from.
    pub registry: Registry,
    /// Ids of cluster names, kept across snapshots.
    pub cluster_ids: ClusterIds,
    /// The places that configuration comes from, each once.
    pub sources: Sources,
    /// Route tables that come over RDS, each once.
    pub route_tables: RouteTables,
    /// Scopes that come over SRDS, each once.
    pub scope_tables: ScopeTables,
    /// Secrets that come over SDS, each once.
    pub secrets: Secrets,
    /// Caches of hosts that requests name.
    pub dns_caches: DnsCaches,
    pub(crate) shared_buckets: SharedBuckets,
    /// Command line.
    pub overrides: Overrides,
    /// Values of `layered_runtime`, looked up while compiling.
    pub runtime: Runtime,
    /// Names of the clusters that exist; inline route tables are checked against them.
    pub known_clusters: BTreeSet<Arc<str>>,
    /// Static clusters that only the control client can talk to, with the reason why traffic cannot.
    pub control_clusters: BTreeMap<Arc<str>, Rejection>,
    /// Whether the message under translation is static or dynamic.
    pub source: Source,
    /// Fields that have no effect, in the order in which they were met.
    pub unsupported: Vec<Unsupported>,
    /// Unknown fields in static messages (`server.static_unknown_fields`).
    pub static_unknown_fields: u64,
    /// Unknown fields in dynamic messages (`server.dynamic_unknown_fields`).
    pub dynamic_unknown_fields: u64,
    /// What a source of configuration may name: static clusters and secrets as written.
    pub(crate) statics: Arc<StaticResources>,
    pub(crate) credentials: SharedCredentials,
    /// `node.locality`, unless it is empty.
    pub(crate) node_locality: Option<Arc<LocalityName>>,
    /// `typed_dns_resolver_config` of the bootstrap and what it replaced, for clusters without their own.
    pub(crate) dns_resolver: Option<Arc<DnsResolver>>,
    /// `cluster_manager.upstream_bind_config`, for clusters without their own.
    pub(crate) bind: Option<Box<BindConfig>>,
    /// There is a `cluster_manager.load_stats_config`.
    pub(crate) reports_load: bool,
    /// `cluster_manager.local_cluster_name`.
    pub(crate) local_cluster: Option<ClusterId>,
    reported: BTreeSet<(String, String)>,
}

impl Context {
    /// Nothing known yet.
    pub fn new(registry: Registry, overrides: Overrides) -> Self {
        Self {
            registry,
            cluster_ids: ClusterIds::default(),
            sources: Sources::default(),
            route_tables: RouteTables::default(),
            scope_tables: ScopeTables::default(),
            secrets: Secrets::default(),
            dns_caches: DnsCaches::default(),
            shared_buckets: SharedBuckets::default(),
            overrides,
            runtime: Runtime::default(),
            known_clusters: BTreeSet::new(),
            control_clusters: BTreeMap::new(),
            source: Source::Static,
            unsupported: Vec::new(),
            static_unknown_fields: 0,
            dynamic_unknown_fields: 0,
            statics: Arc::default(),
            credentials: SharedCredentials::default(),
            node_locality: None,
            dns_resolver: None,
            bind: None,
            reports_load: false,
            local_cluster: None,
            reported: BTreeSet::new(),
        }
    }

    /// A cluster of this name exists from now on.
    pub fn cluster_added(&mut self, name: &Arc<str>) {
        self.known_clusters.insert(Arc::clone(name));
    }

    /// No cluster of this name exists any more.
    pub fn cluster_removed(&mut self, name: &str) {
        self.known_clusters.remove(name);
    }

    /// The id of a cluster that traffic is sent to.
    ///
    /// # Errors
    /// A cluster that exists and cannot take traffic: a static one that only the control client can talk to.
    pub(crate) fn target_cluster(&mut self, name: &str, path: &Path) -> Result<ClusterId, Rejection> {
        match self.control_clusters.get(name).filter(|_| !self.known_clusters.contains(name)) {
            None => Ok(self.cluster_ids.intern(name)),
            Some(why) => {
                let why = format!("traffic to the static cluster '{name}' cannot be served: {why}");
                Err(Rejection::not_served(path, why))
            }
        }
    }

    /// As [`Self::target_cluster`] for a table that checks its clusters; `kind` is Envoy's word for the reference.
    pub(crate) fn existing_cluster(
        &mut self,
        name: &str,
        kind: &str,
        path: &Path,
    ) -> Result<ClusterId, Rejection> {
        let id = self.target_cluster(name, path)?;
        match self.known_clusters.contains(name) {
            true => Ok(id),
            false => Err(Rejection::new(path, format!("route: unknown {kind} '{name}'"))),
        }
    }

    pub(crate) fn report(&mut self, path: &Path, why: impl Into<String>) {
        self.unsupported.push(Unsupported { path: path.to_string(), why: why.into() });
    }

    /// What was reported since the last call. Of dynamic resources the same field is reported once only, whatever
    /// the resource and the index.
    pub(crate) fn take_reports(&mut self) -> Vec<Unsupported> {
        let mut reports = std::mem::take(&mut self.unsupported);
        if self.source == Source::Dynamic {
            reports.retain(|report| {
                let key = (without_indices(&report.path), report.why.clone());
                self.reported.len() < REPORTED_MAX && self.reported.insert(key)
            });
        }
        reports
    }

    /// The scope of this name; `:` would end a metric's name, so it becomes `_` as in Envoy.
    pub(crate) fn scope(&self, kind: ScopeKind, name: &str) -> ScopeId {
        self.registry.scope(kind, &name.replace(':', "_"))
    }

    /// As [`Self::scope`], without a copy of the name if it can be had.
    pub(crate) fn scope_of(&self, kind: ScopeKind, name: &Arc<str>) -> ScopeId {
        if name.contains(':') { self.scope(kind, name) } else { self.registry.scope_of(kind, name) }
    }
}

/// A path with everything between brackets left out.
fn without_indices(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut depth = 0_u32;
    for c in path.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_reports_come_once() {
        let mut cx = Context::new(Registry::new(), Overrides::default());
        cx.source = Source::Dynamic;
        cx.report(&Path::from("a").at(0).join("b"), "w");
        cx.report(&Path::from("a").at(1).join("b"), "w");
        cx.report(&Path::from("a").at(1).join("b"), "another");
        assert_eq!(cx.take_reports().len(), 2);
        cx.report(&Path::from("a").at(5).join("b"), "w");
        assert!(cx.take_reports().is_empty());
        cx.source = Source::Static;
        cx.report(&Path::from("a").at(5).join("b"), "w");
        assert_eq!(cx.take_reports().len(), 1);
    }
}
