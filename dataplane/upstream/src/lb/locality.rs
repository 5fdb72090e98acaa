//! Localities of one priority: weights (`locality_weighted_lb_config`) and zone-aware routing.

use std::collections::BTreeMap;

use millrace_base::Rng;
use millrace_config::{Cluster, LocalityName, ZoneAware};

use super::edf::Edf;
use super::stats::{LbStat, LbStats};
use super::{Draw, Ground};
use crate::members::Member;
use crate::{HostHealth, HostId, PRIORITY_MAX};

/// Which weights the localities of a set of hosts have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// Those of the configuration.
    Configured,
    /// None: subsets that are not `locality_weight_aware`.
    Absent,
    /// In proportion to the hosts that are in the set (`scale_locality_weight`).
    Scaled,
}

/// The hosts of one locality and priority.
#[derive(Debug, Default)]
pub(crate) struct Group<'a> {
    pub name: Option<&'a LocalityName>,
    pub weight: u32,
    pub hosts: Vec<Member>,
    /// Hosts of the locality in the whole cluster.
    configured: usize,
}

/// The localities of one priority, the proxy's own first, then by name.
#[derive(Debug, Default)]
pub(crate) struct Groups<'a> {
    pub groups: Vec<Group<'a>>,
    /// The first group is the proxy's own locality.
    pub local: bool,
}

impl<'a> Groups<'a> {
    /// Groups `members`, hosts of one priority.
    pub fn of(ground: &Ground<'a>, priority: usize, members: &[Member], weights: Weights) -> Self {
        let own = ground.cluster.balancing.local_locality.as_deref();
        let mut by_name: BTreeMap<(bool, &LocalityName), Group<'a>> = BTreeMap::new();
        let localities = &ground.cluster.localities;
        let of_priority = |p: u32| p.min(PRIORITY_MAX) as usize == priority;
        for locality in localities.iter().filter(|l| of_priority(l.priority) && !l.endpoints.is_empty()) {
            let name = &locality.locality;
            let group = by_name.entry((own != Some(name), name)).or_default();
            (group.name, group.weight) = (Some(name), locality.weight);
            group.configured += locality.endpoints.len();
        }
        let position = |name: &LocalityName| by_name.keys().position(|(_, known)| *known == name);
        let positions: Vec<Option<usize>> = localities.iter().map(|l| position(&l.locality)).collect();
        let local = by_name.keys().next().is_some_and(|(foreign, _)| !foreign);
        let mut groups: Vec<Group<'a>> = by_name.into_values().collect();
        for member in members {
            let locality = ground.hosts.get(member.id.0).map_or(0, |host| host.locality as usize);
            if let Some(at) = positions.get(locality).copied().flatten() {
                groups[at].hosts.push(*member);
            }
        }
        for group in &mut groups {
            match weights {
                Weights::Configured => {}
                Weights::Absent => group.weight = 0,
                Weights::Scaled => {
                    let share = group.hosts.len() as f64 / group.configured.max(1) as f64;
                    group.weight = (f64::from(group.weight) * share).round() as u32;
                }
            }
        }
        Self { groups, local }
    }

    /// How much of the whole the eligible hosts of each group are: their number, or their weights. `serving` counts them.
    fn sizes(&self, serving: &[usize], by_weight: bool) -> Vec<u64> {
        let size = |(group, serving): (&Group<'_>, &usize)| match by_weight {
            false => *serving as u64,
            true => {
                let healthy = group.hosts.iter().filter(|member| member.health == HostHealth::Healthy);
                healthy.map(|member| u64::from(member.weight)).sum()
            }
        };
        self.groups.iter().zip(serving).map(size).collect()
    }

    /// Hosts with their shares of the whole, by weights of localities and hosts; `eligible` says who counts.
    pub fn shares(&self, eligible: impl Fn(&Member) -> bool) -> Vec<(HostId, f64)> {
        let sum: u64 = self.groups.iter().map(|group| u64::from(group.weight)).sum();
        let mut out = Vec::new();
        for group in self.groups.iter().filter(|group| group.weight > 0) {
            let hosts = group.hosts.iter().filter(|member| eligible(member));
            shares(hosts, f64::from(group.weight) / sum as f64, &mut out);
        }
        out
    }
}

