//! Operators that read heads.

use millrace_config::format::{GrpcStatusForm, HeaderSource, PathSource};
use millrace_http::{HeaderId, HeaderMap, RequestHead};

use super::value::{Value, optional, push_decimal, push_number};
use crate::access_log::StreamInfo;

/// The first value of `name`, or else of `alternative`.
pub(super) fn render(
    source: HeaderSource,
    name: &[u8],
    alternative: Option<&[u8]>,
    info: &StreamInfo<'_>,
    out: &mut Vec<u8>,
) -> Value {
    match source {
        HeaderSource::Request => {
            let Some(head) = info.request else { return Value::Missing };
            optional(request(head, name).or_else(|| request(head, alternative?)), out)
        }
        HeaderSource::Response => {
            let Some(head) = info.response else { return Value::Missing };
            // `:status` has no bytes of its own in a response head.
            if name == b":status" && head.status > 0 {
                push_decimal(head.status.into(), out);
                return Value::Text;
            }
            optional(field(&head.headers, name, alternative), out)
        }
        HeaderSource::ResponseTrailer => {
            optional(info.response_trailers.and_then(|map| field(map, name, alternative)), out)
        }
    }
}

#[inline]
fn field<'a>(map: &'a HeaderMap, name: &[u8], alternative: Option<&[u8]>) -> Option<&'a [u8]> {
    map.get_name(name).or_else(|| map.get_name(alternative?))
}

/// A field or pseudo-header field of a request; `host` is the authority.
#[inline]
pub(crate) fn request<'a>(head: &'a RequestHead, name: &[u8]) -> Option<&'a [u8]> {
    if !matches!(name, [b':', ..] | b"host") {
        return head.headers.get_name(name);
    }
    let pseudo = match name {
        b":method" => head.method(),
        b":path" => head.path(),
        b":authority" | b"host" => head.authority(),
        b":scheme" => head.scheme(),
        _ => return head.headers.get_name(name),
    };
    (!pseudo.is_empty()).then_some(pseudo)
}

pub(super) fn path<'a>(source: PathSource, with_query: bool, info: &StreamInfo<'a>) -> Option<&'a [u8]> {
    let head = info.request?;
    let original = head.headers.get(HeaderId::XEnvoyOriginalPath);
    let path = match source {
        PathSource::Original => original?,
        PathSource::Path => head.path(),
        PathSource::OriginalOrPath => original.unwrap_or(head.path()),
    };
    let end = path.iter().position(|b| *b == b'?').filter(|_| !with_query).unwrap_or(path.len());
    (!path.is_empty()).then(|| &path[..end])
}

/// The query of the path as the client sent it.
pub(super) fn query<'a>(info: &StreamInfo<'a>) -> Option<&'a [u8]> {
    let path = path(PathSource::OriginalOrPath, true, info)?;
    let at = path.iter().position(|b| *b == b'?')?;
    Some(&path[at + 1..])
}

/// The first value of a query parameter, percent-decoded.
pub(super) fn query_param(name: &[u8], info: &StreamInfo<'_>, out: &mut Vec<u8>) -> Value {
    for pair in query(info).unwrap_or_default().split(|b| *b == b'&') {
        let (key, value) = match pair.iter().position(|b| *b == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        if key == name {
            decode(value, out);
            return Value::Text;
        }
    }
    Value::Missing
}

fn decode(text: &[u8], out: &mut Vec<u8>) {
    let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let pair = text.get(at + 1).copied().and_then(hex).zip(text.get(at + 2).copied().and_then(hex));
        match (byte, pair) {
            (b'%', Some((high, low))) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
}

/// Camel-case and snake-case names of the codes 0 to 16.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// The gRPC status of a response to a gRPC request, from trailers, headers or the HTTP status.
/// A status that is no number is -1, as in Envoy.
fn grpc_code(info: &StreamInfo<'_>) -> Option<i64> {
    let content_type = info.request?.headers.get(HeaderId::ContentType)?;
    let rest = content_type.strip_prefix(b"application/grpc")?;
    if !matches!(rest.first(), None | Some(b'+')) {
        return None;
    }
    let read = |map: &HeaderMap| {
        let value = map.get(HeaderId::GrpcStatus).filter(|value| !value.is_empty())?;
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok());
        Some(number.map_or(-1, i64::from))
    };
    let from_headers = || info.response_trailers.and_then(read).or_else(|| read(&info.response?.headers));
    from_headers().or_else(|| {
        Some(match info.response_code? {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502 | 503 | 504 => 14,
            _ => 2,
        })
    })
}

pub(super) fn grpc_status(form: GrpcStatusForm, info: &StreamInfo<'_>, out: &mut Vec<u8>) -> Value {
    let Some(code) = grpc_code(info) else { return Value::Missing };
    let name = usize::try_from(code).ok().and_then(|code| GRPC.get(code));
    match (form, name) {
        (GrpcStatusForm::Number, _) => return Value::Number(code),
        (GrpcStatusForm::CamelString, Some((camel, _))) => out.extend_from_slice(camel.as_bytes()),
        (GrpcStatusForm::SnakeString, Some((_, snake))) => out.extend_from_slice(snake.as_bytes()),
        (_, None) => push_number(code, out),
    }
    Value::Text
}
