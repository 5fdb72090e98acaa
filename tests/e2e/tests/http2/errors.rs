//! Frames against the rules (RFC 9113, RFC 7541): which end the connection, which end a stream, and which are ignored; with
//! a neighbour on the same connection and a victim on another. And captured sessions, replayed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2::frame::{self, PREFACE, code, flag, kind, setting};
use millrace_support::h2::{Client, client, hpack};
use millrace_support::process::Proxy;
use millrace_support::raw;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Step, Upstream};

pub(crate) const CASES: &[Case] =
    &[case!(connection_errors), case!(stream_errors), case!(what_is_ignored), case!(captured_sessions)];

/// A name, what is sent, and the codes that are right. Stream 1 is a POST that is not complete, stream 3 a GET without
/// an answer yet; streams from 5 on are idle.
type Row = (&'static str, fn() -> Vec<u8>, &'static [u32]);

use code::{
    COMPRESSION_ERROR as COMPRESSION, FLOW_CONTROL_ERROR as FLOW, FRAME_SIZE_ERROR as SIZE,
    PROTOCOL_ERROR as PROTOCOL, STREAM_CLOSED as CLOSED,
};

fn head() -> Vec<u8> {
    hpack::block(&client::head("GET", "/", &[]))
}

/// A GET on stream 5 whose block ends with these octets.
fn coded(tail: &[u8]) -> Vec<u8> {
    frame::headers(5, &[&head(), tail].concat(), true)
}

fn any(kind: u8, flags: u8, stream: u32, len: usize) -> Vec<u8> {
    frame::frame(kind, flags, stream, &vec![0; len])
}

const CONNECTION: &[Row] = &[
    ("DATA on stream 0", || frame::data(0, b"x", false), &[PROTOCOL]),
    ("DATA on an idle stream", || frame::data(9, b"x", false), &[PROTOCOL, CLOSED]),
    ("DATA with too much padding", || frame::frame(kind::DATA, flag::PADDED, 1, &[9, 0]), &[PROTOCOL]),
    ("DATA beyond the frame size", || any(kind::DATA, 0, 1, 16_385), &[SIZE]),
    ("HEADERS on stream 0", || frame::headers(0, &head(), true), &[PROTOCOL]),
    ("HEADERS on an even stream", || frame::headers(2, &head(), true), &[PROTOCOL]),
    (
        "HEADERS on a passed over stream",
        || [frame::headers(9, &head(), true), frame::headers(5, &head(), true)].concat(),
        &[PROTOCOL, CLOSED],
    ),
    ("HEADERS beyond the frame size", || any(kind::HEADERS, flag::END_HEADERS, 5, 16_385), &[SIZE]),
    (
        "HEADERS with too much padding",
        || frame::frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 5, &[200, 0x82]),
        &[PROTOCOL],
    ),
    ("PRIORITY on stream 0", || frame::priority(0, 1), &[PROTOCOL]),
    ("RST_STREAM on stream 0", || frame::rst_stream(0, 8), &[PROTOCOL]),
    ("RST_STREAM on an idle stream", || frame::rst_stream(9, 8), &[PROTOCOL]),
    ("RST_STREAM of 3 octets", || any(kind::RST_STREAM, 0, 1, 3), &[SIZE]),
    ("SETTINGS on a stream", || any(kind::SETTINGS, 0, 1, 6), &[PROTOCOL]),
    ("SETTINGS of 5 octets", || any(kind::SETTINGS, 0, 0, 5), &[SIZE]),
    ("SETTINGS ACK with a payload", || any(kind::SETTINGS, flag::ACK, 0, 6), &[SIZE]),
    ("ENABLE_PUSH of 2", || frame::settings(&[(setting::ENABLE_PUSH, 2)]), &[PROTOCOL]),
    ("INITIAL_WINDOW_SIZE of 2^31", || frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]), &[FLOW]),
    ("MAX_FRAME_SIZE of 16,383", || frame::settings(&[(setting::MAX_FRAME_SIZE, 16_383)]), &[PROTOCOL]),
    ("MAX_FRAME_SIZE of 2^24", || frame::settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)]), &[PROTOCOL]),
    (
        "a window beyond 2^31 by SETTINGS",
        || {
            [
                frame::window_update(3, 0x7000_0000),
                frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff)]),
            ]
            .concat()
        },
        &[FLOW],
    ),
    ("PUSH_PROMISE", || any(kind::PUSH_PROMISE, flag::END_HEADERS, 1, 4), &[PROTOCOL]),
    ("PING on a stream", || any(kind::PING, 0, 1, 8), &[PROTOCOL]),
    ("PING of 7 octets", || any(kind::PING, 0, 0, 7), &[SIZE]),
    ("GOAWAY on a stream", || any(kind::GOAWAY, 0, 1, 8), &[PROTOCOL]),
    ("GOAWAY of 7 octets", || any(kind::GOAWAY, 0, 0, 7), &[SIZE]),
    ("WINDOW_UPDATE of 0", || frame::window_update(0, 0), &[PROTOCOL]),
    ("WINDOW_UPDATE beyond 2^31", || frame::window_update(0, 0x7fff_ffff), &[FLOW]),
    ("WINDOW_UPDATE on an idle stream", || frame::window_update(9, 1), &[PROTOCOL]),
    ("WINDOW_UPDATE of 3 octets", || any(kind::WINDOW_UPDATE, 0, 0, 3), &[SIZE]),
    ("CONTINUATION without HEADERS", || any(kind::CONTINUATION, flag::END_HEADERS, 1, 0), &[PROTOCOL]),
    (
        "CONTINUATION on another stream",
        || [any(kind::HEADERS, 0, 5, 0), any(kind::CONTINUATION, flag::END_HEADERS, 7, 0)].concat(),
        &[PROTOCOL],
    ),
    (
        "PING within a header block",
        || [any(kind::HEADERS, 0, 5, 0), frame::ping(b"in block")].concat(),
        &[PROTOCOL],
    ),
    (
        "an unknown frame within a header block",
        || [any(kind::HEADERS, 0, 5, 0), any(0x77, 0, 0, 1)].concat(),
        &[PROTOCOL],
    ),
    ("HPACK: index 0", || coded(&[0x80]), &[COMPRESSION]),
    ("HPACK: index without an entry", || coded(&[0xff, 0x20]), &[COMPRESSION]),
    ("HPACK: name without an entry", || coded(&[0x7f, 0x20, 1, b'v']), &[COMPRESSION]),
    (
        "HPACK: a table beyond the setting",
        || frame::headers(5, &[&[0x3f, 0xe2, 0x1f][..], &head()].concat(), true),
        &[COMPRESSION],
    ),
    ("HPACK: a table size behind a field", || coded(&[0x20]), &[COMPRESSION]),
    ("HPACK: padding of Huffman of 8 bits", || coded(&[0, 1, b'a', 0x82, 0x1f, 0xff]), &[COMPRESSION]),
    ("HPACK: padding of Huffman of zeros", || coded(&[0, 1, b'a', 0x81, 0x18]), &[COMPRESSION]),
    (
        "HPACK: end of string in Huffman",
        || coded(&[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]),
        &[COMPRESSION],
    ),
    (
        "HPACK: an endless integer",
        || coded(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
        &[COMPRESSION],
    ),
    ("HPACK: a literal beyond the block", || coded(&[0, 9, b'a']), &[COMPRESSION]),
];

