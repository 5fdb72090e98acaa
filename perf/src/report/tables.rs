//! The figures of a scenario as tables, for the page and for Markdown.

use serde::Serialize;

use super::look::{MILLRACE, Role, look};
use super::model::{self, Metric, point_name};
use super::number::{figure, ratio, tick};
use super::plots::{capital, reference_name};
use crate::result::{Point, ScenarioResult, Series};
use crate::scenario::Kind;

/// One table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) heads: Vec<Head>,
    pub(crate) rows: Vec<Row>,
    /// What ratios refer to.
    pub(crate) reference: String,
    /// Shown without a click.
    pub(crate) open: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) unit: String,
}

/// One peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) class: String,
    pub(crate) own: bool,
    pub(crate) aside: bool,
    /// Every figure is; otherwise the cells say which.
    pub(crate) doubtful: bool,
    pub(crate) cells: Vec<Cell>,
}

/// One figure; all texts empty where there is none.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Cell {
    pub(crate) median: String,
    /// "23.9–25.1"; empty with one round.
    pub(crate) spread: String,
    pub(crate) ratio: String,
    pub(crate) doubtful: bool,
    /// A rate below the proxy's limit.
    pub(crate) unsaturated: bool,
}

/// All tables of a scenario, the first one with the headline figure.
pub(crate) fn of(result: &ScenarioResult) -> Vec<Table> {
    let columns = columns(result);
    let several = result.points.len() > 1 && result.kind != Kind::Idle;
    if !several {
        return together(result, &columns);
    }
    let mut metrics: Vec<Metric> = Vec::new();
    for (_, metric) in &columns {
        if !metrics.contains(metric) {
            metrics.push(*metric);
        }
    }
    let mut tables = Vec::new();
    for (index, metric) in metrics.into_iter().enumerate() {
        let own: Vec<_> = columns.iter().filter(|(_, m)| *m == metric).copied().collect();
        let caption = format!("{}, {}", capital(metric.name(result.kind)), metric.unit(result.kind));
        tables.push(table(result, caption, &own, true, index == 0));
    }
    tables
}

/// All figures in one table; what a proxy adds to response times in one of its own.
fn together(result: &ScenarioResult, columns: &[(&Point, Metric)]) -> Vec<Table> {
    let (added, plain): (Vec<_>, Vec<_>) = columns.iter().copied().partition(|(_, m)| m.is_added());
    let mut tables = vec![table(result, String::new(), &plain, false, true)];
    if !added.is_empty() {
        let caption = "Added to the response times of no proxy".to_owned();
        tables.push(table(result, caption, &added, false, true));
    }
    tables
}

fn columns(result: &ScenarioResult) -> Vec<(&Point, Metric)> {
    let told = |point| Metric::told(result.kind, point).into_iter().map(move |metric| (point, metric));
    result.points.iter().flat_map(told).collect()
}

fn table(
    result: &ScenarioResult,
    caption: String,
    columns: &[(&Point, Metric)],
    by_point: bool,
    open: bool,
) -> Table {
    let mut peers: Vec<&str> =
        columns.iter().flat_map(|(point, _)| point.series.iter().map(|s| s.peer.as_str())).collect();
    peers.sort_by_cached_key(|peer| super::look::rank(peer));
    peers.dedup();
    let rows = peers.into_iter().map(|peer| row(result.kind, peer, columns));
    let rows = rows.filter(|row| row.cells.iter().any(|cell| !cell.median.is_empty())).collect();
    let heads = columns.iter().map(|(point, metric)| head(result, point, *metric, by_point)).collect();
    let reference = columns.first().map_or(String::new(), |(point, _)| reference_name(point));
    Table { caption, heads, rows, reference, open }
}

fn head(result: &ScenarioResult, point: &Point, metric: Metric, by_point: bool) -> Head {
    if by_point {
        return Head { name: tick(point.at), unit: result.axis.clone() };
    }
    let at = point_name(result, point);
    let unit = metric.unit(result.kind);
    let unit = if at.is_empty() { unit.to_owned() } else { format!("{unit} at {at}") };
    Head { name: metric.name(result.kind).to_owned(), unit }
}

fn row(kind: Kind, peer: &str, columns: &[(&Point, Metric)]) -> Row {
    let look = look(peer);
    let cell = |(point, metric): &(&Point, Metric)| {
        model::find(point, peer).map_or_else(Cell::default, |series| cell(kind, point, series, *metric))
    };
    let mut cells: Vec<Cell> = columns.iter().map(cell).collect();
    let doubtful = cells.iter().all(|cell| cell.doubtful || cell.median.is_empty());
    cells.iter_mut().for_each(|cell| cell.doubtful &= !doubtful);
    Row {
        label: look.label,
        class: look.class,
        own: peer == MILLRACE,
        aside: matches!(look.role, Role::Floor | Role::Direct),
        doubtful,
        cells,
    }
}

fn cell(kind: Kind, point: &Point, series: &Series, metric: Metric) -> Cell {
    let direct = model::direct(point);
    let Some(value) = metric.read(series, direct) else { return Cell::default() };
    let reference = model::reference(point).filter(|r| r.peer != series.peer);
    let ours = reference.and_then(|r| metric.read(r, direct));
    let ratio = ours.and_then(|o| metric.ratio(value.median, o.median)).map_or(String::new(), ratio);
    let (low, high) = (figure(value.low), figure(value.high));
    let spread = if low == high { String::new() } else { format!("{low}–{high}") };
    let loaded = matches!(kind, Kind::Http | Kind::TcpEcho | Kind::TcpStream | Kind::Handshakes);
    Cell {
        median: figure(value.median),
        spread,
        ratio,
        doubtful: !series.doubts.is_empty(),
        unsaturated: metric == Metric::Rate && loaded && !series.saturated,
    }
}
