//! CONNECT and extended CONNECT (RFC 9113 section 8.5, RFC 8441), as the upgrades that they are in HTTP/1.1.

use millrace_http::h2::{ErrorCode, Options, Side};
use millrace_http::{HeaderMap, ResponseHead};

use crate::support::*;

const EXTENDED: &[(&str, &str)] = &[
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":path", "/chat?x"),
    (":authority", "h"),
];

fn server() -> End2 {
    End2::server(&Options { allow_connect: true, ..server_options() })
}

#[test]
fn extended_connect_arrives_as_an_upgrade_and_leaves_as_one() {
    let mut server = server();
    let seen = server.feed(&headers(1, 0, &[EXTENDED, &[("sec-websocket-version", "13")]].concat()));
    let head =
        "GET https h /chat?x|connection: upgrade|upgrade: websocket|sec-websocket-version: 13|".to_owned();
    assert_eq!(seen, Ok(vec![Seen::Request { id: 1, end: false, head }]));
    // The answer of an HTTP/1.1 upstream.
    let mut response = ResponseHead::new();
    response.status = 101;
    for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "x")]
    {
        response.headers.append(name.as_bytes(), value.as_bytes());
    }
    let mut out = Vec::new();
    assert!(server.connection.send_response(server.stream(1), &response, false, &mut out));
    // An HTTP/2 client of ours makes a 101 of it again.
    let mut client = End2::client(&client_options());
    assert!(client.feed(&settings(&[(8, 1)])).is_ok());
    assert!(client.connection.peer_allows_connect());
    let mut sent = Vec::new();
    let upgrade = [GET, &[("connection", "Upgrade"), ("upgrade", "websocket")]].concat();
    let stream = client.connection.send_request(&request(&upgrade), 1, false, &mut sent).expect("room");
    client.streams.push(stream);
    let seen = client.feed(&out).expect("a response");
    let head = "101|sec-websocket-accept: x|upgrade: websocket|connection: upgrade|".to_owned();
    assert_eq!(seen, [Seen::Response { id: 1, end: false, head }]);
    // And the server reads the client's request as the same upgrade.
    let mut server = self::server();
    let head = "GET http h /|connection: upgrade|upgrade: websocket|".to_owned();
    assert_eq!(server.feed(&sent), Ok(vec![Seen::Request { id: 1, end: false, head }]));
}

#[test]
fn tunnels_carry_data_until_both_ends_are_done() {
    let mut server = server();
    let connect = [(":method", "CONNECT"), (":authority", "h:443")];
    let seen = server.feed(&headers(1, 0, &connect)).expect("a request");
    assert_eq!(seen, [Seen::Request { id: 1, end: false, head: "CONNECT  h:443 |".into() }]);
    server.respond(1, false);
    let seen = server.feed(&[frame(DATA, 0, 1, b"hello"), frame(DATA, END, 1, b"")].concat());
    assert_eq!(seen, Ok(vec![Seen::Data { id: 1, bytes: b"hello".to_vec(), end: true }]));
    let mut out = Vec::new();
    assert!(server.connection.send_trailers(server.stream(1), &HeaderMap::new(), &mut out));
    assert_eq!(frames(&out), [Frame { kind: DATA, flags: END, stream: 1, payload: vec![] }]);
    assert_eq!(server.connection.open_streams(), 0);
    // A field block has no place in a tunnel (section 8.5).
    assert!(server.feed(&headers(3, 0, EXTENDED)).is_ok());
    let seen = server.feed(&headers(3, END, &[("x", "y")]));
    assert_eq!(seen, Ok(vec![Seen::Reset { id: 3, code: ErrorCode::Protocol, by: Side::Us }]));
}

#[test]
fn requests_that_are_no_connect() {
    let without = |name: &str| EXTENDED.iter().copied().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let with = |name: &'static str, value: &'static str| {
        EXTENDED.iter().map(|(n, v)| (*n, if *n == name { value } else { *v })).collect::<Vec<_>>()
    };
    for (what, fields) in [
        ("8441-4: only CONNECT has a protocol", with(":method", "GET")),
        ("8441-4: a scheme", without(":scheme")),
        ("8441-4: a path", without(":path")),
        ("8441-4: an authority", without(":authority")),
        ("8441-4: a path that is one", with(":path", "*")),
        ("9110-7.8: a protocol that is one", with(":protocol", "a b")),
        ("9110-7.8: no version of a version", with(":protocol", "a/1/2")),
        ("8441-4: one protocol", [EXTENDED, &EXTENDED[1..2]].concat()),
        ("9110-9.3.6: no content", [EXTENDED, &[("content-length", "1")]].concat()),
        ("8.5: no scheme and path", without(":protocol")),
        ("8.5: a port", vec![EXTENDED[0], (":authority", "h")]),
        ("8.5: a port that is one", vec![EXTENDED[0], (":authority", "h:0")]),
        ("8.5: an authority, not host", vec![EXTENDED[0], ("host", "h:443")]),
    ] {
        let mut server = server();
        assert_eq!(server.feed(&headers(1, 0, &fields)), Ok(vec![]), "{what}");
        assert_eq!(server.take().first().map(|f| (f.kind, f.number())), Some((RST_STREAM, 1)), "{what}");
    }
    let mut server = End2::server(&server_options());
    assert_eq!(server.feed(&headers(1, 0, EXTENDED)), Ok(vec![]), "8441-3: it was not offered");
    assert!(
        server.feed(&headers(3, 0, &[EXTENDED[0], (":authority", "h:1")])).is_ok_and(|seen| seen.len() == 1)
    );
    let mut server = self::server();
    let ended = [EXTENDED, &[("content-length", "0")]].concat();
    assert!(server.feed(&headers(1, END, &ended)).is_ok_and(|seen| seen.len() == 1));
}

#[test]
fn upgrades_that_cannot_be_sent() {
    let mut client = End2::client(&client_options());
    let upgrade = [GET, &[("connection", "upgrade"), ("upgrade", "websocket")]].concat();
    let mut out = Vec::new();
    assert!(client.connection.send_request(&request(&upgrade), 1, true, &mut out).is_some());
    let mut server = server();
    let plain = Seen::Request { id: 1, end: true, head: "GET http h /|".into() };
    assert_eq!(server.feed(&out), Ok(vec![plain]), "the server did not offer extended CONNECT");
    let mut response = ResponseHead::new();
    response.status = 101;
    let mut out = Vec::new();
    assert!(!server.connection.send_response(server.stream(1), &response, false, &mut out));
    assert!(out.is_empty(), "101 to a plain GET");
}

#[test]
fn refused_tunnels_are_ordinary_responses() {
    let mut client = End2::client(&client_options());
    assert!(client.feed(&settings(&[(8, 1)])).is_ok());
    let upgrade = [GET, &[("connection", "upgrade"), ("upgrade", "websocket")]].concat();
    let mut out = Vec::new();
    let stream = client.connection.send_request(&request(&upgrade), 1, false, &mut out).expect("room");
    client.streams.push(stream);
    let refused = [(":status", "403"), ("content-length", "3")];
    let answer = [headers(1, 0, &refused), frame(DATA, 0, 1, b"no!"), headers(1, END, &[("x", "y")])];
    let seen = client.feed(&answer.concat()).expect("a response");
    assert_eq!(seen[0], Seen::Response { id: 1, end: false, head: "403|content-length: 3|".into() });
    assert_eq!(seen[1], Seen::Data { id: 1, bytes: b"no!".to_vec(), end: false });
    assert_eq!(seen[2], Seen::Trailers { id: 1, fields: "x: y|".into() });
}
