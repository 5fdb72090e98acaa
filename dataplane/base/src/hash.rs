//! Non-cryptographic hashes whose values peers rely on: the same bytes must give the same endpoint everywhere.

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

#[inline]
fn round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

/// A little-endian number of up to eight bytes.
#[inline]
fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[inline]
fn word(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes)
}

/// XXH64 (`https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md`).
pub fn xxh64(input: &[u8], seed: u64) -> u64 {
    let mut hash = seed.wrapping_add(P5);
    let (words, tail) = input.as_chunks::<8>();
    let (stripes, words) = words.as_chunks::<4>();
    if !stripes.is_empty() {
        let mut lanes =
            [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
        for stripe in stripes {
            for (lane, input) in lanes.iter_mut().zip(stripe) {
                *lane = round(*lane, word(input));
            }
        }
        let [a, b, c, d] = lanes;
        hash = a.rotate_left(1).wrapping_add(b.rotate_left(7));
        hash = hash.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18));
        for lane in lanes {
            hash = (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4);
        }
    }
    hash = hash.wrapping_add(input.len() as u64);
    for input in words {
        hash = (hash ^ round(0, word(input))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let (halves, bytes) = tail.as_chunks::<4>();
    for half in halves {
        let input = u64::from(u32::from_le_bytes(*half)).wrapping_mul(P1);
        hash = (hash ^ input).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
    }
    for byte in bytes {
        hash = (hash ^ u64::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

/// The seed of `std::hash` in libstdc++, which `MURMUR_HASH_2` rings are made with.
pub const MURMUR_SEED: u64 = 0xc70f_6907;

/// MurmurHash2 of 64 bits (MurmurHash64A), as in libstdc++'s `hash_bytes`.
pub fn murmur2(input: &[u8], seed: u64) -> u64 {
    const MUL: u64 = 0xc6a4_a793_5bd1_e995;
    let mix = |value: u64| value ^ (value >> 47);
    let mut hash = seed ^ (input.len() as u64).wrapping_mul(MUL);
    let (words, tail) = input.as_chunks::<8>();
    for input in words {
        hash = (hash ^ mix(word(input).wrapping_mul(MUL)).wrapping_mul(MUL)).wrapping_mul(MUL);
    }
    if !tail.is_empty() {
        hash = (hash ^ little(tail)).wrapping_mul(MUL);
    }
    mix(mix(hash).wrapping_mul(MUL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xxh64_has_the_published_values() {
        for (input, seed, hash) in [
            ("", 0, 0xef46_db37_51d8_e999),
            ("xxhash", 20_141_025, 0xb559_b98d_844e_0635),
            ("a", 0, 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0, 0x44bc_2cf5_ad77_0999),
            ("xxhash", 0, 0x32dd_3895_2c4b_c720),
            ("Nobody inspects the spammish repetition", 0, 0xfbce_a83c_8a37_8bf1),
        ] {
            assert_eq!(xxh64(input.as_bytes(), seed), hash, "{input} {seed}");
        }
    }

    #[test]
    fn murmur2_has_the_values_of_libstdcxx() {
        // std::hash<std::string> of a 64-bit libstdc++.
        for (input, hash) in [
            ("", 0x553e_9390_1e46_2a6e),
            ("a", 0x454d_dee4_88c1_ed6b),
            ("abcdefgh", 0x783d_b3e3_8db8_98bb),
            ("10.0.0.1:80_0", 0xbd8f_6461_ecff_b28c),
            ("the quick brown fox", 0x2658_45dd_fb02_80cd),
        ] {
            assert_eq!(murmur2(input.as_bytes(), MURMUR_SEED), hash, "{input}");
        }
    }
}
