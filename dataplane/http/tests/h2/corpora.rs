//! The corpora: malformed requests beside a live neighbour, the vectors of http2-frame-test-case, raw client bytes.

use std::path::{Path, PathBuf};

use millrace_http::h2::{ErrorCode, Side};
use serde_json::Value;

use crate::support::*;

/// The corpora are a sibling of the repository and not part of it: without them a test says that it skips, and fails
/// where `CI=true`. `MILLRACE_CORPORA` names another place.
fn corpus(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let path = std::env::var_os("MILLRACE_CORPORA").map_or_else(beside, PathBuf::from).join(name);
    if path.exists() {
        return Some(path);
    }
    let in_ci = std::env::var_os("CI").is_some_and(|v| v == "true");
    assert!(!in_ci, "the corpus must exist in CI: {}", path.display());
    println!("skipped: 0 cases of corpus {name}, {} is absent", path.display());
    None
}

/// Every file below a folder, in order.
fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for entry in entries {
        match entry.is_dir() {
            true => files(&entry, into),
            false => into.push(entry),
        }
    }
}

/// A text whose characters are octets.
fn latin1(text: &Value) -> Vec<u8> {
    text.as_str().unwrap_or_default().chars().map(|c| u8::try_from(c).expect("latin-1")).collect()
}

fn field_block(fields: &Value) -> Vec<u8> {
    let fields: Vec<_> =
        fields.as_array().into_iter().flatten().map(|f| (latin1(&f[0]), latin1(&f[1]))).collect();
    block_of_bytes(fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())))
}

/// A case as frames of stream 3.
fn frames_of(case: &Value) -> Vec<u8> {
    let (body, trailers) = (&case["body"], &case["trailers"]);
    let flag = |field: &str| if case[field] == Value::Bool(true) { END } else { 0 };
    let last = |is_last: bool| if is_last { flag("end_stream") } else { 0 };
    let head = last(body.is_null() && trailers.is_null());
    let mut bytes = frame(HEADERS, END_HEADERS | head, 3, &field_block(&case["headers"]));
    if !body.is_null() {
        bytes.extend(frame(DATA, last(trailers.is_null()), 3, &latin1(body)));
    }
    if !trailers.is_null() {
        bytes.extend(frame(HEADERS, END_HEADERS | flag("trailers_end"), 3, &field_block(trailers)));
    }
    bytes
}

/// What became of stream 3.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused(ErrorCode),
}

fn verdict(case: &Value) -> Verdict {
    let mut server = End2::server(&server_options());
    assert!(server.feed(&headers(1, 0, POST)).is_ok());
    let seen = server.feed(&frames_of(case)).expect("no bad request is an error of the connection");
    let sent = server.take();
    assert!(sent.iter().all(|f| f.kind != GOAWAY));
    let reset = sent.iter().find(|f| f.kind == RST_STREAM);
    // The neighbour's body arrives and it is answered; another request finds the HPACK state in step.
    let rest = [frame(DATA, END, 1, b"live"), headers(5, END, GET)].concat();
    let rest = server.feed(&rest).expect("the neighbour lives");
    assert_eq!(rest[0], Seen::Data { id: 1, bytes: b"live".to_vec(), end: true });
    assert!(matches!(rest[1], Seen::Request { id: 5, end: true, .. }));
    assert!(!server.respond(1, true).is_empty() && !server.respond(5, true).is_empty());
    assert_eq!(server.connection.unreleased(), 0);
    let Some(reset) = reset else { return Verdict::Accepted };
    assert_eq!(reset.stream, 3);
    let told = seen.iter().any(|e| matches!(e, Seen::Request { .. }));
    let ended = seen.iter().any(|e| matches!(e, Seen::Reset { id: 3, by: Side::Us, .. }));
    assert_eq!(told, ended, "who heard of the request hears of its end");
    let complete = seen.iter().any(|e| {
        matches!(e, Seen::Request { end: true, .. } | Seen::Data { end: true, .. } | Seen::Trailers { .. })
    });
    assert!(!complete, "a malformed request never looks complete");
    Verdict::Refused(ErrorCode::from_wire(reset.number()))
}

#[test]
fn bad_requests_cost_only_themselves() {
    let Some(corpus) = corpus("h2-bad-requests/cases.jsonl") else { return };
    let text = std::fs::read_to_string(corpus).expect("text");
    let (mut refused, mut accepted) = (0, 0);
    for line in text.lines().filter(|line| !line.is_empty()) {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let verdict = verdict(&case);
        let id = case["id"].as_str().expect("an identifier");
        match case["expect"].as_str() {
            Some("malformed") => assert_eq!(verdict, Verdict::Refused(ErrorCode::Protocol), "{id}"),
            Some("accept") => assert_eq!(verdict, Verdict::Accepted, "{id}"),
            Some("reject-or-accept") => {}
            other => unreachable!("{id}: {other:?}"),
        }
        match verdict {
            Verdict::Accepted => accepted += 1,
            Verdict::Refused(_) => refused += 1,
        }
    }
    println!("{refused} requests refused, {accepted} accepted");
    assert!(refused + accepted >= 57, "the corpus is whole");
}

/// The octets of a wire field; streams that only a server may open become those of clients.
fn wire(case: &Value, odd: bool) -> Vec<u8> {
    let text = case["wire"].as_str().expect("hex");
    let mut bytes: Vec<u8> =
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect();
    if odd && bytes[8] != 0 {
        bytes[8] |= 1;
    }
    bytes
}

