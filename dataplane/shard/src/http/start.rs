//! The beginning of a request: what the connection manager makes of its head.

use std::rc::Rc;
use std::time::Duration;

use millrace_base::{Key, ResponseFlag, Time};
use millrace_config::{Address, ScaledTimer};
use millrace_filter::http::LocalReply;
use millrace_filter::http::connection_manager::{Downstream as Peer, host, reject, request as manager};
use millrace_http::h1::{
    BodyFraming, Expectation, RequestError, expectation, reason_phrase, request_keep_alive,
};
use millrace_http::path::{self, PathAction};
use millrace_http::{HeaderId, Method, hop};
use millrace_observe::stats::{ShardStats, http as metric, http2};

use super::request::http;
use super::routing::Next;
use super::stream::{Attempt, Stream};
use super::{Closing, HttpOptions};
use crate::address::inet;
use crate::downstream::Protocol;
use crate::shard::Shard;

impl Shard {
    /// Takes a complete head into service.
    pub(super) fn start_request(
        &mut self,
        key: Key,
        mut stream: Box<Stream>,
        head_bytes: usize,
        framing: BodyFraming,
        since: Time,
    ) {
        let facts = &mut stream.facts;
        facts.times.start = since;
        facts.times.start_wall = self.wall_at(since);
        facts.bytes.downstream_header_received = head_bytes as u64;
        facts.bytes.downstream_wire_received = head_bytes as u64;
        stream.active = self.io.now;
        stream.request_framing = framing;
        stream.request_body.reset(framing);
        stream.request_complete = stream.request_body.is_done();
        stream.flow.request_end_sent = stream.request_complete && stream.client.is_none();
        stream.is_head = stream.request.method_kind() == Method::Head;
        stream.is_grpc = millrace_route::is_grpc(&stream.request);
        let over_h2 = stream.client.is_some();
        let Some(id) = self.admit(key, stream) else { return };
        if over_h2 {
            return self.admitted.push(id);
        }
        let prepared = self.prepare(key, id);
        self.proceed(id, prepared);
    }

    /// Prepares the requests that the frames of one connection brought. For the instruction cache's sake these follow each
    /// other, too: see [`Self::try_planned`].
    #[inline]
    pub(super) fn prepare_admitted(&mut self, key: Key) {
        if !self.admitted.is_empty() {
            self.prepare_all(key);
        }
    }

    fn prepare_all(&mut self, key: Key) {
        let mut admitted = std::mem::take(&mut self.admitted);
        for id in admitted.drain(..) {
            let prepared = self.prepare(key, id);
            self.proceed(id, prepared);
        }
        self.admitted = admitted;
    }

    /// Does what came of a request that has met its filters.
    pub(super) fn proceed(&mut self, id: Key, met: Result<Next, Box<LocalReply>>) {
        match met {
            Ok(Next::Go) => self.go_on(id),
            Ok(Next::Wait) => {
                if self.streams.get(id).is_some_and(|s| s.request_complete) {
                    self.request_arrived(id);
                }
            }
            Err(reply) => self.local_reply(id, *reply),
        }
    }

    /// The request has passed its filters and has a plan.
    pub(super) fn go_on(&mut self, id: Key) {
        if self.streams.get(id).is_some_and(|s| s.request_complete) {
            self.request_arrived(id);
        }
        if let Some(stream) = self.streams.get_mut(id) {
            stream.attempt = Attempt::Planned;
            self.planned.push(id);
        }
    }

    /// Gives every request that was planned its first try. What leads to a plan and what follows it are each about as
    /// much code as a core's instruction cache holds: taken in turns, each request would fetch both anew.
    #[inline]
    pub(crate) fn try_planned(&mut self) {
        if !self.planned.is_empty() {
            self.try_all();
        }
    }

    fn try_all(&mut self) {
        let mut planned = std::mem::take(&mut self.planned);
        for id in planned.drain(..) {
            if self.streams.get(id).is_none_or(|stream| stream.attempt != Attempt::Planned) {
                continue;
            }
            let head = self.head_for_mirrors(id);
            self.first_attempt(id);
            if let Some(head) = head {
                self.start_mirrors(id, &head);
            }
        }
        if self.planned.is_empty() {
            self.planned = planned;
        }
    }

    /// Bytes of a body that have somewhere to go need no queue.
    #[inline]
    pub(super) fn try_before_body(&mut self, id: Key) {
        if !self.planned.is_empty()
            && self.streams.get(id).is_some_and(|stream| stream.attempt == Attempt::Planned)
        {
            self.try_planned();
        }
    }

