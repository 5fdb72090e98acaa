//! Heads as they arrive and leave: joined cookies, `host`, fields that stay out, underscores, long heads, secrets.

use millrace_http::h1::UnderscoreAction;
use millrace_http::h2::{Options, hpack::Decoder};
use millrace_http::{HeaderMap, ResponseHead};

use crate::support::*;

/// What a server makes of a head: its text, or nothing when it was refused.
fn request_of(options: &Options, fields: &[(&str, &str)]) -> Option<String> {
    let mut server = End2::server(options);
    let seen = server.feed(&headers(1, END, fields)).expect("no error of the connection");
    let reset = server.take().iter().any(|f| f.kind == RST_STREAM && f.number() == 1);
    match seen.into_iter().next() {
        Some(Seen::Request { id: 1, end: true, head }) => {
            assert!(!reset);
            Some(head)
        }
        None => {
            assert!(reset);
            None
        }
        other => unreachable!("{other:?}"),
    }
}

fn accepted(fields: &[(&str, &str)]) -> Option<String> {
    request_of(&server_options(), fields)
}

#[test]
fn cookies_are_joined_and_host_becomes_the_authority() {
    let crumbs = [GET, &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]].concat();
    assert_eq!(accepted(&crumbs), Some("GET http h /|cookie: a=1; b=2; c=3|x: y|".into()));
    let host = [&GET[..3], &[("host", "other:8080"), ("te", "trailers")]].concat();
    assert_eq!(accepted(&host), Some("GET http other:8080 /|te: trailers|".into()));
    assert_eq!(accepted(&[GET, &[("host", "H")]].concat()), Some("GET http h /|".into()), "they agree");
}

#[test]
fn pseudo_header_fields() {
    let one = |name: &'static str, value: &'static str| {
        accepted(&GET.iter().map(|(n, v)| (*n, if *n == name { value } else { *v })).collect::<Vec<_>>())
    };
    let more = |field| accepted(&[GET, &[field]].concat());
    for field in GET {
        let others: Vec<_> = GET.iter().copied().filter(|other| other != field).collect();
        assert_eq!(accepted(&others), None, "8.3.1: {} is missing", field.0);
        assert_eq!(more(*field), None, "8.3.1: {} twice", field.0);
        let late = [&others[..], &[("x", "y"), *field]].concat();
        assert_eq!(accepted(&late), None, "8.3: {} behind a field", field.0);
    }
    for (name, value) in [(":status", "200"), (":foo", "x"), (":", "x"), (":protocol", "x"), (":Path", "/")] {
        assert_eq!(more((name, value)), None, "8.3: {name}");
    }
    for path in [
        "",
        "a",
        "*",
        "?q",
        "/a b",
        "/a\tb",
        "/a\rb",
        "/a\nb",
        "/a\0b",
        "/\u{7f}",
        "/\u{e9}",
        "http://h/",
        " /",
    ] {
        assert_eq!(one(":path", path), None, "8.3.1: {path:?}");
    }
    for method in ["", "GE T", "GET ", "GE:T", "GET\r\n", "G\u{e9}T", "get", "FOO"] {
        assert_eq!(one(":method", method), None, "9110-9.1: {method:?}");
    }
    for scheme in ["", "ht tp", "http\r\n", "1http", "http:", "\u{e9}"] {
        assert_eq!(one(":scheme", scheme), None, "3986-3.1: {scheme:?}");
    }
    for authority in
        ["", "u@h", "h/x", "h x", "h\0", "h,i", "h:99999", "h\r\n", "[::1", "h?q", "h#f", "\u{e9}"]
    {
        assert_eq!(one(":authority", authority), None, "3986-3.2: {authority:?}");
    }
    assert!(one(":path", "/a?b=c/../#d").is_some() && one(":scheme", "https").is_some());
    assert!(one(":authority", "[::1]:80").is_some() && one(":method", "PURGE").is_some());
    let star = [(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "h")];
    assert_eq!(accepted(&star), Some("OPTIONS http h *|".into()));
    let custom = Options { allow_custom_methods: true, ..server_options() };
    let fields = [&[(":method", "get")], &GET[1..]].concat();
    assert_eq!(request_of(&custom, &fields), Some("get http h /|".into()));
}

