//! Whether and when a failed try is repeated.

use std::time::Duration;

use millrace_base::{Rng, WallTime};
use millrace_config::{BackOff, GrpcStatusSet, ResetHeaderFormat, RetryConditions, RetryPolicy};
use millrace_http::{HeaderId, HeaderMap, RequestHead, ResponseHead};
use millrace_route::header;

/// Why a try ended without a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// The connection could not be established: refused, unreachable, reset before it was up.
    ConnectFailure,
    /// `connect_timeout`.
    ConnectTimeout,
    /// A circuit breaker of the cluster; never retried.
    Overflow,
    /// The upstream reset the stream (HTTP/2).
    RemoteReset,
    /// The upstream refused the stream without looking at it (HTTP/2).
    RefusedStream,
    /// We reset the stream.
    LocalReset,
    /// The upstream closed an established connection.
    ConnectionTermination,
    /// The upstream broke the protocol.
    ProtocolError,
    /// `per_try_timeout`.
    PerTryTimeout,
    /// `per_try_idle_timeout`.
    PerTryIdleTimeout,
}

impl ResetReason {
    /// The try took too long.
    pub fn is_timeout(self) -> bool {
        matches!(self, Self::PerTryTimeout | Self::PerTryIdleTimeout)
    }
}

/// The answer of [`RetryState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again after this back-off. The retry slot was taken by the closure given.
    Retry {
        /// Jittered, whole milliseconds.
        after: Duration,
        /// The response asked for this delay: counter `upstream_rq_retry_backoff_ratelimited`, else `_exponential`.
        rate_limited: bool,
    },
    /// Nothing asks for a retry.
    No,
    /// No retries left: flag `URX`, counter `upstream_rq_retry_limit_exceeded`.
    NoRetryLimitExceeded,
    /// The retry breaker or budget says no: flag `UO`, counter `upstream_rq_retry_overflow`.
    NoOverflow,
}

/// Retries of one request. Holds no reference to the policy; the caller hands it in.
#[derive(Clone, Debug)]
pub struct RetryState {
    on: RetryConditions,
    remaining: u32,
    next: Duration,
    /// From `x-envoy-retriable-status-codes`.
    statuses: Vec<u16>,
    /// From `x-envoy-retriable-header-names`, lower case.
    names: Vec<Box<[u8]>>,
}

/// Fields that are used up here and never go upstream.
const CONSUMED: [HeaderId; 6] = [
    HeaderId::XEnvoyRetryOn,
    HeaderId::XEnvoyRetryGrpcOn,
    HeaderId::XEnvoyMaxRetries,
    HeaderId::XEnvoyHedgeOnPerTryTimeout,
    HeaderId::XEnvoyRetriableHeaderNames,
    HeaderId::XEnvoyRetriableStatusCodes,
];

impl RetryState {
    /// Combines the route's policy with the request's fields, which are removed. `None` when nothing may be
    /// retried, so that the request need not be buffered.
    pub fn new(policy: Option<&RetryPolicy>, head: &mut RequestHead) -> Option<Self> {
        let state = Self::combine(policy, head);
        for id in CONSUMED {
            head.headers.remove_id(id);
        }
        state.filter(|state| !state.on.is_empty())
    }

    fn combine(policy: Option<&RetryPolicy>, head: &RequestHead) -> Option<Self> {
        let headers = &head.headers;
        let mut on = policy.map(|p| p.on).unwrap_or_default();
        // Words of the other field's vocabulary are ignored.
        on = on.union(listed(headers, HeaderId::XEnvoyRetryOn, RetryConditions(!GRPC.0)));
        on = on.union(listed(headers, HeaderId::XEnvoyRetryGrpcOn, GRPC));
        if on.is_empty() {
            return None;
        }
        let limits = policy.map(|p| &p.retriable_request_headers[..]).unwrap_or_default();
        if !limits.is_empty() && !limits.iter().any(|m| header::matches_request(m, head)) {
            return None;
        }
        let remaining = number(headers.get(HeaderId::XEnvoyMaxRetries));
        let back_off = policy.map(|p| p.back_off).unwrap_or_default();
        Some(Self {
            on,
            remaining: remaining.unwrap_or_else(|| policy.map_or(1, |p| p.num_retries)),
            next: back_off.base,
            statuses: items(headers, HeaderId::XEnvoyRetriableStatusCodes)
                .filter_map(|item| number(Some(item)))
                .filter_map(|status| u16::try_from(status).ok())
                .collect(),
            names: items(headers, HeaderId::XEnvoyRetriableHeaderNames)
                .map(|name| name.to_ascii_lowercase().into())
                .collect(),
        })
    }

