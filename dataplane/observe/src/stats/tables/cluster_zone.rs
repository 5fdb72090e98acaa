//! `cluster.<name>.zone.<from>.<to>.`: what endpoints of one zone answered. Response codes, and how long they took.

use super::metrics;

metrics! {
    values {
    }
    histograms {
        UPSTREAM_RQ_TIME = "upstream_rq_time" in OnUse, "Request time, milliseconds.";
    }
}
