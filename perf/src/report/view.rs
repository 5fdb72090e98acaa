//! What the page and the Markdown show, ready for their templates.

use serde::Serialize;

use super::goals::{Judged, State};
use super::look::{Role, dark_style, look, rank};
use super::model::{NotAhead, Standing, Verdict, point_name};
use super::number::{figure, ratio, tick};
use super::plots::{self, Plot};
use super::read::{Found, HEADLINE};
use super::tables::{self, Table};
use crate::result::ScenarioResult;
use crate::scenario::Kind;

/// Everything.
#[derive(Serialize)]
pub(crate) struct Page {
    facts: Vec<Fact>,
    cpu: String,
    day: String,
    slug: String,
    commit: String,
    headline: Option<Drawing>,
    against: Vec<Fact>,
    compared: usize,
    ahead: usize,
    behind: usize,
    level: usize,
    not_ahead: Vec<Place>,
    goals: Vec<GoalRow>,
    reached: usize,
    missed: usize,
    unmeasured: usize,
    groups: Vec<Group>,
    versions: Vec<Fact>,
    problems: Vec<Fact>,
    /// Peers that can be hidden, and all of them.
    legend: Vec<Chip>,
    colours: Vec<Chip>,
    style: String,
}

/// A name with a text.
#[derive(Serialize)]
struct Fact {
    name: String,
    text: String,
}

#[derive(Serialize)]
struct Chip {
    label: String,
    class: String,
    light: &'static str,
    dark: &'static str,
}

#[derive(Serialize)]
struct Drawing {
    name: String,
    title: String,
    svg: String,
}

#[derive(Serialize)]
struct Group {
    name: String,
    id: String,
    scenarios: Vec<Scenario>,
}

#[derive(Serialize)]
struct Scenario {
    name: String,
    title: String,
    meta: String,
    plots: Vec<Drawing>,
    tables: Vec<Table>,
    doubts: Vec<Fact>,
    skipped: Vec<Fact>,
    unsaturated: bool,
    spreads: bool,
}

#[derive(Serialize)]
struct Place {
    behind: bool,
    factor: String,
    scenario: String,
    place: String,
    others: String,
    metric: String,
    unit: &'static str,
    peer: String,
    class: String,
    ours: String,
    theirs: String,
    doubtful: bool,
}

#[derive(Serialize)]
struct GoalRow {
    group: String,
    /// First of its group: prints the heading.
    first: bool,
    text: String,
    bound: String,
    measured: String,
    state: &'static str,
    mark: &'static str,
    doubtful: bool,
}

/// Plots go into the page and into files.
pub(crate) struct Built {
    pub(crate) page: Page,
    pub(crate) plots: Vec<Plot>,
    pub(crate) headline: Option<Plot>,
}

