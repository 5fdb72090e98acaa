//! Integers with a prefix of 4 to 7 bits (RFC 7541 section 5.1), bounded to 32 bits.

use alloc::vec::Vec;

use super::HpackError;

/// Octets behind the prefix that a 32-bit number may need.
const MORE_MAX: u32 = 5;

/// Takes an integer off the front of `input`; the bits above the prefix are ignored.
#[inline]
pub(super) fn take(input: &mut &[u8], prefix_bits: u32) -> Result<u32, HpackError> {
    let Some((first, rest)) = input.split_first() else { return Err(HpackError::Truncated) };
    *input = rest;
    let prefix_max = (1u32 << prefix_bits) - 1;
    let value = u32::from(*first) & prefix_max;
    if value < prefix_max { Ok(value) } else { take_more(input, prefix_max) }
}

fn take_more(input: &mut &[u8], prefix_max: u32) -> Result<u32, HpackError> {
    let mut value = u64::from(prefix_max);
    for i in 0..MORE_MAX {
        let Some((octet, rest)) = input.split_first() else { return Err(HpackError::Truncated) };
        *input = rest;
        value += u64::from(octet & 0x7f) << (7 * i);
        if octet & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| HpackError::IntegerOverflow);
        }
    }
    Err(HpackError::IntegerOverflow)
}

/// Appends an integer whose first octet has the bits `high` above the prefix.
#[inline]
pub(super) fn put(value: u32, prefix_bits: u32, high: u8, out: &mut Vec<u8>) {
    let prefix_max = (1u32 << prefix_bits) - 1;
    if value < prefix_max {
        out.push(high | value as u8);
    } else {
        out.push(high | prefix_max as u8);
        put_more(value - prefix_max, out);
    }
}

fn put_more(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(mut input: &[u8], prefix_bits: u32) -> Result<(u32, usize), HpackError> {
        let len = input.len();
        take(&mut input, prefix_bits).map(|value| (value, len - input.len()))
    }

    #[test]
    fn the_examples_of_appendix_c_1() {
        assert_eq!(taken(&[0b1110_1010], 5), Ok((10, 1)));
        assert_eq!(taken(&[0b0001_1111, 0b1001_1010, 0b0000_1010], 5), Ok((1337, 3)));
        assert_eq!(taken(&[0b0010_1010], 8), Ok((42, 1)));
    }

    #[test]
    fn what_is_put_is_taken_again() {
        let mut out = Vec::new();
        let powers = (0..32).flat_map(|bit| [(1u32 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in powers.chain([u32::MAX]) {
            for bits in 4..=7 {
                out.clear();
                put(value, bits, 0x80, &mut out);
                assert!(out[0] & 0x80 != 0 && out.len() <= 6);
                assert_eq!(taken(&out, bits), Ok((value, out.len())));
                for end in 0..out.len() {
                    assert_eq!(taken(&out[..end], bits), Err(HpackError::Truncated));
                }
            }
        }
    }

    #[test]
    fn numbers_are_bounded_in_value_and_in_octets() {
        let overflow = Err(HpackError::IntegerOverflow);
        assert_eq!(taken(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f], 7), overflow, "2^35");
        assert_eq!(taken(&[0x7f, 0x81, 0xff, 0xff, 0xff, 0x0f], 7), overflow, "2^32");
        assert_eq!(taken(&[0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f], 7), Ok((u32::MAX, 6)));
        assert_eq!(taken(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 7), overflow, "127 in 7 octets");
        assert_eq!(taken(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x00], 7), Ok((127, 6)));
    }
}
