//! The listeners of a shard: what is served, what is accepted on, and what a change of configuration leaves
//! behind until its last connection is gone.
//!
//! [`accept`] takes connections, [`inspect`] looks at their first bytes, [`change`] replaces and removes listeners, [`drain`] ends what they leave.

mod accept;
mod change;
mod drain;
mod inspect;
mod tlvs;

pub(crate) use inspect::Inspection;
pub(crate) use tlvs::Tlvs;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Key, Slab, Time};
use millrace_config::{Address, Listener};
use millrace_ring::Socket;

use crate::address::inet;
use crate::origin::{ListenerFacts, Origin};
use crate::shared::ListenerHandle;

/// Raw bytes without a framing of their own that have rested for this long are between messages: when a drain
/// is over they end with FIN. Otherwise a FIN would look like their end, and a reset tells.
pub(crate) const QUIET_TIME: Duration = Duration::from_secs(5);

/// A listener that this shard accepts for, or whose connections it serves.
#[derive(Debug)]
pub(crate) struct ListenerState {
    handle: Arc<ListenerHandle>,
    config: Arc<Listener>,
    facts: Rc<ListenerFacts>,
    /// Keys of its [`Acceptor`]s; empty where other shards accept.
    acceptors: Vec<Key>,
    /// By position of the filter chain, the default chain behind all others; made at their first use.
    origins: Vec<Option<Rc<Origin>>>,
    /// Origins of earlier configurations that still have connections.
    older: Vec<Rc<Origin>>,
    /// Downstream connections of this shard that came by the listener.
    connections: u32,
    /// Told to stop: sockets that come late are closed.
    stopped: bool,
    removed: Option<Removed>,
}

/// When a removed listener ends.
#[derive(Clone, Copy, Debug)]
struct Removed {
    /// Its connections are closed.
    drain_until: Time,
    /// Connections that other shards accepted before they knew are served up to here; from then on the
    /// listener is forgotten when it has none.
    keep_until: Time,
}

/// A listening socket of this shard.
#[derive(Debug)]
struct Acceptor {
    listener: Key,
    /// `None` once it was closed: what it had accepted by then still comes.
    socket: Option<Socket>,
    /// `stop_accepting_connections` is in force.
    paused: bool,
}

/// All listeners of a shard.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    states: Slab<ListenerState>,
    acceptors: Slab<Acceptor>,
    by_name: BTreeMap<Arc<str>, Key>,
    /// As configured, for connections that `use_original_dst` hands over.
    by_address: BTreeMap<Address, Key>,
    /// Those that left the configuration and are not over.
    removed: Vec<Key>,
    /// Times at which something that drains is due; each is armed in the timer wheel.
    due: BTreeSet<Time>,
}

impl ListenerState {
    fn new(handle: Arc<ListenerHandle>, config: Arc<Listener>) -> Self {
        Self {
            handle,
            facts: Rc::new(ListenerFacts::of(&config)),
            acceptors: Vec::new(),
            origins: vec![None; chains(&config).count()],
            older: Vec::new(),
            connections: 0,
            stopped: false,
            removed: None,
            config,
        }
    }

    /// Drains every connection; returns how many do now that did not before.
    fn drain(&self, until: Time) -> u32 {
        let origins = self.origins.iter().flatten().chain(&self.older);
        origins.map(|origin| origin.drain(until)).sum()
    }
}

impl Listeners {
    /// What a listener is like now.
    pub(crate) fn config(&self, key: Key) -> Option<&Arc<Listener>> {
        self.states.get(key).map(|state| &state.config)
    }

    /// The listener for connections to an address: that of the address itself, else that of its port on all addresses.
    fn at(&self, address: &Address) -> Option<Key> {
        let wildcard = || {
            let inet = inet(address)?;
            let any = match inet.is_ipv4() {
                true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            self.by_address.get(&Address::Inet(SocketAddr::new(any, inet.port()))).copied()
        };
        self.by_address.get(address).copied().or_else(wildcard)
    }

    /// The listener that a connection was accepted for, also when its name means another one by now.
    fn find(&self, handle: &Arc<ListenerHandle>) -> Option<Key> {
        let same = |key: &Key| self.states.get(*key).is_some_and(|s| Arc::ptr_eq(&s.handle, handle));
        let current = self.by_name.get(handle.name()).copied().filter(same);
        current.or_else(|| self.removed.iter().copied().find(same))
    }

    /// A connection of the listener is open.
    pub(crate) fn connection_opened(&mut self, key: Key) {
        if let Some(state) = self.states.get_mut(key) {
            state.connections += 1;
        }
    }

    /// A connection of the listener is gone, and its origin has so many left.
    pub(crate) fn connection_closed(&mut self, key: Key, left: u32, now: Time) {
        let Some(state) = self.states.get_mut(key) else { return };
        state.connections -= 1;
        if left == 0 {
            state.older.retain(|origin| origin.connections() > 0);
        }
        self.forget_if_over(key, now);
    }

    /// Drops a removed listener that nothing is left of.
    fn forget_if_over(&mut self, key: Key, now: Time) {
        let over = self.states.get(key).is_some_and(|state| {
            state.connections == 0 && state.removed.is_some_and(|removed| removed.keep_until <= now)
        });
        if !over {
            return;
        }
        self.removed.retain(|other| *other != key);
        if let Some(state) = self.states.remove(key) {
            for acceptor in state.acceptors {
                self.acceptors.remove(acceptor);
            }
        }
    }

    /// Asserts that nothing is left of what drained; for tests.
    pub(crate) fn assert_quiescent(&self) {
        assert_eq!(self.states.len(), self.by_name.len(), "removed listeners left");
        assert!(self.removed.is_empty() && self.due.is_empty(), "drains left");
        for (_, state) in self.states.iter() {
            assert!(state.connections == 0 && state.older.is_empty(), "connections of a listener left");
            assert!(state.origins.iter().flatten().all(|origin| !origin.is_replaced()));
        }
    }
}

/// All filter chains in the order of `ListenerState::origins`.
fn chains(config: &Listener) -> impl Iterator<Item = &Arc<millrace_config::FilterChain>> {
    config.filter_chains.iter().chain(&config.default_filter_chain)
}
