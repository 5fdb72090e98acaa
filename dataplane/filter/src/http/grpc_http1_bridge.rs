//! `envoy.filters.http.grpc_http1_bridge`: gRPC for clients that speak HTTP/1.1 and cannot read trailers.

use millrace_config::GrpcHttp1Bridge as Config;
use millrace_http::{HeaderId, HeaderMap, RequestHead, ResponseHead, Version};

use super::LocalReply;
use super::grpc::frames::PREFIX;
use super::grpc::{self, status::GrpcStatus};
use super::router::reply;
use super::stream_filters::BodyUse;

/// Where a response stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Response {
    /// Its head has not come, or came with its end: it passes as it is.
    Passes,
    /// Head and body wait for the trailers.
    Buffers,
    /// Everything has left.
    Released,
}

/// One bridged call.
#[derive(Debug)]
pub(super) struct Bridge {
    /// The request is a bare protobuf: it gets a prefix, and the response loses its.
    frames: bool,
    buffer_limit: usize,
    /// The request that is framed, then the response.
    buffer: Vec<u8>,
    response: Response,
    /// Octets of the response's prefix still to drop.
    drop: usize,
}

impl Bridge {
    /// `None` for a request that is not bridged: only HTTP/1 with gRPC's content type is. A protobuf becomes gRPC
    /// if that is configured; whether it did (and the route is to be chosen again) tells [`Self::is_upgraded`].
    pub(super) fn start(config: Config, head: &mut RequestHead, buffer_limit: usize) -> Option<Self> {
        if head.version == Version::Http2 {
            return None;
        }
        let protobuf = head.headers.get(HeaderId::ContentType) == Some(b"application/x-protobuf");
        let frames = config.upgrade_protobuf && protobuf;
        if frames {
            head.headers.set_id(HeaderId::ContentType, b"application/grpc");
            head.headers.remove_id(HeaderId::ContentLength);
        } else if !grpc::is_grpc(head) {
            return None;
        }
        if config.ignore_query
            && let Some(end) = head.path().iter().position(|b| *b == b'?')
        {
            let path = head.path()[..end].to_vec();
            head.set_path(&path);
        }
        let drop = if frames { PREFIX } else { 0 };
        let response = Response::Passes;
        Some(Self { frames, buffer_limit, buffer: Vec::new(), response, drop })
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.frames
    }

    pub(super) fn request_use(&self) -> BodyUse {
        if self.frames { BodyUse::Change } else { BodyUse::Bypass }
    }

    pub(super) fn response_use(&self) -> BodyUse {
        if self.response == Response::Buffers { BodyUse::Change } else { BodyUse::Bypass }
    }

    pub(super) fn holds(&self) -> bool {
        self.response == Response::Buffers
    }

    /// Keeps the request until its length is known.
    pub(super) fn request_data(
        &mut self,
        data: &[u8],
        end: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<LocalReply>> {
        if self.buffer.len() + data.len() > self.buffer_limit {
            return Err(reply::payload_too_large().into());
        }
        if !end {
            self.buffer.extend_from_slice(data);
            return Ok(());
        }
        let message = std::mem::take(&mut self.buffer);
        let length = u32::try_from(message.len() + data.len()).unwrap_or(u32::MAX);
        out.push(0);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&message);
        out.extend_from_slice(data);
        Ok(())
    }

    pub(super) fn response_head(&mut self, head: &mut ResponseHead, end: bool) {
        // What is left of a request that was answered early is not wanted any more.
        self.buffer.clear();
        if end {
            return;
        }
        self.response = Response::Buffers;
        if self.frames {
            head.headers.remove_id(HeaderId::ContentLength);
        }
    }

