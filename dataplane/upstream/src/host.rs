//! One endpoint as a shard uses it.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_base::{Key, Time};
use millrace_config::{Address, Endpoint, HealthStatus, LbMetadata, ScopeId, TransportMetadata};

use crate::ResourcePriority;
use crate::TransportKey;
use crate::health_check::CheckFlags;
use crate::lb::Rtt;
use crate::list::List;
use crate::outlier::Watch;
use crate::pool::{HttpProtocol, PoolId, Ready};
use crate::weighing::Reported;

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

/// The connections and waiters of one [`PoolId`].
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
    /// [`HttpProtocol::Auto`]: what ALPN said the last time.
    pub learned: Option<HttpProtocol>,
    /// Holds a unit of `max_connection_pools`.
    pub counted: bool,
}

/// Pools of a host that are not the common ones: their keys are rare, and most hosts have none.
type OtherPools = BTreeMap<(TransportKey, HttpProtocol, ResourcePriority), HostPool>;

impl HostPool {
    pub fn connections(&self) -> u32 {
        self.connecting + self.open
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections() == 0 && self.waiters.len() == 0
    }

    /// It has nothing but idle connections.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiters.len() == 0 && self.connecting == 0 && self.ready.idle_len() == self.open
    }
}

/// What a policy keeps of an endpoint. A cluster has one policy, so that one of them is enough.
#[derive(Debug)]
enum Seen {
    /// What it reported of its load, for `ClientSideWeightedRoundRobin`.
    Load(Reported),
    /// How long it takes to answer, for peak-EWMA.
    Time(Cell<Rtt>),
}

/// One endpoint.
#[derive(Debug)]
pub struct Host {
    /// Where it listens.
    pub address: Address,
    /// Tried in this order when the first address does not answer; `None` without any.
    pub additional_addresses: Option<Arc<[Address]>>,
    /// Its name, or empty.
    pub hostname: Arc<str>,
    /// `envoy.transport_socket_match` metadata: chooses the transport socket.
    pub transport_metadata: Option<TransportMetadata>,
    /// `envoy.lb` metadata.
    pub lb_metadata: Option<Arc<LbMetadata>>,
    /// Its statistics scope.
    pub scope: ScopeId,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// What the load balancer makes of it.
    pub health: HostHealth,
    /// Active checks decide about it.
    pub(crate) is_checked: bool,
    /// It does not count among the members that could serve: it waits for its first check, or asked for it.
    pub excluded: bool,
    /// `health_status` as configured, outlier detection and checks apart.
    pub configured_status: HealthStatus,
    /// Since when it serves without a break, for slow start; set at the first choice after it came.
    /// [`Time::MAX`] before.
    pub healthy_since: Time,
    /// Outlier detection looks at it.
    pub(crate) watch: Option<Box<Watch>>,
    /// What the policy has seen of it; empty with policies that do not look.
    seen: OnceCell<Box<Seen>>,
    /// The priority it belongs to.
    pub priority: u32,
    /// Its locality: index into `Cluster::localities`.
    pub locality: u32,
    /// Requests (or TCP sessions) on a connection, of this shard.
    pub active_requests: u32,
    /// False once the address left the cluster; such a host only finishes what it has.
    pub present: bool,
    http1: [HostPool; 2],
    /// Allocated at first use: most endpoints speak one version only.
    http2: Option<Box<[HostPool; 2]>>,
    /// Handshakes that are not the default one, and [`HttpProtocol::Auto`].
    others: Option<Box<OtherPools>>,
    pub(crate) tcp_connections: u32,
}

impl Host {
    pub(crate) fn new(endpoint: &Endpoint, priority: u32, locality: u32) -> Self {
        Self {
            address: endpoint.address.clone(),
            additional_addresses: endpoint.additional_addresses.clone(),
            hostname: Arc::clone(&endpoint.hostname),
            transport_metadata: endpoint.transport_metadata.clone(),
            lb_metadata: endpoint.lb_metadata.clone(),
            scope: endpoint.scope,
            weight: endpoint.weight.max(1),
            health: endpoint.health.into(),
            is_checked: false,
            excluded: false,
            configured_status: endpoint.health,
            healthy_since: Time::MAX,
            seen: OnceCell::new(),
            watch: None,
            priority,
            locality,
            active_requests: 0,
            present: true,
            http1: Default::default(),
            http2: None,
            others: None,
            tcp_connections: 0,
        }
    }

    /// Takes over what an update changed; connections stay.
    pub(crate) fn refresh(&mut self, endpoint: &Endpoint, priority: u32, locality: u32, is_checked: bool) {
        self.is_checked = is_checked;
        self.additional_addresses.clone_from(&endpoint.additional_addresses);
        self.hostname = Arc::clone(&endpoint.hostname);
        self.transport_metadata.clone_from(&endpoint.transport_metadata);
        self.scope = endpoint.scope;
        self.weight = endpoint.weight.max(1);
        self.lb_metadata.clone_from(&endpoint.lb_metadata);
        self.configured_status = endpoint.health;
        self.settle_health();
        self.priority = priority;
        self.locality = locality;
        self.present = true;
    }

    /// Its metadata call it a canary.
    pub fn is_canary(&self) -> bool {
        self.lb_metadata.as_ref().is_some_and(|metadata| metadata.canary)
    }

