//! Which endpoint gets the next request.
//!
//! A [`Balancer`] is rebuilt when endpoints change and answers from prepared tables in between: first the
//! priority level (`priority`), then the host within it (`policy`).

mod edf;
mod policy;
mod priority;

use millrace_base::{Rng, Slab};
use millrace_config::Cluster;

use crate::{Host, HostHealth, HostId};
use policy::HostSet;
use priority::{Availability, PriorityLoad};

/// What a request asks of the balancer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChooseContext<'a> {
    /// Hosts of earlier attempts, to be avoided (`retry_host_predicate` previous_hosts).
    pub avoid: &'a [HostId],
    /// `host_selection_retry_max_attempts`: how often another host is drawn when an avoided one came up.
    /// When all draws fail the last one is used.
    pub attempts: u32,
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
}

/// One priority level.
#[derive(Debug, Default)]
struct Level {
    /// Healthy hosts, or all hosts in panic.
    healthy: HostSet,
    degraded: HostSet,
    panic: bool,
}

/// The prepared tables of one cluster on one shard.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    levels: Vec<Level>,
    load: PriorityLoad,
    hosts_total: usize,
}

impl Balancer {
    /// Builds the tables. `members` holds the present hosts of each priority, in configuration order.
    /// Rotation goes on where `self` stood.
    pub fn rebuild(&mut self, cluster: &Cluster, members: &[Vec<HostId>], hosts: &Slab<Host>, rng: &mut Rng) {
        let availability: Vec<_> = members.iter().map(|level| Availability::of(level, hosts)).collect();
        self.load =
            PriorityLoad::compute(&availability, cluster.overprovisioning_factor, cluster.panic_threshold);
        self.hosts_total = members.iter().map(Vec::len).sum();
        self.levels.resize_with(members.len(), Level::default);
        for (index, (level, ids)) in self.levels.iter_mut().zip(members).enumerate() {
            level.panic = self.load.panic(index);
            let with = |health: HostHealth| {
                ids.iter().copied().filter(|id| hosts.get(id.0).is_some_and(|h| h.health == health)).collect()
            };
            let main = if level.panic { ids.clone() } else { with(HostHealth::Healthy) };
            level.healthy.replace(main, cluster.lb_policy, hosts, rng);
            level.degraded.replace(with(HostHealth::Degraded), cluster.lb_policy, hosts, rng);
        }
    }

    /// Draws a host.
    pub fn choose(
        &mut self,
        hosts: &Slab<Host>,
        rng: &mut Rng,
        context: &ChooseContext<'_>,
    ) -> Result<Chosen, NoHost> {
        let mut chosen = self.draw(hosts, rng)?;
        for _ in 0..context.attempts {
            if !context.avoid.contains(&chosen.host) {
                break;
            }
            chosen = self.draw(hosts, rng)?;
        }
        Ok(chosen)
    }

    fn draw(&mut self, hosts: &Slab<Host>, rng: &mut Rng) -> Result<Chosen, NoHost> {
        let (index, degraded) = self.load.draw(rng);
        let host = self.levels.get_mut(index).and_then(|level| {
            let set = if degraded { &mut level.degraded } else { &mut level.healthy };
            Some(Chosen { host: set.pick(hosts, rng)?, panic: level.panic })
        });
        host.ok_or(if self.hosts_total == 0 { NoHost::Empty } else { NoHost::NoneHealthy })
    }
}
