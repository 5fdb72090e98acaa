//! The request head as the upstream gets it.

use std::time::Duration;

use millrace_config::{HostRewrite, RouteForward, StrictHeaders};
use millrace_http::{HeaderId, RequestHead};
use millrace_route::rewrite;

use super::Render;
use super::mutation::{self, Levels};
use super::timeout::{TimeoutOptions, Timeouts};
use crate::http::connection_manager::request::set_number;

/// The router's own options, and what it must know of its connection manager.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouterOptions {
    /// `suppress_envoy_headers`.
    pub suppress_envoy_headers: bool,
    /// `respect_expected_rq_timeout`.
    pub respect_expected_rq_timeout: bool,
    /// `strict_check_headers`.
    pub strict_check_headers: StrictHeaders,
    /// `suppress_grpc_request_failure_code_stats`.
    pub suppress_grpc_statuses: bool,
    /// `dynamic_stats` is off.
    pub no_dynamic_stats: bool,
    /// The connection manager's `max_stream_duration`.
    pub max_stream_duration: Option<Duration>,
}

impl RouterOptions {
    fn timeouts(self) -> TimeoutOptions {
        TimeoutOptions {
            respect_expected: self.respect_expected_rq_timeout,
            announce: !self.suppress_envoy_headers,
            max_stream_duration: self.max_stream_duration,
        }
    }
}

/// What [`finalize`] found out on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finalized {
    /// The timeouts.
    pub timeouts: Timeouts,
    /// `x-envoy-upstream-rq-timeout-alt-response`: a request timeout answers 204 instead of 504.
    pub timeout_is_204: bool,
}

/// Turns the downstream head into the upstream one: timeouts, attempt count, mutations, host and path.
/// Retry fields are still there; [`super::retry::RetryState::new`] takes them. `scratch` is cleared and used.
pub fn finalize(
    levels: &Levels<'_>,
    forward: &RouteForward,
    options: RouterOptions,
    render: &impl Render,
    head: &mut RequestHead,
    scratch: &mut Vec<u8>,
) -> Finalized {
    let timeouts = Timeouts::take(forward, options.timeouts(), head);
    head.headers.remove_id(HeaderId::XEnvoyUpstreamAltStatName);
    let timeout_is_204 = head.headers.remove_id(HeaderId::XEnvoyUpstreamRqTimeoutAltResponse) > 0;
    if levels.selected.virtual_host.include_request_attempt_count {
        head.headers.set_id(HeaderId::XEnvoyAttemptCount, b"1");
    }
    mutation::request(levels, render, head, scratch);
    let keep_original = !options.suppress_envoy_headers;
    rewrite_host(levels, forward, keep_original, head, scratch);
    if rewrite::path(&levels.selected.route.matcher, forward, head.path(), scratch) {
        let new = scratch.len();
        if keep_original {
            scratch.extend_from_slice(head.path());
            head.headers.set_id(HeaderId::XEnvoyOriginalPath, &scratch[new..]);
        }
        head.set_path(&scratch[..new]);
    }
    Finalized { timeouts, timeout_is_204 }
}

/// What is known of another try.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Its number, 2 for the first retry.
    pub attempt: u32,
    /// The try before it took too long.
    pub after_timeout: bool,
    /// Since the request was complete.
    pub elapsed: Duration,
}

/// Prepares the head for another try: attempt count, the reason, expected timeout.
pub fn prepare_retry(
    levels: &Levels<'_>,
    options: RouterOptions,
    timeouts: &Timeouts,
    retry: Retry,
    head: &mut RequestHead,
) {
    if levels.selected.virtual_host.include_request_attempt_count {
        set_number(&mut head.headers, HeaderId::XEnvoyAttemptCount, u64::from(retry.attempt));
    }
    if levels.selected.virtual_host.include_is_timeout_retry {
        let told: &[u8] = if retry.after_timeout { b"true" } else { b"false" };
        head.headers.set_id(HeaderId::XEnvoyIsTimeoutRetry, told);
    }
    timeouts.announce(options.timeouts(), retry.elapsed, &mut head.headers);
}

fn rewrite_host(
    levels: &Levels<'_>,
    forward: &RouteForward,
    keep_original: bool,
    head: &mut RequestHead,
    scratch: &mut Vec<u8>,
) {
    let changed = match levels.weighted.and_then(|w| w.host_rewrite.as_deref()) {
        Some(literal) => {
            scratch.clear();
            scratch.extend_from_slice(literal);
            true
        }
        None => rewrite::host(forward.host_rewrite.as_ref(), head, scratch),
    };
    if changed {
        set_host(head, scratch, forward.append_x_forwarded_host, keep_original);
    }
}

/// `auto_host_rewrite`: the authority becomes the chosen endpoint's host name, if it has one.
pub fn rewrite_host_for_endpoint(
    forward: &RouteForward,
    options: RouterOptions,
    hostname: &[u8],
    head: &mut RequestHead,
    scratch: &mut Vec<u8>,
) {
    if matches!(forward.host_rewrite, Some(HostRewrite::Auto)) && !hostname.is_empty() {
        scratch.clear();
        scratch.extend_from_slice(hostname);
        set_host(head, scratch, forward.append_x_forwarded_host, !options.suppress_envoy_headers);
    }
}

