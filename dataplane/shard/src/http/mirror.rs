//! Copies of requests (`request_mirror_policies`).
//!
//! A copy is a stream of its own without a client, which begins with the first try of its request and gets the same body
//! bytes as they are sent. It never slows the request down: what its endpoint does not take waits in a bounded queue, and
//! a copy whose queue is full is given up.

use millrace_base::{Key, Time};
use millrace_config::{ClusterId, MirrorPolicy, Snapshot};
use millrace_filter::http::LocalReply;
use millrace_filter::http::router::mirror;
use millrace_http::RequestHead;
use millrace_http::h1::BodyFraming;
use millrace_observe::stats::cluster as metric;

use super::render::Renderer;
use super::routing::own_policies;
use super::side::{NO_CLIENT, Side};
use super::stream::Plan;
use super::{HttpOptions, Stream, drop_overload};
use crate::shard::Shard;

/// Bytes of a request's body that wait for one endpoint of a copy at the most.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// The copies of one request.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    /// Clusters, with the policies that name them, by index.
    targets: Vec<(ClusterId, usize)>,
    /// The copies that are under way.
    streams: Vec<Key>,
    /// Body bytes that were sent and not copied yet.
    pending: Vec<u8>,
    /// Body bytes that were copied so far, waiting or not.
    copied: usize,
    /// Where in the body the try stands: it may send once more what was copied already.
    at: usize,
    /// The copies have begun.
    started: bool,
}

impl Mirrors {
    /// Notes body bytes that are being sent, and copies those that are new.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        let known = self.copied.saturating_sub(self.at).min(bytes.len());
        self.pending.extend_from_slice(&bytes[known..]);
        self.at += bytes.len();
        self.copied = self.copied.max(self.at);
    }

    /// Another try goes on from this place of the body.
    pub(super) fn goes_on_from(&mut self, place: usize) {
        self.at = place;
    }
}

/// What is copied where: the cluster's policies, else the route's.
fn policies<'s>(stream: &Stream, options: &'s HttpOptions, snapshot: &'s Snapshot) -> &'s [MirrorPolicy] {
    let Some(plan) = stream.facts.plan else { return &[] };
    let own = own_policies(stream, plan.cluster, snapshot).filter(|own| !own.mirrors.is_empty());
    match own {
        Some(own) => &own.mirrors,
        None => plan.forward(options).map_or(&[], |forward| &forward.mirrors),
    }
}

impl Shard {
    /// Notes which copies a request that is about to be forwarded shall have.
    pub(super) fn plan_mirrors(&mut self, id: Key, options: &HttpOptions) {
        let random = self.rng.next_u64();
        let Some(stream) = self.streams.get_mut(id) else { return };
        // Envoy copies upgrades; a copy of a tunnel serves nobody.
        if stream.upgrade || stream.terminated {
            return;
        }
        let policies = policies(stream, options, &self.snapshot).iter().enumerate();
        let wanted = policies.filter_map(|(at, policy)| {
            Some((mirror::target(policy, random, &stream.request, &self.snapshot)?, at))
        });
        let targets: Vec<_> = wanted.collect();
        stream.mirrors = (!targets.is_empty()).then(|| Box::new(Mirrors { targets, ..Mirrors::default() }));
    }

    /// The head that copies are made of: before an endpoint may have changed its host.
    pub(super) fn head_for_mirrors(&self, id: Key) -> Option<Box<RequestHead>> {
        let stream = self.streams.get(id)?;
        stream.mirrors.as_ref().map(|_| Box::new(stream.request.clone()))
    }

