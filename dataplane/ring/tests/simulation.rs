//! The simulator itself: same seed, same run; faults happen; the contract's loose ends are really loose.
#![cfg(test)]

use millrace_base::Rng;
use millrace_ring::sim::{FaultPlan, Peer, PeerRead, Sim, SimNet};
use millrace_ring::sockets::SocketInfo;
use millrace_ring::{Config, Event, IoErrorKind, Op, Payload, RecvEnd, Socket, SocketAddress, Token};
use std::collections::BTreeMap;
use std::time::Duration;

fn address(text: &str) -> SocketAddress {
    SocketAddress::Inet(text.parse().unwrap())
}

/// An echo server on the simulator, talked to by a few clients; returns its log of events.
struct Echo {
    net: SimNet,
    sim: Sim,
    listener: Socket,
    ops: Vec<Op>,
    sockets: BTreeMap<u64, Socket>,
    backlog: BTreeMap<u64, Payload>,
    sending: BTreeMap<u64, Token>,
    next: u64,
    log: Vec<String>,
}

impl Echo {
    fn new(seed: u64, plan: FaultPlan) -> Self {
        let net = SimNet::new(seed, plan);
        let sim = Sim::open(&net, &Config { buffers: 8, ..Config::default() }).unwrap();
        let listener = net.listen(address("10.0.0.1:80")).unwrap();
        let ops = vec![Op::Accept { listener, token: Token(0) }];
        let (sockets, backlog, sending) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { net, sim, listener, ops, sockets, backlog, sending, next: 1, log: Vec::new() }
    }

    fn turn(&mut self) {
        let mut events = Vec::new();
        self.sim.turn(&mut self.ops, Some(Duration::from_millis(1)), &mut events);
        for event in events {
            self.log.push(format!("{} {event:?}", self.net.now().0));
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Accepted { result: Ok(accepted), .. } => {
                self.sockets.insert(self.next, accepted.socket);
                self.ops.push(Op::Recv { socket: accepted.socket, token: Token(self.next) });
                self.next += 1;
            }
            Event::Accepted { more, .. } => {
                assert!(!more);
                self.ops.push(Op::Accept { listener: self.listener, token: Token(0) });
            }
            Event::Received { token, data } if self.sockets.contains_key(&token.0) => {
                self.backlog.entry(token.0).or_default().push_buffer(data);
                self.flush(token.0);
            }
            Event::Sent { token, result, .. } if self.sending.remove(&token.0).is_some() => match result {
                Ok(_) => self.flush(token.0),
                Err(_) => self.close(token.0),
            },
            Event::RecvEnded { token, .. } => self.close(token.0),
            _ => {}
        }
    }

    fn flush(&mut self, key: u64) {
        if self.sending.contains_key(&key) {
            return;
        }
        if let (Some(payload), Some(socket)) = (self.backlog.remove(&key), self.sockets.get(&key)) {
            self.sending.insert(key, Token(key));
            self.ops.push(Op::Send { socket: *socket, token: Token(key), payload });
        }
    }

    fn close(&mut self, key: u64) {
        self.backlog.remove(&key);
        if let Some(socket) = self.sockets.remove(&key) {
            self.ops.push(Op::Close { socket, reset: false });
        }
    }
}

/// One run: clients write random text and read it back. Returns the log and how many clients got all of it.
fn run(seed: u64, plan: FaultPlan) -> (Vec<String>, usize) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let mut echo = Echo::new(seed, plan);
    let mut complete = 0;
    for _ in 0..10 {
        let client = echo.net.connect(&address("10.0.0.1:80")).unwrap();
        let text: Vec<u8> = (0..rng.below(20_000)).map(|_| rng.next_u64() as u8).collect();
        let got = exchange(&mut echo, client, &text);
        assert!(text.starts_with(&got), "nothing but what was written comes back");
        complete += usize::from(got == text);
        echo.net.close(client);
    }
    for _ in 0..500 {
        echo.turn();
    }
    assert!(echo.sockets.is_empty(), "every connection ended");
    echo.ops.push(Op::Close { socket: echo.listener, reset: false });
    echo.turn();
    echo.turn();
    assert_eq!(echo.net.open_count(), 0);
    assert_eq!(echo.sim.buffers().outstanding(), 0);
    (echo.log, complete)
}

