//! What a request asks of its connection beside the cluster's defaults: a server name (`auto_sni`), protocols to offer
//! (`envoy.network.application_protocols`), or to have it alone with its client. Requests that ask for different things never share a connection.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use millrace_base::Key;

/// Most different demands that one cluster keeps apart at a time on one shard.
pub const TRANSPORTS_MAX: usize = 16_384;

/// Position of a demand in its cluster; 0 asks for the cluster's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportKey(pub(crate) u32);

impl TransportKey {
    /// The cluster's own server name and protocols.
    pub const DEFAULT: Self = Self(0);
}

/// What is asked. All `None` is [`TransportKey::DEFAULT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport<'a> {
    /// The host of the request: instead of `UpstreamTlsContext.sni` with `auto_sni`, unless it is an address, and a name
    /// that certificates are held to with `auto_san_validation`.
    pub server_name: Option<&'a str>,
    /// Instead of `alpn_protocols`.
    pub alpn: Option<&'a Arc<[Arc<[u8]>]>>,
    /// Source and destination for a PROXY protocol header: such connections belong to one client.
    pub proxy: Option<(SocketAddr, SocketAddr)>,
    /// TLVs of the client's own header that may be passed on, as on the wire.
    pub tlvs: Option<&'a Arc<[u8]>>,
    /// The client's connection, whose requests alone may go on it (`connection_pool_per_downstream_connection`).
    pub client: Option<Key>,
}

impl Transport<'_> {
    fn order(&self, other: &Transport<'_>) -> Ordering {
        let lists = || match (self.alpn, other.alpn) {
            // As a rule the list is the very one of the configuration.
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
            (a, b) => a.cmp(&b),
        };
        let names = self.server_name.cmp(&other.server_name);
        let clients = || self.proxy.cmp(&other.proxy).then_with(|| self.tlvs.cmp(&other.tlvs));
        let client = |of: &Transport<'_>| of.client.map(|key| (key.slot, key.generation));
        names.then_with(lists).then_with(clients).then_with(|| client(self).cmp(&client(other)))
    }
}

#[derive(Debug)]
struct Entry {
    server_name: Option<Box<str>>,
    alpn: Option<Arc<[Arc<[u8]>]>>,
    proxy: Option<(SocketAddr, SocketAddr)>,
    tlvs: Option<Arc<[u8]>>,
    client: Option<Key>,
    /// Connections and waiters with this key.
    uses: u32,
    /// It stands in `idle`.
    idle: bool,
}

impl Entry {
    fn transport(&self) -> Transport<'_> {
        Transport {
            server_name: self.server_name.as_deref(),
            alpn: self.alpn.as_ref(),
            proxy: self.proxy,
            tlvs: self.tlvs.as_ref(),
            client: self.client,
        }
    }
}

/// The demands of one cluster. A key keeps its meaning while a waiter or a connection has it, and at least until the
/// next call of [`Self::intern`].
#[derive(Debug, Default)]
pub(crate) struct Transports {
    /// Key `n` at `n - 1`.
    entries: Vec<Entry>,
    /// Positions of `entries`, ordered by what is asked.
    order: Vec<u32>,
    /// Positions that may be without a use: taken again before the table grows.
    idle: VecDeque<u32>,
}

impl Transports {
    /// The key of a demand; `None` when as many others as may be are in use.
    pub fn intern(&mut self, wanted: &Transport<'_>) -> Option<TransportKey> {
        if *wanted == Transport::default() {
            return Some(TransportKey::DEFAULT);
        }
        if let Ok(found) = self.find(wanted) {
            return Some(TransportKey(self.order[found] + 1));
        }
        let entry = Entry {
            server_name: wanted.server_name.map(Box::from),
            alpn: wanted.alpn.cloned(),
            proxy: wanted.proxy,
            tlvs: wanted.tlvs.cloned(),
            client: wanted.client,
            uses: 0,
            idle: true,
        };
        let position = match self.unused() {
            Some(position) => {
                self.entries[position as usize] = entry;
                position
            }
            None if self.entries.len() < TRANSPORTS_MAX => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
            None => return None,
        };
        // Nobody uses it yet, and perhaps nobody ever does.
        self.idle.push_back(position);
        let at = self.find(wanted).unwrap_or_else(|at| at);
        self.order.insert(at, position);
        Some(TransportKey(position + 1))
    }

