//! `extensions.filters.http.admission_control.v3.AdmissionControl`.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ScopeId;

/// `AdmissionControl`. What it has seen is kept by each shard on its own, as Envoy's workers do.
#[derive(Clone, Debug)]
pub struct AdmissionControl {
    /// Statistics scope `http.<prefix>.admission_control.`.
    pub scope: ScopeId,
    /// By which shards know what they have seen of it.
    pub id: AdmissionId,
    /// `enabled`, the runtime's value in it.
    pub enabled: bool,
    /// `http_success_status`; below 500 by default.
    pub http_success: Vec<Range<u16>>,
    /// `grpc_success_status` as bits.
    pub grpc_success: u32,
    /// `sampling_window` in whole seconds, default 30.
    pub window: Duration,
    /// `aggression`, at least 1.
    pub aggression: f64,
    /// `sr_threshold`, default 0.95.
    pub success_threshold: f64,
    /// `rps_threshold`.
    pub rps_threshold: u32,
    /// `max_rejection_probability`, default 0.8.
    pub max_rejection: f64,
}

/// One filter among all that ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdmissionId(u64);

static NEXT: AtomicU64 = AtomicU64::new(0);

impl AdmissionId {
    /// One that nobody has.
    pub fn unique() -> Self {
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl AdmissionControl {
    /// gRPC statuses that are successes by default: those that fewer requests would not change.
    pub const GRPC_SUCCESS: u32 =
        1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 16;

    /// Whether an HTTP status is a success.
    pub fn is_http_success(&self, status: u16) -> bool {
        self.http_success.iter().any(|range| range.contains(&status))
    }

    /// Whether a gRPC status is a success.
    pub fn is_grpc_success(&self, status: u8) -> bool {
        status < 32 && self.grpc_success >> status & 1 == 1
    }
}
