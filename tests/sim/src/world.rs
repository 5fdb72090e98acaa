//! One run: a shard on the simulated network with clients on one side and upstreams on the other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Limits, Rng, Time, WallTime};
use millrace_config::{Cluster, Level, OverloadLevels, Snapshot};
use millrace_observe::access_log::{LogBuffers, LogQueue};
use millrace_observe::stats::Registry;
use millrace_ring::sim::Sim;
use millrace_ring::{Config, Event, Op, SocketAddress};
use millrace_shard::shared::{Draining, ListenerHandle, Message, Shared};
use millrace_shard::{Logs, Running, Shard, ShardParts, SocketFacts};

use crate::check;
use crate::churn::{self, Churn};
use crate::client::Client;
use crate::fixture;
use crate::h2;
use crate::h2::reporter::Reporter;
use crate::ledger::{Ledger, Pipe};
use crate::net::Net;
use crate::pipe::{PipeClient, PipeServer};
use crate::setup::{Disturbance, Setup};
use crate::tls::{self, Seen, Speaks};
use crate::trace::{hash_event, hash_op, mix, show};
use crate::upstream::Upstream;

/// Turns at one and the same virtual time before the loop counts as spinning.
const TURNS_AT_ONCE_MAX: u32 = 20_000;
/// Turns of a shard for a timer after which nothing was to do, per virtual second, before timers count as spinning.
const IDLE_TURNS_PER_SECOND_MAX: u64 = 8;
/// Connections of clients that had no stream for so long must owe nothing.
const IDLE_SECONDS: u64 = 3;
/// No run takes longer than this, virtual seconds.
const RUN_SECONDS_MAX: u64 = 3_000;

/// What a run ended with.
#[derive(Debug, Default)]
pub struct Report {
    /// Hash over all operations, events and outcomes.
    pub trace: u64,
    /// What must not happen and did; empty is good.
    pub violations: Vec<String>,
    /// Requests answered as promised, or tunnels that were whole.
    pub good: usize,
    /// All requests or tunnels.
    pub all: usize,
    /// Turns of the shard.
    pub turns: u64,
    /// Bytes that went through relays.
    pub relayed: u64,
    /// What TLS came to.
    pub tls: Seen,
}

/// Peers of either kind.
#[derive(Debug)]
pub(crate) enum Server {
    Http(Upstream),
    Http2(h2::upstream::Upstream),
    Pipe(PipeServer),
    Http2Pipe(h2::pipe::PipeServer),
}

/// Clients of either version.
#[derive(Debug)]
enum Asker {
    Http1(Box<Client>),
    Http2(h2::client::Client),
}

impl Asker {
    fn is_done(&self) -> bool {
        match self {
            Self::Http1(client) => client.is_done(),
            Self::Http2(client) => client.is_done(),
        }
    }

    fn state(&self) -> String {
        match self {
            Self::Http1(client) => client.state(),
            Self::Http2(client) => client.state(),
        }
    }
}

/// One run under way.
#[derive(Debug)]
pub struct World {
    pub(crate) net: Net,
    pub(crate) shards: Vec<(Shard, Sim, Vec<Event>)>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) registry: Registry,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) handle: Arc<ListenerHandle>,
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) servers: Vec<Server>,
    /// Endpoints as they report their load.
    pub(crate) reporters: Vec<Reporter>,
    pub(crate) ledger: Ledger,
    clients: Vec<Asker>,
    pipes: Vec<PipeClient>,
    http2_pipes: Vec<h2::pipe::PipeClient>,
    pub(crate) setup: Setup,
    /// The control plane of runs whose configuration changes.
    pub(crate) churn: Option<Churn>,
    pub(crate) listen: SocketAddress,
    pub(crate) rng: Rng,
    pub(crate) running: bool,
    /// Prints every event and operation.
    verbose: bool,
    trace: u64,
    turns: u64,
    relayed: u64,
    idle_turns: u64,
    turns_at_once: u32,
    next_disturbance: Time,
    disturbances: u32,
    /// The version of the cluster that was published last.
    pub(crate) published: Option<Arc<Cluster>>,
}

