//! Streams whose bytes wait for room on an HTTP/2 connection: the lists that they stand in, and who is looked at when a
//! window or a socket has room again.

use std::collections::VecDeque;

use millrace_base::{Key, Time};
use millrace_observe::stats::cluster as metric;

use super::super::request::http;
use super::super::{INPUT_BYTES_MAX, Stream};
use super::STALL_TIMEOUT;
use super::flow::h2_of;
use crate::shard::Shard;
use crate::upstream::Carries;

/// Takes a stream out of a list of those that wait.
pub(crate) fn forget_waiting(waiting: &mut VecDeque<Key>, id: Key) {
    waiting.retain(|waits| *waits != id);
}

/// The deadline of bytes that the client gives no room for while buffers are in demand.
pub(crate) fn stall_deadline(stream: &Stream) -> Time {
    if stream.flow.awaits_client { stream.flow.awaits_since + STALL_TIMEOUT } else { Time::MAX }
}

impl Shard {
    /// Has the stream looked at when its client, which speaks HTTP/2, has room again.
    pub(crate) fn await_client(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.flow.awaits_client || stream.client.is_none() {
            return;
        }
        let Some(downstream) = self.downstreams.get_mut(stream.downstream) else { return };
        let Some(h2) = h2_of(&mut downstream.protocol) else { return };
        stream.flow.awaits_client = true;
        stream.flow.awaits_since = now;
        h2.waiting.push_back(id);
    }

    /// Has the stream looked at when its endpoint, which speaks HTTP/2, has room again.
    pub(crate) fn await_upstream(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.flow.awaits_upstream || stream.server.is_none() {
            return;
        }
        let Some(upstream) = stream.upstream().and_then(|conn| self.upstreams.get_mut(conn)) else { return };
        if let Carries::Http2(h2) = &mut upstream.carries {
            stream.flow.awaits_upstream = true;
            h2.waiting.push_back(id);
        }
    }

    /// The client's connection has room: everybody who waits is looked at once, in turn, while the room lasts.
    pub(super) fn resume_clients(&mut self, key: Key) {
        let waiting = |shard: &mut Self| {
            Some(shard.downstreams.get_mut(key).and_then(http)?.h2.as_ref()?.waiting.len())
        };
        for _ in 0..waiting(self).unwrap_or(0) {
            let Some(downstream) = self.downstreams.get_mut(key) else { return };
            let limit = self.io.high_watermark(downstream.origin.listener.buffer_limit_bytes);
            if downstream.link.queued() >= limit {
                return;
            }
            let Some(id) = h2_of(&mut downstream.protocol).and_then(|h2| h2.waiting.pop_front()) else {
                return;
            };
            if let Some(stream) = self.streams.get_mut(id) {
                stream.flow.awaits_client = false;
                self.resume_response_of(id);
            }
        }
    }

    /// The client's window for this stream has opened.
    pub(super) fn client_has_room(&mut self, key: Key, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !std::mem::take(&mut stream.flow.awaits_client) {
            return;
        }
        if let Some(h2) = self.downstreams.get_mut(key).and_then(|d| h2_of(&mut d.protocol)) {
            forget_waiting(&mut h2.waiting, id);
        }
        self.resume_response_of(id);
    }

    /// Goes on with a response whose client has room again.
    pub(crate) fn resume_response_of(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.active = self.io.now;
        let conn = stream.upstream();
        if stream.server.is_some() || !stream.flow.response_queue.is_empty() || conn.is_none() {
            self.flush_response(id);
            if self.streams.get(id).is_none_or(|s| s.server.is_some() || !s.flow.response_queue.is_empty()) {
                return;
            }
        }
        let Some(conn) = conn else { return };
        self.pump_response(conn);
        self.resume_reading(conn);
    }

    /// The endpoint's connection has room; see [`Shard::resume_clients`].
    pub(super) fn resume_upstreams(&mut self, conn: Key) {
        let waiting = match self.upstreams.get_mut(conn).map(|u| &u.carries) {
            Some(Carries::Http2(h2)) => h2.waiting.len(),
            _ => 0,
        };
        for _ in 0..waiting {
            let Some(upstream) = self.upstreams.get_mut(conn) else { return };
            let limit = self.io.high_watermark(upstream.buffer_limit);
            if upstream.link.as_ref().is_none_or(|link| link.queued() >= limit) {
                return;
            }
            let Carries::Http2(h2) = &mut upstream.carries else { return };
            let Some(id) = h2.waiting.pop_front() else { return };
            self.resume_request_of(id);
        }
    }

    /// The endpoint's window for this stream has opened.
    pub(super) fn upstream_has_room(&mut self, conn: Key, id: Key) {
        if !self.streams.get(id).is_some_and(|s| s.flow.awaits_upstream) {
            return;
        }
        if let Some(Carries::Http2(h2)) = self.upstreams.get_mut(conn).map(|u| &mut u.carries) {
            forget_waiting(&mut h2.waiting, id);
        }
        self.resume_request_of(id);
    }

    fn resume_request_of(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.flow.awaits_upstream = false;
        stream.active = self.io.now;
        if stream.tunnel && stream.request_complete {
            return self.tunnel_settle(id);
        }
        if stream.client.is_some() || !stream.flow.request_queue.is_empty() {
            return self.flush_request(id);
        }
        let key = stream.downstream;
        self.run_later(key);
    }

    /// Reads on from an HTTP/1.1 endpoint whose unread bytes have become few.
    pub(crate) fn resume_reading(&mut self, conn: Key) {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let (Carries::Http(http), Some(link)) = (&upstream.carries, &mut upstream.link) else { return };
        if link.is_paused() && http.input.len() < self.io.held.allowance(INPUT_BYTES_MAX) / 2 {
            link.resume(&mut self.io);
            self.stats.inc(upstream.scope, metric::UPSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
        }
    }

    /// Takes what a stream leaves behind off the connections that it was on.
    pub(crate) fn leave_waiting(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let (key, conn) = (stream.downstream, stream.upstream());
        let client = std::mem::take(&mut stream.flow.awaits_client);
        let server = std::mem::take(&mut stream.flow.awaits_upstream);
        if client && let Some(h2) = self.downstreams.get_mut(key).and_then(|d| h2_of(&mut d.protocol)) {
            forget_waiting(&mut h2.waiting, id);
        }
        if server
            && let Some(Carries::Http2(h2)) =
                conn.and_then(|conn| self.upstreams.get_mut(conn)).map(|u| &mut u.carries)
        {
            forget_waiting(&mut h2.waiting, id);
        }
    }
}
