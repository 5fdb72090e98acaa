//! Which endpoint gets the next request.
//!
//! A [`Balancer`] is rebuilt at the first choice after endpoints changed and answers from prepared tables in between:
//! first the subset that the request asks for (`subset`), then the priority level (`priority`), the locality
//! (`locality`), and the host: one after the other or by load (`policy`), or by the request's hash (`hashed`).

mod bounded;
mod edf;
mod hashed;
mod locality;
mod maglev;
mod override_host;
mod policy;
mod priority;
mod ring;
mod shared;
mod stats;
mod subset;
mod tables;

use millrace_base::{Rng, Slab, Time};
use millrace_config::{Address, Cluster, MetadataMatch, MetadataPairs};

use crate::members::Member;
use crate::{Host, HostId};
pub use override_host::OverrideHost;
use override_host::Overrides;
pub(crate) use priority::{Availability, PriorityLoad};
pub use shared::{SharedTables, TableShape};
pub use stats::LbStat;
use stats::LbStats;
use subset::Subsets;
use tables::Tables;

/// What a request asks of the balancer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChooseContext<'a> {
    /// Hosts of earlier attempts, to be avoided (`retry_host_predicate` previous_hosts).
    pub avoid: &'a [HostId],
    /// `retry_host_predicate` omit_canary_hosts.
    pub avoid_canaries: bool,
    /// `retry_host_predicate` omit_host_metadata: hosts that have all pairs of one of them.
    pub avoid_metadata: &'a [MetadataPairs],
    /// `retry_priority`: which levels are left out.
    pub previous: Option<PreviousPriorities<'a>>,
    /// `host_selection_retry_max_attempts`: how often another host is drawn when an avoided one came up.
    /// When all draws fail the last one is used.
    pub attempts: u32,
    /// What the hash policies made of the request; without it balancers that hash choose at random.
    pub hash: Option<u64>,
    /// `metadata_match`: what the endpoint must have where the cluster has subsets.
    pub metadata: Option<&'a MetadataMatch>,
    /// Endpoints to be preferred (stateful sessions, `OverrideHost`).
    pub override_host: Option<OverrideHost<'a>>,
    /// The priority level, and whether its degraded hosts are meant, when an aggregate cluster has drawn it.
    pub level: Option<(u32, bool)>,
    /// Now.
    pub now: Time,
}

/// `retry_priority` previous_priorities.
#[derive(Clone, Copy, Debug)]
pub struct PreviousPriorities<'a> {
    /// `update_frequency`, at least 1: the levels of every so many more attempts are left out.
    pub every: u32,
    /// The hosts of the attempts so far, in order.
    pub tried: &'a [HostId],
}

impl PreviousPriorities<'_> {
    /// The levels that are left out.
    fn excluded(&self, hosts: &Slab<Host>) -> Vec<u32> {
        let every = self.every.max(1) as usize;
        let counted = self.tried.iter().take(self.tried.len() / every * every);
        counted.filter_map(|id| hosts.get(id.0)).map(|host| host.priority).collect()
    }
}

impl ChooseContext<'_> {
    /// True when nothing but the hash says where the request may go.
    #[inline]
    fn is_plain(&self) -> bool {
        self.attempts == 0 && self.level.is_none() && self.previous.is_none()
    }

    /// True when a retry shall not go there.
    #[inline]
    fn avoids(&self, id: HostId, hosts: &Slab<Host>) -> bool {
        self.avoid.contains(&id)
            || ((self.avoid_canaries || !self.avoid_metadata.is_empty()) && self.avoids_kind(id, hosts))
    }

    #[cold]
    fn avoids_kind(&self, id: HostId, hosts: &Slab<Host>) -> bool {
        let Some(metadata) = hosts.get(id.0).and_then(|host| host.lb_metadata.as_ref()) else { return false };
        let has = |key: &str, value: &str| match metadata.get(key) {
            Some((own, list)) => {
                **own == *value || list.is_some_and(|list| list.iter().any(|one| **one == *value))
            }
            None => false,
        };
        (self.avoid_canaries && has("canary", "true"))
            || self.avoid_metadata.iter().any(|pairs| pairs.iter().all(|(key, value)| has(key, value)))
    }
}

/// The endpoint chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The endpoint.
    pub host: HostId,
    /// It was drawn from all hosts because too few are healthy: count `lb_healthy_panic`.
    pub panic: bool,
}

/// Why no endpoint was chosen: flag `UH`, 503, count `upstream_cx_none_healthy`. Upstream's fault; a retry
/// helps only after the endpoints changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHost {
    /// The cluster has no endpoint.
    Empty,
    /// It has endpoints, but none may be used.
    NoneHealthy,
    /// It has not the only one that would do ([`OverrideHost::strict`]).
    NoSuchHost,
}

/// What tables are built from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    pub cluster: &'a Cluster,
    /// The cluster that this proxy is an endpoint of, for zone-aware routing.
    pub local: Option<&'a Cluster>,
    pub hosts: &'a Slab<Host>,
    /// Tables that another shard may have built already.
    pub shared: &'a SharedTables,
    pub now: Time,
}