    /// Takes the position that nobody has used for the longest time out of the order.
    fn unused(&mut self) -> Option<u32> {
        while let Some(position) = self.idle.pop_front() {
            let entry = &mut self.entries[position as usize];
            entry.idle = false;
            if entry.uses == 0 {
                self.order.retain(|other| *other != position);
                return Some(position);
            }
        }
        None
    }

    fn find(&self, wanted: &Transport<'_>) -> Result<usize, usize> {
        self.order.binary_search_by(|at| self.entries[*at as usize].transport().order(wanted))
    }

    pub fn get(&self, key: TransportKey) -> Transport<'_> {
        self.entry(key).map(Entry::transport).unwrap_or_default()
    }

    fn entry(&self, key: TransportKey) -> Option<&Entry> {
        self.entries.get((key.0 as usize).checked_sub(1)?)
    }

    /// A waiter or a connection has the key now.
    pub fn hold(&mut self, key: TransportKey) {
        if let Some(entry) = key.0.checked_sub(1).and_then(|at| self.entries.get_mut(at as usize)) {
            entry.uses += 1;
        }
    }

    /// It is gone.
    pub fn release(&mut self, key: TransportKey) {
        let Some(position) = key.0.checked_sub(1) else { return };
        let Some(entry) = self.entries.get_mut(position as usize) else { return };
        entry.uses = entry.uses.saturating_sub(1);
        if entry.uses == 0 && !std::mem::replace(&mut entry.idle, true) {
            self.idle.push_back(position);
        }
    }

    /// Uses of a key, for the check of invariants.
    pub fn uses(&self, key: TransportKey) -> u32 {
        self.entry(key).map_or(0, |entry| entry.uses)
    }

    /// Every key that was ever given out.
    pub fn keys(&self) -> impl Iterator<Item = TransportKey> {
        (1..=self.entries.len() as u32).map(TransportKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Transport<'_> {
        Transport { server_name: Some(name), ..Transport::default() }
    }

    #[test]
    fn the_same_demand_has_the_same_key() {
        let list =
            |names: &[&str]| -> Arc<[Arc<[u8]>]> { names.iter().map(|n| Arc::from(n.as_bytes())).collect() };
        let (h2, again, h1) = (list(&["istio-h2", "h2"]), list(&["istio-h2", "h2"]), list(&["http/1.1"]));
        let mut table = Transports::default();
        let with = |alpn, server_name| Transport { server_name, alpn: Some(alpn), ..Transport::default() };
        assert_eq!(table.intern(&Transport::default()), Some(TransportKey::DEFAULT));
        let mut held = |wanted: &Transport<'_>| {
            let key = table.intern(wanted).unwrap();
            table.hold(key);
            key
        };
        let first = held(&with(&h2, None));
        assert_ne!(first, TransportKey::DEFAULT);
        held(&with(&h1, None));
        held(&named("a"));
        let of = |slot| Transport { client: Some(Key { slot, generation: 0 }), ..Transport::default() };
        let alone = held(&of(1));
        assert_eq!(table.intern(&with(&again, None)), Some(first));
        assert_ne!(table.intern(&with(&h1, None)), Some(first));
        assert_ne!(table.intern(&with(&h2, Some("a"))), Some(first));
        assert_ne!(table.intern(&of(2)), Some(alone));
        assert_eq!(table.intern(&of(1)), Some(alone));
        assert_eq!(table.get(first), with(&h2, None));
        assert_eq!(table.get(TransportKey::DEFAULT), Transport::default());
    }

    #[test]
    fn keys_without_a_use_are_taken_again_and_the_table_is_bounded() {
        let mut table = Transports::default();
        for n in 0..3 * TRANSPORTS_MAX {
            assert!(table.intern(&named(&n.to_string())).is_some());
        }
        assert!(table.entries.len() <= 2, "{}", table.entries.len());
        let keys: Vec<_> = (0..TRANSPORTS_MAX)
            .map(|n| {
                let key = table.intern(&named(&format!("used {n}"))).unwrap();
                table.hold(key);
                key
            })
            .collect();
        assert_eq!(table.intern(&named("one more")), None);
        assert_eq!(table.intern(&named("used 7")), Some(keys[7]), "known ones are found still");
        table.release(keys[5]);
        assert_eq!(table.intern(&named("used 5")), Some(keys[5]), "until it is needed it keeps its meaning");
        let reused = table.intern(&named("one more")).unwrap();
        assert_eq!((reused, table.get(reused)), (keys[5], named("one more")));
        assert_eq!(table.order.len(), TRANSPORTS_MAX);
    }
}
