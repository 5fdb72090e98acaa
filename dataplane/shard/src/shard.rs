//! The shard: everything that one core owns, and the one function that moves it.
//!
//! [`Shard::turn`] takes what happened and appends what the kernel shall do. No handler is entered from
//! within another for work that can wait: finished requests queue their connection for another look, and
//! written bytes leave in one batch at the end.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::logs::Logs;
use crate::own_connection::OwnConnection;
use millrace_base::{Key, Limits, Rng, Slab, Time, WallTime};
use millrace_config::{Snapshot, Update};
use millrace_filter::http::connection_manager::date::DateCache;
use millrace_filter::http::stream_filters::ShardFilters;
use millrace_http::h1::ParseOptions;
use millrace_http::h2::Heads;
use millrace_http::{HeaderMap, ResponseHead};
use millrace_observe::stats::ShardStats;
use millrace_ring::timer::TimerWheel;
use millrace_ring::{BufferPool, Event, Filled, Op, Socket, SocketAddress, Waker, sockets};
use millrace_upstream::PoolAction;

use crate::choose::count_dropped;
use crate::clusters::Clusters;
use crate::downstream::{Downstream, Protocol};
use crate::farewell::Partings;
use crate::health_checks::HealthChecks;
use crate::http::{Names, Stream};
use crate::link::{Io, Link};
use crate::listener::{Inspection, Listeners};
use crate::load_reports::LoadReports;
use crate::named_hosts::NamedHosts;
use crate::overload::Overload;
use crate::route_users::RouteUsers;
use crate::shared::{Message, Shared};
use crate::tls::Contexts;
use crate::tls_statistics::KnownScopes;
use crate::token::Kind;
use crate::upstream::{Racers, Upstream};

/// Messages taken from the mailbox in one turn.
const MESSAGES_PER_TURN: usize = 256;

/// What only a real socket can tell. The simulator has its own answers.
#[derive(Clone, Copy, Debug)]
pub struct SocketFacts {
    /// The local address of a connected socket.
    pub local: fn(Socket) -> Option<SocketAddress>,
    /// The destination before REDIRECT (`SO_ORIGINAL_DST`).
    pub original_dst: fn(Socket) -> Option<SocketAddress>,
}

impl SocketFacts {
    /// Asks the kernel.
    pub const REAL: Self =
        Self { local: |s| sockets::local_address(s).ok(), original_dst: |s| sockets::original_dst(s).ok() };
    /// Knows nothing; connections count as made to the listener's address.
    pub const NONE: Self = Self { local: |_| None, original_dst: |_| None };
}

/// What a shard is made of.
#[derive(Debug)]
pub struct ShardParts {
    /// Its number; also its door.
    pub index: usize,
    /// What crosses cores.
    pub shared: Arc<Shared>,
    /// The first configuration; the shard makes its own copy. Listeners come as messages.
    pub snapshot: Arc<Snapshot>,
    /// The back end's buffers.
    pub buffers: BufferPool,
    /// Wakes the back end.
    pub waker: Waker,
    /// Its counters.
    pub stats: ShardStats,
    /// Its access-log lines.
    pub logs: Logs,
    /// Its bounds.
    pub limits: Limits,
    /// Everything random follows from it.
    pub seed: u64,
    /// `%HOSTNAME%`.
    pub hostname: Arc<str>,
    /// Stands in for a loopback peer in `x-forwarded-for`.
    pub host_address: Option<IpAddr>,
    /// How to ask about sockets.
    pub socket_facts: SocketFacts,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// Call [`Shard::turn`] again.
    Yes,
    /// Everything is closed.
    Stopped,
}

/// One core's share of the proxy.
#[derive(Debug)]
pub struct Shard {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    /// The configuration in force, changed in place; without listeners, which [`Listeners`] holds.
    pub(crate) snapshot: Snapshot,
    pub(crate) limits: Limits,
    pub(crate) io: Io,
    pub(crate) wheel: TimerWheel<u64>,
    pub(crate) wall: WallTime,
    pub(crate) rng: Rng,
    pub(crate) stats: ShardStats,
    pub(crate) logs: Logs,
    pub(crate) names: Names,
    pub(crate) host_address: Option<IpAddr>,
    pub(crate) socket_facts: SocketFacts,

