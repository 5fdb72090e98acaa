//! Connections to endpoints that speak HTTP/2: requests leave on them, their events become responses.

use millrace_base::{Key, ResponseFlag, Time};
use millrace_filter::http::router::retry::ResetReason;
use millrace_http::Version;
use millrace_http::h1::{BodyFraming, RequestInfo, response_opens_tunnel};
use millrace_http::h2::{ErrorCode, Event, Side};
use millrace_observe::stats::{cluster as metric, host as host_metric};
use millrace_ring::{Filled, IoError};

use super::super::stream::Attempt;
use super::super::{Stream, body_framing};
use super::write_control;
use crate::shard::Shard;
use crate::upstream::{Carries, EndedBy};

impl Shard {
    pub(crate) fn h2_upstream_data(&mut self, conn: Key, data: Filled) {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Carries::Http2(h2) = &mut upstream.carries else { return };
        h2.input.push(data);
        h2.keepalive.heard(self.io.now);
        self.h2_upstream_pump(conn);
    }

    /// Takes frames out of the input as far as they are complete.
    fn h2_upstream_pump(&mut self, conn: Key) {
        loop {
            let now = self.io.now;
            let Some(upstream) = self.upstreams.get_mut(conn) else { return };
            let Carries::Http2(h2) = &mut upstream.carries else { return };
            if h2.input.is_empty() {
                break;
            }
            match h2.codec.receive(h2.input.front(), now, &mut self.heads) {
                Ok(step) => match step.event {
                    Event::NeedMore => {
                        h2.input.consume(step.consumed);
                        if !h2.input.join_front(&self.io.held) {
                            break;
                        }
                    }
                    Event::Data { user, range, end, .. } => {
                        self.h2_response_data(conn, Key::unpack(user).1, range, end);
                        if let Some(Carries::Http2(h2)) = self.upstreams.get_mut(conn).map(|u| &mut u.carries)
                        {
                            h2.input.consume(step.consumed);
                        }
                    }
                    event => {
                        h2.input.consume(step.consumed);
                        self.h2_upstream_event(conn, event);
                    }
                },
                Err(_) => {
                    self.stats.inc(upstream.scope, metric::UPSTREAM_CX_PROTOCOL_ERROR);
                    self.h2_count_upstream(conn);
                    return self.h2_upstream_gone(conn, ResetReason::ProtocolError, EndedBy::Local);
                }
            }
        }
        self.h2_count_upstream(conn);
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        if let (Carries::Http2(h2), Some(link)) = (&mut upstream.carries, &mut upstream.link) {
            if !h2.input.is_empty() {
                h2.input.release_buffers(&self.io.held);
            }
            write_control(&mut h2.codec, link, &mut self.io);
        }
    }

    fn h2_upstream_event(&mut self, conn: Key, event: Event) {
        match event {
            Event::Response { user, end, head_bytes, .. } => {
                self.h2_response(conn, Key::unpack(user).1, end, head_bytes);
            }
            Event::Informational { user, .. } => {
                let id = Key::unpack(user).1;
                if let Some(stream) = self.streams.get_mut(id) {
                    std::mem::swap(&mut stream.response, &mut self.heads.response);
                    self.informational(id);
                }
            }
            Event::Trailers { user, .. } => self.h2_response_trailers(Key::unpack(user).1),
            Event::Reset { user, code, by, .. } => {
                self.h2_upstream_reset(conn, Key::unpack(user).1, code, by)
            }
            Event::StreamWritable { user, .. } => self.upstream_has_room(conn, Key::unpack(user).1),
            Event::ConnectionWritable => self.resume_upstreams(conn),
            Event::Settings => self.h2_stream_limit(conn),
            Event::GoAway { .. } => self.h2_upstream_goes_away(conn),
            Event::Pong => {
                if let Some(Carries::Http2(h2)) = self.upstreams.get_mut(conn).map(|u| &mut u.carries) {
                    h2.keepalive.answered();
                }
            }
            // Of the other role, or dealt with by the caller.
            Event::NeedMore
            | Event::Progress
            | Event::Request { .. }
            | Event::TooLarge { .. }
            | Event::Data { .. } => {}
        }
    }

    /// The endpoint said how many streams it serves at a time.
    fn h2_stream_limit(&mut self, conn: Key) {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Carries::Http2(h2) = &upstream.carries else { return };
        let (cluster, pool, streams) = (upstream.cluster, upstream.pool, h2.codec.peer_max_streams());
        if let Some(state) = self.clusters.get_mut(cluster) {
            state.set_stream_limit(pool, streams, &mut self.actions);
        }
        self.run_pool_actions(cluster);
    }

