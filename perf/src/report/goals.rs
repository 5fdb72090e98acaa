//! The goals of `perf/goals.toml` beside what was measured.

use serde::Deserialize;

use super::look::{MILLRACE, look};
use super::model::{Metric, direct, find};
use super::number::{figure, ratio, tick};
use crate::result::{Point, ScenarioResult, Series};

/// One goal. `peer` makes it a ratio, `flat_from` a comparison of two points, neither an absolute figure.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Goal {
    /// Heading under which it stands.
    pub(crate) group: String,
    pub(crate) text: String,
    #[serde(default)]
    scenario: String,
    #[serde(default)]
    metric: Option<Metric>,
    /// Point on the scenario's axis; without it, the last.
    #[serde(default)]
    at: Option<f64>,
    #[serde(default)]
    peer: Option<String>,
    /// Millrace's figure (over the peer's, if there is one) is at most this.
    #[serde(default)]
    at_most: Option<f64>,
    /// Millrace is this many times better than the peer.
    #[serde(default)]
    at_least: Option<f64>,
    /// The last point costs at most `at_most` times this one.
    #[serde(default)]
    flat_from: Option<f64>,
    /// Why nothing can be measured for it yet.
    #[serde(default)]
    not_measured: Option<String>,
}

/// How far a goal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Reached,
    NotReached,
    NotMeasured,
}

/// A goal with its state and what it was judged by.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) goal: Goal,
    pub(crate) state: State,
    /// "1.14× (at most 1.2×)", or why it was not measured.
    pub(crate) measured: String,
    pub(crate) bound: String,
    pub(crate) doubtful: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    goal: Vec<Goal>,
}

/// The goals of the repository.
pub(crate) fn load() -> Result<Vec<Goal>, String> {
    parse(include_str!("../../goals.toml"))
}

pub(super) fn parse(text: &str) -> Result<Vec<Goal>, String> {
    let file: File = toml::from_str(text).map_err(|e| format!("perf/goals.toml: {e}"))?;
    for goal in &file.goal {
        let bounded = goal.at_most.is_some() != goal.at_least.is_some();
        let measurable = bounded && goal.metric.is_some() && !goal.scenario.is_empty();
        let wrong = match () {
            () if goal.not_measured.is_some() => false,
            () if !measurable => true,
            () => goal.at_least.is_some() && goal.peer.is_none(),
        };
        if wrong {
            return Err(format!(
                "perf/goals.toml: {:?}: needs scenario, metric and one bound, or not_measured",
                goal.text
            ));
        }
    }
    Ok(file.goal)
}

struct Measured {
    value: f64,
    text: String,
    doubtful: bool,
}

/// Judges every goal by the results.
pub(crate) fn judge(goals: Vec<Goal>, results: &[ScenarioResult]) -> Vec<Judged> {
    goals
        .into_iter()
        .map(|goal| {
            let bound = goal.bound(results);
            match goal.measure(results) {
                Ok(found) => {
                    let good = goal.at_most.is_none_or(|most| found.value <= most)
                        && goal.at_least.is_none_or(|least| found.value >= least);
                    let state = if good { State::Reached } else { State::NotReached };
                    Judged { goal, state, measured: found.text, bound, doubtful: found.doubtful }
                }
                Err(measured) => Judged { goal, state: State::NotMeasured, measured, bound, doubtful: false },
            }
        })
        .collect()
}

impl Goal {
    fn result<'a>(&self, results: &'a [ScenarioResult]) -> Option<&'a ScenarioResult> {
        results.iter().find(|result| result.scenario == self.scenario)
    }

    fn bound(&self, results: &[ScenarioResult]) -> String {
        let relative = self.peer.is_some() || self.flat_from.is_some();
        let unit = match (self.metric, self.result(results)) {
            (Some(metric), Some(result)) if !relative => metric.unit(result.kind),
            _ => "",
        };
        let shown = |bound: f64| if relative { ratio(bound) } else { format!("{} {unit}", tick(bound)) };
        match (self.at_most, self.at_least) {
            (Some(most), _) => format!("≤ {}", shown(most).trim_end()),
            (_, Some(least)) => format!("≥ {}", shown(least).trim_end()),
            _ => String::new(),
        }
    }

    fn measure(&self, results: &[ScenarioResult]) -> Result<Measured, String> {
        if let Some(reason) = &self.not_measured {
            return Err(format!("not measured: {reason}"));
        }
        let missing = |what: &str| format!("not measured yet: {what}");
        let metric = self.metric.ok_or_else(|| missing("no metric"))?;
        let result =
            self.result(results).ok_or_else(|| missing(&format!("no result of {}", self.scenario)))?;
        let at = |value: f64| result.points.iter().find(|p| (p.at - value).abs() < 0.5);
        let point = match self.at {
            Some(value) => {
                at(value).ok_or_else(|| missing(&format!("no point at {} {}", tick(value), result.axis)))?
            }
            None => result.points.last().ok_or_else(|| missing("no point"))?,
        };
        let read = |point: &Point, peer: &str| -> Result<(f64, bool), String> {
            let series: &Series = find(point, peer)
                .ok_or_else(|| missing(&format!("{} is not in the result", look(peer).label)))?;
            let value = metric.read(series, direct(point)).ok_or_else(|| missing("the figure is absent"))?;
            Ok((value.median, !series.doubts.is_empty()))
        };
        let (ours, doubt) = read(point, MILLRACE)?;
        let unit = metric.unit(result.kind);
        if let Some(peer) = &self.peer {
            let (theirs, other) = read(point, peer)?;
            let over = metric.ratio(theirs, ours).ok_or_else(|| missing("the figure is zero"))?;
            let better = if metric.lower_is_better() { over } else { 1.0 / over };
            let value = if self.at_least.is_some() { better } else { 1.0 / over };
            let text = format!(
                "{} ({} {unit}, {} {})",
                ratio(value),
                figure(ours),
                look(peer).label,
                figure(theirs)
            );
            return Ok(Measured { value, text, doubtful: doubt || other });
        }
        if let Some(from) = self.flat_from {
            let first = at(from).ok_or_else(|| missing(&format!("no point at {}", tick(from))))?;
            let (start, other) = read(first, MILLRACE)?;
            let text = format!("{} ({} to {} {unit})", ratio(ours / start), figure(start), figure(ours));
            return Ok(Measured { value: ours / start, text, doubtful: doubt || other });
        }
        Ok(Measured { value: ours, text: format!("{} {unit}", figure(ours)), doubtful: doubt })
    }
}
