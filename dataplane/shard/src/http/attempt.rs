//! Tries: choosing an endpoint, waiting for a connection, sending the request, and trying again.

use std::net::IpAddr;
use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{Cluster, ClusterId, HttpFilter, HttpFilterKind, LbPolicy, UpstreamProtocol};
use millrace_filter::http::istio_alpn;
use millrace_filter::http::router::retry::ResetReason;
use millrace_filter::http::router::{reply, request as router};
use millrace_filter::http::stream_filters::Start;
use millrace_http::Version;
use millrace_http::h1::{
    BodyFraming, CHUNK_SUFFIX, EncodeOptions, RequestInfo, encode_chunk_prefix, encode_request,
};
use millrace_http::h2::ErrorCode;
use millrace_observe::stats::{cluster as metric, host as host_metric};
use millrace_upstream::{
    Acquire, ChooseContext, ClusterState, ConnId, HttpProtocol, PoolAction, PoolFailure, PreviousPriorities,
    ResourcePriority, Transport, TransportKey, TryResult,
};

use super::HttpOptions;
use super::retry::{Again, Outcome};
use super::stream::{Attempt, Stream};
use super::{balance, header_case};
use crate::address::inet;
use crate::choose::{Asker, Choice, Chooser, NoChoice};
use crate::downstream::Downstream;
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
        let Some(routed) = stream.facts.plan.and_then(|p| p.cluster) else { return };
        stream.facts.attempts += 1;
        match self.choose_endpoint(id, routed) {
            Ok(choice) => self.attempt_at(id, choice),
            Err(NoChoice::NoCluster) => self.local_reply(id, reply::no_cluster(503)),
            Err(NoChoice::NoHost) => {
                self.end_retry_slot(id);
                self.local_reply(id, reply::no_healthy_upstream(503));
            }
            Err(NoChoice::Missing) => {
                let session = self.streams.get(id).and_then(|stream| stream.facts.balance.session.as_ref());
                let status = session.map_or(503, |session| session.status_when_missing);
                self.end_retry_slot(id);
                self.local_reply(id, reply::no_healthy_upstream(status));
            }
        }
    }

    fn choose_endpoint(&mut self, id: Key, routed: ClusterId) -> Result<Choice, NoChoice> {
        let stream = self.streams.get(id).ok_or(NoChoice::NoHost)?;
        let facts = &stream.facts;
        let reads_metadata = |cluster: &Cluster| {
            cluster.balancing.subset.is_some() || cluster.lb_policy == LbPolicy::ClusterProvided
        };
        let reads_metadata = self.snapshot.cluster(routed).is_some_and(|cluster| reads_metadata(cluster));
        let options = stream.options.as_deref().filter(|_| reads_metadata);
        let context = ChooseContext {
            hash: facts.balance.hash,
            metadata: options.and_then(|options| balance::metadata_match(facts.plan, options)),
            override_host: facts.balance.override_host(facts.attempts),
            now: self.io.now,
            ..ChooseContext::default()
        };
        let avoids = stream.avoids_hosts && facts.attempts > 1;
        let context = if avoids { avoiding(context, stream) } else { context };
        let asker = Asker {
            headers: Some(&stream.request.headers),
            client: self.downstreams.get(stream.downstream).map(|client| &**client),
            avoid_of: facts.member,
        };
        let mut chooser = Chooser {
            clusters: &mut self.clusters,
            snapshot: &self.snapshot,
            shared: &self.shared,
            stats: &mut self.stats,
            rng: &mut self.rng,
            now: self.io.now,
        };
        chooser.choose(routed, &context, &asker)
    }

    /// Asks the pool of an endpoint for a connection.
    fn attempt_at(&mut self, id: Key, Choice { cluster, chosen }: Choice) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(state) = self.clusters.get_mut(cluster) else { return };
        let priority = priority(stream.facts.high_priority);
        let scope = state.config().scope;
        stream.watched = state.config().outlier_detection.is_some();
        if stream.facts.member.replace(cluster).is_some_and(|before| before != cluster) {
            // They are endpoints of another member of an aggregate cluster.
            stream.tried_hosts.clear();
        }
        stream.facts.host = Some(chosen.host);
        stream.facts.balance.wants_load = state.reads_load().is_some();
        if let Some(host) = state.host(chosen.host) {
            stream.facts.host_address = Some(host.address.clone());
            let options = stream.options.clone();
            let plan = stream.facts.plan;
            if let Some(options) = &options
                && let Some(forward) = plan.and_then(|p| p.forward(options))
            {
                let (head, name) = (&mut stream.request, host.hostname.as_bytes());
                router::rewrite_host_for_endpoint(forward, options.router, name, head, &mut self.scratch);
            }
        }
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
        facts.upstream_tls = upstream.link.as_ref().and_then(|link| link.tls_facts()).cloned();
        facts.upstream_connection = Some(upstream.id);
        facts.times.upstream_pool_ready = Some(now);
        facts.times.upstream_tx_begin.get_or_insert(now);
        stream.begin_try(now);
        let watched = stream.watched;
        let (scope, host_scope) = (upstream.scope, upstream.host_scope);
        let (key, more) = (stream.downstream, !stream.flow.request_end_sent);
        let queued = stream.client.is_some() || !stream.flow.request_queue.is_empty();
        let interim = std::mem::take(&mut stream.expects_continue);
        self.stats.inc(scope, metric::UPSTREAM_RQ_TOTAL);
        self.stats.gauge_inc(scope, metric::UPSTREAM_RQ_ACTIVE);
        self.stats.inc(host_scope, host_metric::RQ_TOTAL);
        self.stats.gauge_inc(host_scope, host_metric::RQ_ACTIVE);
        if watched {
            self.report_try(id, TryResult::Connected);
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
            Attempt::BackOff(_) | Attempt::None => {}
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
        self.report_reset(id, reason);
        if let Some(host) = self.host_scope(id) {
            self.stats.inc(host, host_metric::RQ_ERROR);
        }
        if self.try_again(id, Outcome::Reset(reason, request_started)) == Again::Yes {
            return;
        }
        let Some(stream) = self.streams.get(id) else { return };
        let answer = match reason {
            ResetReason::PerTryTimeout => reply::per_try_timeout(stream.timeout_is_204),
            ResetReason::PerTryIdleTimeout => reply::per_try_idle_timeout(stream.timeout_is_204),
            _ => {
                let words = stream.facts.transport_failure.clone();
                let words = words.as_deref().unwrap_or_default();
                reply::reset(reason, words, stream.facts.attempts > 1)
            }
        };
        if !stream.lates.is_empty() && self.awaits_lates(id) {
            return self.fail_beside(id, answer.status);
        }
        self.local_reply(id, answer);
    }
}

