//! Accepting: from a listening socket to a connection on the right shard with its filter chain chosen.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Key, ResponseFlag, ResponseFlags, Time};
use millrace_config::{
    Address, ConnectionFacts, Listener, ListenerFilter, ListenerFilterKind, TrafficDirection,
    TransportProtocol,
};
use millrace_observe::access_log::{AccessLogType, StreamInfo, Times};
use millrace_observe::stats::{Counter, listener as metric};
use millrace_ring::{Accepted, IoError, Op, Socket};

use super::tlvs::Tlvs;
use super::{Acceptor, ListenerState, chains};
use crate::address::{from_ring, ip_port};
use crate::downstream::Early;
use crate::origin::{Origin, http_options};
use crate::shard::Shard;
use crate::shared::{Admission, HandOver, ListenerHandle, Message};
use crate::token::Kind;

/// Pause after accepting failed (out of files), so that a full process does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Shard {
    /// Serves the connections of a listener from now on.
    pub(crate) fn know(&mut self, handle: Arc<ListenerHandle>, config: Arc<Listener>) {
        // Names are unique: an earlier listener was removed before, or is now.
        self.remove_listener(&config.name, Duration::ZERO);
        let (name, addresses) = (config.name.clone(), config.addresses.clone());
        let key = self.listeners.states.insert(ListenerState::new(handle, config));
        self.listeners.by_name.insert(name, key);
        self.listeners.by_address.extend(addresses.into_iter().map(|address| (address, key)));
    }

    /// Accepts on one more socket of a listener.
    pub(crate) fn listen(&mut self, handle: &Arc<ListenerHandle>, socket: Socket) {
        let key = self.listeners.find(handle);
        let open = |state: &&mut ListenerState| !state.stopped && state.removed.is_none();
        let state = key.and_then(|key| self.listeners.states.get_mut(key)).filter(open);
        let (Some(state), Some(listener)) = (state.filter(|_| !self.stopping), key) else {
            self.io.ops.push(Op::Close { socket, reset: false });
            return;
        };
        let paused = self.overload.pauses(&state.config);
        let acceptor = Acceptor { listener, socket: Some(socket), paused };
        let acceptor = self.listeners.acceptors.insert(acceptor);
        state.acceptors.push(acceptor);
        if !paused {
            self.io.ops.push(Op::Accept { listener: socket, token: Kind::Listener.token(acceptor) });
        }
    }

    /// Stops accepting, or goes on, as `stop_accepting_connections` has it. What waits stays in the kernel's queue.
    pub(crate) fn pause_acceptors(&mut self, key: Key) {
        let Some(state) = self.listeners.states.get(key) else { return };
        let pause = self.overload.pauses(&state.config);
        for at in &state.acceptors {
            let Some(acceptor) = self.listeners.acceptors.get_mut(*at) else { continue };
            let Some(listener) = acceptor.socket.filter(|_| acceptor.paused != pause) else { continue };
            acceptor.paused = pause;
            self.io.ops.push(match pause {
                true => Op::StopAccept { listener },
                false => Op::Accept { listener, token: Kind::Listener.token(*at) },
            });
        }
    }

    /// As [`Shard::pause_acceptors`], for every listener.
    pub(crate) fn pause_all_acceptors(&mut self) {
        let keys: Vec<Key> = self.listeners.states.keys().collect();
        for key in keys {
            self.pause_acceptors(key);
        }
    }

    /// Closes the listening sockets; connections go on.
    pub(crate) fn stop_listening(&mut self, inbound_only: bool) {
        let inbound = |state: &ListenerState| state.config.traffic_direction == TrafficDirection::Inbound;
        let states = self.listeners.states.iter();
        let keys: Vec<Key> =
            states.filter(|(_, s)| !inbound_only || inbound(s)).map(|(key, _)| key).collect();
        for key in keys {
            if let Some(state) = self.listeners.states.get_mut(key) {
                state.stopped = true;
            }
            self.close_acceptors(key);
        }
    }

    /// Closes the listening sockets of one listener. What waits in the kernel's queues is accepted first by
    /// the back end, and comes as usual.
    pub(super) fn close_acceptors(&mut self, key: Key) {
        let Some(state) = self.listeners.states.get(key) else { return };
        for acceptor in &state.acceptors {
            let token = Kind::Listener.token(*acceptor);
            let Some(acceptor) = self.listeners.acceptors.get_mut(*acceptor) else { continue };
            if let Some(socket) = acceptor.socket.take() {
                if acceptor.paused {
                    self.io.ops.push(Op::Accept { listener: socket, token });
                }
                self.io.ops.push(Op::Close { socket, reset: false });
            }
        }
    }

    pub(crate) fn on_accepted(&mut self, key: Key, result: Result<Accepted, IoError>, more: bool) {
        let acceptor = self.listeners.acceptors.get(key).filter(|_| !self.stopping);
        let Some((listener, socket)) = acceptor.map(|a| (a.listener, a.socket)) else {
            if let Ok(accepted) = result {
                self.io.ops.push(Op::Close { socket: accepted.socket, reset: false });
            }
            return;
        };
        // An error means that we are out of files or that the client was gone before we looked: the pause
        // below is all there is to do.
        if let Ok(accepted) = result {
            self.place(listener, accepted);
        }
        if !more && socket.is_some() {
            self.wheel.insert(self.io.now + ACCEPT_PAUSE, Kind::Listener.token(key).0);
        }
    }

    /// The pause after a failed accept is over.
    pub(crate) fn accept_again(&mut self, key: Key) {
        let acceptor = self.listeners.acceptors.get(key).filter(|a| !a.paused);
        if let Some(socket) = acceptor.and_then(|a| a.socket) {
            self.io.ops.push(Op::Accept { listener: socket, token: Kind::Listener.token(key) });
        }
    }

    /// Gives a fresh connection to the shard with the fewest.
    fn place(&mut self, key: Key, accepted: Accepted) {
        let Some(state) = self.listeners.states.get(key) else { return };
        let config = &state.config;
        let limit = self.limits.downstream_connections_max;
        let (config, handle) = (config.clone(), state.handle.clone());
        let mut admission = Admission::default();
        if let Err(counter) = self.admits(&config, &handle, &mut admission) {
            self.stats.inc(config.scope, counter);
            self.io.ops.push(Op::Close { socket: accepted.socket, reset: false });
            return;
        }
        let chosen = self.shared.assign(self.index);
        if self.shared.doors()[chosen].connections() > limit {
            self.shared.unassign(chosen);
            self.stats.inc(config.scope, metric::DOWNSTREAM_CX_OVERFLOW);
            self.io.ops.push(Op::Close { socket: accepted.socket, reset: false });
            return;
        }
        let local = (self.socket_facts.local)(accepted.socket).map(|a| from_ring(&a));
        let hand_over = HandOver {
            socket: accepted.socket,
            peer: from_ring(&accepted.peer),
            local: local.or_else(|| config.addresses.first().cloned()).unwrap_or(from_ring(&accepted.peer)),
            listener: handle,
            admission,
        };
        if chosen == self.index {
            self.serve_for(key, hand_over);
            return;
        }
        if let Err(Message::Connection(back)) =
            self.shared.doors()[chosen].send(Message::Connection(hand_over))
        {
            // The other mailbox is full: that shard is in trouble, so the connection stays here.
            self.shared.unassign(chosen);
            self.shared.count_here(self.index);
            self.serve_for(key, back);
        }
    }

    /// Asks for a place under the bounds of the listener and the process; the counter of the first that refuses it.
    fn admits(
        &mut self,
        config: &Listener,
        handle: &Arc<ListenerHandle>,
        place: &mut Admission,
    ) -> Result<(), Counter> {
        if self.refuses_connection(config) {
            return Err(metric::DOWNSTREAM_CX_OVERLOAD_REJECT);
        }
        if !config.ignore_global_conn_limit && !config.bypass_overload_manager {
            let count = self.shared.connections();
            place.of_process(count).ok_or(metric::DOWNSTREAM_GLOBAL_CX_OVERFLOW)?;
        }
        place.of_listener(handle, config.connection_limit).ok_or(metric::DOWNSTREAM_CX_OVERFLOW)
    }

    /// Logs a connection that no filter chain took (`Listener.access_log`).
    fn log_unmatched(&mut self, config: &Listener, new: &HandOver, found: &Found) {
        if config.access_logs.is_empty() {
            return;
        }
        let mut flags = ResponseFlags::default();
        flags.set(ResponseFlag::NoRouteFound);
        let now = self.io.now;
        let info = StreamInfo {
            log_type: AccessLogType::NotSet,
            flags,
            response_code_details: Some("filter_chain_not_found"),
            times: Times { start: now, start_wall: self.wall, end: Some(now), ..Times::default() },
            downstream_remote: Some(&new.peer),
            downstream_direct_remote: Some(&new.peer),
            downstream_local: Some(&new.local),
            downstream_direct_local: Some(found.direct_local.as_ref().unwrap_or(&new.local)),
            hostname: &self.names.hostname,
            ..StreamInfo::default()
        };
        let random = self.rng.next_u64();
        self.logs.write(&config.access_logs, &info, random, self.io.now);
    }

    /// Serves a connection that another shard accepted and counted for this one.
    pub(crate) fn serve(&mut self, new: HandOver) {
        match self.listeners.find(&new.listener) {
            Some(key) => self.serve_for(key, new),
            // Its listener is gone since longer than a message waits.
            None => self.turn_away(&new),
        }
    }

    pub(super) fn turn_away(&mut self, new: &HandOver) {
        self.shared.unassign(self.index);
        self.io.ops.push(Op::Close { socket: new.socket, reset: false });
    }

    /// Serves a connection that was counted for this shard already.
    fn serve_for(&mut self, key: Key, mut new: HandOver) {
        let Some(state) = self.listeners.states.get(key) else { return self.turn_away(&new) };
        let over = state.removed.is_some_and(|removed| removed.drain_until <= self.io.now);
        if over || self.stopping {
            return self.turn_away(&new);
        }
        let mut config = state.config.clone();
        let restored = restores_destination(&config)
            .then(|| (self.socket_facts.original_dst)(new.socket).map(|a| from_ring(&a)))
            .flatten();
        let direct_local = restored.map(|wanted| std::mem::replace(&mut new.local, wanted));
        let mut key = key;
        if config.use_original_dst
            && direct_local.is_some()
            && let Some(other) = self.listeners.at(&new.local)
            && let Some(state) = self.listeners.states.get(other)
        {
            (key, config) = (other, state.config.clone());
        }
        self.stats.inc(config.scope, metric::DOWNSTREAM_CX_TOTAL);
        let found = Found { direct_local, ..Found::default() };
        if let Some((new, found)) = self.inspect(key, &config, new, found) {
            self.serve_found(key, &config, new, found, Early::default());
        }
    }

    /// Gives a connection of which everything is known to its filter chain.
    pub(super) fn serve_found(
        &mut self,
        key: Key,
        config: &Arc<Listener>,
        new: HandOver,
        mut found: Found,
        early: Early,
    ) {
        let chain = choose_chain(config, &new, &found);
        match chain.and_then(|at| self.origin(key, at)) {
            Some(origin) => {
                let early = Early {
                    server_name: found.server_name.take(),
                    direct_peer: found.direct_peer.take(),
                    direct_local: found.direct_local.take(),
                    tlvs: found.tlvs.take(),
                    ..early
                };
                self.open_downstream(key, origin, new, early);
            }
            None => {
                self.stats.inc(config.scope, metric::NO_FILTER_CHAIN_MATCH);
                self.stats.inc(config.scope, metric::DOWNSTREAM_CX_DESTROY);
                self.log_unmatched(config, &new, &found);
                self.turn_away(&new);
            }
        }
    }

    /// The record of a filter chain, made now if this is its first connection.
    fn origin(&mut self, key: Key, at: usize) -> Option<Rc<Origin>> {
        let state = self.listeners.states.get_mut(key)?;
        if let Some(known) = state.origins.get(at)? {
            return Some(known.clone());
        }
        let chain = chains(&state.config).nth(at)?;
        let http = http_options(chain, &self.limits, &self.snapshot);
        let drain_until = state.removed.map_or(Time::MAX, |removed| removed.drain_until);
        let origin = Rc::new(Origin::new(state.facts.clone(), chain, http, drain_until));
        if let Some(slot) = state.origins.get_mut(at) {
            *slot = Some(origin.clone());
        }
        self.route_users.add(&origin);
        Some(origin)
    }
}

