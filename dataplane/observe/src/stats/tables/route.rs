//! `vhost.<name>.route.<stat_prefix>.` and `vhost.<name>.vcluster.<name>.`.

use super::metrics;

metrics! {
    values {
        UPSTREAM_RQ_RETRY = counter "upstream_rq_retry", "Retries.";
        UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED = counter "upstream_rq_retry_limit_exceeded", "Requests that used up their retries.";
        UPSTREAM_RQ_RETRY_OVERFLOW = counter "upstream_rq_retry_overflow", "Retries refused by the circuit breaker or the budget.";
        UPSTREAM_RQ_RETRY_SUCCESS = counter "upstream_rq_retry_success", "Retries that succeeded.";
        UPSTREAM_RQ_TIMEOUT = counter "upstream_rq_timeout", "Requests that timed out.";
        UPSTREAM_RQ_TOTAL = counter "upstream_rq_total", "Requests sent.";
    }
    histograms {
        UPSTREAM_RQ_TIME = "upstream_rq_time" in OnUse, "Request time, milliseconds.";
    }
}
