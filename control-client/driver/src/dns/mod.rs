//! Endpoints of STRICT_DNS and LOGICAL_DNS clusters: one task per name, results as a stream of updates.
//!
//! `hosts` answers from `/etc/hosts`, `lookup` asks name servers, `cluster` turns answers into endpoints;
//! this module schedules.

mod cluster;
mod hosts;
mod lookup;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_config::{Cluster, ClusterDiscovery, ClusterId, DnsResolver, LocalityEndpoints};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use cluster::Members;
pub use lookup::{Answer, Family, Lookup, LookupError, SystemResolver};
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

/// Most resolvers with settings of their own; further ones are made for their cluster alone.
const RESOLVERS_MAX: usize = 64;

/// The resolved clusters.
pub struct DnsUpdates<L> {
    lookup: Arc<L>,
    /// Resolvers that clusters share, by their settings.
    configured: Vec<(Arc<DnsResolver>, Arc<L>)>,
    entries: BTreeMap<ClusterId, Entry>,
    generation: u64,
    sender: mpsc::Sender<Answered>,
    answers: mpsc::Receiver<Answered>,
}

impl<L: Lookup> DnsUpdates<L> {
    /// Nothing is resolved yet.
    pub fn new(lookup: L) -> Self {
        let (sender, answers) = mpsc::channel(64);
        let lookup = Arc::new(lookup);
        Self { lookup, configured: Vec::new(), entries: BTreeMap::new(), generation: 0, sender, answers }
    }

    /// Starts to resolve a cluster's names, replacing what was known under its id; clusters with another
    /// discovery are forgotten. Must run inside the runtime.
    pub fn watch(&mut self, cluster: &Cluster) {
        self.entries.remove(&cluster.id);
        let ClusterDiscovery::Dns { logical, targets, family, schedule, resolver, .. } = &cluster.discovery
        else {
            return;
        };
        let lookup = self.resolver(resolver.as_ref());
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

    /// The resolver with these settings.
    fn resolver(&mut self, config: Option<&Arc<DnsResolver>>) -> Arc<L> {
        let Some(config) = config else { return Arc::clone(&self.lookup) };
        if let Some((_, known)) = self.configured.iter().find(|(known, _)| known == config) {
            return Arc::clone(known);
        }
        let made = Arc::new(self.lookup.configured(config));
        // Those that no cluster asks any more make room.
        self.configured.retain(|(_, lookup)| Arc::strong_count(lookup) > 1);
        if self.configured.len() < RESOLVERS_MAX {
            self.configured.push((Arc::clone(config), Arc::clone(&made)));
        }
        made
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
            let query = match &answered.result {
                Ok(addresses) if addresses.is_empty() => Query::NotFound,
                Ok(_) => Query::Found,
                Err(error) if error.timed_out => Query::TimedOut,
                Err(_) => Query::Failed,
            };
            let (outcome, changed) = entry.members.apply(answered.target, answered.result);
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
