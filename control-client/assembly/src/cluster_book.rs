//! Every cluster that is known, by name: what serves and what warms.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_base::Time;
use millrace_config::{Cluster, ClusterId};

use crate::stored::{Failure, Stored};

/// One version of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterVersion {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) stored: Stored,
}

/// One cluster.
#[derive(Debug)]
pub(crate) struct ClusterEntry {
    /// From the bootstrap: no control plane changes or removes it.
    pub(crate) is_static: bool,
    pub(crate) active: Option<ClusterVersion>,
    /// Most clusters are warm.
    pub(crate) warming: Option<Box<ClusterVersion>>,
    /// When the warming version serves without its endpoints.
    pub(crate) deadline: Option<Time>,
    /// The warming version has its endpoints and waits for secrets.
    pub(crate) waits_for_secrets: bool,
    /// The warming version has everything but the first results of its health checks.
    pub(crate) waits_for_checks: bool,
    /// All its names were resolved once; always true of clusters without.
    pub(crate) is_resolved: bool,
    pub(crate) failure: Option<Box<Failure>>,
}

impl ClusterEntry {
    pub(crate) fn new(is_static: bool) -> Self {
        Self {
            is_static,
            active: None,
            warming: None,
            deadline: None,
            waits_for_secrets: false,
            waits_for_checks: false,
            is_resolved: true,
            failure: None,
        }
    }

    /// The version that endpoints belong to: the next one, if one is on its way.
    pub(crate) fn latest(&self) -> Option<&ClusterVersion> {
        self.warming.as_deref().or(self.active.as_ref())
    }
}

/// Clusters by name.
#[derive(Default)]
pub(crate) struct ClusterBook {
    pub(crate) entries: BTreeMap<Arc<str>, ClusterEntry>,
    pub(crate) warming: usize,
    pub(crate) active: usize,
    names: BTreeMap<ClusterId, Arc<str>>,
    /// Of clusters whose endpoints are checked.
    checked: BTreeMap<ClusterId, Arc<str>>,
}

impl ClusterBook {
    /// The entry, made if it is new.
    pub(crate) fn entry(&mut self, name: &Arc<str>, is_static: bool) -> &mut ClusterEntry {
        self.entries.entry(name.clone()).or_insert_with(|| ClusterEntry::new(is_static))
    }

    /// Clusters whose names are resolved, by id.
    pub(crate) fn resolved_name(&self, id: ClusterId) -> Option<Arc<str>> {
        self.names.get(&id).cloned()
    }

    /// The name of a cluster whose endpoints are checked.
    pub(crate) fn checked_name(&self, id: ClusterId) -> Option<Arc<str>> {
        self.checked.get(&id).cloned()
    }

    pub(crate) fn checks(&mut self, cluster: &Cluster) {
        self.checked.insert(cluster.id, cluster.name.clone());
    }

    pub(crate) fn resolves(&mut self, cluster: &Cluster) {
        self.names.insert(cluster.id, cluster.name.clone());
    }

    /// True if it was one whose names are resolved.
    pub(crate) fn resolves_no_more(&mut self, id: ClusterId) -> bool {
        self.names.remove(&id).is_some()
    }

    pub(crate) fn start_warming(&mut self, name: &Arc<str>, version: ClusterVersion, deadline: Option<Time>) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        self.warming += usize::from(entry.warming.is_none());
        entry.warming = Some(Box::new(version));
        entry.deadline = deadline;
        (entry.waits_for_secrets, entry.waits_for_checks) = (false, false);
    }

    /// Takes the version that warms out of its entry.
    pub(crate) fn stop_warming(&mut self, name: &str) -> Option<ClusterVersion> {
        let entry = self.entries.get_mut(name)?;
        let version = entry.warming.take()?;
        entry.deadline = None;
        self.warming -= 1;
        Some(*version)
    }

    /// Puts a version in force and returns the one before it.
    pub(crate) fn activate(&mut self, name: &str, version: ClusterVersion) -> Option<ClusterVersion> {
        let entry = self.entries.get_mut(name)?;
        let before = entry.active.replace(version);
        self.active += usize::from(before.is_none());
        before
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<ClusterEntry> {
        let entry = self.entries.remove(name)?;
        if let Some(latest) = entry.latest() {
            self.checked.remove(&latest.cluster.id);
        }
        self.warming -= usize::from(entry.warming.is_some());
        self.active -= usize::from(entry.active.is_some());
        Some(entry)
    }
}
