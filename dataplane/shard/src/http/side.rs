//! Streams without a client. They have a request, an endpoint and a time like any other, but nobody takes what they are
//! answered: copies of requests ([`super::mirror`]), and tries beside that of their stream ([`super::hedge`]).

use millrace_base::Key;
use millrace_filter::http::LocalReply;
use millrace_http::h1::BodyFraming;
use millrace_observe::stats::cluster as metric;
use millrace_upstream::TryResult;

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

    /// Shutdown: streams without a client end before their connections.
    pub(crate) fn stop_sides(&mut self) {
        let sides = self.streams.iter().filter(|(_, stream)| stream.side.is_some());
        for id in sides.map(|(id, _)| id).collect::<Vec<_>>() {
            self.abandon_side(id);
        }
    }
}
