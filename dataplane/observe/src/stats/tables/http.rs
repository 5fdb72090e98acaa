//! `http.<stat_prefix>.`: one HTTP connection manager and its router.

use super::metrics;

metrics! {
    values {
        DOWNSTREAM_CX_ACTIVE = gauge "downstream_cx_active", "";
        DOWNSTREAM_CX_DELAYED_CLOSE_TIMEOUT = counter "downstream_cx_delayed_close_timeout", "";
        DOWNSTREAM_CX_DESTROY = counter "downstream_cx_destroy", "";
        DOWNSTREAM_CX_DESTROY_ACTIVE_RQ = counter "downstream_cx_destroy_active_rq", "";
        DOWNSTREAM_CX_DESTROY_LOCAL = counter "downstream_cx_destroy_local", "";
        DOWNSTREAM_CX_DESTROY_LOCAL_ACTIVE_RQ = counter "downstream_cx_destroy_local_active_rq", "";
        DOWNSTREAM_CX_DESTROY_REMOTE = counter "downstream_cx_destroy_remote", "";
        DOWNSTREAM_CX_DESTROY_REMOTE_ACTIVE_RQ = counter "downstream_cx_destroy_remote_active_rq", "";
        DOWNSTREAM_CX_DRAIN_CLOSE = counter "downstream_cx_drain_close", "";
        DOWNSTREAM_CX_HTTP1_ACTIVE = gauge "downstream_cx_http1_active", "";
        DOWNSTREAM_CX_HTTP1_SOFT_DRAIN = gauge "downstream_cx_http1_soft_drain", "";
        DOWNSTREAM_CX_HTTP1_TOTAL = counter "downstream_cx_http1_total", "";
        DOWNSTREAM_CX_HTTP2_ACTIVE = gauge "downstream_cx_http2_active", "";
        DOWNSTREAM_CX_HTTP2_TOTAL = counter "downstream_cx_http2_total", "";
        DOWNSTREAM_CX_HTTP3_ACTIVE = gauge "downstream_cx_http3_active", "";
        DOWNSTREAM_CX_HTTP3_TOTAL = counter "downstream_cx_http3_total", "";
        DOWNSTREAM_CX_IDLE_TIMEOUT = counter "downstream_cx_idle_timeout", "";
        DOWNSTREAM_CX_MAX_DURATION_REACHED = counter "downstream_cx_max_duration_reached", "";
        DOWNSTREAM_CX_MAX_REQUESTS_REACHED = counter "downstream_cx_max_requests_reached", "";
        DOWNSTREAM_CX_OVERLOAD_DISABLE_KEEPALIVE = counter "downstream_cx_overload_disable_keepalive", "";
        DOWNSTREAM_CX_PROTOCOL_ERROR = counter "downstream_cx_protocol_error", "";
        DOWNSTREAM_CX_RX_BYTES_BUFFERED = gauge "downstream_cx_rx_bytes_buffered", "";
        DOWNSTREAM_CX_RX_BYTES_TOTAL = counter "downstream_cx_rx_bytes_total", "";
        DOWNSTREAM_CX_SSL_ACTIVE = gauge "downstream_cx_ssl_active", "";
        DOWNSTREAM_CX_SSL_TOTAL = counter "downstream_cx_ssl_total", "";
        DOWNSTREAM_CX_TOTAL = counter "downstream_cx_total", "";
        DOWNSTREAM_CX_TX_BYTES_BUFFERED = gauge "downstream_cx_tx_bytes_buffered", "";
        DOWNSTREAM_CX_TX_BYTES_TOTAL = counter "downstream_cx_tx_bytes_total", "";
        DOWNSTREAM_CX_UPGRADES_ACTIVE = gauge "downstream_cx_upgrades_active", "";
        DOWNSTREAM_CX_UPGRADES_TOTAL = counter "downstream_cx_upgrades_total", "";
        DOWNSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL = counter "downstream_flow_control_paused_reading_total", "";
        DOWNSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL = counter "downstream_flow_control_resumed_reading_total", "";
        DOWNSTREAM_RQ_1XX = counter "downstream_rq_1xx", "";
        DOWNSTREAM_RQ_2XX = counter "downstream_rq_2xx", "";
        DOWNSTREAM_RQ_3XX = counter "downstream_rq_3xx", "";
        DOWNSTREAM_RQ_4XX = counter "downstream_rq_4xx", "";
        DOWNSTREAM_RQ_5XX = counter "downstream_rq_5xx", "";
        DOWNSTREAM_RQ_ACTIVE = gauge "downstream_rq_active", "";
        DOWNSTREAM_RQ_COMPLETED = counter "downstream_rq_completed", "";
        DOWNSTREAM_RQ_FAILED_PATH_NORMALIZATION = counter "downstream_rq_failed_path_normalization", "";
        DOWNSTREAM_RQ_HEADER_TIMEOUT = counter "downstream_rq_header_timeout", "";
        DOWNSTREAM_RQ_HTTP1_TOTAL = counter "downstream_rq_http1_total", "";
        DOWNSTREAM_RQ_HTTP2_TOTAL = counter "downstream_rq_http2_total", "";
        DOWNSTREAM_RQ_HTTP3_TOTAL = counter "downstream_rq_http3_total", "";
        DOWNSTREAM_RQ_IDLE_TIMEOUT = counter "downstream_rq_idle_timeout", "";
        DOWNSTREAM_RQ_MAX_DURATION_REACHED = counter "downstream_rq_max_duration_reached", "";
        DOWNSTREAM_RQ_NON_RELATIVE_PATH = counter "downstream_rq_non_relative_path", "";
        DOWNSTREAM_RQ_OVERLOAD_CLOSE = counter "downstream_rq_overload_close", "";
        DOWNSTREAM_RQ_REDIRECTED_WITH_NORMALIZED_PATH = counter "downstream_rq_redirected_with_normalized_path", "";
        DOWNSTREAM_RQ_REJECTED_VIA_IP_DETECTION = counter "downstream_rq_rejected_via_ip_detection", "";
        DOWNSTREAM_RQ_RESPONSE_BEFORE_RQ_COMPLETE = counter "downstream_rq_response_before_rq_complete", "";
        DOWNSTREAM_RQ_RX_RESET = counter "downstream_rq_rx_reset", "";
        DOWNSTREAM_RQ_TIMEOUT = counter "downstream_rq_timeout", "";
        DOWNSTREAM_RQ_TOO_LARGE = counter "downstream_rq_too_large", "";
        DOWNSTREAM_RQ_TOO_MANY_PREMATURE_RESETS = counter "downstream_rq_too_many_premature_resets", "";
        DOWNSTREAM_RQ_TOTAL = counter "downstream_rq_total", "";
        DOWNSTREAM_RQ_TX_RESET = counter "downstream_rq_tx_reset", "";
        DOWNSTREAM_RQ_WS_ON_NON_WS_ROUTE = counter "downstream_rq_ws_on_non_ws_route", "";
        NO_CLUSTER = counter "no_cluster" in Router, "";
        NO_ROUTE = counter "no_route" in Router, "";
        PASSTHROUGH_INTERNAL_REDIRECT_BAD_LOCATION = counter "passthrough_internal_redirect_bad_location" in Router, "";
        PASSTHROUGH_INTERNAL_REDIRECT_NO_ROUTE = counter "passthrough_internal_redirect_no_route" in Router, "";
        PASSTHROUGH_INTERNAL_REDIRECT_PREDICATE = counter "passthrough_internal_redirect_predicate" in Router, "";
        PASSTHROUGH_INTERNAL_REDIRECT_TOO_MANY_REDIRECTS = counter "passthrough_internal_redirect_too_many_redirects" in Router, "";
        PASSTHROUGH_INTERNAL_REDIRECT_UNSAFE_SCHEME = counter "passthrough_internal_redirect_unsafe_scheme" in Router, "";
        RQ_DIRECT_RESPONSE = counter "rq_direct_response" in Router, "";
        RQ_OVERLOAD_LOCAL_REPLY = counter "rq_overload_local_reply" in Router, "";
        RQ_REDIRECT = counter "rq_redirect" in Router, "";
        RQ_RESET_AFTER_DOWNSTREAM_RESPONSE_STARTED = counter "rq_reset_after_downstream_response_started" in Router, "";
        RQ_TOTAL = counter "rq_total" in Router, "";
        RS_TOO_LARGE = counter "rs_too_large", "";
        TRACING_CLIENT_ENABLED = counter "tracing.client_enabled" in Router, "";
        TRACING_HEALTH_CHECK = counter "tracing.health_check" in Router, "";
        TRACING_NOT_TRACEABLE = counter "tracing.not_traceable" in Router, "";
        TRACING_RANDOM_SAMPLING = counter "tracing.random_sampling" in Router, "";
        TRACING_SERVICE_FORCED = counter "tracing.service_forced" in Router, "";
    }
    histograms {
        DOWNSTREAM_CX_LENGTH_MS = "downstream_cx_length_ms", "";
        DOWNSTREAM_RQ_TIME = "downstream_rq_time", "";
    }
}
