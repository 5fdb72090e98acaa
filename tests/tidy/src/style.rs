//! Rules about single files.

use std::collections::BTreeMap;

use regex::Regex;

use crate::layering::SANS_IO;
use crate::{Repository, Source};

/// Above this a file needs an entry in `ratchet.txt`.
const SOFT_LINES: usize = 500;
/// Above this nothing helps.
const HARD_LINES: usize = 800;

/// Files of core crates that belong to another thread than a shard's, with what they may hold and why.
const EXEMPT: &[(&str, &str, &str)] = &[(
    "dataplane/observe/src/access_log/writer.rs",
    "std::fs",
    "the control thread's end of the access log",
)];

/// `unsafe` stands in `dataplane/ring` only.
pub fn unsafe_stays_in_ring(repository: &Repository) -> Vec<String> {
    let word = pattern(r"\bunsafe\b");
    let elsewhere = repository.sources.iter().filter(|s| !s.path.starts_with("dataplane/ring/"));
    each_line(elsewhere, |line| word.is_match(&line.code), "unsafe code belongs in dataplane/ring")
}

/// The shard and the rooms below it take time, files and sockets from outside, never sleep, and never walk a
/// map whose order differs from run to run.
pub fn core_crates_stay_pure(repository: &Repository) -> Vec<String> {
    let impure = pattern(
        r"\b(Instant|SystemTime)::now\b|\bstd::fs\b|\bthread::sleep\b|\b(Tcp(Stream|Listener)|UdpSocket|Unix(Stream|Listener|Datagram))\b",
    );
    let declared = pattern(
        r"\b(\w+)\s*:\s*(?:&\s*(?:mut\s+)?)?Hash(?:Map|Set)\s*<|let\s+(?:mut\s+)?(\w+)\s*=\s*Hash(?:Map|Set)::",
    );
    let mut complaints = Vec::new();
    let core = |s: &&Source| {
        SANS_IO.iter().any(|room| s.path.starts_with(&format!("{room}/src/")))
            || s.path.starts_with("dataplane/shard/src/")
    };
    for source in repository.sources.iter().filter(core) {
        let maps: Vec<&str> = source
            .product()
            .flat_map(|(_, line)| declared.captures_iter(&line.code))
            .filter_map(|c| c.get(1).or(c.get(2)).map(|m| m.as_str()))
            .collect();
        for (number, line) in source.product() {
            let found = impure.find(&line.code);
            if let Some(found) = found.filter(|f| !exempt(&source.path, f.as_str())) {
                complaints.push(at(source, number, &format!("`{}` in a core crate", found.as_str())));
            }
            if maps.iter().any(|name| walks(&line.code, name)) {
                complaints.push(at(source, number, "walks a hash map: sort, or use a BTreeMap or Vec"));
            }
        }
    }
    complaints
}

fn exempt(path: &str, what: &str) -> bool {
    EXEMPT.iter().any(|(file, allowed, _reason)| *file == path && *allowed == what)
}

fn walks(code: &str, map: &str) -> bool {
    const CALLS: [&str; 9] = [
        ".iter()",
        ".iter_mut()",
        ".into_iter()",
        ".keys()",
        ".values()",
        ".values_mut()",
        ".into_values()",
        ".into_keys()",
        ".drain(",
    ];
    let named = |end: usize| !code[..end].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let call = code
        .match_indices(map)
        .any(|(from, _)| named(from) && CALLS.iter().any(|call| code[from + map.len()..].starts_with(call)));
    let looped = code.split_once(" in ").is_some_and(|(before, after)| {
        let subject =
            after.trim_start_matches(['&', ' ']).trim_start_matches("mut ").trim_start_matches("self.");
        before.trim_start().starts_with("for ")
            && subject.strip_prefix(map).is_some_and(|rest| rest.starts_with([' ', '{']) || rest.is_empty())
    });
    call || looped
}

/// No file is longer than it was when it was last agreed to be long.
pub fn file_lengths(repository: &Repository) -> Vec<String> {
    let mut agreed: BTreeMap<String, usize> = BTreeMap::new();
    for line in repository.text("tests/tidy/ratchet.txt").lines().filter(|l| !l.starts_with('#')) {
        if let Some((lines, path)) = line.split_once(' ') {
            agreed.insert(path.trim().to_owned(), lines.parse().unwrap_or(0));
        }
    }
    let mut complaints = Vec::new();
    for source in &repository.sources {
        let lines = source.text.lines().count();
        let limit = agreed.remove(&source.path).unwrap_or(SOFT_LINES);
        if lines > limit.min(HARD_LINES) {
            complaints.push(format!("{}: {lines} lines, {limit} agreed; split it by role", source.path));
        } else if limit > SOFT_LINES && lines < limit {
            complaints.push(format!(
                "{}: only {lines} lines now; lower or remove its entry in tests/tidy/ratchet.txt",
                source.path
            ));
        }
    }
    complaints.extend(agreed.keys().map(|path| format!("{path}: in tests/tidy/ratchet.txt but gone")));
    complaints
}

