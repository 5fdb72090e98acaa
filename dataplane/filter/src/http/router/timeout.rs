//! Timeouts of one request: what route, retry policy and request headers make of them.

use std::time::Duration;

use millrace_config::{GrpcTimeout, MaxStreamDuration, RouteForward};
use millrace_http::{HeaderId, HeaderMap, RequestHead};

use crate::http::connection_manager::request::set_number;
use crate::http::grpc::{self, timeout as grpc_timeout};

/// The timeouts of one request; `None` means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request to the end of the response, tries included.
    pub global: Option<Duration>,
    /// One try.
    pub per_try: Option<Duration>,
    /// One try without a byte.
    pub per_try_idle: Option<Duration>,
    /// The whole stream, of a route with `max_stream_duration`; zero ends it at once. Routes without leave the
    /// connection manager's in force.
    pub stream: Option<Duration>,
    /// From when a try has its connection until its response ends, instead of the cluster's `max_stream_duration`;
    /// `Some(None)` for no end.
    pub try_stream: Option<Option<Duration>>,
    /// A try whose time is over goes on beside the next one (`hedge_on_per_try_timeout`).
    pub hedges: bool,
    /// The expected timeout is the request's `grpc-timeout`, too.
    grpc: bool,
}

/// The router's options that matter here.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutOptions {
    /// `respect_expected_rq_timeout`.
    pub respect_expected: bool,
    /// Not `suppress_envoy_headers`: tell the upstream in `x-envoy-expected-rq-timeout-ms`.
    pub announce: bool,
    /// The connection manager's `max_stream_duration`.
    pub max_stream_duration: Option<Duration>,
}

impl Timeouts {
    /// Reads and removes the request's timeout fields and sets the expected timeout for the first try.
    pub fn take(forward: &RouteForward, options: TimeoutOptions, head: &mut RequestHead) -> Self {
        let policy = forward.retry_policy.as_deref();
        let is_grpc = grpc::is_grpc(head);
        // A route with `max_stream_duration` uses that one instead.
        let capped = forward.grpc_timeout.filter(|_| is_grpc && forward.max_stream_duration.is_none());
        let mut timeouts = Self {
            global: match (capped, forward.max_stream_duration) {
                (Some(cap), _) => cap_grpc_timeout(cap, grpc_timeout::get(&head.headers)),
                (None, Some(_)) => None,
                (None, None) => forward.timeout,
            },
            per_try: policy.and_then(|p| p.per_try_timeout),
            per_try_idle: policy.and_then(|p| p.per_try_idle_timeout),
            stream: None,
            try_stream: millis(&head.headers, HeaderId::XEnvoyUpstreamStreamDurationMs),
            hedges: hedges(forward, &mut head.headers),
            grpc: capped.is_some(),
        };
        if let Some(max) = forward.max_stream_duration {
            timeouts.stream = stream_duration(max, options.max_stream_duration, &head.headers);
            if let Some(duration) = timeouts.stream.filter(|_| is_grpc) {
                grpc_timeout::set(&mut head.headers, duration);
            }
        }
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
        headers.remove_id(HeaderId::XEnvoyUpstreamStreamDurationMs);
        if timeouts.global.is_some_and(|global| timeouts.per_try.is_some_and(|per_try| per_try >= global)) {
            timeouts.per_try = None;
        }
        timeouts.announce(options, Duration::ZERO, headers);
        timeouts
    }

    /// Sets `x-envoy-expected-rq-timeout-ms` for a try that starts `elapsed` after the request ended.
    pub fn announce(&self, options: TimeoutOptions, elapsed: Duration, headers: &mut HeaderMap) {
        let per_try = self.per_try.filter(|_| !self.hedges);
        let Some(expected) = per_try.or(self.global) else { return };
        let left = match self.global {
            // 0 would mean forever.
            Some(global) if elapsed >= global => Duration::from_millis(1),
            Some(global) => expected.min(global - elapsed),
            None => expected,
        };
        if options.announce {
            let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            set_number(headers, HeaderId::XEnvoyExpectedRqTimeoutMs, ms);
        }
        if self.grpc {
            grpc_timeout::set(headers, left);
        }
    }
}

