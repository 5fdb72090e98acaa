//! Random operations on the pools beside a model that searches plain vectors. A failure names seed and step.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{cluster, endpoint};
use millrace_base::{Key, Rng, Time};
use millrace_config::{Cluster, HealthStatus, LbPolicy, Thresholds};
use millrace_upstream::{
    Acquire, ClusterShared, ClusterState, ConnId, HostId, HttpProtocol, PoolAction, PoolFailure,
    ResourcePriority, Transport, TransportKey, WaitId,
};

/// The pool of a connection or a waiter.
type Pool = (HostId, ResourcePriority, HttpProtocol, TransportKey);

#[derive(Clone, Copy, Debug)]
struct Conn {
    id: ConnId,
    key: Key,
    pool: Pool,
    connecting: bool,
    /// Requests under way; a TCP session is one.
    streams: u32,
    limit: u32,
    served: u32,
    closing: bool,
    tcp: bool,
    /// When it last had room anew, or with another load.
    moved: u64,
    /// When it became idle, and when it was established: as an order and as a time.
    rested: (u64, Time),
    opened: (u64, Time),
}

impl Conn {
    fn has_room(&self) -> bool {
        !self.connecting && !self.tcp && !self.closing && self.streams < self.limit
    }

    fn idle(&self) -> bool {
        !self.connecting && self.streams == 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: WaitId,
    key: Key,
    pool: Pool,
}

/// What the model expects the pool to say, counters left out.
#[derive(Debug, PartialEq)]
enum Said {
    Connect(Pool),
    Assign(Key, Key),
    Fail(Key, PoolFailure),
    Close(Key),
}

struct Model {
    limits: Thresholds,
    max_requests: u32,
    max_streams: u32,
    idle_timeout: Duration,
    max_duration: Duration,
    conns: Vec<Conn>,
    waiting: Vec<Waiting>,
    expected: Vec<Said>,
    moves: u64,
    now: Time,
}

impl Model {
    fn in_pool(&self, pool: Pool) -> impl Iterator<Item = &Conn> {
        self.conns.iter().filter(move |c| !c.tcp && c.pool == pool)
    }

    /// The least loaded connection with room, of several the one that last came to its load.
    fn best(&self, pool: Pool) -> Option<Conn> {
        let room = self.in_pool(pool).filter(|c| c.has_room());
        room.min_by_key(|c| (c.streams, std::cmp::Reverse(c.moved))).copied()
    }

    fn active(&self, priority: ResourcePriority) -> u32 {
        self.conns.iter().filter(|c| !c.tcp && c.pool.1 == priority).map(|c| c.streams).sum()
    }

    fn pending(&self, priority: ResourcePriority) -> u32 {
        let tcp = |c: &&Conn| c.tcp && c.pool.1 == priority && c.connecting;
        let waiting = self.waiting.iter().filter(|w| w.pool.1 == priority).count();
        (waiting + self.conns.iter().filter(tcp).count()) as u32
    }

    fn open(&self, priority: ResourcePriority) -> u32 {
        self.conns.iter().filter(|c| c.pool.1 == priority).count() as u32
    }

    /// Changes a connection, and notes when it came to its load or its room.
    fn change(&mut self, id: ConnId, how: impl FnOnce(&mut Conn)) {
        self.moves += 1;
        let (moves, now) = (self.moves, self.now);
        let Some(conn) = self.conns.iter_mut().find(|c| c.id == id) else {
            unreachable!("{id:?} is not in the model")
        };
        let before = *conn;
        how(conn);
        if conn.streams != before.streams || conn.has_room() != before.has_room() {
            conn.moved = moves;
        }
        if conn.idle() && !before.idle() {
            conn.rested = (moves, now);
        }
    }

    fn use_conn(&mut self, id: ConnId) {
        let max_requests = self.max_requests;
        self.change(id, |conn| {
            conn.streams += 1;
            conn.served += 1;
            conn.closing |= conn.served >= max_requests;
        });
    }

    fn close(&mut self, conn: Conn) {
        self.conns.retain(|c| c.id != conn.id);
        self.expected.push(Said::Close(conn.key));
    }

    /// Assignments and new connections that must follow a change.
    fn settle(&mut self, pool: Pool) {
        while let Some(conn) = self.best(pool) {
            let Some(first) = self.waiting.iter().position(|w| w.pool == pool) else { break };
            let waiter = self.waiting.remove(first);
            if self.active(pool.1) < self.limits.max_requests {
                self.use_conn(conn.id);
                self.expected.push(Said::Assign(waiter.key, conn.key));
            } else {
                self.expected.push(Said::Fail(waiter.key, PoolFailure::RequestOverflow));
            }
        }
        self.missing(pool);
    }

