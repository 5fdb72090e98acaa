//! The decompressing side.

use std::fmt;
use std::sync::Arc;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use millrace_config::DecompressorLibrary;
use zlib_rs::{Inflate, InflateFlush, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::STEP;
use crate::dictionary::{FRAME_HEADER_BYTES, decoder_for};

/// What Envoy has for the libraries whose ratio cannot be configured.
const RATIO: u32 = 100;
/// Short pieces may grow to this much, whatever the ratio.
const SLACK: usize = 64 * 1024;
/// log2 of the largest window of a zstd frame that is taken: 8 MiB, as RFC 9659 has it.
const ZSTD_WINDOW_LOG: u32 = 23;
/// `windowBits` of zlib for a gzip header around the data.
const GZIP_HEADER: u8 = 16;
/// First byte of a gzip member.
const GZIP_MAGIC: u8 = 0x1f;

/// Why a body cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecompressError {
    /// It is not what it says it is, or its checksum is wrong.
    Malformed,
    /// It ends in the middle.
    Truncated,
    /// It grows to more than the ratio allows.
    TooLarge,
    /// It was made with a dictionary that is not here.
    UnknownDictionary,
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::Truncated => "ends in the middle",
            Self::TooLarge => "grows too much",
            Self::UnknownDictionary => "made with an unknown dictionary",
        })
    }
}

impl std::error::Error for DecompressError {}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// Decompresses one message.
pub struct Decompressor {
    engine: Engine,
    ratio: u32,
    /// Of the message so far.
    read: usize,
    written: usize,
    /// The message has begun, and the engine is in the middle of it.
    inside: bool,
}

/// Members of gzip, one after the other.
struct Gzip {
    inflate: Inflate,
    window_bits: u8,
    /// A member is complete: what follows and is none is passed over.
    any: bool,
}

enum Engine {
    Gzip(Box<Gzip>),
    Brotli(Box<Brotli>),
    Zstd(Box<Decoder<'static>>),
    /// Waits for the head of the frame, which says which dictionary it needs.
    ZstdHead {
        dictionaries: Vec<Arc<[u8]>>,
        head: Vec<u8>,
    },
    /// What follows the end of the message is passed over, as in Envoy.
    Over,
}

impl Decompressor {
    /// For one message. `None` when the library cannot be had for want of memory.
    pub fn new(library: &DecompressorLibrary) -> Option<Self> {
        let (engine, ratio) = match library {
            DecompressorLibrary::Gzip { window_bits, max_inflate_ratio } => {
                (gzip(*window_bits), *max_inflate_ratio)
            }
            DecompressorLibrary::Brotli => {
                let alloc = StandardAlloc::default;
                (Engine::Brotli(Box::new(BrotliState::new(alloc(), alloc(), alloc()))), RATIO)
            }
            DecompressorLibrary::Zstd { dictionaries } if dictionaries.is_empty() => {
                (zstd(Decoder::new().ok()?)?, RATIO)
            }
            DecompressorLibrary::Zstd { dictionaries } => {
                (Engine::ZstdHead { dictionaries: dictionaries.clone(), head: Vec::new() }, RATIO)
            }
        };
        Some(Self { engine, ratio, read: 0, written: 0, inside: false })
    }

    /// Appends to `out` what `data` becomes. With `end` nothing follows.
    ///
    /// # Errors
    /// After an error the message cannot be continued. Growth is bounded twice: what all pieces together, and what this
    /// piece alone, may become is the ratio times its length and 64 KiB.
    pub fn decompress(&mut self, data: &[u8], end: bool, out: &mut Vec<u8>) -> Result<(), DecompressError> {
        let before = out.len();
        self.read = self.read.saturating_add(data.len());
        let ratio = self.ratio as usize;
        let of_all = self.read.saturating_mul(ratio).saturating_add(SLACK).saturating_sub(self.written);
        let of_this = data.len().saturating_mul(ratio).saturating_add(SLACK);
        self.inside |= !data.is_empty();
        self.feed(data, end, before + of_all.min(of_this), out)?;
        self.written += out.len() - before;
        if end && self.inside { Err(DecompressError::Truncated) } else { Ok(()) }
    }

