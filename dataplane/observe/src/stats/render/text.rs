//! `/stats`.

use std::fmt::Write;

use super::super::histogram::{Merged, QUANTILES, bounds};
use super::super::registry::Registry;
use super::BUCKETS;
use super::collect::{Collector, Pass};
use super::endpoints;
use super::select::{HistogramBuckets, Selection, StatType};

/// Appends `name: value` lines: text readouts, counters and gauges, histograms. False when cut short.
pub fn render_text(registry: &Registry, selection: &Selection<'_>, out: &mut String) -> bool {
    let state = registry.lock();
    let collector = Collector { state: &state, selection };
    let limit = out.len().saturating_add(selection.max_bytes);
    for (name, text) in collector.texts() {
        let _ = writeln!(out, "{name}: \"{text}\"");
    }
    let complete = collector.each(Pass::Numbers, |found| {
        let _ = writeln!(out, "{}: {}", found.name, collector.number(found));
        out.len() <= limit
    });
    let complete = complete
        && endpoints::each(selection, |name, value| {
            let _ = writeln!(out, "{name}: {value}");
            out.len() <= limit
        });
    if !selection.wants_type(StatType::Histograms) || !complete {
        return complete;
    }
    collector.each(Pass::Histograms, |found| {
        let (total, interval) = collector.histogram(found);
        out.push_str(&found.name);
        histogram(selection.buckets, &total, &interval, out);
        out.len() <= limit
    })
}

fn histogram(mode: HistogramBuckets, total: &Merged, interval: &Merged, out: &mut String) {
    match mode {
        _ if total.0.is_empty() => out.push_str(": No recorded values"),
        HistogramBuckets::Unset | HistogramBuckets::Summary => {
            out.push_str(": ");
            summary(total, interval, out);
        }
        HistogramBuckets::Cumulative => buckets(|h, _, bound| h.at_most(bound), total, interval, out),
        HistogramBuckets::Disjoint => {
            buckets(|h, below, bound| h.at_most(bound) - h.at_most(below), total, interval, out);
        }
        HistogramBuckets::Detailed => {
            out.push_str(":\n  totals=");
            bins(total, out);
            out.push_str("\n  intervals=");
            bins(interval, out);
            out.push_str("\n  summary=");
            summary(total, interval, out);
        }
    }
    out.push('\n');
}

fn summary(total: &Merged, interval: &Merged, out: &mut String) {
    for (i, (q, name)) in QUANTILES.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        let text = |h: &Merged| h.quantile(*q).map_or_else(|| "nan".to_owned(), |v| v.to_string());
        let _ = write!(out, "{space}P{name}({},{})", text(interval), text(total));
    }
}

fn buckets(count: impl Fn(&Merged, f64, f64) -> u64, total: &Merged, interval: &Merged, out: &mut String) {
    out.push(':');
    let mut below = -1.0;
    for (bound, name, _) in BUCKETS {
        let _ = write!(out, " B{name}({},{})", count(interval, below, bound), count(total, below, bound));
        below = bound;
    }
}

fn bins(merged: &Merged, out: &mut String) {
    for (i, (bin, count)) in merged.0.iter().enumerate() {
        let (low, width) = bounds(*bin);
        let _ = write!(out, "{}{low},{width}:{count}", if i == 0 { "" } else { ", " });
    }
}