    /// Connections that must be opened; those that are expected already count.
    fn missing(&mut self, pool: Pool) {
        let each = self.room_of_new(pool.2) as usize;
        let of = |said: &Said| if let Said::Connect(asked) = said { Some(*asked) } else { None };
        let asked: Vec<_> = self.expected.iter().filter_map(of).collect();
        let asked_here = asked.iter().filter(|p| **p == pool).count();
        let asked_open = asked.iter().filter(|p| p.1 == pool.1).count() as u32;
        let coming = self.in_pool(pool).filter(|c| c.connecting).map(|c| c.limit).sum::<u32>() as usize;
        let waiting = self.waiting.iter().filter(|w| w.pool == pool).count();
        let room = self.limits.max_connections.saturating_sub(self.open(pool.1) + asked_open) as usize;
        let wanted = waiting.saturating_sub(coming + asked_here * each).div_ceil(each);
        let first = self.in_pool(pool).next().is_none() && asked_here == 0;
        let granted = if wanted > 0 && room == 0 && first { 1 } else { wanted.min(room) };
        self.expected.extend((0..granted).map(|_| Said::Connect(pool)));
    }

    fn room_of_new(&self, protocol: HttpProtocol) -> u32 {
        match protocol {
            HttpProtocol::Http1 | HttpProtocol::Auto => 1,
            HttpProtocol::Http2 => self.max_streams.min(self.max_requests),
        }
    }
}

struct Run {
    model: Model,
    state: ClusterState,
    budgets: Arc<ClusterShared>,
    hosts: Vec<HostId>,
    rng: Rng,
    keys: u32,
    out: Vec<PoolAction>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut config: Cluster = cluster(
            LbPolicy::RoundRobin,
            vec![(0..3).map(|n| endpoint(n, 1, HealthStatus::Healthy)).collect()],
        );
        let limits = Thresholds {
            max_connections: rng.below(6) as u32,
            max_pending_requests: rng.below(6) as u32,
            max_requests: 1 + rng.below(8) as u32,
            ..Thresholds::default()
        };
        config.circuit_breakers.default = limits;
        config.circuit_breakers.high = limits;
        let max_requests = 1 + rng.below(8) as u32;
        config.http.max_requests_per_connection = Some(max_requests);
        let max_streams = 1 + rng.below(4) as u32;
        config.http.http2.max_concurrent_streams = max_streams;
        config.http.idle_timeout = Some(Duration::from_secs(5));
        config.http.max_connection_duration = Some(Duration::from_secs(12));
        let budgets = Arc::new(ClusterShared::default());
        let state = ClusterState::new(&Arc::new(config), Arc::clone(&budgets), seed);
        let hosts = state.hosts().map(|(id, _)| id).collect();
        let model = Model {
            limits,
            max_requests,
            max_streams,
            idle_timeout: Duration::from_secs(5),
            max_duration: Duration::from_secs(12),
            conns: Vec::new(),
            waiting: Vec::new(),
            expected: Vec::new(),
            moves: 0,
            now: Time::ZERO,
        };
        Self { model, state, budgets, hosts, rng, keys: 0, out: Vec::new() }
    }

    fn key(&mut self) -> Key {
        self.keys += 1;
        Key { slot: self.keys, generation: 0 }
    }

    fn place(&mut self) -> Pool {
        let host = self.hosts[self.rng.below(self.hosts.len() as u64) as usize];
        let protocol = if self.rng.chance(1, 2) { HttpProtocol::Http1 } else { HttpProtocol::Http2 };
        let name = [None, None, Some("a.example"), Some("b.example")][self.rng.below(4) as usize];
        let wanted = Transport { server_name: name, ..Transport::default() };
        let transport = self.state.transport_key(&wanted).expect("few are in use");
        (host, ResourcePriority::ALL[self.rng.below(2) as usize], protocol, transport)
    }

    fn pick(&mut self, wanted: impl Fn(&Conn) -> bool) -> Option<Conn> {
        let all: Vec<_> = self.model.conns.iter().filter(|c| wanted(c)).copied().collect();
        all.get(self.rng.below(all.len() as u64) as usize).copied()
    }

    fn new_conn(&mut self, id: ConnId, pool: Pool, tcp: bool) {
        let key = self.key();
        self.state.bind(id, key);
        let (limit, never) = (self.model.room_of_new(pool.2), (0, Time::ZERO));
        self.model.conns.push(Conn {
            id,
            key,
            pool,
            connecting: true,
            streams: 0,
            limit,
            served: 0,
            closing: false,
            tcp,
            moved: 0,
            rested: never,
            opened: never,
        });
    }

