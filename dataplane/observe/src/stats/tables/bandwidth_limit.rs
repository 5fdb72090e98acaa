//! `<stat_prefix>.http_bandwidth_limit.`: the HTTP filter `bandwidth_limit`.

use super::metrics;

metrics! {
    values {
        REQUEST_ALLOWED_SIZE = gauge "request_allowed_size", "Bytes of a request that moved on last.";
        REQUEST_ALLOWED_TOTAL_SIZE = counter "request_allowed_total_size", "Bytes of requests that moved on.";
        REQUEST_ENABLED = counter "request_enabled", "Requests under the limit.";
        REQUEST_ENFORCED = counter "request_enforced", "Times that bytes of a request had to wait.";
        REQUEST_INCOMING_SIZE = gauge "request_incoming_size", "Bytes of a request that came last.";
        REQUEST_INCOMING_TOTAL_SIZE = counter "request_incoming_total_size", "Bytes of requests that came.";
        REQUEST_PENDING = gauge "request_pending", "Requests whose bodies are under way.";
        RESPONSE_ALLOWED_SIZE = gauge "response_allowed_size", "Bytes of a response that moved on last.";
        RESPONSE_ALLOWED_TOTAL_SIZE = counter "response_allowed_total_size", "Bytes of responses that moved on.";
        RESPONSE_ENABLED = counter "response_enabled", "Responses under the limit.";
        RESPONSE_ENFORCED = counter "response_enforced", "Times that bytes of a response had to wait.";
        RESPONSE_INCOMING_SIZE = gauge "response_incoming_size", "Bytes of a response that came last.";
        RESPONSE_INCOMING_TOTAL_SIZE = counter "response_incoming_total_size", "Bytes of responses that came.";
        RESPONSE_PENDING = gauge "response_pending", "Responses whose bodies are under way.";
    }
    histograms {
        REQUEST_TRANSFER_DURATION = "request_transfer_duration", "Time from the first to the last byte of a request's body.";
        RESPONSE_TRANSFER_DURATION = "response_transfer_duration", "Time from the first to the last byte of a response's body.";
    }
}
