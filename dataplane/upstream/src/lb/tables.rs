//! The tables of one set of hosts: priority levels, and within each the localities and the hosts.

use millrace_base::{Rng, Slab};
use millrace_config::{LbPolicy, LocalityMode};

use super::hashed::Hashed;
use super::locality::{self, Groups, Weights, Wrr, Zone, Zones};
use super::policy::HostSet;
use super::priority::{Availability, PriorityLoad};
use super::stats::{LbStat, LbStats};
use super::{ChooseContext, Chosen, Draw, Ground};
use crate::members::Member;
use crate::{Host, HostHealth, HostId};

/// How a locality is chosen.
#[derive(Debug)]
enum Routing {
    Weighted { healthy: Wrr, degraded: Wrr },
    Zones(Zones),
}

/// The hosts of one level by locality.
#[derive(Debug)]
struct Localities {
    routing: Routing,
    healthy: Vec<HostSet>,
    degraded: Vec<HostSet>,
}

/// One priority level.
#[derive(Debug, Default)]
struct Level {
    /// Healthy hosts, or all hosts in panic.
    healthy: HostSet,
    degraded: HostSet,
    localities: Option<Box<Localities>>,
    /// Instead of all of them, when the policy hashes.
    hashed: Option<Box<Hashed>>,
    panic: bool,
}

/// The tables of one set of hosts.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    levels: Vec<Level>,
    load: PriorityLoad,
    /// Every request goes to one of the hosts of level 0, drawn by the policy alone: nothing else has a say.
    direct: bool,
    hashes: bool,
    fail_on_panic: bool,
}

fn hashes(policy: &LbPolicy) -> bool {
    matches!(policy, LbPolicy::RingHash(_) | LbPolicy::Maglev(_))
}

fn with(members: &[Member], health: HostHealth) -> impl Iterator<Item = &Member> {
    members.iter().filter(move |member| member.health == health)
}

impl Tables {
    /// Builds the tables of `members`: hosts of each priority, in configuration order.
    pub fn rebuild(
        &mut self,
        ground: &Ground<'_>,
        members: &[Vec<Member>],
        weights: Weights,
        rng: &mut Rng,
        stats: &mut LbStats,
    ) {
        let cluster = ground.cluster;
        let weighted = cluster.balancing.weighted_priority_health;
        let availability: Vec<_> = members.iter().map(|level| Availability::of(level, weighted)).collect();
        self.load =
            PriorityLoad::compute(&availability, cluster.overprovisioning_factor, cluster.panic_threshold);
        self.hashes = hashes(&cluster.lb_policy);
        self.fail_on_panic = match cluster.balancing.locality {
            LocalityMode::ZoneAware(zone) => zone.fail_traffic_on_panic,
            LocalityMode::Weighted => false,
        };
        self.levels.resize_with(members.len(), Level::default);
        for (index, (level, ids)) in self.levels.iter_mut().zip(members).enumerate() {
            level.panic = self.load.panic(index);
            if self.hashes {
                level.hash(ground, index, ids, weights);
            } else {
                level.rotate(ground, index, (ids, availability[index]), weights, rng, stats);
            }
        }
        let plain = |level: &Level| !level.panic && level.localities.is_none();
        self.direct = self.load.is_trivial() && self.levels.first().is_some_and(plain);
    }

    /// See the field.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// A host of level 0, where [`Self::is_direct`].
    #[inline]
    pub fn pick(
        &mut self,
        hosts: &Slab<Host>,
        rng: &mut Rng,
        active: u32,
        context: &ChooseContext<'_>,
    ) -> Option<HostId> {
        let level = self.levels.first_mut()?;
        if let Some(hashed) = &level.hashed {
            let hash = context.hash.unwrap_or_else(|| rng.next_u64());
            return hashed.pick(hash, 0, (hosts, active));
        }
        level.healthy.pick(hosts, rng, context.now)
    }

    /// Draws a host, again while retries are to avoid it.
    pub fn choose(&mut self, draw: &mut Draw<'_>, context: &ChooseContext<'_>) -> Option<Chosen> {
        match self.hashes {
            true => self.choose_hashed(draw, context),
            false => self.choose_by_all(draw, context),
        }
    }

    fn choose_by_all(&mut self, draw: &mut Draw<'_>, context: &ChooseContext<'_>) -> Option<Chosen> {
        let mut left = context.attempts;
        loop {
            let chosen = self.draw(draw, context.level)?;
            if left == 0 || !context.avoids(chosen.host, draw.hosts) {
                return Some(chosen);
            }
            left -= 1;
        }
    }

    fn choose_hashed(&mut self, draw: &mut Draw<'_>, context: &ChooseContext<'_>) -> Option<Chosen> {
        let hash = context.hash.unwrap_or_else(|| draw.rng.next_u64());
        let index = match context.level {
            Some((level, _)) => level as usize,
            None => self.load.draw_beside(draw.excluded, || hash).0,
        };
        let level = self.levels.get(index)?;
        let hashed = level.hashed.as_deref()?;
        let mut attempt = 0;
        loop {
            let host = hashed.pick(hash, attempt, (draw.hosts, draw.active))?;
            if attempt == context.attempts || !context.avoids(host, draw.hosts) {
                return Some(Chosen { host, panic: level.panic });
            }
            attempt += 1;
        }
    }

