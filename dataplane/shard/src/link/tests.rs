//! A link without a socket.

use millrace_ring::BufferPool;

use super::*;

fn link() -> (Link, Io) {
    let config = millrace_ring::Config { buffers: 4, buffer_bytes: 64, ..Default::default() };
    let pool = || BufferPool::new(&config).unwrap();
    (Link::new(Socket::from_raw(7), Token(9)), Io::new(pool(), pool(), usize::MAX))
}

#[test]
fn one_send_in_flight_and_everything_else_is_gathered() {
    let (mut link, mut io) = link();
    link.write(&mut io, |p| p.push_bytes(b"a"));
    link.write(&mut io, |p| p.push_bytes(b"b"));
    assert_eq!(io.dirty.len(), 1);
    link.flush(&mut io);
    let Some(Op::Send { payload, .. }) = io.ops.pop() else { panic!("a send") };
    assert_eq!(payload.to_vec(), b"ab");
    link.write(&mut io, |p| p.push_bytes(b"c"));
    assert_eq!((link.queued(), io.dirty.len()), (3, 1), "a link that is sending needs no mark");
    link.shutdown(&mut io);
    link.sent(payload, &mut io);
    let Some(Op::Send { payload, .. }) = io.ops.pop() else { panic!("the rest") };
    assert_eq!((link.queued(), io.ops.len()), (1, 0), "no FIN before the last byte");
    link.sent(payload, &mut io);
    assert!(matches!(io.ops.pop(), Some(Op::Shutdown { .. })));
}

#[test]
fn a_resume_during_a_stop_reads_again_once_it_took_effect() {
    let (mut link, mut io) = link();
    link.resume(&mut io);
    link.pause(&mut io);
    link.resume(&mut io);
    assert_eq!(io.ops.len(), 2, "one receive, one stop");
    assert!(link.receive_ended(RecvEnd::Stopped, &mut io).is_none());
    assert!(matches!(io.ops.last(), Some(Op::Recv { .. })));
    assert_eq!(link.receive_ended(RecvEnd::Eof, &mut io), Some(Ok(())));
    link.resume(&mut io);
    assert_eq!(io.ops.len(), 3, "an ended stream is not read again");
}

#[test]
fn a_relay_begins_when_reading_has_stopped_and_everything_has_left() {
    let (mut from, mut io) = link();
    let mut to = Link::new(Socket::from_raw(8), Token(10));
    from.resume(&mut io);
    let full = io.pool().copy_from(&[0; 64]).unwrap();
    assert_eq!((0..4).map(|_| from.is_bulk(&full)).collect::<Vec<_>>(), [false, false, false, true]);
    to.write_buffer(&mut io, full);
    from.want_relay(&mut io);
    assert!(matches!(io.ops.pop(), Some(Op::StopRecv { .. })));
    assert!(!from.is_paused() && !from.can_pause());
    assert!(!Link::start_relay(&mut from, &mut to, 9, &mut io), "still reading");
    assert!(from.receive_ended(RecvEnd::Stopped, &mut io).is_none());
    assert!(!Link::start_relay(&mut from, &mut to, 9, &mut io), "a byte is queued");
    to.flush(&mut io);
    let Some(Op::Send { payload, .. }) = io.ops.pop() else { panic!("a send") };
    to.sent(payload, &mut io);
    assert!(Link::start_relay(&mut from, &mut to, 9, &mut io));
    assert!(matches!(io.ops.pop(), Some(Op::Relay { limit: 9, token: Token(10), .. })));
    to.shutdown(&mut io);
    to.relayed(5, false, false, &mut io);
    assert_eq!((to.queued() > 0, to.stalled_since(), io.ops.len()), (true, None, 1));
    to.relayed(0, true, false, &mut io);
    assert_eq!(to.stalled_since(), Some(io.now));
    to.relayed(4, false, true, &mut io);
    assert!(matches!(io.ops.pop(), Some(Op::Shutdown { .. })), "FIN behind the relay");
    assert!(from.relay_ended(RelayEnd::Limit, &mut io).is_none());
    assert!(matches!(io.ops.pop(), Some(Op::RecvOnce { .. })), "one look at what follows");
}

#[test]
fn a_refused_relay_is_not_asked_for_again_at_once() {
    let (mut from, mut io) = link();
    let mut to = Link::new(Socket::from_raw(8), Token(10));
    from.resume(&mut io);
    from.want_relay(&mut io);
    from.receive_ended(RecvEnd::Stopped, &mut io);
    assert!(Link::start_relay(&mut from, &mut to, 9, &mut io));
    to.relayed(0, false, true, &mut io);
    assert!(from.relay_ended(RelayEnd::Unavailable, &mut io).is_none());
    assert!(matches!(io.ops.pop(), Some(Op::Recv { .. })));
    from.want_relay(&mut io);
    assert_eq!((from.can_pause(), from.is_ready_for_relay()), (true, false));
}
