//! `http.<stat_prefix>.`: one HTTP connection manager and its router.

use super::metrics;

metrics! {
    values {
        DOWNSTREAM_CX_ACTIVE = gauge "downstream_cx_active", "Open connections.";
        DOWNSTREAM_CX_DELAYED_CLOSE_TIMEOUT = counter "downstream_cx_delayed_close_timeout", "Connections closed after the delayed-close timeout.";
        DOWNSTREAM_CX_DESTROY = counter "downstream_cx_destroy", "Connections closed.";
        DOWNSTREAM_CX_DESTROY_ACTIVE_RQ = counter "downstream_cx_destroy_active_rq", "Connections closed with a request in flight.";
        DOWNSTREAM_CX_DESTROY_LOCAL = counter "downstream_cx_destroy_local", "Connections closed by us.";
        DOWNSTREAM_CX_DESTROY_LOCAL_ACTIVE_RQ = counter "downstream_cx_destroy_local_active_rq", "Connections closed by us with a request in flight.";
        DOWNSTREAM_CX_DESTROY_REMOTE = counter "downstream_cx_destroy_remote", "Connections closed by the client.";
        DOWNSTREAM_CX_DESTROY_REMOTE_ACTIVE_RQ = counter "downstream_cx_destroy_remote_active_rq", "Connections closed by the client with a request in flight.";
        DOWNSTREAM_CX_DRAIN_CLOSE = counter "downstream_cx_drain_close", "Connections closed for draining.";
        DOWNSTREAM_CX_HTTP1_ACTIVE = gauge "downstream_cx_http1_active", "Open HTTP/1 connections.";
        DOWNSTREAM_CX_HTTP1_SOFT_DRAIN = gauge "downstream_cx_http1_soft_drain", "HTTP/1 connections asked to close after the response.";
        DOWNSTREAM_CX_HTTP1_TOTAL = counter "downstream_cx_http1_total", "HTTP/1 connections accepted.";
        DOWNSTREAM_CX_HTTP2_ACTIVE = gauge "downstream_cx_http2_active", "Open HTTP/2 connections.";
        DOWNSTREAM_CX_HTTP2_TOTAL = counter "downstream_cx_http2_total", "HTTP/2 connections accepted.";
        DOWNSTREAM_CX_HTTP3_ACTIVE = gauge "downstream_cx_http3_active", "Open HTTP/3 connections.";
        DOWNSTREAM_CX_HTTP3_TOTAL = counter "downstream_cx_http3_total", "HTTP/3 connections accepted.";
        DOWNSTREAM_CX_IDLE_TIMEOUT = counter "downstream_cx_idle_timeout", "Connections closed for idleness.";
        DOWNSTREAM_CX_MAX_DURATION_REACHED = counter "downstream_cx_max_duration_reached", "Connections closed at their largest age.";
        DOWNSTREAM_CX_MAX_REQUESTS_REACHED = counter "downstream_cx_max_requests_reached", "Connections closed at their largest number of requests.";
        DOWNSTREAM_CX_OVERLOAD_DISABLE_KEEPALIVE = counter "downstream_cx_overload_disable_keepalive", "Connections closed because overload disabled keep-alive.";
        DOWNSTREAM_CX_PROTOCOL_ERROR = counter "downstream_cx_protocol_error", "Protocol errors of clients.";
        DOWNSTREAM_CX_RX_BYTES_BUFFERED = gauge "downstream_cx_rx_bytes_buffered", "Received bytes that wait.";
        DOWNSTREAM_CX_RX_BYTES_TOTAL = counter "downstream_cx_rx_bytes_total", "Bytes received.";
        DOWNSTREAM_CX_SSL_ACTIVE = gauge "downstream_cx_ssl_active", "Open TLS connections.";
        DOWNSTREAM_CX_SSL_TOTAL = counter "downstream_cx_ssl_total", "TLS connections accepted.";
        DOWNSTREAM_CX_TOTAL = counter "downstream_cx_total", "Connections accepted.";
        DOWNSTREAM_CX_TX_BYTES_BUFFERED = gauge "downstream_cx_tx_bytes_buffered", "Bytes that wait to be sent.";
        DOWNSTREAM_CX_TX_BYTES_TOTAL = counter "downstream_cx_tx_bytes_total", "Bytes sent.";
        DOWNSTREAM_CX_UPGRADES_ACTIVE = gauge "downstream_cx_upgrades_active", "Upgraded connections now.";
        DOWNSTREAM_CX_UPGRADES_TOTAL = counter "downstream_cx_upgrades_total", "Upgrades.";
        DOWNSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL = counter "downstream_flow_control_paused_reading_total", "Times reading from a client was paused.";
        DOWNSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL = counter "downstream_flow_control_resumed_reading_total", "Times reading from a client was resumed.";
        DOWNSTREAM_RQ_1XX = counter "downstream_rq_1xx", "Responses with a 1xx status.";
        DOWNSTREAM_RQ_2XX = counter "downstream_rq_2xx", "Responses with a 2xx status.";
        DOWNSTREAM_RQ_3XX = counter "downstream_rq_3xx", "Responses with a 3xx status.";
        DOWNSTREAM_RQ_4XX = counter "downstream_rq_4xx", "Responses with a 4xx status.";
        DOWNSTREAM_RQ_5XX = counter "downstream_rq_5xx", "Responses with a 5xx status.";
        DOWNSTREAM_RQ_ACTIVE = gauge "downstream_rq_active", "Requests in flight.";
        DOWNSTREAM_RQ_COMPLETED = counter "downstream_rq_completed", "Requests answered.";
        DOWNSTREAM_RQ_FAILED_PATH_NORMALIZATION = counter "downstream_rq_failed_path_normalization", "Requests whose path could not be normalised.";
        DOWNSTREAM_RQ_HEADER_TIMEOUT = counter "downstream_rq_header_timeout", "Requests whose head took too long.";
        DOWNSTREAM_RQ_HTTP1_TOTAL = counter "downstream_rq_http1_total", "HTTP/1 requests.";
        DOWNSTREAM_RQ_HTTP2_TOTAL = counter "downstream_rq_http2_total", "HTTP/2 requests.";
        DOWNSTREAM_RQ_HTTP3_TOTAL = counter "downstream_rq_http3_total", "HTTP/3 requests.";
        DOWNSTREAM_RQ_IDLE_TIMEOUT = counter "downstream_rq_idle_timeout", "Requests that idled too long.";
        DOWNSTREAM_RQ_MAX_DURATION_REACHED = counter "downstream_rq_max_duration_reached", "Requests ended at their largest age.";
        DOWNSTREAM_RQ_NON_RELATIVE_PATH = counter "downstream_rq_non_relative_path", "Requests refused for a path that is not relative.";
        DOWNSTREAM_RQ_OVERLOAD_CLOSE = counter "downstream_rq_overload_close", "Requests refused by overload.";
        DOWNSTREAM_RQ_REDIRECTED_WITH_NORMALIZED_PATH = counter "downstream_rq_redirected_with_normalized_path", "Redirects to a normalised path.";
        DOWNSTREAM_RQ_REJECTED_VIA_IP_DETECTION = counter "downstream_rq_rejected_via_ip_detection", "Requests refused by the detection of the client's address.";
        DOWNSTREAM_RQ_RESPONSE_BEFORE_RQ_COMPLETE = counter "downstream_rq_response_before_rq_complete", "Responses sent before their request was complete.";
        DOWNSTREAM_RQ_RX_RESET = counter "downstream_rq_rx_reset", "Requests reset by the client.";
        DOWNSTREAM_RQ_TIMEOUT = counter "downstream_rq_timeout", "Requests that timed out.";
        DOWNSTREAM_RQ_TOO_LARGE = counter "downstream_rq_too_large", "Requests too large to be buffered (413).";
        DOWNSTREAM_RQ_TOO_MANY_PREMATURE_RESETS = counter "downstream_rq_too_many_premature_resets", "Connections closed for requests reset too early too often.";
        DOWNSTREAM_RQ_TOTAL = counter "downstream_rq_total", "Requests.";
        DOWNSTREAM_RQ_TX_RESET = counter "downstream_rq_tx_reset", "Requests reset by us.";
        DOWNSTREAM_RQ_WS_ON_NON_WS_ROUTE = counter "downstream_rq_ws_on_non_ws_route", "Upgrades refused by their route.";
        NO_CLUSTER = counter "no_cluster" in Router, "Requests whose cluster does not exist.";
        NO_ROUTE = counter "no_route" in Router, "Requests without a route.";
        PASSTHROUGH_INTERNAL_REDIRECT_BAD_LOCATION = counter "passthrough_internal_redirect_bad_location" in Router, "Internal redirects handed on: bad location.";
        PASSTHROUGH_INTERNAL_REDIRECT_NO_ROUTE = counter "passthrough_internal_redirect_no_route" in Router, "Internal redirects handed on: no route.";
        PASSTHROUGH_INTERNAL_REDIRECT_PREDICATE = counter "passthrough_internal_redirect_predicate" in Router, "Internal redirects handed on: refused by a predicate.";
        PASSTHROUGH_INTERNAL_REDIRECT_TOO_MANY_REDIRECTS = counter "passthrough_internal_redirect_too_many_redirects" in Router, "Internal redirects handed on: too many.";
        PASSTHROUGH_INTERNAL_REDIRECT_UNSAFE_SCHEME = counter "passthrough_internal_redirect_unsafe_scheme" in Router, "Internal redirects handed on: unsafe scheme.";
        RQ_DIRECT_RESPONSE = counter "rq_direct_response" in Router, "Requests answered by a direct response.";
        RQ_OVERLOAD_LOCAL_REPLY = counter "rq_overload_local_reply" in Router, "Requests answered locally for overload.";
        RQ_REDIRECT = counter "rq_redirect" in Router, "Requests answered by a redirect.";
        RQ_RESET_AFTER_DOWNSTREAM_RESPONSE_STARTED = counter "rq_reset_after_downstream_response_started" in Router, "Requests reset after their response began.";
        RQ_TOTAL = counter "rq_total" in Router, "Requests that were routed.";
        RS_TOO_LARGE = counter "rs_too_large", "Responses too large to be buffered (500).";
        TRACING_CLIENT_ENABLED = counter "tracing.client_enabled" in Tracing, "Traces forced by the client.";
        TRACING_HEALTH_CHECK = counter "tracing.health_check" in Tracing, "Requests not traced: health checks.";
        TRACING_NOT_TRACEABLE = counter "tracing.not_traceable" in Tracing, "Requests not traced.";
        TRACING_RANDOM_SAMPLING = counter "tracing.random_sampling" in Tracing, "Traces chosen at random.";
        TRACING_SERVICE_FORCED = counter "tracing.service_forced" in Tracing, "Traces forced by a service.";
    }
    histograms {
        DOWNSTREAM_CX_LENGTH_MS = "downstream_cx_length_ms", "Age of closed connections, milliseconds.";
        DOWNSTREAM_RQ_TIME = "downstream_rq_time", "Time from the request to the end of its response, milliseconds.";
    }
}
