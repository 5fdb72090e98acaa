//! The TCP proxy: one downstream connection, one upstream connection, bytes in between.
//!
//! Reading from the client starts once the upstream is connected. Either side may close its half; a side
//! whose peer reads slowly is no longer read (`per_connection_buffer_limit_bytes`).

mod drain;
mod log;
mod naming;
mod relay;
mod shed;
mod state;
mod timers;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Key, ResponseFlag, ResponseFlags, Time, TlsFacts};
use millrace_config::{Address, ShedPoint, TcpProxy};
use millrace_filter::network::tcp_proxy::{self, ConnectAttempts, ConnectError, ConnectStep, Target};
use millrace_observe::access_log::Times;
use millrace_observe::stats::{cluster as cluster_metric, host as host_metric, tcp as metric};
use millrace_ring::{Filled, IoError, Payload};
use millrace_route::HashInputs;
use millrace_upstream::{ChooseContext, ResourcePriority};

use crate::address::inet;
use crate::choose::{Asker, Choice, Chooser, NoChoice};
use crate::downstream::{Downstream, Protocol};
use crate::link::low_watermark;
use crate::named_hosts::Waiter;
use crate::shard::Shard;
use crate::upstream::{Carries, EndedBy, Opening};
use state::session;

/// The proxy's state of one connection.
#[derive(Debug)]
pub(crate) struct TcpSession {
    proxy: Arc<TcpProxy>,
    target: Option<Target>,
    upstream: Option<Key>,
    attempts: ConnectAttempts,
    /// When to connect again; `Time::MAX` while no pause is made.
    connect_at: Time,
    /// `max_downstream_connection_duration` of this connection.
    longest: Option<Duration>,
    flags: ResponseFlags,
    times: Times,
    received: u64,
    sent: u64,
    active: Time,
    host: Option<Address>,
    /// Where its connection leads, if it came out of a race.
    raced: Option<Address>,
    upstream_local: Option<Address>,
    transport_failure: Option<Rc<str>>,
    upstream_tls: Option<Rc<TlsFacts>>,
    /// Bytes of the client that came before its endpoint was connected.
    early: Option<Box<Payload>>,
    /// `idle_timeout`, or what the connection's filter state says.
    idle_timeout: Option<Duration>,
    /// The upstream failed: the client is reset once everything queued has left.
    broken: bool,
    /// The endpoint closed its half behind the client: it is the one that closed, as Envoy counts.
    endpoint_last: bool,
    /// Its endpoint has waited for its host.
    named: bool,
    /// It drains: it ends once everything queued has left.
    leaving: bool,
}

impl TcpSession {
    pub(crate) fn new(proxy: Arc<TcpProxy>) -> Self {
        Self {
            idle_timeout: proxy.idle_timeout,
            proxy,
            target: None,
            upstream: None,
            attempts: ConnectAttempts::default(),
            connect_at: Time::MAX,
            longest: None,
            flags: ResponseFlags::default(),
            times: Times::default(),
            received: 0,
            sent: 0,
            active: Time::ZERO,
            host: None,
            raced: None,
            upstream_local: None,
            transport_failure: None,
            upstream_tls: None,
            early: None,
            broken: false,
            endpoint_last: false,
            named: false,
            leaving: false,
        }
    }
}

impl Shard {
    fn tcp_session(&mut self, key: Key) -> Option<&mut TcpSession> {
        session(self.downstreams.get_mut(key)?)
    }

    pub(crate) fn tcp_opened(&mut self, key: Key) {
        let (now, wall, random) = (self.io.now, self.wall, self.rng.next_u64());
        let Some(session) = self.tcp_session(key) else { return };
        session.active = now;
        session.longest = tcp_proxy::longest(&session.proxy, random);
        (session.times.start, session.times.start_wall) = (now, wall);
        session.target = tcp_proxy::target(&session.proxy.cluster, random);
        self.tcp_heed_state(key);
        let Some(session) = self.tcp_session(key) else { return };
        let scope = session.proxy.scope;
        self.stats.inc(scope, metric::DOWNSTREAM_CX_TOTAL);
        if !self.overload.is_calm() && self.tcp_sheds(key, ShedPoint::TcpProxyConnect, 0) {
            return;
        }
        if self.tcp_passes_naming(key) {
            self.tcp_connect(key);
        }
    }

