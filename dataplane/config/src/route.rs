//! Routes (`envoy.config.route.v3.Route`).

use std::sync::Arc;
use std::time::Duration;

use millrace_base::Metadata;
use regex::bytes::Regex;

use crate::format::Template;
use crate::{
    BandwidthLimit, BufferFilter, ClusterId, CompressorPerRoute, CorsPolicy, CsrfPolicy, Fault, Fraction,
    HashPolicy, HeaderMatcher, HeaderMutations, InternalRedirects, LocalRateLimit, MetadataMatch,
    MirrorPolicy, MutationLists, QueryMatcher, RateLimitPolicy, RetryPolicy, WrittenMatcher,
};

/// The path part of `RouteMatch`.
#[derive(Clone, Debug)]
pub enum PathMatcher {
    /// `prefix`.
    Prefix(Arc<[u8]>),
    /// `path`.
    Exact(Arc<[u8]>),
    /// `path_separated_prefix`: the prefix itself, or followed by `/`.
    SeparatedPrefix(Arc<[u8]>),
    /// `safe_regex`, full match of the path without its query.
    Regex(Regex),
    /// `connect_matcher`.
    Connect,
}

/// `RouteMatch`.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatcher,
    /// `case_sensitive`, default true; a pattern is stored in lower case when false.
    pub case_sensitive: bool,
    /// `runtime_fraction`.
    pub fraction: Option<Fraction>,
    /// All must match.
    pub headers: Vec<HeaderMatcher>,
    /// All must match.
    pub query: Vec<QueryMatcher>,
    /// `grpc`: the content type must be gRPC's.
    pub grpc: bool,
    /// `dynamic_metadata` and `filter_state`: all must match.
    pub written: Vec<WrittenMatcher>,
}

/// One entry of `weighted_clusters`.
#[derive(Clone, Debug)]
pub struct WeightedCluster {
    /// `name`, or `cluster_header`.
    pub cluster: ClusterSpecifier,
    /// Share of the total.
    pub weight: u32,
    /// Changes to requests sent there.
    pub request_headers: HeaderMutations,
    /// Changes to responses from there.
    pub response_headers: HeaderMutations,
    /// `host_rewrite_literal`.
    pub host_rewrite: Option<Arc<[u8]>>,
    /// `metadata_match` merged into the route's; `None` when neither has one.
    pub metadata_match: Option<Arc<MetadataMatch>>,
    /// `typed_per_filter_config`.
    pub per_filter: PerFilterConfigs,
}

/// `weighted_clusters`.
#[derive(Clone, Debug)]
pub struct WeightedClusters {
    /// In configuration order.
    pub clusters: Vec<WeightedCluster>,
    /// Sum of the weights; not zero.
    pub total: u64,
    /// What chooses among them instead of chance; without it in a request chance does.
    pub by: WeightedBy,
}

/// `WeightedCluster.random_value_specifier`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WeightedBy {
    /// Nothing.
    #[default]
    Chance,
    /// `header_name`, lower case: the number in the field, when there is one such field.
    Header(Arc<[u8]>),
    /// `use_hash_policy`: the hash of the route's `hash_policy`.
    HashPolicy,
}

/// `RouteAction.cluster_specifier`.
#[derive(Clone, Debug)]
pub enum ClusterSpecifier {
    /// `cluster`.
    Cluster(ClusterId),
    /// `cluster_header`, lower case: the request names the cluster.
    Header(Arc<[u8]>),
    /// `weighted_clusters`.
    Weighted(Box<WeightedClusters>),
}

/// Path rewriting of a forwarding route.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// `prefix_rewrite`: replaces what the path matcher matched.
    Prefix(Arc<[u8]>),
    /// `regex_rewrite`: every match of the pattern; `\1` became `${1}` when compiled.
    Regex {
        /// The pattern.
        pattern: Regex,
        /// The substitution in the regex crate's syntax.
        substitution: Arc<[u8]>,
    },
}

/// Host rewriting of a forwarding route.
#[derive(Clone, Debug)]
pub enum HostRewrite {
    /// `host_rewrite_literal`.
    Literal(Arc<[u8]>),
    /// `auto_host_rewrite`: the chosen endpoint's host name (DNS clusters).
    Auto,
    /// `host_rewrite_header`, lower case.
    Header(Arc<[u8]>),
    /// `host_rewrite_path_regex`.
    PathRegex {
        /// Applied to the path without its query.
        pattern: Regex,
        /// The substitution in the regex crate's syntax.
        substitution: Arc<[u8]>,
    },
}

/// What a route makes of a request's `grpc-timeout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrpcTimeout {
    /// The most that it may be; `None` when configured 0.
    pub max: Option<Duration>,
    /// Subtracted from it.
    pub offset: Duration,
}

