//! A small SVG writer of our own: the plots need text in the reader's fonts, class names that turn dark with the
//! page and one width for GitHub, which the plotting libraries (fixed colours, no style sheet) do not give.
//! The same calls write the same octets.

use std::fmt::Write as _;

use super::look::{INKS, Look, dark_style};

/// First line of every file, by which old ones are known.
pub(crate) const MARK: &str = "<!-- written by perf report -->";

const FONT: &str = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif";

/// A colour that has a light and a dark form.
#[derive(Clone, Debug)]
pub(crate) struct Paint {
    class: String,
    light: &'static str,
}

/// One of `look::INKS`.
pub(crate) fn ink(name: &str) -> Paint {
    let light = INKS.iter().find(|(n, _, _)| *n == name).map_or("#000000", |(_, light, _)| light);
    Paint { class: name.to_owned(), light }
}

/// A peer's colour.
pub(crate) fn paint(look: &Look) -> Paint {
    Paint { class: look.class.clone(), light: look.light }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text is set.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) size: f64,
    pub(crate) anchor: Anchor,
    pub(crate) bold: bool,
    pub(crate) paint: Paint,
}

impl Set {
    pub(crate) fn new(size: f64, anchor: Anchor, paint: Paint) -> Self {
        Self { size, anchor, bold: false, paint }
    }

    pub(crate) fn bold(mut self) -> Self {
        self.bold = true;
        self
    }
}

/// A drawing of a given size.
pub(crate) struct Svg {
    width: f64,
    height: f64,
    body: String,
    title: String,
}

/// A coordinate: one decimal, never "-0".
fn at(value: f64) -> String {
    let text = format!("{:.1}", if value.abs() < 0.05 { 0.0 } else { value });
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// About how wide a text gets; fonts differ.
pub(crate) fn width_of(text: &str, size: f64) -> f64 {
    let units: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | 'I' | '.' | ',' | '\'' | '|' | ':' | ' ' | '(' | ')' | 't' | 'f' | 'r' => 0.34,
            'm' | 'w' | 'M' | 'W' => 0.85,
            c if c.is_ascii_uppercase() => 0.66,
            _ => 0.56,
        })
        .sum();
    units * size
}

impl Svg {
    pub(crate) fn new(width: f64, height: f64, title: &str) -> Self {
        Self { width, height, body: String::new(), title: title.to_owned() }
    }

    pub(crate) fn set_height(&mut self, height: f64) {
        self.height = height;
    }

    /// What follows belongs to one peer, until `close`; `tip` shows where the pointer rests.
    pub(crate) fn open(&mut self, class: &str, tip: &str) {
        let _ = write!(self.body, "<g class=\"{}\"><title>{}</title>", escape(class), escape(tip));
    }

    pub(crate) fn close(&mut self) {
        self.body.push_str("</g>\n");
    }

    pub(crate) fn text(&mut self, x: f64, y: f64, text: &str, set: &Set) {
        let anchor = match set.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if set.bold { " font-weight=\"650\"" } else { "" };
        let (class, light) = (&set.paint.class, set.paint.light);
        let (x, y, size, text) = (at(x), at(y), at(set.size), escape(text));
        let _ = writeln!(
            self.body,
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{anchor}{weight} class=\"f-{class}\" fill=\"{light}\">{text}</text>"
        );
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, paint: &Paint, dash: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            "<path d=\"M{} {}L{} {}\" fill=\"none\" stroke-width=\"{width}\"{} class=\"s-{}\" stroke=\"{}\"/>",
            at(x1),
            at(y1),
            at(x2),
            at(y2),
            dashes(dash),
            paint.class,
            paint.light
        );
    }

    pub(crate) fn curve(&mut self, points: &[(f64, f64)], width: f64, paint: &Paint, dash: &str) {
        let path = path(points);
        let _ = writeln!(
            self.body,
            "<path d=\"{path}\" fill=\"none\" stroke-width=\"{width}\" stroke-linejoin=\"round\" stroke-linecap=\"round\"{} class=\"s-{}\" stroke=\"{}\"/>",
            dashes(dash),
            paint.class,
            paint.light
        );
    }

    /// A closed area.
    pub(crate) fn area(&mut self, points: &[(f64, f64)], opacity: f64, paint: &Paint) {
        let path = path(points);
        let _ = writeln!(
            self.body,
            "<path d=\"{path}Z\" opacity=\"{opacity}\" class=\"f-{}\" fill=\"{}\"/>",
            paint.class, paint.light
        );
    }

    pub(crate) fn bar(&mut self, corner: (f64, f64), size: (f64, f64), radius: f64, paint: &Paint) {
        let ((x, y), (w, h)) = (corner, size);
        let _ = writeln!(
            self.body,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\" class=\"f-{}\" fill=\"{}\"/>",
            at(x),
            at(y),
            at(w.max(0.5)),
            at(h),
            at(radius),
            paint.class,
            paint.light
        );
    }

    /// A filled dot with a rim in the colour of the ground.
    pub(crate) fn dot(&mut self, x: f64, y: f64, radius: f64, paint: &Paint, rim: &Paint) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" class=\"f-{} s-{}\" fill=\"{}\" stroke=\"{}\" stroke-width=\"1\"/>",
            at(x),
            at(y),
            paint.class,
            rim.class,
            paint.light,
            rim.light
        );
    }

    fn open_tag(&self) -> String {
        let (w, h) = (at(self.width), at(self.height));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" aria-label=\"{}\" font-family=\"{FONT}\">",
            escape(&self.title)
        )
    }

    /// Inside the page, which brings the style and the ground.
    pub(crate) fn inline(&self) -> String {
        format!("{}\n{}</svg>", self.open_tag(), self.body)
    }

    /// A file that stands alone, on a card of its own in light and dark.
    pub(crate) fn file<'a>(&self, peers: impl Iterator<Item = &'a str>) -> String {
        let (card, edge) = (ink("card"), ink("edge"));
        let ground = format!(
            "<rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"10\" class=\"f-card s-edge\" fill=\"{}\" stroke=\"{}\"/>",
            at(self.width - 1.0),
            at(self.height - 1.0),
            card.light,
            edge.light
        );
        let style = format!("<style>{}</style>", dark_style(peers));
        format!("{MARK}\n{}\n{style}\n{ground}\n{}</svg>\n", self.open_tag(), self.body)
    }
}

fn dashes(dash: &str) -> String {
    if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") }
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{} {}", if index == 0 { "M" } else { "L" }, at(*x), at(*y));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_coordinates_short() {
        let mut svg = Svg::new(10.0, 10.0, "a \"b\" <c>");
        svg.text(0.04, 3.25, "x < y & z", &Set::new(12.0, Anchor::End, ink("ink")));
        let text = svg.inline();
        assert!(
            text.contains("x &lt; y &amp; z") && text.contains("aria-label=\"a &quot;b&quot; &lt;c&gt;\"")
        );
        assert!(text.contains("x=\"0\" y=\"3.2\""), "{text}");
    }
}
