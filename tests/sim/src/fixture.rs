//! Small configurations built by hand, without protobuf.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    Address, Balancing, CircuitBreakers, ClientCertDetails, Cluster, ClusterDiscovery, ClusterId,
    ClusterSpecifier, DrainType, Endpoint, FilterChain, FilterChainCriteria, FilterChainMatch,
    FilterConfigId, ForwardClientCertDetails, HappyEyeballs, HeaderMutations, HealthStatus, Http1Options,
    Http2Keepalive, Http2Options, HttpConnectionManager, HttpFilter, HttpFilterKind, InternalRedirects,
    Listener, LocalityEndpoints, MirrorPolicy, MirrorTarget, NetworkFilter, Node, PathNormalization,
    RequireTls, RetryConditions, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteForward,
    RouteMatch, ScopeId, ServerHeaderTransformation, Snapshot, TcpClusterSpecifier, TcpProxy, Thresholds,
    TrafficDirection, UnderscoresAction, UpstreamHttp, UpstreamProtocol, VirtualHost,
};
use millrace_observe::stats::{Registry, ScopeKind};

use crate::asked::{health_check, lb_policy, load_stream};

/// What a fixture's listener does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// HTTP to one cluster by the route `/`.
    Http,
    /// The same with `retry_on: connect-failure,reset,5xx` and three retries.
    HttpRetries,
    /// TCP to one cluster.
    Tcp,
}

/// Figures that the simulation's modes vary.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// `per_connection_buffer_limit_bytes` of listener and cluster.
    pub buffer_limit: u32,
    /// The route's `timeout`.
    pub route_timeout: Duration,
    /// `per_try_timeout` of the retry policy.
    pub per_try_timeout: Option<Duration>,
    /// `stream_idle_timeout`.
    pub stream_idle: Duration,
    /// `request_headers_timeout`.
    pub headers_timeout: Duration,
    /// `idle_timeout` of downstream connections.
    pub idle_timeout: Duration,
    /// `max_requests_per_connection` of either side.
    pub max_requests: Option<u32>,
    /// `circuit_breakers.thresholds` of the default priority.
    pub breakers: Thresholds,
    /// `close_connections_on_host_health_failure`.
    pub close_on_health_failure: bool,
    /// `close_connections_on_host_set_change`.
    pub close_on_host_set_change: bool,
    /// `idle_timeout` of upstream connections.
    pub upstream_idle: Duration,
    /// `max_connection_duration` of upstream connections.
    pub upstream_age: Option<Duration>,
    /// `proxy_100_continue`.
    pub proxy_continue: bool,
    /// `retry_on` of [`Mode::HttpRetries`].
    pub retry_on: &'static str,
    /// `num_retries` of [`Mode::HttpRetries`].
    pub num_retries: u32,
    /// What the cluster's endpoints speak.
    pub protocol: UpstreamProtocol,
    /// `connection_keepalive.interval` of HTTP/2 on either side; without an answer for five seconds it is over.
    pub keepalive: Option<Duration>,
    /// `initial_stream_window_size` of either side.
    pub stream_window: u32,
    /// `initial_connection_window_size` of either side.
    pub connection_window: u32,
    /// `max_concurrent_streams` of the listener.
    pub max_streams: u32,
    /// Every request is copied to its own cluster.
    pub mirrors: bool,
    /// `hedge_on_per_try_timeout`.
    pub hedges: bool,
    /// Redirects are followed within the proxy.
    pub redirects: bool,
    /// The filter `custom_response` replaces answers.
    pub custom: bool,
    /// Endpoints have a further address, where nobody listens: in front of or behind the other.
    pub races: bool,
    /// `per_upstream_preconnect_ratio`.
    pub preconnect: f64,
    /// Endpoints are checked by `GET /hc`.
    pub checks: bool,
    /// Endpoints are asked for streams of load reports, and weighed by them.
    pub load_streams: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            buffer_limit: 64 * 1024,
            route_timeout: Duration::from_secs(15),
            per_try_timeout: None,
            stream_idle: Duration::from_secs(300),
            headers_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(3600),
            max_requests: None,
            breakers: Thresholds::default(),
            close_on_health_failure: false,
            close_on_host_set_change: false,
            upstream_idle: Duration::from_secs(3600),
            upstream_age: None,
            proxy_continue: false,
            retry_on: "connect-failure,reset,5xx",
            num_retries: 3,
            protocol: UpstreamProtocol::Http1,
            keepalive: None,
            stream_window: 64 * 1024,
            connection_window: 1024 * 1024,
            max_streams: 100,
            mirrors: false,
            hedges: false,
            redirects: false,
            custom: false,
            races: false,
            preconnect: 1.0,
            checks: false,
            load_streams: false,
        }
    }
}

