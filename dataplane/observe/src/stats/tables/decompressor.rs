//! `http.<stat_prefix>.decompressor.<name>.<library>.{request,response}.`: messages of one direction at the HTTP filter
//! `decompressor`.

use super::metrics;

metrics! {
    values {
        DECOMPRESSED = counter "decompressed", "Messages that were decompressed.";
        NOT_DECOMPRESSED = counter "not_decompressed", "Messages that were left alone.";
        TOTAL_COMPRESSED_BYTES = counter "total_compressed_bytes", "Bytes of decompressed messages as they came.";
        TOTAL_UNCOMPRESSED_BYTES = counter "total_uncompressed_bytes", "Bytes of decompressed messages as they left.";
    }
    histograms {
    }
}
