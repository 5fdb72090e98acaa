//! `cluster.<name>.`, with `track_cluster_stats.request_response_sizes`: of every try.

use super::metrics;

metrics! {
    values {
    }
    histograms {
        UPSTREAM_RQ_BODY_SIZE = "upstream_rq_body_size", "Body bytes of requests.";
        UPSTREAM_RQ_HEADERS_COUNT = "upstream_rq_headers_count", "Header fields of requests.";
        UPSTREAM_RQ_HEADERS_SIZE = "upstream_rq_headers_size", "Bytes of the names and values of request header fields.";
        UPSTREAM_RS_BODY_SIZE = "upstream_rs_body_size", "Body bytes of responses.";
        UPSTREAM_RS_HEADERS_COUNT = "upstream_rs_headers_count", "Header fields of responses.";
        UPSTREAM_RS_HEADERS_SIZE = "upstream_rs_headers_size", "Bytes of the names and values of response header fields.";
    }
}
