//! Response heads from upstreams, as untrusted as requests.

use super::error::ResponseError;
use super::field::{self, Line, LineError};
use super::framing::{RequestInfo, response_framing};
use super::options::ParseOptions;
use super::request::{RUN_BYTES_MAX, VERSION_LEN};
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
    let mut left = opts.head_fields_max;
    loop {
        if !opts.preserve_case && input.len() <= RUN_BYTES_MAX {
            plain_lines(input, &mut at, &mut left, out)?;
        }
        match field::split(&input[at..]) {
            Ok(Line::Incomplete) => return Ok(Parsed::Incomplete),
            Ok(Line::End) => break,
            Ok(Line::Field { name, value, line }) => {
                left = left.checked_sub(1).ok_or(ResponseError::TooManyFields)?;
                if !out.headers.push_wire(name, value, opts.preserve_case) {
                    return Err(ResponseError::HeadTooLarge);
                }
                at += line.len();
            }
            Err(LineError::Field) => return Err(ResponseError::BadField),
            Err(LineError::Value) => return Err(ResponseError::BadValue),
        }
    }
    let framing = response_framing(out, request)?;
    Ok(Parsed::Complete { consumed: at + 2, framing })
}

/// Stores plain lines up to the first that is none. `left` is how many fields there may still be.
fn plain_lines(
    input: &[u8],
    at: &mut usize,
    left: &mut usize,
    out: &mut ResponseHead,
) -> Result<(), ResponseError> {
    let mut run = out.headers.begin_run(*at);
    let mut verdict = Ok(());
    while let Some(line) = field::plain(&input[*at..]) {
        let Some(less) = left.checked_sub(1) else {
            verdict = Err(ResponseError::TooManyFields);
            break;
        };
        out.headers.add_to_run(&mut run, *at, &line);
        *left = less;
        *at += line.len();
    }
    out.headers.end_run(&run, &input[..*at]);
    verdict
}

/// `version SP 3DIGIT [SP reason] CRLF`. The space after the status is missing from enough servers that
/// its absence before CRLF is accepted; it changes nothing.
fn status_line(input: &[u8], out: &mut ResponseHead) -> Result<Option<usize>, ResponseError> {
    let Some(lf) = memchr(b'\n', input) else {
        // Whoever begins otherwise may never end the line.
        let begin = b"HTTP/".len().min(input.len());
        return if input[..begin] == b"HTTP/"[..begin] {
            Ok(None)
        } else {
            Err(ResponseError::BadStatusLine)
        };
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::BodyFraming;
    use std::format;

    fn parse(text: &str) -> Result<(ResponseHead, Parsed), ResponseError> {
        let mut head = ResponseHead::new();
        let parsed =
            parse_response(text.as_bytes(), &ParseOptions::default(), &RequestInfo::default(), &mut head)?;
        Ok((head, parsed))
    }

    #[test]
    fn a_head_lands_in_the_map() {
        let text = "HTTP/1.1 404 Not  Found\r\nContent-Length: 2\r\n\r\n";
        let (head, parsed) = parse(text).expect("ok");
        assert_eq!((head.status, head.reason()), (404, &b"Not  Found"[..]));
        assert_eq!(parsed, Parsed::Complete { consumed: text.len(), framing: BodyFraming::Length(2) });
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]).map(|r| r.1), Ok(Parsed::Incomplete));
        }
        assert_eq!(parse("HTTP/1.0 200\r\n\r\n").map(|r| r.0.status), Ok(200));
        assert_eq!(parse("HTTP/1.1 200 \r\n\r\n").map(|r| r.0.status), Ok(200));
    }

    #[test]
    fn what_is_no_response_is_told_before_its_line_ends() {
        for bad in ["g", "HTTQ", "http/1.1", " HTTP/1.1"] {
            assert_eq!(parse(bad).map(|r| r.1), Err(ResponseError::BadStatusLine), "{bad}");
        }
    }

    #[test]
    fn bad_status_lines() {
        for bad in [
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 X",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 +20 OK",
            "http/1.1 200 OK",
            "HTTP/1.1 200\tOK",
            "HTTP/1.1 200 O\0K",
            "HTTP/1.1200 OK",
            " HTTP/1.1 200 OK",
            "HTTP/1.1 2x0 OK",
            "ICY 200 OK",
            "",
        ] {
            assert_eq!(
                parse(&format!("{bad}\r\n\r\n")).map(|r| r.1),
                Err(ResponseError::BadStatusLine),
                "{bad:?}"
            );
        }
        assert_eq!(parse("HTTP/2.0 200 OK\r\n\r\n").map(|r| r.1), Err(ResponseError::BadVersion));
        assert_eq!(parse("HTTP/1.1 200 OK\n\n").map(|r| r.1), Err(ResponseError::BadStatusLine));
    }

    #[test]
    fn splitting_attempts() {
        let with = |lines: &str| {
            parse(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n")).map(|r| r.1).expect_err(lines)
        };
        assert_eq!(with("content-length: 2\r\ntransfer-encoding: chunked"), ResponseError::LengthAndChunked);
        assert_eq!(with("content-length: 2, 2"), ResponseError::BadContentLength);
        assert_eq!(with("a: b\r\n c"), ResponseError::BadField);
        assert_eq!(with("a: b\rc"), ResponseError::BadValue);
        assert_eq!(with("transfer-encoding: chunked, identity"), ResponseError::BadTransferEncoding);
        let many = "a: b\r\n".repeat(101);
        assert_eq!(with(&many), ResponseError::TooManyFields);
        assert_eq!(with(&"a".repeat(70_000)), ResponseError::HeadTooLarge);
    }
}