/// What a retry asks of the balancer whose policy says something about endpoints.
#[cold]
fn avoiding<'s>(context: ChooseContext<'s>, stream: &'s Stream) -> ChooseContext<'s> {
    let forward =
        stream.options.as_deref().and_then(|options| stream.facts.plan.and_then(|p| p.forward(options)));
    let Some(policy) = forward.and_then(|forward| forward.retry_policy.as_deref()) else { return context };
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

/// What the request asks of the handshake: `auto_sni`, and protocols to offer. `None` when the cluster has too many
/// different demands at a time.
fn transport_key(
    state: &mut ClusterState,
    stream: &Stream,
    client: Option<&Downstream>,
) -> Option<TransportKey> {
    let own = &state.config().transport;
    if own.tls.is_none() && own.proxy_protocol.is_none() && state.config().transport_matches.is_empty() {
        return Some(TransportKey::DEFAULT);
    }
    let config = state.config();
    let transports = config.transport_matches.iter().map(|one| &one.transport).chain([own]);
    let told = transports.into_iter().any(|transport| transport.proxy_protocol.is_some());
    let client = client.filter(|_| told);
    let proxy = client.map(|client| &client.addresses);
    let proxy = proxy.and_then(|client| Some((inet(&client.peer)?, inet(&client.local)?)));
    let tlvs = client.and_then(Downstream::passed_tlvs);
    let server_name = config.http.auto_sni.then(|| automatic_server_name(config, stream)).flatten();
    let alpn = stream.options.as_deref().and_then(|options| istio_offer(stream, options, config));
    state.transport_key(&Transport { server_name, alpn, proxy, tlvs })
}

/// What Istio's filter has the handshake offer.
fn istio_offer<'o>(
    stream: &Stream,
    options: &'o HttpOptions,
    cluster: &Cluster,
) -> Option<&'o Arc<[Arc<[u8]>]>> {
    let has = |filter: &HttpFilter| matches!(filter.kind, HttpFilterKind::IstioAlpn(_));
    if !options.hcm.http_filters.iter().any(has) {
        return None;
    }
    let plan = stream.facts.plan?;
    let config = options.routes.as_deref();
    let selected = plan.selected(config?);
    let start = Start { selected, ..Start::of(&options.hcm, config) };
    istio_alpn::offer(&start, cluster, stream.request.version)
}

/// The host of a request without its port, or what `override_auto_sni_header` has.
fn automatic_server_name<'s>(config: &Cluster, stream: &'s Stream) -> Option<&'s str> {
    let header = Some(&*config.http.auto_sni_header).filter(|name| !name.is_empty());
    let named = header.and_then(|name| stream.request.headers.get_name(name.as_bytes()));
    let host = named.unwrap_or(stream.request.authority());
    let host = std::str::from_utf8(host).ok()?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    // An address is no server name (RFC 6066 section 3): the configured one serves.
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    Some(name).filter(|name| !name.is_empty() && bare.parse::<IpAddr>().is_err())
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
