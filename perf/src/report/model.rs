//! From results to figures: which metrics a kind of scenario has, their medians and spread, and how the peers
//! stand to Millrace. Pure: no file, no clock.

use serde::Deserialize;

use super::look::{MILLRACE, Role, look};
use crate::result::{Point, Sample, ScenarioResult, Series};
use crate::scenario::Kind;

/// One figure of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Metric {
    Cpu,
    Rate,
    Rss,
    PerConnection,
    P50,
    P90,
    P99,
    P999,
    /// Response time over that of no proxy.
    AddedP50,
    AddedP99,
    AddedP999,
    Ready,
    StartCpu,
    Stripped,
    Binary,
}

/// A metric over all rounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) samples: Vec<f64>,
}

impl Value {
    fn new(median: f64, samples: Vec<f64>) -> Self {
        let low = samples.iter().copied().fold(median, f64::min);
        let high = samples.iter().copied().fold(median, f64::max);
        Self { median, low, high, samples }
    }

    /// Both were seen at the same value, or the difference is below what any of it can tell.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let close = (self.median - other.median).abs() <= SAME * self.median.abs().max(other.median.abs());
        close || (self.low <= other.high && other.low <= self.high)
    }
}

/// Medians that differ by less than this share are the same, whatever the spread.
const SAME: f64 = 0.01;
/// Added response times below this are taken for it in ratios, microseconds.
const LEAST_ADDED: f64 = 1.0;

impl Metric {
    /// What is told of a scenario, the headline figure first.
    pub(crate) fn told(kind: Kind, point: &Point) -> Vec<Self> {
        let mut told = match kind {
            Kind::Http | Kind::TcpEcho | Kind::TcpStream | Kind::Handshakes => {
                vec![Self::Cpu, Self::Rate, Self::Rss]
            }
            Kind::Latency => vec![
                Self::P50,
                Self::P90,
                Self::P99,
                Self::P999,
                Self::AddedP50,
                Self::AddedP99,
                Self::AddedP999,
                Self::Cpu,
            ],
            Kind::Checks => vec![Self::Cpu, Self::Rss],
            Kind::Idle if point.at > 0.0 => vec![Self::PerConnection],
            Kind::Idle => vec![Self::Rss],
            Kind::Streams => vec![Self::Rss, Self::PerConnection],
            Kind::Start => vec![Self::Ready, Self::Rss, Self::StartCpu],
            Kind::Size => vec![Self::Stripped, Self::Binary],
        };
        let direct = direct(point);
        told.retain(|metric| point.series.iter().any(|s| metric.read(s, direct).is_some()));
        told
    }

    /// What Millrace is judged by; where there is a run without a proxy, by what a proxy adds to it.
    fn judged(kind: Kind, point: &Point) -> Vec<Self> {
        let mut all = Self::told(kind, point);
        let added = all.iter().any(|m| m.is_added());
        all.retain(|m| !matches!(m, Self::Binary | Self::P90));
        all.retain(|m| !(added && matches!(m, Self::P50 | Self::P99 | Self::P999)));
        all
    }

    pub(crate) fn is_added(self) -> bool {
        matches!(self, Self::AddedP50 | Self::AddedP99 | Self::AddedP999)
    }

    /// The figure, if the series has it. `direct` is the series without a proxy at the same point.
    pub(crate) fn read(self, series: &Series, direct: Option<&Series>) -> Option<Value> {
        let base = if self.is_added() {
            if series.peer == direct?.peer {
                return None;
            }
            self.of(&direct?.median)?
        } else {
            0.0
        };
        let median = self.of(&series.median)? - base;
        let samples = series.samples.iter().filter_map(|s| self.of(s)).map(|v| v - base).collect();
        Some(Value::new(median, samples))
    }

    fn of(self, sample: &Sample) -> Option<f64> {
        let latency = sample.latency.as_ref();
        let value = match self {
            Self::Cpu => Some(sample.cpu_us),
            Self::Rate => Some(sample.rate),
            Self::Rss => Some(sample.rss_mib),
            Self::PerConnection => sample.kib_per_connection,
            Self::P50 | Self::AddedP50 => latency.map(|l| l.p50_us),
            Self::P90 => latency.map(|l| l.p90_us),
            Self::P99 | Self::AddedP99 => latency.map(|l| l.p99_us),
            Self::P999 | Self::AddedP999 => latency.map(|l| l.p999_us),
            Self::Ready => sample.ready_ms,
            Self::StartCpu => sample.start_cpu_ms,
            Self::Stripped => sample.stripped_mib,
            Self::Binary => sample.binary_mib,
        };
        value.filter(|v| v.is_finite() && *v > 0.0)
    }

    /// What a metric is called in a kind of scenario.
    pub(crate) fn name(self, kind: Kind) -> &'static str {
        match self {
            Self::Cpu => match kind {
                Kind::TcpEcho => "CPU per message",
                Kind::TcpStream => "CPU per MiB",
                Kind::Handshakes => "CPU per handshake",
                Kind::Checks => "CPU per check",
                _ => "CPU per request",
            },
            Self::Rate if kind == Kind::TcpStream => "throughput",
            Self::Rate => "rate",
            Self::Rss => "resident memory",
            Self::PerConnection if kind == Kind::Streams => "memory per stream",
            Self::PerConnection => "memory per connection",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::AddedP50 => "added p50",
            Self::AddedP99 => "added p99",
            Self::AddedP999 => "added p99.9",
            Self::Ready => "time to first response",
            Self::StartCpu => "CPU until then",
            Self::Stripped => "executable, stripped",
            Self::Binary => "executable as built",
        }
    }

    pub(crate) fn unit(self, kind: Kind) -> &'static str {
        match self {
            Self::Rate if kind == Kind::TcpStream => "MiB/s",
            Self::Rate => "/s",
            Self::Rss | Self::Stripped | Self::Binary => "MiB",
            Self::PerConnection => "KiB",
            Self::Ready | Self::StartCpu => "ms",
            _ => "µs",
        }
    }

    pub(crate) fn lower_is_better(self) -> bool {
        self != Self::Rate
    }

    /// Figure of a peer over Millrace's.
    pub(crate) fn ratio(self, theirs: f64, ours: f64) -> Option<f64> {
        let least = if self.is_added() { LEAST_ADDED } else { 0.0 };
        let ratio = theirs.max(least) / ours.max(least);
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }

    /// How many times worse than the peer Millrace is; below 1 it is better.
    fn behind(self, theirs: f64, ours: f64) -> Option<f64> {
        let ratio = self.ratio(theirs, ours)?;
        Some(if self.lower_is_better() { 1.0 / ratio } else { ratio })
    }
}

