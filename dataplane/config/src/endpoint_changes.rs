//! What two versions of a cluster's endpoints differ in: worked out once, where they come from, so that no shard has to
//! compare thousands that stayed.

use std::sync::Arc;

use crate::{Cluster, ClusterId, Endpoint, LocalityEndpoints};

/// Endpoints that come, go or change, from one version of a cluster to the next.
#[derive(Clone, Debug)]
pub struct EndpointChanges {
    /// The cluster.
    pub cluster: ClusterId,
    /// The very version that they follow; whoever has another compares for itself.
    pub since: Arc<Cluster>,
    /// In the order of localities, then of positions.
    pub splices: Vec<Splice>,
}

/// Neighbours of one locality that others take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Index into [`Cluster::localities`] of both versions.
    pub locality: u32,
    /// Their position among the locality's endpoints of the new version.
    pub at: u32,
    /// So many of the old version go, or are given again in another form.
    pub removed: u32,
    /// So many of the new version, from `at` on.
    pub added: u32,
}

/// Longest run of neighbours that is recognised; what is longer counts as another list altogether.
const RUN_MAX: usize = 64;
/// With more of them, comparing everything costs no more.
const RUNS_MAX: usize = 2048;

impl EndpointChanges {
    /// The changes; `None` when localities themselves changed, or when the versions have little in common.
    pub fn between(old: &Arc<Cluster>, new: &Cluster) -> Option<Self> {
        let same_places = old.localities.len() == new.localities.len()
            && old.localities.iter().zip(&new.localities).all(|(old, new)| {
                (old.priority, old.weight) == (new.priority, new.weight) && old.locality == new.locality
            });
        if !same_places {
            return None;
        }
        let mut splices = Vec::new();
        for (locality, (old, new)) in old.localities.iter().zip(&new.localities).enumerate() {
            compare(locality as u32, &old.endpoints, &new.endpoints, &mut splices)?;
        }
        Some(Self { cluster: new.id, since: Arc::clone(old), splices })
    }

    /// Endpoints of the old version that go or are given again, by locality.
    pub fn removed(&self) -> Vec<LocalityEndpoints> {
        let mut removed = vec![LocalityEndpoints::default(); self.since.localities.len()];
        let mut shifts = vec![0_i64; removed.len()];
        for splice in &self.splices {
            let at = splice.locality as usize;
            let (Some(removed), Some(shift)) = (removed.get_mut(at), shifts.get_mut(at)) else { continue };
            // What came and went before it in the locality.
            let from = usize::try_from(i64::from(splice.at) + *shift).unwrap_or(usize::MAX);
            *shift += i64::from(splice.removed) - i64::from(splice.added);
            take(&self.since, at, from, splice.removed, removed);
        }
        removed
    }

    /// Endpoints of `new`, the new version, that come or are given again, by locality.
    pub fn added(&self, new: &Cluster) -> Vec<LocalityEndpoints> {
        let mut added = vec![LocalityEndpoints::default(); new.localities.len()];
        for splice in &self.splices {
            let at = splice.locality as usize;
            if let Some(added) = added.get_mut(at) {
                take(new, at, splice.at as usize, splice.added, added);
            }
        }
        added
    }
}

fn take(from: &Cluster, locality: usize, at: usize, count: u32, to: &mut LocalityEndpoints) {
    let endpoints = from.localities.get(locality).map_or(&[][..], |locality| &locality.endpoints);
    let found = at.checked_add(count as usize).and_then(|end| endpoints.get(at..end));
    to.endpoints.extend_from_slice(found.unwrap_or_default());
}

fn compare(locality: u32, old: &[Endpoint], new: &[Endpoint], splices: &mut Vec<Splice>) -> Option<()> {
    let found = runs(old, new, |old, new| old.address == new.address)?;
    splices.extend(found.into_iter().map(|Run { at, removed, added }| Splice {
        locality,
        at: at as u32,
        removed: removed as u32,
        added: added as u32,
    }));
    (splices.len() <= RUNS_MAX).then_some(())
}

/// Neighbours in one list that those of another take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where, in the new list.
    pub at: usize,
    /// So many of the old list go.
    pub removed: usize,
    /// So many of the new list come.
    pub added: usize,
}

