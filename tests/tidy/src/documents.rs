//! Rules that keep the documents true to the code.

use std::collections::BTreeSet;

use crate::style::pattern;
use crate::{Repository, Result};

/// `docs/limits.md` names every field of `millrace_base::Limits`.
pub fn limits_are_documented(repository: &Repository) -> Vec<String> {
    let document = repository.text("docs/limits.md");
    let code = repository.text("dataplane/base/src/limits.rs");
    let body = code.split_once("pub struct Limits {").map_or("", |(_, rest)| rest);
    let body = body.split("\n}").next().unwrap_or_default();
    let field = pattern(r"(?m)^\s*pub (\w+):");
    let fields: Vec<&str> = field.captures_iter(body).filter_map(|c| c.get(1)).map(|m| m.as_str()).collect();
    let mut complaints = Vec::new();
    if fields.is_empty() {
        complaints.push("dataplane/base/src/limits.rs: no field of Limits was found".to_owned());
    }
    for field in fields {
        let Some(row) = document.lines().find(|line| line.starts_with(&format!("| `{field}` |"))) else {
            complaints.push(format!("docs/limits.md: does not say what happens at `{field}`"));
            continue;
        };
        let figure = figure(&code, field);
        if row.split('|').nth(2).map(str::trim) != figure.as_deref() {
            complaints.push(format!("docs/limits.md: `{field}` is {figure:?} in the code"));
        }
    }
    complaints
}

/// The default of a field as the document spells it: `60 KiB`, `15 s`, `100,000`.
fn figure(code: &str, field: &str) -> Option<String> {
    let (_, defaults) = code.split_once("DEFAULT: Self = Self {")?;
    let (_, value) = defaults.split_once(&format!("{field}: "))?;
    let value = value.split(",\n").next()?;
    if let Some(seconds) = value.strip_prefix("Duration::from_secs(") {
        return Some(format!("{} s", seconds.trim_end_matches(')')));
    }
    let factors = value.split(" * ").map(|factor| factor.replace('_', "").parse::<u64>());
    let number = factors.product::<std::result::Result<u64, _>>().ok()?;
    Some(match number {
        n if field.contains("bytes") && n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
        n if field.contains("bytes") && n.is_multiple_of(1 << 10) => format!("{} KiB", n >> 10),
        n if n >= 1000 => format!("{},{:03}", n / 1000, n % 1000),
        n => n.to_string(),
    })
}

/// `docs/metrics.md` names every metric that `observe` declares.
pub fn metrics_are_documented(repository: &Repository) -> Vec<String> {
    let document = repository.text("docs/metrics.md");
    let name = pattern(r#"=\s*(?:counter|gauge|histogram)?\s*"([a-z][a-z0-9_.]*)""#);
    let mut complaints = Vec::new();
    let mut declared = 0;
    let tables =
        repository.sources.iter().filter(|s| s.path.starts_with("dataplane/observe/src/stats/tables/"));
    for source in tables {
        for capture in source
            .text
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"))
            .flat_map(|l| name.captures_iter(l))
        {
            let metric = &capture[1];
            declared += 1;
            if !document.contains(metric) {
                complaints.push(format!("docs/metrics.md: lacks `{metric}` ({})", source.path));
            }
        }
    }
    if declared == 0 {
        complaints.push("no metric was found in dataplane/observe/src/stats/tables".to_owned());
    }
    complaints
}

/// Paths and `crate::Symbol`s in backticks exist.
pub fn documents_name_what_exists(repository: &Repository) -> Result<Vec<String>> {
    let quoted = pattern(r"`([^`\n]+)`");
    let path = pattern(r"^(?:dataplane|control-client|tests|perf|docs|benches|\.ci)/[A-Za-z0-9_./-]+$");
    let symbol = pattern(r"^([a-z][a-z0-9_]*)((?:::[A-Za-z_][A-Za-z0-9_]*)+)(?:\(\))?$");
    let word = pattern(r"\b[A-Za-z_][A-Za-z0-9_]*\b");
    let mut complaints = Vec::new();
    let packages = repository.packages();
    for (document, text) in repository.documents()? {
        for capture in quoted.captures_iter(&text) {
            let name = &capture[1];
            if path.is_match(name) && !repository.root.join(name).exists() {
                complaints.push(format!("{document}: `{name}` does not exist"));
            }
            let Some(parts) = symbol.captures(name) else { continue };
            let room = parts[1].trim_start_matches("millrace_");
            let Some((_, directory, _)) = packages.iter().find(|(_, d, _)| d.ends_with(&format!("/{room}")))
            else {
                continue;
            };
            let prefix = format!("{directory}/src/");
            let files = repository.sources.iter().filter(|s| s.path.starts_with(&prefix));
            let known: BTreeSet<&str> = files
                .flat_map(|s| s.lines.iter())
                .flat_map(|line| word.find_iter(&line.code).map(|found| found.as_str()))
                .collect();
            if let Some(last) =
                parts[2].split("::").filter(|part| !part.is_empty()).find(|part| !known.contains(part))
            {
                complaints.push(format!("{document}: `{name}`: {directory} has no `{last}`"));
            }
        }
    }
    Ok(complaints)
}

/// The README shows two commands, to try the proxy and to test it; CI runs the latter as it is written there.
pub fn readme_and_ci(repository: &Repository) -> Vec<String> {
    let readme = repository.text("README.md");
    let mut commands = Vec::new();
    for block in readme.split("```").skip(1).step_by(2) {
        let lines =
            block.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        commands.extend(lines.map(|line| line.trim_start_matches("$ ").to_owned()));
    }
    let mut complaints = Vec::new();
    if commands.len() < 2 {
        complaints.push("README.md: shows fewer than two commands in code blocks".to_owned());
    }
    let ci = repository.text(".ci/run");
    match commands.iter().find(|command| command.starts_with("cargo test")) {
        None => complaints.push("README.md: shows no `cargo test` command".to_owned()),
        Some(test) if !ci.lines().any(|line| line.trim_end().ends_with(test.as_str())) => {
            complaints.push(format!(".ci/run: does not run the README's `{test}`"));
        }
        Some(_) => {}
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_spelled_as_in_the_document() {
        let code =
            "DEFAULT: Self = Self {\n a_bytes: 60 * 1024,\n b: 100_000,\n c: Duration::from_secs(15),\n};";
        let spelled = ["a_bytes", "b", "c", "d"].map(|field| figure(code, field));
        assert_eq!(spelled, [Some("60 KiB".into()), Some("100,000".into()), Some("15 s".into()), None]);
    }
}
