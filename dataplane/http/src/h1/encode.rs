//! Writing heads, chunk framing and trailers in the order and spelling that Envoy uses.
//!
//! The framing argument alone decides how the body is announced: `transfer-encoding` in the map is never
//! written, `content-length` only where it agrees, `host` only from the authority. So whatever filters did to
//! the map, the message on the wire is unambiguous.

use alloc::vec::Vec;

use super::framing::{BodyFraming, RequestInfo, parse_length};
use super::reason::reason_phrase;
use crate::head::{Method, RequestHead, ResponseHead, Version};
use crate::header::{HeaderId, HeaderMap};

/// Spelling of names (`header_key_format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderCase {
    /// Lower case, Envoy's default.
    #[default]
    Lower,
    /// `proper_case_words`: a capital at the start and after each `-` or other byte that is no letter or digit.
    Proper,
    /// `preserve_case` with lower case for names that were added here; the parser must have kept the case.
    Preserve,
}

/// The `connection` line to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionLine {
    /// Whatever the map holds (an upgrade's `connection: upgrade`), usually nothing.
    #[default]
    FromMap,
    /// `connection: close` instead of the map's.
    Close,
    /// `connection: keep-alive` instead of the map's: the answer to an HTTP/1.0 client that asked.
    KeepAlive,
}

/// How to write a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Spelling of names.
    pub header_case: HeaderCase,
    /// The `connection` line.
    pub connection: ConnectionLine,
    /// Write an absolute-form target (`send_fully_qualified_url`); requests only.
    pub absolute_target: bool,
    /// The version in the status line: the one that the client spoke; responses only. Requests are always 1.1.
    pub version: Version,
}

/// After chunk data.
pub const CHUNK_SUFFIX: &[u8] = b"\r\n";
/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The end of a chunked body before [`encode_trailers`].
pub const LAST_CHUNK_LINE: &[u8] = b"0\r\n";
/// The interim response that lets a client send its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a request head. `framing` is how the body will be sent; `UntilClose` cannot delimit a request
/// and is sent as chunked, `Tunnel` announces nothing (CONNECT, upgrades without a body).
pub fn encode_request(head: &RequestHead, framing: BodyFraming, opts: &EncodeOptions, out: &mut Vec<u8>) {
    let kind = head.method_kind();
    out.extend_from_slice(head.method());
    out.push(b' ');
    write_target(head, kind, opts.absolute_target, out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host: &[u8] = match opts.header_case {
        HeaderCase::Lower => b"host: ",
        HeaderCase::Proper | HeaderCase::Preserve => b"Host: ",
    };
    out.extend_from_slice(host);
    out.extend_from_slice(head.authority());
    out.extend_from_slice(b"\r\n");
    // RFC 9110 section 8.6: methods that anticipate a body say that there is none.
    let say_empty =
        !matches!(kind, Method::Get | Method::Head | Method::Delete | Method::Trace | Method::Connect);
    let body = match framing {
        BodyFraming::None if say_empty => Announce::Length(0),
        BodyFraming::None => Announce::NothingOrZero,
        BodyFraming::Length(n) => Announce::Length(n),
        BodyFraming::Chunked | BodyFraming::UntilClose => Announce::Chunked,
        BodyFraming::Tunnel => Announce::Nothing,
    };
    write_fields(&head.headers, HeaderId::Host.bit(), body, opts, out);
    out.extend_from_slice(b"\r\n");
}

fn write_target(head: &RequestHead, kind: Method, absolute: bool, out: &mut Vec<u8>) {
    if kind == Method::Connect && head.path().is_empty() {
        return out.extend_from_slice(head.authority());
    }
    if absolute && head.path().first() == Some(&b'/') {
        out.extend_from_slice(if head.scheme().is_empty() { b"http" } else { head.scheme() });
        out.extend_from_slice(b"://");
        out.extend_from_slice(head.authority());
    }
    out.extend_from_slice(if head.path().is_empty() { b"/" } else { head.path() });
}

/// Appends a response head for the request described by `request`. `framing` is how the body will be sent;
/// `None` for a status that may have a body announces an empty one, except in answers to HEAD.
pub fn encode_response(
    head: &ResponseHead,
    framing: BodyFraming,
    request: &RequestInfo,
    opts: &EncodeOptions,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(if opts.version == Version::Http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    push_decimal(u64::from(head.status), out);
    out.push(b' ');
    let reason = match opts.header_case {
        HeaderCase::Preserve if !head.reason().is_empty() => head.reason(),
        _ => reason_phrase(head.status).as_bytes(),
    };
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
    let no_body_status = matches!(head.status, 100..=199 | 204);
    let tunnel = framing == BodyFraming::Tunnel || (request.connect && matches!(head.status, 200..=299));
    let body = match framing {
        _ if no_body_status || tunnel => Announce::Nothing,
        _ if request.head || head.status == 304 => Announce::LengthOfMap,
        BodyFraming::None => Announce::Length(0),
        BodyFraming::Length(n) => Announce::Length(n),
        BodyFraming::Chunked if opts.version == Version::Http10 => Announce::Nothing,
        BodyFraming::Chunked => Announce::Chunked,
        BodyFraming::UntilClose | BodyFraming::Tunnel => Announce::Nothing,
    };
    write_fields(&head.headers, 0, body, opts, out);
    out.extend_from_slice(b"\r\n");
}

/// What the head says about the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Announce {
    /// Nothing at all.
    Nothing,
    /// `content-length: 0` if the map has it, else nothing.
    NothingOrZero,
    /// The map's `content-length` whatever it says: there is no body, it describes another response.
    LengthOfMap,
    Length(u64),
    Chunked,
}

fn write_fields(headers: &HeaderMap, skip: u128, body: Announce, opts: &EncodeOptions, out: &mut Vec<u8>) {
    let mut skip = skip | HeaderId::TransferEncoding.bit();
    let mapped = single_length(headers);
    let keep_length = match body {
        Announce::Nothing | Announce::Chunked => false,
        Announce::NothingOrZero => mapped == Some(0),
        Announce::LengthOfMap => mapped.is_some(),
        Announce::Length(n) => mapped == Some(n),
    };
    if !keep_length {
        skip |= HeaderId::ContentLength.bit();
    }
    if opts.connection != ConnectionLine::FromMap {
        skip |= HeaderId::Connection.bit();
    }
    match opts.header_case {
        HeaderCase::Lower => headers.wire_runs(skip, |run| out.extend_from_slice(run)),
        case => write_cased(headers, skip, case, out),
    }
    match opts.connection {
        ConnectionLine::FromMap => {}
        ConnectionLine::Close => write_field(b"connection", b"close", opts.header_case, out),
        ConnectionLine::KeepAlive => write_field(b"connection", b"keep-alive", opts.header_case, out),
    }
    match body {
        Announce::Chunked => write_field(b"transfer-encoding", b"chunked", opts.header_case, out),
        Announce::Length(n) if !keep_length => {
            write_field(b"content-length", b"", opts.header_case, out);
            out.truncate(out.len() - 2);
            push_decimal(n, out);
            out.extend_from_slice(b"\r\n");
        }
        _ => {}
    }
}

/// The map's Content-Length when it is one plain number.
fn single_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.values(HeaderId::ContentLength);
    match (values.next(), values.next()) {
        (Some(value), None) => parse_length(value),
        _ => None,
    }
}

