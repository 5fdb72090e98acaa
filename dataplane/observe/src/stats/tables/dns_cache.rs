//! `dns_cache.<name>.`: the hosts that a dynamic forward proxy knows.

use super::metrics;

metrics! {
    values {
        CACHE_LOAD = counter "cache_load", "Always 0: no cache outlives its process.";
        RQ_PENDING_OPEN = gauge "circuit_breakers.rq_pending_open", "1 while as many requests wait as may.";
        RQ_PENDING_REMAINING = gauge "circuit_breakers.rq_pending_remaining", "Requests that may still wait.";
        DNS_ADDRESS_FILTER_OUT = counter "dns_address_filter_out", "Addresses that resolved_address_filter took out.";
        DNS_QUERY_ATTEMPT = counter "dns_query_attempt", "Questions.";
        DNS_QUERY_FAILURE = counter "dns_query_failure", "Questions that failed.";
        DNS_QUERY_SUCCESS = counter "dns_query_success", "Questions that were answered.";
        DNS_QUERY_TIMEOUT = counter "dns_query_timeout", "Questions that took longer than dns_query_timeout.";
        DNS_RQ_PENDING_OVERFLOW = counter "dns_rq_pending_overflow", "Requests refused because too many wait.";
        HOST_ADDED = counter "host_added", "Hosts that were asked for.";
        HOST_ADDRESS_CHANGED = counter "host_address_changed", "Answers with other addresses than before.";
        HOST_OVERFLOW = counter "host_overflow", "Requests for hosts that there was no room for.";
        HOST_REMOVED = counter "host_removed", "Hosts that were dropped.";
        NUM_HOSTS = gauge "num_hosts", "Hosts.";
    }
    histograms {
    }
}