/// A snapshot with one listener and one cluster of these endpoints.
pub fn snapshot(registry: &Registry, mode: Mode, listen: SocketAddr, endpoints: &[SocketAddr]) -> Snapshot {
    build(registry, mode, listen, endpoints, &Knobs::default())
}

/// As [`snapshot`], with other figures.
pub fn build(
    registry: &Registry,
    mode: Mode,
    listen: SocketAddr,
    endpoints: &[SocketAddr],
    knobs: &Knobs,
) -> Snapshot {
    let cluster = cluster(registry, endpoints, knobs);
    let filter = match mode {
        Mode::Tcp => NetworkFilter::TcpProxy(Arc::new(tcp_proxy(registry))),
        Mode::Http | Mode::HttpRetries => {
            NetworkFilter::HttpConnectionManager(Arc::new(manager(registry, listen, mode, knobs)))
        }
    };
    let chain = FilterChain {
        name: "".into(),
        gates: Vec::new(),
        filters: vec![filter],
        tls: None,
        transport_socket_connect_timeout: None,
        fingerprint: 0,
    };
    let listener = listener(registry, listen, chain, knobs);
    Snapshot {
        version: 1,
        node: Arc::new(Node::default()),
        listeners: vec![Arc::new(listener)],
        cluster_names: std::sync::Arc::new([(cluster.name.clone(), cluster.id)].into()),
        route_tables: Vec::new(),
        scope_tables: Vec::new(),
        secrets: Vec::new(),
        clusters: vec![Some(Arc::new(cluster))],
        outlier_log: None,
        overload: None,
    }
}

fn cluster(registry: &Registry, endpoints: &[SocketAddr], knobs: &Knobs) -> Cluster {
    let endpoint = |address: &SocketAddr| Endpoint {
        address: Address::Inet(*address),
        hostname: "".into(),
        weight: 1,
        health: HealthStatus::Unknown,
        scope: registry.host_scope(),
        transport_metadata: None,
        lb_metadata: None,
        additional_addresses: None,
        health_check: None,
        leaving: false,
    };
    Cluster {
        name: "service".into(),
        id: ClusterId(0),
        scope: registry.scope(ScopeKind::Cluster, "service"),
        stat_name: "service".into(),
        discovery: ClusterDiscovery::Static,
        localities: vec![LocalityEndpoints {
            endpoints: endpoints
                .iter()
                .map(endpoint)
                .enumerate()
                .map(|(at, e)| raced(e, at, knobs))
                .collect(),
            ..LocalityEndpoints::default()
        }],
        endpoints_version: 1,
        lb_policy: lb_policy(knobs),
        panic_threshold: 50.0,
        overprovisioning_factor: 140,
        balancing: Balancing {
            load_stream: knobs.load_streams.then(|| Arc::new(load_stream())),
            ..Balancing::default()
        },
        connect_timeout: Duration::from_secs(5),
        circuit_breakers: CircuitBreakers { default: knobs.breakers, ..CircuitBreakers::default() },
        outlier_detection: None,
        buffer_limit_bytes: knobs.buffer_limit,
        tcp_keepalive: None,
        bind: None,
        happy_eyeballs: HappyEyeballs::default(),
        health_check: knobs.checks.then(|| Arc::new(health_check())),
        close_on_health_failure: knobs.close_on_health_failure,
        close_on_host_set_change: knobs.close_on_host_set_change,
        pool_per_downstream: false,
        http: UpstreamHttp {
            protocol: knobs.protocol,
            http2: Http2Options {
                initial_stream_window: knobs.stream_window,
                initial_connection_window: knobs.connection_window,
                keepalive: keepalive(knobs),
                ..Http2Options::UPSTREAM
            },
            max_requests_per_connection: knobs.max_requests,
            idle_timeout: Some(knobs.upstream_idle),
            max_connection_duration: knobs.upstream_age,
            preconnect_ratio: knobs.preconnect,
            ..UpstreamHttp::default()
        },
        transport: millrace_config::UpstreamTransport::default(),
        transport_matches: Vec::new(),
        tracked: None,
        istio_alpn_override: true,
        drop_overload: None,
        load_metrics: Box::default(),
    }
}

