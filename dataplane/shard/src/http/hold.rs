//! Bodies over HTTP/1.1 that no endpoint takes yet: a filter holds the request, or it waits for a connection.

use millrace_base::Key;
use millrace_filter::http::BodyUse;
use millrace_http::h1::BodyEvent;

use super::request::http;
use super::stream::{Attempt, Stream};
use crate::shard::Shard;

impl Shard {
    /// Takes the next piece of the body into the stream. True when something was consumed.
    pub(super) fn hold_request_body(&mut self, key: Key, id: Key) -> bool {
        let now = self.io.now;
        let Some(stream) = self.streams.get(id) else { return false };
        let filtered = stream.holds_request();
        let Some(limit) = self.may_hold(stream) else { return false };
        let Some(http) = self.downstreams.get_mut(key).and_then(http) else { return false };
        let Some(stream) = self.streams.get_mut(id) else { return false };
        if stream.flow.request_queue.len() >= self.io.held.allowance(limit) {
            if filtered {
                self.starve_client(key);
            }
            return false;
        }
        stream.active = now;
        let step = match stream.request_body.decode(http.input.front(), &mut stream.request_trailers) {
            Ok(step) => step,
            Err(error) => {
                self.refuse_body(key, id, error);
                return false;
            }
        };
        let range = match step.event {
            BodyEvent::Data(range) => range,
            BodyEvent::NeedMore | BodyEvent::Trailers | BodyEvent::End => 0..0,
        };
        let done = stream.request_body.is_done();
        stream.facts.bytes.downstream_wire_received += step.consumed as u64;
        stream.facts.bytes.received += range.len() as u64;
        let using = stream.request_use();
        if filtered || using == BodyUse::Change {
            return self.h1_change_request(key, id, range, step.consumed, done) && step.consumed > 0;
        }
        if using == BodyUse::Observe
            && let Some(filters) = &mut stream.filters
        {
            filters.observe_request(&http.input.front()[range.clone()]);
        }
        // Receive buffers are not for what may wait for seconds.
        http.input.append_to(range, true, &mut stream.flow.request_queue);
        http.input.consume(step.consumed);
        stream.weigh(&self.io.held);
        if done {
            let keeps_trailers = http.hcm.http1.enable_trailers;
            self.request_body_arrived(id, keeps_trailers);
        }
        done || step.consumed > 0
    }

    /// How much of the body may wait in the stream: as much as a filter wants; while one makes the request wait for a time,
    /// or for a host to be resolved, as much as the listener buffers; or as much as waits for any endpoint of the cluster
    /// (`per_connection_buffer_limit_bytes` of each). Without it a request whose endpoint does not answer the connect would
    /// never be whole, and its `timeout` would never begin; nor would a connection outlive an abort behind a delay.
    fn may_hold(&self, stream: &Stream) -> Option<usize> {
        if stream.holds_request() {
            return Some(usize::MAX);
        }
        if stream.upgrade {
            return None;
        }
        if stream.filters.as_ref().is_some_and(|filters| filters.waits()) {
            let downstream = self.downstreams.get(stream.downstream)?;
            return Some(downstream.origin.listener.buffer_limit_bytes);
        }
        if !matches!(stream.attempt, Attempt::Queued(_) | Attempt::BackOff(_)) {
            return None;
        }
        let cluster = self.clusters.get(stream.facts.plan?.cluster?)?;
        Some(cluster.config().buffer_limit_bytes as usize)
    }
}
