//! `/stats/prometheus`: the exposition format, metrics grouped under one `# TYPE` each.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::histogram::QUANTILES;
use super::super::registry::Registry;
use super::BUCKETS;
use super::collect::{Collector, Found, Pass};
use super::endpoints;
use super::select::{HistogramBuckets, Selection, StatType};

/// Samples of one type by metric name (dotted, as Envoy sorts them); the inner order is that of the raw names.
type Metrics = BTreeMap<String, Vec<(String, Found)>>;

/// Appends counters, gauges, text readouts if wanted, and histograms. False when cut short.
pub fn render_prometheus(registry: &Registry, selection: &Selection<'_>, out: &mut String) -> bool {
    let state = registry.lock();
    let collector = Collector { state: &state, selection };
    let limit = out.len().saturating_add(selection.max_bytes);
    let (mut counters, mut gauges) = (Metrics::new(), Metrics::new());
    let sort_in = |found: &Found, into: &mut Metrics| {
        let (name, labels) = metric(&collector, found);
        let found = Found { name: String::new(), scope: found.scope, item: found.item };
        into.entry(name).or_default().push((labels, found));
        true
    };
    collector.each(Pass::Numbers, |found| match collector.is_gauge(found) {
        true => sort_in(found, &mut gauges),
        false => sort_in(found, &mut counters),
    });
    for (ty, metrics) in [("counter", &counters), ("gauge", &gauges)] {
        for (name, samples) in metrics {
            let name = &exposed(name);
            let _ = writeln!(out, "# TYPE {name} {ty}");
            for (labels, found) in samples {
                let _ = writeln!(out, "{name}{{{labels}}} {}", collector.number(found));
            }
            if out.len() > limit {
                return false;
            }
        }
    }
    if selection.text_readouts {
        texts(&collector, out);
    }
    let mut histograms = Metrics::new();
    if selection.wants_type(StatType::Histograms) {
        collector.each(Pass::Histograms, |found| sort_in(found, &mut histograms));
    }
    for (name, samples) in &histograms {
        let name = &exposed(name);
        let summary = selection.buckets == HistogramBuckets::Summary;
        let _ = writeln!(out, "# TYPE {name} {}", if summary { "summary" } else { "histogram" });
        for (labels, found) in samples {
            histogram(&collector, name, labels, found, out);
        }
        if out.len() > limit {
            return false;
        }
    }
    endpoints::prometheus(selection, out);
    out.len() <= limit
}

/// The metric's name and its labels as they stand between the braces.
fn metric(collector: &Collector<'_>, found: &Found) -> (String, String) {
    let mut tags = collector.state.tags.extract(&collector.state.scopes[found.scope], &found.name);
    let name = tags.rest(&found.name);
    let mut labels = String::new();
    for (label, value) in &tags.labels {
        if !labels.is_empty() {
            labels.push(',');
        }
        let _ = write!(labels, "{}=\"{}\"", sanitise(label), escape(value));
    }
    (name, labels)
}

fn texts(collector: &Collector<'_>, out: &mut String) {
    for (name, text) in collector.texts() {
        let name = exposed(name);
        let _ = writeln!(out, "# TYPE {name} gauge\n{name}{{text_value=\"{}\"}} 0", escape(text));
    }
}

fn histogram(collector: &Collector<'_>, name: &str, labels: &str, found: &Found, out: &mut String) {
    let (total, interval) = collector.histogram(found);
    let more = if labels.is_empty() { String::new() } else { format!("{labels},") };
    if collector.selection.buckets == HistogramBuckets::Summary {
        for (q, _) in QUANTILES {
            let value = interval.quantile(q).map_or_else(|| "nan".to_owned(), digits32);
            let _ = writeln!(out, "{name}{{{more}quantile=\"{q}\"}} {value}");
        }
    } else {
        for (bound, ..) in BUCKETS {
            let _ = writeln!(out, "{name}_bucket{{{more}le=\"{bound}\"}} {}", total.at_most(bound));
        }
        let _ = writeln!(out, "{name}_bucket{{{more}le=\"+Inf\"}} {}", total.count());
    }
    let _ = writeln!(out, "{name}_sum{{{labels}}} {}", digits32(total.sum()));
    let _ = writeln!(out, "{name}_count{{{labels}}} {}", total.count());
}

fn exposed(name: &str) -> String {
    format!("envoy_{}", sanitise(name))
}

/// Letters, digits and `_`; everything else becomes `_`.
fn sanitise(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

pub(super) fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

/// 32 significant digits without trailing zeros, as Envoy prints sums.
fn digits32(value: f64) -> String {
    let integer_digits = if value < 1.0 { 1 } else { value.log10() as usize + 1 };
    let text = format!("{value:.*}", 32usize.saturating_sub(integer_digits));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}
