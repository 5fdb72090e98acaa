//! Waiting: no wake-up is lost, and a connect that nobody answers can be given up.
#![cfg(test)]

use millrace_ring::sockets::{self, ListenOptions};
use millrace_ring::{Backend, Config, Event, IoChoice, IoError, Op, SocketAddress, Token};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn backends() -> Vec<Backend> {
    let open = |choice| Backend::open(choice, &Config::default());
    [IoChoice::Uring, IoChoice::Epoll].map(open).into_iter().flatten().map(|(backend, _)| backend).collect()
}

#[test]
fn no_wake_up_is_lost() {
    const MESSAGES: u64 = 20_000;
    for mut backend in backends() {
        let sent = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (sent, waker) = (Arc::clone(&sent), backend.waker());
                std::thread::spawn(move || {
                    for index in 0..MESSAGES / 2 {
                        sent.fetch_add(1, Ordering::Relaxed);
                        waker.wake();
                        if index % 64 == 0 {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let (mut seen, mut ops, mut events) = (0, Vec::new(), Vec::new());
        while seen < MESSAGES {
            let start = Instant::now();
            backend.turn(&mut ops, Some(Duration::from_secs(20)), &mut events).unwrap();
            assert!(start.elapsed() < Duration::from_secs(10), "slept over a wake-up at {seen}");
            // Looks at the messages only when told to, as a shard does.
            if events.drain(..).any(|event| matches!(event, Event::Wake)) {
                seen = sent.load(Ordering::Relaxed);
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn an_unanswered_connect_is_given_up() {
    for mut backend in backends() {
        let any = SocketAddress::Inet("127.0.0.1:0".parse().unwrap());
        let options = ListenOptions { backlog: 1, ..ListenOptions::default() };
        let listener = sockets::listen(&any, &options).unwrap();
        let address = sockets::local_address(listener).unwrap();
        // Nobody accepts: when the backlog is full the kernel drops further attempts in silence.
        let connect =
            |index| Op::Connect { token: Token(index), address: address.clone(), options: Box::default() };
        let mut ops: Vec<Op> = (0..8).map(connect).collect();
        let mut events = Vec::new();
        for _ in 0..10 {
            backend.turn(&mut ops, Some(Duration::from_millis(5)), &mut events).unwrap();
        }
        let mut answered = vec![None; 8];
        let mut note = |events: &mut Vec<Event>| {
            for event in events.drain(..) {
                let Event::Connected { token, result } = event else { panic!("{event:?}") };
                assert_eq!(answered[token.0 as usize].replace(result), None, "answered once");
            }
            answered.clone()
        };
        let pending = (0..8).filter(|index| note(&mut events)[*index].is_none()).count();
        assert!(pending > 0, "the backlog took all of them");
        ops.extend((0..8).map(|index| Op::CancelConnect { token: Token(index) }));
        for _ in 0..5 {
            backend.turn(&mut ops, Some(Duration::from_millis(5)), &mut events).unwrap();
        }
        let results: Vec<_> = note(&mut events).into_iter().flatten().collect();
        assert_eq!(results.len(), 8);
        assert_eq!(results.iter().filter(|result| **result == Err(IoError::CANCELED)).count(), pending);
        results.into_iter().flatten().for_each(sockets::close);
        sockets::close(listener);
    }
}
