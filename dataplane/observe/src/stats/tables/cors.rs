//! `http.<stat_prefix>.cors.`: the HTTP filter `cors`.

use super::metrics;

metrics! {
    values {
        ORIGIN_INVALID = counter "origin_invalid", "Requests of an origin that is not allowed.";
        ORIGIN_VALID = counter "origin_valid", "Requests of an allowed origin.";
    }
    histograms {
    }
}