/// A file opens with what it owns.
pub fn modules_say_what_they_own(repository: &Repository) -> Vec<String> {
    let silent = |s: &&Source| !s.text.starts_with("//!") && !s.text.starts_with("#!");
    repository
        .sources
        .iter()
        .filter(silent)
        .map(|s| format!("{}: does not open with `//!`", s.path))
        .collect()
}

/// No unfinished work and no check switched off without a reason beside it.
pub fn markers(repository: &Repository) -> Vec<String> {
    let unfinished = pattern(r"\b(todo|unimplemented)!|#\[ignore\b");
    // Spelled in halves, so that this file does not hold the words.
    let words = pattern(&["\\b(FIX", "ME|XX", "X|TO", "DO|HA", "CK)\\b"].concat());
    let silenced = pattern(r"\ballow\((dead_code|unused|clippy)");
    let mut complaints = Vec::new();
    for source in &repository.sources {
        for (index, line) in source.lines.iter().enumerate() {
            let mut complain = |what: &str| complaints.push(at(source, index + 1, what));
            if unfinished.is_match(&line.code) && !runs_in_child(source, index) {
                complain("unfinished or ignored");
            }
            if words.is_match(&line.comment) {
                complain("a note of unfinished work: do it, or open an issue");
            }
            let reason_above = index > 0 && !source.lines[index - 1].comment.trim().is_empty();
            if silenced.is_match(&line.code)
                && line.comment.trim().is_empty()
                && !line.code.contains("reason =")
                && !reason_above
            {
                complain("a lint is switched off without a reason beside it");
            }
        }
    }
    complaints
}

/// The one good reason to ignore a test: another test of the file, named in the reason, runs it in a process
/// of its own.
fn runs_in_child(source: &Source, index: usize) -> bool {
    let raw = source.text.lines().nth(index).unwrap_or_default();
    let parent = raw.split_once("started by ").map_or("", |(_, rest)| rest.trim_end_matches("\"]"));
    !parent.is_empty() && source.text.contains(&format!("fn {parent}()"))
}

/// A test that skips without the corpora must fail without them where `CI=true`.
pub fn corpora_are_required_in_ci(repository: &Repository) -> Vec<String> {
    let directory = ["shared", "/corpora"].concat();
    let reads = |s: &&Source| {
        s.lines
            .iter()
            .zip(s.text.lines())
            .any(|(line, raw)| raw.contains(&directory) && !line.comment.contains(&directory))
    };
    let honours = |s: &&Source| s.text.contains("\"CI\"");
    let silent = repository.sources.iter().filter(reads).filter(|s| !honours(s));
    silent
        .map(|s| format!("{}: reads {directory} but does not fail without it when CI=true", s.path))
        .collect()
}

fn each_line<'a>(
    sources: impl Iterator<Item = &'a Source>,
    wrong: impl Fn(&crate::Line) -> bool,
    what: &str,
) -> Vec<String> {
    sources
        .flat_map(|s| s.lines.iter().enumerate().map(move |(index, line)| (s, index + 1, line)))
        .filter(|(_, _, line)| wrong(line))
        .map(|(source, number, _)| at(source, number, what))
        .collect()
}

fn at(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", source.path)
}

/// The patterns are literals of this crate; one that does not compile matches nothing and fails the unit test.
pub(crate) fn pattern(text: &str) -> Regex {
    match Regex::new(text) {
        Ok(regex) => regex,
        Err(error) => unreachable!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walking_a_map_is_told_from_looking_up() {
        assert!(walks("for (k, v) in &self.hosts {", "hosts"));
        assert!(walks("let n = hosts.values().count();", "hosts"));
        assert!(!walks("let n = hosts.get(&k);", "hosts"));
        assert!(!walks("for h in my_hosts.iter() {", "hosts"));
    }

    #[test]
    fn complaints_name_the_line() {
        let text = "//! x\nfn f() { unsafe { g() } }\n// TO\u{44}O later\n#[allow(clippy::all)]\nfn h() {}\n";
        let source = Source::new("dataplane/base/src/a.rs".to_owned(), text.to_owned());
        let repository =
            Repository { root: "/".into(), sources: vec![source], metadata: serde_json::Value::Null };
        assert_eq!(unsafe_stays_in_ring(&repository).len(), 1);
        assert!(unsafe_stays_in_ring(&repository)[0].starts_with("dataplane/base/src/a.rs:2:"));
        assert_eq!(markers(&repository).len(), 1, "the comment above the lint counts as its reason");
        assert!(modules_say_what_they_own(&repository).is_empty());
    }
}
