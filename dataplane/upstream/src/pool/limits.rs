//! How many connections a pool opens: the breakers of the cluster and of one endpoint, and those opened ahead of need.

use std::sync::Arc;

use super::PoolId;
use super::conn::Kind;
use crate::host::HostPool;
use crate::{Budget, ClusterState, HostHealth, HostId, ResourcePriority};

/// Connections that one request has opened ahead at the most, as in Envoy.
pub(super) const AHEAD_MAX: usize = 3;

/// A connection that may be opened, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permit {
    /// A unit of its endpoint's count.
    pub counted_host: bool,
    /// A breaker was open.
    pub overflow: bool,
}

impl ClusterState {
    /// Asks the breakers for one more connection. With `forced` the answer is always yes: a pool without any connection
    /// opens one, as in Envoy, or its requests could wait for ever.
    pub(super) fn permit(
        &mut self,
        host: HostId,
        priority: ResourcePriority,
        forced: bool,
    ) -> Option<Permit> {
        let thresholds = *self.thresholds(priority);
        let of_host =
            thresholds.max_connections_per_host.and_then(|limit| Some((limit, self.host_budget(host)?)));
        let room = of_host.as_ref().is_none_or(|(limit, budget)| budget.try_acquire(*limit));
        let connections = &self.budget(priority).connections;
        if room && connections.try_acquire(thresholds.max_connections) {
            return Some(Permit { counted_host: of_host.is_some(), overflow: false });
        }
        let of_host = of_host.map(|(_, budget)| budget);
        if forced {
            connections.acquire_forced();
            if let Some(budget) = of_host.as_ref().filter(|_| !room) {
                budget.acquire_forced();
            }
            return Some(Permit { counted_host: of_host.is_some(), overflow: true });
        }
        if let Some(budget) = of_host.filter(|_| room) {
            budget.release();
        }
        None
    }

    /// The count of an endpoint's connections on all shards.
    #[cold]
    fn host_budget(&mut self, host: HostId) -> Option<Arc<Budget>> {
        if let Some(known) = self.host_budgets.get(&host) {
            return Some(Arc::clone(known));
        }
        let budget = self.budgets.host_connections.of(&self.hosts.get(host.0)?.address);
        self.host_budgets.insert(host, Arc::clone(&budget));
        Some(budget)
    }

    /// A connection that held a unit of its endpoint's count is gone.
    #[cold]
    pub(super) fn release_host_connection(&mut self, host: HostId) {
        if let Some(budget) = self.host_budgets.get(&host) {
            budget.release();
        }
        let Some(entry) = self.hosts.get(host.0) else { return };
        if entry.connections() > 0 {
            return;
        }
        if let Some(budget) = self.host_budgets.remove(&host) {
            self.budgets.host_connections.forget(&entry.address, budget);
        }
    }

    /// True when the pool shall open another connection: for who waits, or with a `per_upstream_preconnect_ratio` for
    /// those that may come. Connections of HTTP/2 have room for them.
    pub(super) fn wants_connection(&self, at: PoolId, kind: Kind) -> bool {
        let Some(host) = self.hosts.get(at.host.0) else { return false };
        let Some(pool) = host.pool(at) else { return false };
        let (waiting, coming) = (u64::from(pool.waiters.len()), pool.coming);
        let ratio = self.config.http.preconnect_ratio;
        if waiting > coming || ratio <= 1.0 || kind != Kind::Http1 || host.health != HostHealth::Healthy {
            return waiting > coming;
        }
        falls_short(pool, ratio)
    }
}

fn falls_short(pool: &HostPool, ratio: f64) -> bool {
    let idle = pool.ready.idle_len();
    let active = pool.open.saturating_sub(idle);
    let under_way = f64::from(pool.waiters.len() + active);
    under_way * ratio > pool.coming as f64 + f64::from(idle + active)
}
