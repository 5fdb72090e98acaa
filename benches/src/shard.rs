//! Whole requests through a real shard on the simulated network.
//!
//! Peers are as simple as they can be: whoever is asked answers at once, with zero latency. One round of a
//! [`World`] is everything from the clients' writes to the last `Sent` of their answers. Only [`counted_turn`]
//! belongs to the figure.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Limits, Time, WallTime};
use millrace_config::format::{DEFAULT_ACCESS_LOG, Template};
use millrace_config::{
    AccessLog, AccessLogFormat, AccessLogSink, Cluster, FilterChain, FilterConfigId, HeaderMutations,
    HealthCheck, HealthCheckIntervals, HealthCheckKind, HttpConnectionManager, HttpFilter, HttpFilterKind,
    HttpHealthCheck, Listener, NetworkFilter, Snapshot,
};
use millrace_observe::access_log::{LogBuffers, LogQueue};
use millrace_observe::stats::Registry;
use millrace_ring::sim::{FaultPlan, Peer, PeerListener, PeerRead, Sim, SimNet};
use millrace_ring::{Config, Event, Op, SocketAddress};
use millrace_shard::shared::{ListenerHandle, Message, Shared};
use millrace_shard::{Logs, Running, Shard, ShardParts, SocketFacts};
use millrace_sim::fixture::{self, Mode};

use crate::heads::{MESH, RESPONSE, SMALL};
use crate::{Bench, Routine, repeat, shard_filters};

/// Connections of the batched benches.
const MANY: usize = 32;
/// Rounds before anything counts: connections are open, vectors have grown.
const WARM_UP: u64 = 50;
/// Virtual time between rounds.
const PAUSE: Duration = Duration::from_micros(50);
/// Time between two health checks.
const INTERVAL: Duration = Duration::from_millis(10);

const SMALL_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";

pub(crate) const BENCHES: &[Bench] = &[
    Bench::new(
        "shard/http_get",
        "one keep-alive GET, curl's head, 5 bytes back; one connection, so 4 turns a request",
        || http(1, false),
    )
    .in_turn(),
    Bench::new(
        "shard/http_get_x32",
        "the same on 32 connections at once, so 4 turns for 32 requests",
        || http(MANY, false),
    )
    .of(MANY as u64)
    .in_turn(),
    Bench::new(
        "shard/http_get_mesh_x32",
        "20 fields, 1 KiB back with 9 fields, access log on; 32 connections at once",
        || http(MANY, true),
    )
    .of(MANY as u64)
    .in_turn(),
    Bench::new(
        "shard/http_get_filters_x32",
        "shard/http_get_x32 with ten HTTP filters that find nothing to do: at most 15 % more",
        || rounds(World::new(Mode::Http, with_idle_filters, SMALL.to_vec(), SMALL_ANSWER.to_vec()), MANY),
    )
    .of(MANY as u64)
    .in_turn(),
    Bench::new(
        "shard/http_get_working_filters_x32",
        "shard/http_get_x32 with ten filters of a mesh that look at each request and decide",
        || rounds(World::new(Mode::Http, with_working_filters, SMALL.to_vec(), SMALL_ANSWER.to_vec()), MANY),
    )
    .of(MANY as u64)
    .in_turn(),
    Bench::new("shard/tcp_round_trip", "128 bytes through the TCP proxy and back; one connection", || tcp(1))
        .in_turn(),
    Bench::new("shard/tcp_round_trip_x32", "the same on 32 connections at once", || tcp(MANY))
        .of(MANY as u64)
        .in_turn(),
    Bench::new(
        "shard/health_check",
        "one active check over HTTP/1.1 on a connection that stays, from its timer to the next one's",
        health_check,
    )
    .in_turn(),
];

/// One turn of the shard. `counts` has callgrind collect within this function only, so it must stay one.
#[inline(never)]
fn counted_turn(
    shard: &mut Shard,
    now: Time,
    wall: WallTime,
    events: &mut Vec<Event>,
    ops: &mut Vec<Op>,
) -> Running {
    shard.turn(now, wall, events, ops)
}

struct World {
    net: SimNet,
    shard: Shard,
    sim: Sim,
    events: Vec<Event>,
    ops: Vec<Op>,
    listen: SocketAddress,
    endpoint: PeerListener,
    clients: Vec<Peer>,
    servers: Vec<Peer>,
    question: Vec<u8>,
    answer: Vec<u8>,
    queue: Arc<LogQueue>,
    answered: usize,
    received: usize,
}

fn access_log() -> AccessLog {
    let format = AccessLogFormat::Text(Template::parse(DEFAULT_ACCESS_LOG).expect("the default"));
    AccessLog { sink: AccessLogSink::Stdout, format, filter: None }
}

