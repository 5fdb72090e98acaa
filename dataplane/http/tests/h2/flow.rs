//! Windows both ways: what may be sent, what is given back, and when somebody hears of room.

use millrace_http::h2::{ErrorCode, Options};

use crate::support::*;

fn post(server: &mut End2, id: u32) {
    assert!(server.feed(&headers(id, 0, POST)).is_ok());
}

fn updates(end: &mut End2) -> Vec<(u32, u32)> {
    end.take().iter().filter(|f| f.kind == WINDOW_UPDATE).map(|f| (f.stream, f.number())).collect()
}

#[test]
fn half_a_window_is_given_back_at_once() {
    let options =
        Options { initial_stream_window: 70_000, initial_connection_window: 100_000, ..server_options() };
    let mut server = End2::server(&options);
    server.release = false;
    post(&mut server, 1);
    let chunk = frame(DATA, 0, 1, &[0; 10_000]);
    assert!(server.feed(&chunk.repeat(7)).is_ok());
    let stream = server.stream(1);
    server.connection.release(stream, 34_999);
    assert_eq!(updates(&mut server), []);
    server.connection.release(stream, 1);
    assert_eq!(updates(&mut server), [(1, 35_000)]);
    server.connection.release(stream, 35_000);
    assert_eq!(updates(&mut server), [(0, 70_000), (1, 35_000)]);
    assert_eq!(server.connection.unreleased(), 0);
    server.connection.release(stream, 1 << 40);
    assert_eq!(updates(&mut server), [], "nobody gives back what was not charged");
}

#[test]
fn bytes_are_owed_beyond_the_end_of_a_stream() {
    let mut server = End2::server(&server_options());
    server.release = false;
    post(&mut server, 1);
    post(&mut server, 3);
    let bytes = [frame(DATA, END, 1, &[0; 9000]), frame(DATA, 0, 3, &[0; 8000])].concat();
    assert!(server.feed(&bytes).is_ok());
    server.respond(1, true);
    server.connection.reset(server.stream(3), ErrorCode::Cancel);
    assert_eq!(server.connection.unreleased(), 17_000);
    // In flight while we reset: given back at once.
    assert_eq!(server.feed(&frame(DATA, END, 3, &[0; 500])), Ok(vec![]));
    assert_eq!(server.connection.unreleased(), 17_000);
    server.connection.release(server.stream(1), 9000);
    server.connection.release(server.stream(3), 8000);
    assert_eq!(server.connection.unreleased(), 0);
    assert!(updates(&mut server).iter().all(|(stream, _)| *stream == 0));
}

#[test]
fn padding_is_given_back_by_the_codec() {
    let mut server = End2::server(&server_options());
    server.release = false;
    post(&mut server, 1);
    let padded = [&[200][..], b"abc", &[0; 200]].concat();
    for _ in 0..1000 {
        let seen = server.feed(&frame(DATA, PADDED, 1, &padded));
        assert_eq!(seen, Ok(vec![Seen::Data { id: 1, bytes: b"abc".to_vec(), end: false }]));
        server.connection.release(server.stream(1), 3);
        assert_eq!(server.connection.unreleased(), 0);
    }
    assert!(!updates(&mut server).is_empty());
}

#[test]
fn a_stream_that_ends_in_the_middle_of_a_frame() {
    let mut server = End2::server(&server_options());
    post(&mut server, 1);
    let bytes = frame(DATA, PADDED | END, 1, &[&[9][..], &[7; 1000], &[0; 9]].concat());
    assert_eq!(server.feed(&bytes[..500]).map(|seen| seen.len()), Ok(1));
    server.connection.reset(server.stream(1), ErrorCode::Cancel);
    let rest = [&bytes[500..], &frame(PING, 0, 0, &[1; 8]), &headers(3, END, GET)].concat();
    let seen = server.feed(&rest).expect("the rest is skipped");
    assert!(matches!(seen[..], [Seen::Request { id: 3, .. }]), "{seen:?}");
    assert_eq!(server.connection.unreleased(), 0);
}

#[test]
fn the_end_comes_with_the_last_byte() {
    for flags in [END, END | PADDED] {
        let payload = if flags & PADDED == 0 { vec![b'x'; 5] } else { b"\x03xxxxx\0\0\0".to_vec() };
        let mut server = End2::server(&server_options());
        post(&mut server, 1);
        let bytes = frame(DATA, flags, 1, &payload);
        let seen = server.feed_cut(&bytes, &mut || 1);
        assert_eq!(seen, Ok(vec![Seen::Data { id: 1, bytes: b"xxxxx".to_vec(), end: true }]));
        assert!(!server.connection.is_receiving(server.stream(1)));
        assert_eq!(server.unread(), 0);
    }
    let mut server = End2::server(&server_options());
    post(&mut server, 1);
    let seen = server.feed(&frame(DATA, END | PADDED, 1, &[3, 0, 0, 0]));
    assert_eq!(seen, Ok(vec![Seen::Data { id: 1, bytes: vec![], end: true }]));
}