    /// Gives a refused head its answer and its log line; the connection ends.
    pub(super) fn start_refused(&mut self, key: Key, mut stream: Box<Stream>, error: RequestError) {
        stream.facts.times.start = self.io.now;
        stream.facts.times.start_wall = self.wall;
        stream.active = self.io.now;
        let body = if error.is_protocol_error() { reason_phrase(error.status()) } else { "" };
        let mut reply = LocalReply::new(error.status(), body, error.details()).closing();
        if error.is_protocol_error() {
            reply = reply.flagged(ResponseFlag::DownstreamProtocolError);
        }
        if let Some(id) = self.admit(key, stream) {
            self.join_filters(id);
            self.local_reply(id, reply);
        }
    }

    /// Gives a head that never became complete its answer.
    pub(super) fn start_timed_out(&mut self, key: Key, mut stream: Box<Stream>, reply: LocalReply) {
        stream.active = self.io.now;
        if let Some(http) = self.downstreams.get_mut(key).and_then(http) {
            http.requests += 1;
        }
        if let Some(id) = self.admit(key, stream) {
            self.join_filters(id);
            self.local_reply(id, reply);
        }
    }

    /// Makes a stream part of its connection and counts it.
    fn admit(&mut self, key: Key, mut stream: Box<Stream>) -> Option<Key> {
        let downstream = self.downstreams.get_mut(key)?;
        if stream.options.is_none() {
            stream.options = downstream.origin.http();
        }
        let http = http(downstream)?;
        let (scope, http2_scope) = (http.hcm.scope, http.hcm.http2_scope);
        let client = stream.client;
        let id = self.streams.insert(stream);
        match (client, &mut http.h2) {
            (Some(client), Some(h2)) => {
                h2.codec.bind(client, id.pack(0));
                self.stats.gauge_inc(http2_scope, http2::STREAMS_ACTIVE);
            }
            _ => http.stream = Some(id),
        }
        self.stats.gauge_inc(scope, metric::DOWNSTREAM_RQ_ACTIVE);
        self.count_request(key, id);
        Some(id)
    }

    /// Counts a request of a client, or one that a redirect made of it.
    pub(super) fn count_request(&mut self, key: Key, id: Key) {
        let Some(scope) = self.http_scope(key) else { return };
        let version = match self.streams.get(id).is_some_and(|stream| stream.client.is_some()) {
            true => metric::DOWNSTREAM_RQ_HTTP2_TOTAL,
            false => metric::DOWNSTREAM_RQ_HTTP1_TOTAL,
        };
        self.stats.inc(scope, metric::DOWNSTREAM_RQ_TOTAL);
        self.stats.inc(scope, version);
    }

    /// Everything between the codec and the first try.
    fn prepare(&mut self, key: Key, id: Key) -> Result<Next, Box<LocalReply>> {
        let Some(downstream) = self.downstreams.get_mut(key) else { return Ok(Next::Wait) };
        let draining = downstream.origin.is_draining(&self.shared);
        let Protocol::Http(http) = &mut downstream.protocol else { return Ok(Next::Wait) };
        let Some(stream) = self.streams.get_mut(id) else { return Ok(Next::Wait) };
        let Some(base) = stream.options.clone() else { return Ok(Next::Wait) };
        http.requests += 1;
        let hcm = &base.hcm;
        let over_h2 = stream.client.is_some();
        if !over_h2 && !request_keep_alive(&stream.request) {
            http.closing = Closing::AfterResponse;
        }
        if draining && http.closing == Closing::No && !over_h2 {
            self.stats.inc(hcm.scope, metric::DOWNSTREAM_CX_DRAIN_CLOSE);
            http.closing = Closing::AfterResponse;
        }
        let served = hcm.max_requests_per_connection.is_some_and(|max| http.requests >= max);
        if (served || http.expires != Time::MAX) && !over_h2 {
            http.closing = Closing::AfterResponse;
        }
        if hcm.max_requests_per_connection == Some(http.requests) {
            self.stats.inc(hcm.scope, metric::DOWNSTREAM_CX_MAX_REQUESTS_REACHED);
        }
        if over_h2 && (served || draining) {
            self.h2_drain(key);
        }
        let Some(stream) = self.streams.get_mut(id) else { return Ok(Next::Wait) };
        stream.idle_whole = hcm.stream_idle_timeout;
        stream.flush_timeout = hcm.stream_flush_timeout;
        stream.idle_timeout = self.overload.scale(ScaledTimer::StreamIdle, stream.idle_whole);
        stream.request_deadline = deadline(self.io.now, hcm.request_timeout);
        stream.max_duration_deadline = deadline(self.io.now, hcm.max_stream_duration);
        if !self.overload.is_calm()
            && let Some(reply) = self.overload_answer(key, id)
        {
            self.join_filters(id);
            return Err(reply);
        }
        let port = self.accept_request(key, id, &base).inspect_err(|_| self.join_filters(id))?;
        let routed = self.route(key, id);
        if let (Some(port), Some(stream)) = (port, self.streams.get_mut(id)) {
            host::restore_port(port, &mut stream.request, &mut self.scratch);
        }
        routed
    }

