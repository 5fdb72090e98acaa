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
    pub fn take(forward: &RouteForward, options: TimeoutOptions, head: &mut RequestHead) -> Self {
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
        timeouts.announce(options, Duration::ZERO, headers);
        timeouts
    }

    /// Sets `x-envoy-expected-rq-timeout-ms` for a try that starts `elapsed` after the request ended.
    pub fn announce(&self, options: TimeoutOptions, elapsed: Duration, headers: &mut HeaderMap) {
        let Some(expected) = self.per_try.or(self.global).filter(|_| options.announce) else { return };
        let left = match self.global {
            // 0 would mean forever.
            Some(global) if elapsed >= global => Duration::from_millis(1),
            Some(global) => expected.min(global - elapsed),
            None => expected,
        };
        let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        set_number(headers, HeaderId::XEnvoyExpectedRqTimeoutMs, ms);
    }
}

/// `Some(None)` for 0 (no timeout), `None` when absent or no number.
fn millis(headers: &HeaderMap, id: HeaderId) -> Option<Option<Duration>> {
    let text = std::str::from_utf8(headers.get(id)?).ok()?;
    let ms: u64 = text.trim().parse().ok()?;
    Some((ms > 0).then(|| Duration::from_millis(ms)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_config::RetryPolicy;

    use super::*;
    use crate::http::test::{forward, head, lines};

    const ON: TimeoutOptions = TimeoutOptions { respect_expected: false, announce: true };

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    /// Route timeout 15 s, `per_try` milliseconds; the result and what goes upstream.
    fn take(per_try: u64, options: TimeoutOptions, list: &[(&str, &str)]) -> (Timeouts, String) {
        let mut forward = forward();
        let per_try_timeout = (per_try > 0).then(|| Duration::from_millis(per_try));
        forward.retry_policy = Some(Arc::new(RetryPolicy { per_try_timeout, ..RetryPolicy::default() }));
        let mut head = head("/", list);
        let timeouts = Timeouts::take(&forward, options, &mut head);
        (timeouts, lines(&head.headers))
    }

    const GLOBAL: &str = "x-envoy-upstream-rq-timeout-ms";
    const PER_TRY: &str = "x-envoy-upstream-rq-per-try-timeout-ms";
    const EXPECTED: &str = "x-envoy-expected-rq-timeout-ms";

    #[test]
    fn as_envoy_1_40_announced_them() {
        for (per_try, list, announced) in [
            (0, &[][..], "15000"),
            (200, &[], "200"),
            (0, &[(GLOBAL, "400"), (PER_TRY, "100")], "100"),
            (200, &[(GLOBAL, "300"), (PER_TRY, "300")], "300"),
            (200, &[(GLOBAL, "500"), (PER_TRY, "0")], "500"),
            (200, &[(GLOBAL, "abc")], "200"),
            (200, &[(GLOBAL, "0")], "200"),
        ] {
            assert_eq!(take(per_try, ON, list).1, format!("{EXPECTED}: {announced}"), "{list:?}");
        }
        assert_eq!(take(0, ON, &[(GLOBAL, "0")]), (Timeouts::default(), String::new()));
        assert_eq!(take(300, ON, &[(GLOBAL, "300")]).0.per_try, None);
        let quiet = TimeoutOptions { announce: false, ..ON };
        assert_eq!(
            take(0, quiet, &[(GLOBAL, "7")]),
            (Timeouts { global: ms(7), ..Timeouts::default() }, "".into())
        );
    }

    #[test]
    fn an_expected_timeout_is_respected_on_request() {
        let respect = TimeoutOptions { respect_expected: true, announce: true };
        assert_eq!(take(0, respect, &[(EXPECTED, "77")]).0.global, ms(77));
        assert_eq!(take(0, ON, &[(EXPECTED, "77")]).0.global, ms(15_000));
        assert_eq!(
            take(0, respect, &[(GLOBAL, "5")]),
            (Timeouts { global: ms(5), ..Timeouts::default() }, format!("{EXPECTED}: 5"))
        );
    }

    #[test]
    fn max_stream_duration_replaces_the_route_timeout() {
        let mut forward = forward();
        forward.max_stream_duration = Some(ms(300));
        let mut head = head("/", &[]);
        let timeouts = Timeouts::take(&forward, ON, &mut head);
        assert_eq!((timeouts, lines(&head.headers)), (Timeouts::default(), String::new()));
    }

    #[test]
    fn a_retry_announces_what_is_left() {
        let left = |global, per_try, elapsed| {
            let timeouts = Timeouts { global, per_try, per_try_idle: None };
            let mut headers = HeaderMap::new();
            timeouts.announce(ON, Duration::from_millis(elapsed), &mut headers);
            lines(&headers)
        };
        assert_eq!(left(ms(15_000), None, 4), format!("{EXPECTED}: 14996"));
        assert_eq!(left(ms(500), ms(200), 400), format!("{EXPECTED}: 100"));
        assert_eq!(left(ms(500), ms(200), 600), format!("{EXPECTED}: 1"));
        assert_eq!(left(None, ms(200), 600), format!("{EXPECTED}: 200"));
        assert_eq!(left(None, None, 0), "");
    }
}
