//! Bars with whiskers from the lowest to the highest round, and the rounds as dots.

use super::look::{Look, MILLRACE};
use super::model::Value;
use super::number::{figure, ratio, tick};
use super::svg::{Anchor, Set, Svg, ink, paint, width_of};

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) peer: String,
    pub(crate) look: Look,
    /// Follows the label in small: a version.
    pub(crate) note: String,
    pub(crate) value: Value,
    /// Over the reference; nothing for the reference itself.
    pub(crate) ratio: Option<f64>,
    pub(crate) doubtful: bool,
}

/// What surrounds the bars.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) unit: String,
    pub(crate) reference: String,
    /// Larger bars and letters, for the README.
    pub(crate) large: bool,
    /// Under the bars.
    pub(crate) foot: String,
}

/// Width of every plot; GitHub shows a README about 830 wide.
pub(crate) const WIDTH: f64 = 830.0;
const PAD: f64 = 24.0;

struct Sizes {
    row: f64,
    bar: f64,
    text: f64,
    left: f64,
    right: f64,
    top: f64,
    scale: f64,
}

impl Sizes {
    fn x(&self, value: f64) -> f64 {
        self.left + value * self.scale
    }
}

/// Draws bars in the order given.
pub(crate) fn draw(frame: &Frame, bars: &[Bar]) -> Svg {
    let (row, bar, text) = if frame.large { (36.0, 22.0, 14.5) } else { (30.0, 17.0, 13.0) };
    let label = |b: &Bar| width_of(&b.look.label, text * 1.14) + note_width(&b.note, text);
    let left = PAD + 12.0 + bars.iter().map(label).fold(90.0, f64::max).min(300.0);
    let right = WIDTH - PAD - 150.0;
    let highest = bars.iter().map(|b| b.value.high).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let top = if frame.large { 92.0 } else { 84.0 };
    let sizes = Sizes { row, bar, text, left, right, top, scale: (right - left) / highest };
    let mut svg = Svg::new(WIDTH, 0.0, &format!("{}: {}", frame.title, frame.subtitle));
    heading(&mut svg, &frame.title, &frame.subtitle, frame.large);
    let bottom = top + row * bars.len() as f64;
    columns(&mut svg, frame, &sizes);
    axis(&mut svg, &sizes, highest, bottom);
    for (index, bar) in bars.iter().enumerate() {
        one(&mut svg, &sizes, frame, bar, top + row * index as f64);
    }
    let mut height = bottom + 30.0;
    let doubts = bars.iter().any(|b| b.doubtful);
    let doubts = if doubts { "† with a doubt that the report names" } else { "" };
    let foot: Vec<&str> = [frame.foot.as_str(), doubts].into_iter().filter(|t| !t.is_empty()).collect();
    if !foot.is_empty() {
        height += 22.0;
        svg.text(PAD, height - 12.0, &foot.join("  ·  "), &Set::new(11.5, Anchor::Start, ink("muted")));
    }
    svg.set_height(height + 4.0);
    svg
}

/// Title and subtitle at the top left of a plot.
pub(crate) fn heading(svg: &mut Svg, title: &str, subtitle: &str, large: bool) {
    let size = if large { 20.0 } else { 16.0 };
    svg.text(PAD, 20.0 + size, title, &Set::new(size, Anchor::Start, ink("ink")).bold());
    let small = if large { 13.0 } else { 12.5 };
    svg.text(PAD, 39.0 + size, subtitle, &Set::new(small, Anchor::Start, ink("muted")));
}

fn note_width(note: &str, size: f64) -> f64 {
    if note.is_empty() { 0.0 } else { 6.0 + width_of(note, size * 0.85) }
}

fn columns(svg: &mut Svg, frame: &Frame, sizes: &Sizes) {
    let set = Set::new(11.5, Anchor::End, ink("muted"));
    let y = sizes.top - 8.0;
    svg.text(WIDTH - PAD - 78.0, y, &frame.unit, &set);
    if !frame.reference.is_empty() {
        svg.text(WIDTH - PAD, y, &format!("× {}", frame.reference), &set);
    }
}

fn axis(svg: &mut Svg, sizes: &Sizes, highest: f64, bottom: f64) {
    let step = step(highest, 5.0);
    let mut value = 0.0;
    while value <= highest * 1.0001 {
        let x = sizes.x(value);
        svg.line((x, sizes.top), (x, bottom), 1.0, &ink("grid"), "");
        svg.text(x, bottom + 17.0, &tick(value), &Set::new(11.0, Anchor::Middle, ink("muted")));
        value += step;
    }
}

/// 1, 2 or 5 times a power of ten, so that about `count` steps reach `highest`.
pub(crate) fn step(highest: f64, count: f64) -> f64 {
    let rough = highest.max(f64::MIN_POSITIVE) / count;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

fn one(svg: &mut Svg, sizes: &Sizes, frame: &Frame, bar: &Bar, top: f64) {
    let own = bar.peer == MILLRACE || (bar.peer == "floor" && frame.reference == "floor");
    let (value, text, middle) = (&bar.value, sizes.text, top + sizes.row / 2.0);
    let rounds: Vec<String> = value.samples.iter().map(|s| figure(*s)).collect();
    let label = &bar.look.label;
    svg.open(&bar.look.class, &format!("{label}: rounds {} {}", rounds.join(", "), frame.unit));
    let base = middle + text * 0.36;
    let name = Set::new(text, Anchor::End, if own { ink("accent") } else { ink("ink") });
    let name = if own { name.bold() } else { name };
    svg.text(sizes.left - 12.0 - note_width(&bar.note, text), base, label, &name);
    if !bar.note.is_empty() {
        svg.text(sizes.left - 12.0, base, &bar.note, &Set::new(text * 0.82, Anchor::End, ink("muted")));
    }
    let fill = paint(&bar.look);
    let corner = (sizes.left, middle - sizes.bar / 2.0);
    svg.bar(corner, (value.median * sizes.scale, sizes.bar), 3.0, &fill);
    if value.samples.len() > 1 {
        spread(svg, sizes, value, middle);
    }
    let figures = Set::new(text, Anchor::End, ink("ink"));
    let strong = if own { figures.clone().bold() } else { figures };
    let mark = if bar.doubtful { " †" } else { "" };
    svg.text(WIDTH - PAD - 78.0, base, &format!("{}{mark}", figure(value.median)), &strong);
    let times = bar.ratio.map_or(String::new(), ratio);
    svg.text(WIDTH - PAD, base, &times, &Set::new(text, Anchor::End, ink("muted")));
    svg.close();
}

fn spread(svg: &mut Svg, sizes: &Sizes, value: &Value, middle: f64) {
    let (low, high) = (sizes.x(value.low), sizes.x(value.high).min(sizes.right));
    let half = sizes.bar * 0.24;
    svg.line((low, middle), (high, middle), 1.1, &ink("ink"), "");
    for x in [low, high] {
        svg.line((x, middle - half), (x, middle + half), 1.1, &ink("ink"), "");
    }
    for (index, sample) in value.samples.iter().enumerate() {
        // Apart from each other, so that equal rounds are all seen.
        let lane = [-2.0, 1.0, -1.0, 2.0, 0.0][index % 5] * sizes.bar / 6.0;
        svg.dot(sizes.x(*sample), middle + lane, 2.2, &ink("ink"), &ink("card"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert!((step(128.0, 5.0) - 50.0).abs() < 1e-9);
        assert!((step(0.9, 5.0) - 0.2).abs() < 1e-9);
        assert!((step(100.0, 5.0) - 20.0).abs() < 1e-9);
    }
}