    /// The conditions in force.
    pub fn conditions(&self) -> RetryConditions {
        self.on
    }

    /// Decides on a response head; `take_slot` asks the cluster's retry breaker and takes a slot.
    pub fn on_response(
        &mut self,
        policy: Option<&RetryPolicy>,
        head: &ResponseHead,
        now: WallTime,
        take_slot: impl FnOnce() -> bool,
        rng: &mut Rng,
    ) -> RetryDecision {
        let wanted = self.wants_response(policy, head);
        let mut decision = self.decide(wanted, policy, take_slot, rng);
        if let RetryDecision::Retry { after, rate_limited } = &mut decision
            && let Some(asked) = policy.and_then(|policy| asked_for(policy, head, now))
        {
            // Never earlier than asked for, and up to half as long again, so that not all come back at once.
            let more = u64::try_from(asked.as_millis() / 2).unwrap_or(u64::MAX);
            *after = asked + Duration::from_millis(rng.below(more));
            *rate_limited = true;
        }
        decision
    }

    /// Decides on a request besides a try whose time is over (`hedge_on_per_try_timeout`): while retries are left there
    /// is one, whatever the conditions.
    pub fn on_soft_timeout(
        &mut self,
        policy: Option<&RetryPolicy>,
        take_slot: impl FnOnce() -> bool,
        rng: &mut Rng,
    ) -> RetryDecision {
        self.decide(true, policy, take_slot, rng)
    }

    /// True when this response would be followed by another try.
    pub fn would_retry(&self, policy: Option<&RetryPolicy>, head: &ResponseHead) -> bool {
        self.wants_response(policy, head)
    }

    /// Decides on a try without a response head. `request_started` says that request bytes were written to
    /// the upstream connection of this try.
    pub fn on_reset(
        &mut self,
        policy: Option<&RetryPolicy>,
        reason: ResetReason,
        request_started: bool,
        take_slot: impl FnOnce() -> bool,
        rng: &mut Rng,
    ) -> RetryDecision {
        let wanted = self.wants_reset(reason, request_started);
        self.decide(wanted, policy, take_slot, rng)
    }

    fn wants_response(&self, policy: Option<&RetryPolicy>, head: &ResponseHead) -> bool {
        let headers = &head.headers;
        if headers.contains(HeaderId::XEnvoyRateLimited) {
            return self.on.has(RetryConditions::ENVOY_RATE_LIMITED);
        }
        let status = head.status;
        let by_status = (self.on.has(RetryConditions::FIVE_XX) && (500..600).contains(&status))
            || (self.on.has(RetryConditions::GATEWAY_ERROR) && (502..505).contains(&status))
            || (self.on.has(RetryConditions::RETRIABLE_4XX) && status == 409);
        by_status
            || self.listed_status(policy, status)
            || self.listed_header(policy, head)
            || self.grpc(headers)
    }

    fn listed_status(&self, policy: Option<&RetryPolicy>, status: u16) -> bool {
        self.on.has(RetryConditions::RETRIABLE_STATUS_CODES)
            && (self.statuses.contains(&status)
                || policy.is_some_and(|p| p.retriable_status_codes.contains(&status)))
    }

    fn listed_header(&self, policy: Option<&RetryPolicy>, head: &ResponseHead) -> bool {
        self.on.has(RetryConditions::RETRIABLE_HEADERS)
            && (self.names.iter().any(|name| head.headers.contains_name(name))
                || policy
                    .is_some_and(|p| p.retriable_headers.iter().any(|m| header::matches_response(m, head))))
    }

    fn grpc(&self, headers: &HeaderMap) -> bool {
        let status = number(headers.get(HeaderId::GrpcStatus));
        status.and_then(GrpcStatusSet::condition).is_some_and(|condition| self.on.has(condition))
    }

