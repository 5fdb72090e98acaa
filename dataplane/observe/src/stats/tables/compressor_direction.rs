//! `http.<stat_prefix>.compressor.<name>.<library>.[request.|response.]`: messages of one direction at the HTTP filter
//! `compressor`.

use super::metrics;

metrics! {
    values {
        COMPRESSED = counter "compressed", "Messages that were compressed.";
        CONTENT_LENGTH_TOO_SMALL = counter "content_length_too_small", "Messages shorter than min_content_length.";
        NOT_COMPRESSED = counter "not_compressed", "Messages that were left alone.";
        TOTAL_COMPRESSED_BYTES = counter "total_compressed_bytes", "Bytes of compressed messages as they left.";
        TOTAL_UNCOMPRESSED_BYTES = counter "total_uncompressed_bytes", "Bytes of compressed messages as they came.";
    }
    histograms {
    }
}