    fn step(&mut self) {
        match self.rng.below(13) {
            0..4 => self.acquire(),
            4 => self.connected(),
            5 => self.connect_failed(),
            6..9 => self.released(),
            9 => self.closed(),
            10 => self.cancel(),
            11 if self.rng.chance(1, 2) => self.limit(),
            11 => self.retire(),
            _ if self.rng.chance(1, 20) => self.drain(),
            _ if self.rng.chance(1, 2) => self.pass_time(),
            _ => self.tcp(),
        }
        self.compare();
    }

    fn acquire(&mut self) {
        let pool = self.place();
        let ((host, priority, protocol, transport), key) = (pool, self.key());
        let answer = self.state.acquire(host, priority, protocol, transport, key, &mut self.out);
        if let Some(conn) = self.model.best(pool) {
            if self.model.active(priority) < self.model.limits.max_requests {
                assert_eq!(answer, Acquire::Reuse { conn: conn.key, id: conn.id });
                self.model.use_conn(conn.id);
            } else {
                assert_eq!(answer, Acquire::Refused(PoolFailure::RequestOverflow));
            }
        } else if self.model.pending(priority) < self.model.limits.max_pending_requests {
            let Acquire::Queued(id) = answer else {
                unreachable!("{answer:?} instead of a place in the queue")
            };
            self.model.waiting.push(Waiting { id, key, pool });
            self.model.missing(pool);
        } else {
            assert_eq!(answer, Acquire::Refused(PoolFailure::PendingOverflow));
        }
    }

    fn connected(&mut self) {
        let Some(conn) = self.pick(|c| c.connecting) else { return };
        self.state.connected(conn.id, self.model.now, &mut self.out);
        let now = self.model.now;
        self.model
            .change(conn.id, |c| (c.connecting, c.streams, c.closing) = (false, u32::from(c.tcp), false));
        let moves = self.model.moves;
        self.model.change(conn.id, |c| c.opened = (moves, now));
        if !conn.tcp {
            self.model.settle(conn.pool);
            if conn.closing {
                self.stop_using(conn.id);
                self.model.settle(conn.pool);
            }
        }
    }

    fn stop_using(&mut self, id: ConnId) {
        match self.model.conns.iter().find(|c| c.id == id).copied() {
            Some(conn) if conn.idle() => self.model.close(conn),
            Some(_) => self.model.change(id, |c| c.closing = true),
            None => unreachable!("{id:?} is not in the model"),
        }
    }

    fn connect_failed(&mut self) {
        let Some(conn) = self.pick(|c| c.connecting) else { return };
        self.state.connect_failed(conn.id, &mut self.out);
        self.model.conns.retain(|c| c.id != conn.id);
        if !conn.tcp {
            for waiter in self.model.waiting.iter().filter(|w| w.pool == conn.pool) {
                self.model.expected.push(Said::Fail(waiter.key, PoolFailure::ConnectFailed));
            }
            self.model.waiting.retain(|w| w.pool != conn.pool);
        }
    }

    fn released(&mut self) {
        let Some(conn) = self.pick(|c| !c.tcp && c.streams > 0) else { return };
        let mut reusable = true;
        match conn.pool.2 {
            HttpProtocol::Http1 | HttpProtocol::Auto => {
                reusable = self.rng.chance(3, 4);
                self.state.released(conn.id, reusable, self.model.now, &mut self.out);
            }
            HttpProtocol::Http2 => self.state.stream_ended(conn.id, self.model.now, &mut self.out),
        }
        if conn.streams == 1 && (conn.closing || !reusable) {
            self.model.close(conn);
        } else {
            self.model.change(conn.id, |c| c.streams -= 1);
        }
        self.model.settle(conn.pool);
    }

    fn closed(&mut self) {
        let Some(conn) = self.pick(|c| !c.connecting) else { return };
        self.state.closed(conn.id, &mut self.out);
        self.model.conns.retain(|c| c.id != conn.id);
        if !conn.tcp {
            self.model.settle(conn.pool);
        }
    }

    fn cancel(&mut self) {
        let count = self.model.waiting.len() as u64;
        if count == 0 {
            return;
        }
        let waiter = self.model.waiting.remove(self.rng.below(count) as usize);
        self.state.cancel(waiter.id, &mut self.out);
        let said = self.out.len();
        self.state.cancel(waiter.id, &mut self.out);
        assert_eq!(self.out.len(), said, "a second time changes nothing");
        self.model.settle(waiter.pool);
    }

    fn limit(&mut self) {
        let Some(conn) = self.pick(|c| !c.tcp) else { return };
        let streams = self.rng.below(6) as u32;
        self.state.set_stream_limit(conn.id, streams, &mut self.out);
        if conn.pool.2 == HttpProtocol::Http2 && !conn.connecting {
            let limit = streams.min(self.model.max_streams);
            self.model.change(conn.id, |c| c.limit = limit);
            self.model.settle(conn.pool);
        }
    }

