//! Printing: text, JSON and Prometheus. Runs on the control thread, under the registry's lock.
//!
//! Names exist only here. Scopes are printed group by group so that a large registry never stands in
//! memory as text twice.

mod collect;
mod endpoints;
mod json;
mod prometheus;
mod select;
mod tags;
mod text;

pub use endpoints::EndpointStats;
pub use json::render_json;
pub use prometheus::render_prometheus;
pub use select::{HistogramBuckets, Selection, StatType, StatsMatcher};
pub use tags::{TagRule, TagRules};
pub use text::render_text;

/// Upper bounds of Envoy's default buckets, as text and JSON print them.
const BUCKETS: [(f64, &str, &str); 19] = [
    (0.5, "0.5", "0.5"),
    (1.0, "1", "1"),
    (5.0, "5", "5"),
    (10.0, "10", "10"),
    (25.0, "25", "25"),
    (50.0, "50", "50"),
    (100.0, "100", "100"),
    (250.0, "250", "250"),
    (500.0, "500", "500"),
    (1000.0, "1000", "1000"),
    (2500.0, "2500", "2500"),
    (5000.0, "5000", "5000"),
    (10_000.0, "10000", "10000"),
    (30_000.0, "30000", "30000"),
    (60_000.0, "60000", "60000"),
    (300_000.0, "300000", "3e+05"),
    (600_000.0, "600000", "6e+05"),
    (1_800_000.0, "1.8e+06", "1800000"),
    (3_600_000.0, "3.6e+06", "3600000"),
];

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
