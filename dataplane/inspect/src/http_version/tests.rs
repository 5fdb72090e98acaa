//! What Envoy 1.40's http_inspector made of the same bytes; every cut and every truncation.

use super::*;
use HttpSniff::{Http2, Http10, Http11, NeedMore, NotHttp, TooLarge};

const CASES: &[(&[u8], HttpSniff)] = &[
    (b"GET / HTTP/1.1\r\n", Http11),
    (b"GET / HTTP/1.0\n", Http10),
    (b"GET / HTTP/1.2\r\n", Http10),
    (b"GET / HTTP/2.0\r\n", Http10),
    (b"GET /\r\n", Http10),
    (b"GET  /  HTTP/1.1\r\n", Http11),
    (b"GET / HTTP/1.1 \r\n", Http11),
    (b"GET\t/ HTTP/1.1\r\n", Http11),
    (b"FOO / HTTP/1.1\r\n", Http11),
    (b"foo / HTTP/1.1\r\n", Http11),
    (b"XET / HTTP/1.1\r\n", Http11),
    (b"G@T / HTTP/1.1\r\n", NotHttp),
    (b"G:T / HTTP/1.1\r\n", NotHttp),
    (b"GET foo HTTP/1.1\r\n", NotHttp),
    (b"GET http://a/ HTTP/1.1\r\n", Http11),
    (b"CONNECT a:1 HTTP/1.1\r\n", Http11),
    (b"GET * HTTP/1.1\r\n", Http11),
    (b"GET / http/1.1\r\n", NotHttp),
    (b"GET / HTTP/11\r\n", NotHttp),
    (b"GET / XHTTP/1.1\r\n", NotHttp),
    (b"GET / a HTTP/1.1\r\n", NotHttp),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http2),
    (b"PRI * HTTP/2.0\r\n\r\nXX", Http10),
    (b"\r\nGET / HTTP/1.1\r\n", NotHttp),
    (b" GET / HTTP/1.1\r\n", NotHttp),
    (b"GET /\xff HTTP/1.1\r\n", NotHttp),
    (b"GET /\x01 HTTP/1.1\r\n", Http11),
    (b"GET /\r HTTP/1.1\r\n", Http11),
    (b"GET / HTTP/1.1\r\r\n", Http11),
    (b"P\0T", NotHttp),
    (b"\n", NotHttp),
    (b"GET\r\n", NotHttp),
    (b"EHLO x\r\n", NotHttp),
    (b"HELO x\r\n", NotHttp),
    (b"", NeedMore),
    (b"GET", NeedMore),
    (b"GET / HTTP/1.1", NeedMore),
];

#[test]
fn as_envoy_decides() {
    for (bytes, expected) in CASES {
        assert_eq!(http_version(bytes), *expected, "{}", bytes.escape_ascii());
        let named = matches!(expected, Http10 | Http11 | Http2);
        assert_eq!(expected.application_protocol().is_some(), named);
    }
}

#[test]
fn a_verdict_never_changes_with_more_bytes() {
    for (bytes, expected) in CASES {
        crate::fuzz::fuzz_http_version(bytes);
        let mut verdict = None;
        for end in 0..=bytes.len() {
            let now = http_version(&bytes[..end]);
            if let Some(before) = verdict {
                assert_eq!(now, before, "{}", bytes[..end].escape_ascii());
            }
            verdict = Some(now).filter(|verdict| *verdict != NeedMore);
        }
        assert_eq!(verdict.unwrap_or(NeedMore), *expected);
    }
}

#[test]
fn a_line_without_end_is_bounded() {
    let line = |len: usize, tail: &[u8]| [b"GET /", vec![b'a'; len - 5].as_slice(), tail].concat();
    assert_eq!(http_version(&line(HTTP_INSPECT_BYTES_MAX - 1, b"")), NeedMore);
    assert_eq!(http_version(&line(HTTP_INSPECT_BYTES_MAX, b"")), TooLarge);
    assert_eq!(http_version(&line(HTTP_INSPECT_BYTES_MAX, b" HTTP/1.1\r\n")), TooLarge);
    assert_eq!(http_version(&line(60_000, b" HTTP/1.1\r\n")), Http11);
}
