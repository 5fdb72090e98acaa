//! What an endpoint answers: heads are cut out of received bytes and become the client's response.

use millrace_base::{Key, ResponseFlag};
use millrace_filter::http::connection_manager::response::{self as manager, ResponseContext};
use millrace_filter::http::router::mutation::Levels;
use millrace_filter::http::router::response::{self as router, ResponseFacts};
use millrace_filter::http::router::retry::ResetReason;
use millrace_http::Version;
use millrace_http::h1::{
    BodyFraming, ConnectionLine, EncodeOptions, Parsed, RequestInfo, encode_response, parse_response,
};
use millrace_http::hop;
use millrace_observe::stats::{cluster as metric, http as http_metric};
use millrace_ring::{Filled, IoError};
use millrace_route::Selected;
use millrace_upstream::TryResult;

use super::filters::HeadVerdict;
use super::render::Renderer;
use super::request::http;
use super::stream::Attempt;
use super::{Closing, INPUT_BYTES_MAX, body_framing};
use crate::downstream::Protocol;
use crate::link::low_watermark;
use crate::shard::Shard;
use crate::upstream::{Carries, EndedBy};

impl Shard {
    pub(crate) fn http_upstream_data(&mut self, conn: Key, data: Filled) {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Carries::Http(http) = &mut upstream.carries else { return };
        if http.stream.is_none() {
            // Nobody asked: what comes unasked could be taken for the next answer.
            self.stats.inc(upstream.scope, metric::UPSTREAM_CX_PROTOCOL_ERROR);
            return self.close_upstream(conn, EndedBy::Remote);
        }
        http.input.push(data);
        self.pump_response(conn);
    }

    /// Consumes the answer as far as possible.
    pub(super) fn pump_response(&mut self, conn: Key) {
        loop {
            let Some(upstream) = self.upstreams.get_mut(conn) else { return };
            let Carries::Http(http) = &mut upstream.carries else { return };
            let Some(id) = http.stream else { break };
            if http.input.is_empty() {
                if std::mem::take(&mut http.ended) {
                    self.http_upstream_ended(conn, Ok(()));
                }
                return;
            }
            let progress = match http.head_done {
                false => self.read_response_head(conn, id),
                true => self.forward_response_body(conn, id),
            };
            if !progress {
                break;
            }
        }
        self.park_response(conn);
    }

    /// As for requests: what has to wait gives its buffers back when they are scarce, and stays bounded.
    fn park_response(&mut self, conn: Key) {
        let scarce = self.io.is_scarce();
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Carries::Http(http) = &mut upstream.carries else { return };
        if scarce || !http.head_done {
            http.input.release_buffers(&self.io.held);
        }
        if http.input.len() >= self.io.held.allowance(INPUT_BYTES_MAX)
            && http.head_done
            && let Some(link) = &mut upstream.link
        {
            link.pause(&mut self.io);
        }
    }

