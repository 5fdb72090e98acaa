//! How traffic is spread over priority levels: overprovisioning, spill-over, panic
//! (`arch_overview/upstream/load_balancing/{priority,degraded,panic_threshold}`).

use crate::HostHealth;
use crate::members::Member;

/// How many hosts of a level can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Availability {
    pub total: u32,
    pub healthy: u32,
    pub degraded: u32,
    /// Of the total, those that do not count among the members that could serve.
    pub excluded: u32,
    /// With `weighted_priority_health` the same three in weights.
    pub weights: Option<[u64; 3]>,
}

impl Availability {
    pub fn of(level: &[Member], weighted: bool) -> Self {
        let total = level.len() as u32;
        let mut found = Self { total, ..Self::default() };
        // Mostly all of them are healthy, which takes no counting.
        if !weighted && level.iter().all(|member| member.health == HostHealth::Healthy && !member.excluded) {
            return Self { healthy: total, ..found };
        }
        let [mut total, mut healthy, mut degraded] = [0; 3];
        for member in level {
            if member.excluded {
                found.excluded += 1;
                continue;
            }
            let weight = u64::from(member.weight);
            total += weight;
            match member.health {
                HostHealth::Healthy => (found.healthy, healthy) = (found.healthy + 1, healthy + weight),
                HostHealth::Degraded => (found.degraded, degraded) = (found.degraded + 1, degraded + weight),
                HostHealth::Unhealthy => {}
            }
        }
        found.weights = weighted.then_some([total, healthy, degraded]);
        found
    }

    /// Percent of full capacity that the healthy and the degraded hosts provide, each capped at 100.
    fn capacity(self, overprovisioning_factor: u32) -> (u32, u32) {
        let counts = [self.total - self.excluded, self.healthy, self.degraded].map(u64::from);
        let [total, healthy, degraded] = self.weights.unwrap_or(counts);
        let percent = |part: u64| {
            let whole = u128::from(overprovisioning_factor) * u128::from(part);
            whole.checked_div(u128::from(total)).map_or(0, |percent| percent.min(100) as u32)
        };
        (percent(healthy), percent(degraded))
    }