/// Puts filters in front of the router.
fn with_filters(snapshot: Snapshot, kinds: Vec<HttpFilterKind>) -> Snapshot {
    with_manager(snapshot, |manager| {
        for (at, kind) in kinds.into_iter().enumerate() {
            let name = format!("envoy.filters.http.number_{at}").into();
            let filter = HttpFilter { name, id: FilterConfigId(at as u16), disabled: false, kind };
            manager.http_filters.insert(at, filter);
        }
    })
}

fn with_idle_filters(snapshot: Snapshot, registry: &Registry) -> Snapshot {
    with_filters(snapshot, shard_filters::idle(registry))
}

fn with_working_filters(snapshot: Snapshot, registry: &Registry) -> Snapshot {
    with_filters(snapshot, shard_filters::working(registry))
}

fn with_checks(mut snapshot: Snapshot, _: &Registry) -> Snapshot {
    let kind = HealthCheckKind::Http(Box::new(HttpHealthCheck {
        host: "".into(),
        path: "/healthz".into(),
        method: "GET",
        send: Vec::new(),
        receive: Vec::new(),
        response_bytes: Some(1024),
        headers: HeaderMutations::default(),
        expected: vec![(200, 201)],
        retriable: Vec::new(),
        http2: false,
        service_name: None,
    }));
    let check = HealthCheck {
        fingerprint: 1,
        timeout: Duration::from_secs(1),
        intervals: HealthCheckIntervals {
            interval: INTERVAL,
            no_traffic: INTERVAL,
            no_traffic_healthy: INTERVAL,
            unhealthy: INTERVAL,
            unhealthy_edge: INTERVAL,
            healthy_edge: INTERVAL,
            initial_jitter: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_percent: 0,
        },
        unhealthy_threshold: 2,
        healthy_threshold: 2,
        reuse_connection: true,
        always_log_failures: false,
        always_log_success: false,
        event_logs: Vec::new(),
        alpn: None,
        transport_match: None,
        kind,
        ignore_health_on_removal: false,
        ignore_new_hosts: false,
    };
    let cluster = snapshot.clusters.iter().flatten().next().expect("the cluster");
    let cluster = Cluster { health_check: Some(Arc::new(check)), ..Cluster::clone(cluster) };
    snapshot.clusters = vec![Some(Arc::new(cluster))];
    snapshot
}

fn with_access_log(snapshot: Snapshot, _: &Registry) -> Snapshot {
    with_manager(snapshot, |manager| manager.access_logs = vec![Arc::new(access_log())])
}

/// Changes the only connection manager.
fn with_manager(mut snapshot: Snapshot, change: impl FnOnce(&mut HttpConnectionManager)) -> Snapshot {
    let listener = &snapshot.listeners[0];
    let chain = &listener.filter_chains[0];
    let NetworkFilter::HttpConnectionManager(manager) = &chain.filters[0] else { return snapshot };
    let mut manager = (**manager).clone();
    change(&mut manager);
    let filters = vec![NetworkFilter::HttpConnectionManager(Arc::new(manager))];
    let chain = FilterChain { filters, ..(**chain).clone() };
    let listener = Listener { filter_chains: vec![Arc::new(chain)], ..(**listener).clone() };
    snapshot.listeners = vec![Arc::new(listener)];
    snapshot
}

impl World {
    fn new(
        mode: Mode,
        adapt: fn(Snapshot, &Registry) -> Snapshot,
        question: Vec<u8>,
        answer: Vec<u8>,
    ) -> Self {
        let plan = FaultPlan { latency: (Duration::ZERO, Duration::ZERO), ..FaultPlan::default() };
        let net = SimNet::new(1, plan);
        let registry = Registry::new();
        let (listen, endpoint) = (([10, 0, 0, 1], 8080).into(), ([10, 0, 1, 1], 9000).into());
        let snapshot = Arc::new(adapt(fixture::snapshot(&registry, mode, listen, &[endpoint]), &registry));
        let sim = Sim::open(&net, &Config { buffers: 256, ..Config::default() }).expect("memory for buffers");
        let (shared, queue) = (Arc::new(Shared::new(1)), LogQueue::new(4));
        let shard = Shard::new(ShardParts {
            index: 0,
            shared: shared.clone(),
            snapshot: snapshot.clone(),
            buffers: sim.buffers().clone(),
            waker: sim.waker(),
            stats: registry.attach_shard("worker_0"),
            logs: Logs::new(
                LogBuffers::new(queue.clone(), Duration::from_secs(10)),
                queue.clone(),
                Arc::new(|| {}),
            ),
            limits: Limits::default(),
            seed: 1,
            hostname: "bench".into(),
            host_address: None,
            socket_facts: SocketFacts::NONE,
        });
        let listen = SocketAddress::Inet(listen);
        let socket = net.listen(listen.clone()).expect("a free address");
        let listener = snapshot.listeners[0].clone();
        let handle = ListenerHandle::new(&listener.name);
        for message in [Message::Know(handle.clone(), listener), Message::Listen(handle, socket)] {
            assert!(shared.doors()[0].send(message).is_ok(), "an empty mailbox takes a message");
        }
        let endpoint = net.listen_peer(SocketAddress::Inet(endpoint)).expect("a free address");
        Self {
            net,
            shard,
            sim,
            events: Vec::new(),
            ops: Vec::new(),
            listen,
            endpoint,
            clients: Vec::new(),
            servers: Vec::new(),
            question,
            answer,
            queue,
            answered: 0,
            received: 0,
        }
    }

