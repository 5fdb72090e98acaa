//! What every translation needs besides the message itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_config::{ClusterId, ScopeId};
use millrace_observe::stats::{Registry, ScopeKind};
use millrace_proto::Path;

use crate::error::Unsupported;
use crate::runtime::Runtime;

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

/// The ids of cluster names. An id is never given to another name.
#[derive(Clone, Debug, Default)]
pub struct ClusterIds(BTreeMap<Arc<str>, ClusterId>);

impl ClusterIds {
    /// The id of `name`, new when the name is.
    pub fn intern(&mut self, name: &str) -> ClusterId {
        if let Some(id) = self.0.get(name) {
            return *id;
        }
        let id = ClusterId(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.insert(name.into(), id);
        id
    }

    /// The id of a known name.
    pub fn get(&self, name: &str) -> Option<ClusterId> {
        self.0.get(name).copied()
    }

    /// Names and ids, by name.
    pub fn names(&self) -> &BTreeMap<Arc<str>, ClusterId> {
        &self.0
    }
}

/// The state of the control thread that translation reads and adds to.
#[derive(Debug)]
pub struct Context {
    /// Where statistics scopes come from.
    pub registry: Registry,
    /// Ids of cluster names, kept across snapshots.
    pub cluster_ids: ClusterIds,
    /// Command line.
    pub overrides: Overrides,
    /// Values of `layered_runtime`, looked up while compiling.
    pub runtime: Runtime,
    /// Names of the clusters that exist; route tables of static listeners are checked against them.
    pub known_clusters: std::collections::BTreeSet<Arc<str>>,
    /// Whether the message under translation is static or dynamic.
    pub source: Source,
    /// Fields that have no effect, in the order in which they were met.
    pub unsupported: Vec<Unsupported>,
}

impl Context {
    /// Nothing known yet.
    pub fn new(registry: Registry, overrides: Overrides) -> Self {
        Self {
            registry,
            cluster_ids: ClusterIds::default(),
            overrides,
            runtime: Runtime::default(),
            known_clusters: std::collections::BTreeSet::new(),
            source: Source::Static,
            unsupported: Vec::new(),
        }
    }

    pub(crate) fn report(&mut self, path: &Path, why: impl Into<String>) {
        self.unsupported.push(Unsupported { path: path.to_string(), why: why.into() });
    }

    /// The scope of this name; `:` would end a metric's name, so it becomes `_` as in Envoy.
    pub(crate) fn scope(&self, kind: ScopeKind, name: &str) -> ScopeId {
        self.registry.scope(kind, &name.replace(':', "_"))
    }
}
