//! Eight bytes at a time, in one register: which of them end a name, a value, a target or a plain path.
//!
//! A mask has the high bit of every byte that it names; the lowest byte of a word is the first of the text. Sums never
//! carry from one byte to the next, since they work on seven bits: each mask is exact, and the tests compare it with
//! its naive twin for every byte at every place.

/// Bytes of a word.
pub(crate) const LEN: usize = 8;

const HIGH: u64 = 0x8080_8080_8080_8080;
const LOW: u64 = !HIGH;

/// A word of this byte.
const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; LEN])
}

/// The eight bytes from `text[at]` on, filled up with zeros behind the text. `None` where the text is over.
#[inline]
pub(crate) fn load(text: &[u8], at: usize) -> Option<u64> {
    let rest = text.get(at..)?;
    match rest.first_chunk() {
        Some(word) => Some(u64::from_le_bytes(*word)),
        None => tail(rest),
    }
}

#[cold]
#[inline(never)]
fn tail(rest: &[u8]) -> Option<u64> {
    let word = rest.iter().rev().fold(0, |word, b| word << 8 | u64::from(*b));
    Some(word).filter(|_| !rest.is_empty())
}

/// Place of the first byte of a mask that is not empty.
#[inline]
pub(crate) fn first(mask: u64) -> usize {
    mask.trailing_zeros() as usize / 8
}

/// Everything in front of the first byte of a mask; everything for an empty one.
#[inline]
pub(crate) fn before(mask: u64) -> u64 {
    mask.wrapping_sub(1) & !mask
}

/// High bits of bytes at or above `byte`, for words of seven bits a byte.
#[inline]
fn from(word: u64, byte: u8) -> u64 {
    word + all(0x80 - byte)
}

#[inline]
fn range(word: u64, first: u8, last: u8) -> u64 {
    from(word, first) & !from(word, last + 1)
}

#[inline]
fn letters(word: u64) -> u64 {
    range(word | all(0x20), b'a', b'z')
}

#[inline]
fn is(word: u64, byte: u8) -> u64 {
    !((word ^ all(byte)) + LOW)
}

/// Control bytes, HTAB among them, and DEL: what ends a value.
#[inline]
pub(crate) fn controls(word: u64) -> u64 {
    let low = word & LOW;
    (!from(low, 0x20) | from(low, 0x7f)) & !word & HIGH
}

/// Everything but visible ASCII: what ends a target.
#[inline]
pub(crate) fn not_graphic(word: u64) -> u64 {
    let low = word & LOW;
    (!from(low, 0x21) | from(low, 0x7f) | word) & HIGH
}

/// Everything but letters, digits and `-`, other bytes of a token included: what ends a plain name.
#[inline]
pub(crate) fn not_name(word: u64) -> u64 {
    let low = word & LOW;
    (!(letters(low) | range(low, b'0', b'9') | is(low, b'-')) | word) & HIGH
}

/// Colons; bytes behind the first one may be named wrongly.
#[inline]
pub(crate) fn colons(word: u64) -> u64 {
    let zero = word ^ all(b':');
    zero.wrapping_sub(all(1)) & !zero & HIGH
}

/// Letters in lower case; other bytes without bit 5 change, too.
#[inline]
pub(crate) const fn lower(word: u64) -> u64 {
    word | all(0x20)
}

/// Bit 5 of bytes that came without it: capital letters, or bytes that [`lower`] makes something else.
#[inline]
pub(crate) fn raised(word: u64) -> u64 {
    !word & all(0x20)
}

/// Of [`raised`] bytes those that are no letters: bit 6 is what capitals have and control bytes have not.
#[inline]
pub(crate) fn raised_controls(word: u64) -> u64 {
    raised(word) & !(word >> 1)
}

/// All bits of the first `count` bytes.
#[inline]
pub(crate) fn first_bytes(count: usize) -> u64 {
    if count < LEN { (1 << (8 * count)) - 1 } else { u64::MAX }
}

/// Everything but letters, digits, `-`, `.`, `/`, `_` and `~`: what ends a plain path.
#[inline]
pub(crate) fn not_path(word: u64) -> u64 {
    let low = word & LOW;
    (!(letters(low) | range(low, b'-', b'9') | is(low, b'_') | is(low, b'~')) | word) & HIGH
}

