//! Endpoints that a request prefers (stateful sessions, `OverrideHost`).

use std::collections::HashMap;

use millrace_base::Slab;
use millrace_config::{Address, Cluster};

use super::{Chosen, NoHost};
use crate::members::Member;
use crate::{Host, HostId};

/// What a request prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideHost<'a> {
    /// Addresses as Envoy prints them, separated by commas; the first that may be used is.
    pub addresses: &'a [u8],
    /// So many of them were tried before.
    pub skip: u32,
    /// No other endpoint will do.
    pub strict: bool,
    /// Whatever `override_host_status` says.
    pub any_status: bool,
}

/// Hosts by address; made when a request first asks.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    by_address: HashMap<String, HostId>,
    /// Two hosts have one address.
    is_ambiguous: bool,
}

impl Overrides {
    /// The endpoints changed.
    pub fn clear(&mut self) {
        self.by_address = HashMap::new();
    }

    /// Hosts with these addresses leave.
    pub fn forget<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>) {
        if self.is_ambiguous {
            return self.clear();
        }
        if self.by_address.is_empty() {
            return;
        }
        for address in addresses {
            self.by_address.remove(&address.to_string());
        }
    }

    /// A host comes, or is back.
    pub fn remember(&mut self, address: &Address, id: HostId) {
        if !self.by_address.is_empty() && self.by_address.insert(address.to_string(), id).is_some() {
            self.is_ambiguous = true;
        }
    }

    /// The preferred host whose health `override_host_status` allows.
    pub fn find(
        &mut self,
        cluster: &Cluster,
        members: &[Vec<Member>],
        hosts: &Slab<Host>,
        wanted: &OverrideHost<'_>,
    ) -> Result<Option<Chosen>, NoHost> {
        if self.by_address.is_empty() {
            let address = |member: &Member| Some((hosts.get(member.id.0)?.address.to_string(), member.id));
            self.by_address = members.iter().flatten().filter_map(address).collect();
            self.is_ambiguous = self.by_address.len() < members.iter().map(Vec::len).sum();
        }
        let allowed = |id: &&HostId| {
            let status = &cluster.balancing.override_host_status;
            wanted.any_status || hosts.get(id.0).is_some_and(|host| status.contains(host.status()))
        };
        let mut found = wanted.addresses.split(|byte| *byte == b',').filter_map(|address| {
            let text = std::str::from_utf8(address.trim_ascii()).ok()?;
            self.by_address.get(text).filter(allowed)
        });
        match found.nth(wanted.skip as usize) {
            Some(id) => Ok(Some(Chosen { host: *id, panic: false })),
            None if wanted.strict => {
                let text = std::str::from_utf8(wanted.addresses.trim_ascii()).unwrap_or_default();
                let exists = self.by_address.contains_key(text);
                Err(if exists { NoHost::NoneHealthy } else { NoHost::NoSuchHost })
            }
            None => Ok(None),
        }
    }
}