/// `RouteAction.MaxStreamDuration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxStreamDuration {
    /// `max_stream_duration`; `Some(None)` when set to 0, `None` when absent: the connection manager's.
    pub duration: Option<Option<Duration>>,
    /// `grpc_timeout_header_max` and `grpc_timeout_header_offset`: a request's `grpc-timeout` is its duration.
    pub grpc_timeout: Option<GrpcTimeout>,
}

/// `RouteAction`.
#[derive(Clone, Debug)]
pub struct RouteForward {
    /// Where requests go.
    pub cluster: ClusterSpecifier,
    /// `cluster_not_found_response_code`, default 503.
    pub cluster_not_found_status: u16,
    /// Path rewriting.
    pub path_rewrite: Option<PathRewrite>,
    /// Host rewriting.
    pub host_rewrite: Option<HostRewrite>,
    /// `append_x_forwarded_host`.
    pub append_x_forwarded_host: bool,
    /// `timeout`, default 15 s; `None` when 0.
    pub timeout: Option<Duration>,
    /// `idle_timeout`: overrides `stream_idle_timeout`; `Some(None)` when set to 0.
    pub idle_timeout: Option<Option<Duration>>,
    /// `flush_timeout`: overrides `stream_flush_timeout`; `Some(None)` when set to 0.
    pub flush_timeout: Option<Option<Duration>>,
    /// `max_stream_duration`: replaces `timeout`.
    pub max_stream_duration: Option<MaxStreamDuration>,
    /// `max_grpc_timeout` and `grpc_timeout_offset` (deprecated): `grpc-timeout` replaces `timeout` for gRPC.
    pub grpc_timeout: Option<GrpcTimeout>,
    /// The route's own `retry_policy`, else the virtual host's.
    pub retry_policy: Option<Arc<RetryPolicy>>,
    /// `upgrade_configs`: `(lower-case type, enabled)`, overriding the connection manager's.
    pub upgrades: Vec<(Arc<str>, bool)>,
    /// `connect_config` of the CONNECT upgrade: CONNECT ends here and its bytes go to the endpoint raw.
    pub terminates_connect: bool,
    /// `priority: HIGH`.
    pub high_priority: bool,
    /// `hash_policy`.
    pub hash_policies: Vec<HashPolicy>,
    /// `metadata_match`.
    pub metadata_match: Option<Arc<MetadataMatch>>,
    /// `request_mirror_policies` of the route, else of its virtual host, else of the table.
    pub mirrors: Arc<[MirrorPolicy]>,
    /// `internal_redirect_policy`, or the deprecated fields that it replaced.
    pub internal_redirects: Option<Arc<InternalRedirects>>,
    /// `hedge_policy.hedge_on_per_try_timeout` of the route, else of its virtual host.
    pub hedges_on_per_try_timeout: bool,
    /// Most bytes of a request that are kept for retries and redirects: `request_body_buffer_limit`, or
    /// `per_request_buffer_limit_bytes`, of the route, else of its virtual host.
    pub body_buffer_limit: Option<BodyBufferLimit>,
    /// `rate_limits`, `include_vh_rate_limits` and `cors`.
    pub for_filters: RouteFilterFields,
}

/// How many bytes of a request are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyBufferLimit {
    /// `request_body_buffer_limit`: instead of the listener's limit.
    Exact(u64),
    /// `per_request_buffer_limit_bytes`: no more than the listener's limit.
    AtMost(u32),
}

impl RouteForward {
    /// To a cluster, with the defaults of everything else.
    pub fn to(cluster: ClusterSpecifier) -> Self {
        Self {
            cluster,
            cluster_not_found_status: 503,
            path_rewrite: None,
            host_rewrite: None,
            append_x_forwarded_host: false,
            timeout: Some(Duration::from_secs(15)),
            idle_timeout: None,
            flush_timeout: None,
            max_stream_duration: None,
            grpc_timeout: None,
            retry_policy: None,
            upgrades: Vec::new(),
            terminates_connect: false,
            high_priority: false,
            hash_policies: Vec::new(),
            metadata_match: None,
            mirrors: Arc::default(),
            internal_redirects: None,
            hedges_on_per_try_timeout: false,
            body_buffer_limit: None,
            for_filters: RouteFilterFields::default(),
        }
    }
}

/// Fields of a route or virtual host that only filters read.
#[derive(Clone, Debug, Default)]
pub struct RouteFilterFields {
    /// `rate_limits`.
    pub rate_limits: Vec<RateLimitPolicy>,
    /// `include_vh_rate_limits`, of routes.
    pub include_virtual_host_rate_limits: bool,
    /// `cors` (deprecated): counts where no `typed_per_filter_config` has a policy.
    pub cors: Option<Arc<CorsPolicy>>,
}

