//! From one assignment to the next: only endpoints whose records are new are read, the others are taken over.

use std::collections::{HashMap, HashSet};

use millrace_base::Digest;
use millrace_config::{AddressSet, Endpoint, LocalityEndpoints, Run, ScopeId, Splice, runs};
use millrace_observe::stats::Registry;
use millrace_proto::put_field;

use super::LoadAssignment;
use super::records::{AssignmentRecords, ENDPOINTS, LB_ENDPOINTS, SentAssignment};

/// The assignment before.
#[derive(Clone, Copy, Debug)]
pub struct EarlierAssignment<'a> {
    /// Its records.
    pub records: &'a AssignmentRecords,
    /// What was made of them.
    pub made: &'a [LocalityEndpoints],
    /// Endpoints that the cluster has besides, because they pass their checks.
    pub leaving: &'a [LocalityEndpoints],
}

/// An assignment that was made of the one before it.
#[derive(Clone, Debug)]
pub struct ChangedAssignment {
    /// What it became.
    pub load: LoadAssignment,
    /// Endpoints of the one before that are not as they were, or not there, and those that were leaving.
    pub gone: Vec<LocalityEndpoints>,
    /// In what its endpoints differ from those before it; `None` when localities, or the order of endpoints, are others.
    pub splices: Option<Vec<Splice>>,
}

/// What an assignment changes of the one before it.
pub(crate) struct AssignmentChanges {
    /// An assignment that holds only endpoints that are not as they were.
    bytes: Vec<u8>,
    /// Endpoints of the assignment before it that are not as they were.
    gone: Vec<LocalityEndpoints>,
    places: Vec<Place>,
    splices: Option<Vec<Splice>>,
}

/// What a locality is made of.
struct Place {
    /// The locality before it; endpoints that are kept are from there.
    old: Option<usize>,
    pieces: Vec<Piece>,
}

/// Neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// They were `count` neighbours before, from a position on.
    Kept { from: usize, count: usize },
    /// So many have to be read.
    Read(usize),
}

impl AssignmentChanges {
    /// `None` when little is the same.
    pub(crate) fn of(sent: &SentAssignment<'_>, earlier: EarlierAssignment<'_>) -> Option<Self> {
        let EarlierAssignment { records: old, made: previous, leaving } = earlier;
        if !old.fits(previous) {
            return None;
        }
        let matched = old.matched(&sent.records);
        let stay =
            matched.len() == previous.len() && matched.iter().enumerate().all(|(n, at)| *at == Some(n));
        let mut splices = stay.then(Vec::new);
        let mut places = Vec::with_capacity(matched.len());
        for (at, (new, old_at)) in sent.records.localities.iter().zip(matched).enumerate() {
            let known = old_at.map_or(&[][..], |at| &old.localities[at].endpoints);
            let pieces = match runs(known, &new.endpoints, |old, new| old == new) {
                Some(runs) => {
                    splices.iter_mut().for_each(|all| all.extend(runs.iter().map(|run| splice(at, run))));
                    pieces(&runs, new.endpoints.len())
                }
                None => {
                    splices = None;
                    scattered(known, &new.endpoints)
                }
            };
            places.push(Place { old: old_at, pieces });
        }
        let all: usize = sent.endpoints.iter().map(Vec::len).sum();
        if places.iter().map(Place::read).sum::<usize>() > all / 2 {
            return None;
        }
        let mut gone = gone(&places, previous);
        gone.extend_from_slice(leaving);
        let mut changes = Self { bytes: sent.own.clone(), gone, places, splices };
        changes.put_new(sent);
        Some(changes)
    }

    /// Writes the assignment of what has to be read.
    fn put_new(&mut self, sent: &SentAssignment<'_>) {
        let localities = sent.records.localities.iter().zip(&sent.endpoints);
        for (place, (records, endpoints)) in self.places.iter().zip(localities) {
            let mut locality = records.own.clone();
            let mut rest = endpoints.iter();
            for piece in &place.pieces {
                match *piece {
                    Piece::Kept { count: 0, .. } => {}
                    Piece::Kept { count, .. } => drop(rest.nth(count - 1)),
                    Piece::Read(count) => {
                        rest.by_ref().take(count).for_each(|one| put_field(&mut locality, LB_ENDPOINTS, one));
                    }
                }
            }
            put_field(&mut self.bytes, ENDPOINTS, &locality);
        }
    }

    /// The assignment of what has to be read.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whose scopes those that are read may have.
    pub(crate) fn gone(&self) -> &[LocalityEndpoints] {
        &self.gone
    }

    /// All endpoints, kept ones and those that were read. `None` when an address is there twice, or weights are too much
    /// together.
    pub(crate) fn merge(
        self,
        previous: &[LocalityEndpoints],
        read: LoadAssignment,
        registry: &Registry,
    ) -> Option<ChangedAssignment> {
        let Some(localities) = self.merged(previous, &read.localities) else {
            // Nobody gets to know the scopes that were made.
            let kept: HashSet<ScopeId> = scopes(&self.gone).collect();
            scopes(&read.localities).filter(|scope| !kept.contains(scope)).for_each(|s| registry.retire(s));
            return None;
        };
        let load = LoadAssignment { localities, ..read };
        Some(ChangedAssignment { load, gone: self.gone, splices: self.splices })
    }

