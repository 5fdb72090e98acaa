//! Where the corpora are, and the hostile certificates of BoringSSL's fuzzers.

use std::path::{Path, PathBuf};

use millrace_tls::certificate;

/// The corpora are a sibling of the repository and not part of it: without them the test says that it skips, and
/// fails where `CI=true`. `MILLRACE_CORPORA` names another place.
pub fn corpus(name: &str) -> Option<PathBuf> {
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

/// Every file under a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[test]
fn hostile_certificates_are_read_or_refused_and_facts_agree() {
    let Some(folder) = corpus("tls/boringssl-certs") else { return };
    let (mut read, mut refused) = (0, 0);
    for file in files(&folder) {
        let der = std::fs::read(&file).expect("a file");
        let summary = certificate::summary(&der);
        let peer = certificate::peer(&[&der]);
        assert_eq!(summary.is_ok(), peer.is_ok(), "{}", file.display());
        assert_eq!(summary.is_ok(), certificate::local(&der).is_ok(), "{}", file.display());
        let (Ok(summary), Ok(peer)) = (summary, peer) else {
            refused += 1;
            continue;
        };
        read += 1;
        assert_eq!(summary.serial, peer.serial);
        assert_eq!(peer.chain.len(), 1);
        assert!(peer.subject.is_ascii() && peer.issuer.is_ascii(), "{}", file.display());
        assert!(!peer.pem_encoded.contains(['+', '/', '=', '\n', ' ']));
        let names =
            peer.uri_sans.iter().chain(&peer.dns_sans).chain(&peer.email_sans).chain(&peer.othername_sans);
        assert!(names.into_iter().all(|name| !name.contains(char::is_control)), "{}", file.display());
    }
    println!("{read} certificates read, {refused} refused");
    assert!(read > 0 && refused > 0);
}
