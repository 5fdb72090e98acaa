//! What costs a client nothing and would cost us: each kind of it ends its own connection, and never a good client's.

use std::time::Duration;

use millrace_http::h2::{ConnectionError, ErrorCode, Options};

use crate::support::*;

/// Bytes of the n-th time.
type Attack = Box<dyn FnMut(u32) -> Vec<u8>>;

/// Feeds the same bytes again and again; how often until the connection ended, and why.
fn flood(
    server: &mut End2,
    most: usize,
    mut bytes: impl FnMut(u32) -> Vec<u8>,
) -> Option<(usize, ConnectionError)> {
    for i in 0..most {
        if let Err(error) = server.feed(&bytes(i as u32)) {
            assert_eq!(error.code(), ErrorCode::EnhanceYourCalm, "{error:?}");
            assert_eq!(server.take().last().map(|f| f.kind), Some(GOAWAY));
            return Some((i, error));
        }
        // The client reads everything.
        server.take();
    }
    None
}

fn server() -> End2 {
    let mut server = End2::server(&server_options());
    assert!(server.feed(&headers(1, 0, POST)).is_ok());
    server
}

#[test]
fn frames_that_do_nothing() {
    let open = |id: u32| frame(HEADERS, 0, 3 + 2 * id, &block(GET));
    let cases: [(&str, Attack, usize, ConnectionError); 10] = [
        ("PING", Box::new(|_| frame(PING, 0, 0, &[0; 8])), 100, ConnectionError::ControlFlood),
        ("SETTINGS", Box::new(|_| settings(&[(1, 0)])), 100, ConnectionError::ControlFlood),
        ("DATA without content", Box::new(|_| frame(DATA, 0, 1, b"")), 10, ConnectionError::EmptyFrameFlood),
        (
            "padding",
            Box::new(|_| frame(DATA, PADDED, 1, &[3, 0, 0, 0])),
            10,
            ConnectionError::EmptyFrameFlood,
        ),
        ("PRIORITY", Box::new(|_| frame(PRIORITY, 0, 9, &[0; 5])), 200, ConnectionError::PriorityFlood),
        ("WINDOW_UPDATE", Box::new(|_| window_update(1, 1)), 7, ConnectionError::WindowUpdateFlood),
        ("unknown frames", Box::new(|_| frame(77, 0, 0, b"")), 1_000, ConnectionError::GlitchFlood),
        (
            "PRIORITY_UPDATE",
            Box::new(|_| frame(PRIORITY_UPDATE, 0, 0, &[0, 0, 0, 1])),
            1_000,
            ConnectionError::GlitchFlood,
        ),
        ("RST_STREAM twice", Box::new(|_| rst_stream(1, 8)), 1_001, ConnectionError::GlitchFlood),
        ("acknowledgements", Box::new(|_| frame(SETTINGS, ACK, 0, &[])), 1_000, ConnectionError::GlitchFlood),
    ];
    for (what, bytes, allowed, error) in cases {
        let mut server = server();
        assert_eq!(flood(&mut server, 20_000, bytes), Some((allowed, error)), "{what}");
    }
    let mut server = server();
    let empty = [open(0), frame(CONTINUATION, 0, 3, b"").repeat(11)].concat();
    let result = server.feed(&empty).map_err(|e| e.code());
    assert_eq!(result, Err(ErrorCode::EnhanceYourCalm), "CONTINUATION without content");
}

#[test]
fn continuation_flood() {
    for (count, ends) in [(8, true), (9, false)] {
        let mut server = server();
        let more = frame(CONTINUATION, 0, 3, &block(&[("x", "y")])).repeat(count - 1);
        let last = frame(CONTINUATION, END_HEADERS, 3, &block(&[("x", "y")]));
        let bytes = [frame(HEADERS, END, 3, &block(GET)), more, last].concat();
        let result = server.feed(&bytes);
        assert_eq!(result.is_ok(), ends, "{count}: {result:?}");
        assert_eq!(server.connection.take_counts().continuation_flood, u32::from(!ends));
    }
}

