//! Connections of clients that speak HTTP/2: their events become requests.

use millrace_base::{Key, ResponseFlag};
use millrace_config::Codec;
use millrace_filter::http::connection_manager::response::{self as manager, ResponseContext};
use millrace_filter::http::{BodyUse, LocalReply};
use millrace_http::ResponseHead;
use millrace_http::h1::BodyFraming;
use millrace_http::h2::{Event, PREFACE, Side, StreamRef};
use millrace_observe::stats::{http as metric, http2};

use super::super::request::http;
use super::super::{HttpDownstream, Stream, body_framing};
use super::{Http2Downstream, write_control};
use crate::downstream::Protocol;
use crate::shard::Shard;
use crate::upstream::EndedBy;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sniffed {
    /// More is needed.
    Undecided,
    Http1,
    Http2,
    /// HTTP/1.1 where only HTTP/2 is served.
    Refused,
}

/// Compares the first bytes of a connection with the preface of HTTP/2 (RFC 9113 section 3.4).
fn sniff(codec: Codec, first: &[u8]) -> Sniffed {
    let len = first.len().min(PREFACE.len());
    match (codec, first[..len] == PREFACE[..len]) {
        (Codec::Http1, _) => Sniffed::Http1,
        (Codec::Auto | Codec::Http2, true) if len == PREFACE.len() => Sniffed::Http2,
        (Codec::Auto | Codec::Http2, true) => Sniffed::Undecided,
        (Codec::Auto, false) => Sniffed::Http1,
        (Codec::Http2, false) => Sniffed::Refused,
    }
}

/// Whether the next frame brings a head, or goes on with one (RFC 9113 section 4.1): of all others, only a prepared
/// request can make something.
fn is_head(front: &[u8]) -> bool {
    matches!(front.get(3), Some(0x1 | 0x9))
}

impl HttpDownstream {
    pub(super) fn h2(&mut self) -> Option<&mut Http2Downstream> {
        self.h2.as_deref_mut()
    }
}

