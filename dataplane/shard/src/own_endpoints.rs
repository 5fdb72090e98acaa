//! Which endpoints a shard asks by itself (health checks, load reports): each has one owner among the shards.

use std::collections::BTreeMap;
use std::net::IpAddr;

use millrace_base::Key;
use millrace_base::hash::xxh64;
use millrace_config::{Address, EndpointChanges};

/// The shard that asks an endpoint.
pub(crate) fn owner(address: &Address, shards: usize) -> usize {
    let hash = match address {
        Address::Inet(inet) => match inet.ip() {
            IpAddr::V4(ip) => xxh64(&ip.octets(), u64::from(inet.port())),
            IpAddr::V6(ip) => xxh64(&ip.octets(), u64::from(inet.port())),
        },
        Address::Pipe { path, .. } => xxh64(path.as_bytes(), 0),
    };
    (hash % shards.max(1) as u64) as usize
}

/// Of the endpoints that are asked, those that a comparison with the configuration has not seen. Where the changes since
/// the last one are known only what they name is looked at.
pub(crate) fn gone(
    asked: &BTreeMap<Address, Key>,
    changes: Option<&EndpointChanges>,
    is_seen: impl Fn(Key) -> bool,
) -> Vec<Key> {
    let is_gone = |key: &&Key| !is_seen(**key);
    match changes.map(EndpointChanges::removed) {
        Some(left) => {
            let left = left.iter().flat_map(|locality| &locality.endpoints);
            let known = left.filter_map(|endpoint| asked.get(&endpoint.address));
            known.filter(is_gone).copied().collect()
        }
        None => asked.values().filter(is_gone).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_one_owner_and_all_shards_have_some() {
        let mut owned = [0; 4];
        for number in 0..1000_u32 {
            let [.., high, low] = number.to_be_bytes();
            let address = Address::Inet(std::net::SocketAddr::from(([10, 0, high, low], 80)));
            owned[owner(&address, 4)] += 1;
        }
        assert!(owned.iter().all(|count| (200..300).contains(count)), "{owned:?}");
        assert_eq!(owner(&Address::Pipe { path: "/a".into(), mode: 0 }, 1), 0);
    }
}
