//! `http.<stat_prefix>.decompressor.<name>.<library>.decompressor_library.`: bodies that could not be decompressed.

use super::metrics;

metrics! {
    values {
        BROTLI_ERROR = counter "brotli_error" in OnUse, "Bodies that are no brotli.";
        BROTLI_OUTPUT_OVERFLOW = counter "brotli_output_overflow" in OnUse, "Bodies that grow to more than 100 times their length.";
        ZLIB_DATA_ERROR = counter "zlib_data_error" in OnUse, "Bodies that are no gzip, or grow more than max_inflate_ratio allows.";
        ZSTD_DICTIONARY_ERROR = counter "zstd_dictionary_error" in OnUse, "Bodies made with a dictionary that is not here.";
        ZSTD_GENERIC_ERROR = counter "zstd_generic_error" in OnUse, "Bodies that are no zstd, or grow to more than 100 times their length.";
    }
    histograms {
    }
}