const STREAM: &[Row] = &[
    ("WINDOW_UPDATE of 0", || frame::window_update(3, 0), &[PROTOCOL]),
    ("WINDOW_UPDATE beyond 2^31", || frame::window_update(3, 0x7fff_ffff), &[FLOW]),
    ("PRIORITY of 4 octets", || any(kind::PRIORITY, 0, 3, 4), &[SIZE]),
    ("PRIORITY on itself", || frame::priority(3, 3), &[PROTOCOL]),
    ("DATA behind the end", || frame::data(3, b"x", false), &[CLOSED]),
    ("HEADERS behind the end", || frame::headers(3, &head(), true), &[CLOSED, PROTOCOL]),
];

const IGNORED: &[Row] = &[
    ("an unknown frame", || any(0x77, 0xff, 0, 100), &[]),
    ("an unknown frame on a stream", || any(0x77, 0xff, 3, 100), &[]),
    ("PRIORITY_UPDATE", || frame::frame(0x10, 0, 0, b"\0\0\0\x03u=1"), &[]),
    ("an unknown setting", || frame::settings(&[(0x99, 1), (0xffff, 0xffff_ffff)]), &[]),
    ("MAX_CONCURRENT_STREAMS of 0", || frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]), &[]),
    ("unknown flags", || frame::frame(kind::PING, 0xf0, 0, b"flagged!"), &[]),
    ("an answer to no PING", || frame::frame(kind::PING, flag::ACK, 0, b"answered"), &[]),
    ("the reserved bit of a stream", || frame::frame(kind::PRIORITY, 0, 0x8000_0009, &[0, 0, 0, 0, 1]), &[]),
    ("PRIORITY on an idle stream", || frame::priority(99, 0), &[]),
    ("empty DATA", || frame::data(1, b"", false), &[]),
    ("WINDOW_UPDATE of the connection", || frame::window_update(0, 1000), &[]),
    (
        "a stream that is reset with an unknown code",
        || {
            [
                frame::headers(5, &hpack::block(&client::head("GET", "/hang", &[])), true),
                frame::rst_stream(5, 0x1234),
            ]
            .concat()
        },
        &[],
    ),
    (
        "RST_STREAM just behind the answer",
        || [frame::headers(5, &head(), true), frame::rst_stream(5, code::CANCEL)].concat(),
        &[],
    ),
    (
        "a table size before a field",
        || frame::headers(5, &[&[0x20, 0x3f, 0xe1, 0x1f][..], &head()].concat(), true),
        &[],
    ),
];

