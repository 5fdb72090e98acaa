//! Response heads from upstreams, as untrusted as requests.

use super::error::ResponseError;
use super::field::{self, Line, LineError};
use super::framing::{RequestInfo, response_framing};
use super::options::ParseOptions;
use super::request::VERSION_LEN;
use super::scan::Parsed;
use crate::head::{ResponseHead, Version};
use crate::header::is_valid_value;
use memchr::memchr;

/// Parses a response head from the start of `input` into `out`, which is cleared first. `request` is what
/// was sent on this connection. Like [`super::parse_request`], a verdict never changes with more input.
pub fn parse_response(
    input: &[u8],
    opts: &ParseOptions,
    request: &RequestInfo,
    out: &mut ResponseHead,
) -> Result<Parsed, ResponseError> {
    out.clear();
    let window = &input[..input.len().min(opts.head_bytes_max)];
    match parse_window(window, opts, request, out)? {
        Parsed::Incomplete if input.len() > opts.head_bytes_max => Err(ResponseError::HeadTooLarge),
        parsed => Ok(parsed),
    }
}

fn parse_window(
    input: &[u8],
    opts: &ParseOptions,
    request: &RequestInfo,
    out: &mut ResponseHead,
) -> Result<Parsed, ResponseError> {
    let Some(mut at) = status_line(input, out)? else { return Ok(Parsed::Incomplete) };
    let mut fields = 0;
    loop {
        match field::split(&input[at..]) {
            Ok(Line::Incomplete) => return Ok(Parsed::Incomplete),
            Ok(Line::End) => break,
            Ok(Line::Field { name, value, len }) => {
                fields += 1;
                if fields > opts.head_fields_max {
                    return Err(ResponseError::TooManyFields);
                }
                if !out.headers.push_wire(name, value, opts.preserve_case) {
                    return Err(ResponseError::HeadTooLarge);
                }
                at += len;
            }
            Err(LineError::Field) => return Err(ResponseError::BadField),
            Err(LineError::Value) => return Err(ResponseError::BadValue),
        }
    }
    let framing = response_framing(out, request)?;
    Ok(Parsed::Complete { consumed: at + 2, framing })
}

/// `version SP 3DIGIT [SP reason] CRLF`. The space after the status is missing from enough servers that
/// its absence before CRLF is accepted; it changes nothing.
fn status_line(input: &[u8], out: &mut ResponseHead) -> Result<Option<usize>, ResponseError> {
    let Some(lf) = memchr(b'\n', input) else { return Ok(None) };
    let line = input[..lf].strip_suffix(b"\r").ok_or(ResponseError::BadStatusLine)?;
    let (version, rest) = line.split_at_checked(VERSION_LEN).ok_or(ResponseError::BadStatusLine)?;
    out.version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', ..] => return Err(ResponseError::BadVersion),
        _ => return Err(ResponseError::BadStatusLine),
    };
    let [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest else {
        return Err(ResponseError::BadStatusLine);
    };
    let digit = |d: &u8| u16::from(d - b'0');
    out.status = digit(a) * 100 + digit(b) * 10 + digit(c);
    match reason {
        [] => {}
        [b' ', reason @ ..] if is_valid_value(reason) => out.set_reason(reason),
        _ => return Err(ResponseError::BadStatusLine),
    }
    Ok(Some(lf + 1))
}