/// Slashes.
#[inline]
pub(crate) fn slashes(word: u64) -> u64 {
    is(word & LOW, b'/') & !word & HIGH
}

/// Dots and slashes.
#[inline]
pub(crate) fn dots_and_slashes(word: u64) -> u64 {
    range(word & LOW, b'.', b'/') & !word & HIGH
}

/// Where the first byte of `text` is that `stops` names.
#[inline]
pub(crate) fn find(text: &[u8], stops: impl Fn(u64) -> u64) -> Option<usize> {
    let (words, rest) = text.as_chunks::<LEN>();
    for (i, word) in words.iter().enumerate() {
        let found = stops(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(i * LEN + first(found));
        }
    }
    // Zeros behind the end may be named, too.
    let at = first(stops(tail(rest)?));
    (at < rest.len()).then_some(words.len() * LEN + at)
}

/// True when `stops` names no byte of `text`; texts shorter than a word are false.
#[inline]
pub(crate) fn none(text: &[u8], stops: impl Fn(u64) -> u64) -> bool {
    let clean = |word: &[u8; LEN]| stops(u64::from_le_bytes(*word)) == 0;
    match text.last_chunk() {
        Some(last) => text.as_chunks().0.iter().all(clean) && clean(last),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(word: u64, holds: impl Fn(u8) -> bool) -> u64 {
        u64::from_le_bytes(word.to_le_bytes().map(|b| if holds(b) { 0x80 } else { 0 }))
    }

    #[test]
    fn the_masks_are_those_of_their_naive_twins() {
        for fill in [b'a', b'Z', b'0', b'-', b'/', b'.', 0, 0x1f, 0x20, 0x7f, 0x80, 0xff] {
            for b in 0..=255u8 {
                for at in 0..LEN {
                    let mut bytes = [fill; LEN];
                    bytes[at] = b;
                    let word = u64::from_le_bytes(bytes);
                    assert_eq!(controls(word), naive(word, |b| b < 0x20 || b == 0x7f), "{bytes:x?}");
                    assert_eq!(not_graphic(word), naive(word, |b| !b.is_ascii_graphic()), "{bytes:x?}");
                    let name = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
                    assert_eq!(not_name(word), naive(word, |b| !name(b)), "{bytes:x?}");
                    let (colon, lowest) = (naive(word, |b| b == b':'), colons(word));
                    assert_eq!(lowest == 0, colon == 0, "{bytes:x?}");
                    assert!(lowest == 0 || first(lowest) == first(colon), "{bytes:x?}");
                    let (letter, control) = (|b: u8| b & 0x60 == 0x40, |b: u8| b & 0x60 == 0);
                    let bit5 = |holds: &dyn Fn(u8) -> bool| naive(word, holds) >> 2;
                    assert_eq!(raised(word), bit5(&|b| letter(b & 0x7f) || control(b)), "{bytes:x?}");
                    assert_eq!(raised_controls(word), bit5(&control), "{bytes:x?}");
                    if name(b) && name(fill) {
                        let lower_case = bytes.map(|b| b.to_ascii_lowercase());
                        assert_eq!(lower(word), u64::from_le_bytes(lower_case), "{bytes:x?}");
                    }
                    let path = |b: u8| b.is_ascii_alphanumeric() || b"-./_~".contains(&b);
                    assert_eq!(not_path(word), naive(word, |b| !path(b)), "{bytes:x?}");
                    assert_eq!(slashes(word), naive(word, |b| b == b'/'), "{bytes:x?}");
                    assert_eq!(dots_and_slashes(word), naive(word, |b| b == b'/' || b == b'.'), "{bytes:x?}");
                }
            }
        }
    }

    #[test]
    fn behind_the_text_are_zeros() {
        let text: [u8; 20] = core::array::from_fn(|i| i as u8 + 1);
        for at in 0..=text.len() {
            let word = load(&text, at).map(u64::to_le_bytes);
            let expected = core::array::from_fn(|i| text.get(at + i).copied().unwrap_or(0));
            assert_eq!(word, Some(expected).filter(|_| at < text.len()), "{at}");
        }
        assert_eq!((first_bytes(2), first_bytes(9)), (0xffff, u64::MAX));
        assert_eq!((first(0x80_0000), before(0x80_0000), before(0)), (2, 0x7f_ffff, u64::MAX));
    }
}
