//! `proxy_proto.` and `proxy_proto.<stat_prefix>.`: the listener filter `proxy_protocol`.

use super::metrics;

metrics! {
    values {
        NOT_FOUND_ALLOWED = counter "not_found_allowed", "Connections without a header that were served.";
        NOT_FOUND_DISALLOWED = counter "not_found_disallowed", "Connections closed for want of a header.";
        V1_DISALLOWED = counter "versions.v1.disallowed", "Connections closed because the version is disallowed.";
        V1_ERROR = counter "versions.v1.error", "Connections closed for a malformed header.";
        V1_FOUND = counter "versions.v1.found", "Headers of this version.";
        V2_DISALLOWED = counter "versions.v2.disallowed", "Connections closed because the version is disallowed.";
        V2_ERROR = counter "versions.v2.error", "Connections closed for a malformed header.";
        V2_FOUND = counter "versions.v2.found", "Headers of this version.";
    }
    histograms {
    }
}
