//! Body bytes of streams that meet HTTP/2 on one side or both: how much each side takes now, what waits, and who is
//! looked at again when there is room.
//!
//! Bytes that come over HTTP/2 cannot stay in the connection's input, where others follow them. What its receiver does
//! not take at once waits in the stream (`request_queue`, `response_queue`) and keeps its flow-control credit, so that
//! the sender can have no more on the way than the window that it was granted.

use std::ops::Range;

use millrace_base::Key;
use millrace_filter::http::BodyUse;
use millrace_http::h1::{BodyFraming, CHUNK_SUFFIX, encode_chunk_prefix};
use millrace_http::h2::StreamRef;
use millrace_ring::Payload;

use super::super::body::{chunk_overhead, keep_replay};
use super::super::request::http;
use super::super::{COPY_BYTES_MAX, Stream};
use super::{Http2Downstream, write_control};
use crate::downstream::{Downstream, Protocol};
use crate::link::Io;
use crate::shard::Shard;
use crate::upstream::{Carries, Upstream};

/// Octets in front of every frame's payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 9;

pub(super) fn h2_of(protocol: &mut Protocol) -> Option<&mut Http2Downstream> {
    match protocol {
        Protocol::Http(http) => http.h2.as_deref_mut(),
        Protocol::Tcp(_) | Protocol::Securing(_) | Protocol::Refused(_) => None,
    }
}

/// Body bytes that the client's connection takes now.
pub(crate) fn client_room(io: &Io, downstream: &Downstream, stream: &Stream) -> usize {
    if downstream.link.queued() >= io.high_watermark(downstream.origin.listener.buffer_limit_bytes) {
        return 0;
    }
    match (&downstream.protocol, stream.client) {
        (Protocol::Http(http), Some(client)) => http.h2.as_ref().map_or(0, |h2| h2.codec.capacity(client)),
        _ => usize::MAX,
    }
}

/// Body bytes that the endpoint's connection takes now.
pub(crate) fn upstream_room(io: &Io, upstream: &Upstream, stream: &Stream) -> usize {
    let Some(link) = &upstream.link else { return 0 };
    if link.queued() >= io.high_watermark(upstream.buffer_limit) {
        return 0;
    }
    match (&upstream.carries, stream.server) {
        (Carries::Http2(h2), Some(server)) => h2.codec.capacity(server),
        (Carries::Http2(_), None) => 0,
        (Carries::Http(_) | Carries::Tcp(_), _) => usize::MAX,
    }
}

/// Appends body bytes in the framing of HTTP/1.1.
fn append(framing: BodyFraming, len: usize, out: &mut Payload, fill: impl FnOnce(&mut Payload)) {
    let chunked = framing == BodyFraming::Chunked && len > 0;
    if chunked {
        out.write_with(|bytes| encode_chunk_prefix(len as u64, bytes));
    }
    fill(out);
    if chunked {
        out.push_bytes(CHUNK_SUFFIX);
    }
}

/// Writes `len` bytes of the response, at most [`client_room`], which `fill` appends. With `end` nothing follows them.
pub(crate) fn write_to_client(
    io: &mut Io,
    downstream: &mut Downstream,
    stream: &mut Stream,
    len: usize,
    end: bool,
    fill: impl FnOnce(&mut Payload),
) {
    let framing = stream.response_framing;
    let bytes = &mut stream.facts.bytes;
    bytes.sent += len as u64;
    let link = &mut downstream.link;
    match (stream.client, h2_of(&mut downstream.protocol)) {
        (Some(client), Some(h2)) => {
            bytes.downstream_wire_sent += (len + FRAME_HEADER_BYTES) as u64;
            h2.outbound_frames += 1;
            stream.flow.response_end_sent |= end;
            link.write(io, |out| {
                if out.write_with(|bytes| h2.codec.send_data(client, len, end, bytes)) {
                    fill(out);
                }
            });
        }
        _ => {
            bytes.downstream_wire_sent += len as u64 + chunk_overhead(len, framing);
            link.write(io, |out| append(framing, len, out, fill));
        }
    }
}

