//! Entry points for `tests/fuzz` and for the stable replay of its seeds: each takes any bytes and panics when
//! a property of the codec does not hold.
//!
//! The properties: a verdict never changes with more input; the fast parser agrees with [`twin`], a slow one
//! that is written straight from the grammar; what was accepted is encoded into the same message again; a body
//! does not depend on how it is cut.

use alloc::vec::Vec;

use crate::h1::{
    BodyDecoder, BodyError, BodyEvent, BodyFraming, EncodeOptions, HeadScanner, ParseOptions, Parsed,
    RequestError, RequestInfo, ResponseError, encode_request, encode_response, parse_request, parse_response,
};
use crate::head::{RequestHead, ResponseHead, Version};
use crate::header::{HeaderId, HeaderMap};

mod h2;
pub mod hpack;
pub mod twin;

pub use h2::{fuzz_h2_client, fuzz_h2_server};

/// Options that reach as much code as possible.
fn options() -> ParseOptions {
    ParseOptions {
        accept_http_10: true,
        default_host_for_http_10: Some(b"default"[..].into()),
        target_bytes_max: 512,
        head_bytes_max: 2048,
        head_fields_max: 20,
        preserve_case: true,
        ..ParseOptions::default()
    }
}

/// Properties of request heads.
pub fn fuzz_request(data: &[u8]) {
    let opts = options();
    let mut head = RequestHead::new();
    let verdict = parse_request(data, &opts, &mut head);
    // Kept spelling takes lines one by one, lost spelling takes them in runs.
    let mut in_runs = RequestHead::new();
    let plain = ParseOptions { preserve_case: false, ..opts.clone() };
    assert_eq!(parse_request(data, &plain, &mut in_runs), verdict, "{}", data.escape_ascii());
    assert_eq!(in_runs, head, "{}", data.escape_ascii());
    assert_eq!(
        verdict.map(|p| is_complete(&p)),
        twin::request(data, &opts),
        "the twin disagrees: {}",
        data.escape_ascii()
    );
    request_by_byte(data, &opts, verdict, &head);
    if let Ok(Parsed::Complete { consumed, framing }) = verdict {
        assert!(consumed <= data.len());
        request_round_trip(&head, framing, &opts);
        let mut stripped = head.clone();
        if crate::hop::strip_request(&mut stripped, false).is_ok() {
            assert!(!stripped.headers.contains(HeaderId::Connection));
            assert!(!stripped.headers.contains(HeaderId::TransferEncoding));
        }
        let all = crate::path::PathOptions {
            normalize: true,
            merge_slashes: true,
            escaped_slashes: crate::path::EscapedSlashes::UnescapeAndForward,
            reject_fragment: false,
            reject_invalid_escapes: false,
        };
        crate::path::apply(&mut stripped, &all, &mut Vec::new());
    }
}

fn is_complete(parsed: &Parsed) -> bool {
    matches!(parsed, Parsed::Complete { .. })
}

fn request_by_byte(
    data: &[u8],
    opts: &ParseOptions,
    whole: Result<Parsed, RequestError>,
    expected: &RequestHead,
) {
    let (mut scanner, mut head) = (HeadScanner::new(), RequestHead::new());
    let mut verdict = Ok(Parsed::Incomplete);
    for end in 1..=data.len() {
        if !scanner.ready(&data[..end], opts.head_bytes_max) {
            continue;
        }
        verdict = parse_request(&data[..end], opts, &mut head);
        if verdict != Ok(Parsed::Incomplete) {
            break;
        }
    }
    match (verdict, whole) {
        // The scanner reports an error only once an empty line or the limit is reached.
        (Ok(Parsed::Incomplete), Ok(Parsed::Incomplete) | Err(_)) => {}
        (Err(late), Err(early)) => assert_eq!(late, early),
        (piecewise, whole) => {
            assert_eq!(piecewise, whole);
            assert_eq!(&head, expected);
        }
    }
}

