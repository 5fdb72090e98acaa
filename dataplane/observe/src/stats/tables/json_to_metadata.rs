//! `json_to_metadata.rq.` and `json_to_metadata.resp.`: the HTTP filter `json_to_metadata`.

use super::metrics;

metrics! {
    values {
        INVALID_JSON_BODY = counter "invalid_json_body", "Bodies that are no JSON.";
        MISMATCHED_CONTENT_TYPE = counter "mismatched_content_type", "Messages whose content type is none of those that are read.";
        NO_BODY = counter "no_body", "Messages without a body.";
        SUCCESS = counter "success", "Bodies that the rules were applied to.";
    }
    histograms {
    }
}
