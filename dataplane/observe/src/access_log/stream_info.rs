//! Everything that operators and filters may read about one HTTP request or TCP connection.

use std::sync::Arc;

use millrace_base::{Metadata, ResponseFlags, Time, TlsFacts, WallTime, Written};
use millrace_config::Address;
use millrace_http::{HeaderMap, RequestHead, ResponseHead, Version};

/// `%ACCESS_LOG_TYPE%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in `envoy.data.accesslog.v3.AccessLogType`")]
pub enum AccessLogType {
    #[default]
    NotSet,
    TcpUpstreamConnected,
    TcpPeriodic,
    TcpConnectionEnd,
    DownstreamStart,
    DownstreamPeriodic,
    DownstreamEnd,
    UpstreamPoolReady,
    UpstreamPeriodic,
    UpstreamEnd,
}

impl AccessLogType {
    /// As `%ACCESS_LOG_TYPE%` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSet => "NotSet",
            Self::TcpUpstreamConnected => "TcpUpstreamConnected",
            Self::TcpPeriodic => "TcpPeriodic",
            Self::TcpConnectionEnd => "TcpConnectionEnd",
            Self::DownstreamStart => "DownstreamStart",
            Self::DownstreamPeriodic => "DownstreamPeriodic",
            Self::DownstreamEnd => "DownstreamEnd",
            Self::UpstreamPoolReady => "UpstreamPoolReady",
            Self::UpstreamPeriodic => "UpstreamPeriodic",
            Self::UpstreamEnd => "UpstreamEnd",
        }
    }
}

/// How a connection ended, as `%DOWNSTREAM_DETECTED_CLOSE_TYPE%` prints it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as printed")]
pub enum CloseType {
    #[default]
    Normal,
    LocalReset,
    RemoteReset,
}

impl CloseType {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::LocalReset => "LocalReset",
            Self::RemoteReset => "RemoteReset",
        }
    }
}

/// One endpoint that was tried.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its address.
    pub address: Address,
    /// Its host name, if it has one.
    pub name: Option<Arc<str>>,
    /// The upstream connection, if one was established.
    pub connection_id: Option<u64>,
}

/// Moments of a stream. `start` is the first byte of the request or the accepted connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Wall clock at `start`.
    pub start_wall: WallTime,
    /// `DS_RX_BEG`.
    pub start: Time,
    /// `DS_RX_END`: the last byte of the request came.
    pub downstream_rx_end: Option<Time>,
    /// `US_CX_BEG`.
    pub upstream_connect_begin: Option<Time>,
    /// `US_CX_END`.
    pub upstream_connect_end: Option<Time>,
    /// `US_HS_END`.
    pub upstream_handshake_end: Option<Time>,
    /// `US_TX_BEG`.
    pub upstream_tx_begin: Option<Time>,
    /// `US_TX_END`.
    pub upstream_tx_end: Option<Time>,
    /// `US_RX_BEG`.
    pub upstream_rx_begin: Option<Time>,
    /// `US_RX_BODY_BEG`.
    pub upstream_rx_body_begin: Option<Time>,
    /// `US_RX_END`.
    pub upstream_rx_end: Option<Time>,
    /// `DS_TX_BEG`.
    pub downstream_tx_begin: Option<Time>,
    /// `DS_TX_END`.
    pub downstream_tx_end: Option<Time>,
    /// When the connection was handed to the request by its pool.
    pub upstream_pool_ready: Option<Time>,
    /// The end of the stream: `%DURATION%`, and `DS_CX_END` for TCP.
    pub end: Option<Time>,
    /// When the line is written: `%EMIT_TIME%`. `None` takes `end`.
    pub emit: Option<Time>,
}

/// Byte counts of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes {
    /// `%BYTES_RECEIVED%`: body bytes of the request, or everything received on a TCP connection.
    pub received: u64,
    /// `%BYTES_SENT%`: body bytes of the response, or everything sent on a TCP connection.
    pub sent: u64,
    /// `%DOWNSTREAM_WIRE_BYTES_RECEIVED%`.
    pub downstream_wire_received: u64,
    /// `%DOWNSTREAM_WIRE_BYTES_SENT%`.
    pub downstream_wire_sent: u64,
    /// `%DOWNSTREAM_HEADER_BYTES_RECEIVED%`.
    pub downstream_header_received: u64,
    /// `%DOWNSTREAM_HEADER_BYTES_SENT%`.
    pub downstream_header_sent: u64,
    /// `%UPSTREAM_WIRE_BYTES_RECEIVED%`.
    pub upstream_wire_received: u64,
    /// `%UPSTREAM_WIRE_BYTES_SENT%`.
    pub upstream_wire_sent: u64,
    /// `%UPSTREAM_HEADER_BYTES_RECEIVED%`.
    pub upstream_header_received: u64,
    /// `%UPSTREAM_HEADER_BYTES_SENT%`.
    pub upstream_header_sent: u64,
}

