//! The end of HTTP/2 connections of clients: drains in two steps, errors, time, and what their streams see of it.

use millrace_base::{Key, ResponseFlag, Time};
use millrace_config::ScopeId;
use millrace_filter::jitter;
use millrace_http::h2::{ConnectionError, ErrorCode, GoAway};
use millrace_observe::stats::{http as metric, http2};
use millrace_ring::IoError;

use super::super::request::http;
use super::super::timeouts::scaled_limits;
use super::super::{Closing, HttpDownstream};
use super::{Drain, write_control};
use crate::downstream::Protocol;
use crate::shard::Shard;
use crate::upstream::EndedBy;

impl Shard {
    /// The streams of a client's connection, if that speaks HTTP/2. A tunnel whose both ends were said is not among them:
    /// what waits for its endpoint is delivered whether the client stays or not.
    pub(crate) fn h2_streams(&self, key: Key) -> Vec<Key> {
        let Some(Protocol::Http(http)) = self.downstreams.get(key).map(|d| &d.protocol) else {
            return Vec::new();
        };
        let users = http.h2.iter().flat_map(|h2| h2.codec.users());
        users.map(|(_, user)| Key::unpack(user).1).collect()
    }

    /// Tells the client that a stream is over before its time; the stream itself is for the caller to end.
    pub(crate) fn h2_reset_client(&mut self, id: Key, code: ErrorCode) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(client) = stream.client.take() else { return };
        let held = std::mem::take(&mut stream.flow.held_request);
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        let Some(h2) = http.h2.as_deref_mut() else { return };
        h2.codec.reset(client, code);
        let key = stream.downstream;
        if held > 0 {
            h2.codec.release(client, held);
        }
        write_control(&mut h2.codec, &mut downstream.link, &mut self.io);
        self.h2_count_client(key);
    }

    /// The answer is whole and the request is not: its rest is not wanted (RFC 9113 section 8.1), unless it came in the
    /// same read.
    pub(crate) fn h2_dismiss_client(&mut self, id: Key) {
        self.h2_release_request(id);
        let Some(stream) = self.streams.get_mut(id) else { return };
        let h2 = self.downstreams.get_mut(stream.downstream).and_then(http).and_then(HttpDownstream::h2);
        match h2.filter(|h2| h2.receiving) {
            Some(h2) => h2.answered.extend(stream.client.take()),
            None => self.h2_reset_client(id, ErrorCode::NoError),
        }
    }

    /// The frames of this read are dealt with.
    pub(super) fn h2_dismiss_answered(&mut self, key: Key) {
        let h2 = self.downstreams.get_mut(key).and_then(http).and_then(HttpDownstream::h2);
        let Some(h2) = h2 else { return };
        h2.receiving = false;
        if h2.answered.is_empty() {
            return;
        }
        for stream in h2.answered.drain(..) {
            if h2.codec.is_receiving(stream) {
                h2.codec.reset(stream, ErrorCode::NoError);
            }
        }
        self.h2_stream_is_over(key);
    }

    /// Gives back the credit of request bytes that nobody will take any more.
    pub(crate) fn h2_release_request(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let held = std::mem::take(&mut stream.flow.held_request);
        let Some(client) = stream.client.filter(|_| held > 0) else { return };
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        if let Some(h2) = http.h2.as_deref_mut() {
            h2.codec.release(client, held);
            write_control(&mut h2.codec, &mut downstream.link, &mut self.io);
        }
    }

    /// A stream of an HTTP/2 connection is gone: the connection may be over with it.
    pub(crate) fn h2_stream_is_over(&mut self, key: Key) {
        let now = self.io.now;
        if self.downstreams.get(key).is_some_and(|downstream| downstream.link.is_starved()) {
            self.feed_client(key);
        }
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return };
        let Some(h2) = http.h2.as_deref() else { return };
        if h2.codec.open_streams() > 0 {
            return;
        }
        http.idle_since = now;
        if h2.drain == Drain::Final && http.is_open() {
            return self.http_close_after_flush(key);
        }
        self.rearm_downstream(key);
    }

    /// Begins the end of a connection that does well.
    pub(crate) fn h2_drain(&mut self, key: Key) {
        if let Some(scope) = self.h2_announce_end(key) {
            self.stats.inc(scope, metric::DOWNSTREAM_CX_DRAIN_CLOSE);
        }
    }

    /// The client shall open no more streams here (GOAWAY, RFC 9113 section 6.8). `None` when that was said before.
    fn h2_announce_end(&mut self, key: Key) -> Option<ScopeId> {
        let now = self.io.now;
        let downstream = self.downstreams.get_mut(key)?;
        let Protocol::Http(http) = &mut downstream.protocol else { return None };
        let h2 = http.h2.as_deref_mut()?;
        if h2.drain != Drain::No || http.closing != Closing::No {
            return None;
        }
        let scope = http.hcm.scope;
        let (whole, percent) = (http.hcm.drain_timeout, http.hcm.drain_jitter_percent);
        h2.drain = Drain::Announced(now + whole + jitter(whole, percent, self.rng.next_u64()));
        h2.codec.goaway(GoAway::Drain);
        write_control(&mut h2.codec, &mut downstream.link, &mut self.io);
        self.rearm_downstream(key);
        Some(scope)
    }

    /// The second step: nothing new is taken; the connection ends with its last stream.
    fn h2_drain_finally(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        let Some(h2) = http.h2.as_deref_mut() else { return };
        h2.drain = Drain::Final;
        h2.codec.goaway(GoAway::Final(ErrorCode::NoError));
        write_control(&mut h2.codec, &mut downstream.link, &mut self.io);
        let empty = h2.codec.open_streams() == 0;
        self.h2_count_client(key);
        if empty {
            self.http_close_after_flush(key);
        }
    }

    /// The client broke the rules of the connection: everything on it ends.
    pub(super) fn h2_connection_error(&mut self, key: Key, error: &ConnectionError) {
        if let Some(scope) = self.http_scope(key) {
            self.stats.inc(scope, metric::DOWNSTREAM_CX_PROTOCOL_ERROR);
            if *error == ConnectionError::ResetFlood {
                self.stats.inc(scope, metric::DOWNSTREAM_RQ_TOO_MANY_PREMATURE_RESETS);
            }
        }
        self.h2_count_client(key);
        self.h2_end_streams(key, ResponseFlag::DownstreamProtocolError, error.details());
        self.http_close_after_flush(key);
    }

    /// We end the connection for its client's behaviour that the codec does not see.
    pub(super) fn h2_give_up(&mut self, key: Key, flag: ResponseFlag, details: &'static str) {
        if let Some(h2) = self.downstreams.get_mut(key).and_then(http).and_then(|http| http.h2.as_deref_mut())
        {
            h2.codec.goaway(GoAway::Final(ErrorCode::EnhanceYourCalm));
        }
        self.h2_end_streams(key, flag, details);
        self.http_close_after_flush(key);
    }

    /// Ends every stream of a connection that is about to end.
    pub(crate) fn h2_end_streams(&mut self, key: Key, flag: ResponseFlag, details: &'static str) {
        let scope = self.http_scope(key);
        let streams = self.h2_streams(key);
        if let (Some(scope), false) = (scope, streams.is_empty()) {
            self.stats.inc(scope, metric::DOWNSTREAM_CX_DESTROY_ACTIVE_RQ);
        }
        for id in streams {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            stream.flag(flag);
            stream.facts.details = details.into();
            // The connection's end says it all.
            stream.client = None;
            self.drop_attempt(id, EndedBy::Local);
            if let Some(scope) = scope {
                self.stats.inc(scope, metric::DOWNSTREAM_RQ_RX_RESET);
            }
            self.end_stream(id);
        }
    }

    /// The client closed its half, or the connection failed: as in Envoy, nothing on it goes on.
    pub(crate) fn h2_downstream_ended(&mut self, key: Key, _end: Result<(), IoError>) {
        let active = !self.h2_streams(key).is_empty();
        self.h2_end_streams(
            key,
            ResponseFlag::DownstreamConnectionTermination,
            "downstream_remote_disconnect",
        );
        if let (true, Some(scope)) = (active, self.http_scope(key)) {
            self.stats.inc(scope, metric::DOWNSTREAM_CX_DESTROY_REMOTE_ACTIVE_RQ);
        }
        self.http_close(key, false);
    }

    /// A send to the client is through.
    pub(crate) fn h2_downstream_sent(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let limit = downstream.origin.listener.buffer_limit_bytes;
        let queued = downstream.link.queued();
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        let Some(h2) = http.h2.as_deref_mut() else { return };
        // What the peer takes counts, not that it has taken everything: a busy connection is never empty.
        h2.codec.flushed();
        if queued == 0 {
            h2.outbound_frames = 0;
        }
        if queued <= crate::link::low_watermark(limit) && !h2.waiting.is_empty() {
            self.resume_clients(key);
        }
    }

    /// When the connection must be looked at, streams included.
    pub(crate) fn h2_deadline(&self, http: &HttpDownstream, opened: Time) -> Time {
        let Some(h2) = http.h2.as_deref() else { return Time::MAX };
        let hcm = &http.hcm;
        let after = |since: Time, limit: Option<std::time::Duration>| limit.map_or(Time::MAX, |l| since + l);
        let [idle_timeout, max] = scaled_limits(&self.overload, hcm);
        let mut next = h2.keepalive.deadline();
        match h2.drain {
            Drain::Announced(at) => next = next.min(at),
            Drain::No => next = next.min(after(opened, max)),
            Drain::Final => {}
        }
        if h2.codec.open_streams() == 0 && h2.drain == Drain::No {
            next = next.min(after(http.idle_since, idle_timeout));
        }
        if let Some(since) = http.head_since {
            next = next.min(after(since, hcm.request_headers_timeout));
        }
        let streams = h2.codec.users().filter_map(|(_, user)| self.streams.get(Key::unpack(user).1));
        streams.map(|stream| stream.deadline()).fold(next, Time::min)
    }

    /// Acts on whatever of [`Shard::h2_deadline`] is due.
    pub(crate) fn h2_timer(&mut self, key: Key) {
        let now = self.io.now;
        for id in self.h2_streams(key) {
            if self.streams.get(id).is_some_and(|stream| stream.deadline() <= now) {
                self.stream_timer(id);
            }
        }
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let opened = downstream.opened;
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        let opened = opened + http.outlives;
        let (scope, hcm) = (http.hcm.scope, http.hcm.clone());
        let due = |since: Time, limit: Option<std::time::Duration>| limit.is_some_and(|l| since + l <= now);
        if !http.is_open() {
            return;
        }
        if http.head_since.is_some_and(|since| due(since, hcm.request_headers_timeout)) {
            self.stats.inc(scope, metric::DOWNSTREAM_RQ_HEADER_TIMEOUT);
            return self.h2_give_up(key, ResponseFlag::DownstreamProtocolError, "request_header_timeout");
        }
        let Some(h2) = http.h2.as_deref_mut() else { return };
        if h2.keepalive.is_dead(now) {
            self.stats.inc(hcm.http2_scope, http2::KEEPALIVE_TIMEOUT);
            return self.h2_give_up(key, ResponseFlag::DownstreamConnectionTermination, "http2.ping_timeout");
        }
        h2.keepalive.run(&mut h2.codec, now, &mut self.rng);
        write_control(&mut h2.codec, &mut downstream.link, &mut self.io);
        let idle = h2.codec.open_streams() == 0;
        let [idle_timeout, max] = scaled_limits(&self.overload, &hcm);
        match h2.drain {
            Drain::Announced(at) if at <= now => self.h2_drain_finally(key),
            Drain::No if due(opened, max) => {
                self.stats.inc(scope, metric::DOWNSTREAM_CX_MAX_DURATION_REACHED);
                self.h2_announce_end(key);
            }
            Drain::No if idle && due(http.idle_since, idle_timeout) => {
                self.stats.inc(scope, metric::DOWNSTREAM_CX_IDLE_TIMEOUT);
                self.h2_announce_end(key);
            }
            Drain::No | Drain::Announced(_) | Drain::Final => {}
        }
    }
}