/// Writes `len` bytes of the request, at most [`upstream_room`], which `fill` appends. With `end` nothing follows them.
pub(crate) fn write_to_upstream(
    io: &mut Io,
    upstream: &mut Upstream,
    stream: &mut Stream,
    len: usize,
    end: bool,
    fill: impl FnOnce(&mut Payload),
) {
    let framing = stream.request_framing;
    let Some(link) = &mut upstream.link else { return };
    let bytes = &mut stream.facts.bytes;
    match (stream.server, &mut upstream.carries) {
        (Some(server), Carries::Http2(h2)) => {
            bytes.upstream_wire_sent += (len + FRAME_HEADER_BYTES) as u64;
            stream.flow.request_end_sent |= end;
            h2.outbound_frames += 1;
            link.write(io, |out| {
                if out.write_with(|bytes| h2.codec.send_data(server, len, end, bytes)) {
                    fill(out);
                }
            });
        }
        _ => {
            bytes.upstream_wire_sent += len as u64 + chunk_overhead(len, framing);
            link.write(io, |out| append(framing, len, out, fill));
        }
    }
}

impl Shard {
    /// Takes body bytes that a client sent over HTTP/2; they are a range of its input. Those of a request that has ended
    /// since they were read give their credit back.
    pub(super) fn h2_request_data(
        &mut self,
        (key, client): (Key, StreamRef),
        id: Key,
        range: Range<usize>,
        end: bool,
    ) {
        let (now, scarce) = (self.io.now, self.io.is_scarce());
        let Some(stream) = self.streams.get_mut(id) else {
            if let Some(h2) = self.downstreams.get_mut(key).and_then(|d| h2_of(&mut d.protocol)) {
                h2.codec.release(client, range.len());
            }
            return;
        };
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        let len = range.len();
        stream.active = now;
        stream.facts.bytes.received += len as u64;
        stream.facts.bytes.downstream_wire_received += (len + FRAME_HEADER_BYTES) as u64;
        stream.flow.held_request += len;
        stream.flow.request_end |= end;
        match stream.request_use() {
            BodyUse::Bypass => {}
            BodyUse::Observe => {
                if let Some(filters) = &mut stream.filters {
                    filters.observe_request(&http.input.front()[range.clone()]);
                }
            }
            BodyUse::Change => return self.h2_change_request(key, id, range, end),
        }
        if len > 0 {
            let copy = scarce || len <= COPY_BYTES_MAX;
            let upstream = stream.upstream().and_then(|conn| self.upstreams.get_mut(conn));
            let direct = stream.flow.request_queue.is_empty() && (!stream.upgrade || stream.tunnel);
            match upstream {
                Some(upstream) if direct && upstream_room(&self.io, upstream, stream) >= len => {
                    let last = end && stream.server.is_some();
                    let piece = &http.input.front()[range.clone()];
                    keep_replay(stream, upstream, &mut self.stats, &self.io.held, piece);
                    let input = &http.input;
                    write_to_upstream(&mut self.io, upstream, stream, len, last, |out| {
                        input.append_to(range, copy, out);
                    });
                }
                _ => {
                    http.input.append_to(range, copy, &mut stream.flow.request_queue);
                    stream.weigh(&self.io.held);
                }
            }
        }
        if end && !stream.tunnel && !stream.request_complete {
            self.request_arrived(id);
        }
        self.flush_request(id);
    }

    /// As [`Shard::h2_request_data`], for bytes that a filter replaces.
    fn h2_change_request(&mut self, key: Key, id: Key, range: Range<usize>, end: bool) {
        let Some(state) = self.downstreams.get_mut(key).and_then(http) else { return };
        let input = std::mem::take(&mut state.input);
        let alive = self.change_request(id, &input.front()[range], end);
        if let Some(state) = self.downstreams.get_mut(key).and_then(http) {
            state.input = input;
        }
        if !alive {
            return;
        }
        if let Some(stream) = self.streams.get(id).filter(|stream| stream.holds_request())
            && stream.flow.request_queue.len() < self.io.held.allowance(usize::MAX)
        {
            // What is kept is bounded by the filter; the client may send the rest.
            self.h2_release_request(id);
        }
        if end && self.streams.get(id).is_some_and(|s| !s.tunnel && !s.request_complete) {
            self.request_arrived(id);
        }
        if end {
            self.held_is_whole(id);
        }
        self.flush_request(id);
    }