/// A server with a few open streams.
fn busy_server() -> End2 {
    let mut server = End2::server(&server_options());
    for id in [1, 3, 5, 9, 51] {
        assert!(server.feed(&headers(id, 0, POST)).is_ok());
    }
    server
}

#[test]
fn frame_vectors() {
    let Some(corpus) = corpus("h2-frames") else { return };
    let mut paths = Vec::new();
    files(&corpus, &mut paths);
    let (mut errors, mut normal) = (0, 0);
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "json")) {
        let case: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("text")).expect("JSON");
        let name = path.strip_prefix(&corpus).expect("below").display().to_string();
        if let Some(codes) = case["error"].as_array() {
            let mut server = busy_server();
            let result = server.feed(&wire(&case, false));
            let sent = server.take();
            let last = sent.iter().rev().find(|f| matches!(f.kind, GOAWAY | RST_STREAM)).expect(&name);
            let code = if last.kind == GOAWAY { &last.payload[4..8] } else { &last.payload[..] };
            let code = u32::from_be_bytes(code.try_into().expect("four octets"));
            assert!(codes.iter().any(|c| c == code), "{name}: {code} {result:?}");
            errors += 1;
        } else {
            normal_frame(&name, &case);
            normal += 1;
        }
    }
    println!("{errors} malformed frames, {normal} good ones");
    assert_eq!((errors, normal), (22, 12), "the corpus is whole");
}

fn normal_frame(name: &str, case: &Value) {
    let bytes = wire(case, true);
    let payload = &case["frame"]["frame_payload"];
    let mut server = busy_server();
    let result = server.feed(&bytes);
    let code = result.as_ref().err().map(|error| error.code());
    let seen = result.unwrap_or_default();
    let sent = server.take();
    match name.split('/').next() {
        Some("data") => {
            let body = payload["data"].as_str().expect("text").as_bytes();
            assert_eq!(seen, [Seen::Data { id: 3, bytes: body.to_vec(), end: false }], "{name}");
        }
        // Their field blocks are texts that are none.
        Some("headers") => assert_eq!(code, Some(ErrorCode::Compression), "{name}"),
        Some("push_promise") => assert_eq!(code, Some(ErrorCode::Protocol), "{name}: nobody may push"),
        Some("continuation") => {
            assert_eq!(code, Some(ErrorCode::Protocol), "{name}: no block is open");
            let mut server = busy_server();
            let begun = frame(HEADERS, 0, 51, &block(&[("x", "y")]));
            assert_eq!(server.feed(&[begun, bytes].concat()), Ok(vec![]), "{name}");
        }
        Some("priority") => assert_eq!((code, seen.as_slice()), (None, &[][..]), "{name}"),
        Some("rst_stream") => {
            let code = ErrorCode::from_wire(payload["error_code"].as_u64().expect("a code") as u32);
            assert_eq!(seen, [Seen::Reset { id: 5, code, by: Side::Peer }], "{name}");
        }
        Some("settings") => {
            assert_eq!(seen, [Seen::Settings], "{name}");
            let mut client = End2::client(&millrace_http::h2::Options {
                max_concurrent_streams: 9999,
                ..client_options()
            });
            assert_eq!(client.feed(&bytes), Ok(vec![Seen::Settings]));
            assert_eq!(client.connection.peer_max_streams(), 5000, "{name}");
        }
        Some("ping") => {
            let data = payload["opaque_data"].as_str().expect("text").as_bytes();
            assert_eq!(
                (sent[0].kind, sent[0].flags, sent[0].payload.as_slice()),
                (PING, ACK, data),
                "{name}"
            );
        }
        Some("goaway") => {
            let last = payload["last_stream_id"].as_u64().expect("a stream") as u32;
            let code = ErrorCode::from_wire(payload["error_code"].as_u64().expect("a code") as u32);
            assert_eq!(seen, [Seen::GoAway { last, code }], "{name}");
        }
        Some("window_update") => assert_eq!((code, seen.as_slice()), (None, &[][..]), "{name}"),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn captured_sessions_and_seeds_do_not_depend_on_their_cuts() {
    let Some(corpus) = corpus("h2-raw") else { return };
    let mut paths = Vec::new();
    files(&corpus, &mut paths);
    let (mut sessions, mut seeds) = (0, 0);
    for path in paths {
        let bytes = std::fs::read(&path).expect("a file");
        millrace_http::fuzz::fuzz_h2_server(&bytes);
        millrace_http::fuzz::fuzz_h2_client(&bytes);
        match path.components().any(|part| part.as_os_str() == "h2spec") {
            true => sessions += 1,
            false => seeds += 1,
        }
    }
    println!("{sessions} captured sessions and {seeds} seeds replayed");
    assert!(sessions >= 133 && seeds >= 500, "the corpus is whole");
}

#[test]
fn our_own_seeds() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds");
    let targets = [
        ("h2_server", millrace_http::fuzz::fuzz_h2_server as fn(&[u8])),
        ("h2_client", millrace_http::fuzz::fuzz_h2_client),
    ];
    for (name, target) in targets {
        let mut paths = Vec::new();
        files(&folder.join(name), &mut paths);
        assert!(paths.len() >= 5, "{name} has too few seeds");
        paths.iter().for_each(|path| target(&std::fs::read(path).expect("a file")));
    }
}
