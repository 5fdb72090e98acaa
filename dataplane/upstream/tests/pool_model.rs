//! Random operations on the pools beside a model that finds everything by searching plain vectors. Seeds are
//! fixed; a failure names its seed and step.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{cluster, endpoint};
use millrace_base::{Key, Rng, Time};
use millrace_config::{Cluster, HealthStatus, LbPolicy, Thresholds};
use millrace_upstream::{
    Acquire, ClusterBudgets, ClusterState, ConnId, HostId, PoolAction, PoolFailure, ResourcePriority, WaitId,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Connecting,
    /// With the step at which it became idle.
    Idle(u64),
    Busy,
}

#[derive(Clone, Copy, Debug)]
struct Conn {
    id: ConnId,
    key: Key,
    host: HostId,
    priority: ResourcePriority,
    state: State,
    served: u32,
    since: Time,
    opened: Time,
    too_old: bool,
    tcp: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: WaitId,
    key: Key,
    host: HostId,
    priority: ResourcePriority,
}

/// What the model expects the pool to say, counters left out.
#[derive(Debug, PartialEq)]
enum Said {
    Connect(HostId, ResourcePriority),
    Assign(Key, Key),
    Fail(Key, PoolFailure),
    Close(Key),
}

struct Model {
    limits: Thresholds,
    max_requests: u32,
    idle_timeout: Duration,
    max_duration: Duration,
    conns: Vec<Conn>,
    waiting: Vec<Waiting>,
    expected: Vec<Said>,
    step: u64,
    now: Time,
}

impl Model {
    fn in_pool(&self, host: HostId, priority: ResourcePriority) -> Vec<Conn> {
        self.conns.iter().filter(|c| !c.tcp && c.host == host && c.priority == priority).copied().collect()
    }

    fn warmest(&self, host: HostId, priority: ResourcePriority) -> Option<Conn> {
        let idle = |c: &Conn| match c.state {
            State::Idle(at) => Some((at, *c)),
            State::Connecting | State::Busy => None,
        };
        self.in_pool(host, priority).iter().filter_map(idle).max_by_key(|(at, _)| *at).map(|(_, c)| c)
    }

    fn active(&self, priority: ResourcePriority) -> u32 {
        let busy = |c: &&Conn| !c.tcp && c.priority == priority && c.state == State::Busy;
        self.conns.iter().filter(busy).count() as u32
    }

    fn pending(&self, priority: ResourcePriority) -> u32 {
        let tcp = |c: &&Conn| c.tcp && c.priority == priority && c.state == State::Connecting;
        let waiting = self.waiting.iter().filter(|w| w.priority == priority).count();
        (waiting + self.conns.iter().filter(tcp).count()) as u32
    }

    fn open(&self, priority: ResourcePriority) -> u32 {
        self.conns.iter().filter(|c| c.priority == priority).count() as u32
    }

    fn conn(&mut self, id: ConnId) -> &mut Conn {
        match self.conns.iter_mut().find(|c| c.id == id) {
            Some(conn) => conn,
            None => unreachable!("{id:?} is not in the model"),
        }
    }

    fn use_conn(&mut self, id: ConnId) {
        let conn = self.conn(id);
        conn.state = State::Busy;
        conn.served += 1;
    }

    /// Assignments that must follow a change; connections that must be opened are counted.
    fn settle(&mut self, host: HostId, priority: ResourcePriority) -> usize {
        while let Some(conn) = self.warmest(host, priority) {
            let first = self.waiting.iter().position(|w| w.host == host && w.priority == priority);
            let Some(first) = first else { break };
            let waiter = self.waiting.remove(first);
            if self.active(priority) < self.limits.max_requests {
                self.use_conn(conn.id);
                self.expected.push(Said::Assign(waiter.key, conn.key));
            } else {
                self.expected.push(Said::Fail(waiter.key, PoolFailure::RequestOverflow));
            }
        }
        self.missing(host, priority)
    }

