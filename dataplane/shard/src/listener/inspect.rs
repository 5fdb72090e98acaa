//! Connections that listener filters look at before a filter chain is chosen (`Listener.listener_filters`).
//!
//! One buffer is received at a time, so that nothing is in flight when the connection is handed to its chain. Bytes that
//! do not suffice wait in memory of their own: slow clients hold no receive buffer.

use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{Address, Listener, ListenerFilter, ListenerFilterKind, ProxyProtocolFilter};
use millrace_inspect::proxy_protocol::{self, Rules, Step, Version};
use millrace_inspect::{HelloError, HttpSniff, client_hello_within, http_version};
use millrace_observe::stats::listener as metric;
use millrace_observe::stats::{Counter, ScopeKind, http_inspector, proxy_proto, tls_inspector};
use millrace_ring::timer::TimerId;
use millrace_ring::{Filled, Op, RecvEnd};

use super::accept::Found;
use super::tlvs::Tlvs;
use crate::address::ip_port;
use crate::downstream::Early;
use crate::shard::Shard;
use crate::shared::HandOver;
use crate::token::Kind;

/// One such connection.
#[derive(Debug)]
pub(crate) struct Inspection {
    listener: Key,
    new: HandOver,
    found: Found,
    /// Position of the filter whose turn it is.
    at: usize,
    /// What came before the buffer at hand.
    held: Vec<u8>,
    data: Option<Filled>,
    timer: Option<TimerId>,
}

/// What a filter says of the bytes so far, and what it counts.
enum Verdict {
    NeedMore,
    /// Go on with the next filter, behind so many bytes.
    Next(usize, Counts),
    Close(Counts),
}

/// At most three counters of a filter's scope.
type Counts = [Option<Counter>; 3];

impl Shard {
    /// Begins the inspection of a connection if a filter of the listener asks for its bytes; gives it back otherwise.
    pub(super) fn inspect(
        &mut self,
        listener: Key,
        config: &Arc<Listener>,
        new: HandOver,
        found: Found,
    ) -> Option<(HandOver, Found)> {
        let port = ip_port(&new.local).1;
        let Some(at) = next_filter(&config.listener_filters, 0, port) else { return Some((new, found)) };
        let socket = new.socket;
        let limit = config.listener_filters_timeout;
        let (wheel, now) = (&mut self.wheel, self.io.now);
        let key = self.inspections.insert_with(|key| {
            let timer = limit.map(|limit| wheel.insert(now + limit, Kind::Inspection.token(key).0));
            Box::new(Inspection { listener, new, found, at, held: Vec::new(), data: None, timer })
        });
        self.stats.gauge_inc(config.scope, metric::DOWNSTREAM_PRE_CX_ACTIVE);
        self.io.ops.push(Op::RecvOnce { socket, token: Kind::Inspection.token(key) });
        None
    }

    pub(crate) fn on_inspected_data(&mut self, key: Key, data: Filled) {
        let Some(inspection) = self.inspections.get_mut(key) else { return };
        match inspection.data {
            None => inspection.data = Some(data),
            // One buffer at a time is received; should two come, none is lost.
            Some(_) => {
                inspection.hold();
                inspection.data = Some(data);
            }
        }
    }

    pub(crate) fn on_inspected_end(&mut self, key: Key, reason: RecvEnd) {
        match reason {
            RecvEnd::Stopped => self.run_inspection(key),
            RecvEnd::Eof | RecvEnd::Error(_) => self.drop_inspection(key),
        }
    }

    /// Asks the filters in their order.
    fn run_inspection(&mut self, key: Key) {
        let Some(listener) = self.inspections.get(key).map(|inspection| inspection.listener) else { return };
        let Some(config) = self.listeners.config(listener).cloned() else { return self.drop_inspection(key) };
        loop {
            let Some(inspection) = self.inspections.get_mut(key) else { return };
            let Some(filter) = config.listener_filters.get(inspection.at) else {
                return self.inspected(key, &config);
            };
            let kind = &filter.kind;
            let verdict = inspection.ask(kind);
            match verdict {
                Verdict::NeedMore => {
                    inspection.hold();
                    let socket = inspection.new.socket;
                    self.io.ops.push(Op::RecvOnce { socket, token: Kind::Inspection.token(key) });
                    return;
                }
                Verdict::Next(consumed, counts) => {
                    self.count_filter(kind, counts);
                    let Some(inspection) = self.inspections.get_mut(key) else { return };
                    inspection.consume(consumed);
                    let port = ip_port(&inspection.new.local).1;
                    let next = next_filter(&config.listener_filters, inspection.at + 1, port);
                    inspection.at = next.unwrap_or(config.listener_filters.len());
                    if next.is_some() && inspection.is_empty() {
                        let socket = inspection.new.socket;
                        self.io.ops.push(Op::RecvOnce { socket, token: Kind::Inspection.token(key) });
                        return;
                    }
                }
                Verdict::Close(counts) => {
                    self.count_filter(kind, counts);
                    return self.drop_inspection(key);
                }
            }
        }
    }

