//! Result files of one host, read; what cannot be read is named with its reason and takes no other with it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::result::ScenarioResult;

/// A file that is not in the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) file: String,
    pub(crate) reason: String,
}

/// What stands in a host's folder.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In the order of the report.
    pub(crate) results: Vec<ScenarioResult>,
    pub(crate) problems: Vec<Problem>,
}

/// The scenario whose plot stands in the README.
pub(crate) const HEADLINE: &str = "http1-small";

const GROUPS: &[&str] = &[
    "HTTP/1.1", "HTTP/2", "gRPC", "Mesh", "TLS", "TCP", "Latency", "Memory", "Start", "Scaling", "Runtimes",
];

/// Reads `*.json` of a folder.
pub(crate) fn folder(results: &Path) -> Result<Found, String> {
    let mut found = Found::default();
    for path in json_files(results)? {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).map_err(|e| e.to_string());
        match text.and_then(|text| parse(&text)) {
            Ok(result) => found.results.push(result),
            Err(reason) => found.problems.push(Problem { file, reason }),
        }
    }
    found.results.sort_by_cached_key(order);
    Ok(found)
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    Ok(paths)
}

fn parse(text: &str) -> Result<ScenarioResult, String> {
    let json: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    if json.get("peers").is_some() && json.get("points").is_none() {
        return Err("written by an older version: run it again".to_owned());
    }
    let mut result: ScenarioResult =
        serde_json::from_value(json).map_err(|e| format!("not a result of a scenario: {e}"))?;
    for point in &mut result.points {
        point.series.sort_by_cached_key(|series| super::look::rank(&series.peer));
    }
    result.points.retain(|point| !point.series.is_empty());
    result.points.sort_by(|a, b| a.at.total_cmp(&b.at));
    if result.points.is_empty() {
        return Err("nobody was measured in it".to_owned());
    }
    Ok(result)
}

fn order(result: &ScenarioResult) -> (usize, String, bool, usize, String) {
    let group = GROUPS.iter().position(|g| *g == result.group).unwrap_or(GROUPS.len());
    let kind = result.kind as usize;
    (group, result.group.clone(), result.scenario != HEADLINE, kind, result.scenario.clone())
}

/// The folder under `perf/results/` with the newest result that can be read; otherwise the last by name.
pub(crate) fn newest_host(results: &Path) -> Result<PathBuf, String> {
    let entries = fs::read_dir(results).map_err(|e| format!("{}: {e}", results.display()))?;
    let mut hosts: Vec<(String, PathBuf)> = Vec::new();
    for path in entries.filter_map(|entry| entry.ok().map(|e| e.path())).filter(|p| p.is_dir()) {
        let dates = folder(&path)?.results.into_iter().map(|result| result.host.date);
        hosts.push((dates.max().unwrap_or_default(), path));
    }
    hosts.sort();
    hosts.pop().map(|(_, path)| path).ok_or_else(|| format!("{}: no results yet", results.display()))
}