    fn missing(&mut self, host: HostId, priority: ResourcePriority) -> usize {
        let pool = self.in_pool(host, priority);
        let connecting = pool.iter().filter(|c| c.state == State::Connecting).count();
        let waiting = self.waiting.iter().filter(|w| w.host == host && w.priority == priority).count();
        let room = self.limits.max_connections.saturating_sub(self.open(priority)) as usize;
        let wanted = waiting.saturating_sub(connecting);
        let granted = if wanted > 0 && room == 0 && pool.is_empty() { 1 } else { wanted.min(room) };
        for _ in 0..granted {
            self.expected.push(Said::Connect(host, priority));
        }
        granted
    }
}

struct Run {
    model: Model,
    state: ClusterState,
    budgets: Arc<ClusterBudgets>,
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
            max_requests: 1 + rng.below(5) as u32,
            ..Thresholds::default()
        };
        config.circuit_breakers.default = limits;
        config.circuit_breakers.high = limits;
        let max_requests = 1 + rng.below(4) as u32;
        config.http.max_requests_per_connection = Some(max_requests);
        config.http.idle_timeout = Some(Duration::from_secs(5));
        config.http.max_connection_duration = Some(Duration::from_secs(12));
        let budgets = Arc::new(ClusterBudgets::default());
        let state = ClusterState::new(&Arc::new(config), Arc::clone(&budgets), seed);
        let hosts = state.hosts().map(|(id, _)| id).collect();
        let model = Model {
            limits,
            max_requests,
            idle_timeout: Duration::from_secs(5),
            max_duration: Duration::from_secs(12),
            conns: Vec::new(),
            waiting: Vec::new(),
            expected: Vec::new(),
            step: 0,
            now: Time::ZERO,
        };
        Self { model, state, budgets, hosts, rng, keys: 0, out: Vec::new() }
    }

    fn key(&mut self) -> Key {
        self.keys += 1;
        Key { slot: self.keys, generation: 0 }
    }

    fn place(&mut self) -> (HostId, ResourcePriority) {
        let host = self.hosts[self.rng.below(self.hosts.len() as u64) as usize];
        (host, ResourcePriority::ALL[self.rng.below(2) as usize])
    }

    fn pick(&mut self, wanted: impl Fn(&Conn) -> bool) -> Option<Conn> {
        let all: Vec<_> = self.model.conns.iter().filter(|c| wanted(c)).copied().collect();
        all.get(self.rng.below(all.len() as u64) as usize).copied()
    }

    fn new_conn(&mut self, id: ConnId, host: HostId, priority: ResourcePriority, tcp: bool) {
        let key = self.key();
        self.state.bind(id, key);
        let (since, opened) = (Time::ZERO, Time::ZERO);
        let state = State::Connecting;
        let conn = Conn { id, key, host, priority, state, served: 0, since, opened, too_old: false, tcp };
        self.model.conns.push(conn);
    }

    fn step(&mut self) {
        self.model.step += 1;
        match self.rng.below(10) {
            0..3 => self.acquire(),
            3 => self.connected(),
            4 => self.connect_failed(),
            5 | 6 => self.released(),
            7 => self.closed(),
            8 => self.cancel(),
            _ if self.rng.chance(1, 2) => self.pass_time(),
            _ => self.tcp(),
        }
        self.compare();
    }

    fn acquire(&mut self) {
        let (host, priority) = self.place();
        let key = self.key();
        let answer = self.state.acquire(host, priority, key, &mut self.out);
        if let Some(conn) = self.model.warmest(host, priority) {
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
            self.model.waiting.push(Waiting { id, key, host, priority });
            self.model.missing(host, priority);
        } else {
            assert_eq!(answer, Acquire::Refused(PoolFailure::PendingOverflow));
        }
    }

    fn connected(&mut self) {
        let Some(conn) = self.pick(|c| c.state == State::Connecting) else { return };
        self.state.connected(conn.id, self.model.now, &mut self.out);
        let (step, now) = (self.model.step, self.model.now);
        let entry = self.model.conn(conn.id);
        entry.state = if entry.tcp { State::Busy } else { State::Idle(step) };
        (entry.since, entry.opened) = (now, now);
        if !conn.tcp {
            self.model.settle(conn.host, conn.priority);
        }
    }

    fn connect_failed(&mut self) {
        let Some(conn) = self.pick(|c| c.state == State::Connecting) else { return };
        self.state.connect_failed(conn.id, &mut self.out);
        self.model.conns.retain(|c| c.id != conn.id);
        if !conn.tcp {
            let same = |w: &Waiting| w.host == conn.host && w.priority == conn.priority;
            for waiter in self.model.waiting.iter().filter(|w| same(w)) {
                self.model.expected.push(Said::Fail(waiter.key, PoolFailure::ConnectFailed));
            }
            self.model.waiting.retain(|w| !same(w));
        }
    }

    fn released(&mut self) {
        let Some(conn) = self.pick(|c| !c.tcp && c.state == State::Busy) else { return };
        let reusable = self.rng.chance(3, 4);
        self.state.released(conn.id, reusable, self.model.now, &mut self.out);
        if reusable && conn.served < self.model.max_requests && !conn.too_old {
            let (step, now) = (self.model.step, self.model.now);
            let entry = self.model.conn(conn.id);
            entry.state = State::Idle(step);
            entry.since = now;
        } else {
            self.model.conns.retain(|c| c.id != conn.id);
            self.model.expected.push(Said::Close(conn.key));
        }
        self.model.settle(conn.host, conn.priority);
    }

    fn closed(&mut self) {
        let Some(conn) = self.pick(|c| c.state != State::Connecting) else { return };
        self.state.closed(conn.id, &mut self.out);
        self.model.conns.retain(|c| c.id != conn.id);
        self.model.settle(conn.host, conn.priority);
    }

    fn cancel(&mut self) {
        let count = self.model.waiting.len() as u64;
        if count == 0 {
            return;
        }
        let waiter = self.model.waiting.remove(self.rng.below(count) as usize);
        self.state.cancel(waiter.id, &mut self.out);
        // A second time changes nothing.
        let said = self.out.len();
        self.state.cancel(waiter.id, &mut self.out);
        assert_eq!(self.out.len(), said);
        self.model.settle(waiter.host, waiter.priority);
    }

    fn pass_time(&mut self) {
        self.model.now = self.model.now + Duration::from_secs(self.rng.below(4));
        let now = self.model.now;
        let due_before = self.state.next_expiry().is_some_and(|at| at <= now);
        self.state.expire(now, &mut self.out);
        let idle = |c: &Conn| matches!(c.state, State::Idle(_));
        let Model { idle_timeout, max_duration, .. } = self.model;
        let mut gone: Vec<_> = self.model.conns.iter().filter(|c| idle(c)).copied().collect();
        gone.retain(|c| c.since + idle_timeout <= now || c.opened + max_duration <= now);
        for conn in &mut self.model.conns {
            conn.too_old |= !conn.tcp && conn.state == State::Busy && conn.opened + max_duration <= now;
        }
        assert!(due_before || gone.is_empty(), "next_expiry came too late");
        self.model.conns.retain(|c| gone.iter().all(|g| g.id != c.id));
        let mut closed: Vec<_> = gone.iter().map(|c| c.key.slot).collect();
        closed.sort_unstable();
        let mut said: Vec<_> = self.take_said().into_iter().map(closed_slot).collect();
        said.sort_unstable();
        assert_eq!(said, closed);
        assert!(self.state.next_expiry().is_none_or(|at| at > now), "expire left something behind");
    }

    fn tcp(&mut self) {
        let (host, priority) = self.place();
        let answer = self.state.acquire_tcp(host, priority, &mut self.out);
        if self.model.open(priority) >= self.model.limits.max_connections {
            assert_eq!(answer, Err(PoolFailure::ConnectionOverflow));
        } else if self.model.pending(priority) >= self.model.limits.max_pending_requests {
            assert_eq!(answer, Err(PoolFailure::PendingOverflow));
        } else {
            let Ok(id) = answer else { unreachable!("{answer:?} below every limit") };
            self.new_conn(id, host, priority, true);
        }
    }

    fn take_said(&mut self) -> Vec<Said> {
        let actions = std::mem::take(&mut self.out);
        let mut said = Vec::new();
        for action in actions {
            match action {
                PoolAction::Connect { conn, host, priority } => {
                    self.new_conn(conn, host, priority, false);
                    said.push(Said::Connect(host, priority));
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

fn closed_slot(said: Said) -> u32 {
    match said {
        Said::Close(key) => key.slot,
        other => unreachable!("time passing led to {other:?}"),
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
