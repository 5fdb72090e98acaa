//! Tries beside each other (`hedge_on_per_try_timeout`). A try whose time is over is not reset: it becomes a stream
//! without a client, its stream makes the next one, and whichever answers well first answers the client.

use millrace_base::{Key, Time};
use millrace_filter::http::LocalReply;
use millrace_http::h1::BodyFraming;
use millrace_observe::stats::{cluster as metric, host as host_metric};
use millrace_upstream::TryResult;

use super::Stream;
use super::retry::{Again, Outcome};
use super::routing::retry_policy;
use super::side::{NO_CLIENT, Side};
use super::stream::Attempt;
use crate::shard::Shard;
use crate::upstream::Carries;

impl Shard {
    /// The time of the try is over, but the try is not.
    pub(super) fn hedge(&mut self, id: Key) {
        self.report_try(id, TryResult::TimedOut(self.timeout_status(id)));
        let Some(stream) = self.streams.get(id) else { return };
        let Some(conn) = stream.upstream().filter(|_| !stream.response_started) else { return };
        self.end_retry_slot(id);
        if self.try_again(id, Outcome::SoftTimeout) == Again::Yes {
            self.part_with_try(id, conn);
        }
        self.rearm_stream(id);
    }

    /// Makes the try on `conn` a stream of its own.
    fn part_with_try(&mut self, id: Key, conn: Key) {
        let mut late = self.spare_streams.pop().unwrap_or_else(|| Box::new(Stream::new(NO_CLIENT)));
        late.reset(NO_CLIENT);
        let Some(stream) = self.streams.get_mut(id) else { return };
        late.side = Some(Box::new(Side { owner: Some(id), ..Side::default() }));
        late.attempt = Attempt::Sent(conn);
        late.server = stream.server.take();
        // What the answer is read by.
        late.request.clone_from(&stream.request);
        (late.is_head, late.is_grpc, late.timeout_is_204) =
            (stream.is_head, stream.is_grpc, stream.timeout_is_204);
        let (own, of) = (&mut late.facts, &mut stream.facts);
        (own.plan, own.member, own.host, own.internal) = (of.plan, of.member, of.host, of.internal);
        // Another try is decided on, which is what the words of a failure say.
        (own.canary, own.attempts) = (of.canary, of.attempts + 1);
        late.watched = stream.watched;
        (late.tracked, late.timeouts.per_try) = (stream.tracked.take(), stream.timeouts.per_try);
        (own.times, own.upstream_version) = (of.times, of.upstream_version);
        own.host_address.clone_from(&of.host_address);
        own.upstream_raced = of.upstream_raced.take();
        own.upstream_local = of.upstream_local.take();
        own.upstream_tls = of.upstream_tls.take();
        own.upstream_connection = of.upstream_connection.take();
        // What is left to be sent, and what may be said of it.
        late.request_complete = stream.request_complete;
        late.request_framing = stream.request_framing;
        late.request_trailers.clone_from(&stream.request_trailers);
        late.flow.request_end = true;
        late.flow.request_end_sent = stream.flow.request_end_sent;
        late.flow.held_response = std::mem::take(&mut stream.flow.held_response);
        for piece in stream.flow.request_queue.slices() {
            late.flow.request_queue.push_bytes(piece);
        }
        (late.active, late.try_ends) = (self.io.now, std::mem::replace(&mut stream.try_ends, Time::MAX));
        let late_id = self.streams.insert(late);
        self.move_try(conn, id, late_id);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.lates.push(late_id);
        }
        self.flush_request(late_id);
    }

    /// Has the exchange on a connection belong to another stream.
    fn move_try(&mut self, conn: Key, from: Key, to: Key) {
        let server = self.streams.get(to).and_then(|stream| stream.server);
        if let Some(stream) = self.streams.get_mut(from) {
            stream.flow.awaits_upstream = false;
        }
        match (self.upstreams.get_mut(conn).map(|upstream| &mut upstream.carries), server) {
            (Some(Carries::Http2(h2)), Some(server)) => {
                h2.codec.bind(server, to.pack(0));
                h2.waiting.retain(|waits| *waits != from);
            }
            (Some(Carries::Http(http)), _) => http.stream = Some(to),
            _ => {}
        }
    }

    /// True when a try that was not answered in its time may still answer.
    pub(super) fn awaits_lates(&self, id: Key) -> bool {
        let Some(stream) = self.streams.get(id) else { return false };
        stream.lates.iter().any(|late| self.streams.get(*late).is_some())
    }

    /// True when another try than `late` may still answer `owner`.
    fn awaits_beside(&self, owner: Key, late: Key) -> bool {
        let Some(stream) = self.streams.get(owner) else { return false };
        let others = stream.lates.iter().filter(|other| **other != late);
        stream.attempt != Attempt::None || others.into_iter().any(|other| self.streams.get(*other).is_some())
    }

    /// A late try has an answer. One that asks for a retry counts only if nobody else is left, since a retry was made.
    pub(super) fn late_response_head(
        &mut self,
        conn: Key,
        late: Key,
        owner: Key,
        framing: BodyFraming,
        outcome: Option<bool>,
    ) -> bool {
        if self.late_is_unwanted(late, owner) && self.awaits_beside(owner, late) {
            if let Some(scope) = self.host_scope(late) {
                self.stats.inc(scope, host_metric::RQ_ERROR);
            }
            self.retire_answer(late, conn);
            if let Some(stream) = self.streams.get_mut(late) {
                (stream.attempt, stream.unjudged) = (Attempt::None, false);
            }
            self.abandon_side(late);
            return false;
        }
        self.adopt(owner, late, conn);
        self.answered(conn, owner, framing, outcome)
    }

    fn late_is_unwanted(&self, late: Key, owner: Key) -> bool {
        let (Some(late), Some(owner)) = (self.streams.get(late), self.streams.get(owner)) else {
            return false;
        };
        let policy =
            owner.options.as_deref().and_then(|options| retry_policy(owner, options, &self.snapshot));
        owner.retry.as_ref().is_some_and(|retry| retry.would_retry(policy, &late.response))
    }

    /// A late try that begins to answer is the one that answers. Gives the stream that it belongs to then.
    pub(super) fn adopt_interim(&mut self, id: Key) -> Key {
        let Some(stream) = self.streams.get(id) else { return id };
        let owner = stream.side.as_ref().and_then(|side| side.owner);
        let (Some(owner), Some(conn)) = (owner, stream.upstream()) else { return id };
        self.adopt(owner, id, conn);
        owner
    }

    /// Puts a late try in the place of whatever its stream is doing.
    fn adopt(&mut self, owner: Key, late: Key, conn: Key) {
        self.drop_attempt(owner, crate::upstream::EndedBy::Local);
        self.end_retry_slot(owner);
        let Some(mut from) = self.streams.remove(late) else { return };
        let Some(stream) = self.streams.get_mut(owner) else { return };
        stream.lates.retain(|other| *other != late);
        (stream.attempt, stream.server) = (from.attempt, from.server.take());
        std::mem::swap(&mut stream.response, &mut from.response);
        stream.tracked = from.tracked.take();
        (stream.unjudged, stream.active, stream.try_ends) = (from.unjudged, from.active, from.try_ends);
        let (own, of) = (&mut stream.facts, &mut from.facts);
        (own.member, own.host, own.canary) = (of.member, of.host, of.canary);
        (own.times, own.upstream_version) = (of.times, of.upstream_version);
        own.host_address = of.host_address.take();
        own.upstream_raced = of.upstream_raced.take();
        own.upstream_local = of.upstream_local.take();
        own.upstream_tls = of.upstream_tls.take();
        own.upstream_connection = of.upstream_connection.take();
        own.transport_failure = None;
        if stream.keeps_replay {
            // What another try needs again is what the late one has sent, wherever the try beside it stood.
            for piece in stream.flow.request_queue.slices() {
                stream.replay.extend_from_slice(piece);
            }
            let sent = stream.replay.len().saturating_sub(from.flow.request_queue.len());
            stream.replay.truncate(sent);
            if let Some(mirrors) = &mut stream.mirrors {
                mirrors.goes_on_from(0);
                mirrors.copy(&stream.replay);
            }
        }
        let uncopied = stream.mirrors.is_some() && !stream.keeps_replay;
        std::mem::swap(&mut stream.flow.request_queue, &mut from.flow.request_queue);
        stream.flow.request_end_sent = from.flow.request_end_sent;
        stream.flow.response_end = from.flow.response_end;
        stream.flow.held_response = std::mem::take(&mut from.flow.held_response);
        self.move_try(conn, late, owner);
        self.recycle_stream(from);
        if uncopied {
            // What the late try has sent beyond what was copied is not known any more.
            self.leave_mirrors(owner);
        }
        self.flush_request(owner);
        self.feed_mirrors(owner);
    }

    /// A late try ended without an answer. If nobody else is left, that is the answer.
    pub(super) fn late_failed(&mut self, late: Key, owner: Key, reply: LocalReply) {
        if self.awaits_beside(owner, late) {
            return self.side_failed(late, reply.status);
        }
        self.abandon_side(late);
        self.local_reply(owner, reply);
    }

    /// Nobody waits for the late tries any more.
    pub(super) fn abandon_lates(&mut self, id: Key) {
        let lates = self.streams.get_mut(id).map(|stream| std::mem::take(&mut stream.lates));
        for late in lates.unwrap_or_default() {
            self.abandon_side(late);
        }
    }

    /// The time of the request is over, and so is that of its late tries.
    pub(super) fn time_out_lates(&mut self, id: Key) {
        let status = self.timeout_status(id);
        let lates = self.streams.get_mut(id).map(|stream| std::mem::take(&mut stream.lates));
        for late in lates.unwrap_or_default() {
            if self.streams.get(late).is_some() {
                self.count_timeout(late, metric::UPSTREAM_RQ_TIMEOUT);
                self.side_failed(late, status);
            }
        }
    }
}
