//! The look-up table of `MAGLEV`: the same endpoints give the same table as in Envoy.

use millrace_base::hash::xxh64;

/// The host of every hash, modulo the size of the table.
#[derive(Debug, Default)]
pub(crate) struct Maglev {
    slots: Slots,
}

/// As narrow as the number of hosts allows: the table is read at random.
#[derive(Debug)]
enum Slots {
    Small(Vec<u8>),
    Medium(Vec<u16>),
    Large(Vec<u32>),
}

impl Default for Slots {
    fn default() -> Self {
        Self::Small(Vec::new())
    }
}

/// A host's way through the table while it is filled.
#[derive(Debug)]
struct Entry {
    host: u32,
    at: u64,
    skip: u64,
    weight: f64,
    /// Grows with every slot taken; a host whose weight lags behind it sits rounds out.
    target: f64,
}

const EMPTY: u32 = u32::MAX;

impl Maglev {
    /// `keys` holds what is hashed of each host and its share; `size` is a prime.
    pub fn new(size: u32, keys: &[(String, f64)]) -> Self {
        if keys.is_empty() || size < 2 {
            return Self::default();
        }
        let modulus = u64::from(size);
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by(|a, b| keys[*a as usize].0.cmp(&keys[*b as usize].0));
        let mut entries: Vec<Entry> = order
            .into_iter()
            .map(|host| {
                let (key, weight) = &keys[host as usize];
                Entry {
                    host,
                    at: xxh64(key.as_bytes(), 0) % modulus,
                    skip: xxh64(key.as_bytes(), 1) % (modulus - 1) + 1,
                    weight: *weight,
                    target: 0.0,
                }
            })
            .collect();
        let table = fill(&mut entries, size);
        Self { slots: Slots::of(table, keys.len()) }
    }

    /// The host of each slot.
    pub fn owners(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match &self.slots {
            Slots::Small(table) => Box::new(table.iter().map(|host| u32::from(*host))),
            Slots::Medium(table) => Box::new(table.iter().map(|host| u32::from(*host))),
            Slots::Large(table) => Box::new(table.iter().copied()),
        }
    }

    /// The index of the host that `hash` belongs to; later attempts change the hash.
    #[inline]
    pub fn find(&self, hash: u64, attempt: u32) -> Option<u32> {
        let hash = if attempt == 0 { hash } else { hash ^ u64::from(attempt).wrapping_neg() };
        let at = |len: usize| if len == 0 { 0 } else { (hash % len as u64) as usize };
        match &self.slots {
            Slots::Small(table) => table.get(at(table.len())).map(|host| u32::from(*host)),
            Slots::Medium(table) => table.get(at(table.len())).map(|host| u32::from(*host)),
            Slots::Large(table) => table.get(at(table.len())).copied(),
        }
    }
}

/// Listing 1 of the Maglev paper, with weights: in every round each host takes its next free slot, unless its weight
/// says that others are before it.
fn fill(entries: &mut [Entry], size: u32) -> Vec<u32> {
    let largest = entries.iter().map(|entry| entry.weight).fold(0.0, f64::max);
    let modulus = u64::from(size);
    let mut table = vec![EMPTY; size as usize];
    let mut left = size;
    let mut round = 0.0;
    while left > 0 {
        round += 1.0;
        for entry in entries.iter_mut() {
            if left == 0 {
                break;
            }
            if round * entry.weight < entry.target {
                continue;
            }
            entry.target += largest;
            let step = |at: u64| {
                if at + entry.skip >= modulus { at + entry.skip - modulus } else { at + entry.skip }
            };
            while table[entry.at as usize] != EMPTY {
                entry.at = step(entry.at);
            }
            table[entry.at as usize] = entry.host;
            entry.at = step(entry.at);
            left -= 1;
        }
    }
    table
}

impl Slots {
    fn of(table: Vec<u32>, hosts: usize) -> Self {
        match hosts {
            0..=0x100 => Self::Small(table.into_iter().map(|host| host as u8).collect()),
            0x101..=0x1_0000 => Self::Medium(table.into_iter().map(|host| host as u16).collect()),
            _ => Self::Large(table),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(shares: &[f64]) -> Vec<(String, f64)> {
        shares.iter().enumerate().map(|(n, share)| (format!("10.0.0.{n}:80"), *share)).collect()
    }

    fn counts(table: &Maglev, size: u64, hosts: usize) -> Vec<u32> {
        let mut counts = vec![0; hosts];
        (0..size).filter_map(|hash| table.find(hash, 0)).for_each(|host| counts[host as usize] += 1);
        counts
    }

    #[test]
    fn every_slot_is_taken_and_shares_are_kept() {
        let even = Maglev::new(65_537, &keys(&[0.2; 5]));
        assert!(counts(&even, 65_537, 5).iter().all(|n| (13_107..=13_108).contains(n)));
        let uneven = counts(&Maglev::new(1009, &keys(&[0.1, 0.2, 0.7])), 1009, 3);
        assert_eq!(uneven.iter().sum::<u32>(), 1009);
        for (got, want) in uneven.iter().zip([101, 202, 706]) {
            assert!(got.abs_diff(want) <= 2, "{uneven:?}");
        }
        assert_eq!(Maglev::new(1009, &[]).find(3, 0), None);
    }

    #[test]
    fn tables_of_all_widths_agree() {
        let shares = vec![1.0 / 300.0; 300];
        let (narrow, wide) =
            (Maglev::new(65_537, &keys(&shares[..200])), Maglev::new(65_537, &keys(&shares)));
        assert!(matches!((&narrow.slots, &wide.slots), (Slots::Small(_), Slots::Medium(_))));
        assert!(counts(&wide, 65_537, 300).iter().all(|n| (218..=219).contains(n)));
        assert_ne!(narrow.find(9, 0), narrow.find(9, 1), "another attempt is another place");
    }

    #[test]
    fn a_host_that_leaves_moves_little_else() {
        let before = Maglev::new(65_537, &keys(&[0.1; 10]));
        let after = Maglev::new(65_537, &keys(&[1.0 / 9.0; 9]));
        let moved = (0..65_537)
            .filter(|h| before.find(*h, 0) != Some(9))
            .filter(|h| before.find(*h, 0) != after.find(*h, 0));
        assert!(moved.count() < 65_537 / 20);
    }
}
