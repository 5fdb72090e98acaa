//! Clusters and endpoints (`envoy.config.cluster.v3.Cluster`).

use std::sync::Arc;
use std::time::Duration;

use crate::{
    Address, Balancing, BindConfig, ClusterDiscovery, ClusterId, ClusterPolicies, EndpointHealthCheck,
    HappyEyeballs, HealthCheck, Http2Options, LbMetadata, LbPolicy, OutlierDetection, ScopeId,
    TransportMatch, UpstreamProtocol, UpstreamTransport,
};

/// `core.v3.HealthStatus` of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HealthStatus {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
    Draining,
    Timeout,
    Degraded,
}

/// Pairs of metadata: sorted by key, values as their JSON text.
pub type MetadataPairs = Arc<[(Arc<str>, Arc<str>)]>;

/// Metadata that chooses a transport.
pub type TransportMetadata = MetadataPairs;

/// One endpoint (`LbEndpoint`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// `additional_addresses`, or further answers of DNS: tried when the first does not answer; `None` without any.
    pub additional_addresses: Option<Arc<[Address]>>,
    /// `hostname`, or the DNS name it was resolved from; empty when unknown.
    pub hostname: Arc<str>,
    /// `load_balancing_weight`, default 1.
    pub weight: u32,
    /// `health_status`.
    pub health: HealthStatus,
    /// Statistics scope of kind host (anonymous; `/clusters` reads it).
    pub scope: ScopeId,
    /// Metadata `envoy.transport_socket_match` of the endpoint, else of its locality; sorted by key, values
    /// as their JSON text. Chooses one of [`Cluster::transport_matches`].
    pub transport_metadata: Option<TransportMetadata>,
    /// Metadata `envoy.lb`.
    pub lb_metadata: Option<Arc<LbMetadata>>,
    /// `health_check_config`.
    pub health_check: Option<Arc<EndpointHealthCheck>>,
    /// Discovery has dropped it, but it passes its checks: it serves until it fails one.
    pub leaving: bool,
}

impl Endpoint {
    /// True unless `disable_active_health_check`.
    pub fn is_checked(&self) -> bool {
        !self.health_check.as_ref().is_some_and(|own| own.disabled)
    }

    /// Where it is checked.
    pub fn check_address(&self) -> Address {
        let Some(own) = &self.health_check else { return self.address.clone() };
        match (own.address.as_ref().unwrap_or(&self.address), own.port) {
            (Address::Inet(address), port) if port != 0 => {
                Address::Inet(std::net::SocketAddr::new(address.ip(), port))
            }
            (address, _) => address.clone(),
        }
    }
}

impl Endpoint {
    /// An endpoint of which nothing is said but its address.
    pub fn at(address: Address, scope: ScopeId) -> Self {
        Self {
            address,
            additional_addresses: None,
            hostname: "".into(),
            weight: 1,
            health: HealthStatus::Unknown,
            scope,
            transport_metadata: None,
            lb_metadata: None,
            health_check: None,
            leaving: false,
        }
    }
}

/// `core.v3.Locality`: `region`, `zone`, `sub_zone`.
pub type LocalityName = (Arc<str>, Arc<str>, Arc<str>);

/// `LocalityLbEndpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityEndpoints {
    /// `locality`.
    pub locality: LocalityName,
    /// `priority`, 0 is the highest.
    pub priority: u32,
    /// `load_balancing_weight`; used by locality-weighted balancing only.
    pub weight: u32,
    /// In configuration order.
    pub endpoints: Vec<Endpoint>,
}

/// `CircuitBreakers.Thresholds` of one priority.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// `max_connections`, default 1024.
    pub max_connections: u32,
    /// `max_pending_requests`, default 1024.
    pub max_pending_requests: u32,
    /// `max_requests`, default 1024.
    pub max_requests: u32,
    /// `max_retries`, default 3; ignored with a retry budget.
    pub max_retries: u32,
    /// `retry_budget`.
    pub retry_budget: Option<RetryBudget>,
    /// `max_connection_pools`; `None` without a limit.
    pub max_connection_pools: Option<u32>,
    /// `track_remaining`.
    pub track_remaining: bool,
    /// `max_connections` of `per_host_thresholds` for the priority: connections to one endpoint.
    pub max_connections_per_host: Option<u32>,
}

