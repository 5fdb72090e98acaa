//! One endpoint as a shard uses it.

use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{Address, Endpoint, HealthStatus, ScopeId};

use crate::ResourcePriority;
use crate::list::List;
use crate::pool::{HttpProtocol, Ready};

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

/// The connections and waiters of one host, one [`crate::ResourcePriority`] and one version of HTTP.
#[derive(Debug, Default)]
pub(crate) struct HostPool {
    /// Connections that can take a request.
    pub ready: Ready,
    /// Requests in order of arrival.
    pub waiters: List<0>,
    pub connecting: u32,
    /// Established connections.
    pub open: u32,
    /// Requests that the connecting ones will have room for.
    pub coming: u64,
}

impl HostPool {
    pub fn connections(&self) -> u32 {
        self.connecting + self.open
    }
}

/// One endpoint.
#[derive(Debug)]
pub struct Host {
    /// Where it listens.
    pub address: Address,
    /// Its name, or empty.
    pub hostname: Arc<str>,
    /// `envoy.transport_socket_match` metadata: chooses the transport socket.
    pub transport_metadata: Option<Arc<[(Arc<str>, Arc<str>)]>>,
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
    http1: [HostPool; 2],
    /// Allocated at first use: most endpoints speak one version only.
    http2: Option<Box<[HostPool; 2]>>,
    pub(crate) tcp_connections: u32,
}

impl Host {
    pub(crate) fn new(endpoint: &Endpoint, priority: u32) -> Self {
        Self {
            address: endpoint.address.clone(),
            hostname: Arc::clone(&endpoint.hostname),
            transport_metadata: endpoint.transport_metadata.clone(),
            scope: endpoint.scope,
            weight: endpoint.weight.max(1),
            health: endpoint.health.into(),
            priority,
            active_requests: 0,
            present: true,
            http1: Default::default(),
            http2: None,
            tcp_connections: 0,
        }
    }

    /// Takes over what an update changed; connections stay.
    pub(crate) fn refresh(&mut self, endpoint: &Endpoint, priority: u32) {
        self.hostname = Arc::clone(&endpoint.hostname);
        self.transport_metadata.clone_from(&endpoint.transport_metadata);
        self.scope = endpoint.scope;
        self.weight = endpoint.weight.max(1);
        self.health = endpoint.health.into();
        self.priority = priority;
        self.present = true;
    }

    #[inline]
    pub(crate) fn pool(&self, priority: ResourcePriority, protocol: HttpProtocol) -> Option<&HostPool> {
        match protocol {
            HttpProtocol::Http1 => Some(&self.http1[priority.index()]),
            HttpProtocol::Http2 => self.http2.as_ref().map(|pools| &pools[priority.index()]),
        }
    }

    #[inline]
    pub(crate) fn pool_mut(&mut self, priority: ResourcePriority, protocol: HttpProtocol) -> &mut HostPool {
        match protocol {
            HttpProtocol::Http1 => &mut self.http1[priority.index()],
            HttpProtocol::Http2 => &mut self.http2.get_or_insert_default()[priority.index()],
        }
    }

    fn pools(&self) -> impl Iterator<Item = &HostPool> {
        self.http1.iter().chain(self.http2.iter().flat_map(|pools| pools.iter()))
    }

    /// Connections of this shard, in every state.
    pub fn connections(&self) -> u32 {
        self.pools().map(HostPool::connections).sum::<u32>() + self.tcp_connections
    }

    /// Requests that wait for a connection.
    pub fn pending_requests(&self) -> u32 {
        self.pools().map(|pool| pool.waiters.len()).sum()
    }
}
