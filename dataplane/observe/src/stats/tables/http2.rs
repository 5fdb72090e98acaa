//! `http2.`: the HTTP/2 codec of the downstream side.

use super::metrics;

metrics! {
    values {
        COOKIES_TOTAL_BYTES_TOO_LARGE = counter "cookies_total_bytes_too_large", "Heads refused for the size of their cookies.";
        DEFERRED_STREAM_CLOSE = counter "deferred_stream_close", "Streams closed with bytes still queued.";
        DROPPED_HEADERS_WITH_UNDERSCORES = counter "dropped_headers_with_underscores", "Header fields dropped for an underscore in their name.";
        GOAWAY_SENT = counter "goaway_sent", "GOAWAY frames sent.";
        HEADER_LIST_SIZE_TOO_LARGE = counter "header_list_size_too_large", "Heads refused for the number of bytes that the peer accepts.";
        HEADER_OVERFLOW = counter "header_overflow", "Connections closed, or streams reset, for a head above its limits.";
        HEADERS_CB_NO_STREAM = counter "headers_cb_no_stream", "Heads of streams that were over.";
        INBOUND_EMPTY_FRAMES_FLOOD = counter "inbound_empty_frames_flood", "Connections closed for frames without payload.";
        INBOUND_PRIORITY_FRAMES_FLOOD = counter "inbound_priority_frames_flood", "Connections closed for PRIORITY frames.";
        INBOUND_WINDOW_UPDATE_FRAMES_FLOOD = counter "inbound_window_update_frames_flood", "Connections closed for WINDOW_UPDATE frames.";
        KEEPALIVE_TIMEOUT = counter "keepalive_timeout", "Connections closed because a PING was not answered.";
        METADATA_EMPTY_FRAMES = counter "metadata_empty_frames", "METADATA frames without an entry.";
        OUTBOUND_CONTROL_FLOOD = counter "outbound_control_flood", "Connections closed for queued control frames.";
        OUTBOUND_CONTROL_FRAMES_ACTIVE = gauge "outbound_control_frames_active", "Control frames queued now.";
        OUTBOUND_FLOOD = counter "outbound_flood", "Connections closed for queued frames.";
        OUTBOUND_FRAMES_ACTIVE = gauge "outbound_frames_active", "Frames queued now.";
        PENDING_SEND_BYTES = gauge "pending_send_bytes", "Bytes of bodies that wait for window.";
        REQUESTS_REJECTED_WITH_UNDERSCORES_IN_HEADERS = counter "requests_rejected_with_underscores_in_headers", "Requests rejected for an underscore in a name.";
        RX_MESSAGING_ERROR = counter "rx_messaging_error", "Invalid messages received.";
        RX_RESET = counter "rx_reset", "RST_STREAM frames received.";
        STREAM_REFUSED_ERRORS = counter "stream_refused_errors", "Streams that the peer refused.";
        STREAMS_ACTIVE = gauge "streams_active", "Open streams.";
        TRAILERS = counter "trailers", "Trailers received.";
        TX_FLUSH_TIMEOUT = counter "tx_flush_timeout", "Streams reset because the peer took nothing for too long.";
        TX_RESET = counter "tx_reset", "RST_STREAM frames sent.";
    }
    histograms {
    }
}
