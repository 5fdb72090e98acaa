//! Kinds of scopes and how their names begin.

use super::metric::Table;
use super::tables;

/// What a scope counts for. Decides its table and the prefix of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeKind {
    /// Names without a common prefix; `name` is empty.
    Process,
    /// `server.`; `name` is empty.
    Server,
    /// `listener_manager.`; `name` is empty.
    ListenerManager,
    /// `cluster_manager.`; `name` is empty.
    ClusterManager,
    /// `runtime.`; `name` is empty.
    Runtime,
    /// `filesystem.`; `name` is empty.
    Filesystem,
    /// `dns.cares.`; `name` is empty.
    Dns,
    /// `http1.`; `name` is empty.
    Http1,
    /// `listener.<name>.`: `name` is the address with `:` as `_`, or `stat_prefix`.
    Listener,
    /// `http.<name>.`: `name` is the connection manager's `stat_prefix`.
    Http,
    /// `listener.<name>.`: `name` is `<address>.http.<stat_prefix>`.
    HttpListener,
    /// `tcp.<name>.`: `name` is the TCP proxy's `stat_prefix`.
    Tcp,
    /// `cluster.<name>.`: `name` is the cluster's `alt_stat_name` or name with `:` as `_`.
    Cluster,
    /// `cluster.<name>.`: `name` is `<cluster>.grpc` or `<cluster>.grpc-web`, for one method followed by
    /// `.<service>.<method>`. Made by shards; see [`super::ShardStats::grpc_scope`].
    Grpc,
    /// `vhost.<name>.`: `name` is `<virtual host>.route.<stat_prefix>` or `<virtual host>.vcluster.<name>`.
    Route,
    /// `cluster_manager.cds.`; `name` is empty.
    Cds,
    /// `listener_manager.lds.`; `name` is empty.
    Lds,
    /// `http.<name>.`: `name` is `<stat_prefix>.rds.<route configuration>`.
    Rds,
    /// `http.<name>.`: `name` is `<stat_prefix>.rds.vhds.<route configuration>`.
    Vhds,
    /// `http.<name>.`: `name` is `<stat_prefix>.scoped_rds.<scoped routes>`.
    ScopedRds,
    /// `sds.<name>.`: `name` is the secret's, with `:` as `_`.
    Sds,
    /// `control_plane.`; `name` is empty.
    ControlPlane,
    /// `load_reporter.`; `name` is empty.
    LoadReporter,
    /// `hds_delegate.`; `name` is empty. There with an `hds_config`.
    HdsDelegate,
    /// `http2.`; `name` is empty. There once a listener can speak it.
    Http2,
    /// `listener.<name>.`: `name` is `<address>.ssl`. Only of listeners with TLS, as the next one.
    ListenerSsl,
    /// `listener.<name>.`: `name` is `<address>.server_ssl_socket_factory`.
    ListenerSecrets,
    /// `cluster.<name>.`: `name` is `<cluster>.ssl`. Only of clusters with TLS, as the next one.
    ClusterSsl,
    /// `cluster.<name>.`: `name` is `<cluster>.client_ssl_socket_factory`.
    ClusterSecrets,
    /// `cluster.<name>.`: `name` is the cluster's. See [`super::Registry::cluster_scope`], as for the next one.
    ClusterBudgets,
    /// `cluster.<name>.`: `name` is the cluster's.
    ClusterSizes,
    /// `cluster.<name>.`: `name` is `<cluster>.zone.<from>.<to>`. See [`super::ShardStats::zone_scope`].
    ClusterZone,
    /// `tls_inspector.`; `name` is empty. There once a listener has the filter, as the next two.
    TlsInspector,
    /// `http_inspector.`; `name` is empty.
    HttpInspector,
    /// `proxy_proto.`; `name` is the filter's `stat_prefix` or empty.
    ProxyProto,
    /// `http.<name>.`: `name` is `<stat_prefix>.fault`. There once a connection manager has the filter, as the next ones.
    HttpFault,
    /// `http.<name>.`: `name` is `<stat_prefix>.cors`.
    HttpCors,
    /// `http.<name>.`: `name` is `<stat_prefix>.csrf`.
    HttpCsrf,
    /// `http.<name>.`: `name` is `<stat_prefix>.health_check`.
    HttpHealthCheck,
    /// `name` is `http.<stat_prefix>` of filters, empty for routes.
    CustomResponse,
    /// `http.<name>.`: `name` is `<stat_prefix>.stateful_session.<the filter's stat_prefix>`.
    HttpStatefulSession,
    /// `<name>.`: `name` is `<stat_prefix>.http_local_rate_limit` of the filter or route.
    HttpLocalRateLimit,
    /// `http.<name>.`: `name` is `<stat_prefix>.compressor.<library's name>.<library>`.
    HttpCompressor,
    /// `http.<name>.`: the same with `.request` or `.response` behind it.
    HttpCompressorDirection,
    /// `http.<name>.`: `name` is `<stat_prefix>.decompressor.<library's name>.<library>.request`, or `response`.
    HttpDecompressor,
    /// `http.<name>.`: `name` is `<stat_prefix>.decompressor.<library's name>.<library>.decompressor_library`.
    HttpDecompressorLibrary,
    /// `<name>.`: `name` is `<stat_prefix>.http_bandwidth_limit` of the filter or route.
    HttpBandwidthLimit,
    /// `http.<name>.`: `name` is `<stat_prefix>.admission_control`.
    HttpAdmissionControl,
    /// `http.<name>.`: `name` is `<stat_prefix>.adaptive_concurrency.gradient_controller`.
    HttpGradientController,
    /// `http_filter_name.<name>.`: `name` is the `stat_prefix` of a `header_to_metadata` filter.
    HeaderToMetadata,
    /// `json_to_metadata.<name>.`: `name` is `rq` or `resp`.
    JsonToMetadata,
    /// `local_rate_limit.<name>.`: `name` is the network filter's `stat_prefix`.
    LocalRateLimit,
    /// `connection_limit.<name>.`: `name` is the filter's `stat_prefix`.
    ConnectionLimit,
    /// `dns_cache.<name>.`: `name` is the cache's.
    DnsCache,
    /// `overload.<name>.`: `name` is a resource monitor's. There once an overload manager has it, as the next two.
    OverloadMonitor,
    /// `overload.<name>.`: `name` is an overload action's.
    OverloadAction,
    /// `overload.<name>.`: `name` is a load shed point's.
    LoadShedPoint,
    /// One endpoint; nameless and never part of `/stats`. See [`super::Registry::host_scope`].
    Host,
}

