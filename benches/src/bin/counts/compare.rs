//! Figures against a baseline: what got worse, what got better, what is excused.

use std::fmt::Write as _;

use crate::baseline::Figures;
use crate::excuse::{Excuse, excused};

/// What a figure may grow by, percent.
const TOLERANCE_PERCENT: f64 = 3.0;
/// And what it may grow by in any case: one instruction of a dozen is above three percent, and no news.
const TOLERANCE_INSTRUCTIONS: f64 = 2.0;

/// What became of a bench.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Within the tolerance.
    Same,
    /// Fewer instructions, beyond the tolerance.
    Better,
    /// More of them, and nobody says why.
    Worse,
    /// More of them, for this reason.
    Excused(String),
    /// Not in the baseline.
    New,
    /// Only in the baseline.
    Gone,
}

/// One line of the comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The bench.
    pub name: String,
    /// Instructions in the baseline.
    pub before: Option<f64>,
    /// Instructions now.
    pub now: Option<f64>,
    /// What became of it.
    pub verdict: Verdict,
}

/// Compares, by name.
pub fn compare(before: &Figures, now: &Figures, excuses: &[Excuse]) -> Vec<Row> {
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let row = |name: &String| {
        let (old, new) = (before.get(name).copied(), now.get(name).copied());
        let verdict = match (old, new) {
            (None, _) => Verdict::New,
            (_, None) => Verdict::Gone,
            (Some(old), Some(new)) if is_beyond(old, new) => match excused(name, excuses) {
                Some(reason) => Verdict::Excused(reason.to_owned()),
                None => Verdict::Worse,
            },
            (Some(old), Some(new)) if is_beyond(new, old) => Verdict::Better,
            _ => Verdict::Same,
        };
        Row { name: name.clone(), before: old, now: new, verdict }
    };
    names.into_iter().map(row).collect()
}

fn is_beyond(small: f64, large: f64) -> bool {
    large > small * (1.0 + TOLERANCE_PERCENT / 100.0) && large - small >= TOLERANCE_INSTRUCTIONS
}

/// The table as it is printed.
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = format!("{:width$} {:>10} {:>10} {:>8}\n", "bench", "baseline", "now", "ratio");
    let number = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |f| format!("{f:.1}"));
    for row in rows {
        let ratio = row.before.zip(row.now).map_or_else(|| "-".to_owned(), |(b, n)| format!("{:.3}", n / b));
        let note = match &row.verdict {
            Verdict::Same => String::new(),
            Verdict::Better => "  better: bless it".to_owned(),
            Verdict::Worse => "  WORSE".to_owned(),
            Verdict::Excused(reason) => format!("  worse, excused: {reason}"),
            Verdict::New => "  new: bless it".to_owned(),
            Verdict::Gone => "  gone: bless it".to_owned(),
        };
        let (before, now) = (number(row.before), number(row.now));
        let _ = writeln!(text, "{:width$} {before:>10} {now:>10} {ratio:>8}{note}", row.name);
    }
    text
}

/// Names of the benches with this verdict.
pub fn with(rows: &[Row], wanted: &Verdict) -> Vec<String> {
    rows.iter().filter(|row| row.verdict == *wanted).map(|row| row.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(list: &[(&str, f64)]) -> Figures {
        list.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect()
    }

    fn verdict(before: f64, now: f64) -> Verdict {
        compare(&figures(&[("a", before)]), &figures(&[("a", now)]), &[]).remove(0).verdict
    }

    #[test]
    fn three_percent_are_tolerated() {
        assert_eq!(verdict(1000.0, 1030.0), Verdict::Same);
        assert_eq!(verdict(1000.0, 1031.0), Verdict::Worse);
        assert_eq!(verdict(1031.0, 1000.0), Verdict::Better);
        assert_eq!(verdict(1030.0, 1000.0), Verdict::Same);
        assert_eq!(verdict(10.0, 11.0), Verdict::Same, "one instruction is no news");
        assert_eq!(verdict(10.0, 12.0), Verdict::Worse);
    }

    #[test]
    fn excuses_cover_what_they_name() {
        let before = figures(&[("a/one", 100.0), ("b/two", 100.0), ("c/gone", 1.0)]);
        let now = figures(&[("a/one", 200.0), ("b/two", 200.0), ("d/new", 1.0)]);
        let excuses = [Excuse { bench: "a/one".into(), reason: "checks more".into() }];
        let rows = compare(&before, &now, &excuses);
        let verdicts: Vec<_> = rows.iter().map(|row| row.verdict.clone()).collect();
        let excuse = Verdict::Excused("checks more".into());
        assert_eq!(verdicts, [excuse, Verdict::Worse, Verdict::Gone, Verdict::New]);
        assert_eq!(with(&rows, &Verdict::Worse), ["b/two"]);
        let text = table(&rows);
        assert!(text.contains("2.000  WORSE") && text.contains("excused: checks more"), "{text}");
    }
}