/// Adds hosts with their shares of `whole`, by their weights.
pub(crate) fn shares<'a>(
    hosts: impl Iterator<Item = &'a Member> + Clone,
    whole: f64,
    out: &mut Vec<(HostId, f64)>,
) {
    let sum: u64 = hosts.clone().map(|member| u64::from(member.weight)).sum();
    out.extend(hosts.map(|member| (member.id, f64::from(member.weight) * whole / sum as f64)));
}

/// Localities in turn, by their weights and how many of their hosts serve.
#[derive(Debug, Default)]
pub(crate) struct Wrr {
    edf: Edf,
    /// Index of the locality and its weight.
    entries: Vec<(usize, f64)>,
}

impl Wrr {
    /// `serving` counts the eligible hosts of each group.
    pub fn new(groups: &Groups<'_>, serving: &[usize], overprovisioning_factor: u32, rng: &mut Rng) -> Self {
        let effective = |(group, serving): (&Group<'_>, &usize)| match group.hosts.len() {
            0 => 0.0,
            total => {
                let available = f64::from(overprovisioning_factor) / 100.0 * (*serving as f64 / total as f64);
                f64::from(group.weight) * available.min(1.0)
            }
        };
        let weights = groups.groups.iter().zip(serving).map(effective).enumerate();
        let entries: Vec<(usize, f64)> = weights.filter(|(_, weight)| *weight > 0.0).collect();
        let edf = Edf::new(entries.iter().map(|(_, weight)| *weight));
        let mut wrr = Self { edf, entries };
        for _ in 0..rng.below(wrr.entries.len() as u64) {
            wrr.pick();
        }
        wrr
    }

    /// The index of the next locality; `None` when none has a weight.
    #[inline]
    pub fn pick(&mut self) -> Option<usize> {
        let entries = &self.entries;
        let at = self.edf.pick(|i| entries.get(i as usize).map_or(1.0, |(_, weight)| *weight))?;
        entries.get(at as usize).map(|(group, _)| *group)
    }
}

/// Zone-aware routing of level 0.
#[derive(Debug)]
pub(crate) struct Zones {
    config: ZoneAware,
    /// Too few of the local cluster's endpoints are healthy.
    local_panic: bool,
    /// Of 10,000 requests so many stay in the zone; `None` for all.
    stay: Option<u64>,
    /// What other zones take, summed up; one entry for each group.
    residual: Vec<u64>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// To any locality.
    Any,
    /// To this one.
    Group(usize),
    /// Nowhere: the local cluster is in panic and `fail_traffic_on_panic` is set.
    Fail,
}

impl Zones {
    /// `None` when localities make no difference.
    pub fn new(
        ground: &Ground<'_>,
        config: ZoneAware,
        groups: &Groups<'_>,
        serving: &[usize],
        stats: &mut LbStats,
    ) -> Option<Self> {
        let local = LocalCluster::of(ground.local?);
        stats.add(LbStat::RecalculateZoneStructures, 1);
        if groups.groups.len() < 2 || (local.all.len() < 2 && config.force_local.is_none()) {
            return None;
        }
        let own = ground.cluster.balancing.local_locality.as_deref();
        if own.and_then(|own| local.all.get(own)).is_none() {
            stats.add(LbStat::LocalClusterNotOk, 1);
            return None;
        }
        let total = serving.iter().sum::<usize>() as u64;
        if total < config.min_cluster_size {
            stats.add(LbStat::ZoneClusterTooSmall, 1);
            return None;
        }
        let shares = groups.sizes(serving, config.by_weight);
        let whole = shares.iter().sum::<u64>();
        let percentages: Vec<(u64, u64)> = groups
            .groups
            .iter()
            .zip(shares)
            .map(|(group, share)| match (share, group.name) {
                (0, _) | (_, None) => (0, 0),
                (share, Some(name)) => (
                    local.percentage(name, config.by_weight),
                    (10_000 * share).checked_div(whole).unwrap_or(0),
                ),
            })
            .collect();
        let (here, there) = percentages.first().copied().unwrap_or_default();
        let enough = |min: u32| serving.first().is_some_and(|own| *own as u64 >= u64::from(min));
        let direct = groups.local && ((there > 0 && there >= here) || config.force_local.is_some_and(enough));
        let stay = if groups.local && here > 0 { there * 10_000 / here } else { 0 };
        let mut sum = 0;
        let residual = percentages.iter().enumerate().map(|(at, (here, there))| {
            if at > 0 || !groups.local {
                sum += there.saturating_sub(*here);
            }
            sum
        });
        let residual = residual.collect();
        let local_panic = local.is_in_panic(ground.cluster.panic_threshold);
        Some(Self { config, local_panic, stay: (!direct).then_some(stay), residual })
    }