    /// `health_status` as far as what the load balancer makes of it agrees.
    pub fn status(&self) -> HealthStatus {
        match (self.health, HostHealth::from(self.configured_status)) {
            (own, configured) if own == configured => self.configured_status,
            (HostHealth::Healthy, _) => HealthStatus::Healthy,
            (HostHealth::Degraded, _) => HealthStatus::Degraded,
            (HostHealth::Unhealthy, _) => HealthStatus::Unhealthy,
        }
    }

    /// Works out [`Host::health`] and [`Host::excluded`]. True when one of them changed.
    pub(crate) fn settle_health(&mut self) -> bool {
        let monitor = self.watch.as_ref().map(|watch| &watch.monitor);
        let (out, degraded) =
            monitor.map_or((false, false), |monitor| (monitor.is_ejected(), monitor.is_degraded()));
        let checks = match &self.watch {
            Some(watch) if self.is_checked => watch.monitor.checks.load(),
            _ => CheckFlags::default(),
        };
        let health = match HostHealth::from(self.configured_status) {
            _ if out || checks.has(CheckFlags::FAILED) => HostHealth::Unhealthy,
            HostHealth::Healthy if degraded || checks.has(CheckFlags::DEGRADED) => HostHealth::Degraded,
            configured => configured,
        };
        let excluded = checks.is_excluded();
        let before =
            (std::mem::replace(&mut self.health, health), std::mem::replace(&mut self.excluded, excluded));
        if self.is_checked && before.0 == HostHealth::Unhealthy && health != HostHealth::Unhealthy {
            // Slow start begins again.
            self.healthy_since = Time::MAX;
        }
        before != (health, excluded)
    }

    /// What it reported of its load.
    pub(crate) fn reported(&self) -> Option<&Reported> {
        match &**self.seen.get()? {
            Seen::Load(reported) => Some(reported),
            Seen::Time(_) => None,
        }
    }

    /// Takes the weight that it reported.
    pub(crate) fn report(&mut self, weight: u32, now: Time) {
        match self.seen.get_mut().map(|seen| &mut **seen) {
            Some(Seen::Load(reported)) => reported.again(weight, now),
            _ => self.seen = OnceCell::from(Box::new(Seen::Load(Reported::first(weight, now)))),
        }
    }

    /// Takes over what it reported on a stream of its own.
    pub(crate) fn set_reported(&mut self, reported: Reported) {
        self.seen = OnceCell::from(Box::new(Seen::Load(reported)));
    }

    /// How long it takes to answer; `None` when another policy looked at it last.
    #[inline]
    pub(crate) fn rtt(&self) -> Option<&Cell<Rtt>> {
        match &**self.seen.get_or_init(|| Box::new(Seen::Time(Cell::default()))) {
            Seen::Time(rtt) => Some(rtt),
            Seen::Load(_) => None,
        }
    }

    /// What was seen of it is of no use any more.
    pub(crate) fn forget_seen(&mut self) {
        self.seen = OnceCell::new();
    }

    #[inline]
    pub(crate) fn pool(&self, at: PoolId) -> Option<&HostPool> {
        match (at.protocol, at.transport) {
            (HttpProtocol::Http1, TransportKey::DEFAULT) => Some(&self.http1[at.priority.index()]),
            (HttpProtocol::Http2, TransportKey::DEFAULT) => {
                self.http2.as_ref().map(|pools| &pools[at.priority.index()])
            }
            _ => self.others.as_ref()?.get(&(at.transport, at.protocol, at.priority)),
        }
    }

    #[inline]
    pub(crate) fn pool_mut(&mut self, at: PoolId) -> &mut HostPool {
        match (at.protocol, at.transport) {
            (HttpProtocol::Http1, TransportKey::DEFAULT) => &mut self.http1[at.priority.index()],
            (HttpProtocol::Http2, TransportKey::DEFAULT) => {
                &mut self.http2.get_or_insert_default()[at.priority.index()]
            }
            _ => self
                .others
                .get_or_insert_default()
                .entry((at.transport, at.protocol, at.priority))
                .or_default(),
        }
    }

    /// Forgets a pool of its own kind of handshake that nobody needs: its key may come to mean something else.
    pub(crate) fn forget_pool(&mut self, at: PoolId) {
        if at.transport == TransportKey::DEFAULT || !self.pool(at).is_some_and(HostPool::is_empty) {
            return;
        }
        if let Some(others) = &mut self.others {
            others.remove(&(at.transport, at.protocol, at.priority));
        }
    }

    fn pools(&self) -> impl Iterator<Item = &HostPool> {
        let http2 = self.http2.iter().flat_map(|pools| pools.iter());
        let others = self.others.iter().flat_map(|pools| pools.values());
        self.http1.iter().chain(http2).chain(others)
    }

    /// The pools that are not of the default handshake, or of no version in particular.
    pub(crate) fn others(&self, host: HostId) -> impl Iterator<Item = PoolId> {
        self.others.iter().flat_map(|pools| pools.keys()).map(move |(transport, protocol, priority)| PoolId {
            host,
            priority: *priority,
            protocol: *protocol,
            transport: *transport,
        })
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
