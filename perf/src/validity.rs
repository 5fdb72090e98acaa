//! Medians of a series, and everything that makes its figures doubtful.

use crate::result::{Latency, Sample, Series};
use crate::scenario::Kind;

/// Below this share of its core the proxy was not what limited the rate.
const SATURATED: f64 = 0.9;
/// Others on the proxy's core may take this share.
const FOREIGN: f64 = 0.05;
/// Highest over lowest CPU per operation of the rounds, less one.
const STEADY: f64 = 0.15;
/// An open loop must bring at least this share of its requests to an answer in time.
const OFFERED: f64 = 0.99;

/// Fills in the medians and the doubts.
pub(crate) fn close(series: &mut Series, kind: Kind, offered: Option<f64>) {
    series.median = median_of(&series.samples);
    series.saturated = series.median.proxy_busy >= SATURATED;
    let m = &series.median;
    let mut doubts = Vec::new();
    if m.errors > 0 {
        doubts.push(format!("{} operations failed: not a valid result", m.errors));
    }
    let loaded = !matches!(kind, Kind::Idle | Kind::Streams | Kind::Start | Kind::Size);
    if loaded && series.peer != "direct" {
        if m.foreign_busy > FOREIGN {
            doubts.push(format!("others used {:.0} % of the proxy's core", m.foreign_busy * 100.0));
        }
        let costs = || series.samples.iter().map(|s| s.cpu_us);
        let (low, high) = (costs().fold(f64::MAX, f64::min), costs().fold(0.0, f64::max));
        if low > 0.0 && high / low - 1.0 > STEADY {
            doubts.push(format!("unsteady: CPU per operation between {low:.1} and {high:.1} us"));
        }
    }
    if let Some(offered) = offered {
        let worst = series.samples.iter().map(|s| s.rate).fold(f64::MAX, f64::min);
        if worst < offered * OFFERED {
            doubts.push(format!("only {worst:.0} of {offered:.0} offered requests a second were answered"));
        }
    }
    series.doubts = doubts;
}

fn median_of(samples: &[Sample]) -> Sample {
    let of = |pick: fn(&Sample) -> f64| median(samples.iter().map(pick).collect());
    let optional = |pick: fn(&Sample) -> Option<f64>| {
        let all: Vec<f64> = samples.iter().filter_map(pick).collect();
        (!all.is_empty()).then(|| median(all))
    };
    Sample {
        operations: of(|s| s.operations),
        cpu_us: of(|s| s.cpu_us),
        rate: of(|s| s.rate),
        bytes_rate: of(|s| s.bytes_rate),
        rss_mib: of(|s| s.rss_mib),
        proxy_busy: of(|s| s.proxy_busy),
        foreign_busy: of(|s| s.foreign_busy),
        switches_voluntary: of(|s| s.switches_voluntary),
        switches_involuntary: of(|s| s.switches_involuntary),
        errors: samples.iter().map(|s| s.errors).sum(),
        kib_per_connection: optional(|s| s.kib_per_connection),
        latency: latency(samples),
        ready_ms: optional(|s| s.ready_ms),
        start_cpu_ms: optional(|s| s.start_cpu_ms),
        binary_mib: optional(|s| s.binary_mib),
        stripped_mib: optional(|s| s.stripped_mib),
    }
}

fn latency(samples: &[Sample]) -> Option<Latency> {
    let all: Vec<&Latency> = samples.iter().filter_map(|s| s.latency.as_ref()).collect();
    let first = all.first()?;
    let of = |pick: fn(&Latency) -> f64| median(all.iter().map(|l| pick(l)).collect());
    let at = |percentile: f64| {
        let values = all.iter().flat_map(|l| &l.curve).filter(|(p, _)| *p == percentile);
        median(values.map(|(_, us)| *us).collect())
    };
    Some(Latency {
        p50_us: of(|l| l.p50_us),
        p90_us: of(|l| l.p90_us),
        p99_us: of(|l| l.p99_us),
        p999_us: of(|l| l.p999_us),
        max_us: of(|l| l.max_us),
        curve: first.curve.iter().map(|(p, _)| (*p, at(*p))).collect(),
    })
}

/// The middle value; the mean of the middle two; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(a), Some(b)) => f64::midpoint(*a, *b),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(samples: Vec<Sample>) -> Series {
        Series {
            peer: "p".into(),
            version: String::new(),
            median: Sample::default(),
            samples,
            doubts: Vec::new(),
            saturated: false,
        }
    }

    fn sample(cpu_us: f64, proxy_busy: f64) -> Sample {
        Sample { operations: 10.0, cpu_us, proxy_busy, rate: 100.0, ..Sample::default() }
    }

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
    }

    #[test]
    fn a_sound_series_has_no_doubts() {
        let mut sound = series(vec![sample(10.0, 0.97), sample(10.5, 0.98)]);
        close(&mut sound, Kind::Http, None);
        assert!(sound.doubts.is_empty() && sound.saturated, "{sound:?}");
        assert!((sound.median.cpu_us - 10.25).abs() < 1e-9);
    }

    #[test]
    fn each_kind_of_doubt_is_told() {
        let wrong = [
            (Sample { errors: 2, ..sample(10.0, 1.0) }, "failed"),
            (Sample { foreign_busy: 0.2, ..sample(10.0, 0.8) }, "others used 20 %"),
        ];
        for (bad, word) in wrong {
            let mut one = series(vec![bad]);
            close(&mut one, Kind::Http, None);
            assert!(one.doubts.iter().any(|d| d.contains(word)), "{:?}", one.doubts);
        }
        let mut unsteady = series(vec![sample(10.0, 1.0), sample(12.0, 1.0)]);
        close(&mut unsteady, Kind::Http, None);
        assert!(unsteady.doubts[0].contains("unsteady"));
        let mut late = series(vec![sample(10.0, 0.5)]);
        close(&mut late, Kind::Latency, Some(200.0));
        assert!(late.doubts[0].contains("only 100 of 200") && !late.saturated);
    }

    #[test]
    fn percentiles_are_medians_too() {
        let of = |us: f64| Sample {
            latency: Some(Latency { p99_us: us, curve: vec![(99.0, us)], ..Latency::default() }),
            ..sample(1.0, 0.1)
        };
        let median = median_of(&[of(1.0), of(3.0), of(2.0)]).latency.unwrap();
        assert!((median.p99_us - 2.0).abs() < 1e-9);
        assert_eq!(median.curve, [(99.0, 2.0)]);
    }
}
