//! Log-linear histograms: two decimal digits of every value, as Envoy's histogram library keeps them.
//!
//! Values are whole numbers (milliseconds or counts). A bin is `(mantissa 10..=99, decade)`; a decade's
//! ninety counters are allocated when the first value of that decade arrives.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const DECADES: usize = 12;
pub(crate) const PER_DECADE: usize = 90;

/// Counts of one decade.
type Decade = [AtomicU64; PER_DECADE];

/// One histogram of one shard. One writer.
#[derive(Debug, Default)]
pub(crate) struct HistogramSlots {
    zero: AtomicU64,
    decades: [OnceLock<Box<Decade>>; DECADES],
}

/// Decade `d` covers `10^d..10^(d+1)`; the bin is the first two digits minus ten.
fn bin(value: u64) -> (usize, usize) {
    let decade = (value.ilog10() as usize).min(DECADES - 1);
    let mantissa = match decade {
        0 => value * 10,
        d => value / 10u64.pow(d as u32 - 1),
    };
    (decade, (mantissa as usize).clamp(10, 99) - 10)
}

impl HistogramSlots {
    /// Records one value. Values of 10^12 and more land in the last bin.
    pub(crate) fn record(&self, value: u64) {
        let slot = if value == 0 {
            &self.zero
        } else {
            let (decade, bin) = bin(value);
            let bins =
                self.decades[decade].get_or_init(|| Box::new([const { AtomicU64::new(0) }; PER_DECADE]));
            &bins[bin]
        };
        slot.store(slot.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_keep_two_digits() {
        assert_eq!(bin(1), (0, 0));
        assert_eq!(bin(9), (0, 80));
        assert_eq!(bin(10), (1, 0));
        assert_eq!(bin(99), (1, 89));
        assert_eq!(bin(129), (2, 2));
        assert_eq!(bin(u64::MAX), (DECADES - 1, 89));
    }
}
