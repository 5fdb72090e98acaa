//! What happens when nothing happens: fetches that take too long, drains that end.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_base::Time;
use millrace_config::{ClusterId, RouteTableId, ScopeTableId, SecretId, SourceId};

/// Why to look again. What a deadline was set for may be over by then; whoever handles it checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The endpoints of a warming cluster have not come.
    Cluster(Arc<str>),
    /// A route table has not come.
    Table(RouteTableId),
    /// A table without users may be forgotten.
    ForgetTable(RouteTableId),
    /// Scopes have not come.
    Scopes(ScopeTableId),
    /// Scopes without users may be forgotten.
    ForgetScopes(ScopeTableId),
    /// A secret has not come.
    Secret(SecretId),
    /// A secret without users may be forgotten.
    ForgetSecret(SecretId),
    /// The first answer of CDS has not come.
    Cds,
    /// The first answer of LDS has not come.
    Lds,
    /// A runtime layer has not come.
    Layer(Arc<str>),
    /// A removed or replaced listener has drained.
    Drained,
    /// Changes of a cluster's endpoints were kept back.
    Merged(ClusterId),
    /// The bytes of a load assignment that replaced another may be compressed.
    Packed(SourceId, Arc<str>),
    /// A load assignment has been in force for as long as it holds.
    Stale(SourceId, Arc<str>),
    /// Replaced versions may have no users any more.
    Past,
    /// Scopes of removed endpoints and clusters may be free.
    Graves,
}

/// Deadlines in order.
#[derive(Default)]
pub(crate) struct Deadlines {
    at: BTreeMap<(Time, u64), Due>,
    count: u64,
}

impl Deadlines {
    pub(crate) fn insert(&mut self, at: Time, due: Due) {
        self.count += 1;
        self.at.insert((at, self.count), due);
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.at.keys().next().map(|(at, _)| *at)
    }

    /// The earliest one, if its time has come.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Due> {
        let entry = self.at.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}
