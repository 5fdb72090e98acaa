//! `dns.cares.`: the resolver of STRICT_DNS and LOGICAL_DNS clusters.

use super::metrics;

metrics! {
    values {
        GET_ADDR_FAILURE = counter "get_addr_failure", "Queries that failed.";
        NOT_FOUND = counter "not_found", "Queries for names that do not exist.";
        PENDING_RESOLUTIONS = gauge "pending_resolutions", "Queries in flight.";
        REINITS = counter "reinits", "Resolvers started anew.";
        RESOLVE_TOTAL = counter "resolve_total", "Queries.";
        TIMEOUTS = counter "timeouts", "Queries that timed out.";
    }
    histograms {
    }
}
