//! A connection that we opened: from the pool's wish to the socket's end.
//!
//! The pools (`millrace_upstream`) decide, this file does: it opens, assigns and closes connections as the
//! actions say, and counts what the pools cannot.

mod connect;
mod open;
mod pool_events;
mod race;

pub(crate) use open::Opening;
pub(crate) use race::Racers;

use std::rc::Rc;

use millrace_base::{Key, Time};
use millrace_config::{Address, ClusterId, ScopeId};
use millrace_filter::http::router::retry::ResetReason;
use millrace_observe::stats::{cluster as metric, host as host_metric};
use millrace_ring::{Filled, IoError, IoErrorKind, Op, Payload, RecvEnd, RelayEnd, Socket};
use millrace_upstream::{ConnId, HttpProtocol, PoolAction, TransportKey, TryResult};

pub(crate) use self::connect::connect_options;
use self::connect::{connect_error_text, is_bind_error};
use self::race::Race;
use crate::address::from_ring;
use crate::http::HttpUpstream;
use crate::http::h2::{Http2Upstream, write_control};
use crate::link::Link;
use crate::shard::Shard;
use crate::timers::ConnectionTimer;
use crate::token::Kind;

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Carries {
    /// Requests, one at a time.
    Http(Box<HttpUpstream>),
    /// Requests, many at a time.
    Http2(Box<Http2Upstream>),
    /// The bytes of this downstream connection.
    Tcp(Key),
}

/// One upstream connection.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// `None` while connecting.
    pub(crate) link: Option<Link>,
    pub(crate) cluster: ClusterId,
    pub(crate) pool: ConnId,
    pub(crate) scope: ScopeId,
    pub(crate) host_scope: ScopeId,
    pub(crate) address: Address,
    pub(crate) local: Option<Address>,
    pub(crate) id: u64,
    pub(crate) began: Time,
    pub(crate) connect_deadline: Time,
    pub(crate) buffer_limit: usize,
    pub(crate) timer: ConnectionTimer,
    pub(crate) carries: Carries,
    /// What the handshake asks for beside the cluster's defaults.
    pub(crate) transport: TransportKey,
    /// ALPN decides about what it carries.
    pub(crate) automatic: bool,
    /// Connected, but the TLS handshake is not through.
    pub(crate) handshaking: bool,
    /// The endpoint has several addresses, and none is connected to.
    race: Option<Box<Race>>,
    /// It won: `address` may be another than its endpoint's first.
    pub(crate) won_race: bool,
}

impl Upstream {
    /// When somebody must look at the connection again; idle ends are the pool's business.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match &self.carries {
            _ if !self.is_connected() => {
                let next = self.race.as_ref().map_or(Time::MAX, |race| race.next_at);
                Some(self.connect_deadline.min(next))
            }
            Carries::Http2(h2) => h2.deadline(),
            Carries::Http(_) | Carries::Tcp(_) => None,
        }
    }

    /// True when its user may send: the socket is connected and, with TLS, secured.
    pub(crate) fn is_connected(&self) -> bool {
        self.link.is_some() && !self.handshaking
    }
}

/// Who ended a connection; for the `upstream_cx_destroy_*` counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndedBy {
    Local,
    Remote,
}

impl Shard {
    /// Does what the pools of a cluster decided, in their order. Every caller of a pool function calls it
    /// right after, so that the actions at hand always belong to one cluster.
    pub(crate) fn run_pool_actions(&mut self, cluster: ClusterId) {
        while !self.actions.is_empty() {
            let mut batch = std::mem::take(&mut self.actions);
            for action in batch.drain(..) {
                match action {
                    PoolAction::Connect { conn, host, protocol, transport, .. } => {
                        let Some(carries) = self.carrier(cluster, protocol) else { continue };
                        let automatic = protocol == HttpProtocol::Auto;
                        self.open_upstream(cluster, conn, host, Opening { carries, transport, automatic });
                    }
                    PoolAction::Assign { waiter, conn, .. } => self.http_assigned(waiter, conn),
                    PoolAction::Fail { waiter, reason } => self.http_unassigned(waiter, reason),
                    PoolAction::Close { conn: Some(key), .. } => self.close_pooled(key),
                    PoolAction::Close { conn: None, .. } => {}
                    PoolAction::Count(event) => self.count_pool_event(cluster, event),
                }
            }
            if self.actions.is_empty() {
                self.actions = batch;
            }
        }
    }

