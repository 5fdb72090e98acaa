//! Slow, obvious parsers of the same grammar: the oracle of the fast ones. They read like RFC 9112 section by
//! section, allocate freely, and say only what the outcome is.

use alloc::string::String;
use alloc::vec::Vec;

use crate::h1::{ParseOptions, RequestError, RequestInfo, ResponseError};

/// A line without its CRLF and what follows it. `None` without an LF.
fn line(input: &[u8]) -> Option<(Result<&[u8], ()>, &[u8])> {
    let lf = input.iter().position(|b| *b == b'\n')?;
    Some((input[..lf].strip_suffix(b"\r").ok_or(()), &input[lf + 1..]))
}

fn tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn ows(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| *b != b' ' && *b != b'\t').unwrap_or(text.len());
    let end = text.iter().rposition(|b| *b != b' ' && *b != b'\t').map_or(start, |at| at + 1);
    &text[start..end]
}

enum Field {
    Bad,
    BadValue,
    Good(String, Vec<u8>),
}

fn field(text: &[u8]) -> Field {
    let Some(colon) = text.iter().position(|b| *b == b':') else { return Field::Bad };
    let (name, value) = (&text[..colon], ows(&text[colon + 1..]));
    if name.is_empty() || !name.iter().all(|b| tchar(*b)) {
        return Field::Bad;
    }
    if value.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
        return Field::BadValue;
    }
    Field::Good(String::from_utf8_lossy(name).to_lowercase(), value.to_vec())
}

type Fields = Vec<(String, Vec<u8>)>;

fn all<'a>(fields: &'a Fields, name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_slice()).collect()
}

/// Whether a request head is complete, or why it is refused.
pub fn request(input: &[u8], opts: &ParseOptions) -> Result<bool, RequestError> {
    let cut = &input[..input.len().min(opts.head_bytes_max)];
    match request_within(cut, opts) {
        Ok(false) if input.len() > cut.len() => Err(RequestError::HeadTooLarge),
        verdict => verdict,
    }
}

fn request_within(mut input: &[u8], opts: &ParseOptions) -> Result<bool, RequestError> {
    let mut empty = 0;
    while let Some(rest) = input.strip_prefix(b"\r\n") {
        input = rest;
        empty += 1;
        if empty == 3 {
            return Err(RequestError::BadRequestLine);
        }
    }
    if input.is_empty() || input == b"\r" {
        return Ok(false);
    }
    let Some((method, target, http10, mut rest)) = request_line(input, opts)? else { return Ok(false) };
    let mut fields = Fields::new();
    let mut count = 0;
    loop {
        let Some((text, after)) = line(rest) else { return Ok(false) };
        let text = text.map_err(|()| RequestError::BadField)?;
        rest = after;
        if text.is_empty() {
            break;
        }
        let (name, value) = match field(text) {
            Field::Bad => return Err(RequestError::BadField),
            Field::BadValue => return Err(RequestError::BadValue),
            Field::Good(name, value) => (name, value),
        };
        count += 1;
        if count > opts.head_fields_max {
            return Err(RequestError::TooManyFields);
        }
        if name == "host" && (!all(&fields, "host").is_empty() || !authority(&value)) {
            return Err(RequestError::BadHost);
        }
        if name.contains('_') && shadow(&name.replace('_', "-")) {
            return Err(RequestError::Underscore);
        }
        fields.push((name, value));
    }
    framing(&fields, http10)?;
    let named = method == "CONNECT" || target.contains("://") && !target.starts_with('/');
    let default = http10 && (named || opts.default_host_for_http_10.is_some());
    if all(&fields, "host").is_empty() && !default {
        return Err(RequestError::MissingHost);
    }
    Ok(true)
}

type RequestLine<'a> = Option<(String, String, bool, &'a [u8])>;