impl Shard {
    /// Finds out which version the client speaks. True when input can be read.
    pub(crate) fn sniff_version(&mut self, key: Key) -> bool {
        let now = self.io.now;
        loop {
            let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return false };
            match sniff(http.codec, http.input.front()) {
                Sniffed::Undecided => {
                    http.head_since.get_or_insert(now);
                    if !http.input.join_front(&self.io.held) {
                        http.input.release_buffers(&self.io.held);
                        self.rearm_downstream(key);
                        return false;
                    }
                }
                Sniffed::Http1 => {
                    http.undecided = false;
                    let scope = http.hcm.scope;
                    self.stats.inc(scope, metric::DOWNSTREAM_CX_HTTP1_TOTAL);
                    self.stats.gauge_inc(scope, metric::DOWNSTREAM_CX_HTTP1_ACTIVE);
                    return true;
                }
                Sniffed::Http2 => {
                    self.h2_opened(key);
                    return true;
                }
                Sniffed::Refused => {
                    http.input.clear();
                    let scope = http.hcm.scope;
                    self.h2_opened(key);
                    self.stats.inc(scope, metric::DOWNSTREAM_CX_PROTOCOL_ERROR);
                    self.http_close_after_flush(key);
                    return false;
                }
            }
        }
    }

    fn h2_opened(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        http.undecided = false;
        http.head_since = None;
        let scope = http.hcm.scope;
        let new = Http2Downstream::new(&http.hcm, self.io.now, &mut self.rng);
        let h2 = http.h2.insert(Box::new(new));
        write_control(&mut h2.codec, &mut downstream.link, &mut self.io);
        self.stats.inc(scope, metric::DOWNSTREAM_CX_HTTP2_TOTAL);
        self.stats.gauge_inc(scope, metric::DOWNSTREAM_CX_HTTP2_ACTIVE);
    }

    /// Takes frames out of the input as far as they are complete.
    pub(crate) fn h2_pump(&mut self, key: Key) {
        let mut moved = false;
        if let Some(h2) = self.downstreams.get_mut(key).and_then(http).and_then(HttpDownstream::h2) {
            h2.keepalive.heard(self.io.now);
            h2.receiving = true;
        }
        loop {
            let now = self.io.now;
            let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
            if !http.is_open() || http.input.is_empty() {
                break;
            }
            if !self.admitted.is_empty() && !is_head(http.input.front()) {
                self.prepare_admitted(key);
                continue;
            }
            let HttpDownstream { h2: Some(h2), input, .. } = http else { return };
            match h2.codec.receive(input.front(), now, &mut self.heads) {
                Ok(step) => match step.event {
                    Event::NeedMore => {
                        input.consume(step.consumed);
                        if !input.join_front(&self.io.held) {
                            break;
                        }
                    }
                    Event::Data { stream, user, range, end } => {
                        moved = true;
                        let id = Key::unpack(user).1;
                        self.try_before_body(id);
                        self.h2_request_data((key, stream), id, range, end);
                        if let Some(http) =
                            self.downstreams.get_mut(key).and_then(super::super::request::http)
                        {
                            http.input.consume(step.consumed);
                        }
                    }
                    event => {
                        moved = true;
                        input.consume(step.consumed);
                        // Trailers come in the same frame as heads do.
                        if !matches!(event, Event::Request { .. }) {
                            self.prepare_admitted(key);
                        }
                        self.h2_event(key, event);
                    }
                },
                Err(error) => {
                    self.prepare_admitted(key);
                    return self.h2_connection_error(key, &error);
                }
            }
        }
        self.prepare_admitted(key);
        self.h2_dismiss_answered(key);
        self.h2_settle(key, moved);
    }

    /// What follows a look at a client's frames: our own frames leave, what is unread gives its buffers back. `moved`: a
    /// frame was complete, so that whatever is not begins to be waited for now.
    fn h2_settle(&mut self, key: Key, moved: bool) {
        let now = self.io.now;
        self.h2_count_client(key);
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        // The rest of a frame, or of a head, may be long in coming.
        if !http.input.is_empty() {
            http.input.release_buffers(&self.io.held);
        }
        let Some(h2) = http.h2.as_deref_mut() else { return };
        write_control(&mut h2.codec, &mut downstream.link, &mut self.io);
        if self.io.held.is_pressed() && h2.codec.unreleased() > self.io.held.allowance_of_connection() as u64
        {
            self.starve_client(key);
            return self.rearm_downstream(key);
        }
        let in_head = !http.input.is_empty() || h2.codec.is_in_head();
        let idle = h2.codec.open_streams() == 0;
        let flooded = h2.is_flooded(&downstream.link);
        let limit = http.hcm.request_headers_timeout;
        if moved {
            http.head_since = None;
        }
        let began = in_head && http.head_since.is_none();
        match in_head {
            true => _ = http.head_since.get_or_insert(now),
            false => http.head_since = None,
        }
        if flooded {
            self.stats.inc(http.hcm.scope, metric::DOWNSTREAM_CX_PROTOCOL_ERROR);
            self.stats.inc(http.hcm.http2_scope, http2::OUTBOUND_FLOOD);
            return self.h2_give_up(
                key,
                ResponseFlag::DownstreamProtocolError,
                "http2.outbound_frames_flood",
            );
        }
        if idle {
            self.rearm_downstream(key);
        } else if let (true, Some(limit)) = (began, limit) {
            self.look_by(key, now + limit);
        }
    }

    fn h2_event(&mut self, key: Key, event: Event) {
        match event {
            Event::Request { stream, end, head_bytes } => {
                self.h2_request(key, stream, end, head_bytes, false)
            }
            Event::TooLarge { stream, end, head_bytes } => {
                self.h2_request(key, stream, end, head_bytes, true)
            }
            Event::Trailers { user, .. } => self.h2_request_trailers(Key::unpack(user).1),
            Event::Reset { user, by, malformed, .. } => {
                self.h2_client_reset(key, Key::unpack(user).1, by, malformed);
            }
            Event::StreamWritable { user, .. } => self.client_has_room(key, Key::unpack(user).1),
            Event::ConnectionWritable => self.resume_clients(key),
            Event::Pong => {
                if let Some(h2) = self.downstreams.get_mut(key).and_then(http).and_then(HttpDownstream::h2) {
                    h2.keepalive.answered();
                }
            }
            // A client that goes away ends its streams itself.
            Event::GoAway { .. } | Event::Settings | Event::NeedMore | Event::Progress => {}
            // Of the other role, or dealt with by the caller.
            Event::Informational { .. } | Event::Response { .. } | Event::Data { .. } => {}
        }
    }

    fn h2_request(&mut self, key: Key, client: StreamRef, end: bool, head_bytes: u32, too_large: bool) {
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let options = downstream.origin.http();
        let mut stream = self.spare_streams.pop().unwrap_or_else(|| Box::new(Stream::new(key)));
        stream.reset(key);
        stream.options = options;
        stream.client = Some(client);
        std::mem::swap(&mut stream.request, &mut self.heads.request);
        if too_large {
            stream.flow.request_end = end;
            stream.request_complete = end;
            stream.facts.times.start = now;
            stream.facts.times.start_wall = self.wall;
            return self.start_timed_out(key, stream, LocalReply::new(431, "", "request_headers_too_large"));
        }
        stream.flow.request_end = end;
        let framing = match stream.wants_upgrade() {
            true => BodyFraming::None,
            false => body_framing(&stream.request.headers, end),
        };
        self.start_request(key, stream, head_bytes as usize, framing, now);
    }

    fn h2_request_trailers(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.active = now;
        std::mem::swap(&mut stream.request_trailers, &mut self.heads.trailers);
        stream.flow.request_end = true;
        if stream.request_use() == BodyUse::Change && !self.change_request(id, &[], true) {
            return;
        }
        self.filter_request_trailers(id);
        if self.streams.get(id).is_some_and(|s| !s.tunnel && !s.request_complete) {
            self.request_arrived(id);
        }
        self.held_is_whole(id);
        self.flush_request(id);
    }

    /// The client gave a stream up, or it broke the rules on it; the codec has forgotten it.
    fn h2_client_reset(&mut self, key: Key, id: Key, by: Side, malformed: bool) {
        self.h2_release_request(id);
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.client = None;
        stream.flag(match by {
            Side::Peer => ResponseFlag::DownstreamRemoteReset,
            Side::Us => ResponseFlag::DownstreamProtocolError,
        });
        // As in Envoy, which takes its library's own resets for the client's.
        let details = if malformed { "http2.invalid.header.field" } else { "http2.remote_reset" };
        stream.facts.details = details.into();
        self.drop_attempt(id, EndedBy::Local);
        if let Some(scope) = self.http_scope(key) {
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_RX_RESET);
        }
        self.end_stream(id);
    }

    /// Applies the connection manager's rules to the head of the stream's response and queues it.
    pub(crate) fn h2_write_response_head(&mut self, id: Key, end: bool, draining: bool) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(options) = stream.options.clone() else { return };
        let key = stream.downstream;
        let end = end && !stream.tunnel;
        let context = ResponseContext {
            hcm: &options.hcm,
            request: Some(&stream.request),
            now: self.wall,
            close: false,
        };
        manager::mutate(&context, &mut self.date, &mut stream.response, &mut self.scratch);
        let head_bytes = self.h2_write_head(id, None, end);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.flow.response_end_sent = end;
            stream.head_is_sent(now, head_bytes);
        }
        if draining {
            self.h2_drain(key);
        }
    }

    /// Puts a response head, or an interim one, into the client's queue; tells its bytes.
    pub(crate) fn h2_write_head(&mut self, id: Key, head: Option<&ResponseHead>, end: bool) -> usize {
        let Some(stream) = self.streams.get_mut(id) else { return 0 };
        let Some(client) = stream.client else { return 0 };
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return 0 };
        let Protocol::Http(http) = &mut downstream.protocol else { return 0 };
        let Some(h2) = http.h2() else { return 0 };
        h2.outbound_frames += 1;
        let mut written = 0;
        let head = head.unwrap_or(&stream.response);
        downstream.link.write(&mut self.io, |out| {
            out.write_with(|bytes| {
                let before = bytes.len();
                h2.codec.send_response(client, head, end, bytes);
                written = bytes.len() - before;
            });
        });
        written
    }

    /// Ends the response: trailers, or an empty frame, unless its last bytes said so.
    pub(crate) fn h2_write_end(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(client) = stream.client else { return };
        if std::mem::replace(&mut stream.flow.response_end_sent, true) {
            return;
        }
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        let Some(h2) = http.h2() else { return };
        h2.outbound_frames += 1;
        let (trailers, bytes) = (&stream.trailers, &mut stream.facts.bytes);
        downstream.link.write(&mut self.io, |out| {
            let before = out.len();
            out.write_with(|out| match trailers.is_empty() {
                true => h2.codec.send_data(client, 0, true, out),
                false => h2.codec.send_trailers(client, trailers, out),
            });
            bytes.downstream_wire_sent += (out.len() - before) as u64;
        });
    }
}

