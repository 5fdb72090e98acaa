//! `http.<stat_prefix>.admission_control.`: the HTTP filter `admission_control`.

use super::metrics;

metrics! {
    values {
        RQ_FAILURE = counter "rq_failure", "Responses that were failures.";
        RQ_REJECTED = counter "rq_rejected", "Requests that were refused.";
        RQ_SUCCESS = counter "rq_success", "Responses that were successes.";
    }
    histograms {
    }
}
