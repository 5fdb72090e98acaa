//! Endpoints of STRICT_DNS and LOGICAL_DNS clusters: one task per name, results as a stream of updates. Hosts that
//! requests name are `host_cache`'s.
//!
//! `hosts` answers from `/etc/hosts`, `lookup` asks name servers, `cluster` turns answers into endpoints;
//! this module schedules.

mod cluster;
mod host_cache;
mod hosts;
mod lookup;
mod resolvers;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_config::{Cluster, ClusterDiscovery, ClusterId, LocalityEndpoints};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use cluster::Members;
pub use host_cache::{HostCaches, HostEvent};
pub use lookup::{Answer, Family, Lookup, LookupError, SystemResolver};
use resolvers::Resolvers;
use schedule::{Answered, Watch};

/// Addresses that are taken from one answer.
pub const ADDRESSES_MAX: usize = 1024;

/// How one resolution ended, as Envoy 1.40 counts it in the cluster's scope: one `update_attempt`, then
/// `update_success` or `update_failure`. A success without new endpoints is an `update_no_rebuild` too;
/// `update_empty` stays 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `update_success`.
    Success,
    /// `update_success` of a strict cluster without an address: the name is gone, and so are its hosts.
    Empty,
    /// `update_failure`: no answer, or an empty one for a logical cluster; the last endpoints stay.
    Failure,
}

/// What came of a question, as `dns.cares.` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// There are addresses.
    Found,
    /// `not_found`: no such name, or no address.
    NotFound,
    /// `get_addr_failure`.
    Failed,
    /// `timeout`, and `get_addr_failure`.
    TimedOut,
}

impl Query {
    fn of(result: &Result<Answer, LookupError>) -> Self {
        match result {
            Ok(answer) if answer.addresses.is_empty() => Self::NotFound,
            Ok(_) => Self::Found,
            Err(error) if error.timed_out => Self::TimedOut,
            Err(_) => Self::Failed,
        }
    }
}

/// One resolution has ended.
#[derive(Clone, Debug)]
pub struct DnsUpdate {
    /// Whose name it was.
    pub cluster: ClusterId,
    /// The name.
    pub host: Arc<str>,
    /// How it ended.
    pub outcome: Outcome,
    /// What the name servers said.
    pub query: Query,
    /// The cluster's endpoints, if they changed. Scopes are those of the targets' templates.
    pub localities: Option<Vec<LocalityEndpoints>>,
    /// Every name of the cluster was resolved at least once, with whatever result: the cluster is warm.
    pub warm: bool,
}

struct Entry {
    generation: u64,
    members: Members,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The resolved clusters.
pub struct DnsUpdates<L> {
    resolvers: Resolvers<L>,
    entries: BTreeMap<ClusterId, Entry>,
    generation: u64,
    sender: mpsc::Sender<Answered>,
    answers: mpsc::Receiver<Answered>,
}

impl<L: Lookup> DnsUpdates<L> {
    /// Nothing is resolved yet.
    pub fn new(lookup: L) -> Self {
        let (sender, answers) = mpsc::channel(64);
        let resolvers = Resolvers::new(lookup);
        Self { resolvers, entries: BTreeMap::new(), generation: 0, sender, answers }
    }

    /// Starts to resolve a cluster's names, replacing what was known under its id; clusters with another
    /// discovery are forgotten. Must run inside the runtime.
    pub fn watch(&mut self, cluster: &Cluster) {
        self.entries.remove(&cluster.id);
        let ClusterDiscovery::Dns { logical, targets, family, schedule, resolver, .. } = &cluster.discovery
        else {
            return;
        };
        let lookup = self.resolvers.of(resolver.as_ref());
        self.generation += 1;
        let generation = self.generation;
        let tasks = targets.iter().enumerate().map(|(index, target)| {
            let watch = Watch {
                cluster: cluster.id,
                generation,
                target: index,
                host: Arc::clone(&target.host),
                family: *family,
                logical: *logical,
                schedule: *schedule,
            };
            tokio::spawn(watch.run(Arc::clone(&lookup), self.sender.clone()))
        });
        let tasks = tasks.collect();
        let members = Members::new(*logical, targets.clone(), cluster.localities.clone());
        self.entries.insert(cluster.id, Entry { generation, members, tasks });
    }

    /// Stops resolving a cluster.
    pub fn unwatch(&mut self, cluster: ClusterId) {
        self.entries.remove(&cluster);
    }

    /// The end of the next resolution. Cancel safe; never ends.
    pub async fn next(&mut self) -> DnsUpdate {
        loop {
            // `self` holds a sender, so the channel is never closed.
            let Some(answered) = self.answers.recv().await else { std::future::pending().await };
            let Some(entry) = self.entries.get_mut(&answered.cluster) else { continue };
            if entry.generation != answered.generation {
                continue;
            }
            let query = Query::of(&answered.result);
            let (outcome, changed) =
                entry.members.apply(answered.target, answered.result.map(|answer| answer.addresses));
            return DnsUpdate {
                cluster: answered.cluster,
                host: answered.host,
                outcome,
                query,
                localities: changed.then(|| entry.members.localities()),
                warm: entry.members.is_warm(),
            };
        }
    }
}

#[cfg(test)]
mod tests;
