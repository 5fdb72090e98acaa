//! `listener.<address>.http.<stat_prefix>.`: responses of one connection manager by listener.

use super::metrics;

metrics! {
    values {
        DOWNSTREAM_RQ_1XX = counter "downstream_rq_1xx", "";
        DOWNSTREAM_RQ_2XX = counter "downstream_rq_2xx", "";
        DOWNSTREAM_RQ_3XX = counter "downstream_rq_3xx", "";
        DOWNSTREAM_RQ_4XX = counter "downstream_rq_4xx", "";
        DOWNSTREAM_RQ_5XX = counter "downstream_rq_5xx", "";
        DOWNSTREAM_RQ_COMPLETED = counter "downstream_rq_completed", "";
    }
    histograms {
    }
}