fn request_line<'a>(input: &'a [u8], opts: &ParseOptions) -> Result<RequestLine<'a>, RequestError> {
    let Some(space) = input.iter().take(25).position(|b| !tchar(*b)) else {
        return if input.len() > 24 { Err(RequestError::UnknownMethod) } else { Ok(None) };
    };
    if space == 0 || input[space] != b' ' {
        return Err(RequestError::BadRequestLine);
    }
    let method = String::from_utf8_lossy(&input[..space]).into_owned();
    let known = "GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY \
        MKCALENDAR MKCOL MOVE MSEARCH NOTIFY PROPFIND PROPPATCH PURGE QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND \
        UNLINK UNLOCK UNSUBSCRIBE";
    if !opts.allow_custom_methods && !known.split_whitespace().any(|m| m == method) {
        return Err(RequestError::UnknownMethod);
    }
    let rest = &input[space + 1..];
    let end = rest.iter().position(|b| *b <= b' ' || *b >= 0x7f);
    if end.unwrap_or(rest.len()) > opts.target_bytes_max {
        return Err(RequestError::TargetTooLong);
    }
    let Some(end) = end else { return Ok(None) };
    if end == 0 || rest[end] != b' ' {
        return Err(RequestError::BadRequestLine);
    }
    let target = String::from_utf8_lossy(&rest[..end]).into_owned();
    let rest = &rest[end + 1..];
    let Some(version) = rest.get(..8) else { return Ok(None) };
    let version = String::from_utf8_lossy(version).into_owned();
    let digits: Vec<u8> = version.bytes().filter(u8::is_ascii_digit).collect();
    match version.as_str() {
        "HTTP/1.1" | "HTTP/1.0" => {}
        _ if version.starts_with("HTTP/") && version.get(6..7) == Some(".") && digits.len() == 2 => {
            return Err(RequestError::BadVersion);
        }
        _ => return Err(RequestError::BadRequestLine),
    }
    match &rest[8..] {
        [] | [b'\r'] => return Ok(None),
        [b'\r', b'\n', ..] => {}
        _ => return Err(RequestError::BadRequestLine),
    }
    target_form(&method, &target)?;
    Ok(Some((method, target, version == "HTTP/1.0", &rest[10..])))
}

fn target_form(method: &str, target: &str) -> Result<(), RequestError> {
    if method == "CONNECT" {
        let port = target.rsplit(':').next().filter(|p| *p != target).and_then(|p| p.parse::<u16>().ok());
        let good = authority(target.as_bytes()) && port.is_some_and(|p| p > 0);
        return if good { Ok(()) } else { Err(RequestError::BadTarget) };
    }
    if target.starts_with('/') || (method == "OPTIONS" && target == "*") {
        return Ok(());
    }
    let (scheme, rest) = target.split_once(':').ok_or(RequestError::BadTarget)?;
    let rest = rest.strip_prefix("//").ok_or(RequestError::BadTarget)?;
    if !["http", "https"].contains(&scheme.to_lowercase().as_str()) {
        return Err(RequestError::BadScheme);
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if authority(host.as_bytes()) { Ok(()) } else { Err(RequestError::BadTarget) }
}

fn authority(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).into_owned();
    let (host_ok, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((ip, port)) = rest.split_once(']') else { return false };
            let ok = ip.len() > 1
                && ip.contains(':')
                && ip.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b));
            (ok, String::from(port))
        }
        None => {
            let at = text.find(':').unwrap_or(text.len());
            (at > 0 && reg_name(&text[..at]), String::from(&text[at..]))
        }
    };
    let digits = port.strip_prefix(':').unwrap_or("x");
    let port_ok = port.is_empty()
        || digits.is_empty()
        || (digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok());
    host_ok && port_ok
}

fn reg_name(text: &str) -> bool {
    let pieces: Vec<&str> = text.split('%').collect();
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&b));
    let escaped =
        |s: &str| s.len() >= 2 && s.is_char_boundary(2) && s.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    plain(pieces[0]) && pieces[1..].iter().all(|s| escaped(s) && plain(s))
}

fn shadow(dashed: &str) -> bool {
    let named = "host content-length transfer-encoding connection keep-alive proxy-connection te trailer upgrade expect \
        authorization proxy-authorization cookie forwarded via x-forwarded-for x-forwarded-proto x-forwarded-host \
        x-forwarded-port x-forwarded-client-cert x-request-id";
    let known = crate::header::HeaderId::lookup(dashed.as_bytes()).is_some();
    named.split_whitespace().any(|n| n == dashed) || (known && dashed.starts_with("x-envoy-"))
}

