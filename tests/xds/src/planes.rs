//! Real control planes in processes of their own: a Go program on go-control-plane, a Python one on grpcio and
//! xds-protos, Sovereign, and gRPC's own xDS client. `planes/prepare.sh` brings them.

use std::path::{Path, PathBuf};

pub use millrace_support::program::Program;

/// The folder of the planes' sources.
pub const PLANES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/planes");

/// The target folder of this build.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(3).unwrap_or(Path::new("target")).to_owned()
}

/// A prepared file, or `None` after saying what is missing.
///
/// # Panics
/// When it is missing and `CI=true`: there nothing is skipped.
#[track_caller]
fn prepared(relative: &str) -> Option<PathBuf> {
    let path = target().join(relative);
    if path.exists() {
        return Some(path);
    }
    let reason = format!("{} is missing; tests/xds/planes/prepare.sh makes it", path.display());
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    eprintln!("skipped: {reason}");
    None
}

/// The Python interpreter with the packages of `planes/requirements.txt`.
#[track_caller]
pub fn python() -> Option<PathBuf> {
    prepared("xds-venv/prepared")?;
    prepared("xds-venv/bin/python")
}

/// The program of `planes/go`.
#[track_caller]
pub fn go() -> Option<PathBuf> {
    prepared("xds-go/control-plane")
}

/// The `sovereign` command.
#[track_caller]
pub fn sovereign() -> Option<PathBuf> {
    prepared("xds-venv/bin/sovereign")
}