fn write_cased(headers: &HeaderMap, skip: u128, case: HeaderCase, out: &mut Vec<u8>) {
    for (id, name, cased, value) in headers.iter_cased() {
        if id.is_some_and(|id| skip & id.bit() != 0) {
            continue;
        }
        match (case, cased) {
            (HeaderCase::Preserve, Some(cased)) => write_field(cased, value, HeaderCase::Lower, out),
            (HeaderCase::Preserve, None) => write_field(name, value, HeaderCase::Lower, out),
            _ => write_field(name, value, case, out),
        }
    }
}

fn write_field(name: &[u8], value: &[u8], case: HeaderCase, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(name);
    if case == HeaderCase::Proper {
        let mut start = true;
        for b in &mut out[at..] {
            if start {
                b.make_ascii_uppercase();
            }
            start = !b.is_ascii_alphanumeric();
        }
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line before a chunk of `len` bytes. `len` must not be 0: that would end the body.
pub fn encode_chunk_prefix(len: u64, out: &mut Vec<u8>) {
    debug_assert!(len > 0, "an empty chunk is the last chunk");
    let digits = (64 - len.leading_zeros()).div_ceil(4).max(1);
    for i in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(len >> (4 * i) & 0xf) as usize]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the trailer section and the final empty line; write [`LAST_CHUNK_LINE`] before it. Framing fields
/// are left out.
pub fn encode_trailers(trailers: &HeaderMap, opts: &EncodeOptions, out: &mut Vec<u8>) {
    let skip = HeaderId::ALL.iter().filter(|id| id.is_framing()).fold(0, |set, id| set | id.bit());
    match opts.header_case {
        HeaderCase::Lower => trailers.wire_runs(skip, |run| out.extend_from_slice(run)),
        case => write_cased(trailers, skip, case, out),
    }
    out.extend_from_slice(b"\r\n");
}

fn push_decimal(mut n: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn head(method: &str, fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::new();
        head.set_method(method.as_bytes());
        head.set_path(b"/p");
        head.set_authority(b"h");
        for (n, v) in fields {
            head.headers.append(n.as_bytes(), v.as_bytes());
        }
        head
    }

    fn request(head: &RequestHead, framing: BodyFraming, opts: &EncodeOptions) -> String {
        let mut out = Vec::new();
        encode_request(head, framing, opts, &mut out);
        String::from_utf8(out).expect("ascii")
    }

    fn response(
        status: u16,
        fields: &[(&str, &str)],
        framing: BodyFraming,
        info: RequestInfo,
        version: Version,
    ) -> String {
        let mut head = ResponseHead::new();
        head.status = status;
        for (n, v) in fields {
            head.headers.append(n.as_bytes(), v.as_bytes());
        }
        let mut out = Vec::new();
        let opts = EncodeOptions { version, ..EncodeOptions::default() };
        encode_response(&head, framing, &info, &opts, &mut out);
        String::from_utf8(out).expect("ascii")
    }

    #[test]
    fn requests_look_as_envoy_writes_them() {
        let plain = EncodeOptions::default();
        let get = head("GET", &[("X-A", "1")]);
        assert_eq!(request(&get, BodyFraming::None, &plain), "GET /p HTTP/1.1\r\nhost: h\r\nx-a: 1\r\n\r\n");
        let post = head("POST", &[]);
        let empty = "POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(request(&post, BodyFraming::None, &plain), empty);
        let te = head(
            "POST",
            &[("transfer-encoding", "gzip"), ("content-length", "7"), ("a", "b"), ("host", "evil")],
        );
        let chunked = "POST /p HTTP/1.1\r\nhost: h\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(request(&te, BodyFraming::Chunked, &plain), chunked);
        let length = "POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: 7\r\na: b\r\n\r\n";
        assert_eq!(request(&te, BodyFraming::Length(7), &plain), length);
        let other = "POST /p HTTP/1.1\r\nhost: h\r\na: b\r\ncontent-length: 8\r\n\r\n";
        assert_eq!(request(&te, BodyFraming::Length(8), &plain), other);
        let zero = head("GET", &[("content-length", "0")]);
        let kept = "GET /p HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(request(&zero, BodyFraming::None, &plain), kept);
    }

    #[test]
    fn targets_and_connection_lines() {
        let mut connect = head("CONNECT", &[("connection", "upgrade")]);
        connect.set_path(b"");
        connect.set_authority(b"h:1");
        let close =
            EncodeOptions { connection: ConnectionLine::Close, absolute_target: true, ..Default::default() };
        let wire = "CONNECT h:1 HTTP/1.1\r\nhost: h:1\r\nconnection: close\r\n\r\n";
        assert_eq!(request(&connect, BodyFraming::Tunnel, &close), wire);
        let absolute = "GET http://h/p HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        assert_eq!(request(&head("GET", &[]), BodyFraming::None, &close), absolute);
    }

    #[test]
    fn spelling_of_names() {
        let wire = b"GET / HTTP/1.1\r\nHOST: h\r\nx-FOO-bar: 1\r\n\r\n";
        let mut head = RequestHead::new();
        let opts = crate::h1::ParseOptions { preserve_case: true, ..Default::default() };
        assert!(crate::h1::parse_request(wire, &opts, &mut head).is_ok());
        head.headers.append(b"added-here", b"2");
        let as_case = |header_case| {
            request(&head, BodyFraming::None, &EncodeOptions { header_case, ..EncodeOptions::default() })
        };
        assert_eq!(
            as_case(HeaderCase::Lower),
            "GET / HTTP/1.1\r\nhost: h\r\nx-foo-bar: 1\r\nadded-here: 2\r\n\r\n"
        );
        assert_eq!(
            as_case(HeaderCase::Proper),
            "GET / HTTP/1.1\r\nHost: h\r\nX-Foo-Bar: 1\r\nAdded-Here: 2\r\n\r\n"
        );
        assert_eq!(
            as_case(HeaderCase::Preserve),
            "GET / HTTP/1.1\r\nHost: h\r\nx-FOO-bar: 1\r\nadded-here: 2\r\n\r\n"
        );
    }

    #[test]
    fn responses_announce_exactly_their_body() {
        let info = RequestInfo::default();
        let v11 = Version::Http11;
        let two = [("content-length", "2")];
        assert_eq!(
            response(200, &[], BodyFraming::None, info, v11),
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        );
        assert_eq!(response(204, &two, BodyFraming::None, info, v11), "HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(
            response(304, &two, BodyFraming::None, info, v11),
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n"
        );
        let head = RequestInfo { head: true, ..info };
        assert_eq!(
            response(200, &two, BodyFraming::None, head, v11),
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
        );
        assert_eq!(response(200, &[], BodyFraming::None, head, v11), "HTTP/1.1 200 OK\r\n\r\n");
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(response(200, &two, BodyFraming::Chunked, info, v11), chunked);
        assert_eq!(
            response(200, &two, BodyFraming::Chunked, info, Version::Http10),
            "HTTP/1.0 200 OK\r\n\r\n"
        );
        let switch = [("connection", "upgrade"), ("upgrade", "websocket")];
        let wire = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        assert_eq!(response(101, &switch, BodyFraming::Tunnel, info, v11), wire);
    }

    #[test]
    fn chunks_and_trailers() {
        let mut out = Vec::new();
        for (len, text) in
            [(1, "1\r\n"), (0xab, "ab\r\n"), (0x1000, "1000\r\n"), (u64::MAX, "ffffffffffffffff\r\n")]
        {
            out.clear();
            encode_chunk_prefix(len, &mut out);
            assert_eq!(out, text.as_bytes());
        }
        let mut trailers = HeaderMap::new();
        trailers.append(b"Grpc-Status", b"0");
        trailers.append(b"content-length", b"3");
        out.clear();
        encode_trailers(&trailers, &EncodeOptions::default(), &mut out);
        assert_eq!(out, b"grpc-status: 0\r\n\r\n");
    }
}