#[test]
fn control_frames_in_time_are_no_flood() {
    let mut server = server();
    for _ in 0..1000 {
        server.now = server.now + Duration::from_millis(100);
        assert!(server.feed(&frame(PING, 0, 0, &[0; 8])).is_ok());
        server.take();
    }
    // A client that measures the bandwidth while data flows.
    for _ in 0..1000 {
        let bytes = [frame(DATA, 0, 1, b"data"), frame(PING, 0, 0, &[0; 8])].concat();
        assert!(server.feed(&bytes).is_ok());
        server.take();
    }
}

#[test]
fn whoever_does_not_read_is_cut_off() {
    let mut server = End2::server(&server_options());
    server.feed(&headers(1, 0, POST)).expect("a request");
    let mut sent = 0;
    let error = loop {
        // Data earns the PINGs; none of the acknowledgements is read.
        let bytes = [frame(DATA, 0, 1, b"data"), frame(PING, 0, 0, &[0; 8])].concat();
        match server.feed(&bytes) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, ConnectionError::OutboundControlFlood);
    assert!((1000..1010).contains(&sent), "{sent}");
    assert_eq!(server.connection.take_counts().outbound_control_flood, 1);
}

/// Opens streams and ends each early in some way; how many requests the caller heard of.
fn reset_attack(what: &str, mut attack: impl FnMut(u32) -> Vec<u8>) -> usize {
    let mut server = End2::server(&server_options());
    let mut requests = 0;
    for i in 0..2000 {
        let id = 1 + 2 * i;
        let mut seen = Vec::new();
        let result = server.feed_into(&attack(id), &mut || usize::MAX, &mut seen);
        requests += seen.iter().filter(|e| matches!(e, Seen::Request { .. })).count();
        server.take();
        if let Err(error) = result {
            assert_eq!(error, ConnectionError::ResetFlood, "{what}");
            assert_eq!(server.connection.take_counts().reset_flood, 1);
            return requests;
        }
    }
    unreachable!("{what}: 2000 streams");
}

#[test]
fn rapid_reset_and_made_you_reset() {
    let open = |id: u32| headers(id, 0, POST);
    let attacks: [(&str, Attack); 9] = [
        ("CVE-2023-44487", Box::new(move |id| [headers(id, END, GET), rst_stream(id, 8)].concat())),
        ("WINDOW_UPDATE of 0", Box::new(move |id| [open(id), window_update(id, 0)].concat())),
        ("a window beyond 2^31-1", Box::new(move |id| [open(id), window_update(id, 0x7fff_ffff)].concat())),
        ("PRIORITY of 4 octets", Box::new(move |id| [open(id), frame(PRIORITY, 0, id, &[0; 4])].concat())),
        (
            "PRIORITY on itself",
            Box::new(move |id| {
                [open(id), frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[0]].concat())].concat()
            }),
        ),
        (
            "HEADERS behind the end",
            Box::new(|id| [headers(id, END, GET), headers(id, END, &[("x", "y")])].concat()),
        ),
        ("DATA behind the end", Box::new(|id| [headers(id, END, GET), frame(DATA, END, id, b"x")].concat())),
        ("a malformed head", Box::new(|id| headers(id, END, &GET[1..]))),
        (
            "a body that is too long",
            Box::new(|id| {
                let length = [POST, &[("content-length", "1")]].concat();
                [headers(id, 0, &length), frame(DATA, 0, id, b"xy")].concat()
            }),
        ),
    ];
    for (what, attack) in attacks {
        let requests = reset_attack(what, attack);
        assert!(requests <= 100, "{what}: {requests}");
    }
}

