//! `extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use crate::ScopeId;

/// Where the time comes from that a request takes at the least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MinRtt {
    /// `min_rtt_calc_params.interval`: it is measured now and then.
    Measured {
        /// `interval`.
        interval: Duration,
        /// `jitter`, a part of the interval, default 0.15.
        jitter: f64,
        /// `request_count`, default 50.
        requests: u32,
    },
    /// `min_rtt_calc_params.fixed_value`.
    Fixed(Duration),
}

/// `GradientControllerConfig`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientConfig {
    /// `sample_aggregate_percentile`, default 0.5.
    pub percentile: f64,
    /// `max_concurrency_limit`, default 1000.
    pub max_limit: u32,
    /// `min_concurrency_limit`, default `min_concurrency`.
    pub min_limit: u32,
    /// `concurrency_update_interval`.
    pub update_interval: Duration,
    /// `min_rtt_calc_params`.
    pub min_rtt: MinRtt,
    /// `min_concurrency`, default 3: the limit while the time is measured, and the first one.
    pub measuring_limit: u32,
    /// `buffer`, a part of the measured time, default 0.25.
    pub buffer: f64,
}

/// `AdaptiveConcurrency`.
#[derive(Debug)]
pub struct AdaptiveConcurrency {
    /// Statistics scope `http.<prefix>.adaptive_concurrency.gradient_controller.`.
    pub scope: ScopeId,
    /// `enabled`, the runtime's value in it.
    pub enabled: bool,
    /// `concurrency_limit_exceeded_status`, default 503.
    pub status: u16,
    /// `gradient_controller_config`.
    pub gradient: GradientConfig,
    /// What all shards share of it, as Envoy's workers do.
    pub state: GradientState,
}

/// Bins of the samples of a window: 32 for each doubling of microseconds.
pub const LATENCY_BINS: usize = 32 * 28;

/// The controller's state. A request touches two counts of it; the lock is for whoever ends a window.
#[derive(Debug)]
pub struct GradientState {
    /// Requests under way.
    pub outstanding: AtomicU32,
    /// The limit that holds now.
    pub limit: AtomicU32,
    /// Samples of this window by their bin.
    pub samples: Box<[AtomicU32; LATENCY_BINS]>,
    /// How many they are.
    pub sample_count: AtomicU32,
    /// Requests that began before (nanoseconds of [`Time`](millrace_base::Time)) give no sample.
    pub epoch: AtomicU64,
    /// When something is to be done next, in the same unit; 0 before the first request, and never while the least time
    /// is measured.
    pub due: AtomicU64,
    /// What only the end of a window reads and writes.
    pub window: Mutex<GradientWindow>,
}

/// The slow part of a [`GradientState`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GradientWindow {
    /// The limit that comes back when the measurement is over; `None` when none is under way.
    pub deferred_limit: Option<u32>,
    /// The least time of a request, in microseconds.
    pub min_rtt: f64,
    /// When it is measured next, in nanoseconds.
    pub measure_at: u64,
    /// Windows in a row that ended at the least limit.
    pub at_minimum: u32,
    /// What the gauges have been told.
    pub told: GradientGauges,
}

/// The gauges of a controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct GradientGauges {
    pub concurrency_limit: u64,
    /// In thousandths.
    pub gradient: u64,
    pub burst_queue_size: u64,
    pub min_rtt_msecs: u64,
    pub sample_rtt_msecs: u64,
    pub measuring: u64,
}

impl GradientState {
    /// Nothing has been seen.
    pub fn new(gradient: &GradientConfig) -> Self {
        Self {
            outstanding: AtomicU32::new(0),
            limit: AtomicU32::new(gradient.measuring_limit),
            samples: Box::new([const { AtomicU32::new(0) }; LATENCY_BINS]),
            sample_count: AtomicU32::new(0),
            epoch: AtomicU64::new(0),
            due: AtomicU64::new(0),
            window: Mutex::new(GradientWindow::default()),
        }
    }
}
