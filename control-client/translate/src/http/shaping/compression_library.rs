//! `extensions.compression`: the libraries of compressors and decompressors.

use std::sync::Arc;

use millrace_config::{
    BrotliCompressor, BrotliMode, CompressorLibrary, DecompressorLibrary, GzipCompressor, GzipStrategy,
    ZstdCompressor,
};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use millrace_proto::pb::envoy::extensions::compression::{brotli, gzip, zstd};
use millrace_proto::pb::google::protobuf::UInt32Value;

use crate::error::Rejection;
use crate::extension::{not_served, open, type_of};
use crate::value;

pub(super) fn compressor(
    extension: &TypedExtensionConfig,
    path: &Path,
) -> Result<CompressorLibrary, Rejection> {
    let Some(any) = &extension.typed_config else {
        return Err(not_served("compressor library", &extension.name, None, path));
    };
    let inside = path.join("typed_config");
    Ok(match type_of(any).as_str() {
        "envoy.extensions.compression.gzip.compressor.v3.Gzip" => {
            CompressorLibrary::Gzip(gzip(&open(any, &inside)?))
        }
        "envoy.extensions.compression.brotli.compressor.v3.Brotli" => {
            CompressorLibrary::Brotli(brotli(&open(any, &inside)?))
        }
        "envoy.extensions.compression.zstd.compressor.v3.Zstd" => {
            CompressorLibrary::Zstd(zstd(&open(any, &inside)?, &inside)?)
        }
        _ => return Err(not_served("compressor library", &extension.name, Some(any), path)),
    })
}

fn gzip(config: &gzip::compressor::v3::Gzip) -> GzipCompressor {
    use gzip::compressor::v3::gzip::CompressionStrategy as By;
    GzipCompressor {
        memory_level: small(config.memory_level.as_ref(), 5),
        level: u8::try_from(config.compression_level).ok().filter(|level| *level > 0),
        strategy: match config.compression_strategy() {
            By::DefaultStrategy => GzipStrategy::Default,
            By::Filtered => GzipStrategy::Filtered,
            By::HuffmanOnly => GzipStrategy::HuffmanOnly,
            By::Rle => GzipStrategy::Rle,
            By::Fixed => GzipStrategy::Fixed,
        },
        window_bits: small(config.window_bits.as_ref(), 12),
    }
}

fn brotli(config: &brotli::compressor::v3::Brotli) -> BrotliCompressor {
    use brotli::compressor::v3::brotli::EncoderMode as Mode;
    BrotliCompressor {
        quality: small(config.quality.as_ref(), 3),
        mode: match config.encoder_mode() {
            Mode::Default | Mode::Generic => BrotliMode::Generic,
            Mode::Text => BrotliMode::Text,
            Mode::Font => BrotliMode::Font,
        },
        window_bits: small(config.window_bits.as_ref(), 18),
        block_bits: small(config.input_block_bits.as_ref(), 24),
        no_literal_context: config.disable_literal_context_modeling,
    }
}

fn zstd(config: &zstd::compressor::v3::Zstd, path: &Path) -> Result<ZstdCompressor, Rejection> {
    let level = value::number(config.compression_level.as_ref(), 0);
    let dictionary = config.dictionary.as_ref();
    let dictionary =
        dictionary.map(|source| value::data_source(source, &path.join("dictionary"))).transpose()?;
    Ok(ZstdCompressor {
        level: if level == 0 { 3 } else { level },
        checksum: config.enable_checksum,
        strategy: u8::try_from(config.strategy).unwrap_or(0),
        dictionary: dictionary.map(Arc::from),
    })
}

pub(super) fn decompressor(
    extension: &TypedExtensionConfig,
    path: &Path,
) -> Result<DecompressorLibrary, Rejection> {
    let Some(any) = &extension.typed_config else {
        return Err(not_served("decompressor library", &extension.name, None, path));
    };
    let inside = path.join("typed_config");
    Ok(match type_of(any).as_str() {
        "envoy.extensions.compression.gzip.decompressor.v3.Gzip" => {
            let gzip: gzip::decompressor::v3::Gzip = open(any, &inside)?;
            DecompressorLibrary::Gzip {
                window_bits: small(gzip.window_bits.as_ref(), 15),
                max_inflate_ratio: value::number(gzip.max_inflate_ratio.as_ref(), 100),
            }
        }
        "envoy.extensions.compression.brotli.decompressor.v3.Brotli" => {
            open::<brotli::decompressor::v3::Brotli>(any, &inside).map(|_| DecompressorLibrary::Brotli)?
        }
        "envoy.extensions.compression.zstd.decompressor.v3.Zstd" => {
            let zstd: zstd::decompressor::v3::Zstd = open(any, &inside)?;
            let path = inside.join("dictionaries");
            let one = |(i, source)| value::data_source(source, &path.at(i)).map(Arc::from);
            let dictionaries = zstd.dictionaries.iter().enumerate().map(one).collect::<Result<_, _>>()?;
            DecompressorLibrary::Zstd { dictionaries }
        }
        _ => return Err(not_served("decompressor library", &extension.name, Some(any), path)),
    })
}

/// A figure whose range the message's rules bound.
fn small(configured: Option<&UInt32Value>, default: u8) -> u8 {
    configured.and_then(|number| u8::try_from(number.value).ok()).unwrap_or(default)
}