/// `Some(true)` for chunked, `Some(false)` for a length.
fn framing(fields: &Fields, http10: bool) -> Result<Option<bool>, RequestError> {
    let lengths = all(fields, "content-length");
    let codings = all(fields, "transfer-encoding");
    for value in &lengths {
        let text = String::from_utf8_lossy(value).into_owned();
        let plain = text == "0"
            || (text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0') && text.len() < 20);
        if lengths.len() > 1 || !plain || text.is_empty() {
            return Err(RequestError::BadContentLength);
        }
    }
    if codings.is_empty() {
        return Ok((!lengths.is_empty()).then_some(false));
    }
    if codings.len() > 1 || http10 {
        return Err(RequestError::BadTransferEncoding);
    }
    let list: Vec<String> =
        codings[0].split(|b| *b == b',').map(|c| String::from_utf8_lossy(ows(c)).to_lowercase()).collect();
    if codings[0].eq_ignore_ascii_case(b"chunked") {
        return if lengths.is_empty() { Ok(Some(true)) } else { Err(RequestError::LengthAndChunked) };
    }
    let tokens = list.iter().all(|c| !c.is_empty() && c.bytes().all(tchar) && c != "identity");
    let early = list[..list.len() - 1].iter().any(|c| c == "chunked");
    match tokens && !early && list != ["chunked"] {
        true => Err(RequestError::UnknownTransferEncoding),
        false => Err(RequestError::BadTransferEncoding),
    }
}

/// Whether a response head is complete, or why it is refused.
pub fn response(input: &[u8], opts: &ParseOptions, request: &RequestInfo) -> Result<bool, ResponseError> {
    let cut = &input[..input.len().min(opts.head_bytes_max)];
    match response_within(cut, opts, request) {
        Ok(false) if input.len() > cut.len() => Err(ResponseError::HeadTooLarge),
        verdict => verdict,
    }
}

fn response_within(input: &[u8], opts: &ParseOptions, request: &RequestInfo) -> Result<bool, ResponseError> {
    let Some((status_line, mut rest)) = line(input) else {
        let begins = input.iter().zip(b"HTTP/").all(|(a, b)| a == b);
        return if begins { Ok(false) } else { Err(ResponseError::BadStatusLine) };
    };
    let (status, http10) = status(status_line.map_err(|()| ResponseError::BadStatusLine)?)?;
    let mut fields = Fields::new();
    loop {
        let Some((text, after)) = line(rest) else { return Ok(false) };
        let text = text.map_err(|()| ResponseError::BadField)?;
        rest = after;
        if text.is_empty() {
            break;
        }
        match field(text) {
            Field::Bad => return Err(ResponseError::BadField),
            Field::BadValue => return Err(ResponseError::BadValue),
            Field::Good(name, value) => fields.push((name, value)),
        }
        if fields.len() > opts.head_fields_max {
            return Err(ResponseError::TooManyFields);
        }
    }
    let framing = framing(&fields, http10).map_err(|error| match error {
        RequestError::BadContentLength => ResponseError::BadContentLength,
        RequestError::LengthAndChunked => ResponseError::LengthAndChunked,
        _ => ResponseError::BadTransferEncoding,
    })?;
    if status < 200 || status == 204 {
        match framing {
            Some(true) => return Err(ResponseError::TransferEncodingNotAllowed),
            Some(false) if all(&fields, "content-length") != [b"0"] => {
                return Err(ResponseError::LengthNotAllowed);
            }
            _ => {}
        }
    }
    if status == 101 && !request.upgrade {
        return Err(ResponseError::UnexpectedUpgrade);
    }
    Ok(true)
}

fn status(text: &[u8]) -> Result<(u16, bool), ResponseError> {
    let version = text.get(..8).ok_or(ResponseError::BadStatusLine)?;
    if !version.starts_with(b"HTTP/") {
        return Err(ResponseError::BadStatusLine);
    }
    if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
        return Err(ResponseError::BadVersion);
    }
    let digits = text.get(9..12).ok_or(ResponseError::BadStatusLine)?;
    let code = core::str::from_utf8(digits).ok().and_then(|d| d.parse::<u16>().ok()).unwrap_or(0);
    let plain = digits.iter().all(u8::is_ascii_digit);
    let reason = &text[12..];
    let reason_ok = reason.is_empty()
        || (reason[0] == b' ' && !reason.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f));
    if text[8] != b' ' || !plain || code < 100 || !reason_ok {
        return Err(ResponseError::BadStatusLine);
    }
    Ok((code, version == b"HTTP/1.0"))
}

