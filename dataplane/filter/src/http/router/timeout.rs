//! Timeouts of one request: what route, retry policy and request headers make of them.

use std::time::Duration;

use millrace_config::RouteForward;
use millrace_http::{HeaderId, HeaderMap, RequestHead};

use crate::http::connection_manager::request::set_number;

/// The timeouts of one request; `None` means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request to the end of the response, tries included.
    pub global: Option<Duration>,
    /// One try.
    pub per_try: Option<Duration>,
    /// One try without a byte.
    pub per_try_idle: Option<Duration>,
}

/// The router's options that matter here.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutOptions {
    /// `respect_expected_rq_timeout`.
    pub respect_expected: bool,
    /// Not `suppress_envoy_headers`: tell the upstream in `x-envoy-expected-rq-timeout-ms`.
    pub announce: bool,
}

impl Timeouts {
    /// Reads and removes the request's timeout fields and sets the expected timeout for the first try.
    pub fn take(
        forward: &RouteForward,
        options: TimeoutOptions,
        head: &mut RequestHead,
        scratch: &mut Vec<u8>,
    ) -> Self {
        let policy = forward.retry_policy.as_deref();
        let mut timeouts = Self {
            // A route with `max_stream_duration` uses that one instead.
            global: forward.timeout.filter(|_| forward.max_stream_duration.is_none()),
            per_try: policy.and_then(|p| p.per_try_timeout),
            per_try_idle: policy.and_then(|p| p.per_try_idle_timeout),
        };
        let headers = &mut head.headers;
        if options.respect_expected && headers.contains(HeaderId::XEnvoyExpectedRqTimeoutMs) {
            timeouts.global = millis(headers, HeaderId::XEnvoyExpectedRqTimeoutMs).unwrap_or(timeouts.global);
        } else {
            timeouts.global = millis(headers, HeaderId::XEnvoyUpstreamRqTimeoutMs).unwrap_or(timeouts.global);
            headers.remove_id(HeaderId::XEnvoyUpstreamRqTimeoutMs);
        }
        timeouts.per_try =
            millis(headers, HeaderId::XEnvoyUpstreamRqPerTryTimeoutMs).unwrap_or(timeouts.per_try);
        headers.remove_id(HeaderId::XEnvoyUpstreamRqPerTryTimeoutMs);
        if timeouts.global.is_some_and(|global| timeouts.per_try.is_some_and(|per_try| per_try >= global)) {
            timeouts.per_try = None;
        }
        timeouts.announce(options, Duration::ZERO, headers, scratch);
        timeouts
    }

    /// Sets `x-envoy-expected-rq-timeout-ms` for a try that starts `elapsed` after the request ended.
    pub fn announce(
        &self,
        options: TimeoutOptions,
        elapsed: Duration,
        headers: &mut HeaderMap,
        scratch: &mut Vec<u8>,
    ) {
        let Some(expected) = self.per_try.or(self.global).filter(|_| options.announce) else { return };
        let left = match self.global {
            // 0 would mean forever.
            Some(global) if elapsed >= global => Duration::from_millis(1),
            Some(global) => expected.min(global - elapsed),
            None => expected,
        };
        let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        set_number(headers, HeaderId::XEnvoyExpectedRqTimeoutMs, ms, scratch);
    }
}

/// `Some(None)` for 0 (no timeout), `None` when absent or no number.
fn millis(headers: &HeaderMap, id: HeaderId) -> Option<Option<Duration>> {
    let text = std::str::from_utf8(headers.get(id)?).ok()?;
    let ms: u64 = text.trim().parse().ok()?;
    Some((ms > 0).then(|| Duration::from_millis(ms)))
}