/// In what two lists differ; `same_place` says that one element is another form of the other. `None` when they have
/// little in common. Costs a comparison for each element, and not more than 64 for each run.
pub fn runs<T: PartialEq>(old: &[T], new: &[T], same_place: impl Fn(&T, &T) -> bool) -> Option<Vec<Run>> {
    let mut found = Vec::new();
    let (mut i, mut j) = (0, 0);
    loop {
        let same = old[i..].iter().zip(&new[j..]).take_while(|(old, new)| old == new).count();
        (i, j) = (i + same, j + same);
        if i == old.len() && j == new.len() {
            return Some(found);
        }
        if found.len() == RUNS_MAX {
            return None;
        }
        let (removed, added) = run(&old[i..], &new[j..], &same_place)?;
        found.push(Run { at: j, removed, added });
        (i, j) = (i + removed, j + added);
    }
}

/// How many elements from here on are others in both lists, which differ in the first one.
fn run<T>(old: &[T], new: &[T], same_place: impl Fn(&T, &T) -> bool) -> Option<(usize, usize)> {
    let (Some(gone), Some(come)) = (old.first(), new.first()) else { return Some((old.len(), new.len())) };
    if same_place(gone, come) {
        return Some((1, 1));
    }
    for length in 1..=RUN_MAX {
        match (old.get(length), new.get(length)) {
            (None, None) => return Some((old.len(), new.len())),
            (Some(a), Some(b)) if same_place(a, b) => return Some((length, length)),
            (Some(a), _) if same_place(a, come) => return Some((length, 0)),
            (_, Some(b)) if same_place(gone, b) => return Some((0, length)),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HealthStatus, ScopeId};

    fn endpoint(number: u16) -> Endpoint {
        let address = crate::Address::Inet(([10, 0, 0, 1], number).into());
        Endpoint { health: HealthStatus::Healthy, ..Endpoint::at(address, ScopeId(u32::from(number))) }
    }

    fn all(numbers: impl IntoIterator<Item = u16>) -> Vec<Endpoint> {
        numbers.into_iter().map(endpoint).collect()
    }

    /// `(at, removed, added)`, after applying them to the old list has given the new one.
    fn changes(old: &[Endpoint], new: &[Endpoint]) -> Option<Vec<(u32, u32, u32)>> {
        let mut splices = Vec::new();
        compare(3, old, new, &mut splices)?;
        let mut applied = old.to_vec();
        for splice in &splices {
            assert_eq!(splice.locality, 3);
            let (at, removed) = (splice.at as usize, splice.removed as usize);
            let added = new[at..at + splice.added as usize].to_vec();
            applied.splice(at..at + removed, added);
        }
        assert_eq!(applied, new);
        Some(splices.iter().map(|splice| (splice.at, splice.removed, splice.added)).collect())
    }

    #[test]
    fn what_comes_goes_or_changes_is_found() {
        let old = all(0..1000);
        assert_eq!(changes(&old, &old), Some(vec![]));
        assert_eq!(changes(&old, &all((0..1000).filter(|n| *n != 500))), Some(vec![(500, 1, 0)]));
        assert_eq!(changes(&old, &all((0..7).chain([2000]).chain(7..1000))), Some(vec![(7, 0, 1)]));
        assert_eq!(changes(&old, &all(0..1001)), Some(vec![(1000, 0, 1)]));
        assert_eq!(changes(&all([]), &all(0..200)), Some(vec![(0, 0, 200)]));
        assert_eq!(changes(&old, &[]), Some(vec![(0, 1000, 0)]));
        let mut other = old.clone();
        other[4] = endpoint(4000);
        other[9].weight = 7;
        other[10].health = HealthStatus::Degraded;
        assert_eq!(changes(&old, &other), Some(vec![(4, 1, 1), (9, 1, 1), (10, 1, 1)]));
        // One that moves goes here and comes there.
        let moved = all((1..20).chain([0]).chain(20..1000));
        assert_eq!(changes(&old, &moved), Some(vec![(0, 1, 0), (19, 0, 1)]));
    }

    #[test]
    fn random_edits_apply_and_another_list_is_not_described() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let old = all(0..100);
            let mut new = old.clone();
            for _ in 0..random(12) {
                let at = random(new.len() as u64) as usize;
                match random(4) {
                    0 => drop(new.remove(at)),
                    1 => new.insert(at, endpoint(1000 + random(50) as u16)),
                    2 => new[at] = endpoint(random(100) as u16),
                    _ => new[at].weight = 2,
                }
            }
            changes(&old, &new);
        }
        assert_eq!(changes(&all(0..1000), &all((0..1000).rev())), None);
    }
}
