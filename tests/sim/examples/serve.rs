//! A hand-built configuration on the real back end, for profiling without the control thread:
//! `serve <listen ip:port> <upstream ip:port> [http|tcp] [auto|uring|epoll]`.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_base::{Limits, Time, WallTime};
use millrace_observe::access_log::{LogBuffers, LogQueue};
use millrace_observe::stats::Registry;
use millrace_ring::{Backend, Config, IoChoice, SocketAddress, sockets};
use millrace_shard::shared::{ListenerHandle, Message, Shared};
use millrace_shard::{Logs, Running, Shard, ShardParts, SocketFacts};
use millrace_sim::fixture::{Mode, snapshot};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let listen = args[1].parse().expect("listen address");
    let upstream = args[2].parse().expect("upstream address");
    let mode = if args.get(3).is_some_and(|m| m == "tcp") { Mode::Tcp } else { Mode::Http };
    let io = args.get(4).map_or(IoChoice::Auto, |io| io.parse().expect("auto, uring or epoll"));
    let registry = Registry::new();
    let snapshot = Arc::new(snapshot(&registry, mode, listen, &[upstream]));
    let (mut backend, report) = Backend::open(io, &Config::default()).expect("a back end");
    eprintln!("{report}");
    let shared = Arc::new(Shared::new(1));
    let socket = sockets::listen(&SocketAddress::Inet(listen), &Default::default()).expect("a free port");
    let listener = snapshot.listeners[0].clone();
    let handle = ListenerHandle::new(&listener.name);
    shared.doors()[0].send(Message::Know(handle.clone(), listener)).expect("an empty mailbox");
    shared.doors()[0].send(Message::Listen(handle, socket)).expect("an empty mailbox");
    let queue = LogQueue::new(4);
    let mut shard = Shard::new(ShardParts {
        index: 0,
        shared,
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
    let (mut events, mut ops) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let now = || Time(start.elapsed().as_nanos() as u64 + 1);
    let wall = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(since.as_nanos() as u64)
    };
    while shard.turn(now(), wall(), &mut events, &mut ops) == Running::Yes {
        let timeout = shard.timeout(now());
        backend.turn(&mut ops, timeout, &mut events).expect("a working ring");
    }
}
