//! From answers to endpoints.

use std::net::{IpAddr, SocketAddr};

use millrace_config::{Address, DnsTarget, Endpoint, LocalityEndpoints};

use super::lookup::LookupError;
use super::{ADDRESSES_MAX, Outcome};

struct Target {
    config: DnsTarget,
    addresses: Vec<IpAddr>,
    asked: bool,
}

/// The endpoints of one cluster.
pub(super) struct Members {
    logical: bool,
    targets: Vec<Target>,
    /// As configured: groups with the endpoints that need no look-up.
    groups: Vec<LocalityEndpoints>,
}

impl Members {
    pub(super) fn new(logical: bool, targets: Vec<DnsTarget>, groups: Vec<LocalityEndpoints>) -> Self {
        let targets =
            targets.into_iter().map(|config| Target { config, addresses: Vec::new(), asked: false });
        Self { logical, targets: targets.collect(), groups }
    }

    /// Takes the answer for one target; says how it counts and whether the endpoints changed.
    pub(super) fn apply(
        &mut self,
        target: usize,
        result: Result<Vec<IpAddr>, LookupError>,
    ) -> (Outcome, bool) {
        let Some(target) = self.targets.get_mut(target) else { return (Outcome::Failure, false) };
        let first = !std::mem::replace(&mut target.asked, true);
        let Ok(mut addresses) = result else { return (Outcome::Failure, first) };
        if addresses.is_empty() && self.logical {
            // A logical cluster keeps its last address.
            return (Outcome::Failure, first);
        }
        if addresses.is_empty() {
            // A strict one believes that the hosts are gone.
            let changed = !std::mem::take(&mut target.addresses).is_empty();
            return (Outcome::Empty, changed || first);
        }
        addresses.truncate(ADDRESSES_MAX);
        let mut unique = Vec::with_capacity(addresses.len());
        for address in addresses {
            if !unique.contains(&address) {
                unique.push(address);
            }
        }
        // Name servers rotate their answers; the same set in another order is no change.
        let same_set = unique.len() == target.addresses.len()
            && unique.iter().all(|address| target.addresses.contains(address));
        // The first is where a logical cluster connects to; the others are its fallbacks.
        let same = same_set && (!self.logical || unique == target.addresses);
        if !same {
            target.addresses = unique;
        }
        (Outcome::Success, !same || first)
    }

    /// True when every name was asked for.
    pub(super) fn is_warm(&self) -> bool {
        self.targets.iter().all(|target| target.asked)
    }

    /// All endpoints, in configuration order.
    pub(super) fn localities(&self) -> Vec<LocalityEndpoints> {
        let mut groups = self.groups.clone();
        for target in &self.targets {
            let Some(group) = groups.get_mut(target.config.locality) else { continue };
            let template = &target.config.template;
            let place = |ip: &IpAddr| Address::Inet(SocketAddr::new(*ip, target.config.port));
            if self.logical {
                let Some((first, others)) = target.addresses.split_first() else { continue };
                group.endpoints.push(Endpoint {
                    address: place(first),
                    additional_addresses: (!others.is_empty()).then(|| others.iter().map(place).collect()),
                    ..template.clone()
                });
                continue;
            }
            group.endpoints.extend(
                target.addresses.iter().map(|ip| Endpoint { address: place(ip), ..template.clone() }),
            );
        }
        groups
    }
}