/// `CircuitBreakers.Thresholds.RetryBudget`: how many retries may be under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// `budget_percent` of the requests, default 20.
    pub percent: f64,
    /// `min_retry_concurrency`, default 3.
    pub min_concurrency: u32,
    /// `budget_interval`: the requests are those that began in so long a time; when zero, those that are active or pending.
    pub interval: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
            max_connection_pools: None,
            track_remaining: false,
            max_connections_per_host: None,
        }
    }
}

/// `Cluster.circuit_breakers`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CircuitBreakers {
    /// Priority `DEFAULT`.
    pub default: Thresholds,
    /// Priority `HIGH`.
    pub high: Thresholds,
}

/// `core.v3.TcpKeepalive`; `None` fields leave the kernel's setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// `keepalive_probes`.
    pub probes: Option<u32>,
    /// `keepalive_time`, seconds.
    pub time: Option<u32>,
    /// `keepalive_interval`, seconds.
    pub interval: Option<u32>,
}

/// The upstream side of HTTP (`HttpProtocolOptions` and the deprecated fields it replaced).
#[derive(Clone, Debug)]
pub struct UpstreamHttp {
    /// Which version the endpoints are spoken to in.
    pub protocol: UpstreamProtocol,
    /// `http2_protocol_options`.
    pub http2: Http2Options,
    /// `common_http_protocol_options.idle_timeout`, default 1 h; `None` when 0.
    pub idle_timeout: Option<Duration>,
    /// `max_requests_per_connection`.
    pub max_requests_per_connection: Option<u32>,
    /// `max_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// `max_stream_duration`: of one try, from when it has its connection; `None` when 0 or absent.
    pub max_stream_duration: Option<Duration>,
    /// `max_response_headers_kb` in bytes; see [`UpstreamHttp::h1_head_bytes_max`].
    pub head_bytes_max: Option<u32>,
    /// `max_headers_count`, default 100.
    pub head_fields_max: u16,
    /// `header_key_format.proper_case_words`.
    pub proper_case: bool,
    /// `header_key_format.stateful_formatter` preserve_case.
    pub preserve_case: bool,
    /// `enable_trailers`.
    pub enable_trailers: bool,
    /// `preconnect_policy.per_upstream_preconnect_ratio`, from 1 to 3: connections for so many times the requests under way.
    pub preconnect_ratio: f64,
    /// `preconnect_policy.predictive_preconnect_ratio`, from 1 to 3: connections to the endpoints of coming requests.
    pub predictive_preconnect_ratio: f64,
    /// `retry_policy` and `request_mirror_policies`; `None` when there are neither.
    pub policies: Option<Arc<ClusterPolicies>>,
    /// `upstream_http_protocol_options.auto_sni`: the request's host is the server name.
    pub auto_sni: bool,
    /// `upstream_http_protocol_options.auto_san_validation`: and a name that the certificate must have.
    pub auto_san_validation: bool,
    /// `override_auto_sni_header`: the field that is used instead of the host; empty for none.
    pub auto_sni_header: Arc<str>,
    /// `hash_policy`: replaces that of routes unless empty.
    pub hash_policies: Arc<[crate::HashPolicy]>,
    /// `outlier_detection.error_matcher`: the responses that outlier detection takes for errors, and no others;
    /// `None` means those from 500 on.
    pub errors: Option<Arc<crate::ResponsePredicate>>,
}

impl UpstreamHttp {
    /// Bound on a response head over HTTP/1.1, bytes; Envoy's default is 80 KiB.
    pub fn h1_head_bytes_max(&self) -> usize {
        self.head_bytes_max.unwrap_or(80 * 1024) as usize
    }

    /// Bound on a response head over HTTP/2, bytes; the default is 60 KiB.
    pub fn h2_head_bytes_max(&self) -> u32 {
        self.head_bytes_max.unwrap_or(60 * 1024)
    }
}

impl Default for UpstreamHttp {
    fn default() -> Self {
        Self {
            protocol: UpstreamProtocol::Http1,
            http2: Http2Options::UPSTREAM,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_requests_per_connection: None,
            max_connection_duration: None,
            head_bytes_max: None,
            head_fields_max: 100,
            proper_case: false,
            preserve_case: false,
            enable_trailers: false,
            preconnect_ratio: 1.0,
            predictive_preconnect_ratio: 1.0,
            max_stream_duration: None,
            policies: None,
            auto_sni: false,
            auto_san_validation: false,
            auto_sni_header: "".into(),
            hash_policies: Arc::default(),
            errors: None,
        }
    }
}