#[test]
fn fields() {
    let more = |name: &str, value: &str| accepted(&[GET, &[(name, value)]].concat());
    for name in ["", "X", "x y", "x:y", "x\r\ny: z", "x\0", "x(", "\u{e9}", "x\t", "x\u{7f}"] {
        assert_eq!(more(name, "v"), None, "8.2.1: {name:?}");
    }
    for value in ["a\rb", "a\nb", "a\0b", " a", "a ", "\ta", "a\t", "a\r\nb: c", "\u{7f}", "\u{1}"] {
        assert_eq!(more("x", value), None, "8.2.1: {value:?}");
    }
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", ""),
    ] {
        assert_eq!(more(name, value), None, "8.2.2: {name}: {value}");
    }
    for host in ["other", "h:80", "", "u@h", "h,h"] {
        assert_eq!(more("host", host), None, "8.3.1: {host:?}");
    }
    assert_eq!(accepted(&[GET, &[("host", "h"), ("host", "h")]].concat()), None, "9112-3.2: twice");
    for length in ["1", "-0", "+0", "0x0", "00", "", "a", "0, 0", "99999999999999999999"] {
        assert_eq!(more("content-length", length), None, "8.1.1: {length:?}");
    }
    assert_eq!(accepted(&[GET, &[("content-length", "0"); 2]].concat()), None, "9110-8.6: twice");
    assert!(more("content-length", "0").is_some() && more("x", "").is_some());
    assert!(more("x", "a\tb \u{e9}").is_some() && more("x-y!#$%&'*+.^`|~1", "v").is_some());
}

#[test]
fn underscores() {
    let options = |underscores| Options { underscores, ..server_options() };
    let with = |action, name: &str| request_of(&options(action), &[GET, &[(name, "1")]].concat());
    assert!(with(UnderscoreAction::Allow, "my_name").is_some_and(|head| head.ends_with("my_name: 1|")));
    assert_eq!(with(UnderscoreAction::DropHeader, "my_name"), Some("GET http h /|".into()));
    assert_eq!(with(UnderscoreAction::RejectRequest, "my_name"), None);
    for shadow in ["content_length", "transfer_encoding", "x_forwarded_for"] {
        assert_eq!(with(UnderscoreAction::Allow, shadow), None, "{shadow}");
        assert_eq!(with(UnderscoreAction::DropHeader, shadow), Some("GET http h /|".into()));
    }
    let mut server = End2::server(&options(UnderscoreAction::DropHeader));
    assert!(server.feed(&headers(1, END, &[GET, &[("a_b", "1"), ("c_d", "2")]].concat())).is_ok());
    assert_eq!(server.connection.take_counts().dropped_headers_with_underscores, 2);
    let mut server = End2::server(&options(UnderscoreAction::RejectRequest));
    assert!(server.feed(&headers(1, END, &[GET, &[("a_b", "1")]].concat())).is_ok());
    let counts = server.connection.take_counts();
    assert_eq!((counts.requests_rejected_with_underscores_in_headers, counts.rx_messaging_error), (1, 0));
    assert!(server.connection.take_counts().is_zero());
}

#[test]
fn trailers() {
    let with = |fields: &[(&str, &str)]| {
        let mut server = End2::server(&server_options());
        server
            .feed(&[headers(1, 0, POST), frame(DATA, 0, 1, b"x"), headers(1, END, fields)].concat())
            .expect("alive")
    };
    let seen = with(&[("grpc-status", "0"), ("x", "y")]);
    assert_eq!(seen[2], Seen::Trailers { id: 1, fields: "grpc-status: 0|x: y|".into() });
    for bad in
        [":path", "content-length", "host", "te", "connection", "transfer-encoding", "X", "content_length"]
    {
        assert!(matches!(with(&[(bad, "1")])[2], Seen::Reset { id: 1, .. }), "9110-6.5.1: {bad}");
    }
    let mut server = End2::server(&server_options());
    let length = [POST, &[("content-length", "2")]].concat();
    let bytes = [headers(1, 0, &length), frame(DATA, 0, 1, b"x"), headers(1, END, &[("a", "b")])].concat();
    let seen = server.feed(&bytes).expect("alive");
    assert!(matches!(seen[2], Seen::Reset { id: 1, .. }), "8.1.1: the body is too short");
}

