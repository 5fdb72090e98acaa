//! The end of a stream: its connection is given back, its numbers counted, its line logged; and the end of
//! downstream HTTP connections.

use millrace_base::{Key, ResponseFlag, Written};
use millrace_config::{ClusterId, ScopeId};
use millrace_http::h1::BodyFraming;
use millrace_http::h2::{ErrorCode, GoAway};
use millrace_observe::access_log::AccessLogType;
use millrace_observe::stats::{Counter, ShardStats, cluster as cluster_metric, http as metric, http2};
use millrace_ring::IoError;

use super::Closing;
use super::h2::write_control;
use super::render::Renderer;
use super::request::http;
use super::stream::{Attempt, Stream};
use crate::downstream::Protocol;
use crate::listener::QUIET_TIME;
use crate::shard::Shard;
use crate::upstream::{Carries, EndedBy};

/// Counts for the route's `stat_prefix` and for the virtual cluster.
#[inline]
pub(super) fn tally(stats: &mut ShardStats, stream: &Stream, counter: Counter) {
    for scope in stream.tallies.iter().flatten() {
        stats.inc(*scope, counter);
    }
}

impl Shard {
    /// Gives the connection of a complete exchange back to its pool.
    pub(super) fn release_upstream(&mut self, id: Key) {
        self.budget_is_used(id, false);
        self.try_is_over(id);
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Attempt::Sent(conn) = stream.attempt else { return };
        if stream.server.is_some() {
            return match stream.flow.request_end_sent {
                true => self.h2_leave_upstream(id),
                false => self.h2_cancel(id, ErrorCode::NoError),
            };
        }
        stream.attempt = Attempt::None;
        let complete = stream.request_complete && stream.flow.request_queue.is_empty() && !stream.tunnel;
        let Some(upstream) = self.upstreams.get(conn) else { return };
        let Carries::Http(http) = &upstream.carries else { return };
        // An answer that came before all of the request had left says nothing about where the peer stands.
        let sent = upstream.link.as_ref().is_some_and(|l| l.queued() == 0 && !l.is_ended());
        if !stream.request_complete && !stream.tunnel {
            // The rest of the request is not wanted.
            self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ);
            self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ);
        }
        if complete && sent && !http.input.is_empty() {
            // More than the answer: nobody asked for it.
            self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_CX_PROTOCOL_ERROR);
        }
        let reusable = complete && sent && http.keep_alive && http.input.is_empty();
        self.give_back(conn, reusable);
    }

    /// Takes the exchange off a connection; the pool reuses or closes it.
    pub(super) fn give_back(&mut self, conn: Key, reusable: bool) {
        self.leave_upstream(conn);
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let (cluster, pool) = (upstream.cluster, upstream.pool);
        if reusable && let Some(link) = &mut upstream.link {
            link.resume(&mut self.io);
        }
        if let Some(state) = self.clusters.get_mut(cluster) {
            state.released(pool, reusable, self.io.now, &mut self.actions);
        }
        self.run_pool_actions(cluster);
    }

    /// The response is complete; so is the request, or its rest is not wanted.
    pub(super) fn finish_stream(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let key = stream.downstream;
        if stream.client.is_some() {
            let unread = !stream.flow.request_end;
            self.drop_attempt(id, EndedBy::Local);
            if unread {
                if let Some(scope) = self.http_scope(key) {
                    self.stats.inc(scope, metric::DOWNSTREAM_RQ_RX_RESET);
                }
                self.h2_dismiss_client(id);
            }
            return self.end_stream(id);
        }
        let (unread, tunnel) = (!stream.request_complete, stream.tunnel);
        // What follows a refused upgrade may belong to the other protocol, and is no request.
        let refused = stream.wants_upgrade() && !tunnel;
        self.drop_attempt(id, EndedBy::Local);
        self.end_stream(id);
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
        if unread || tunnel || refused {
            let scope = http.hcm.scope;
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_RX_RESET);
        }
        let Some(http) = self.downstreams.get_mut(key).and_then(super::request::http) else { return };
        if unread || tunnel || refused || http.closing == Closing::AfterResponse || http.ended {
            return self.http_close_after_flush(key);
        }
        http.idle_since = self.io.now;
        if !http.input.is_empty() {
            self.run_later(key);
        }
        self.rearm_downstream(key);
    }

    /// Counts and logs a stream and takes it off its connection.
    pub(super) fn end_stream(&mut self, id: Key) {
        self.end_retry_slot(id);
        self.leave_host(id);
        if !self.streams.get(id).is_some_and(|stream| stream.is_plain()) {
            self.judge_end(id, false);
            self.report_filters(id);
            self.end_filters(id);
            self.leave_waiting(id);
            self.h2_release_request(id);
            self.leave_mirrors(id);
            self.abandon_lates(id);
        }
        let Some(mut stream) = self.streams.remove(id) else { return };
        let now = self.io.now;
        stream.facts.times.end = Some(now);
        stream.facts.times.downstream_tx_end = Some(now);
        let (key, mut http2_scope) = (stream.downstream, None);
        if let Some(http) = self.downstreams.get_mut(key).and_then(http) {
            http.stream = None;
            http2_scope = http.h2.as_ref().map(|_| http.hcm.http2_scope);
        }
        self.count_stream(&stream);
        self.finished.push(stream);
        if let Some(scope) = http2_scope {
            self.stats.gauge_dec(scope, http2::STREAMS_ACTIVE);
            self.h2_stream_is_over(key);
        }
    }

    fn count_stream(&mut self, stream: &super::Stream) {
        let Some(options) = &stream.options else { return };
        let hcm = &options.hcm;
        let (scope, listener_scope) = (hcm.scope, hcm.listener_scope);
        let took = self.io.now.since(stream.facts.times.start).as_millis() as u64;
        self.stats.gauge_dec(scope, metric::DOWNSTREAM_RQ_ACTIVE);
        if stream.upgrade {
            self.stats.gauge_dec(scope, metric::DOWNSTREAM_CX_UPGRADES_ACTIVE);
        }
        self.stats.record(scope, metric::DOWNSTREAM_RQ_TIME, took);
        let status = stream.facts.status;
        let is_check = stream.is_health_check();
        if is_check {
            // As in Envoy, whether anything is traced or not.
            self.stats.inc(scope, metric::TRACING_HEALTH_CHECK);
        } else if status > 0 {
            self.stats.downstream_response(scope, listener_scope, status);
        }
        let bytes = &stream.facts.bytes;
        self.stats.add(scope, metric::DOWNSTREAM_CX_TX_BYTES_TOTAL, bytes.downstream_wire_sent);
        // What the upstream answered counts for its cluster, and so do local replies that stand in for it.
        self.count_answer(stream, stream.facts.cluster_status.unwrap_or(status));
    }

    /// Writes the lines of the streams that ended, all at once so that the instruction cache keeps what makes them.
    /// Whatever a line speaks of must still be there: configuration and connections change after it only.
    #[inline]
    pub(crate) fn log_finished(&mut self) {
        if !self.finished.is_empty() {
            self.log_all();
        }
    }

    fn log_all(&mut self) {
        let mut finished = std::mem::take(&mut self.finished);
        for stream in finished.drain(..) {
            self.log_stream(&stream);
            self.recycle_stream(stream);
        }
        self.finished = finished;
    }

    fn log_stream(&mut self, stream: &super::Stream) {
        let Some(options) = &stream.options else { return };
        if options.hcm.access_logs.is_empty() {
            return;
        }
        let Some(downstream) = self.downstreams.get(stream.downstream) else { return };
        let random = self.rng.next_u64();
        let renderer = Renderer {
            downstream,
            options: Some(options),
            facts: &stream.facts,
            shard: &self.names,
            snapshot: &self.snapshot,
        };
        let notes = stream.facts.state.read();
        let mut info = renderer.info();
        info.written = Written::of(notes.as_deref(), downstream.filter_state());
        let member = stream.facts.member.and_then(|cluster| self.clusters.get(cluster));
        info.log_type = AccessLogType::DownstreamEnd;
        info.health_check = stream.is_health_check();
        info.request = Some(&stream.request);
        info.protocol = Some(stream.request.version);
        info.response = Some(&stream.response).filter(|r| r.status > 0);
        info.response_trailers = Some(&stream.trailers).filter(|t| !t.is_empty());
        // As this shard knows it, or as it is configured while the shard has sent nothing there.
        let routed = stream.facts.plan.and_then(|p| p.cluster).and_then(|id| {
            let known = self.clusters.get(id).map(|state| state.config());
            known.or_else(|| self.snapshot.cluster(id))
        });
        info.upstream_cluster = routed.map(|config| &*config.stat_name);
        info.upstream_cluster_raw = routed.map(|config| &*config.name);
        let host = member.zip(stream.facts.host).and_then(|(s, host)| s.host(host));
        info.upstream_host_name = host.map(|h| &*h.hostname).filter(|n| !n.is_empty());
        info.unique = (u128::from(random) << 64) | u128::from(self.rng.next_u64());
        self.logs.write(&options.hcm.access_logs, &info, random, self.io.now);
    }

    /// The statistics scope of a downstream HTTP connection.
    pub(super) fn http_scope(&mut self, key: Key) -> Option<ScopeId> {
        self.downstreams.get_mut(key).and_then(http).map(|h| h.hcm.scope)
    }

    pub(super) fn cluster_scope(&self, cluster: ClusterId) -> Option<ScopeId> {
        self.clusters.get(cluster).map(|state| state.config().scope)
    }

    /// The scope of the endpoint that the last try went to.
    pub(super) fn host_scope(&self, id: Key) -> Option<ScopeId> {
        let facts = &self.streams.get(id)?.facts;
        let state = self.clusters.get(facts.member?)?;
        state.host(facts.host?).map(|h| h.scope)
    }

    pub(crate) fn http_downstream_sent(&mut self, key: Key, result: Result<usize, IoError>) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let flushed = downstream.link.queued() == 0;
        let Some(http) = http(downstream) else { return };
        if http.h2.is_some() && http.is_open() {
            return match result {
                Err(error) => self.h2_downstream_ended(key, Err(error)),
                Ok(_) => self.h2_downstream_sent(key),
            };
        }
        match (http.stream, result) {
            (Some(id), Err(_)) => self.abandon_by_client(id, key),
            (None, Err(_)) => self.http_close(key, false),
            (_, Ok(_)) if http.closing == Closing::Flushing && flushed => self.linger(key),
            (Some(id), Ok(_)) => {
                let now = self.io.now;
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.active = now;
                }
                self.resume_response(key);
            }
            (None, Ok(_)) => {}
        }
    }

    /// Sends FIN behind everything queued; nothing more is read as HTTP.
    pub(super) fn http_close_after_flush(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        if !http.is_open() {
            return;
        }
        if let Some(h2) = &mut http.h2 {
            write_control(&mut h2.codec, &mut downstream.link, &mut self.io);
        }
        http.closing = Closing::Flushing;
        http.input.clear();
        if downstream.link.is_ended() && downstream.link.queued() == 0 {
            return self.http_close(key, false);
        }
        if downstream.link.queued() == 0 && !downstream.link.is_sending() {
            return self.linger(key);
        }
        self.rearm_downstream(key);
    }

    /// Everything has left: FIN, then a moment for the client to read it before its unread bytes make the
    /// kernel reset the connection (`delayed_close_timeout`).
    fn linger(&mut self, key: Key) {
        let now = self.io.now;
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        let delay = http.hcm.delayed_close_timeout;
        if delay.is_zero() || downstream.link.is_ended() {
            return self.http_close(key, false);
        }
        http.closing = Closing::Lingering(now + delay);
        downstream.link.shutdown(&mut self.io);
        downstream.link.resume(&mut self.io);
        self.rearm_downstream(key);
    }

    /// Resets a downstream HTTP connection that has no stream; what is queued is lost.
    pub(super) fn http_abort(&mut self, key: Key) {
        if let Some(downstream) = self.downstreams.get_mut(key) {
            downstream.link.close(&mut self.io, true);
        }
        self.http_close(key, true);
    }

    /// Closes a downstream HTTP connection that has no stream.
    pub(super) fn http_close(&mut self, key: Key, by_us: bool) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let (opened, secure) = (downstream.opened, downstream.link.is_secure());
        let Some(http) = http(downstream) else { return };
        debug_assert!(http.stream.is_none(), "streams end before their connection");
        let (scope, http_version, undecided) = (http.hcm.scope, http.h2.is_some(), http.undecided);
        // Whoever closes the socket in the end: we said that the connection is over.
        let by_us = by_us || matches!(http.closing, Closing::Flushing | Closing::Lingering(_));
        self.stats.inc(scope, metric::DOWNSTREAM_CX_DESTROY);
        let side =
            if by_us { metric::DOWNSTREAM_CX_DESTROY_LOCAL } else { metric::DOWNSTREAM_CX_DESTROY_REMOTE };
        self.stats.inc(scope, side);
        self.stats.gauge_dec(scope, metric::DOWNSTREAM_CX_ACTIVE);
        if secure {
            self.stats.gauge_dec(scope, metric::DOWNSTREAM_CX_SSL_ACTIVE);
        }
        match (http_version, undecided) {
            (_, true) => {}
            (true, false) => self.stats.gauge_dec(scope, metric::DOWNSTREAM_CX_HTTP2_ACTIVE),
            (false, false) => self.stats.gauge_dec(scope, metric::DOWNSTREAM_CX_HTTP1_ACTIVE),
        }
        let lived = self.io.now.since(opened).as_millis() as u64;
        self.stats.record(scope, metric::DOWNSTREAM_CX_LENGTH_MS, lived);
        self.close_downstream(key, false);
    }

    /// Shutdown: ends the connection whatever it is doing.
    pub(crate) fn http_stop(&mut self, key: Key) {
        self.h2_end_streams(
            key,
            ResponseFlag::DownstreamConnectionTermination,
            "local_connection_disconnect",
        );
        if let Some(h2) = self.downstreams.get_mut(key).and_then(http).and_then(|http| http.h2.as_mut()) {
            h2.codec.goaway(GoAway::Final(ErrorCode::NoError));
            self.h2_count_client(key);
            return self.http_close_after_flush(key);
        }
        let stream = self.downstreams.get_mut(key).and_then(http).and_then(|h| h.stream);
        if let Some(id) = stream {
            self.drop_attempt(id, EndedBy::Local);
            if let Some(stream) = self.streams.get_mut(id) {
                stream.facts.details = "local_connection_disconnect".into();
            }
            self.end_stream(id);
        }
        self.http_close(key, true);
    }

    /// The drain of the connection's filter chain is over: whatever it is doing ends.
    pub(crate) fn http_drain_over(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let queued = downstream.link.queued() > 0;
        let Some(http) = http(downstream) else { return };
        let (scope, stream) = (http.hcm.scope, http.stream);
        if let Some(h2) = &mut http.h2 {
            h2.codec.goaway(GoAway::Final(ErrorCode::NoError));
            let details = "downstream_local_disconnect(filter_chain_is_being_removed)";
            self.h2_end_streams(key, ResponseFlag::DownstreamConnectionTermination, details);
            self.stats.inc(scope, metric::DOWNSTREAM_CX_DRAIN_CLOSE);
            return self.http_close_after_flush(key);
        }
        let Some(id) = stream else {
            if queued {
                return self.http_close(key, true);
            }
            self.stats.inc(scope, metric::DOWNSTREAM_CX_DRAIN_CLOSE);
            return self.http_close_after_flush(key);
        };
        self.drop_attempt(id, EndedBy::Local);
        let Some(stream) = self.streams.get_mut(id) else { return };
        // What ends with its connection must not look whole.
        let unbounded = match stream.tunnel {
            true => queued || stream.active + QUIET_TIME > self.io.now,
            false => stream.response_started && stream.response_framing == BodyFraming::UntilClose,
        };
        stream.flag(ResponseFlag::DownstreamConnectionTermination);
        stream.facts.details = "downstream_local_disconnect(filter_chain_is_being_removed)".into();
        self.stats.inc(scope, metric::DOWNSTREAM_RQ_RX_RESET);
        self.stats.inc(scope, metric::DOWNSTREAM_CX_DESTROY_ACTIVE_RQ);
        self.stats.inc(scope, metric::DOWNSTREAM_CX_DESTROY_LOCAL_ACTIVE_RQ);
        self.end_stream(id);
        match unbounded {
            true => self.http_abort(key),
            false => self.http_close(key, true),
        }
    }

    /// Drain: idle connections close now, the others after their response.
    pub(crate) fn http_drain(&mut self, key: Key) {
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
        if http.closing != Closing::No {
            return;
        }
        if http.h2.is_some() {
            return self.h2_drain(key);
        }
        let scope = http.hcm.scope;
        if http.stream.is_some() {
            // The head of the response may be gone already, and with it the chance to say so there.
            http.closing = Closing::AfterResponse;
        } else if http.input.is_empty() {
            self.stats.inc(scope, metric::DOWNSTREAM_CX_DRAIN_CLOSE);
            self.http_close_after_flush(key);
        }
    }
}
