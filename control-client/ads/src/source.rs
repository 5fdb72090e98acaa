//! Where configuration comes from (`core.v3.ConfigSource`, `ApiConfigSource`), resolved so far that a transport needs
//! nothing else.

use std::path::PathBuf;
use std::time::Duration;

/// `core.v3.ConfigSource`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::large_enum_variant, reason = "few of them, on the control thread")]
pub enum ConfigSource {
    /// `ads: {}`: the stream of `dynamic_resources.ads_config`.
    Ads,
    /// `self: {}`: the source of the resource that holds the reference.
    SameAsParent,
    /// `api_config_source` with `GRPC` or `DELTA_GRPC` (or their `AGGREGATED_` forms).
    Grpc(GrpcSource),
    /// `api_config_source` with `REST`.
    Rest(RestSource),
    /// `path_config_source` or `path`.
    Path(PathSource),
}

/// Which of the two protocols a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// A gRPC control plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcSource {
    /// `api_type`.
    pub variant: Variant,
    /// `grpc_services`: the primary, and the one to fail over to.
    pub services: Vec<GrpcService>,
    /// `set_node_on_first_message_only`.
    pub set_node_on_first_message_only: bool,
    /// `rate_limit_settings`: tokens, and tokens a second in thousandths.
    pub rate_limit: Option<(u32, u64)>,
}

/// `core.v3.GrpcService`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcService {
    /// Whom to talk to.
    pub target: Upstream,
    /// `initial_metadata`: header name in lower case and value.
    pub initial_metadata: Vec<(String, String)>,
    /// `call_credentials.from_plugin` `file_based_metadata`.
    pub token_files: Vec<TokenFile>,
    /// `:authority`; the first address when empty.
    pub authority: String,
    /// Largest message, bytes (`grpc.max_receive_message_length`); `None` for the default of 64 MiB.
    pub message_bytes_max: Option<usize>,
}

/// `envoy.grpc_credentials.file_based_metadata`: a header whose value is read anew for every stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenFile {
    /// The file.
    pub path: PathBuf,
    /// `header_key`, default `authorization`.
    pub header: String,
    /// `header_prefix`.
    pub prefix: String,
}

/// A REST control plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RestSource {
    /// `cluster_names`, the first of which is asked.
    pub target: Upstream,
    /// `:authority`; the cluster's name, as Envoy sends it.
    pub authority: String,
    /// `refresh_delay`.
    pub refresh_delay: Duration,
    /// `request_timeout`, default 1 s.
    pub request_timeout: Duration,
}

/// A file that holds a `DiscoveryResponse` as JSON, YAML or protobuf.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathSource {
    /// The file.
    pub path: PathBuf,
    /// `watched_directory.path`: a move in it reloads the file; otherwise a move onto the file itself does.
    pub watched_directory: Option<PathBuf>,
}

/// How a control plane is reached: a static cluster, or the target of a `google_grpc` service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Cluster name or target URI, for messages.
    pub name: String,
    /// In the order in which they are tried; a host name is resolved at every attempt.
    pub endpoints: Vec<Endpoint>,
    /// `connect_timeout`, default 5 s.
    pub connect_timeout: Duration,
    /// HTTP/2 PING interval and timeout (`connection_keepalive`, `grpc.keepalive_time_ms`).
    pub keepalive: Option<(Duration, Duration)>,
    /// `upstream_connection_options.tcp_keepalive`: probes, time and interval in seconds.
    pub tcp_keepalive: Option<(Option<u32>, Option<u32>, Option<u32>)>,
    /// `transport_socket`; `None` for clear text.
    pub tls: Option<Tls>,
}

/// One address of a control plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Host name or IP address, and port.
    Inet(String, u16),
    /// Path of a UNIX-domain socket; a leading `@` names an abstract one.
    Unix(PathBuf),
}

/// `UpstreamTlsContext` of a control plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Tls {
    /// `sni`.
    pub sni: String,
    /// `trusted_ca`; `None` accepts any certificate, as Envoy does without a validation context.
    pub trusted_ca: Option<DataSource>,
    /// True for the system's roots (`google_grpc` without `root_certs`).
    pub system_roots: bool,
    /// `match_typed_subject_alt_names`: any of them suffices; empty checks no name.
    pub san_matchers: Vec<SanMatcher>,
    /// Check the certificate against the host name of the target (`google_grpc`).
    pub verify_host: bool,
    /// Certificate chain and private key.
    pub identity: Option<(DataSource, DataSource)>,
    /// Files of SDS that hold the identity and the trusted authority; watched, and read for every connection.
    pub identity_sds: Option<(PathSource, String)>,
    /// As `identity_sds`.
    pub validation_sds: Option<(PathSource, String)>,
}

/// `core.v3.DataSource`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum DataSource {
    /// `inline_bytes`, `inline_string` and `environment_variable`.
    Inline(Vec<u8>),
    /// `filename`, read for every connection.
    File(PathBuf),
}

impl std::fmt::Debug for DataSource {
    /// Keys must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// `SubjectAltNameMatcher`, by exact value, prefix or suffix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SanMatcher {
    /// Which names.
    pub kind: SanKind,
    /// How.
    pub pattern: SanPattern,
}

/// `SanType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SanKind {
    Dns,
    Uri,
    Email,
    IpAddress,
}

/// `StringMatcher`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SanPattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    /// RE2 syntax; must match the whole name.
    Regex(String),
}
