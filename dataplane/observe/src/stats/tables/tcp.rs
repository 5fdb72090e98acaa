//! `tcp.<stat_prefix>.`: one TCP proxy.

use super::metrics;

metrics! {
    values {
        DOWNSTREAM_CX_DRAIN_CLOSE = counter "downstream_cx_drain_close", "Connections closed for draining.";
        DOWNSTREAM_CX_NO_ROUTE = counter "downstream_cx_no_route", "Connections without a cluster to go to.";
        DOWNSTREAM_CX_OVERLOAD_CLOSE = counter "downstream_cx_overload_close", "Connections closed by overload.";
        DOWNSTREAM_CX_RX_BYTES_BUFFERED = gauge "downstream_cx_rx_bytes_buffered", "Received bytes that wait.";
        DOWNSTREAM_CX_RX_BYTES_TOTAL = counter "downstream_cx_rx_bytes_total", "Bytes received.";
        DOWNSTREAM_CX_TOTAL = counter "downstream_cx_total", "Connections accepted.";
        DOWNSTREAM_CX_TX_BYTES_BUFFERED = gauge "downstream_cx_tx_bytes_buffered", "Bytes that wait to be sent.";
        DOWNSTREAM_CX_TX_BYTES_TOTAL = counter "downstream_cx_tx_bytes_total", "Bytes sent.";
        DOWNSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL = counter "downstream_flow_control_paused_reading_total", "Times reading from a client was paused.";
        DOWNSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL = counter "downstream_flow_control_resumed_reading_total", "Times reading from a client was resumed.";
        EARLY_DATA_RECEIVED_COUNT_TOTAL = counter "early_data_received_count_total", "Connections that sent data before the upstream was there.";
        IDLE_TIMEOUT = counter "idle_timeout", "Connections closed for idleness.";
        MAX_DOWNSTREAM_CONNECTION_DURATION = counter "max_downstream_connection_duration", "Connections closed at their largest age.";
        ROUTE_DELAYED_TOTAL = counter "route_delayed_total", "Connections whose route waited.";
        UPSTREAM_FLUSH_ACTIVE = gauge "upstream_flush_active", "Upstream connections that flush after the client left.";
        UPSTREAM_FLUSH_TOTAL = counter "upstream_flush_total", "Upstream connections that flushed after the client left.";
    }
    histograms {
    }
}
