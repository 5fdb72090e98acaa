//! One endpoint. Nameless: read by `/clusters`, and by `/stats` for clusters with `per_endpoint_stats`.

use super::metrics;

metrics! {
    values {
        CX_ACTIVE = gauge "cx_active", "Open connections.";
        CX_CONNECT_FAIL = counter "cx_connect_fail", "Connection attempts that failed.";
        CX_TOTAL = counter "cx_total", "Connections opened.";
        RQ_ACTIVE = gauge "rq_active", "Requests in flight.";
        RQ_ERROR = counter "rq_error", "Requests that ended in a 5xx or a reset.";
        RQ_SUCCESS = counter "rq_success", "Requests answered without a 5xx.";
        RQ_TIMEOUT = counter "rq_timeout", "Requests that timed out.";
        RQ_TOTAL = counter "rq_total", "Requests sent.";
    }
    histograms {
    }
}
