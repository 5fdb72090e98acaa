//! How traffic is spread over priority levels: overprovisioning, spill-over, panic
//! (`arch_overview/upstream/load_balancing/{priority,degraded,panic_threshold}`).

use millrace_base::{Rng, Slab};

use crate::{Host, HostHealth, HostId};

/// How many hosts of a level can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Availability {
    pub total: u32,
    pub healthy: u32,
    pub degraded: u32,
}

impl Availability {
    pub fn of(level: &[HostId], hosts: &Slab<Host>) -> Self {
        let count = |health| {
            level.iter().filter(|id| hosts.get(id.0).is_some_and(|h| h.health == health)).count() as u32
        };
        Self {
            total: level.len() as u32,
            healthy: count(HostHealth::Healthy),
            degraded: count(HostHealth::Degraded),
        }
    }

    /// Percent of full capacity that `hosts` of this level provide, capped at 100.
    fn capacity(self, hosts: u32, overprovisioning_factor: u32) -> u32 {
        if self.total == 0 {
            return 0;
        }
        let percent = u64::from(overprovisioning_factor) * u64::from(hosts) / u64::from(self.total);
        percent.min(100) as u32
    }

    fn below(self, panic_threshold: f64) -> bool {
        let percent = |hosts: u32| match self.total {
            0 => 0.0,
            total => 100.0 * f64::from(hosts) / f64::from(total),
        };
        percent(self.healthy) + percent(self.degraded) < panic_threshold
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    healthy: u32,
    degraded: u32,
    panic: bool,
}

/// Percent of the traffic for each level's healthy and degraded hosts; the sum is 100.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PriorityLoad {
    shares: Vec<Share>,
    /// Everything goes to level 0's healthy hosts; no draw needed.
    trivial: bool,
}

impl PriorityLoad {
    pub fn compute(levels: &[Availability], overprovisioning_factor: u32, panic_threshold: f64) -> Self {
        let healthy: Vec<u32> =
            levels.iter().map(|l| l.capacity(l.healthy, overprovisioning_factor)).collect();
        let degraded: Vec<u32> =
            levels.iter().map(|l| l.capacity(l.degraded, overprovisioning_factor)).collect();
        let available = healthy.iter().chain(&degraded).sum::<u32>().min(100);
        let mut shares = vec![Share::default(); levels.len()];
        distribute(&mut shares, &healthy, &degraded, available);

        if panic_threshold <= 0.0 && available == 0 {
            // Panic is off and nobody can serve: the draw must land somewhere and finds nothing there.
            assign_all_to_first(&mut shares);
        } else {
            for (share, level) in shares.iter_mut().zip(levels) {
                share.panic = available < 100 && level.below(panic_threshold);
            }
            if shares.iter().all(|share| share.panic) {
                spread_by_size(&mut shares, levels);
            }
        }
        let trivial = shares.first().is_none_or(|share| share.healthy == 100);
        Self { shares, trivial }
    }

    /// True when level `index` uses all its hosts whatever their health.
    pub fn panic(&self, index: usize) -> bool {
        self.shares.get(index).is_some_and(|share| share.panic)
    }

    /// A level and whether its degraded hosts are meant.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> (usize, bool) {
        if self.trivial {
            return (0, false);
        }
        let ticket = rng.below(100) as u32;
        let mut sum = 0;
        for (index, share) in self.shares.iter().enumerate() {
            sum += share.healthy;
            if ticket < sum {
                return (index, false);
            }
        }
        for (index, share) in self.shares.iter().enumerate() {
            sum += share.degraded;
            if ticket < sum {
                return (index, true);
            }
        }
        (0, false)
    }
}

/// Fills levels from the top, healthy hosts of all levels before degraded ones; the rounding remainder
/// goes to the first level that has anything.
fn distribute(shares: &mut [Share], healthy: &[u32], degraded: &[u32], available: u32) {
    if available == 0 {
        return;
    }
    let mut left = 100;
    for (share, capacity) in shares.iter_mut().zip(healthy) {
        share.healthy = left.min(capacity * 100 / available);
        left -= share.healthy;
    }
    for (share, capacity) in shares.iter_mut().zip(degraded) {
        share.degraded = left.min(capacity * 100 / available);
        left -= share.degraded;
    }
    if let Some(index) = healthy.iter().position(|capacity| *capacity > 0) {
        shares[index].healthy += left;
    } else if let Some(index) = degraded.iter().position(|capacity| *capacity > 0) {
        shares[index].degraded += left;
    }
}

fn assign_all_to_first(shares: &mut [Share]) {
    if let Some(first) = shares.first_mut() {
        first.healthy = 100;
    }
}

/// Every level is in panic: traffic follows the number of hosts, whatever their health.
fn spread_by_size(shares: &mut [Share], levels: &[Availability]) {
    let total: u32 = levels.iter().map(|level| level.total).sum();
    if total == 0 {
        assign_all_to_first(shares);
        return;
    }
    let mut left = 100;
    for (share, level) in shares.iter_mut().zip(levels) {
        share.healthy = (100 * u64::from(level.total) / u64::from(total)) as u32;
        share.degraded = 0;
        left -= share.healthy;
    }
    if let Some(index) = levels.iter().position(|level| level.total > 0) {
        shares[index].healthy += left;
    }
}
