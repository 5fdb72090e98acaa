//! One scope's counters on one shard: atomics with a single writer, so a plain load and store suffices.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::codes::CodeCounters;
use super::histogram::HistogramSlots;
use super::metric::Table;

/// Allocated at the scope's first use on a shard and shared with the registry, which only reads.
#[derive(Debug)]
pub(crate) struct ScopeSlots {
    /// Counters as they are. Gauges as `value << 1 | 1`, so that zero means "never written".
    values: Box<[AtomicU64]>,
    histograms: Box<[OnceLock<Box<HistogramSlots>>]>,
    pub(crate) codes: CodeCounters,
}

impl ScopeSlots {
    pub(crate) fn new(table: &Table) -> Self {
        Self {
            values: table.values.iter().map(|_| AtomicU64::new(0)).collect(),
            histograms: table.histograms.iter().map(|_| OnceLock::new()).collect(),
            codes: CodeCounters::default(),
        }
    }

    #[inline]
    pub(crate) fn add(&self, at: u16, n: u64) {
        debug_assert!((at as usize) < self.values.len(), "a metric of another kind of scope");
        if let Some(slot) = self.values.get(at as usize) {
            slot.store(slot.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn gauge(&self, at: u16, change: impl FnOnce(i64) -> i64) {
        debug_assert!((at as usize) < self.values.len(), "a metric of another kind of scope");
        if let Some(slot) = self.values.get(at as usize) {
            let old = (slot.load(Ordering::Relaxed) as i64) >> 1;
            slot.store((change(old) << 1) as u64 | 1, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn record(&self, at: u16, value: u64) {
        debug_assert!((at as usize) < self.histograms.len(), "a histogram of another kind of scope");
        if let Some(slot) = self.histograms.get(at as usize) {
            slot.get_or_init(Box::default).record(value);
        }
    }

    /// A counter's value, or a gauge's raw form.
    pub(crate) fn raw(&self, at: usize) -> u64 {
        self.values.get(at).map_or(0, |slot| slot.load(Ordering::Relaxed))
    }

    pub(crate) fn histogram(&self, at: usize) -> Option<&HistogramSlots> {
        self.histograms.get(at)?.get().map(|slots| &**slots)
    }
}
