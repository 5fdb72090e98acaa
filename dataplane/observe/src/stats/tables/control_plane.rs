//! `control_plane.`: the aggregated stream.

use super::metrics;

metrics! {
    values {
        CONNECTED_STATE = gauge "connected_state", "1 connected to the primary, 2 to the one to fail over to, 0 to none.";
        PENDING_REQUESTS = gauge "pending_requests", "Requests that the rate limit holds back.";
        RATE_LIMIT_ENFORCED = counter "rate_limit_enforced", "Requests that the rate limit held back.";
    }
    histograms {
    }
}
