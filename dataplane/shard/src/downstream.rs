//! A connection that a client opened: its socket, its filter chain, and the protocol it speaks.

use std::rc::Rc;
use std::sync::Arc;

use millrace_base::{FilterState, Key, Metadata, Rng, Time, TlsFacts, WallTime, Written};
use millrace_config::{Address, NetworkFilter};
use millrace_filter::jitter;
use millrace_observe::access_log::{AccessLogType, StreamInfo, Times};
use millrace_observe::stats::listener as metric;
use millrace_ring::{Filled, IoError, Payload, RecvEnd, RelayEnd};

use crate::gates::{Passage, Refused};
use crate::http::{Closing, HttpDownstream};
use crate::link::Link;
use crate::listener::Tlvs;
use crate::origin::Origin;
use crate::secure_downstream::NotReady;
use crate::shard::Shard;
use crate::shared::{Admission, HandOver};
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
    /// None before the TLS handshake is through, which has until then.
    Securing(Time),
    /// Above a `connection_limit`: what it sends is dropped until it is closed.
    Refused(Refused),
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
    /// Absent on most connections.
    pub(crate) notes: Option<Box<Notes>>,
    /// Held for as long as the connection lives.
    _admission: Admission,
}

/// What only some connections are asked about.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// As the TLS inspector found it.
    pub(crate) server_name: Option<Box<str>>,
    /// The peer of the socket, where a PROXY protocol header named another one.
    pub(crate) direct_peer: Option<Address>,
    /// Our end of the socket, where a listener filter found out what the client wanted.
    pub(crate) direct_local: Option<Address>,
    /// What is kept of a PROXY protocol header's TLVs.
    pub(crate) tlvs: Option<Box<Tlvs>>,
    /// What network filters have written about it.
    pub(crate) filter_state: FilterState,
    /// Why TLS failed: `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub(crate) transport_failure: Option<Box<str>>,
}

impl Downstream {
    /// True when everything has left and only the client's FIN, or a moment, is waited for.
    pub(crate) fn is_lingering(&self) -> bool {
        match &self.protocol {
            Protocol::Http(http) => matches!(http.closing, Closing::Lingering(_)),
            Protocol::Tcp(_) | Protocol::Securing(_) | Protocol::Refused(_) => false,
        }
    }

    /// What its TLS handshake told.
    pub(crate) fn tls(&self) -> Option<&Rc<TlsFacts>> {
        self.link.tls_facts()
    }

    /// The peer of the socket itself.
    pub(crate) fn direct_peer(&self) -> &Address {
        let noted = self.notes.as_ref().and_then(|notes| notes.direct_peer.as_ref());
        noted.unwrap_or(&self.addresses.peer)
    }

    /// Our end of the socket itself.
    pub(crate) fn direct_local(&self) -> &Address {
        let noted = self.notes.as_ref().and_then(|notes| notes.direct_local.as_ref());
        noted.unwrap_or(&self.addresses.local)
    }

    /// True when a listener filter found out where the client wanted to go.
    pub(crate) fn is_restored(&self) -> bool {
        self.notes.as_ref().is_some_and(|notes| notes.direct_local.is_some())
    }

    /// Filter state of the connection.
    pub(crate) fn filter_state(&self) -> Option<&FilterState> {
        Some(&self.notes.as_ref()?.filter_state)
    }

    /// What may be read of the connection's own state.
    pub(crate) fn written(&self) -> Written<'_> {
        Written { metadata: self.metadata(), stream: None, connection: self.filter_state() }
    }

    /// Dynamic metadata that listener filters left.
    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        Some(&self.notes.as_ref()?.tlvs.as_ref()?.metadata)
    }

    /// TLVs of its PROXY protocol header that may be told to endpoints.
    pub(crate) fn passed_tlvs(&self) -> Option<&Arc<[u8]>> {
        let passed = &self.notes.as_ref()?.tlvs.as_ref()?.passed;
        Some(passed).filter(|tlvs| !tlvs.is_empty())
    }

    /// What is known of it whatever it carries.
    pub(crate) fn info<'a>(&'a self, start_wall: WallTime, now: Time, hostname: &'a str) -> StreamInfo<'a> {
        StreamInfo {
            log_type: AccessLogType::NotSet,
            times: Times { start: self.opened, start_wall, end: Some(now), ..Times::default() },
            downstream_remote: Some(&self.addresses.peer),
            downstream_direct_remote: Some(self.direct_peer()),
            downstream_local: Some(&self.addresses.local),
            downstream_direct_local: Some(self.direct_local()),
            connection_id: Some(self.id),
            requested_server_name: self.requested_server_name(),
            written: self.written(),
            downstream_tls: self.tls().map(|tls| &**tls),
            downstream_transport_failure: self.transport_failure(),
            filter_chain_name: Some(&*self.origin.chain.name).filter(|n| !n.is_empty()),
            hostname,
            ..StreamInfo::default()
        }
    }

    /// Why TLS failed, if it did.
    pub(crate) fn transport_failure(&self) -> Option<&str> {
        self.notes.as_ref()?.transport_failure.as_deref()
    }

    /// Notes why TLS failed; the first reason counts.
    pub(crate) fn transport_failed(&mut self, words: &str) {
        self.notes.get_or_insert_default().transport_failure.get_or_insert_with(|| words.into());
    }

    /// The server name that the client asked for, whoever read it.
    pub(crate) fn requested_server_name(&self) -> Option<&str> {
        let named = self.notes.as_ref().and_then(|notes| notes.server_name.as_deref());
        named.or_else(|| self.tls().map(|tls| &*tls.server_name)).filter(|name| !name.is_empty())
    }
}

