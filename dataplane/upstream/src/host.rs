//! One endpoint as a shard uses it.

use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{Address, Endpoint, HealthStatus, ScopeId};

use crate::list::List;
use crate::pool::{self};

/// An endpoint of one cluster on one shard. Stays valid while its address stays in the cluster, and after
/// that until its last connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostId(pub(crate) Key);

/// What a load balancer makes of `health_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostHealth {
    /// `UNKNOWN`, `HEALTHY`.
    Healthy,
    /// `DEGRADED`: used when the healthy ones do not suffice.
    Degraded,
    /// `UNHEALTHY`, `DRAINING`, `TIMEOUT`: used in panic only.
    Unhealthy,
}

impl From<HealthStatus> for HostHealth {
    fn from(status: HealthStatus) -> Self {
        match status {
            HealthStatus::Unknown | HealthStatus::Healthy => Self::Healthy,
            HealthStatus::Degraded => Self::Degraded,
            HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout => Self::Unhealthy,
        }
    }
}

/// The connections and waiters of one host and one [`crate::ResourcePriority`].
#[derive(Debug, Default)]
pub(crate) struct HostPool {
    /// Idle connections; the last one is the warmest and is used next.
    pub idle: List<{ pool::POOL }>,
    /// Requests in order of arrival.
    pub waiters: List<0>,
    pub connecting: u32,
    pub busy: u32,
}

impl HostPool {
    pub fn connections(&self) -> u32 {
        self.idle.len() + self.connecting + self.busy
    }
}

/// One endpoint.
#[derive(Debug)]
pub struct Host {
    /// Where it listens.
    pub address: Address,
    /// Its name, or empty.
    pub hostname: Arc<str>,
    /// Its statistics scope.
    pub scope: ScopeId,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// What the load balancer makes of it.
    pub health: HostHealth,
    /// The priority it belongs to.
    pub priority: u32,
    /// Requests (or TCP sessions) on a connection, of this shard.
    pub active_requests: u32,
    /// False once the address left the cluster; such a host only finishes what it has.
    pub present: bool,
    pub(crate) pools: [HostPool; 2],
    pub(crate) tcp_connections: u32,
}

impl Host {
    pub(crate) fn new(endpoint: &Endpoint, priority: u32) -> Self {
        Self {
            address: endpoint.address.clone(),
            hostname: Arc::clone(&endpoint.hostname),
            scope: endpoint.scope,
            weight: endpoint.weight.max(1),
            health: endpoint.health.into(),
            priority,
            active_requests: 0,
            present: true,
            pools: Default::default(),
            tcp_connections: 0,
        }
    }

    /// Takes over what an update changed; connections stay.
    pub(crate) fn refresh(&mut self, endpoint: &Endpoint, priority: u32) {
        self.hostname = Arc::clone(&endpoint.hostname);
        self.scope = endpoint.scope;
        self.weight = endpoint.weight.max(1);
        self.health = endpoint.health.into();
        self.priority = priority;
        self.present = true;
    }

    /// Connections of this shard, in every state.
    pub fn connections(&self) -> u32 {
        self.pools.iter().map(HostPool::connections).sum::<u32>() + self.tcp_connections
    }

    /// Requests that wait for a connection.
    pub fn pending_requests(&self) -> u32 {
        self.pools.iter().map(|pool| pool.waiters.len()).sum()
    }
}
