//! Outlier detection (`envoy.config.cluster.v3.OutlierDetection`).

use std::time::Duration;

use crate::HeaderMatcher;

/// When an endpoint counts as an outlier and for how long it gets no requests then. Shares are percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// `interval`, default 10 s: how often endpoints come back and success rates are compared.
    pub interval: Duration,
    /// `base_ejection_time`, default 30 s; multiplied by how often the endpoint was ejected lately.
    pub base_ejection_time: Duration,
    /// `max_ejection_time`, default 300 s or `base_ejection_time`, whichever is longer.
    pub max_ejection_time: Duration,
    /// `max_ejection_time_jitter`, default 0.
    pub max_ejection_time_jitter: Duration,
    /// `max_ejection_percent`, default 10.
    pub max_ejection_percent: u32,
    /// `always_eject_one_host`, default false: the first ejection ignores `max_ejection_percent`.
    pub always_eject_one_host: bool,
    /// `split_external_local_origin_errors`: failures to connect and timeouts count apart from answers.
    pub split_local_origin: bool,
    /// `successful_active_health_check_uneject_host`, default true.
    pub uneject_on_success: bool,
    /// `detect_degraded_hosts`, default false: an answer with `x-envoy-degraded` makes its endpoint degraded for a while.
    pub detect_degraded: bool,
    /// `consecutive_5xx`, default 5, and `enforcing_consecutive_5xx`, default 100.
    pub consecutive_5xx: Consecutive,
    /// `consecutive_gateway_failure`, default 5, and its `enforcing`, default 0: 502, 503 and 504.
    pub consecutive_gateway_failure: Consecutive,
    /// `consecutive_local_origin_failure`, default 5, and its `enforcing`, default 100.
    pub consecutive_local_origin_failure: Consecutive,
    /// `success_rate_*`.
    pub success_rate: SuccessRate,
    /// `failure_percentage_*`.
    pub failure_percentage: FailurePercentage,
}

/// Which responses are errors (`HttpProtocolOptions.outlier_detection.error_matcher`, a `MatchPredicate` of their heads).
#[derive(Clone, Debug)]
pub enum ResponsePredicate {
    /// `any_match`: all of them, or with false none.
    Any(bool),
    /// `http_response_headers_match`: those that every matcher takes.
    Headers(Vec<HeaderMatcher>),
    /// `not_match`.
    Not(Box<ResponsePredicate>),
    /// `and_match`.
    All(Vec<ResponsePredicate>),
    /// `or_match`.
    AnyOf(Vec<ResponsePredicate>),
}

/// So many failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consecutive {
    /// The number that counts as one outlier; 0 never does.
    pub threshold: u32,
    /// `enforcing_*`: percent of the cases in which the endpoint is ejected.
    pub enforcing: u32,
}

/// Endpoints whose success rate is far below the others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// `success_rate_minimum_hosts`, default 5.
    pub minimum_hosts: u32,
    /// `success_rate_request_volume` of an interval, default 100.
    pub request_volume: u32,
    /// `success_rate_stdev_factor`, default 1900: thousandths of a standard deviation below the mean.
    pub stdev_factor: u32,
    /// `enforcing_success_rate`, default 100.
    pub enforcing: u32,
    /// `enforcing_local_origin_success_rate`, default 100.
    pub enforcing_local_origin: u32,
}

/// Endpoints that fail too large a share of their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// `failure_percentage_threshold`, default 85.
    pub threshold: u32,
    /// `failure_percentage_minimum_hosts`, default 5.
    pub minimum_hosts: u32,
    /// `failure_percentage_request_volume` of an interval, default 50.
    pub request_volume: u32,
    /// `enforcing_failure_percentage`, default 0.
    pub enforcing: u32,
    /// `enforcing_failure_percentage_local_origin`, default 0.
    pub enforcing_local_origin: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        let consecutive = |enforcing| Consecutive { threshold: 5, enforcing };
        Self {
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_eject_one_host: false,
            split_local_origin: false,
            uneject_on_success: true,
            detect_degraded: false,
            consecutive_5xx: consecutive(100),
            consecutive_gateway_failure: consecutive(0),
            consecutive_local_origin_failure: consecutive(100),
            success_rate: SuccessRate {
                minimum_hosts: 5,
                request_volume: 100,
                stdev_factor: 1900,
                enforcing: 100,
                enforcing_local_origin: 100,
            },
            failure_percentage: FailurePercentage {
                threshold: 85,
                minimum_hosts: 5,
                request_volume: 50,
                enforcing: 0,
                enforcing_local_origin: 0,
            },
        }
    }
}
