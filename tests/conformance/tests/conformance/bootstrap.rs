//! Every bootstrap of the corpora, read and translated, with the verdict of Envoy 1.40 beside ours.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_observe::stats::Registry;
use millrace_proto::{Format, LoadOptions, bootstrap_from_text, message_to_json};
use millrace_translate::{Context, Overrides, RejectionKind};

use crate::bootstrap_exceptions::EXCEPTIONS;
use millrace_conformance::corpora;
use millrace_conformance::oracle::files;

/// What we say about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    /// As written it is wrong.
    Reject(String),
    /// It asks for what this build has not.
    NotServed(String),
    /// A format that is not read.
    Format,
}

fn verdict(path: &Path) -> Verdict {
    let name = path.to_string_lossy();
    let Some(mut format) = Format::of_path(&name) else {
        return Verdict::Format;
    };
    let bytes = std::fs::read(path).expect("a readable file");
    if name.ends_with(".golden") && !bytes.trim_ascii_start().starts_with(b"{") {
        format = Format::Yaml;
    }
    let parsed = match bootstrap_from_text(format, &bytes, &LoadOptions::default()) {
        Ok(parsed) => parsed,
        Err(error) => return Verdict::Reject(error.to_string()),
    };
    // What was read prints, and what was printed reads as the same message.
    let json = message_to_json(millrace_proto::BOOTSTRAP, &parsed.bytes).expect("printable");
    let again = bootstrap_from_text(Format::Json, json.to_string().as_bytes(), &LoadOptions::default())
        .expect("what was printed reads");
    assert_eq!(message_to_json(millrace_proto::BOOTSTRAP, &again.bytes).expect("printable"), json, "{name}");
    let overrides = Overrides {
        service_node: Some("o".into()),
        service_cluster: Some("o".into()),
        ..Overrides::default()
    };
    match millrace_translate::bootstrap(&parsed.bytes, &mut Context::new(Registry::new(), overrides)) {
        Ok(_) => Verdict::Accept,
        Err(rejection) => {
            assert!(!rejection.to_string().contains('\n'), "one line: {rejection}");
            match rejection.kind {
                RejectionKind::Invalid => Verdict::Reject(rejection.to_string()),
                RejectionKind::NotServed => Verdict::NotServed(rejection.reason),
            }
        }
    }
}

/// `(file, accepted, message)` of the bootstraps of one corpus.
fn oracle(root: &Path, corpus: &str) -> Vec<(String, bool, String)> {
    let table = std::fs::read_to_string(root.join(corpus).join("ORACLE.tsv")).expect("ORACLE.tsv");
    let mut lost = lost_names(root).into_iter();
    let mut rows = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let file = match columns[0] {
            "envoy/docsPATH" => lost.next().expect("one file per row"),
            file => file.to_owned(),
        };
        if columns[1] == "bootstrap" {
            let message = columns.get(3).copied().unwrap_or_default();
            rows.push((format!("{corpus}/{file}"), columns[2] == "ACCEPT", message.to_owned()));
        }
    }
    rows
}

/// The rows of `envoy/docs` lost their names; they stand in the order of the files.
fn lost_names(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    files(&root.join("envoy/envoy/docs"), &mut |path| {
        let relative = path.strip_prefix(root.join("envoy")).expect("below the root");
        names.push(relative.to_string_lossy().into_owned());
    });
    names.sort();
    names
}

