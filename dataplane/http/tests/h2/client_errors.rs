//! Every rule that a server can break: its scope and its code, beside an exchange that lives or does not.

use millrace_http::h2::{ErrorCode, Options, Side};

use crate::support::*;

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Ignored,
    Stream(u32, ErrorCode),
    Connection(ErrorCode),
}

use ErrorCode::*;
use Outcome::{Connection as Ce, Ignored, Stream as Se};

/// A client with an exchange in each state: 1 waits for its response, 3 has the response's head, 5 is complete, 7 was
/// reset by the server, 9 by us, 11 is HEAD, 13 waits while its request is not complete.
fn populated() -> End2 {
    let mut client = End2::client(&client_options());
    for _ in 0..5 {
        client.get(true);
    }
    let mut out = Vec::new();
    let head = request(&[&[(":method", "HEAD")], &GET[1..]].concat());
    let stream = client.connection.send_request(&head, 11, true, &mut out).expect("room");
    client.streams.push(stream);
    client.get(false);
    client.connection.reset(client.stream(9), Cancel);
    let answers = [headers(3, 0, OK), headers(5, END, OK), rst_stream(7, 2)].concat();
    assert_eq!(client.feed(&answers).map(|seen| seen.len()), Ok(3));
    client.take();
    client
}

fn check(what: &str, bytes: &[u8], outcome: Outcome) {
    let mut client = populated();
    let mut seen = Vec::new();
    let result = client.feed_into(bytes, &mut || usize::MAX, &mut seen);
    let sent = client.take();
    let resets: Vec<_> =
        sent.iter().filter(|f| f.kind == RST_STREAM).map(|f| (f.stream, f.number())).collect();
    match outcome {
        Ce(code) => {
            assert_eq!(result.map_err(|e| e.code()), Err(code), "{what}");
            let goaway: Vec<_> = sent.iter().filter(|f| f.kind == GOAWAY).collect();
            assert_eq!((goaway.len(), goaway[0].number()), (1, 0), "{what}: servers open no streams");
            return;
        }
        Se(id, code) => {
            assert_eq!(result, Ok(()), "{what}");
            assert_eq!(resets, [(id, code.to_wire())], "{what}");
            let reset = Seen::Reset { id, code, by: Side::Us };
            assert_eq!(seen.last() == Some(&reset), id != 7, "{what}: {seen:?}");
        }
        Ignored => {
            assert_eq!((result, seen.as_slice(), resets.as_slice()), (Ok(()), &[][..], &[][..]), "{what}");
        }
    }
    // Another exchange of the connection is not touched.
    let other = if matches!(outcome, Se(1, _)) { 13 } else { 1 };
    let seen = client.feed(&headers(other, END, OK)).expect(what);
    assert!(matches!(seen[..], [Seen::Response { end: true, .. }]), "{what}: {seen:?}");
    assert_eq!(client.connection.unreleased(), 0, "{what}");
}

