//! `http_filter_name.<stat_prefix>.`: the HTTP filter `header_to_metadata`.

use super::metrics;

metrics! {
    values {
        BASE64_DECODE_FAILED = counter "base64_decode_failed", "Values that are no base64.";
        HEADER_VALUE_TOO_LONG = counter "header_value_too_long", "Values of 8 KiB and more, which are not written.";
        REGEX_SUBSTITUTION_FAILED = counter "regex_substitution_failed", "Values of which their substitution left nothing.";
        REQUEST_HEADER_NOT_FOUND = counter "request_header_not_found", "Rules for requests that wrote the value for a missing field.";
        REQUEST_METADATA_ADDED = counter "request_metadata_added", "Values written of requests.";
        REQUEST_RULES_PROCESSED = counter "request_rules_processed", "Rules that requests met.";
        RESPONSE_HEADER_NOT_FOUND = counter "response_header_not_found", "Rules for responses that wrote the value for a missing field.";
        RESPONSE_METADATA_ADDED = counter "response_metadata_added", "Values written of responses.";
        RESPONSE_RULES_PROCESSED = counter "response_rules_processed", "Rules that responses met.";
    }
    histograms {
    }
}