    /// The connection manager's rules. Returns the port that the authority gets back once the route is chosen.
    fn accept_request(
        &mut self,
        key: Key,
        id: Key,
        base: &Rc<HttpOptions>,
    ) -> Result<Option<u16>, Box<LocalReply>> {
        let Some(downstream) = self.downstreams.get_mut(key) else { return Ok(None) };
        let Some(stream) = self.streams.get_mut(id) else { return Ok(None) };
        let hcm = &base.hcm;
        manager::validate(&stream.request)?;
        normalize(stream, base, &mut self.scratch, &mut self.stats)?;
        let local_port = inet(&downstream.addresses.local).map(|a| a.port());
        let port = host::normalize(&hcm.paths, local_port, &mut stream.request, &mut self.scratch);
        hop::strip_request(&mut stream.request, true).map_err(|error| {
            let body = reason_phrase(error.status());
            LocalReply::new(error.status(), body, error.details())
                .flagged(ResponseFlag::DownstreamProtocolError)
                .closing()
        })?;
        expect(stream, hcm.proxy_100_continue)?;
        let peer = Peer {
            peer: inet(&downstream.addresses.peer),
            local: inet(&downstream.addresses.local),
            tls: downstream.link.tls_facts().map(|facts| &**facts),
            host_address: self.host_address,
            node: &self.snapshot.node,
        };
        let scopes = base.scopes.as_deref();
        let scoped = scopes.map(|scopes| scopes.choose(base, &stream.request, &self.snapshot));
        let routes = scoped.as_ref().unwrap_or(base).routes.as_deref();
        let accepted =
            manager::mutate(hcm, routes, &peer, &mut stream.request, &mut self.rng, &mut self.scratch);
        stream.facts.internal = accepted.internal;
        if accepted.remote != peer.peer {
            stream.facts.remote = accepted.remote.map(Address::Inet);
        }
        if let Some(scopes) = scopes {
            // Once more: what was changed may be part of the key, as in Envoy.
            stream.options = Some(scopes.choose(base, &stream.request, &self.snapshot));
        }
        Ok(port)
    }

    /// The last byte of the request is here: from now on the route's timeout counts.
    pub(super) fn request_arrived(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.request_complete = true;
        if !stream.wants_upgrade() {
            stream.facts.times.downstream_rx_end.get_or_insert(self.io.now);
        }
        stream.request_deadline = Time::MAX;
        if !stream.upgrade && !stream.response_complete {
            stream.response_deadline = deadline(self.io.now, stream.timeouts.global);
            if stream.timeouts.per_try.is_some() && stream.upstream().is_some() {
                stream.begin_try(self.io.now);
            }
        }
        // The end of a body may be all that this turn of its connection brought.
        self.rearm_stream(id);
    }
}

pub(super) fn deadline(now: Time, limit: Option<Duration>) -> Time {
    limit.map_or(Time::MAX, |limit| now + limit)
}

fn normalize(
    stream: &mut Stream,
    options: &HttpOptions,
    scratch: &mut Vec<u8>,
    stats: &mut ShardStats,
) -> Result<(), Box<LocalReply>> {
    let scope = options.hcm.scope;
    match path::apply(&mut stream.request, &options.paths, scratch) {
        PathAction::Continue => Ok(()),
        // A client of gRPC follows no redirect.
        PathAction::Redirect if !stream.is_grpc => {
            stats.inc(scope, metric::DOWNSTREAM_RQ_REDIRECTED_WITH_NORMALIZED_PATH);
            Err(reject::path_normalized_redirect(stream.request.path()).into())
        }
        PathAction::Redirect | PathAction::Reject => {
            stats.inc(scope, metric::DOWNSTREAM_RQ_FAILED_PATH_NORMALIZATION);
            Err(reject::path_normalization_failed().into())
        }
    }
}

/// `expect` ends here: we answer `100-continue` ourselves unless the upstream shall (RFC 9110 section 10.1.1).
fn expect(stream: &mut Stream, proxied: bool) -> Result<(), Box<LocalReply>> {
    match expectation(&stream.request) {
        Expectation::None => Ok(()),
        Expectation::Continue => {
            if proxied {
                stream.forwards_continue = true;
                return Ok(());
            }
            stream.request.headers.remove_id(HeaderId::Expect);
            stream.expects_continue = !stream.request_complete;
            Ok(())
        }
        Expectation::Unknown => {
            stream.request.headers.remove_id(HeaderId::Expect);
            Err(LocalReply::new(417, "", "unknown_expectation").closing().into())
        }
    }
}
