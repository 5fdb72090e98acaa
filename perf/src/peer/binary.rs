//! Finding a program and asking it for its version.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

/// Where a program may be; the first hit of these, in this order, is it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Binary {
    /// Environment variable with a path.
    env: Option<String>,
    /// File in this build's own release directory.
    cargo: Option<String>,
    /// File in the release directory of a workspace of its own, and that workspace's folder in the repository.
    companion: Option<[String; 2]>,
    /// A Python expression that prints the path.
    python: Option<String>,
    /// Name looked up on PATH.
    path: Option<String>,
    /// How to get it.
    hint: String,
}

impl Binary {
    /// A program at a known path.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: Some(path.to_string_lossy().into_owned()), ..Self::default() }
    }

    /// The path, or what to do to have one.
    pub(crate) fn locate(&self) -> Result<PathBuf, String> {
        if let Some(path) = self.env.as_ref().and_then(std::env::var_os).map(PathBuf::from) {
            let name = self.env.as_deref().unwrap_or_default();
            return if path.is_file() {
                Ok(path)
            } else {
                Err(format!("{name}: {} is no file", path.display()))
            };
        }
        let own =
            std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_owned)).unwrap_or_default();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let built = self.cargo.as_ref().map(|name| own.join(name));
        let companion =
            self.companion.as_ref().map(|[folder, name]| root.join(folder).join("target/release").join(name));
        let printed = self.python.as_ref().and_then(|script| {
            let interpreter = std::env::var("PERF_PYTHON").unwrap_or_else(|_| "python3".into());
            output(&interpreter, &["-c", script]).map(PathBuf::from)
        });
        let found = self.path.as_ref().and_then(|name| output("which", &[name])).map(PathBuf::from);
        let mut candidates = [built, companion, printed, found].into_iter().flatten();
        candidates.find(|p| p.is_file()).ok_or_else(|| format!("not installed: {}", self.hint))
    }
}

/// The line in which a program names its version.
pub(super) fn version(path: &Path, arguments: &[String]) -> String {
    if arguments.is_empty() {
        return "this checkout".into();
    }
    let said = Command::new(path).args(arguments).stdin(Stdio::null()).output();
    let text = said.map(|out| [out.stdout, out.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("unknown");
    let line = line.rsplit_once("version: ").map_or(line, |(_, v)| v);
    // linkerd2-proxy logs it behind a time.
    let line = line.rsplit_once("linkerd2_proxy: ").map_or(line, |(_, v)| v);
    // Some add advice or build paths after it.
    line.split(" - ").next().unwrap_or(line).to_owned()
}

/// What a command prints when it succeeds.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let out = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    (out.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_how_to_get_it() {
        let binary =
            Binary { path: Some("no-such-program".into()), hint: "build it".into(), ..Binary::default() };
        assert_eq!(binary.locate().unwrap_err(), "not installed: build it");
        assert!(Binary::at(Path::new("/bin/sh")).locate().is_ok());
    }

    #[test]
    fn a_version_is_one_line() {
        let echo = |text: &str| version(Path::new("/bin/echo"), &[text.to_owned()]);
        assert_eq!(echo("HAProxy version 2.6.12-1 2023/12 - https://x"), "HAProxy version 2.6.12-1 2023/12");
        assert_eq!(echo("envoy  version: abc/1.40.0"), "abc/1.40.0");
    }
}
