//! `http_inspector.`: the listener filter of this name, of all listeners.

use super::metrics;

metrics! {
    values {
        HTTP10_FOUND = counter "http10_found", "Connections of HTTP/1.0.";
        HTTP11_FOUND = counter "http11_found", "Connections of HTTP/1.1.";
        HTTP2_FOUND = counter "http2_found", "Connections of HTTP/2 with prior knowledge.";
        HTTP_NOT_FOUND = counter "http_not_found", "Connections that are not HTTP.";
        READ_ERROR = counter "read_error", "Connections closed for a request line without end.";
    }
    histograms {
    }
}
