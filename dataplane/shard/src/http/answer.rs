//! What becomes of an answer's head: it is interim, thrown away for another try or a redirect, or the client's.

use millrace_base::Key;
use millrace_filter::http::LocalReply;
use millrace_filter::http::router::outcome;
use millrace_filter::http::router::retry::ResetReason;
use millrace_http::HeaderId;
use millrace_http::h1::{BodyFraming, response_keep_alive};
use millrace_observe::stats::{
    CodeFamily, UNNAMED_CODE, cluster as metric, host as host_metric, route as route_metric,
};

use super::finish::tally;
use super::retry::{Again, Outcome};
use super::stream::Attempt;
use crate::shard::Shard;
use crate::upstream::{Carries, EndedBy};

impl Shard {
    /// A head is complete: interim, an upgrade, worth another try, or the answer.
    pub(super) fn response_head(&mut self, conn: Key, id: Key, framing: BodyFraming) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        if (100..200).contains(&stream.response.status) && framing != BodyFraming::Tunnel {
            return self.informational(id);
        }
        let Some(upstream) = self.upstreams.get_mut(conn) else { return false };
        let mut closes = false;
        if let Carries::Http(http) = &mut upstream.carries {
            closes = !response_keep_alive(&stream.response);
            http.head_done = true;
            http.body.reset(framing);
            http.keep_alive = !closes && !matches!(framing, BodyFraming::UntilClose | BodyFraming::Tunnel);
        }
        let (host_scope, scope) = (upstream.host_scope, upstream.scope);
        let whole = match &upstream.carries {
            Carries::Http(http) => http.body.is_done(),
            Carries::Http2(_) | Carries::Tcp(_) => stream.flow.response_end,
        };
        // Whatever became of it since, the tries beside it included.
        let was_retry = stream.facts.attempts > 1 && stream.retry.is_some();
        if let Some(tracked) = &mut stream.tracked {
            tracked.head(&stream.response);
        }
        if stream.facts.balance.wants_load {
            self.read_load(id, false);
        }
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let status = stream.response.status;
        if closes {
            self.stats.inc(scope, metric::UPSTREAM_CX_CLOSE_NOTIFY);
        }
        let outcome = outcome::of_head(stream.asks_grpc(), &stream.response, whole);
        stream.unjudged = outcome.is_none();
        let judged = outcome::status(stream.asks_grpc(), &stream.response);
        let owner = stream.side.as_ref().and_then(|side| side.owner);
        let excludes = stream.response.headers.contains(HeaderId::XEnvoyImmediateHealthCheckFail);
        if stream.watched {
            self.report_answer(id, judged);
        }
        if excludes {
            self.exclude_host_of(id);
        }
        if let Some(owner) = owner {
            return self.late_response_head(conn, id, owner, framing, outcome);
        }
        self.end_retry_slot(id);
        match self.try_again(id, Outcome::Response) {
            Again::Yes => {
                self.stats.inc(host_scope, host_metric::RQ_ERROR);
                let hidden = self.streams.get(id).is_some_and(|stream| stream.hides_status());
                self.stats.code(scope, CodeFamily::Retry, if hidden { UNNAMED_CODE } else { status });
                self.retire_answer(id, conn);
                return false;
            }
            Again::Refused if self.awaits_lates(id) => {
                // It may only be the worse of two answers.
                self.stats.inc(host_scope, host_metric::RQ_ERROR);
                self.retire_answer(id, conn);
                if let Some(stream) = self.streams.get_mut(id) {
                    (stream.attempt, stream.unjudged) = (Attempt::None, false);
                    stream.response.clear();
                }
                return false;
            }
            Again::No if was_retry => {
                self.stats.inc(scope, metric::UPSTREAM_RQ_RETRY_SUCCESS);
                if let Some(stream) = self.streams.get(id) {
                    tally(&mut self.stats, stream, route_metric::UPSTREAM_RQ_RETRY_SUCCESS);
                }
            }
            Again::No | Again::Refused => {}
        }
        self.answered(conn, id, framing, outcome)
    }

    /// No other try will follow: a redirect is followed, anything else is for the client. `outcome` says whether the
    /// endpoint did well, as far as the head tells.
    pub(super) fn answered(
        &mut self,
        conn: Key,
        id: Key,
        framing: BodyFraming,
        outcome: Option<bool>,
    ) -> bool {
        self.abandon_lates(id);
        let Some(stream) = self.streams.get(id) else { return false };
        if stream.follows_redirects && self.follow_redirect(id, conn) {
            return false;
        }
        let Some(host_scope) = self.upstreams.get(conn).map(|upstream| upstream.host_scope) else {
            return false;
        };
        match outcome {
            Some(true) => self.stats.inc(host_scope, host_metric::RQ_SUCCESS),
            Some(false) => self.stats.inc(host_scope, host_metric::RQ_ERROR),
            None => {}
        }
        let Some(stream) = self.streams.get(id) else { return false };
        if stream.side.is_some() {
            return self.side_response_head(conn, id, framing);
        }
        if framing != BodyFraming::Tunnel && stream.response.status < 400 && stream.is_websocket() {
            let refusal = LocalReply::new(stream.response.status, "", "websocket_handshake_unsuccessful");
            self.local_reply(id, refusal);
            return false;
        }
        self.send_response_head(conn, id, framing)
    }

    /// The answer of a try that is repeated is thrown away. A connection whose answer is complete with its
    /// head serves on, any other is closed.
    pub(super) fn retire_answer(&mut self, id: Key, conn: Key) {
        self.try_is_over(id);
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Carries::Http(http) = &mut upstream.carries else {
            return self.h2_retire_answer(id, conn);
        };
        let bodiless = http.body.is_done();
        // A short body that has arrived whole is worth reading to save the connection.
        let mut trailers = std::mem::take(&mut self.discarded_trailers);
        while !http.body.is_done() {
            match http.body.decode(http.input.front(), &mut trailers) {
                Ok(step) if step.consumed > 0 => http.input.consume(step.consumed),
                Ok(_) | Err(_) => break,
            }
        }
        trailers.clear();
        // As in `release_upstream`: the rest of a request that was answered early must not meet the next one.
        let request_sent = http.stream.and_then(|s| self.streams.get(s)).is_some_and(|s| s.request_complete)
            && upstream.link.as_ref().is_some_and(|l| l.queued() == 0 && !l.is_ended());
        let answered = http.body.is_done() && http.input.is_empty() && http.keep_alive;
        let reusable = answered && request_sent;
        self.discarded_trailers = trailers;
        let over = bodiless && request_sent;
        if !(reusable || over) {
            let scope = upstream.scope;
            self.stats.inc(scope, metric::UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ);
            self.stats.inc(scope, metric::UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ);
        }
        self.give_back(conn, reusable);
    }

    /// The endpoint has begun to answer: this try is the last.
    fn commit_to_try(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.side.is_none()) else { return };
        stream.retry = None;
        self.end_retry_slot(id);
        self.abandon_lates(id);
    }

    /// 1xx: `100` answers `expect`, everything else ends here. As in Envoy it counts as an answer and as the beginning
    /// of the response: no other try follows.
    pub(super) fn informational(&mut self, id: Key) -> bool {
        let (max, now) = (self.limits.informational_responses_max, self.io.now);
        let id = self.adopt_interim(id);
        let Some(stream) = self.streams.get_mut(id) else { return false };
        stream.informational += 1;
        stream.active = now;
        let status = stream.response.status;
        let forward = status == 100 && stream.forwards_continue;
        let flooded = stream.informational > max;
        self.count_beside(id, status);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.response.clear();
        }
        self.commit_to_try(id);
        if flooded {
            self.drop_attempt(id, EndedBy::Local);
            self.attempt_failed(id, ResetReason::ProtocolError, true);
            return false;
        }
        if forward {
            self.invite_body(id);
        }
        true
    }
}
