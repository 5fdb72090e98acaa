//! Tables of expected verdicts: one tab-separated line per case with its id, our verdict, what the corpus expects,
//! and, where the two differ, the reason.
//!
//! `MILLRACE_BLESS=1` rewrites a table from what the code does and keeps the reasons; the diff is then reviewed like
//! code. A case without a line, a line without a case and a difference without a reason all fail.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// What a corpus wants to happen to a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The message is good.
    Accept,
    /// The message must be refused.
    Reject,
    /// Either is fine.
    Either,
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Either => "either",
        }
    }
}

/// The outcome of one case.
#[derive(Clone, Debug)]
pub struct Case {
    id: String,
    verdict: String,
    wanted: String,
    differs: bool,
}

impl Case {
    /// A case that the corpus wants accepted or refused. `id` is unique within the table.
    pub fn judged(id: impl Into<String>, verdict: impl Into<String>, accepted: bool, wanted: Wanted) -> Self {
        let differs = match wanted {
            Wanted::Accept => !accepted,
            Wanted::Reject => accepted,
            Wanted::Either => false,
        };
        Self { id: id.into(), verdict: verdict.into(), wanted: wanted.name().into(), differs }
    }

    /// A case whose result the corpus spells out.
    pub fn exact(id: impl Into<String>, verdict: impl Into<String>, wanted: impl Into<String>) -> Self {
        let (verdict, wanted) = (verdict.into(), wanted.into());
        Self { id: id.into(), differs: verdict != wanted, verdict, wanted }
    }
}

/// Compares the outcomes with `verdicts/<name>.tsv` and returns the number of cases.
///
/// # Panics
/// With all differences at once, when there are any.
pub fn check(name: &str, cases: &[Case]) -> usize {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("verdicts").join(format!("{name}.tsv"));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let mut rows: BTreeMap<&str, Vec<&str>> =
        text.lines().map(|l| l.split('\t').collect::<Vec<_>>()).map(|c| (c[0], c)).collect();
    let (mut wrong, mut blessed) = (String::new(), String::new());
    for case in cases {
        let row = rows.remove(case.id.as_str()).unwrap_or_default();
        let reason = row.get(3).copied().unwrap_or_default();
        let reason = if case.differs { reason } else { "" };
        let line = format!("{}\t{}\t{}\t{reason}", case.id, case.verdict, case.wanted);
        _ = writeln!(blessed, "{line}");
        if row.join("\t") != line {
            _ = writeln!(wrong, "now      {line}\nexpected {}", row.join("\t"));
        } else if case.differs && reason.is_empty() {
            _ = writeln!(wrong, "no reason for the difference: {line}");
        }
    }
    for id in rows.keys() {
        _ = writeln!(wrong, "no such case: {id}");
    }
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        std::fs::write(&path, blessed).expect("the table can be written");
    } else {
        assert!(wrong.is_empty(), "{name}: verdicts changed (MILLRACE_BLESS=1 rewrites the table)\n{wrong}");
    }
    cases.len()
}
