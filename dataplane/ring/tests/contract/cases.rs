//! The contract, case by case.

use crate::world::{World, pattern};
use millrace_ring::{BufferPool, Config, IoErrorKind, Op, Payload, RecvEnd, Token};
use std::time::Duration;

pub fn echo(w: &mut World) {
    let (near, far) = w.one_pair();
    let (at_near, at_far) = (w.recv(near), w.recv(far));
    for round in 1..=50_usize {
        let sent = w.send(near, b"ping");
        w.until("the ping", |w| w.seen(at_far).bytes.len() == 4 * round);
        w.send(far, b"pong!");
        w.until("the pong", |w| w.seen(at_near).bytes.len() == 5 * round && !w.seen(sent).sent.is_empty());
        assert_eq!(w.seen(sent).sent, [Ok(4)]);
    }
    assert_eq!(w.seen(at_near).bytes, b"pong!".repeat(50));
}

pub fn bulk_both_ways(w: &mut World) {
    let (near, far) = w.one_pair();
    let (at_near, at_far) = (w.recv(near), w.recv(far));
    let (there, back) = (pattern(3_000_000, 1), pattern(2_000_001, 2));
    let tokens = [w.send(near, &there), w.send(far, &back)];
    w.until("all bytes", |w| {
        w.seen(at_far).bytes.len() >= there.len() && w.seen(at_near).bytes.len() >= back.len()
    });
    assert!(w.seen(at_far).bytes == there && w.seen(at_near).bytes == back);
    w.until("both sent", |w| tokens.iter().all(|t| !w.seen(*t).sent.is_empty()));
    assert_eq!(w.seen(tokens[0]).sent, [Ok(there.len())]);
}

pub fn half_close(w: &mut World) {
    let (near, far) = w.one_pair();
    let (at_near, at_far) = (w.recv(near), w.recv(far));
    w.send(near, b"question");
    w.until("the question", |w| w.seen(at_far).bytes == b"question");
    w.ops.push(Op::Shutdown { socket: near });
    w.until("the end", |w| w.seen(at_far).ended == [RecvEnd::Eof]);
    w.send(far, b"answer");
    w.until("the answer", |w| w.seen(at_near).bytes == b"answer");
    w.close(far, false);
    w.until("the other end", |w| w.seen(at_near).ended == [RecvEnd::Eof]);
}

pub fn shutdown_follows_the_send(w: &mut World) {
    let (near, far) = w.one_pair();
    let text = pattern(4_000_000, 3);
    w.send(near, &text);
    w.ops.push(Op::Shutdown { socket: near });
    w.settle();
    let at_far = w.recv(far);
    w.until("the end", |w| w.seen(at_far).ended == [RecvEnd::Eof]);
    assert!(w.seen(at_far).bytes == text);
}

pub fn reset_is_seen(w: &mut World) {
    let (near, far) = w.one_pair();
    let at_near = w.recv(near);
    w.send(far, b"last words");
    w.until("the words", |w| w.seen(at_near).bytes == b"last words");
    w.close(far, true);
    w.until("the reset", |w| !w.seen(at_near).ended.is_empty());
    let RecvEnd::Error(error) = w.seen(at_near).ended[0] else { panic!("{:?}", w.seen(at_near).ended) };
    assert_eq!((error.kind(), error.to_string().as_str()), (IoErrorKind::Reset, "Connection reset by peer"));
}

pub fn send_to_a_closed_peer_fails(w: &mut World) {
    let (near, far) = w.one_pair();
    w.close(far, true);
    w.settle();
    let sent = w.send(near, b"anybody?");
    w.until("the error", |w| !w.seen(sent).sent.is_empty());
    let kind = w.seen(sent).sent[0].unwrap_err().kind();
    assert!(matches!(kind, IoErrorKind::Reset | IoErrorKind::Pipe), "{kind:?}");
}

pub fn connect_refused(w: &mut World) {
    let (listener, address) = w.io.listen();
    w.io.close(listener);
    let token = w.start_connect(&address);
    w.until("refused", |w| !w.seen(token).connected.is_empty());
    let error = w.seen(token).connected[0].unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (IoErrorKind::Refused, "Connection refused"));
}

pub fn connect_canceled(w: &mut World) {
    let (_, address) = w.listen();
    let token = w.start_connect(&address);
    w.ops.push(Op::CancelConnect { token });
    w.ops.push(Op::CancelConnect { token: Token(1) });
    w.until("an answer", |w| !w.seen(token).connected.is_empty());
    // On one host the connect may be through before the cancel.
    if let Err(error) = w.seen(token).connected[0] {
        assert_eq!(error.kind(), IoErrorKind::Canceled);
    }
    w.settle();
    assert_eq!(w.seen(token).connected.len(), 1);
}

