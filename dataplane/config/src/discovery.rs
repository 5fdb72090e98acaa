//! Where the endpoints of a cluster come from (`Cluster.type`, `Cluster.cluster_type`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{ClusterId, Endpoint, ForwardProxyCluster, SourceId};

/// Where endpoints come from.
#[derive(Clone, Debug)]
pub enum ClusterDiscovery {
    /// `STATIC`.
    Static,
    /// `EDS`: a load assignment that comes on its own.
    Eds {
        /// `eds_cluster_config.service_name`, or the cluster's name.
        service_name: Arc<str>,
        /// `eds_cluster_config.eds_config`.
        source: SourceId,
        /// `initial_fetch_timeout`, default 15 s; `None` (0 s) waits for ever.
        initial_fetch_timeout: Option<Duration>,
    },
    /// `STRICT_DNS`: every address of every name is an endpoint. `LOGICAL_DNS`: all addresses of one name are those of
    /// one endpoint.
    Dns {
        /// True for `LOGICAL_DNS`.
        logical: bool,
        /// What to resolve.
        targets: Vec<DnsTarget>,
        /// `dns_lookup_family`.
        family: DnsLookupFamily,
        /// When to ask again.
        schedule: DnsSchedule,
        /// Whom to ask; `None` for the system's settings.
        resolver: Option<Arc<DnsResolver>>,
        /// `wait_for_warm_on_init`, default true.
        wait_for_warm: bool,
    },
    /// `ORIGINAL_DST`: the endpoint is where the client wanted to go.
    OriginalDst(OriginalDst),
    /// `envoy.clusters.aggregate`: the priorities of these clusters, one cluster after the other.
    Aggregate(Arc<[ClusterId]>),
    /// `envoy.clusters.dynamic_forward_proxy`: the endpoint is the host that the request names.
    ForwardProxy(ForwardProxyCluster),
}

/// `Cluster.dns_lookup_family`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DnsLookupFamily {
    #[default]
    Auto,
    V4Only,
    V6Only,
    V4Preferred,
    All,
}

/// One name to resolve.
#[derive(Clone, Debug)]
pub struct DnsTarget {
    /// The name (or an IP address, which needs no look-up).
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// Weight, health and host name of the endpoints it stands for; the address is replaced.
    pub template: Endpoint,
    /// Index into the cluster's `localities`.
    pub locality: usize,
}

/// When a name is resolved again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsSchedule {
    /// `dns_refresh_rate`, default 5 s.
    pub refresh_rate: Duration,
    /// `dns_failure_refresh_rate`: `(base_interval, max_interval)` of the back-off after failures; without it the
    /// refresh rate.
    pub failure_refresh: Option<(Duration, Duration)>,
    /// `respect_dns_ttl`.
    pub respect_ttl: bool,
    /// `dns_min_refresh_rate`: no time to live counts as less.
    pub min_refresh_rate: Duration,
    /// `dns_jitter`.
    pub jitter: Duration,
}

impl Default for DnsSchedule {
    fn default() -> Self {
        Self {
            refresh_rate: Duration::from_secs(5),
            failure_refresh: None,
            respect_ttl: false,
            min_refresh_rate: Duration::ZERO,
            jitter: Duration::ZERO,
        }
    }
}

/// `CaresDnsResolverConfig`, `GetAddrInfoDnsResolverConfig` and the fields that they replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsResolver {
    /// `resolvers`; empty for those of the system.
    pub servers: Vec<SocketAddr>,
    /// `use_resolvers_as_fallback`: the system's come first.
    pub servers_are_fallback: bool,
    /// `use_tcp_for_dns_lookups`.
    pub use_tcp: bool,
    /// `no_default_search_domain`.
    pub no_search_domains: bool,
    /// `query_timeout_seconds`, default 5 s.
    pub query_timeout: Duration,
    /// `query_tries`, default 4.
    pub query_tries: u32,
    /// `rotate_nameservers`.
    pub rotate: bool,
}

impl Default for DnsResolver {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            servers_are_fallback: false,
            use_tcp: false,
            no_search_domains: false,
            query_timeout: Duration::from_secs(5),
            query_tries: 4,
            rotate: false,
        }
    }
}

/// `Cluster.OriginalDstLbConfig` and `cleanup_interval`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalDst {
    /// `http_header_name` when `use_http_header` is set, lower case, default `x-envoy-original-dst-host`: the first
    /// value is the destination.
    pub header: Option<Arc<[u8]>>,
    /// `metadata_key`: namespace and key of dynamic metadata that has the destination.
    pub metadata_key: Option<(Arc<str>, Arc<str>)>,
    /// `upstream_port_override`.
    pub port_override: Option<u16>,
    /// `cleanup_interval`, default 5 s: how often endpoints that nobody used are dropped.
    pub cleanup_interval: Duration,
}

impl ClusterDiscovery {
    /// The cache that knows the hosts, of a dynamic forward proxy.
    #[inline]
    pub fn forward_proxy(&self) -> Option<&ForwardProxyCluster> {
        match self {
            Self::ForwardProxy(own) => Some(own),
            _ => None,
        }
    }

    /// True when requests name their endpoints themselves.
    #[inline]
    pub fn is_on_demand(&self) -> bool {
        matches!(self, Self::OriginalDst(_) | Self::ForwardProxy(_))
    }
}
