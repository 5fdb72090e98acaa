//! `http1.`: the HTTP/1 codec of the downstream side.

use super::metrics;

metrics! {
    values {
        DROPPED_HEADERS_WITH_UNDERSCORES = counter "dropped_headers_with_underscores", "";
        METADATA_NOT_SUPPORTED_ERROR = counter "metadata_not_supported_error", "";
        REQUESTS_REJECTED_WITH_UNDERSCORES_IN_HEADERS = counter "requests_rejected_with_underscores_in_headers", "";
        RESPONSE_FLOOD = counter "response_flood", "";
    }
    histograms {
    }
}
