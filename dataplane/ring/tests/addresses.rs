//! Both kernel back ends with every address family, source addresses, sockets handed from one back end to
//! another, and back ends dropped in the middle of things.
#![cfg(test)]

use millrace_ring::sockets::{self, ListenOptions};
use millrace_ring::{
    Accepted, Backend, Config, ConnectOptions, Event, IoChoice, Keepalive, Op, Payload, Socket,
    SocketAddress, Token, UnixAddress,
};
use std::time::Duration;

fn backends() -> Vec<Backend> {
    let open = |choice| Backend::open(choice, &Config::default());
    let opened = [IoChoice::Uring, IoChoice::Epoll].map(open);
    let failed = opened.iter().filter(|result| result.is_err()).count();
    if failed > 0 {
        println!("skipped: {failed}");
    }
    opened.into_iter().flatten().map(|(backend, _)| backend).collect()
}

fn turn(backend: &mut Backend, ops: &mut Vec<Op>) -> Vec<Event> {
    let mut events = Vec::new();
    backend.turn(ops, Some(Duration::from_millis(50)), &mut events).unwrap();
    events
}

/// Connects to a fresh listener: the connecting socket, the accepted connection, the listener.
fn pair(
    backend: &mut Backend,
    address: &SocketAddress,
    options: ConnectOptions,
) -> (Socket, Accepted, Socket) {
    let listener = sockets::listen(address, &ListenOptions::default()).unwrap();
    let address = sockets::local_address(listener).unwrap();
    let mut ops = vec![
        Op::Accept { listener, token: Token(1) },
        Op::Connect { token: Token(2), address, options: Box::new(options) },
    ];
    let (mut near, mut far) = (None, None);
    while near.is_none() || far.is_none() {
        for event in turn(backend, &mut ops) {
            match event {
                Event::Accepted { token: Token(1), result, .. } => far = Some(result.unwrap()),
                Event::Connected { token: Token(2), result } => near = Some(result.unwrap()),
                other => panic!("{other:?}"),
            }
        }
    }
    (near.unwrap(), far.unwrap(), listener)
}

fn close(backend: &mut Backend, sockets: &[Socket]) {
    let mut ops = sockets.iter().map(|socket| Op::Close { socket: *socket, reset: false }).collect();
    turn(backend, &mut ops);
}

fn inet(text: &str) -> SocketAddress {
    SocketAddress::Inet(text.parse().unwrap())
}

#[test]
fn every_family_connects_and_knows_its_addresses() {
    let path = std::env::temp_dir().join(format!("millrace-ring-pair-{}.sock", std::process::id()));
    let path = SocketAddress::Unix(UnixAddress::new(path.to_str().unwrap().as_bytes()).unwrap());
    let name = format!("@millrace-ring-pair-{}", std::process::id());
    let name = SocketAddress::Unix(UnixAddress::new(name.as_bytes()).unwrap());
    for mut backend in backends() {
        for address in [inet("127.0.0.1:0"), inet("[::1]:0"), path.clone(), name.clone()] {
            let (near, far, listener) = pair(&mut backend, &address, ConnectOptions::default());
            assert_eq!(sockets::peer_address(near), sockets::local_address(far.socket));
            assert_eq!(sockets::local_address(near), Ok(far.peer.clone()));
            assert_eq!(far.peer.ip(), address.ip());
            close(&mut backend, &[near, far.socket, listener]);
        }
    }
    if let SocketAddress::Unix(unix) = path {
        std::fs::remove_file(unix.to_string()).unwrap();
    }
}

#[test]
fn a_source_address_is_bound_at_connect() {
    let seconds = Duration::from_secs;
    let keepalive = Keepalive { probes: Some(3), time: Some(seconds(60)), interval: Some(seconds(10)) };
    let source = Some("127.0.0.6:0".parse().unwrap());
    let options =
        ConnectOptions { source, keepalive: Some(keepalive), freebind: true, ..ConnectOptions::default() };
    for mut backend in backends() {
        let (near, far, listener) = pair(&mut backend, &inet("127.0.0.1:0"), options.clone());
        assert_eq!(far.peer.ip(), Some("127.0.0.6".parse().unwrap()));
        assert!(sockets::round_trip_micros(near).unwrap() < 10_000_000);
        close(&mut backend, &[near, far.socket, listener]);
    }
}

#[test]
fn a_source_address_of_nobody_fails_without_a_leak() {
    let source = Some("192.0.2.77:0".parse().unwrap());
    for mut backend in backends() {
        let options = Box::new(ConnectOptions { source, ..ConnectOptions::default() });
        let mut ops = vec![Op::Connect { token: Token(5), address: inet("127.0.0.1:9"), options }];
        let events = turn(&mut backend, &mut ops);
        let [Event::Connected { token: Token(5), result: Err(error) }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(error.errno(), libc::EADDRNOTAVAIL);
    }
}

#[test]
fn an_accepted_socket_may_be_handed_to_another_back_end() {
    for mut first in backends() {
        for mut second in backends() {
            let (near, far, listener) = pair(&mut first, &inet("127.0.0.1:0"), ConnectOptions::default());
            let mut payload = Payload::new();
            payload.push_bytes(b"handed over");
            turn(&mut first, &mut vec![Op::Send { socket: near, token: Token(7), payload }]);
            let mut ops = vec![Op::Recv { socket: far.socket, token: Token(8) }];
            let event = loop {
                if let Some(event) = turn(&mut second, &mut ops).pop() {
                    break event;
                }
            };
            let Event::Received { token: Token(8), data } = event else { panic!("{event:?}") };
            assert_eq!(&*data, b"handed over");
            close(&mut second, &[far.socket]);
            close(&mut first, &[near, listener]);
        }
    }
}

#[test]
fn a_back_end_may_be_dropped_with_everything_outstanding() {
    for mut backend in backends() {
        let pool = backend.buffers().clone();
        let (near, far, listener) = pair(&mut backend, &inet("127.0.0.1:0"), ConnectOptions::default());
        let mut payload = Payload::new();
        payload.push_bytes(&vec![1; 30_000_000]);
        payload.push_buffer(pool.copy_from(b"borrowed").unwrap());
        let address = sockets::local_address(listener).unwrap();
        let mut ops = vec![
            Op::Recv { socket: near, token: Token(3) },
            Op::Send { socket: near, token: Token(4), payload },
            Op::Connect { token: Token(5), address, options: Box::default() },
        ];
        backend.turn(&mut ops, Some(Duration::ZERO), &mut Vec::new()).unwrap();
        assert_eq!(pool.outstanding(), 1);
        drop(backend);
        assert_eq!(pool.outstanding(), 0);
        [near, far.socket, listener].into_iter().for_each(sockets::close);
    }
}
