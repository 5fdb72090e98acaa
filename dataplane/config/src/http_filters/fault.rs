//! `extensions.filters.http.fault.v3.HTTPFault`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Fraction, HeaderMatcher, ScopeId};

/// Which delay a request may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultDelay {
    /// `fixed_delay`.
    Fixed(Duration),
    /// `header_delay`: `x-envoy-fault-delay-request`, in milliseconds.
    Header,
}

/// What is answered to an aborted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAbort {
    /// `http_status`.
    Http(u16),
    /// `grpc_status`.
    Grpc(u32),
    /// `header_abort`: `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request`.
    Header,
}

/// How fast an answer may leave, in KiB per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultRate {
    /// `fixed_limit`.
    Fixed(u64),
    /// `header_limit`: `x-envoy-fault-throughput-response`.
    Header,
}

/// `HTTPFault`, of the filter or of a route. The runtime's values are in it.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `delay` and its percentage.
    pub delay: Option<(FaultDelay, Fraction)>,
    /// The runtime's `delay_duration_runtime`: takes the place of any delay that is injected.
    pub delay_override: Option<Duration>,
    /// `abort` and its percentage.
    pub abort: Option<(FaultAbort, Fraction)>,
    /// The runtime's `abort_http_status_runtime`: takes the place of any status that is injected.
    pub abort_http_override: Option<u16>,
    /// The runtime's `abort_grpc_status_runtime`.
    pub abort_grpc_override: Option<u32>,
    /// `abort.response_body`; `fault filter abort` by default.
    pub abort_body: Arc<str>,
    /// `response_rate_limit` and its percentage.
    pub rate: Option<(FaultRate, Fraction)>,
    /// `upstream_cluster`: only requests to it; empty for all.
    pub upstream_cluster: Arc<str>,
    /// `downstream_nodes`: only of these `x-envoy-downstream-service-node`; empty for all.
    pub downstream_nodes: Vec<Arc<[u8]>>,
    /// `headers`: all must match.
    pub headers: Vec<HeaderMatcher>,
    /// `max_active_faults`, or the runtime's.
    pub max_active: Option<u64>,
}

/// The filter of a chain.
#[derive(Debug)]
pub struct FaultFilter {
    /// Its own configuration.
    pub fault: Arc<Fault>,
    /// Statistics scope `http.<prefix>.fault.`.
    pub scope: ScopeId,
    /// Requests with a fault, on all shards. Only injected faults write to it.
    active: AtomicU64,
}

impl FaultFilter {
    /// Nothing is injected yet.
    pub fn new(fault: Arc<Fault>, scope: ScopeId) -> Self {
        Self { fault, scope, active: AtomicU64::new(0) }
    }

    /// Counts a request with a fault; false when `max` have one already.
    pub fn begin(&self, max: Option<u64>) -> bool {
        let max = max.unwrap_or(u64::MAX);
        let more = |active: u64| (active < max).then_some(active + 1);
        self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// A request with a fault is over.
    pub fn end(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}
