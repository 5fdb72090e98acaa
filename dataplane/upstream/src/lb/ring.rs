//! The ring of `RING_HASH` (ketama): the same endpoints give the same ring as in Envoy.

use std::fmt::Write;

use millrace_base::hash::{MURMUR_SEED, murmur2, xxh64};
use millrace_config::{HashFunction, RingHash};

/// Positions of hosts on a circle of 64-bit numbers; a hash belongs to the next position at or after it.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    hashes: Vec<u64>,
    /// Index of the host at each position.
    hosts: Vec<u32>,
    /// For each slice of the circle the first position at or after its start: a look-up begins there.
    slices: Vec<u32>,
    /// A hash is in the slice of its upper bits.
    shift: u32,
}

impl Ring {
    /// `keys` holds what is hashed of each host and its share; the shares sum up to 1.
    pub fn new(config: &RingHash, keys: &[(String, f64)]) -> Self {
        let smallest = keys.iter().map(|(_, share)| *share).fold(1.0, f64::min);
        if keys.is_empty() || smallest <= 0.0 {
            return Self::default();
        }
        // The host with the smallest share has a whole number of positions, unless the ring would grow too large.
        let wanted = (smallest * config.minimum_ring_size as f64).ceil() / smallest;
        let scale = wanted.min(config.maximum_ring_size as f64);
        let mut positions: Vec<(u64, u32)> = Vec::with_capacity((scale.ceil() as usize).saturating_add(1));
        let (mut placed, mut target) = (0.0, 0.0);
        let mut text = String::new();
        for (host, (key, share)) in keys.iter().enumerate() {
            target += scale * share;
            text.clear();
            text.push_str(key);
            text.push('_');
            let stem = text.len();
            let mut number = 0u64;
            while placed < target {
                text.truncate(stem);
                let _ = write!(text, "{number}");
                positions.push((hash(config.hash_function, text.as_bytes()), host as u32));
                number += 1;
                placed += 1.0;
            }
        }
        positions.sort_unstable();
        Self::of(&positions)
    }

    fn of(positions: &[(u64, u32)]) -> Self {
        let slices = positions.len().next_power_of_two().max(2);
        let shift = 64 - slices.trailing_zeros();
        let mut ring = Self { shift, ..Self::default() };
        let mut next = 0;
        for slice in 0..slices as u64 {
            while positions.get(next).is_some_and(|(hash, _)| hash >> shift < slice) {
                next += 1;
            }
            ring.slices.push(next as u32);
        }
        (ring.hashes, ring.hosts) = positions.iter().copied().unzip();
        ring
    }

    /// The host of each position.
    pub fn owners(&self) -> impl Iterator<Item = u32> {
        self.hosts.iter().copied()
    }

    /// The index of the host that `hash` belongs to, `attempt` positions further on; constant time on average.
    #[inline]
    pub fn find(&self, hash: u64, attempt: u32) -> Option<u32> {
        let mut at = *self.slices.get((hash >> self.shift.min(63)) as usize)? as usize;
        while *self.hashes.get(at).unwrap_or(&u64::MAX) < hash {
            at += 1;
        }
        // Past the last position the circle begins again.
        let at = if at == self.hosts.len() { 0 } else { at };
        if attempt == 0 {
            return self.hosts.get(at).copied();
        }
        self.hosts.get((at + attempt as usize) % self.hosts.len().max(1)).copied()
    }
}

fn hash(function: HashFunction, key: &[u8]) -> u64 {
    match function {
        HashFunction::XxHash => xxh64(key, 0),
        HashFunction::MurmurHash2 => murmur2(key, MURMUR_SEED),
    }
}

#[cfg(test)]
mod tests {
    use millrace_base::Rng;

    use super::*;

    fn keys(count: u32) -> Vec<(String, f64)> {
        (0..count).map(|n| (format!("10.0.0.{n}:80"), 1.0 / f64::from(count))).collect()
    }

    /// The search that the algorithm is defined by.
    fn plain(ring: &Ring, hash: u64) -> Option<u32> {
        let at = ring.hashes.partition_point(|position| *position < hash);
        ring.hosts.get(at % ring.hosts.len()).copied()
    }

    #[test]
    fn look_ups_agree_with_a_plain_search() {
        let mut rng = Rng::new(3);
        for count in [1, 2, 3, 50, 700] {
            let ring = Ring::new(&RingHash { minimum_ring_size: 1, ..RingHash::default() }, &keys(count));
            assert_eq!(ring.hosts.len(), count as usize);
            let own = ring.hashes.clone();
            let near = own.iter().flat_map(|h| [*h, h.wrapping_sub(1), h.wrapping_add(1)]);
            for hash in near.chain([0, 1, u64::MAX]).chain((0..2000).map(|_| rng.next_u64())) {
                assert_eq!(ring.find(hash, 0), plain(&ring, hash), "{count} {hash}");
            }
        }
        assert_eq!(Ring::default().find(7, 0), None);
    }

    #[test]
    fn sizes_follow_the_smallest_share_and_the_limits() {
        let size = |min, max, keys: &[(String, f64)]| {
            let config = RingHash { minimum_ring_size: min, maximum_ring_size: max, ..RingHash::default() };
            let ring = Ring::new(&config, keys);
            let mut counts = vec![0; keys.len()];
            ring.hosts.iter().for_each(|host| counts[*host as usize] += 1);
            counts
        };
        assert_eq!(size(1024, 4096, &keys(3)), [342; 3]);
        assert_eq!(size(1, 4096, &keys(4)), [1; 4]);
        // Six positions for four hosts: one and a half each, in running sums.
        assert_eq!(size(12, 6, &keys(4)), [2, 1, 2, 1]);
        assert_eq!(size(8, 4096, &[("a".into(), 0.25), ("b".into(), 0.75)]), [2, 6]);
    }
}