#[cfg(test)]
mod tests {
    use millrace_http::HeaderMap;

    use super::*;

    #[test]
    fn the_preface_tells_the_version_as_soon_as_it_can() {
        assert_eq!(sniff(Codec::Auto, b"P"), Sniffed::Undecided);
        assert_eq!(sniff(Codec::Auto, b"PR"), Sniffed::Undecided);
        assert_eq!(sniff(Codec::Auto, b"PU"), Sniffed::Http1);
        assert_eq!(sniff(Codec::Auto, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), Sniffed::Undecided);
        assert_eq!(sniff(Codec::Auto, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0"), Sniffed::Http2);
        assert_eq!(sniff(Codec::Http1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Sniffed::Http1);
        assert_eq!(sniff(Codec::Http2, b"GET / HTTP/1.1\r\n"), Sniffed::Refused);
        assert_eq!(sniff(Codec::Http2, b"PRI *"), Sniffed::Undecided);
    }

    #[test]
    fn bodies_are_framed_by_what_the_head_says() {
        let mut headers = HeaderMap::new();
        assert_eq!(body_framing(&headers, true), BodyFraming::None);
        assert_eq!(body_framing(&headers, false), BodyFraming::Chunked);
        headers.append(b"content-length", b"12");
        assert_eq!(body_framing(&headers, false), BodyFraming::Length(12));
    }
}
