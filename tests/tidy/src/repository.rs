//! The working tree and what cargo knows about it, read once.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Source;

/// Why the repository could not be read.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The repository under test.
pub struct Repository {
    /// Its top directory.
    pub root: PathBuf,
    /// Every Rust file, by path.
    pub sources: Vec<Source>,
    /// `cargo metadata` with the resolved graph for this platform.
    pub metadata: Value,
}

impl Repository {
    /// Reads the repository that this crate belongs to.
    pub fn read() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let mut files = Vec::new();
        walk(&root, &mut files)?;
        files.sort();
        let mut sources = Vec::new();
        for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "rs")) {
            let path = file.strip_prefix(&root)?.to_string_lossy().into_owned();
            sources.push(Source::new(path, std::fs::read_to_string(file)?));
        }
        let test_modules: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
        for source in &mut sources {
            source.declared_test = test_modules.contains(&source.path);
        }
        let metadata = metadata(&root)?;
        Ok(Self { root, sources, metadata })
    }

    /// The text of a file, or empty.
    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// Packages of the workspace as `(name, directory below the root, metadata)`.
    pub fn packages(&self) -> Vec<(&str, String, &Value)> {
        let members: Vec<&str> = strings(&self.metadata["workspace_members"]);
        let mut found = Vec::new();
        for package in self.metadata["packages"].as_array().into_iter().flatten() {
            if !package["id"].as_str().is_some_and(|id| members.contains(&id)) {
                continue;
            }
            let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
            let directory = manifest.parent().and_then(|d| d.strip_prefix(&self.root).ok());
            let directory = directory.map(|d| d.to_string_lossy().into_owned()).unwrap_or_default();
            found.push((package["name"].as_str().unwrap_or_default(), directory, package));
        }
        found
    }

    /// Markdown files below `docs/`, as `(path, text)`.
    pub fn documents(&self) -> Result<Vec<(String, String)>> {
        let mut files = Vec::new();
        walk(&self.root.join("docs"), &mut files)?;
        files.sort();
        let mut documents = Vec::new();
        for file in files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "md")) {
            let path = file.strip_prefix(&self.root)?.to_string_lossy().into_owned();
            documents.push((path, std::fs::read_to_string(file)?));
        }
        Ok(documents)
    }
}

/// The strings of a JSON array.
pub(crate) fn strings(array: &Value) -> Vec<&str> {
    array.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                walk(&path, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The graph for the host only: cargo has fetched these packages already to build this test.
fn metadata(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--filter-platform", &target])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