/// The run without a proxy at a point.
pub(crate) fn direct(point: &Point) -> Option<&Series> {
    find(point, "direct")
}

/// A peer's series at a point.
pub(crate) fn find<'a>(point: &'a Point, peer: &str) -> Option<&'a Series> {
    point.series.iter().find(|series| series.peer == peer)
}

/// Whom the ratios of a point refer to: Millrace, or the floor where runtimes are compared.
pub(crate) fn reference(point: &Point) -> Option<&Series> {
    [MILLRACE, "millrace-epoll", "floor"].iter().find_map(|peer| find(point, peer))
}

/// How a point is named: "10,000 connections"; empty for the only one.
pub(crate) fn point_name(result: &ScenarioResult, point: &Point) -> String {
    if result.axis.is_empty() {
        String::new()
    } else {
        let one = (point.at - 1.0).abs() < 1e-9;
        let axis = if one { result.axis.trim_end_matches('s') } else { &result.axis };
        format!("{} {axis}", super::number::tick(point.at))
    }
}

/// Where Millrace stands towards a competitor that it does not beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Behind,
    /// Within the spread of the rounds, on whichever side.
    Level,
}

/// A place where Millrace is not ahead.
#[derive(Clone, Debug)]
pub(crate) struct NotAhead {
    pub(crate) scenario: String,
    pub(crate) kind: Kind,
    /// Of the figures: where it is worst.
    pub(crate) point: String,
    /// On the axis, as `others`: the other points with the same standing, rising.
    pub(crate) at: f64,
    pub(crate) others: Vec<f64>,
    pub(crate) metric: Metric,
    pub(crate) peer: String,
    pub(crate) ours: Value,
    pub(crate) theirs: Value,
    /// How many times worse.
    pub(crate) factor: f64,
    pub(crate) standing: Standing,
    pub(crate) doubtful: bool,
}

/// All comparisons with competitors.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Furthest behind first.
    pub(crate) not_ahead: Vec<NotAhead>,
    pub(crate) compared: usize,
    pub(crate) ahead: usize,
}

/// Compares Millrace with every competitor in every metric at every point.
pub(crate) fn verdict(results: &[ScenarioResult]) -> Verdict {
    let mut verdict = Verdict::default();
    for result in results {
        for point in &result.points {
            for metric in Metric::judged(result.kind, point) {
                judge(result, point, metric, &mut verdict);
            }
        }
    }
    verdict.not_ahead = merged(verdict.not_ahead);
    verdict
}

fn judge(result: &ScenarioResult, point: &Point, metric: Metric, verdict: &mut Verdict) {
    let Some(own) = find(point, MILLRACE) else { return };
    let direct = direct(point);
    let Some(ours) = metric.read(own, direct) else { return };
    // A rate below saturation is not Millrace's limit: nothing to compare.
    if metric == Metric::Rate && !own.saturated {
        return;
    }
    for series in point.series.iter().filter(|s| look(&s.peer).role == Role::Competitor) {
        let Some(theirs) = metric.read(series, direct) else { continue };
        let Some(factor) = metric.behind(theirs.median, ours.median) else { continue };
        let level = ours.overlaps(&theirs);
        // Nor does a lower rate of somebody who had time to spare say anything.
        if metric == Metric::Rate && !series.saturated && factor < 1.0 {
            continue;
        }
        verdict.compared += 1;
        if factor <= 1.0 && !level {
            verdict.ahead += 1;
            continue;
        }
        verdict.not_ahead.push(NotAhead {
            scenario: result.scenario.clone(),
            kind: result.kind,
            point: point_name(result, point),
            at: point.at,
            others: Vec::new(),
            metric,
            peer: series.peer.clone(),
            ours: ours.clone(),
            theirs,
            factor,
            standing: if level { Standing::Level } else { Standing::Behind },
            doubtful: !own.doubts.is_empty() || !series.doubts.is_empty(),
        });
    }
}

/// One entry for all points of a scenario with the same peer, metric and standing: the worst.
fn merged(mut all: Vec<NotAhead>) -> Vec<NotAhead> {
    all.sort_by(|a, b| {
        let standing = (a.standing == Standing::Level).cmp(&(b.standing == Standing::Level));
        standing.then(b.factor.total_cmp(&a.factor)).then_with(|| a.scenario.cmp(&b.scenario))
    });
    let mut out: Vec<NotAhead> = Vec::new();
    for entry in all {
        let same = |e: &&mut NotAhead| {
            (&e.scenario, e.metric, &e.peer, e.standing)
                == (&entry.scenario, entry.metric, &entry.peer, entry.standing)
        };
        match out.iter_mut().find(same) {
            Some(first) => first.others.push(entry.at),
            None => out.push(entry),
        }
    }
    for entry in &mut out {
        entry.others.sort_by(f64::total_cmp);
    }
    out
}