    /// The endpoint takes no new streams here (GOAWAY).
    fn h2_upstream_goes_away(&mut self, conn: Key) {
        let Some(upstream) = self.upstreams.get(conn) else { return };
        let (cluster, pool, scope) = (upstream.cluster, upstream.pool, upstream.scope);
        self.stats.inc(scope, metric::UPSTREAM_CX_CLOSE_NOTIFY);
        if let Some(state) = self.clusters.get_mut(cluster) {
            state.retire_conn(pool, &mut self.actions);
        }
        self.run_pool_actions(cluster);
    }

    /// Writes the request head to a connection that speaks HTTP/2.
    pub(crate) fn h2_send_request(&mut self, id: Key, conn: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let (Carries::Http2(h2), Some(link)) = (&mut upstream.carries, &mut upstream.link) else { return };
        // What was sent before a retry is sent again, in front of what is still to come.
        if let Some(mirrors) = &mut stream.mirrors {
            mirrors.goes_on_from(0);
        }
        if !stream.replay.is_empty() {
            let mut again = millrace_ring::Payload::new();
            again.push_bytes(&stream.replay);
            again.append(&mut stream.flow.request_queue);
            stream.flow.request_queue = again;
            stream.replay.clear();
        }
        stream.flow.request_end |= stream.client.is_none() && stream.request_complete && !stream.upgrade;
        let whole = stream.flow.request_end
            && stream.flow.request_queue.is_empty()
            && stream.request_trailers.is_empty();
        let end = whole && !stream.upgrade;
        let (head, mut sent, mut head_bytes) = (&stream.request, None, 0);
        link.write(&mut self.io, |out| {
            out.write_with(|bytes| {
                let before = bytes.len();
                sent = h2.codec.send_request(head, id.pack(0), end, bytes);
                head_bytes = bytes.len() - before;
            });
        });
        write_control(&mut h2.codec, link, &mut self.io);
        h2.outbound_frames += 1;
        if h2.is_flooded() {
            self.stats.inc(upstream.scope, metric::HTTP2_OUTBOUND_FLOOD);
            stream.attempt = Attempt::None;
            self.h2_upstream_gone(conn, ResetReason::ConnectionTermination, EndedBy::Local);
            return self.attempt_failed(id, ResetReason::ConnectionTermination, false);
        }
        let Some(server) = sent else {
            // The endpoint lowered its limit, or went away, after the pool had looked.
            return self.h2_not_sent(id, conn);
        };
        stream.server = Some(server);
        self.stats.gauge_inc(upstream.scope, metric::HTTP2_STREAMS_ACTIVE);
        stream.flow.request_end_sent = end;
        stream.attempt = Attempt::Sent(conn);
        let facts = &mut stream.facts;
        facts.upstream_version = Version::Http2;
        facts.bytes.upstream_header_sent += head_bytes as u64;
        facts.bytes.upstream_wire_sent += head_bytes as u64;
        if end {
            facts.times.upstream_tx_end = Some(now);
        }
        self.request_is_sent(id, conn);
    }

    /// The connection took no more streams: the pool chose it too late.
    fn h2_not_sent(&mut self, id: Key, conn: Key) {
        let Some(upstream) = self.upstreams.get(conn) else { return };
        let (cluster, pool) = (upstream.cluster, upstream.pool);
        if let Some(state) = self.clusters.get_mut(cluster) {
            state.stream_ended(pool, self.io.now, &mut self.actions);
        }
        self.run_pool_actions(cluster);
        self.attempt_failed(id, ResetReason::RefusedStream, false);
    }

