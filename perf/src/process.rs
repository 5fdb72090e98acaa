//! Pinning processes to cores and reading what they cost from /proc.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A command that will run on one core only (`taskset` execs, so the pid stays).
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// Ends a process politely, then surely.
pub(crate) fn terminate(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Already gone is fine.
        let _ = kill_process(pid, Signal::TERM);
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Processes and all their descendants.
fn tree(pids: &[u32]) -> Vec<u32> {
    let mut all = pids.to_vec();
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
        next += 1;
    }
    all
}

/// CPU time of the trees, every thread, user and system, in seconds.
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    tree(pids).into_iter().map(|p| process_ticks(p) as f64 / ticks).sum()
}

fn process_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may contain spaces; utime and stime are fields 14 and 15.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    [11, 12].iter().filter_map(|n| fields.get(*n)?.parse::<u64>().ok()).sum()
}

/// Voluntary and involuntary context switches of every thread of the trees.
pub(crate) fn switches(pids: &[u32]) -> (u64, u64) {
    let mut sum = (0, 0);
    for pid in tree(pids) {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let text = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            sum.0 += status_number(&text, "voluntary_ctxt_switches:");
            sum.1 += status_number(&text, "nonvoluntary_ctxt_switches:");
        }
    }
    sum
}

fn status_number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("0");
    line.trim().parse().unwrap_or(0)
}

/// Resident memory of the trees in KiB; pages that several processes share count once.
pub(crate) fn resident_kib(pids: &[u32]) -> u64 {
    let all = tree(pids);
    let key = if all.len() == 1 { "Rss:" } else { "Pss:" };
    all.into_iter().map(|p| rollup(p, key)).sum()
}

fn rollup(pid: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("0");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Busy seconds of one core since boot, whoever caused them.
pub(crate) fn core_busy_seconds(core: usize) -> f64 {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|l| l.strip_prefix(&format!("cpu{core} "))).unwrap_or("");
    let fields: Vec<u64> = line.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    (fields.iter().take(8).sum::<u64>() - idle) as f64 / ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_cost() {
        let own = [std::process::id()];
        assert!(resident_kib(&own) > 100);
        let (voluntary, involuntary) = switches(&own);
        assert!(voluntary + involuntary > 0);
        assert_eq!(status_number("a: 1\nvoluntary_ctxt_switches:\t7\n", "voluntary_ctxt_switches:"), 7);
        assert!(core_busy_seconds(0) > 0.0);
    }
}
