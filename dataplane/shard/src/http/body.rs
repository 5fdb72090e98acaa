//! Body bytes on their way: request bodies to the upstream, response bodies to the client.

use std::ops::Range;

use millrace_base::{Key, ResponseFlag, Time};
use millrace_filter::http::LocalReply;
use millrace_http::HeaderMap;
use millrace_http::h1::{
    BodyEvent, BodyFraming, CHUNK_SUFFIX, CONTINUE, EncodeOptions, LAST_CHUNK, LAST_CHUNK_LINE,
    encode_chunk_prefix, encode_trailers, reason_phrase,
};
use millrace_observe::stats::{cluster as cluster_metric, http as metric};
use millrace_ring::Payload;

use super::input::Input;
use super::stream::REPLAY_BYTES_MAX;
use super::{COPY_BYTES_MAX, Closing};
use crate::downstream::Protocol;
use crate::shard::Shard;
use crate::upstream::{Carries, EndedBy};

/// Bytes that chunked framing adds to a piece of this many bytes: its size in hexadecimal and two line ends.
fn chunk_overhead(len: usize, framing: BodyFraming) -> u64 {
    if framing != BodyFraming::Chunked || len == 0 {
        return 0;
    }
    u64::from(len.ilog2() / 4 + 1 + 4)
}

/// Appends one range of body bytes in the framing of the receiver.
fn append(input: &Input, range: Range<usize>, framing: BodyFraming, scarce: bool, out: &mut Payload) {
    let chunked = framing == BodyFraming::Chunked;
    let copy = scarce || range.len() <= COPY_BYTES_MAX;
    if chunked {
        out.write_with(|bytes| encode_chunk_prefix(range.len() as u64, bytes));
    }
    input.append_to(range, copy, out);
    if chunked {
        out.push_bytes(CHUNK_SUFFIX);
    }
}

/// Appends the end of a message; tells its bytes.
fn append_end(framing: BodyFraming, trailers: Option<&HeaderMap>, out: &mut Payload) -> u64 {
    if framing != BodyFraming::Chunked {
        return 0;
    }
    let Some(trailers) = trailers.filter(|t| !t.is_empty()) else {
        out.push_bytes(LAST_CHUNK);
        return LAST_CHUNK.len() as u64;
    };
    let mut written = 0;
    out.write_with(|bytes| {
        let before = bytes.len();
        bytes.extend_from_slice(LAST_CHUNK_LINE);
        encode_trailers(trailers, &EncodeOptions::default(), bytes);
        written = bytes.len() - before;
    });
    written as u64
}

impl Shard {
    /// Tells a client that waits for `100 Continue` to go on.
    pub(super) fn invite_body(&mut self, id: Key, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.link.write(&mut self.io, |payload| payload.push_bytes(CONTINUE));
        if let Some(stream) = self.streams.get_mut(id) {
            stream.facts.bytes.downstream_wire_sent += CONTINUE.len() as u64;
        }
    }

