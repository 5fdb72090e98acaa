//! `http.<stat_prefix>.`, or without a prefix: the HTTP filter `custom_response`.

use super::metrics;

metrics! {
    values {
        INVALID_URI = counter "custom_response_invalid_uri", "Responses that stayed because their redirect led to no URL.";
        REDIRECT_NO_ROUTE = counter "custom_response_redirect_no_route", "Responses that stayed because their redirect led to no route.";
    }
    histograms {
    }
}