    /// Draws the locality of a request.
    pub fn pick(&self, draw: &mut Draw<'_>) -> Zone {
        if draw.rng.below(100) >= u64::from(self.config.routing_enabled) {
            return Zone::Any;
        }
        if self.local_panic {
            draw.stats.add(LbStat::LocalClusterNotOk, 1);
            return if self.config.fail_traffic_on_panic { Zone::Fail } else { Zone::Any };
        }
        let Some(stay) = self.stay else {
            draw.stats.add(LbStat::ZoneRoutingAllDirectly, 1);
            return Zone::Group(0);
        };
        if draw.rng.below(10_000) < stay {
            draw.stats.add(LbStat::ZoneRoutingSampled, 1);
            return Zone::Group(0);
        }
        draw.stats.add(LbStat::ZoneRoutingCrossZone, 1);
        match self.residual.last().copied().unwrap_or(0) {
            // Possible when percentages are rounded.
            0 => {
                draw.stats.add(LbStat::ZoneNoCapacityLeft, 1);
                Zone::Group(draw.rng.below(self.residual.len() as u64) as usize)
            }
            capacity => {
                let ticket = draw.rng.below(capacity);
                Zone::Group(self.residual.partition_point(|sum| *sum <= ticket))
            }
        }
    }
}

/// The endpoints of the cluster that this proxy belongs to, by locality.
struct LocalCluster<'a> {
    all: BTreeMap<&'a LocalityName, usize>,
    /// Number of the healthy ones, and the sum of their weights.
    healthy: BTreeMap<&'a LocalityName, (u64, u64)>,
    usable: usize,
}

impl<'a> LocalCluster<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        let mut local = Self { all: BTreeMap::new(), healthy: BTreeMap::new(), usable: 0 };
        for locality in cluster.localities.iter().filter(|locality| locality.priority == 0) {
            for endpoint in &locality.endpoints {
                *local.all.entry(&locality.locality).or_default() += 1;
                let health = HostHealth::from(endpoint.health);
                local.usable += usize::from(health != HostHealth::Unhealthy);
                if health == HostHealth::Healthy {
                    let (number, weight) = local.healthy.entry(&locality.locality).or_default();
                    (*number, *weight) = (*number + 1, *weight + u64::from(endpoint.weight.max(1)));
                }
            }
        }
        local
    }

    /// The share of the healthy ones, of 10,000.
    fn percentage(&self, name: &LocalityName, by_weight: bool) -> u64 {
        let size = |(number, weight): &(u64, u64)| if by_weight { *weight } else { *number };
        let total: u64 = self.healthy.values().map(size).sum();
        let own = self.healthy.get(name).map_or(0, size);
        (10_000 * own).checked_div(total).unwrap_or(0)
    }

    fn is_in_panic(&self, threshold: f64) -> bool {
        let total: usize = self.all.values().sum();
        let percent = if total == 0 { 0.0 } else { 100.0 * self.usable as f64 / total as f64 };
        percent < threshold
    }
}
