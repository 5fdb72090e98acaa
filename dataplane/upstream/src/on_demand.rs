//! Endpoints that requests name themselves, by address (`ORIGINAL_DST`) or by host (dynamic forward proxy): made when they
//! are first asked for, dropped when nobody uses them any more, or when the cache of hosts does. Each shard has its own;
//! the book tells what all of them have.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_base::Time;
use millrace_config::{Address, ClusterDiscovery, Endpoint, OriginalDst, ResolvedHost, ScopeId};

use crate::pool::PoolAction;
use crate::{ClusterState, Host, HostHealth, HostId, NoHost};

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

/// One that was asked for by the name of its host.
#[derive(Debug)]
struct Named {
    known: Known,
    /// Whose addresses it has.
    answer: Arc<ResolvedHost>,
}

/// The endpoints of one shard.
#[derive(Debug, Default)]
pub(crate) struct OnDemand {
    by_address: BTreeMap<SocketAddr, Known>,
    by_name: BTreeMap<Arc<str>, Named>,
    /// When unused ones are dropped next.
    clean_up_at: Option<Time>,
    /// Before this a full shard does not look for endpoints to drop.
    full_until: Time,
}

impl OnDemand {
    pub fn hosts(&self) -> impl Iterator<Item = HostId> {
        let named = self.by_name.values().map(|named| named.known.host);
        self.by_address.values().map(|known| known.host).chain(named)
    }

    fn len(&self) -> usize {
        self.by_address.len() + self.by_name.len()
    }
}

/// What an endpoint is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Address(SocketAddr),
    Host(Arc<str>),
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
pub struct OnDemandBook(Mutex<BTreeMap<Name, Written>>);

/// Endpoints that the last shard has dropped.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Their scopes, to be retired: nothing counts in them any more.
    pub scopes: Vec<ScopeId>,
}

impl OnDemandBook {
    /// One shard has made an endpoint. True when no other had.
    fn join(&self, name: Name, scope: impl FnOnce() -> ScopeId) -> (ScopeId, bool) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_new = false;
        let written = book.entry(name).or_insert_with(|| {
            is_new = true;
            Written { scope: scope(), shards: 0 }
        });
        written.shards += 1;
        (written.scope, is_new)
    }

    fn leave(&self, name: &Name, dropped: &mut Dropped) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(written) = book.get_mut(name) else { return };
        written.shards = written.shards.saturating_sub(1);
        if written.shards == 0 {
            dropped.scopes.extend(book.remove(name).map(|written| written.scope));
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

    /// Those that are known by their address, as if they were configured, in its order.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint = |(name, written): (&Name, &Written)| match name {
            Name::Address(address) => Some(endpoint(*address, written.scope)),
            Name::Host(_) => None,
        };
        book.iter().filter_map(endpoint).collect()
    }

    /// The scope of a host that some shard has a use for.
    pub fn scope_of(&self, host: &Arc<str>) -> Option<ScopeId> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(&Name::Host(Arc::clone(host))).map(|written| written.scope)
    }
}

fn endpoint(address: SocketAddr, scope: ScopeId) -> Endpoint {
    Endpoint::at(Address::Inet(address), scope)
}