    /// Makes one connect attempt, or gives up.
    fn tcp_connect(&mut self, key: Key) {
        let Some(session) = self.tcp_session(key) else { return };
        let (scope, target, proxy) = (session.proxy.scope, session.target, Arc::clone(&session.proxy));
        let named = session.named;
        let asked = self.tcp_asked(key, tcp_proxy::metadata_match(&proxy, target));
        let client = self.downstreams.get(key).map(|client| &**client);
        let written = client.map(Downstream::written).unwrap_or_default();
        let peer = client.and_then(|client| inet(&client.addresses.peer));
        let inputs = HashInputs { peer, written, ..HashInputs::default() };
        let context = ChooseContext {
            hash: millrace_route::hash(&proxy.hash_policies, &inputs).hash,
            metadata: asked.as_ref().or(tcp_proxy::metadata_match(&proxy, target)),
            now: self.io.now,
            ..ChooseContext::default()
        };
        let asker = Asker {
            client,
            written,
            port: client.and_then(naming::of_chain).map(|own| own.port),
            waiter: Some((Waiter::Connection(key), named)),
            ..Asker::default()
        };
        let mut chooser = Chooser {
            clusters: &mut self.clusters,
            snapshot: &self.snapshot,
            shared: &self.shared,
            stats: &mut self.stats,
            rng: &mut self.rng,
            named_hosts: &mut self.named_hosts,
            now: self.io.now,
            wall: self.wall,
        };
        let choice = target.map(|target| target.cluster).ok_or(NoChoice::NoCluster);
        let Choice { cluster: id, chosen } = match choice.and_then(|id| chooser.choose(id, &context, &asker))
        {
            Ok(choice) => choice,
            Err(NoChoice::NoCluster) => {
                self.stats.inc(scope, metric::DOWNSTREAM_CX_NO_ROUTE);
                return self.tcp_fail(key, ConnectError::NoCluster);
            }
            Err(NoChoice::Waits) => {
                if let Some(session) = self.tcp_session(key) {
                    session.named = true;
                }
                return;
            }
            Err(NoChoice::NoHost | NoChoice::Missing | NoChoice::Unresolved(_)) => {
                return self.tcp_fail(key, ConnectError::NoHealthyUpstream);
            }
        };
        if self.overload.sheds(ShedPoint::PoolNewConnection, &mut self.rng, &mut self.stats) {
            return self.tcp_fail(key, ConnectError::Overflow);
        }
        let Some(state) = self.clusters.get_mut(id) else { return };
        let pool = state.acquire_tcp(chosen.host, ResourcePriority::Default, &mut self.actions);
        self.run_pool_actions(id);
        let Ok(pool) = pool else {
            return self.tcp_fail(key, ConnectError::Overflow);
        };
        let upstream = self.open_upstream(id, pool, chosen.host, Opening::of(Carries::Tcp(key)));
        let address = upstream.and_then(|u| self.upstreams.get(u)).map(|u| u.address.clone());
        let now = self.io.now;
        if let Some(session) = self.tcp_session(key) {
            session.upstream = upstream;
            session.host = address;
            session.times.upstream_connect_begin.get_or_insert(now);
        }
        if upstream.is_none() {
            self.tcp_connect_failed(key);
        }
    }

    pub(crate) fn tcp_connect_failed(&mut self, key: Key) {
        let reason = self.connect_error.clone();
        let Some(session) = self.tcp_session(key) else { return };
        let cluster = session.target.map(|target| target.cluster);
        session.upstream = None;
        session.transport_failure = reason;
        if let Some(config) = cluster.and_then(|id| self.clusters.get(id)).map(|state| state.config()) {
            self.stats.inc(config.scope, cluster_metric::UPSTREAM_RQ_PENDING_FAILURE_EJECT);
        }
        self.tcp_fail(key, ConnectError::Failed);
    }

    /// Tries again, or closes a connection that never reached an upstream.
    fn tcp_fail(&mut self, key: Key, error: ConnectError) {
        let (now, random) = (self.io.now, self.rng.next_u64());
        let Some(session) = self.tcp_session(key) else { return };
        let TcpSession { proxy, attempts, flags, target, .. } = session;
        if attempts.failed(proxy, error, flags) == ConnectStep::Again {
            if let Some(pause) = attempts.pause(proxy, random) {
                session.connect_at = now + pause;
                return self.rearm_downstream(key);
            }
            return self.tcp_connect(key);
        }
        let state = target.and_then(|target| self.clusters.get_mut(target.cluster));
        if let (ConnectError::Failed, Some(state)) = (error, state) {
            let scope = state.config().scope;
            self.stats.inc(scope, cluster_metric::UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED);
        }
        self.tcp_close(key, false);
    }

