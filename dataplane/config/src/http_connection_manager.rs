//! The HTTP connection manager (`envoy.extensions.filters.network.http_connection_manager.v3`).

use std::sync::Arc;
use std::time::Duration;

use crate::{
    AccessLog, AdaptiveConcurrency, AdmissionControl, BandwidthLimit, BufferFilter, Cidr, Codec,
    CompressorFilter, CorsFilter, CsrfFilter, DecompressorFilter, FaultFilter, FilterConfigId,
    ForwardProxyFilter, GrpcHttp1Bridge, GrpcStats, HeaderMutationFilter, HeaderToMetadata,
    HealthCheckFilter, Http2Options, JsonToMetadata, LocalRateLimit, LocalReplyConfig, RouteConfiguration,
    RouteTableId, ScopeId, ScopedRoutes, SetFilterState, SetMetadata,
};

/// `server_header_transformation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHeaderTransformation {
    /// Always `server_name`.
    #[default]
    Overwrite,
    /// `server_name` unless the upstream sent one.
    AppendIfAbsent,
    /// Whatever the upstream sent.
    PassThrough,
}

/// `forward_client_cert_details`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ForwardClientCertDetails {
    #[default]
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForwardOnly,
}

/// `set_current_client_cert_details`: what else than the hash is told of a client certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ClientCertDetails {
    pub subject: bool,
    pub cert: bool,
    pub chain: bool,
    pub dns: bool,
    pub uri: bool,
}

/// `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PathWithEscapedSlashes {
    #[default]
    KeepUnchanged,
    RejectRequest,
    UnescapeAndRedirect,
    UnescapeAndForward,
}

/// `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum UnderscoresAction {
    #[default]
    Allow,
    RejectRequest,
    DropHeader,
}

/// How paths are changed before a route is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathNormalization {
    /// `normalize_path`.
    pub normalize: bool,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: PathWithEscapedSlashes,
    /// Runtime `envoy.reloadable_features.http_reject_path_with_fragment`, default true.
    pub reject_fragment: bool,
    /// `strip_matching_host_port`.
    pub strip_matching_host_port: bool,
    /// `strip_any_host_port`.
    pub strip_any_host_port: bool,
    /// `strip_trailing_host_dot`.
    pub strip_trailing_host_dot: bool,
}

/// `http_protocol_options` of the downstream side.
#[derive(Clone, Debug, Default)]
pub struct Http1Options {
    /// `accept_http_10`.
    pub accept_http_10: bool,
    /// `default_host_for_http_10`.
    pub default_host_for_http_10: Option<Arc<str>>,
    /// `allow_absolute_url`, default true.
    pub allow_absolute_url: bool,
    /// `enable_trailers`.
    pub enable_trailers: bool,
    /// `header_key_format.proper_case_words`.
    pub proper_case: bool,
    /// `header_key_format.stateful_formatter` preserve_case.
    pub preserve_case: bool,
}

/// `istio.alpn`: protocols to offer upstream, by the version of HTTP that the cluster speaks. Empty lists change
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct IstioAlpn {
    pub http10: Arc<[Arc<[u8]>]>,
    pub http11: Arc<[Arc<[u8]>]>,
    pub http2: Arc<[Arc<[u8]>]>,
}

/// A field of a request whose value is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrictHeader {
    /// `x-envoy-upstream-rq-timeout-ms`.
    RqTimeoutMs,
    /// `x-envoy-upstream-rq-per-try-timeout-ms`.
    RqPerTryTimeoutMs,
    /// `x-envoy-max-retries`.
    MaxRetries,
    /// `x-envoy-retry-grpc-on`.
    RetryGrpcOn,
    /// `x-envoy-retry-on`.
    RetryOn,
}

/// Fields to be checked, in this order; the rest is `None`.
pub type StrictHeaders = [Option<StrictHeader>; 5];

