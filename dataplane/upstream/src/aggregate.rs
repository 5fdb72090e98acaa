//! `envoy.clusters.aggregate`: the priorities of several clusters, one cluster after the other, as one list.

use millrace_base::Rng;
use millrace_config::Cluster;

use crate::lb::{Availability, PriorityLoad};
use crate::members::Member;
use crate::{ClusterState, PRIORITY_MAX};

/// A level of one of the clusters, and which of its hosts are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelOf {
    /// Position of the cluster in the aggregate's list.
    pub member: usize,
    /// The level, among those of the cluster.
    pub level: u32,
    /// Its degraded hosts.
    pub degraded: bool,
}

/// One aggregate cluster on one shard: how its traffic is spread over the levels of its members.
#[derive(Debug, Default)]
pub struct Aggregate {
    /// Member and level of each level that has a host.
    levels: Vec<(usize, u32)>,
    load: PriorityLoad,
    /// Versions of the members that all this was worked out from.
    seen: Vec<u64>,
}

impl Aggregate {
    /// Version of a member that does not exist.
    pub const ABSENT: u64 = u64::MAX;

    /// True while no member has changed; [`ClusterState::version`] of each, in the order of the list.
    #[inline]
    pub fn is_current(&self, versions: impl Iterator<Item = u64>) -> bool {
        self.seen.iter().copied().eq(versions)
    }

    /// Works the levels out anew. Members that do not exist are passed over.
    pub fn rebuild<'m>(&mut self, config: &Cluster, members: impl Iterator<Item = Option<&'m ClusterState>>) {
        self.seen.clear();
        self.levels.clear();
        let mut availability = Vec::new();
        for (at, member) in members.enumerate() {
            self.seen.push(member.map_or(Self::ABSENT, ClusterState::version));
            let Some(member) = member else { continue };
            for (level, found) in (0..=PRIORITY_MAX).zip(member.availability()) {
                if found.0.total > 0 {
                    self.levels.push((at, level));
                    availability.push(found);
                }
            }
        }
        self.load = PriorityLoad::with_factors(&availability, config.panic_threshold);
    }

    /// Draws a level; `None` when no member has a host.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> Option<LevelOf> {
        let (index, degraded) = self.load.draw(|| rng.next_u64());
        let (member, level) = *self.levels.get(index)?;
        Some(LevelOf { member, level, degraded })
    }
}

impl ClusterState {
    /// Changes with every change of endpoints or of their health, on this shard.
    #[inline]
    pub fn version(&self) -> u64 {
        self.balancer.version()
    }

    /// As [`Self::version`], after a look at what other shards found out about endpoints.
    #[inline]
    pub fn current_version(&mut self) -> u64 {
        self.notice_health();
        self.balancer.version()
    }

    /// How many hosts of each level can serve, and the overprovisioning factor.
    fn availability(&self) -> impl Iterator<Item = (Availability, u32)> {
        let weighted = self.config.balancing.weighted_priority_health;
        let factor = self.config.overprovisioning_factor;
        self.members.iter().map(move |level| {
            // Members may lag behind their hosts until tables are built.
            let now = |member: &Member| Some(Member::of(member.id, self.hosts.get(member.id.0)?));
            let level: Vec<Member> = level.iter().filter_map(now).collect();
            (Availability::of(&level, weighted), factor)
        })
    }

    /// Takes out what an aggregate cluster has worked out; to be given back by [`Self::keep_aggregate`].
    pub fn take_aggregate(&mut self) -> Box<Aggregate> {
        self.aggregate.take().unwrap_or_default()
    }

    /// Gives it back.
    pub fn keep_aggregate(&mut self, aggregate: Box<Aggregate>) {
        self.aggregate = Some(aggregate);
    }
}