    pub(crate) fn tcp_connected(&mut self, key: Key, upstream_key: Key) {
        let now = self.io.now;
        let Some(upstream) = self.upstreams.get_mut(upstream_key) else { return };
        let (local, scope, host_scope) = (upstream.local.clone(), upstream.scope, upstream.host_scope);
        let facts = upstream.link.as_ref().and_then(|link| link.tls_facts()).cloned();
        let raced = upstream.won_race.then(|| upstream.address.clone());
        if let Some(link) = &mut upstream.link {
            link.resume(&mut self.io);
        }
        self.stats.inc(scope, cluster_metric::UPSTREAM_RQ_TOTAL);
        self.stats.gauge_inc(scope, cluster_metric::UPSTREAM_RQ_ACTIVE);
        self.stats.inc(host_scope, host_metric::RQ_TOTAL);
        self.stats.gauge_inc(host_scope, host_metric::RQ_ACTIVE);
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Tcp(session) = &mut downstream.protocol else { return };
        if let Some(link) = self.upstreams.get_mut(upstream_key).and_then(|u| u.link.as_mut()) {
            if let Some(mut early) = session.early.take() {
                link.write(&mut self.io, |out| out.append(&mut early));
            }
            if downstream.link.is_ended() {
                link.shutdown(&mut self.io);
            }
        }
        downstream.link.resume(&mut self.io);
        {
            (session.upstream_local, session.raced) = (local, raced);
            session.upstream_tls = facts;
            session.active = now;
            session.times.upstream_connect_end = Some(now);
            session.times.upstream_pool_ready = Some(now);
        }
        self.rearm_downstream(key);
    }

    pub(crate) fn tcp_downstream_data(&mut self, key: Key, data: Filled) {
        if !self.overload.is_calm() && self.tcp_sheds(key, ShedPoint::TcpProxyData, data.len()) {
            return;
        }
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Tcp(session) = &mut downstream.protocol else { return };
        if session.leaving {
            return;
        }
        session.active = now;
        session.received += data.len() as u64;
        let may_relay = session.may_relay();
        self.stats.add(session.proxy.scope, metric::DOWNSTREAM_CX_RX_BYTES_TOTAL, data.len() as u64);
        let upstream = session.upstream.and_then(|u| self.upstreams.get_mut(u)).filter(|u| u.is_connected());
        let Some(upstream) = upstream else {
            // Read before the chain was chosen, or with the last flight of the handshake.
            let early = session.early.get_or_insert_default();
            match self.io.is_scarce() {
                true => early.push_bytes(&data),
                false => early.push_buffer(data),
            }
            downstream.link.pause(&mut self.io);
            return self.tcp_check_drain(key);
        };
        let limit = upstream.buffer_limit;
        let Some(link) = &mut upstream.link else { return };
        if link.is_secure() && !downstream.link.is_secure() {
            downstream.link.pace_bulk(&data, &mut self.io);
        }
        let bulk = !link.is_secure() && may_relay && downstream.link.is_bulk(&data);
        link.write_buffer(&mut self.io, data);
        if bulk {
            downstream.link.want_relay(&mut self.io);
        } else if link.queued() >= self.io.high_watermark(limit) && downstream.link.can_pause() {
            downstream.link.pause(&mut self.io);
            self.stats.inc(session.proxy.scope, metric::DOWNSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL);
        }
        if !may_relay {
            self.tcp_check_drain(key);
        }
    }

