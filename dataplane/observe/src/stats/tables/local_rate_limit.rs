//! `local_rate_limit.<stat_prefix>.`: the network filter `local_ratelimit`.

use super::metrics;

metrics! {
    values {
        RATE_LIMITED = counter "rate_limited", "Connections closed because of the limit.";
    }
    histograms {
    }
}
