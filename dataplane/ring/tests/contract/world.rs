//! A little event loop for the cases: it records what every token saw. Both ends of each connection live on
//! the back end under test.

use millrace_base::Time;
use millrace_ring::sim::{Sim, SimNet};
use millrace_ring::{
    Backend, BufferPool, ConnectOptions, Event, IoError, Op, Payload, RecvEnd, RelayEnd, Socket,
    SocketAddress, Token, Waker, sockets,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A back end as the cases see it.
pub trait Io {
    fn turn(&mut self, ops: &mut Vec<Op>, timeout: Option<Duration>, events: &mut Vec<Event>);
    fn listen(&mut self) -> (Socket, SocketAddress);
    fn buffers(&self) -> BufferPool;
    fn waker(&self) -> Waker;
    /// Releases a socket without the back end's help.
    fn close(&mut self, socket: Socket);
    /// Time the back end lives in.
    fn elapsed(&self) -> Duration;
}

pub struct Kernel(pub Backend);

impl Io for Kernel {
    fn turn(&mut self, ops: &mut Vec<Op>, timeout: Option<Duration>, events: &mut Vec<Event>) {
        self.0.turn(ops, timeout, events).unwrap();
        assert!(ops.is_empty());
    }

    fn listen(&mut self) -> (Socket, SocketAddress) {
        let any = SocketAddress::Inet("127.0.0.1:0".parse().unwrap());
        let socket = sockets::listen(&any, &sockets::ListenOptions::default()).unwrap();
        (socket, sockets::local_address(socket).unwrap())
    }

    fn buffers(&self) -> BufferPool {
        self.0.buffers().clone()
    }

    fn waker(&self) -> Waker {
        self.0.waker()
    }

    fn close(&mut self, socket: Socket) {
        sockets::close(socket);
    }

    fn elapsed(&self) -> Duration {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

pub struct Simulated {
    pub sim: Sim,
    pub net: SimNet,
}

impl Io for Simulated {
    fn turn(&mut self, ops: &mut Vec<Op>, timeout: Option<Duration>, events: &mut Vec<Event>) {
        self.sim.turn(ops, timeout, events);
        assert!(ops.is_empty());
    }

    fn listen(&mut self) -> (Socket, SocketAddress) {
        let address = SocketAddress::Inet("127.0.0.1:80".parse().unwrap());
        (self.net.listen(address.clone()).unwrap(), address)
    }

    fn buffers(&self) -> BufferPool {
        self.sim.buffers().clone()
    }

    fn waker(&self) -> Waker {
        self.sim.waker()
    }

    fn close(&mut self, socket: Socket) {
        self.net.close_socket(socket);
    }

    fn elapsed(&self) -> Duration {
        self.net.now() - Time::ZERO
    }
}

/// What one token saw.
#[derive(Default, Debug)]
pub struct Seen {
    pub bytes: Vec<u8>,
    pub ended: Vec<RecvEnd>,
    pub sent: Vec<Result<usize, IoError>>,
    pub connected: Vec<Result<Socket, IoError>>,
    pub accept_errors: Vec<IoError>,
    pub relayed: usize,
    pub relay_ends: Vec<RelayEnd>,
}

pub struct World {
    pub io: Box<dyn Io>,
    pub ops: Vec<Op>,
    pub seen: BTreeMap<u64, Seen>,
    pub accepted: Vec<Socket>,
    pub wakes: usize,
    spare: Vec<Payload>,
    open: Vec<Socket>,
    next_token: u64,
}

/// Longest wait for anything, in the back end's own time.
const PATIENCE: Duration = Duration::from_secs(30);

impl World {
    pub fn new(io: Box<dyn Io>) -> Self {
        Self {
            io,
            ops: Vec::new(),
            seen: BTreeMap::new(),
            accepted: Vec::new(),
            wakes: 0,
            spare: Vec::new(),
            open: Vec::new(),
            next_token: 1 << 32,
        }
    }

    pub fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub fn seen(&mut self, token: Token) -> &mut Seen {
        self.seen.entry(token.0).or_default()
    }

    /// One turn; records its events.
    pub fn turn(&mut self, timeout: Duration) {
        let mut events = Vec::new();
        self.io.turn(&mut self.ops, Some(timeout), &mut events);
        for event in events {
            match event {
                Event::Accepted { result: Ok(accepted), .. } => {
                    self.open.push(accepted.socket);
                    self.accepted.push(accepted.socket);
                }
                Event::Accepted { token, result: Err(error), more } => {
                    assert!(!more);
                    self.seen(token).accept_errors.push(error);
                }
                Event::Connected { token, result } => {
                    self.open.extend(result.ok());
                    self.seen(token).connected.push(result);
                }
                Event::Received { token, data } => {
                    assert!(!data.is_empty());
                    let seen = self.seen(token);
                    assert!(seen.ended.is_empty(), "bytes after the end");
                    seen.bytes.extend_from_slice(&data);
                }
                Event::RecvEnded { token, reason } => {
                    let seen = self.seen(token);
                    assert!(seen.ended.is_empty(), "two ends");
                    seen.ended.push(reason);
                }
                Event::Sent { token, result, payload } => {
                    assert!(payload.is_empty());
                    self.spare.push(payload);
                    self.seen(token).sent.push(result);
                }
                Event::Relayed { token, bytes, sink_full, end } => {
                    let seen = self.seen(token);
                    assert!(seen.relay_ends.is_empty(), "a report after the end");
                    assert!(bytes > 0 || sink_full || end.is_some(), "a report of nothing");
                    seen.relayed += bytes;
                    seen.relay_ends.extend(end);
                }
                Event::Wake => self.wakes += 1,
            }
        }
    }

    /// Turns until the condition holds.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = self.io.elapsed();
        while !done(self) {
            assert!(self.io.elapsed() - start < PATIENCE, "waited in vain until {what}");
            self.turn(Duration::from_millis(50));
        }
    }

    /// A few idle turns: nothing more is expected.
    pub fn settle(&mut self) {
        for _ in 0..5 {
            self.turn(Duration::from_millis(2));
        }
    }

    pub fn listen(&mut self) -> (Socket, SocketAddress) {
        let (listener, address) = self.io.listen();
        self.open.push(listener);
        self.accept(listener);
        (listener, address)
    }

    pub fn accept(&mut self, listener: Socket) {
        let token = self.token();
        self.ops.push(Op::Accept { listener, token });
    }

    pub fn start_connect(&mut self, address: &SocketAddress) -> Token {
        let token = self.token();
        let options = Box::new(ConnectOptions::default());
        self.ops.push(Op::Connect { token, address: address.clone(), options });
        token
    }

    /// A connection: the connecting side and the accepted side.
    pub fn pair(&mut self, address: &SocketAddress) -> (Socket, Socket) {
        let before = self.accepted.len();
        let token = self.start_connect(address);
        self.until("connected", |w| w.accepted.len() > before && !w.seen(token).connected.is_empty());
        let near = self.seen(token).connected[0].unwrap();
        (near, self.accepted[before])
    }

    /// A listener and one connection to it.
    pub fn one_pair(&mut self) -> (Socket, Socket) {
        let (_, address) = self.listen();
        self.pair(&address)
    }

    pub fn recv(&mut self, socket: Socket) -> Token {
        let token = self.token();
        self.ops.push(Op::Recv { socket, token });
        token
    }

    pub fn recv_once(&mut self, socket: Socket) -> Token {
        let token = self.token();
        self.ops.push(Op::RecvOnce { socket, token });
        token
    }

    pub fn relay(&mut self, from: Socket, to: Socket, limit: u64) -> Token {
        let token = self.token();
        self.ops.push(Op::Relay { from, to, token, limit });
        token
    }

    /// Relays until it ends for a reason of the connection's; tells the bytes moved and the reason.
    pub fn relay_through(&mut self, from: Socket, to: Socket, limit: u64) -> (usize, RelayEnd) {
        let mut moved = 0;
        loop {
            let token = self.relay(from, to, limit.saturating_sub(moved as u64).max(1));
            self.until("the relay's end", |w| !w.seen(token).relay_ends.is_empty());
            moved += self.seen(token).relayed;
            match self.seen(token).relay_ends[0] {
                RelayEnd::Idle | RelayEnd::Unavailable => self.turn(Duration::from_millis(1)),
                end => return (moved, end),
            }
        }
    }

    pub fn send(&mut self, socket: Socket, bytes: &[u8]) -> Token {
        let token = self.token();
        let mut payload = self.spare.pop().unwrap_or_default();
        payload.push_bytes(bytes);
        self.ops.push(Op::Send { socket, token, payload });
        token
    }

    pub fn close(&mut self, socket: Socket, reset: bool) {
        self.open.retain(|open| *open != socket);
        self.ops.push(Op::Close { socket, reset });
    }

    /// Closes what is open; every buffer must be home then.
    pub fn finish(mut self) {
        for socket in std::mem::take(&mut self.open) {
            self.ops.push(Op::Close { socket, reset: false });
        }
        self.settle();
        let pool = self.io.buffers();
        assert_eq!(pool.home(), pool.count(), "every buffer is home");
        drop(self);
        assert_eq!(pool.outstanding(), 0);
    }
}

/// Bytes that tell where they belong.
pub fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed).collect()
}
