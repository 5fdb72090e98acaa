//! `http.<stat_prefix>.fault.`: the HTTP filter `fault`.

use super::metrics;

metrics! {
    values {
        ABORTS_INJECTED = counter "aborts_injected", "Requests answered instead of forwarded.";
        ACTIVE_FAULTS = gauge "active_faults", "Requests under way with a fault.";
        DELAYS_INJECTED = counter "delays_injected", "Requests that were delayed.";
        FAULTS_OVERFLOW = counter "faults_overflow", "Faults not injected because there were max_active_faults.";
        RESPONSE_RL_INJECTED = counter "response_rl_injected", "Responses whose rate was limited.";
    }
    histograms {
    }
}
