//! `dns.cares.`: the resolver of STRICT_DNS and LOGICAL_DNS clusters.

use super::metrics;

metrics! {
    values {
        GET_ADDR_FAILURE = counter "get_addr_failure", "";
        NOT_FOUND = counter "not_found", "";
        PENDING_RESOLUTIONS = gauge "pending_resolutions", "";
        REINITS = counter "reinits", "";
        RESOLVE_TOTAL = counter "resolve_total", "";
        TIMEOUTS = counter "timeouts", "";
    }
    histograms {
    }
}
