//! Balancers that choose by the request's hash (`RING_HASH`, `MAGLEV`).

use millrace_base::Slab;
use millrace_config::{Cluster, LbPolicy};

use super::maglev::Maglev;
use super::ring::Ring;
use super::{Draw, bounded};
use crate::{Host, HostId};

#[derive(Debug)]
enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

/// The table of one priority level.
#[derive(Debug)]
pub(crate) struct Hashed {
    table: Table,
    hosts: Vec<HostId>,
    /// With `hash_balance_factor`: it, and the shares of the hosts.
    bound: Option<(u32, Vec<f64>)>,
}

impl Hashed {
    /// A table over hosts with their shares of the whole; `None` when the cluster's policy does not hash.
    pub fn new(cluster: &Cluster, shares: Vec<(HostId, f64)>, hosts: &Slab<Host>) -> Option<Self> {
        let config = &cluster.balancing.consistent_hashing;
        let keys: Vec<(String, f64)> =
            shares.iter().map(|(id, share)| (key(hosts.get(id.0), config.use_hostname), *share)).collect();
        let table = match &cluster.lb_policy {
            LbPolicy::RingHash(ring) => Table::Ring(Ring::new(ring, &keys)),
            LbPolicy::Maglev(maglev) => Table::Maglev(Maglev::new(maglev.table_size, &keys)),
            LbPolicy::RoundRobin
            | LbPolicy::Random
            | LbPolicy::LeastRequest(_)
            | LbPolicy::ClusterProvided => {
                return None;
            }
        };
        let (ids, shares) = shares.into_iter().unzip();
        Some(Self {
            table,
            hosts: ids,
            bound: (config.balance_factor > 0).then_some((config.balance_factor, shares)),
        })
    }

    /// The host of a hash; further attempts give others.
    #[inline]
    pub fn pick(&self, hash: u64, attempt: u32, draw: &Draw<'_>) -> Option<HostId> {
        let own = match &self.table {
            Table::Ring(ring) => ring.find(hash, attempt)?,
            Table::Maglev(maglev) => maglev.find(hash, attempt)?,
        };
        let host = match &self.bound {
            None => own,
            Some((factor, shares)) => {
                let overload = |index: u32| {
                    let id = self.hosts.get(index as usize);
                    let active =
                        id.and_then(|id| draw.hosts.get(id.0)).map_or(0, |host| host.active_requests);
                    let share = shares.get(index as usize).copied().unwrap_or_default();
                    bounded::overload(active, draw.active, share, *factor)
                };
                bounded::choose(hash, own, self.hosts.len() as u32, overload)
            }
        };
        self.hosts.get(host as usize).copied()
    }
}

/// What is hashed of a host: metadata `hash_key`, else its name or address.
fn key(host: Option<&Host>, use_hostname: bool) -> String {
    let Some(host) = host else { return String::new() };
    match host.lb_metadata.as_ref().and_then(|metadata| metadata.hash_key.as_deref()) {
        Some(key) if !key.is_empty() => key.to_owned(),
        _ if use_hostname => host.hostname.to_string(),
        _ => host.address.to_string(),
    }
}
