//! Request heads: one pass over the line and the fields, straight into the head.

use super::error::RequestError;
use super::field::{self, Line, LineError};
use super::framing::{BodyFraming, request_framing};
use super::options::{ParseOptions, UnderscoreAction};
use super::scan::Parsed;
use super::target;
use crate::block;
use crate::head::{RequestHead, Version};
use crate::header::token::{CLASS, TOKEN};
use crate::header::{HeaderId, is_token};

/// Longest method that is looked at; the longest registered one has 11 bytes.
const METHOD_MAX: usize = 24;
/// Empty lines tolerated before the request line (RFC 9112 section 2.2).
const LEADING_EMPTY_LINES: usize = 2;

/// Longest input whose plain lines are taken in runs: positions in a map have 32 bits, and lines that are not plain
/// grow by a space at the most.
pub(super) const RUN_BYTES_MAX: usize = 1 << 30;

/// Methods that Envoy 1.40 knows; others are refused unless `allow_custom_methods`.
const METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"COPY",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"MSEARCH",
    b"NOTIFY",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"QUERY",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
];

/// Parses a request head from the start of `input` into `out`, which is cleared first.
///
/// The result depends only on the bytes up to the verdict: once an error or a complete head is reported,
/// more input never changes it. After an error `out` holds what was understood before it.
pub fn parse_request(
    input: &[u8],
    opts: &ParseOptions,
    out: &mut RequestHead,
) -> Result<Parsed, RequestError> {
    out.clear();
    let window = &input[..input.len().min(opts.head_bytes_max)];
    match parse_window(window, opts, out)? {
        Parsed::Incomplete if input.len() > opts.head_bytes_max => Err(RequestError::HeadTooLarge),
        parsed => Ok(parsed),
    }
}

fn parse_window(input: &[u8], opts: &ParseOptions, out: &mut RequestHead) -> Result<Parsed, RequestError> {
    let Some(start) = skip_empty_lines(input)? else { return Ok(Parsed::Incomplete) };
    let Some(line_len) = request_line(&input[start..], opts, out)? else { return Ok(Parsed::Incomplete) };
    let mut hosts = Host { absolute: !out.authority().is_empty(), count: 0 };
    let mut at = start + line_len;
    let mut left = opts.head_fields_max;
    loop {
        // Runs of plain lines are the rule; every other line is split on its own, and ends the run before it.
        if !opts.preserve_case && input.len() <= RUN_BYTES_MAX {
            plain_lines(input, &mut at, &mut left, &mut hosts, out)?;
        }
        match field::split(&input[at..]) {
            Ok(Line::Incomplete) => return Ok(Parsed::Incomplete),
            Ok(Line::End) => break,
            Ok(Line::Field { name, value, line }) => {
                left = left.checked_sub(1).ok_or(RequestError::TooManyFields)?;
                store(name, value, opts, &mut hosts, out)?;
                at += line.len();
            }
            Err(LineError::Field) => return Err(RequestError::BadField),
            Err(LineError::Value) => return Err(RequestError::BadValue),
        }
    }
    let framing = finish(opts, &hosts, out)?;
    Ok(Parsed::Complete { consumed: at + 2, framing })
}

/// Stores plain lines up to the first that is none. `left` is how many fields there may still be.
fn plain_lines(
    input: &[u8],
    at: &mut usize,
    left: &mut usize,
    hosts: &mut Host,
    out: &mut RequestHead,
) -> Result<(), RequestError> {
    let mut run = out.headers.begin_run(*at);
    let mut verdict = Ok(());
    while let Some(line) = field::plain(&input[*at..]) {
        let Some(less) = left.checked_sub(1) else {
            verdict = Err(RequestError::TooManyFields);
            break;
        };
        if line.id == Some(HeaderId::Host) {
            out.headers.end_run(&run, &input[..*at]);
            let value = *at + "host: ".len();
            hosts.take(&input[value..value + line.value_len], out)?;
            run = out.headers.begin_run(*at + line.len());
        } else {
            out.headers.add_to_run(&mut run, *at, &line);
        }
        *left = less;
        *at += line.len();
    }
    out.headers.end_run(&run, &input[..*at]);
    verdict
}

