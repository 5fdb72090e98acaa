//! Programs of others that tests run: where they are, and what happens where they are not.

use std::path::{Path, PathBuf};

/// A program that `tests/e2e/tools/prepare.sh` has built, or `None` after saying that it is missing.
///
/// # Panics
/// When it is missing and `CI=true`: there nothing is skipped.
#[track_caller]
pub fn prepared(name: &str) -> Option<PathBuf> {
    let path = target().join("http2-tools").join(name);
    found(path, &format!("{name} (tests/e2e/tools/prepare.sh makes it)"))
}

/// A file below the target folder that another suite's preparation has made; as [`prepared`].
#[track_caller]
pub fn in_target(relative: &str, made_by: &str) -> Option<PathBuf> {
    found(target().join(relative), &format!("{relative} ({made_by} makes it)"))
}

/// A program on the path, such as those of Debian's packages; as [`prepared`].
#[track_caller]
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let hit = folders.map(|folder| folder.join(name)).find(|p| p.is_file());
    found(hit.unwrap_or_default(), &format!("the program {name}"))
}

fn found(path: PathBuf, what: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "missing in CI: {what}");
    eprintln!("skipped: missing {what}");
    None
}

/// The target folder of this build.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(3).unwrap_or(Path::new("target")).to_owned()
}
