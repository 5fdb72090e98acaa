//! Accepting: from a listening socket to a connection on the right shard with its filter chain chosen.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Key, ResponseFlag, ResponseFlags};
use millrace_config::{ConnectionFacts, FilterChain, Listener, TransportProtocol};
use millrace_observe::access_log::{AccessLogType, StreamInfo, Times};
use millrace_observe::stats::listener as metric;
use millrace_ring::{Accepted, IoError, Op, Socket};

use crate::address::{from_ring, ip_port};
use crate::shard::{Shard, SocketFacts};
use crate::shared::{HandOver, Message};
use crate::token::Kind;

/// Pause after accepting failed (out of files), so that a full process does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener that this shard accepts for, or whose connections it serves.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) config: Arc<Listener>,
    /// `None`: other shards accept, or nobody does any more.
    pub(crate) socket: Option<Socket>,
    /// Downstream connections of this shard that came by the listener.
    pub(crate) connections: u32,
}

impl Shard {
    /// Knows a listener from now on, and accepts on `socket` if this shard has one.
    pub(crate) fn listen(&mut self, config: Arc<Listener>, socket: Option<Socket>) {
        let key = self.listeners.insert(ListenerState { config, socket, connections: 0 });
        if let Some(socket) = socket {
            self.io.ops.push(Op::Accept { listener: socket, token: Kind::Listener.token(key) });
        }
    }

    /// Closes the listening sockets; connections go on.
    pub(crate) fn stop_listening(&mut self, inbound_only: bool) {
        let keys: Vec<Key> = self.listeners.keys().collect();
        for key in keys {
            let Some(listener) = self.listeners.get_mut(key) else { continue };
            let inbound = listener.config.traffic_direction == millrace_config::TrafficDirection::Inbound;
            if (inbound || !inbound_only)
                && let Some(socket) = listener.socket.take()
            {
                self.io.ops.push(Op::Close { socket, reset: false });
            }
        }
    }

    pub(crate) fn on_accepted(&mut self, key: Key, result: Result<Accepted, IoError>, more: bool) {
        let Some(listener) = self.listeners.get(key) else {
            if let Ok(accepted) = result {
                self.io.ops.push(Op::Close { socket: accepted.socket, reset: false });
            }
            return;
        };
        let config = listener.config.clone();
        let open = listener.socket;
        // An error means that we are out of files or that the client was gone before we looked: the pause
        // below is all there is to do.
        if let Ok(accepted) = result {
            self.place(key, &config, accepted);
        }
        if !more && open.is_some() {
            self.wheel.insert(self.io.now + ACCEPT_PAUSE, Kind::Listener.token(key).0);
        }
    }

    /// The pause after a failed accept is over.
    pub(crate) fn accept_again(&mut self, key: Key) {
        if let Some(socket) = self.listeners.get(key).and_then(|l| l.socket) {
            self.io.ops.push(Op::Accept { listener: socket, token: Kind::Listener.token(key) });
        }
    }

    /// Gives a fresh connection to the shard with the fewest.
    fn place(&mut self, key: Key, config: &Arc<Listener>, accepted: Accepted) {
        let limit = self.limits.downstream_connections_max;
        let chosen = self.shared.assign(self.index);
        let over = self.shared.doors()[chosen].connections() > limit
            || config.connection_limit.is_some_and(|max| self.listener_connections(key) >= max);
        if over {
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
            listener: config.name.clone(),
        };
        if chosen == self.index {
            self.serve(hand_over);
            return;
        }
        if let Err(Message::Connection(back)) =
            self.shared.doors()[chosen].send(Message::Connection(hand_over))
        {
            // The other mailbox is full: that shard is in trouble, so the connection stays here.
            self.shared.unassign(chosen);
            self.shared.count_here(self.index);
            self.serve(back);
        }
    }

    /// Logs a connection that no filter chain took (`Listener.access_log`).
    fn log_unmatched(&mut self, config: &Listener, new: &HandOver) {
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
            downstream_direct_local: Some(&new.local),
            hostname: &self.names.hostname,
            ..StreamInfo::default()
        };
        let random = self.rng.next_u64();
        self.logs.write(&config.access_logs, &info, random, self.io.now);
    }

    fn listener_connections(&self, key: Key) -> u64 {
        self.listeners.get(key).map_or(0, |l| u64::from(l.connections))
    }

    /// Serves a connection that was counted for this shard already.
    pub(crate) fn serve(&mut self, new: HandOver) {
        let found = self.listeners.iter().find(|(_, l)| l.config.name == new.listener).map(|(key, _)| key);
        let Some(key) = found else {
            self.shared.unassign(self.index);
            self.io.ops.push(Op::Close { socket: new.socket, reset: false });
            return;
        };
        let config = self.listeners.get(key).map(|l| l.config.clone());
        let Some(config) = config else { return };
        self.stats.inc(config.scope, metric::DOWNSTREAM_CX_TOTAL);
        match choose_chain(&config, &new, &self.socket_facts) {
            Some(chain) => {
                let chain = chain.clone();
                self.open_downstream(key, &config, &chain, new);
            }
            None => {
                self.stats.inc(config.scope, metric::NO_FILTER_CHAIN_MATCH);
                self.stats.inc(config.scope, metric::DOWNSTREAM_CX_DESTROY);
                self.log_unmatched(&config, &new);
                self.shared.unassign(self.index);
                self.io.ops.push(Op::Close { socket: new.socket, reset: false });
            }
        }
    }
}

/// Chooses the filter chain by what is known without reading a byte.
fn choose_chain<'a>(
    config: &'a Listener,
    new: &HandOver,
    facts: &SocketFacts,
) -> Option<&'a Arc<FilterChain>> {
    let restored = config
        .listener_filters
        .contains(&millrace_config::ListenerFilter::OriginalDst)
        .then(|| (facts.original_dst)(new.socket).map(|a| from_ring(&a)))
        .flatten();
    let (peer, local) = (ip_port(&new.peer), ip_port(restored.as_ref().unwrap_or(&new.local)));
    let facts = ConnectionFacts {
        destination: local,
        source: peer,
        direct_source: peer.0,
        server_name: None,
        transport_protocol: TransportProtocol::RawBuffer,
        application_protocols: &[],
    };
    let index = config.chain_match.find(&facts);
    index.and_then(|i| config.filter_chains.get(i)).or(config.default_filter_chain.as_ref())
}