    pub(crate) fn tcp_upstream_data(&mut self, key: Key, upstream: Key, data: Filled) {
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let limit = downstream.origin.listener.buffer_limit_bytes;
        let Protocol::Tcp(session) = &mut downstream.protocol else { return };
        if session.leaving {
            return;
        }
        session.active = now;
        session.sent += data.len() as u64;
        let may_relay = session.may_relay();
        self.stats.add(session.proxy.scope, metric::DOWNSTREAM_CX_TX_BYTES_TOTAL, data.len() as u64);
        let Some(upstream) = self.upstreams.get_mut(upstream) else { return };
        let Some(link) = &mut upstream.link else { return };
        if downstream.link.is_secure() && !link.is_secure() {
            link.pace_bulk(&data, &mut self.io);
        }
        let bulk = !downstream.link.is_secure() && may_relay && link.is_bulk(&data);
        downstream.link.write_buffer(&mut self.io, data);
        if bulk {
            link.want_relay(&mut self.io);
        } else if downstream.link.queued() >= self.io.high_watermark(limit) && link.can_pause() {
            link.pause(&mut self.io);
            self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL);
        }
        if !may_relay {
            self.tcp_check_drain(key);
        }
    }

    pub(crate) fn tcp_downstream_sent(&mut self, key: Key, result: Result<usize, IoError>) {
        if result.is_err() {
            return self.tcp_broken(key);
        }
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let limit = downstream.origin.listener.buffer_limit_bytes;
        let Protocol::Tcp(session) = &mut downstream.protocol else { return };
        session.active = self.io.now;
        if downstream.link.queued() <= low_watermark(limit)
            && let Some(upstream) = session.upstream.and_then(|u| self.upstreams.get_mut(u))
            && let Some(link) = &mut upstream.link
        {
            if link.is_paused() {
                link.resume(&mut self.io);
                self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
            }
            if link.is_ready_for_relay() {
                self.tcp_start_relays(key);
            }
        }
        self.tcp_settle(key);
    }

    pub(crate) fn tcp_upstream_sent(&mut self, key: Key, upstream: Key, result: Result<usize, IoError>) {
        if let Err(error) = result {
            return self.tcp_upstream_ended(key, upstream, Err(error));
        }
        let Some(upstream) = self.upstreams.get_mut(upstream) else { return };
        let limit = upstream.buffer_limit;
        let drained = upstream.link.as_ref().is_some_and(|l| l.queued() <= low_watermark(limit));
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Tcp(session) = &mut downstream.protocol else { return };
        session.active = self.io.now;
        if drained && downstream.link.is_paused() {
            downstream.link.resume(&mut self.io);
            self.stats.inc(session.proxy.scope, metric::DOWNSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
        }
        if downstream.link.is_ready_for_relay() {
            self.tcp_start_relays(key);
        }
        self.tcp_settle(key);
    }

    /// The client closed its half, or the connection failed.
    pub(crate) fn tcp_downstream_ended(&mut self, key: Key, end: Result<(), IoError>) {
        if end.is_err() {
            return self.tcp_broken(key);
        }
        let upstream = self.tcp_session(key).and_then(|s| s.upstream);
        let connected = upstream.and_then(|u| self.upstreams.get_mut(u)).filter(|u| u.is_connected());
        match connected.and_then(|u| u.link.as_mut()) {
            Some(link) => {
                link.shutdown(&mut self.io);
                self.tcp_settle(key);
            }
            None => self.tcp_settle(key),
        }
    }

    /// The endpoint closed its half, or the connection failed.
    pub(crate) fn tcp_upstream_ended(&mut self, key: Key, upstream: Key, end: Result<(), IoError>) {
        let failed = end.is_err();
        if let Some(downstream) = self.downstreams.get_mut(key) {
            if failed && let Protocol::Tcp(session) = &mut downstream.protocol {
                session.broken = true;
                session.flags.set(ResponseFlag::UpstreamRemoteReset);
            }
            if !failed {
                if let Protocol::Tcp(session) = &mut downstream.protocol {
                    session.endpoint_last = downstream.link.is_ended();
                }
                downstream.link.shutdown(&mut self.io);
            }
        }
        if failed {
            self.tcp_release_upstream(key, upstream, EndedBy::Remote);
        }
        self.tcp_settle(key);
    }

    /// The client's connection failed: the endpoint must not take what it got for everything.
    fn tcp_broken(&mut self, key: Key) {
        self.tcp_close(key, true);
    }

    /// Closes the session once both halves are closed and everything has left.
    fn tcp_settle(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Tcp(session) = &downstream.protocol else { return };
        if session.broken {
            if downstream.link.queued() == 0 {
                self.tcp_close(key, true);
            }
            return;
        }
        let link = session.upstream.and_then(|u| self.upstreams.get(u)).and_then(|u| u.link.as_ref());
        if session.leaving {
            if downstream.link.queued() == 0 && link.is_none_or(|link| link.queued() == 0) {
                self.tcp_close(key, false);
            }
            return;
        }
        let Some(link) = link else { return };
        // A FIN that is still to be sent leaves with the close.
        let over = downstream.link.is_ended() && link.is_ended();
        if over && downstream.link.queued() == 0 && link.queued() == 0 {
            self.tcp_close(key, false);
        }
    }

    fn tcp_release_upstream(&mut self, key: Key, upstream: Key, by: EndedBy) {
        if let Some(session) = self.tcp_session(key) {
            session.upstream = None;
        }
        let Some(entry) = self.upstreams.get(upstream) else { return };
        if entry.is_connected() {
            let (scope, host_scope) = (entry.scope, entry.host_scope);
            self.stats.gauge_dec(scope, cluster_metric::UPSTREAM_RQ_ACTIVE);
            self.stats.gauge_dec(host_scope, host_metric::RQ_ACTIVE);
        }
        self.close_upstream(upstream, by);
    }

    /// Ends the session: both sockets, the log line, the counters.
    pub(crate) fn tcp_close(&mut self, key: Key, reset: bool) {
        let Some((upstream, last)) = self.tcp_session(key).map(|s| (s.upstream, s.endpoint_last)) else {
            return;
        };
        if let Some(upstream_key) = upstream {
            if reset && let Some(link) = self.upstreams.get_mut(upstream_key).and_then(|u| u.link.as_mut()) {
                link.close(&mut self.io, true);
            }
            let by = if last { EndedBy::Remote } else { EndedBy::Local };
            self.tcp_release_upstream(key, upstream_key, by);
        }
        if !self.named_hosts.is_quiet() {
            self.named_hosts.withdraw(Waiter::Connection(key));
        }
        self.tcp_log(key);
        self.close_downstream(key, reset);
    }
}
