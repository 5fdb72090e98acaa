//! The rest of a response of known length goes from the endpoint to the client inside the kernel.

use millrace_base::Key;
use millrace_observe::stats::cluster as metric;
use millrace_ring::RelayEnd;

use super::request::http;
use crate::link::Link;
use crate::shard::Shard;
use crate::upstream::Carries;

impl Shard {
    /// Begins the relay of this client's response if it is wanted and possible now.
    pub(crate) fn http_start_relay(&mut self, key: Key) {
        let Some(downstream) = self.downstreams.get_mut(key) else { return };
        let Some(id) = http(downstream).and_then(|h| h.stream) else { return };
        let Some(conn) = self.streams.get(id).and_then(|s| s.upstream()) else { return };
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let (Carries::Http(http), Some(link)) = (&upstream.carries, &mut upstream.link) else { return };
        if !link.is_ready_for_relay() || !http.input.is_empty() {
            return;
        }
        let left = http.body.counted_left();
        if left < self.io.bulk_bytes() {
            // So much had arrived before the reading stopped that receiving the rest is cheaper.
            return link.resume(&mut self.io);
        }
        if Link::start_relay(link, &mut downstream.link, left, &mut self.io) {
            self.rearm_downstream(key);
        }
    }

    /// The relay to this client reports.
    pub(crate) fn http_downstream_relayed(&mut self, key: Key, bytes: usize, end: Option<RelayEnd>) {
        let now = self.io.now;
        let stream = self.downstreams.get_mut(key).and_then(http).and_then(|h| h.stream);
        if let Some(id) = stream
            && let Some(stream) = self.streams.get_mut(id)
            && let Some(conn) = stream.upstream()
            && let Some(upstream) = self.upstreams.get_mut(conn)
            && let Carries::Http(http) = &mut upstream.carries
        {
            stream.active = now;
            let facts = &mut stream.facts.bytes;
            facts.upstream_wire_received += bytes as u64;
            facts.sent += bytes as u64;
            facts.downstream_wire_sent += bytes as u64;
            if let Some(tracked) = &mut stream.tracked {
                tracked.received += bytes as u64;
            }
            http.body.skip(bytes as u64);
            let done = http.body.is_done();
            self.stats.add(upstream.scope, metric::UPSTREAM_CX_RX_BYTES_TOTAL, bytes as u64);
            let ended = match (end, &mut upstream.link) {
                (Some(end), Some(link)) => link.relay_ended(end, &mut self.io),
                _ => None,
            };
            if end.is_some() && done {
                return self.response_arrived(id);
            }
            if let Some(ended) = ended {
                return self.http_upstream_ended(conn, ended);
            }
        }
        match end {
            Some(RelayEnd::To(error)) => self.http_downstream_sent(key, Err(error)),
            Some(_) => self.http_downstream_sent(key, Ok(bytes)),
            None => {}
        }
    }
}
