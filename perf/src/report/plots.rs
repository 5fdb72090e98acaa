//! Which plots a scenario gets.

use super::bars::{self, Bar};
use super::curves::{self, Across, Curve, Spot};
use super::look::{MILLRACE, Role, look};
use super::model::{self, Metric, point_name};
use super::number::{figure, ratio, short_version};
use super::svg::Svg;
use crate::result::{Latency, Point, ScenarioResult, Series};
use crate::scenario::Kind;

/// A plot with the name of its file (without folder and extension).
pub(crate) struct Plot {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) svg: Svg,
    pub(crate) peers: Vec<String>,
}

/// The plots of a scenario, in the order of the page.
pub(crate) fn of(result: &ScenarioResult) -> Vec<Plot> {
    let single = result.points.len() == 1;
    match result.kind {
        Kind::Latency => result.points.iter().filter_map(|point| percentiles(result, point)).collect(),
        Kind::Idle => idle(result),
        Kind::Start if !single => {
            [Metric::Ready, Metric::Rss].into_iter().filter_map(|m| scaling(result, m)).collect()
        }
        _ if single => result.points.iter().filter_map(|point| plain_bars(result, point)).collect(),
        _ => scaling(result, Metric::Cpu).into_iter().collect(),
    }
}

/// The first point that has the figure, and the last.
fn idle(result: &ScenarioResult) -> Vec<Plot> {
    let mut points: Vec<&Point> = result.points.iter().collect();
    points.retain(|point| !Metric::told(result.kind, point).is_empty());
    // The last point may lack peers; the one with most of them says more.
    let most = points.iter().filter(|p| p.at > 0.0).max_by_key(|p| (p.series.len(), p.at as i64)).copied();
    let empty = points.iter().find(|p| p.at <= 0.0).copied();
    empty.into_iter().chain(most).filter_map(|point| plain_bars(result, point)).collect()
}

fn plain_bars(result: &ScenarioResult, point: &Point) -> Option<Plot> {
    let metric = Metric::told(result.kind, point).first().copied()?;
    let bars = bars_of(point, metric);
    let at = point_name(result, point);
    let name =
        if at.is_empty() { result.scenario.clone() } else { format!("{}-{}", result.scenario, point.at) };
    let title = capital(metric.name(result.kind));
    let place = if at.is_empty() { String::new() } else { format!(" · {at}") };
    let frame = bars::Frame {
        title: title.clone(),
        subtitle: format!("{}, lower is better{place} · {}", metric.unit(result.kind), result.title),
        unit: metric.unit(result.kind).to_owned(),
        reference: reference_name(point),
        large: false,
        foot: spread_note(result),
    };
    let svg = bars::draw(&frame, &bars);
    Some(Plot { name, title, svg, peers: peers(bars.into_iter().map(|b| b.peer)) })
}

fn peers(names: impl Iterator<Item = String>) -> Vec<String> {
    names.collect()
}

/// Whom ratios refer to, as a column head says it.
pub(crate) fn reference_name(point: &Point) -> String {
    match model::reference(point) {
        Some(series) if series.peer == "floor" => "floor".to_owned(),
        Some(series) => look(&series.peer).label,
        None => String::new(),
    }
}

fn spread_note(result: &ScenarioResult) -> String {
    match result.rounds {
        0 | 1 => String::new(),
        rounds => format!("bar: median of {rounds} rounds; dots: rounds; whisker: lowest to highest"),
    }
}

/// Bars of one point, the best first.
fn bars_of(point: &Point, metric: Metric) -> Vec<Bar> {
    let direct = model::direct(point);
    let reference = model::reference(point);
    let ours = reference.and_then(|series| metric.read(series, direct));
    let mut bars: Vec<Bar> = Vec::new();
    for series in &point.series {
        let Some(value) = metric.read(series, direct) else { continue };
        let own = reference.is_some_and(|r| r.peer == series.peer);
        let ratio = ours.as_ref().filter(|_| !own).and_then(|o| metric.ratio(value.median, o.median));
        bars.push(Bar {
            peer: series.peer.clone(),
            look: look(&series.peer),
            note: String::new(),
            value,
            ratio,
            doubtful: !series.doubts.is_empty(),
        });
    }
    bars.sort_by(|a, b| a.value.median.total_cmp(&b.value.median).then_with(|| a.peer.cmp(&b.peer)));
    bars
}

pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

fn scaling(result: &ScenarioResult, metric: Metric) -> Option<Plot> {
    let mut curves: Vec<Curve> = Vec::new();
    for point in &result.points {
        for series in &point.series {
            let Some(value) = metric.read(series, model::direct(point)) else { continue };
            let spot = Spot { x: point.at, y: value.median, low: value.low, high: value.high };
            let doubtful = !series.doubts.is_empty();
            match curves.iter_mut().find(|c| c.peer == series.peer) {
                Some(curve) => {
                    curve.spots.push(spot);
                    curve.doubtful |= doubtful;
                }
                None => curves.push(Curve {
                    peer: series.peer.clone(),
                    look: look(&series.peer),
                    spots: vec![spot],
                    doubtful,
                }),
            }
        }
    }
    if curves.is_empty() {
        return None;
    }
    let title = format!("{} over {}", capital(metric.name(result.kind)), result.axis);
    let frame = curves::Frame {
        title: title.clone(),
        subtitle: format!("{}, lower is better · {}", metric.unit(result.kind), result.title),
        unit: metric.unit(result.kind).to_owned(),
        across: Across::Count,
        axis: result.axis.clone(),
    };
    let svg = curves::draw(&frame, &curves);
    let name = match metric {
        Metric::Cpu => result.scenario.clone(),
        Metric::Rss => format!("{}-memory", result.scenario),
        _ => format!("{}-time", result.scenario),
    };
    Some(Plot { name, title, svg, peers: peers(curves.into_iter().map(|c| c.peer)) })
}

