//! Round trips in pieces, and bodies that are not what they say.

use std::sync::Arc;

use millrace_config::{
    BrotliCompressor, BrotliMode, CompressorLibrary, DecompressorLibrary, GzipCompressor, GzipStrategy,
    ZstdCompressor,
};

use super::*;

const GZIP: GzipCompressor =
    GzipCompressor { memory_level: 5, level: None, strategy: GzipStrategy::Default, window_bits: 12 };
const BROTLI: BrotliCompressor = BrotliCompressor {
    quality: 3,
    mode: BrotliMode::Generic,
    window_bits: 18,
    block_bits: 24,
    no_literal_context: false,
};
const ZSTD: ZstdCompressor = ZstdCompressor { level: 3, checksum: false, strategy: 0, dictionary: None };
const GUNZIP: DecompressorLibrary = DecompressorLibrary::Gzip { window_bits: 15, max_inflate_ratio: 100 };

fn pairs() -> Vec<(CompressorLibrary, DecompressorLibrary)> {
    let zstd = || DecompressorLibrary::Zstd { dictionaries: Vec::new() };
    vec![
        (CompressorLibrary::Gzip(GZIP), GUNZIP),
        (
            CompressorLibrary::Gzip(GzipCompressor {
                level: Some(9),
                memory_level: 9,
                strategy: GzipStrategy::Rle,
                window_bits: 15,
            }),
            GUNZIP,
        ),
        (CompressorLibrary::Brotli(BROTLI), DecompressorLibrary::Brotli),
        (
            CompressorLibrary::Brotli(BrotliCompressor {
                quality: 9,
                mode: BrotliMode::Text,
                no_literal_context: true,
                ..BROTLI
            }),
            DecompressorLibrary::Brotli,
        ),
        (CompressorLibrary::Zstd(ZSTD), zstd()),
        (CompressorLibrary::Zstd(ZstdCompressor { level: 6, checksum: true, strategy: 4, ..ZSTD }), zstd()),
    ]
}

fn text() -> Vec<u8> {
    (0..1000).flat_map(|n| format!("line {n} of a text that is not too short\n").into_bytes()).collect()
}

fn compress(library: &CompressorLibrary, data: &[u8], piece: usize) -> Vec<u8> {
    let (mut compressor, mut out) = (Compressor::new(library).unwrap(), Vec::new());
    for piece in data.chunks(piece) {
        compressor.compress(piece, false, &mut out);
    }
    compressor.compress(&[], true, &mut out);
    out
}

fn decompress(library: &DecompressorLibrary, data: &[u8], piece: usize) -> Result<Vec<u8>, DecompressError> {
    let (mut decompressor, mut all) = (Decompressor::new(library).unwrap(), Vec::new());
    for (piece, end) in data.chunks(piece).map(|piece| (piece, false)).chain([(&[][..], true)]) {
        let mut out = Vec::new();
        decompressor.decompress(piece, end, &mut out)?;
        all.append(&mut out);
    }
    Ok(all)
}

#[test]
fn what_goes_in_comes_out_whatever_the_pieces() {
    let text = text();
    for (to, from) in pairs() {
        for piece in [1, 7, 4096, 1 << 20] {
            let text = if piece == 1 { &text[..300] } else { &text[..] };
            let made = compress(&to, text, piece);
            assert!(piece < 4096 || made.len() < text.len() * 3 / 4, "{to:?} {piece}: {}", made.len());
            for back in [1, 5, 4096, 1 << 20] {
                let out = decompress(&from, &made, back);
                assert!(out.as_deref() == Ok(text), "{to:?} {piece} {back} {} {:?}", made.len(), out.err());
            }
        }
        assert_eq!(decompress(&from, &compress(&to, b"", 1), 1 << 20).unwrap(), b"", "{to:?}");
    }
}

/// An event must not wait for the next one.
#[test]
fn every_piece_is_flushed() {
    for (to, from) in pairs() {
        let (mut compressor, mut decompressor) =
            (Compressor::new(&to).unwrap(), Decompressor::new(&from).unwrap());
        for n in 0..20 {
            let (event, mut wire, mut out) = (format!("data: {n}\n\n"), Vec::new(), Vec::new());
            compressor.compress(event.as_bytes(), false, &mut wire);
            decompressor.decompress(&wire, false, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), event, "{to:?}");
        }
    }
}

