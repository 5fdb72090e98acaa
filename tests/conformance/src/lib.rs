//! Corpora and vectors replayed against the codecs and the configuration.
//!
//! The library finds the corpora, reads the resources of control planes in them and keeps the tables of expected
//! verdicts; the replays are the one integration test binary `tests/conformance`, a module per corpus.

use std::path::{Path, PathBuf};

pub mod oracle;
pub mod resource_files;
pub mod table;

/// The folder of a corpus, e.g. `http1/llhttp`. The corpora are a sibling of the repository and not part of it:
/// where they are absent the caller skips, which is said once a call; in CI (`CI=true`) their absence fails.
/// `MILLRACE_CORPORA` names another place, for work trees elsewhere.
pub fn corpus(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let path = std::env::var_os("MILLRACE_CORPORA").map_or_else(beside, PathBuf::from).join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("CI").is_none_or(|v| v != "true"),
        "corpus {name} must exist in CI: {}",
        path.display()
    );
    println!("skipped: 0 cases of corpus {name}, {} is absent", path.display());
    None
}

/// The folder of all corpora; see [`corpus`].
pub fn corpora() -> Option<PathBuf> {
    corpus("envoy").and_then(|envoy| envoy.parent().map(Path::to_owned))
}