#[test]
fn frames_and_states() {
    for (rule, bytes, outcome) in [
        ("8.4 PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]), Ce(Protocol)),
        ("5.1.1 HEADERS on a stream of the server's", headers(2, END, OK), Ce(Protocol)),
        ("5.1 HEADERS on an idle stream", headers(15, END, OK), Ce(Protocol)),
        ("5.1 DATA on an idle stream", frame(DATA, 0, 15, b"x"), Ce(Protocol)),
        ("5.1 WINDOW_UPDATE on an idle stream", window_update(15, 1), Ce(Protocol)),
        ("5.1 RST_STREAM on an idle stream", rst_stream(15, 1), Ce(Protocol)),
        ("5.1 DATA behind the end", frame(DATA, 0, 5, b"x"), Ce(StreamClosed)),
        ("5.1 HEADERS behind the end", headers(5, END, OK), Ce(StreamClosed)),
        ("5.1 WINDOW_UPDATE behind the end", window_update(5, 1), Ignored),
        ("5.1 DATA behind RST_STREAM", frame(DATA, 0, 7, b"x"), Se(7, StreamClosed)),
        (
            "5.1 a response that comes after our reset",
            [headers(9, 0, OK), frame(DATA, END, 9, b"x")].concat(),
            Ignored,
        ),
        ("6.5.2 ENABLE_PUSH 1", settings(&[(2, 1)]), Ce(Protocol)),
        ("9218-7.1 PRIORITY_UPDATE", frame(PRIORITY_UPDATE, 0, 0, &[0, 0, 0, 1]), Ce(Protocol)),
        ("6.9 WINDOW_UPDATE of 0", window_update(13, 0), Se(13, Protocol)),
    ] {
        check(rule, &bytes, outcome);
    }
}

#[test]
fn responses() {
    let with = |fields: &[(&str, &str)]| headers(1, 0, &[OK, fields].concat());
    let status = |status: &str, end: u8| headers(1, end, &[(":status", status)]);
    for (rule, bytes, outcome) in [
        ("8.1 DATA before the head", frame(DATA, 0, 1, b"x"), Se(1, Protocol)),
        (
            "8.1 DATA behind an interim head",
            [status("103", 0), frame(DATA, 0, 1, b"x")].concat(),
            Se(1, Protocol),
        ),
        ("8.1 an interim head that ends the stream", status("103", END), Se(1, Protocol)),
        ("8.6 101", status("101", 0), Se(1, Protocol)),
        ("8.1 a second head", headers(3, 0, OK), Se(3, Protocol)),
        ("8.1 trailers that do not end the stream", headers(3, 0, &[("x", "y")]), Se(3, Protocol)),
        ("8.1 trailers with a pseudo-header field", headers(3, END, OK), Se(3, Protocol)),
        ("8.3.2 no status", headers(1, END, &[("x", "y")]), Se(1, Protocol)),
        ("8.3.2 two statuses", headers(1, END, &[OK[0], OK[0]]), Se(1, Protocol)),
        ("8.3.2 a status of two digits", status("20", END), Se(1, Protocol)),
        ("8.3.2 a status with a sign", status("+20", END), Se(1, Protocol)),
        ("8.3.2 a status of four digits", status("2000", END), Se(1, Protocol)),
        ("8.3.2 a status below 100", status("099", END), Se(1, Protocol)),
        ("8.3 a request's pseudo-header field", with(&[(":path", "/")]), Se(1, Protocol)),
        ("8.3 a status behind a field", headers(1, END, &[("x", "y"), OK[0]]), Se(1, Protocol)),
        ("8.2.1 a name in capitals", with(&[("X", "y")]), Se(1, Protocol)),
        ("8.2.1 a value with CR", with(&[("x", "a\rb")]), Se(1, Protocol)),
        ("8.2.2 connection", with(&[("connection", "close")]), Se(1, Protocol)),
        ("8.2.2 transfer-encoding", with(&[("transfer-encoding", "chunked")]), Se(1, Protocol)),
        ("8.2.2 te", with(&[("te", "trailers")]), Se(1, Protocol)),
        (
            "8.1.1 content-length twice",
            with(&[("content-length", "1"), ("content-length", "1")]),
            Se(1, Protocol),
        ),
        ("8.1.1 no body", headers(1, END, &[OK[0], ("content-length", "1")]), Se(1, Protocol)),
        (
            "8.1.1 too much body",
            [with(&[("content-length", "1")]), frame(DATA, 0, 1, b"xy")].concat(),
            Se(1, Protocol),
        ),
        (
            "8.1.1 too little body",
            [with(&[("content-length", "3")]), frame(DATA, END, 1, b"xy")].concat(),
            Se(1, Protocol),
        ),
        (
            "8.1.1 too little body before trailers",
            [with(&[("content-length", "3")]), headers(1, END, &[("x", "y")])].concat(),
            Se(1, Protocol),
        ),
        ("8.1.1 a body of 204", [status("204", 0), frame(DATA, END, 1, b"x")].concat(), Se(1, Protocol)),
        ("8.1.1 a body of 304", [status("304", 0), frame(DATA, END, 1, b"x")].concat(), Se(1, Protocol)),
        (
            "9110-8.6 content-length of 204",
            headers(1, END, &[(":status", "204"), ("content-length", "1")]),
            Se(1, Protocol),
        ),
        ("8.1.1 a body of HEAD", [headers(11, 0, OK), frame(DATA, END, 11, b"x")].concat(), Se(11, Protocol)),
    ] {
        check(rule, &bytes, outcome);
    }
}

#[test]
fn responses_without_a_body_may_have_a_length() {
    let mut client = populated();
    let length = ("content-length", "5");
    let bytes = [
        headers(11, END, &[OK[0], length]),
        headers(1, 0, &[(":status", "304"), length]),
        frame(DATA, END, 1, b""),
        headers(13, 0, &[OK[0], length]),
        frame(DATA, 0, 13, b"12345"),
        headers(13, END, &[("grpc-status", "0")]),
    ];
    let seen = client.feed(&bytes.concat()).expect("no error");
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert_eq!(seen[5], Seen::Trailers { id: 13, fields: "grpc-status: 0|".into() });
    assert!(client.connection.is_sending(client.stream(13)), "its request is not complete");
}

#[test]
fn interim_heads_come_before_the_final_one() {
    let mut client = populated();
    let bytes = [
        headers(1, 0, &[(":status", "100")]),
        headers(1, 0, &[(":status", "103"), ("link", "</a>")]),
        headers(1, END, &[OK[0], ("a", "b")]),
    ];
    let seen = client.feed(&bytes.concat()).expect("no error");
    assert_eq!(
        seen,
        [
            Seen::Informational { id: 1, status: 100 },
            Seen::Informational { id: 1, status: 103 },
            Seen::Response { id: 1, end: true, head: "200|a: b|".into() },
        ]
    );
}

#[test]
fn heads_beyond_the_limits_end_their_exchange() {
    let options = Options { head_fields_max: 5, head_bytes_max: 1000, ..client_options() };
    let mut client = End2::client(&options);
    client.get(true);
    client.get(true);
    let fields = vec![("a", "b"); 10];
    let reset = |id| Seen::Reset { id, code: EnhanceYourCalm, by: Side::Us };
    assert_eq!(client.feed(&headers(1, 0, &[OK, &fields].concat())), Ok(vec![reset(1)]));
    let long = "x".repeat(1000);
    let bytes = [headers(3, 0, OK), headers(3, END, &[("x", &long)])].concat();
    assert_eq!(client.feed(&bytes).map(|seen| seen[1].clone()), Ok(reset(3)));
    assert_eq!(client.connection.take_counts().header_overflow, 2);
}

#[test]
fn the_server_must_begin_with_settings() {
    for first in [headers(1, END, OK), frame(SETTINGS, ACK, 0, &[]), b"HTTP/1.1 400 Bad Request".to_vec()] {
        let mut client = End2::new(&client_options());
        client.get(true);
        assert!(client.feed(&first).is_err(), "3.4");
    }
}