    /// Passes on what waits for the endpoint, then the end of the request.
    pub(crate) fn flush_request(&mut self, id: Key) {
        self.report_filters(id);
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(conn) = stream.upstream() else { return };
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        if stream.upgrade && !stream.tunnel {
            return;
        }
        let mut paced = false;
        while !stream.flow.request_queue.is_empty() {
            let room = upstream_room(&self.io, upstream, stream).min(stream.flow.request_queue.len());
            let len = match &mut stream.filters {
                Some(filters) if room > 0 => filters.pace_request(room, self.io.now),
                _ => room,
            };
            if len == 0 {
                paced = room > 0;
                break;
            }
            let mut queue = std::mem::take(&mut stream.flow.request_queue);
            let last = stream.flow.request_end
                && len == queue.len()
                && stream.server.is_some()
                && stream.request_trailers.is_empty();
            let mut left = len;
            for slice in queue.slices() {
                let piece = &slice[..left.min(slice.len())];
                keep_replay(stream, upstream, &mut self.stats, &self.io.held, piece);
                left -= piece.len();
            }
            write_to_upstream(&mut self.io, upstream, stream, len, last, |out| queue.move_front(len, out));
            stream.flow.request_queue = queue;
        }
        let empty = stream.flow.request_queue.is_empty();
        if !empty || stream.flow.share.is_some() {
            stream.weigh(&self.io.held);
        }
        let freed = stream.flow.held_request.saturating_sub(stream.flow.request_queue.len());
        stream.flow.held_request -= freed;
        let (key, client, tunnel) = (stream.downstream, stream.client, stream.tunnel);
        let mirrored = stream.mirrors.is_some();
        // The last bytes of a tunnel may have carried its end; it is settled all the same.
        let told = if tunnel { stream.request_complete } else { stream.flow.request_end_sent };
        let ends = empty && stream.flow.request_end && !told;
        let goes_on = empty && client.is_none() && !stream.request_complete;
        if paced {
            self.await_request_pace(id);
        } else if !empty {
            self.await_upstream(id);
        }
        if freed > 0
            && let Some(client) = client
            && let Some(downstream) = self.downstreams.get_mut(key)
            && let Some(h2) = h2_of(&mut downstream.protocol)
        {
            h2.codec.release(client, freed);
            write_control(&mut h2.codec, &mut downstream.link, &mut self.io);
            if downstream.link.is_starved() {
                self.feed_client(key);
            }
        }
        if mirrored {
            self.feed_mirrors(id);
        }
        if ends && tunnel {
            self.tunnel_request_ended(id);
        } else if ends {
            self.end_request(id);
        } else if goes_on {
            self.run_later(key);
        }
    }

    /// Takes body bytes that an endpoint sent over HTTP/2; they are a range of its input.
    pub(super) fn h2_response_data(&mut self, conn: Key, id: Key, range: Range<usize>, end: bool) {
        let (now, scarce) = (self.io.now, self.io.is_scarce());
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Carries::Http2(h2) = &mut upstream.carries else { return };
        if stream.side.is_some() {
            return self.h2_discard_response_data(conn, id, range.len(), end);
        }
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        let len = range.len();
        stream.active = now;
        stream.facts.bytes.upstream_wire_received += (len + FRAME_HEADER_BYTES) as u64;
        if let Some(tracked) = &mut stream.tracked {
            tracked.received += len as u64;
        }
        stream.facts.times.upstream_rx_body_begin.get_or_insert(now);
        stream.flow.held_response += len;
        stream.flow.response_end |= end;
        match stream.response_use() {
            BodyUse::Bypass => {}
            BodyUse::Observe => {
                if let Some(filters) = &mut stream.filters {
                    filters.observe_response(&h2.input.front()[range.clone()]);
                }
            }
            BodyUse::Change => return self.h2_change_response(conn, id, range, end),
        }
        if len > 0 {
            let copy = scarce || len <= COPY_BYTES_MAX;
            let direct =
                stream.flow.response_queue.is_empty() && stream.response_started && !stream.is_paced();
            if direct && client_room(&self.io, downstream, stream) >= len {
                let last = end && stream.client.is_some();
                let input = &h2.input;
                write_to_client(&mut self.io, downstream, stream, len, last, |out| {
                    input.append_to(range, copy, out);
                });
            } else {
                h2.input.append_to(range, copy, &mut stream.flow.response_queue);
                stream.weigh(&self.io.held);
            }
        }
        if end {
            self.upstream_is_done(id);
        }
        self.flush_response(id);
    }

