//! gRPC-Web as measured with Envoy 1.40.

use super::*;
use crate::http::test::{head, lines, response, text};

const TEXT: &str = "application/grpc-web-text";

fn web(list: &[(&str, &str)]) -> Option<(GrpcWeb, String)> {
    let mut head = head("/s.S/M", list);
    let web = GrpcWeb::start(&mut head)?;
    Some((web, lines(&head.headers)))
}

fn text_both_ways() -> GrpcWeb {
    web(&[("content-type", TEXT), ("accept", TEXT)]).unwrap().0
}

fn trailers(list: &[(&str, &str)]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    crate::http::test::fields(&mut trailers, list);
    trailers
}

#[test]
fn requests_become_grpc() {
    for (content_type, taken) in [
        ("application/grpc-web", true),
        ("application/grpc-web+proto", true),
        ("application/grpc-web-text", true),
        ("application/grpc-web-text+proto", true),
        ("application/grpc-web+json", false),
        ("application/grpc-web; charset=utf-8", false),
        ("Application/grpc-web", false),
        ("application/grpc", false),
    ] {
        let became = web(&[("content-length", "5"), ("content-type", content_type)]).map(|(_, lines)| lines);
        let expected = "content-type: application/grpc | te: trailers | grpc-accept-encoding: identity";
        assert_eq!(became.as_deref(), taken.then_some(expected), "{content_type}");
    }
    let kept = web(&[("grpc-accept-encoding", "gzip"), ("content-type", TEXT)]).unwrap();
    assert_eq!(kept.1, "grpc-accept-encoding: gzip | content-type: application/grpc | te: trailers");
    assert_eq!(kept.0.name().map(CallName::as_str), Some("s.S.M"));
}

#[test]
fn text_requests_are_decoded_as_they_come() {
    let mut web = text_both_ways();
    let mut out = Vec::new();
    for (piece, so_far) in [("AAA", 0), ("AAA", 3), ("A=AA", 5), ("EC", 8), ("", 8)] {
        web.request_data(piece.as_bytes(), piece.is_empty(), &mut out).unwrap();
        assert_eq!(out.len(), so_far, "{piece}");
    }
    assert_eq!(out, [0, 0, 0, 0, 0, 0, 1, 2]);
}

#[test]
fn bad_text_is_a_bad_request() {
    for (body, details) in [
        ("AAAAA", "grpc_base_64_decode_failed_bad_size"),
        ("A", "grpc_base_64_decode_failed_bad_size"),
        ("AA%A", "grpc_base_64_decode_failed"),
    ] {
        let reply = text_both_ways().request_data(body.as_bytes(), true, &mut Vec::new()).unwrap_err();
        assert_eq!((reply.status, &*reply.details), (400, details), "{body}");
        assert_eq!(text(&reply.body), "Bad gRPC-web request, invalid base64 data.");
    }
}

#[test]
fn trailers_become_the_last_frame() {
    let (mut web, _) = web(&[("content-type", "application/grpc-web")]).unwrap();
    let mut head = response(200, &[("content-type", "application/grpc"), ("content-length", "9")]);
    web.response_head(&mut head, false);
    assert_eq!(lines(&head.headers), "content-type: application/grpc-web+proto");
    assert_eq!((web.holds(), web.response_use()), (false, BodyUse::Bypass));
    let mut trailers = trailers(&[("grpc-status", "0"), ("x-b", "a b")]);
    let mut out = b"before".to_vec();
    web.response_trailers(&mut trailers, &mut head, &mut out);
    assert_eq!(out, b"before\x80\0\0\0\x18grpc-status:0\r\nx-b:a b\r\n");
    assert!(trailers.is_empty());
}

#[test]
fn each_message_is_padded_on_its_own() {
    let messages = b"\0\0\0\0\x01x\0\0\0\0\0\0\0\0\0\x03abc";
    for piece in 1..messages.len() + 1 {
        let mut web = text_both_ways();
        let mut head = response(200, &[("content-type", "application/grpc")]);
        web.response_head(&mut head, false);
        assert_eq!(lines(&head.headers), "content-type: application/grpc-web-text+proto");
        let mut out = Vec::new();
        for data in messages.chunks(piece) {
            web.response_data(data, false, &mut head, &mut out);
        }
        web.response_trailers(&mut trailers(&[("grpc-status", "5")]), &mut head, &mut out);
        let expected = "AAAAAAF4AAAAAAA=AAAAAANhYmM=gAAAAA9ncnBjLXN0YXR1czo1DQo=";
        assert_eq!(text(&out), expected, "pieces of {piece}");
    }
}

#[test]
fn what_is_no_grpc_becomes_a_message() {
    let (mut web, _) = web(&[("content-type", "application/grpc-web")]).unwrap();
    let mut head = response(503, &[("content-length", "7"), ("content-type", "text/plain")]);
    web.response_head(&mut head, false);
    assert!(web.holds());
    let mut out = Vec::new();
    web.response_data(b"no\n", false, &mut head, &mut out);
    web.response_data(b"luck", true, &mut head, &mut out);
    assert!(out.is_empty() && !web.holds());
    let expected = "content-type: application/grpc-web+proto | grpc-message: no%0Aluck | grpc-status: 14 | \
                    content-length: 0";
    assert_eq!((head.status, lines(&head.headers)), (503, expected.into()));
}

#[test]
fn a_message_is_bounded() {
    let (mut web, _) = web(&[("content-type", "application/grpc-web")]).unwrap();
    let mut head = response(200, &[("content-type", "text/html")]);
    web.response_head(&mut head, false);
    let mut out = Vec::new();
    for _ in 0..10 {
        web.response_data(&[b'x'; 10_000], false, &mut head, &mut out);
    }
    web.response_trailers(&mut trailers(&[]), &mut head, &mut out);
    assert_eq!(head.headers.get(HeaderId::GrpcMessage).map(<[u8]>::len), Some(MESSAGE_BYTES_MAX));
    assert_eq!(head.headers.get(HeaderId::GrpcStatus), Some(&b"2"[..]));
}

#[test]
fn heads_that_end_pass_with_another_type() {
    for list in [&[("grpc-status", "7")][..], &[]] {
        let (mut web, _) = web(&[("content-type", "application/grpc-web")]).unwrap();
        let mut head = response(404, list);
        web.response_head(&mut head, true);
        assert!(!web.holds() && head.headers.contains(HeaderId::ContentType));
        assert_eq!(head.headers.contains(HeaderId::GrpcStatus), !list.is_empty());
    }
}

#[test]
fn grpc_web_of_the_upstream_passes() {
    for (status, content_type, passes) in [
        (200, "application/grpc-web+proto", true),
        (200, "Application/GRPC-Web ; charset=x", true),
        (200, "application/grpc-web-text", false),
        (500, "application/grpc-web", false),
    ] {
        let (mut web, _) = web(&[("content-type", "application/grpc-web")]).unwrap();
        let mut head = response(status, &[("content-type", content_type)]);
        web.response_head(&mut head, false);
        assert_eq!(!web.holds(), passes, "{status} {content_type}");
    }
}