impl World {
    /// Runs one seed of a mode from the first connection to the last closed socket.
    pub fn run(setup: &Setup, seed: u64) -> Report {
        let mut world = Self::new(setup.clone(), seed);
        world.traffic();
        check::after_traffic(&mut world);
        check::after_stop(&mut world);
        check::outcomes(&mut world);
        world.report()
    }

    fn new(setup: Setup, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let net = Net::of(&setup, rng.next_u64());
        let registry = Registry::new();
        let listen = SocketAddr::from(([10, 0, 0, 1], 8080));
        let count = 1 + rng.below(4) as u16;
        // Those that report their load are asked on the same port.
        let host = |i: u16| if setup.knobs.load_streams { 1 + i as u8 } else { 1 };
        let endpoint = |i: u16| SocketAddr::from(([10, 0, 1, host(i)], 9000 + i));
        let endpoints: Vec<SocketAddr> = (0..count).map(endpoint).collect();
        let mut snapshot = fixture::build(&registry, setup.mode, listen, &endpoints, &setup.knobs);
        tls::identity::configure(&mut snapshot, &setup.tls, Speaks::of(&setup).endpoints);
        let changes = matches!(setup.disturbance, Disturbance::Churn | Disturbance::ChurnHard);
        if changes {
            churn::prepare(&mut snapshot);
        }
        let churn = changes.then(|| Churn::new(&snapshot, setup.shards));
        let in_force = churn.as_ref().map(Churn::in_force).unwrap_or_default();
        let snapshot = Arc::new(snapshot);
        let shared = Arc::new(Shared::new(setup.shards));
        let mut world = Self {
            shards: Vec::new(),
            servers: Vec::new(),
            reporters: Vec::new(),
            ledger: Ledger { in_force, ..Ledger::default() },
            churn,
            clients: Vec::new(),
            pipes: Vec::new(),
            http2_pipes: Vec::new(),
            listen: SocketAddress::Inet(listen),
            running: true,
            verbose: std::env::var_os("MILLRACE_SIM_TRACE").is_some(),
            trace: seed,
            turns: 0,
            relayed: 0,
            idle_turns: 0,
            turns_at_once: 0,
            next_disturbance: net.now() + Duration::from_millis(rng.below(400)),
            disturbances: 0,
            published: snapshot.clusters.first().cloned().flatten(),
            net,
            shared,
            registry,
            handle: ListenerHandle::new(&snapshot.listeners[0].name),
            snapshot,
            endpoints,
            setup,
            rng,
        };
        for index in 0..world.setup.shards {
            world.add_shard(index);
        }
        world.add_peers();
        world
    }

    fn add_shard(&mut self, index: usize) {
        let (buffers, buffer_bytes) = self.setup.buffers;
        let config = Config { buffers, buffer_bytes, ..Config::default() };
        let sim = Sim::open(&self.net, &config).expect("memory for a few buffers");
        let queue = LogQueue::new(4);
        let shard = Shard::new(ShardParts {
            index,
            shared: self.shared.clone(),
            snapshot: self.snapshot.clone(),
            buffers: sim.buffers().clone(),
            waker: sim.waker(),
            stats: self.registry.attach_shard(&format!("worker_{index}")),
            logs: Logs::new(LogBuffers::new(queue.clone(), Duration::from_secs(10)), queue, Arc::new(|| {})),
            limits: Limits { waiting_bytes_max: self.setup.waiting_max, ..Limits::default() },
            seed: self.rng.next_u64(),
            hostname: "sim".into(),
            host_address: None,
            socket_facts: SocketFacts::NONE,
        });
        // One shard accepts; the others get their connections by hand-over.
        let socket = (index == 0).then(|| self.net.listen(self.listen.clone()).expect("a free address"));
        self.tell(index, Message::Know(self.handle.clone(), self.snapshot.listeners[0].clone()));
        if let Some(socket) = socket {
            self.tell(index, Message::Listen(self.handle.clone(), socket));
        }
        self.shards.push((shard, sim, Vec::new()));
    }

