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
    LocalReply::new(404, "", "route_not_found").flagged(ResponseFlag::NoRouteFound)
}

/// The route's cluster does not exist; `status` is `cluster_not_found_status`.
pub fn no_cluster(status: u16) -> LocalReply {
    LocalReply::new(status, "", "cluster_not_found").flagged(ResponseFlag::NoClusterFound)
}

/// The cluster has no endpoint that may be used.
pub fn no_healthy_upstream() -> LocalReply {
    LocalReply::new(503, "no healthy upstream", "no_healthy_upstream")
        .flagged(ResponseFlag::NoHealthyUpstream)
}

/// The route's timeout; `as_204` after `x-envoy-upstream-rq-timeout-alt-response`.
pub fn request_timeout(as_204: bool) -> LocalReply {
    let status = if as_204 { 204 } else { 504 };
    let body = if as_204 { "" } else { "upstream request timeout" };
    LocalReply::new(status, body, "response_timeout").flagged(ResponseFlag::UpstreamRequestTimeout)
}

/// The last try's `per_try_timeout`.
pub fn per_try_timeout(as_204: bool) -> LocalReply {
    LocalReply { details: Cow::Borrowed("upstream_per_try_timeout"), ..request_timeout(as_204) }
}

/// The route's `max_stream_duration` before the response began.
pub fn max_stream_duration() -> LocalReply {
    LocalReply::new(504, "upstream max stream duration reached", "upstream_max_stream_duration_reached")
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

/// The upstream failed before a response head. `failure` is the transport's own words (a connect error of
/// the system), empty when there are none.
pub fn reset(reason: ResetReason, failure: &str) -> LocalReply {
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
    let mut body =
        format!("upstream connect error or disconnect/reset before headers. reset reason: {words}");
    let mut details = format!("upstream_reset_before_response_started{{{words}");
    if !failure.is_empty() {
        body.push_str(", transport failure reason: ");
        body.push_str(failure);
        details.push('|');
        details.push_str(failure);
    }
    details.push('}');
    LocalReply {
        body: Cow::Owned(body.into_bytes()),
        details: Cow::Owned(details.replace(char::is_whitespace, "_")),
        overloaded: reason == ResetReason::Overflow,
        ..LocalReply::new(status, "", "")
    }
    .flagged(flag)
}

/// A direct response; a body with operators was rendered into `rendered` by the caller.
pub fn direct_response(direct: &DirectResponse, rendered: Option<Vec<u8>>) -> LocalReply {
    LocalReply {
        body: Cow::Owned(rendered.unwrap_or_else(|| direct.body.to_vec())),
        ..LocalReply::new(direct.status, "", "direct_response")
    }
}

/// A redirect route.
pub fn redirect(redirect: &Redirect, matcher: &RouteMatch, head: &RequestHead) -> LocalReply {
    let mut reply = LocalReply::new(redirect.status, "", "direct_response");
    redirect::location(redirect, matcher, head, &mut reply.location);
    reply
}

/// A virtual host with `require_tls` met a plain request.
pub fn tls_redirect(head: &RequestHead) -> LocalReply {
    let mut reply = LocalReply::new(301, "", "direct_response");
    redirect::tls_location(head, &mut reply.location);
    reply
}