    /// The request is on its way: so are its copies.
    pub(super) fn start_mirrors(&mut self, id: Key, head: &RequestHead) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let targets = stream.mirrors.as_mut().map(|mirrors| std::mem::take(&mut mirrors.targets));
        let mut started = Vec::new();
        for (cluster, policy) in targets.unwrap_or_default() {
            if let Some(copy) = self.mirror_of(id, head, cluster, policy) {
                started.push(copy);
                match self.refuse_copy(cluster) {
                    Some(reply) => self.local_reply(copy, reply),
                    None => self.attempt(copy),
                }
            }
        }
        if let Some(mirrors) = self.streams.get_mut(id).and_then(|stream| stream.mirrors.as_mut()) {
            mirrors.streams = started;
            mirrors.started = true;
        }
        self.feed_mirrors(id);
    }

    /// Clusters refuse copies on purpose, too.
    fn refuse_copy(&mut self, id: ClusterId) -> Option<LocalReply> {
        let cluster = self.snapshot.cluster(id).filter(|cluster| cluster.drop_overload.is_some())?;
        drop_overload::is_due(cluster, &mut self.rng).then(|| self.refuse_on_purpose(id, false))
    }

    /// Makes the stream that sends a copy.
    fn mirror_of(&mut self, id: Key, head: &RequestHead, cluster: ClusterId, policy: usize) -> Option<Key> {
        let stream = self.streams.get(id)?;
        let downstream = self.downstreams.get(stream.downstream)?;
        let options = stream.options.as_deref()?;
        let renderer = Renderer {
            downstream,
            options: Some(options),
            facts: &stream.facts,
            shard: &self.names,
            snapshot: &self.snapshot,
        };
        let mut copy = self.spare_streams.pop().unwrap_or_else(|| Box::new(Stream::new(NO_CLIENT)));
        copy.reset(NO_CLIENT);
        copy.request.clone_from(head);
        let policy = policies(stream, options, &self.snapshot).get(policy)?;
        mirror::mark(policy, &renderer, self.host_address, &mut copy.request, &mut self.scratch);
        copy.side = Some(Box::new(Side::default()));
        copy.request_framing = stream.request_framing;
        (copy.is_head, copy.is_grpc) = (stream.is_head, stream.is_grpc);
        copy.timeouts.global = stream.timeouts.global;
        copy.active = self.io.now;
        let facts = &mut copy.facts;
        (facts.times.start, facts.times.start_wall) = (self.io.now, self.wall);
        facts.internal = true;
        facts.plan = Some(Plan { virtual_host: 0, route: 0, weighted: None, cluster: Some(cluster) });
        if stream.request_framing == BodyFraming::None {
            copy.request_complete = true;
            copy.response_deadline = copy.timeouts.global.map_or(Time::MAX, |limit| self.io.now + limit);
        }
        Some(self.streams.insert(copy))
    }

    /// Hands the copies what was sent of the body since the last call, and its end.
    pub(super) fn feed_mirrors(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(mirrors) = stream.mirrors.as_mut().filter(|mirrors| mirrors.started) else { return };
        let bytes = std::mem::take(&mut mirrors.pending);
        let ends = stream.request_complete && stream.flow.request_queue.is_empty();
        let copies = std::mem::take(&mut mirrors.streams);
        if bytes.is_empty() && !ends {
            mirrors.streams = copies;
            return;
        }
        let trailers = ends.then(|| stream.request_trailers.clone());
        for copy in &copies {
            self.feed_mirror(*copy, &bytes);
            let Some(stream) = self.streams.get_mut(*copy).filter(|copy| !copy.request_complete) else {
                continue;
            };
            if let Some(trailers) = &trailers {
                stream.request_trailers.clone_from(trailers);
                stream.flow.request_end = true;
                self.request_arrived(*copy);
            }
            self.flush_request(*copy);
        }
        let mirrors = self.streams.get_mut(id).and_then(|stream| stream.mirrors.as_mut());
        if let Some(mirrors) = mirrors.filter(|_| !ends) {
            mirrors.streams = copies;
            mirrors.pending = bytes;
            mirrors.pending.clear();
        }
    }

    fn feed_mirror(&mut self, copy: Key, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(copy) else { return };
        let most = self.io.held.allowance(QUEUE_BYTES_MAX);
        if stream.flow.request_queue.len() + bytes.len() <= most {
            return stream.flow.request_queue.push_bytes(bytes);
        }
        let cluster = stream.facts.plan.and_then(|plan| plan.cluster);
        if let Some(scope) = cluster.and_then(|cluster| self.cluster_scope(cluster)) {
            self.stats.inc(scope, metric::RETRY_OR_SHADOW_ABANDONED);
        }
        self.abandon_side(copy);
    }

    /// The request is over: copies that have not got all of it never will.
    pub(super) fn leave_mirrors(&mut self, id: Key) {
        let Some(mirrors) = self.streams.get_mut(id).and_then(|stream| stream.mirrors.take()) else { return };
        for copy in mirrors.streams {
            self.abandon_side(copy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tries, and a late one that had sent more than the second: every byte is copied once, in order.
    #[test]
    fn what_is_sent_again_is_copied_once() {
        let mut mirrors = Mirrors::default();
        mirrors.copy(b"abc");
        mirrors.goes_on_from(0);
        mirrors.copy(b"ab");
        mirrors.goes_on_from(0);
        mirrors.copy(b"abcdefg");
        mirrors.goes_on_from(5);
        mirrors.copy(b"fgh");
        assert_eq!(mirrors.pending, b"abcdefgh");
    }
}
