//! `http.<stat_prefix>.compressor.<name>.<library>.`: what the HTTP filter `compressor` made of `accept-encoding`.

use super::metrics;

metrics! {
    values {
        HEADER_COMPRESSOR_OVERSHADOWED = counter "header_compressor_overshadowed", "Responses for which another filter's coding was chosen.";
        HEADER_COMPRESSOR_USED = counter "header_compressor_used", "Responses for which this filter's coding was chosen.";
        HEADER_IDENTITY = counter "header_identity", "Responses that the client wants as they are.";
        HEADER_NOT_VALID = counter "header_not_valid", "Responses whose client accepts no coding of the chain.";
        HEADER_WILDCARD = counter "header_wildcard", "Responses whose client accepts any coding.";
        NO_ACCEPT_HEADER = counter "no_accept_header", "Responses whose request had no accept-encoding.";
        NOT_COMPRESSED_ETAG = counter "not_compressed_etag", "Responses left alone because of their etag.";
    }
    histograms {
    }
}