/// The state of a chain's terminal filter; `None` for a chain without filters.
pub(crate) fn first_protocol(origin: &Origin, now: Time, rng: &mut Rng) -> Option<Protocol> {
    Some(match origin.chain.filters.last()? {
        NetworkFilter::TcpProxy(proxy) => Protocol::Tcp(Box::new(TcpSession::new(proxy.clone()))),
        NetworkFilter::HttpConnectionManager(hcm) => {
            let mut http = HttpDownstream::new(hcm.clone(), now);
            if hcm.duration_jitter_percent > 0.0 {
                let whole = hcm.max_connection_duration.unwrap_or_default();
                http.outlives = jitter(whole, hcm.duration_jitter_percent, rng.next_u64());
            }
            Protocol::Http(Box::new(http))
        }
    })
}

/// What was read of a connection before its filter chain was chosen.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// Bytes for the chain, in order.
    pub(crate) pieces: Vec<Filled>,
    /// As the TLS inspector found it.
    pub(crate) server_name: Option<Box<str>>,
    /// The peer of the socket, where a PROXY protocol header named another one.
    pub(crate) direct_peer: Option<Address>,
    /// Our end of the socket, where a listener filter found out what the client wanted.
    pub(crate) direct_local: Option<Address>,
    /// What is kept of its TLVs.
    pub(crate) tlvs: Option<Box<Tlvs>>,
}

