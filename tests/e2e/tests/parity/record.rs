//! `tests/e2e/parity.tsv`: what each subject said, one figure a line.
//!
//! Columns: area, feature, requests, figure, Envoy's, millrace's (`-` where it has none), and why they differ.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use millrace_support::subject::Subject;

use super::run::Sheet;
use super::{Feature, features};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/parity.tsv");
const HEAD: &str = "# What Envoy 1.40 and millrace say after the same traffic; written by tests/e2e/tests/parity (MILLRACE_RECORD=1).\n\
                    # area\tfeature\trequests\tfigure\tenvoy\tmillrace\twhy they differ\n";
const NONE: &str = "-";

/// One writer at a time: cases run side by side.
static FILE: Mutex<()> = Mutex::new(());

/// Both subjects' figures of one feature.
type Pair = BTreeMap<String, [String; 2]>;

pub(super) fn check(subject: &Subject, feature: &'static Feature, sheet: &Sheet) {
    let column = usize::from(!subject.is_envoy());
    if std::env::var_os("MILLRACE_RECORD").is_some() {
        record(feature, column, sheet);
    }
    let recorded = read().remove(feature.name).unwrap_or_default();
    assert!(!recorded.is_empty(), "nothing is recorded of {}: run with MILLRACE_RECORD=1", feature.name);
    let mut wrong = Vec::new();
    let mut names: Vec<&String> = recorded.keys().chain(sheet.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let said = sheet.get(name).map_or(NONE, String::as_str);
        let none = || [NONE.to_owned(), NONE.to_owned()];
        let [envoy, millrace] = recorded.get(name).cloned().unwrap_or_else(none);
        let own = if column == 0 { &envoy } else { &millrace };
        if !alike(feature, name, said, own) {
            wrong.push(format!("{name}: {said}, recorded {own}"));
        }
        let explained = feature.differs.iter().any(|(figure, _)| figure == name);
        if column == 1 && !explained && !alike(feature, name, said, &envoy) {
            wrong.push(format!("{name}: {said}, Envoy says {envoy}"));
        }
    }
    assert!(wrong.is_empty(), "{} ({})\n{}", feature.name, subject.kind, wrong.join("\n"));
}

/// The same, or as near as chance has it.
fn alike(feature: &Feature, name: &str, left: &str, right: &str) -> bool {
    if left == right {
        return true;
    }
    let listed =
        |entry: &&str| entry.strip_suffix('*').map_or(name == *entry, |start| name.starts_with(start));
    let by_chance = name.starts_with("requests of endpoint") || feature.by_chance.iter().any(listed);
    if feature.chance == 0.0 || !by_chance {
        return false;
    }
    let (Some(left), Some(right)) = (sum(left), sum(right)) else { return false };
    left.abs_diff(right) as f64 <= feature.chance * f64::from(feature.traffic.requests)
}

/// The number, or the count of the first value of a tally.
fn sum(value: &str) -> Option<u64> {
    let first = value.split(", ").next()?;
    first.rsplit_once(" x").map_or(first, |(_, count)| count).parse().ok().or((value == NONE).then_some(0))
}

fn read() -> BTreeMap<String, Pair> {
    let _one = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    parse()
}

fn parse() -> BTreeMap<String, Pair> {
    let text = std::fs::read_to_string(PATH).unwrap_or_default();
    let mut all = BTreeMap::<String, Pair>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t').map(str::to_owned);
        let (Some(feature), Some(figure)) = (columns.nth(1), columns.nth(1)) else { continue };
        let mut next = || columns.next().unwrap_or_else(|| NONE.to_owned());
        all.entry(feature).or_default().insert(figure, [next(), next()]);
    }
    all
}

/// Writes one column of one feature; the file is in the order of the features.
fn record(feature: &'static Feature, column: usize, sheet: &Sheet) {
    let _one = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = parse();
    let pair = all.entry(feature.name.to_owned()).or_default();
    pair.values_mut().for_each(|both| both[column] = NONE.to_owned());
    for (name, value) in sheet {
        pair.entry(name.clone()).or_insert_with(|| [NONE.to_owned(), NONE.to_owned()])[column]
            .clone_from(value);
    }
    pair.retain(|_, both| both.iter().any(|value| value != NONE));
    let mut out = HEAD.to_owned();
    for feature in features() {
        let Some(pair) = all.get(feature.name) else { continue };
        for (name, [envoy, millrace]) in pair {
            let why = feature.differs.iter().find(|(figure, _)| figure == name).map_or("", |(_, why)| why);
            let (area, requests) = (feature.area, feature.traffic.requests);
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{area}\t{}\t{requests}\t{name}\t{envoy}\t{millrace}\t{why}", feature.name);
        }
    }
    std::fs::write(PATH, out).expect("write the record");
}