fn skip_empty_lines(input: &[u8]) -> Result<Option<usize>, RequestError> {
    let mut at = 0;
    for _ in 0..=LEADING_EMPTY_LINES {
        match &input[at..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => at += 2,
            _ => return Ok(Some(at)),
        }
    }
    Err(RequestError::BadRequestLine)
}

/// Parses `method SP target SP version CRLF`; `None` while it is incomplete.
fn request_line(
    input: &[u8],
    opts: &ParseOptions,
    out: &mut RequestHead,
) -> Result<Option<usize>, RequestError> {
    let Some(method_len) = method(input, opts)? else { return Ok(None) };
    let rest = &input[method_len + 1..];
    let Some(target_len) = block::find(rest, block::not_graphic) else {
        return if rest.len() > opts.target_bytes_max { Err(RequestError::TargetTooLong) } else { Ok(None) };
    };
    if target_len > opts.target_bytes_max {
        return Err(RequestError::TargetTooLong);
    }
    if target_len == 0 || rest[target_len] != b' ' {
        return Err(RequestError::BadRequestLine);
    }
    let Some(version) = version(&rest[target_len + 1..])? else { return Ok(None) };
    if version == Version::Http10 && !opts.accept_http_10 {
        return Err(RequestError::Http10NotAccepted);
    }
    out.version = version;
    out.set_method(&input[..method_len]);
    target::split(&rest[..target_len], opts.allow_absolute_url, out)?;
    Ok(Some(method_len + 1 + target_len + 1 + VERSION_LEN + 2))
}

#[inline]
fn method(input: &[u8], opts: &ParseOptions) -> Result<Option<usize>, RequestError> {
    let seen = &input[..input.len().min(METHOD_MAX + 1)];
    let Some(len) = seen.iter().position(|b| CLASS[*b as usize] & TOKEN == 0) else {
        return if seen.len() > METHOD_MAX { Err(RequestError::UnknownMethod) } else { Ok(None) };
    };
    if len == 0 || seen[len] != b' ' {
        return Err(RequestError::BadRequestLine);
    }
    if !opts.allow_custom_methods && !is_known_method(&seen[..len]) {
        return Err(RequestError::UnknownMethod);
    }
    Ok(Some(len))
}

pub(super) const VERSION_LEN: usize = b"HTTP/1.1".len();

/// `HTTP/1.1` or `HTTP/1.0` followed by CRLF; `None` while that may still come.
#[inline]
fn version(input: &[u8]) -> Result<Option<Version>, RequestError> {
    if let Some((head, _)) = input.split_first_chunk::<10>()
        && head == b"HTTP/1.1\r\n"
    {
        return Ok(Some(Version::Http11));
    }
    let seen = &input[..input.len().min(VERSION_LEN)];
    if seen.len() < VERSION_LEN {
        return Ok(None);
    }
    let version = match seen {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(RequestError::BadVersion);
        }
        _ => return Err(RequestError::BadRequestLine),
    };
    match &input[VERSION_LEN..] {
        [b'\r', b'\n', ..] => Ok(Some(version)),
        [] | [b'\r'] => Ok(None),
        _ => Err(RequestError::BadRequestLine),
    }
}

struct Host {
    /// The target named the authority; `Host` is checked and ignored.
    absolute: bool,
    count: usize,
}

impl Host {
    /// Takes the value of a `Host` field.
    #[inline]
    fn take(&mut self, value: &[u8], out: &mut RequestHead) -> Result<(), RequestError> {
        self.count += 1;
        if self.count > 1 || !target::is_valid_authority(value) {
            return Err(RequestError::BadHost);
        }
        if !self.absolute {
            out.set_authority(value);
        }
        Ok(())
    }
}

