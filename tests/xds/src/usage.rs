//! What a process has used, from `/proc`.

use std::fs;
use std::time::Duration;

/// Kernel ticks a second (`USER_HZ`).
const TICKS: u64 = 100;

/// Resident memory in KiB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// `VmRSS`.
    pub now: u64,
    /// `VmHWM`.
    pub peak: u64,
    /// `RssAnon`: without the pages of the executable.
    pub anonymous: u64,
}

/// What a process holds now; 0 when it is gone.
pub fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Memory { now: field("VmRSS:"), peak: field("VmHWM:"), anonymous: field("RssAnon:") }
}

/// User and system time of the whole process, threads that ended included; in steps of 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n: usize| rest.split_ascii_whitespace().nth(n).and_then(|f| f.parse().ok()).unwrap_or(0);
    let ticks: u64 = field(11) + field(12);
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Time on a CPU of the threads that run now, exact: the first one (the control thread), and the others.
pub fn threads(pid: u32) -> (Duration, Duration) {
    let (mut main, mut others) = (Duration::ZERO, Duration::ZERO);
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let on_cpu = text.split_ascii_whitespace().next().and_then(|f| f.parse().ok()).unwrap_or(0);
        let is_main = task.file_name().to_str() == Some(&pid.to_string());
        *(if is_main { &mut main } else { &mut others }) += Duration::from_nanos(on_cpu);
    }
    (main, others)
}