impl ScopeKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Process,
        Self::Server,
        Self::ListenerManager,
        Self::ClusterManager,
        Self::Runtime,
        Self::Filesystem,
        Self::Dns,
        Self::Http1,
        Self::Http2,
        Self::Listener,
        Self::Http,
        Self::HttpListener,
        Self::Tcp,
        Self::Cluster,
        Self::Grpc,
        Self::Route,
        Self::Cds,
        Self::Lds,
        Self::Rds,
        Self::Vhds,
        Self::ScopedRds,
        Self::Sds,
        Self::ControlPlane,
        Self::LoadReporter,
        Self::HdsDelegate,
        Self::ListenerSsl,
        Self::ListenerSecrets,
        Self::ClusterSsl,
        Self::ClusterSecrets,
        Self::ClusterBudgets,
        Self::ClusterSizes,
        Self::ClusterZone,
        Self::TlsInspector,
        Self::HttpInspector,
        Self::ProxyProto,
        Self::HttpFault,
        Self::HttpCors,
        Self::HttpCsrf,
        Self::HttpHealthCheck,
        Self::CustomResponse,
        Self::HttpStatefulSession,
        Self::HttpLocalRateLimit,
        Self::HttpCompressor,
        Self::HttpCompressorDirection,
        Self::HttpDecompressor,
        Self::HttpDecompressorLibrary,
        Self::HttpBandwidthLimit,
        Self::HttpAdmissionControl,
        Self::HttpGradientController,
        Self::HeaderToMetadata,
        Self::JsonToMetadata,
        Self::LocalRateLimit,
        Self::ConnectionLimit,
        Self::DnsCache,
        Self::OverloadMonitor,
        Self::OverloadAction,
        Self::LoadShedPoint,
        Self::Host,
    ];

    /// What scopes of this kind count.
    pub fn table(self) -> &'static Table {
        match self {
            Self::Process => &tables::process::TABLE,
            Self::Server => &tables::server::TABLE,
            Self::ListenerManager => &tables::listener_manager::TABLE,
            Self::ClusterManager => &tables::cluster_manager::TABLE,
            Self::Runtime => &tables::runtime::TABLE,
            Self::Filesystem => &tables::filesystem::TABLE,
            Self::Dns => &tables::dns::TABLE,
            Self::Http1 => &tables::http1::TABLE,
            Self::Http2 => &tables::http2::TABLE,
            Self::Listener => &tables::listener::TABLE,
            Self::Http => &tables::http::TABLE,
            Self::HttpListener => &tables::http_listener::TABLE,
            Self::Tcp => &tables::tcp::TABLE,
            Self::Cluster => &tables::cluster::TABLE,
            Self::Grpc => &tables::grpc::TABLE,
            Self::Route => &tables::route::TABLE,
            Self::Cds => &tables::cds::TABLE,
            Self::Lds => &tables::lds::TABLE,
            Self::Rds => &tables::rds::TABLE,
            Self::Vhds => &tables::vhds::TABLE,
            Self::ScopedRds => &tables::scoped_rds::TABLE,
            Self::Sds => &tables::sds::TABLE,
            Self::ControlPlane => &tables::control_plane::TABLE,
            Self::LoadReporter => &tables::load_reporter::TABLE,
            Self::HdsDelegate => &tables::hds_delegate::TABLE,
            Self::ListenerSsl | Self::ClusterSsl => &tables::ssl::TABLE,
            Self::ListenerSecrets | Self::ClusterSecrets => &tables::ssl_secrets::TABLE,
            Self::ClusterBudgets => &tables::cluster_budgets::TABLE,
            Self::ClusterSizes => &tables::cluster_sizes::TABLE,
            Self::ClusterZone => &tables::cluster_zone::TABLE,
            Self::TlsInspector => &tables::tls_inspector::TABLE,
            Self::HttpInspector => &tables::http_inspector::TABLE,
            Self::ProxyProto => &tables::proxy_proto::TABLE,
            Self::HttpFault => &tables::fault::TABLE,
            Self::HttpCors => &tables::cors::TABLE,
            Self::HttpCsrf => &tables::csrf::TABLE,
            Self::HttpHealthCheck => &tables::health_check::TABLE,
            Self::CustomResponse => &tables::custom_response::TABLE,
            Self::HttpStatefulSession => &tables::stateful_session::TABLE,
            Self::HttpLocalRateLimit => &tables::http_local_rate_limit::TABLE,
            Self::HttpCompressor => &tables::compressor::TABLE,
            Self::HttpCompressorDirection => &tables::compressor_direction::TABLE,
            Self::HttpDecompressor => &tables::decompressor::TABLE,
            Self::HttpDecompressorLibrary => &tables::decompressor_library::TABLE,
            Self::HttpBandwidthLimit => &tables::bandwidth_limit::TABLE,
            Self::HttpAdmissionControl => &tables::admission_control::TABLE,
            Self::HttpGradientController => &tables::gradient_controller::TABLE,
            Self::HeaderToMetadata => &tables::header_to_metadata::TABLE,
            Self::JsonToMetadata => &tables::json_to_metadata::TABLE,
            Self::LocalRateLimit => &tables::local_rate_limit::TABLE,
            Self::ConnectionLimit => &tables::connection_limit::TABLE,
            Self::DnsCache => &tables::dns_cache::TABLE,
            Self::OverloadMonitor => &tables::overload_monitor::TABLE,
            Self::OverloadAction => &tables::overload_action::TABLE,
            Self::LoadShedPoint => &tables::load_shed_point::TABLE,
            Self::Host => &tables::host::TABLE,
        }
    }

    /// How names of this kind begin, before the scope's own name.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Process
            | Self::Host
            | Self::CustomResponse
            | Self::HttpLocalRateLimit
            | Self::HttpBandwidthLimit => "",
            Self::HeaderToMetadata => "http_filter_name",
            Self::JsonToMetadata => "json_to_metadata",
            Self::LocalRateLimit => "local_rate_limit",
            Self::ConnectionLimit => "connection_limit",
            Self::DnsCache => "dns_cache",
            Self::OverloadMonitor | Self::OverloadAction | Self::LoadShedPoint => "overload",
            Self::Server => "server",
            Self::ListenerManager => "listener_manager",
            Self::ClusterManager => "cluster_manager",
            Self::Runtime => "runtime",
            Self::Filesystem => "filesystem",
            Self::Dns => "dns.cares",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Listener | Self::HttpListener | Self::ListenerSsl | Self::ListenerSecrets => "listener",
            Self::Http
            | Self::Rds
            | Self::Vhds
            | Self::ScopedRds
            | Self::HttpFault
            | Self::HttpCors
            | Self::HttpCsrf
            | Self::HttpHealthCheck
            | Self::HttpStatefulSession
            | Self::HttpCompressor
            | Self::HttpCompressorDirection
            | Self::HttpDecompressor
            | Self::HttpDecompressorLibrary
            | Self::HttpAdmissionControl
            | Self::HttpGradientController => "http",
            Self::Cds => "cluster_manager.cds",
            Self::Lds => "listener_manager.lds",
            Self::Sds => "sds",
            Self::ControlPlane => "control_plane",
            Self::LoadReporter => "load_reporter",
            Self::HdsDelegate => "hds_delegate",
            Self::Tcp => "tcp",
            Self::Cluster
            | Self::Grpc
            | Self::ClusterSsl
            | Self::ClusterSecrets
            | Self::ClusterBudgets
            | Self::ClusterSizes
            | Self::ClusterZone => "cluster",
            Self::TlsInspector => "tls_inspector",
            Self::HttpInspector => "http_inspector",
            Self::ProxyProto => "proxy_proto",
            Self::Route => "vhost",
        }
    }
}
