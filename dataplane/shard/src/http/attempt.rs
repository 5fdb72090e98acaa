//! Tries: choosing an endpoint, waiting for a connection, sending the request, and trying again.

use millrace_base::{Key, Written};
use millrace_config::{Cluster, ClusterId, LbPolicy, Snapshot, UpstreamProtocol};
use millrace_filter::http::LocalReply;
use millrace_filter::http::router::retry::ResetReason;
use millrace_filter::http::router::{reply, request as router};
use millrace_http::Version;
use millrace_http::h1::{
    BodyFraming, CHUNK_SUFFIX, EncodeOptions, RequestInfo, encode_chunk_prefix, encode_request,
};
use millrace_http::h2::ErrorCode;
use millrace_observe::stats::{cluster as metric, host as host_metric, route as route_metric};
use millrace_upstream::{
    Acquire, ChooseContext, ConnId, HttpProtocol, PoolAction, PoolFailure, PreviousPriorities,
    ResourcePriority, TryResult,
};

use super::asked_transport::transport_key;
use super::finish::tally;
use super::retry::{Again, Outcome};
use super::routing::retry_policy;
use super::stream::{Attempt, Stream};
use super::tracked::Tracked;
use super::{balance, header_case};
use crate::choose::{Asker, Choice, Chooser, NoChoice};
use crate::downstream::Downstream;
use crate::named_hosts::Waiter;
use crate::shard::Shard;
use crate::upstream::{Carries, EndedBy};

impl Shard {
    /// Makes the first try of a planned request.
    pub(super) fn first_attempt(&mut self, id: Key) {
        let upgrade = self.streams.get(id).is_some_and(|s| s.upgrade);
        if let (true, Some(stream)) = (upgrade, self.streams.get_mut(id)) {
            // What follows the head belongs to the other protocol, and waits for the upstream's word.
            stream.keeps_replay = false;
        }
        self.attempt(id);
    }

    /// Chooses an endpoint and asks its pool for a connection.
    pub(super) fn attempt(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.attempt = Attempt::None;
        stream.facts.attempts += 1;
        self.attempt_named(id, false);
    }

    /// The same, once the host that the request names was looked for: `again`.
    pub(super) fn attempt_named(&mut self, id: Key, again: bool) {
        let Some(stream) = self.streams.get(id) else { return };
        let Some(routed) = stream.facts.plan.and_then(|p| p.cluster) else {
            if stream.rotation.is_some() {
                self.end_retry_slot(id);
                self.local_reply(id, reply::no_healthy_upstream(503));
            }
            return;
        };
        match self.choose_endpoint(id, routed, again) {
            Ok(choice) => self.attempt_at(id, choice),
            Err(NoChoice::NoCluster) => self.local_reply(id, reply::no_cluster(503)),
            Err(NoChoice::NoHost) => {
                self.end_retry_slot(id);
                self.local_reply(id, reply::no_healthy_upstream(503));
            }
            Err(NoChoice::Unresolved(details)) => {
                self.end_retry_slot(id);
                self.local_reply(id, LocalReply { details, ..reply::no_healthy_upstream(503) });
            }
            Err(NoChoice::Waits) => self.await_host(id),
            Err(NoChoice::Missing) => {
                let session = self.streams.get(id).and_then(|stream| stream.facts.balance.session.as_ref());
                let status = session.map_or(503, |session| session.status_when_missing);
                self.end_retry_slot(id);
                self.local_reply(id, reply::no_healthy_upstream(status));
            }
        }
    }