/// What an HTTP filter does.
#[derive(Clone, Debug)]
pub enum HttpFilterKind {
    /// `envoy.filters.http.grpc_stats`.
    GrpcStats(Arc<GrpcStats>),
    /// `envoy.filters.http.grpc_web`.
    GrpcWeb,
    /// `envoy.filters.http.grpc_http1_bridge`.
    GrpcHttp1Bridge(GrpcHttp1Bridge),
    /// `istio.alpn`.
    IstioAlpn(Arc<IstioAlpn>),
    /// `envoy.filters.http.peak_ewma`: the balancer of that name measures by itself.
    PeakEwma,
    /// `envoy.filters.http.fault`.
    Fault(Arc<FaultFilter>),
    /// `envoy.filters.http.local_ratelimit`.
    LocalRateLimit(Arc<LocalRateLimit>),
    /// `envoy.filters.http.header_mutation`.
    HeaderMutation(Arc<HeaderMutationFilter>),
    /// `envoy.filters.http.cors`.
    Cors(CorsFilter),
    /// `envoy.filters.http.csrf`.
    Csrf(Arc<CsrfFilter>),
    /// `envoy.filters.http.custom_response`.
    CustomResponse(Arc<crate::CustomResponse>),
    /// `envoy.filters.http.buffer`.
    Buffer(BufferFilter),
    /// `envoy.filters.http.stateful_session`.
    StatefulSession(Arc<crate::StatefulSessionFilter>),
    /// `envoy.filters.http.health_check`.
    HealthCheck(Arc<HealthCheckFilter>),
    /// `envoy.filters.http.compressor`.
    Compressor(Arc<CompressorFilter>),
    /// `envoy.filters.http.decompressor`.
    Decompressor(Arc<DecompressorFilter>),
    /// `envoy.filters.http.bandwidth_limit`.
    BandwidthLimit(Arc<BandwidthLimit>),
    /// `envoy.filters.http.admission_control`.
    AdmissionControl(Arc<AdmissionControl>),
    /// `envoy.filters.http.adaptive_concurrency`.
    AdaptiveConcurrency(Arc<AdaptiveConcurrency>),
    /// `envoy.filters.http.header_to_metadata`.
    HeaderToMetadata(Arc<HeaderToMetadata>),
    /// `envoy.filters.http.json_to_metadata`.
    JsonToMetadata(Arc<JsonToMetadata>),
    /// `envoy.filters.http.set_metadata`.
    SetMetadata(Arc<[SetMetadata]>),
    /// `envoy.filters.http.set_filter_state`.
    SetFilterState(Arc<SetFilterState>),
    /// `envoy.filters.http.dynamic_forward_proxy`.
    ForwardProxy(Arc<ForwardProxyFilter>),
    /// `envoy.filters.http.router`; always the last one.
    Router {
        /// `suppress_envoy_headers`.
        suppress_envoy_headers: bool,
        /// `start_child_span` and the other fields that change nothing without tracing are not kept.
        respect_expected_rq_timeout: bool,
        /// `strict_check_headers`.
        strict_check_headers: StrictHeaders,
        /// `suppress_grpc_request_failure_code_stats`: statuses of gRPC requests have no counters of their own.
        suppress_grpc_statuses: bool,
        /// `dynamic_stats` is off: statuses and times of answers are not counted.
        no_dynamic_stats: bool,
    },
}

/// One entry of `http_filters`.
#[derive(Clone, Debug)]
pub struct HttpFilter {
    /// Configured name; keys `typed_per_filter_config`.
    pub name: Arc<str>,
    /// Position in the chain.
    pub id: FilterConfigId,
    /// `disabled`: only routes that say so switch it on.
    pub disabled: bool,
    /// What it does.
    pub kind: HttpFilterKind,
}

/// `route_specifier`.
#[derive(Clone, Debug)]
pub enum RouteSource {
    /// `route_config`.
    Inline(Arc<RouteConfiguration>),
    /// `rds`: the table of this id in the [`Snapshot`](crate::Snapshot); until it is there, requests get 404.
    Rds(RouteTableId),
    /// `scoped_routes`: each request has a table of its own, or gets 404.
    Scoped(Arc<ScopedRoutes>),
}

impl RouteSource {
    /// The table that needs no look-up.
    pub fn inline(&self) -> Option<&Arc<RouteConfiguration>> {
        match self {
            Self::Inline(table) => Some(table),
            Self::Rds(_) | Self::Scoped(_) => None,
        }
    }
}

