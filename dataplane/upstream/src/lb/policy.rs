//! The balancers proper that do not hash: one host out of a set (`ROUND_ROBIN`, `RANDOM`, `LEAST_REQUEST`).

use millrace_base::{Rng, Slab, Time};
use millrace_config::{LbPolicy, LeastRequest, SlowStart};

use super::Ground;
use super::edf::Edf;
use super::peak::Peak;
use crate::members::Member;
use crate::{Host, HostHealth, HostId};

#[derive(Debug, Default)]
enum Rotation {
    /// No host.
    #[default]
    Empty,
    /// One after the other.
    Plain,
    Random,
    /// By weight.
    Weighted(Edf),
    /// The least loaded of a few drawn at random.
    LeastOf(u32),
    /// The least loaded of all.
    LeastOfAll,
    /// By weight over load.
    WeightedLeast(Edf, f64),
    /// The better of two drawn at random.
    Peak(Peak),
}

/// The eligible hosts of one level or locality and the state of their rotation.
#[derive(Debug, Default)]
pub(crate) struct HostSet {
    hosts: Vec<HostId>,
    rotation: Rotation,
    /// Next position of the plain rotation; survives a rebuild.
    next: Option<usize>,
    slow_start: Option<SlowStart>,
}

impl HostSet {
    /// Puts other hosts in place: all members, or those of one health. A new rotation starts at a random host, or else every proxy of a mesh
    /// would send its first request to the first endpoint.
    pub fn replace(
        &mut self,
        members: &[Member],
        only: Option<HostHealth>,
        ground: &Ground<'_>,
        rng: &mut Rng,
    ) {
        self.hosts.clear();
        let counts = |member: &&Member| only.is_none_or(|health| member.health == health);
        let first = members.iter().find(counts).map_or(1, |member| member.weight);
        let same_weight = match only {
            None => {
                self.hosts.extend(members.iter().map(|member| member.id));
                members.iter().all(|member| member.weight == first)
            }
            Some(_) => {
                self.hosts.extend(members.iter().filter(counts).map(|member| member.id));
                members.iter().filter(counts).all(|member| member.weight == first)
            }
        };
        self.slow_start = ground.cluster.balancing.slow_start;
        let (hosts, now) = (ground.hosts, ground.now);
        let equal = same_weight
            && !self.slow_start.is_some_and(|slow| {
                self.hosts.iter().filter_map(|id| hosts.get(id.0)).any(|host| is_new(host, &slow, now))
            });
        let weigher = Weigher { slow_start: self.slow_start.as_ref(), now };
        self.rotation = if self.hosts.is_empty() {
            Rotation::Empty
        } else {
            match ground.cluster.lb_policy {
                LbPolicy::RoundRobin | LbPolicy::ClientSideWeightedRoundRobin(_) if equal => Rotation::Plain,
                LbPolicy::RoundRobin | LbPolicy::ClientSideWeightedRoundRobin(_) => {
                    let weights = self.hosts.iter().map(|id| hosts.get(id.0).map_or(1.0, |h| weigher.own(h)));
                    Rotation::Weighted(Edf::new(weights))
                }
                LbPolicy::LeastRequest(LeastRequest { full_scan: true, .. }) if equal => Rotation::LeastOfAll,
                LbPolicy::LeastRequest(LeastRequest { choice_count, .. }) if equal => {
                    Rotation::LeastOf(choice_count.max(2))
                }
                LbPolicy::LeastRequest(LeastRequest { active_request_bias: bias, .. }) => {
                    let weights =
                        self.hosts.iter().map(|id| hosts.get(id.0).map_or(1.0, |h| weigher.loaded(h, bias)));
                    Rotation::WeightedLeast(Edf::new(weights), bias)
                }
                LbPolicy::PeakEwma(config) => Rotation::Peak(Peak::from(&config)),
                LbPolicy::Random
                | LbPolicy::RingHash(_)
                | LbPolicy::Maglev(_)
                | LbPolicy::ClusterProvided => Rotation::Random,
            }
        };
        if self.next.is_none() && !self.hosts.is_empty() {
            self.next = Some(rng.next_u64() as usize);
        }
        if matches!(self.rotation, Rotation::Weighted(_) | Rotation::WeightedLeast(..)) {
            for _ in 0..rng.below(self.hosts.len() as u64) {
                self.pick(hosts, rng, now);
            }
        }
    }

