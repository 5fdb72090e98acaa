//! Every rule that a client can break: its scope and its code, beside a neighbour that lives or does not.

use millrace_http::h2::{ErrorCode, Side};

use crate::support::*;

/// What becomes of broken rules.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// Nothing: the frames are ignored.
    Ignored,
    /// RST_STREAM on this stream; the neighbours live.
    Stream(u32, ErrorCode),
    /// GOAWAY; nobody lives.
    Connection(ErrorCode),
}

use ErrorCode::*;
use Outcome::{Connection as Ce, Ignored, Stream as Se};

/// A server with a stream in each state: 1 is open, 3 waits for our response, 5 is complete, 7 was reset by the client,
/// 9 by us; 2 to 10 in steps of 2 are of the wrong parity, and 11 and above are idle.
fn populated() -> End2 {
    let mut server = End2::server(&server_options());
    let requests = [
        headers(1, 0, POST),
        headers(3, END, GET),
        headers(5, END, GET),
        headers(7, 0, POST),
        headers(9, 0, POST),
        rst_stream(7, 8),
    ];
    assert!(server.feed(&requests.concat()).is_ok());
    server.respond(5, true);
    server.connection.reset(server.stream(9), Cancel);
    server.take();
    server
}

fn check(what: &str, bytes: &[u8], outcome: Outcome) {
    let mut server = populated();
    let before = server.connection.open_streams();
    let mut seen = Vec::new();
    let result = server.feed_into(bytes, &mut || usize::MAX, &mut seen);
    let sent = server.take();
    let resets: Vec<_> = sent.iter().filter(|f| f.kind == RST_STREAM).collect();
    let goaway: Vec<_> = sent.iter().filter(|f| f.kind == GOAWAY).collect();
    match outcome {
        Ce(code) => {
            let error = result.expect_err(what);
            assert_eq!(error.code(), code, "{what}: {error:?}");
            assert_eq!(goaway.len(), 1, "{what}");
            assert_eq!(goaway[0].payload[4..], code.to_wire().to_be_bytes(), "{what}");
            assert_eq!(server.feed(&[]), Err(error), "{what}: the error stays");
            assert!(server.take().is_empty(), "{what}");
            return;
        }
        Se(id, code) => {
            assert_eq!(result, Ok(()), "{what}");
            assert_eq!((resets.len(), goaway.len()), (1, 0), "{what}: {sent:?}");
            assert_eq!((resets[0].stream, resets[0].number()), (id, code.to_wire()), "{what}");
            if id < 5 {
                let reset = Seen::Reset { id, code, by: Side::Us };
                assert!(seen.contains(&reset), "{what}: the caller hears of {seen:?}");
                assert_eq!(server.connection.open_streams(), before - 1, "{what}");
            } else {
                assert_eq!(seen, [], "{what}: the caller never heard of it");
            }
        }
        Ignored => {
            assert_eq!((result, seen.as_slice()), (Ok(()), &[][..]), "{what}");
            assert_eq!((resets.len(), goaway.len()), (0, 0), "{what}");
        }
    }
    neighbour_lives(&mut server, what, matches!(outcome, Se(1, _)));
}

/// The HPACK state is in step, streams still open, and what was open before can be completed.
fn neighbour_lives(server: &mut End2, what: &str, first_is_gone: bool) {
    if !first_is_gone {
        let body = frame(DATA, END, 1, b"body");
        let data = Seen::Data { id: 1, bytes: b"body".to_vec(), end: true };
        assert_eq!(server.feed(&body), Ok(vec![data]), "{what}");
        assert!(!server.respond(1, true).is_empty(), "{what}");
    }
    let seen = server.feed(&headers(101, END, GET)).expect(what);
    assert!(matches!(seen[..], [Seen::Request { id: 101, end: true, .. }]), "{what}: {seen:?}");
    assert!(!server.respond(101, true).is_empty(), "{what}");
    assert_eq!(server.connection.unreleased(), 0, "{what}");
}

/// HEADERS with PRIORITY: depends on `on`.
fn depending(id: u32, on: u32, flags: u8) -> Vec<u8> {
    let payload = [&on.to_be_bytes()[..], &[16], &block(GET)].concat();
    frame(HEADERS, flags | END_HEADERS | WITH_PRIORITY, id, &payload)
}

