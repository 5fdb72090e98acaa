//! Small builders that the tests of this crate share, and a request with its filters.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::{FilterState, ResponseFlags, Rng, StreamState, Time, WallTime};
use millrace_config::format::{Part, Template};
use millrace_config::{
    AppendAction, ClusterId, ClusterSpecifier, FilterConfigId, HeaderMutations, HeaderOption, Http1Options,
    HttpConnectionManager, HttpFilter, HttpFilterKind, PathNormalization, RequireTls, Route, RouteAction,
    RouteFilterFields, RouteForward, RouteMatch, ScopeId, VirtualHost,
};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};
use millrace_observe::stats::{Registry, ShardStats};

use super::LocalReply;
use super::custom_response::{Restart, Restarted};
use super::forward_proxy::{HostNames, NoHosts};
use super::router::Render;
use super::stream_filters::{
    ConnectionFilters, Env, ResponseEnv, ShardFilters, Start, StreamFilters, Verdict,
};

pub(crate) fn bytes(text: &str) -> Arc<[u8]> {
    Arc::from(text.as_bytes())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The fields as `name: value` lines joined by ` | `.
pub(crate) fn lines(headers: &HeaderMap) -> String {
    let line = |(name, value)| format!("{}: {}", text(name), text(value));
    headers.iter().map(line).collect::<Vec<_>>().join(" | ")
}

pub(crate) fn fields(headers: &mut HeaderMap, list: &[(&str, &str)]) {
    for (name, value) in list {
        headers.append(name.as_bytes(), value.as_bytes());
    }
}

pub(crate) fn head(path: &str, list: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::new();
    head.set_method(b"GET");
    head.set_authority(b"h:80");
    head.set_path(path.as_bytes());
    head.set_scheme(b"http");
    fields(&mut head.headers, list);
    head
}

pub(crate) fn response(status: u16, list: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::new();
    head.status = status;
    fields(&mut head.headers, list);
    head
}

pub(crate) fn hcm() -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: "x".into(),
        scope: ScopeId(0),
        listener_scope: ScopeId(1),
        routes: millrace_config::RouteSource::Rds(millrace_config::RouteTableId(0)),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".into(),
            id: FilterConfigId(0),
            disabled: false,
            kind: HttpFilterKind::Router {
                suppress_envoy_headers: false,
                respect_expected_rq_timeout: false,
                strict_check_headers: [None; 5],
                suppress_grpc_statuses: false,
                no_dynamic_stats: false,
            },
        }],
        access_logs: Vec::new(),
        local_replies: None,
        codec: millrace_config::Codec::Auto,
        http2: millrace_config::Http2Options::DOWNSTREAM,
        http2_scope: ScopeId(2),
        http1: Http1Options::default(),
        server_name: "envoy".into(),
        server_header: millrace_config::ServerHeaderTransformation::Overwrite,
        via: "".into(),
        append_local_overload: false,
        add_user_agent: false,
        use_remote_address: false,
        xff_num_trusted_hops: 0,
        skip_xff_append: false,
        append_x_forwarded_port: false,
        internal_addresses: None,
        internal_unix_sockets: false,
        generate_request_id: true,
        preserve_external_request_id: false,
        always_set_request_id_in_response: false,
        proxy_100_continue: false,
        represent_ipv4_as_mapped_ipv6: false,
        forward_client_cert: millrace_config::ForwardClientCertDetails::Sanitize,
        client_cert_details: millrace_config::ClientCertDetails::default(),
        upgrades: Vec::new(),
        paths: PathNormalization::default(),
        underscores: millrace_config::UnderscoresAction::Allow,
        head_bytes_max: 60 * 1024,
        head_fields_max: 100,
        idle_timeout: None,
        stream_idle_timeout: None,
        stream_flush_timeout: None,
        request_timeout: None,
        request_headers_timeout: None,
        drain_timeout: Duration::from_secs(5),
        delayed_close_timeout: Duration::from_secs(1),
        max_connection_duration: None,
        max_stream_duration: None,
        drain_jitter_percent: 0.0,
        duration_jitter_percent: 0.0,
        http1_safe_max_connection_duration: false,
        max_requests_per_connection: None,
    }
}

pub(crate) fn forward() -> RouteForward {
    RouteForward::to(ClusterSpecifier::Cluster(ClusterId(0)))
}

pub(crate) fn route() -> Route {
    Route {
        name: "r".into(),
        matcher: RouteMatch::any(),
        action: RouteAction::Forward(Box::new(forward())),
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        per_filter: Vec::new(),
        metadata: None,
        stat_scope: None,
    }
}

pub(crate) fn virtual_host() -> VirtualHost {
    VirtualHost {
        name: "v".into(),
        domains: vec!["*".into()],
        routes: Vec::new(),
        require_tls: RequireTls::None,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        include_request_attempt_count: false,
        include_attempt_count_in_response: false,
        include_is_timeout_retry: false,
        retry_policy: None,
        per_filter: Vec::new(),
        for_filters: RouteFilterFields::default(),
        metadata: None,
        virtual_clusters: Vec::new(),
    }
}

pub(crate) fn option(name: &str, value: &str, action: AppendAction) -> HeaderOption {
    let value = Template { parts: vec![Part::Text(value.into())], ..Template::default() };
    HeaderOption { name: bytes(name), value, action, keep_empty_value: false }
}

/// Writes the literal parts and, for every operator, the request's `x-none` (which may not exist).
pub(crate) struct Literal;

