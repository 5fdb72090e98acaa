//! What an assignment was made of, record by record, so that the next one costs what it changes: a control plane sends
//! all endpoints of a cluster whenever one of them comes, goes or changes.

use std::collections::HashSet;

use millrace_base::hash::xxh64;
use millrace_config::{Address, Endpoint, LocalityEndpoints, Run, ScopeId, runs};
use millrace_observe::stats::Registry;
use millrace_proto::pb::envoy::config::endpoint::v3 as pb;
use millrace_proto::{Message, put_field, set_apart};

use super::LoadAssignment;

/// The numbers of `ClusterLoadAssignment.endpoints` and `LocalityLbEndpoints.lb_endpoints`.
const ENDPOINTS: u32 = 2;
const LB_ENDPOINTS: u32 = 2;

/// 128 bits that stand for the bytes of one endpoint.
type Digest = (u64, u64);

/// The records of an assignment: digests, not bytes.
#[derive(Clone, Debug, Default)]
pub struct AssignmentRecords {
    /// By priority, then as they came.
    localities: Vec<Records>,
}

/// Those of one locality.
#[derive(Clone, Debug, Default)]
struct Records {
    /// Its place in the assignment.
    at: usize,
    priority: u32,
    /// Everything about the locality besides its endpoints, as it came.
    own: Vec<u8>,
    endpoints: Vec<Digest>,
}

impl AssignmentRecords {
    /// The records of an assignment; `None` when the bytes are none.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let (sent, _) = set_apart(bytes, ENDPOINTS).ok()?;
        let records = |(at, locality): (usize, &[u8])| {
            let (endpoints, own) = set_apart(locality, LB_ENDPOINTS).ok()?;
            let digest = |bytes: &&[u8]| (xxh64(bytes, 0), xxh64(bytes, 0x6d69_6c6c));
            let priority = pb::LocalityLbEndpoints::decode(own.as_slice()).ok()?.priority;
            Some(Records { at, priority, own, endpoints: endpoints.iter().map(digest).collect() })
        };
        let mut localities = sent.into_iter().enumerate().map(records).collect::<Option<Vec<_>>>()?;
        localities.sort_by_key(|records| records.priority);
        Some(Self { localities })
    }

    /// True when endpoints can have been made of these records, one of each.
    fn fit(&self, made: &[LocalityEndpoints]) -> bool {
        self.localities.len() == made.len()
            && self.localities.iter().zip(made).all(|(records, made)| {
                records.endpoints.len() == made.endpoints.len() && records.priority == made.priority
            })
    }
}

/// What an assignment changes of the one before it.
pub(crate) struct AssignmentChanges {
    /// An assignment that holds only endpoints that are not as they were.
    bytes: Vec<u8>,
    /// Endpoints of the assignment before it that are not as they were.
    gone: Vec<LocalityEndpoints>,
    /// For each locality.
    runs: Vec<Vec<Run>>,
}

impl AssignmentChanges {
    /// `None` when localities are others, or little is the same. `previous` was made of `old`, `new` are the records of
    /// `bytes`.
    pub(crate) fn of(
        bytes: &[u8],
        (old, new): (&AssignmentRecords, &AssignmentRecords),
        previous: &[LocalityEndpoints],
    ) -> Option<Self> {
        let same_places = old.localities.len() == new.localities.len()
            && old.localities.iter().zip(&new.localities).all(|(old, new)| old.own == new.own);
        if !same_places || !old.fit(previous) {
            return None;
        }
        let (sent, mut small) = set_apart(bytes, ENDPOINTS).ok()?;
        let mut changes = Self { bytes: Vec::new(), gone: Vec::new(), runs: Vec::new() };
        for ((old, new), previous) in old.localities.iter().zip(&new.localities).zip(previous) {
            let runs = runs(&old.endpoints, &new.endpoints, |old, new| old == new)?;
            let mut locality = new.own.clone();
            let mut gone = LocalityEndpoints::default();
            if !runs.is_empty() {
                let (endpoints, _) = set_apart(sent.get(new.at)?, LB_ENDPOINTS).ok()?;
                // What came and went before a run shifts its place in the old list.
                let mut shift = 0_i64;
                for Run { at, removed, added } in &runs {
                    for endpoint in endpoints.get(*at..at + added)? {
                        put_field(&mut locality, LB_ENDPOINTS, endpoint);
                    }
                    let from = usize::try_from(*at as i64 + shift).ok()?;
                    gone.endpoints.extend_from_slice(previous.endpoints.get(from..from + removed)?);
                    shift += *removed as i64 - *added as i64;
                }
            }
            put_field(&mut small, ENDPOINTS, &locality);
            changes.gone.push(gone);
            changes.runs.push(runs);
        }
        changes.bytes = small;
        Some(changes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn gone(&self) -> &[LocalityEndpoints] {
        &self.gone
    }

    /// All endpoints, kept ones and those that were read. `None` when an address is there twice, or weights are too much
    /// together.
    pub(crate) fn merge(
        &self,
        previous: &[LocalityEndpoints],
        mut read: LoadAssignment,
        registry: &Registry,
    ) -> Option<LoadAssignment> {
        let merged = self.merged(previous, &read.localities);
        if merged.is_none() {
            // Nobody gets to know the scopes that were made.
            let kept: HashSet<ScopeId> = scopes(&self.gone).collect();
            scopes(&read.localities).filter(|scope| !kept.contains(scope)).for_each(|s| registry.retire(s));
        }
        read.localities = merged?;
        Some(read)
    }

    fn merged(
        &self,
        previous: &[LocalityEndpoints],
        read: &[LocalityEndpoints],
    ) -> Option<Vec<LocalityEndpoints>> {
        let come: HashSet<&Address> = addresses(read).collect();
        let mut all = Vec::with_capacity(previous.len());
        for ((previous, read), runs) in previous.iter().zip(read).zip(&self.runs) {
            let added: usize = runs.iter().map(|run| run.added).sum();
            if read.endpoints.len() != added {
                return None;
            }
            let mut endpoints: Vec<Endpoint> = Vec::with_capacity(previous.endpoints.len() + added);
            let (mut old, mut new) = (previous.endpoints.as_slice(), read.endpoints.as_slice());
            for run in runs {
                let (kept, rest) = old.split_at_checked(run.at.checked_sub(endpoints.len())?)?;
                endpoints.extend_from_slice(kept);
                old = rest.get(run.removed..)?;
                let (fresh, later) = new.split_at_checked(run.added)?;
                endpoints.extend_from_slice(fresh);
                new = later;
            }
            endpoints.extend_from_slice(old);
            let weight: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
            if weight > u64::from(u32::MAX) {
                return None;
            }
            let LocalityEndpoints { locality, priority, weight, .. } = read;
            all.push(LocalityEndpoints {
                locality: locality.clone(),
                priority: *priority,
                weight: *weight,
                endpoints,
            });
        }
        let doubled = addresses(&all).filter(|address| come.contains(address)).count() > come.len();
        (!doubled).then_some(all)
    }
}

fn scopes(localities: &[LocalityEndpoints]) -> impl Iterator<Item = ScopeId> {
    localities.iter().flat_map(|locality| &locality.endpoints).map(|endpoint| endpoint.scope)
}

fn addresses(localities: &[LocalityEndpoints]) -> impl Iterator<Item = &Address> {
    localities.iter().flat_map(|locality| &locality.endpoints).map(|endpoint| &endpoint.address)
}