    fn read_response_head(&mut self, conn: Key, id: Key) -> bool {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return false };
        let Carries::Http(http) = &mut upstream.carries else { return false };
        let Some(stream) = self.streams.get_mut(id) else { return false };
        // Of the cluster as this shard knows it: it may have left the configuration meanwhile.
        let Some(state) = self.clusters.get(upstream.cluster) else { return false };
        let options = &state.config().http;
        self.response_parse.head_bytes_max = options.h1_head_bytes_max();
        self.response_parse.head_fields_max = usize::from(options.head_fields_max);
        self.response_parse.preserve_case = options.preserve_case;
        stream.facts.times.upstream_rx_begin.get_or_insert(self.io.now);
        loop {
            if http.scanner.ready(http.input.front(), self.response_parse.head_bytes_max) {
                let front = http.input.front();
                match parse_response(front, &self.response_parse, &http.info, &mut stream.response) {
                    Ok(Parsed::Complete { consumed, framing }) => {
                        http.input.consume(consumed);
                        http.scanner.reset();
                        let bytes = &mut stream.facts.bytes;
                        bytes.upstream_header_received += consumed as u64;
                        bytes.upstream_wire_received += consumed as u64;
                        return self.response_head(conn, id, framing);
                    }
                    Ok(Parsed::Incomplete) => {}
                    Err(_) => {
                        let scope = upstream.scope;
                        self.stats.inc(scope, metric::UPSTREAM_CX_PROTOCOL_ERROR);
                        stream.response.clear();
                        self.drop_attempt(id, EndedBy::Local);
                        self.attempt_failed(id, ResetReason::ProtocolError, true);
                        return false;
                    }
                }
            }
            if !http.input.join_front(&self.io.held) {
                return false;
            }
        }
    }

    /// Turns the endpoint's head into the client's and sends it. False when the client gets another answer.
    pub(super) fn send_response_head(&mut self, conn: Key, id: Key, framing: BodyFraming) -> bool {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let (Some(options), Some(plan)) = (stream.options.clone(), stream.facts.plan) else { return false };
        let Some(downstream) = self.downstreams.get(stream.downstream) else { return false };
        stream.facts.details = "via_upstream".into();
        stream.active = now;
        hop::strip_response(&mut stream.response);
        if let Some(config) = &options.routes
            && let Some(virtual_host) = config.virtual_hosts.get(plan.virtual_host)
            && let Some(route) = virtual_host.routes.get(plan.route)
        {
            let entry = plan.weighted_entry(&options);
            let levels = Levels { config, selected: Selected { virtual_host, route }, weighted: entry };
            let service_time = stream.facts.times.downstream_rx_end.map(|end| now.since(end));
            let facts = ResponseFacts { attempts: stream.facts.attempts, service_time };
            let renderer = Renderer {
                downstream,
                options: Some(&options),
                facts: &stream.facts,
                shard: &self.names,
                snapshot: &self.snapshot,
            };
            let head = &mut stream.response;
            let scratch = &mut self.scratch;
            router::finalize(&levels, options.router, facts, &renderer, &stream.request, head, scratch);
        }
        for cookie in stream.facts.balance.cookies.drain(..) {
            stream.response.headers.append(b"set-cookie", &cookie);
        }
        let tunnel = framing == BodyFraming::Tunnel;
        let (whole, filtered) = (stream.flow.response_end && !tunnel, stream.filters.is_some());
        let ended = self.upstreams.get(conn).is_some_and(|u| match &u.carries {
            Carries::Http(http) => http.body.is_done(),
            Carries::Http2(_) => whole,
            Carries::Tcp(_) => false,
        });
        let mut waits = false;
        if filtered {
            match self.filter_response_head(id, ended) {
                HeadVerdict::GivesWay(instead) => {
                    self.give_way(id, Some(conn), instead);
                    return false;
                }
                HeadVerdict::Waits => waits = !ended,
                HeadVerdict::Passes { before } => self.note_status(id, before),
            }
        }
        if tunnel {
            self.become_tunnel(id);
        }
        if waits {
            return true;
        }
        if filtered {
            let framing = self.streams.get(id).map_or(framing, |s| match framing {
                // The end of what has no body may come later, over HTTP/2.
                BodyFraming::Tunnel | BodyFraming::None => framing,
                _ => body_framing(&s.response.headers, ended),
            });
            self.write_response_head(id, framing, ended);
        } else {
            self.write_response_head(id, framing, ended);
        }
        if ended {
            self.response_arrived(id);
        }
        true
    }

    /// The cluster is told what its endpoint has answered, although filters have changed that.
    fn note_status(&mut self, id: Key, answered: u16) {
        if let Some(stream) = self.streams.get_mut(id).filter(|s| s.response.status != answered) {
            stream.facts.cluster_status.get_or_insert(answered);
        }
    }

    /// Applies the connection manager's rules and puts the head into the client's queue.
    /// With `end` nothing follows it.
    pub(super) fn write_response_head(&mut self, id: Key, framing: BodyFraming, end: bool) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(options) = stream.options.clone() else { return };
        let key = stream.downstream;
        let refused = !self.overload.is_calm() && self.refuses_keepalive(key, &options.hcm);
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let draining = refused || downstream.origin.is_draining(&self.shared);
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        let http10 = stream.request.version == Version::Http10;
        let unbounded = matches!(framing, BodyFraming::Chunked | BodyFraming::UntilClose);
        stream.response_framing = match framing {
            _ if unbounded && http10 => BodyFraming::UntilClose,
            _ if unbounded => BodyFraming::Chunked,
            other => other,
        };
        // Bytes behind the head of an upgrade are part of that request. As in Envoy, a response that comes
        // before all of its request ends the connection.
        let early = !stream.request_complete || stream.wants_upgrade();
        if early {
            self.stats.inc(options.hcm.scope, http_metric::DOWNSTREAM_RQ_RESPONSE_BEFORE_RQ_COMPLETE);
        }
        if stream.client.is_some() {
            return self.h2_write_response_head(id, end, draining);
        }
        if (draining || http.drains) && http.closing == Closing::No {
            self.stats.inc(options.hcm.scope, http_metric::DOWNSTREAM_CX_DRAIN_CLOSE);
            http.closing = Closing::AfterResponse;
        }
        if early || stream.response_framing == BodyFraming::UntilClose {
            http.closing = Closing::AfterResponse;
        }
        let close = http.closing != Closing::No && !stream.tunnel;
        let context =
            ResponseContext { hcm: &options.hcm, request: Some(&stream.request), now: self.wall, close };
        manager::mutate(&context, &mut self.date, &mut stream.response, &mut self.scratch);
        let connection = match (close, http10) {
            (true, _) => ConnectionLine::Close,
            (false, true) => ConnectionLine::KeepAlive,
            (false, false) => ConnectionLine::FromMap,
        };
        // Measured: Envoy 1.40 answers in the client's version once HTTP/1.0 is accepted.
        let version = if http10 && options.parse.accept_http_10 { Version::Http10 } else { Version::Http11 };
        let encode = EncodeOptions { connection, version, ..options.encode };
        let info = RequestInfo { head: stream.is_head, ..RequestInfo::of(&stream.request) };
        let (head, framing) = (&stream.response, stream.response_framing);
        let mut head_bytes = 0;
        downstream.link.write(&mut self.io, |payload| {
            payload.write_with(|out| {
                let before = out.len();
                encode_response(head, framing, &info, &encode, out);
                head_bytes = out.len() - before;
            });
        });
        stream.head_is_sent(now, head_bytes);
    }

    /// The endpoint closed its half, or the connection failed.
    pub(crate) fn http_upstream_ended(&mut self, conn: Key, end: Result<(), IoError>) {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Carries::Http(http) = &mut upstream.carries else { return };
        let Some(id) = http.stream else {
            return self.close_upstream(conn, EndedBy::Remote);
        };
        let scope = upstream.scope;
        let started = http.request_sent || upstream.link.as_ref().is_none_or(|l| l.is_sending());
        if http.head_done
            && end.is_ok()
            && !http.input.is_empty()
            && self.streams.get(id).is_some_and(|s| s.flow.awaits_client || s.filters.is_some())
        {
            http.ended = true;
            return;
        }
        let complete = http.head_done && end.is_ok() && http.input.is_empty() && http.body.eof().is_ok();
        if complete {
            let tunnel = self.streams.get(id).is_some_and(|s| s.tunnel);
            return match tunnel {
                true => self.tunnel_response_ended(id),
                false => self.response_has_ended(id),
            };
        }
        if http.head_done {
            // Envoy's codec is told of the end first, and takes a message cut short for a malformed one.
            let tunnel = self.streams.get(id).is_some_and(|s| s.tunnel);
            if !tunnel {
                self.stats.inc(scope, metric::UPSTREAM_CX_PROTOCOL_ERROR);
            }
            return self.response_broken(id, !tunnel, EndedBy::Remote);
        }
        let reason = match http.input.is_empty() {
            true => ResetReason::ConnectionTermination,
            false => {
                self.stats.inc(scope, metric::UPSTREAM_CX_PROTOCOL_ERROR);
                ResetReason::ProtocolError
            }
        };
        self.drop_attempt(id, EndedBy::Remote);
        self.attempt_failed(id, reason, started);
    }

    /// The endpoint closed its half of a tunnel.
    pub(super) fn tunnel_response_ended(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.response_complete = true;
        if !stream.request_complete && stream.server.is_none() {
            stream.flag(ResponseFlag::UpstreamConnectionTermination);
            stream.facts.details = "upstream_reset_after_response_started{connection_termination}".into();
        }
        if stream.client.is_some() {
            self.h2_write_end(id);
        } else if let Some(downstream) = self.downstreams.get_mut(stream.downstream) {
            downstream.link.shutdown(&mut self.io);
        }
        self.tunnel_settle(id);
    }

    /// The answer ended in the middle: the client must see that it is not whole.
    pub(super) fn response_broken(&mut self, id: Key, malformed: bool, by: EndedBy) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let (flag, details) = match malformed {
            true => {
                (ResponseFlag::UpstreamProtocolError, "upstream_reset_after_response_started{protocol_error}")
            }
            false => (
                ResponseFlag::UpstreamConnectionTermination,
                "upstream_reset_after_response_started{connection_termination}",
            ),
        };
        stream.flag(flag);
        stream.facts.details = details.into();
        self.report_try(id, TryResult::Failed);
        self.abort_stream(id, by);
    }

    pub(crate) fn http_upstream_sent(&mut self, conn: Key, result: Result<usize, IoError>) {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Carries::Http(http) = &mut upstream.carries else { return };
        http.request_sent = true;
        let Some(link) = &upstream.link else { return };
        // A failed send shows as a failed receive, too, and an answer may have come before it: that counts.
        if result.is_err() && link.is_ended() {
            // Only a tunnel outlives the endpoint's FIN, and now the other direction is gone as well.
            if let Some(id) = http.stream {
                self.abort_stream(id, EndedBy::Remote);
            }
            return;
        }
        let drained = link.queued() <= low_watermark(upstream.buffer_limit);
        let Some(id) = http.stream.filter(|_| drained) else { return };
        let Some(stream) = self.streams.get_mut(id) else { return };
        // Another try with the same bytes is no activity of the stream.
        if !stream.request_complete || stream.tunnel {
            stream.active = self.io.now;
        }
        if stream.client.is_some() || !stream.flow.request_queue.is_empty() {
            self.flush_request(id);
        } else if stream.attempt == Attempt::Sent(conn) && (!stream.request_complete || stream.tunnel) {
            let key = stream.downstream;
            self.run_later(key);
        }
        self.tunnel_settle(id);
    }

    /// Goes on reading the answer once the client has taken enough of it.
    pub(super) fn resume_response(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let limit = downstream.origin.listener.buffer_limit_bytes;
        let low = downstream.link.queued() <= low_watermark(limit);
        let Some(id) = http(downstream).and_then(|h| h.stream).filter(|_| low) else { return };
        let Some(stream) = self.streams.get(id) else { return };
        if stream.filters.is_some() {
            // What was received and not shown to them yet waits for the same room.
            return self.resume_response_of(id);
        }
        if stream.server.is_some() || !stream.flow.response_queue.is_empty() {
            return self.flush_response(id);
        }
        let Some(conn) = stream.upstream() else { return };
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Some(link) = &mut upstream.link else { return };
        if link.is_paused() {
            link.resume(&mut self.io);
            self.stats.inc(upstream.scope, metric::UPSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
        }
        if link.is_ready_for_relay() {
            self.http_start_relay(key);
        }
    }
}
