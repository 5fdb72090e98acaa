//! The Huffman code of strings (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: everything follows from the lengths of the codes, at compile time. The decoder takes up to
//! two symbols a step from a table of the next bits; codes that do not fit are found by their length.

use alloc::vec::Vec;

use super::HpackError;

/// Symbols, EOS included.
pub(crate) const SYMBOLS: usize = 257;
const EOS: u16 = 256;
/// Bits of the longest code.
const LONGEST: usize = 30;
/// Bits of a step of the decoder.
const STEP: u32 = 12;

/// Bits of every symbol's code.
#[rustfmt::skip]
pub(crate) static LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The code, sorted by length and then by symbol, as canonical codes are given out.
struct Canonical {
    /// Symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// Codes of up to this length are below this number when 32 bits are looked at.
    ends: [u64; LONGEST + 1],
    /// The first code of this length, and its place in `symbols`.
    firsts: [(u32, u16); LONGEST + 1],
    /// Every symbol's code.
    codes: [u32; SYMBOLS],
}

static CODE: Canonical = canonical();

const fn canonical() -> Canonical {
    let mut code = Canonical {
        symbols: [0; SYMBOLS],
        ends: [0; LONGEST + 1],
        firsts: [(0, 0); LONGEST + 1],
        codes: [0; SYMBOLS],
    };
    let (mut next, mut place, mut len) = (0u32, 0, 1);
    while len <= LONGEST {
        next <<= 1;
        code.firsts[len] = (next, place as u16);
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == len {
                code.codes[symbol] = next;
                code.symbols[place] = symbol as u16;
                (next, place) = (next + 1, place + 1);
            }
            symbol += 1;
        }
        code.ends[len] = (next as u64) << (32 - len);
        len += 1;
    }
    assert!(next == 1 << LONGEST && place == SYMBOLS, "the code is complete");
    code
}

/// What the next [`STEP`] bits mean: one or two symbols in the low octets, then their bits together, then how many.
/// 0: the first code is longer.
static STEPS: [u32; 1 << STEP] = steps();

const fn steps() -> [u32; 1 << STEP] {
    let mut steps = [0; 1 << STEP];
    let mut at = 0;
    while at < steps.len() {
        let bits = (at as u32) << (32 - STEP);
        let (first, len) = symbol_at(bits);
        if len <= STEP {
            steps[at] = first as u32 | len << 16 | 1 << 24;
            let (second, more) = symbol_at(bits << len);
            if len + more <= STEP {
                steps[at] = first as u32 | (second as u32) << 8 | (len + more) << 16 | 2 << 24;
            }
        }
        at += 1;
    }
    steps
}

/// The symbol whose code starts these 32 bits, and the code's length.
const fn symbol_at(bits: u32) -> (u16, u32) {
    let mut len = 5;
    while len < LONGEST && bits as u64 >= CODE.ends[len] {
        len += 1;
    }
    let (first, place) = CODE.firsts[len];
    let symbol = CODE.symbols[place as usize + ((bits >> (32 - len)) - first) as usize];
    (symbol, len as u32)
}

/// Most octets that `len` octets of Huffman code stand for, and room for the decoder's last step.
#[inline]
pub(super) const fn decoded_max(len: usize) -> usize {
    len * 8 / 5 + 2
}