/// The outcome of a chunked body: `None` when it is refused, `Some(None)` while it is incomplete, else the body and
/// the number of bytes that it took.
pub fn chunked(input: &[u8]) -> Option<Option<(Vec<u8>, usize)>> {
    let limits = crate::h1::BodyLimits::default();
    let (mut rest, mut body, mut extensions) = (input, Vec::new(), 0);
    loop {
        let Some((text, after)) =
            chunk_line(rest, limits.chunk_extension_bytes_max as usize, &mut extensions)?
        else {
            return Some(None);
        };
        let size = u64::from_str_radix(&text, 16).ok()?;
        rest = after;
        if size == 0 {
            break;
        }
        let take = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        body.extend_from_slice(&rest[..take]);
        rest = &rest[take..];
        match rest {
            [] | [b'\r'] => return Some(None),
            [b'\r', b'\n', after @ ..] => rest = after,
            _ => return None,
        }
    }
    let section = rest.len();
    for count in 0.. {
        let Some((text, after)) = line(rest) else {
            return (rest.len() + section - rest.len() <= limits.trailer_bytes_max as usize).then_some(None);
        };
        let text = text.ok()?;
        if section - after.len() > limits.trailer_bytes_max as usize {
            return None;
        }
        rest = after;
        if text.is_empty() {
            return trailers_are_good(&input[input.len() - section..], count, &limits)
                .then(|| Some((body, input.len() - rest.len())));
        }
    }
    None
}

fn trailers_are_good(mut section: &[u8], count: usize, limits: &crate::h1::BodyLimits) -> bool {
    while let Some((Ok(text), after)) = line(section)
        && !text.is_empty()
    {
        if !matches!(field(text), Field::Good(..)) {
            return false;
        }
        section = after;
    }
    count <= usize::from(limits.trailer_fields_max)
}

type ChunkLine<'a> = Option<Option<(String, &'a [u8])>>;

/// `None`: refused; `Some(None)`: incomplete; else the size and the rest.
fn chunk_line<'a>(input: &'a [u8], budget: usize, spent: &mut usize) -> ChunkLine<'a> {
    let digits = input.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(input.len());
    if digits > 16 {
        return None;
    }
    let size = String::from_utf8_lossy(&input[..digits]).into_owned();
    let mut rest = &input[digits..];
    if digits == 0 && !rest.is_empty() {
        return None;
    }
    while let [b';', after @ ..] = rest {
        *spent += 1;
        let Some(used) = extension(after)? else {
            *spent += after.len();
            return (*spent <= budget).then_some(None);
        };
        *spent += used;
        rest = &after[used..];
    }
    if *spent > budget {
        return None;
    }
    match rest {
        [] | [b'\r'] => Some(None),
        [b'\r', b'\n', after @ ..] => Some(Some((size, after))),
        _ => None,
    }
}

/// Length of one extension after its semicolon, with the same three outcomes.
fn extension(text: &[u8]) -> Option<Option<usize>> {
    let token = |text: &[u8]| text.iter().position(|b| !tchar(*b));
    let Some(name) = token(text) else { return Some(None) };
    if name == 0 {
        return None;
    }
    if text[name] != b'=' {
        return Some(Some(name));
    }
    let value = &text[name + 1..];
    match value {
        [] => Some(None),
        [b'"', quoted @ ..] => {
            let mut escaped = false;
            for (at, b) in quoted.iter().enumerate() {
                match b {
                    b'"' if !escaped => return Some(Some(name + 1 + at + 2)),
                    b'\\' if !escaped => escaped = true,
                    b if *b == b'\t' || (*b >= 0x20 && *b != 0x7f) => escaped = false,
                    _ => return None,
                }
            }
            Some(None)
        }
        _ => match token(value) {
            None => Some(None),
            Some(0) => None,
            Some(len) => Some(Some(name + 1 + len)),
        },
    }
}