pub fn stop_keeps_bytes(w: &mut World) {
    let (near, far) = w.one_pair();
    let text = pattern(200_000, 4);
    let sent = w.send(far, &text);
    let mut all = Vec::new();
    while all.len() < text.len() {
        let token = w.recv(near);
        w.until("some bytes", |w| !w.seen(token).bytes.is_empty());
        w.ops.push(Op::StopRecv { socket: near });
        w.until("the stop", |w| !w.seen(token).ended.is_empty());
        let seen = w.seen.remove(&token.0).unwrap();
        assert_eq!(seen.ended, [RecvEnd::Stopped]);
        all.extend(seen.bytes);
    }
    assert!(all == text);
    w.until("sent", |w| w.seen(sent).sent == [Ok(text.len())]);
    // Stopping what is not receiving is nothing.
    w.ops.push(Op::StopRecv { socket: near });
    w.settle();
}

pub fn stop_and_start_again(w: &mut World) {
    let (near, far) = w.one_pair();
    let first = w.recv(near);
    w.settle();
    w.ops.push(Op::StopRecv { socket: near });
    let second = w.recv(near);
    w.until("the stop", |w| w.seen(first).ended == [RecvEnd::Stopped]);
    w.send(far, b"for the second");
    w.until("the bytes", |w| w.seen(second).bytes == b"for the second");
    assert!(w.seen(first).bytes.is_empty() && w.seen(second).ended.is_empty());
}

pub fn close_with_everything_outstanding(w: &mut World) {
    let (near, far) = w.one_pair();
    let (at_near, at_far) = (w.recv(near), w.recv(far));
    w.ops.push(Op::StopRecv { socket: far });
    w.until("the stop", |w| !w.seen(at_far).ended.is_empty());
    let stuck = w.send(near, &pattern(30_000_000, 5));
    w.settle();
    assert!(w.seen(stuck).sent.is_empty());
    w.close(near, true);
    w.until("the payload back", |w| !w.seen(stuck).sent.is_empty());
    assert!(w.seen(stuck).sent[0].is_err());
    w.settle();
    assert!(w.seen(at_near).ended.is_empty() && w.seen(stuck).sent.len() == 1);
}

pub fn late_events_after_reuse(w: &mut World) {
    let (_, address) = w.listen();
    for _ in 0..20 {
        let (near, far) = w.pair(&address);
        let old = w.recv(near);
        w.send(far, b"too late");
        // Closed in the same batch as the bytes arrive; the descriptor is reused at once.
        w.close(near, false);
        let (near, far) = w.pair(&address);
        let new = w.recv(near);
        w.send(far, b"fresh");
        w.until("fresh bytes", |w| w.seen(new).bytes.len() >= 5);
        assert_eq!(w.seen(new).bytes, b"fresh");
        assert!(w.seen(old).ended.is_empty());
        w.close(near, true);
        w.settle();
    }
}

pub fn close_listener_while_accepting(w: &mut World) {
    let (listener, address) = w.listen();
    let (near, far) = w.pair(&address);
    w.close(listener, false);
    w.settle();
    let token = w.start_connect(&address);
    w.until("refused", |w| !w.seen(token).connected.is_empty());
    assert_eq!(w.seen(token).connected[0].unwrap_err().kind(), IoErrorKind::Refused);
    // The accepted connection lives on.
    let at_far = w.recv(far);
    w.send(near, b"still here");
    w.until("the bytes", |w| w.seen(at_far).bytes == b"still here");
}

pub fn close_listener_with_connections_waiting(w: &mut World) {
    let (listener, address) = w.listen();
    let tokens: Vec<_> = (0..3).map(|_| w.start_connect(&address)).collect();
    w.until("all connected", |w| tokens.iter().all(|t| !w.seen(*t).connected.is_empty()));
    w.close(listener, false);
    w.until("all accepted", |w| w.accepted.len() == 3);
    w.settle();
    assert!(tokens.iter().all(|t| matches!(w.seen(*t).connected[..], [Ok(_)])));
}

pub fn stop_accepting_and_go_on(w: &mut World) {
    let (listener, address) = w.listen();
    let (near, far) = w.pair(&address);
    w.ops.push(Op::StopAccept { listener });
    w.settle();
    let tokens: Vec<_> = (0..3).map(|_| w.start_connect(&address)).collect();
    w.until("all connected", |w| tokens.iter().all(|t| !w.seen(*t).connected.is_empty()));
    w.settle();
    assert_eq!(w.accepted.len(), 1, "they wait in the queue");
    let at_far = w.recv(far);
    w.send(near, b"still here");
    w.until("the bytes", |w| w.seen(at_far).bytes == b"still here");
    w.accept(listener);
    w.until("all accepted", |w| w.accepted.len() == 4);
    assert!(tokens.iter().all(|t| matches!(w.seen(*t).connected[..], [Ok(_)])));
    // Stopping what does not accept does nothing.
    w.ops.push(Op::StopAccept { listener });
    w.ops.push(Op::StopAccept { listener });
    w.settle();
}

