//! The validated, immutable configuration of the data plane: what the control thread compiles and the
//! shards read.
//!
//! This crate knows no protobuf and performs no I/O. Everything expensive (regular expressions, domain
//! tables, templates) is compiled when a value is built, so that reading it costs the hot path nothing.
//! Field names follow the `envoy.config.*.v3` messages they come from.

mod absolute_url;
mod access_log;
mod address;
mod address_set;
mod balancing;
mod cluster;
mod connection_gate;
mod discovery;
pub mod dns_cache;
mod endpoint_changes;
mod filter_chain;
pub mod format;
mod grpc_filters;
mod hash_policy;
mod headers;
mod health_check;
mod http2;
mod http_connection_manager;
mod http_filters;
mod ids;
mod listener;
mod listener_filter;
mod local_reply;
mod match_tree;
mod matcher;
mod outlier_detection;
mod overload;
mod retry;
mod route;
mod route_policies;
mod scoped_routes;
mod snapshot;
mod tcp_proxy;
mod tls;
mod transport;
mod upstream_connection;
mod virtual_host;
mod written_matcher;

pub use absolute_url::AbsoluteUrl;
pub use access_log::{AccessLog, AccessLogFilter, AccessLogFormat, AccessLogSink, Comparison, JsonValue};
pub use address::{Address, Cidr};
pub use address_set::AddressSet;
pub use balancing::{
    Balancing, ClientSideWeights, ConsistentHashing, HashFunction, HostStatusSet, LbMetadata, LbPolicy,
    LeastRequest, LoadStream, LocalityMode, Maglev, MetadataMatch, MetadataPlace, OverrideHostSource,
    PeakEwma, RingHash, SelectorFallback, SlowStart, Subset, SubsetFallback, SubsetSelector, ZoneAware,
};
pub use cluster::{
    CircuitBreakers, Cluster, DropOverload, Endpoint, HealthStatus, LocalityEndpoints, LocalityName,
    MetadataPairs, RetryBudget, TcpKeepalive, Thresholds, TrackedStats, TransportMetadata, UpstreamHttp,
};
pub use connection_gate::{ConnectionGate, ConnectionLimit, ConnectionRateLimit};
pub use discovery::{ClusterDiscovery, DnsLookupFamily, DnsResolver, DnsSchedule, DnsTarget, OriginalDst};
pub use dns_cache::{
    AddressFilter, DnsCache, DnsCacheConfig, DnsCacheId, ForwardProxyCluster, ForwardProxyFilter,
    ForwardProxyHost, HostNews, HostQuestion, LastUse, ResolvedHost, SniForwardProxy,
};
pub use endpoint_changes::{EndpointChanges, Run, Splice, runs};
pub use filter_chain::{
    ChainConflict, ConnectionFacts, FilterChain, FilterChainCriteria, FilterChainMatch, NetworkFilter,
    SourceType, TransportProtocol,
};
pub use grpc_filters::{GrpcHttp1Bridge, GrpcMethods, GrpcStats};
pub use hash_policy::{HashCookie, HashMethod, HashPolicy, RegexRewrite};
pub use headers::{AppendAction, HeaderMutations, HeaderOption};
pub use health_check::{
    EndpointHealthCheck, GrpcHealthCheck, HealthCheck, HealthCheckIntervals, HealthCheckKind,
    HttpHealthCheck, TcpHealthCheck,
};
pub use http_connection_manager::{
    ClientCertDetails, ForwardClientCertDetails, Http1Options, HttpConnectionManager, HttpFilter,
    HttpFilterKind, IstioAlpn, PathNormalization, PathWithEscapedSlashes, RouteSource,
    ServerHeaderTransformation, StrictHeader, StrictHeaders, UnderscoresAction,
};
pub use http_filters::{
    AdaptiveConcurrency, AdmissionControl, AdmissionId, BandwidthLimit, BrotliCompressor, BrotliMode,
    BucketRef, BufferFilter, Coding, CompressDirection, CompressResponses, CompressorFilter,
    CompressorLibrary, CompressorPerRoute, ConnectionState, CorsFilter, CorsPolicy, CsrfFilter, CsrfPolicy,
    CustomRedirectTo, CustomResponse, DecompressDirection, DecompressorFilter, DecompressorLibrary,
    DescriptorLimit, DynamicBucket, DynamicBuckets, Fault, FaultAbort, FaultDelay, FaultFilter, FaultRate,
    GradientConfig, GradientGauges, GradientState, GradientWindow, GzipCompressor, GzipStrategy,
    HeaderMutationFilter, HeaderMutationStep, HeaderToMetadata, HealthCheckCache, HealthCheckFilter, Hits,
    HitsAddend, JsonRule, JsonRules, JsonToMetadata, JsonWrite, LATENCY_BINS, LocalRateLimit,
    LocalRateLimiter, LocalResponsePolicy, MatchedLimit, MetadataRule, MetadataSource, MetadataWrite, MinRtt,
    MutationLists, QueryMutation, RateLimitAction, RateLimitHeaders, RateLimitPolicy, RateVerdict,
    RedirectPolicy, ResponseDetails, ResponsePolicy, RuleSource, RuleValueType, SessionCookie, SessionState,
    SetFilterState, SetMetadata, StateValue, StatefulSession, StatefulSessionFilter, TokenBucketConfig,
    VirtualHostRateLimits, ZstdCompressor,
};
pub use http2::{Codec, Http2Keepalive, Http2Options, UpstreamProtocol};
pub use ids::{ClusterId, FilterConfigId, Fraction, RouteTableId, ScopeId, ScopeTableId, SecretId, SourceId};
pub use listener::{DrainType, Listener, TrafficDirection};
pub use listener_filter::{
    ConnectionPredicate, ListenerFilter, ListenerFilterKind, ProxyProtocolFilter, TlvRule,
};
pub use local_reply::{LocalReplyConfig, ReplyBodyFormat, ReplyMapper};
pub use match_tree::{MatchInput, MatchInputs, MatchKind, MatchPredicate, MatchTree, OnMatch};
pub use matcher::{HeaderMatcher, HeaderMatcherKind, QueryMatcher, QueryMatcherKind, StringMatcher};
pub use outlier_detection::{
    Consecutive, FailurePercentage, OutlierDetection, ResponsePredicate, SuccessRate,
};
pub use overload::{
    ActionKind, Level, LoadShedPoint, MonitorKind, OverloadAction, OverloadLevels, OverloadManager,
    Pressures, ResourceMonitor, ScaledTimer, ShedPoint, TimerMinimum, Trigger, TriggerKind,
};
pub use retry::{
    BackOff, GrpcStatusSet, RateLimitedBackOff, ResetHeader, ResetHeaderFormat, RetryConditions, RetryPolicy,
};
pub use route::{
    BodyBufferLimit, ClusterSpecifier, DirectResponse, GrpcTimeout, HostRewrite, MaxStreamDuration,
    PathMatcher, PathRewrite, PerFilterConfig, PerFilterConfigs, Redirect, RedirectPath, Route, RouteAction,
    RouteFilterFields, RouteForward, RouteMatch, WeightedBy, WeightedCluster, WeightedClusters,
};
pub use route_policies::{ClusterPolicies, InternalRedirects, MirrorPolicy, MirrorTarget, RedirectPredicate};
pub use scoped_routes::{Extract, KeyFragment, Scope, ScopeRoutes, ScopeSource, ScopeTable, ScopedRoutes};
pub use snapshot::{ListenerChange, Node, Snapshot, Update};
pub use tcp_proxy::{TcpClusterSpecifier, TcpProxy, TcpWeightedCluster};
pub use tls::{
    CipherSuite, Curve, DownstreamTls, PrivateKey, SanKind, SanMatcher, Secret, SecretSource, SessionTickets,
    SignatureScheme, SpiffeTrustDomain, TicketKeys, TlsCertificate, TlsCommon, TlsParams, TlsVersion,
    UpstreamTls, ValidationContext, ValidationSource,
};
pub use transport::{ProxyProtocolVersion, TransportMatch, UpstreamProxyProtocol, UpstreamTransport};
pub use upstream_connection::{BindConfig, BindSource, HappyEyeballs, SocketOption};
pub use virtual_host::{RequireTls, RouteConfiguration, VirtualCluster, VirtualHost};
pub use written_matcher::{
    FilterStateMatcher, MetadataMatcher, StateMatcherKind, ValueMatcher, WrittenMatcher,
};
