//! Relays: bytes that pass from one connection to another inside the kernel.

use crate::world::{World, pattern};
use millrace_ring::{IoError, IoErrorKind, Op, RecvEnd, RelayEnd, Socket};

/// Two connections, as a proxy has them: what is written to `client` arrives at `source`, what is given to
/// `sink` arrives at `server`.
struct Hop {
    client: Socket,
    source: Socket,
    sink: Socket,
    server: Socket,
}

fn hop(w: &mut World) -> Hop {
    let (_, address) = w.listen();
    let (client, source) = w.pair(&address);
    let (sink, server) = w.pair(&address);
    Hop { client, source, sink, server }
}

pub fn relay_moves_a_stream_to_its_end(w: &mut World) {
    let hop = hop(w);
    let text = pattern(3_000_000, 1);
    w.send(hop.client, &text);
    w.ops.push(Op::Shutdown { socket: hop.client });
    let at_server = w.recv(hop.server);
    assert_eq!(w.relay_through(hop.source, hop.sink, u64::MAX), (text.len(), RelayEnd::Eof));
    // Both sockets are as they were: the end is passed on by hand, and the other way is open.
    w.ops.push(Op::Shutdown { socket: hop.sink });
    w.until("the end", |w| w.seen(at_server).ended == [RecvEnd::Eof]);
    assert!(w.seen(at_server).bytes == text);
    let at_client = w.recv(hop.client);
    w.send(hop.source, b"answer");
    w.until("the answer", |w| w.seen(at_client).bytes == b"answer");
}

pub fn relay_both_ways(w: &mut World) {
    let hop = hop(w);
    let (there, back) = (pattern(900_000, 2), pattern(700_001, 3));
    let (at_server, at_client) = (w.recv(hop.server), w.recv(hop.client));
    w.send(hop.client, &there);
    w.send(hop.server, &back);
    let mut ways = [(hop.source, hop.sink, None), (hop.sink, hop.source, None)];
    w.until("all bytes", |w| {
        for (from, to, running) in &mut ways {
            let over = running.is_none_or(|token| !w.seen(token).relay_ends.is_empty());
            if over {
                *running = Some(w.relay(*from, *to, u64::MAX));
            }
        }
        w.seen(at_server).bytes.len() >= there.len() && w.seen(at_client).bytes.len() >= back.len()
    });
    assert!(w.seen(at_server).bytes == there && w.seen(at_client).bytes == back);
}

pub fn relay_stops_at_its_limit(w: &mut World) {
    let hop = hop(w);
    let text = pattern(400_000, 4);
    let at_server = w.recv(hop.server);
    w.send(hop.client, &text);
    for limit in [1, 99_999, 200_000] {
        assert_eq!(w.relay_through(hop.source, hop.sink, limit), (limit as usize, RelayEnd::Limit));
    }
    let rest = w.recv(hop.source);
    w.until("the rest", |w| w.seen(rest).bytes.len() == 100_000);
    w.until("the first part", |w| w.seen(at_server).bytes.len() == 300_000);
    assert!(w.seen(at_server).bytes == text[..300_000] && w.seen(rest).bytes == text[300_000..]);
}

pub fn relay_waits_for_either_side(w: &mut World) {
    let hop = hop(w);
    let relay = w.relay(hop.source, hop.sink, 4_000_000);
    w.settle();
    // Nobody reads: the sink fills up.
    let text = pattern(4_000_000, 5);
    w.send(hop.client, &text);
    w.settle();
    let (mut relay, mut moved) = (relay, 0);
    let at_server = w.recv(hop.server);
    w.until("all bytes", |w| {
        // Where no pipe was to be had the relay is asked for again.
        if w.seen(relay).relay_ends == [RelayEnd::Unavailable] {
            moved += w.seen(relay).relayed;
            relay = w.relay(hop.source, hop.sink, 4_000_000 - moved as u64);
        }
        w.seen(at_server).bytes.len() >= text.len()
    });
    assert!(w.seen(at_server).bytes == text);
    w.until("the limit", |w| w.seen(relay).relay_ends == [RelayEnd::Limit]);
}

pub fn relay_delivers_what_a_closed_source_gave(w: &mut World) {
    let hop = hop(w);
    let text = pattern(8_000_000, 6);
    let sent = w.send(hop.client, &text);
    let relay = w.relay(hop.source, hop.sink, u64::MAX - 1);
    w.until("something", |w| w.seen(relay).relayed > 0 || !w.seen(relay).relay_ends.is_empty());
    w.settle();
    w.close(hop.source, true);
    let at_server = w.recv(hop.server);
    w.until("the end", |w| !w.seen(relay).relay_ends.is_empty());
    let end = w.seen(relay).relay_ends[0];
    assert!(matches!(end, RelayEnd::From(IoError::CANCELED) | RelayEnd::Unavailable), "{end:?}");
    let relayed = w.seen(relay).relayed;
    w.until("what was taken", |w| w.seen(at_server).bytes.len() == relayed);
    assert!(w.seen(at_server).bytes == text[..relayed]);
    // The sink is free again.
    w.send(hop.sink, b"more");
    w.until("more", |w| w.seen(at_server).bytes.len() == relayed + 4);
    w.until("the sender's failure", |w| w.seen(sent).sent.len() == 1);
}

