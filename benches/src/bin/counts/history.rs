//! What git knows: commits since the baseline last changed, and what that change was.

use std::path::Path;
use std::process::Command;

use crate::excuse::{Excuse, excuses};

/// Where the baseline lives, from the top of the repository.
pub const BASELINE: &str = "benches/baseline.txt";

/// The last change of the baseline.
#[derive(Debug, Default)]
pub struct History {
    /// Excuses in commits after it.
    pub since: Vec<Excuse>,
    /// The file before and after it, with the excuses of the commits that lead to it; `None` when it was the first.
    pub last_change: Option<Change>,
    /// What could not be found out.
    pub missing: Option<String>,
}

/// A change of the file that is committed.
#[derive(Debug)]
pub struct Change {
    /// The commit.
    pub commit: String,
    /// The text before.
    pub before: String,
    /// The text after.
    pub after: String,
    /// Excuses in the commits from the change before to this one.
    pub excuses: Vec<Excuse>,
}

impl History {
    /// Reads the history of the repository at `root`.
    pub fn read(root: &Path) -> Self {
        match Self::try_read(root) {
            Ok(history) => history,
            Err(why) => Self { missing: Some(why), ..Self::default() },
        }
    }

    fn try_read(root: &Path) -> Result<Self, String> {
        if git(root, &["rev-parse", "--is-shallow-repository"])?.trim() == "true" {
            return Err(
                "the clone is shallow (fetch with `--unshallow`, or check out with full depth)".into()
            );
        }
        let commits = git(root, &["log", "--format=%H", "-2", "--", BASELINE])?;
        let mut commits = commits.lines();
        let Some(last) = commits.next() else { return Ok(Self::default()) };
        let messages = |range: &str| {
            let log = git(root, &["log", "--format=%B%x00", range])?;
            Ok::<_, String>(log.split('\0').flat_map(excuses).collect::<Vec<_>>())
        };
        let since = messages(&format!("{last}..HEAD"))?;
        let last_change = match commits.next() {
            None => None,
            Some(before) => Some(Change {
                commit: last.chars().take(12).collect(),
                before: git(root, &["show", &format!("{before}:{BASELINE}")])?,
                after: git(root, &["show", &format!("{last}:{BASELINE}")])?,
                excuses: messages(&format!("{before}..{last}"))?,
            }),
        };
        Ok(Self { since, last_change, missing: None })
    }
}

fn git(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output();
    let output = output.map_err(|error| format!("git cannot be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("git {}: {}", arguments[0], said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(std::path::PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("millrace-counts-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("benches")).unwrap();
            Self(path)
        }

        fn commit(&self, baseline: &str, message: &str) {
            std::fs::write(self.0.join(BASELINE), baseline).unwrap();
            git(&self.0, &["add", "-A"]).unwrap();
            let identity =
                ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"];
            let commit = ["commit", "-q", "--allow-empty", "-m", message];
            git(&self.0, &[&identity[..], &commit[..]].concat()).unwrap();
        }
    }

    #[test]
    fn excuses_count_from_the_last_change() {
        let scratch = Scratch::new("history");
        git(&scratch.0, &["init", "-q"]).unwrap();
        scratch.commit("a 1\n", "first");
        assert!(History::read(&scratch.0).last_change.is_none());
        scratch.commit("a 1\n", "work\n\nInstructions-Regression: a: old");
        scratch.commit("a 2\n", "bless");
        scratch.commit("a 2\n", "more\n\nInstructions-Regression: b: new");
        let history = History::read(&scratch.0);
        assert!(history.missing.is_none(), "{history:?}");
        assert_eq!(history.since, [Excuse { bench: "b".into(), reason: "new".into() }]);
        let change = history.last_change.unwrap();
        assert_eq!((change.before.as_str(), change.after.as_str()), ("a 1\n", "a 2\n"));
        assert_eq!(change.excuses, [Excuse { bench: "a".into(), reason: "old".into() }]);
    }

    #[test]
    fn no_repository_is_said() {
        let scratch = Scratch::new("none");
        let missing = History::read(&scratch.0).missing.unwrap();
        assert!(missing.starts_with("git "), "{missing}");
    }
}
