//! `extensions.filters.http.compressor.v3`, `decompressor.v3`, and the libraries that they name
//! (`extensions.compression`).

use std::sync::Arc;

use crate::{ScopeId, StringMatcher};

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// As `content-encoding` and `accept-encoding` have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// As names of statistics have it.
    pub fn stat_name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
        }
    }
}

/// `Gzip.CompressionStrategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GzipStrategy {
    #[default]
    Default,
    Filtered,
    HuffmanOnly,
    Rle,
    Fixed,
}

/// `compression.gzip.compressor.v3.Gzip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GzipCompressor {
    /// `memory_level`, 1 to 9, default 5.
    pub memory_level: u8,
    /// `compression_level`, 1 to 9; `None` for zlib's default.
    pub level: Option<u8>,
    /// `compression_strategy`.
    pub strategy: GzipStrategy,
    /// `window_bits`, 9 to 15, default 12.
    pub window_bits: u8,
}

/// `Brotli.EncoderMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BrotliMode {
    #[default]
    Generic,
    Text,
    Font,
}

/// `compression.brotli.compressor.v3.Brotli`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrotliCompressor {
    /// `quality`, 0 to 11, default 3.
    pub quality: u8,
    /// `encoder_mode`.
    pub mode: BrotliMode,
    /// `window_bits`, 10 to 24, default 18.
    pub window_bits: u8,
    /// `input_block_bits`, 16 to 24, default 24.
    pub block_bits: u8,
    /// `disable_literal_context_modeling`.
    pub no_literal_context: bool,
}

/// `compression.zstd.compressor.v3.Zstd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZstdCompressor {
    /// `compression_level`, default 3.
    pub level: u32,
    /// `enable_checksum`.
    pub checksum: bool,
    /// `strategy`, 1 (fast) to 9 (btultra2); 0 for the level's.
    pub strategy: u8,
    /// `dictionary`.
    pub dictionary: Option<Arc<[u8]>>,
}

/// `compressor_library`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CompressorLibrary {
    Gzip(GzipCompressor),
    Brotli(BrotliCompressor),
    Zstd(ZstdCompressor),
}

impl CompressorLibrary {
    /// What it makes.
    pub fn coding(&self) -> Coding {
        match self {
            Self::Gzip(_) => Coding::Gzip,
            Self::Brotli(_) => Coding::Brotli,
            Self::Zstd(_) => Coding::Zstd,
        }
    }
}

/// `Compressor.CommonDirectionConfig`.
#[derive(Clone, Debug)]
pub struct CompressDirection {
    /// `enabled`, the runtime's value in it.
    pub enabled: bool,
    /// `min_content_length`, default 30.
    pub min_content_length: u32,
    /// `content_type` or `content_type_matcher`; never empty.
    pub content_types: Vec<StringMatcher>,
    /// Statistics scope of this direction: `http.<prefix>.compressor.<name>.<library>.request.`, `.response.` or, without
    /// `response_direction_config`, of the filter itself.
    pub scope: ScopeId,
}

/// `Compressor.ResponseDirectionConfig`.
#[derive(Clone, Debug)]
pub struct CompressResponses {
    /// What both directions have.
    pub common: CompressDirection,
    /// `disable_on_etag_header`.
    pub disable_on_etag: bool,
    /// `weaken_etag_on_compress`.
    pub weaken_etag: bool,
    /// `remove_accept_encoding_header`.
    pub remove_accept_encoding: bool,
    /// `uncompressible_response_codes`.
    pub uncompressible_codes: Vec<u16>,
    /// `status_header_enabled`.
    pub status_header: bool,
}

/// `Compressor`.
#[derive(Clone, Debug)]
pub struct CompressorFilter {
    /// `compressor_library`.
    pub library: CompressorLibrary,
    /// `request_direction_config`. Without one its `enabled` is false.
    pub request: CompressDirection,
    /// `response_direction_config`, or the deprecated fields.
    pub response: CompressResponses,
    /// `choose_first`.
    pub choose_first: bool,
    /// Statistics scope `http.<prefix>.compressor.<name>.<library>.`.
    pub scope: ScopeId,
}

/// `CompressorPerRoute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressorPerRoute {
    /// `disabled` or the presence of `response_direction_config`: whether responses are compressed.
    pub enabled: Option<bool>,
    /// `remove_accept_encoding_header`.
    pub remove_accept_encoding: Option<bool>,
    /// `compressor_library`.
    pub library: Option<CompressorLibrary>,
}

/// `decompressor_library`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecompressorLibrary {
    /// `compression.gzip.decompressor.v3.Gzip`.
    Gzip {
        /// `window_bits`, 9 to 15, default 15.
        window_bits: u8,
        /// `max_inflate_ratio`, 1 to 1032, default 100.
        max_inflate_ratio: u32,
    },
    /// `compression.brotli.decompressor.v3.Brotli`.
    Brotli,
    /// `compression.zstd.decompressor.v3.Zstd`.
    Zstd {
        /// `dictionaries`; the frame names one by its id.
        dictionaries: Vec<Arc<[u8]>>,
    },
}

impl DecompressorLibrary {
    /// What it reads.
    pub fn coding(&self) -> Coding {
        match self {
            Self::Gzip { .. } => Coding::Gzip,
            Self::Brotli => Coding::Brotli,
            Self::Zstd { .. } => Coding::Zstd,
        }
    }
}

/// `Decompressor.CommonDirectionConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecompressDirection {
    /// `enabled`, the runtime's value in it.
    pub enabled: bool,
    /// `ignore_no_transform_header`.
    pub ignore_no_transform: bool,
    /// Statistics scope `http.<prefix>.decompressor.<name>.<library>.request.` or `.response.`.
    pub scope: ScopeId,
}

/// `Decompressor`.
#[derive(Clone, Debug)]
pub struct DecompressorFilter {
    /// `decompressor_library`.
    pub library: DecompressorLibrary,
    /// `request_direction_config`.
    pub request: DecompressDirection,
    /// `response_direction_config`.
    pub response: DecompressDirection,
    /// `advertise_accept_encoding`, default true.
    pub advertise: bool,
    /// Trailers that tell the bytes: `x-envoy-decompressor-<name>-compressed-bytes` and `-uncompressed-bytes`.
    pub trailers: [Arc<[u8]>; 2],
    /// Statistics scope `http.<prefix>.decompressor.<name>.<library>.decompressor_library.`.
    pub scope: ScopeId,
}
