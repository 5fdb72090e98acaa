//! Curves: response times over percentiles, and a figure over connections or clusters, with names at their ends.

use super::bars::{WIDTH, heading, step};
use super::look::{Look, MILLRACE, Role};
use super::number::{figure, tick};
use super::svg::{Anchor, Set, Svg, ink, paint, width_of};

/// A place on a curve with the lowest and highest round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spot {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// One peer's curve.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) peer: String,
    pub(crate) look: Look,
    /// Rising in x.
    pub(crate) spots: Vec<Spot>,
    pub(crate) doubtful: bool,
}

/// What x is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Across {
    /// 0 to 100, drawn by the logarithm of what is left to 100.
    Percentile,
    /// Counts, drawn by their logarithm; every measured point is a tick.
    Count,
}

/// What surrounds the curves.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) unit: String,
    pub(crate) across: Across,
    pub(crate) axis: String,
}

const HEIGHT: f64 = 420.0;
const LEFT: f64 = 74.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = HEIGHT - 56.0;

struct Scale {
    right: f64,
    x: (f64, f64),
    y: (f64, f64),
    log: bool,
    across: Across,
}

impl Across {
    fn of(self, x: f64) -> f64 {
        match self {
            Self::Percentile => -(1.0 - x / 100.0).max(1e-7).log10(),
            Self::Count => x.max(0.5).log10(),
        }
    }
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        let (low, high) = self.x;
        LEFT + (self.across.of(value) - low) / (high - low).max(1e-9) * (self.right - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.y;
        let value = if self.log { value.max(1e-9).log10() } else { value };
        let share = (value - low) / (high - low).max(1e-9);
        BOTTOM - share.clamp(0.0, 1.0) * (BOTTOM - TOP)
    }
}

/// Draws the curves; Millrace last, over all others.
pub(crate) fn draw(frame: &Frame, curves: &[Curve]) -> Svg {
    let mut svg = Svg::new(WIDTH, HEIGHT, &format!("{}: {}", frame.title, frame.subtitle));
    heading(&mut svg, &frame.title, &frame.subtitle, false);
    let scale = scale(frame, curves);
    grid(&mut svg, frame, &scale, curves);
    let mut order: Vec<&Curve> = curves.iter().filter(|c| !c.spots.is_empty()).collect();
    order.sort_by_key(|c| (c.peer == MILLRACE, c.look.role == Role::Millrace));
    for curve in &order {
        one(&mut svg, frame, &scale, curve);
    }
    names(&mut svg, &scale, &order);
    svg
}

fn scale(frame: &Frame, curves: &[Curve]) -> Scale {
    let spots = || curves.iter().flat_map(|c| &c.spots);
    let widest = curves.iter().map(|c| width_of(&c.look.label, 13.5)).fold(60.0, f64::max);
    let across = |pick: fn(f64, f64) -> f64, start| spots().map(|s| frame.across.of(s.x)).fold(start, pick);
    let low = spots().map(|s| s.y).fold(f64::MAX, f64::min).max(1e-6);
    let high = spots().map(|s| s.high.max(s.y)).fold(0.0, f64::max).max(low);
    // A wide field does not fit on a linear axis; response times always want a logarithmic one.
    let log = frame.across == Across::Percentile || high / low > 5.0;
    let y = if log {
        let floor = (low * 0.85).log10();
        (floor, (high * 1.1).log10())
    } else {
        (0.0, high * 1.06)
    };
    let first = across(f64::min, f64::MAX);
    let last = across(f64::max, f64::MIN);
    Scale { right: WIDTH - widest - 58.0, x: (first, last), y, log, across: frame.across }
}

fn grid(svg: &mut Svg, frame: &Frame, scale: &Scale, curves: &[Curve]) {
    for value in heights(scale) {
        let y = scale.y(value);
        svg.line((LEFT, y), (scale.right, y), 1.0, &ink("grid"), "");
        svg.text(LEFT - 9.0, y + 4.0, &tick(value), &Set::new(11.5, Anchor::End, ink("muted")));
    }
    let mut last = f64::MIN;
    for (value, label) in places(frame, curves) {
        let x = scale.x(value);
        if !(LEFT - 1.0..=scale.right + 1.0).contains(&x) || x - last < 30.0 {
            continue;
        }
        last = x;
        svg.line((x, TOP), (x, BOTTOM), 1.0, &ink("grid"), "");
        svg.text(x, BOTTOM + 19.0, &label, &Set::new(11.5, Anchor::Middle, ink("muted")));
    }
    let small = Set::new(11.5, Anchor::Start, ink("muted"));
    let unit = if scale.log { format!("{}, logarithmic", frame.unit) } else { frame.unit.clone() };
    svg.text(LEFT, TOP - 10.0, &unit, &small);
    let middle = f64::midpoint(LEFT, scale.right);
    svg.text(middle, BOTTOM + 40.0, &frame.axis, &Set::new(12.0, Anchor::Middle, ink("muted")));
}