/// The endpoint with an address where nobody listens.
fn raced(endpoint: Endpoint, at: usize, knobs: &Knobs) -> Endpoint {
    if !knobs.races {
        return endpoint;
    }
    let silent = Address::Inet(([10, 0, 2, 1], 9000 + at as u16).into());
    match at % 2 {
        0 => Endpoint { additional_addresses: Some([endpoint.address].into()), address: silent, ..endpoint },
        _ => Endpoint { additional_addresses: Some([silent].into()), ..endpoint },
    }
}

fn mirror() -> MirrorPolicy {
    MirrorPolicy {
        target: MirrorTarget::Cluster(ClusterId(0)),
        fraction: None,
        marks_host: true,
        mutations: Vec::new(),
        host_rewrite: None,
    }
}

fn redirects() -> InternalRedirects {
    InternalRedirects {
        max: 3,
        statuses: vec![302],
        predicates: Vec::new(),
        allow_cross_scheme: false,
        copied_headers: Vec::new(),
    }
}

fn keepalive(knobs: &Knobs) -> Option<Http2Keepalive> {
    knobs.keepalive.map(|interval| Http2Keepalive {
        interval: Some(interval),
        timeout: Duration::from_secs(5),
        jitter_percent: 15.0,
        idle_interval: Some(interval / 2),
    })
}

fn listener(registry: &Registry, address: SocketAddr, chain: FilterChain, knobs: &Knobs) -> Listener {
    Listener {
        name: "listener".into(),
        addresses: vec![Address::Inet(address)],
        scope: registry.scope(ScopeKind::Listener, &address.to_string()),
        bind_to_port: true,
        use_original_dst: false,
        transparent: false,
        freebind: false,
        reuse_port: true,
        backlog: None,
        buffer_limit_bytes: knobs.buffer_limit,
        listener_filters: Vec::new(),
        listener_filters_timeout: None,
        continue_on_listener_filters_timeout: false,
        filter_chains: vec![Arc::new(chain)],
        default_filter_chain: None,
        chain_match: FilterChainMatch::compile(vec![FilterChainCriteria::default()]).unwrap_or_default(),
        traffic_direction: TrafficDirection::Unspecified,
        drain_type: DrainType::Default,
        connection_limit: None,
        ignore_global_conn_limit: false,
        bypass_overload_manager: false,
        access_logs: Vec::new(),
    }
}

fn tcp_proxy(registry: &Registry) -> TcpProxy {
    TcpProxy {
        stat_prefix: "tcp".into(),
        scope: registry.scope(ScopeKind::Tcp, "tcp"),
        cluster: TcpClusterSpecifier::Cluster(ClusterId(0)),
        idle_timeout: Some(Duration::from_secs(3600)),
        max_connect_attempts: 3,
        back_off: None,
        max_downstream_connection_duration: None,
        duration_jitter_percent: 0.0,
        check_drain_close: false,
        access_logs: Vec::new(),
        hash_policies: Vec::new(),
        metadata_match: None,
    }
}

