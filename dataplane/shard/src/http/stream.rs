//! One request and its response, from the first byte of the head to the access log line.

use std::rc::Rc;
use std::time::Duration;

use millrace_base::{Key, ResponseFlag, ResponseFlags, StreamState, Time, TlsFacts};
use millrace_config::{
    Address, ClusterId, ClusterSpecifier, Route, RouteForward, ScopeId, VirtualHost, WeightedCluster,
};
use millrace_filter::http::StreamFilters;
use millrace_filter::http::router::internal_redirect::Followed;
use millrace_filter::http::router::retry::RetryState;
use millrace_filter::http::router::timeout::Timeouts;
use millrace_http::h1::{BodyDecoder, BodyFraming};
use millrace_http::h2::StreamRef;
use millrace_http::{HeaderMap, RequestHead, ResponseHead, Version};
use millrace_observe::access_log::{Bytes, Times};
use millrace_route::Rotation;
use millrace_upstream::{HostId, WaitId};

use super::HttpOptions;
use super::balance::Balance;
use super::flow::Flow;
use super::mirror::Mirrors;
use super::side::Side;
use super::tracked::Tracked;
use crate::held::{Held, Share};

/// Where a request stands on its way to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// No cluster was asked yet, or the answer is known already.
    None,
    /// Has a plan, and its first try when the events of this turn are dealt with.
    Planned,
    /// Waits for the addresses of its host.
    Naming,
    /// Waits in a pool for a connection.
    Queued(WaitId),
    /// Sent, or being sent, on this connection.
    Sent(Key),
    /// A CONNECT that ends here: the endpoint's connection is being opened.
    Connecting(Key),
    /// Waits for the back-off of a retry.
    BackOff(Time),
}

/// What was decided once per request and is reused by its retries: indices into the route configuration
/// that the stream pins ([`Stream::options`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) virtual_host: usize,
    pub(crate) route: usize,
    /// Entry of `weighted_clusters`.
    pub(crate) weighted: Option<usize>,
    pub(crate) cluster: Option<ClusterId>,
}

impl Plan {
    pub(crate) fn virtual_host<'a>(&self, options: &'a HttpOptions) -> Option<&'a VirtualHost> {
        options.routes.as_ref()?.virtual_hosts.get(self.virtual_host).map(|v| &**v)
    }

    pub(crate) fn route<'a>(&self, options: &'a HttpOptions) -> Option<&'a Route> {
        self.virtual_host(options)?.routes.get(self.route).map(|r| &**r)
    }

    pub(crate) fn weighted_entry<'a>(&self, options: &'a HttpOptions) -> Option<&'a WeightedCluster> {
        match &self.forward(options)?.cluster {
            ClusterSpecifier::Weighted(weighted) => weighted.clusters.get(self.weighted?),
            ClusterSpecifier::Cluster(_) | ClusterSpecifier::Header(_) => None,
        }
    }

    pub(crate) fn forward<'a>(&self, options: &'a HttpOptions) -> Option<&'a RouteForward> {
        match &self.route(options)?.action {
            millrace_config::RouteAction::Forward(forward) => Some(forward),
            millrace_config::RouteAction::Redirect(_) | millrace_config::RouteAction::DirectResponse(_) => {
                None
            }
        }
    }
}

