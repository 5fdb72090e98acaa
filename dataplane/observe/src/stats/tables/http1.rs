//! `http1.`: the HTTP/1 codec of the downstream side.

use super::metrics;

metrics! {
    values {
        DROPPED_HEADERS_WITH_UNDERSCORES = counter "dropped_headers_with_underscores", "Header fields dropped for an underscore in their name.";
        METADATA_NOT_SUPPORTED_ERROR = counter "metadata_not_supported_error", "METADATA frames that HTTP/1 cannot carry.";
        REQUESTS_REJECTED_WITH_UNDERSCORES_IN_HEADERS = counter "requests_rejected_with_underscores_in_headers", "Requests rejected for an underscore in a name.";
        RESPONSE_FLOOD = counter "response_flood", "Connections closed for responses queued in excess.";
    }
    histograms {
    }
}