    /// As [`Shard::h2_response_data`], for a stream without a client: its endpoint may go on.
    fn h2_discard_response_data(&mut self, conn: Key, id: Key, len: usize, end: bool) {
        let server = self.streams.get(id).and_then(|stream| stream.server);
        if let Some(upstream) = self.upstreams.get_mut(conn)
            && let (Carries::Http2(h2), Some(link), Some(server)) =
                (&mut upstream.carries, &mut upstream.link, server)
        {
            h2.codec.release(server, len);
            write_control(&mut h2.codec, link, &mut self.io);
        }
        if end {
            self.side_is_answered(id);
        }
    }

    /// As [`Shard::h2_response_data`], for bytes that a filter replaces.
    fn h2_change_response(&mut self, conn: Key, id: Key, range: Range<usize>, end: bool) {
        let Some(Carries::Http2(h2)) = self.upstreams.get_mut(conn).map(|u| &mut u.carries) else { return };
        let input = std::mem::take(&mut h2.input);
        if end {
            self.upstream_is_done(id);
        }
        let alive = self.change_response(id, &input.front()[range], end);
        if let Some(Carries::Http2(h2)) = self.upstreams.get_mut(conn).map(|u| &mut u.carries) {
            h2.input = input;
        }
        if alive {
            self.flush_response(id);
        }
    }

    /// Passes on what waits for the client, then the end of the response.
    pub(crate) fn flush_response(&mut self, id: Key) {
        self.report_filters(id);
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !stream.response_started {
            return;
        }
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        let mut paced = false;
        let adds_trailers = stream.filters.as_ref().is_some_and(|filters| filters.adds_trailers());
        while !stream.flow.response_queue.is_empty() {
            let room = client_room(&self.io, downstream, stream).min(stream.flow.response_queue.len());
            let len = match &mut stream.filters {
                Some(filters) if room > 0 => filters.pace_response(room, self.io.now),
                _ => room,
            };
            if len == 0 {
                paced = room > 0;
                break;
            }
            let mut queue = std::mem::take(&mut stream.flow.response_queue);
            let last = stream.flow.response_end
                && len == queue.len()
                && stream.client.is_some()
                && stream.trailers.is_empty()
                && !adds_trailers;
            write_to_client(&mut self.io, downstream, stream, len, last, |out| queue.move_front(len, out));
            stream.flow.response_queue = queue;
        }
        let empty = stream.flow.response_queue.is_empty();
        if !empty || stream.flow.share.is_some() {
            stream.weigh(&self.io.held);
        }
        let freed = stream.flow.held_response.saturating_sub(stream.flow.response_queue.len());
        stream.flow.held_response -= freed;
        let (server, conn, tunnel) = (stream.server, stream.upstream(), stream.tunnel);
        let ends = empty && stream.flow.response_end && !stream.response_complete;
        let flushes = !empty && !paced && stream.flow.response_end && stream.begin_flush(self.io.now);
        if let Some(filters) = stream.filters.as_ref().filter(|_| ends && adds_trailers && !tunnel) {
            filters.last_trailers(&mut stream.trailers);
        }
        if paced {
            self.await_pace(id);
        } else if !empty {
            self.await_client(id);
        }
        if flushes {
            self.rearm_stream(id);
        }
        if freed > 0
            && let (Some(server), Some(conn)) = (server, conn)
            && let Some(upstream) = self.upstreams.get_mut(conn)
            && let (Carries::Http2(h2), Some(link)) = (&mut upstream.carries, &mut upstream.link)
        {
            h2.codec.release(server, freed);
            write_control(&mut h2.codec, link, &mut self.io);
        }
        match (ends, tunnel) {
            (true, true) => self.tunnel_response_ended(id),
            (true, false) => self.response_arrived(id),
            (false, _) => {}
        }
    }
}
