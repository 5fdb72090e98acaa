//! What Envoy 1.40 says about the resources of control planes (`ORACLE.tsv` of each corpus).

use std::path::Path;

/// A file that Envoy has judged together with the other files of its scenario.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its path below the corpora.
    pub file: String,
    /// Envoy takes the whole scenario.
    pub accepted: bool,
    /// Clusters of the scenario; more than the corpus holds when files of it were left out.
    pub clusters: usize,
}

/// The files of a corpus that hold resources of a control plane.
///
/// # Panics
/// When the corpus has no table.
pub fn judged(root: &Path, corpus: &str) -> Vec<Judged> {
    let table = std::fs::read_to_string(root.join(corpus).join("ORACLE.tsv")).expect("ORACLE.tsv");
    let mut rows = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let Some(parts) = columns.get(1).and_then(|kind| kind.strip_prefix("xds:")) else { continue };
        let clusters = parts.split(',').find_map(|part| part.strip_prefix("clusters=")?.parse().ok());
        if columns[0] != "envoy/docsPATH" {
            rows.push(Judged {
                file: format!("{corpus}/{}", columns[0]),
                accepted: columns[2] == "ACCEPT",
                clusters: clusters.unwrap_or(0),
            });
        }
    }
    rows
}

/// What files of one scenario share: the name up to the first dot.
pub fn scenario(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name)
}

/// Every file below a folder.
///
/// # Panics
/// When a folder cannot be read.
pub fn files(dir: &Path, found: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files(&path, found),
            false => found(&path),
        }
    }
}
