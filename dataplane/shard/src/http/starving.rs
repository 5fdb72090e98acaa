//! Connections that are not read because too much waits on the shard ([`crate::held`]), and when they are again.

use millrace_base::{Key, ResponseFlag};
use millrace_observe::stats::{cluster as cluster_metric, http as metric};

use super::h2::{STALL_TIMEOUT, client_room};
use super::request::http;
use crate::downstream::Protocol;
use crate::held::ALWAYS_BYTES;
use crate::shard::Shard;
use crate::token::Kind;
use crate::upstream::{Carries, EndedBy};

/// Starved connections that are read again in one turn: what they bring may be much.
const FED_AT_ONCE: usize = 16;

impl Shard {
    /// Reads a client no further, whose bytes would have to wait. The rest of a head or frame is not its fault.
    #[cold]
    pub(super) fn starve_client(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let paused = downstream.link.is_paused();
        downstream.link.starve(&mut self.io);
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        http.head_since = None;
        if !paused {
            self.stats.inc(http.hcm.scope, metric::DOWNSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL);
        }
    }

    /// Reads a starved client of HTTP/2 on once little of what it sent waits.
    #[cold]
    pub(super) fn feed_client(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Protocol::Http(http) = &mut downstream.protocol else { return };
        let Some(h2) = &http.h2 else { return };
        if downstream.link.is_paused() && h2.codec.unreleased() <= ALWAYS_BYTES as u64 {
            downstream.link.resume(&mut self.io);
            self.stats.inc(http.hcm.scope, metric::DOWNSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
        }
    }

    /// Does not begin to read an answer whose client has no room for it.
    #[cold]
    pub(super) fn defer_answer(&mut self, id: Key, conn: Key) {
        let Some(stream) = self.streams.get(id).filter(|s| s.client.is_some() && s.server.is_none()) else {
            return;
        };
        let Some(downstream) = self.downstreams.get(stream.downstream) else { return };
        if client_room(&self.io, downstream, stream) > 0 {
            return;
        }
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        if let Some(link) = upstream.link.as_mut().filter(|link| link.can_pause()) {
            link.starve(&mut self.io);
            self.stats.inc(upstream.scope, cluster_metric::UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL);
            self.await_client(id);
        }
    }

    /// The bound is reached: answers that have not begun and whose clients have no room are not read.
    #[cold]
    pub(crate) fn defer_answers(&mut self) {
        self.io.held.defers = true;
        let unread = self.upstreams.iter().filter_map(|(conn, upstream)| match &upstream.carries {
            Carries::Http(http) if !http.head_done && http.input.is_empty() => Some((http.stream?, conn)),
            Carries::Http(_) | Carries::Http2(_) | Carries::Tcp(_) => None,
        });
        let unread: Vec<_> = unread.collect();
        for (id, conn) in unread {
            self.defer_answer(id, conn);
        }
    }

    /// Little waits now: some of the connections that starve are read again.
    #[cold]
    pub(crate) fn feed_starved(&mut self) {
        self.io.held.defers = false;
        for _ in 0..FED_AT_ONCE {
            let Some(token) = self.io.held.starved.pop_front() else { return };
            match Kind::parse(token.0) {
                Some((Kind::Downstream, key)) => self.feed_downstream(key),
                Some((Kind::Upstream, key)) => {
                    if let Some(link) = self.upstreams.get_mut(key).and_then(|u| u.link.as_mut()) {
                        link.feed();
                        self.resume_reading(key);
                    }
                }
                Some(_) | None => {}
            }
        }
    }

    fn feed_downstream(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        downstream.link.feed();
        let paused = downstream.link.is_paused();
        let Some(state) = http(downstream).filter(|http| http.is_open()) else { return };
        if state.h2.is_none() {
            return self.run_later(key);
        }
        let scope = state.hcm.scope;
        if paused {
            downstream.link.resume(&mut self.io);
            self.stats.inc(scope, metric::DOWNSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
        }
        // Requests that filters hold until they are whole may go on to grow.
        for id in self.h2_streams(key) {
            if self.streams.get(id).is_some_and(|stream| stream.holds_request()) {
                self.h2_release_request(id);
            }
        }
    }

    /// While much waits: streams whose bytes nobody has taken for long are over. Their peers may be gone, which nobody
    /// notices who does not read.
    #[cold]
    pub(crate) fn end_stuck_streams(&mut self) {
        let now = self.io.now;
        let mut stuck: Vec<Key> = Vec::new();
        for (_, upstream) in self.upstreams.iter() {
            if let Carries::Http(http) = &upstream.carries
                && http.input.is_spilled()
            {
                stuck.extend(http.stream);
            }
        }
        for (id, stream) in self.streams.iter() {
            if stream.flow.request_queue.own_bytes() + stream.flow.response_queue.own_bytes() > 0 {
                stuck.push(id);
            }
        }
        for id in stuck {
            let Some(stream) = self.streams.get_mut(id).filter(|s| s.side.is_none()) else { continue };
            if stream.active + STALL_TIMEOUT <= now {
                stream.flag(ResponseFlag::OverloadManagerTerminated);
                stream.facts.details = "overload".into();
                self.abort_stream(id, EndedBy::Local);
            }
        }
        self.forget_starved();
    }

    /// Connections that have starved and are gone are not remembered for as long as the others do.
    fn forget_starved(&mut self) {
        let (downstreams, upstreams) = (&self.downstreams, &self.upstreams);
        self.io.held.starved.retain(|token| match Kind::parse(token.0) {
            Some((Kind::Downstream, key)) => downstreams.get(key).is_some(),
            Some((Kind::Upstream, key)) => upstreams.get(key).is_some(),
            Some(_) | None => false,
        });
    }
}
