//! Body bytes on their way: request bodies to the upstream, response bodies to the client.

use std::ops::Range;

use millrace_base::{Key, ResponseFlag, Time};
use millrace_filter::http::{BodyUse, LocalReply};
use millrace_http::HeaderMap;
use millrace_http::h1::{
    BodyError, BodyEvent, BodyFraming, CONTINUE, DecodeStep, EncodeOptions, LAST_CHUNK, LAST_CHUNK_LINE,
    encode_trailers, reason_phrase,
};
use millrace_observe::stats::{ShardStats, cluster as cluster_metric, http as metric};
use millrace_ring::Payload;

use super::h2::{client_room, upstream_room, write_to_client, write_to_upstream};
use super::{COPY_BYTES_MAX, Closing, INPUT_BYTES_MAX, Stream};
use crate::downstream::Protocol;
use crate::held::Held;
use crate::shard::Shard;
use crate::upstream::{Carries, EndedBy, Upstream};

/// Bytes that chunked framing adds to a piece of this many bytes: its size in hexadecimal and two line ends.
pub(super) fn chunk_overhead(len: usize, framing: BodyFraming) -> u64 {
    if framing != BodyFraming::Chunked || len == 0 {
        return 0;
    }
    u64::from(len.ilog2() / 4 + 1 + 4)
}