fn heights(scale: &Scale) -> Vec<f64> {
    if !scale.log {
        let step = step(scale.y.1, 6.0);
        let count = (scale.y.1 / step).floor().clamp(0.0, 20.0);
        return (0..=count as usize).map(|n| n as f64 * step).collect();
    }
    let (low, high) = scale.y;
    let factors: &[f64] = if high - low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let decades = low.floor() as i32..=high.ceil() as i32;
    let all = decades.flat_map(|d| factors.iter().map(move |f| f * 10f64.powi(d)));
    all.filter(|v| (low..=high).contains(&v.log10())).collect()
}

fn places(frame: &Frame, curves: &[Curve]) -> Vec<(f64, String)> {
    match frame.across {
        Across::Percentile => [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999]
            .into_iter()
            .map(|p| (p, if p == 0.0 { "0 %".to_owned() } else { format!("{p} %") }))
            .collect(),
        Across::Count => {
            let mut all: Vec<f64> = curves.iter().flat_map(|c| &c.spots).map(|s| s.x).collect();
            all.sort_by(f64::total_cmp);
            all.dedup();
            all.into_iter().map(|x| (x, tick(x))).collect()
        }
    }
}

fn one(svg: &mut Svg, frame: &Frame, scale: &Scale, curve: &Curve) {
    let told: Vec<String> = match frame.across {
        Across::Count => curve.spots.iter().map(|s| format!("{}: {}", tick(s.x), figure(s.y))).collect(),
        Across::Percentile => Vec::new(),
    };
    let about =
        if told.is_empty() { String::new() } else { format!(" ({}) {}", told.join("; "), frame.unit) };
    svg.open(&curve.look.class, &format!("{}{about}", curve.look.label));
    let colour = paint(&curve.look);
    let own = curve.peer == MILLRACE;
    let high = curve.spots.iter().map(|s| (scale.x(s.x), scale.y(s.high)));
    let low = curve.spots.iter().rev().map(|s| (scale.x(s.x), scale.y(s.low)));
    let band: Vec<(f64, f64)> = high.chain(low).collect();
    if curve.spots.iter().any(|s| s.high > s.low) {
        svg.area(&band, 0.14, &colour);
    }
    let line: Vec<(f64, f64)> = curve.spots.iter().map(|s| (scale.x(s.x), scale.y(s.y))).collect();
    svg.curve(&line, if own { 3.2 } else { 2.0 }, &colour, curve.look.dash);
    if frame.across == Across::Count {
        for (x, y) in line {
            svg.dot(x, y, if own { 4.2 } else { 3.4 }, &colour, &ink("card"));
        }
    }
    svg.close();
}

/// Every curve's name at its end, moved apart where they would meet.
fn names(svg: &mut Svg, scale: &Scale, curves: &[&Curve]) {
    const GAP: f64 = 17.0;
    let mut ends: Vec<(f64, (f64, f64), &Curve)> = curves
        .iter()
        .filter_map(|curve| curve.spots.last().map(|s| (scale.y(s.y), (scale.x(s.x), scale.y(s.y)), *curve)))
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.2.peer.cmp(&b.2.peer)));
    for index in 1..ends.len() {
        ends[index].0 = ends[index].0.max(ends[index - 1].0 + GAP);
    }
    // Too low now: push back up from the bottom.
    let mut limit = BOTTOM + 6.0;
    for end in ends.iter_mut().rev() {
        end.0 = end.0.min(limit);
        limit = end.0 - GAP;
    }
    for (y, tip, curve) in ends {
        let own = curve.peer == MILLRACE;
        svg.open(&curve.look.class, &curve.look.label);
        let start = (tip.0 + 6.0, tip.1);
        svg.line(start, (scale.right + 16.0, y), 1.0, &paint(&curve.look), "1 2");
        svg.line((scale.right + 16.0, y), (scale.right + 30.0, y), 2.6, &paint(&curve.look), curve.look.dash);
        let set = Set::new(13.0, Anchor::Start, if own { ink("accent") } else { ink("ink") });
        let set = if own { set.bold() } else { set };
        let mark = if curve.doubtful { " †" } else { "" };
        svg.text(scale.right + 35.0, y + 4.5, &format!("{}{mark}", curve.look.label), &set);
        svg.close();
    }
}