/// What the listener filters found out.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Our end of the socket, where the connection's destination was found to be another one.
    pub(super) direct_local: Option<Address>,
    /// The peer of the socket, where a PROXY protocol header named another one.
    pub(super) direct_peer: Option<Address>,
    /// What is kept of that header.
    pub(super) tlvs: Option<Box<Tlvs>>,
    pub(super) server_name: Option<Box<str>>,
    /// ALPN that the client offers, or the HTTP version.
    pub(super) protocols: Vec<Box<str>>,
    pub(super) tls: bool,
}

fn restores_destination(config: &Listener) -> bool {
    let is_one = |filter: &ListenerFilter| filter.kind == ListenerFilterKind::OriginalDst;
    config.use_original_dst || config.listener_filters.iter().any(is_one)
}

/// Chooses the filter chain: its position among all.
fn choose_chain(config: &Listener, new: &HandOver, found: &Found) -> Option<usize> {
    let peer = ip_port(&new.peer);
    let protocols: Vec<&str> = found.protocols.iter().map(|name| &**name).collect();
    let facts = ConnectionFacts {
        destination: ip_port(&new.local),
        source: peer,
        direct_source: found.direct_peer.as_ref().map_or(peer.0, |direct| ip_port(direct).0),
        server_name: found.server_name.as_deref(),
        transport_protocol: if found.tls { TransportProtocol::Tls } else { TransportProtocol::RawBuffer },
        application_protocols: &protocols,
    };
    let default = config.default_filter_chain.as_ref().map(|_| config.filter_chains.len());
    config.chain_match.find(&facts).filter(|at| *at < config.filter_chains.len()).or(default)
}
