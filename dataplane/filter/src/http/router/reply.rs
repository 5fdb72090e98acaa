//! What the router answers itself.

use std::borrow::Cow;

use millrace_base::ResponseFlag;
use millrace_config::{DirectResponse, Redirect, RouteMatch};
use millrace_http::RequestHead;
use millrace_route::redirect;

use super::retry::ResetReason;
use crate::http::LocalReply;

/// No virtual host or no route.
pub fn no_route() -> LocalReply {
    by_router(404, "", "route_not_found").flagged(ResponseFlag::NoRouteFound)
}

/// The route's cluster does not exist; `status` is `cluster_not_found_status`.
pub fn no_cluster(status: u16) -> LocalReply {
    by_router(status, "", "cluster_not_found").flagged(ResponseFlag::NoClusterFound)
}

/// The cluster has no endpoint that may be used.
pub fn no_healthy_upstream() -> LocalReply {
    by_router(503, "no healthy upstream", "no_healthy_upstream").flagged(ResponseFlag::NoHealthyUpstream)
}

/// The route's timeout; `as_204` after `x-envoy-upstream-rq-timeout-alt-response`.
pub fn request_timeout(as_204: bool) -> LocalReply {
    let status = if as_204 { 204 } else { 504 };
    let body = if as_204 { "" } else { "upstream request timeout" };
    by_router(status, body, "response_timeout").flagged(ResponseFlag::UpstreamRequestTimeout)
}

/// The last try's `per_try_timeout`.
pub fn per_try_timeout(as_204: bool) -> LocalReply {
    LocalReply { details: Cow::Borrowed("upstream_per_try_timeout"), ..request_timeout(as_204) }
}

/// The route's `max_stream_duration` before the response began.
pub fn max_stream_duration() -> LocalReply {
    by_router(504, "upstream max stream duration reached", "upstream_max_stream_duration_reached")
        .flagged(ResponseFlag::UpstreamMaxStreamDurationReached)
}

/// The request body does not fit the buffer that a filter needs.
pub fn payload_too_large() -> LocalReply {
    LocalReply::new(413, "Payload Too Large", "request_payload_too_large").closing()
}

/// A response body does not fit the buffer that a filter needs.
pub fn response_too_large() -> LocalReply {
    LocalReply::new(500, "Internal Server Error", "response_payload_too_large")
}

fn by_router(status: u16, body: &'static str, details: &'static str) -> LocalReply {
    LocalReply { by_router: true, ..LocalReply::new(status, body, details) }
}

/// The upstream failed before a response head. `failure` is the transport's own words (such as
/// `delayed connect error: Connection refused`), empty when there are none; they stand in the details only.
/// `retried` says that this was not the first try.
pub fn reset(reason: ResetReason, failure: &str, retried: bool) -> LocalReply {
    let (flag, words, status) = match reason {
        ResetReason::ConnectFailure => {
            (ResponseFlag::UpstreamConnectionFailure, "remote connection failure", 503)
        }
        ResetReason::ConnectTimeout => (ResponseFlag::UpstreamConnectionFailure, "connection timeout", 503),
        ResetReason::Overflow => (ResponseFlag::UpstreamOverflow, "overflow", 503),
        ResetReason::RemoteReset => (ResponseFlag::UpstreamRemoteReset, "remote reset", 503),
        ResetReason::RefusedStream => (ResponseFlag::UpstreamRemoteReset, "remote refused stream reset", 503),
        ResetReason::LocalReset => (ResponseFlag::LocalReset, "local reset", 503),
        ResetReason::ConnectionTermination => {
            (ResponseFlag::UpstreamConnectionTermination, "connection termination", 503)
        }
        ResetReason::ProtocolError => (ResponseFlag::UpstreamProtocolError, "protocol error", 502),
        ResetReason::PerTryTimeout => return per_try_timeout(false),
    };
    let which = if retried { "retried and the latest reset reason" } else { "reset reason" };
    let body = format!("upstream connect error or disconnect/reset before headers. {which}: {words}");
    let bar = if failure.is_empty() { "" } else { "|" };
    let details = format!("upstream_reset_before_response_started{{{words}{bar}{failure}}}");
    LocalReply {
        body: Cow::Owned(body.into_bytes()),
        details: Cow::Owned(details.replace(char::is_whitespace, "_")),
        overloaded: reason == ResetReason::Overflow,
        ..by_router(status, "", "")
    }
    .flagged(flag)
}

/// A direct response; a body with operators was rendered into `rendered` by the caller. As in Envoy, 201 and
/// 3xx tell the request's own URL in `location`.
pub fn direct_response(direct: &DirectResponse, rendered: Option<Vec<u8>>, head: &RequestHead) -> LocalReply {
    let mut reply = by_router(direct.status, "", "direct_response");
    reply.body = Cow::Owned(rendered.unwrap_or_else(|| direct.body.to_vec()));
    if direct.status == 201 || (300..400).contains(&direct.status) {
        redirect::own_location(head, &mut reply.location);
    }
    reply
}

/// A redirect route.
pub fn redirect(redirect: &Redirect, matcher: &RouteMatch, head: &RequestHead) -> LocalReply {
    let mut reply = by_router(redirect.status, "", "direct_response");
    redirect::location(redirect, matcher, head, &mut reply.location);
    reply
}

/// A virtual host with `require_tls` met a plain request.
pub fn tls_redirect(head: &RequestHead) -> LocalReply {
    let mut reply = by_router(301, "", "direct_response");
    redirect::tls_location(head, &mut reply.location);
    reply
}
