//! `/stats?format=json`.

use std::fmt::Write;

use super::super::histogram::{Merged, QUANTILES, bounds};
use super::super::registry::Registry;
use super::BUCKETS;
use super::collect::{Collector, Pass};
use super::endpoints;
use super::select::{HistogramBuckets, Selection, StatType};
use crate::json::push_string;

/// Appends one object with Envoy's `stats` array. False when cut short, which leaves valid JSON.
pub fn render_json(registry: &Registry, selection: &Selection<'_>, out: &mut String) -> bool {
    let state = registry.lock();
    let collector = Collector { state: &state, selection };
    let limit = out.len().saturating_add(selection.max_bytes);
    out.push_str("{\"stats\":[");
    let start = out.len();
    for (name, text) in collector.texts() {
        entry(name, out, start);
        push_string(text.as_bytes(), out);
        out.push('}');
    }
    let mut complete = collector.each(Pass::Numbers, |found| {
        entry(&found.name, out, start);
        let _ = write!(out, "{}}}", collector.number(found));
        out.len() <= limit
    });
    complete = complete
        && endpoints::each(selection, |name, value| {
            entry(name, out, start);
            let _ = write!(out, "{value}}}");
            out.len() <= limit
        });
    if selection.wants_type(StatType::Histograms) && complete {
        let mut any = false;
        complete = collector.each(Pass::Histograms, |found| {
            if !any {
                head(selection.buckets, out, start);
            } else {
                out.push(',');
            }
            any = true;
            let (total, interval) = collector.histogram(found);
            out.push_str("{\"name\":");
            push_string(found.name.as_bytes(), out);
            histogram(selection.buckets, &total, &interval, out);
            out.len() <= limit
        });
        if any {
            out.push_str(match selection.buckets {
                HistogramBuckets::Cumulative | HistogramBuckets::Disjoint => "]}",
                _ => "]}}",
            });
        }
    }
    out.push_str("]}");
    complete
}

fn comma(out: &mut String, start: usize) {
    if out.len() > start {
        out.push(',');
    }
}

fn entry(name: &str, out: &mut String, start: usize) {
    comma(out, start);
    out.push_str("{\"name\":");
    push_string(name.as_bytes(), out);
    out.push_str(",\"value\":");
}

fn head(mode: HistogramBuckets, out: &mut String, start: usize) {
    comma(out, start);
    let (quantiles, list) = match mode {
        HistogramBuckets::Cumulative | HistogramBuckets::Disjoint => {
            out.push_str("{\"histograms\":[");
            return;
        }
        HistogramBuckets::Detailed => ("supported_percentiles", "details"),
        HistogramBuckets::Unset | HistogramBuckets::Summary => ("supported_quantiles", "computed_quantiles"),
    };
    let names: Vec<&str> = QUANTILES.iter().map(|(_, name)| *name).collect();
    let _ = write!(out, "{{\"histograms\":{{\"{quantiles}\":[{}],\"{list}\":[", names.join(","));
}

fn histogram(mode: HistogramBuckets, total: &Merged, interval: &Merged, out: &mut String) {
    match mode {
        HistogramBuckets::Unset | HistogramBuckets::Summary => quantiles("values", total, interval, out),
        HistogramBuckets::Detailed => {
            bins("totals", total, out);
            bins("intervals", interval, out);
            quantiles("percentiles", total, interval, out);
        }
        HistogramBuckets::Cumulative | HistogramBuckets::Disjoint => {
            out.push_str(",\"buckets\":[");
            let mut below = -1.0;
            for (i, (bound, _, name)) in BUCKETS.iter().enumerate() {
                let count = |h: &Merged| match mode {
                    HistogramBuckets::Cumulative => h.at_most(*bound),
                    _ => h.at_most(*bound) - h.at_most(below),
                };
                let (i, c) = (if i == 0 { "" } else { "," }, (count(interval), count(total)));
                let _ =
                    write!(out, "{i}{{\"upper_bound\":{name},\"interval\":{},\"cumulative\":{}}}", c.0, c.1);
                below = *bound;
            }
            out.push(']');
        }
    }
    out.push('}');
}

fn quantiles(key: &str, total: &Merged, interval: &Merged, out: &mut String) {
    let _ = write!(out, ",\"{key}\":[");
    for (i, (q, _)) in QUANTILES.iter().enumerate() {
        let text = |h: &Merged| h.quantile(*q).map_or_else(|| "null".to_owned(), |v| v.to_string());
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{{\"cumulative\":{},\"interval\":{}}}", text(total), text(interval));
    }
    out.push(']');
}

fn bins(key: &str, merged: &Merged, out: &mut String) {
    let _ = write!(out, ",\"{key}\":[");
    for (i, (bin, count)) in merged.0.iter().enumerate() {
        let ((low, width), comma) = (bounds(*bin), if i == 0 { "" } else { "," });
        let _ = write!(out, "{comma}{{\"lower_bound\":{low},\"width\":{width},\"count\":{count}}}");
    }
    out.push(']');
}
