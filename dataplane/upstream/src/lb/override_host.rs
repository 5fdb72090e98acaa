//! Endpoints that a request prefers (stateful sessions, `OverrideHost`).

use std::collections::HashMap;

use millrace_base::Slab;
use millrace_config::Cluster;

use super::{Chosen, NoHost};
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
}

impl Overrides {
    /// The endpoints changed.
    pub fn clear(&mut self) {
        self.by_address = HashMap::new();
    }

    /// The preferred host whose health `override_host_status` allows.
    pub fn find(
        &mut self,
        cluster: &Cluster,
        members: &[Vec<HostId>],
        hosts: &Slab<Host>,
        wanted: &OverrideHost<'_>,
    ) -> Result<Option<Chosen>, NoHost> {
        if self.by_address.is_empty() {
            let address = |id: &HostId| Some((hosts.get(id.0)?.address.to_string(), *id));
            self.by_address = members.iter().flatten().filter_map(address).collect();
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
            None if wanted.strict => Err(NoHost::NoneHealthy),
            None => Ok(None),
        }
    }
}
