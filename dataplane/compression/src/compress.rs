//! The compressing side.

use std::fmt;
use std::io::Write;

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use brotli::enc::backward_references::BrotliEncoderMode;
use millrace_config::{
    BrotliCompressor, BrotliMode, CompressorLibrary, GzipCompressor, GzipStrategy, ZstdCompressor,
};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status, Strategy};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

use crate::STEP;

/// `windowBits` of zlib for a gzip header around the data.
const GZIP_HEADER: i32 = 16;
/// Higher levels have windows that RFC 9659 forbids, and hold most of a gigabyte.
const ZSTD_LEVEL_MAX: i32 = 19;
/// What zlib takes for its own choice of a level.
const DEFAULT_LEVEL: i32 = -1;

/// Compresses one message.
pub struct Compressor(Engine);

enum Engine {
    Gzip(Box<Deflate>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(Box<Encoder<'static>>),
    /// The message is complete, or the engine has failed.
    Over,
}

impl Compressor {
    /// For one message. `None` when the library cannot be had, for want of memory or because of a broken dictionary.
    pub fn new(library: &CompressorLibrary) -> Option<Self> {
        Some(Self(match library {
            CompressorLibrary::Gzip(options) => Engine::Gzip(Box::new(gzip(options))),
            CompressorLibrary::Brotli(options) => Engine::Brotli(Box::new(brotli(options))),
            CompressorLibrary::Zstd(options) => Engine::Zstd(Box::new(zstd(options)?)),
        }))
    }

    /// Appends to `out` what `data` becomes, all of it. With `end` the message is complete.
    pub fn compress(&mut self, data: &[u8], end: bool, out: &mut Vec<u8>) {
        if data.is_empty() && !end {
            return;
        }
        match &mut self.0 {
            Engine::Gzip(engine) => deflate(engine, data, end, out),
            Engine::Brotli(engine) => {
                // Writing to memory does not fail.
                let _ = engine.write_all(data).and_then(|()| engine.flush());
                out.append(engine.get_mut());
            }
            Engine::Zstd(engine) => {
                if run(engine, data, end, out).is_err() {
                    self.0 = Engine::Over;
                }
            }
            Engine::Over => {}
        }
        if end && let Engine::Brotli(engine) = std::mem::replace(&mut self.0, Engine::Over) {
            out.append(&mut engine.into_inner());
        }
    }
}

fn gzip(options: &GzipCompressor) -> Deflate {
    Deflate::new_with_config(DeflateConfig {
        level: options.level.map_or(DEFAULT_LEVEL, i32::from),
        window_bits: i32::from(options.window_bits) + GZIP_HEADER,
        mem_level: i32::from(options.memory_level),
        strategy: match options.strategy {
            GzipStrategy::Default => Strategy::Default,
            GzipStrategy::Filtered => Strategy::Filtered,
            GzipStrategy::HuffmanOnly => Strategy::HuffmanOnly,
            GzipStrategy::Rle => Strategy::Rle,
            GzipStrategy::Fixed => Strategy::Fixed,
        },
        ..DeflateConfig::default()
    })
}

fn brotli(options: &BrotliCompressor) -> CompressorWriter<Vec<u8>> {
    let params = BrotliEncoderParams {
        quality: i32::from(options.quality),
        lgwin: i32::from(options.window_bits),
        // A block that is longer than the window costs memory and gives nothing.
        lgblock: i32::from(options.block_bits.min(options.window_bits).max(16)),
        mode: match options.mode {
            BrotliMode::Generic => BrotliEncoderMode::BROTLI_MODE_GENERIC,
            BrotliMode::Text => BrotliEncoderMode::BROTLI_MODE_TEXT,
            BrotliMode::Font => BrotliEncoderMode::BROTLI_MODE_FONT,
        },
        disable_literal_context_modeling: i32::from(options.no_literal_context),
        ..BrotliEncoderParams::default()
    };
    CompressorWriter::with_params(Vec::new(), STEP, &params)
}

fn zstd(options: &ZstdCompressor) -> Option<Encoder<'static>> {
    let level = i32::try_from(options.level).unwrap_or(i32::MAX).min(ZSTD_LEVEL_MAX);
    let dictionary = options.dictionary.as_deref().unwrap_or_default();
    let mut engine = Encoder::with_dictionary(level, dictionary).ok()?;
    engine.set_parameter(CParameter::ChecksumFlag(options.checksum)).ok()?;
    if let Some(strategy) = strategy(options.strategy) {
        engine.set_parameter(CParameter::Strategy(strategy)).ok()?;
    }
    Some(engine)
}

fn strategy(number: u8) -> Option<zstd::zstd_safe::Strategy> {
    use zstd::zstd_safe::Strategy as S;
    let all = [
        S::ZSTD_fast,
        S::ZSTD_dfast,
        S::ZSTD_greedy,
        S::ZSTD_lazy,
        S::ZSTD_lazy2,
        S::ZSTD_btlazy2,
        S::ZSTD_btopt,
        S::ZSTD_btultra,
        S::ZSTD_btultra2,
    ];
    all.into_iter().nth(usize::from(number).checked_sub(1)?)
}

fn deflate(engine: &mut Deflate, mut data: &[u8], end: bool, out: &mut Vec<u8>) {
    let flush = if end { DeflateFlush::Finish } else { DeflateFlush::SyncFlush };
    loop {
        let (start, read, written) = (out.len(), engine.total_in(), engine.total_out());
        out.resize(start + STEP, 0);
        let status = engine.compress(data, &mut out[start..], flush);
        let made = (engine.total_out() - written) as usize;
        out.truncate(start + made);
        data = &data[(engine.total_in() - read) as usize..];
        let goes_on = made == STEP || !data.is_empty();
        if !goes_on || !matches!(status, Ok(Status::Ok | Status::BufError)) {
            return;
        }
    }
}

fn run(engine: &mut Encoder<'_>, data: &[u8], end: bool, out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut input = InBuffer::around(data);
    while input.pos() < data.len() {
        room(out);
        let at = out.len();
        engine.run(&mut input, &mut OutBuffer::around_pos(out, at))?;
    }
    loop {
        room(out);
        let at = out.len();
        let mut output = OutBuffer::around_pos(out, at);
        let left = if end { engine.finish(&mut output, true) } else { engine.flush(&mut output) }?;
        if left == 0 {
            return Ok(());
        }
    }
}

fn room(out: &mut Vec<u8>) {
    out.reserve(STEP);
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Engine::Gzip(_) => "Compressor(gzip)",
            Engine::Brotli(_) => "Compressor(brotli)",
            Engine::Zstd(_) => "Compressor(zstd)",
            Engine::Over => "Compressor(over)",
        })
    }
}
