//! A connection that a client opened: its socket, its filter chain, and the protocol it speaks.

use std::rc::Rc;

use millrace_base::{Key, Time};
use millrace_config::{Address, NetworkFilter};
use millrace_observe::access_log::{AccessLogType, StreamInfo, Times};
use millrace_observe::stats::listener as metric;
use millrace_ring::{Filled, IoError, Payload, RecvEnd, RelayEnd};

use crate::http::{Closing, HttpDownstream};
use crate::link::Link;
use crate::origin::Origin;
use crate::shard::Shard;
use crate::shared::HandOver;
use crate::tcp::TcpSession;
use crate::timers::ConnectionTimer;
use crate::token::Kind;

/// What both ends of a downstream connection are called.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) peer: Address,
    pub(crate) local: Address,
}

/// The terminal filter's state.
#[derive(Debug)]
pub(crate) enum Protocol {
    Tcp(Box<TcpSession>),
    Http(Box<HttpDownstream>),
}

/// One downstream connection.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) link: Link,
    pub(crate) origin: Rc<Origin>,
    pub(crate) listener: Key,
    pub(crate) addresses: Addresses,
    /// `%CONNECTION_ID%`.
    pub(crate) id: u64,
    pub(crate) opened: Time,
    pub(crate) timer: ConnectionTimer,
    pub(crate) protocol: Protocol,
}

impl Downstream {
    /// True when everything has left and only the client's FIN, or a moment, is waited for.
    pub(crate) fn is_lingering(&self) -> bool {
        match &self.protocol {
            Protocol::Http(http) => matches!(http.closing, Closing::Lingering(_)),
            Protocol::Tcp(_) => false,
        }
    }
}

impl Shard {
    /// Takes a connection whose filter chain is known into service.
    pub(crate) fn open_downstream(&mut self, listener: Key, origin: Rc<Origin>, new: HandOver) {
        let protocol = match origin.chain.filters.last() {
            Some(NetworkFilter::TcpProxy(proxy)) => Protocol::Tcp(Box::new(TcpSession::new(proxy.clone()))),
            Some(NetworkFilter::HttpConnectionManager(hcm)) => {
                Protocol::Http(Box::new(HttpDownstream::new(hcm.clone(), self.io.now)))
            }
            None => {
                // A chain without filters closes its connections, as Envoy does.
                self.shared.unassign(self.index);
                self.io.ops.push(millrace_ring::Op::Close { socket: new.socket, reset: false });
                return;
            }
        };
        let scope = origin.listener.scope;
        origin.opened();
        if origin.is_replaced() {
            self.shared.add_draining(self.index, 1);
        }
        self.connection_ids += 1;
        let id = self.connection_ids * self.shared.doors().len() as u64 + self.index as u64;
        let now = self.io.now;
        let key = self.downstreams.insert_with(|key| {
            Box::new(Downstream {
                link: Link::new(new.socket, Kind::Downstream.token(key)),
                origin,
                listener,
                addresses: Addresses { peer: new.peer, local: new.local },
                id,
                opened: now,
                timer: ConnectionTimer::default(),
                protocol,
            })
        });
        self.listeners.connection_opened(listener);
        self.stats.gauge_inc(scope, metric::DOWNSTREAM_CX_ACTIVE);
        match self.downstreams.get(key).map(|d| &d.protocol) {
            Some(Protocol::Tcp(_)) => self.tcp_opened(key),
            Some(Protocol::Http(_)) => self.http_opened(key),
            None => {}
        }
        self.rearm_downstream(key);
    }

    pub(crate) fn on_downstream_data(&mut self, key: Key, data: Filled) {
        match self.downstreams.get(key).map(|d| &d.protocol) {
            Some(Protocol::Tcp(_)) => self.tcp_downstream_data(key, data),
            Some(Protocol::Http(_)) => self.http_downstream_data(key, data),
            None => {}
        }
    }

