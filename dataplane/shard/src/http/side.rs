//! Streams without a client. They have a request, an endpoint and a time like any other, but nobody takes what they are
//! answered: copies of requests ([`super::mirror`]), and tries beside that of their stream ([`super::hedge`]).

use millrace_base::Key;
use millrace_config::ScopeId;
use millrace_filter::http::LocalReply;
use millrace_http::HeaderId;
use millrace_http::h1::BodyFraming;
use millrace_observe::stats::{CodeFamily, UNNAMED_CODE, cluster as metric, cluster_zone, route};
use millrace_upstream::TryResult;

use super::Stream;
use crate::shard::Shard;
use crate::timers::ConnectionTimer;
use crate::upstream::{Carries, EndedBy};

/// The connection of streams that have none.
pub(super) const NO_CLIENT: Key = Key { slot: u32::MAX, generation: 0 };

/// What a stream without a client is.
#[derive(Debug, Default)]
pub(crate) struct Side {
    /// Its own, since no connection's timer looks after it.
    pub(crate) timer: ConnectionTimer,
    /// The stream that the try was made for, which may still take its answer.
    pub(super) owner: Option<Key>,
}

impl Stream {
    /// `suppress_grpc_request_failure_code_stats` concerns it.
    pub(super) fn hides_status(&self) -> bool {
        self.is_grpc && self.options.as_ref().is_some_and(|options| options.router.suppress_grpc_statuses)
    }
}