fn upstream() -> Upstream {
    Upstream::start(|request| match request.target.as_str() {
        "/hang" => Reply::new().step(Step::Hang),
        _ => Reply::ok("x"),
    })
}

fn start(subject: &Subject, upstream: &Upstream) -> Proxy {
    // How Envoy speaks without this is another table's business.
    let hcm = "http2_protocol_options: {override_stream_error_on_invalid_http_message: true}";
    let http = Http::to("up").hcm(if subject.is_envoy() { hcm } else { "" });
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

/// Runs a table; `judge` says what is wrong about the connection after a row was sent.
#[track_caller]
fn table(subject: &Subject, rows: &[Row], judge: fn(&mut Client, &Row, bool) -> Option<String>) {
    let upstream = upstream();
    let proxy = start(subject, &upstream);
    let mut victim = Client::connect(proxy.listener("main"));
    let mut wrong = Vec::new();
    for row in rows {
        let mut client = Client::connect_with(proxy.listener("main"), &[]);
        client.head("POST", "/", &[], false);
        client.head("GET", "/hang", &[], true);
        assert!(client.is_alive());
        client.session().send(&(row.1)());
        wrong.extend(judge(&mut client, row, subject.is_envoy()).map(|fault| format!("{}: {fault}", row.0)));
        assert_eq!(victim.get("/").status, 200, "the victim of {}", row.0);
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    upstream.assert_strict();
}

/// GOAWAY with one of the codes and the last stream that was taken, and then the end.
fn connection_errors(subject: &Subject) {
    table(subject, CONNECTION, |client, row, envoy| {
        let ended = client.session().end_within(Duration::from_secs(3));
        let codes: Vec<u32> = client.session().goaways.iter().map(|g| g.1).collect();
        let told = codes.last().is_some_and(|code| row.2.contains(code));
        // Envoy says no word, and is more patient with some.
        (!envoy && (ended.is_none() || !told))
            .then(|| format!("GOAWAY {codes:?} instead of {:?}, then {ended:?}", row.2))
    });
}

/// RST_STREAM with one of the codes; the neighbour is served.
fn stream_errors(subject: &Subject) {
    table(subject, STREAM, |client, row, envoy| {
        let over =
            client.session().until(|s| s.end.is_some() || s.peek(3).is_some_and(|r| r.reset.is_some()));
        let reset = client.session().received(3).reset;
        client.body(1, b"end", true);
        let neighbour = client.response(1).map(|r| r.status);
        let right = over && reset.is_some_and(|code| row.2.contains(&code)) && neighbour == Ok(200);
        (!envoy && !right).then(|| format!("reset {reset:?} instead of {:?}, neighbour {neighbour:?}", row.2))
    });
}

fn what_is_ignored(subject: &Subject) {
    table(subject, IGNORED, |client, _, _| {
        let alive = client.is_alive();
        client.body(1, b"end", true);
        let neighbour = client.response(1).map(|r| r.status);
        let goaways = client.session().goaways.clone();
        (!alive || neighbour != Ok(200) || !goaways.is_empty()).then(|| format!("{neighbour:?}, {goaways:?}"))
    });
}

/// Files of a folder of the corpus h2-raw, in order of their names.
fn sessions(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

fn play(file: &Path, target: SocketAddr) {
    let bytes = std::fs::read(file).expect("a session");
    let mut client = raw::Client::connect(target);
    // Seeds of fuzzers begin behind the preface.
    if !bytes.starts_with(b"PRI ") {
        client.send(PREFACE);
    }
    client.send(&bytes);
    client.finish_sending();
    client.end_within(Duration::from_millis(50));
}

/// Whatever a session holds, the proxy lives, the victim is served, and the upstream sees well-formed requests only.
fn captured_sessions(subject: &Subject) {
    let Some(folder) = millrace_conformance::corpus("h2-raw") else { return };
    let upstream = upstream();
    let proxy = start(subject, &upstream);
    let mut victim = Client::connect(proxy.listener("main"));
    let files = sessions(&folder);
    let target = proxy.listener("main");
    std::thread::scope(|scope| {
        for part in files.chunks(files.len().div_ceil(16)) {
            scope.spawn(move || part.iter().for_each(|file| play(file, target)));
        }
        for _ in 0..200 {
            assert_eq!(victim.get("/").status, 200);
        }
    });
    assert_eq!(victim.get("/").status, 200);
    upstream.assert_strict();
    println!("{} sessions", files.len());
}