#[test]
fn bodies_that_are_no_such_thing_or_end_early() {
    let text = text();
    for (to, from) in pairs() {
        let made = compress(&to, &text, 1 << 20);
        let cut = decompress(&from, &made[..made.len() / 2], 1 << 20);
        assert_eq!(cut, Err(DecompressError::Truncated), "{to:?}");
        let plain = decompress(&from, &text, 1 << 20);
        assert!(
            matches!(plain, Err(DecompressError::Malformed | DecompressError::Truncated)),
            "{to:?} {:?}",
            plain.map(|p| p.len())
        );
        assert_eq!(decompress(&from, &[], 1), Ok(Vec::new()));
    }
    let mut wrong = compress(&CompressorLibrary::Gzip(GZIP), &text, 1 << 20);
    let at = wrong.len() - 6;
    wrong[at] ^= 1;
    assert_eq!(decompress(&GUNZIP, &wrong, 1 << 20), Err(DecompressError::Malformed));
}

#[test]
fn noise_does_no_harm() {
    let mut state = 7u64;
    for round in 0..40 {
        for (to, from) in pairs() {
            let mut made = compress(&to, &text()[..2000], 500);
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
                let at = (state >> 33) as usize % made.len();
                made[at] ^= (state >> 20) as u8;
            }
            let _ = decompress(&from, &made, 100);
        }
    }
}

#[test]
fn bombs_do_not_go_off() {
    let zeros = vec![0; 10_000_000];
    for (to, from) in pairs() {
        let bomb = compress(&to, &zeros, 1 << 20);
        let (mut decompressor, mut out) = (Decompressor::new(&from).unwrap(), Vec::new());
        let mut largest = 0;
        let result = bomb.chunks(4096).try_for_each(|piece| {
            let before = out.len();
            let result = decompressor.decompress(piece, false, &mut out);
            largest = largest.max(out.len() - before);
            result
        });
        assert_eq!(result, Err(DecompressError::TooLarge), "{to:?} {}", bomb.len());
        assert!(largest <= 100 * 4096 + 64 * 1024 + 1, "{to:?} {largest}");
    }
    // What is not so much may pass.
    let small = vec![0; 60_000];
    for (to, from) in pairs() {
        assert_eq!(decompress(&from, &compress(&to, &small, 1 << 20), 1 << 20).unwrap(), small);
    }
}

#[test]
fn members_follow_each_other_and_rubbish_is_passed_over() {
    let one = compress(&CompressorLibrary::Gzip(GZIP), b"one ", 100);
    let two = compress(&CompressorLibrary::Gzip(GZIP), b"two", 100);
    for piece in [1, 3, 1000] {
        let both = [&one[..], &two].concat();
        assert_eq!(decompress(&GUNZIP, &both, piece).unwrap(), b"one two");
        let rubbish = [&one[..], b"rubbish"].concat();
        assert_eq!(decompress(&GUNZIP, &rubbish, piece).unwrap(), b"one ", "{piece}");
    }
}

#[test]
fn frames_name_their_dictionary() {
    let dictionary = |id: u8| -> Arc<[u8]> {
        (0..400).flat_map(|n| format!("sample {n} of {id};").into_bytes()).collect()
    };
    let with = CompressorLibrary::Zstd(ZstdCompressor { dictionary: Some(dictionary(1)), ..ZSTD });
    let made = compress(&with, b"sample 399 of 1;sample 398 of 1;", 100);
    // A raw dictionary has no id, so that nobody can find it.
    let from = DecompressorLibrary::Zstd { dictionaries: vec![dictionary(1), dictionary(2)] };
    assert!(decompress(&from, &made, 100).is_err());
    let plain = compress(&CompressorLibrary::Zstd(ZSTD), b"plain", 100);
    for piece in [1, 100] {
        assert_eq!(decompress(&from, &plain, piece).unwrap(), b"plain");
    }
}