impl Shard {
    /// A stream without a client has got its answer's head.
    pub(super) fn side_response_head(&mut self, conn: Key, id: Key, framing: BodyFraming) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        stream.response_started = true;
        stream.response_framing = framing;
        stream.facts.status = stream.response.status;
        let whole = match self.upstreams.get(conn).map(|upstream| &upstream.carries) {
            Some(Carries::Http(http)) => http.body.is_done(),
            Some(Carries::Http2(_) | Carries::Tcp(_)) | None => stream.flow.response_end,
        };
        if whole {
            self.side_is_answered(id);
        }
        !whole
    }

    /// Drops what has come of the answer's body over HTTP/1.1. True when something was consumed.
    pub(super) fn discard_response_body(&mut self, conn: Key, id: Key) -> bool {
        let Some(Carries::Http(http)) = self.upstreams.get_mut(conn).map(|u| &mut u.carries) else {
            return false;
        };
        let Some(stream) = self.streams.get_mut(id) else { return false };
        match http.body.decode(http.input.front(), &mut stream.trailers) {
            Ok(step) => {
                http.input.consume(step.consumed);
                if http.body.is_done() {
                    self.side_is_answered(id);
                }
                step.consumed > 0
            }
            Err(_) => {
                self.response_broken(id, true, EndedBy::Local);
                false
            }
        }
    }

    /// The answer of a stream without a client is complete.
    pub(super) fn side_is_answered(&mut self, id: Key) {
        self.judge_end(id, true);
        self.release_upstream(id);
        self.abandon_side(id);
    }

    /// A stream without a client gets this instead of an answer.
    pub(super) fn side_reply(&mut self, id: Key, reply: LocalReply) {
        let owner = self.streams.get(id).and_then(|stream| stream.side.as_ref()?.owner);
        match owner {
            Some(owner) => self.late_failed(id, owner, reply),
            None => self.side_failed(id, reply.status),
        }
    }

    /// Ends a stream without a client with a status of our own, if it was not answered yet.
    pub(super) fn side_failed(&mut self, id: Key, status: u16) {
        if let Some(stream) = self.streams.get_mut(id).filter(|stream| !stream.response_started) {
            stream.facts.status = status;
        }
        self.abandon_side(id);
    }

    /// Ends a stream without a client, whatever it is doing.
    pub(super) fn abandon_side(&mut self, id: Key) {
        self.drop_attempt(id, EndedBy::Local);
        self.judge_end(id, false);
        self.leave_waiting(id);
        let Some(mut stream) = self.streams.remove(id) else { return };
        if let Some(timer) = stream.side.take().and_then(|mut side| side.timer.disarm()) {
            self.wheel.cancel(timer);
        }
        self.count_answer(&stream, stream.facts.status);
        self.recycle_stream(stream);
    }

    /// The time of a stream without a client is over.
    pub(crate) fn side_timer(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get(id) else { return };
        if stream.response_deadline > now {
            return self.rearm_stream(id);
        }
        let awaits_head = !stream.response_started && stream.upstream().is_some();
        self.count_timeout(id, metric::UPSTREAM_RQ_TIMEOUT);
        if awaits_head {
            self.report_try(id, TryResult::TimedOut(504));
        }
        self.side_failed(id, 504);
    }

    /// Counts a status for the cluster that answered, or that a reply of our own stands in for.
    pub(super) fn count_answer(&mut self, stream: &Stream, status: u16) {
        let cluster = stream.facts.plan.and_then(|p| p.cluster).or_else(|| stream.home_cluster());
        let Some(cluster) = cluster else { return };
        let Some(cluster_scope) = self.cluster_scope(cluster).filter(|_| status > 0) else { return };
        self.count_code(stream, cluster_scope, status);
        let zone = self.zone_scope(stream, cluster_scope);
        if let Some(zone) = zone {
            let status = if stream.hides_status() { UNNAMED_CODE } else { status };
            self.stats.code(zone, CodeFamily::Plain, status);
        }
        if stream.facts.times.upstream_rx_begin.is_some() {
            let since = stream.facts.times.upstream_tx_begin.unwrap_or(stream.facts.times.start);
            let upstream = self.io.now.since(since).as_millis() as u64;
            self.stats.record(cluster_scope, metric::UPSTREAM_RQ_TIME, upstream);
            if let Some(zone) = zone {
                self.stats.record(zone, cluster_zone::UPSTREAM_RQ_TIME, upstream);
            }
            for scope in stream.tallies.iter().flatten() {
                self.stats.record(*scope, route::UPSTREAM_RQ_TIME, upstream);
            }
        }
    }

    /// Who counts what endpoints of a zone answer, if it and our own are known.
    #[inline]
    fn zone_scope(&mut self, stream: &Stream, cluster: ScopeId) -> Option<ScopeId> {
        let from = &self.snapshot.node.zone;
        if from.is_empty() {
            return None;
        }
        let state = self.clusters.get(stream.facts.member?)?;
        let host = state.host(stream.facts.host?)?;
        let (_, zone, _) = &state.config().localities.get(host.locality as usize)?.locality;
        if zone.is_empty() { None } else { self.stats.zone_scope(cluster, from, zone) }
    }

    /// `suppress_grpc_request_failure_code_stats`: the status has no counter of the cluster as a whole.
    #[cold]
    fn count_unnamed_status(&mut self, scope: ScopeId, internal: bool, status: u16) {
        self.stats.code(scope, CodeFamily::Plain, UNNAMED_CODE);
        let family = if internal { CodeFamily::Internal } else { CodeFamily::External };
        self.stats.code(scope, family, status);
    }

    /// A status of 1xx counts beside the one that follows it.
    pub(super) fn count_interim(&mut self, id: Key, status: u16) {
        let Some(stream) = self.streams.get(id) else { return };
        let cluster = stream.facts.plan.and_then(|p| p.cluster);
        let Some(scope) = cluster.and_then(|cluster| self.cluster_scope(cluster)) else { return };
        let (internal, tallies) = (stream.facts.internal, stream.tallies);
        self.count_status(scope, internal, status);
        for scope in tallies.iter().flatten() {
            self.stats.code(*scope, CodeFamily::Plain, status);
        }
    }

    fn count_code(&mut self, stream: &Stream, scope: ScopeId, status: u16) {
        match stream.hides_status() {
            true => self.count_unnamed_status(scope, stream.facts.internal, status),
            false => self.count_status(scope, stream.facts.internal, status),
        }
        if stream.response.headers.get(HeaderId::XEnvoyUpstreamCanary) == Some(b"true") && !stream.local_reply
        {
            self.stats.code(scope, CodeFamily::Canary, status);
        }
        for scope in stream.tallies.iter().flatten() {
            self.stats.code(*scope, CodeFamily::Plain, status);
        }
    }

    /// Counts a status in the cluster's scope.
    pub(super) fn count_status(&mut self, scope: ScopeId, internal: bool, status: u16) {
        self.stats.code(scope, CodeFamily::Plain, status);
        let family = if internal { CodeFamily::Internal } else { CodeFamily::External };
        self.stats.code(scope, family, status);
    }

    /// Shutdown: streams without a client end before their connections.
    pub(crate) fn stop_sides(&mut self) {
        let sides = self.streams.iter().filter(|(_, stream)| stream.side.is_some());
        for id in sides.map(|(id, _)| id).collect::<Vec<_>>() {
            self.abandon_side(id);
        }
    }
}