/// One HTTP connection manager.
#[derive(Clone, Debug)]
pub struct HttpConnectionManager {
    /// `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// Statistics scope `http.<stat_prefix>.`.
    pub scope: ScopeId,
    /// Statistics scope `listener.<address>.http.<stat_prefix>.`.
    pub listener_scope: ScopeId,
    /// Where requests are looked up.
    pub routes: RouteSource,
    /// The chain, router last.
    pub http_filters: Vec<HttpFilter>,
    /// `access_log`.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// `local_reply_config`.
    pub local_replies: Option<Arc<LocalReplyConfig>>,
    /// `codec_type`.
    pub codec: Codec,
    /// HTTP/1.1 options.
    pub http1: Http1Options,
    /// `http2_protocol_options`.
    pub http2: Http2Options,
    /// Statistics scope `http2.`, which all listeners share.
    pub http2_scope: ScopeId,
    /// `server_name`, default `envoy`.
    pub server_name: Arc<str>,
    /// `server_header_transformation`.
    pub server_header: ServerHeaderTransformation,
    /// `via`: appended to requests and responses when not empty.
    pub via: Arc<str>,
    /// `append_local_overload`: answers of the overload manager carry `x-envoy-local-overloaded`.
    pub append_local_overload: bool,
    /// `add_user_agent`.
    pub add_user_agent: bool,
    /// `use_remote_address`.
    pub use_remote_address: bool,
    /// `xff_num_trusted_hops`.
    pub xff_num_trusted_hops: u32,
    /// `skip_xff_append`.
    pub skip_xff_append: bool,
    /// `append_x_forwarded_port`.
    pub append_x_forwarded_port: bool,
    /// `internal_address_config.cidr_ranges`; `None`: no address is internal (Envoy 1.33 and later).
    pub internal_addresses: Option<Vec<Cidr>>,
    /// `internal_address_config.unix_sockets`.
    pub internal_unix_sockets: bool,
    /// `generate_request_id`, default true.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`.
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`.
    pub always_set_request_id_in_response: bool,
    /// `proxy_100_continue`.
    pub proxy_100_continue: bool,
    /// `represent_ipv4_remote_address_as_ipv4_mapped_ipv6`.
    pub represent_ipv4_as_mapped_ipv6: bool,
    /// `forward_client_cert_details`.
    pub forward_client_cert: ForwardClientCertDetails,
    /// `set_current_client_cert_details`.
    pub client_cert_details: ClientCertDetails,
    /// `upgrade_configs` with `enabled` true: lower-case types (`websocket`, `connect`).
    pub upgrades: Vec<Arc<str>>,
    /// Path handling.
    pub paths: PathNormalization,
    /// `common_http_protocol_options.headers_with_underscores_action`.
    pub underscores: UnderscoresAction,
    /// `max_request_headers_kb` in bytes, default 60 KiB.
    pub head_bytes_max: u32,
    /// `common_http_protocol_options.max_headers_count`, default 100.
    pub head_fields_max: u16,
    /// `common_http_protocol_options.idle_timeout`, default 1 h; `None` when 0.
    pub idle_timeout: Option<Duration>,
    /// `stream_idle_timeout`, default 5 min; `None` when 0.
    pub stream_idle_timeout: Option<Duration>,
    /// `stream_flush_timeout`, default `stream_idle_timeout`; `None` when 0.
    pub stream_flush_timeout: Option<Duration>,
    /// `request_timeout`; `None` when 0 or absent.
    pub request_timeout: Option<Duration>,
    /// `request_headers_timeout`: absent means our default of 15 s, `None` when configured 0.
    pub request_headers_timeout: Option<Duration>,
    /// `drain_timeout`, default 5 s.
    pub drain_timeout: Duration,
    /// `drain_timeout_jitter`: at most so many percent more, at random.
    pub drain_jitter_percent: f64,
    /// `delayed_close_timeout`, default 1 s.
    pub delayed_close_timeout: Duration,
    /// `common_http_protocol_options.max_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration_jitter`: at most so many percent more, at random.
    pub duration_jitter_percent: f64,
    /// `http1_safe_max_connection_duration`: a connection of HTTP/1.1 that is too old ends with its next response.
    pub http1_safe_max_connection_duration: bool,
    /// `common_http_protocol_options.max_stream_duration`.
    pub max_stream_duration: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection`.
    pub max_requests_per_connection: Option<u32>,
}
