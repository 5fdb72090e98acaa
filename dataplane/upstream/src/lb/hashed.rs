//! Balancers that choose by the request's hash (`RING_HASH`, `MAGLEV`).

use std::net::SocketAddr;
use std::sync::Arc;

use millrace_base::Slab;
use millrace_base::hash::xxh64;
use millrace_config::{Address, Cluster, LbPolicy};

use super::maglev::Maglev;
use super::ring::Ring;
use super::shared::{Fingerprint, Place, TableShape};
use super::{Ground, bounded};
use crate::{Host, HostId};

/// Positions of hosts, which are indices into a list that each shard has of its own.
#[derive(Debug)]
pub(super) enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

impl Table {
    fn shape(&self, hosts: usize) -> TableShape {
        let mut counts = vec![0_u32; hosts];
        let mut count = |owner: u32| {
            if let Some(count) = counts.get_mut(owner as usize) {
                *count += 1;
            }
        };
        match self {
            Self::Ring(ring) => ring.owners().for_each(&mut count),
            Self::Maglev(maglev) => maglev.owners().for_each(&mut count),
        }
        TableShape {
            size: counts.iter().map(|count| u64::from(*count)).sum(),
            least: counts.iter().copied().min().unwrap_or(0),
            most: counts.iter().copied().max().unwrap_or(0),
        }
    }
}

/// The table of one priority level.
#[derive(Debug)]
pub(crate) struct Hashed {
    table: Arc<Table>,
    /// Where other shards find it.
    _place: Arc<Place>,
    hosts: Vec<HostId>,
    bound: Option<Box<Bound>>,
}

/// `hash_balance_factor` and the shares of the hosts.
#[derive(Debug)]
struct Bound {
    factor: u32,
    shares: Vec<f64>,
}

impl Hashed {
    /// A table over hosts with their shares of the whole; `None` when the cluster's policy does not hash.
    pub fn new(ground: &Ground<'_>, shares: Vec<(HostId, f64)>) -> Option<Self> {
        let (cluster, hosts) = (ground.cluster, ground.hosts);
        let config = &cluster.balancing.consistent_hashing;
        let place = ground.shared.place(fingerprint(cluster, &shares, hosts)?);
        let table = place.get_or_init(|| {
            let keys: Vec<(String, f64)> = shares
                .iter()
                .map(|(id, share)| (key(hosts.get(id.0), config.use_hostname), *share))
                .collect();
            let table = match &cluster.lb_policy {
                LbPolicy::Maglev(maglev) => Table::Maglev(Maglev::new(maglev.table_size, &keys)),
                LbPolicy::RingHash(ring) => Table::Ring(Ring::new(ring, &keys)),
                _ => Table::Ring(Ring::default()),
            };
            ground.shared.built(table.shape(keys.len()));
            Arc::new(table)
        });
        let table = Arc::clone(table);
        let (ids, shares) = shares.into_iter().unzip();
        Some(Self {
            table,
            _place: place,
            hosts: ids,
            bound: (config.balance_factor > 0)
                .then(|| Box::new(Bound { factor: config.balance_factor, shares })),
        })
    }

    /// The host of a hash; further attempts give others. `loads` are all hosts, and the requests that are with them.
    #[inline]
    pub fn pick(&self, hash: u64, attempt: u32, loads: (&Slab<Host>, u32)) -> Option<HostId> {
        let mut host = match &*self.table {
            Table::Ring(ring) => ring.find(hash, attempt)?,
            Table::Maglev(maglev) => maglev.find(hash, attempt)?,
        };
        if let Some(bound) = &self.bound {
            host = self.within(bound, hash, host, loads);
        }
        self.hosts.get(host as usize).copied()
    }

    #[inline(never)]
    fn within(&self, bound: &Bound, hash: u64, own: u32, (hosts, all): (&Slab<Host>, u32)) -> u32 {
        let overload = |index: u32| {
            let id = self.hosts.get(index as usize);
            let active = id.and_then(|id| hosts.get(id.0)).map_or(0, |host| host.active_requests);
            let share = bound.shares.get(index as usize).copied().unwrap_or_default();
            bounded::overload(active, all, share, bound.factor)
        };
        bounded::choose(hash, own, self.hosts.len() as u32, overload)
    }
}

/// Everything that a table follows from; `None` when the policy does not hash.
fn fingerprint(cluster: &Cluster, shares: &[(HostId, f64)], hosts: &Slab<Host>) -> Option<Fingerprint> {
    let mut text = Vec::with_capacity(shares.len() * 32 + 64);
    match &cluster.lb_policy {
        LbPolicy::RingHash(ring) => {
            text.push(1 + ring.hash_function as u8);
            text.extend_from_slice(&ring.minimum_ring_size.to_le_bytes());
            text.extend_from_slice(&ring.maximum_ring_size.to_le_bytes());
        }
        LbPolicy::Maglev(maglev) => {
            text.push(0);
            text.extend_from_slice(&maglev.table_size.to_le_bytes());
        }
        _ => return None,
    }
    let use_hostname = cluster.balancing.consistent_hashing.use_hostname;
    for (id, share) in shares {
        let host = hosts.get(id.0)?;
        match own_key(host, use_hostname) {
            Some(key) => put(&mut text, 0, key.as_bytes()),
            None => match &host.address {
                Address::Inet(SocketAddr::V4(address)) => {
                    put(&mut text, 1, &address.ip().octets());
                    text.extend_from_slice(&address.port().to_le_bytes());
                }
                other => put(&mut text, 0, other.to_string().as_bytes()),
            },
        }
        text.extend_from_slice(&share.to_bits().to_le_bytes());
    }
    Some((xxh64(&text, 0), xxh64(&text, 0x6d69_6c6c)))
}

fn put(text: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    text.push(kind);
    text.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    text.extend_from_slice(bytes);
}

/// What is hashed of a host: metadata `hash_key`, else its name or address.
fn key(host: Option<&Host>, use_hostname: bool) -> String {
    let Some(host) = host else { return String::new() };
    own_key(host, use_hostname).map_or_else(|| host.address.to_string(), str::to_owned)
}

/// The key of a host that is not hashed by its address.
fn own_key(host: &Host, use_hostname: bool) -> Option<&str> {
    let metadata = host.lb_metadata.as_ref().and_then(|metadata| metadata.hash_key.as_deref());
    metadata.filter(|key| !key.is_empty()).or(use_hostname.then_some(&*host.hostname))
}