    fn add_peers(&mut self) {
        for endpoint in self.endpoints.clone() {
            let rng = Rng::new(self.rng.next_u64());
            let server = if self.setup.http2.upstreams && !self.setup.tunnel {
                Server::Http2(
                    h2::upstream::Upstream::listen(&self.net, endpoint, rng).expect("a free address"),
                )
            } else if self.setup.tunnel {
                let listener = self.net.listen_peer(SocketAddress::Inet(endpoint)).expect("a free address");
                match self.setup.http2.upstreams {
                    true => Server::Http2Pipe(h2::pipe::PipeServer::new(listener, rng)),
                    false => Server::Pipe(PipeServer::new(listener, rng)),
                }
            } else {
                Server::Http(Upstream::listen(&self.net, endpoint, &self.setup, rng).expect("a free address"))
            };
            self.servers.push(server);
            if self.setup.knobs.load_streams {
                let rng = Rng::new(self.rng.next_u64());
                self.reporters.push(Reporter::listen(&self.net, endpoint, rng).expect("a free address"));
            }
        }
        let (clients, now) = (1 + self.rng.below(5), self.net.now());
        for client in 0..clients {
            let rng = Rng::new(self.rng.next_u64());
            let first = (client + 1) * 1000;
            if self.setup.tunnel {
                for id in first..first + 1 + self.rng.below(3) {
                    let bound = self.setup.body_max as u64 * 4;
                    let (up, down) = (self.rng.below(bound) as usize, self.rng.below(bound) as usize);
                    self.ledger
                        .pipes
                        .insert(id, Pipe { up, down, up_whole: false, down_whole: false, harmed: false });
                    let rng = Rng::new(self.rng.next_u64());
                    match self.setup.http2.clients {
                        true => self.http2_pipes.push(h2::pipe::PipeClient::new(id, rng, now)),
                        false => self.pipes.push(PipeClient::new(id, rng, now)),
                    }
                }
                continue;
            }
            let todo: VecDeque<u64> = (first..first + 1 + self.rng.below(10)).collect();
            for id in &todo {
                self.ledger.add(*id, &self.setup, &mut self.rng);
            }
            let patient = self.setup.disturbance == Disturbance::Drain;
            self.clients.push(if self.setup.http2.clients {
                let mut client = h2::client::Client::new(todo, rng, now);
                client.patient = patient;
                Asker::Http2(client)
            } else {
                let mut client = Client::new(todo, &self.setup, rng, now);
                client.patient = patient;
                Asker::Http1(Box::new(client))
            });
        }
    }

    pub(crate) fn tell(&self, shard: usize, message: Message) {
        let sent = self.shared.doors()[shard].send(message).is_ok();
        assert!(sent, "a mailbox is full");
    }

    pub(crate) fn tell_all(&self, message: impl Fn() -> Message) {
        (0..self.setup.shards).for_each(|shard| self.tell(shard, message()));
    }

    /// Until every client has finished.
    fn traffic(&mut self) {
        // A clock that jumps makes every byte count for seconds.
        let factor = match self.setup.plan.clock_jumps > 0 {
            true => 30,
            // A record whose end never comes ends with the idle timeout.
            false if self.setup.tls.faults > 0 => 3,
            false => 1,
        };
        let end = self.net.now() + Duration::from_secs(RUN_SECONDS_MAX * factor);
        while !self.is_done() {
            self.disturb();
            self.turn(self.next_disturbance);
            self.look_at_breakers();
            if self.net.now() > end {
                let clients = self.clients.iter().filter(|c| !c.is_done()).map(Asker::state);
                let pipes = self.pipes.iter().filter(|c| !c.is_done()).map(PipeClient::state);
                let http2 = self.http2_pipes.iter().filter(|c| !c.is_done()).map(h2::pipe::PipeClient::state);
                let stuck: Vec<String> = clients.chain(pipes).chain(http2).collect();
                self.ledger.violation(format!("stuck: {stuck:?}"));
                return;
            }
            if self.ledger.violations.len() > 5 {
                return;
            }
        }
    }