pub fn wake_from_another_thread(w: &mut World) {
    for delay in [0, 0, 20, 20] {
        let waker = w.io.waker();
        let before = w.wakes;
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(delay));
            waker.wake();
            waker.wake();
        });
        w.until("the wake", |w| w.wakes > before);
        thread.join().unwrap();
    }
}

pub fn timeout_returns(w: &mut World) {
    let start = w.io.elapsed();
    w.turn(Duration::from_millis(30));
    let waited = w.io.elapsed() - start;
    assert!(waited >= Duration::from_millis(29) && waited < Duration::from_secs(2), "{waited:?}");
    let start = w.io.elapsed();
    w.turn(Duration::ZERO);
    assert!(w.io.elapsed() - start < Duration::from_millis(500));
}

pub fn many_small_connections(w: &mut World) {
    let (_, address) = w.listen();
    let tokens: Vec<Token> = (0..40).map(|_| w.start_connect(&address)).collect();
    w.until("all up", |w| {
        w.accepted.len() == 40
            && tokens.iter().all(|t| w.seen.get(&t.0).is_some_and(|s| s.connected.len() == 1))
    });
    let mut reads = Vec::new();
    for socket in w.accepted.clone() {
        reads.push(w.recv(socket));
    }
    for (index, token) in tokens.iter().enumerate() {
        let near = w.seen(*token).connected[0].unwrap();
        w.send(near, format!("connection {index}").as_bytes());
        w.ops.push(Op::Shutdown { socket: near });
    }
    w.until("all ends", |w| reads.iter().all(|t| w.seen.get(&t.0).is_some_and(|s| !s.ended.is_empty())));
    let mut texts: Vec<String> =
        reads.iter().map(|t| String::from_utf8(w.seen[&t.0].bytes.clone()).unwrap()).collect();
    texts.sort_by_key(|text| (text.len(), text.clone()));
    let expected: Vec<String> = (0..40).map(|i| format!("connection {i}")).collect();
    assert_eq!(texts, expected);
}

pub fn gather_in_order(w: &mut World) {
    let (near, far) = w.one_pair();
    let at_far = w.recv(far);
    // A pool of our own: a tiny ring has lent all of its buffers to the kernel.
    let pool = BufferPool::new(&Config { buffers: 2, ..Config::default() }).unwrap();
    let (mut payload, mut expected) = (Payload::new(), Vec::new());
    for index in 0..200_usize {
        let head = format!("<{index}>");
        payload.push_bytes(head.as_bytes());
        expected.extend_from_slice(head.as_bytes());
        // Shares of one buffer, more pieces than one call takes.
        if index == 0 {
            payload.push_buffer(pool.copy_from(b"borrowed").unwrap());
            expected.extend_from_slice(b"borrowed");
        }
    }
    let mut borrowed = pool.copy_from(&pattern(300, 6)).unwrap();
    for _ in 0..150 {
        let piece = borrowed.split_to(2);
        expected.extend_from_slice(&piece);
        payload.push_buffer(piece);
        payload.push_bytes(b"|");
        expected.push(b'|');
    }
    drop(borrowed);
    let token = w.token();
    let length = payload.len();
    w.ops.push(Op::Send { socket: near, token, payload });
    w.until("all bytes", |w| w.seen(at_far).bytes.len() >= expected.len());
    assert!(w.seen(at_far).bytes == expected);
    w.until("sent", |w| w.seen(token).sent == [Ok(length)]);
}

pub fn starved_receives_all_get_their_turn(w: &mut World) {
    let (_, address) = w.listen();
    let pool = w.io.buffers();
    let mut pairs = Vec::new();
    for _ in 0..8 {
        pairs.push(w.pair(&address));
    }
    let mut held: Vec<_> = std::iter::from_fn(|| pool.copy_from(b"held")).collect();
    let text = pattern(5_000, 7);
    let reads: Vec<Token> = pairs.iter().map(|(_, far)| w.recv(*far)).collect();
    for (near, _) in &pairs {
        w.send(*near, &text);
    }
    w.settle();
    while held.pop().is_some() {
        w.turn(Duration::ZERO);
    }
    w.until("all bytes", |w| reads.iter().all(|t| w.seen(*t).bytes.len() >= text.len()));
    assert!(reads.iter().all(|t| w.seen(*t).bytes == text && w.seen(*t).ended.is_empty()));
}

pub fn wake_before_the_turn(w: &mut World) {
    w.io.waker().wake();
    w.until("the wake", |w| w.wakes == 1);
    w.settle();
    assert_eq!(w.wakes, 1);
}
