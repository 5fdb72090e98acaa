//! `listener.<address>.`: one listener.

use super::metrics;

metrics! {
    values {
        DOWNSTREAM_CX_ACTIVE = gauge "downstream_cx_active" per SumAndThreads, "Open connections.";
        DOWNSTREAM_CX_DESTROY = counter "downstream_cx_destroy", "Connections closed.";
        DOWNSTREAM_CX_OVERFLOW = counter "downstream_cx_overflow", "Connections refused by the listener's limit.";
        DOWNSTREAM_CX_OVERLOAD_REJECT = counter "downstream_cx_overload_reject", "Connections refused by overload.";
        DOWNSTREAM_CX_TOTAL = counter "downstream_cx_total" per SumAndThreads, "Connections accepted.";
        DOWNSTREAM_CX_TRANSPORT_SOCKET_CONNECT_TIMEOUT = counter "downstream_cx_transport_socket_connect_timeout", "Transport handshakes that timed out.";
        DOWNSTREAM_GLOBAL_CX_OVERFLOW = counter "downstream_global_cx_overflow", "Connections refused by the global limit.";
        DOWNSTREAM_LISTENER_FILTER_ERROR = counter "downstream_listener_filter_error", "Connections closed by an error of a listener filter.";
        DOWNSTREAM_LISTENER_FILTER_REMOTE_CLOSE = counter "downstream_listener_filter_remote_close", "Connections that clients closed during listener filters.";
        DOWNSTREAM_PRE_CX_ACTIVE = gauge "downstream_pre_cx_active", "Connections in listener filters.";
        DOWNSTREAM_PRE_CX_TIMEOUT = counter "downstream_pre_cx_timeout", "Connections that timed out in listener filters.";
        EXTENSION_CONFIG_MISSING = counter "extension_config_missing" in Extensions, "Connections closed: listener filter configuration is missing.";
        NETWORK_EXTENSION_CONFIG_MISSING = counter "network_extension_config_missing" in Extensions, "Connections closed: network filter configuration is missing.";
        NO_FILTER_CHAIN_MATCH = counter "no_filter_chain_match", "Connections that no filter chain matches.";
    }
    histograms {
        CONNECTIONS_ACCEPTED_PER_SOCKET_EVENT = "connections_accepted_per_socket_event", "Connections accepted at once.";
        DOWNSTREAM_CX_LENGTH_MS = "downstream_cx_length_ms", "Age of closed connections, milliseconds.";
    }
}