    fn retire(&mut self) {
        let Some(conn) = self.pick(|_| true) else { return };
        self.state.retire_conn(conn.id, &mut self.out);
        if conn.pool.2 == HttpProtocol::Http2 && !conn.tcp {
            self.stop_using(conn.id);
            self.model.settle(conn.pool);
        }
    }

    fn drain(&mut self) {
        self.state.drain(&mut self.out);
        for conn in self.model.conns.iter_mut().filter(|c| !c.tcp && !c.idle()) {
            conn.closing = true;
        }
        let mut idle: Vec<_> = self.model.conns.iter().filter(|c| c.idle()).copied().collect();
        idle.sort_by_key(|c| c.rested.0);
        for conn in idle {
            self.model.close(conn);
            self.model.settle(conn.pool);
        }
    }

    fn pass_time(&mut self) {
        self.model.now = self.model.now + Duration::from_secs(self.rng.below(4));
        let now = self.model.now;
        let due_before = self.state.next_expiry().is_some_and(|at| at <= now);
        self.state.expire(now, &mut self.out);
        let Model { idle_timeout, max_duration, .. } = self.model;
        let due = |conns: &[Conn], late: &dyn Fn(&Conn) -> Option<u64>| -> Vec<Conn> {
            let mut due: Vec<_> = conns.iter().filter_map(|c| Some((late(c)?, *c))).collect();
            due.sort_by_key(|(at, _)| *at);
            due.into_iter().map(|(_, conn)| conn).collect()
        };
        let idle = |c: &Conn| (c.idle() && c.rested.1 + idle_timeout <= now).then_some(c.rested.0);
        let aged =
            |c: &Conn| (!c.connecting && !c.tcp && c.opened.1 + max_duration <= now).then_some(c.opened.0);
        let rested = due(&self.model.conns, &idle);
        assert!(due_before || rested.is_empty(), "next_expiry came too late");
        for conn in rested {
            self.model.close(conn);
            self.model.settle(conn.pool);
        }
        for conn in due(&self.model.conns, &aged) {
            if conn.idle() {
                self.model.close(conn);
                self.model.settle(conn.pool);
            } else {
                self.model.change(conn.id, |c| c.closing = true);
            }
        }
        assert!(self.state.next_expiry().is_none_or(|at| at > now), "expire left something behind");
    }

    fn tcp(&mut self) {
        let (host, priority, ..) = self.place();
        let answer = self.state.acquire_tcp(host, priority, &mut self.out);
        if self.model.open(priority) >= self.model.limits.max_connections {
            assert_eq!(answer, Err(PoolFailure::ConnectionOverflow));
        } else if self.model.pending(priority) >= self.model.limits.max_pending_requests {
            assert_eq!(answer, Err(PoolFailure::PendingOverflow));
        } else {
            let Ok(id) = answer else { unreachable!("{answer:?} below every limit") };
            self.new_conn(id, (host, priority, HttpProtocol::Http1, TransportKey::DEFAULT), true);
        }
    }

    fn take_said(&mut self) -> Vec<Said> {
        let actions = std::mem::take(&mut self.out);
        let mut said = Vec::new();
        for action in actions {
            match action {
                PoolAction::Connect { conn, host, priority, protocol, transport } => {
                    said.push(Said::Connect((host, priority, protocol, transport)));
                    self.new_conn(conn, (host, priority, protocol, transport), false);
                }
                PoolAction::Assign { waiter, conn, .. } => said.push(Said::Assign(waiter, conn)),
                PoolAction::Fail { waiter, reason } => said.push(Said::Fail(waiter, reason)),
                PoolAction::Close { conn, .. } => said.extend(conn.map(Said::Close)),
                PoolAction::Count(_) => {}
            }
        }
        said
    }

    fn compare(&mut self) {
        let said = self.take_said();
        assert_eq!(said, std::mem::take(&mut self.model.expected));
        self.state.check_invariants();
        for priority in ResourcePriority::ALL {
            let budget = self.budgets.of(priority);
            assert_eq!(budget.connections.used(), self.model.open(priority), "connections");
            assert_eq!(budget.pending.used(), self.model.pending(priority), "pending");
            assert_eq!(budget.requests.used(), self.model.active(priority), "requests");
        }
    }
}

#[test]
fn pools_agree_with_the_model() {
    for seed in 0..400 {
        let mut run = Run::new(seed);
        for step in 0..400 {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.step()));
            assert!(outcome.is_ok(), "seed {seed}, step {step}");
        }
        while let Some(conn) = run.model.conns.first().copied() {
            run.state.closed(conn.id, &mut run.out);
            run.model.conns.remove(0);
            run.take_said();
        }
        assert!(run.state.is_quiescent(), "seed {seed}");
        assert_eq!(run.budgets.default.connections.used() + run.budgets.high.pending.used(), 0);
    }
}
