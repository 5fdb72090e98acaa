//! `tcp.<stat_prefix>.`: one TCP proxy.

use super::metrics;

metrics! {
    values {
        DOWNSTREAM_CX_DRAIN_CLOSE = counter "downstream_cx_drain_close", "";
        DOWNSTREAM_CX_NO_ROUTE = counter "downstream_cx_no_route", "";
        DOWNSTREAM_CX_OVERLOAD_CLOSE = counter "downstream_cx_overload_close", "";
        DOWNSTREAM_CX_RX_BYTES_BUFFERED = gauge "downstream_cx_rx_bytes_buffered", "";
        DOWNSTREAM_CX_RX_BYTES_TOTAL = counter "downstream_cx_rx_bytes_total", "";
        DOWNSTREAM_CX_TOTAL = counter "downstream_cx_total", "";
        DOWNSTREAM_CX_TX_BYTES_BUFFERED = gauge "downstream_cx_tx_bytes_buffered", "";
        DOWNSTREAM_CX_TX_BYTES_TOTAL = counter "downstream_cx_tx_bytes_total", "";
        DOWNSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL = counter "downstream_flow_control_paused_reading_total", "";
        DOWNSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL = counter "downstream_flow_control_resumed_reading_total", "";
        EARLY_DATA_RECEIVED_COUNT_TOTAL = counter "early_data_received_count_total", "";
        IDLE_TIMEOUT = counter "idle_timeout", "";
        MAX_DOWNSTREAM_CONNECTION_DURATION = counter "max_downstream_connection_duration", "";
        ROUTE_DELAYED_TOTAL = counter "route_delayed_total", "";
        UPSTREAM_FLUSH_ACTIVE = gauge "upstream_flush_active", "";
        UPSTREAM_FLUSH_TOTAL = counter "upstream_flush_total", "";
    }
    histograms {
    }
}