fn manager(registry: &Registry, address: SocketAddr, mode: Mode, knobs: &Knobs) -> HttpConnectionManager {
    let custom = knobs.custom.then(|| crate::custom::filter(registry));
    let router = HttpFilter {
        name: "envoy.filters.http.router".into(),
        id: FilterConfigId(0),
        disabled: false,
        kind: HttpFilterKind::Router {
            suppress_envoy_headers: false,
            respect_expected_rq_timeout: false,
            strict_check_headers: [None; 5],
            suppress_grpc_statuses: false,
            no_dynamic_stats: false,
        },
    };
    HttpConnectionManager {
        stat_prefix: "ingress".into(),
        scope: registry.scope(ScopeKind::Http, "ingress"),
        listener_scope: registry.scope(ScopeKind::HttpListener, &format!("{address}.http.ingress")),
        routes: millrace_config::RouteSource::Inline(Arc::new(routes(mode, knobs))),
        http_filters: custom.into_iter().chain([router]).collect(),
        local_replies: None,
        access_logs: Vec::new(),
        codec: millrace_config::Codec::Auto,
        http2: Http2Options {
            initial_stream_window: knobs.stream_window,
            initial_connection_window: knobs.connection_window,
            max_concurrent_streams: knobs.max_streams,
            allow_connect: true,
            keepalive: keepalive(knobs),
            ..Http2Options::DOWNSTREAM
        },
        http2_scope: registry.scope(ScopeKind::Http2, ""),
        http1: Http1Options { allow_absolute_url: true, ..Http1Options::default() },
        server_name: "envoy".into(),
        server_header: ServerHeaderTransformation::Overwrite,
        via: "".into(),
        append_local_overload: false,
        add_user_agent: false,
        use_remote_address: false,
        xff_num_trusted_hops: 0,
        skip_xff_append: false,
        append_x_forwarded_port: false,
        internal_addresses: None,
        internal_unix_sockets: false,
        generate_request_id: true,
        preserve_external_request_id: false,
        always_set_request_id_in_response: false,
        proxy_100_continue: knobs.proxy_continue,
        represent_ipv4_as_mapped_ipv6: false,
        forward_client_cert: ForwardClientCertDetails::Sanitize,
        client_cert_details: ClientCertDetails::default(),
        upgrades: vec!["websocket".into()],
        paths: PathNormalization { reject_fragment: true, ..PathNormalization::default() },
        underscores: UnderscoresAction::Allow,
        head_bytes_max: 60 * 1024,
        head_fields_max: 100,
        idle_timeout: Some(knobs.idle_timeout),
        stream_idle_timeout: Some(knobs.stream_idle),
        stream_flush_timeout: Some(knobs.stream_idle),
        request_timeout: None,
        request_headers_timeout: Some(knobs.headers_timeout),
        drain_timeout: Duration::from_secs(5),
        delayed_close_timeout: Duration::from_secs(1),
        max_connection_duration: None,
        max_stream_duration: None,
        drain_jitter_percent: 0.0,
        duration_jitter_percent: 0.0,
        http1_safe_max_connection_duration: false,
        max_requests_per_connection: knobs.max_requests,
    }
}

fn routes(mode: Mode, knobs: &Knobs) -> RouteConfiguration {
    let retry_policy = (mode == Mode::HttpRetries).then(|| {
        Arc::new(RetryPolicy {
            on: RetryConditions::parse(knobs.retry_on).0,
            num_retries: knobs.num_retries,
            per_try_timeout: knobs.per_try_timeout,
            ..RetryPolicy::default()
        })
    });
    let forward = RouteForward {
        timeout: Some(knobs.route_timeout),
        retry_policy,
        mirrors: if knobs.mirrors { [mirror()].into() } else { Arc::default() },
        internal_redirects: knobs.redirects.then(|| Arc::new(redirects())),
        hedges_on_per_try_timeout: knobs.hedges,
        ..RouteForward::to(ClusterSpecifier::Cluster(ClusterId(0)))
    };
    let route = Route {
        name: "".into(),
        matcher: RouteMatch::any(),
        action: RouteAction::Forward(Box::new(forward)),
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        per_filter: Vec::new(),
        metadata: None,
        stat_scope: None,
    };
    let host = VirtualHost {
        name: "all".into(),
        domains: vec!["*".into()],
        routes: vec![Arc::new(route)],
        require_tls: RequireTls::None,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        include_request_attempt_count: false,
        include_attempt_count_in_response: false,
        include_is_timeout_retry: false,
        retry_policy: None,
        per_filter: Vec::new(),
        for_filters: millrace_config::RouteFilterFields::default(),
        metadata: None,
        virtual_clusters: Vec::new(),
    };
    let mut config = RouteConfiguration::default();
    config.virtual_hosts.push(Arc::new(host));
    config.compile().unwrap_or_default()
}

/// Scopes that the checks look at.
pub fn cluster_scope(registry: &Registry) -> ScopeId {
    registry.scope(ScopeKind::Cluster, "service")
}
