//! Endpoints that requests name themselves (`ORIGINAL_DST`): made when they are first asked for, dropped when nobody
//! uses them any more. Each shard has its own; the book tells what all of them have.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millrace_base::Time;
use millrace_config::{Address, ClusterDiscovery, Endpoint, OriginalDst, ScopeId};

use crate::pool::PoolAction;
use crate::{ClusterState, Host, HostId, NoHost};

/// Endpoints that one shard makes for one cluster at the most.
pub const ON_DEMAND_HOSTS_MAX: usize = 8192;

/// How soon a full shard looks again for endpoints without a connection.
const FULL_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Known {
    host: HostId,
    /// Asked for since the last clean-up.
    used: bool,
}

/// The endpoints of one shard.
#[derive(Debug, Default)]
pub(crate) struct OnDemand {
    by_address: BTreeMap<SocketAddr, Known>,
    /// When unused ones are dropped next.
    clean_up_at: Option<Time>,
    /// Before this a full shard does not look for endpoints to drop.
    full_until: Time,
}

impl OnDemand {
    pub fn hosts(&self) -> impl Iterator<Item = HostId> {
        self.by_address.values().map(|known| known.host)
    }
}

/// An endpoint that some shard has made.
#[derive(Debug)]
struct Written {
    scope: ScopeId,
    shards: u32,
}

/// The endpoints that the shards have made for one cluster. Locked when one is made or dropped, never for a request
/// to one that exists.
#[derive(Debug, Default)]
pub struct OnDemandBook(Mutex<BTreeMap<SocketAddr, Written>>);

/// Endpoints that the last shard has dropped.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Their scopes, to be retired: nothing counts in them any more.
    pub scopes: Vec<ScopeId>,
}

impl OnDemandBook {
    /// One shard has made an endpoint. True when no other had.
    fn join(&self, address: SocketAddr, scope: impl FnOnce() -> ScopeId) -> (ScopeId, bool) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_new = false;
        let written = book.entry(address).or_insert_with(|| {
            is_new = true;
            Written { scope: scope(), shards: 0 }
        });
        written.shards += 1;
        (written.scope, is_new)
    }

    fn leave(&self, address: SocketAddr, dropped: &mut Dropped) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(written) = book.get_mut(&address) else { return };
        written.shards = written.shards.saturating_sub(1);
        if written.shards == 0 {
            dropped.scopes.extend(book.remove(&address).map(|written| written.scope));
        }
    }

    /// How many endpoints the cluster has.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True when it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The endpoints as if they were configured, by address.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.iter().map(|(address, written)| endpoint(*address, written.scope)).collect()
    }
}

fn endpoint(address: SocketAddr, scope: ScopeId) -> Endpoint {
    Endpoint::at(Address::Inet(address), scope)
}

impl ClusterState {
    /// How requests name their endpoints, where they do.
    #[inline]
    pub fn original_dst(&self) -> Option<&OriginalDst> {
        match &self.config.discovery {
            ClusterDiscovery::OriginalDst(config) => Some(config),
            _ => None,
        }
    }

    /// The endpoint at `address`, made now if it is new; then the flag tells whether it is new to all shards. `scope`
    /// makes the scope of such a one.
    ///
    /// # Errors
    /// [`NoHost::Empty`]: this shard has [`ON_DEMAND_HOSTS_MAX`] endpoints, each with a connection or asked for lately.
    pub fn demand(
        &mut self,
        address: SocketAddr,
        now: Time,
        scope: impl FnOnce() -> ScopeId,
        dropped: &mut Dropped,
    ) -> Result<(HostId, bool), NoHost> {
        self.notice_health();
        if let Some(known) = self.on_demand.by_address.get_mut(&address) {
            known.used = true;
            return Ok((known.host, false));
        }
        if self.on_demand.by_address.len() >= ON_DEMAND_HOSTS_MAX {
            if self.on_demand.full_until > now {
                return Err(NoHost::Empty);
            }
            self.on_demand.full_until = now + FULL_PAUSE;
            self.drop_unused(false, dropped);
            if self.on_demand.by_address.len() >= ON_DEMAND_HOSTS_MAX {
                return Err(NoHost::Empty);
            }
        }
        let (scope, is_new) = self.budgets.on_demand.join(address, scope);
        let mut host = Host::new(&endpoint(address, scope), 0, 0);
        let config = self.config.clone();
        self.watched.join(&mut host, &config, &self.budgets);
        host.healthy_since = now;
        let host = HostId(self.hosts.insert(host));
        self.on_demand.by_address.insert(address, Known { host, used: true });
        Ok((host, is_new))
    }

    /// Drops endpoints that nobody asked for since the last time and that have no connection, every `cleanup_interval`.
    pub fn clean_up(&mut self, now: Time, dropped: &mut Dropped) {
        let Some(interval) = self.original_dst().map(|config| config.cleanup_interval) else { return };
        let at = *self.on_demand.clean_up_at.get_or_insert(now + interval);
        if at <= now {
            self.on_demand.clean_up_at = Some(now + interval);
            self.drop_unused(true, dropped);
        }
    }

    /// `spares_used`: what was asked for since the last time stays for one more round.
    fn drop_unused(&mut self, spares_used: bool, dropped: &mut Dropped) {
        let mut unused = Vec::new();
        for (address, known) in &mut self.on_demand.by_address {
            let host = self.hosts.get(known.host.0);
            let busy = host.is_some_and(|host| host.connections() > 0 || host.pending_requests() > 0);
            let used = std::mem::take(&mut known.used);
            let stays = busy || (spares_used && used);
            if !stays {
                unused.push(*address);
            }
        }
        for address in unused {
            self.forget_demanded(address, dropped, &mut Vec::new());
        }
    }

    /// What is left of a shard's endpoints when it forgets the cluster, or when that is of another type now.
    pub fn leave_on_demand(&mut self, dropped: &mut Dropped, out: &mut Vec<PoolAction>) {
        let all: Vec<SocketAddr> = self.on_demand.by_address.keys().copied().collect();
        for address in all {
            self.forget_demanded(address, dropped, out);
        }
        self.on_demand = OnDemand::default();
    }

    fn forget_demanded(&mut self, address: SocketAddr, dropped: &mut Dropped, out: &mut Vec<PoolAction>) {
        let Some(Known { host: id, .. }) = self.on_demand.by_address.remove(&address) else { return };
        self.unwatch(id);
        if let Some(host) = self.hosts.get_mut(id.0) {
            host.present = false;
        }
        self.dismiss(id, out);
        self.retire(id);
        self.budgets.on_demand.leave(address, dropped);
    }
}