fn store(
    name: &[u8],
    value: &[u8],
    opts: &ParseOptions,
    hosts: &mut Host,
    out: &mut RequestHead,
) -> Result<(), RequestError> {
    debug_assert!(is_token(name), "the line was split at a token");
    if name.len() == 4 && name.eq_ignore_ascii_case(b"host") {
        return hosts.take(value, out);
    }
    if name.contains(&b'_') {
        let shadows = shadows(name);
        match opts.underscores {
            UnderscoreAction::RejectRequest => return Err(RequestError::Underscore),
            UnderscoreAction::DropHeader => return Ok(()),
            UnderscoreAction::Allow if shadows => return Err(RequestError::Underscore),
            UnderscoreAction::Allow => {}
        }
    }
    match out.headers.push_wire(name, value, opts.preserve_case) {
        true => Ok(()),
        false => Err(RequestError::HeadTooLarge),
    }
}

/// True for a method that Envoy knows.
#[inline]
pub(crate) fn is_known_method(method: &[u8]) -> bool {
    method == b"GET" || METHODS.contains(&method)
}

/// True when the name, read with `-` for `_` as CGI-like servers do, is a framing or identity field.
#[cold]
pub(crate) fn shadows(name: &[u8]) -> bool {
    let mut buffer = [0; 48];
    let Some(copy) = buffer.get_mut(..name.len()) else { return false };
    for (to, from) in copy.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { from.to_ascii_lowercase() };
    }
    HeaderId::lookup(copy).is_some_and(|id| id.is_framing() || id.is_identity())
}