    fn merged(
        &self,
        previous: &[LocalityEndpoints],
        read: &[LocalityEndpoints],
    ) -> Option<Vec<LocalityEndpoints>> {
        let come: AddressSet<'_> =
            read.iter().flat_map(|locality| &locality.endpoints).map(|one| &one.address).collect();
        if read.len() != self.places.len() {
            return None;
        }
        let one = |(place, read): (&Place, &LocalityEndpoints)| {
            let LocalityEndpoints { locality, priority, weight, .. } = read;
            let endpoints = place.endpoints(previous, &read.endpoints, &come)?;
            Some(LocalityEndpoints {
                locality: locality.clone(),
                priority: *priority,
                weight: *weight,
                endpoints,
            })
        };
        self.places.iter().zip(read).map(one).collect()
    }
}

impl Place {
    /// How many endpoints have to be read.
    fn read(&self) -> usize {
        self.pieces.iter().map(|piece| if let Piece::Read(count) = piece { *count } else { 0 }).sum()
    }

    /// Kept endpoints and those that were read, in their order. `None` when one that is kept has the address of one that
    /// comes, some of these are missing because they have one address, or the sum of the weights does not fit.
    fn endpoints(
        &self,
        previous: &[LocalityEndpoints],
        read: &[Endpoint],
        come: &AddressSet<'_>,
    ) -> Option<Vec<Endpoint>> {
        if read.len() != self.read() {
            return None;
        }
        let old = self.old.and_then(|at| previous.get(at)).map_or(&[][..], |locality| &locality.endpoints);
        let count = |piece: &Piece| match *piece {
            Piece::Kept { count, .. } | Piece::Read(count) => count,
        };
        let mut all: Vec<Endpoint> = Vec::with_capacity(self.pieces.iter().map(count).sum());
        let (mut rest, mut weight) = (read, 0_u64);
        for piece in &self.pieces {
            let (more, kept) = match *piece {
                Piece::Kept { from, count } => (old.get(from..from.checked_add(count)?)?, true),
                Piece::Read(count) => (rest.split_off(..count)?, false),
            };
            for endpoint in more {
                weight += u64::from(endpoint.weight);
                if kept && come.contains(&endpoint.address) {
                    return None;
                }
            }
            all.extend_from_slice(more);
        }
        (weight <= u64::from(u32::MAX)).then_some(all)
    }
}

fn splice(locality: usize, run: &Run) -> Splice {
    let Run { at, removed, added } = *run;
    Splice { locality: locality as u32, at: at as u32, removed: removed as u32, added: added as u32 }
}

/// What runs leave as it is, and what they bring, in a list of so many.
fn pieces(runs: &[Run], len: usize) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(2 * runs.len() + 1);
    let (mut old, mut new) = (0, 0);
    for run in runs {
        let count = run.at.saturating_sub(new);
        pieces.push(Piece::Kept { from: old, count });
        pieces.push(Piece::Read(run.added));
        (old, new) = (old + count + run.removed, run.at + run.added);
    }
    pieces.push(Piece::Kept { from: old, count: len.saturating_sub(new) });
    pieces
}

/// The same for a list in another order: each record is looked for, and found once.
fn scattered(old: &[Digest], new: &[Digest]) -> Vec<Piece> {
    let mut places: HashMap<Digest, usize> = old.iter().enumerate().map(|(at, one)| (*one, at)).collect();
    let mut pieces: Vec<Piece> = Vec::new();
    for one in new {
        match (places.remove(one), pieces.last_mut()) {
            (Some(at), Some(Piece::Kept { from, count })) if *from + *count == at => *count += 1,
            (Some(at), _) => pieces.push(Piece::Kept { from: at, count: 1 }),
            (None, Some(Piece::Read(count))) => *count += 1,
            (None, _) => pieces.push(Piece::Read(1)),
        }
    }
    pieces
}

/// Endpoints that no piece keeps.
fn gone(places: &[Place], previous: &[LocalityEndpoints]) -> Vec<LocalityEndpoints> {
    let mut gone: Vec<Vec<bool>> =
        previous.iter().map(|locality| vec![true; locality.endpoints.len()]).collect();
    for place in places {
        let Some(gone) = place.old.and_then(|at| gone.get_mut(at)) else { continue };
        for piece in &place.pieces {
            if let Piece::Kept { from, count } = *piece
                && let Some(kept) = gone.get_mut(from..from + count)
            {
                kept.fill(false);
            }
        }
    }
    let of = |(gone, locality): (Vec<bool>, &LocalityEndpoints)| {
        let endpoints = gone.into_iter().zip(&locality.endpoints).filter(|(gone, _)| *gone);
        let endpoints = endpoints.map(|(_, endpoint)| endpoint.clone()).collect();
        let LocalityEndpoints { locality, priority, weight, .. } = locality;
        LocalityEndpoints { locality: locality.clone(), priority: *priority, weight: *weight, endpoints }
    };
    gone.into_iter().zip(previous).map(of).collect()
}

fn scopes(localities: &[LocalityEndpoints]) -> impl Iterator<Item = ScopeId> {
    localities.iter().flat_map(|locality| &locality.endpoints).map(|endpoint| endpoint.scope)
}