/// The fields of a written field block.
fn decoded(block: &[u8]) -> String {
    let mut text = String::new();
    let decoded = Decoder::new(4096).decode(block, &mut |field| {
        let part = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        text += &format!(
            "{}{}: {}|",
            if field.sensitive { "!" } else { "" },
            part(field.name),
            part(field.value)
        );
        true
    });
    assert_eq!(decoded, Ok(()));
    text
}

#[test]
fn what_belongs_to_a_connection_never_leaves() {
    let mut server = End2::server(&server_options());
    assert!(server.feed(&headers(1, END, GET)).is_ok());
    let mut head = ResponseHead::new();
    head.status = 418;
    for name in
        ["connection", "keep-alive", "x", "proxy-connection", "transfer-encoding", "upgrade", "host", "te"]
    {
        head.headers.append(name.as_bytes(), b"trailers");
    }
    head.headers.append(b"http2-settings", b"AAAA");
    head.headers.append(b"content-length", b"7");
    head.headers.append(b"y", b" \t spaces ");
    let mut out = Vec::new();
    assert!(server.connection.send_response(server.stream(1), &head, false, &mut out));
    let sent = frames(&out);
    assert_eq!(decoded(&sent[0].payload), ":status: 418|x: trailers|content-length: 7|y: spaces|");
    let mut client = End2::client(&client_options());
    let fields = [GET, &[("te", "gzip"), ("te", "trailers"), ("host", "h"), ("upgrade", "h2c")]].concat();
    let mut out = Vec::new();
    assert!(client.connection.send_request(&request(&fields), 1, true, &mut out).is_some());
    let expected = ":method: GET|:scheme: http|:path: /|:authority: h|te: trailers|";
    assert_eq!(decoded(&frames(&out)[0].payload), expected);
    let mut trailers = HeaderMap::new();
    for name in ["content-length", "te", "connection", "host"] {
        trailers.append(name.as_bytes(), b"1");
    }
    let mut out = Vec::new();
    assert!(server.connection.send_trailers(server.stream(1), &trailers, &mut out));
    assert_eq!(frames(&out), [Frame { kind: DATA, flags: END, stream: 1, payload: vec![] }]);
}

#[test]
fn secrets_stay_secrets() {
    let mut server = End2::server(&server_options());
    let secret = [block(GET), b"\x10\x08x-secret\x03abc".to_vec()].concat();
    assert!(server.feed(&frame(HEADERS, END | END_HEADERS, 1, &secret)).is_ok());
    let mut client = End2::client(&client_options());
    for user in [1, 2] {
        let mut out = Vec::new();
        assert!(client.connection.send_request(&server.heads.request, user, true, &mut out).is_some());
        let block = &frames(&out)[0].payload;
        let at = block.windows(2).position(|w| w == b"\x10\x86" || w == b"\x10\x08");
        assert!(at.is_some(), "7541-6.2.3: {block:x?}");
    }
}

#[test]
fn long_heads_are_split_as_the_peer_wants_them() {
    let mut client = End2::client(&client_options());
    let long = "\u{7e}".repeat(40_000);
    let fields = [GET, &[("x", long.as_str())]].concat();
    let mut out = Vec::new();
    assert!(client.connection.send_request(&request(&fields), 1, true, &mut out).is_some());
    let sent = frames(&out);
    let shape: Vec<_> = sent.iter().map(|f| (f.kind, f.flags)).collect();
    assert_eq!((shape[0], shape[1]), ((HEADERS, END), (CONTINUATION, 0)));
    assert_eq!(shape.last(), Some(&(CONTINUATION, END_HEADERS)));
    assert!(sent.iter().all(|f| f.payload.len() <= 16_384));
    let mut server = End2::server(&server_options());
    let seen = server.feed_cut(&out, &mut || 1000).expect("no error");
    assert_eq!(seen, [Seen::Request { id: 1, end: true, head: format!("GET http h /|x: {long}|") }]);
    assert!(client.feed(&settings(&[(5, 100_000)])).is_ok());
    client.take();
    out.clear();
    assert!(client.connection.send_request(&request(&fields), 2, true, &mut out).is_some());
    assert_eq!(frames(&out).len(), 1);
}
