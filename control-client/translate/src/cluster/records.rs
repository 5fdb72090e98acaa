//! What an assignment was made of, record by record, so that the next one costs what it changes: a control plane sends
//! all endpoints of a cluster whenever one of them comes, goes or changes.

use millrace_base::Digest;
use millrace_config::LocalityEndpoints;
use millrace_proto::pb::envoy::config::endpoint::v3 as pb;
use millrace_proto::{Message, set_apart};

/// The numbers of `ClusterLoadAssignment.endpoints` and `LocalityLbEndpoints.lb_endpoints`.
pub(super) const ENDPOINTS: u32 = 2;
pub(super) const LB_ENDPOINTS: u32 = 2;

/// The records of an assignment: digests, not bytes.
#[derive(Clone, Debug, Default)]
pub struct AssignmentRecords {
    /// By priority, then as they came.
    pub(super) localities: Vec<Records>,
}

/// Those of one locality.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    priority: u32,
    /// Everything about the locality besides its endpoints, as it came.
    pub(super) own: Vec<u8>,
    pub(super) endpoints: Vec<Digest>,
}

impl AssignmentRecords {
    /// True when endpoints can have been made of these records, one of each.
    pub fn fits(&self, made: &[LocalityEndpoints]) -> bool {
        self.localities.len() == made.len()
            && self.localities.iter().zip(made).all(|(records, made)| {
                records.endpoints.len() == made.endpoints.len() && records.priority == made.priority
            })
    }

    /// For each locality of `new` the one among these that is the same but for its endpoints; none for two.
    pub(super) fn matched(&self, new: &Self) -> Vec<Option<usize>> {
        let mut free: Vec<bool> = vec![true; self.localities.len()];
        let mut found = |at: usize, new: &Records| {
            let same = |at: &usize| self.localities[*at].own == new.own && free[*at];
            // Most stay in their places.
            let in_place = Some(at).filter(|at| *at < self.localities.len() && same(at));
            let found = in_place.or_else(|| (0..self.localities.len()).find(same))?;
            free[found] = false;
            Some(found)
        };
        new.localities.iter().enumerate().map(|(at, new)| found(at, new)).collect()
    }
}

/// An assignment taken apart: its records, and the bytes that they were made of.
#[derive(Clone, Debug)]
pub struct SentAssignment<'a> {
    pub(super) records: AssignmentRecords,
    /// Of each locality's endpoints.
    pub(super) endpoints: Vec<Vec<&'a [u8]>>,
    /// Everything about the assignment besides its localities.
    pub(super) own: Vec<u8>,
}

impl<'a> SentAssignment<'a> {
    /// Takes an assignment apart; `None` when the bytes are none.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let (sent, own) = set_apart(bytes, ENDPOINTS).ok()?;
        let one = |locality: &&'a [u8]| {
            let (endpoints, own) = set_apart(locality, LB_ENDPOINTS).ok()?;
            let priority = pb::LocalityLbEndpoints::decode(own.as_slice()).ok()?.priority;
            let digests = endpoints.iter().map(|bytes| Digest::of(bytes)).collect();
            Some((Records { priority, own, endpoints: digests }, endpoints))
        };
        let mut localities = sent.iter().map(one).collect::<Option<Vec<_>>>()?;
        localities.sort_by_key(|(records, _)| records.priority);
        let (localities, endpoints) = localities.into_iter().unzip();
        Some(Self { records: AssignmentRecords { localities }, endpoints, own })
    }

    /// What the next assignment is compared with.
    pub fn into_records(self) -> AssignmentRecords {
        self.records
    }
}