/// Encoding and parsing again gives the same request.
fn request_round_trip(head: &RequestHead, framing: BodyFraming, opts: &ParseOptions) {
    let mut wire = Vec::new();
    encode_request(head, framing, &EncodeOptions::default(), &mut wire);
    let mut opts = opts.clone();
    (opts.head_bytes_max, opts.head_fields_max) = (usize::MAX, usize::MAX);
    let mut again = RequestHead::new();
    let parsed = parse_request(&wire, &opts, &mut again);
    let empty = [BodyFraming::None, BodyFraming::Length(0)];
    match parsed {
        Ok(Parsed::Complete { consumed, framing: second }) => {
            assert_eq!(consumed, wire.len());
            assert!(second == framing || (empty.contains(&second) && empty.contains(&framing)));
        }
        other => unreachable!("our own request is refused: {other:?}"),
    }
    assert_eq!(
        (again.method(), again.path(), again.authority()),
        (head.method(), head.path(), head.authority())
    );
    assert_eq!(without_framing(&again.headers), without_framing(&head.headers));
}

fn without_framing(headers: &HeaderMap) -> Vec<(&[u8], &[u8])> {
    headers.iter().filter(|(name, _)| !matches!(*name, b"content-length" | b"transfer-encoding")).collect()
}

/// Properties of response heads. The first byte says what was requested.
pub fn fuzz_response(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let request = RequestInfo { head: flags & 1 != 0, connect: flags & 2 != 0, upgrade: flags & 4 != 0 };
    let opts = options();
    let mut head = ResponseHead::new();
    let verdict = parse_response(data, &opts, &request, &mut head);
    let mut in_runs = ResponseHead::new();
    let plain = ParseOptions { preserve_case: false, ..opts.clone() };
    assert_eq!(parse_response(data, &plain, &request, &mut in_runs), verdict, "{}", data.escape_ascii());
    assert_eq!(in_runs, head, "{}", data.escape_ascii());
    assert_eq!(
        verdict.map(|p| is_complete(&p)),
        twin::response(data, &opts, &request),
        "the twin disagrees: {}",
        data.escape_ascii()
    );
    response_by_byte(data, &opts, &request, verdict, &head);
    if let Ok(Parsed::Complete { consumed, framing }) = verdict {
        assert!(consumed <= data.len());
        response_round_trip(&head, framing, &request);
    }
}

fn response_by_byte(
    data: &[u8],
    opts: &ParseOptions,
    request: &RequestInfo,
    whole: Result<Parsed, ResponseError>,
    expected: &ResponseHead,
) {
    let mut head = ResponseHead::new();
    for end in 1..=data.len() {
        let verdict = parse_response(&data[..end], opts, request, &mut head);
        if verdict != Ok(Parsed::Incomplete) {
            assert_eq!(verdict, whole);
            assert_eq!(&head, expected);
            return;
        }
    }
    assert_eq!(whole, Ok(Parsed::Incomplete));
}

fn response_round_trip(head: &ResponseHead, framing: BodyFraming, request: &RequestInfo) {
    let mut wire = Vec::new();
    encode_response(head, framing, request, &EncodeOptions::default(), &mut wire);
    let mut again = ResponseHead::new();
    let opts =
        ParseOptions { head_bytes_max: usize::MAX, head_fields_max: usize::MAX, ..ParseOptions::default() };
    match parse_response(&wire, &opts, request, &mut again) {
        Ok(Parsed::Complete { consumed, framing: second }) => {
            assert_eq!(consumed, wire.len());
            assert_eq!(second, framing);
        }
        other => unreachable!("our own response is refused: {other:?}"),
    }
    assert_eq!((again.status, again.version), (head.status, Version::Http11));
    assert_eq!(without_framing(&again.headers), without_framing(&head.headers));
}

/// What a body decodes to: body bytes, used bytes, whether it ended, trailers.
type Decoded = Result<(Vec<u8>, usize, bool, HeaderMap), BodyError>;

/// Decodes `data` in pieces; `cut` says how long each is.
fn decode(data: &[u8], mut cut: impl FnMut() -> usize) -> Decoded {
    let (mut decoder, mut trailers) = (BodyDecoder::new(BodyFraming::Chunked), HeaderMap::new());
    let (mut body, mut start, mut end) = (Vec::new(), 0, 0);
    loop {
        let step = decoder.decode(&data[start..end], &mut trailers)?;
        assert!(step.consumed <= end - start);
        match step.event {
            BodyEvent::Data(range) => {
                assert!(!range.is_empty() && range.end <= step.consumed);
                body.extend_from_slice(&data[start + range.start..start + range.end]);
            }
            BodyEvent::End => return Ok((body, start + step.consumed, true, trailers)),
            BodyEvent::Trailers => assert!(!trailers.is_empty()),
            BodyEvent::NeedMore => {
                assert_eq!(start + step.consumed, end, "nothing may be left unread");
                if end == data.len() {
                    return Ok((body, end, false, trailers));
                }
                end = (end + cut().max(1)).min(data.len());
            }
        }
        start += step.consumed;
    }
}

