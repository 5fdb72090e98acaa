//! No allocation per request in steady state: counted, on the real back end, with every allocation of the
//! process (the client and the upstream below do none either).

#![allow(clippy::unwrap_used, reason = "a failed call fails the test, in helpers as in tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millrace_base::{Limits, Time, WallTime};
use millrace_config::UpstreamProtocol;
use millrace_http::h2::{Connection, Event, Heads, Options, Role, StreamRef};
use millrace_http::{RequestHead, ResponseHead};
use millrace_observe::access_log::{LogBuffers, LogQueue};
use millrace_observe::stats::Registry;
use millrace_ring::{Backend, Config, IoChoice, SocketAddress, sockets};
use millrace_shard::shared::{ListenerHandle, Message, Shared};
use millrace_shard::{Logs, Running, Shard, ShardParts, SocketFacts};
use millrace_sim::fixture::{Knobs, Mode, build};
use millrace_sim::tls::Tls;
use millrace_sim::tls::identity::{client_context, configure, endpoint_context};
use millrace_tls::{ClientContext, ClientOptions, Event as TlsEvent, Local, ServerContext, Session};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Every allocation of the process is counted: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const REQUEST: &[u8] =
    b"GET /path?q=1 HTTP/1.1\r\nhost: example.com\r\nuser-agent: test\r\naccept: */*\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";
const WARM_UP: usize = 2_000;
const COUNTED: usize = 5_000;

fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_nodelay(true).unwrap();
        let mut buffer = [0; 4096];
        // Each request comes in one piece: the client waits for the answer before it sends the next.
        while connection.read(&mut buffer).is_ok_and(|n| n > 0) {
            connection.write_all(RESPONSE).unwrap();
        }
    });
    address
}

fn start_shard(
    io: IoChoice,
    upstream: SocketAddr,
    protocol: UpstreamProtocol,
    tls: Tls,
) -> Option<(SocketAddr, Arc<Shared>)> {
    let any = SocketAddress::Inet("127.0.0.1:0".parse().unwrap());
    let socket = sockets::listen(&any, &Default::default()).unwrap();
    let listen = sockets::local_address(socket).unwrap().inet().unwrap();
    let shared = Arc::new(Shared::new(1));
    let (ready, opened) = std::sync::mpsc::channel();
    let doors = shared.clone();
    std::thread::spawn(move || {
        let registry = Registry::new();
        let snapshot = {
            let knobs = Knobs { protocol, ..Knobs::default() };
            let mut snapshot = build(&registry, Mode::Http, listen, &[upstream], &knobs);
            configure(&mut snapshot, &tls, Some(b"http/1.1"));
            Arc::new(snapshot)
        };
        let Ok((mut backend, _)) = Backend::open(io, &Config::default()) else {
            ready.send(false).unwrap();
            return;
        };
        let listener = snapshot.listeners[0].clone();
        let handle = ListenerHandle::new(&listener.name);
        doors.doors()[0].send(Message::Know(handle.clone(), listener)).unwrap();
        doors.doors()[0].send(Message::Listen(handle, socket)).unwrap();
        let queue = LogQueue::new(4);
        let mut shard = Shard::new(ShardParts {
            index: 0,
            shared: doors,
            snapshot,
            buffers: backend.buffers().clone(),
            waker: backend.waker(),
            stats: registry.attach_shard("worker_0"),
            logs: Logs::new(LogBuffers::new(queue.clone(), Duration::from_secs(10)), queue, Arc::new(|| {})),
            limits: Limits::default(),
            seed: 1,
            hostname: "localhost".into(),
            host_address: None,
            socket_facts: SocketFacts::REAL,
        });
        ready.send(true).unwrap();
        let (mut events, mut ops) = (Vec::new(), Vec::new());
        let start = Instant::now();
        loop {
            let now = Time(start.elapsed().as_nanos() as u64 + 1);
            let wall = WallTime(1_700_000_000_000_000_000 + now.0);
            if shard.turn(now, wall, &mut events, &mut ops) == Running::Stopped {
                return;
            }
            backend.turn(&mut ops, shard.timeout(now), &mut events).unwrap();
        }
    });
    opened.recv().unwrap().then_some((listen, shared))
}

