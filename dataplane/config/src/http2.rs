//! HTTP/2 as listeners and clusters configure it (`core.v3.Http2ProtocolOptions`), and who speaks which version.

use std::time::Duration;

/// `HttpConnectionManager.codec_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// `AUTO`: HTTP/2 where the connection begins with its preface (or ALPN says so), else HTTP/1.1.
    #[default]
    Auto,
    /// `HTTP1`.
    Http1,
    /// `HTTP2`: nothing but prior knowledge.
    Http2,
}

/// Which version a cluster's endpoints are spoken to in (`HttpProtocolOptions.upstream_protocol_options`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// `explicit_http_config.http_protocol_options`.
    #[default]
    Http1,
    /// `explicit_http_config.http2_protocol_options`, or the deprecated field of the cluster.
    Http2,
    /// `use_downstream_protocol_config`: that of the request, whether or not options of it are given.
    UseDownstream,
    /// `auto_config`: what ALPN agreed upon, HTTP/1.1 where that is nothing.
    Auto,
}

/// `connection_keepalive`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Http2Keepalive {
    /// `interval`: between PINGs; `None` without.
    pub interval: Option<Duration>,
    /// `timeout`: the connection is closed when no answer came by then.
    pub timeout: Duration,
    /// `interval_jitter`, percent of `interval` added at most; default 15.
    pub jitter_percent: f64,
    /// `connection_idle_interval`: a connection that was idle for so long is pinged before it is used again.
    pub idle_interval: Option<Duration>,
}

/// `http2_protocol_options`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Http2Options {
    /// `max_concurrent_streams`.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size`, bytes.
    pub initial_stream_window: u32,
    /// `initial_connection_window_size`, bytes.
    pub initial_connection_window: u32,
    /// `hpack_table_size`, bytes.
    pub hpack_table_size: u32,
    /// `allow_connect`.
    pub allow_connect: bool,
    /// `max_outbound_frames`: frames of every kind queued towards a peer that does not read.
    pub max_outbound_frames: u32,
    /// `max_outbound_control_frames`.
    pub max_outbound_control_frames: u32,
    /// `max_consecutive_inbound_frames_with_empty_payload`.
    pub max_consecutive_empty_frames: u32,
    /// `max_inbound_priority_frames_per_stream`.
    pub max_priority_frames_per_stream: u32,
    /// `max_inbound_window_update_frames_per_data_frame_sent`.
    pub max_window_updates_per_data: u32,
    /// `connection_keepalive`.
    pub keepalive: Option<Http2Keepalive>,
}

impl Http2Options {
    /// Of a listener. Streams and windows are those that Envoy recommends for the edge, since it does not call its own
    /// defaults safe (1024 streams of 16 MiB, 24 MiB in all).
    pub const DOWNSTREAM: Self = Self {
        max_concurrent_streams: 100,
        initial_stream_window: 64 * 1024,
        initial_connection_window: 1024 * 1024,
        hpack_table_size: 4096,
        allow_connect: false,
        max_outbound_frames: 10_000,
        max_outbound_control_frames: 1_000,
        max_consecutive_empty_frames: 1,
        max_priority_frames_per_stream: 100,
        max_window_updates_per_data: 10,
        keepalive: None,
    };
    /// Of a cluster. As for listeners, but for the streams, which the endpoint limits as well.
    pub const UPSTREAM: Self = Self { max_concurrent_streams: 1024, ..Self::DOWNSTREAM };
}
