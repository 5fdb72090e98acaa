//! What happened on a connection since somebody last asked, for Envoy's `http2.*` statistics.

/// Counters since the last [`super::Connection::take_counts`], in Envoy's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// RST_STREAM frames received.
    pub rx_reset: u32,
    /// RST_STREAM frames sent.
    pub tx_reset: u32,
    /// Messages that were malformed (RFC 9113 section 8.1.1).
    pub rx_messaging_error: u32,
    /// Field blocks for a stream that is gone.
    pub headers_cb_no_stream: u32,
    /// Trailer sections received.
    pub trailers: u32,
    /// Fields left out because of a `_` in their name.
    pub dropped_headers_with_underscores: u32,
    /// Requests refused because of a `_` in a name.
    pub requests_rejected_with_underscores_in_headers: u32,
    /// Heads or trailers beyond the limits.
    pub header_overflow: u32,
    /// Connections ended for frames without content.
    pub inbound_empty_frames_flood: u32,
    /// Connections ended for PRIORITY frames.
    pub inbound_priority_frames_flood: u32,
    /// Connections ended for WINDOW_UPDATE frames.
    pub inbound_window_update_frames_flood: u32,
    /// Connections ended for control frames that the peer did not read.
    pub outbound_control_flood: u32,
    /// Connections ended for SETTINGS and PING frames.
    pub inbound_control_flood: u32,
    /// Connections ended for CONTINUATION frames.
    pub continuation_flood: u32,
    /// Connections ended for streams that ended early.
    pub reset_flood: u32,
    /// Connections ended for frames without effect.
    pub glitch_flood: u32,
    /// Connections ended for any other error of the peer.
    pub connection_errors: u32,
    /// GOAWAY frames sent.
    pub goaway_sent: u32,
    /// Streams refused with REFUSED_STREAM because too many were open.
    pub refused_streams: u32,
}

impl Counts {
    /// True when nothing happened.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}
