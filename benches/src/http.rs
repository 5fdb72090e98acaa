//! The HTTP/1.1 codec: heads in, bodies through, heads out.

use std::hint::black_box;

use millrace_http::h1::{
    BodyDecoder, BodyEvent, BodyFraming, EncodeOptions, ParseOptions, Parsed, RequestInfo, encode_request,
    encode_response, parse_response,
};
use millrace_http::path::{self, PathOptions};
use millrace_http::{HeaderId, HeaderMap, RequestHead, ResponseHead};

use crate::heads::{self, MESH, RESPONSE, SMALL};
use crate::{Bench, Routine, repeat};

pub(crate) const BENCHES: &[Bench] = &[
    Bench::new("http/parse_request_small", "parse curl's request head: 3 fields, 105 bytes", || {
        request(SMALL.to_vec())
    }),
    Bench::new("http/parse_request_mesh", "parse a sidecar's request head: 20 fields, 808 bytes", || {
        request(MESH.to_vec())
    }),
    Bench::new("http/parse_request_60", "parse a request head of 60 fields", || request(heads::large())),
    Bench::new("http/parse_response", "parse a response head: 9 fields", response),
    Bench::new("http/decode_chunked", "decode a chunked body: 4 chunks of 1,000 bytes, no trailer", chunked),
    Bench::new("http/encode_request", "encode the 20-field request head as it came", encode_whole),
    Bench::new(
        "http/encode_request_edited",
        "the same after 2 removals, 2 replacements, 3 additions",
        || encode(edited_request()),
    ),
    Bench::new("http/encode_response_edited", "encode the response head after 3 edits", encode_answer),
    Bench::new("http/path_plain", "path policies on a path that is normal already", || {
        normalise(b"/api/v1/users/42?verbose=1")
    }),
    Bench::new("http/path_normalise", "path policies on dot segments, escapes and double slashes", || {
        normalise(b"/api/./v1/../v1//users/%7E42/../43?verbose=1")
    }),
    Bench::new("http/lookup_id", "one lookup of a known name among 20 fields; one of four misses", by_id)
        .of(4),
    Bench::new("http/lookup_name", "one lookup by name among 20 fields; one of four misses", by_name).of(4),
];

fn request(input: Vec<u8>) -> Routine {
    let (options, mut head) = (ParseOptions::default(), RequestHead::new());
    repeat(move || {
        black_box(heads::parse(black_box(&input), &options, &mut head));
    })
}

fn response() -> Routine {
    let (options, info, mut head) = (ParseOptions::default(), RequestInfo::default(), ResponseHead::new());
    repeat(move || match parse_response(black_box(RESPONSE), &options, &info, &mut head) {
        Ok(Parsed::Complete { framing, .. }) => {
            black_box(framing);
        }
        other => unreachable!("{other:?}"),
    })
}

fn chunked() -> Routine {
    let chunk = [b"3e8\r\n".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
    let body = [chunk.repeat(4).as_slice(), b"0\r\n\r\n"].concat();
    let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
    let mut trailers = HeaderMap::new();
    repeat(move || {
        decoder.reset(BodyFraming::Chunked);
        let mut rest = black_box(body.as_slice());
        loop {
            match decoder.decode(rest, &mut trailers) {
                Ok(step) if step.event == BodyEvent::End => break,
                Ok(step) => rest = &rest[black_box(step).consumed..],
                Err(error) => unreachable!("{error:?}"),
            }
        }
    })
}

fn edited_request() -> RequestHead {
    let mut head = heads::parsed(MESH);
    let headers = &mut head.headers;
    headers.remove_id(HeaderId::XEnvoyExpectedRqTimeoutMs);
    headers.remove_name(b"x-client-version");
    headers.set_id(HeaderId::XForwardedFor, b"10.20.30.40,10.20.30.41");
    headers.set_id(HeaderId::XEnvoyAttemptCount, b"12");
    headers.append(b"x-added-by-route", b"one");
    headers.append(b"x-added-by-host", b"two");
    headers.append(b"x-added-by-config", b"three");
    head
}

fn encode_whole() -> Routine {
    encode(heads::parsed(MESH))
}

fn encode(head: RequestHead) -> Routine {
    let (options, mut out) = (EncodeOptions::default(), Vec::new());
    repeat(move || {
        out.clear();
        encode_request(black_box(&head), BodyFraming::None, &options, &mut out);
        black_box(&out);
    })
}

fn encode_answer() -> Routine {
    let (options, info) = (EncodeOptions::default(), RequestInfo::default());
    let (mut head, mut out) = (ResponseHead::new(), Vec::new());
    let parsed = parse_response(RESPONSE, &ParseOptions::default(), &info, &mut head);
    assert!(matches!(parsed, Ok(Parsed::Complete { .. })), "{parsed:?}");
    head.headers.set_id(HeaderId::Server, b"envoy");
    head.headers.set_id(HeaderId::XEnvoyUpstreamServiceTime, b"3");
    head.headers.remove_name(b"x-tenant");
    repeat(move || {
        out.clear();
        encode_response(black_box(&head), BodyFraming::Length(1024), &info, &options, &mut out);
        black_box(&out);
    })
}

fn normalise(path: &'static [u8]) -> Routine {
    let options = PathOptions { normalize: true, merge_slashes: true, ..PathOptions::default() };
    let (mut head, mut scratch) = (RequestHead::new(), Vec::new());
    repeat(move || {
        head.clear();
        head.set_method(b"GET");
        head.set_path(black_box(path));
        black_box(path::apply(&mut head, &options, &mut scratch));
    })
}

fn by_id() -> Routine {
    let headers = heads::parsed(MESH).headers;
    let ids = [HeaderId::UserAgent, HeaderId::XRequestId, HeaderId::Traceparent, HeaderId::GrpcTimeout];
    repeat(move || {
        for id in black_box(ids) {
            black_box(headers.get(id));
        }
    })
}

fn by_name() -> Routine {
    let headers = heads::parsed(MESH).headers;
    let names: [&[u8]; 4] = [b"x-request-id", b"x-tenant", b"x-client-version", b"x-not-there"];
    repeat(move || {
        for name in black_box(names) {
            black_box(headers.get_name(name));
        }
    })
}