    fn wants_reset(&self, reason: ResetReason, request_started: bool) -> bool {
        let any =
            RetryConditions::RESET.union(RetryConditions::FIVE_XX).union(RetryConditions::GATEWAY_ERROR);
        match reason {
            ResetReason::Overflow => false,
            _ if self.on.has(any) => true,
            _ if !request_started && self.on.has(RetryConditions::RESET_BEFORE_REQUEST) => true,
            ResetReason::ConnectFailure | ResetReason::ConnectTimeout => {
                self.on.has(RetryConditions::CONNECT_FAILURE)
            }
            ResetReason::RefusedStream => self.on.has(RetryConditions::REFUSED_STREAM),
            _ => false,
        }
    }

    fn decide(
        &mut self,
        wanted: bool,
        policy: Option<&RetryPolicy>,
        take_slot: impl FnOnce() -> bool,
        rng: &mut Rng,
    ) -> RetryDecision {
        if !wanted {
            return RetryDecision::No;
        }
        let Some(remaining) = self.remaining.checked_sub(1) else {
            return RetryDecision::NoRetryLimitExceeded;
        };
        self.remaining = remaining;
        if !take_slot() {
            return RetryDecision::NoOverflow;
        }
        let after = self.back_off(policy.map(|p| p.back_off).unwrap_or_default(), rng);
        RetryDecision::Retry { after, rate_limited: false }
    }

    /// Uniform below the current interval, which doubles up to the maximum.
    fn back_off(&mut self, limits: BackOff, rng: &mut Rng) -> Duration {
        let bound = u64::try_from(self.next.as_millis()).unwrap_or(u64::MAX);
        self.next = self.next.saturating_mul(2).min(limits.max);
        Duration::from_millis(rng.below(bound))
    }
}

/// What `rate_limited_retry_back_off` finds in a response.
fn asked_for(policy: &RetryPolicy, head: &ResponseHead, now: WallTime) -> Option<Duration> {
    let limits = policy.rate_limited.as_ref()?;
    let asked = limits.headers.iter().filter_map(|header| {
        let mut values = head.headers.values_name(&header.name);
        let value = std::str::from_utf8(values.next()?).ok()?.parse::<u64>().ok();
        let seconds = match header.format {
            ResetHeaderFormat::Seconds => value?,
            ResetHeaderFormat::UnixTimestamp => value?.checked_sub(now.seconds()).filter(|left| *left > 0)?,
        };
        values.next().is_none().then_some(Duration::from_secs(seconds))
    });
    // No time at all is the exponential back-off's, as in Envoy.
    asked.into_iter().find(|asked| !asked.is_zero() && *asked <= limits.max)
}

/// The conditions that concern `grpc-status`.
pub(super) const GRPC: RetryConditions = RetryConditions(
    RetryConditions::GRPC_CANCELLED.0
        | RetryConditions::GRPC_DEADLINE_EXCEEDED.0
        | RetryConditions::GRPC_RESOURCE_EXHAUSTED.0
        | RetryConditions::GRPC_UNAVAILABLE.0
        | RetryConditions::GRPC_INTERNAL.0,
);

fn listed(headers: &HeaderMap, id: HeaderId, vocabulary: RetryConditions) -> RetryConditions {
    let list = headers.get(id).and_then(|v| std::str::from_utf8(v).ok());
    RetryConditions(list.map_or(0, |list| RetryConditions::parse(list).0.0 & vocabulary.0))
}

