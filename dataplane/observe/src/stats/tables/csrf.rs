//! `http.<stat_prefix>.csrf.`: the HTTP filter `csrf`.

use super::metrics;

metrics! {
    values {
        MISSING_SOURCE_ORIGIN = counter "missing_source_origin", "Requests that name no origin.";
        REQUEST_INVALID = counter "request_invalid", "Requests of another origin.";
        REQUEST_VALID = counter "request_valid", "Requests of their own or an allowed origin.";
    }
    histograms {
    }
}