/// A host as an endpoint; `None` while it has no address.
pub fn host_endpoint(host: &ResolvedHost, scope: ScopeId) -> Option<Endpoint> {
    Some(Endpoint {
        additional_addresses: host.additional_addresses.clone(),
        hostname: Arc::clone(&host.name),
        ..Endpoint::at(host.address.clone()?, scope)
    })
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
        self.make_room(now, dropped)?;
        let (scope, is_new) = self.budgets.on_demand.join(Name::Address(address), scope);
        let host = self.make_host(&endpoint(address, scope), now);
        self.on_demand.by_address.insert(address, Known { host, used: true });
        Ok((host, is_new))
    }

    /// The endpoint of a host that has an address, made now if it is new. It follows the addresses of the host;
    /// connections to earlier ones stay, as in Envoy.
    ///
    /// # Errors
    /// [`NoHost::Empty`]: as for [`Self::demand`], or the endpoint is ejected.
    pub fn demand_host(
        &mut self,
        answer: &Arc<ResolvedHost>,
        now: Time,
        scope: impl FnOnce() -> ScopeId,
        dropped: &mut Dropped,
    ) -> Result<HostId, NoHost> {
        self.notice_health();
        if let Some(named) = self.on_demand.by_name.get_mut(&*answer.name) {
            named.known.used = true;
            if !Arc::ptr_eq(&named.answer, answer) {
                self.follow_answer(answer, now);
            }
            let known = self.on_demand.by_name.get(&*answer.name).ok_or(NoHost::Empty)?.known.host;
            let host = self.hosts.get(known.0).filter(|host| host.health != HostHealth::Unhealthy);
            return host.map(|_| known).ok_or(NoHost::Empty);
        }
        self.make_room(now, dropped)?;
        let name = Arc::clone(&answer.name);
        let mut endpoint = host_endpoint(answer, ScopeId(0)).ok_or(NoHost::Empty)?;
        (endpoint.scope, _) = self.budgets.on_demand.join(Name::Host(name.clone()), scope);
        let host = self.make_host(&endpoint, now);
        let known = Known { host, used: true };
        self.on_demand.by_name.insert(name, Named { known, answer: Arc::clone(answer) });
        Ok(host)
    }

    /// Takes over the addresses of another answer.
    #[cold]
    fn follow_answer(&mut self, answer: &Arc<ResolvedHost>, now: Time) {
        let Some(named) = self.on_demand.by_name.get_mut(&*answer.name) else { return };
        named.answer = Arc::clone(answer);
        let id = named.known.host;
        let Some(host) = self.hosts.get_mut(id.0) else { return };
        let Some(endpoint) = host_endpoint(answer, host.scope) else { return };
        if host.address == endpoint.address {
            host.additional_addresses = endpoint.additional_addresses;
            return;
        }
        if self.host_budgets.contains_key(&id) {
            // Its connections are counted by its address: they finish as those of another endpoint.
            let host = self.make_host(&endpoint, now);
            self.part_with(id, &mut Vec::new());
            if let Some(named) = self.on_demand.by_name.get_mut(&*answer.name) {
                named.known.host = host;
            }
            return;
        }
        self.unwatch(id);
        let config = self.config.clone();
        if let Some(host) = self.hosts.get_mut(id.0) {
            host.address = endpoint.address;
            host.additional_addresses = endpoint.additional_addresses;
            self.watched.join(host, &config, &self.budgets);
            host.settle_health();
        }
    }

    fn make_host(&mut self, endpoint: &Endpoint, now: Time) -> HostId {
        let mut host = Host::new(endpoint, 0, 0);
        let config = self.config.clone();
        self.watched.join(&mut host, &config, &self.budgets);
        host.healthy_since = now;
        HostId(self.hosts.insert(host))
    }

    fn make_room(&mut self, now: Time, dropped: &mut Dropped) -> Result<(), NoHost> {
        if self.on_demand.len() < ON_DEMAND_HOSTS_MAX {
            return Ok(());
        }
        if self.on_demand.full_until > now {
            return Err(NoHost::Empty);
        }
        self.on_demand.full_until = now + FULL_PAUSE;
        self.drop_unused(false, dropped);
        if self.on_demand.len() >= ON_DEMAND_HOSTS_MAX { Err(NoHost::Empty) } else { Ok(()) }
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
        let hosts = &self.hosts;
        let stays = |known: &mut Known| {
            let host = hosts.get(known.host.0);
            let busy = host.is_some_and(|host| host.connections() > 0 || host.pending_requests() > 0);
            let used = std::mem::take(&mut known.used);
            busy || (spares_used && used)
        };
        let mut unused = Vec::new();
        for (address, known) in &mut self.on_demand.by_address {
            if !stays(known) {
                unused.push(Name::Address(*address));
            }
        }
        for (name, named) in &mut self.on_demand.by_name {
            if !stays(&mut named.known) {
                unused.push(Name::Host(Arc::clone(name)));
            }
        }
        for name in &unused {
            self.forget_demanded(name, dropped, &mut Vec::new());
        }
    }

    /// The cache of hosts has dropped one.
    pub fn forget_host(&mut self, host: &Arc<str>, dropped: &mut Dropped, out: &mut Vec<PoolAction>) {
        if self.on_demand.by_name.contains_key(host) {
            self.forget_demanded(&Name::Host(Arc::clone(host)), dropped, out);
        }
    }

    /// What is left of a shard's endpoints when it forgets the cluster, or when that is of another type now.
    pub fn leave_on_demand(&mut self, dropped: &mut Dropped, out: &mut Vec<PoolAction>) {
        let named = self.on_demand.by_name.keys().cloned().map(Name::Host);
        let all: Vec<Name> =
            self.on_demand.by_address.keys().copied().map(Name::Address).chain(named).collect();
        for name in &all {
            self.forget_demanded(name, dropped, out);
        }
        self.on_demand = OnDemand::default();
    }

    fn forget_demanded(&mut self, name: &Name, dropped: &mut Dropped, out: &mut Vec<PoolAction>) {
        let known = match name {
            Name::Address(address) => self.on_demand.by_address.remove(address),
            Name::Host(host) => self.on_demand.by_name.remove(host).map(|named| named.known),
        };
        let Some(Known { host: id, .. }) = known else { return };
        self.part_with(id, out);
        self.budgets.on_demand.leave(name, dropped);
    }

    /// An endpoint gets nothing more; it goes with its last connection.
    fn part_with(&mut self, id: HostId, out: &mut Vec<PoolAction>) {
        self.unwatch(id);
        if let Some(host) = self.hosts.get_mut(id.0) {
            host.present = false;
        }
        self.dismiss(id, out);
        self.retire(id);
    }
}