fn percentiles(result: &ScenarioResult, point: &Point) -> Option<Plot> {
    let curves: Vec<Curve> = point.series.iter().filter_map(latency_curve).collect();
    if curves.is_empty() {
        return None;
    }
    let title = "Response time by percentile".to_owned();
    let rate =
        point.offered_rate.map_or(String::new(), |r| format!(" · {} requests/s offered to each", figure(r)));
    let frame = curves::Frame {
        title: title.clone(),
        subtitle: format!("µs from the moment a request was due, lower is better{rate}"),
        unit: "µs".to_owned(),
        across: Across::Percentile,
        axis: "percentile of requests".to_owned(),
    };
    let svg = curves::draw(&frame, &curves);
    let place = if result.axis.is_empty() { String::new() } else { format!("-{}", point.at) };
    let name = format!("{}{place}", result.scenario);
    Some(Plot { name, title, svg, peers: peers(curves.into_iter().map(|c| c.peer)) })
}

fn latency_curve(series: &Series) -> Option<Curve> {
    let median = series.median.latency.as_ref()?;
    let mut spots = Vec::new();
    // The last hundred thousandth is one request: no curve there.
    for (percentile, us) in curve_of(median) {
        let same = |l: &Latency| l.curve.iter().find(|(p, _)| (p - percentile).abs() < 1e-9).map(|(_, y)| *y);
        let rounds = series.samples.iter().filter_map(|s| s.latency.as_ref().and_then(same));
        let (low, high) = rounds.fold((us, us), |(low, high), y| (low.min(y), high.max(y)));
        spots.push(Spot { x: percentile, y: us, low, high });
    }
    let doubtful = !series.doubts.is_empty();
    (!spots.is_empty()).then(|| Curve {
        peer: series.peer.clone(),
        look: look(&series.peer),
        spots,
        doubtful,
    })
}

/// The curve, or the four percentiles where it was not kept.
fn curve_of(latency: &Latency) -> Vec<(f64, f64)> {
    let inside = |(p, us): &(f64, f64)| (0.0..=99.9999).contains(p) && us.is_finite() && *us > 0.0;
    let all = if latency.curve.is_empty() {
        vec![(50.0, latency.p50_us), (90.0, latency.p90_us), (99.0, latency.p99_us), (99.9, latency.p999_us)]
    } else {
        latency.curve.clone()
    };
    all.into_iter().filter(inside).collect()
}

/// The plot of the README: CPU of small HTTP/1.1 requests.
pub(crate) fn headline(result: &ScenarioResult) -> Option<Plot> {
    let point = result.points.first()?;
    let metric = Metric::told(result.kind, point).first().copied()?;
    let mut bars = bars_of(point, metric);
    for bar in &mut bars {
        let version = model::find(point, &bar.peer).and_then(|s| short_version(&s.version));
        if bar.look.role == Role::Competitor {
            bar.note = version.unwrap_or_default();
        }
    }
    let host = &result.host;
    let day = host.date.get(..10).unwrap_or(&host.date);
    let title = "CPU for each small HTTP/1.1 request".to_owned();
    let kernel: Vec<&str> = host.kernel.split('.').take(2).collect();
    let frame = bars::Frame {
        title: title.clone(),
        subtitle:
            "µs of user and system time, lower is better · 64 keep-alive connections, 128 B bodies, one core"
                .to_owned(),
        unit: metric.unit(result.kind).to_owned(),
        reference: reference_name(point),
        large: true,
        foot: format!(
            "{} rounds, dots and whiskers  ·  {}, Linux {}, {day}",
            result.rounds,
            host.cpu,
            kernel.join(".")
        ),
    };
    let svg = bars::draw(&frame, &bars);
    Some(Plot { name: "headline".to_owned(), title, svg, peers: peers(bars.into_iter().map(|b| b.peer)) })
}

/// How many times less CPU than Envoy and than the best competitor: (ratio, label).
pub(crate) fn against(result: &ScenarioResult) -> Vec<(String, String)> {
    let Some(point) = result.points.first() else { return Vec::new() };
    let read = |series| Metric::Cpu.read(series, None).map(|value| value.median);
    let Some(ours) = model::find(point, MILLRACE).and_then(read) else { return Vec::new() };
    let competitors = point.series.iter().filter(|s| look(&s.peer).role == Role::Competitor);
    let best =
        competitors.filter_map(|series| Some((series, read(series)?))).min_by(|a, b| a.1.total_cmp(&b.1));
    let envoy = model::find(point, "envoy").and_then(|series| Some((series, read(series)?)));
    let mut told: Vec<(String, String)> = envoy
        .into_iter()
        .chain(best)
        .map(|(s, theirs)| (ratio(theirs / ours), look(&s.peer).label))
        .collect();
    told.dedup();
    told
}