    fn h2_response(&mut self, conn: Key, id: Key, end: bool, head_bytes: u32) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        std::mem::swap(&mut stream.response, &mut self.heads.response);
        stream.facts.times.upstream_rx_begin.get_or_insert(now);
        let bytes = &mut stream.facts.bytes;
        bytes.upstream_header_received += u64::from(head_bytes);
        bytes.upstream_wire_received += u64::from(head_bytes);
        stream.flow.response_end = end;
        let tunnel = response_opens_tunnel(stream.response.status, &RequestInfo::of(&stream.request));
        // An empty DATA frame may follow what has no body; a chunked one must not be made of it.
        let bodiless = stream.is_head || matches!(stream.response.status, 204 | 304);
        let framing = match tunnel {
            true => BodyFraming::Tunnel,
            false => body_framing(&stream.response.headers, end || bodiless),
        };
        self.response_head(conn, id, framing);
    }

    fn h2_response_trailers(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.active = now;
        std::mem::swap(&mut stream.trailers, &mut self.heads.trailers);
        stream.flow.response_end = true;
        if stream.side.is_some() {
            return self.side_is_answered(id);
        }
        self.upstream_is_done(id);
        if self.filter_trailers(id) {
            self.flush_response(id);
        }
    }

    /// The endpoint has sent everything: its side of the exchange is over, whatever the client has taken of it.
    pub(crate) fn upstream_is_done(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.tunnel {
            return;
        }
        stream.facts.times.upstream_rx_end = Some(now);
        stream.response_deadline = Time::MAX;
        stream.try_deadline = Time::MAX;
        self.judge_end(id, true);
        self.release_upstream(id);
    }

    /// The endpoint gave a stream up, or broke the rules on it; the codec has forgotten it.
    fn h2_upstream_reset(&mut self, conn: Key, id: Key, code: ErrorCode, by: Side) {
        let Some(scope) = self.upstreams.get(conn).map(|u| u.scope) else { return };
        let (reason, counter) = match (by, code) {
            (Side::Us, _) => (ResetReason::ProtocolError, Some(metric::UPSTREAM_RQ_TX_RESET)),
            // As in Envoy: nothing is wrong with who refuses, and a protocol error counts as ours whoever tells it.
            (Side::Peer, ErrorCode::RefusedStream) => (ResetReason::RefusedStream, None),
            (Side::Peer, ErrorCode::Protocol) => {
                (ResetReason::ProtocolError, Some(metric::UPSTREAM_RQ_TX_RESET))
            }
            (Side::Peer, ErrorCode::NoError) => {
                if self.streams.get(id).is_some_and(|stream| stream.flow.response_end) {
                    self.stats.inc(scope, metric::UPSTREAM_RQ_RX_RESET_NO_ERROR);
                }
                (ResetReason::RemoteReset, Some(metric::UPSTREAM_RQ_RX_RESET))
            }
            (Side::Peer, _) => (ResetReason::RemoteReset, Some(metric::UPSTREAM_RQ_RX_RESET)),
        };
        if let Some(counter) = counter {
            self.stats.inc(scope, counter);
        }
        self.h2_leave_upstream(id);
        self.upstream_stream_failed(id, reason);
    }

    /// The exchange of a stream ended badly; the stream is off its connection already.
    fn upstream_stream_failed(&mut self, id: Key, reason: ResetReason) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !stream.response_started {
            stream.response.clear();
            return self.attempt_failed(id, reason, true);
        }
        let (flag, details) = match reason {
            ResetReason::ProtocolError => {
                (ResponseFlag::UpstreamProtocolError, "upstream_reset_after_response_started{protocol_error}")
            }
            ResetReason::RemoteReset | ResetReason::RefusedStream => {
                (ResponseFlag::UpstreamRemoteReset, "upstream_reset_after_response_started{remote_reset}")
            }
            _ => (
                ResponseFlag::UpstreamConnectionTermination,
                "upstream_reset_after_response_started{connection_termination}",
            ),
        };
        stream.flag(flag);
        stream.facts.details = details.into();
        self.abort_stream(id, EndedBy::Remote);
    }

    /// Takes a stream off its HTTP/2 connection, which serves on; the codec has forgotten the stream, or is about to.
    pub(crate) fn h2_leave_upstream(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        let (Attempt::Sent(conn), Some(server)) = (stream.attempt, stream.server) else { return };
        let waited = std::mem::take(&mut stream.flow.awaits_upstream);
        let held = std::mem::take(&mut stream.flow.held_response);
        stream.attempt = Attempt::None;
        stream.server = None;
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let (cluster, pool) = (upstream.cluster, upstream.pool);
        self.stats.gauge_dec(upstream.scope, metric::HTTP2_STREAMS_ACTIVE);
        self.stats.gauge_dec(upstream.scope, metric::UPSTREAM_RQ_ACTIVE);
        self.stats.gauge_dec(upstream.host_scope, host_metric::RQ_ACTIVE);
        if let (Carries::Http2(h2), Some(link)) = (&mut upstream.carries, &mut upstream.link) {
            if held > 0 {
                h2.codec.release(server, held);
            }
            if waited {
                super::waiting::forget_waiting(&mut h2.waiting, id);
            }
            write_control(&mut h2.codec, link, &mut self.io);
        }
        if let Some(state) = self.clusters.get_mut(cluster) {
            state.stream_ended(pool, now, &mut self.actions);
        }
        self.run_pool_actions(cluster);
    }

    /// Tells the endpoint that the stream is not wanted any more.
    pub(crate) fn h2_cancel(&mut self, id: Key, code: ErrorCode) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let (Some(conn), Some(server)) = (stream.upstream(), stream.server) else { return };
        if let Some(upstream) = self.upstreams.get_mut(conn)
            && let (Carries::Http2(h2), Some(link)) = (&mut upstream.carries, &mut upstream.link)
        {
            h2.codec.reset(server, code);
            write_control(&mut h2.codec, link, &mut self.io);
            self.stats.inc(upstream.scope, metric::UPSTREAM_RQ_TX_RESET);
        }
        self.h2_count_upstream(conn);
        self.h2_leave_upstream(id);
    }

    /// The answer of a try that is repeated is thrown away; the connection serves on.
    pub(crate) fn h2_retire_answer(&mut self, id: Key, conn: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        // The next try is decided on; this one is still on its connection.
        let next = std::mem::replace(&mut stream.attempt, Attempt::Sent(conn));
        match stream.flow.response_end && stream.flow.request_end_sent {
            true => self.h2_leave_upstream(id),
            false => self.h2_cancel(id, ErrorCode::Cancel),
        }
        if let Some(stream) = self.streams.get_mut(id) {
            stream.attempt = next;
        }
    }

    /// A connection ended, or is ended: its streams fail, each on its own.
    pub(crate) fn h2_upstream_gone(&mut self, conn: Key, reason: ResetReason, by: EndedBy) {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let (cluster, pool) = (upstream.cluster, upstream.pool);
        let Carries::Http2(h2) = &mut upstream.carries else { return };
        h2.gone = Some(by);
        let users: Vec<Key> = h2.codec.users().map(|(_, user)| Key::unpack(user).1).collect();
        if let Some(link) = &mut upstream.link {
            // GOAWAY, if that is why.
            write_control(&mut h2.codec, link, &mut self.io);
        }
        if !users.is_empty() {
            let active = match by {
                EndedBy::Local => metric::UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ,
                EndedBy::Remote => metric::UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ,
            };
            self.stats.inc(upstream.scope, metric::UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ);
            self.stats.inc(upstream.scope, active);
            if by == EndedBy::Remote {
                let ejected = metric::UPSTREAM_RQ_PENDING_FAILURE_EJECT;
                self.stats.add(upstream.scope, ejected, users.len() as u64);
            }
        }
        // No retry may choose it.
        if let Some(state) = self.clusters.get_mut(cluster) {
            state.retire_conn(pool, &mut self.actions);
        }
        self.run_pool_actions(cluster);
        // Tunnels whose both ends were said are forgotten by the codec, and may have bytes for their client.
        let told = |id: &Key, stream: &Stream| stream.upstream() == Some(conn) && !users.contains(id);
        let over: Vec<Key> = self.streams.iter().filter(|(id, s)| told(id, s)).map(|(id, _)| id).collect();
        for id in over {
            self.h2_leave_upstream(id);
            self.tunnel_settle(id);
        }
        for id in users {
            if self.streams.get(id).is_some_and(|s| s.upstream() == Some(conn)) {
                self.h2_leave_upstream(id);
                self.upstream_stream_failed(id, reason);
            }
        }
        self.close_upstream(conn, by);
    }

    /// The endpoint closed its half, or the connection failed.
    pub(crate) fn h2_upstream_ended(&mut self, conn: Key, _end: Result<(), IoError>) {
        self.h2_upstream_gone(conn, ResetReason::ConnectionTermination, EndedBy::Remote);
    }

    /// A send to the endpoint is through.
    pub(crate) fn h2_upstream_sent(&mut self, conn: Key, result: Result<usize, IoError>) {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let limit = upstream.buffer_limit;
        let (Carries::Http2(h2), Some(link)) = (&mut upstream.carries, &mut upstream.link) else { return };
        if result.is_err() {
            // Shows as a failed receive, too, unless that side had ended already.
            if link.is_ended() {
                self.h2_upstream_gone(conn, ResetReason::ConnectionTermination, EndedBy::Remote);
            }
            return;
        }
        h2.codec.flushed();
        if link.queued() == 0 {
            h2.outbound_frames = 0;
        }
        if link.queued() <= crate::link::low_watermark(limit) {
            self.resume_upstreams(conn);
        }
    }

    /// PINGs, and the end of a connection that does not answer them.
    pub(crate) fn h2_upstream_timer(&mut self, conn: Key) {
        let now = self.io.now;
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let cluster = upstream.cluster;
        let (Carries::Http2(h2), Some(link)) = (&mut upstream.carries, &mut upstream.link) else { return };
        if h2.lifetime_end <= now {
            h2.lifetime_end = Time::MAX;
            if let Some(state) = self.clusters.get_mut(cluster) {
                state.expire(now, &mut self.actions);
            }
            return self.run_pool_actions(cluster);
        }
        if h2.keepalive.is_dead(now) {
            self.stats.inc(upstream.scope, metric::HTTP2_KEEPALIVE_TIMEOUT);
            return self.h2_upstream_gone(conn, ResetReason::ConnectionTermination, EndedBy::Local);
        }
        h2.keepalive.run(&mut h2.codec, now, &mut self.rng);
        write_control(&mut h2.codec, link, &mut self.io);
    }
}
