//! Which hosts are present, as balancers read it: side by side and without the rest of a host, so that building tables
//! over thousands of them costs microseconds.

use std::ops::Range;

use millrace_config::{LocalityEndpoints, Splice};

use crate::pool::PoolAction;
use crate::{ClusterState, Host, HostHealth, HostId, PRIORITY_MAX};

/// One present host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub id: HostId,
    pub weight: u32,
    pub health: HostHealth,
    /// It counts for nobody: see [`Host::excluded`].
    pub excluded: bool,
}

impl Member {
    pub fn of(id: HostId, host: &Host) -> Self {
        Self { id, weight: host.weight, health: host.health, excluded: host.excluded }
    }
}

impl ClusterState {
    /// Takes over what hosts have become.
    pub(crate) fn refresh_members(&mut self) {
        for member in self.members.iter_mut().flatten() {
            if let Some(host) = self.hosts.get(member.id.0) {
                *member = Member::of(member.id, host);
            }
        }
    }

    /// Takes the endpoints that changed; `self.config` is the new version already. False when the splices do not fit,
    /// and everything has to be compared.
    pub(crate) fn change_hosts(&mut self, splices: &[Splice], out: &mut Vec<PoolAction>) -> bool {
        let config = self.config.clone();
        let localities = &config.localities;
        let Some(leaving) = self.leaving(localities, splices) else { return false };
        if leaving.is_empty() && splices.iter().all(|splice| splice.added == 0) {
            return true;
        }
        self.balancer.forget(leaving.iter().filter_map(|id| Some(&self.hosts.get(id.0)?.address)));
        let mut by_address = self.leave(&leaving);
        let (mut failed, mut come) = (Vec::new(), Vec::new());
        for splice in splices {
            let Some(locality) = localities.get(splice.locality as usize) else { continue };
            let from = splice.at as usize;
            let endpoints = locality.endpoints.get(from..from + splice.added as usize).unwrap_or_default();
            for endpoint in endpoints {
                let known = by_address.get_mut(&endpoint.address).and_then(Vec::pop);
                let place = (locality.priority, splice.locality);
                let member = self.place_host(known, endpoint, place, &mut failed);
                self.balancer.remember(&endpoint.address, member.id);
                come.push(member);
            }
            let (level, at) = position(localities, splice);
            if self.members.len() <= level {
                self.members.resize_with(level + 1, Vec::new);
            }
            if let Some(range) = within(&self.members[level], at, splice.removed) {
                self.members[level].splice(range, come.drain(..));
            }
        }
        // As if all had been placed anew: no level behind the last one that has hosts.
        while self.members.last().is_some_and(Vec::is_empty) {
            self.members.pop();
        }
        self.balancer.members_changed();
        self.part(by_address, failed, out);
        true
    }

    /// The hosts whose places the splices take; `None` if there is one too few.
    fn leaving(&self, localities: &[LocalityEndpoints], splices: &[Splice]) -> Option<Vec<HostId>> {
        let mut leaving = Vec::new();
        // Positions are those of the new version: in the old one they are off by what came before on the same level.
        let mut shifts = vec![0_i64; self.members.len()];
        for splice in splices {
            let locality = localities.get(splice.locality as usize)?;
            let added = splice.added as usize;
            locality.endpoints.get(splice.at as usize..)?.get(..added)?;
            let (level, at) = position(localities, splice);
            let (removed, added) = (i64::from(splice.removed), i64::from(splice.added));
            let Some(shift) = shifts.get_mut(level) else {
                if removed == 0 {
                    continue;
                }
                return None;
            };
            let old = usize::try_from(at as i64 + *shift).ok()?;
            let members = self.members.get(level)?;
            leaving
                .extend(members.get(within(members, old, splice.removed)?)?.iter().map(|member| member.id));
            *shift += removed - added;
        }
        Some(leaving)
    }
}

/// The level of a splice and its place among the members of the level.
fn position(localities: &[LocalityEndpoints], splice: &Splice) -> (usize, usize) {
    let level = |locality: &LocalityEndpoints| locality.priority.min(PRIORITY_MAX) as usize;
    let own = localities.get(splice.locality as usize).map_or(0, level);
    let before = localities.iter().take(splice.locality as usize).filter(|before| level(before) == own);
    (own, before.map(|locality| locality.endpoints.len()).sum::<usize>() + splice.at as usize)
}

fn within<T>(members: &[T], at: usize, count: u32) -> Option<Range<usize>> {
    let end = at.checked_add(count as usize)?;
    (end <= members.len()).then_some(at..end)
}