#[test]
fn half_of_the_streams_may_end_early() {
    let mut server = End2::server(&server_options());
    for i in 0..2000 {
        let id = 1 + 2 * i;
        assert!(server.feed(&headers(id, END, GET)).is_ok());
        if i % 2 == 0 {
            server.respond(id, true);
        } else {
            assert!(server.feed(&rst_stream(id, 8)).is_ok(), "{i}");
        }
        server.take();
    }
    // Deadlines: every stream is given up after two seconds.
    for i in 2000..4000 {
        let id = 1 + 2 * i;
        assert!(server.feed(&headers(id, END, GET)).is_ok());
        server.now = server.now + Duration::from_secs(2);
        assert!(server.feed(&rst_stream(id, 8)).is_ok(), "{i}");
    }
    assert_eq!(server.connection.take_counts().rx_reset, 3000);
    // A good past pays for no attack.
    let mut requests = 0;
    for i in 4000..5000 {
        let id = 1 + 2 * i;
        match server.feed(&[headers(id, END, GET), rst_stream(id, 8)].concat()) {
            Ok(_) => requests += 1,
            Err(error) => {
                assert_eq!(error, ConnectionError::ResetFlood);
                assert!(requests < 450, "{requests}");
                return;
            }
        }
    }
    panic!("1000 resets");
}

#[test]
fn our_own_resets_are_nobodys_fault() {
    let mut server = End2::server(&server_options());
    for i in 0..2000 {
        let id = 1 + 2 * i;
        assert!(server.feed(&headers(id, 0, POST)).is_ok(), "{i}");
        server.connection.reset(server.stream(id), ErrorCode::NoError);
        server.take();
    }
}

/// A block of references to one entry of the table.
fn bomb(references: usize) -> Vec<u8> {
    let value = "x".repeat(3000);
    let entry = [&[0x40, 1, b'a'][..], &block(&[("", &value)])[2..]].concat();
    [block(GET), entry, vec![0xbe; references]].concat()
}

#[test]
fn hpack_bombs() {
    let mut server = server();
    // 30 references of 3 kB: beyond 60 KiB and below four times that.
    let seen = server.feed(&frame(HEADERS, END | END_HEADERS, 3, &bomb(30)));
    assert_eq!(seen, Ok(vec![Seen::TooLarge { id: 3 }]));
    assert!(server.heads.request.headers.byte_len() <= 60 * 1024);
    let seen = server.feed(&headers(5, END, GET)).expect("the table is in step");
    assert!(matches!(seen[..], [Seen::Request { id: 5, .. }]));
    let result = server.feed(&frame(HEADERS, END | END_HEADERS, 7, &bomb(100)));
    assert_eq!(result, Err(ConnectionError::HeaderBomb));
    // The same for blocks that are for nobody, and for many small fields.
    let mut server = self::server();
    let result =
        server.feed(&[headers(3, END, GET), frame(HEADERS, END | END_HEADERS, 3, &bomb(100))].concat());
    assert_eq!(result, Err(ConnectionError::HeaderBomb));
    let mut server = self::server();
    let fields = [block(GET), vec![0x82; 500]].concat();
    assert_eq!(server.feed(&frame(HEADERS, END_HEADERS, 3, &fields)), Err(ConnectionError::HeaderBomb));
}

#[test]
fn crumbs_and_fields_are_counted_one_by_one() {
    let options = Options { head_fields_max: 10, ..server_options() };
    for (crumbs, accepted) in [(6, true), (7, false)] {
        let mut server = End2::server(&options);
        let fields = [GET, &vec![("cookie", "a=b"); crumbs]].concat();
        let seen = server.feed(&headers(1, END, &fields)).expect("no error");
        assert_eq!(matches!(seen[..], [Seen::Request { .. }]), accepted, "{seen:?}");
    }
    let empty = vec![("x", ""); 95];
    let mut server = End2::server(&Options { head_bytes_max: 2000, ..server_options() });
    let seen = server.feed(&headers(1, END, &[GET, &empty].concat())).expect("no error");
    assert_eq!(seen, [Seen::TooLarge { id: 1 }], "32 octets a field");
}

#[test]
fn refused_streams_cost_little_and_not_for_ever() {
    let options = Options { max_concurrent_streams: 1, ..server_options() };
    let mut server = End2::server(&options);
    assert!(server.feed(&headers(1, 0, POST)).is_ok());
    let ended = flood(&mut server, 20_000, |i| headers(3 + 2 * i, END, GET));
    assert_eq!(ended, Some((1_000, ConnectionError::GlitchFlood)));
}
