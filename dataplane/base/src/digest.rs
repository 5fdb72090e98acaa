//! Digests of bytes, to recognise what came before without keeping it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use crate::hash::xxh64;

/// 128 bits that stand for some bytes, for as long as the process lives: two XXH64 whose seeds are drawn at its start. No
/// digest means anything to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(u64, u64);

static SEEDS: OnceLock<(u64, u64)> = OnceLock::new();

fn seeds() -> (u64, u64) {
    *SEEDS.get_or_init(|| (RandomState::new().hash_one(1), RandomState::new().hash_one(2)))
}

impl Digest {
    /// What no bytes have: whatever it is compared with is other.
    pub const NONE: Self = Self(0, 0);

    /// Of these bytes.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        let seeds = seeds();
        Self(xxh64(bytes, seeds.0), xxh64(bytes, seeds.1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn equal_bytes_have_equal_digests_and_others_have_others() {
        let mut seen = HashSet::new();
        for length in 0..200_usize {
            let bytes = vec![0_u8; length];
            assert_eq!(Digest::of(&bytes), Digest::of(&bytes.clone()));
            assert!(seen.insert(Digest::of(&bytes)), "{length} zeros");
            for at in 0..length {
                for value in [1_u8, 0x80, 0xff] {
                    let mut other = bytes.clone();
                    other[at] = value;
                    assert!(seen.insert(Digest::of(&other)), "{length} {at} {value}");
                }
            }
        }
    }

    #[test]
    fn words_that_change_places_are_other_bytes() {
        let mut seen = HashSet::new();
        let pieces = [[1_u8; 8], [2; 8], [3; 8], [4; 8]];
        for order in 0..256_usize {
            let bytes: Vec<u8> = (0..4).flat_map(|n| pieces[order >> (2 * n) & 3]).collect();
            assert!(seen.insert(Digest::of(&bytes)), "{order}");
        }
    }

    #[test]
    fn every_bit_of_the_input_reaches_both_halves() {
        let of = |n: u64| Digest::of(&n.to_le_bytes());
        let (mut first, mut second) = (0_u64, 0_u64);
        for n in 0..1000 {
            for bit in 0..64 {
                let (one, other) = (of(n), of(n ^ (1 << bit)));
                assert!(one.0 != other.0 && one.1 != other.1, "{n} {bit}");
                first |= one.0 ^ other.0;
                second |= one.1 ^ other.1;
            }
        }
        assert_eq!((first, second), (u64::MAX, u64::MAX));
    }
}
