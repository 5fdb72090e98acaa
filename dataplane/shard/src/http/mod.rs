//! HTTP on this shard: requests from downstream connections, tries on upstream ones, and what joins them.
//!
//! In the order a request travels: [`request`] cuts heads out of received bytes, [`start`] makes it
//! a request, [`routing`] decides what becomes of it, [`attempt`] finds it a connection, [`retry`] repeats failed tries, [`body`] passes bytes on
//! in both directions, [`response`] takes the answer, [`reply`] makes one of our own, [`finish`] ends the
//! stream, [`timeouts`] watches all of it. [`h2`] does for connections of HTTP/2 what [`request`] and [`response`] do for those
//! of HTTP/1.1, and [`filters`] shows streams to the filters beside the router. [`mirror`] copies requests, [`hedge`] lets
//! tries run beside each other; [`side`] is for streams that have no client.

mod answer;
mod asked_transport;
mod attempt;
pub(crate) mod balance;
mod body;
mod charge;
mod custom;
mod drop_overload;
mod filters;
mod finish;
mod flow;
pub(crate) mod h2;
mod hedge;
mod hold;
mod input;
mod large_streams;
mod mirror;
mod naming;
mod overload;
mod redirect;
mod relay;
mod render;
mod reply;
mod request;
mod response;
mod retry;
mod rotate;
mod routing;
mod scopes;
mod side;
mod start;
mod starving;
mod stream;
mod stream_times;
mod timeouts;
mod tracked;
mod upgrade;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::{Key, Time};
use millrace_config::{Codec, HttpConnectionManager, RouteConfiguration, UnderscoresAction};
use millrace_filter::http::chain;
use millrace_filter::http::router::request::RouterOptions;
use millrace_filter::http::stream_filters::ConnectionFilters;
use millrace_http::h1::{
    BodyDecoder, BodyFraming, EncodeOptions, HeadScanner, HeaderCase, ParseOptions, RequestInfo,
    UnderscoreAction,
};
use millrace_http::path::{EscapedSlashes, PathOptions};
use millrace_http::{HeaderId, HeaderMap};

pub(crate) use input::Input;
pub(crate) use render::Names;
pub(crate) use scopes::Scopes;
pub(crate) use stream::Stream;

/// Body bytes up to this size are copied behind their head: one contiguous send is cheaper than a gather
/// list of two (measured, see docs/decisions).
pub(crate) const COPY_BYTES_MAX: usize = 2048;

/// Unconsumed bytes of one connection above which it is no longer read.
pub(crate) const INPUT_BYTES_MAX: usize = 64 * 1024;

/// How a downstream connection is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// It is not.
    No,
    /// After the response to the request at hand.
    AfterResponse,
    /// Nothing more is read as HTTP; FIN once everything has left, then `delayed_close_timeout`.
    Flushing,
    /// FIN was sent; closed when the client closes or at this time.
    Lingering(Time),
}

/// The HTTP state of one downstream connection.
#[derive(Debug)]
pub(crate) struct HttpDownstream {
    pub(crate) hcm: Arc<HttpConnectionManager>,
    pub(crate) input: Input,
    pub(crate) scanner: HeadScanner,
    /// `codec_type`, or what ALPN agreed upon.
    pub(crate) codec: Codec,
    /// The client's version is not known yet.
    pub(crate) undecided: bool,
    /// The client speaks HTTP/2: its streams are in there.
    pub(crate) h2: Option<Box<h2::Http2Downstream>>,
    /// The request at hand, over HTTP/1.1.
    pub(crate) stream: Option<Key>,
    pub(crate) closing: Closing,
    /// Queued for another look at its input.
    pub(crate) runnable: bool,
    /// The client closed its half.
    pub(crate) ended: bool,
    /// What filters keep of it.
    pub(crate) filters: ConnectionFilters,
    pub(crate) requests: u32,
    /// Load was shed, or it is too old: it ends with the next response.
    pub(crate) drains: bool,
    /// So much longer than `max_connection_duration` it may live: its jitter.
    pub(crate) outlives: Duration,
    /// First byte of a head that is not complete yet.
    pub(crate) head_since: Option<Time>,
    /// Last end of a request, or the accept.
    pub(crate) idle_since: Time,
    /// It was idle for too long, or is too old, over HTTP/1.1: until then it takes one more request, which may be on its way already.
    pub(crate) expires: Time,
}

impl HttpDownstream {
    pub(crate) fn new(hcm: Arc<HttpConnectionManager>, now: Time) -> Self {
        Self {
            undecided: true,
            codec: hcm.codec,
            hcm,
            input: Input::default(),
            scanner: HeadScanner::new(),
            h2: None,
            stream: None,
            closing: Closing::No,
            runnable: false,
            ended: false,
            filters: ConnectionFilters::default(),
            requests: 0,
            drains: false,
            outlives: Duration::ZERO,
            head_since: None,
            idle_since: now,
            expires: Time::MAX,
        }
    }

    /// Takes what ALPN agreed upon for the version that the client speaks.
    pub(crate) fn agreed_on(&mut self, alpn: &[u8]) {
        self.codec = match (self.codec, alpn) {
            (Codec::Auto, b"h2") => Codec::Http2,
            (Codec::Auto, [_, ..]) => Codec::Http1,
            (codec, _) => codec,
        };
    }

    /// True when bytes still count as HTTP.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.closing, Closing::No | Closing::AfterResponse)
    }
}