/// What a redirect does to the path.
#[derive(Clone, Debug)]
pub enum RedirectPath {
    /// Kept.
    Keep,
    /// `path_redirect`.
    Replace(Arc<[u8]>),
    /// `prefix_rewrite`.
    Prefix(Arc<[u8]>),
    /// `regex_rewrite`.
    Regex {
        /// The pattern.
        pattern: Regex,
        /// The substitution in the regex crate's syntax.
        substitution: Arc<[u8]>,
    },
}

/// `RedirectAction`.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `https_redirect` or `scheme_redirect`.
    pub scheme: Option<Arc<[u8]>>,
    /// `host_redirect`.
    pub host: Option<Arc<[u8]>>,
    /// `port_redirect`.
    pub port: Option<u16>,
    /// The path.
    pub path: RedirectPath,
    /// `strip_query`.
    pub strip_query: bool,
}

/// `DirectResponseAction`.
#[derive(Clone, Debug)]
pub struct DirectResponse {
    /// `status`.
    pub status: u16,
    /// `body`, read from its data source when compiled; empty for none.
    pub body: Arc<[u8]>,
    /// `body_format`, if the body holds operators.
    pub body_format: Option<Template>,
}

/// `Route.action`.
#[derive(Clone, Debug)]
pub enum RouteAction {
    /// `route`.
    Forward(Box<RouteForward>),
    /// `redirect`.
    Redirect(Box<Redirect>),
    /// `direct_response`.
    DirectResponse(Box<DirectResponse>),
}

/// One entry of `typed_per_filter_config`.
#[derive(Clone, Debug)]
pub enum PerFilterConfig {
    /// `envoy.config.route.v3.FilterConfig{disabled}`: `true` switches the filter off here, `false` on.
    Disabled(bool),
    /// `HTTPFault`; this and all that follow switch the filter on.
    Fault(Arc<Fault>),
    /// `LocalRateLimit`.
    LocalRateLimit(Arc<LocalRateLimit>),
    /// `HeaderMutationPerRoute`: all levels count.
    HeaderMutation(Arc<MutationLists>),
    /// `CorsPolicy`: all levels count.
    Cors(Arc<CorsPolicy>),
    /// `CsrfPolicy`.
    Csrf(Arc<CsrfPolicy>),
    /// `CustomResponse`: all levels count.
    CustomResponse(Arc<crate::CustomResponse>),
    /// `BufferPerRoute`.
    Buffer(BufferFilter),
    /// `StatefulSessionPerRoute`: `None` switches the filter off here.
    StatefulSession(Option<Arc<crate::StatefulSession>>),
    /// `CompressorPerRoute`.
    Compressor(Arc<CompressorPerRoute>),
    /// `BandwidthLimit`.
    BandwidthLimit(Arc<BandwidthLimit>),
    /// `header_to_metadata.v3.Config`.
    HeaderToMetadata(Arc<crate::HeaderToMetadata>),
    /// `json_to_metadata.v3.JsonToMetadata`.
    JsonToMetadata(Arc<crate::JsonToMetadata>),
    /// `set_metadata.v3.Config`.
    SetMetadata(Arc<[crate::SetMetadata]>),
    /// `set_filter_state.v3.Config`: all levels count.
    SetFilterState(Arc<crate::SetFilterState>),
    /// `dynamic_forward_proxy.v3.PerRouteConfig`.
    ForwardProxy(crate::ForwardProxyHost),
}

/// `typed_per_filter_config` of one level, sorted by filter name.
pub type PerFilterConfigs = Vec<(Arc<str>, PerFilterConfig)>;

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// `name`, empty when not given.
    pub name: Arc<str>,
    /// When it applies.
    pub matcher: RouteMatch,
    /// What happens.
    pub action: RouteAction,
    /// Changes to requests.
    pub request_headers: HeaderMutations,
    /// Changes to responses.
    pub response_headers: HeaderMutations,
    /// `typed_per_filter_config`.
    pub per_filter: PerFilterConfigs,
    /// `metadata`.
    pub metadata: Option<Arc<Metadata>>,
    /// `stat_prefix`: scope `vhost.<name>.route.<stat_prefix>.`.
    pub stat_scope: Option<crate::ScopeId>,
}

impl RouteMatch {
    /// A matcher for every path, for tests and defaults.
    pub fn any() -> Self {
        Self {
            path: PathMatcher::Prefix(Arc::from(&b"/"[..])),
            case_sensitive: true,
            fraction: None,
            headers: Vec::new(),
            query: Vec::new(),
            grpc: false,
            written: Vec::new(),
        }
    }
}