pub fn relay_ends_with_its_sink(w: &mut World) {
    let hop = hop(w);
    let relay = w.relay(hop.source, hop.sink, u64::MAX - 1);
    w.settle();
    w.close(hop.sink, false);
    w.until("the end", |w| !w.seen(relay).relay_ends.is_empty());
    let end = w.seen(relay).relay_ends[0];
    assert!(matches!(end, RelayEnd::To(IoError::CANCELED) | RelayEnd::Unavailable), "{end:?}");
    let at_server = w.recv(hop.server);
    w.until("FIN", |w| w.seen(at_server).ended == [RecvEnd::Eof]);
    // The source can be received from.
    let rest = w.recv(hop.source);
    w.send(hop.client, b"still here");
    w.until("the bytes", |w| w.seen(rest).bytes == b"still here");
}

pub fn relay_sees_a_failed_sink(w: &mut World) {
    let hop = hop(w);
    w.close(hop.server, true);
    w.settle();
    w.send(hop.client, b"anybody?");
    let (moved, end) = w.relay_through(hop.source, hop.sink, 100);
    let RelayEnd::To(error) = end else { panic!("{end:?}") };
    assert_eq!(moved, 0);
    assert!(matches!(error.kind(), IoErrorKind::Reset | IoErrorKind::Pipe), "{error}");
}

pub fn relay_sees_a_failed_source(w: &mut World) {
    let hop = hop(w);
    w.close(hop.client, true);
    w.settle();
    let (moved, end) = w.relay_through(hop.source, hop.sink, u64::MAX);
    assert!(matches!(end, RelayEnd::From(error) if error.kind() == IoErrorKind::Reset), "{end:?}");
    assert_eq!(moved, 0);
}

pub fn shutdown_follows_the_relay(w: &mut World) {
    let hop = hop(w);
    let text = pattern(2_000_000, 7);
    w.send(hop.client, &text);
    let mut left = text.len() as u64;
    let at_server = w.recv(hop.server);
    loop {
        let relay = w.relay(hop.source, hop.sink, left);
        if left == text.len() as u64 {
            w.turn(std::time::Duration::ZERO);
        }
        w.until("the limit", |w| !w.seen(relay).relay_ends.is_empty());
        left -= w.seen(relay).relayed as u64;
        if left == 0 {
            break;
        }
    }
    // A relay that waits for its source keeps the FIN back.
    let relay = w.relay(hop.source, hop.sink, 5);
    w.ops.push(Op::Shutdown { socket: hop.sink });
    w.settle();
    w.send(hop.client, b"final");
    w.until("the end", |w| w.seen(at_server).ended == [RecvEnd::Eof]);
    let relayed = w.seen(relay).relayed;
    assert_eq!(w.seen(at_server).bytes.len(), text.len() + relayed);
    assert!(relayed == 5 || w.seen(relay).relay_ends == [RelayEnd::Unavailable]);
}

pub fn many_relays_at_once(w: &mut World) {
    let (_, address) = w.listen();
    let text = pattern(40_000, 8);
    let mut hops = Vec::new();
    // More than there are pipes.
    for _ in 0..80 {
        let (client, source) = w.pair(&address);
        let (sink, server) = w.pair(&address);
        hops.push((client, w.relay(source, sink, text.len() as u64), source, sink, server));
    }
    w.settle();
    let reads: Vec<_> = hops.iter().map(|hop| w.recv(hop.4)).collect();
    for hop in &hops {
        w.send(hop.0, &text);
    }
    let mut moved = vec![0; hops.len()];
    w.until("all relays", |w| {
        let mut over = true;
        for (hop, moved) in hops.iter_mut().zip(&mut moved) {
            if w.seen(hop.1).relay_ends == [RelayEnd::Unavailable] {
                *moved += w.seen(hop.1).relayed;
                hop.1 = w.relay(hop.2, hop.3, (text.len() - *moved) as u64);
            }
            over &= w.seen(hop.1).relay_ends == [RelayEnd::Limit];
        }
        over
    });
    for at_server in reads {
        w.until("all bytes", |w| w.seen(at_server).bytes.len() == text.len());
        assert!(w.seen(at_server).bytes == text);
    }
}

pub fn recv_once_takes_one_buffer(w: &mut World) {
    let (near, far) = w.one_pair();
    let text = pattern(100_000, 9);
    w.send(near, &text);
    w.ops.push(Op::Shutdown { socket: near });
    let most = w.io.buffers().buffer_bytes();
    let mut all = Vec::new();
    loop {
        let token = w.recv_once(far);
        w.until("the end of one", |w| !w.seen(token).ended.is_empty());
        let seen = w.seen.remove(&token.0).unwrap();
        assert!(seen.bytes.len() <= most);
        all.extend_from_slice(&seen.bytes);
        match seen.ended[0] {
            RecvEnd::Stopped => assert!(!seen.bytes.is_empty()),
            RecvEnd::Eof => break,
            RecvEnd::Error(error) => panic!("{error}"),
        }
    }
    assert!(all == text);
}

pub fn recv_once_can_be_stopped_and_followed(w: &mut World) {
    let (near, far) = w.one_pair();
    let first = w.recv_once(far);
    w.settle();
    w.ops.push(Op::StopRecv { socket: far });
    let second = w.recv_once(far);
    w.until("the stop", |w| w.seen(first).ended == [RecvEnd::Stopped]);
    w.settle();
    w.send(near, b"one");
    w.until("the bytes", |w| w.seen(second).bytes == b"one");
    w.until("the end of one", |w| w.seen(second).ended == [RecvEnd::Stopped]);
    // Stopping what has ended by itself is nothing.
    w.ops.push(Op::StopRecv { socket: far });
    let third = w.recv(far);
    w.send(near, b"two");
    w.until("more", |w| w.seen(third).bytes == b"two" && w.seen(third).ended.is_empty());
}