/// The route's `hedge_policy`, unless the request says otherwise.
fn hedges(forward: &RouteForward, headers: &mut HeaderMap) -> bool {
    let asked = match headers.get(HeaderId::XEnvoyHedgeOnPerTryTimeout) {
        Some(b"true") => Some(true),
        Some(b"false") => Some(false),
        _ => None,
    };
    headers.remove_id(HeaderId::XEnvoyHedgeOnPerTryTimeout);
    asked.unwrap_or(forward.hedges_on_per_try_timeout)
}

/// `max_grpc_timeout`: what the request asks for, less the offset if that leaves something, up to the maximum. A request
/// that asks for nothing, or for 0, gets the maximum.
fn cap_grpc_timeout(cap: GrpcTimeout, asked: Option<Duration>) -> Option<Duration> {
    let asked = asked.filter(|asked| !asked.is_zero());
    let asked = asked.map(|asked| if cap.offset < asked { asked - cap.offset } else { asked });
    match (asked, cap.max) {
        (Some(asked), Some(max)) => Some(asked.min(max)),
        (asked, max) => asked.or(max),
    }
}

/// `max_stream_duration` of a route: the request's `grpc-timeout` if the route caps it, else the route's duration,
/// else the connection manager's.
fn stream_duration(
    max: MaxStreamDuration,
    of_connection_manager: Option<Duration>,
    headers: &HeaderMap,
) -> Option<Duration> {
    match (max.grpc_timeout, grpc_timeout::get(headers)) {
        (Some(cap), Some(asked)) => {
            let capped = cap.max.map_or(asked, |max| asked.min(max));
            Some(capped.saturating_sub(cap.offset))
        }
        _ => max.duration.unwrap_or(of_connection_manager),
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

    const ON: TimeoutOptions =
        TimeoutOptions { respect_expected: false, announce: true, max_stream_duration: None };

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
        let respect = TimeoutOptions { respect_expected: true, ..ON };
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
        forward.max_stream_duration = Some(MaxStreamDuration { duration: Some(ms(300)), grpc_timeout: None });
        let mut head = head("/", &[("content-type", "x")]);
        let timeouts = Timeouts::take(&forward, ON, &mut head);
        let expected = Timeouts { stream: ms(300), ..Timeouts::default() };
        assert_eq!((timeouts, &*lines(&head.headers)), (expected, "content-type: x"));
    }

    /// A gRPC request with this `grpc-timeout` (none if empty) on a route: the timeouts and what goes upstream.
    fn grpc(forward: &RouteForward, asked: &str) -> (Timeouts, String) {
        let list = [("grpc-timeout", asked), ("content-type", "application/grpc")];
        let mut head = head("/", &list[usize::from(asked.is_empty())..]);
        let timeouts = Timeouts::take(forward, ON, &mut head);
        head.headers.remove_id(HeaderId::ContentType);
        (timeouts, lines(&head.headers))
    }

    #[test]
    fn a_grpc_timeout_is_capped_as_envoy_1_40_did() {
        let mut forward = forward();
        let cap = GrpcTimeout { max: ms(1000), offset: Duration::from_millis(100) };
        forward.grpc_timeout = Some(cap);
        for (asked, global) in [
            ("", 1000),
            ("500m", 400),
            ("5S", 1000),
            ("50m", 50),
            ("0m", 1000),
            ("1500u", 2),
            ("bad", 1000),
            ("123456789m", 1000),
            ("-5m", 1000),
            ("+5m", 5),
            ("5 m", 5),
            ("00000500m", 400),
        ] {
            let (timeouts, sent) = grpc(&forward, asked);
            assert_eq!((timeouts.global, timeouts.stream), (ms(global), None), "{asked}");
            let expected = match asked {
                "" => format!("{EXPECTED}: {global} | grpc-timeout: {global}m"),
                _ => format!("grpc-timeout: {global}m | {EXPECTED}: {global}"),
            };
            assert_eq!(sent, expected, "{asked}");
        }
        // Without a maximum the client's own holds, and none is none.
        forward.grpc_timeout = Some(GrpcTimeout { max: None, ..cap });
        assert_eq!((grpc(&forward, "5S").0.global, grpc(&forward, "").0.global), (ms(4900), None));
        assert_eq!(grpc(&forward, "").1, "");
        // Other requests keep the route's.
        let mut plain = head("/", &[("grpc-timeout", "1m")]);
        assert_eq!(Timeouts::take(&forward, ON, &mut plain).global, ms(15_000));
    }

    #[test]
    fn a_try_of_its_own_length_is_told_in_grpc_timeout() {
        let mut forward = forward();
        forward.grpc_timeout = Some(GrpcTimeout { max: ms(1000), ..GrpcTimeout::default() });
        let per_try_timeout = ms(400);
        forward.retry_policy = Some(Arc::new(RetryPolicy { per_try_timeout, ..RetryPolicy::default() }));
        assert_eq!(grpc(&forward, "900m").1, format!("grpc-timeout: 400m | {EXPECTED}: 400"));
        let (timeouts, _) = grpc(&forward, "300m");
        assert_eq!((timeouts.global, timeouts.per_try), (ms(300), None));
        let mut headers = HeaderMap::new();
        timeouts.announce(ON, Duration::from_millis(250), &mut headers);
        assert_eq!(lines(&headers), format!("{EXPECTED}: 50 | grpc-timeout: 50m"));
    }

    #[test]
    fn a_grpc_timeout_is_the_streams_duration_as_in_envoy_1_40() {
        let mut forward = forward();
        let mut ask = |max: Option<Option<Duration>>, offset: u64, asked: &str| {
            let offset = Duration::from_millis(offset);
            let grpc_timeout = max.map(|max| GrpcTimeout { max, offset });
            forward.max_stream_duration = Some(MaxStreamDuration { duration: Some(ms(3000)), grpc_timeout });
            let (timeouts, sent) = grpc(&forward, asked);
            assert_eq!(timeouts.global, None);
            let millis = timeouts.stream.map_or(0, |stream| stream.as_millis());
            assert_eq!(sent, format!("grpc-timeout: {millis}m"), "{asked}");
            millis
        };
        let max = Some(ms(1000));
        assert_eq!(
            ["", "500m", "5S", "0m", "bad", "200m"].map(|a| ask(max, 300, a)),
            [3000, 200, 700, 0, 3000, 0]
        );
        assert_eq!(["", "500m", "5S", "0m", "bad"].map(|a| ask(max, 0, a)), [3000, 500, 1000, 0, 3000]);
        assert_eq!(
            ["", "500m", "5S", "0m", "bad"].map(|a| ask(Some(None), 0, a)),
            [3000, 500, 5000, 0, 3000]
        );
        assert_eq!(["", "5S"].map(|a| ask(None, 0, a)), [3000, 3000]);
    }

    #[test]
    fn without_a_duration_of_its_own_a_route_has_the_connection_managers() {
        let mut forward = forward();
        forward.max_stream_duration = Some(MaxStreamDuration::default());
        let options = TimeoutOptions { max_stream_duration: ms(700), ..ON };
        let mut head = head("/", &[("content-type", "application/grpc+x"), ("grpc-timeout", "5S")]);
        assert_eq!(Timeouts::take(&forward, options, &mut head).stream, ms(700));
        assert_eq!(head.headers.get(HeaderId::GrpcTimeout), Some(&b"700m"[..]));
        forward.max_stream_duration = Some(MaxStreamDuration { duration: Some(None), grpc_timeout: None });
        assert_eq!(Timeouts::take(&forward, options, &mut head).stream, None);
    }

    #[test]
    fn a_hedged_try_has_all_of_the_time() {
        let hedge = "x-envoy-hedge-on-per-try-timeout";
        let (timeouts, sent) = take(200, ON, &[(hedge, "true")]);
        assert!(timeouts.hedges && timeouts.per_try == ms(200));
        assert_eq!(sent, format!("{EXPECTED}: 15000"));
        let mut forward = forward();
        forward.hedges_on_per_try_timeout = true;
        for (asked, hedges) in [("false", false), ("true", true), ("maybe", true)] {
            let mut head = head("/", &[(hedge, asked)]);
            assert_eq!(Timeouts::take(&forward, ON, &mut head).hedges, hedges, "{asked}");
            assert!(!head.headers.contains(HeaderId::XEnvoyHedgeOnPerTryTimeout));
        }
    }

    #[test]
    fn a_retry_announces_what_is_left() {
        let left = |global, per_try, elapsed| {
            let timeouts = Timeouts { global, per_try, ..Timeouts::default() };
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