    fn choose_endpoint(&mut self, id: Key, routed: ClusterId, again: bool) -> Result<Choice, NoChoice> {
        let stream = self.streams.get(id).ok_or(NoChoice::NoHost)?;
        let facts = &stream.facts;
        let reads_metadata = |cluster: &Cluster| {
            cluster.balancing.subset.is_some() || cluster.lb_policy == LbPolicy::ClusterProvided
        };
        let reads_metadata = self.snapshot.cluster(routed).is_some_and(|cluster| reads_metadata(cluster));
        let options = stream.options.as_deref().filter(|_| reads_metadata);
        let context = ChooseContext {
            hash: facts.balance.hash,
            metadata: options.and_then(|options| balance::metadata_match(facts, options)),
            override_host: facts.balance.override_host(facts.attempts),
            now: self.io.now,
            ..ChooseContext::default()
        };
        let avoids = stream.avoids_hosts && facts.attempts > 1;
        let context = if avoids { avoiding(context, stream, &self.snapshot) } else { context };
        let client = self.downstreams.get(stream.downstream).map(|client| &**client);
        let notes = facts.state.read();
        let asker = Asker {
            headers: Some(&stream.request.headers),
            authority: Some(stream.request.authority()),
            port: None,
            waiter: Some((Waiter::Stream(id), again)),
            client,
            written: Written::of(notes.as_deref(), client.and_then(Downstream::filter_state)),
            avoid_of: facts.member,
        };
        let mut chooser = Chooser {
            clusters: &mut self.clusters,
            snapshot: &self.snapshot,
            shared: &self.shared,
            stats: &mut self.stats,
            rng: &mut self.rng,
            named_hosts: &mut self.named_hosts,
            now: self.io.now,
            wall: self.wall,
        };
        chooser.choose(routed, &context, &asker)
    }