    fn below(self, panic_threshold: f64) -> bool {
        let percent = |hosts: u32| match self.total - self.excluded {
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
    /// Percent of full capacity of each level's healthy and degraded hosts.
    capacities: Vec<(u32, u32)>,
    /// Everything goes to level 0's healthy hosts; no draw needed.
    trivial: bool,
}

impl PriorityLoad {
    pub fn compute(levels: &[Availability], overprovisioning_factor: u32, panic_threshold: f64) -> Self {
        let levels: Vec<_> = levels.iter().map(|level| (*level, overprovisioning_factor)).collect();
        Self::with_factors(&levels, panic_threshold)
    }

    /// As [`Self::compute`], with an overprovisioning factor for each level.
    pub fn with_factors(levels: &[(Availability, u32)], panic_threshold: f64) -> Self {
        let capacity = |(level, factor): &(Availability, u32)| level.capacity(*factor);
        let capacities: Vec<(u32, u32)> = levels.iter().map(capacity).collect();
        let (healthy, degraded): (Vec<u32>, Vec<u32>) = capacities.iter().copied().unzip();
        let available = healthy.iter().chain(&degraded).sum::<u32>().min(100);
        let mut shares = vec![Share::default(); levels.len()];
        distribute(&mut shares, &healthy, &degraded, available);

        if panic_threshold <= 0.0 && available == 0 {
            // Panic is off and nobody can serve: the draw must land somewhere and finds nothing there.
            assign_all_to_first(&mut shares);
        } else {
            for (share, (level, _)) in shares.iter_mut().zip(levels) {
                share.panic = available < 100 && level.below(panic_threshold);
            }
            if shares.iter().all(|share| share.panic) {
                spread_by_size(&mut shares, levels);
            }
        }
        let trivial = shares.first().is_none_or(|share| share.healthy == 100);
        Self { shares, capacities, trivial }
    }

    /// As [`Self::draw`], with the levels left out that a retry avoids. When nothing else can serve, none is.
    #[inline]
    pub fn draw_beside(&self, excluded: &[u32], hash: impl FnOnce() -> u64) -> (usize, bool) {
        if excluded.is_empty() { self.draw(hash) } else { self.without(excluded).draw(hash) }
    }

    #[cold]
    fn without(&self, excluded: &[u32]) -> Self {
        let rest = self.capacities.iter().zip(0..);
        let rest = rest.map(|(own, level)| if excluded.contains(&level) { (0, 0) } else { *own });
        let (healthy, degraded): (Vec<u32>, Vec<u32>) = rest.unzip();
        let available = healthy.iter().chain(&degraded).sum::<u32>().min(100);
        let mut shares = match available {
            0 => self.shares.clone(),
            _ => vec![Share::default(); self.shares.len()],
        };
        distribute(&mut shares, &healthy, &degraded, available);
        let trivial = shares.first().is_none_or(|share| share.healthy == 100);
        Self { shares, capacities: Vec::new(), trivial }
    }

    /// True when everything goes to the healthy hosts of level 0.
    pub fn is_trivial(&self) -> bool {
        self.trivial
    }

    /// True when level `index` uses all its hosts whatever their health.
    pub fn panic(&self, index: usize) -> bool {
        self.shares.get(index).is_some_and(|share| share.panic)
    }

    /// A level and whether its degraded hosts are meant; the hash is asked for only when it decides.
    #[inline]
    pub fn draw(&self, hash: impl FnOnce() -> u64) -> (usize, bool) {
        if self.trivial {
            return (0, false);
        }
        let ticket = (hash() % 100) as u32;
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
fn spread_by_size(shares: &mut [Share], levels: &[(Availability, u32)]) {
    let total: u32 = levels.iter().map(|(level, _)| level.total).sum();
    if total == 0 {
        assign_all_to_first(shares);
        return;
    }
    let mut left = 100;
    for (share, (level, _)) in shares.iter_mut().zip(levels) {
        share.healthy = (100 * u64::from(level.total) / u64::from(total)) as u32;
        share.degraded = 0;
        left -= share.healthy;
    }
    if let Some(index) = levels.iter().position(|(level, _)| level.total > 0) {
        shares[index].healthy += left;
    }
}

#[cfg(test)]
mod tests {
    use millrace_base::Rng;

    use super::*;

    fn level(total: u32, healthy: u32, degraded: u32) -> Availability {
        Availability { total, healthy, degraded, excluded: 0, weights: None }
    }

    /// `(healthy, degraded, panic)` of each level, with Envoy's defaults.
    fn shares(levels: &[Availability]) -> Vec<(u32, u32, bool)> {
        let load = PriorityLoad::compute(levels, 140, 50.0);
        assert_eq!(load.shares.iter().map(|s| s.healthy + s.degraded).sum::<u32>(), 100);
        load.shares.iter().map(|s| (s.healthy, s.degraded, s.panic)).collect()
    }

    #[test]
    fn two_levels_share_as_the_documentation_of_envoy_tabulates() {
        // Percent healthy of both levels, percent of the traffic for the first.
        let table = [(100, 100, 100), (72, 72, 100), (71, 71, 99), (50, 50, 70), (25, 100, 35), (25, 25, 50)];
        for (first, second, share) in table {
            let got = shares(&[level(100, first, 0), level(100, second, 0)]);
            assert_eq!((got[0].0, got[1].0), (share, 100 - share), "{first} and {second}");
        }
    }

    #[test]
    fn rounding_goes_to_the_first_level_that_serves() {
        // 1 of 5 each: 28 % capacity, 84 in all; 33 each and one left over.
        let levels = [level(5, 0, 0), level(5, 1, 0), level(5, 1, 0), level(5, 1, 0)];
        let load = PriorityLoad::compute(&levels, 140, 0.0);
        assert_eq!(load.shares.iter().map(|s| s.healthy).collect::<Vec<_>>(), [0, 34, 33, 33]);
        // All levels in panic: by size, which rounds the same way.
        assert_eq!(shares(&levels), [(25, 0, true); 4]);
        assert_eq!(shares(&levels[..3]), [(34, 0, true), (33, 0, true), (33, 0, true)]);
        let calm = PriorityLoad::compute(&[level(5, 0, 1), level(5, 0, 1), level(5, 0, 1)], 140, 0.0);
        assert_eq!(calm.shares.iter().map(|s| s.degraded).collect::<Vec<_>>(), [34, 33, 33]);
    }

    #[test]
    fn panic_needs_less_than_the_threshold_and_a_shortage() {
        // Half healthy is not below 50 %.
        assert!(!shares(&[level(4, 2, 0)])[0].2);
        assert!(shares(&[level(5, 2, 0)])[0].2);
        // Degraded hosts count as usable here.
        assert!(!shares(&[level(5, 2, 1)])[0].2);
        // Level 1 makes up for level 0: no panic, level 0 serves with what it has.
        assert_eq!(shares(&[level(10, 1, 0), level(4, 4, 0)]), [(14, 0, false), (86, 0, false)]);
        // Short in all: each level by itself. 14 + 70 is less than 100.
        assert_eq!(shares(&[level(10, 1, 0), level(4, 2, 0)]), [(17, 0, true), (83, 0, false)]);
    }

    #[test]
    fn nobody_left_without_panic_still_lands_somewhere() {
        let load = PriorityLoad::compute(&[level(3, 0, 0), level(3, 0, 0)], 140, 0.0);
        assert_eq!(load.draw(|| 1), (0, false));
        assert!(!load.panic(0) && !load.panic(1) && !load.panic(7));
        assert_eq!(PriorityLoad::compute(&[], 140, 50.0).draw(|| 1), (0, false));
    }

    #[test]
    fn retries_leave_levels_out_while_another_serves() {
        let load = PriorityLoad::compute(&[level(4, 4, 0), level(4, 2, 0), level(4, 4, 0)], 140, 50.0);
        let shares = |excluded: &[u32]| -> Vec<u32> {
            load.without(excluded).shares.iter().map(|share| share.healthy).collect()
        };
        assert_eq!(shares(&[0]), [0, 70, 30]);
        assert_eq!(shares(&[0, 2]), [0, 100, 0]);
        // Nothing is left: all are in again.
        assert_eq!(shares(&[0, 1, 2]), [100, 0, 0]);
        assert_eq!(load.draw_beside(&[], || 0), (0, false));
        assert_eq!(load.draw_beside(&[0, 1], || 0), (2, false));
    }

    #[test]
    fn draws_reach_every_share_in_proportion() {
        let load = PriorityLoad::compute(&[level(4, 2, 1), level(10, 0, 1)], 140, 0.0);
        // 70 healthy, then 30 of the 35 degraded ones of level 0, nothing for level 1.
        let mut rng = Rng::new(9);
        let mut counts = [[0u32; 2]; 2];
        for _ in 0..100_000 {
            let (index, degraded) = load.draw(|| rng.next_u64());
            counts[index][usize::from(degraded)] += 1;
        }
        assert!(counts[0][0].abs_diff(70_000) < 600 && counts[0][1].abs_diff(30_000) < 600, "{counts:?}");
        assert_eq!(counts[1], [0, 0]);
    }
}