    fn count_filter(&mut self, kind: &ListenerFilterKind, counts: Counts) {
        let scope = match kind {
            ListenerFilterKind::OriginalDst => return,
            ListenerFilterKind::TlsInspector { .. } => self.filter_scope(ScopeKind::TlsInspector, ""),
            ListenerFilterKind::HttpInspector => self.filter_scope(ScopeKind::HttpInspector, ""),
            ListenerFilterKind::ProxyProtocol(filter) => {
                self.filter_scope(ScopeKind::ProxyProto, &filter.stat_prefix)
            }
        };
        for counter in counts.into_iter().flatten() {
            self.stats.inc(scope, counter);
        }
    }

    /// Everything is known: the connection goes to its chain, with the bytes that were read.
    fn inspected(&mut self, key: Key, config: &Arc<Listener>) {
        let Some(inspection) = self.take_inspection(key, config) else { return };
        let Inspection { listener, new, found, held, data, .. } = *inspection;
        let mut pieces = Vec::new();
        let mut rest = &held[..];
        while !rest.is_empty() {
            let Some(piece) = self.io.plain_buffer(rest) else {
                self.stats.inc(config.scope, metric::DOWNSTREAM_CX_DESTROY);
                return self.turn_away(&new);
            };
            rest = &rest[piece.len()..];
            pieces.push(piece);
        }
        pieces.extend(data);
        self.serve_found(listener, config, new, found, Early { pieces, ..Early::default() });
    }

    fn take_inspection(&mut self, key: Key, config: &Arc<Listener>) -> Option<Box<Inspection>> {
        let mut inspection = self.inspections.remove(key)?;
        if let Some(timer) = inspection.timer.take() {
            self.wheel.cancel(timer);
        }
        self.stats.gauge_dec(config.scope, metric::DOWNSTREAM_PRE_CX_ACTIVE);
        Some(inspection)
    }

    /// Closes a connection before it has a chain.
    fn drop_inspection(&mut self, key: Key) {
        let Some(listener) = self.inspections.get(key).map(|i| i.listener) else { return };
        let Some(config) = self.listeners.config(listener).cloned() else {
            if let Some(inspection) = self.inspections.remove(key) {
                if let Some(timer) = inspection.timer {
                    self.wheel.cancel(timer);
                }
                self.turn_away(&inspection.new);
            }
            return;
        };
        if let Some(inspection) = self.take_inspection(key, &config) {
            self.stats.inc(config.scope, metric::DOWNSTREAM_CX_DESTROY);
            self.turn_away(&inspection.new);
        }
    }

    /// `listener_filters_timeout`.
    pub(crate) fn inspection_timer(&mut self, key: Key) {
        let Some(inspection) = self.inspections.get_mut(key) else { return };
        inspection.timer = None;
        let Some(config) = self.listeners.config(inspection.listener).cloned() else {
            return self.drop_inspection(key);
        };
        self.stats.inc(config.scope, metric::DOWNSTREAM_PRE_CX_TIMEOUT);
        if !config.continue_on_listener_filters_timeout {
            return self.drop_inspection(key);
        }
        // A receive is in flight: it is stopped, and what it brings still counts.
        inspection.at = config.listener_filters.len();
        self.io.ops.push(Op::StopRecv { socket: inspection.new.socket });
    }

    /// The shard stops.
    pub(crate) fn stop_inspections(&mut self) {
        let keys: Vec<Key> = self.inspections.keys().collect();
        for key in keys {
            self.drop_inspection(key);
        }
    }
}

/// The first filter from `from` on that looks at bytes of a connection to this port.
fn next_filter(filters: &[ListenerFilter], from: usize, port: u16) -> Option<usize> {
    let looks = |filter: &ListenerFilter| {
        filter.kind != ListenerFilterKind::OriginalDst
            && !filter.disabled.as_ref().is_some_and(|predicate| predicate.matches(port))
    };
    Some(from + filters.get(from..)?.iter().position(looks)?)
}