impl Shard {
    /// Takes a connection whose filter chain is known into service.
    pub(crate) fn open_downstream(&mut self, listener: Key, origin: Rc<Origin>, new: HandOver, early: Early) {
        let now = self.io.now;
        let session = match self.server_session(&origin) {
            Ok(session) => session,
            Err(NotReady) => return self.refuse(new.socket),
        };
        let Passage::In(refused) = self.pass_gates(&origin.chain) else {
            self.stats.inc(origin.listener.scope, metric::DOWNSTREAM_CX_DESTROY);
            return self.refuse(new.socket);
        };
        let session = session.filter(|_| refused.is_none());
        let protocol = match (&session, refused) {
            (_, Some(refused)) => Protocol::Refused(refused),
            (Some(_), None) => {
                let limit = self.handshake_limit(&origin);
                Protocol::Securing(now + limit)
            }
            (None, None) => match first_protocol(&origin, now, &mut self.rng) {
                Some(protocol) => protocol,
                // A chain without filters closes its connections, as Envoy does.
                None => {
                    self.leave_empty_chain(&origin.chain);
                    return self.refuse(new.socket);
                }
            },
        };
        let noted = early.server_name.is_some()
            || early.direct_peer.is_some()
            || early.direct_local.is_some()
            || early.tlvs.is_some();
        let Early { pieces, server_name, direct_peer, direct_local, tlvs } = early;
        let notes = noted
            .then(|| Box::new(Notes { server_name, direct_peer, direct_local, tlvs, ..Notes::default() }));
        let scope = origin.listener.scope;
        origin.opened();
        if origin.is_replaced() {
            self.shared.add_draining(self.index, 1);
        }
        self.connection_ids += 1;
        let id = self.connection_ids * self.shared.doors().len() as u64 + self.index as u64;
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
                notes,
                _admission: new.admission,
            })
        });
        self.listeners.connection_opened(listener);
        self.stats.gauge_inc(scope, metric::DOWNSTREAM_CX_ACTIVE);
        self.write_new_connection_state(key);
        match session {
            Some(session) => self.begin_downstream_handshake(key, session),
            None => self.protocol_opened(key),
        }
        for piece in pieces {
            self.on_downstream_data(key, piece);
        }
        self.rearm_downstream(key);
    }

    fn refuse(&mut self, socket: millrace_ring::Socket) {
        self.shared.unassign(self.index);
        self.io.ops.push(millrace_ring::Op::Close { socket, reset: false });
    }

    /// The terminal filter takes over: bytes are its own from now on.
    pub(crate) fn protocol_opened(&mut self, key: Key) {
        match self.downstreams.get(key).map(|d| &d.protocol) {
            Some(Protocol::Tcp(_)) => self.tcp_opened(key),
            Some(Protocol::Http(_)) => self.http_opened(key),
            // Reading finds out when the client leaves earlier.
            Some(Protocol::Refused(_)) => {
                if let Some(downstream) = self.downstreams.get_mut(key) {
                    downstream.link.resume(&mut self.io);
                }
            }
            Some(Protocol::Securing(_)) | None => {}
        }
    }

    pub(crate) fn on_downstream_data(&mut self, key: Key, data: Filled) {
        match self.downstreams.get(key) {
            Some(downstream) if downstream.link.is_secure() => self.secure_downstream_data(key, data),
            Some(_) => self.downstream_plaintext(key, data),
            None => {}
        }
    }

    /// Bytes for the terminal filter.
    pub(crate) fn downstream_plaintext(&mut self, key: Key, data: Filled) {
        match self.downstreams.get(key).map(|d| &d.protocol) {
            Some(Protocol::Tcp(_)) => self.tcp_downstream_data(key, data),
            Some(Protocol::Http(_)) => self.http_downstream_data(key, data),
            Some(Protocol::Securing(_) | Protocol::Refused(_)) | None => {}
        }
    }

    pub(crate) fn on_downstream_recv_ended(&mut self, key: Key, reason: RecvEnd) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Some(end) = downstream.link.receive_ended(reason, &mut self.io) else {
            return self.start_relays(key);
        };
        self.downstream_ended(key, end);
    }

    /// The client closed its half, or the connection failed.
    pub(crate) fn downstream_ended(&mut self, key: Key, end: Result<(), IoError>) {
        match self.downstreams.get(key).map(|d| &d.protocol) {
            Some(Protocol::Tcp(_)) => self.tcp_downstream_ended(key, end),
            Some(Protocol::Http(_)) => self.http_downstream_ended(key, end),
            Some(Protocol::Securing(_)) => self.handshake_abandoned(key),
            Some(Protocol::Refused(_)) => self.close_downstream(key, false),
            None => {}
        }
    }

    pub(crate) fn on_downstream_sent(&mut self, key: Key, result: Result<usize, IoError>, payload: Payload) {
        let Some(downstream) = self.downstreams.get_mut(key) else {
            return self.sent_by_none(Kind::Downstream.token(key), payload);
        };
        let sent = downstream.link.sent(payload, &mut self.io);
        let result = result.map(|_| sent);
        match self.downstreams.get(key).map(|d| &d.protocol) {
            Some(Protocol::Tcp(_)) => self.tcp_downstream_sent(key, result),
            Some(Protocol::Http(_)) => self.http_downstream_sent(key, result),
            Some(Protocol::Securing(_)) if result.is_err() => self.handshake_abandoned(key),
            Some(Protocol::Securing(_) | Protocol::Refused(_)) | None => {}
        }
    }

    /// Begins what relays its links want; called when reading has stopped, and when a queue is empty.
    pub(crate) fn start_relays(&mut self, key: Key) {
        match self.downstreams.get(key).map(|d| &d.protocol) {
            Some(Protocol::Tcp(_)) => self.tcp_start_relays(key),
            Some(Protocol::Http(_)) => self.http_start_relay(key),
            Some(Protocol::Securing(_) | Protocol::Refused(_)) | None => {}
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
            Protocol::Securing(_) | Protocol::Refused(_) => {}
        }
        if sink_full {
            self.rearm_downstream(key);
        }
    }

    /// Removes a downstream connection and closes its socket. The caller has settled its streams and logs.
    pub(crate) fn close_downstream(&mut self, key: Key, reset: bool) {
        self.log_finished();
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
        self.leave_gates(&downstream);
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
        let unique = (u128::from(self.rng.next_u64()) << 64) | u128::from(self.rng.next_u64());
        let info = StreamInfo {
            unique,
            ..downstream.info(self.wall_at(downstream.opened), now, &self.names.hostname)
        };
        let random = self.rng.next_u64();
        self.logs.write(logs, &info, random, now);
    }
}
