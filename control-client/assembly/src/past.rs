//! What updates replaced, until nobody else holds it: freeing a table of thousands of routes takes milliseconds, which
//! the control thread has and a shard has not.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_config::{Cluster, ClusterId, Listener, ListenerChange, RouteConfiguration, Snapshot, Update};

type Names = BTreeMap<Arc<str>, ClusterId>;

/// Replaced versions. Streams hold on to theirs until they end, shards until they took the update.
#[derive(Debug, Default)]
pub(crate) struct Past {
    clusters: Vec<Arc<Cluster>>,
    tables: Vec<Arc<RouteConfiguration>>,
    listeners: Vec<Arc<Listener>>,
    names: Vec<Arc<Names>>,
    /// A deadline to sweep is set.
    pub(crate) is_expected: bool,
}

impl Past {
    /// Takes what `update` is about to replace. (Clusters that are removed rest in the graveyard.)
    pub(crate) fn keep(&mut self, snapshot: &Snapshot, update: &Update) {
        let changed = update.clusters.iter().filter(|(_, cluster)| cluster.is_some());
        self.clusters.extend(changed.filter_map(|(id, _)| snapshot.cluster(*id).cloned()));
        let tables = update.route_tables.iter().filter_map(|(id, _)| snapshot.route_table(*id).cloned());
        self.tables.extend(tables);
        for change in &update.listeners {
            let name = match change {
                ListenerChange::Replace(listener, _) => &listener.name,
                ListenerChange::Remove(name, _) => name,
            };
            self.listeners.extend(snapshot.listeners.iter().find(|old| old.name == *name).cloned());
        }
        if update.cluster_names.is_some() {
            self.names.push(snapshot.cluster_names.clone());
        }
    }

    /// Frees what only we hold.
    pub(crate) fn sweep(&mut self) {
        sweep(&mut self.clusters);
        sweep(&mut self.tables);
        sweep(&mut self.listeners);
        sweep(&mut self.names);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.clusters.is_empty()
            && self.tables.is_empty()
            && self.listeners.is_empty()
            && self.names.is_empty()
    }
}

fn sweep<T>(held: &mut Vec<Arc<T>>) {
    held.retain(|one| Arc::strong_count(one) > 1);
    if held.is_empty() {
        *held = Vec::new();
    }
}
