//! Busy time of the host's cores, and of the control group against its quota.

use std::path::PathBuf;
use std::time::Instant;

use millrace_ring::affinity::{self, CgroupPaths, controller_groups};

/// The part of a new reading in the figure, as in Envoy: single bursts do not show.
const WEIGHT: f64 = 0.05;

/// A figure that follows readings slowly; the first one is taken as it is.
#[derive(Default)]
struct Smoothed(Option<f64>);

impl Smoothed {
    fn take(&mut self, reading: f64) -> f64 {
        let reading = reading.clamp(0.0, 1.0);
        let next = self.0.map_or(reading, |before| before * (1.0 - WEIGHT) + reading * WEIGHT);
        self.0 = Some(next);
        next
    }

    fn now(&self) -> f64 {
        self.0.unwrap_or(0.0)
    }
}

/// `/proc/stat`.
#[derive(Default)]
pub(super) struct HostCpu {
    /// Busy and all time at the last reading, ticks.
    last: Option<(u64, u64)>,
    smoothed: Smoothed,
}

impl HostCpu {
    pub(super) fn read(&mut self) -> Result<f64, String> {
        let text = std::fs::read_to_string("/proc/stat").map_err(|error| error.to_string())?;
        self.take(&text)
    }

    fn take(&mut self, text: &str) -> Result<f64, String> {
        let (busy, all) = times(text).ok_or("/proc/stat cannot be read")?;
        let Some((busy_before, all_before)) = self.last.replace((busy, all)) else { return Ok(0.0) };
        match all.saturating_sub(all_before) {
            0 => Ok(self.smoothed.now()),
            spent => Ok(self.smoothed.take(busy.saturating_sub(busy_before) as f64 / spent as f64)),
        }
    }
}

/// User, nice and system time, and these with idle time.
fn times(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().ok());
    let busy = fields.next()?? + fields.next()?? + fields.next()??;
    Some((busy, busy + fields.next()??))
}

/// `cpu.stat` or `cpuacct.usage` against quota and cpuset.
pub(super) struct ContainerCpu {
    groups: [Vec<PathBuf>; 2],
    cores: f64,
    last: Option<(u64, Instant)>,
    smoothed: Smoothed,
}

impl ContainerCpu {
    pub(super) fn own() -> Self {
        let paths = CgroupPaths::default();
        let limits = affinity::cgroup_limits(&paths);
        let allowed = affinity::allowed_cpus().map_or(1, |cpus| cpus.len().max(1));
        let set = limits.cpuset.map_or(allowed, |set| set.len().min(allowed)) as f64;
        let quota = limits.quota_millicpus.map_or(set, |milli| milli as f64 / 1000.0);
        Self {
            groups: [controller_groups(&paths, ""), controller_groups(&paths, "cpuacct")],
            cores: set.min(quota).max(0.001),
            last: None,
            smoothed: Smoothed::default(),
        }
    }

    pub(super) fn read(&mut self) -> Result<f64, String> {
        let used = self.used().ok_or("the CPU time of the control group cannot be read")?;
        let now = Instant::now();
        let Some((before, at)) = self.last.replace((used, now)) else { return Ok(0.0) };
        let spent = now.duration_since(at).as_nanos() as f64 * self.cores;
        Ok(self.smoothed.take(used.saturating_sub(before) as f64 / spent.max(1.0)))
    }

    /// CPU time so far, ns.
    fn used(&self) -> Option<u64> {
        let [v2, v1] = &self.groups;
        let in_stat = |group: &PathBuf| {
            let text = std::fs::read_to_string(group.join("cpu.stat")).ok()?;
            let usec = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
            Some(usec.trim().parse::<u64>().ok()? * 1000)
        };
        let in_usage = |group: &PathBuf| {
            std::fs::read_to_string(group.join("cpuacct.usage")).ok()?.trim().parse::<u64>().ok()
        };
        v2.iter().find_map(in_stat).or_else(|| v1.iter().find_map(in_usage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_of_the_host_is_smoothed() {
        let mut cpu = HostCpu::default();
        assert_eq!(cpu.take("cpu  10 0 10 80 5 0 0 0\ncpu0 1 2 3 4\n"), Ok(0.0));
        assert_eq!(cpu.take("cpu  30 0 40 130 5 0 0 0\n"), Ok(0.5));
        let next = cpu.take("cpu  130 0 40 130 5 0 0 0\n").unwrap();
        assert!((next - 0.525).abs() < 1e-9, "{next}");
        assert!(cpu.take("nothing").is_err());
        assert_eq!(cpu.take("cpu  130 0 40 130\n").map(|at| at > 0.5), Ok(true));
    }
}