    pub(crate) listeners: Listeners,
    pub(crate) route_users: RouteUsers,
    pub(crate) downstreams: Slab<Box<Downstream>>,
    pub(crate) upstreams: Slab<Box<Upstream>>,
    /// Connects to endpoints with several addresses.
    pub(crate) racers: Racers,
    pub(crate) streams: Slab<Box<Stream>>,
    pub(crate) clusters: Clusters,
    /// Hosts that requests name.
    pub(crate) named_hosts: NamedHosts,
    /// The endpoints that this shard checks.
    pub(crate) health_checks: HealthChecks,
    pub(crate) load_reports: LoadReports,
    /// What checks and streams of load reports are said on.
    pub(crate) own_connections: Slab<Box<OwnConnection>>,
    pub(crate) tls: Contexts,
    pub(crate) scopes: KnownScopes,
    pub(crate) overload: Overload,
    /// Connections whose filter chain is not chosen yet.
    pub(crate) inspections: Slab<Box<Inspection>>,
    /// Sockets of connections that are gone, until their last bytes have left.
    pub(crate) farewells: Partings,

    /// What the pools decided and nobody did yet.
    pub(crate) actions: Vec<PoolAction>,
    /// Downstream connections whose input deserves another look.
    pub(crate) runnable: Vec<Key>,
    /// Requests over HTTP/2 that nothing but their codec has seen; empty between two connections' input.
    pub(crate) admitted: Vec<Key>,
    /// Requests whose first try is due.
    pub(crate) planned: Vec<Key>,
    /// Streams whose line is due.
    #[expect(clippy::vec_box, reason = "the boxes move between here and the slab")]
    pub(crate) finished: Vec<Box<Stream>>,
    pub(crate) connection_ids: u64,
    /// Why the last connect failed; read while its pool fails the waiters.
    pub(crate) connect_error: Option<Rc<str>>,
    pub(crate) connect_timed_out: bool,
    pub(crate) stopping: bool,
    /// Statistics scopes may have been retired since they were looked at.
    pub(crate) sweeps: bool,

    // Work space, kept for its capacity.
    pub(crate) scratch: Vec<u8>,
    /// Where HTTP/2 heads are decoded.
    pub(crate) heads: Heads,
    pub(crate) reply_body: Vec<u8>,
    /// What filters made of body bytes.
    pub(crate) filtered: Vec<u8>,
    /// Plaintext of the ciphertext at hand.
    pub(crate) pieces: Vec<Filled>,
    #[expect(clippy::vec_box, reason = "the boxes move between here and the slab")]
    pub(crate) spare_streams: Vec<Box<Stream>>,
    pub(crate) filter_states: ShardFilters,
    pub(crate) discarded_trailers: HeaderMap,
    /// The interim responses that we make ourselves.
    pub(crate) interim: ResponseHead,
    pub(crate) response_parse: ParseOptions,
    pub(crate) date: DateCache,
    fired: Vec<u64>,
}

impl Shard {
    /// Makes a shard and opens its door. Nothing happens before the first turn.
    pub fn new(parts: ShardParts) -> Self {
        parts.shared.open(parts.index, parts.waker);
        let tls = Contexts::new(&parts.shared.tls);
        let plain = crate::io::plain_pool(&parts.buffers);
        let overload = Overload::new(parts.snapshot.overload.as_deref());
        parts.shared.set_version(parts.index, parts.snapshot.version);
        let mut wheel = TimerWheel::new(Time::ZERO);
        let housekeeping = Kind::Housekeeping.token(Key { slot: 0, generation: 0 });
        wheel.insert(Time::ZERO, housekeeping.0);
        let mut shard = Self {
            index: parts.index,
            shared: parts.shared,
            snapshot: Snapshot { listeners: Vec::new(), ..Snapshot::clone(&parts.snapshot) },
            response_parse: ParseOptions::with_limits(&parts.limits),
            io: Io::new(parts.buffers, plain, parts.limits.waiting_bytes_max),
            limits: parts.limits,
            wheel,
            wall: WallTime::default(),
            rng: Rng::new(parts.seed),
            stats: parts.stats,
            logs: parts.logs,
            names: Names { hostname: parts.hostname },
            host_address: parts.host_address,
            socket_facts: parts.socket_facts,
            listeners: Listeners::default(),
            route_users: RouteUsers::default(),
            downstreams: Slab::new(),
            upstreams: Slab::new(),
            racers: Slab::new(),
            streams: Slab::new(),
            clusters: Clusters::default(),
            named_hosts: NamedHosts::default(),
            health_checks: HealthChecks::default(),
            load_reports: LoadReports::default(),
            own_connections: Slab::new(),
            tls,
            scopes: KnownScopes::default(),
            overload,
            inspections: Slab::new(),
            farewells: Partings::default(),
            actions: Vec::new(),
            runnable: Vec::new(),
            admitted: Vec::new(),
            planned: Vec::new(),
            finished: Vec::new(),
            connection_ids: 0,
            connect_error: None,
            connect_timed_out: false,
            stopping: false,
            sweeps: false,
            scratch: Vec::new(),
            heads: Heads::default(),
            reply_body: Vec::new(),
            filtered: Vec::new(),
            pieces: Vec::new(),
            spare_streams: Vec::new(),
            filter_states: ShardFilters::default(),
            discarded_trailers: HeaderMap::default(),
            interim: ResponseHead::default(),
            date: DateCache::default(),
            fired: Vec::new(),
        };
        for cluster in parts.snapshot.clusters.iter().flatten() {
            shard.sync_checks(cluster, None);
            shard.sync_load_reports(cluster, None);
        }
        shard
    }

