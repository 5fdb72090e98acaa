//! What a result was measured on.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::peer::output;
use crate::scenario::Scenario;

/// The scenarios with 10,000 connections need two descriptors for each.
const DESCRIPTORS: u64 = 20_000;

/// Facts about the machine and the checkout.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Host {
    /// Folder name under `perf/results/`.
    pub(crate) slug: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) descriptors: String,
    pub(crate) load_average: String,
    pub(crate) wrk: String,
    /// Empty: not installed.
    #[serde(default)]
    pub(crate) h2load: String,
    pub(crate) commit: String,
    pub(crate) date: String,
}

impl Host {
    /// What must be there before anything is measured.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.cores < 2 {
            return Err("needs two cores: one for the proxy, one for client and origin".into());
        }
        for (program, package) in [("wrk", "wrk"), ("taskset", "util-linux")] {
            if output("which", &[program]).is_none() {
                return Err(format!("{program} is missing: apt-get install {package}"));
            }
        }
        let descriptors = self.descriptors.parse().unwrap_or(0);
        if descriptors < DESCRIPTORS {
            println!(
                "! only {descriptors} open files are allowed (ulimit -n {DESCRIPTORS}): scenarios with more \
                 connections will show errors"
            );
        }
        Ok(())
    }

    /// What one scenario needs besides.
    pub(crate) fn check_for(&self, scenario: &Scenario) -> Result<(), String> {
        let needed = scenario.loads.iter().any(|load| load.http2 && load.tls.is_none());
        if needed && self.h2load.is_empty() {
            return Err("h2load is missing: apt-get install nghttp2-client".into());
        }
        Ok(())
    }

    /// What the reader of a terminal must know.
    pub(crate) fn print(&self) {
        println!(
            "{} x{}, Linux {}, commit {}, {}",
            self.cpu, self.cores, self.kernel, self.commit, self.date
        );
        println!("load average before: {}; {}; {}", self.load_average, self.wrk, self.h2load);
    }

    pub(crate) fn read() -> Self {
        let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kib: u64 = memory.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let kernel = line("/proc/sys/kernel/osrelease");
        Self {
            slug: slug(&cpu, cores, &kernel),
            cpu,
            cores,
            memory_mib: kib / 1024,
            kernel,
            descriptors: descriptors(),
            load_average: line("/proc/loadavg"),
            wrk: output("sh", &["-c", "wrk -v | head -n 1"]).unwrap_or_default(),
            h2load: output("h2load", &["--version"]).unwrap_or_default(),
            commit: output("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "none".into()),
            date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).unwrap_or_default(),
        }
    }
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|l| l.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn descriptors() -> String {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("Max open files")).unwrap_or("");
    line.split_whitespace().nth(4).unwrap_or("").to_owned()
}

/// For instance `amd-epyc-2c-linux-6.18`.
fn slug(cpu: &str, cores: usize, kernel: &str) -> String {
    let cpu = ["(R)", "(TM)", "(r)", "(tm)", " Processor", " CPU"]
        .iter()
        .fold(cpu.to_owned(), |s, w| s.replace(w, ""));
    let version: Vec<&str> = kernel.split('.').take(2).collect();
    let text = format!("{cpu}-{cores}c-linux-{}", version.join(".")).to_ascii_lowercase();
    let mut out = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        if c != '-' || !out.ends_with('-') {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_plain_folder_name() {
        assert_eq!(slug("AMD EPYC (TM)", 2, "6.18.44-fc"), "amd-epyc-2c-linux-6.18");
        assert_eq!(slug("Intel(R) Xeon(R) Processor", 2, "6.18.44"), "intel-xeon-2c-linux-6.18");
    }
}