/// `track_cluster_stats`: what is counted besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackedStats {
    /// `timeout_budgets`: the scope for them.
    pub budgets: Option<ScopeId>,
    /// `request_response_sizes`: the scope for them.
    pub sizes: Option<ScopeId>,
    /// `per_endpoint_stats`: `/stats` lists the endpoints.
    pub per_endpoint: bool,
}

impl TrackedStats {
    /// Something is counted for each try.
    pub fn counts_tries(&self) -> bool {
        self.budgets.is_some() || self.sizes.is_some()
    }
}

/// `ClusterLoadAssignment.Policy.DropOverload`: a share of the requests that is refused, whatever the endpoints could do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropOverload {
    /// `category`, for load reports.
    pub category: Arc<str>,
    /// `drop_percentage` of a million, at most the runtime's `load_balancing_policy.drop_overload_limit`.
    pub per_million: u32,
}

/// One cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `name`.
    pub name: Arc<str>,
    /// The interned name.
    pub id: ClusterId,
    /// Statistics scope `cluster.<alt_stat_name or name>.`.
    pub scope: ScopeId,
    /// The name used in statistics.
    pub stat_name: Arc<str>,
    /// Where endpoints come from.
    pub discovery: ClusterDiscovery,
    /// `load_assignment`, or what DNS answered last. Sorted by priority, then configuration order.
    pub localities: Vec<LocalityEndpoints>,
    /// Counts up when `localities` changes; shards keep pools of endpoints that stayed.
    pub endpoints_version: u64,
    /// `lb_policy`.
    pub lb_policy: LbPolicy,
    /// What the balancer has besides.
    pub balancing: Balancing,
    /// `common_lb_config.healthy_panic_threshold`, percent, default 50.
    pub panic_threshold: f64,
    /// `load_assignment.policy.overprovisioning_factor`, default 140.
    pub overprovisioning_factor: u32,
    /// `load_assignment.policy.drop_overloads`; `None` where no request is refused on purpose.
    pub drop_overload: Option<Box<DropOverload>>,
    /// `lrs_report_endpoint_metrics`: what endpoints report of themselves that load reports pass on; empty where no load is
    /// reported.
    pub load_metrics: Box<[Arc<str>]>,
    /// `connect_timeout`, default 5 s.
    pub connect_timeout: Duration,
    /// `circuit_breakers`.
    pub circuit_breakers: CircuitBreakers,
    /// `outlier_detection`; `None` when nobody asks for it.
    pub outlier_detection: Option<Box<OutlierDetection>>,
    /// `health_checks`; `None` when nobody asks for it.
    pub health_check: Option<Arc<HealthCheck>>,
    /// `per_connection_buffer_limit_bytes`, default 1 MiB.
    pub buffer_limit_bytes: u32,
    /// `upstream_connection_options.tcp_keepalive`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `upstream_bind_config`, or that of the cluster manager.
    pub bind: Option<Box<BindConfig>>,
    /// `upstream_connection_options.happy_eyeballs_config`.
    pub happy_eyeballs: HappyEyeballs,
    /// `close_connections_on_host_health_failure`.
    pub close_on_health_failure: bool,
    /// `common_lb_config.close_connections_on_host_set_change`: whenever endpoints come, go or change, their health
    /// included, idle connections of the whole cluster are closed and the others end with their last request.
    pub close_on_host_set_change: bool,
    /// `connection_pool_per_downstream_connection`: requests of different clients share no connection.
    pub pool_per_downstream: bool,
    /// HTTP options.
    pub http: UpstreamHttp,
    /// `track_cluster_stats` and the deprecated `track_timeout_budgets`; `None` when they ask for nothing.
    pub tracked: Option<Box<TrackedStats>>,
    /// `istio.alpn` applies: false with the metadata `istio: {alpn_override: "false"}`.
    pub istio_alpn_override: bool,
    /// `transport_socket`.
    pub transport: UpstreamTransport,
    /// `transport_socket_matches`, in their order; the first that an endpoint's metadata satisfies replaces
    /// [`Cluster::transport`] for it.
    pub transport_matches: Vec<TransportMatch>,
}