    /// `max` is how long `out` may become.
    fn feed(&mut self, data: &[u8], end: bool, max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
        let joined;
        let mut data = data;
        if let Engine::ZstdHead { dictionaries, head } = &mut self.engine {
            head.extend_from_slice(data);
            if head.is_empty() || (head.len() < FRAME_HEADER_BYTES && !end) {
                return Ok(());
            }
            let decoder = decoder_for(dictionaries, head)?;
            joined = std::mem::take(head);
            data = &joined;
            self.engine = zstd(decoder).ok_or(DecompressError::Malformed)?;
        }
        match &mut self.engine {
            Engine::Gzip(gzip) => match gzip.unpack(data, max, out, self.inside)? {
                Some(inside) => self.inside = inside,
                None => (self.engine, self.inside) = (Engine::Over, false),
            },
            Engine::Brotli(state) => {
                if unbrotli(state, data, max, out)? {
                    (self.engine, self.inside) = (Engine::Over, false);
                }
            }
            Engine::Zstd(decoder) => self.inside = unzstd(decoder, data, max, out, self.inside)?,
            Engine::ZstdHead { .. } | Engine::Over => self.inside = false,
        }
        Ok(())
    }
}

fn gzip(window_bits: u8) -> Engine {
    Engine::Gzip(Box::new(Gzip { inflate: inflate(window_bits), window_bits, any: false }))
}

fn inflate(window_bits: u8) -> Inflate {
    Inflate::new(true, window_bits + GZIP_HEADER)
}

fn zstd(mut decoder: Decoder<'static>) -> Option<Engine> {
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).ok()?;
    Some(Engine::Zstd(Box::new(decoder)))
}

impl Gzip {
    /// Whether the engine is inside a member then; `None` when no member follows any more.
    fn unpack(
        &mut self,
        mut data: &[u8],
        max: usize,
        out: &mut Vec<u8>,
        mut inside: bool,
    ) -> Result<Option<bool>, DecompressError> {
        // What did not fit may still be in the engine when the input is used up.
        let mut more = false;
        while more || !data.is_empty() {
            let inflate = &mut self.inflate;
            let fresh = inflate.total_in() == 0;
            if fresh && self.any && data.first().is_some_and(|first| *first != GZIP_MAGIC) {
                return Ok(None);
            }
            let (start, read, written) = (out.len(), inflate.total_in(), inflate.total_out());
            let room = STEP.min((max + 1).saturating_sub(start));
            out.resize(start + room, 0);
            let status = inflate.decompress(data, &mut out[start..], InflateFlush::NoFlush);
            let made = (inflate.total_out() - written) as usize;
            out.truncate(start + made);
            data = &data[(inflate.total_in() - read) as usize..];
            if out.len() > max {
                return Err(DecompressError::TooLarge);
            }
            match status {
                Ok(Status::StreamEnd) => {
                    (inside, self.any, more) = (false, true, false);
                    self.inflate = self::inflate(self.window_bits);
                }
                Ok(Status::Ok | Status::BufError) => (inside, more) = (true, made == room),
                Err(_) => return Err(DecompressError::Malformed),
            }
        }
        Ok(Some(inside))
    }
}

/// True when the message is complete.
fn unbrotli(state: &mut Brotli, data: &[u8], max: usize, out: &mut Vec<u8>) -> Result<bool, DecompressError> {
    let (mut left, mut at, mut total) = (data.len(), 0, 0);
    loop {
        let start = out.len();
        let mut room = STEP.min((max + 1).saturating_sub(start));
        out.resize(start + room, 0);
        let mut made = 0;
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            data,
            &mut room,
            &mut made,
            &mut out[start..],
            &mut total,
            state,
        );
        out.truncate(start + made);
        if out.len() > max {
            return Err(DecompressError::TooLarge);
        }
        match result {
            BrotliResult::ResultSuccess => return Ok(true),
            BrotliResult::NeedsMoreInput => return Ok(false),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(DecompressError::Malformed),
        }
    }
}

/// True while the engine is inside a frame.
fn unzstd(
    decoder: &mut Decoder<'_>,
    data: &[u8],
    max: usize,
    out: &mut Vec<u8>,
    inside: bool,
) -> Result<bool, DecompressError> {
    let mut input = InBuffer::around(data);
    let mut inside = inside;
    loop {
        let start = out.len();
        let room = STEP.min((max + 1).saturating_sub(start));
        out.resize(start + room, 0);
        let mut output = OutBuffer::around(&mut out[start..]);
        let hint = decoder.run(&mut input, &mut output).map_err(|_| DecompressError::Malformed)?;
        let made = output.pos();
        out.truncate(start + made);
        if out.len() > max {
            return Err(DecompressError::TooLarge);
        }
        if hint == 0 || made > 0 || input.pos() > 0 {
            inside = hint != 0;
        }
        if input.pos() == data.len() && made < room {
            return Ok(inside);
        }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = match self.engine {
            Engine::Gzip(_) => "gzip",
            Engine::Brotli(_) => "brotli",
            Engine::Zstd(_) | Engine::ZstdHead { .. } => "zstd",
            Engine::Over => "over",
        };
        write!(f, "Decompressor({engine}, {} to {})", self.read, self.written)
    }
}
