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

/// Number of a bin: 0 for zero, then decade by decade.
pub(crate) type Bin = u16;

/// Several histograms added up: bins with their counts, in order of value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged(pub(crate) Vec<(Bin, u64)>);

/// The quantiles that Envoy prints.
pub(crate) const QUANTILES: [(f64, &str); 10] = [
    (0.0, "0"),
    (0.25, "25"),
    (0.5, "50"),
    (0.75, "75"),
    (0.9, "90"),
    (0.95, "95"),
    (0.99, "99"),
    (0.995, "99.5"),
    (0.999, "99.9"),
    (1.0, "100"),
];

/// Lower bound and width of a bin.
pub(crate) fn bounds(bin: Bin) -> (f64, f64) {
    let Some(at) = (bin as usize).checked_sub(1) else { return (0.0, 0.0) };
    let (decade, mantissa) = (at / PER_DECADE, (at % PER_DECADE + 10) as f64);
    match decade {
        0 => (mantissa / 10.0, 0.1),
        d => {
            let width = 10f64.powi(d as i32 - 1);
            (mantissa * width, width)
        }
    }
}

impl Merged {
    /// Adds one thread's counts.
    pub(crate) fn add(&mut self, slots: &HistogramSlots) {
        let mut all = std::mem::take(&mut self.0);
        all.push((0, slots.zero.load(Ordering::Relaxed)));
        for (decade, bins) in slots.decades.iter().enumerate() {
            for (i, bin) in bins.get().into_iter().flat_map(|bins| bins.iter().enumerate()) {
                all.push(((1 + decade * PER_DECADE + i) as Bin, bin.load(Ordering::Relaxed)));
            }
        }
        all.sort_by_key(|(bin, _)| *bin);
        for (bin, count) in all.into_iter().filter(|(_, count)| *count > 0) {
            match self.0.last_mut().filter(|(last, _)| *last == bin) {
                Some((_, sum)) => *sum += count,
                None => self.0.push((bin, count)),
            }
        }
    }

    /// What was recorded since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |bin| earlier.0.iter().find(|(b, _)| *b == bin).map_or(0, |(_, count)| *count);
        let bins = self.0.iter().map(|(bin, count)| (*bin, count.saturating_sub(before(*bin))));
        Self(bins.filter(|(_, count)| *count > 0).collect())
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Sum of the values, every value taken as the harmonic mean of its bin's bounds.
    pub(crate) fn sum(&self) -> f64 {
        let value = |(bin, count): &(Bin, u64)| {
            let (low, width) = bounds(*bin);
            if low == 0.0 { 0.0 } else { *count as f64 * 2.0 * low * (low + width) / (2.0 * low + width) }
        };
        self.0.iter().map(value).sum()
    }

    /// How many values are at most `bound` (a bin counts as its lower bound).
    pub(crate) fn at_most(&self, bound: f64) -> u64 {
        self.0.iter().take_while(|(bin, _)| bounds(*bin).0 <= bound).map(|(_, count)| count).sum()
    }

    /// The value at a quantile, the samples of a bin spread evenly over its width; `None` when empty.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let rank = ((q * self.count() as f64).ceil() as u64).max(1);
        let mut below = 0;
        for (bin, count) in &self.0 {
            if rank <= below + count {
                let (low, width) = bounds(*bin);
                return Some(low + width * (rank - below) as f64 / (count + 1) as f64);
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Quantiles and sums as Envoy 1.40 printed them for the same samples.
    #[test]
    fn quantiles_and_sums_are_envoys() {
        let slots = HistogramSlots::default();
        for value in [1, 5, 13, 13] {
            slots.record(value);
        }
        let mut merged = Merged::default();
        merged.add(&slots);
        let all: Vec<String> =
            QUANTILES.iter().filter_map(|(q, _)| merged.quantile(*q)).map(|v| v.to_string()).collect();
        assert_eq!(all[..3], ["1.05", "1.05", "5.05"]);
        assert_eq!(
            all[3..],
            ["13.333333333333334"; 1].iter().chain(&["13.666666666666666"; 6]).copied().collect::<Vec<_>>()[..]
        );
        assert!((merged.sum() - 33.060_086_961_077_06).abs() < 1e-9, "{}", merged.sum());
        assert_eq!(
            [merged.at_most(0.5), merged.at_most(1.0), merged.at_most(5.0), merged.at_most(25.0)],
            [0, 1, 2, 4]
        );
        assert_eq!(Merged::default().quantile(0.5), None);
    }

    #[test]
    fn threads_are_added_and_intervals_subtracted() {
        let (a, b) = (HistogramSlots::default(), HistogramSlots::default());
        a.record(0);
        a.record(7);
        let mut before = Merged::default();
        before.add(&a);
        b.record(7);
        b.record(12_345);
        let mut after = Merged::default();
        after.add(&a);
        after.add(&b);
        assert_eq!(after.count(), 4);
        assert_eq!(after.0[0], (0, 1));
        assert_eq!(after.since(&before).count(), 2);
        let (low, width) = bounds(after.0[2].0);
        assert_eq!((low, width), (12_000.0, 1_000.0));
    }

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
