//! The access log that [`crate::bootstrap`] configures, read back as key-value pairs.

use std::path::{Path, PathBuf};

use crate::wait;

/// One log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(String);

impl Line {
    /// A line as expected.
    pub fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The value under a key, `""` when there is none.
    pub fn get(&self, key: &str) -> &str {
        self.0.split('\t').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).unwrap_or("")
    }

    /// Status, response flags and response code details: what most tests assert at once.
    pub fn verdict(&self) -> (&str, &str, &str) {
        (self.get("code"), self.get("flags"), self.get("details"))
    }
}

/// The log file of one subject.
#[derive(Clone, Debug)]
pub struct AccessLog {
    path: PathBuf,
}

impl AccessLog {
    /// The log in a subject's directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join("access.log") }
    }

    /// Every complete line so far.
    pub fn lines(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |at| &text[..at]);
        complete.lines().map(|l| Line(l.to_owned())).collect()
    }

    /// Waits for line number `n`, from 0.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn line(&self, n: usize) -> Line {
        wait::for_true(&format!("access log line {n}"), || self.lines().len() > n);
        self.lines().swap_remove(n)
    }

    /// Waits for a line whose `x-case` field was `id`.
    #[track_caller]
    pub fn case(&self, id: &str) -> Line {
        let found = wait::until(wait::PATIENCE, || self.lines().into_iter().find(|l| l.get("id") == id));
        found.unwrap_or_else(|| unreachable!("no access log line for {id}: {:#?}", self.lines()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_key() {
        let line = Line("code=200\txcode=1\tflags=-\tdetails=a|b".into());
        assert_eq!(line.verdict(), ("200", "-", "a|b"));
        assert_eq!((line.get("ode"), line.get("absent")), ("", ""));
    }
}
