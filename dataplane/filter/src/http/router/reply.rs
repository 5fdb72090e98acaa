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
pub fn no_healthy_upstream(status: u16) -> LocalReply {
    by_router(status, "no healthy upstream", "no_healthy_upstream").flagged(ResponseFlag::NoHealthyUpstream)
}

/// The control plane has requests to the cluster dropped (`drop_overloads`), all of them if `unconditional`; `announce`
/// is false with `suppress_envoy_headers`.
pub fn drop_overload(unconditional: bool, announce: bool) -> LocalReply {
    let (body, details, flag, name) = match unconditional {
        true => (
            "unconditional drop overload",
            "unconditional_drop_overload",
            ResponseFlag::UnconditionalDropOverload,
            &b"x-envoy-unconditional-drop-overload"[..],
        ),
        false => {
            ("drop overload", "drop_overload", ResponseFlag::DropOverload, &b"x-envoy-drop-overload"[..])
        }
    };
    let field = announce.then(|| (Cow::Borrowed(name), b"true".to_vec()));
    LocalReply { headers: field.into_iter().collect(), ..by_router(503, body, details) }.flagged(flag)
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

/// The last try's `per_try_idle_timeout`.
pub fn per_try_idle_timeout(as_204: bool) -> LocalReply {
    LocalReply { details: Cow::Borrowed("upstream_per_try_idle_timeout"), ..request_timeout(as_204) }
}

/// `max_stream_duration` of the cluster: 504 if the request was complete, else 408. It counts for no status of the
/// cluster.
pub fn max_stream_duration(request_complete: bool) -> LocalReply {
    let status = if request_complete { 504 } else { 408 };
    LocalReply::new(status, "upstream max stream duration reached", "upstream_max_stream_duration_reached")
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
        ResetReason::PerTryIdleTimeout => return per_try_idle_timeout(false),
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

/// The same when an interim answer (1xx) came before: for the details the response had started.
pub fn after_interim(reply: LocalReply) -> LocalReply {
    let details = reply.details.replacen("before_response", "after_response", 1);
    LocalReply { details: Cow::Owned(details), ..reply }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::{head, text};

    #[test]
    fn resets_as_envoy_1_40_words_them() {
        let refused = "delayed connect error: Connection refused";
        for (reason, failure, retried, status, flag, body, details) in [
            (
                ResetReason::ConnectFailure,
                refused,
                false,
                503,
                "UF",
                "reset reason: remote connection failure",
                "remote_connection_failure|delayed_connect_error:_Connection_refused",
            ),
            (
                ResetReason::ConnectFailure,
                refused,
                true,
                503,
                "UF",
                "retried and the latest reset reason: remote connection failure",
                "remote_connection_failure|delayed_connect_error:_Connection_refused",
            ),
            (
                ResetReason::ConnectTimeout,
                "",
                false,
                503,
                "UF",
                "reset reason: connection timeout",
                "connection_timeout",
            ),
            (ResetReason::Overflow, "", false, 503, "UO", "reset reason: overflow", "overflow"),
            (
                ResetReason::ConnectionTermination,
                "",
                false,
                503,
                "UC",
                "reset reason: connection termination",
                "connection_termination",
            ),
            (
                ResetReason::ProtocolError,
                "",
                false,
                502,
                "UPE",
                "reset reason: protocol error",
                "protocol_error",
            ),
        ] {
            let reply = reset(reason, failure, retried);
            let start = "upstream connect error or disconnect/reset before headers. ";
            assert_eq!(text(&reply.body), format!("{start}{body}"));
            assert_eq!(reply.details, format!("upstream_reset_before_response_started{{{details}}}"));
            assert_eq!((reply.status, reply.flag.map(ResponseFlag::short)), (status, Some(flag)));
            assert_eq!(reply.overloaded, reason == ResetReason::Overflow);
            assert!(reply.by_router);
        }
        let late = after_interim(reset(ResetReason::ConnectionTermination, "", false));
        assert_eq!(late.details, "upstream_reset_after_response_started{connection_termination}");
    }

    #[test]
    fn timeouts_and_missing_things() {
        for (reply, status, body, details, flag) in [
            (no_route(), 404, "", "route_not_found", "NR"),
            (no_cluster(503), 503, "", "cluster_not_found", "NC"),
            (no_healthy_upstream(503), 503, "no healthy upstream", "no_healthy_upstream", "UH"),
            (drop_overload(false, true), 503, "drop overload", "drop_overload", "DO"),
            (
                drop_overload(true, false),
                503,
                "unconditional drop overload",
                "unconditional_drop_overload",
                "UDO",
            ),
            (request_timeout(false), 504, "upstream request timeout", "response_timeout", "UT"),
            (request_timeout(true), 204, "", "response_timeout", "UT"),
            (per_try_timeout(false), 504, "upstream request timeout", "upstream_per_try_timeout", "UT"),
        ] {
            assert_eq!((reply.status, &*text(&reply.body), &*reply.details), (status, body, details));
            assert_eq!(reply.flag.map(ResponseFlag::short), Some(flag));
        }
    }

    #[test]
    fn a_created_resource_tells_its_url() {
        let direct = |status| DirectResponse { status, body: b"made"[..].into(), body_format: None };
        assert_eq!(direct_response(&direct(201), None, &head("/dm", &[])).location, b"http://h:80/dm");
        let ok = direct_response(&direct(200), Some(b"rendered".to_vec()), &head("/dm", &[]));
        assert_eq!((ok.location.len(), &*ok.body), (0, &b"rendered"[..]));
        assert_eq!(tls_redirect(&head("/x?y", &[])).location, b"https://h:80/x?y");
    }
}