#[test]
fn sending_keeps_to_both_windows_and_the_frame_size() {
    let mut client = End2::client(&client_options());
    let (one, _) = client.get(false);
    let (two, _) = client.get(false);
    let mut out = Vec::new();
    let send = |client: &mut End2, stream, out: &mut Vec<u8>| {
        let len = client.connection.capacity(stream);
        assert!(len == 0 || client.connection.send_data(stream, len, false, out));
        len
    };
    assert_eq!(client.connection.capacity(one), 16_384);
    assert!(client.feed(&settings(&[(5, 20_000), (4, 60_000)])).is_ok());
    let sent: Vec<_> = (0..4).map(|_| send(&mut client, one, &mut out)).collect();
    assert_eq!(sent, [20_000, 20_000, 20_000, 0]);
    assert_eq!((send(&mut client, two, &mut out), send(&mut client, two, &mut out)), (5535, 0));
    assert_eq!(client.feed(&window_update(1, 10)), Ok(vec![Seen::StreamWritable(1)]));
    assert_eq!(client.connection.capacity(one), 0, "the connection's window is used up");
    assert_eq!(client.feed(&window_update(0, 100)), Ok(vec![Seen::ConnectionWritable]));
    assert_eq!(client.feed(&window_update(0, 100)), Ok(vec![]), "there was room");
    assert_eq!((client.connection.capacity(one), client.connection.capacity(two)), (10, 200));
    // A smaller initial window takes back what was allowed (section 6.9.2).
    assert_eq!(client.feed(&settings(&[(4, 50_000)])), Ok(vec![Seen::Settings]));
    assert_eq!((client.connection.capacity(one), client.connection.capacity(two)), (0, 200));
    assert_eq!(client.feed(&window_update(1, 9_990)), Ok(vec![]));
    assert_eq!(client.feed(&window_update(1, 1)), Ok(vec![Seen::StreamWritable(1)]));
    assert_eq!(client.feed(&settings(&[(4, 50_100)])), Ok(vec![Seen::Settings, Seen::ConnectionWritable]));
    assert_eq!(client.connection.capacity(one), 101);
    assert!(client.connection.send_data(two, 0, true, &mut out));
    assert_eq!((client.connection.capacity(two), client.connection.is_sending(two)), (0, false));
    assert!(!client.connection.send_data(two, 0, true, &mut out));
    out.clear();
}

#[test]
fn a_small_window_holds_from_the_acknowledgement_on() {
    let options = Options { initial_stream_window: 100, ..server_options() };
    let mut server = End2::new(&options);
    server.release = false;
    let opening =
        [&millrace_http::h2::PREFACE[..], &settings(&[]), &headers(1, 0, POST), &headers(3, 0, POST)];
    assert!(server.feed(&opening.concat()).is_ok());
    // The client does not know our SETTINGS yet.
    assert_eq!(server.feed(&frame(DATA, 0, 1, &[0; 5000])).map(|seen| seen.len()), Ok(1));
    assert!(server.feed(&frame(SETTINGS, ACK, 0, &[])).is_ok());
    server.take();
    assert_eq!(server.feed(&frame(DATA, 0, 3, &[0; 100])).map(|seen| seen.len()), Ok(1));
    let seen = server.feed(&frame(DATA, 0, 3, &[0; 1])).expect("an error of the stream");
    assert!(matches!(seen[..], [Seen::Reset { id: 3, code: ErrorCode::FlowControl, .. }]));
    // What was used before is given back before anything new may come.
    server.connection.release(server.stream(1), 5000);
    assert_eq!(server.take().iter().filter(|f| f.stream == 1).map(Frame::number).collect::<Vec<_>>(), [5000]);
    assert_eq!(server.feed(&frame(DATA, 0, 1, &[0; 100])).map(|seen| seen.len()), Ok(1));
}

#[test]
fn what_is_queued_goes_before_what_it_makes_room_for() {
    let mut server = End2::new(&server_options());
    let opening = [&millrace_http::h2::PREFACE[..], &settings(&[(4, 0)]), &headers(1, END, GET)].concat();
    assert!(server.feed(&opening).is_ok());
    let sent = frames(&server.respond(1, false));
    let kinds: Vec<_> = sent.iter().map(|f| (f.kind, f.flags & ACK)).collect();
    assert_eq!(kinds, [(SETTINGS, 0), (WINDOW_UPDATE, 0), (SETTINGS, ACK), (HEADERS, 0)]);
    assert_eq!(server.feed(&settings(&[(4, 1)])).map(|seen| seen.len()), Ok(2));
    let mut out = Vec::new();
    assert!(server.connection.send_data(server.stream(1), 1, false, &mut out));
    out.push(b'x');
    let kinds: Vec<_> = frames(&out).iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [SETTINGS, DATA], "6.9.2: the acknowledgement comes first");
    assert!(!server.connection.has_control());
}
