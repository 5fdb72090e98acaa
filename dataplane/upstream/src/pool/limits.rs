//! How many connections a pool opens, and how many pools there are: the breakers of the cluster and of one endpoint, and those opened ahead of need.

use std::sync::Arc;

use super::conn::Kind;
use super::{CloseReason, ConnId, HttpProtocol, PoolAction, PoolEvent, PoolId};
use crate::host::HostPool;
use crate::{Budget, ClusterState, HostHealth, HostId, ResourcePriority, TransportKey};

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

    /// A pool that is empty comes into use. False when `max_connection_pools` are in use already, and no pool of the same
    /// endpoint is idle and can make room, as in Envoy.
    #[inline]
    pub(super) fn open_pool(&mut self, at: PoolId, out: &mut Vec<PoolAction>) -> bool {
        let thresholds = self.thresholds(at.priority);
        match thresholds.max_connection_pools {
            None if !thresholds.track_remaining => true,
            limit => self.count_pool(at, limit.unwrap_or(u32::MAX), out),
        }
    }

    #[cold]
    fn count_pool(&mut self, at: PoolId, limit: u32, out: &mut Vec<PoolAction>) -> bool {
        if self.pool(at).is_some_and(|pool| pool.counted) {
            return true;
        }
        let mut granted = self.budget(at.priority).pools.try_acquire(limit);
        if !granted && self.free_idle_pool(at, out) {
            granted = self.budget(at.priority).pools.try_acquire(limit);
        }
        if granted {
            self.pool_mut(at, |pool| pool.counted = true);
        } else {
            out.push(PoolAction::Count(PoolEvent::PoolOverflow));
        }
        granted
    }

    /// Ends a pool beside `at` that carries nothing.
    fn free_idle_pool(&mut self, at: PoolId, out: &mut Vec<PoolAction>) -> bool {
        let Some(host) = self.hosts.get(at.host.0) else { return false };
        let transport = TransportKey::DEFAULT;
        let common = [HttpProtocol::Http1, HttpProtocol::Http2];
        let common = common.map(|protocol| PoolId { protocol, transport, ..at });
        let others = host.others(at.host).filter(|other| other.priority == at.priority);
        let idle = |other: &PoolId| host.pool(*other).is_some_and(|pool| pool.counted && pool.is_idle());
        let Some(idle) = common.into_iter().chain(others).find(idle) else { return false };
        while let Some(conn) = self.pool(idle).and_then(|pool| pool.ready.any_idle()) {
            self.close(ConnId(conn), CloseReason::Drain, out);
        }
        true
    }

    /// A connection or a waiter of a pool is gone: an empty pool is none any more.
    #[inline]
    pub(super) fn close_pool(&mut self, at: PoolId) {
        let Some(host) = self.hosts.get_mut(at.host.0) else { return };
        if host.pool(at).is_some_and(|pool| pool.counted && pool.is_empty()) {
            host.pool_mut(at).counted = false;
            self.budget(at.priority).pools.release();
        }
        if let Some(host) = self.hosts.get_mut(at.host.0) {
            host.forget_pool(at);
        }
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