/// Replaces the authority with the text in `scratch`, whose rest is used as work space.
fn set_host(head: &mut RequestHead, scratch: &mut Vec<u8>, append_forwarded: bool, keep_original: bool) {
    let new = scratch.len();
    if !head.authority().is_empty() {
        if keep_original {
            scratch.extend_from_slice(head.authority());
            head.headers.set_id(HeaderId::XEnvoyOriginalHost, &scratch[new..]);
            scratch.truncate(new);
        }
        if append_forwarded {
            append_forwarded_host(head, scratch);
            scratch.truncate(new);
        }
    }
    head.set_authority(&scratch[..new]);
}

/// Appends the authority to `x-forwarded-host` unless it is the last entry already; grows `scratch`.
fn append_forwarded_host(head: &mut RequestHead, scratch: &mut Vec<u8>) {
    let start = scratch.len();
    head.headers.joined(HeaderId::XForwardedHost.name().as_bytes(), scratch);
    let list = &scratch[start..];
    // Envoy compares without trimming.
    if list.rsplit(|b| *b == b',').find(|item| !item.is_empty()) == Some(head.authority()) {
        return;
    }
    if !list.is_empty() {
        scratch.push(b',');
    }
    scratch.extend_from_slice(head.authority());
    head.headers.set_id(HeaderId::XForwardedHost, &scratch[start..]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_config::{
        PathMatcher, PathRewrite, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    };
    use millrace_route::Selected;

    use super::*;
    use crate::http::test::{Literal, bytes, forward, head, lines, route, text, virtual_host};

    fn run(
        change: impl FnOnce(&mut RouteForward),
        options: RouterOptions,
        path: &str,
        list: &[(&str, &str)],
    ) -> (String, String, String) {
        let (config, mut forward) = (RouteConfiguration::default(), forward());
        change(&mut forward);
        forward.timeout = None;
        let host = Arc::new(VirtualHost { include_request_attempt_count: true, ..virtual_host() });
        let matcher = RouteMatch { path: PathMatcher::Prefix(bytes("/w")), ..RouteMatch::any() };
        let action = RouteAction::Forward(Box::new(forward.clone()));
        let route = Arc::new(Route { matcher, action, ..route() });
        let levels = Levels {
            config: &config,
            selected: Selected { virtual_host: &host, route: &route },
            weighted: None,
        };
        let (mut head, mut scratch) = (head(path, list), Vec::new());
        finalize(&levels, &forward, options, &Literal, &mut head, &mut scratch);
        (text(head.path()), text(head.authority()), lines(&head.headers))
    }

    fn rewritten(path: &str, authority: &str, headers: &str) -> (String, String, String) {
        (path.into(), authority.into(), headers.into())
    }

    const ON: RouterOptions = RouterOptions {
        suppress_envoy_headers: false,
        respect_expected_rq_timeout: false,
        strict_check_headers: [None; 5],
        suppress_grpc_statuses: false,
        no_dynamic_stats: false,
        max_stream_duration: None,
    };

    #[test]
    fn rewrites_leave_what_was_there() {
        let path = |f: &mut RouteForward| f.path_rewrite = Some(PathRewrite::Prefix(bytes("/new")));
        let expected = "x-envoy-attempt-count: 1 | x-envoy-original-path: /w/a?b";
        assert_eq!(run(path, ON, "/w/a?b", &[]), rewritten("/new/a?b", "h:80", expected));
        let host = |f: &mut RouteForward| {
            f.host_rewrite = Some(HostRewrite::Literal(bytes("nh")));
            f.append_x_forwarded_host = true;
        };
        let expected = "x-envoy-attempt-count: 1 | x-envoy-original-host: h:80 | x-forwarded-host: h:80";
        assert_eq!(run(host, ON, "/w", &[]), rewritten("/w", "nh", expected));
        let sent = [("x-forwarded-host", "a, h:80"), ("x-envoy-original-host", "zz")];
        let expected =
            "x-forwarded-host: a, h:80,h:80 | x-envoy-original-host: h:80 | x-envoy-attempt-count: 1";
        assert_eq!(run(host, ON, "/w", &sent), rewritten("/w", "nh", expected));
        let sent = [("x-forwarded-host", "a,h:80")];
        assert!(run(host, ON, "/w", &sent).2.starts_with("x-forwarded-host: a,h:80 | "));
        let quiet = RouterOptions { suppress_envoy_headers: true, ..ON };
        assert_eq!(run(path, quiet, "/w", &[]), rewritten("/new", "h:80", "x-envoy-attempt-count: 1"));
    }

    #[test]
    fn the_endpoint_may_name_the_host() {
        let mut forward = forward();
        forward.host_rewrite = Some(HostRewrite::Auto);
        let (mut head, mut scratch) = (head("/", &[]), Vec::new());
        rewrite_host_for_endpoint(&forward, ON, b"", &mut head, &mut scratch);
        assert_eq!(head.authority(), b"h:80");
        rewrite_host_for_endpoint(&forward, ON, b"pod-1.svc", &mut head, &mut scratch);
        assert_eq!(
            (head.authority(), &*lines(&head.headers)),
            (&b"pod-1.svc"[..], "x-envoy-original-host: h:80")
        );
    }

    #[test]
    fn steady_rewrites_do_not_allocate() {
        let (mut head, mut scratch) = (head("/", &[]), Vec::with_capacity(256));
        let capacity = scratch.capacity();
        for _ in 0..100 {
            scratch.clear();
            scratch.extend_from_slice(b"new.example");
            set_host(&mut head, &mut scratch, true, true);
            assert_eq!(scratch.capacity(), capacity);
            head.headers.clear();
        }
    }
}
