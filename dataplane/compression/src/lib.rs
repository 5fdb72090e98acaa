//! Content codings (gzip, brotli, zstd) of one message at a time: bytes in, bytes out, in pieces of any size.
//!
//! [`Compressor`] gives out everything that it has after each piece, so that a message whose sender pauses does not
//! stall. [`Decompressor`] bounds what a piece may grow to. How much memory one of either holds stands in
//! `docs/limits.md`.

mod compress;
mod decompress;
mod dictionary;
#[cfg(test)]
mod tests;

pub use compress::Compressor;
pub use decompress::{DecompressError, Decompressor};

/// Bytes that an engine is given room for at a time.
const STEP: usize = 4096;