    /// Keeps the response; one that ends without trailers leaves as it is.
    pub(super) fn response_data(
        &mut self,
        data: &[u8],
        end: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<LocalReply>> {
        if self.response != Response::Buffers {
            out.extend_from_slice(data);
            return Ok(());
        }
        let dropped = data.len().min(self.drop);
        self.drop -= dropped;
        let data = &data[dropped..];
        if end {
            self.release(out);
            out.extend_from_slice(data);
            return Ok(());
        }
        if self.buffer.len() + data.len() > self.buffer_limit {
            return Err(reply::response_too_large().into());
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// Puts the status into the head, and everything behind it.
    pub(super) fn response_trailers(
        &mut self,
        trailers: &HeaderMap,
        head: &mut ResponseHead,
        out: &mut Vec<u8>,
    ) {
        if self.response != Response::Buffers {
            return;
        }
        if let Some(status) = trailers.get(HeaderId::GrpcStatus) {
            if !GrpcStatus::parse(status).is_ok() {
                head.status = 503;
            }
            head.headers.set_id(HeaderId::GrpcStatus, status);
        }
        if let Some(message) = trailers.get(HeaderId::GrpcMessage) {
            head.headers.set_id(HeaderId::GrpcMessage, message);
        }
        let length = self.buffer.len().to_string();
        head.headers.set_id(HeaderId::ContentLength, length.as_bytes());
        self.release(out);
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        self.response = Response::Released;
        out.append(&mut self.buffer);
        self.buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::{fields, head, lines, response, text};

    const UPGRADE: Config = Config { upgrade_protobuf: true, ignore_query: true };

    fn bridge(config: Config, content_type: &str, version: Version) -> Option<(Bridge, String, String)> {
        let list = [("content-length", "3"), ("content-type", content_type)];
        let mut head = head("/s.S/M?x=1", &list);
        head.version = version;
        let bridge = Bridge::start(config, &mut head, 100)?;
        Some((bridge, text(head.path()), lines(&head.headers)))
    }

    fn grpc() -> Bridge {
        bridge(Config::default(), "application/grpc", Version::Http11).unwrap().0
    }

    fn trailers(list: &[(&str, &str)]) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        fields(&mut trailers, list);
        trailers
    }

    #[test]
    fn http1_calls_are_bridged_and_no_others() {
        for (content_type, version, config, bridged) in [
            ("application/grpc", Version::Http11, Config::default(), true),
            ("application/grpc+proto", Version::Http10, Config::default(), true),
            ("application/grpc", Version::Http2, UPGRADE, false),
            ("application/json", Version::Http11, UPGRADE, false),
            ("application/x-protobuf", Version::Http11, Config::default(), false),
            ("application/x-protobuf", Version::Http2, UPGRADE, false),
            ("application/x-protobuf", Version::Http11, UPGRADE, true),
        ] {
            assert_eq!(
                bridge(config, content_type, version).is_some(),
                bridged,
                "{content_type} {version:?}"
            );
        }
        let (plain, path, fields) = bridge(Config::default(), "application/grpc", Version::Http11).unwrap();
        assert_eq!((&*path, &*fields), ("/s.S/M?x=1", "content-length: 3 | content-type: application/grpc"));
        assert!(!plain.is_upgraded() && plain.request_use() == BodyUse::Bypass);
        let (framed, path, fields) = bridge(UPGRADE, "application/x-protobuf", Version::Http11).unwrap();
        assert_eq!((&*path, &*fields), ("/s.S/M", "content-type: application/grpc"));
        assert!(framed.is_upgraded() && framed.request_use() == BodyUse::Change);
    }

    #[test]
    fn statuses_move_from_the_trailers_to_the_head() {
        for (list, status, expected) in [
            (&[("grpc-status", "0")][..], 200, "grpc-status: 0 | content-length: 4"),
            (
                &[("grpc-status", "7"), ("grpc-message", "no")],
                503,
                "grpc-status: 7 | grpc-message: no | content-length: 4",
            ),
            (&[("grpc-status", "x")], 503, "grpc-status: x | content-length: 4"),
            (&[("x", "y")], 200, "content-length: 4"),
        ] {
            let (mut bridge, mut head, mut out) = (grpc(), response(200, &[]), Vec::new());
            bridge.response_head(&mut head, false);
            assert!(bridge.holds() && bridge.response_use() == BodyUse::Change);
            bridge.response_data(b"ab", false, &mut out).unwrap();
            bridge.response_data(b"cd", false, &mut out).unwrap();
            assert!(out.is_empty());
            bridge.response_trailers(&trailers(list), &mut head, &mut out);
            assert_eq!((head.status, &*lines(&head.headers), &*text(&out)), (status, expected, "abcd"));
            assert!(!bridge.holds() && bridge.response_use() == BodyUse::Bypass);
        }
    }

    #[test]
    fn without_trailers_a_response_stays_as_it_is() {
        let (mut bridge, mut out) = (grpc(), Vec::new());
        let mut head = response(200, &[("content-length", "4")]);
        bridge.response_head(&mut head, false);
        bridge.response_data(b"ab", false, &mut out).unwrap();
        bridge.response_data(b"cd", true, &mut out).unwrap();
        assert_eq!(
            (&*lines(&head.headers), &*text(&out), bridge.holds()),
            ("content-length: 4", "abcd", false)
        );
        let (mut bridge, mut head) = (grpc(), response(200, &[("grpc-status", "5")]));
        bridge.response_head(&mut head, true);
        assert_eq!((head.status, bridge.holds()), (200, false));
    }

    #[test]
    fn protobufs_get_a_prefix_and_responses_lose_theirs() {
        let (mut bridge, ..) = bridge(UPGRADE, "application/x-protobuf", Version::Http11).unwrap();
        let mut out = Vec::new();
        bridge.request_data(b"ab", false, &mut out).unwrap();
        assert!(out.is_empty());
        bridge.request_data(b"c", true, &mut out).unwrap();
        assert_eq!(out, b"\0\0\0\0\x03abc");
        let mut head = response(200, &[("content-length", "7")]);
        bridge.response_head(&mut head, false);
        out.clear();
        // The prefix comes in two pieces.
        for piece in [&b"\0\0"[..], b"\0\0\x02d", b"e"] {
            bridge.response_data(piece, false, &mut out).unwrap();
        }
        bridge.response_trailers(&trailers(&[("grpc-status", "0")]), &mut head, &mut out);
        assert_eq!((&*lines(&head.headers), &*text(&out)), ("grpc-status: 0 | content-length: 2", "de"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut bridge, ..) = bridge(UPGRADE, "application/x-protobuf", Version::Http11).unwrap();
        bridge.request_data(&[0; 100], false, &mut Vec::new()).unwrap();
        assert_eq!(bridge.request_data(&[0], true, &mut Vec::new()).unwrap_err().status, 413);
        let (mut bridge, mut head) = (grpc(), response(200, &[]));
        bridge.response_head(&mut head, false);
        bridge.response_data(&[0; 100], false, &mut Vec::new()).unwrap();
        let reply = bridge.response_data(&[0], false, &mut Vec::new()).unwrap_err();
        assert_eq!((reply.status, &*reply.details), (500, "response_payload_too_large"));
    }
}
