//! Command operators, one variant for everything that can be asked of a request or a connection.

use super::peer::{TlsFact, TlsSide};
use super::time::TimeFormat;

/// An operator and its `:Z` truncation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// What to print.
    pub op: Op,
    /// Longest printed value, bytes.
    pub max_len: Option<usize>,
}

/// Where a header operator looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HeaderSource {
    Request,
    Response,
    ResponseTrailer,
}

/// Which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AddressSide {
    UpstreamLocal,
    UpstreamRemote,
    DownstreamLocal,
    DownstreamRemote,
    DownstreamDirectLocal,
    DownstreamDirectRemote,
}

/// Which part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AddressView {
    Full,
    /// `..._WITHOUT_PORT(N)`: with `N`, masked to that many bits and printed as a prefix.
    WithoutPort(Option<u8>),
    Port,
    /// The endpoint id of an internal address; other addresses have none.
    EndpointId,
}

/// A moment of `%COMMON_DURATION%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimePoint {
    /// `DS_RX_BEG`: the request began.
    DownstreamRxBegin,
    /// `DS_CX_BEG`: the connection was accepted (TCP).
    DownstreamConnectBegin,
    /// `DS_CX_END`: it was closed (TCP).
    DownstreamConnectEnd,
    /// `DS_RX_END`: its last byte came.
    DownstreamRxEnd,
    /// `US_CX_BEG`: the upstream connection was started.
    UpstreamConnectBegin,
    /// `US_CX_END`: it was established.
    UpstreamConnectEnd,
    /// `US_HS_END`: its TLS handshake was complete.
    UpstreamHandshakeEnd,
    /// `US_TX_BEG`: the first upstream byte was sent.
    UpstreamTxBegin,
    /// `US_TX_END`: the last one was.
    UpstreamTxEnd,
    /// `US_RX_BEG`: the first upstream byte came.
    UpstreamRxBegin,
    /// `US_RX_BODY_BEG`: the first body byte came.
    UpstreamRxBodyBegin,
    /// `US_RX_END`: the last one came.
    UpstreamRxEnd,
    /// `DS_TX_BEG`: the first downstream byte was sent.
    DownstreamTxBegin,
    /// `DS_TX_END`: the last one was.
    DownstreamTxEnd,
    /// Any other name: set by a filter, absent otherwise.
    Custom(Box<str>),
}

/// Precision of `%COMMON_DURATION%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DurationUnit {
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

/// Which moment a time operator prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TimeSource {
    Start,
    StartLocal,
    Emit,
    EmitLocal,
}

/// `%GRPC_STATUS(X)%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GrpcStatusForm {
    CamelString,
    SnakeString,
    Number,
}

/// What `%UPSTREAM_..._ATTEMPTED%` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Attempted {
    Hosts,
    HostsWithoutPort,
    HostNames,
    HostNamesWithoutPort,
    ConnectionIds,
}

/// `%REQUESTED_SERVER_NAME(X)%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ServerNameSource {
    SniOnly,
    SniFirst,
    HostFirst,
}

/// `%PATH(X:Y)%`, second argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PathSource {
    Original,
    Path,
    OriginalOrPath,
}

/// Whose metadata `%METADATA(...)%` prints, beside dynamic ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MetadataOwner {
    Route,
    VirtualHost,
}

/// What `%FILTER_STATE(key:X)%` prints of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateView {
    /// `PLAIN`.
    Plain,
    /// `TYPED`, the default: its protobuf form as JSON.
    Typed,
    /// `FIELD:name`.
    Field(Box<str>),
}

/// What an operator prints.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Op {
    /// `REQ`, `RESP`, `TRAILER` and their long names: `(name?alternative)`, both in lower case.
    Header {
        source: HeaderSource,
        name: Box<[u8]>,
        alternative: Option<Box<[u8]>>,
    },
    /// `START_TIME` and its kin; `None` is ISO 8601 with milliseconds.
    Time {
        source: TimeSource,
        format: Option<TimeFormat>,
    },
    RequestHeadersBytes,
    ResponseHeadersBytes,
    ResponseTrailersBytes,
    BytesReceived,
    /// `BYTES_RETRANSMITTED`, `PACKETS_RETRANSMITTED`, `DOWNSTREAM_CX_RTT`: always 0 without QUIC.
    Zero,
    BytesSent,
    UpstreamWireBytesSent,
    UpstreamWireBytesReceived,
    /// Also `UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT`: HTTP/1 does not compress. Likewise below.
    UpstreamHeaderBytesSent,
    UpstreamHeaderBytesReceived,
    DownstreamWireBytesSent,
    DownstreamWireBytesReceived,
    DownstreamHeaderBytesSent,
    DownstreamHeaderBytesReceived,
    Protocol,
    UpstreamProtocol,
    ResponseCode,
    ResponseCodeDetails {
        spaces: bool,
    },
    ResponseFlags,
    ResponseFlagsLong,
    ConnectionTerminationDetails,
    Duration,
    RequestDuration,
    RequestTxDuration,
    ResponseDuration,
    ResponseTxDuration,
    UpstreamConnectionPoolReadyDuration,
    CommonDuration {
        start: TimePoint,
        end: TimePoint,
        unit: DurationUnit,
    },
    UpstreamHost,
    UpstreamHostName {
        port: bool,
    },
    /// `UPSTREAM_HOSTS_ATTEMPTED` and its kin.
    Attempted(Attempted),
    UpstreamCluster,
    UpstreamClusterRaw,
    Address {
        side: AddressSide,
        view: AddressView,
    },
    UpstreamTransportFailureReason,
    DownstreamTransportFailureReason,
    DownstreamLocalCloseReason,
    UpstreamDetectedCloseType,
    UpstreamLocalCloseReason,
    DownstreamDetectedCloseType,
    UpstreamRequestAttemptCount,
    UpstreamConnectionId,
    ConnectionId,
    StreamId,
    RouteName,
    VirtualClusterName,
    FilterChainName,
    ListenerName,
    AccessLogType,
    Hostname,
    /// `ENVIRONMENT(X)`, already looked up.
    Constant(Option<Box<str>>),
    RequestedServerName(ServerNameSource),
    GrpcStatus(GrpcStatusForm),
    LocalReplyBody,
    Path {
        with_query: bool,
        source: PathSource,
    },
    QueryParam(Box<[u8]>),
    QueryParams,
    /// What the handshake of a connection told.
    Tls {
        side: TlsSide,
        fact: TlsFact,
    },
    TraceId,
    SpanId,
    UniqueId,
    /// `CUSTOM_FLAGS`: no filter sets one.
    Nothing,
    /// Dynamic metadata: texts as they are, everything else, and with an empty path all of a namespace, as JSON.
    DynamicMetadata {
        namespace: Box<str>,
        path: Box<[Box<str>]>,
    },
    /// Metadata that the configuration has itself.
    ConfiguredMetadata {
        of: MetadataOwner,
        namespace: Box<str>,
        path: Box<[Box<str>]>,
    },
    /// `FILTER_STATE`: an object of the filter state.
    FilterState {
        key: Box<str>,
        view: StateView,
    },
    /// Known to Envoy and without a value here: fingerprints of ClientHellos, other metadata, filter state of upstream
    /// connections. Printed as missing.
    Absent(Box<str>),
}
