//! A test bed for one thing at a time, and one step after the other; [`crate::world`] is for everything at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Limits, WallTime};
use millrace_config::{Address, Listener, ListenerChange, Snapshot, Update};
use millrace_observe::access_log::{LogBuffers, LogQueue};
use millrace_observe::stats::Registry;
use millrace_ring::sim::{FaultPlan, Peer, PeerListener, PeerRead, Sim, SimNet};
use millrace_ring::{Config, Event, SocketAddress};
use millrace_shard::shared::{ListenerHandle, Message, Shared};
use millrace_shard::{Logs, Shard, ShardParts, SocketFacts};

use crate::fixture::{self, Mode};
use crate::net::Net;
use crate::tls::identity::{OURS, certificate, configure};
use crate::tls::{Speaks, Tls};

/// Long enough for an answer.
pub const SOON: Duration = Duration::from_millis(20);

/// A shard or more, one endpoint, and a hand on everything.
#[derive(Debug)]
pub struct Bed {
    /// The network.
    pub net: Net,
    /// What the shards share.
    pub shared: Arc<Shared>,
    /// The shards.
    pub shards: Vec<(Shard, Sim, Vec<Event>)>,
    /// The configuration in force.
    pub snapshot: Snapshot,
    /// The listener that was opened last.
    pub handle: Arc<ListenerHandle>,
    /// Where it listens.
    pub listen: SocketAddress,
    upstream: PeerListener,
    /// Connections that it has.
    pub servers: Vec<Peer>,
    /// Endpoints keep silent.
    pub silent: bool,
    /// What they answer to a request.
    pub answer: Vec<u8>,
    /// Requests that they have answered.
    pub answered: usize,
}

impl Bed {
    /// Shard 0 accepts for all.
    pub fn new(mode: Mode, shards: usize, change: impl FnOnce(&mut Snapshot)) -> Self {
        Self::secure(mode, shards, Tls::default(), change)
    }

    /// As [`Bed::new`], with TLS.
    pub fn secure(mode: Mode, shards: usize, tls: Tls, change: impl FnOnce(&mut Snapshot)) -> Self {
        let alpn: Option<&'static [u8]> = (mode != Mode::Tcp).then_some(b"http/1.1");
        let net =
            Net::new(SimNet::new(1, FaultPlan::default()), tls, Speaks { clients: alpn, endpoints: alpn });
        let registry = Registry::new();
        let (listen, endpoint) =
            (SocketAddr::from(([10, 0, 0, 1], 8080)), SocketAddr::from(([10, 0, 1, 1], 9000)));
        let mut snapshot = fixture::snapshot(&registry, mode, listen, &[endpoint]);
        configure(&mut snapshot, &tls, alpn);
        change(&mut snapshot);
        let shared = Arc::new(Shared::new(shards));
        let first = Arc::new(snapshot.clone());
        let shard = |index: usize| {
            let sim = Sim::open(&net, &Config { buffers: 16, ..Config::default() }).expect("memory");
            let queue = LogQueue::new(4);
            let logs = LogBuffers::new(queue.clone(), Duration::from_secs(10));
            let shard = Shard::new(ShardParts {
                index,
                shared: shared.clone(),
                snapshot: first.clone(),
                buffers: sim.buffers().clone(),
                waker: sim.waker(),
                stats: registry.attach_shard(&format!("worker_{index}")),
                logs: Logs::new(logs, queue, Arc::new(|| {})),
                limits: Limits::default(),
                seed: index as u64,
                hostname: "sim".into(),
                host_address: None,
                socket_facts: SocketFacts::NONE,
            });
            (shard, sim, Vec::new())
        };
        let shards = (0..shards).map(shard).collect();
        let upstream = net.listen_peer(SocketAddress::Inet(endpoint)).expect("a free address");
        let mut bed = Self {
            handle: ListenerHandle::new(&snapshot.listeners[0].name),
            listen: SocketAddress::Inet(listen),
            servers: Vec::new(),
            silent: false,
            answer: b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(),
            answered: 0,
            net,
            shared,
            shards,
            snapshot,
            upstream,
        };
        bed.open(bed.listener());
        bed
    }