    /// Asks the pool of an endpoint for a connection.
    fn attempt_at(&mut self, id: Key, Choice { cluster, chosen }: Choice) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(state) = self.clusters.get_mut(cluster) else { return };
        let priority = priority(stream.facts.high_priority);
        let scope = state.config().scope;
        stream.watched = state.hears_tries();
        stream.begins_counted = state.counts_beginnings(priority);
        stream.facts.times.upstream_pool_ready = None;
        stream.try_stream = state.config().http.max_stream_duration;
        stream.tracked = state
            .config()
            .tracked
            .as_ref()
            .filter(|stats| stats.counts_tries())
            .map(|stats| Tracked::begin(**stats, self.io.now));
        if stream.facts.member.replace(cluster).is_some_and(|before| before != cluster) {
            // They are endpoints of another member of an aggregate cluster.
            stream.tried_hosts.clear();
        }
        stream.facts.host = Some(chosen.host);
        stream.facts.balance.wants_load = state.hears_load();
        if let Some(host) = state.host(chosen.host) {
            stream.facts.host_address = Some(host.address.clone());
            stream.facts.canary = host.is_canary();
            let options = stream.options.clone();
            let plan = stream.facts.plan;
            if let Some(options) = &options
                && let Some(forward) = plan.and_then(|p| p.forward(options))
            {
                let (head, name) = (&mut stream.request, host.hostname.as_bytes());
                router::rewrite_host_for_endpoint(forward, options.router, name, head, &mut self.scratch);
            }
        }
        balance::note_selected(&stream.facts, &state.config().balancing);
        if stream.avoids_hosts {
            stream.tried_hosts.push(chosen.host);
        }
        if stream.terminated {
            return self.open_tunnel(id, cluster, chosen.host);
        }
        let protocol = match (state.config().http.protocol, stream.client) {
            (UpstreamProtocol::Auto, _) => HttpProtocol::Auto,
            (UpstreamProtocol::Http1, _) | (UpstreamProtocol::UseDownstream, None) => HttpProtocol::Http1,
            (UpstreamProtocol::Http2, _) | (UpstreamProtocol::UseDownstream, Some(_)) => HttpProtocol::Http2,
        };
        let client = self.downstreams.get(stream.downstream);
        let Some(transport) = transport_key(state, stream, client.map(|client| &**client)) else {
            self.end_retry_slot(id);
            return self.pool_failed(id, PoolFailure::ConnectionOverflow);
        };
        match state.acquire(chosen.host, priority, protocol, transport, id, &mut self.actions) {
            Acquire::Reuse { conn, .. } => {
                self.run_pool_actions(cluster);
                self.send_request(id, conn);
            }
            Acquire::Queued(wait)
                if self.overload.sheds_new(&self.actions, &mut self.rng, &mut self.stats) =>
            {
                state.shed(wait, &connects(&mut self.actions));
                // As in Envoy, it waited for an endpoint that it has not got.
                (stream.facts.host, stream.facts.host_address) = (None, None);
                self.stats.inc(scope, metric::UPSTREAM_RQ_PENDING_TOTAL);
                self.stats.inc(scope, metric::UPSTREAM_RQ_CANCELLED);
                self.run_pool_actions(cluster);
                self.pool_failed(id, PoolFailure::ConnectionOverflow);
            }
            Acquire::Queued(wait) => {
                stream.attempt = Attempt::Queued(wait);
                let began = self.io.now;
                stream.facts.times.upstream_connect_begin.get_or_insert(began);
                self.stats.gauge_inc(scope, metric::UPSTREAM_RQ_PENDING_ACTIVE);
                self.run_pool_actions(cluster);
            }
            Acquire::Refused(failure) => {
                self.run_pool_actions(cluster);
                self.pool_failed(id, failure);
            }
        }
    }

    /// A pool serves a waiting request.
    pub(crate) fn http_assigned(&mut self, id: Key, conn: Key) {
        self.leave_queue(id);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.facts.times.upstream_connect_end.get_or_insert(self.io.now);
        }
        self.send_request(id, conn);
    }

    /// A pool gives up on a waiting request.
    pub(crate) fn http_unassigned(&mut self, id: Key, failure: PoolFailure) {
        self.leave_queue(id);
        self.pool_failed(id, failure);
    }

    /// Takes a waiting request out of the gauge; its place in the pool is gone already.
    fn leave_queue(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if let Attempt::Queued(_) = stream.attempt {
            stream.attempt = Attempt::None;
            let cluster = stream.facts.member;
            if let Some(scope) = cluster.and_then(|c| self.cluster_scope(c)) {
                self.stats.gauge_dec(scope, metric::UPSTREAM_RQ_PENDING_ACTIVE);
            }
        }
    }

    pub(super) fn pool_failed(&mut self, id: Key, failure: PoolFailure) {
        match failure {
            PoolFailure::PendingOverflow | PoolFailure::RequestOverflow | PoolFailure::ConnectionOverflow => {
                self.attempt_failed(id, ResetReason::Overflow, false);
            }
            PoolFailure::PoolOverflow => {
                self.end_retry_slot(id);
                self.local_reply(id, reply::no_healthy_upstream(503));
            }
            PoolFailure::ConnectFailed | PoolFailure::HostGone => {
                let reason = match self.connect_timed_out {
                    true => ResetReason::ConnectTimeout,
                    false => ResetReason::ConnectFailure,
                };
                let words = self.connect_error.clone();
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.facts.transport_failure = words;
                }
                self.attempt_failed(id, reason, false);
            }
        }
    }

    /// Writes the request head, and whatever of the body is kept for a retry, to a connection.
    fn send_request(&mut self, id: Key, conn: Key) {
        match self.upstreams.get(conn).map(|u| &u.carries) {
            Some(Carries::Http2(_)) => self.h2_send_request(id, conn),
            Some(Carries::Http(_)) => self.h1_send_request(id, conn),
            Some(Carries::Tcp(_)) | None => {}
        }
    }

    fn h1_send_request(&mut self, id: Key, conn: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else {
            return self.close_upstream(conn, EndedBy::Local);
        };
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let (Carries::Http(http), Some(link)) = (&mut upstream.carries, &mut upstream.link) else { return };
        let http_options = self.clusters.get(upstream.cluster).map(|state| &state.config().http);
        let case =
            http_options.map_or_else(Default::default, |h| header_case(h.proper_case, h.preserve_case));
        let options = EncodeOptions { header_case: case, ..EncodeOptions::default() };
        http.begin(id, RequestInfo::of(&stream.request), now);
        stream.attempt = Attempt::Sent(conn);
        let framing = stream.request_framing;
        let whole = stream.request_complete
            && stream.flow.request_queue.is_empty()
            && stream.request_trailers.is_empty();
        let mut head_bytes = 0;
        link.write(&mut self.io, |payload| {
            payload.write_with(|out| {
                let before = out.len();
                encode_request(&stream.request, framing, &options, out);
                head_bytes = out.len() - before;
                write_replay(&stream.replay, framing, whole, out);
            });
        });
        if let Some(mirrors) = &mut stream.mirrors {
            mirrors.goes_on_from(stream.replay.len());
        }
        if stream.client.is_some() {
            // Its windows may be closed, and the answer long.
            link.receive_singly(&mut self.io);
        }
        stream.flow.request_end_sent = whole;
        let facts = &mut stream.facts;
        facts.upstream_version = Version::Http11;
        facts.bytes.upstream_header_sent += head_bytes as u64;
        facts.bytes.upstream_wire_sent += (head_bytes + stream.replay.len()) as u64;
        if whole {
            facts.times.upstream_tx_end = Some(now);
        }
        self.request_is_sent(id, conn);
    }

    /// The head is in the connection's queue: what follows it may go, and the try's time counts.
    pub(super) fn request_is_sent(&mut self, id: Key, conn: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(upstream) = self.upstreams.get(conn) else { return };
        let facts = &mut stream.facts;
        facts.upstream_local.clone_from(&upstream.local);
        facts.upstream_raced = upstream.won_race.then(|| upstream.address.clone());
        facts.upstream_tls = upstream.link.as_ref().and_then(|link| link.tls_facts()).cloned();
        facts.upstream_connection = Some(upstream.id);
        facts.times.upstream_pool_ready = Some(now);
        facts.times.upstream_tx_begin.get_or_insert(now);
        stream.begin_try(now);
        let (watched, begins) = (stream.watched, stream.begins_counted);
        let (scope, host_scope) = (upstream.scope, upstream.host_scope);
        let (key, more) = (stream.downstream, !stream.flow.request_end_sent);
        // What was held until now goes first, with the end behind it if that is here.
        let queued =
            stream.client.is_some() || !stream.flow.request_queue.is_empty() || stream.flow.request_end;
        let interim = std::mem::take(&mut stream.expects_continue);
        if stream.tallies != [None; 2] {
            tally(&mut self.stats, stream, route_metric::UPSTREAM_RQ_TOTAL);
        }
        self.stats.inc(scope, metric::UPSTREAM_RQ_TOTAL);
        self.stats.gauge_inc(scope, metric::UPSTREAM_RQ_ACTIVE);
        self.stats.inc(host_scope, host_metric::RQ_TOTAL);
        self.stats.gauge_inc(host_scope, host_metric::RQ_ACTIVE);
        if watched {
            self.report_try(id, TryResult::Connected);
        }
        if begins {
            self.count_beginning(id);
        }
        if interim {
            self.invite_body(id);
        }
        match (more, queued) {
            (true, true) => self.flush_request(id),
            (true, false) => self.run_later(key),
            (false, _) => {}
        }
        if self.io.held.is_full() {
            self.defer_answer(id, conn);
        }
        self.rearm_stream(id);
    }

    /// Takes the request off its connection. Over HTTP/1.1 that is closed: the exchange is in doubt.
    pub(super) fn drop_attempt(&mut self, id: Key, by: EndedBy) {
        self.try_is_over(id);
        let Some(stream) = self.streams.get_mut(id) else { return };
        match std::mem::replace(&mut stream.attempt, Attempt::None) {
            Attempt::Sent(conn) if stream.server.is_some() => {
                stream.attempt = Attempt::Sent(conn);
                self.h2_cancel(id, ErrorCode::Cancel);
            }
            Attempt::Sent(conn) => {
                if let Some(scope) = self.upstreams.get(conn).map(|u| u.scope) {
                    let active = match by {
                        EndedBy::Local => metric::UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ,
                        EndedBy::Remote => metric::UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ,
                    };
                    self.stats.inc(scope, metric::UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ);
                    self.stats.inc(scope, active);
                }
                self.leave_upstream(conn);
                self.close_upstream(conn, by);
            }
            Attempt::Queued(wait) => {
                let Some(cluster) = stream.facts.member else { return };
                if let Some(scope) = self.cluster_scope(cluster) {
                    self.stats.gauge_dec(scope, metric::UPSTREAM_RQ_PENDING_ACTIVE);
                }
                if let Some(state) = self.clusters.get_mut(cluster) {
                    state.cancel(wait, &mut self.actions);
                }
                self.run_pool_actions(cluster);
            }
            Attempt::Connecting(conn) => {
                self.forget_tunnel(conn);
                self.close_upstream(conn, by);
            }
            Attempt::Naming => self.leave_host(id),
            Attempt::Planned | Attempt::BackOff(_) | Attempt::None => {}
        }
    }

    /// Settles the gauges of a request that leaves its connection.
    pub(super) fn leave_upstream(&mut self, conn: Key) {
        let Some(upstream) = self.upstreams.get_mut(conn) else { return };
        let Carries::Http(http) = &mut upstream.carries else { return };
        http.input.clear();
        if http.stream.take().is_some() {
            self.stats.gauge_dec(upstream.scope, metric::UPSTREAM_RQ_ACTIVE);
            self.stats.gauge_dec(upstream.host_scope, host_metric::RQ_ACTIVE);
        }
    }

    /// A try ended without a response head: try again, or say why not.
    pub(super) fn attempt_failed(&mut self, id: Key, reason: ResetReason, request_started: bool) {
        self.end_retry_slot(id);
        self.try_is_over(id);
        self.report_reset(id, reason);
        if let Some(host) = self.host_scope(id) {
            self.stats.inc(host, host_metric::RQ_ERROR);
        }
        if self.try_again(id, Outcome::Reset(reason, request_started)) == Again::Yes {
            return;
        }
        if reason.is_timeout() {
            self.budget_is_used(id, false);
        }
        let Some(stream) = self.streams.get(id) else { return };
        let answer = match reason {
            ResetReason::PerTryTimeout => reply::per_try_timeout(stream.timeout_is_204),
            ResetReason::PerTryIdleTimeout => reply::per_try_idle_timeout(stream.timeout_is_204),
            _ => {
                let words = stream.facts.transport_failure.clone();
                let words = words.as_deref().unwrap_or_default();
                let answer = reply::reset(reason, words, stream.facts.attempts > 1);
                if stream.informational > 0 { reply::after_interim(answer) } else { answer }
            }
        };
        if !stream.lates.is_empty() && self.awaits_lates(id) {
            return self.count_beside(id, answer.status);
        }
        self.local_reply(id, answer);
    }
}