/// Keeps body bytes for a retry, for as long as one is possible and they are not too many, and for copies.
pub(super) fn keep_replay(
    stream: &mut Stream,
    upstream: &Upstream,
    stats: &mut ShardStats,
    held: &Held,
    bytes: &[u8],
) {
    if let Some(mirrors) = &mut stream.mirrors {
        mirrors.copy(bytes);
    }
    if !stream.keeps_replay {
        return;
    }
    if stream.replay.len() + bytes.len() <= held.allowance(stream.replay_max) {
        stream.replay.extend_from_slice(bytes);
    } else {
        stream.drop_replay();
        stream.retry = None;
        stats.inc(upstream.scope, cluster_metric::RETRY_OR_SHADOW_ABANDONED);
    }
    stream.weigh(held);
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
    pub(super) fn invite_body(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let written = match stream.client {
            None => {
                let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
                downstream.link.write(&mut self.io, |payload| payload.push_bytes(CONTINUE));
                CONTINUE.len()
            }
            Some(_) => {
                let mut head = std::mem::take(&mut self.interim);
                head.status = 100;
                let written = self.h2_write_head(id, Some(&head), false);
                self.interim = head;
                written
            }
        };
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.facts.bytes.downstream_wire_sent += written as u64;
        if let Some(options) = &stream.options {
            self.stats.downstream_response(options.hcm.scope, options.hcm.listener_scope, 100);
        }
    }

    /// Passes on the next piece of the body of an HTTP/1.1 request. True when something was consumed.
    pub(super) fn forward_request_body(&mut self, key: Key, id: Key) -> bool {
        let now = self.io.now;
        let scarce = self.io.is_scarce();
        let Some(downstream) = self.downstreams.get_mut(key) else { return false };
        let Protocol::Http(http) = &mut downstream.protocol else { return false };
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let Some(conn) = stream.upstream() else { return self.hold_request_body(key, id) };
        if stream.upgrade && !stream.tunnel && stream.request_complete {
            return false;
        }
        if !stream.flow.request_queue.is_empty() {
            // What an earlier try had sent goes first.
            self.flush_request(id);
            return false;
        }
        let Some(upstream) = self.upstreams.get_mut(conn) else { return false };
        let room = upstream_room(&self.io, upstream, stream);
        if room == 0 {
            self.await_upstream(id);
            return false;
        }
        stream.active = now;
        let front = http.input.front();
        let step =
            match stream.request_body.decode(&front[..front.len().min(room)], &mut stream.request_trailers) {
                Ok(step) => step,
                Err(error) => {
                    self.refuse_body(key, id, error);
                    return false;
                }
            };
        let bytes = &mut stream.facts.bytes;
        bytes.downstream_wire_received += step.consumed as u64;
        let done = stream.request_body.is_done() && !stream.tunnel && !stream.request_complete;
        match step.event {
            BodyEvent::Data(range) => {
                bytes.received += range.len() as u64;
                let piece = &http.input.front()[range.clone()];
                match stream.request_use() {
                    BodyUse::Bypass => {}
                    BodyUse::Observe => {
                        if let Some(filters) = &mut stream.filters {
                            filters.observe_request(piece);
                        }
                    }
                    BodyUse::Change => return self.h1_change_request(key, id, range, step.consumed, done),
                }
                keep_replay(stream, upstream, &mut self.stats, &self.io.held, piece);
                let (len, input) = (range.len(), &http.input);
                let copy = scarce || len <= COPY_BYTES_MAX;
                let last = done && stream.server.is_some();
                write_to_upstream(&mut self.io, upstream, stream, len, last, |out| {
                    input.append_to(range, copy, out);
                });
            }
            BodyEvent::NeedMore | BodyEvent::Trailers | BodyEvent::End => {}
        }
        http.input.consume(step.consumed);
        let mirrored = stream.mirrors.is_some();
        if done {
            let keeps_trailers = http.hcm.http1.enable_trailers;
            if stream.request_use() == BodyUse::Change {
                stream.flow.request_end = true;
                return self.h1_change_request(key, id, 0..0, 0, true);
            }
            self.request_body_arrived(id, keeps_trailers);
        }
        if mirrored {
            self.feed_mirrors(id);
        }
        done || step.consumed > 0
    }

    /// The last byte of the body of an HTTP/1.1 request is here, none of which a filter replaces. Its end follows at once
    /// where everything before was passed on.
    pub(super) fn request_body_arrived(&mut self, id: Key, keeps_trailers: bool) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.flow.request_end = true;
        if !keeps_trailers {
            stream.request_trailers.clear();
        }
        let (filtered, is_open) = (stream.filters.is_some(), !stream.flow.request_end_sent);
        if filtered {
            self.filter_request_trailers(id);
        }
        if is_open {
            self.end_request(id);
        }
        self.request_arrived(id);
    }

    /// As [`Shard::forward_request_body`], for bytes that a filter replaces.
    pub(super) fn h1_change_request(
        &mut self,
        key: Key,
        id: Key,
        range: Range<usize>,
        used: usize,
        done: bool,
    ) -> bool {
        let Some(http) = self.downstreams.get_mut(key).and_then(super::request::http) else { return false };
        let mut input = std::mem::take(&mut http.input);
        // Before the filters, which may add some.
        if done
            && !http.hcm.http1.enable_trailers
            && let Some(stream) = self.streams.get_mut(id)
        {
            stream.request_trailers.clear();
        }
        let alive = self.change_request(id, &input.front()[range], done);
        input.consume(used);
        let Some(http) = self.downstreams.get_mut(key).and_then(super::request::http) else { return false };
        http.input = input;
        let Some(stream) = self.streams.get_mut(id).filter(|_| alive) else { return false };
        if done {
            stream.flow.request_end = true;
            self.filter_request_trailers(id);
            self.request_arrived(id);
            self.held_is_whole(id);
        }
        self.flush_request(id);
        true
    }

    /// The body of an HTTP/1.1 request is malformed: 400, if that is still possible, and the connection ends.
    pub(super) fn refuse_body(&mut self, key: Key, id: Key, error: BodyError) {
        let Some(http) = self.downstreams.get_mut(key).and_then(super::request::http) else { return };
        http.closing = Closing::AfterResponse;
        http.input.clear();
        self.stats.inc(http.hcm.scope, metric::DOWNSTREAM_CX_PROTOCOL_ERROR);
        let body = reason_phrase(error.status());
        let reply = LocalReply::new(error.status(), body, error.details())
            .flagged(ResponseFlag::DownstreamProtocolError)
            .closing();
        self.drop_attempt(id, EndedBy::Local);
        self.abort_or_reply(id, reply);
    }

    /// Everything of the request has been passed on: so is its end, with its trailers.
    pub(super) fn end_request(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(upstream) = stream.upstream().and_then(|conn| self.upstreams.get_mut(conn)) else { return };
        let Some(link) = &mut upstream.link else { return };
        stream.flow.request_end_sent = true;
        stream.facts.times.upstream_tx_end = Some(now);
        let (framing, trailers) = (stream.request_framing, &stream.request_trailers);
        let mut sent = 0;
        match (stream.server, &mut upstream.carries) {
            (Some(server), Carries::Http2(h2)) => link.write(&mut self.io, |out| {
                let before = out.len();
                out.write_with(|out| match trailers.is_empty() {
                    true => h2.codec.send_data(server, 0, true, out),
                    false => h2.codec.send_trailers(server, trailers, out),
                });
                sent = (out.len() - before) as u64;
            }),
            _ if stream.tunnel => link.shutdown(&mut self.io),
            _ => {
                let state = self.clusters.get(upstream.cluster);
                // Those of an HTTP/1.1 client were struck already; filters may have added others.
                let own = stream.client.is_none() && stream.side.is_none() && stream.filters.is_none();
                let keeps = own || state.is_some_and(|s| s.config().http.enable_trailers);
                let trailers = Some(trailers).filter(|_| keeps);
                link.write(&mut self.io, |out| sent = append_end(framing, trailers, out));
            }
        }
        stream.facts.bytes.upstream_wire_sent += sent;
    }

    /// Passes on the next piece of the body of an HTTP/1.1 response. True when something was consumed.
    pub(super) fn forward_response_body(&mut self, conn: Key, id: Key) -> bool {
        let now = self.io.now;
        let scarce = self.io.is_scarce();
        let Some(upstream) = self.upstreams.get_mut(conn) else { return false };
        let Carries::Http(http) = &mut upstream.carries else { return false };
        let Some(stream) = self.streams.get_mut(id) else { return false };
        stream.active = now;
        if stream.side.is_some() {
            return self.discard_response_body(conn, id);
        }
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return false };
        // An HTTP/1.1 client takes what has come; its endpoint is paused when that is too much.
        let room = match stream.client.is_some() || stream.filters.is_some() {
            true if stream.flow.response_queue.len() >= self.io.held.allowance(INPUT_BYTES_MAX) => 0,
            true if stream.holds_response() => INPUT_BYTES_MAX,
            true => client_room(&self.io, downstream, stream),
            false => usize::MAX,
        };
        if room == 0 {
            if let Some(link) = upstream.link.as_mut().filter(|link| link.can_pause()) {
                link.pause(&mut self.io);
                self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL);
            }
            let left = http.body.counted_left();
            let whole = left > 0 && left <= http.input.len() as u64 && stream.filters.is_none();
            let flushes = whole && stream.begin_flush(now);
            self.await_client(id);
            if flushes {
                self.rearm_stream(id);
            }
            return false;
        }
        let front = http.input.front();
        let step = match http.body.decode(&front[..front.len().min(room)], &mut stream.trailers) {
            Ok(step) => step,
            Err(_) => {
                self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_CX_PROTOCOL_ERROR);
                self.response_broken(id, true, EndedBy::Local);
                return false;
            }
        };
        stream.facts.bytes.upstream_wire_received += step.consumed as u64;
        if let (Some(tracked), BodyEvent::Data(range)) = (&mut stream.tracked, &step.event) {
            tracked.received += range.len() as u64;
        }
        let framing = stream.response_framing;
        let done = http.body.is_done() && !stream.tunnel;
        if stream.filters.is_some() {
            return self.filter_response_body(conn, id, step, done);
        }
        if let BodyEvent::Data(range) = step.event {
            stream.facts.times.upstream_rx_body_begin.get_or_insert(now);
            let (len, input) = (range.len(), &http.input);
            let copy = scarce || len <= COPY_BYTES_MAX;
            let last = done && stream.trailers.is_empty();
            write_to_client(&mut self.io, downstream, stream, len, last, |out| {
                input.append_to(range, copy, out);
            });
        }
        http.input.consume(step.consumed);
        let limit = downstream.origin.listener.buffer_limit_bytes;
        if done {
            self.response_arrived(id);
            return true;
        }
        let Some(link) = &mut upstream.link else { return false };
        if stream.client.is_some() {
            return step.consumed > 0;
        }
        let bulk = http.body.counted_left() >= self.io.bulk_bytes();
        if bulk && (link.is_secure() || downstream.link.is_secure()) {
            // What no relay can carry waits in the kernel, not in the shard's buffers.
            link.receive_singly(&mut self.io);
        } else if bulk && matches!(framing, BodyFraming::Length(_)) && !stream.tunnel {
            // Nobody looks at the rest of a body whose length both sides know.
            link.want_relay(&mut self.io);
        }
        if downstream.link.queued() >= self.io.high_watermark(limit) && link.can_pause() {
            link.pause(&mut self.io);
            self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL);
        }
        step.consumed > 0
    }

    /// The rest of [`Shard::forward_response_body`] for a response that filters look at: its bytes go through the
    /// stream's queue.
    fn filter_response_body(&mut self, conn: Key, id: Key, step: DecodeStep, done: bool) -> bool {
        if done {
            // Before the filters, which may add some.
            self.drop_unwanted_trailers(id);
        }
        let Some(Carries::Http(http)) = self.upstreams.get_mut(conn).map(|u| &mut u.carries) else {
            return false;
        };
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let trailers = done && !stream.trailers.is_empty();
        let (usage, paced) = (stream.response_use(), stream.is_paced());
        let mut input = std::mem::take(&mut http.input);
        let range = match step.event {
            BodyEvent::Data(range) => range,
            BodyEvent::NeedMore | BodyEvent::Trailers | BodyEvent::End => 0..0,
        };
        let piece = &input.front()[range];
        let alive = match (usage, &mut stream.filters) {
            (BodyUse::Change, _) if !piece.is_empty() || (done && !trailers) => {
                self.change_response(id, piece, done && !trailers)
            }
            (BodyUse::Observe, Some(filters)) => {
                filters.observe_response(piece);
                stream.flow.response_queue.push_bytes(piece);
                true
            }
            (BodyUse::Bypass, _) | (BodyUse::Observe, None) => {
                stream.flow.response_queue.push_bytes(piece);
                true
            }
            (BodyUse::Change, _) => true,
        };
        input.consume(step.consumed);
        if let Some(Carries::Http(http)) = self.upstreams.get_mut(conn).map(|u| &mut u.carries) {
            http.input = input;
        }
        if !alive {
            return false;
        }
        self.report_filters(id);
        if done {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.flow.response_end = true;
            }
            self.judge_end(id, true);
            if paced {
                // Its connection need not wait for the client, nor can it spoil the answer any more.
                self.upstream_is_done(id);
            }
            if trailers && !self.filter_trailers(id) {
                return false;
            }
        }
        self.flush_response(id);
        true
    }

    /// Trailers of an HTTP/1.1 endpoint that shall not send any do not reach an HTTP/2 client.
    fn drop_unwanted_trailers(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id).filter(|s| s.client.is_some() && s.server.is_none())
        else {
            return;
        };
        if let Some(upstream) = stream.upstream().and_then(|conn| self.upstreams.get(conn))
            && !self.clusters.get(upstream.cluster).is_some_and(|s| s.config().http.enable_trailers)
        {
            stream.trailers.clear();
        }
    }

    /// The endpoint has ended an answer whose end is that of its connection.
    pub(super) fn response_has_ended(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.filters.is_none() {
            return self.response_arrived(id);
        }
        if stream.flow.response_end {
            return self.flush_response(id);
        }
        let changes = stream.response_use() == BodyUse::Change;
        if changes && !self.change_response(id, &[], true) {
            return;
        }
        if let Some(stream) = self.streams.get_mut(id) {
            stream.flow.response_end = true;
        }
        self.judge_end(id, true);
        self.flush_response(id);
    }

    /// The last byte of the response is on its way to the client.
    pub(super) fn response_arrived(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.facts.balance.wants_load {
            self.read_load(id, true);
        }
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.unjudged {
            self.judge_end(id, true);
        }
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.side.is_some() {
            return self.side_is_answered(id);
        }
        stream.response_complete = true;
        stream.facts.times.upstream_rx_end.get_or_insert(now);
        stream.response_deadline = Time::MAX;
        stream.try_deadline = Time::MAX;
        if stream.client.is_some() {
            if stream.filters.is_none() {
                self.drop_unwanted_trailers(id);
            }
            self.h2_write_end(id);
        } else {
            let framing = stream.response_framing;
            let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
            let trailers = match &downstream.protocol {
                Protocol::Http(http) if http.hcm.http1.enable_trailers => Some(&stream.trailers),
                Protocol::Http(_) | Protocol::Tcp(_) | Protocol::Securing(_) | Protocol::Refused(_) => None,
            };
            let mut sent = 0;
            downstream.link.write(&mut self.io, |out| sent = append_end(framing, trailers, out));
            stream.facts.bytes.downstream_wire_sent += sent;
        }
        self.release_upstream(id);
        self.finish_stream(id);
    }
}
