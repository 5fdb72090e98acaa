//! `<stat_prefix>.http_local_rate_limit.`: the HTTP filter `local_ratelimit`.

use super::metrics;

metrics! {
    values {
        ENABLED = counter "enabled", "Requests that were looked at.";
        ENFORCED = counter "enforced", "Requests that were refused.";
        OK = counter "ok", "Requests within the limit.";
        RATE_LIMITED = counter "rate_limited", "Requests above the limit, refused or not.";
        SHADOW_MODE = counter "shadow_mode", "Requests above the limit of a descriptor with shadow_mode.";
    }
    histograms {
    }
}
