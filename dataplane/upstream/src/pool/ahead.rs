//! Connections to the endpoints of requests that have not come yet (`predictive_preconnect_ratio`).
//!
//! The balancer draws endpoints ahead of their requests, which are then given just those. As in Envoy it is only asked
//! where a draw follows from nothing but the endpoints: `ROUND_ROBIN` and `RANDOM` without subsets.

use millrace_config::LbPolicy;

use super::PoolAction;
use super::conn::{Kind, PoolId};
use super::limits::AHEAD_MAX;
use crate::{ChooseContext, Chosen, ClusterState, HostHealth, HostId};

impl ClusterState {
    /// The endpoint that was drawn ahead for the next request, if any was.
    #[inline]
    pub(crate) fn drawn_ahead(&mut self, context: &ChooseContext<'_>) -> Option<Chosen> {
        if self.config.http.predictive_preconnect_ratio <= 1.0 {
            return None;
        }
        self.chosen_at = context.now;
        if context.attempts > 0 || context.previous.is_some() || context.level.is_some() {
            return None;
        }
        self.ahead.pop_front()
    }

    /// One more request comes for the pool `at`: opens connections for those after it, until the cluster has so many
    /// times what it needs.
    #[cold]
    pub(super) fn connect_ahead(&mut self, at: PoolId, out: &mut Vec<PoolAction>) {
        let (kind, room) = self.room_of(at);
        for _ in 0..AHEAD_MAX {
            let under_way = self.waiters.len() as u64 + u64::from(self.active);
            if !self.wants_ahead(under_way, self.conns.len() as u64, room) {
                return;
            }
            let Some(host) = self.draw_ahead() else { return };
            if !self.connect_to(PoolId { host, ..at }, (kind, room), out) {
                return;
            }
        }
    }

    /// With one more request there would be too few connections, each of which takes `room` requests.
    fn wants_ahead(&self, under_way: u64, connections: u64, room: u32) -> bool {
        let ratio = self.config.http.predictive_preconnect_ratio;
        (under_way + 1) as f64 * ratio > connections as f64 * f64::from(room)
    }

    fn connect_to(&mut self, at: PoolId, room: (Kind, u32), out: &mut Vec<PoolAction>) -> bool {
        let Some(host) = self.hosts.get(at.host.0) else { return false };
        let pool = host.pool(at);
        let waiting = pool.map_or(0, |pool| pool.waiters.len());
        let connections = pool.map_or(0, super::HostPool::connections);
        let under_way = u64::from(waiting) + u64::from(host.active_requests);
        if host.health != HostHealth::Healthy || !self.wants_ahead(under_way, u64::from(connections), room.1)
        {
            return false;
        }
        self.open_pool(at, out) && self.open_connection(at, room, out)
    }

    /// Draws the endpoint of a request that comes later. No more are drawn than there are endpoints.
    fn draw_ahead(&mut self) -> Option<HostId> {
        let follows = matches!(self.config.lb_policy, LbPolicy::RoundRobin | LbPolicy::Random);
        let members: usize = self.members.iter().map(Vec::len).sum();
        if !follows || self.config.balancing.subset.is_some() || self.ahead.len() >= members {
            return None;
        }
        let context = ChooseContext { now: self.chosen_at, ..ChooseContext::default() };
        let chosen = self.balancer.choose(&self.hosts, &mut self.rng, self.active, &context).ok()?;
        self.ahead.push_back(chosen);
        Some(chosen.host)
    }
}
