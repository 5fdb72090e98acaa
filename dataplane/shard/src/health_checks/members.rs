//! How many endpoints of a cluster are good for something, as all shards together know it.

use millrace_config::{Cluster, ClusterId, HealthStatus, Snapshot};
use millrace_filter::http::health_check::Health;
use millrace_upstream::health_check::CheckFlags;

use crate::shared::Shared;

/// Endpoints of a cluster by what they are good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// All of them.
    pub total: u64,
    /// `membership_healthy`.
    pub healthy: u64,
    /// `membership_degraded`.
    pub degraded: u64,
    /// `membership_excluded`: those that wait for a first check, or asked for nothing.
    pub excluded: u64,
}

impl Shared {
    /// Counts the endpoints of a cluster. Slow path: looks at each of them under a lock.
    pub fn members(&self, cluster: &Cluster) -> Members {
        if cluster.discovery.is_on_demand() {
            let total = self.on_demand(cluster.id, |book| book.len()).unwrap_or(0) as u64;
            return Members { total, healthy: total, ..Members::default() };
        }
        let mut members = Members::default();
        let mut count = |status: HealthStatus, checks: CheckFlags, (ejected, degraded): (bool, bool)| {
            members.total += 1;
            members.excluded += u64::from(checks.is_excluded());
            match status {
                _ if ejected || checks.has(CheckFlags::FAILED) => {}
                HealthStatus::Degraded => members.degraded += 1,
                HealthStatus::Unknown | HealthStatus::Healthy => {
                    match degraded || checks.has(CheckFlags::DEGRADED) {
                        true => members.degraded += 1,
                        false => members.healthy += 1,
                    }
                }
                HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout => {}
            }
        };
        let endpoints = || cluster.localities.iter().flat_map(|locality| &locality.endpoints);
        // One that nobody has met yet fails.
        let first = |is_checked| match cluster.health_check.is_some() && is_checked {
            true => CheckFlags::FAILED,
            false => CheckFlags::default(),
        };
        let known = self.health(cluster.id, |health| {
            for endpoint in endpoints() {
                let checks = match first(endpoint.is_checked()) {
                    flags if flags == CheckFlags::FAILED => health.checks(&endpoint.address).unwrap_or(flags),
                    flags => flags,
                };
                count(endpoint.health, checks, health.seen_by_traffic(&endpoint.address));
            }
        });
        if known.is_none() {
            let nothing = (false, false);
            endpoints().for_each(|endpoint| count(endpoint.health, first(endpoint.is_checked()), nothing));
        }
        members
    }
}

/// What the health check filter reads.
#[derive(Debug)]
pub(crate) struct View<'s> {
    pub(crate) shared: &'s Shared,
    pub(crate) snapshot: &'s Snapshot,
}

impl Health for View<'_> {
    fn is_failing(&self) -> bool {
        self.shared.is_failing_health_checks()
    }

    fn members(&self, cluster: ClusterId) -> Option<(u64, u64)> {
        let cluster = self.snapshot.cluster(cluster)?;
        let members = self.shared.members(cluster);
        Some((members.healthy + members.degraded, members.total))
    }
}