/// What a retry asks of the balancer whose policy says something about endpoints.
#[cold]
fn avoiding<'s>(context: ChooseContext<'s>, stream: &'s Stream, snapshot: &'s Snapshot) -> ChooseContext<'s> {
    let policy = stream.options.as_deref().and_then(|options| retry_policy(stream, options, snapshot));
    let Some(policy) = policy else { return context };
    let tried = &stream.tried_hosts[..];
    ChooseContext {
        avoid: if policy.avoid_previous_hosts { tried } else { &[] },
        attempts: stream.host_attempts,
        avoid_canaries: policy.avoid_canaries,
        avoid_metadata: &policy.avoid_metadata,
        previous: policy.avoid_priorities_every.map(|every| PreviousPriorities { every, tried }),
        ..context
    }
}

/// Takes out which connections were to be opened.
fn connects(actions: &mut Vec<PoolAction>) -> Vec<ConnId> {
    use millrace_upstream::PoolEvent::{
        AutoConnectionOpened, ConnectionOpened, Http2ConnectionOpened, PendingTotal,
    };
    let mut taken = Vec::new();
    actions.retain(|action| match action {
        PoolAction::Connect { conn, .. } => {
            taken.push(*conn);
            false
        }
        PoolAction::Count(event) => {
            !matches!(event, AutoConnectionOpened | ConnectionOpened | Http2ConnectionOpened | PendingTotal)
        }
        _ => true,
    });
    taken
}

/// Appends body bytes kept from an earlier try in the framing of this one.
fn write_replay(replay: &[u8], framing: BodyFraming, complete: bool, out: &mut Vec<u8>) {
    let chunked = framing == BodyFraming::Chunked;
    if !replay.is_empty() {
        if chunked {
            encode_chunk_prefix(replay.len() as u64, out);
        }
        out.extend_from_slice(replay);
        if chunked {
            out.extend_from_slice(CHUNK_SUFFIX);
        }
    }
    if chunked && complete {
        out.extend_from_slice(millrace_http::h1::LAST_CHUNK);
    }
}

pub(super) fn priority(high: bool) -> ResourcePriority {
    if high { ResourcePriority::High } else { ResourcePriority::Default }
}