    /// The listener of the configuration.
    pub fn listener(&self) -> Arc<Listener> {
        self.snapshot.listeners[0].clone()
    }

    /// Makes a listener known everywhere and opens its socket.
    pub fn open(&mut self, listener: Arc<Listener>) {
        let Address::Inet(address) = &listener.addresses[0] else { return };
        self.listen = SocketAddress::Inet(*address);
        let socket = self.net.listen(self.listen.clone()).expect("a free address");
        self.tell_all(|bed| Message::Know(bed.handle.clone(), listener.clone()));
        self.tell(0, Message::Listen(self.handle.clone(), socket));
        self.run(SOON);
    }

    /// Sends a message to one shard.
    pub fn tell(&self, shard: usize, message: Message) {
        assert!(self.shared.doors()[shard].send(message).is_ok(), "a mailbox is full");
    }

    /// Sends a message to every shard.
    pub fn tell_all(&self, message: impl Fn(&Self) -> Message) {
        (0..self.shards.len()).for_each(|shard| self.tell(shard, message(self)));
    }

    /// Changes the configuration everywhere.
    pub fn update(&mut self, update: Update) {
        self.snapshot.apply(&update);
        let update = Arc::new(update);
        self.tell_all(|_| Message::Update(update.clone()));
        self.run(SOON);
    }

    /// Gives the proxy the certificate with this number.
    pub fn rotate(&mut self, number: u64) {
        self.update(Update { secrets: vec![(OURS, Some(certificate(number)))], ..Update::default() });
        if let Some(mut wire) = self.net.wire() {
            wire.rotated(number, self.net.now());
        }
    }

    /// Changes a listener everywhere.
    pub fn change_listener(&mut self, change: ListenerChange) {
        self.update(Update { listeners: vec![change], ..Update::default() });
    }

    /// Lets virtual time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.net.now() + time;
        while self.net.now() < end {
            for (shard, sim, events) in &mut self.shards {
                let mut ops = Vec::new();
                let now = self.net.now();
                shard.turn(now, WallTime(1_700_000_000_000_000_000 + now.0), events, &mut ops);
                sim.turn(&mut ops, Some(Duration::ZERO), events);
            }
            let wrong = self.net.pump();
            assert!(wrong.is_empty(), "{wrong:?}");
            self.serve();
            self.net.advance(Duration::from_micros(500));
        }
    }

    /// The endpoint: answers what looks like a request, and echoes everything else.
    fn serve(&mut self) {
        while let Some(peer) = self.net.accept(self.upstream) {
            self.servers.push(peer);
        }
        for peer in self.servers.iter().filter(|_| !self.silent) {
            if let PeerRead::Bytes(bytes) = self.net.read(*peer, usize::MAX) {
                let asked = bytes.starts_with(b"GET");
                self.answered += usize::from(asked);
                let bytes = if asked { self.answer.clone() } else { bytes };
                self.net.write(*peer, &bytes).expect("the shard is there");
            }
        }
    }

    /// Opens a connection to the listener.
    ///
    /// # Panics
    /// Nobody listens.
    pub fn connect(&mut self) -> Peer {
        let peer = self.net.connect(&self.listen).expect("a listener");
        self.run(SOON);
        peer
    }

    /// What comes back for these bytes.
    pub fn ask(&mut self, peer: Peer, bytes: &[u8]) -> String {
        self.net.write(peer, bytes).expect("an open connection");
        self.run(SOON);
        self.read(peer)
    }

    /// What has come; `FIN` and `RST` for the ends.
    pub fn read(&self, peer: Peer) -> String {
        match self.net.read(peer, usize::MAX) {
            PeerRead::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            PeerRead::Nothing => String::new(),
            PeerRead::Eof => "FIN".into(),
            PeerRead::Reset => "RST".into(),
        }
    }

    /// Everything has come home after a while.
    pub fn asserts_nothing_left(&mut self) {
        self.run(Duration::from_secs(8));
        for (shard, ..) in &self.shards {
            shard.assert_quiescent();
        }
    }
}
