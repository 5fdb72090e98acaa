//! Medians, ratios, warnings; the table on the terminal and the JSON under `perf/results/`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::host::Host;
use crate::load::Sample;
use crate::scenario::{Kind, Scenario};

/// All turns of one peer in one scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) peer: String,
    pub(crate) version: String,
    pub(crate) median: Sample,
    pub(crate) samples: Vec<Sample>,
}

/// One scenario's result.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) title: &'a str,
    pub(crate) host: &'a Host,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) peers: Vec<Series>,
    pub(crate) warnings: Vec<String>,
}

impl Series {
    pub(crate) fn new(peer: &str, version: String) -> Self {
        Self { peer: peer.into(), version, median: Sample::default(), samples: Vec::new() }
    }

    fn close(&mut self) {
        let of = |pick: fn(&Sample) -> f64| median(self.samples.iter().map(pick).collect());
        let kib: Vec<f64> = self.samples.iter().filter_map(|s| s.kib_per_connection).collect();
        self.median = Sample {
            operations: of(|s| s.operations),
            cpu_us: of(|s| s.cpu_us),
            rate: of(|s| s.rate),
            rss_mib: of(|s| s.rss_mib),
            proxy_busy: of(|s| s.proxy_busy),
            foreign_busy: of(|s| s.foreign_busy),
            errors: self.samples.iter().map(|s| s.errors).sum(),
            kib_per_connection: (!kib.is_empty()).then(|| median(kib)),
        };
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(a), Some(b)) => f64::midpoint(*a, *b),
        _ => 0.0,
    }
}

impl Report<'_> {
    /// Computes medians and says what makes a figure doubtful.
    pub(crate) fn close(&mut self, scenario: &Scenario) {
        for series in &mut self.peers {
            series.close();
            let (m, name) = (&series.median, &series.peer);
            if m.errors > 0 {
                self.warnings.push(format!("{name}: {} errors: not a valid result", m.errors));
            }
            if scenario.kind == Kind::Idle {
                continue;
            }
            if m.proxy_busy < 0.9 {
                let share = m.proxy_busy * 100.0;
                self.warnings.push(format!(
                    "{name}: its core was {share:.0} % busy: the rate is not the proxy's limit"
                ));
            }
            if m.foreign_busy > 0.05 {
                let share = m.foreign_busy * 100.0;
                self.warnings.push(format!("{name}: others used {share:.0} % of its core"));
            }
        }
    }

    /// The table.
    pub(crate) fn print(&self, scenario: &Scenario) {
        println!("\n{} - {}", self.scenario, self.title);
        let reference = self.peers.iter().find(|s| s.peer == "envoy").or(self.peers.first());
        let (base, against) = reference.map_or((1.0, ""), |s| (s.median.cpu_us, s.peer.as_str()));
        for series in &self.peers {
            let m = &series.median;
            let name = format!("  {:<15}", series.peer);
            match scenario.kind {
                Kind::Idle => {
                    let each =
                        m.kib_per_connection.map_or(String::new(), |k| format!("  {k:>7.2} KiB/connection"));
                    println!("{name}{:>8.1} MiB resident{each}", m.rss_mib);
                }
                Kind::TcpStream => println!(
                    "{name}{:>8.1} us/MiB  {:>7.0} MiB/s  {:>6.1} MiB resident  {:>5.2} x the CPU of {against}",
                    m.cpu_us,
                    m.rate,
                    m.rss_mib,
                    m.cpu_us / base
                ),
                _ => println!(
                    "{name}{:>8.2} us/request  {:>7.0}/s  {:>6.1} MiB resident  {:>5.2} x the CPU of {against}",
                    m.cpu_us,
                    m.rate,
                    m.rss_mib,
                    m.cpu_us / base
                ),
            }
        }
        for warning in &self.warnings {
            println!("  ! {warning}");
        }
    }

    /// Writes `results/<host>/<scenario>.json`; history is git's.
    pub(crate) fn save(&self, folder: &Path) -> Result<PathBuf, String> {
        let directory = folder.join("results").join(&self.host.slug);
        fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
        let path = directory.join(format!("{}.json", self.scenario));
        let text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        fs::write(&path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
    }
}
