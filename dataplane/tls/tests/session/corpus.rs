//! rustls's fuzzing corpus as input to every state of a session: nothing panics, nothing is established.

use std::path::{Path, PathBuf};

use millrace_config::TlsVersion;

use crate::world::*;

/// The corpora are a sibling of the repository and not part of it: without them the test says that it skips, and
/// fails where `CI=true`. `MILLRACE_CORPORA` names another place.
fn corpus(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let path = std::env::var_os("MILLRACE_CORPORA").map_or_else(beside, PathBuf::from).join(name);
    if path.exists() {
        return Some(path);
    }
    let in_ci = std::env::var_os("CI").is_some_and(|v| v == "true");
    assert!(!in_ci, "the corpus must exist in CI: {}", path.display());
    println!("skipped: 0 cases of corpus {name}, {} is absent", path.display());
    None
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

#[test]
fn fuzzing_corpora_never_panic() {
    for name in ["tls/rustls-fuzz/fuzz", "tls/boringssl-clienthello"] {
        let Some(folder) = corpus(name) else { continue };
        let mut inputs = Vec::new();
        files(&folder, &mut inputs);
        assert!(!inputs.is_empty());
        let pairs = [pair(Kind::Ecdsa, TlsVersion::V1_2), pair(Kind::Ecdsa, TlsVersion::V1_3)];
        for input in &inputs {
            let bytes = std::fs::read(input).expect("a file");
            for pair in &pairs {
                for at_a_time in [usize::MAX, 7] {
                    let mut server = End::server(&pair.server);
                    let mut client = End::to(&pair.client);
                    let hello = client.take();
                    let mut amid = End::server(&pair.server);
                    amid.feed(&hello);
                    for piece in bytes.chunks(at_a_time) {
                        [&mut server, &mut client, &mut amid].into_iter().for_each(|end| end.feed(piece));
                    }
                    for end in [&server, &client, &amid] {
                        assert!(!end.session.is_established() && end.data.is_empty(), "{}", input.display());
                    }
                }
                let (mut client, mut server) = connect(pair);
                server.feed(&bytes);
                client.feed(&bytes);
                assert!(server.data.is_empty() && client.data.is_empty());
            }
        }
        println!("{} inputs of {name}", inputs.len());
    }
}
