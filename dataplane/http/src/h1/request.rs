//! Request heads: one pass over the line and the fields, straight into the head.

use super::error::RequestError;
use super::field::{self, Line, LineError};
use super::framing::{BodyFraming, request_framing};
use super::options::{ParseOptions, UnderscoreAction};
use super::scan::Parsed;
use super::target;
use crate::head::{RequestHead, Version};
use crate::header::token::{CLASS, TARGET, TOKEN};
use crate::header::{HeaderId, is_token};

/// Longest method that is looked at; the longest registered one has 11 bytes.
const METHOD_MAX: usize = 24;
/// Empty lines tolerated before the request line (RFC 9112 section 2.2).
const LEADING_EMPTY_LINES: usize = 2;

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
    let mut fields = 0;
    loop {
        match field::split(&input[at..]) {
            Ok(Line::Incomplete) => return Ok(Parsed::Incomplete),
            Ok(Line::End) => break,
            Ok(Line::Field { name, value, len }) => {
                fields += 1;
                if fields > opts.head_fields_max {
                    return Err(RequestError::TooManyFields);
                }
                store(name, value, opts, &mut hosts, out)?;
                at += len;
            }
            Err(LineError::Field) => return Err(RequestError::BadField),
            Err(LineError::Value) => return Err(RequestError::BadValue),
        }
    }
    let framing = finish(opts, &hosts, out)?;
    Ok(Parsed::Complete { consumed: at + 2, framing })
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
    let Some(target_len) = rest.iter().position(|b| CLASS[*b as usize] & TARGET == 0) else {
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
    if !opts.allow_custom_methods && !METHODS.contains(&&seen[..len]) {
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

#[inline]
fn store(
    name: &[u8],
    value: &[u8],
    opts: &ParseOptions,
    hosts: &mut Host,
    out: &mut RequestHead,
) -> Result<(), RequestError> {
    debug_assert!(is_token(name), "the line was split at a token");
    if name.len() == 4 && name.eq_ignore_ascii_case(b"host") {
        hosts.count += 1;
        if hosts.count > 1 || !target::is_valid_authority(value) {
            return Err(RequestError::BadHost);
        }
        if !hosts.absolute {
            out.set_authority(value);
        }
        return Ok(());
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

/// True when the name, read with `-` for `_` as CGI-like servers do, is a framing or identity field.
#[cold]
fn shadows(name: &[u8]) -> bool {
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