fn items(headers: &HeaderMap, id: HeaderId) -> impl Iterator<Item = &[u8]> {
    let list = headers.get(id).unwrap_or_default();
    list.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

fn number(text: Option<&[u8]>) -> Option<u32> {
    std::str::from_utf8(text?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::{bytes, fields, head};

    fn policy(on: &str, num_retries: u32) -> RetryPolicy {
        RetryPolicy { on: RetryConditions::parse(on).0, num_retries, ..RetryPolicy::default() }
    }

    /// Tries that a server which always gives this answer sees.
    fn tries(
        policy: Option<&RetryPolicy>,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> u32 {
        let (mut head, mut answer, mut rng) = (head("/", request), ResponseHead::new(), Rng::new(5));
        answer.status = status;
        fields(&mut answer.headers, response);
        let Some(mut state) = RetryState::new(policy, &mut head) else { return 1 };
        assert!(CONSUMED.iter().all(|id| !head.headers.contains(*id)));
        let mut tries = 1;
        while let RetryDecision::Retry { .. } =
            state.on_response(policy, &answer, WallTime(0), || true, &mut rng)
        {
            tries += 1;
        }
        tries
    }

    #[test]
    fn responses_as_envoy_1_40_retried_them() {
        let mut listed = policy("5xx,retriable-status-codes", 2);
        listed.retriable_status_codes = vec![418];
        assert_eq!(tries(Some(&listed), &[], 503, &[]), 3);
        assert_eq!(tries(Some(&listed), &[], 418, &[]), 3);
        assert_eq!(tries(Some(&listed), &[], 404, &[]), 1);
        assert_eq!(tries(Some(&policy("5xx", 0)), &[], 503, &[]), 1);
        assert_eq!(tries(Some(&listed), &[("x-envoy-max-retries", "0")], 503, &[]), 1);
        assert_eq!(tries(None, &[], 503, &[]), 1);
        let on = |on: &'static str| [("x-envoy-retry-on", on)];
        assert_eq!(tries(None, &on("5xx"), 503, &[]), 2);
        let three = [("x-envoy-retry-on", "gateway-error, foo"), ("x-envoy-max-retries", "3")];
        assert_eq!(tries(None, &three, 503, &[]), 4);
        assert_eq!(tries(None, &three, 500, &[]), 1);
        let codes =
            [("x-envoy-retry-on", "retriable-status-codes"), ("x-envoy-retriable-status-codes", "4, 422")];
        assert_eq!(tries(None, &codes, 422, &[]), 2);
        let names =
            [("x-envoy-retry-on", "retriable-headers"), ("x-envoy-retriable-header-names", "x-bar, X-Foo")];
        assert_eq!(tries(None, &names, 200, &[("x-foo", "1")]), 2);
        assert_eq!(
            tries(None, &[("x-envoy-retry-grpc-on", "unavailable")], 200, &[("grpc-status", "14")]),
            2
        );
        assert_eq!(tries(None, &on("unavailable"), 200, &[("grpc-status", "14")]), 1);
        assert_eq!(tries(None, &[("x-envoy-retry-grpc-on", "5xx")], 503, &[]), 1);
        assert_eq!(tries(None, &on("5xx"), 503, &[("x-envoy-ratelimited", "1")]), 1);
        assert_eq!(tries(None, &on("envoy-ratelimited"), 503, &[("x-envoy-ratelimited", "1")]), 2);
        assert_eq!(tries(None, &on("retriable-4xx"), 409, &[]), 2);
    }

    #[test]
    fn grpc_statuses_as_envoy_1_40_retried_them() {
        let policy = policy("unavailable,cancelled,5xx", 1);
        for (status, expected) in
            [("14", 2), ("1", 2), ("014", 2), ("8", 1), ("13", 1), ("4", 1), ("2", 1), ("0", 1), ("abc", 1)]
        {
            assert_eq!(tries(Some(&policy), &[], 200, &[("grpc-status", status)]), expected, "{status}");
        }
    }

    #[test]
    fn retriable_request_headers_limit_the_policy() {
        let mut limited = policy("5xx", 1);
        limited.retriable_request_headers = vec![millrace_config::HeaderMatcher {
            name: bytes("x-safe"),
            kind: millrace_config::HeaderMatcherKind::Present(true),
            invert: false,
            missing_as_empty: false,
        }];
        assert_eq!(tries(Some(&limited), &[], 503, &[]), 1);
        assert_eq!(tries(Some(&limited), &[("x-safe", "1")], 503, &[]), 2);
    }

    #[test]
    fn resets() {
        use ResetReason as R;
        let retried = |on: &str, reason, started| {
            let policy = policy(on, 1);
            let mut state = RetryState::new(Some(&policy), &mut head("/", &[])).unwrap();
            let decision = state.on_reset(Some(&policy), reason, started, || true, &mut Rng::new(1));
            matches!(decision, RetryDecision::Retry { .. })
        };
        for any in ["5xx", "gateway-error", "reset"] {
            for reason in [R::ConnectFailure, R::ConnectionTermination, R::PerTryTimeout, R::ProtocolError] {
                assert!(retried(any, reason, true), "{any} {reason:?}");
            }
            assert!(!retried(any, R::Overflow, false));
        }
        assert!(retried("connect-failure", R::ConnectFailure, false));
        assert!(retried("connect-failure", R::ConnectTimeout, false));
        assert!(!retried("connect-failure", R::ConnectionTermination, true));
        assert!(!retried("connect-failure", R::PerTryTimeout, true));
        assert!(retried("refused-stream", R::RefusedStream, true));
        assert!(!retried("refused-stream", R::RemoteReset, true));
        assert!(!retried("reset-before-request", R::ConnectionTermination, true));
        assert!(retried("reset-before-request", R::ConnectionTermination, false));
    }

    #[test]
    fn limits_and_breakers_are_told_apart() {
        let policy = policy("5xx", 1);
        let mut state = RetryState::new(Some(&policy), &mut head("/", &[])).unwrap();
        let mut ask = |slot: bool| {
            let decision =
                state.on_reset(Some(&policy), ResetReason::RemoteReset, true, || slot, &mut Rng::new(1));
            matches!(decision, RetryDecision::NoOverflow) || {
                assert_eq!(decision, RetryDecision::NoRetryLimitExceeded);
                false
            }
        };
        assert!(ask(false));
        assert!(!ask(true));
    }

    #[test]
    fn an_endpoint_may_say_when_to_come_again() {
        let header =
            |name: &str, format| millrace_config::ResetHeader { name: name.as_bytes().into(), format };
        let mut limited = policy("5xx", 9);
        limited.rate_limited = Some(millrace_config::RateLimitedBackOff {
            max: Duration::from_secs(100),
            headers: vec![
                header("retry-after", ResetHeaderFormat::Seconds),
                header("x-reset", ResetHeaderFormat::UnixTimestamp),
            ],
        });
        let ask = |response: &[(&str, &str)]| {
            let (mut head, mut answer) = (head("/", &[]), ResponseHead::new());
            answer.status = 503;
            fields(&mut answer.headers, response);
            let mut state = RetryState::new(Some(&limited), &mut head).unwrap();
            let now = WallTime(1_000_500_000_000);
            match state.on_response(Some(&limited), &answer, now, || true, &mut Rng::new(3)) {
                RetryDecision::Retry { after, rate_limited: true } => Some(after.as_secs()),
                _ => None,
            }
        };
        assert!((2..=3).contains(&ask(&[("retry-after", "2")]).unwrap()));
        assert!((40..60).contains(&ask(&[("retry-after", "101"), ("x-reset", "1040")]).unwrap()));
        assert!((40..60).contains(&ask(&[("retry-after", "Fri, 31 Dec"), ("x-reset", "1040")]).unwrap()));
        assert_eq!(ask(&[("retry-after", "-1"), ("x-reset", "999")]), None);
        assert_eq!(ask(&[("retry-after", "0")]), None, "no time at all is the exponential back-off's");
        assert_eq!(ask(&[("retry-after", "1"), ("retry-after", "2")]), None);
        assert_eq!(ask(&[]), None);
    }

    #[test]
    fn the_back_off_doubles_up_to_its_maximum() {
        let policy = policy("5xx", 1000);
        let mut rng = Rng::new(9);
        let mut longest = [0; 6];
        for _ in 0..500 {
            let mut state = RetryState::new(Some(&policy), &mut head("/", &[])).unwrap();
            for longest in &mut longest {
                let decision =
                    state.on_reset(Some(&policy), ResetReason::RemoteReset, true, || true, &mut rng);
                let RetryDecision::Retry { after, .. } = decision else { panic!("{decision:?}") };
                *longest = after.as_millis().max(*longest);
            }
        }
        for (longest, bound) in longest.into_iter().zip([25, 50, 100, 200, 250, 250]) {
            assert!(longest < bound && longest > bound * 9 / 10, "{longest} of {bound}");
        }
    }
}
