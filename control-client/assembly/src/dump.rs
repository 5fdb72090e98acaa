//! What `config_dump` shows of dynamic resources.

use crate::stored::{Failure, Stored};
use std::sync::Arc;

use millrace_base::WallTime;
use millrace_config::Cluster;

use crate::Assembly;

/// One resource, or the last one that was refused under its name.
#[derive(Clone, Copy, Debug)]
pub struct DumpEntry<'a> {
    /// Its name.
    pub name: &'a str,
    /// In force.
    pub active: Option<&'a Stored>,
    /// On its way into force.
    pub warming: Option<&'a Stored>,
    /// Refused since.
    pub failure: Option<&'a Failure>,
}

impl Assembly {
    /// `version_info` of the clusters.
    pub fn clusters_version(&self) -> &str {
        &self.versions.clusters
    }

    /// `version_info` of the listeners.
    pub fn listeners_version(&self) -> &str {
        &self.versions.listeners
    }

    /// Clusters of CDS, by name.
    pub fn dynamic_clusters(&self) -> impl Iterator<Item = DumpEntry<'_>> {
        let dynamic = self.clusters.entries.iter().filter(|(_, entry)| !entry.is_static);
        dynamic.map(|(name, entry)| DumpEntry {
            name,
            active: entry.active.as_ref().map(|version| &version.stored),
            warming: entry.warming.as_ref().map(|version| &version.stored),
            failure: entry.failure.as_deref(),
        })
    }

    /// Listeners of LDS, by name.
    pub fn dynamic_listeners(&self) -> impl Iterator<Item = DumpEntry<'_>> {
        let dynamic = self.listeners.iter().filter(|(_, entry)| !entry.is_static);
        dynamic.map(|(name, entry)| DumpEntry {
            name,
            active: entry.active.as_ref().map(|version| &version.stored),
            warming: entry.warming.as_ref().map(|version| &version.stored),
            failure: entry.failure.as_deref(),
        })
    }

    /// Route tables of RDS.
    pub fn dynamic_routes(&self) -> impl Iterator<Item = DumpEntry<'_>> {
        self.routes.iter().flatten().map(|entry| DumpEntry {
            name: &entry.name,
            active: entry.stored.as_ref(),
            warming: None,
            failure: entry.failure.as_deref(),
        })
    }

    /// The virtual hosts that were added to a route table of [`Self::dynamic_routes`], each table's on its own.
    pub fn dynamic_virtual_hosts(&self) -> impl Iterator<Item = impl Iterator<Item = &Stored>> {
        self.routes.iter().flatten().map(|entry| {
            entry.hosts().into_iter().flat_map(|book| book.hosts.values().map(|host| &host.stored))
        })
    }

    /// The scopes of each connection manager that has them from SRDS: name, version, time and scopes.
    pub fn dynamic_scopes(
        &self,
    ) -> impl Iterator<Item = (&str, &str, WallTime, impl Iterator<Item = &Stored>)> {
        self.scopes.iter().flatten().filter(|entry| entry.is_heard).map(|entry| {
            let scopes = entry.versions.values().map(|version| &version.stored);
            (&*entry.name, &*entry.version, entry.updated, scopes)
        })
    }

    /// Secrets of SDS: those that came, and those that are waited for, without a body.
    pub fn dynamic_secrets(&self) -> impl Iterator<Item = DumpEntry<'_>> {
        self.secrets.iter().flatten().map(|entry| DumpEntry {
            name: &entry.name,
            active: entry.stored.as_ref(),
            warming: entry.stored.is_none().then_some(&entry.awaited),
            failure: entry.failure.as_deref(),
        })
    }

    /// Load assignments of EDS.
    pub fn dynamic_endpoints(&self) -> impl Iterator<Item = DumpEntry<'_>> {
        self.assignments.iter().map(|(name, assignment)| DumpEntry {
            name,
            active: assignment.stored.as_ref(),
            warming: None,
            failure: assignment.failure.as_deref(),
        })
    }

    /// Clusters of the bootstrap that serve no traffic, because only the control client can talk to them.
    pub fn control_clusters(&self) -> &[Arc<Cluster>] {
        &self.control_clusters
    }

    /// True for a cluster that came over CDS (`added_via_api`).
    pub fn is_dynamic_cluster(&self, name: &str) -> bool {
        self.clusters.entries.get(name).is_some_and(|entry| !entry.is_static)
    }
}
