//! Rules about manifests, licences and the top of the tree. `deny.toml` is the list that `cargo deny` would
//! read; checking it here costs milliseconds where building `cargo-deny` costs minutes of every run.

use std::collections::BTreeSet;

use crate::{Repository, Result};

const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "dataplane",
    "control-client",
    "tests",
    "perf",
    "docs",
    "benches",
];

/// The top of the tree holds what the architecture names, and nothing else but dotfiles.
pub fn top_level(repository: &Repository) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    let mut missing: BTreeSet<&str> = TOP_LEVEL.iter().copied().filter(|name| *name != "benches").collect();
    for entry in std::fs::read_dir(&repository.root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        missing.remove(name.as_str());
        if !name.starts_with('.') && name != "target" && !TOP_LEVEL.contains(&name.as_str()) {
            complaints.push(format!("{name}: does not belong at the top level"));
        }
    }
    complaints.extend(missing.iter().map(|name| format!("{name}: missing at the top level")));
    Ok(complaints)
}

/// Every crate takes the workspace's lints; `ring` restates them because it may hold unsafe code.
pub fn lints_are_inherited(repository: &Repository) -> Vec<String> {
    let mut complaints = Vec::new();
    for (_, directory, package) in repository.packages() {
        let manifest = repository.text(&format!("{directory}/Cargo.toml"));
        let inherits = manifest.contains("[lints]\nworkspace = true");
        let ring =
            directory == "dataplane/ring" && manifest.contains("undocumented_unsafe_blocks = \"deny\"");
        if !inherits && !ring {
            complaints.push(format!("{directory}/Cargo.toml: lacks `[lints] workspace = true`"));
        }
        if package["license"] != "Apache-2.0" {
            complaints.push(format!("{directory}/Cargo.toml: licence is not the workspace's"));
        }
    }
    let lints =
        [("Cargo.toml", "too_many_lines = \"warn\""), ("clippy.toml", "too-many-lines-threshold = 90")];
    for (file, lint) in lints {
        if !repository.text(file).contains(lint) {
            complaints.push(format!("{file}: lacks `{lint}`, which bounds the length of functions"));
        }
    }
    complaints
}

/// Every package in the graph has a licence that `deny.toml` allows.
pub fn licences(repository: &Repository) -> Vec<String> {
    let text = repository.text("deny.toml");
    let allowed = quoted_list(&text, "[licenses]", "allow");
    let mut complaints = Vec::new();
    if allowed.is_empty() {
        complaints.push("deny.toml: no licence is allowed".to_owned());
    }
    for (name, licence) in resolved(repository, "license") {
        if !satisfies(&licence, &allowed) {
            complaints.push(format!("{name}: licence `{licence}` is not allowed by deny.toml"));
        }
    }
    complaints
}

/// No package that `deny.toml` bans is in the graph.
pub fn bans(repository: &Repository) -> Vec<String> {
    let text = repository.text("deny.toml");
    let banned: Vec<(String, bool)> = section(&text, "[bans]")
        .lines()
        .filter_map(|line| {
            let name = line.trim().strip_prefix("{ crate = \"")?.split('"').next()?.to_owned();
            Some((name, line.contains("reason = \"")))
        })
        .collect();
    let mut complaints = Vec::new();
    if banned.is_empty() {
        complaints.push("deny.toml: nothing is banned".to_owned());
    }
    let names: BTreeSet<String> = resolved(repository, "name").into_iter().map(|(name, _)| name).collect();
    for (name, reasoned) in banned {
        if names.contains(&name) {
            complaints.push(format!("{name}: banned by deny.toml"));
        }
        if !reasoned {
            complaints.push(format!("deny.toml: the ban of {name} gives no reason"));
        }
    }
    complaints
}

/// `(name, field)` of the packages that are built on this platform.
fn resolved(repository: &Repository, field: &str) -> Vec<(String, String)> {
    let nodes = repository.metadata["resolve"]["nodes"].as_array();
    let used: BTreeSet<&str> = nodes.into_iter().flatten().filter_map(|n| n["id"].as_str()).collect();
    let packages = repository.metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter(|p| p["id"].as_str().is_some_and(|id| used.contains(id)))
        .map(|p| {
            let text = |key: &str| p[key].as_str().unwrap_or_default().to_owned();
            (text("name"), text(field))
        })
        .collect()
}

/// The part of a TOML text from a header to the next.
fn section<'a>(text: &'a str, header: &str) -> &'a str {
    // A header stands on a line of its own; comments may mention it.
    let Some((_, rest)) = text.split_once(&format!("\n{header}\n")) else { return "" };
    rest.split("\n[").next().unwrap_or_default()
}

fn quoted_list(text: &str, header: &str, key: &str) -> Vec<String> {
    let list = section(text, header).split_once(&format!("{key} = [")).map_or("", |(_, rest)| rest);
    let lines = list
        .split(']')
        .next()
        .unwrap_or_default()
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// An SPDX expression of names, `AND`, `OR` (or the old `/`) and parentheses; `WITH` belongs to its name.
fn satisfies(expression: &str, allowed: &[String]) -> bool {
    let spaced =
        expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "+WITH+");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let result = either(&tokens, &mut at, allowed);
    result && at == tokens.len()
}

fn either(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut result = both(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        result |= both(tokens, at, allowed);
    }
    result
}

fn both(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut result = single(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        result &= single(tokens, at, allowed);
    }
    result
}

fn single(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(token) = tokens.get(*at) else { return false };
    *at += 1;
    if *token != "(" {
        return allowed.iter().any(|name| *name == token.replace("+WITH+", " WITH "));
    }
    let result = either(tokens, at, allowed);
    *at += 1;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions_are_evaluated() {
        let allowed =
            ["MIT".to_owned(), "Unicode-3.0".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "(GPL-2.0 OR MIT) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(satisfies(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT OR GPL-3.0) AND ISC"] {
            assert!(!satisfies(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn lists_are_read_with_their_comments() {
        let text = "# [licenses]\n[licenses]\nallow = [\n  \"MIT\", # short\n  \"ISC\",\n]\n[bans]\nallow = [\"x\"]\n";
        assert_eq!(quoted_list(text, "[licenses]", "allow"), ["MIT", "ISC"]);
    }
}