    /// What a new connection of a pool carries.
    fn carrier(&mut self, cluster: ClusterId, protocol: HttpProtocol) -> Option<Carries> {
        Some(match protocol {
            // An automatic one is told what it carries once it is secured.
            HttpProtocol::Http1 | HttpProtocol::Auto => {
                Carries::Http(Box::new(HttpUpstream::new(self.io.now)))
            }
            HttpProtocol::Http2 => {
                let config = self.clusters.get(cluster)?.config();
                Carries::Http2(Box::new(Http2Upstream::new(config, self.io.now, &mut self.rng)))
            }
        })
    }

    pub(crate) fn on_connected(&mut self, key: Key, result: Result<Socket, IoError>) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            if let Ok(socket) = result {
                self.io.ops.push(Op::Close { socket, reset: false });
            }
            return;
        };
        match result {
            Ok(socket) => {
                upstream.link = Some(Link::new(socket, Kind::Upstream.token(key)));
                upstream.local = (self.socket_facts.local)(socket).map(|a| from_ring(&a));
                match self.begin_upstream_handshake(key) {
                    Ok(true) => {}
                    Ok(false) => self.upstream_ready(key),
                    Err(words) => self.connect_failed(key, IoError::RESET, Some(words)),
                }
            }
            Err(error) => self.connect_failed(key, error, connect_error_text(error)),
        }
    }

    /// Of a connection whose version ALPN decides about: what it is, which it carries from now on.
    fn take_agreed_protocol(&mut self, key: Key) -> Option<HttpProtocol> {
        let upstream = self.upstreams.get(key).filter(|upstream| upstream.automatic)?;
        let facts = upstream.link.as_ref().and_then(|link| link.tls_facts());
        let protocol = match facts.map(|facts| &*facts.alpn) {
            Some(b"h2") => HttpProtocol::Http2,
            Some(_) | None => HttpProtocol::Http1,
        };
        let carries = self.carrier(upstream.cluster, protocol)?;
        self.upstreams.get_mut(key)?.carries = carries;
        Some(protocol)
    }

    /// A connection may carry what it is for.
    pub(crate) fn upstream_ready(&mut self, key: Key) {
        let agreed = self.take_agreed_protocol(key);
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let (cluster, pool, scope) = (upstream.cluster, upstream.pool, upstream.scope);
        let took = self.io.now.since(upstream.began).as_millis() as u64;
        self.stats.record(scope, metric::UPSTREAM_CX_CONNECT_MS, took);
        if let Some(timer) = upstream.timer.disarm() {
            self.wheel.cancel(timer);
        }
        // Only a connection that carries a tunnel has its stream before it is connected.
        let (session, tunnelled) = match &upstream.carries {
            Carries::Tcp(downstream) => (Some(*downstream), None),
            Carries::Http(http) => (None, http.stream),
            Carries::Http2(_) => (None, None),
        };
        if session.is_none()
            && let Some(link) = &mut upstream.link
        {
            link.resume(&mut self.io);
            if let Carries::Http2(h2) = &mut upstream.carries {
                let lifetime =
                    self.clusters.get(cluster).and_then(|s| s.config().http.max_connection_duration);
                h2.connected(lifetime, self.io.now);
                write_control(&mut h2.codec, link, &mut self.io);
            }
        }
        if let Some(state) = self.clusters.get_mut(cluster) {
            match agreed {
                Some(protocol) => state.connected_as(pool, protocol, self.io.now, &mut self.actions),
                None => state.connected(pool, self.io.now, &mut self.actions),
            }
        }
        self.run_pool_actions(cluster);
        self.rearm_upstream(key);
        if let Some(downstream) = session {
            if let Some(host) = self.clusters.get(cluster).and_then(|state| state.host_of(pool)) {
                self.report_result(cluster, host, TryResult::ConnectedForGood);
            }
            self.tcp_connected(downstream, key);
        }
        if let Some(stream) = tunnelled {
            self.tunnel_opened(stream, key);
        }
    }

    /// A connection could not be established: refused, unreachable, or out of time.
    pub(crate) fn connect_failed(&mut self, key: Key, error: IoError, words: Option<Rc<str>>) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        let (scope, host_scope) = (upstream.scope, upstream.host_scope);
        let (cluster, pool) = (upstream.cluster, upstream.pool);
        self.stats.inc(scope, metric::UPSTREAM_CX_CONNECT_FAIL);
        self.stats.inc(host_scope, host_metric::CX_CONNECT_FAIL);
        if error.kind() == IoErrorKind::TimedOut {
            self.stats.inc(scope, metric::UPSTREAM_CX_CONNECT_TIMEOUT);
        }
        if self.clusters.get(cluster).is_some_and(|state| is_bind_error(state.config(), error)) {
            self.stats.inc(scope, metric::BIND_ERRORS);
        }
        let (session, tunnelled) = match &upstream.carries {
            Carries::Tcp(downstream) => (Some(*downstream), None),
            Carries::Http(http) => (None, http.stream),
            Carries::Http2(_) => (None, None),
        };
        self.connect_error = words;
        self.connect_timed_out = error.kind() == IoErrorKind::TimedOut;
        self.drop_upstream(key, EndedBy::Remote);
        let host = self.clusters.get(cluster).and_then(|state| state.host_of(pool));
        if let (Some(_), Some(host)) = (session, host) {
            let result = if self.connect_timed_out { TryResult::TimedOut(504) } else { TryResult::Failed };
            self.report_result(cluster, host, result);
        }
        if let Some(state) = self.clusters.get_mut(cluster) {
            state.connect_failed(pool, &mut self.actions);
        }
        self.run_pool_actions(cluster);
        if let Some(downstream) = session {
            self.tcp_connect_failed(downstream);
        }
        if let Some(stream) = tunnelled {
            self.tunnel_failed(stream);
        }
    }

    /// `connect_timeout`, and the PINGs of HTTP/2 connections.
    pub(crate) fn upstream_timer(&mut self, key: Key) {
        let now = self.io.now;
        let Some(upstream) = self.upstreams.get(key) else { return };
        if upstream.is_connected() {
            self.h2_upstream_timer(key);
        } else if upstream.connect_deadline > now {
            self.race_on(key);
        } else {
            self.connect_failed(key, IoError::TIMED_OUT, None);
        }
    }

    pub(crate) fn on_upstream_data(&mut self, key: Key, data: Filled) {
        match self.upstreams.get(key).and_then(|u| u.link.as_ref()) {
            Some(link) if link.is_secure() => self.secure_upstream_data(key, data),
            Some(_) => self.upstream_plaintext(key, data),
            None => {}
        }
    }

    /// Bytes for whom the connection carries.
    pub(crate) fn upstream_plaintext(&mut self, key: Key, data: Filled) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let (scope, size) = (upstream.scope, data.len() as u64);
        self.stats.add(scope, metric::UPSTREAM_CX_RX_BYTES_TOTAL, size);
        match &mut upstream.carries {
            Carries::Http(_) => self.http_upstream_data(key, data),
            Carries::Http2(_) => self.h2_upstream_data(key, data),
            Carries::Tcp(downstream) => {
                let downstream = *downstream;
                self.tcp_upstream_data(downstream, key, data);
            }
        }
    }

    pub(crate) fn on_upstream_recv_ended(&mut self, key: Key, reason: RecvEnd) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Some(end) = upstream.link.as_mut().and_then(|l| l.receive_ended(reason, &mut self.io)) else {
            let user = match &upstream.carries {
                Carries::Http(http) => http.stream.and_then(|s| self.streams.get(s)).map(|s| s.downstream),
                Carries::Http2(_) => None,
                Carries::Tcp(downstream) => Some(*downstream),
            };
            return user.map_or((), |user| self.start_relays(user));
        };
        if upstream.handshaking {
            return self.upstream_handshake_abandoned(key);
        }
        // Without `close_notify` an answer that lasts until the end may have been cut short.
        let cut = upstream.link.as_ref().is_some_and(Link::is_truncated);
        let end = if cut && !matches!(upstream.carries, Carries::Tcp(_)) {
            end.and(Err(IoError::RESET))
        } else {
            end
        };
        self.upstream_ended(key, end);
    }

    /// The endpoint closed its half, or the connection failed.
    pub(crate) fn upstream_ended(&mut self, key: Key, end: Result<(), IoError>) {
        let Some(upstream) = self.upstreams.get(key) else { return };
        match &upstream.carries {
            Carries::Http(_) => self.http_upstream_ended(key, end),
            Carries::Http2(_) => self.h2_upstream_ended(key, end),
            Carries::Tcp(downstream) => {
                let downstream = *downstream;
                self.tcp_upstream_ended(downstream, key, end);
            }
        }
    }

    pub(crate) fn on_upstream_sent(&mut self, key: Key, result: Result<usize, IoError>, payload: Payload) {
        let Some(upstream) = self.upstreams.get_mut(key) else {
            return self.sent_by_none(Kind::Upstream.token(key), payload);
        };
        let Some(link) = upstream.link.as_mut() else { return Link::orphaned(payload, &mut self.io) };
        let sent = link.sent(payload, &mut self.io);
        let result = result.map(|_| sent);
        if upstream.handshaking {
            // A failed send shows as a failed receive, too.
            return;
        }
        if let Ok(sent) = result {
            self.stats.add(upstream.scope, metric::UPSTREAM_CX_TX_BYTES_TOTAL, sent as u64);
        }
        match &upstream.carries {
            Carries::Http(_) => self.http_upstream_sent(key, result),
            Carries::Http2(_) => self.h2_upstream_sent(key, result),
            Carries::Tcp(downstream) => {
                let downstream = *downstream;
                self.tcp_upstream_sent(downstream, key, result);
            }
        }
    }

    /// Bytes of the client went to this endpoint without passing through here.
    pub(crate) fn on_upstream_relayed(
        &mut self,
        key: Key,
        bytes: usize,
        sink_full: bool,
        end: Option<RelayEnd>,
    ) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Some(link) = upstream.link.as_mut() else { return };
        link.relayed(bytes, sink_full, end.is_some(), &mut self.io);
        self.stats.add(upstream.scope, metric::UPSTREAM_CX_TX_BYTES_TOTAL, bytes as u64);
        if let Carries::Tcp(downstream) = &upstream.carries {
            let downstream = *downstream;
            self.tcp_upstream_relayed(downstream, key, bytes, end);
        }
    }

    /// A pool has forgotten this connection. Whoever is still on it (the endpoint turned unhealthy) sees it
    /// fail.
    fn close_pooled(&mut self, key: Key) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let connected = upstream.is_connected();
        // An answer that ended with its connection.
        let ended = upstream.link.as_ref().is_some_and(Link::is_ended);
        let by = if ended { EndedBy::Remote } else { EndedBy::Local };
        let (stream, session) = match &upstream.carries {
            Carries::Http(http) => (http.stream, None),
            Carries::Http2(h2) => {
                return match h2.gone {
                    // The last of its streams was told.
                    Some(by) => self.drop_upstream(key, by),
                    None => {
                        self.h2_upstream_gone(key, ResetReason::ConnectionTermination, EndedBy::Local);
                    }
                };
            }
            Carries::Tcp(downstream) => (None, Some(*downstream)),
        };
        if let (Some(_), Some(link)) = (session, &mut upstream.link) {
            // A FIN would make the endpoint take what it got for everything.
            link.close(&mut self.io, true);
        }
        match session {
            Some(downstream) if connected => self.tcp_upstream_ended(downstream, key, Err(IoError::RESET)),
            None if stream.is_some() => self.http_upstream_ended(key, Err(IoError::RESET)),
            _ => {}
        }
        self.drop_upstream(key, by);
        if let Some(downstream) = session.filter(|_| !connected) {
            self.connect_error = None;
            self.tcp_connect_failed(downstream);
        }
    }

    /// Closes a connection and tells its pool; whoever used it has been told already.
    pub(crate) fn close_upstream(&mut self, key: Key, by: EndedBy) {
        let Some((cluster, pool)) = self.upstreams.get(key).map(|u| (u.cluster, u.pool)) else { return };
        self.drop_upstream(key, by);
        if let Some(state) = self.clusters.get_mut(cluster) {
            state.closed(pool, &mut self.actions);
        }
        self.run_pool_actions(cluster);
    }

    /// Takes a connection out of the table and closes its socket.
    fn drop_upstream(&mut self, key: Key, by: EndedBy) {
        let Some(mut upstream) = self.upstreams.remove(key) else { return };
        if let Some(timer) = upstream.timer.disarm() {
            self.wheel.cancel(timer);
        }
        let scope = upstream.scope;
        self.stats.inc(scope, metric::UPSTREAM_CX_DESTROY);
        let busy = match &upstream.carries {
            Carries::Http(http) => http.stream.is_some(),
            // Counted where its streams are told.
            Carries::Http2(_) => false,
            Carries::Tcp(_) => true,
        };
        let (plain, active) = match by {
            EndedBy::Local => {
                (metric::UPSTREAM_CX_DESTROY_LOCAL, metric::UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ)
            }
            EndedBy::Remote => {
                (metric::UPSTREAM_CX_DESTROY_REMOTE, metric::UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ)
            }
        };
        self.stats.inc(scope, plain);
        if busy && upstream.is_connected() {
            self.stats.inc(scope, metric::UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ);
            self.stats.inc(scope, active);
        }
        self.stats.gauge_dec(scope, metric::UPSTREAM_CX_ACTIVE);
        self.stats.gauge_dec(upstream.host_scope, host_metric::CX_ACTIVE);
        let lived = self.io.now.since(upstream.began).as_millis() as u64;
        self.stats.record(scope, metric::UPSTREAM_CX_LENGTH_MS, lived);
        match &mut upstream.link {
            Some(link) => link.close(&mut self.io, false),
            None => match upstream.race.take() {
                None => self.io.ops.push(Op::CancelConnect { token: Kind::Upstream.token(key) }),
                Some(race) => self.end_race(*race),
            },
        }
    }
}