/// Properties of chunked bodies.
pub fn fuzz_chunked(data: &[u8]) {
    let whole = decode(data, || data.len());
    assert_eq!(whole, decode(data, || 1), "byte by byte differs");
    let mut seed = data.iter().fold(1u32, |n, b| n.wrapping_mul(31).wrapping_add(u32::from(*b)));
    let random = decode(data, || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 28) as usize
    });
    assert_eq!(whole, random, "a random cut differs");
    assert_eq!(whole.map(|(body, used, ended, _)| ended.then_some((body, used))).ok(), twin::chunked(data));
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Rng;

    /// Pieces that mutations are made of: everything that ever confused a parser.
    const PIECES: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b": ",
        b",",
        b";",
        b"=",
        b"\"",
        b"\\",
        b"\0",
        b"0",
        b"1",
        b"a",
        b"\x80",
        b"#",
        b"?",
        b"/",
        b"@",
        b"[",
        b"]",
        b"%",
        b"_",
        b"*",
        b"GET ",
        b"CONNECT ",
        b"OPTIONS ",
        b"http://",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"host: h\r\n",
        b"content-length: 5\r\n",
        b"transfer-encoding: chunked\r\n",
        b"chunked",
        b"gzip, ",
        b"connection: close\r\n",
        b"content_length: 1\r\n",
        b"200",
        b"101",
        b"204",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"a=b;c=\"d\"",
        b"x: y\r\n",
        b"ffffffff",
    ];
    const REQUESTS: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nhost: h\r\n\r\n",
        b"POST /a?b HTTP/1.1\r\nHost: h:80\r\nContent-Length: 5\r\nA: b\r\n\r\nhello",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"CONNECT h:443 HTTP/1.1\r\nhost: h\r\nconnection: upgrade, x\r\nupgrade: foo\r\n\r\n",
        b"OPTIONS http://[::1]:8 HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n",
    ];
    const RESPONSES: &[&[u8]] = &[
        b"\x00HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"\x04HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"\x01HTTP/1.0 304\r\ntransfer-encoding: chunked\r\n\r\n",
        b"\x02HTTP/1.1 204 \r\ncontent-length: 0\r\n\r\n",
    ];
    const BODIES: &[&[u8]] = &[
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;a=b;c=\"d\\\"\"\r\nhello\r\n0;x\r\nx-t: u\r\ncontent-length: 3\r\n\r\nGET",
        b"0\r\n\r\n",
    ];

    fn mutate(rng: &mut Rng, seed: &[u8]) -> Vec<u8> {
        let mut data = seed.to_vec();
        for _ in 0..=rng.below(3) {
            let at = rng.below(data.len() as u64 + 1) as usize;
            let piece = PIECES[rng.below(PIECES.len() as u64) as usize];
            let until = (at + rng.below(6) as usize).min(data.len());
            match rng.below(4) {
                0 => _ = data.splice(at..at, piece.iter().copied()),
                1 => _ = data.splice(at..until, piece.iter().copied()),
                2 => _ = data.drain(at..until),
                _ => data.truncate(if rng.chance(1, 4) { at } else { data.len() }),
            }
        }
        data
    }

    fn smoke(seeds: &[&[u8]], target: fn(&[u8])) -> usize {
        let mut rng = Rng::new(1);
        let mut runs = 0;
        for seed in seeds {
            target(seed);
            for _ in 0..20_000 / seeds.len() {
                target(&mutate(&mut rng, seed));
                runs += 1;
            }
        }
        runs
    }

    #[test]
    fn mutated_requests_keep_every_property() {
        assert_eq!(smoke(REQUESTS, fuzz_request), 20_000);
    }

    #[test]
    fn mutated_responses_keep_every_property() {
        assert_eq!(smoke(RESPONSES, fuzz_response), 20_000);
    }

    #[test]
    fn mutated_bodies_keep_every_property() {
        assert_eq!(smoke(BODIES, fuzz_chunked), 19_998);
    }
}
