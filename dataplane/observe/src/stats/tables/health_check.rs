//! `http.<stat_prefix>.health_check.`: the HTTP filter `health_check`.

use super::metrics;

metrics! {
    values {
        CACHED_RESPONSE = counter "cached_response", "Checks answered as an endpoint answered the last one.";
        DEGRADED = counter "degraded", "Checks answered with `x-envoy-degraded`.";
        FAILED = counter "failed", "Checks that the filter answered badly.";
        FAILED_CLUSTER_EMPTY = counter "failed_cluster_empty", "Checks that failed because a cluster has no endpoint that serves.";
        FAILED_CLUSTER_NOT_FOUND = counter "failed_cluster_not_found", "Checks that failed because a cluster does not exist.";
        FAILED_CLUSTER_UNHEALTHY = counter "failed_cluster_unhealthy", "Checks that failed because too few endpoints of a cluster serve.";
        OK = counter "ok", "Checks that the filter answered well.";
        REQUEST_TOTAL = counter "request_total", "Checks that the filter answered.";
    }
    histograms {
    }
}