/// Checks that need the whole head.
fn finish(opts: &ParseOptions, hosts: &Host, out: &mut RequestHead) -> Result<BodyFraming, RequestError> {
    let framing = match request_framing(out) {
        Err(RequestError::LengthAndChunked) if opts.allow_chunked_length => {
            out.headers.remove_id(HeaderId::ContentLength);
            BodyFraming::Chunked
        }
        framing => framing?,
    };
    if hosts.count == 0 {
        if out.version == Version::Http11 {
            return Err(RequestError::MissingHost);
        }
        if !hosts.absolute {
            let host = opts.default_host_for_http_10.as_deref().ok_or(RequestError::MissingHost)?;
            out.set_authority(host);
        }
    }
    Ok(framing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    fn parse(text: &str) -> Result<(RequestHead, BodyFraming), RequestError> {
        parse_with(text, &ParseOptions::default())
    }

    fn parse_with(text: &str, opts: &ParseOptions) -> Result<(RequestHead, BodyFraming), RequestError> {
        let mut head = RequestHead::new();
        match parse_request(text.as_bytes(), opts, &mut head)? {
            Parsed::Complete { consumed, framing } => {
                assert_eq!(consumed, text.len(), "{text:?}");
                Ok((head, framing))
            }
            Parsed::Incomplete => panic!("incomplete: {text:?}"),
        }
    }

    fn refused(text: &str) -> RequestError {
        parse(text).expect_err(text)
    }

    #[test]
    fn a_head_lands_in_the_map() {
        let (head, framing) =
            parse("\r\nPOST /a?b HTTP/1.1\r\nHost: h:80\r\nX-A:  b c \r\nContent-Length: 3\r\n\r\n")
                .expect("ok");
        assert_eq!(
            (head.method(), head.path(), head.authority()),
            (&b"POST"[..], &b"/a?b"[..], &b"h:80"[..])
        );
        assert_eq!(head.headers.get_name(b"x-a"), Some(&b"b c"[..]));
        assert_eq!((head.headers.len(), framing), (2, BodyFraming::Length(3)));
        assert!(!head.headers.contains(HeaderId::Host));
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let text = "\r\n\r\nGET http://h/x HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
        let mut head = RequestHead::new();
        for end in 0..text.len() {
            let parsed = parse_request(&text.as_bytes()[..end], &ParseOptions::default(), &mut head);
            assert_eq!(parsed, Ok(Parsed::Incomplete), "{end}");
        }
        assert!(parse(text).is_ok());
    }

    #[test]
    fn the_request_line_is_exact() {
        for line in [
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET\t/ HTTP/1.1",
            "GET /a b HTTP/1.1",
            " GET / HTTP/1.1",
            "GET / http/1.1",
            "GET /",
            "GET / HTTP/1.11",
            "GET /\u{e9} HTTP/1.1",
            "GET /\x01 HTTP/1.1",
            "G(T / HTTP/1.1",
            "GET / HTTP/1,1",
            "GET / HTTX/1.1",
            "\rGET / HTTP/1.1",
            "GET / HTTP/ 1.1",
            "\r\n\r\n\r\nGET / HTTP/1.1",
        ] {
            assert_eq!(
                refused(&format!("{line}\r\nhost: h\r\n\r\n")),
                RequestError::BadRequestLine,
                "{line:?}"
            );
        }
        for version in ["1.2", "2.0", "0.9", "3.0"] {
            let error = refused(&format!("GET / HTTP/{version}\r\nhost: h\r\n\r\n"));
            assert_eq!((error, error.status()), (RequestError::BadVersion, 505));
        }
        assert_eq!(refused("get / HTTP/1.1\r\nhost: h\r\n\r\n"), RequestError::UnknownMethod);
        let custom = ParseOptions { allow_custom_methods: true, ..ParseOptions::default() };
        assert!(parse_with("get / HTTP/1.1\r\nhost: h\r\n\r\n", &custom).is_ok());
        assert_eq!(refused("GET / HTTP/1.1\nhost: h\n\n"), RequestError::BadRequestLine);
    }

    #[test]
    fn http_10_needs_consent_and_gets_a_default_host() {
        assert_eq!(refused("GET / HTTP/1.0\r\n\r\n").status(), 426);
        let mut opts = ParseOptions { accept_http_10: true, ..ParseOptions::default() };
        assert_eq!(parse_with("GET / HTTP/1.0\r\n\r\n", &opts), Err(RequestError::MissingHost));
        opts.default_host_for_http_10 = Some(b"dflt"[..].into());
        let (head, _) = parse_with("GET / HTTP/1.0\r\n\r\n", &opts).expect("ok");
        assert_eq!((head.authority(), head.version), (&b"dflt"[..], Version::Http10));
        let te = "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(parse_with(te, &opts), Err(RequestError::BadTransferEncoding));
    }

    #[test]
    fn one_valid_host() {
        assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), RequestError::MissingHost);
        assert_eq!(refused("GET / HTTP/1.1\r\nhost: a\r\nHOST: a\r\n\r\n"), RequestError::BadHost);
        for bad in ["", "a b", "a/b", "u@h", "a,b", "a:b", "[::1"] {
            assert_eq!(
                refused(&format!("GET / HTTP/1.1\r\nhost: {bad}\r\n\r\n")),
                RequestError::BadHost,
                "{bad:?}"
            );
        }
        let (head, _) = parse("GET http://x:1/y HTTP/1.1\r\nhost: other\r\n\r\n").expect("ok");
        assert_eq!((head.authority(), head.scheme(), head.path()), (&b"x:1"[..], &b"http"[..], &b"/y"[..]));
        assert_eq!(refused("GET http://x/ HTTP/1.1\r\nhost: u@h\r\n\r\n"), RequestError::BadHost);
        let origin_only = ParseOptions { allow_absolute_url: false, ..ParseOptions::default() };
        let absolute = "GET http://x/ HTTP/1.1\r\nhost: x\r\n\r\n";
        assert_eq!(parse_with(absolute, &origin_only), Err(RequestError::BadTarget));
    }

    #[test]
    fn field_lines_are_strict() {
        let with = |line: &str| refused(&format!("GET / HTTP/1.1\r\nhost: h\r\n{line}\r\n\r\n"));
        for bad in ["a : b", " a: b", "a", ": b", "a b: c", "a: b\r\n c", "a: b\n"] {
            assert_eq!(with(bad), RequestError::BadField, "{bad:?}");
        }
        for bad in ["a: v\rTransfer-Encoding: chunked", "a: \0", "a: \x7f"] {
            assert_eq!(with(bad), RequestError::BadValue, "{bad:?}");
        }
        assert_eq!(refused("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), RequestError::BadField);
    }

    #[test]
    fn framing_is_refused_at_the_head() {
        let with = |lines: &str| refused(&format!("POST / HTTP/1.1\r\nhost: h\r\n{lines}\r\n\r\n"));
        assert_eq!(with("content-length: 3\r\ntransfer-encoding: chunked"), RequestError::LengthAndChunked);
        assert_eq!(with("content-length: 3\r\ncontent-length: 3"), RequestError::BadContentLength);
        assert_eq!(with("transfer-encoding: gzip").status(), 501);
        let opts = ParseOptions { allow_chunked_length: true, ..ParseOptions::default() };
        let both = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
        let (head, framing) = parse_with(both, &opts).expect("ok");
        assert_eq!((framing, head.headers.contains(HeaderId::ContentLength)), (BodyFraming::Chunked, false));
    }

    #[test]
    fn underscores_never_shadow() {
        let with = |name: &str, underscores| {
            let opts = ParseOptions { underscores, ..ParseOptions::default() };
            parse_with(&format!("GET / HTTP/1.1\r\nhost: h\r\n{name}: 1\r\n\r\n"), &opts)
                .map(|(h, _)| h.headers.len())
        };
        for shadow in
            ["Content_Length", "transfer_encoding", "X_Forwarded_For", "x-forwarded_for", "x_envoy_internal"]
        {
            assert_eq!(with(shadow, UnderscoreAction::Allow), Err(RequestError::Underscore), "{shadow}");
            assert_eq!(with(shadow, UnderscoreAction::DropHeader), Ok(0));
        }
        assert_eq!(with("my_header", UnderscoreAction::Allow), Ok(1));
        assert_eq!(with("my_header", UnderscoreAction::DropHeader), Ok(0));
        assert_eq!(with("my_header", UnderscoreAction::RejectRequest), Err(RequestError::Underscore));
    }

    #[test]
    fn limits_fail_early() {
        let opts = ParseOptions {
            head_bytes_max: 200,
            target_bytes_max: 50,
            head_fields_max: 3,
            ..Default::default()
        };
        let verdict = |text: &str| parse_request(text.as_bytes(), &opts, &mut RequestHead::new());
        let long = format!("GET /{}", "a".repeat(50));
        assert_eq!(verdict(&long), Err(RequestError::TargetTooLong));
        assert_eq!(verdict(&long[..54]), Ok(Parsed::Incomplete));
        let big = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(200));
        assert_eq!(verdict(&big), Err(RequestError::HeadTooLarge));
        assert_eq!(verdict(&format!("{big}\r\n\r\n")), Err(RequestError::HeadTooLarge));
        let many = "GET / HTTP/1.1\r\na: b\r\na: b\r\na: b\r\na: b\r\n";
        assert_eq!(verdict(many), Err(RequestError::TooManyFields));
        assert_eq!(verdict(&"X".repeat(25)), Err(RequestError::UnknownMethod));
    }

    #[test]
    fn parsing_into_a_used_head_does_not_allocate() {
        let text = format!("GET /p HTTP/1.1\r\nhost: h\r\n{}\r\n", "x-name: some value\r\n".repeat(30));
        let mut head = RequestHead::new();
        let mut capacity = None;
        for _ in 0..5 {
            assert!(parse_request(text.as_bytes(), &ParseOptions::default(), &mut head).is_ok());
            assert!(capacity.is_none_or(|c| c == head.headers.capacity()));
            capacity = Some(head.headers.capacity());
        }
        assert_eq!(String::from_utf8_lossy(head.path()), "/p");
    }
}
