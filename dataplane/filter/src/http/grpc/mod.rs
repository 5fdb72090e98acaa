//! What gRPC says with HTTP: content types, calls, statuses, message lengths and timeouts.

pub mod frames;
pub mod status;
pub mod timeout;

use millrace_http::{HeaderId, HeaderMap, ResponseHead};

pub use millrace_route::is_grpc;

/// `application/grpc`, alone or followed by `+`.
pub fn has_grpc_content_type(headers: &HeaderMap) -> bool {
    let rest = headers.get(HeaderId::ContentType).and_then(|v| v.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| rest.first().is_none_or(|b| *b == b'+'))
}

/// Whether a response is gRPC's: with `end` (nothing follows the head) it must have a `grpc-status`, else status
/// 200 and gRPC's content type.
pub fn is_grpc_response(head: &ResponseHead, end: bool) -> bool {
    match end {
        true => head.headers.contains(HeaderId::GrpcStatus),
        false => head.status == 200 && has_grpc_content_type(&head.headers),
    }
}

/// Service and method of a path `/service/method`, its query left out. As in Envoy, empty segments do not count.
pub fn call(path: &[u8]) -> Option<(&str, &str)> {
    let path = path.split(|b| *b == b'?').next()?;
    let path = std::str::from_utf8(path).ok()?;
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let call = (segments.next()?, segments.next()?);
    segments.next().is_none().then_some(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_two_segments() {
        for (path, expected) in [
            ("/a.B/C", Some(("a.B", "C"))),
            ("/a.B/C?x=/y", Some(("a.B", "C"))),
            ("//a.B//C/", Some(("a.B", "C"))),
            ("/a/b/c", None),
            ("/a", None),
            ("/", None),
            ("*", None),
        ] {
            assert_eq!(call(path.as_bytes()), expected, "{path}");
        }
        assert_eq!(call(b"/a/\xff"), None);
    }

    #[test]
    fn a_response_is_grpc_by_its_status_or_its_type() {
        let mut head = ResponseHead::new();
        head.status = 200;
        assert!(!is_grpc_response(&head, false) && !is_grpc_response(&head, true));
        head.headers.append(b"content-type", b"application/grpc+proto");
        assert!(is_grpc_response(&head, false) && !is_grpc_response(&head, true));
        head.headers.append(b"grpc-status", b"0");
        assert!(is_grpc_response(&head, true));
        head.status = 503;
        assert!(!is_grpc_response(&head, false));
    }
}
