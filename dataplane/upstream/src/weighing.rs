//! Weights of `ClientSideWeightedRoundRobin`: endpoints weigh what they say that they can do.
//!
//! Each shard weighs by the reports that came with its own responses, and by those of the streams that one shard of all
//! keeps to each endpoint ([`crate::LoadBook`]); the last one counts.

use millrace_base::Time;
use millrace_config::{ClientSideWeights, LbPolicy};

use crate::orca::LoadReport;
use crate::{ClusterState, HostId};

/// What an endpoint reported last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported {
    weight: u32,
    /// The first report of those that came without a break.
    since: Time,
    last: Time,
}

impl Reported {
    pub fn first(weight: u32, now: Time) -> Self {
        Self { weight, since: now, last: now }
    }

    pub fn again(&mut self, weight: u32, now: Time) {
        (self.weight, self.last) = (weight, now);
    }

    /// True when the last report is too old; the next one is a first one.
    pub fn is_expired(&self, config: &ClientSideWeights, now: Time) -> bool {
        now.since(self.last) > config.expiration
    }

    /// The weight, however long reports have come.
    pub fn last_weight(&self) -> u32 {
        self.weight
    }

    /// The weight, once reports have come for long enough.
    pub fn weight(&self, config: &ClientSideWeights, now: Time) -> Option<u32> {
        (now.since(self.since) >= config.blackout).then_some(self.weight)
    }
}

/// The weight of hosts that reported none: the median of the others, 1 without any.
pub(crate) fn median(weights: &mut [u32]) -> u32 {
    let middle = weights.len() / 2;
    match weights.len() {
        0 => 1,
        odd if odd % 2 == 1 => *weights.select_nth_unstable(middle).1,
        _ => {
            let (below, upper, _) = weights.select_nth_unstable(middle);
            let lower = below.iter().max().copied().unwrap_or(*upper);
            ((u64::from(lower) + u64::from(*upper)) / 2) as u32
        }
    }
}

impl ClusterState {
    /// The policy, when it weighs endpoints by the load that they report.
    #[inline]
    pub fn reads_load(&self) -> Option<&ClientSideWeights> {
        match &self.config.lb_policy {
            LbPolicy::ClientSideWeightedRoundRobin(weights) => Some(weights),
            _ => None,
        }
    }

    /// When weights are due after hosts changed.
    pub(crate) fn first_weighing(&self) -> Time {
        if self.reads_load().is_some() { Time::ZERO } else { Time::MAX }
    }

    /// True when [`Self::report_load`] wants to hear of what endpoints report with their responses.
    #[inline]
    pub fn hears_load(&self) -> bool {
        self.reads_load().is_some() || !self.config.load_metrics.is_empty()
    }

    /// Takes what an endpoint reported of its load.
    pub fn report_load(&mut self, host: HostId, report: &LoadReport, now: Time) {
        if let Some(scope) = self.hosts.get(host.0).map(|host| host.scope) {
            self.sum_metrics(scope, report);
        }
        let Some(config) = self.reads_load().copied() else { return };
        let weight = report.weight(&self.config.balancing.utilization_metrics, config.error_penalty);
        if let (Some(weight), Some(host)) = (weight, self.hosts.get_mut(host.0)) {
            host.report(weight, now);
        }
    }

    /// Takes over what endpoints reported on streams of their own, unless a response said something later.
    fn read_load_book(&mut self) {
        if self.config.balancing.load_stream.is_none() {
            return;
        }
        let book = self.budgets.load_book.lock();
        for (_, host) in self.hosts.iter_mut() {
            let Some(streamed) = book.get(&host.address) else { continue };
            if host.reported().is_none_or(|own| own.last <= streamed.last) {
                host.set_reported(*streamed);
            }
        }
    }

    /// Gives every host the weight that it reported, or the median of those that did.
    #[cold]
    pub(crate) fn weigh(&mut self, now: Time) {
        let Some(config) = self.reads_load().copied() else { return };
        self.weights_due = now + config.update;
        self.read_load_book();
        let mut changed = false;
        for level in &self.members {
            let mut known = Vec::new();
            for member in level {
                let Some(host) = self.hosts.get_mut(member.id.0) else { continue };
                if host.reported().is_some_and(|reported| reported.is_expired(&config, now)) {
                    host.forget_seen();
                }
                known.extend(host.reported().and_then(|reported| reported.weight(&config, now)));
            }
            let median = median(&mut known);
            for member in level {
                let Some(host) = self.hosts.get_mut(member.id.0) else { continue };
                let own = host.reported().and_then(|reported| reported.weight(&config, now));
                let weight = own.unwrap_or(median).max(1);
                changed |= std::mem::replace(&mut host.weight, weight) != weight;
            }
        }
        if changed {
            self.balancer.invalidate();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_between_the_two_in_the_middle() {
        let medians = [median(&mut []), median(&mut [4]), median(&mut [9, 1]), median(&mut [7, 1, 3])];
        assert_eq!(medians, [1, 4, 5, 3]);
        assert_eq!(median(&mut [u32::MAX, u32::MAX]), u32::MAX);
    }
}