    fn connect(&mut self, clients: usize) {
        self.step();
        for _ in 0..clients {
            self.clients.push(self.net.connect(&self.listen).expect("the shard listens"));
        }
        while self.step() {}
    }

    /// One turn if there is anything to do, then the kernel's. False when nothing is left to do.
    fn step(&mut self) -> bool {
        let now = self.net.now();
        let wall = WallTime(1_700_000_000_000_000_000 + now.0);
        let running = counted_turn(&mut self.shard, now, wall, &mut self.events, &mut self.ops);
        assert!(running == Running::Yes, "nobody stops the shard");
        self.sim.turn(&mut self.ops, Some(Duration::ZERO), &mut self.events);
        self.serve();
        if self.events.is_empty() {
            // Answers reach the shard in a turn of their own, behind the `Sent` of the question.
            self.sim.turn(&mut self.ops, Some(Duration::ZERO), &mut self.events);
        }
        !self.events.is_empty() || self.shard.timeout(now) == Some(Duration::ZERO)
    }

    /// Endpoints answer what they have received in full.
    fn serve(&mut self) {
        while let Some(peer) = self.net.accept(self.endpoint) {
            self.servers.push(peer);
        }
        for peer in &self.servers {
            if let PeerRead::Bytes(bytes) = self.net.read(*peer, usize::MAX) {
                assert!(bytes.len() >= self.question.len(), "a question comes in one piece");
                self.net.write(*peer, &self.answer).expect("the shard is there");
                self.answered += 1;
            }
        }
    }

    /// Every client asks and gets its answer.
    fn round(&mut self) {
        self.net.advance(PAUSE);
        (self.answered, self.received) = (0, 0);
        for client in &self.clients {
            self.net.write(*client, &self.question).expect("the shard is there");
        }
        self.sim.turn(&mut self.ops, Some(Duration::ZERO), &mut self.events);
        while self.step() {}
        for client in &self.clients {
            if let PeerRead::Bytes(bytes) = self.net.read(*client, usize::MAX) {
                assert!(bytes.ends_with(&self.answer[self.answer.len() - 5..]), "the whole answer");
                self.received += 1;
            }
        }
        assert_eq!((self.answered, self.received), (self.clients.len(), self.clients.len()));
        // Nobody writes the lines: a full queue is the cheapest writer, and the shard may not notice.
        let _ = self.queue.take_dropped();
    }
}

fn rounds(mut world: World, clients: usize) -> Routine {
    world.connect(clients);
    for _ in 0..WARM_UP {
        world.round();
    }
    repeat(move || world.round())
}

fn http(clients: usize, mesh: bool) -> Routine {
    let (question, answer) = match mesh {
        false => (SMALL.to_vec(), SMALL_ANSWER.to_vec()),
        true => (MESH.to_vec(), [RESPONSE, &[b'x'; 1024]].concat()),
    };
    let adapt: fn(Snapshot, &Registry) -> Snapshot =
        if mesh { with_access_log } else { |snapshot, _| snapshot };
    rounds(World::new(Mode::Http, adapt, question, answer), clients)
}

fn health_check() -> Routine {
    let mut world = World::new(Mode::Http, with_checks, Vec::new(), SMALL_ANSWER.to_vec());
    let mut check = move || {
        world.net.advance(INTERVAL * 2);
        world.answered = 0;
        while world.step() {}
        assert_eq!(world.answered, 1, "one check");
    };
    for _ in 0..WARM_UP {
        check();
    }
    repeat(check)
}

fn tcp(clients: usize) -> Routine {
    rounds(World::new(Mode::Tcp, |snapshot, _| snapshot, vec![b'q'; 128], vec![b'a'; 128]), clients)
}