fn requests(client: &mut TcpStream, count: usize) {
    let mut buffer = [0; 4096];
    for _ in 0..count {
        client.write_all(REQUEST).unwrap();
        let mut got = 0;
        while !buffer[..got].ends_with(b"\r\n\r\nhello") {
            let n = client.read(&mut buffer[got..]).unwrap();
            assert!(n > 0, "the connection stays open");
            got += n;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}

#[test]
fn requests_allocate_nothing_in_steady_state() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for io in [IoChoice::Uring, IoChoice::Epoll] {
        let Some((listen, shared)) = start_shard(io, upstream(), UpstreamProtocol::Http1, Tls::default())
        else {
            println!("skipped: {io:?} is not available here");
            continue;
        };
        let mut client = TcpStream::connect(listen).unwrap();
        client.set_nodelay(true).unwrap();
        requests(&mut client, WARM_UP);
        let region = Region::new(ALLOCATOR);
        requests(&mut client, COUNTED);
        let change = region.change();
        // Housekeeping once a second may allocate a little; requests may not.
        let most = 100;
        assert!(change.allocations < most, "{io:?}: {change:?} over {COUNTED} requests");
        drop(client);
        shared.doors()[0].send(Message::Stop).unwrap();
    }
}

/// One end of an HTTP/2 connection that allocates nothing itself once it is warm.
struct Peer {
    socket: TcpStream,
    codec: Connection,
    heads: Heads,
    input: Vec<u8>,
    /// What of the input is unread.
    unread: std::ops::Range<usize>,
    out: Vec<u8>,
    start: Instant,
}

impl Peer {
    fn new(socket: TcpStream, role: Role) -> Self {
        socket.set_nodelay(true).unwrap();
        Self {
            socket,
            codec: Connection::new(&Options::new(role), Time(1)),
            heads: Heads::default(),
            input: vec![0; 64 * 1024],
            unread: 0..0,
            out: Vec::with_capacity(64 * 1024),
            start: Instant::now(),
        }
    }

    /// The next event; sends what is to be sent before it waits. `None` at the end of the connection.
    fn next(&mut self) -> Option<Event> {
        loop {
            let now = Time(self.start.elapsed().as_nanos() as u64 + 1);
            let step = self.codec.receive(&self.input[self.unread.clone()], now, &mut self.heads).unwrap();
            self.unread.start += step.consumed;
            match step.event {
                Event::Progress => {}
                Event::NeedMore => {
                    self.codec.take_control(&mut self.out);
                    self.socket.write_all(&self.out).unwrap();
                    self.out.clear();
                    self.codec.flushed();
                    self.input.copy_within(self.unread.clone(), 0);
                    self.unread = 0..self.unread.len();
                    match self.socket.read(&mut self.input[self.unread.end..]) {
                        Ok(count) if count > 0 => self.unread.end += count,
                        _ => return None,
                    }
                }
                Event::Data { stream, ref range, .. } => {
                    self.codec.release(stream, range.len());
                    return Some(step.event);
                }
                event => return Some(event),
            }
        }
    }

    fn body(&mut self, stream: StreamRef, body: &[u8]) {
        assert!(self.codec.send_data(stream, body.len(), true, &mut self.out));
        self.out.extend_from_slice(body);
    }
}

fn http2_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut peer = Peer::new(listener.accept().unwrap().0, Role::Server);
        let mut head = ResponseHead::new();
        head.status = 200;
        head.headers.append(b"content-type", b"text/plain");
        head.headers.append(b"content-length", b"5");
        while let Some(event) = peer.next() {
            let stream = match event {
                Event::Request { stream, end: true, .. } | Event::Data { stream, end: true, .. } => stream,
                _ => continue,
            };
            assert!(peer.codec.send_response(stream, &head, false, &mut peer.out));
            peer.body(stream, b"hello");
        }
    });
    address
}

/// A GET and a small POST in turn.
fn http2_requests(client: &mut Peer, heads: &[RequestHead; 2], count: usize) {
    for at in 0..count {
        let head = &heads[at % 2];
        let posts = at % 2 == 1;
        let stream = client.codec.send_request(head, at as u64, !posts, &mut client.out).unwrap();
        if posts {
            client.body(stream, b"{\"name\":\"value\"}");
        }
        loop {
            match client.next().unwrap() {
                Event::Response { user, end: false, .. } => {
                    assert_eq!((user, client.heads.response.status), (at as u64, 200));
                }
                Event::Data { range, end: true, .. } => break assert_eq!(range.len(), 5),
                event => assert!(!matches!(event, Event::Reset { .. } | Event::GoAway { .. }), "{event:?}"),
            }
        }
    }
}

#[test]
fn http2_requests_allocate_nothing_in_steady_state() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut get = RequestHead::new();
    get.set_method(b"GET");
    get.set_scheme(b"http");
    get.set_authority(b"example.com");
    get.set_path(b"/path?q=1");
    get.headers.append(b"user-agent", b"test");
    get.headers.append(b"accept", b"*/*");
    let mut post = get.clone();
    post.set_method(b"POST");
    post.headers.append(b"content-length", b"16");
    let heads = [get, post];
    for io in [IoChoice::Uring, IoChoice::Epoll] {
        let Some((listen, shared)) =
            start_shard(io, http2_upstream(), UpstreamProtocol::Http2, Tls::default())
        else {
            println!("skipped: {io:?} is not available here");
            continue;
        };
        let mut client = Peer::new(TcpStream::connect(listen).unwrap(), Role::Client);
        http2_requests(&mut client, &heads, WARM_UP);
        let region = Region::new(ALLOCATOR);
        http2_requests(&mut client, &heads, COUNTED);
        let change = region.change();
        let most = 100;
        assert!(change.allocations < most, "{io:?}: {change:?} over {COUNTED} requests");
        drop(client);
        shared.doors()[0].send(Message::Stop).unwrap();
    }
}