    /// Passes on the next piece of the request body. True when something was consumed.
    pub(super) fn forward_request_body(&mut self, key: Key, id: Key) -> bool {
        let now = self.io.now;
        let scarce = self.io.is_scarce();
        let Some(downstream) = self.downstreams.get_mut(key) else { return false };
        let Protocol::Http(http) = &mut downstream.protocol else { return false };
        let Some(stream) = self.streams.get_mut(id) else { return false };
        // Bytes that nobody can take yet stay where they are.
        let Some(conn) = stream.upstream() else { return false };
        if stream.upgrade && !stream.tunnel && stream.request_complete {
            return false;
        }
        let Some(upstream) = self.upstreams.get_mut(conn) else { return false };
        let Some(link) = upstream.link.as_mut() else { return false };
        if link.queued() >= self.io.high_watermark(upstream.buffer_limit) {
            return false;
        }
        stream.active = now;
        let step = match stream.request_body.decode(http.input.front(), &mut stream.trailers) {
            Ok(step) => step,
            Err(error) => {
                http.closing = Closing::AfterResponse;
                http.input.clear();
                self.stats.inc(http.hcm.scope, metric::DOWNSTREAM_CX_PROTOCOL_ERROR);
                let body = reason_phrase(error.status());
                let reply = LocalReply::new(error.status(), body, error.details())
                    .flagged(ResponseFlag::DownstreamProtocolError)
                    .closing();
                self.drop_attempt(id, EndedBy::Local);
                self.abort_or_reply(id, reply);
                return false;
            }
        };
        let bytes = &mut stream.facts.bytes;
        bytes.downstream_wire_received += step.consumed as u64;
        let framing = stream.request_framing;
        match step.event {
            BodyEvent::Data(range) => {
                bytes.received += range.len() as u64;
                bytes.upstream_wire_sent += range.len() as u64 + chunk_overhead(range.len(), framing);
                if stream.keeps_replay {
                    if stream.replay.len() + range.len() <= REPLAY_BYTES_MAX.min(upstream.buffer_limit) {
                        stream.replay.extend_from_slice(&http.input.front()[range.clone()]);
                    } else {
                        stream.keeps_replay = false;
                        stream.retry = None;
                        self.stats.inc(upstream.scope, cluster_metric::RETRY_OR_SHADOW_ABANDONED);
                    }
                }
                link.write(&mut self.io, |out| append(&http.input, range, framing, scarce, out));
            }
            BodyEvent::NeedMore | BodyEvent::Trailers | BodyEvent::End => {}
        }
        http.input.consume(step.consumed);
        if stream.request_body.is_done() && !stream.tunnel && !stream.request_complete {
            let trailers = http.hcm.http1.enable_trailers.then_some(&stream.trailers);
            let mut sent = 0;
            link.write(&mut self.io, |out| sent = append_end(framing, trailers, out));
            stream.facts.bytes.upstream_wire_sent += sent;
            stream.trailers.clear();
            stream.facts.times.upstream_tx_end = Some(now);
            self.request_arrived(id);
            return true;
        }
        step.consumed > 0
    }

    /// Passes on the next piece of the response body. True when something was consumed.
    pub(super) fn forward_response_body(&mut self, conn: Key, id: Key) -> bool {
        let now = self.io.now;
        let scarce = self.io.is_scarce();
        let Some(upstream) = self.upstreams.get_mut(conn) else { return false };
        let Carries::Http(http) = &mut upstream.carries else { return false };
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return false };
        stream.active = now;
        let step = match http.body.decode(http.input.front(), &mut stream.trailers) {
            Ok(step) => step,
            Err(_) => {
                self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_CX_PROTOCOL_ERROR);
                self.response_broken(id, true);
                return false;
            }
        };
        let bytes = &mut stream.facts.bytes;
        bytes.upstream_wire_received += step.consumed as u64;
        let framing = stream.response_framing;
        if let BodyEvent::Data(range) = step.event {
            stream.facts.times.upstream_rx_body_begin.get_or_insert(now);
            bytes.sent += range.len() as u64;
            bytes.downstream_wire_sent += range.len() as u64 + chunk_overhead(range.len(), framing);
            downstream.link.write(&mut self.io, |out| append(&http.input, range, framing, scarce, out));
        }
        http.input.consume(step.consumed);
        let limit = downstream.origin.listener.buffer_limit_bytes;
        if http.body.is_done() && !stream.tunnel {
            self.response_arrived(id);
            return true;
        }
        let Some(link) = &mut upstream.link else { return false };
        // Nobody looks at the rest of a body whose length both sides know.
        if http.body.counted_left() >= self.io.bulk_bytes()
            && matches!(framing, BodyFraming::Length(_))
            && !stream.tunnel
        {
            link.want_relay(&mut self.io);
        }
        if downstream.link.queued() >= self.io.high_watermark(limit) && link.can_pause() {
            link.pause(&mut self.io);
            self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL);
        }
        step.consumed > 0
    }

    /// The last byte of the response is on its way to the client.
    pub(super) fn response_arrived(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.response_complete = true;
        stream.facts.times.upstream_rx_end = Some(now);
        stream.response_deadline = Time::MAX;
        stream.try_deadline = Time::MAX;
        let framing = stream.response_framing;
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        let trailers = match &downstream.protocol {
            Protocol::Http(http) if http.hcm.http1.enable_trailers => Some(&stream.trailers),
            Protocol::Http(_) | Protocol::Tcp(_) => None,
        };
        let mut sent = 0;
        downstream.link.write(&mut self.io, |out| sent = append_end(framing, trailers, out));
        stream.facts.bytes.downstream_wire_sent += sent;
        self.release_upstream(id);
        self.finish_stream(id);
    }
}
