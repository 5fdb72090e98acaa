//! `baseline.txt`: what every bench cost when somebody last looked, and on what.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What figures depend on besides the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `1.95.0`.
    pub rustc: String,
    /// `x86_64`.
    pub arch: String,
    /// Extensions that libraries choose code by at run time, as valgrind shows them to the program.
    pub cpu: String,
    /// `valgrind-3.19.0`.
    pub valgrind: String,
    /// `glibc 2.36`, whose `memcpy` and `malloc` are counted too.
    pub libc: String,
}

impl Host {
    fn rows(&self) -> [(&'static str, &str); 5] {
        let Self { rustc, arch, cpu, valgrind, libc } = self;
        [("rustc", rustc), ("arch", arch), ("cpu", cpu), ("valgrind", valgrind), ("libc", libc)]
    }

    fn set(&mut self, key: &str, value: &str) {
        let field = match key {
            "rustc" => &mut self.rustc,
            "arch" => &mut self.arch,
            "cpu" => &mut self.cpu,
            "valgrind" => &mut self.valgrind,
            "libc" => &mut self.libc,
            _ => return,
        };
        value.clone_into(field);
    }

    /// Why figures of `self` and `other` say nothing about each other; empty when they do.
    pub fn incomparable(&self, other: &Self) -> Vec<String> {
        let minor = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
        let mut reasons = Vec::new();
        if minor(&self.rustc) != minor(&other.rustc) {
            reasons.push(format!("rustc {} there, {} here", self.rustc, other.rustc));
        }
        if self.arch != other.arch {
            reasons.push(format!("{} there, {} here", self.arch, other.arch));
        }
        if self.cpu != other.cpu {
            reasons.push(format!("cpu `{}` there, `{}` here", self.cpu, other.cpu));
        }
        reasons
    }

    /// Differences that may explain a figure but excuse none.
    pub fn notes(&self, other: &Self) -> Vec<String> {
        let rows = self.rows().into_iter().zip(other.rows());
        rows.filter(|((key, a), (_, b))| matches!(*key, "valgrind" | "libc") && a != b)
            .map(|((key, a), (_, b))| format!("{key}: {a} there, {b} here"))
            .collect()
    }
}

/// Instructions of one operation, by bench.
pub type Figures = BTreeMap<String, f64>;

/// The file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    /// Where it was made.
    pub host: Host,
    /// What was counted.
    pub figures: Figures,
}

impl Baseline {
    /// Reads `# key: value` lines, other comments, and `name instructions` lines.
    ///
    /// # Errors
    /// The first line that is none of them, or a name that comes twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut baseline = Self::default();
        for (number, line) in text.lines().enumerate() {
            let complain = |what: &str| Err(format!("line {}: {what}: {line}", number + 1));
            if let Some(comment) = line.strip_prefix('#') {
                if let Some((key, value)) = comment.trim().split_once(": ") {
                    baseline.host.set(key, value.trim());
                }
                continue;
            }
            if line.trim().is_empty() {
                continue;
            }
            let mut words = line.split_whitespace();
            let (Some(name), Some(figure), None) = (words.next(), words.next(), words.next()) else {
                return complain("neither a comment nor `name instructions`");
            };
            let Some(figure) = figure.parse::<f64>().ok().filter(|f| f.is_finite() && *f > 0.0) else {
                return complain("no positive number");
            };
            if baseline.figures.insert(name.to_owned(), figure).is_some() {
                return complain("named twice");
            }
        }
        Ok(baseline)
    }

    /// The text of the file, sorted by name.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "# Instructions of one operation, written by `cargo run --release -p millrace-benches --bin counts -- bless`.\n",
        );
        for (key, value) in self.host.rows() {
            let _ = writeln!(text, "# {key}: {value}");
        }
        let width = self.figures.keys().map(String::len).max().unwrap_or(0);
        for (name, figure) in &self.figures {
            let _ = writeln!(text, "{name:width$} {figure:>9.1}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            rustc: "1.95.0".into(),
            arch: "x86_64".into(),
            cpu: "avx avx2".into(),
            valgrind: "valgrind-3.19.0".into(),
            libc: "glibc 2.36".into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let figures = [("b/two".to_owned(), 12.5), ("a/one".to_owned(), 4711.0)].into();
        let baseline = Baseline { host: host(), figures };
        let text = baseline.text();
        assert_eq!(Baseline::parse(&text), Ok(baseline));
        assert!(text.find("a/one").unwrap() < text.find("b/two").unwrap());
        assert!(Baseline::parse("# a comment\n\n").unwrap().figures.is_empty());
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for (text, what) in [
            ("a/one", "line 1: neither"),
            ("a/one 1 2", "line 1: neither"),
            ("# x\na/one many", "line 2: no positive"),
            ("a/one 0", "line 1: no positive"),
            ("a/one NaN", "line 1: no positive"),
            ("a/one 1\na/one 2", "line 2: named twice"),
        ] {
            let error = Baseline::parse(text).unwrap_err();
            assert!(error.starts_with(what), "{error}");
        }
    }

    #[test]
    fn another_compiler_or_machine_is_not_compared() {
        let patch = Host { rustc: "1.95.1".into(), valgrind: "valgrind-3.24.0".into(), ..host() };
        assert!(host().incomparable(&patch).is_empty());
        assert_eq!(host().notes(&patch), ["valgrind: valgrind-3.19.0 there, valgrind-3.24.0 here"]);
        let minor = Host { rustc: "1.96.0".into(), ..host() };
        assert_eq!(host().incomparable(&minor), ["rustc 1.95.0 there, 1.96.0 here"]);
        let arch = Host { arch: "aarch64".into(), cpu: String::new(), ..host() };
        assert_eq!(host().incomparable(&arch).len(), 2);
    }
}