fn exchange(echo: &mut Echo, client: Peer, text: &[u8]) -> Vec<u8> {
    let (mut written, mut got) = (0, Vec::new());
    for _ in 0..20_000 {
        if got.len() == text.len() {
            break;
        }
        if let Ok(count) = echo.net.write(client, &text[written..]) {
            written += count;
        }
        echo.turn();
        match echo.net.read(client, 1000) {
            PeerRead::Nothing => {}
            PeerRead::Bytes(bytes) => got.extend(bytes),
            PeerRead::Eof | PeerRead::Reset => break,
        }
    }
    got
}

#[test]
fn same_seed_same_run() {
    for seed in 0..10 {
        assert_eq!(run(seed, FaultPlan::rough()), run(seed, FaultPlan::rough()));
    }
    assert_ne!(run(1, FaultPlan::rough()).0, run(2, FaultPlan::rough()).0);
}

#[test]
fn a_choppy_network_loses_nothing() {
    for seed in 0..20 {
        assert_eq!(run(seed, FaultPlan::choppy()).1, 10, "seed {seed}");
    }
}

#[test]
fn a_rough_network_does_every_kind_of_harm() {
    let (mut log, mut complete) = (Vec::new(), 0);
    for seed in 0..40 {
        let (more, count) = run(seed, FaultPlan::rough());
        log.extend(more);
        complete += count;
    }
    assert!(complete > 100 && complete < 400, "{complete} of 400");
    for harm in ["Connection reset by peer", "Too many open files", "Eof"] {
        assert!(log.iter().any(|line| line.contains(harm)), "no {harm}");
    }
}

#[test]
fn connects_fail_as_planned() {
    for (plan, kind) in [
        (FaultPlan { connect_refused: 1000, ..FaultPlan::default() }, IoErrorKind::Refused),
        (FaultPlan { connect_timeouts: 1000, ..FaultPlan::default() }, IoErrorKind::TimedOut),
    ] {
        let wait = if kind == IoErrorKind::TimedOut { plan.connect_timeout_after } else { Duration::ZERO };
        let net = SimNet::new(5, plan);
        let mut sim = Sim::open(&net, &Config::default()).unwrap();
        net.listen_peer(address("10.0.0.2:80")).unwrap();
        let start = net.now();
        let mut ops =
            vec![Op::Connect { token: Token(9), address: address("10.0.0.2:80"), options: Box::default() }];
        let mut events = Vec::new();
        sim.turn(&mut ops, None, &mut events);
        let [Event::Connected { token: Token(9), result: Err(error) }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(error.kind(), kind);
        assert!(net.now() - start >= wait);
    }
}

#[test]
fn late_events_come_after_the_id_is_reused() {
    let net = SimNet::new(6, FaultPlan { late_events: 1000, ..FaultPlan::default() });
    let mut sim = Sim::open(&net, &Config::default()).unwrap();
    let listener = net.listen(address("10.0.0.1:80")).unwrap();
    let mut ops = vec![Op::Accept { listener, token: Token(0) }];
    let mut events = Vec::new();
    let original = address("192.0.2.1:443");
    let first = net.connect_redirected(&address("10.0.0.1:80"), original.clone()).unwrap();
    sim.turn(&mut ops, None, &mut events);
    let Some(Event::Accepted { result: Ok(accepted), .. }) = events.pop() else { panic!() };
    assert_eq!(net.original_dst(accepted.socket), Ok(original));
    assert_eq!(net.local_address(accepted.socket), Ok(address("10.0.0.1:80")));
    assert_eq!(net.peer_address(accepted.socket), Ok(accepted.peer));
    ops.push(Op::Recv { socket: accepted.socket, token: Token(1) });
    ops.push(Op::Close { socket: accepted.socket, reset: false });
    sim.turn(&mut ops, Some(Duration::ZERO), &mut events);
    net.close(first);
    net.connect(&address("10.0.0.1:80")).unwrap();
    sim.turn(&mut ops, Some(Duration::ZERO), &mut events);
    let Some(Event::Accepted { result: Ok(again), .. }) = events.pop() else { panic!() };
    ops.push(Op::Recv { socket: again.socket, token: Token(2) });
    for _ in 0..10 {
        sim.turn(&mut ops, Some(Duration::from_millis(1)), &mut events);
    }
    assert!(matches!(&events[0], Event::Received { token: Token(1), .. }));
    assert!(matches!(&events[1], Event::RecvEnded { token: Token(1), reason: RecvEnd::Error(_) }));
    assert_eq!(events.len(), 2);
}
