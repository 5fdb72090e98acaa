//! The balancers proper: one host out of a set (`ROUND_ROBIN`, `RANDOM`, `LEAST_REQUEST`).

use millrace_base::{Rng, Slab};
use millrace_config::{LbPolicy, LeastRequest};

use super::edf::Edf;
use crate::{Host, HostId};

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
    /// By weight over load.
    WeightedLeast(Edf, f64),
}

/// The eligible hosts of one level and the state of their rotation.
#[derive(Debug, Default)]
pub(crate) struct HostSet {
    hosts: Vec<HostId>,
    rotation: Rotation,
    /// Next position of the plain rotation; survives a rebuild.
    next: Option<usize>,
}

impl HostSet {
    /// Puts other hosts in place. A new rotation starts at a random host, or else every proxy of a mesh
    /// would send its first request to the first endpoint.
    pub fn replace(&mut self, ids: Vec<HostId>, policy: LbPolicy, hosts: &Slab<Host>, rng: &mut Rng) {
        self.hosts = ids;
        let weight = |id: &HostId| hosts.get(id.0).map_or(1.0, |h| f64::from(h.weight));
        let equal = self.hosts.windows(2).all(|pair| weight(&pair[0]) == weight(&pair[1]));
        self.rotation = if self.hosts.is_empty() {
            Rotation::Empty
        } else {
            match policy {
                LbPolicy::Random => Rotation::Random,
                LbPolicy::RoundRobin if equal => Rotation::Plain,
                LbPolicy::RoundRobin => Rotation::Weighted(Edf::new(self.hosts.iter().map(weight))),
                LbPolicy::LeastRequest(LeastRequest { choice_count, .. }) if equal => {
                    Rotation::LeastOf(choice_count.max(2))
                }
                LbPolicy::LeastRequest(LeastRequest { active_request_bias: bias, .. }) => {
                    let biased = |id: &HostId| hosts.get(id.0).map_or(1.0, |h| loaded_weight(h, bias));
                    Rotation::WeightedLeast(Edf::new(self.hosts.iter().map(biased)), bias)
                }
            }
        };
        if self.next.is_none() && !self.hosts.is_empty() {
            self.next = Some(rng.next_u64() as usize);
        }
        if matches!(self.rotation, Rotation::Weighted(_) | Rotation::WeightedLeast(..)) {
            for _ in 0..rng.below(self.hosts.len() as u64) {
                self.pick(hosts, rng);
            }
        }
    }

    /// The next host.
    #[inline]
    pub fn pick(&mut self, hosts: &Slab<Host>, rng: &mut Rng) -> Option<HostId> {
        let Self { hosts: ids, rotation, next } = self;
        let random = |rng: &mut Rng| rng.below(ids.len() as u64) as usize;
        let index = match rotation {
            Rotation::Empty => return None,
            Rotation::Plain => {
                let position = next.unwrap_or(0);
                *next = Some(position.wrapping_add(1));
                position % ids.len()
            }
            Rotation::Random => random(rng),
            Rotation::Weighted(edf) => {
                let weight = |i: u32| hosts.get(ids[i as usize].0).map_or(1.0, |h| f64::from(h.weight));
                edf.pick(weight)? as usize
            }
            Rotation::WeightedLeast(edf, bias) => {
                let weight = |i: u32| hosts.get(ids[i as usize].0).map_or(1.0, |h| loaded_weight(h, *bias));
                edf.pick(weight)? as usize
            }
            Rotation::LeastOf(choices) => {
                let load = |i: usize| hosts.get(ids[i].0).map_or(u32::MAX, |h| h.active_requests);
                let mut best = random(rng);
                for _ in 1..*choices {
                    let other = random(rng);
                    if load(other) < load(best) {
                        best = other;
                    }
                }
                best
            }
        };
        ids.get(index).copied()
    }
}

/// `weight / (active_requests + 1) ^ active_request_bias`.
fn loaded_weight(host: &Host, bias: f64) -> f64 {
    let weight = f64::from(host.weight);
    let load = f64::from(host.active_requests) + 1.0;
    if bias == 0.0 {
        weight
    } else if bias == 1.0 {
        weight / load
    } else {
        weight / load.powf(bias)
    }
}
