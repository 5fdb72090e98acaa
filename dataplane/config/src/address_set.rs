//! Some addresses, to find those of them among thousands of others.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::Address;

/// A set whose answer to an address that it does not hold costs a few instructions.
#[derive(Clone, Debug)]
pub struct AddressSet<'a> {
    addresses: HashSet<&'a Address>,
    /// One bit for each address, at a place that depends on it; a power of two of them, 32 times as many as addresses.
    bits: Vec<u64>,
}

impl<'a> FromIterator<&'a Address> for AddressSet<'a> {
    fn from_iter<T: IntoIterator<Item = &'a Address>>(given: T) -> Self {
        let given: Vec<&Address> = given.into_iter().collect();
        let mut bits = vec![0_u64; given.len().next_power_of_two().max(32) / 2];
        for address in &given {
            let (word, bit) = place(address, bits.len());
            bits[word] |= bit;
        }
        Self { addresses: given.into_iter().collect(), bits }
    }
}

impl AddressSet<'_> {
    /// True when the address is one of them.
    #[inline]
    pub fn contains(&self, address: &Address) -> bool {
        let (word, bit) = place(address, self.bits.len());
        self.bits[word] & bit != 0 && self.addresses.contains(address)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

/// Which of so many words, a power of two, and which bit of it.
#[inline]
fn place(address: &Address, words: usize) -> (usize, u64) {
    let number = match address {
        Address::Inet(inet) => {
            let ip = match inet.ip() {
                IpAddr::V4(v4) => u64::from(u32::from(v4)),
                IpAddr::V6(v6) => {
                    let bits = u128::from(v6);
                    (bits >> 64) as u64 ^ (bits as u64).rotate_left(17)
                }
            };
            ip << 16 ^ ip >> 48 ^ u64::from(inet.port())
        }
        // Few endpoints are pipes.
        Address::Pipe { path, .. } => path.len() as u64,
    };
    let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = hash ^ hash >> 32;
    ((hash >> 6) as usize & (words - 1), 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_is_found_and_nothing_else() {
        let inet = |n: u32| Address::Inet((n.to_be_bytes(), 80).into());
        let wide = |n: u128| Address::Inet((std::net::Ipv6Addr::from(n), 80).into());
        let pipe = |path: &str| Address::Pipe { path: path.into(), mode: 0 };
        let some = |from: u32| (from..from + 100).map(|n| inet(n * 7));
        let mut all: Vec<Address> = some(1000).chain([wide(1), wide(1 << 100), pipe("/a")]).collect();
        all.push(all[0].clone());
        let set: AddressSet<'_> = all.iter().collect();
        assert_eq!(set.len(), 103);
        assert!(all.iter().all(|address| set.contains(address)));
        assert!(!some(2000).chain([wide(2), pipe("/b"), pipe("/bc")]).any(|other| set.contains(&other)));
        let none: AddressSet<'_> = [].into_iter().collect();
        assert!(none.is_empty() && !none.contains(&inet(1)));
    }

    #[test]
    fn neighbours_lie_far_apart() {
        let places: HashSet<(usize, u64)> =
            (0..1024_u32).map(|n| place(&Address::Inet((n.to_be_bytes(), 80).into()), 512)).collect();
        assert!(places.len() > 900, "{}", places.len());
    }
}
