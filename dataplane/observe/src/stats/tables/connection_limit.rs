//! `connection_limit.<stat_prefix>.`: the network filter `connection_limit`.

use super::metrics;

metrics! {
    values {
        ACTIVE_CONNECTIONS = gauge "active_connections", "Open connections that count.";
        LIMITED_CONNECTIONS = counter "limited_connections", "Connections closed because of the limit.";
    }
    histograms {
    }
}