/// The HTTP state of one upstream connection.
#[derive(Debug)]
pub(crate) struct HttpUpstream {
    pub(crate) stream: Option<Key>,
    pub(crate) input: Input,
    pub(crate) scanner: HeadScanner,
    pub(crate) info: RequestInfo,
    pub(crate) body: BodyDecoder,
    /// The final head has arrived.
    pub(crate) head_done: bool,
    /// The response's framing and version let the connection serve another request.
    pub(crate) keep_alive: bool,
    /// Bytes of the request at hand have left.
    pub(crate) request_sent: bool,
    /// When the request at hand was written to the socket's queue.
    pub(crate) began: Time,
    /// The endpoint closed its half while bytes of its answer waited for the client.
    pub(crate) ended: bool,
}

impl HttpUpstream {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            stream: None,
            input: Input::default(),
            scanner: HeadScanner::new(),
            info: RequestInfo::default(),
            body: BodyDecoder::new(BodyFraming::None),
            head_done: false,
            keep_alive: true,
            request_sent: false,
            began: now,
            ended: false,
        }
    }

    /// For a CONNECT that ends here: this connection carries raw bytes of `stream` alone.
    pub(crate) fn tunnel(stream: Key, now: Time) -> Self {
        Self {
            stream: Some(stream),
            body: BodyDecoder::new(BodyFraming::Tunnel),
            keep_alive: false,
            ..Self::new(now)
        }
    }

    /// Prepares for the response to `stream`.
    pub(crate) fn begin(&mut self, stream: Key, info: RequestInfo, now: Time) {
        debug_assert!(self.stream.is_none() && self.input.is_empty(), "the last exchange is over");
        self.stream = Some(stream);
        self.info = info;
        self.head_done = false;
        self.keep_alive = true;
        self.request_sent = false;
        self.scanner.reset();
        self.began = now;
    }
}

/// What follows from a connection manager's configuration; made once per filter chain and route table.
#[derive(Clone, Debug)]
pub(crate) struct HttpOptions {
    pub(crate) hcm: Arc<HttpConnectionManager>,
    /// Where requests are looked up; `None` while the table has not come over RDS, or is gone.
    pub(crate) routes: Option<Arc<RouteConfiguration>>,
    /// Where requests find `routes` first, with `scoped_routes`.
    pub(crate) scopes: Option<Rc<Scopes>>,
    pub(crate) parse: ParseOptions,
    pub(crate) encode: EncodeOptions,
    pub(crate) router: RouterOptions,
    pub(crate) paths: PathOptions,
}

impl HttpOptions {
    pub(crate) fn new(
        hcm: &Arc<HttpConnectionManager>,
        limits: &millrace_base::Limits,
        routes: Option<Arc<RouteConfiguration>>,
    ) -> Self {
        let http1 = &hcm.http1;
        let header_case = header_case(http1.proper_case, http1.preserve_case);
        Self {
            hcm: hcm.clone(),
            routes,
            scopes: None,
            parse: ParseOptions {
                head_bytes_max: hcm.head_bytes_max as usize,
                head_fields_max: usize::from(hcm.head_fields_max),
                accept_http_10: http1.accept_http_10,
                default_host_for_http_10: http1
                    .default_host_for_http_10
                    .as_ref()
                    .map(|h| h.as_bytes().into()),
                allow_absolute_url: http1.allow_absolute_url,
                underscores: underscores(hcm),
                preserve_case: http1.preserve_case,
                ..ParseOptions::with_limits(limits)
            },
            encode: EncodeOptions { header_case, ..EncodeOptions::default() },
            router: chain::router(hcm),
            paths: path_options(hcm),
        }
    }

    /// The same with another table.
    pub(crate) fn with_routes(&self, routes: Option<Arc<RouteConfiguration>>) -> Self {
        Self { routes, ..self.clone() }
    }

    /// The same with other scopes.
    pub(crate) fn with_scopes(&self, scopes: Scopes) -> Self {
        Self { scopes: Some(Rc::new(scopes)), ..self.clone() }
    }
}

/// `headers_with_underscores_action` as both codecs take it.
pub(crate) fn underscores(hcm: &HttpConnectionManager) -> UnderscoreAction {
    match hcm.underscores {
        UnderscoresAction::Allow => UnderscoreAction::Allow,
        UnderscoresAction::RejectRequest => UnderscoreAction::RejectRequest,
        UnderscoresAction::DropHeader => UnderscoreAction::DropHeader,
    }
}

/// How a body is framed over HTTP/1.1 that came over HTTP/2, or that a filter may have changed: `whole` heads have none.
pub(crate) fn body_framing(headers: &HeaderMap, whole: bool) -> BodyFraming {
    if whole {
        return BodyFraming::None;
    }
    let length = headers.get(HeaderId::ContentLength).and_then(|v| std::str::from_utf8(v).ok());
    length.and_then(|n| n.parse().ok()).map_or(BodyFraming::Chunked, BodyFraming::Length)
}

pub(crate) fn header_case(proper: bool, preserve: bool) -> HeaderCase {
    match (proper, preserve) {
        (true, _) => HeaderCase::Proper,
        (false, true) => HeaderCase::Preserve,
        (false, false) => HeaderCase::Lower,
    }
}

fn path_options(hcm: &HttpConnectionManager) -> PathOptions {
    use millrace_config::PathWithEscapedSlashes as Configured;
    PathOptions {
        normalize: hcm.paths.normalize,
        merge_slashes: hcm.paths.merge_slashes,
        escaped_slashes: match hcm.paths.escaped_slashes {
            Configured::KeepUnchanged => EscapedSlashes::KeepUnchanged,
            Configured::RejectRequest => EscapedSlashes::RejectRequest,
            Configured::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            Configured::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        },
        reject_fragment: hcm.paths.reject_fragment,
        ..PathOptions::default()
    }
}