/// Everything known about one HTTP request or TCP connection. Plain references; build it when a line or a
/// header has to be rendered.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamInfo<'a> {
    /// What kind of line this is.
    pub log_type: AccessLogType,
    /// Request as forwarded (`x-envoy-original-path` set when it was rewritten).
    pub request: Option<&'a RequestHead>,
    /// Response as sent to the client.
    pub response: Option<&'a ResponseHead>,
    /// Trailers of the response.
    pub response_trailers: Option<&'a HeaderMap>,
    /// Protocol of the downstream side; `None` for TCP.
    pub protocol: Option<Version>,
    /// Protocol of the upstream side.
    pub upstream_protocol: Option<Version>,
    /// `%RESPONSE_CODE%`; `None` prints 0.
    pub response_code: Option<u16>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub response_code_details: Option<&'a str>,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    pub connection_termination_details: Option<&'a str>,
    /// `%RESPONSE_FLAGS%`.
    pub flags: ResponseFlags,
    /// Moments.
    pub times: Times,
    /// Byte counts.
    pub bytes: Bytes,
    /// The address that the client is known by (after `x-forwarded-for`).
    pub downstream_remote: Option<&'a Address>,
    /// The peer of the socket.
    pub downstream_direct_remote: Option<&'a Address>,
    /// Where the client connected to (the original destination where it was restored).
    pub downstream_local: Option<&'a Address>,
    /// The socket's own address before anything was restored.
    pub downstream_direct_local: Option<&'a Address>,
    /// Our side of the upstream connection.
    pub upstream_local: Option<&'a Address>,
    /// The peer of the upstream connection.
    pub upstream_remote: Option<&'a Address>,
    /// The chosen endpoint's address: `%UPSTREAM_HOST%`.
    pub upstream_host: Option<&'a Address>,
    /// The chosen endpoint's host name, if it has one: `%UPSTREAM_HOST_NAME%`.
    pub upstream_host_name: Option<&'a str>,
    /// `alt_stat_name` or else the name: `%UPSTREAM_CLUSTER%`.
    pub upstream_cluster: Option<&'a str>,
    /// The name: `%UPSTREAM_CLUSTER_RAW%`.
    pub upstream_cluster_raw: Option<&'a str>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub upstream_transport_failure: Option<&'a str>,
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub downstream_transport_failure: Option<&'a str>,
    /// `%DOWNSTREAM_LOCAL_CLOSE_REASON%`.
    pub downstream_local_close_reason: Option<&'a str>,
    /// `%UPSTREAM_LOCAL_CLOSE_REASON%`.
    pub upstream_local_close_reason: Option<&'a str>,
    /// `%DOWNSTREAM_DETECTED_CLOSE_TYPE%`.
    pub downstream_close: CloseType,
    /// `%UPSTREAM_DETECTED_CLOSE_TYPE%`; absent without an upstream.
    pub upstream_close: Option<CloseType>,
    /// Endpoints tried, in order, the last one included: `%UPSTREAM_HOSTS_ATTEMPTED%`.
    pub attempted: &'a [Attempt],
    /// `%UPSTREAM_REQUEST_ATTEMPT_COUNT%`: 0 when none was made.
    pub upstream_attempts: u32,
    /// `%UPSTREAM_CONNECTION_ID%`.
    pub upstream_connection_id: Option<u64>,
    /// `%CONNECTION_ID%`.
    pub connection_id: Option<u64>,
    /// `%STREAM_ID%`.
    pub stream_id: Option<&'a str>,
    /// `%ROUTE_NAME%`.
    pub route_name: Option<&'a str>,
    /// The virtual host's name. No operator of Envoy 1.40 prints it.
    pub virtual_host_name: Option<&'a str>,
    /// `%VIRTUAL_CLUSTER_NAME%`.
    pub virtual_cluster_name: Option<&'a str>,
    /// `%FILTER_CHAIN_NAME%`.
    pub filter_chain_name: Option<&'a str>,
    /// `%LISTENER_NAME%`.
    pub listener_name: Option<&'a str>,
    /// Server name that a listener filter read in the ClientHello (none without one, as in Envoy): `%REQUESTED_SERVER_NAME%`.
    pub requested_server_name: Option<&'a str>,
    /// Dynamic metadata of the stream, or what listener filters left of a connection, and filter state.
    pub written: Written<'a>,
    /// `Route.metadata`.
    pub route_metadata: Option<&'a Metadata>,
    /// `VirtualHost.metadata`.
    pub virtual_host_metadata: Option<&'a Metadata>,
    /// What the handshake with the client told; `None` for clear text.
    pub downstream_tls: Option<&'a TlsFacts>,
    /// What the handshake with the endpoint told.
    pub upstream_tls: Option<&'a TlsFacts>,
    /// `%LOCAL_REPLY_BODY%`.
    pub local_reply_body: Option<&'a [u8]>,
    /// `%TRACE_ID%`.
    pub trace_id: Option<&'a str>,
    /// `%SPAN_ID%`.
    pub span_id: Option<&'a str>,
    /// `%HOSTNAME%`.
    pub hostname: &'a str,
    /// 128 random bits for `%UNIQUE_ID%`; the same for every line and header of a stream.
    pub unique: u128,
    /// The request is a health check (`not_health_check_filter`).
    pub health_check: bool,
    /// The request is traced (`traceable_filter`).
    pub traced: bool,
}
