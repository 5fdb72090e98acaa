//! `listener.<address>.`: one listener.

use super::metrics;

metrics! {
    values {
        DOWNSTREAM_CX_ACTIVE = gauge "downstream_cx_active" per SumAndThreads, "";
        DOWNSTREAM_CX_DESTROY = counter "downstream_cx_destroy", "";
        DOWNSTREAM_CX_OVERFLOW = counter "downstream_cx_overflow", "";
        DOWNSTREAM_CX_OVERLOAD_REJECT = counter "downstream_cx_overload_reject", "";
        DOWNSTREAM_CX_TOTAL = counter "downstream_cx_total" per SumAndThreads, "";
        DOWNSTREAM_CX_TRANSPORT_SOCKET_CONNECT_TIMEOUT = counter "downstream_cx_transport_socket_connect_timeout", "";
        DOWNSTREAM_GLOBAL_CX_OVERFLOW = counter "downstream_global_cx_overflow", "";
        DOWNSTREAM_LISTENER_FILTER_ERROR = counter "downstream_listener_filter_error", "";
        DOWNSTREAM_LISTENER_FILTER_REMOTE_CLOSE = counter "downstream_listener_filter_remote_close", "";
        DOWNSTREAM_PRE_CX_ACTIVE = gauge "downstream_pre_cx_active", "";
        DOWNSTREAM_PRE_CX_TIMEOUT = counter "downstream_pre_cx_timeout", "";
        EXTENSION_CONFIG_MISSING = counter "extension_config_missing" in Extensions, "";
        NETWORK_EXTENSION_CONFIG_MISSING = counter "network_extension_config_missing" in Extensions, "";
        NO_FILTER_CHAIN_MATCH = counter "no_filter_chain_match", "";
    }
    histograms {
        CONNECTIONS_ACCEPTED_PER_SOCKET_EVENT = "connections_accepted_per_socket_event", "";
        DOWNSTREAM_CX_LENGTH_MS = "downstream_cx_length_ms", "";
    }
}