    #[inline]
    fn draw(&mut self, draw: &mut Draw<'_>, level: Option<(u32, bool)>) -> Option<Chosen> {
        let (index, degraded) = match level {
            None => self.load.draw_beside(draw.excluded, || draw.rng.next_u64()),
            Some((level, degraded)) => (level as usize, degraded),
        };
        let level = self.levels.get_mut(index)?;
        if level.panic && self.fail_on_panic {
            draw.stats.add(LbStat::HealthyPanic, 1);
            return None;
        }
        Some(Chosen { host: level.pick(degraded, draw)?, panic: level.panic })
    }
}

impl Level {
    fn hash(&mut self, ground: &Ground<'_>, priority: usize, ids: &[Member], weights: Weights) {
        let panic = self.panic;
        let eligible = |member: &Member| panic || member.health == HostHealth::Healthy;
        let shares = match (ground.cluster.balancing.locality, weights) {
            (LocalityMode::Weighted, Weights::Configured | Weights::Scaled) => {
                Groups::of(ground, priority, ids, weights).shares(eligible)
            }
            _ => {
                let mut out = Vec::with_capacity(ids.len());
                locality::shares(ids.iter().filter(|member| eligible(member)), 1.0, &mut out);
                out
            }
        };
        // The table before goes last: what did not change is still there to be taken.
        let hashed = Hashed::new(ground, shares).map(Box::new);
        *self = Self { panic, hashed, ..Self::default() };
    }

    fn rotate(
        &mut self,
        ground: &Ground<'_>,
        priority: usize,
        (ids, found): (&[Member], Availability),
        weights: Weights,
        rng: &mut Rng,
        stats: &mut LbStats,
    ) {
        self.hashed = None;
        let only = |health, all: bool| if all { None } else { Some(health) };
        let all = self.panic || found.healthy == found.total;
        self.healthy.replace(ids, only(HostHealth::Healthy, all), ground, rng);
        let degraded = if found.degraded > 0 { ids } else { &[] };
        self.degraded.replace(degraded, only(HostHealth::Degraded, false), ground, rng);
        let wanted = match ground.cluster.balancing.locality {
            LocalityMode::Weighted => weights != Weights::Absent,
            LocalityMode::ZoneAware(_) => priority == 0 && ground.local.is_some(),
        };
        if !wanted {
            self.localities = None;
            return;
        }
        let groups = Groups::of(ground, priority, ids, weights);
        let by_group = |health| -> Vec<Vec<Member>> {
            groups.groups.iter().map(|group| with(&group.hosts, health).copied().collect()).collect()
        };
        let (healthy, degraded) = (by_group(HostHealth::Healthy), by_group(HostHealth::Degraded));
        let Some(routing) = routing(ground, &groups, [&healthy, &degraded], rng, stats) else {
            self.localities = None;
            return;
        };
        let mut place = |lists: Vec<Vec<Member>>, sets: Option<Vec<HostSet>>| {
            let mut sets = sets.unwrap_or_default();
            sets.resize_with(lists.len(), HostSet::default);
            lists.iter().zip(&mut sets).for_each(|(ids, set)| set.replace(ids, None, ground, rng));
            sets
        };
        let (old_healthy, old_degraded) = match self.localities.take() {
            Some(old) => (Some(old.healthy), Some(old.degraded)),
            None => (None, None),
        };
        let (healthy, degraded) = (place(healthy, old_healthy), place(degraded, old_degraded));
        self.localities = Some(Box::new(Localities { routing, healthy, degraded }));
    }

    fn pick(&mut self, degraded: bool, draw: &mut Draw<'_>) -> Option<HostId> {
        let all = if degraded { &mut self.degraded } else { &mut self.healthy };
        let set = match &mut self.localities {
            Some(localities) if !self.panic => match localities.choose(degraded, draw) {
                Zone::Any => all,
                Zone::Group(group) => {
                    let sets = if degraded { &mut localities.degraded } else { &mut localities.healthy };
                    sets.get_mut(group)?
                }
                Zone::Fail => return None,
            },
            _ => all,
        };
        set.pick(draw.hosts, draw.rng, draw.now)
    }
}

impl Localities {
    /// Where the next request goes.
    #[inline(never)]
    fn choose(&mut self, degraded: bool, draw: &mut Draw<'_>) -> Zone {
        match &mut self.routing {
            Routing::Weighted { healthy, degraded: other } => {
                let group = if degraded { other } else { healthy }.pick();
                group.map_or(Zone::Any, Zone::Group)
            }
            Routing::Zones(zones) => zones.pick(draw),
        }
    }
}

fn routing(
    ground: &Ground<'_>,
    groups: &Groups<'_>,
    [healthy, degraded]: [&[Vec<Member>]; 2],
    rng: &mut Rng,
    stats: &mut LbStats,
) -> Option<Routing> {
    let count = |lists: &[Vec<Member>]| -> Vec<usize> { lists.iter().map(Vec::len).collect() };
    let factor = ground.cluster.overprovisioning_factor;
    match ground.cluster.balancing.locality {
        LocalityMode::Weighted => Some(Routing::Weighted {
            healthy: Wrr::new(groups, &count(healthy), factor, rng),
            degraded: Wrr::new(groups, &count(degraded), factor, rng),
        }),
        LocalityMode::ZoneAware(config) => {
            Zones::new(ground, config, groups, &count(healthy), stats).map(Routing::Zones)
        }
    }
}