/// Appends what `input` stands for.
pub(super) fn decode(mut input: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let start = out.len();
    out.resize(start + decoded_max(input.len()), 0);
    let (_, text) = out.split_at_mut(start);
    // The next `count` bits stand at the top of `bits`; behind them stand the start of `input`, or zeros.
    let (mut bits, mut count, mut at) = (0u64, 0u32, 0);
    loop {
        if let Some(word) = input.first_chunk() {
            bits |= u64::from_be_bytes(*word) >> count;
            let octets = (63 - count) / 8;
            input = &input[octets as usize..];
            count += octets * 8;
        } else {
            while count <= 56
                && let Some((octet, rest)) = input.split_first()
            {
                bits |= u64::from(*octet) << (56 - count);
                (input, count) = (rest, count + 8);
            }
        }
        while count >= STEP {
            let step = STEPS[(bits >> (64 - STEP)) as usize];
            let Some(two) = text.get_mut(at..at + 2) else { break };
            two.copy_from_slice(&[step as u8, (step >> 8) as u8]);
            if step == 0 {
                break;
            }
            let used = (step >> 16) & 0xff;
            (bits, count, at) = (bits << used, count - used, at + (step >> 24) as usize);
        }
        while count >= 32 || input.is_empty() {
            if count < 8 && bits.leading_ones() == count {
                out.truncate(start + at);
                return Ok(());
            }
            // Behind the end there are ones, as padding has it.
            let (symbol, used) = next_symbol(((bits | u64::MAX.unbounded_shr(count)) >> 32) as u32);
            if used > count {
                return Err(HpackError::HuffmanPadding);
            }
            if symbol == EOS {
                return Err(HpackError::HuffmanEos);
            }
            if let Some(place) = text.get_mut(at) {
                *place = symbol as u8;
            }
            (bits, count, at) = (bits << used, count - used, at + 1);
        }
    }
}

/// [`symbol_at`], from the table where that has it.
#[inline]
fn next_symbol(bits: u32) -> (u16, u32) {
    let first = STEPS[(bits >> (32 - STEP)) as usize];
    if first == 0 {
        return symbol_at(bits);
    }
    (u16::from(first as u8), u32::from(LENGTHS[usize::from(first as u8)]))
}

/// Octets that `text` takes in Huffman code.
#[inline]
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|b| usize::from(LENGTHS[usize::from(*b)])).sum();
    bits.div_ceil(8)
}

/// Appends `text` in Huffman code.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0u64, 0u32);
    for b in text {
        let len = u32::from(LENGTHS[usize::from(*b)]);
        bits = bits << len | u64::from(CODE.codes[usize::from(*b)]);
        count += len;
        if count >= 32 {
            count -= 32;
            out.extend_from_slice(&((bits >> count) as u32).to_be_bytes());
        }
    }
    // Ones up to the next octet.
    let octets = count.div_ceil(8);
    let padding = octets * 8 - count;
    let last = (bits << padding | ((1 << padding) - 1)) << (32 - octets * 8);
    out.extend_from_slice(&(last as u32).to_be_bytes()[..octets as usize]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::hpack::twin::Twin;
    use alloc::vec;
    use millrace_base::Rng;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = b"in front".to_vec();
        decode(input, &mut out)?;
        assert!(out.starts_with(b"in front"));
        Ok(out.split_off(8))
    }

    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(text, &mut out);
        assert_eq!(out.len(), encoded_len(text));
        out
    }

    #[test]
    fn every_octet_has_its_code() {
        let twin = Twin::new(0);
        for b in 0..=255u8 {
            for text in [vec![b], vec![b; 7], vec![b'a', b, b'0'], vec![b, 0, b]] {
                let code = encoded(&text);
                assert_eq!(code, twin.to_huffman(&text), "{b:#x}");
                assert_eq!(decoded(&code), Ok(text), "{b:#x}");
            }
        }
    }

    #[test]
    fn random_texts_come_back_and_random_bits_are_judged_as_the_twin_does() {
        let (mut rng, twin) = (Rng::new(9), Twin::new(0));
        let mut right = 0;
        for round in 0..4000 {
            let octets: Vec<u8> = (0..rng.below(40)).map(|_| rng.next_u64() as u8).collect();
            let visible: Vec<u8> = octets.iter().map(|b| b' ' + b % 95).collect();
            for text in [&octets, &visible] {
                let code = encoded(text);
                assert_eq!(code, twin.to_huffman(text));
                assert_eq!(decoded(&code).as_ref(), Ok(text));
            }
            let mut code = if round % 2 == 0 { octets } else { encoded(&visible) };
            if let Some(last) = code.last_mut().filter(|_| round % 3 == 0) {
                *last |= 0x0f;
            }
            let ours = decoded(&code);
            right += u32::from(ours.is_ok());
            assert_eq!(ours.ok(), twin.huffman(&code).ok(), "{code:x?}");
        }
        assert!(right > 1000, "{right} of 4,000 codes are right");
    }
}
