//! Who may depend on whom (`docs/architecture.md`, "Dependency rule").

use std::collections::{BTreeMap, BTreeSet};

use crate::Repository;
use crate::repository::strings;

/// The layers of the data plane and the control client; an arrow points to a lower number only.
const LAYERS: &[(&str, u32)] = &[
    ("dataplane/base", 0),
    ("dataplane/config", 1),
    ("dataplane/http", 1),
    ("dataplane/inspect", 1),
    ("dataplane/l7", 1),
    ("dataplane/ring", 1),
    ("dataplane/compression", 2),
    ("dataplane/observe", 2),
    ("dataplane/tls", 2),
    ("dataplane/route", 2),
    ("dataplane/upstream", 2),
    ("dataplane/admin", 3),
    ("dataplane/filter", 3),
    ("dataplane/shard", 4),
    ("control-client/proto", 1),
    ("control-client/ads", 2),
    ("control-client/translate", 3),
    ("control-client/assembly", 4),
    ("control-client/driver", 4),
    ("dataplane/proxy", 5),
];

/// Rooms that see byte slices and `now`: no socket, clock, runtime or protobuf.
pub(crate) const SANS_IO: &[&str] = &[
    "dataplane/base",
    "dataplane/compression",
    "dataplane/config",
    "dataplane/http",
    "dataplane/inspect",
    "dataplane/l7",
    "dataplane/observe",
    "dataplane/route",
    "dataplane/upstream",
    "dataplane/filter",
    "dataplane/admin",
];

/// Packages that bring a socket, a runtime or protobuf with them.
const IO_PACKAGES: &[&str] = &[
    "millrace-ring",
    "io-uring",
    "socket2",
    "rustix",
    "mio",
    "tokio",
    "hyper",
    "tonic",
    "h2",
    "prost",
    "prost-types",
    "prost-reflect",
    "envoy-types",
    "millrace-proto",
];

/// Every crate stands in the layer table and depends on lower layers only.
pub fn crates_keep_their_layer(repository: &Repository) -> Vec<String> {
    let packages = repository.packages();
    let directory_of: BTreeMap<&str, &str> = packages.iter().map(|(n, d, _)| (*n, d.as_str())).collect();
    let layer = |directory: &str| LAYERS.iter().find(|(d, _)| *d == directory).map(|(_, layer)| *layer);
    let mut complaints = Vec::new();
    for (name, directory, package) in &packages {
        let product = directory.starts_with("dataplane/") || directory.starts_with("control-client/");
        let Some(own) = layer(directory) else {
            if product {
                complaints.push(format!("{directory}: not in the layer table of tests/tidy/src/layering.rs"));
            }
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let Some(target) = directory_of.get(to) else { continue };
            let for_tests = dependency["kind"] == "dev";
            if !for_tests && layer(target).is_none_or(|layer| layer >= own) {
                complaints.push(format!(
                    "{directory}: {name} must not depend on {target}, which is no lower layer"
                ));
            }
            let forbidden = if directory.starts_with("control-client/") {
                ["dataplane/shard", "dataplane/filter", "dataplane/upstream", "dataplane/ring"]
                    .contains(target)
            } else {
                *directory != "dataplane/proxy" && target.starts_with("control-client/")
            };
            if forbidden {
                complaints.push(format!("{directory}: {name} must not depend on {target}"));
            }
        }
    }
    complaints
}

/// The crates of the sans-io rooms reach no I/O package, however indirectly.
pub fn sans_io_crates_pull_in_no_io(repository: &Repository) -> Vec<String> {
    let nodes: BTreeMap<&str, &serde_json::Value> = repository.metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let name_of: BTreeMap<&str, &str> = repository.metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| Some((p["id"].as_str()?, p["name"].as_str()?)))
        .collect();
    let mut complaints = Vec::new();
    for (name, directory, package) in repository.packages() {
        if !SANS_IO.contains(&directory.as_str()) {
            continue;
        }
        let mut seen = BTreeSet::new();
        let mut open = vec![package["id"].as_str().unwrap_or_default()];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let used = name_of.get(id).copied().unwrap_or_default();
            if IO_PACKAGES.contains(&used) {
                complaints.push(format!("{directory}: {name} pulls in {used}"));
            }
            for dependency in nodes.get(id).and_then(|n| n["deps"].as_array()).into_iter().flatten() {
                let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
                if kinds.into_iter().any(|kind| kind["kind"].is_null()) {
                    open.extend(dependency["pkg"].as_str());
                }
            }
        }
        if seen.len() != seen.iter().filter(|id| nodes.contains_key(*id)).count() {
            let members = strings(&repository.metadata["workspace_members"]).len();
            complaints.push(format!("cargo metadata resolved only part of the graph ({members} members)"));
        }
    }
    complaints
}