    fn is_done(&self) -> bool {
        self.clients.iter().all(Asker::is_done)
            && self.pipes.iter().all(PipeClient::is_done)
            && self.http2_pipes.iter().all(h2::pipe::PipeClient::is_done)
    }

    /// Lets everything run for some virtual time.
    pub(crate) fn settle(&mut self, time: Duration) {
        let end = self.net.now() + time;
        while self.net.now() < end {
            self.turn(end);
        }
    }

    /// Lets the shards see what has arrived: PINGs may come at any time, and buffers with them.
    pub(crate) fn take_events(&mut self) {
        while self.shards.iter().any(|(_, _, events)| !events.is_empty()) {
            self.turn(self.net.now());
        }
    }

    fn disturb(&mut self) {
        let now = self.net.now();
        if now < self.next_disturbance {
            return;
        }
        self.disturbances += 1;
        let again = self.disturbances < if self.churn.is_some() { 16 } else { 8 };
        let pause = Duration::from_millis(self.rng.below(200));
        self.next_disturbance = if again { now + pause } else { Time::MAX };
        match self.setup.disturbance {
            Disturbance::None => self.next_disturbance = Time::MAX,
            Disturbance::Swap => self.swap(false),
            Disturbance::SwapHard => self.swap(true),
            Disturbance::Churn => self.change(false),
            Disturbance::ChurnHard => self.change(true),
            Disturbance::Pause => {
                let stop_connections = Level::of((again && self.disturbances % 2 == 1).into());
                self.tell_all(|| {
                    Message::Overload(OverloadLevels { stop_connections, ..Default::default() })
                });
            }
            Disturbance::Drain => {
                self.shared.set_draining(Draining::Everything);
                self.tell_all(|| Message::Drain { inbound_only: false });
                self.next_disturbance = Time::MAX;
            }
            Disturbance::Stop => {
                self.tell_all(|| Message::Stop);
                self.next_disturbance = Time::MAX;
            }
        }
    }

    /// One turn of every shard and every peer; virtual time passes up to `until` if nothing is to do.
    pub(crate) fn turn(&mut self, until: Time) {
        let before = self.net.now();
        self.deliver();
        let changes = self.churn.as_ref().map_or(Time::MAX, Churn::next);
        let mut wake = self.poll_peers().min(until).min(changes);
        let mut batches: Vec<Vec<Op>> = Vec::new();
        for at in 0..self.shards.len() {
            let (shard, _, events) = &mut self.shards[at];
            for event in events.iter() {
                if self.verbose {
                    eprintln!("{:?} {at} event {event:?}", self.net.now());
                }
                self.trace = mix(self.trace, hash_event(event));
                if let Event::Relayed { bytes, .. } = event {
                    self.relayed += *bytes as u64;
                }
            }
            let (now, mut ops) = (self.net.now(), Vec::new());
            let woken = events.is_empty() && shard.timeout(now) == Some(Duration::ZERO);
            let wall = WallTime(1_700_000_000_000_000_000 + now.0);
            let running = shard.turn(now, wall, events, &mut ops);
            self.running &= running == Running::Yes;
            for op in &ops {
                if self.verbose {
                    eprintln!("{now:?} {at} op {}", show(op));
                }
                self.trace = mix(self.trace, hash_op(op));
            }
            self.idle_turns += u64::from(woken && ops.is_empty());
            if let Some(timeout) = shard.timeout(now) {
                wake = wake.min(now + timeout);
            }
            batches.push(ops);
        }
        // All but the last only look; time passes once, up to what anybody waits for.
        for (at, ops) in batches.iter_mut().enumerate() {
            let now = self.net.now();
            let (_, sim, events) = &mut self.shards[at];
            let last = at + 1 == self.setup.shards;
            let timeout = if last { wake.since(now) } else { Duration::ZERO };
            sim.turn(ops, Some(timeout), events);
            wake = match (sim.next_due(), events.is_empty()) {
                (_, false) => now,
                (due, true) => due.map_or(wake, |due| wake.min(due)),
            };
        }
        self.count_turn(before);
    }

