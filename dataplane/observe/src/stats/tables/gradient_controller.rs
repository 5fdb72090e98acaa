//! `http.<stat_prefix>.adaptive_concurrency.gradient_controller.`: the HTTP filter `adaptive_concurrency`.

use super::metrics;

metrics! {
    values {
        BURST_QUEUE_SIZE = gauge "burst_queue_size", "Requests that the limit allows for bursts.";
        CONCURRENCY_LIMIT = gauge "concurrency_limit", "The limit that holds now.";
        GRADIENT = gauge "gradient", "What the last limit was multiplied with, in thousandths.";
        MIN_RTT_CALCULATION_ACTIVE = gauge "min_rtt_calculation_active", "1 while the least time of a request is measured.";
        MIN_RTT_MSECS = gauge "min_rtt_msecs", "The least time of a request.";
        RQ_BLOCKED = counter "rq_blocked", "Requests that were refused.";
        SAMPLE_RTT_MSECS = gauge "sample_rtt_msecs", "Time of a request in the last window.";
    }
    histograms {
    }
}