    pub(crate) fn on_downstream_recv_ended(&mut self, key: Key, reason: RecvEnd) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Some(end) = downstream.link.receive_ended(reason, &mut self.io) else {
            return self.start_relays(key);
        };
        match &downstream.protocol {
            Protocol::Tcp(_) => self.tcp_downstream_ended(key, end),
            Protocol::Http(_) => self.http_downstream_ended(key, end),
        }
    }

    pub(crate) fn on_downstream_sent(&mut self, key: Key, result: Result<usize, IoError>, payload: Payload) {
        let Some(downstream) = self.downstreams.get_mut(key) else {
            return Link::orphaned(payload, &mut self.io);
        };
        downstream.link.sent(payload, &mut self.io);
        match self.downstreams.get(key).map(|d| &d.protocol) {
            Some(Protocol::Tcp(_)) => self.tcp_downstream_sent(key, result),
            Some(Protocol::Http(_)) => self.http_downstream_sent(key, result),
            None => {}
        }
    }

    /// Begins what relays its links want; called when reading has stopped, and when a queue is empty.
    pub(crate) fn start_relays(&mut self, key: Key) {
        match self.downstreams.get(key).map(|d| &d.protocol) {
            Some(Protocol::Tcp(_)) => self.tcp_start_relays(key),
            Some(Protocol::Http(_)) => self.http_start_relay(key),
            None => {}
        }
    }

    /// Bytes of the endpoint went to this client without passing through here.
    pub(crate) fn on_downstream_relayed(
        &mut self,
        key: Key,
        bytes: usize,
        sink_full: bool,
        end: Option<RelayEnd>,
    ) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.link.relayed(bytes, sink_full, end.is_some(), &mut self.io);
        match &downstream.protocol {
            Protocol::Tcp(_) => self.tcp_downstream_relayed(key, bytes, end),
            Protocol::Http(_) => self.http_downstream_relayed(key, bytes, end),
        }
        if sink_full {
            self.rearm_downstream(key);
        }
    }

    /// Removes a downstream connection and closes its socket. The caller has settled its streams and logs.
    pub(crate) fn close_downstream(&mut self, key: Key, reset: bool) {
        let Some(mut downstream) = self.downstreams.remove(key) else { return };
        downstream.link.close(&mut self.io, reset);
        self.log_connection(&downstream);
        if let Some(timer) = downstream.timer.disarm() {
            self.wheel.cancel(timer);
        }
        let scope = downstream.origin.listener.scope;
        self.stats.inc(scope, metric::DOWNSTREAM_CX_DESTROY);
        self.stats.gauge_dec(scope, metric::DOWNSTREAM_CX_ACTIVE);
        let lived = self.io.now.since(downstream.opened);
        self.stats.record(scope, metric::DOWNSTREAM_CX_LENGTH_MS, lived.as_millis() as u64);
        let left = downstream.origin.closed();
        if downstream.origin.is_replaced() {
            self.shared.end_draining(self.index);
        }
        self.listeners.connection_closed(downstream.listener, left, self.io.now);
        self.shared.unassign(self.index);
    }

    /// `Listener.access_log` of an HTTP connection; a TCP session has logged itself there, with its bytes.
    fn log_connection(&mut self, downstream: &Downstream) {
        let logs = &downstream.origin.listener.access_logs;
        if logs.is_empty() || matches!(downstream.protocol, Protocol::Tcp(_)) {
            return;
        }
        let now = self.io.now;
        let times = Times {
            start: downstream.opened,
            start_wall: self.wall_at(downstream.opened),
            end: Some(now),
            ..Times::default()
        };
        let info = StreamInfo {
            log_type: AccessLogType::NotSet,
            times,
            downstream_remote: Some(&downstream.addresses.peer),
            downstream_direct_remote: Some(&downstream.addresses.peer),
            downstream_local: Some(&downstream.addresses.local),
            downstream_direct_local: Some(&downstream.addresses.local),
            connection_id: Some(downstream.id),
            filter_chain_name: Some(&*downstream.origin.chain.name).filter(|n| !n.is_empty()),
            hostname: &self.names.hostname,
            unique: (u128::from(self.rng.next_u64()) << 64) | u128::from(self.rng.next_u64()),
            ..StreamInfo::default()
        };
        let random = self.rng.next_u64();
        self.logs.write(logs, &info, random, now);
    }
}