/// Puts it all together.
pub(crate) fn build(found: &Found, verdict: &Verdict, goals: &[Judged]) -> Built {
    let newest = found.results.iter().max_by(|a, b| a.host.date.cmp(&b.host.date));
    let headline_result = found.results.iter().find(|r| r.scenario == HEADLINE);
    let headline = headline_result.and_then(plots::headline);
    let mut all_plots = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    for result in &found.results {
        let plots = plots::of(result);
        let view = scenario(result, newest, &plots);
        all_plots.extend(plots);
        match groups.last_mut() {
            Some(group) if group.name == result.group => group.scenarios.push(view),
            _ => groups.push(Group {
                name: result.group.clone(),
                id: id(&result.group),
                scenarios: vec![view],
            }),
        }
    }
    let count = |standing| verdict.not_ahead.iter().filter(|e| e.standing == standing).count();
    let state = |wanted| goals.iter().filter(|g| g.state == wanted).count();
    let peers = peers(found);
    let against = headline_result.map(plots::against).unwrap_or_default();
    let host = newest.map(|r| &r.host);
    let page = Page {
        facts: facts(found, newest),
        cpu: host.map_or(String::new(), |h| h.cpu.clone()),
        day: host.map_or(String::new(), |h| h.date.get(..10).unwrap_or(&h.date).to_owned()),
        slug: host.map_or(String::new(), |h| h.slug.clone()),
        commit: host.map_or(String::new(), |h| h.commit.clone()),
        headline: headline.as_ref().map(drawing),
        against: against.into_iter().map(|(text, name)| Fact { name, text }).collect(),
        compared: verdict.compared,
        ahead: verdict.ahead,
        behind: count(Standing::Behind),
        level: count(Standing::Level),
        not_ahead: verdict.not_ahead.iter().map(place).collect(),
        goals: goal_rows(goals),
        reached: state(State::Reached),
        missed: state(State::NotReached),
        unmeasured: state(State::NotMeasured),
        groups,
        versions: versions(found),
        problems: problems(found),
        legend: peers.iter().filter(|peer| look(peer).role != Role::Runtime).map(|peer| chip(peer)).collect(),
        colours: peers.iter().map(|peer| chip(peer)).collect(),
        style: dark_style(peers.iter().map(String::as_str)),
    };
    Built { page, plots: all_plots, headline }
}

fn drawing(plot: &Plot) -> Drawing {
    Drawing { name: plot.name.clone(), title: plot.title.clone(), svg: plot.svg.inline() }
}

fn id(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(plain).collect()
}

fn fact(name: &str, text: impl Into<String>) -> Fact {
    Fact { name: name.to_owned(), text: text.into() }
}

fn chip(peer: &str) -> Chip {
    let look = look(peer);
    Chip { label: look.label, class: look.class, light: look.light, dark: look.dark }
}

fn peers(found: &Found) -> Vec<String> {
    let points = found.results.iter().flat_map(|r| &r.points);
    let mut peers: Vec<String> = points.flat_map(|p| p.series.iter().map(|s| s.peer.clone())).collect();
    peers.sort_by_cached_key(|peer| rank(peer));
    peers.dedup();
    peers
}

fn facts(found: &Found, newest: Option<&ScenarioResult>) -> Vec<Fact> {
    let Some(host) = newest.map(|r| &r.host) else { return Vec::new() };
    let several = |pick: fn(&ScenarioResult) -> &String| {
        let mut all: Vec<&str> = found.results.iter().map(|r| pick(r).as_str()).collect();
        all.sort_unstable();
        all.dedup();
        all.join(", ")
    };
    let loads: Vec<f64> = found
        .results
        .iter()
        .filter_map(|r| r.host.load_average.split_whitespace().next()?.parse().ok())
        .collect();
    let low = loads.iter().copied().fold(f64::MAX, f64::min);
    let high = loads.iter().copied().fold(0.0, f64::max);
    let load = match loads.len() {
        0 => "unknown".to_owned(),
        _ if (high - low).abs() < 0.005 => format!("{low:.2}"),
        _ => format!("{low:.2} to {high:.2}"),
    };
    let oldest = found.results.iter().map(|r| r.host.date.as_str()).min().unwrap_or_default();
    let dates = if oldest == host.date { host.date.clone() } else { format!("{oldest} to {}", host.date) };
    vec![
        fact("CPU", several(|r| &r.host.cpu)),
        fact("Cores", host.cores.to_string()),
        fact("Memory", format!("{} MiB", figure(host.memory_mib as f64))),
        fact("Kernel", several(|r| &r.host.kernel)),
        fact("Commit", several(|r| &r.host.commit)),
        fact("Measured", dates),
        fact("Load average before", load),
        fact("Open files", several(|r| &r.host.descriptors)),
        fact("Load generator", several(|r| &r.host.wrk)),
    ]
}