#[test]
fn verdicts_agree_with_envoy() {
    let Some(root) = corpora() else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut disagreements = Vec::new();
    let mut excepted = Vec::new();
    for (file, accepted, message) in
        ["envoy", "consul", "kuma", "gateway"].iter().flat_map(|c| oracle(&root, c))
    {
        *counts.entry("files".into()).or_default() += 1;
        let ours = verdict(&root.join(&file));
        let agreed = match &ours {
            Verdict::Accept => accepted,
            Verdict::Reject(_) => !accepted,
            Verdict::NotServed(reason) => {
                *counts.entry(format!("not comparable: {}", general(reason))).or_default() += 1;
                continue;
            }
            Verdict::Format => {
                *counts.entry("not comparable: text format".into()).or_default() += 1;
                continue;
            }
        };
        if let Some((name, why)) = EXCEPTIONS.iter().find(|(name, _)| *name == file) {
            assert!(!agreed, "{file} agrees now: take it off the list");
            println!("excepted: {name}: {why}");
            excepted.push(*name);
            *counts.entry("excepted".into()).or_default() += 1;
            continue;
        }
        *counts.entry("compared".into()).or_default() += 1;
        match agreed {
            true => *counts.entry("agreed".into()).or_default() += 1,
            false => disagreements.push(format!("{file}: Envoy {accepted} {message:.200}, ours {ours:?}")),
        }
    }
    for (what, count) in &counts {
        println!("{count:4} {what}");
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    assert_eq!(excepted.len(), EXCEPTIONS.len(), "an exception names no file");
    assert!(counts.get("agreed").is_some_and(|agreed| *agreed >= 20), "too few files are comparable");
}

/// The reason without names.
pub fn general(reason: &str) -> String {
    let words = reason.split(' ').filter(|word| !word.starts_with('\''));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn istio_bootstraps_parse() {
    let Some(root) = corpora() else { return };
    let (mut parsed, mut accepted) = (0, 0);
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    files(&root.join("istio/pkg/bootstrap/testdata"), &mut |path| {
        let bytes = std::fs::read(path).expect("a readable file");
        let result = bootstrap_from_text(Format::Json, &bytes, &LoadOptions::default());
        if let Err(error) = &result {
            panic!("{}: {error}", path.display());
        }
        parsed += 1;
        // Envoy runs with all of them, so that none may be called wrong.
        match verdict(path) {
            Verdict::Accept => accepted += 1,
            Verdict::NotServed(reason) => *refused.entry(general(&reason)).or_default() += 1,
            // Its load_stats_config names no service: Envoy 1.40 logs "exiting" and ends.
            Verdict::Reject(reason)
                if path.ends_with("lrs_golden.json")
                    && reason.starts_with("cluster_manager.load_stats_config") =>
            {
                *refused.entry("load reports without a service".to_owned()).or_default() += 1;
            }
            wrong @ (Verdict::Reject(_) | Verdict::Format) => panic!("{}: {wrong:?}", path.display()),
        }
    });
    for (reason, count) in &refused {
        println!("{count:4} not served: {reason}");
    }
    println!("{accepted:4} accepted");
    println!("{parsed} bootstraps of Istio parsed");
    assert!(parsed >= 20);
}

/// The seeds that stand beside the fuzz target.
#[test]
fn our_own_bootstrap_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/bootstrap");
    let mut seeds = 0;
    files(&folder, &mut |path| {
        millrace_translate::fuzz_bootstrap(&std::fs::read(path).expect("a readable file"));
        seeds += 1;
    });
    assert!(seeds >= 5, "{} has too few seeds", folder.display());
}

#[test]
fn fuzz_seeds_never_panic() {
    let Some(root) = corpora() else { return };
    let mut seeds = 0;
    for corpus in ["envoy", "envoy-fuzz", "consul", "kuma"] {
        files(&root.join(corpus), &mut |path| {
            let bytes = std::fs::read(path).expect("a readable file");
            if bytes.len() < 20_000 {
                millrace_translate::fuzz_bootstrap(&bytes);
                seeds += 1;
            }
        });
    }
    println!("{seeds} seeds");
    assert!(seeds > 500);
}

#[test]
fn mutated_bootstraps_never_panic() {
    let Some(root) = corpora() else { return };
    let mut seeds = Vec::new();
    files(&root.join("envoy/examples"), &mut |path| {
        seeds.push(std::fs::read(path).expect("a readable file"));
    });
    seeds.sort();
    let mut rng = millrace_base::Rng::new(7);
    for _ in 0..1500 {
        let mut text = seeds[rng.below(seeds.len() as u64) as usize].clone();
        for _ in 0..=rng.below(8) {
            let at = rng.below(text.len() as u64) as usize;
            match rng.below(4) {
                0 => text.truncate(at.max(1)),
                1 => text[at] = rng.next_u64() as u8,
                2 => text.insert(at, b"{}[]:,&*-|>'\"\n\t%"[rng.below(16) as usize]),
                _ => drop(text.drain(at..(at + 1 + rng.below(30) as usize).min(text.len()))),
            }
            if text.is_empty() {
                text.push(b'a');
            }
        }
        millrace_translate::fuzz_bootstrap(&text);
    }
    println!("1500 mutants of {} files", seeds.len());
}