/// What a draw needs.
#[derive(Debug)]
pub(crate) struct Draw<'a> {
    pub hosts: &'a Slab<Host>,
    pub rng: &'a mut Rng,
    pub stats: &'a mut LbStats,
    /// Requests of this shard on connections of the cluster.
    pub active: u32,
    pub now: Time,
    /// Priority levels that a retry leaves out; empty for all other requests.
    pub excluded: &'a [u32],
}

/// The prepared tables of one cluster on one shard.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    /// Over all hosts; what requests without a subset use.
    all: Tables,
    subsets: Option<Box<Subsets>>,
    overrides: Overrides,
    stats: LbStats,
    hosts_total: usize,
    /// The cluster has a panic threshold.
    may_panic: bool,
    /// Counts invalidations.
    version: u64,
    /// The tables follow the endpoints.
    built: bool,
    /// There are no subsets, and `all` needs no draws but that of the host.
    direct: bool,
    /// Members follow their hosts.
    followed: bool,
}

impl Balancer {
    /// The endpoints changed, or what tables are made of besides.
    pub fn invalidate(&mut self) {
        (self.built, self.followed) = (false, false);
        self.version += 1;
        self.overrides.clear();
    }

    /// Some endpoints changed, and members follow them already.
    pub fn members_changed(&mut self) {
        self.built = false;
        self.version += 1;
    }

    /// Changes whenever the tables do.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// True when members may say something else than their hosts.
    pub fn has_stale_members(&self) -> bool {
        !self.followed
    }

    /// These endpoints are not members any more.
    pub fn forget<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>) {
        self.overrides.forget(addresses);
    }

    /// An endpoint is a member now.
    pub fn remember(&mut self, address: &Address, id: HostId) {
        self.overrides.remember(address, id);
    }

    #[inline]
    pub fn is_built(&self) -> bool {
        self.built
    }

    /// Builds the tables. `members` holds the present hosts of each priority, in configuration order.
    /// Rotation goes on where `self` stood.
    pub fn rebuild(&mut self, ground: &Ground<'_>, members: &[Vec<Member>], rng: &mut Rng) {
        (self.built, self.followed) = (true, true);
        self.hosts_total = members.iter().map(Vec::len).sum();
        self.may_panic = ground.cluster.panic_threshold > 0.0;
        self.direct = false;
        match &ground.cluster.balancing.subset {
            None => {
                self.subsets = None;
                self.all.rebuild(ground, members, locality::Weights::Configured, rng, &mut self.stats);
                self.direct = self.all.is_direct();
            }
            Some(config) => {
                self.all = Tables::default();
                let subsets = self.subsets.get_or_insert_default();
                subsets.rebuild(config, ground, members, rng, &mut self.stats);
            }
        }
    }

    /// Draws a host.
    #[inline]
    pub fn choose(
        &mut self,
        hosts: &Slab<Host>,
        rng: &mut Rng,
        active: u32,
        context: &ChooseContext<'_>,
    ) -> Result<Chosen, NoHost> {
        if self.direct
            && context.is_plain()
            && let Some(host) = self.all.pick(hosts, rng, active, context)
        {
            return Ok(Chosen { host, panic: false });
        }
        self.choose_by_all(hosts, rng, active, context)
    }

    #[inline(never)]
    fn choose_by_all(
        &mut self,
        hosts: &Slab<Host>,
        rng: &mut Rng,
        active: u32,
        context: &ChooseContext<'_>,
    ) -> Result<Chosen, NoHost> {
        let excluded = context.previous.map(|previous| previous.excluded(hosts)).unwrap_or_default();
        let (now, excluded) = (context.now, &excluded[..]);
        let mut draw = Draw { hosts, rng, stats: &mut self.stats, active, now, excluded };
        let found = match &mut self.subsets {
            None => self.all.choose(&mut draw, context),
            Some(subsets) => subsets.choose(&mut draw, context),
        };
        found.ok_or_else(|| {
            if self.hosts_total > 0 {
                return NoHost::NoneHealthy;
            }
            // Nobody is fewer than any share, so this is panic, too.
            if self.may_panic && self.subsets.is_none() {
                self.stats.add(LbStat::HealthyPanic, 1);
            }
            NoHost::Empty
        })
    }

    /// The preferred host, if it may be used; an error when only it may be used and it may not.
    pub fn overridden(
        &mut self,
        cluster: &Cluster,
        members: &[Vec<Member>],
        hosts: &Slab<Host>,
        wanted: &OverrideHost<'_>,
    ) -> Result<Option<Chosen>, NoHost> {
        self.overrides.find(cluster, members, hosts, wanted)
    }

    /// Hands out what was counted since the last call.
    #[inline]
    pub fn take_stats(&mut self, each: impl FnMut(LbStat, u32)) {
        self.stats.take(each);
    }
}
