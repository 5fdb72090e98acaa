//! Replies of the connection manager itself: requests that never reach a route, and streams that it ends.

use millrace_base::ResponseFlag;

use crate::http::LocalReply;

/// No `host` (HTTP/1.1) or empty authority.
pub fn missing_host() -> LocalReply {
    LocalReply::new(400, "", "missing_host_header")
}

/// No path, although the method is not CONNECT.
pub fn missing_path() -> LocalReply {
    LocalReply::new(404, "", "missing_path_rejected")
}

/// An absolute or otherwise odd target where a path must stand.
pub fn absolute_path() -> LocalReply {
    LocalReply::new(404, "", "absolute_path_rejected")
}

/// The path cannot be normalised, or holds what the configuration forbids.
pub fn path_normalization_failed() -> LocalReply {
    LocalReply::new(400, "", "path_normalization_failed")
}

/// `UNESCAPE_AND_REDIRECT`: the client shall come back with the normalised path.
pub fn path_normalized_redirect(path: &[u8]) -> LocalReply {
    let mut reply = LocalReply::new(307, "", "path_normalization_failed");
    reply.location.extend_from_slice(path);
    reply
}

/// An upgrade or CONNECT that nobody switched on.
pub fn upgrade_rejected() -> LocalReply {
    LocalReply::new(403, "", "upgrade_failed")
}

/// HTTP/1.0 without `accept_http_10`.
pub fn low_version() -> LocalReply {
    LocalReply::new(426, "Upgrade Required", "low_version")
        .flagged(ResponseFlag::DownstreamProtocolError)
        .closing()
}

/// The overload manager has requests refused. Envoy sets no response flag.
pub fn overloaded() -> LocalReply {
    LocalReply::new(503, "envoy overloaded", "overload")
}

/// `stream_idle_timeout` (or the route's) before a response began: 504 if the request was complete, else 408.
pub fn stream_idle_timeout(request_complete: bool) -> LocalReply {
    timed_out(request_complete, "stream timeout", "stream_idle_timeout")
        .flagged(ResponseFlag::StreamIdleTimeout)
}

/// `max_stream_duration` (or the route's) before a response began: 504 if the request was complete, else 408.
pub fn max_stream_duration(request_complete: bool) -> LocalReply {
    let reply = timed_out(request_complete, "downstream duration timeout", "max_duration_timeout");
    LocalReply { grpc_status: Some("4".into()), ..reply }
}

fn timed_out(request_complete: bool, body: &'static str, details: &'static str) -> LocalReply {
    match request_complete {
        true => LocalReply::new(504, body, details),
        false => LocalReply::new(408, body, details).closing(),
    }
}

/// `request_timeout`: the request did not end in time.
pub fn request_overall_timeout() -> LocalReply {
    LocalReply::new(408, "request timeout", "request_overall_timeout").closing()
}

/// `request_headers_timeout`: the head did not end in time.
pub fn request_header_timeout() -> LocalReply {
    LocalReply::new(408, "request header timeout", "request_header_timeout").closing()
}
