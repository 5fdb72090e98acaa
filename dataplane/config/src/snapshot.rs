//! Everything a shard needs to serve, swapped as a whole and never edited.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Cluster, ClusterId, Listener};

/// `envoy.config.core.v3.Node` as far as templates and admin print it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// `node.id` (or `--service-node`).
    pub id: Arc<str>,
    /// `node.cluster` (or `--service-cluster`).
    pub cluster: Arc<str>,
    /// `node.locality.zone` (or `--service-zone`).
    pub zone: Arc<str>,
}

/// One consistent configuration. Shards take one `Arc` per update.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts up with every published snapshot.
    pub version: u64,
    /// Who we are.
    pub node: Arc<Node>,
    /// Listeners in configuration order; names are unique.
    pub listeners: Vec<Arc<Listener>>,
    /// Clusters by [`ClusterId`]; `None` where an interned name has no cluster now.
    pub clusters: Vec<Option<Arc<Cluster>>>,
    /// Ids by name, for `cluster_header` and admin.
    pub cluster_names: BTreeMap<Arc<str>, ClusterId>,
}

impl Snapshot {
    /// The cluster, unless it is not configured.
    #[inline]
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.get(id.0 as usize)?.as_ref()
    }

    /// Looks a cluster up by name.
    pub fn cluster_by_name(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.cluster(*self.cluster_names.get(name)?)
    }
}
