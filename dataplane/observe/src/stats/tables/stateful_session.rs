//! `http.<stat_prefix>.stateful_session.<own prefix>.`: the HTTP filter `stateful_session`.

use super::metrics;

metrics! {
    values {
        FAILED_CLOSED = counter "failed_closed", "Requests of strict sessions that no endpoint would do for.";
        FAILED_OPEN = counter "failed_open", "Requests that went to another endpoint than their session's, or had none.";
        NO_SESSION = counter "no_session", "Requests that sessions do not apply to.";
        ROUTED = counter "routed", "Requests that went to the endpoint of their session.";
    }
    histograms {
    }
}
