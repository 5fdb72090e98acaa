//! Retry policies (`envoy.config.route.v3.RetryPolicy`).

use std::time::Duration;

use crate::{HeaderMatcher, MetadataPairs};

macro_rules! conditions {
    ($($name:ident = $bit:literal, $text:literal;)*) => {
        /// `retry_on` and `x-envoy-retry-on` as a bit set.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct RetryConditions(pub u32);

        #[allow(missing_docs)]
        impl RetryConditions {
            $(pub const $name: Self = Self(1 << $bit);)*

            fn by_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

conditions! {
    FIVE_XX = 0, "5xx";
    GATEWAY_ERROR = 1, "gateway-error";
    CONNECT_FAILURE = 2, "connect-failure";
    RETRIABLE_4XX = 3, "retriable-4xx";
    REFUSED_STREAM = 4, "refused-stream";
    GRPC_CANCELLED = 5, "cancelled";
    GRPC_DEADLINE_EXCEEDED = 6, "deadline-exceeded";
    GRPC_RESOURCE_EXHAUSTED = 7, "resource-exhausted";
    GRPC_UNAVAILABLE = 8, "unavailable";
    RETRIABLE_STATUS_CODES = 9, "retriable-status-codes";
    RESET = 10, "reset";
    RETRIABLE_HEADERS = 11, "retriable-headers";
    ENVOY_RATE_LIMITED = 12, "envoy-ratelimited";
    GRPC_INTERNAL = 13, "internal";
    HTTP3_POST_CONNECT_FAILURE = 14, "http3-post-connect-failure";
    RESET_BEFORE_REQUEST = 15, "reset-before-request";
}

impl RetryConditions {
    /// Parses a comma list; returns the conditions known and whether every word was known.
    pub fn parse(list: &str) -> (Self, bool) {
        let mut set = Self::default();
        let mut all_known = true;
        for word in list.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match Self::by_name(word) {
                Some(condition) => set.0 |= condition.0,
                None => all_known = false,
            }
        }
        (set, all_known)
    }

    /// True when any condition of `other` is in the set.
    #[inline]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The union.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True when nothing is retried.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The gRPC statuses among the conditions, by number.
pub struct GrpcStatusSet;

impl GrpcStatusSet {
    /// The condition that a `grpc-status` falls under, if any (1, 4, 8, 13, 14).
    pub fn condition(status: u32) -> Option<RetryConditions> {
        match status {
            1 => Some(RetryConditions::GRPC_CANCELLED),
            4 => Some(RetryConditions::GRPC_DEADLINE_EXCEEDED),
            8 => Some(RetryConditions::GRPC_RESOURCE_EXHAUSTED),
            13 => Some(RetryConditions::GRPC_INTERNAL),
            14 => Some(RetryConditions::GRPC_UNAVAILABLE),
            _ => None,
        }
    }
}

/// `retry_back_off`: fully jittered exponential.
#[derive(Clone, Copy, Debug)]
pub struct BackOff {
    /// `base_interval`, default 25 ms.
    pub base: Duration,
    /// `max_interval`, default ten times the base.
    pub max: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

/// How a [`ResetHeader`] tells the time (`RetryPolicy.ResetHeaderFormat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetHeaderFormat {
    /// `SECONDS` from now, as `retry-after` does.
    Seconds,
    /// `UNIX_TIMESTAMP`, seconds.
    UnixTimestamp,
}

/// A response field that says when to come again (`RetryPolicy.ResetHeader`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetHeader {
    /// Its name, lower case.
    pub name: Box<[u8]>,
    /// What its value is.
    pub format: ResetHeaderFormat,
}

/// `rate_limited_retry_back_off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitedBackOff {
    /// `max_interval`, default 300 s: fields that ask for more are passed over.
    pub max: Duration,
    /// `reset_headers`, the first that says something counts.
    pub headers: Vec<ResetHeader>,
}

/// One retry policy.
#[derive(Clone, Debug, Default)]
pub struct RetryPolicy {
    /// `retry_on`.
    pub on: RetryConditions,
    /// `num_retries`, default 1.
    pub num_retries: u32,
    /// `per_try_timeout`; `None` when 0 or absent.
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`.
    pub per_try_idle_timeout: Option<Duration>,
    /// `retriable_status_codes`.
    pub retriable_status_codes: Vec<u16>,
    /// `retriable_headers`, on the response.
    pub retriable_headers: Vec<HeaderMatcher>,
    /// `retriable_request_headers`.
    pub retriable_request_headers: Vec<HeaderMatcher>,
    /// `retry_back_off`.
    pub back_off: BackOff,
    /// `rate_limited_retry_back_off`.
    pub rate_limited: Option<RateLimitedBackOff>,
    /// `host_selection_retry_max_attempts`, default 1.
    pub host_selection_attempts: u32,
    /// `retry_host_predicate` previous_hosts.
    pub avoid_previous_hosts: bool,
    /// `retry_host_predicate` omit_canary_hosts: endpoints whose `envoy.lb` metadata have `canary: true`.
    pub avoid_canaries: bool,
    /// `retry_host_predicate` omit_host_metadata: endpoints with all these pairs, for each predicate.
    pub avoid_metadata: Vec<MetadataPairs>,
    /// `retry_priority` previous_priorities: its `update_frequency`.
    pub avoid_priorities_every: Option<u32>,
    /// `refresh_cluster_on_retry`: each retry goes to the next of the route's weighted clusters.
    pub refresh_cluster: bool,
}

impl RetryPolicy {
    /// True when it says something about the endpoints of retries.
    pub fn chooses_hosts(&self) -> bool {
        self.avoid_previous_hosts
            || self.avoid_canaries
            || !self.avoid_metadata.is_empty()
            || self.avoid_priorities_every.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_parsed_as_a_list() {
        let (set, known) = RetryConditions::parse("5xx, reset,unavailable");
        assert!(known && set.has(RetryConditions::FIVE_XX) && set.has(RetryConditions::GRPC_UNAVAILABLE));
        assert!(!set.has(RetryConditions::CONNECT_FAILURE));
        assert!(!RetryConditions::parse("5xx,nonsense").1);
    }
}