impl Render for Literal {
    fn render(
        &self,
        template: &Template,
        request: &RequestHead,
        _response: Option<&ResponseHead>,
        out: &mut Vec<u8>,
    ) {
        for part in &template.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Operator(_) => {
                    out.extend_from_slice(request.headers.get_name(b"x-none").unwrap_or_default());
                }
            }
        }
    }
}

/// Nothing can begin anew.
pub(crate) struct Never;

impl Restart for Never {
    fn may_restart(&mut self, _head: &RequestHead) -> Restarted {
        Restarted::TooEarly
    }
}

/// What a shard has for its filters.
pub(crate) struct Room {
    pub(crate) registry: Registry,
    pub(crate) stats: ShardStats,
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    pub(crate) flags: ResponseFlags,
    pub(crate) connection: ConnectionFilters,
    pub(crate) shard: ShardFilters,
    pub(crate) state: StreamState,
    pub(crate) connection_state: FilterState,
}

impl Room {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let stats = registry.attach_shard("worker_0");
        let (rng, flags) = (Rng::new(1), ResponseFlags::default());
        Self {
            registry,
            stats,
            rng,
            now: Time::ZERO,
            flags,
            connection: ConnectionFilters::default(),
            shard: ShardFilters::default(),
            state: StreamState::default(),
            connection_state: FilterState::default(),
        }
    }

    /// The stream is over, and its response complete.
    pub(crate) fn end(&mut self, filters: &mut StreamFilters) {
        filters.end(true, self.now, &mut self.rng, &mut self.stats);
    }

    /// Shows a head to the filters, from the beginning or from where they stopped.
    pub(crate) fn begin(
        &mut self,
        slot: &mut Option<Box<StreamFilters>>,
        start: &Start<'_>,
        head: &mut RequestHead,
    ) -> Verdict {
        self.begin_with(slot, start, head, &mut NoHosts)
    }

    /// The same with a cache of hosts.
    pub(crate) fn begin_with(
        &mut self,
        slot: &mut Option<Box<StreamFilters>>,
        start: &Start<'_>,
        head: &mut RequestHead,
        names: &mut dyn HostNames,
    ) -> Verdict {
        let mut env = Env {
            now: self.now,
            wall: WallTime::default(),
            rng: &mut self.rng,
            stats: &mut self.stats,
            render: &Literal,
            scratch: &mut Vec::new(),
            connection: &mut self.connection,
            flags: &mut self.flags,
            shard: &mut self.shard,
            state: &self.state,
            connection_state: Some(&self.connection_state),
            names,
        };
        StreamFilters::begin(slot, start, &mut env, head)
    }
}

/// The filters of a request with what they ask for on the way back.
pub(crate) struct Running<'h> {
    pub(crate) filters: Box<StreamFilters>,
    start: Start<'h>,
    pub(crate) request: RequestHead,
    pub(crate) restart: Box<dyn Restart>,
    pub(crate) room: Room,
    pub(crate) trailers: HeaderMap,
}

impl<'h> Running<'h> {
    pub(crate) fn begin(start: Start<'h>, head: &mut RequestHead) -> Option<Self> {
        Self::begin_in(Room::new(), start, head)
    }

    pub(crate) fn begin_in(mut room: Room, start: Start<'h>, head: &mut RequestHead) -> Option<Self> {
        let mut slot = None;
        assert_eq!(room.begin(&mut slot, &start, head), Verdict::Continue);
        let (request, trailers) = (RequestHead::new(), HeaderMap::new());
        slot.map(|filters| Self { filters, start, request, restart: Box::new(Never), room, trailers })
    }

    fn with<T>(
        &mut self,
        call: impl FnOnce(&mut StreamFilters, &mut HeaderMap, &mut ResponseEnv<'_>) -> T,
    ) -> T {
        let mut env = ResponseEnv {
            start: &self.start,
            request: &self.request,
            render: &Literal,
            scratch: &mut Vec::new(),
            now: self.room.now,
            stats: &mut self.room.stats,
            upstream: None,
            flags: ResponseFlags::default(),
            wall: WallTime::default(),
            shard: &mut self.room.shard,
            state: &self.room.state,
            local_reply: false,
            redirected: None,
            restart: &mut *self.restart,
        };
        call(&mut self.filters, &mut self.trailers, &mut env)
    }

    pub(crate) fn request_data(
        &mut self,
        data: &[u8],
        end: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<LocalReply>> {
        self.with(|filters, trailers, env| filters.request_data(data, end, trailers, out, env))
    }

    pub(crate) fn response_head(&mut self, head: &mut ResponseHead, end: bool) {
        self.with(|filters, _, env| filters.response_head(head, end, env));
    }

    pub(crate) fn response_data(
        &mut self,
        data: &[u8],
        end: bool,
        head: &mut ResponseHead,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<LocalReply>> {
        self.with(|filters, trailers, env| filters.response_data(data, end, head, trailers, out, env))
    }

    pub(crate) fn response_trailers(
        &mut self,
        trailers: &mut HeaderMap,
        head: &mut ResponseHead,
        out: &mut Vec<u8>,
    ) -> Result<(), Box<LocalReply>> {
        self.with(|filters, _, env| filters.response_trailers(trailers, head, out, env))
    }

    pub(crate) fn local_reply(&mut self, head: &mut ResponseHead, body: &mut Vec<u8>) {
        self.with(|filters, _, env| filters.local_reply(head, body, env));
    }
}

impl std::ops::Deref for Running<'_> {
    type Target = StreamFilters;

    fn deref(&self) -> &StreamFilters {
        &self.filters
    }
}

impl std::ops::DerefMut for Running<'_> {
    fn deref_mut(&mut self) -> &mut StreamFilters {
        &mut self.filters
    }
}