    /// The next host.
    // Two callers, of which one is every request.
    #[inline(always)]
    pub fn pick(&mut self, hosts: &Slab<Host>, rng: &mut Rng, now: Time) -> Option<HostId> {
        let Self { hosts: ids, rotation, next, slow_start } = self;
        let weigher = Weigher { slow_start: slow_start.as_ref(), now };
        let host = |index: u32| ids.get(index as usize).and_then(|id| hosts.get(id.0));
        let index = match rotation {
            Rotation::Empty => return None,
            Rotation::Plain => {
                let position = next.unwrap_or(0);
                *next = Some(position.wrapping_add(1));
                position % ids.len()
            }
            Rotation::Random => rng.below(ids.len() as u64) as usize,
            Rotation::Weighted(edf) => edf.pick(|i| host(i).map_or(1.0, |h| weigher.own(h)))? as usize,
            Rotation::WeightedLeast(edf, bias) => {
                edf.pick(|i| host(i).map_or(1.0, |h| weigher.loaded(h, *bias)))? as usize
            }
            Rotation::LeastOf(choices) => least_of(*choices, ids, hosts, rng),
            Rotation::LeastOfAll => least_of_all(ids, hosts, rng),
            Rotation::Peak(peak) => cheaper_of_two(peak, ids, hosts, rng, now),
        };
        ids.get(index).copied()
    }
}

#[inline]
fn load(ids: &[HostId], hosts: &Slab<Host>, index: usize) -> u32 {
    ids.get(index).and_then(|id| hosts.get(id.0)).map_or(u32::MAX, |host| host.active_requests)
}

#[inline]
fn least_of(choices: u32, ids: &[HostId], hosts: &Slab<Host>, rng: &mut Rng) -> usize {
    // Both halves of a number are one: lists are shorter than 2^32.
    let (bits, count) = (rng.next_u64(), ids.len() as u64);
    let (mut best, other) =
        ((((bits >> 32) * count) >> 32) as usize, (((bits & 0xffff_ffff) * count) >> 32) as usize);
    let mut least = load(ids, hosts, best);
    let second = load(ids, hosts, other);
    if second < least {
        (best, least) = (other, second);
    }
    for _ in 2..choices {
        let other = rng.below(count) as usize;
        let load = load(ids, hosts, other);
        if load < least {
            (best, least) = (other, load);
        }
    }
    best
}

/// Of two different hosts the one with the smaller cost.
#[inline(never)]
fn cheaper_of_two(peak: &Peak, ids: &[HostId], hosts: &Slab<Host>, rng: &mut Rng, now: Time) -> usize {
    if ids.len() < 2 {
        return 0;
    }
    let (bits, count) = (rng.next_u64(), ids.len() as u64);
    let first = (((bits >> 32) * count) >> 32) as usize;
    let other = (((bits & 0xffff_ffff) * (count - 1)) >> 32) as usize;
    let other = other + usize::from(other >= first);
    let cost = |index: usize| {
        let host = ids.get(index).and_then(|id| hosts.get(id.0));
        host.and_then(|host| Some((host, host.rtt()?))).map_or(f64::INFINITY, |(host, known)| {
            let rtt = known.get().faded(peak, now);
            known.set(rtt);
            rtt.cost(host.active_requests, peak)
        })
    };
    if cost(other) < cost(first) { other } else { first }
}

/// Each of those that tie has the same chance (reservoir sampling).
fn least_of_all(ids: &[HostId], hosts: &Slab<Host>, rng: &mut Rng) -> usize {
    let (mut best, mut least, mut tied) = (0, load(ids, hosts, 0), 1);
    for index in 1..ids.len() {
        let load = load(ids, hosts, index);
        if load < least {
            (best, least, tied) = (index, load, 1);
        } else if load == least {
            tied += 1;
            if rng.below(tied) == 0 {
                best = index;
            }
        }
    }
    best
}

/// The weight of a host at this moment.
#[derive(Clone, Copy, Debug)]
struct Weigher<'a> {
    slow_start: Option<&'a SlowStart>,
    now: Time,
}

impl Weigher<'_> {
    fn own(&self, host: &Host) -> f64 {
        f64::from(host.weight) * self.factor(host)
    }

    /// `weight / (active_requests + 1) ^ active_request_bias`.
    fn loaded(&self, host: &Host, bias: f64) -> f64 {
        let load = f64::from(host.active_requests) + 1.0;
        let divisor = match bias {
            0.0 => 1.0,
            1.0 => load,
            other => load.powf(other),
        };
        // A weight of zero would never come up again.
        (self.own(host) / divisor).max(f64::MIN_POSITIVE)
    }

    /// How much of its weight a new host has.
    fn factor(&self, host: &Host) -> f64 {
        let Some(slow) = self.slow_start.filter(|slow| is_new(host, slow, self.now)) else { return 1.0 };
        let age = self.now.since(host.healthy_since);
        let time = age.as_millis().max(1) as f64 / slow.window.as_millis().max(1) as f64;
        let grown = if slow.aggression == 1.0 { time } else { time.powf(1.0 / slow.aggression) };
        grown.max(slow.min_weight)
    }
}

fn is_new(host: &Host, slow: &SlowStart, now: Time) -> bool {
    host.health == HostHealth::Healthy
        && host.healthy_since != Time::MAX
        && now.since(host.healthy_since) < slow.window
}