impl Inspection {
    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.data.as_ref().is_none_or(|data| data.is_empty())
    }

    /// Moves everything to memory of its own.
    fn hold(&mut self) {
        if let Some(data) = self.data.take() {
            self.held.extend_from_slice(&data);
        }
    }

    fn bytes(&mut self) -> &[u8] {
        if !self.held.is_empty() {
            self.hold();
            return &self.held;
        }
        self.data.as_deref().unwrap_or_default()
    }

    /// Drops a header that is not for the chain.
    fn consume(&mut self, count: usize) {
        if self.held.is_empty() {
            if let Some(data) = &mut self.data {
                data.advance(count);
            }
        } else {
            self.held.drain(..count.min(self.held.len()));
        }
    }

    fn ask(&mut self, kind: &ListenerFilterKind) -> Verdict {
        match kind {
            ListenerFilterKind::OriginalDst => Verdict::Next(0, [None; 3]),
            ListenerFilterKind::TlsInspector { close_on_error, client_hello_bytes_max } => {
                self.ask_tls(*close_on_error, *client_hello_bytes_max as usize)
            }
            ListenerFilterKind::HttpInspector => self.ask_http(),
            ListenerFilterKind::ProxyProtocol(filter) => self.ask_proxy_protocol(filter),
        }
    }

    fn ask_tls(&mut self, close_on_error: bool, bytes_max: usize) -> Verdict {
        match client_hello_within(self.bytes(), bytes_max) {
            Ok(None) => Verdict::NeedMore,
            Ok(Some(hello)) => {
                let text = |name: &[u8]| std::str::from_utf8(name).ok().map(Box::from);
                self.found.protocols = hello.alpn().filter_map(text).collect();
                let alpn = match hello.alpn().next() {
                    Some(_) => tls_inspector::ALPN_FOUND,
                    None => tls_inspector::ALPN_NOT_FOUND,
                };
                let sni = match hello.server_name {
                    Some(_) => tls_inspector::SNI_FOUND,
                    None => tls_inspector::SNI_NOT_FOUND,
                };
                self.found.server_name = hello.server_name;
                self.found.tls = true;
                Verdict::Next(0, [Some(tls_inspector::TLS_FOUND), Some(alpn), Some(sni)])
            }
            Err(HelloError::TooLarge) => {
                Verdict::Close([Some(tls_inspector::CLIENT_HELLO_TOO_LARGE), None, None])
            }
            Err(HelloError::Malformed) if close_on_error => {
                Verdict::Close([Some(tls_inspector::TLS_NOT_FOUND), None, None])
            }
            Err(HelloError::Malformed | HelloError::NotTls) => {
                Verdict::Next(0, [Some(tls_inspector::TLS_NOT_FOUND), None, None])
            }
        }
    }

    fn ask_http(&mut self) -> Verdict {
        if self.found.tls {
            return Verdict::Next(0, [None; 3]);
        }
        let sniff = http_version(self.bytes());
        let counter = match sniff {
            HttpSniff::NeedMore => return Verdict::NeedMore,
            HttpSniff::TooLarge => return Verdict::Close([Some(http_inspector::READ_ERROR), None, None]),
            HttpSniff::Http10 => http_inspector::HTTP10_FOUND,
            HttpSniff::Http11 => http_inspector::HTTP11_FOUND,
            HttpSniff::Http2 => http_inspector::HTTP2_FOUND,
            HttpSniff::NotHttp => http_inspector::HTTP_NOT_FOUND,
        };
        if let Some(protocol) = sniff.application_protocol().and_then(|p| std::str::from_utf8(p).ok()) {
            self.found.protocols = vec![protocol.into()];
        }
        Verdict::Next(0, [Some(counter), None, None])
    }

    fn ask_proxy_protocol(&mut self, filter: &ProxyProtocolFilter) -> Verdict {
        let rules = Rules {
            allow_without: filter.allow_without,
            refuse_v1: filter.refuse_v1,
            refuse_v2: filter.refuse_v2,
        };
        match proxy_protocol::parse(self.bytes(), &rules) {
            Ok(Step::NeedMore) => Verdict::NeedMore,
            Ok(Step::Absent) => Verdict::Next(0, [Some(proxy_proto::NOT_FOUND_ALLOWED), None, None]),
            Ok(Step::Header(header)) => {
                let wire = self.bytes().get(header.tlvs).unwrap_or_default();
                self.found.tlvs = Tlvs::kept(filter, wire);
                if let Some(addresses) = header.addresses {
                    let direct = std::mem::replace(&mut self.new.peer, Address::Inet(addresses.source));
                    self.found.direct_peer.get_or_insert(direct);
                    let wanted = Address::Inet(addresses.destination);
                    if wanted != self.new.local {
                        let direct = std::mem::replace(&mut self.new.local, wanted);
                        self.found.direct_local.get_or_insert(direct);
                    }
                }
                let counter = match header.version {
                    Version::V1 => proxy_proto::V1_FOUND,
                    Version::V2 => proxy_proto::V2_FOUND,
                };
                Verdict::Next(header.consumed, [Some(counter), None, None])
            }
            Err(error) => Verdict::Close([Some(refusal(error)), None, None]),
        }
    }
}

/// Under what a refused PROXY protocol header counts.
fn refusal(error: proxy_protocol::Error) -> Counter {
    match error {
        proxy_protocol::Error::Disallowed(Version::V1) => proxy_proto::V1_DISALLOWED,
        proxy_protocol::Error::Disallowed(Version::V2) => proxy_proto::V2_DISALLOWED,
        other => match other.version() {
            Some(Version::V1) => proxy_proto::V1_ERROR,
            Some(Version::V2) => proxy_proto::V2_ERROR,
            None => proxy_proto::NOT_FOUND_DISALLOWED,
        },
    }
}
