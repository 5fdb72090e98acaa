//! No allocation per request in steady state: counted, on the real back end, with every allocation of the
//! process (the client and the upstream below do none either).

#![allow(clippy::unwrap_used, reason = "a failed call fails the test, in helpers as in tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_base::{Limits, Time, WallTime};
use millrace_observe::access_log::{LogBuffers, LogQueue};
use millrace_observe::stats::Registry;
use millrace_ring::{Backend, Config, IoChoice, SocketAddress, sockets};
use millrace_shard::shared::{ListenerHandle, Message, Shared};
use millrace_shard::{Logs, Running, Shard, ShardParts, SocketFacts};
use millrace_sim::fixture::{Mode, snapshot};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

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

fn start_shard(io: IoChoice, upstream: SocketAddr) -> Option<(SocketAddr, Arc<Shared>)> {
    let any = SocketAddress::Inet("127.0.0.1:0".parse().unwrap());
    let socket = sockets::listen(&any, &Default::default()).unwrap();
    let listen = sockets::local_address(socket).unwrap().inet().unwrap();
    let shared = Arc::new(Shared::new(1));
    let (ready, opened) = std::sync::mpsc::channel();
    let doors = shared.clone();
    std::thread::spawn(move || {
        let registry = Registry::new();
        let snapshot = Arc::new(snapshot(&registry, Mode::Http, listen, &[upstream]));
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
    for io in [IoChoice::Uring, IoChoice::Epoll] {
        let Some((listen, shared)) = start_shard(io, upstream()) else {
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