    fn count_turn(&mut self, before: Time) {
        let idle = Duration::from_secs(IDLE_SECONDS);
        if self.setup.http2.clients && self.net.now() > Time::ZERO + idle {
            let since = Time(self.net.now().0 - idle.as_nanos() as u64);
            self.shards.iter().for_each(|(shard, ..)| shard.assert_http2_idle(since));
        }
        let now = self.net.now();
        self.turns += 1;
        self.turns_at_once = if now == before { self.turns_at_once + 1 } else { 0 };
        if self.turns_at_once > TURNS_AT_ONCE_MAX {
            self.ledger.violation("the loop spins: no time passes");
            // Whoever waits for time to pass must get on.
            self.net.advance(Duration::from_millis(1));
            self.turns_at_once = 0;
        }
    }

    fn poll_peers(&mut self) -> Time {
        let Self { net, setup, ledger, listen, .. } = self;
        net.pump().into_iter().for_each(|text| ledger.violation(text));
        let mut wake = Time::MAX;
        for client in &mut self.clients {
            wake = wake.min(match client {
                Asker::Http1(client) => client.poll(net, listen, setup, ledger),
                Asker::Http2(client) => client.poll(net, listen, setup, ledger),
            });
        }
        for pipe in &mut self.pipes {
            wake = wake.min(pipe.poll(net, listen, setup, ledger));
        }
        for pipe in &mut self.http2_pipes {
            wake = wake.min(pipe.poll(net, listen, setup, ledger));
        }
        for server in &mut self.servers {
            wake = wake.min(match server {
                Server::Http(upstream) => upstream.poll(net, setup, ledger),
                Server::Http2(upstream) => upstream.poll(net, setup, ledger),
                Server::Pipe(pipe) => pipe.poll(net, setup, ledger),
                Server::Http2Pipe(pipe) => pipe.poll(net, setup, ledger),
            });
        }
        for reporter in &mut self.reporters {
            wake = wake.min(reporter.poll(net, setup, ledger));
        }
        wake.min(net.wake())
    }

    fn report(mut self) -> Report {
        let seconds = self.net.now().0 / 1_000_000_000;
        let most = seconds * IDLE_TURNS_PER_SECOND_MAX * self.setup.shards as u64;
        if self.idle_turns > 200 + most {
            let text = format!("{} idle turns of {} in {seconds} s", self.idle_turns, self.turns);
            self.ledger.violation(text);
        }
        let requests = self.ledger.requests.values();
        let answered = requests.filter(|r| matches!(r.outcome, Some(crate::ledger::Outcome::Answered(_))));
        let whole = self.ledger.pipes.values().filter(|p| p.up_whole && p.down_whole);
        let good = answered.count() + whole.count();
        let all = self.ledger.requests.len() + self.ledger.pipes.len();
        let outcomes = format!("{:?}{:?}{:?}", self.ledger.requests, self.ledger.pipes, self.net.now());
        let trace = outcomes.bytes().fold(self.trace, |hash, byte| mix(hash, u64::from(byte)));
        Report {
            trace,
            violations: self.ledger.violations,
            good,
            all,
            turns: self.turns,
            relayed: self.relayed,
            tls: self.net.wire().map(|mut wire| wire.take_seen()).unwrap_or_default(),
        }
    }
}