fn versions(found: &Found) -> Vec<Fact> {
    let mut all: Vec<((usize, String), String)> = Vec::new();
    for series in found.results.iter().flat_map(|r| &r.points).flat_map(|p| &p.series) {
        let entry = (rank(&series.peer), series.version.clone());
        if look(&series.peer).role != Role::Direct && !all.contains(&entry) {
            all.push(entry);
        }
    }
    all.sort();
    all.into_iter().map(|((_, peer), version)| fact(&look(&peer).label, version)).collect()
}

fn problems(found: &Found) -> Vec<Fact> {
    found.problems.iter().map(|p| fact(&p.file, p.reason.clone())).collect()
}

fn scenario(result: &ScenarioResult, newest: Option<&ScenarioResult>, plots: &[Plot]) -> Scenario {
    let mut doubts = Vec::new();
    for point in &result.points {
        let at = point_name(result, point);
        let at = if at.is_empty() { at } else { format!(", {at}") };
        for series in &point.series {
            let label = look(&series.peer).label;
            doubts.extend(series.doubts.iter().map(|text| fact(&format!("{label}{at}"), text.clone())));
        }
    }
    let skipped = result.skipped.iter().map(|skipped| {
        let at = if skipped.point.is_empty() { String::new() } else { format!(", {}", skipped.point) };
        fact(&format!("{}{at}", look(&skipped.peer).label), skipped.reason.clone())
    });
    let mut meta = match (result.kind, result.rounds) {
        (Kind::Size, _) => String::new(),
        (Kind::Start | Kind::Idle | Kind::Streams, 1) => "1 round".to_owned(),
        (Kind::Start | Kind::Idle | Kind::Streams, rounds) => format!("{rounds} rounds"),
        (_, 1) => format!("1 round of {} s", tick(result.seconds)),
        (_, rounds) => format!("{rounds} rounds of {} s", tick(result.seconds)),
    };
    if newest.is_some_and(|newest| newest.host.commit != result.host.commit) {
        let separator = if meta.is_empty() { "" } else { " · " };
        meta.push_str(&format!("{separator}commit {}, {}", result.host.commit, result.host.date));
    }
    let tables = tables::of(result);
    let any = |pick: fn(&tables::Cell) -> bool| {
        tables.iter().flat_map(|t| &t.rows).flat_map(|r| &r.cells).any(pick)
    };
    Scenario {
        name: result.scenario.clone(),
        title: result.title.clone(),
        meta,
        plots: plots.iter().map(drawing).collect(),
        unsaturated: any(|cell| cell.unsaturated),
        spreads: any(|cell| !cell.spread.is_empty()),
        tables,
        doubts,
        skipped: skipped.collect(),
    }
}

fn place(entry: &NotAhead) -> Place {
    let look = look(&entry.peer);
    Place {
        behind: entry.standing == Standing::Behind,
        factor: ratio(entry.factor),
        scenario: entry.scenario.clone(),
        place: entry.point.clone(),
        others: entry.others.iter().map(|at| tick(*at)).collect::<Vec<_>>().join(", "),
        metric: entry.metric.name(entry.kind).to_owned(),
        unit: entry.metric.unit(entry.kind),
        peer: look.label,
        class: look.class,
        ours: figure(entry.ours.median),
        theirs: figure(entry.theirs.median),
        doubtful: entry.doubtful,
    }
}

fn goal_rows(goals: &[Judged]) -> Vec<GoalRow> {
    let mut before = "";
    let mut rows = Vec::new();
    for judged in goals {
        let group = judged.goal.group.as_str();
        let (state, mark) = match judged.state {
            State::Reached => ("reached", "✓"),
            State::NotReached => ("not reached", "✗"),
            State::NotMeasured => ("not measured", "–"),
        };
        rows.push(GoalRow {
            group: group.to_owned(),
            first: group != before,
            text: judged.goal.text.clone(),
            bound: judged.bound.clone(),
            measured: judged.measured.clone(),
            state,
            mark,
            doubtful: judged.doubtful,
        });
        before = group;
    }
    rows
}