/// One end of a TLS connection that allocates nothing itself once it is warm: rustls's own connections would.
struct SecurePeer {
    socket: TcpStream,
    session: Session,
    input: Vec<u8>,
    /// What of the input is unread.
    unread: std::ops::Range<usize>,
    out: Vec<u8>,
    plain: Vec<u8>,
}

impl SecurePeer {
    fn new(socket: TcpStream, session: Session, out: Vec<u8>) -> Self {
        socket.set_nodelay(true).unwrap();
        let (input, plain) = (vec![0; 64 * 1024], Vec::with_capacity(4096));
        Self { socket, session, input, unread: 0..0, out, plain }
    }

    fn connect(to: SocketAddr) -> Self {
        let local = Local::new(&millrace_tls::Shared::new([1; 32]));
        local.set_wall(WallTime(1_700_000_000_000_000_000));
        let context = Rc::new(ClientContext::new(&client_context(), &|_| None, &local).unwrap());
        let mut out = Vec::new();
        let options = ClientOptions { server_name: "sim.test", ..ClientOptions::default() };
        let session = Session::client(&context, options, &mut out).unwrap();
        Self::new(TcpStream::connect(to).unwrap(), session, out)
    }

    fn accept(socket: TcpStream) -> Self {
        let local = Local::new(&millrace_tls::Shared::new([2; 32]));
        local.set_wall(WallTime(1_700_000_000_000_000_000));
        let context = Rc::new(ServerContext::new(&endpoint_context(), &|_| None, &local).unwrap());
        Self::new(socket, Session::server(&context), Vec::new())
    }

    fn flush(&mut self) {
        self.socket.write_all(&self.out).unwrap();
        self.out.clear();
    }

    fn write(&mut self, plain: &[u8]) {
        self.session.seal(std::iter::once(plain), &mut self.out).unwrap();
        self.flush();
    }

    /// Takes what comes until `is_enough` of the plaintext; false at the end of the connection.
    fn read(&mut self, is_enough: impl Fn(&Session, &[u8]) -> bool) -> bool {
        while !is_enough(&self.session, &self.plain) {
            let step = self.session.receive(&mut self.input[self.unread.clone()], &mut self.out).unwrap();
            match step.event {
                TlsEvent::NeedMore { .. } => {
                    self.flush();
                    self.input.copy_within(self.unread.clone(), 0);
                    self.unread = 0..self.unread.len();
                    match self.socket.read(&mut self.input[self.unread.end..]) {
                        Ok(count) if count > 0 => self.unread.end += count,
                        _ => return false,
                    }
                }
                TlsEvent::Data(range) => {
                    let start = self.unread.start;
                    self.plain.extend_from_slice(&self.input[start + range.start..start + range.end]);
                }
                TlsEvent::CloseNotify => return false,
                TlsEvent::Progress | TlsEvent::Established => {}
            }
            self.unread.start += step.consumed;
        }
        true
    }
}

fn secure_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut peer = SecurePeer::accept(listener.accept().unwrap().0);
        while peer.read(|_, plain| plain.ends_with(b"\r\n\r\n")) {
            peer.plain.clear();
            peer.write(RESPONSE);
        }
    });
    address
}

#[test]
fn requests_over_tls_allocate_nothing_in_steady_state() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for io in [IoChoice::Uring, IoChoice::Epoll] {
        let protocol = UpstreamProtocol::Http1;
        let Some((listen, shared)) = start_shard(io, secure_upstream(), protocol, Tls::BOTH) else {
            println!("skipped: {io:?} is not available here");
            continue;
        };
        let mut client = SecurePeer::connect(listen);
        assert!(client.read(|session, _| session.is_established()), "a handshake");
        let mut requests = |count: usize| {
            for _ in 0..count {
                client.plain.clear();
                client.write(REQUEST);
                assert!(
                    client.read(|_, plain| plain.ends_with(b"\r\n\r\nhello")),
                    "the connection stays open"
                );
                assert!(client.plain.starts_with(b"HTTP/1.1 200 OK\r\n"));
            }
        };
        requests(WARM_UP);
        let region = Region::new(ALLOCATOR);
        requests(COUNTED);
        let change = region.change();
        let most = 100;
        assert!(change.allocations < most, "{io:?}: {change:?} over {COUNTED} requests");
        drop(client);
        shared.doors()[0].send(Message::Stop).unwrap();
    }
}