    /// Takes what happened, decides, and appends what the kernel shall do to `ops`.
    pub fn turn(&mut self, now: Time, wall: WallTime, events: &mut Vec<Event>, ops: &mut Vec<Op>) -> Running {
        self.io.now = now;
        self.wall = wall;
        self.tls.set_wall(wall);
        self.run_handshakes();
        for event in events.drain(..) {
            self.on_event(event);
        }
        self.try_planned();
        self.log_finished();
        self.take_messages();
        self.run_timers();
        self.run_runnable();
        self.try_planned();
        if self.io.held.is_full() && !self.io.held.defers {
            self.defer_answers();
        } else if self.io.held.may_feed() {
            self.feed_starved();
        }
        self.flush();
        self.part();
        self.log_finished();
        if self.logs.end_turn() {
            self.watch_lines();
        }
        ops.append(&mut self.io.ops);
        let over = self.stopping
            && self.downstreams.is_empty()
            && self.upstreams.is_empty()
            && self.inspections.is_empty()
            && self.farewells.is_empty()
            && self.health_checks.is_empty()
            && self.load_reports.is_empty()
            && self.own_connections.is_empty();
        if over { Running::Stopped } else { Running::Yes }
    }

    /// How long the back end may sleep.
    pub fn timeout(&self, now: Time) -> Option<Duration> {
        if self.io.held.may_feed() || !self.runnable.is_empty() || !self.tls.handshakes.is_empty() {
            return Some(Duration::ZERO);
        }
        self.wheel.next_deadline().map(|at| at.since(now))
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Received { token, data } => match Kind::parse(token.0) {
                Some((Kind::Downstream, key)) => self.on_downstream_data(key, data),
                Some((Kind::Upstream, key)) => self.on_upstream_data(key, data),
                Some((Kind::Inspection, key)) => self.on_inspected_data(key, data),
                Some((Kind::Own, key)) => self.on_own_data(key, data),
                Some(_) | None => {}
            },
            Event::Sent { token, result, payload } => match Kind::parse(token.0) {
                Some((Kind::Downstream, key)) => self.on_downstream_sent(key, result, payload),
                Some((Kind::Upstream, key)) => self.on_upstream_sent(key, result, payload),
                Some((Kind::Farewell, key)) => self.farewell_sent(key, result.is_ok(), payload),
                Some((Kind::Own, key)) => self.on_own_sent(key, payload),
                Some(_) | None => Link::orphaned(payload, &mut self.io),
            },
            Event::Relayed { token, bytes, sink_full, end } => match Kind::parse(token.0) {
                Some((Kind::Downstream, key)) => self.on_downstream_relayed(key, bytes, sink_full, end),
                Some((Kind::Upstream, key)) => self.on_upstream_relayed(key, bytes, sink_full, end),
                Some(_) | None => {}
            },
            Event::RecvEnded { token, reason } => match Kind::parse(token.0) {
                Some((Kind::Downstream, key)) => self.on_downstream_recv_ended(key, reason),
                Some((Kind::Upstream, key)) => self.on_upstream_recv_ended(key, reason),
                Some((Kind::Inspection, key)) => self.on_inspected_end(key, reason),
                Some((Kind::Own, key)) => self.on_own_recv_ended(key, reason),
                Some(_) | None => {}
            },
            Event::Accepted { token, result, more } => {
                if let Some((Kind::Listener, key)) = Kind::parse(token.0) {
                    self.on_accepted(key, result, more);
                }
            }
            Event::Connected { token, result } => match Kind::parse(token.0) {
                Some((Kind::Upstream, key)) => {
                    // A circuit breaker counts who came before the connection, and who came after it.
                    self.try_planned();
                    self.on_connected(key, result);
                }
                Some((Kind::Racer, key)) => self.on_racer(key, result),
                Some((Kind::Own, key)) => self.on_own_connected(key, result),
                Some(_) | None => {}
            },
            Event::Wake => {}
        }
    }

    fn take_messages(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = self.shared.receive(self.index) else { return };
            match message {
                Message::Connection(new) => self.serve(new),
                Message::Update(update) => {
                    // Lines speak of the configuration that their streams had.
                    self.log_finished();
                    self.update(&update);
                }
                Message::Know(listener, config) => self.know(listener, config),
                Message::Listen(listener, socket) => self.listen(&listener, socket),
                Message::Host(news) => self.hear_of_host(&news),
                Message::HealthChanged(id) => self.leave_failed(id),
                Message::FailHealthCheck(id, address) => self.fail_check(id, &address),
                Message::StopListening { inbound_only } => self.stop_listening(inbound_only),
                Message::Drain { inbound_only } => self.drain(inbound_only),
                Message::Overload(levels) => self.set_overload(levels),
                Message::FlushLogs => self.logs.flush_all(),
                Message::Stop => self.stop(),
            }
        }
    }

    /// Applies a change of configuration, at a cost that follows from the change alone. Streams under way
    /// finish under what they began with.
    fn update(&mut self, update: &Update) {
        self.snapshot.apply(update);
        for (id, _) in &update.secrets {
            self.tls.secret_changed(*id);
        }
        for (id, _) in &update.clusters {
            let changes = update.endpoints.iter().find(|changes| changes.cluster == *id);
            let scope = self.clusters.get(*id).map(|state| state.config().scope);
            let dropped = self.clusters.update(*id, &self.snapshot, changes, &mut self.actions);
            if let Some(scope) = scope {
                count_dropped(&mut self.stats, scope, dropped);
            }
            self.run_pool_actions(*id);
            match self.snapshot.cluster(*id).cloned() {
                Some(cluster) => {
                    self.sync_checks(&cluster, changes);
                    self.sync_load_reports(&cluster, changes);
                }
                None => {
                    self.end_checks(*id);
                    self.end_load_reports(*id);
                }
            }
            self.forget_cluster_if_gone(*id);
        }
        update.warming.iter().for_each(|cluster| self.sync_checks(cluster, None));
        for (table, _) in &update.route_tables {
            self.route_users.changed(*table, &self.snapshot);
        }
        if !update.route_tables.is_empty() || !update.scope_tables.is_empty() {
            self.route_users.scopes_changed(&self.snapshot);
        }
        for change in &update.listeners {
            self.change_listener(change);
        }
        self.sweeps = true;
        self.shared.set_version(self.index, self.snapshot.version);
    }

    fn run_timers(&mut self) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(self.io.now, &mut fired);
        for value in fired.drain(..) {
            self.on_timer(value);
        }
        self.fired = fired;
    }

    fn run_runnable(&mut self) {
        // What becomes runnable meanwhile waits for the next turn, so that nobody starves the others.
        let mut batch = std::mem::take(&mut self.runnable);
        for key in batch.drain(..) {
            if let Some(Protocol::Http(http)) = self.downstreams.get_mut(key).map(|d| &mut d.protocol) {
                http.runnable = false;
                self.http_pump(key);
            }
        }
    }

    fn flush(&mut self) {
        while let Some(token) = self.io.dirty.pop() {
            match Kind::parse(token.0) {
                Some((Kind::Downstream, key)) => {
                    if let Some(downstream) = self.downstreams.get_mut(key) {
                        downstream.link.flush(&mut self.io);
                        let stalled = self.io.now + self.limits.write_stall_timeout;
                        if matches!(downstream.protocol, Protocol::Http(_))
                            && downstream.link.is_sending()
                            && !downstream.timer.covers(stalled)
                        {
                            self.rearm_downstream(key);
                        }
                    }
                }
                Some((Kind::Upstream, key)) => {
                    if let Some(link) = self.upstreams.get_mut(key).and_then(|u| u.link.as_mut()) {
                        link.flush(&mut self.io);
                    }
                }
                Some((Kind::Own, key)) => self.flush_own(key),
                Some(_) | None => {}
            }
        }
    }

    fn drain(&mut self, inbound_only: bool) {
        let keys: Vec<Key> = self.downstreams.keys().collect();
        for key in keys {
            let inbound = self.downstreams.get(key).is_some_and(|d| d.origin.is_inbound());
            if inbound || !inbound_only {
                self.http_drain(key);
            }
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.stop_listening(false);
        let keys: Vec<Key> = self.downstreams.keys().collect();
        for key in keys {
            match self.downstreams.get(key).map(|d| &d.protocol) {
                Some(Protocol::Tcp(_)) => self.tcp_close(key, false),
                Some(Protocol::Http(_)) => self.http_stop(key),
                Some(Protocol::Securing(_) | Protocol::Refused(_)) => self.close_downstream(key, true),
                None => {}
            }
        }
        self.stop_inspections();
        self.stop_checks();
        self.stop_load_reports();
        self.stop_sides();
        let idle: Vec<Key> = self.upstreams.keys().collect();
        for key in idle {
            self.close_upstream(key, crate::upstream::EndedBy::Local);
        }
        self.logs.flush_all();
    }

    /// The wall clock at an earlier moment of the loop's clock.
    pub(crate) fn wall_at(&self, at: Time) -> WallTime {
        let ago = u64::try_from(self.io.now.since(at).as_nanos()).unwrap_or(u64::MAX);
        WallTime(self.wall.0.saturating_sub(ago))
    }
}