fn long(kind: u8, id: u32) -> Vec<u8> {
    frame(kind, END_HEADERS, id, &vec![0; 16_385])
}

#[test]
fn frames_that_may_not_be() {
    for (rule, bytes, outcome) in [
        ("4.2 DATA above the frame size", long(DATA, 1), Ce(FrameSize)),
        ("4.2 HEADERS above the frame size", long(HEADERS, 11), Ce(FrameSize)),
        ("4.2 an unknown frame above the frame size", long(99, 1), Ce(FrameSize)),
        ("4.1 an unknown frame", frame(99, 255, 1, b"x"), Ignored),
        ("4.1 an unknown frame on an idle stream", frame(99, 255, 77, b"x"), Ignored),
        ("4.1 unknown flags", frame(PING, 0xfe, 0, &[0; 8]), Ignored),
        ("4.3 index 0", frame(HEADERS, END_HEADERS, 11, &[0x80]), Ce(Compression)),
        ("4.3 an index that is not there", frame(HEADERS, END_HEADERS, 11, &[0xff, 0x7f]), Ce(Compression)),
        ("4.3 a broken block on a refused stream", frame(HEADERS, END_HEADERS, 3, &[0x80]), Ce(Compression)),
        (
            "4.3 a broken block on a stream that we reset",
            frame(HEADERS, END_HEADERS, 9, &[0x80]),
            Ce(Compression),
        ),
        ("6.1 DATA on stream 0", frame(DATA, 0, 0, b"x"), Ce(Protocol)),
        ("6.1 padding as long as the payload", frame(DATA, PADDED, 1, &[2, 0]), Ce(Protocol)),
        ("6.1 no room for the padding's length", frame(DATA, PADDED, 1, &[]), Ce(FrameSize)),
        ("6.2 HEADERS on stream 0", headers(0, END, GET), Ce(Protocol)),
        (
            "6.2 padding beyond the payload",
            frame(HEADERS, PADDED | END_HEADERS, 11, &[200, 0x82]),
            Ce(Protocol),
        ),
        (
            "6.2 no room for the padding's length",
            frame(HEADERS, PADDED | END_HEADERS, 11, &[]),
            Ce(FrameSize),
        ),
        (
            "6.2 no room for the priority",
            frame(HEADERS, WITH_PRIORITY | END_HEADERS, 11, &[0; 4]),
            Ce(FrameSize),
        ),
        ("6.3 PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0; 5]), Ce(Protocol)),
        ("6.3 PRIORITY of 4 octets", frame(PRIORITY, 0, 1, &[0; 4]), Se(1, FrameSize)),
        ("6.3 PRIORITY of 6 octets", frame(PRIORITY, 0, 11, &[0; 6]), Se(11, FrameSize)),
        ("6.4 RST_STREAM on stream 0", rst_stream(0, 8), Ce(Protocol)),
        ("6.4 RST_STREAM of 5 octets", frame(RST_STREAM, 0, 1, &[0; 5]), Ce(FrameSize)),
        ("6.4 RST_STREAM of 3 octets", frame(RST_STREAM, 0, 1, &[0; 3]), Ce(FrameSize)),
        ("6.6 PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]), Ce(Protocol)),
        ("6.7 PING on a stream", frame(PING, 0, 1, &[0; 8]), Ce(Protocol)),
        ("6.7 PING of 7 octets", frame(PING, 0, 0, &[0; 7]), Ce(FrameSize)),
        ("6.7 PING of 9 octets", frame(PING, ACK, 0, &[0; 9]), Ce(FrameSize)),
        ("6.7 an acknowledgement of a PING that we did not send", frame(PING, ACK, 0, &[9; 8]), Ignored),
        ("6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), Ce(Protocol)),
        ("6.8 GOAWAY of 7 octets", frame(GOAWAY, 0, 0, &[0; 7]), Ce(FrameSize)),
    ] {
        check(rule, &bytes, outcome);
    }
}

#[test]
fn settings_that_may_not_be() {
    for (rule, bytes, outcome) in [
        ("6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), Ce(Protocol)),
        ("6.5 SETTINGS of 5 octets", frame(SETTINGS, 0, 0, &[0; 5]), Ce(FrameSize)),
        ("6.5 an acknowledgement with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), Ce(FrameSize)),
        ("6.5 an acknowledgement too many", frame(SETTINGS, ACK, 0, &[]), Ignored),
        ("6.5.2 ENABLE_PUSH 2", settings(&[(2, 2)]), Ce(Protocol)),
        ("6.5.2 INITIAL_WINDOW_SIZE 2^31", settings(&[(4, 1 << 31)]), Ce(FlowControl)),
        ("6.5.2 MAX_FRAME_SIZE 16383", settings(&[(5, 16_383)]), Ce(Protocol)),
        ("6.5.2 MAX_FRAME_SIZE 2^24", settings(&[(5, 1 << 24)]), Ce(Protocol)),
        ("8441-3 ENABLE_CONNECT_PROTOCOL 2", settings(&[(8, 2)]), Ce(Protocol)),
        ("9218-2.1 NO_RFC7540_PRIORITIES 2", settings(&[(9, 2)]), Ce(Protocol)),
        (
            "6.9.2 SETTINGS that lift a window above 2^31-1",
            [window_update(1, 1), settings(&[(4, 0x7fff_ffff)])].concat(),
            Ce(FlowControl),
        ),
    ] {
        check(rule, &bytes, outcome);
    }
    let mut server = populated();
    assert_eq!(server.feed(&settings(&[(0xabcd, 1)])), Ok(vec![Seen::Settings]), "6.5.2: unknown settings");
    assert_eq!(server.take().len(), 1);
}

#[test]
fn streams_in_the_wrong_state() {
    for (rule, bytes, outcome) in [
        ("5.1 DATA on an idle stream", frame(DATA, 0, 11, b"x"), Ce(Protocol)),
        ("5.1 RST_STREAM on an idle stream", rst_stream(11, 8), Ce(Protocol)),
        ("5.1 WINDOW_UPDATE on an idle stream", window_update(11, 1), Ce(Protocol)),
        ("5.1 PRIORITY on an idle stream", frame(PRIORITY, 0, 11, &[0, 0, 0, 1, 5]), Ignored),
        ("5.1 DATA on an idle stream of ours", frame(DATA, 0, 2, b"x"), Ce(Protocol)),
        ("5.1 WINDOW_UPDATE on an idle stream of ours", window_update(2, 1), Ce(Protocol)),
        ("5.1 DATA, half-closed (remote)", frame(DATA, END, 3, b"x"), Se(3, StreamClosed)),
        ("5.1 HEADERS, half-closed (remote)", headers(3, END, &[("x", "y")]), Se(3, StreamClosed)),
        ("5.1 PRIORITY, half-closed (remote)", frame(PRIORITY, 0, 3, &[0; 5]), Ignored),
        ("5.1 DATA, closed", frame(DATA, 0, 5, b"x"), Ce(StreamClosed)),
        ("5.1 HEADERS, closed", headers(5, END, GET), Ce(StreamClosed)),
        ("5.1 WINDOW_UPDATE, closed", window_update(5, 1), Ignored),
        ("5.1 RST_STREAM, closed", rst_stream(5, 8), Ignored),
        ("5.1 PRIORITY, closed", frame(PRIORITY, 0, 5, &[0; 5]), Ignored),
        ("5.1 DATA behind RST_STREAM", frame(DATA, 0, 7, b"x"), Se(7, StreamClosed)),
        ("5.1 HEADERS behind RST_STREAM", headers(7, END, GET), Se(7, StreamClosed)),
        ("5.1 RST_STREAM twice", rst_stream(7, 8), Ignored),
        ("5.1 DATA before the client knows of our reset", frame(DATA, END, 9, b"x"), Ignored),
        ("5.1 HEADERS before the client knows of our reset", headers(9, END, &[("x", "y")]), Ignored),
        ("5.1 WINDOW_UPDATE before the client knows of our reset", window_update(9, 5), Ignored),
        ("5.1 RST_STREAM before the client knows of our reset", rst_stream(9, 5), Ignored),
        ("5.1.1 an even identifier", headers(12, END, GET), Ce(Protocol)),
        (
            "5.1.1 a smaller identifier",
            [headers(15, END, &POST[1..]), headers(13, END, GET)].concat(),
            Ce(Protocol),
        ),
        ("5.3.1 HEADERS that depend on themselves", depending(11, 11, END), Se(11, Protocol)),
        ("5.3.1 HEADERS that depend on themselves later", depending(1, 1, END), Se(1, Protocol)),
        ("5.3.1 PRIORITY that depends on itself", frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 5]), Se(1, Protocol)),
        (
            "5.3.1 PRIORITY of an idle stream on itself",
            frame(PRIORITY, 0, 21, &[0, 0, 0, 21, 5]),
            Se(21, Protocol),
        ),
        ("8.1 trailers that do not end the stream", headers(1, 0, &[("x", "y")]), Se(1, Protocol)),
    ] {
        check(rule, &bytes, outcome);
    }
}

#[test]
fn windows_that_may_not_be() {
    let full = vec![0; 16_384];
    let beyond_stream: Vec<u8> = (0..5).flat_map(|_| frame(DATA, 0, 1, &full)).collect();
    for (rule, bytes, outcome) in [
        ("6.9 WINDOW_UPDATE of 0", window_update(1, 0), Se(1, Protocol)),
        ("6.9 WINDOW_UPDATE of 0 for the connection", window_update(0, 0), Ce(Protocol)),
        ("6.9 the reserved bit is ignored", window_update(1, 1 << 31), Se(1, Protocol)),
        ("6.9 WINDOW_UPDATE of 3 octets", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Ce(FrameSize)),
        ("6.9 WINDOW_UPDATE of 5 octets", frame(WINDOW_UPDATE, 0, 1, &[0; 5]), Ce(FrameSize)),
        ("6.9.1 a stream's window above 2^31-1", window_update(1, 0x7fff_ffff), Se(1, FlowControl)),
        ("6.9.1 the connection's window above 2^31-1", window_update(0, 0x7fff_ffff), Ce(FlowControl)),
    ] {
        check(rule, &bytes, outcome);
    }
    let mut server = populated();
    server.release = false;
    let reset = Seen::Reset { id: 1, code: FlowControl, by: Side::Us };
    let seen = server.feed(&beyond_stream).expect("6.9.1: an error of the stream");
    assert_eq!(seen.last(), Some(&reset), "64 KiB are four frames");
    assert_eq!(server.connection.unreleased(), 65_536);

    let options = millrace_http::h2::Options { initial_connection_window: 65_535, ..server_options() };
    let mut server = End2::server(&options);
    server.release = false;
    assert!(server.feed(&[headers(1, 0, POST), headers(3, 0, POST)].concat()).is_ok());
    let sent: Vec<u8> = (0..4).flat_map(|i| frame(DATA, 0, 1 + 2 * (i & 1), &full)).collect();
    assert_eq!(server.feed(&sent).map_err(|e| e.code()), Err(FlowControl), "6.9.1: 65,536 octets");
}

#[test]
fn blocks_are_not_interrupted() {
    let begun = |id: u32| frame(HEADERS, END, id, &block(GET));
    let more = |id: u32, flags: u8| frame(CONTINUATION, flags, id, &block(&[("x", "y")]));
    for (rule, bytes, outcome) in [
        ("6.10 CONTINUATION without HEADERS", more(1, END_HEADERS), Ce(Protocol)),
        ("6.10 CONTINUATION on stream 0", more(0, END_HEADERS), Ce(Protocol)),
        (
            "6.10 CONTINUATION behind the end",
            [headers(11, END, &GET[1..]), more(11, END_HEADERS)].concat(),
            Ce(Protocol),
        ),
        ("6.10 DATA in a block", [begun(11), frame(DATA, 0, 1, b"x")].concat(), Ce(Protocol)),
        ("6.10 HEADERS in a block", [begun(11), headers(13, END, GET)].concat(), Ce(Protocol)),
        ("6.10 an unknown frame in a block", [begun(11), frame(99, 0, 11, b"x")].concat(), Ce(Protocol)),
        ("6.10 another stream's CONTINUATION", [begun(11), more(13, END_HEADERS)].concat(), Ce(Protocol)),
        (
            "6.2 a block that ends nowhere",
            [begun(11), more(11, 0), frame(PING, 0, 0, &[0; 8])].concat(),
            Ce(Protocol),
        ),
        (
            "4.3 a fragment that breaks a field",
            [begun(11), frame(CONTINUATION, 4, 11, &[0, 5])].concat(),
            Ce(Compression),
        ),
    ] {
        check(rule, &bytes, outcome);
    }
    let mut server = populated();
    let split = [begun(11), more(11, 0), more(11, END_HEADERS)].concat();
    let head = "GET http h /|x: y|x: y|".to_owned();
    assert_eq!(server.feed(&split), Ok(vec![Seen::Request { id: 11, end: true, head }]));
}

#[test]
fn priority_updates() {
    let update = |id: u32, value: &[u8]| frame(PRIORITY_UPDATE, 0, 0, &[&id.to_be_bytes(), value].concat());
    for (rule, bytes, outcome) in [
        ("9218-7.1 on a stream", frame(PRIORITY_UPDATE, 0, 1, &[0, 0, 0, 1]), Ce(Protocol)),
        ("9218-7.1 without a stream", frame(PRIORITY_UPDATE, 0, 0, &[0, 0, 1]), Ce(FrameSize)),
        ("9218-7.1 for stream 0", update(0, b"u=1"), Ce(Protocol)),
        ("9218-7.1 for a push", update(2, b"u=1"), Ce(Protocol)),
        ("9218-7.1 for an idle stream", update(11, b"u=1"), Ignored),
        ("9218-7.1 for a closed stream", update(5, b"u=1"), Ignored),
    ] {
        check(rule, &bytes, outcome);
    }
    let mut server = populated();
    assert_eq!(server.feed(&update(3, b"u=1, i")), Ok(vec![]));
    let priority = server.connection.priority(server.stream(3));
    assert_eq!((priority.urgency, priority.incremental), (1, true));
    assert!(server.feed(&headers(11, END, &[GET, &[("priority", "u=6")]].concat())).is_ok());
    assert_eq!(server.connection.priority(server.stream(11)).urgency, 6);
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let options = millrace_http::h2::Options { max_concurrent_streams: 2, ..server_options() };
    let mut server = End2::server(&options);
    let bytes =
        [headers(1, END, GET), headers(3, 0, POST), headers(5, END, GET), headers(7, 0, POST)].concat();
    let seen =
        server.feed(&[bytes, frame(DATA, END, 7, b"late")].concat()).expect("5.1.2: errors of streams");
    assert_eq!(seen.len(), 2, "{seen:?}");
    let sent: Vec<_> = server.take().iter().map(|f| (f.kind, f.stream, f.number())).collect();
    assert_eq!(sent, [(RST_STREAM, 5, 7), (RST_STREAM, 7, 7)]);
    assert_eq!(server.connection.take_counts().refused_streams, 2);
    server.respond(1, true);
    assert_eq!(server.feed(&headers(9, END, GET)).map(|seen| seen.len()), Ok(1));
    assert_eq!(server.connection.unreleased(), 0);
}

#[test]
fn prefaces() {
    for (what, bytes, code) in [
        ("HTTP/1.1", &b"GET / HTTP/1.1\r\n"[..], Protocol),
        ("a wrong end", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", Protocol),
    ] {
        let mut server = End2::new(&server_options());
        assert_eq!(server.feed(bytes).map_err(|e| e.code()), Err(code), "3.4: {what}");
    }
    for first in [frame(PING, 0, 0, &[0; 8]), headers(1, END, GET), frame(SETTINGS, ACK, 0, &[])] {
        let mut server = End2::new(&server_options());
        let bytes = [&millrace_http::h2::PREFACE[..], &first].concat();
        assert_eq!(server.feed(&bytes).map_err(|e| e.code()), Err(Protocol), "3.4: SETTINGS come first");
    }
    let mut server = End2::new(&server_options());
    for byte in millrace_http::h2::PREFACE {
        assert_eq!(server.feed(&[*byte]), Ok(vec![]));
    }
    assert_eq!(server.feed(&settings(&[])), Ok(vec![Seen::Settings]));
    let sent = server.take();
    let kinds: Vec<_> = sent.iter().map(|f| (f.kind, f.flags)).collect();
    assert_eq!(kinds, [(SETTINGS, 0), (WINDOW_UPDATE, 0), (SETTINGS, ACK)]);
    assert_eq!(sent[1].number(), 1024 * 1024 - 65_535);
}