/// Everything about a request but its heads; what log lines and templates are made of.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) flags: ResponseFlags,
    pub(crate) details: Details,
    pub(crate) times: Times,
    pub(crate) bytes: Bytes,
    pub(crate) plan: Option<Plan>,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`: after `x-forwarded-for`.
    pub(crate) remote: Option<Address>,
    pub(crate) internal: bool,
    /// The cluster of the last try's endpoint: that of the plan, or a member when that is an aggregate cluster.
    pub(crate) member: Option<ClusterId>,
    pub(crate) host: Option<HostId>,
    /// The endpoint's metadata call it a canary.
    pub(crate) canary: bool,
    pub(crate) host_address: Option<Address>,
    /// Where the last try's connection leads, if it came out of a race; else it is the endpoint's address.
    pub(crate) upstream_raced: Option<Address>,
    pub(crate) upstream_local: Option<Address>,
    pub(crate) upstream_connection: Option<u64>,
    /// The version that the last try was sent in.
    pub(crate) upstream_version: Version,
    pub(crate) transport_failure: Option<Rc<str>>,
    /// What the handshake with the endpoint told.
    pub(crate) upstream_tls: Option<Rc<TlsFacts>>,
    pub(crate) attempts: u32,
    /// Status of the response head that was sent downstream; 0 before.
    pub(crate) status: u16,
    /// What the cluster's counters are told instead of `status`; 0 for nothing.
    pub(crate) cluster_status: Option<u16>,
    pub(crate) high_priority: bool,
    /// What decides its endpoint.
    pub(crate) balance: Balance,
    /// What filters have written about it.
    pub(crate) state: StreamState,
}

/// `%RESPONSE_CODE_DETAILS%`: nearly always a static text.
pub(crate) type Details = std::borrow::Cow<'static, str>;

/// One request. Recycled: a stream that ended gives its memory to the next one.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) downstream: Key,
    /// The stream on the client's connection; `None` over HTTP/1.1.
    pub(crate) client: Option<StreamRef>,
    /// The stream on the endpoint's connection that the try is on; `None` over HTTP/1.1.
    pub(crate) server: Option<StreamRef>,
    /// What the connection's filter chain says; pins the configuration that the request started under.
    pub(crate) options: Option<Rc<HttpOptions>>,
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    /// Of the response, or of an HTTP/1.1 request.
    pub(crate) trailers: HeaderMap,
    /// Of a request that came over HTTP/2.
    pub(crate) request_trailers: HeaderMap,
    /// Where its body bytes stand between the two connections.
    pub(crate) flow: Flow,
    pub(crate) facts: Facts,
    /// Filters beside the router that have something to do.
    pub(crate) filters: Option<Box<StreamFilters>>,
    /// When they let the request, or more of its response, go on.
    pub(crate) filters_resume: Time,
    /// The end of the endpoint's answer tells whether it is a success.
    pub(crate) unjudged: bool,
    /// It has no client: what it is instead.
    pub(crate) side: Option<Box<Side>>,
    /// Copies of the request.
    pub(crate) mirrors: Option<Box<Mirrors>>,
    /// Redirects of its endpoints that were followed.
    pub(crate) followed: Option<Box<Followed>>,
    /// Tries that were not answered in their time and may still be.
    pub(crate) lates: Vec<Key>,
    /// Its route follows redirects.
    pub(crate) follows_redirects: bool,
    pub(crate) attempt: Attempt,
    pub(crate) retry: Option<RetryState>,
    /// `refresh_cluster_on_retry`, once there was a retry.
    pub(crate) rotation: Option<Box<Rotation>>,
    /// `track_cluster_stats` of the last try's cluster.
    pub(crate) tracked: Option<Box<Tracked>>,
    /// A unit of the retry budget is held.
    pub(crate) retrying: bool,
    /// The last try ended because it took too long.
    pub(crate) after_timeout: bool,
    /// The cluster is told of the tries.
    pub(crate) watched: bool,
    /// A retry budget of the cluster counts when tries begin.
    pub(crate) begins_counted: bool,
    /// Endpoints of earlier tries, if the policy says anything about the endpoints of retries.
    pub(crate) tried_hosts: Vec<HostId>,
    pub(crate) avoids_hosts: bool,
    /// `host_selection_retry_max_attempts`.
    pub(crate) host_attempts: u32,

    /// Framing of the request as it arrived, and the decoder of its body.
    pub(crate) request_framing: BodyFraming,
    pub(crate) request_body: BodyDecoder,
    /// The whole request has arrived.
    pub(crate) request_complete: bool,
    /// Body bytes kept for a retry, already unframed.
    pub(crate) replay: Vec<u8>,
    /// A retry is possible and the body was not too long to keep.
    pub(crate) keeps_replay: bool,
    /// Bytes that may be kept.
    pub(crate) replay_max: usize,
    pub(crate) expects_continue: bool,
    /// `proxy_100_continue`: the upstream's own `100` is passed on.
    pub(crate) forwards_continue: bool,
    pub(crate) is_head: bool,
    pub(crate) is_grpc: bool,
    /// The request asked for an upgrade or a CONNECT that the configuration allows.
    pub(crate) upgrade: bool,
    /// A CONNECT that ends here; the endpoint gets only the bytes behind it.
    pub(crate) terminated: bool,
    /// Bytes flow both ways without HTTP.
    pub(crate) tunnel: bool,

    /// Framing of the response as it leaves.
    pub(crate) response_framing: BodyFraming,
    pub(crate) response_started: bool,
    pub(crate) response_complete: bool,
    pub(crate) informational: u8,
    /// The answer is our own.
    pub(crate) local_reply: bool,

    pub(crate) timeouts: Timeouts,
    pub(crate) timeout_is_204: bool,
    /// As configured, and as overload has made it.
    pub(crate) idle_whole: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    /// `stream_flush_timeout`, or the route's.
    pub(crate) flush_timeout: Option<Duration>,
    /// Absolute deadlines; `Time::MAX` for none.
    pub(crate) response_deadline: Time,
    pub(crate) try_deadline: Time,
    /// Scopes of the route's `stat_prefix` and of the virtual cluster, which count it, too.
    pub(crate) tallies: [Option<ScopeId>; 2],
    /// The policies of its cluster take the place of its route's.
    pub(crate) cluster_policies: bool,
    /// `max_stream_duration` of the try's cluster, and when it ends the try.
    pub(crate) try_stream: Option<Duration>,
    pub(crate) try_ends: Time,
    /// `per_try_idle_timeout` watches the try.
    pub(crate) try_idles: bool,
    pub(crate) max_duration_deadline: Time,
    pub(crate) request_deadline: Time,
    /// Last byte in either direction.
    pub(crate) active: Time,
}

/// Body bytes kept for a retry at the most, whatever the listener's `per_connection_buffer_limit_bytes` says; a route's own
/// `request_body_buffer_limit` may say more.
pub(crate) const REPLAY_BYTES_MAX: usize = 1024 * 1024;
/// Capacity that a recycled replay buffer keeps.
const REPLAY_KEPT_BYTES: usize = 16 * 1024;

impl Stream {
    pub(crate) fn new(downstream: Key) -> Self {
        Self {
            downstream,
            client: None,
            server: None,
            options: None,
            request: RequestHead::new(),
            response: ResponseHead::new(),
            trailers: HeaderMap::default(),
            request_trailers: HeaderMap::default(),
            flow: Flow::default(),
            facts: Facts::default(),
            filters: None,
            filters_resume: Time::MAX,
            unjudged: false,
            side: None,
            mirrors: None,
            followed: None,
            lates: Vec::new(),
            follows_redirects: false,
            attempt: Attempt::None,
            retry: None,
            rotation: None,
            tracked: None,
            retrying: false,
            after_timeout: false,
            watched: false,
            begins_counted: false,
            tried_hosts: Vec::new(),
            avoids_hosts: false,
            host_attempts: 1,
            request_framing: BodyFraming::None,
            request_body: BodyDecoder::new(BodyFraming::None),
            request_complete: false,
            replay: Vec::new(),
            keeps_replay: false,
            replay_max: 0,
            expects_continue: false,
            forwards_continue: false,
            is_head: false,
            is_grpc: false,
            upgrade: false,
            terminated: false,
            tunnel: false,
            response_framing: BodyFraming::None,
            response_started: false,
            response_complete: false,
            informational: 0,
            local_reply: false,
            timeouts: Timeouts::default(),
            timeout_is_204: false,
            idle_whole: None,
            idle_timeout: None,
            flush_timeout: None,
            response_deadline: Time::MAX,
            try_deadline: Time::MAX,
            tallies: [None; 2],
            cluster_policies: false,
            try_stream: None,
            try_ends: Time::MAX,
            try_idles: false,
            max_duration_deadline: Time::MAX,
            request_deadline: Time::MAX,
            active: Time::ZERO,
        }
    }

    /// Makes a used stream as good as new; allocations stay. Field by field, since a fresh one is a kilobyte to move; the
    /// pattern names all of them, so that none is forgotten.
    #[expect(clippy::too_many_lines, reason = "one line for each field")]
    pub(crate) fn reset(&mut self, new_downstream: Key) {
        let Self {
            downstream,
            client,
            server,
            options,
            request,
            response,
            trailers,
            request_trailers,
            flow,
            facts,
            filters,
            filters_resume,
            unjudged,
            side,
            mirrors,
            followed,
            lates,
            follows_redirects,
            attempt,
            retry,
            rotation,
            tracked,
            retrying,
            after_timeout,
            watched,
            begins_counted,
            tried_hosts,
            avoids_hosts,
            host_attempts,
            request_framing,
            request_body,
            request_complete,
            replay,
            keeps_replay,
            replay_max,
            expects_continue,
            forwards_continue,
            is_head,
            is_grpc,
            upgrade,
            terminated,
            tunnel,
            response_framing,
            response_started,
            response_complete,
            informational,
            local_reply,
            timeouts,
            timeout_is_204,
            idle_whole,
            idle_timeout,
            flush_timeout,
            response_deadline,
            try_deadline,
            tallies,
            cluster_policies,
            try_stream,
            try_ends,
            try_idles,
            max_duration_deadline,
            request_deadline,
            active,
        } = self;
        *downstream = new_downstream;
        (*client, *server) = (None, None);
        *options = None;
        request.clear();
        response.clear();
        trailers.clear();
        request_trailers.clear();
        debug_assert!(
            flow.request_queue.is_empty() && flow.response_queue.is_empty(),
            "a spare stream holds nothing"
        );
        *facts = Facts::default();
        (*filters, *filters_resume) = (None, Time::MAX);
        *unjudged = false;
        (*side, *mirrors) = (None, None);
        (*followed, *follows_redirects) = (None, false);
        lates.clear();
        *attempt = Attempt::None;
        (*retry, *rotation, *tracked) = (None, None, None);
        *retrying = false;
        (*after_timeout, *watched, *begins_counted) = (false, false, false);
        tried_hosts.clear();
        *avoids_hosts = false;
        *host_attempts = 1;
        *request_framing = BodyFraming::None;
        request_body.reset(BodyFraming::None);
        *request_complete = false;
        replay.clear();
        replay.shrink_to(REPLAY_KEPT_BYTES);
        (*keeps_replay, *replay_max) = (false, 0);
        *expects_continue = false;
        *forwards_continue = false;
        *is_head = false;
        *is_grpc = false;
        *upgrade = false;
        *terminated = false;
        *tunnel = false;
        *response_framing = BodyFraming::None;
        *response_started = false;
        *response_complete = false;
        *informational = 0;
        *local_reply = false;
        (*timeouts, *timeout_is_204) = (Timeouts::default(), false);
        (*idle_whole, *idle_timeout, *flush_timeout) = (None, None, None);
        *response_deadline = Time::MAX;
        (*tallies, *cluster_policies) = ([None; 2], false);
        (*try_deadline, *try_idles, *try_stream, *try_ends) = (Time::MAX, false, None, Time::MAX);
        *max_duration_deadline = Time::MAX;
        *request_deadline = Time::MAX;
        *active = Time::ZERO;
    }

    /// True when neither HTTP/2 nor a filter has anything to do with it, and no other stream.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let waits = self.flow.awaits_client || self.flow.awaits_upstream || self.flow.held_request > 0;
        let alone = self.side.is_none() && self.mirrors.is_none() && self.lates.is_empty();
        self.client.is_none()
            && self.server.is_none()
            && self.filters.is_none()
            && alone
            && !self.unjudged
            && !waits
    }

    /// Counts what the stream keeps in memory of the shard's own: of either body, and for a retry.
    #[inline]
    pub(crate) fn weigh(&mut self, held: &Held) {
        let queued = self.flow.request_queue.own_bytes() + self.flow.response_queue.own_bytes();
        Share::set(&mut self.flow.share, held, queued + self.replay.len());
    }

    /// No further try needs what was kept of the body.
    pub(crate) fn drop_replay(&mut self) {
        self.keeps_replay = false;
        if self.replay.capacity() > REPLAY_KEPT_BYTES {
            self.replay = Vec::new();
        }
    }

    /// The connection that the request is on.
    pub(crate) fn upstream(&self) -> Option<Key> {
        match self.attempt {
            Attempt::Sent(key) => Some(key),
            _ => None,
        }
    }

    /// The head of the response is in the client's queue.
    pub(crate) fn head_is_sent(&mut self, now: Time, bytes: usize) {
        self.response_started = true;
        self.facts.status = self.response.status;
        self.drop_replay();
        self.facts.times.downstream_tx_begin = Some(now);
        self.facts.bytes.downstream_header_sent += bytes as u64;
        self.facts.bytes.downstream_wire_sent += bytes as u64;
    }

    pub(crate) fn flag(&mut self, flag: ResponseFlag) {
        self.facts.flags.set(flag);
    }
}
