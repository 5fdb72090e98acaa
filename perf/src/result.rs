//! What a scenario gave, as it stands in `perf/results/<host>/<scenario>.json`: written by a run, read by
//! `perf report`. Every sample is kept; medians are computed from them once, when a run closes.

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::scenario::Kind;

/// One scenario on one host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScenarioResult {
    /// File name without extension, of the scenario and of this result.
    pub(crate) scenario: String,
    pub(crate) title: String,
    /// Section of the report: "HTTP/1.1", "TCP", "Memory", ...
    pub(crate) group: String,
    pub(crate) kind: Kind,
    pub(crate) host: Host,
    /// Turns of each peer, and seconds of load in each.
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// What is varied along `points`, with its unit: "connections", "clusters", ...; empty for one point.
    #[serde(default)]
    pub(crate) axis: String,
    pub(crate) points: Vec<Point>,
    /// Peers that were not measured, and why.
    #[serde(default)]
    pub(crate) skipped: Vec<Skipped>,
}

/// One setting of the load, and what every peer did under it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Value on the axis; 0 when there is one point only.
    pub(crate) at: f64,
    /// Requests in a second that were offered (open loop); nothing in a closed loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offered_rate: Option<f64>,
    pub(crate) series: Vec<Series>,
}

/// All turns of one peer at one point.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    /// File name of the peer: "envoy", "millrace-uring", "floor", "direct" (no proxy at all), ...
    pub(crate) peer: String,
    pub(crate) version: String,
    /// Field by field the median of the samples; errors are their sum.
    pub(crate) median: Sample,
    pub(crate) samples: Vec<Sample>,
    /// Why these figures are not valid, or to be taken with care. Empty: sound.
    #[serde(default)]
    pub(crate) doubts: Vec<String>,
    /// False when the proxy's core had time to spare: then `rate` is not the proxy's limit.
    #[serde(default)]
    pub(crate) saturated: bool,
}

/// One turn of one peer. A field that a kind of scenario does not measure is absent or zero.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Requests, messages, connections held (idle), or MiB (streams).
    pub(crate) operations: f64,
    /// CPU (user and system, all processes of the proxy) for each operation, microseconds.
    pub(crate) cpu_us: f64,
    /// Operations in a second.
    pub(crate) rate: f64,
    /// Octets of bodies in a second.
    #[serde(default)]
    pub(crate) bytes_rate: f64,
    /// Resident memory under load (idle and start: after it), MiB.
    pub(crate) rss_mib: f64,
    /// Share of the time in which the proxy ran on its core.
    pub(crate) proxy_busy: f64,
    /// Share of the time in which others ran there.
    pub(crate) foreign_busy: f64,
    /// Context switches of the proxy for each operation.
    #[serde(default)]
    pub(crate) switches_voluntary: f64,
    #[serde(default)]
    pub(crate) switches_involuntary: f64,
    /// Failed operations.
    pub(crate) errors: u64,
    /// Kind `idle`: growth for each connection, KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kib_per_connection: Option<f64>,
    /// Kind `latency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
    /// Kind `start`: from exec to the first response that came through, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ready_ms: Option<f64>,
    /// Kind `start`: CPU until then, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_cpu_ms: Option<f64>,
    /// Kind `size`: the file, and the file without symbols and debug information, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) binary_mib: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stripped_mib: Option<f64>,
}

/// Response times from the moment a request was due, not from when it could be sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// (percentile 0 to 100, microseconds), rising.
    #[serde(default)]
    pub(crate) curve: Vec<(f64, f64)>,
}

/// A peer that is missing from a result.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) peer: String,
    /// The point, for instance "10000 connections"; empty: everywhere.
    #[serde(default)]
    pub(crate) point: String,
    pub(crate) reason: String,
}
