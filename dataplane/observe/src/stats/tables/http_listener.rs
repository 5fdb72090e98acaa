//! `listener.<address>.http.<stat_prefix>.`: responses of one connection manager by listener.

use super::metrics;

metrics! {
    values {
        DOWNSTREAM_RQ_1XX = counter "downstream_rq_1xx", "Responses with a 1xx status.";
        DOWNSTREAM_RQ_2XX = counter "downstream_rq_2xx", "Responses with a 2xx status.";
        DOWNSTREAM_RQ_3XX = counter "downstream_rq_3xx", "Responses with a 3xx status.";
        DOWNSTREAM_RQ_4XX = counter "downstream_rq_4xx", "Responses with a 4xx status.";
        DOWNSTREAM_RQ_5XX = counter "downstream_rq_5xx", "Responses with a 5xx status.";
        DOWNSTREAM_RQ_COMPLETED = counter "downstream_rq_completed", "Requests answered.";
    }
    histograms {
    }
}
