//! `vhost.<name>.route.<stat_prefix>.` and `vhost.<name>.vcluster.<name>.`.

use super::metrics;

metrics! {
    values {
        UPSTREAM_RQ_RETRY = counter "upstream_rq_retry", "";
        UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED = counter "upstream_rq_retry_limit_exceeded", "";
        UPSTREAM_RQ_RETRY_OVERFLOW = counter "upstream_rq_retry_overflow", "";
        UPSTREAM_RQ_RETRY_SUCCESS = counter "upstream_rq_retry_success", "";
        UPSTREAM_RQ_TIMEOUT = counter "upstream_rq_timeout", "";
        UPSTREAM_RQ_TOTAL = counter "upstream_rq_total", "";
    }
    histograms {
        UPSTREAM_RQ_TIME = "upstream_rq_time" in OnUse, "";
    }
}
