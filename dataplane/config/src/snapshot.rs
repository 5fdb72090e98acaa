//! Everything a shard needs to serve, swapped as a whole and never edited.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    AccessLogSink, Cluster, ClusterId, EndpointChanges, Listener, OverloadManager, RouteConfiguration,
    RouteTableId, ScopeTable, ScopeTableId, Secret, SecretId,
};

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
    pub cluster_names: Arc<BTreeMap<Arc<str>, ClusterId>>,
    /// Tables that came over RDS, by [`RouteTableId`]; `None` where none has arrived.
    pub route_tables: Vec<Option<Arc<RouteConfiguration>>>,
    /// Scopes that came over SRDS, by [`ScopeTableId`]; `None` where none have arrived.
    pub scope_tables: Vec<Option<Arc<ScopeTable>>>,
    /// Secrets that came over SDS, by [`SecretId`]; `None` where none has arrived.
    pub secrets: Vec<Option<Secret>>,
    /// `cluster_manager.outlier_detection.event_log_path`, as a file.
    pub outlier_log: Option<Arc<AccessLogSink>>,
    /// `overload_manager`, or what takes its place.
    pub overload: Option<Arc<OverloadManager>>,
}

/// What changes from one snapshot to the next. Its size is that of the change, not of the configuration:
/// every holder of a [`Snapshot`] applies it in place.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The version after it.
    pub version: u64,
    /// Clusters that are new or changed, and those that are gone.
    pub clusters: Vec<(ClusterId, Option<Arc<Cluster>>)>,
    /// What of their endpoints changed, for some of the changed ones: shards need not compare all endpoints of these.
    pub endpoints: Vec<EndpointChanges>,
    /// Clusters whose endpoints are checked before they serve.
    pub warming: Vec<Arc<Cluster>>,
    /// All names, when there are new ones.
    pub cluster_names: Option<Arc<BTreeMap<Arc<str>, ClusterId>>>,
    /// Route tables that are new or changed, and those that are gone.
    pub route_tables: Vec<(RouteTableId, Option<Arc<RouteConfiguration>>)>,
    /// Scopes that are new or changed, and those that are gone.
    pub scope_tables: Vec<(ScopeTableId, Option<Arc<ScopeTable>>)>,
    /// Secrets that are new or changed, and those that are gone. They take effect before clusters and listeners.
    pub secrets: Vec<(SecretId, Option<Secret>)>,
    /// Listeners, in the order in which they take effect.
    pub listeners: Vec<ListenerChange>,
}

/// What happens to a listener that is in force. New ones come with their sockets instead.
#[derive(Clone, Debug)]
pub enum ListenerChange {
    /// It keeps its name, its addresses and its sockets. Connections whose filter chain (by `Arc`) is not
    /// among the new ones drain for the given time; all others go on.
    Replace(Arc<Listener>, Duration),
    /// Its sockets close and its connections drain for the given time.
    Remove(Arc<str>, Duration),
}

impl Update {
    /// True when applying it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
            && self.warming.is_empty()
            && self.cluster_names.is_none()
            && self.route_tables.is_empty()
            && self.scope_tables.is_empty()
            && self.secrets.is_empty()
            && self.listeners.is_empty()
    }
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

    /// The table that came over RDS, if it did.
    #[inline]
    pub fn route_table(&self, id: RouteTableId) -> Option<&Arc<RouteConfiguration>> {
        self.route_tables.get(id.0 as usize)?.as_ref()
    }

    /// The scopes that came over SRDS, if they did.
    #[inline]
    pub fn scope_table(&self, id: ScopeTableId) -> Option<&Arc<ScopeTable>> {
        self.scope_tables.get(id.0 as usize)?.as_ref()
    }

    /// The secret that came over SDS, if it did.
    pub fn secret(&self, id: SecretId) -> Option<&Secret> {
        self.secrets.get(id.0 as usize)?.as_ref()
    }

    /// Takes the next version. Costs what the update holds.
    pub fn apply(&mut self, update: &Update) {
        self.version = update.version;
        for (id, secret) in &update.secrets {
            *slot(&mut self.secrets, id.0) = secret.clone();
        }
        for (id, cluster) in &update.clusters {
            *slot(&mut self.clusters, id.0) = cluster.clone();
        }
        if let Some(names) = &update.cluster_names {
            self.cluster_names = names.clone();
        }
        for (id, table) in &update.route_tables {
            *slot(&mut self.route_tables, id.0) = table.clone();
        }
        for (id, scopes) in &update.scope_tables {
            *slot(&mut self.scope_tables, id.0) = scopes.clone();
        }
        for change in &update.listeners {
            match change {
                ListenerChange::Replace(listener, _) => {
                    let old = self.listeners.iter_mut().find(|old| old.name == listener.name);
                    if let Some(old) = old {
                        *old = listener.clone();
                    }
                }
                ListenerChange::Remove(name, _) => self.listeners.retain(|old| old.name != *name),
            }
        }
    }
}

fn slot<T>(slots: &mut Vec<Option<T>>, id: u32) -> &mut Option<T> {
    let at = id as usize;
    if slots.len() <= at {
        slots.resize_with(at + 1, || None);
    }
    &mut slots[at]
}
