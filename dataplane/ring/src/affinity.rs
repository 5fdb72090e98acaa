//! CPUs: which ones this process may use, how much of them its container may use, and pinning.

use crate::IoError;
use std::path::{Path, PathBuf};

/// Highest CPU number the kernel's set can name, plus one.
const CPUS_MAX: usize = libc::CPU_SETSIZE as usize;

/// CPUs the calling thread may run on (`sched_getaffinity`, which reflects a container's cpuset), ascending.
///
/// # Errors
/// What the system call reports.
pub fn allowed_cpus() -> Result<Vec<usize>, IoError> {
    // SAFETY: all-zero bytes are a valid, empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: fills the local, whose size is given.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    crate::sys::check(result)?;
    // SAFETY: every index is below the set's size.
    Ok((0..CPUS_MAX).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Binds the calling thread to one CPU.
///
/// # Errors
/// EINVAL when the CPU does not exist or is not allowed.
pub fn pin_current_thread(cpu: usize) -> Result<(), IoError> {
    if cpu >= CPUS_MAX {
        return Err(IoError::from_errno(libc::EINVAL));
    }
    // SAFETY: all-zero bytes are a valid, empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index is below the set's size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: reads the local, whose size is given.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    crate::sys::check(result).map(drop)
}

/// Parses a kernel CPU list such as `2-3,7`; `None` when it is malformed. Empty text is no CPU.
pub fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// Where the control groups are looked up; tests point it elsewhere.
#[derive(Clone, Debug)]
pub struct CgroupPaths {
    /// `/proc/self/cgroup`.
    pub membership: PathBuf,
    /// `/sys/fs/cgroup`.
    pub root: PathBuf,
}

impl Default for CgroupPaths {
    fn default() -> Self {
        Self { membership: "/proc/self/cgroup".into(), root: "/sys/fs/cgroup".into() }
    }
}

/// What the control groups allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// CPU time per wall time, thousandths of a CPU; `None` is unlimited. The tightest of the group and its
    /// ancestors.
    pub quota_millicpus: Option<u64>,
    /// CPUs of the group's cpuset; `None` when there is none.
    pub cpuset: Option<Vec<usize>>,
}

/// Reads quota and cpuset of this process's groups, version 2 or 1. What cannot be read limits nothing.
pub fn cgroup_limits(paths: &CgroupPaths) -> CgroupLimits {
    let mut limits = CgroupLimits::default();
    let membership = std::fs::read_to_string(&paths.membership).unwrap_or_default();
    for line in membership.lines() {
        // <hierarchy>:<controllers>:<path>
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if controllers.is_empty() {
            for group in with_ancestors(&paths.root, path) {
                limits.tighten(quota_v2(&group), || cpuset_at(&group.join("cpuset.cpus.effective")));
            }
        }
        for controller in controllers.split(',') {
            let groups = || with_ancestors(&paths.root.join(controller), path);
            match controller {
                "cpu" => groups().iter().for_each(|group| limits.tighten(quota_v1(group), || None)),
                "cpuset" => groups()
                    .iter()
                    .for_each(|group| limits.tighten(None, || cpuset_at(&group.join("cpuset.cpus")))),
                _ => {}
            }
        }
    }
    limits
}

/// Directories of this process's group of a version 1 controller, or of version 2 for an empty name, and of its ancestors:
/// the process's own group first. Empty when it is in none.
pub fn controller_groups(paths: &CgroupPaths, controller: &str) -> Vec<PathBuf> {
    let membership = std::fs::read_to_string(&paths.membership).unwrap_or_default();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if controllers.split(',').any(|one| one == controller) {
            let root = if controller.is_empty() { paths.root.clone() } else { paths.root.join(controller) };
            return with_ancestors(&root, path);
        }
    }
    Vec::new()
}

/// CPUs worth a shard each: those allowed by affinity and cpuset, at most the quota rounded up, at least one.
pub fn cpu_budget(allowed: &[usize], limits: &CgroupLimits) -> usize {
    let in_set = |cpu: &&usize| limits.cpuset.as_ref().is_none_or(|set| set.contains(cpu));
    let usable = allowed.iter().filter(in_set).count();
    let quota = limits.quota_millicpus.map_or(usize::MAX, |milli| milli.div_ceil(1000) as usize);
    usable.min(quota).max(1)
}

impl CgroupLimits {
    /// Takes in what one group says, the process's own group first.
    fn tighten(&mut self, quota: Option<u64>, cpuset: impl Fn() -> Option<Vec<usize>>) {
        self.quota_millicpus = match (self.quota_millicpus, quota) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if self.cpuset.is_none() {
            self.cpuset = cpuset();
        }
    }
}

/// The group's directory and its ancestors' up to the root. Inside a container the path is often that of the
/// host and does not exist; then the root itself is the group.
fn with_ancestors(root: &Path, path: &str) -> Vec<PathBuf> {
    let mut groups = Vec::new();
    let mut relative = Path::new(path.trim_start_matches('/'));
    // A path outside of the namespace starts with `/..`.
    while !relative.as_os_str().is_empty() && !relative.starts_with("..") {
        groups.push(root.join(relative));
        relative = relative.parent().unwrap_or(Path::new(""));
    }
    groups.push(root.to_path_buf());
    groups
}

fn quota_v2(group: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(group.join("cpu.max")).ok()?;
    let mut fields = text.split_whitespace();
    let quota: u64 = fields.next()?.parse().ok()?;
    let period: u64 = fields.next()?.parse().ok()?;
    (period > 0).then(|| quota.saturating_mul(1000).div_ceil(period))
}

fn quota_v1(group: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<i64>().ok();
    // -1 is unlimited.
    let quota = u64::try_from(read("cpu.cfs_quota_us")?).ok()?;
    let period = u64::try_from(read("cpu.cfs_period_us")?).ok()?;
    (period > 0).then(|| quota.saturating_mul(1000).div_ceil(period))
}

fn cpuset_at(path: &Path) -> Option<Vec<usize>> {
    let cpus = parse_cpu_list(&std::fs::read_to_string(path).ok()?)?;
    (!cpus.is_empty()).then_some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory that is removed again.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("millrace-ring-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn limits(&self) -> CgroupLimits {
            cgroup_limits(&CgroupPaths { membership: self.0.join("cgroup"), root: self.0.join("fs") })
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("2-3,7\n"), Some(vec![2, 3, 7]));
        assert_eq!(parse_cpu_list("0,0-1"), Some(vec![0, 1]));
        assert_eq!(parse_cpu_list(""), Some(vec![]));
        for bad in ["3-2", "a", "1-", "-1", "0-99999999"] {
            assert_eq!(parse_cpu_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn version_2_takes_the_tightest_ancestor() {
        let tree = Tree::new(
            "v2",
            &[
                ("cgroup", "0::/pod/app\n"),
                ("fs/pod/cpu.max", "150000 100000\n"),
                ("fs/pod/app/cpu.max", "max 100000\n"),
                ("fs/pod/app/cpuset.cpus.effective", "1-4\n"),
                ("fs/cpuset.cpus.effective", "0-7\n"),
            ],
        );
        let limits = tree.limits();
        assert_eq!(limits, CgroupLimits { quota_millicpus: Some(1500), cpuset: Some(vec![1, 2, 3, 4]) });
        assert_eq!(cpu_budget(&[0, 1, 2, 3], &limits), 2);
        assert_eq!(cpu_budget(&[0, 1], &limits), 1);
        assert_eq!(cpu_budget(&[0], &limits), 1);
    }

    #[test]
    fn version_1_and_a_path_of_the_host() {
        let tree = Tree::new(
            "v1",
            &[
                ("cgroup", "4:cpu,cpuacct:/kubepods/x\n3:cpuset:/kubepods/x\n"),
                ("fs/cpu/cpu.cfs_quota_us", "50000\n"),
                ("fs/cpu/cpu.cfs_period_us", "100000\n"),
                ("fs/cpuset/cpuset.cpus", "0,2\n"),
            ],
        );
        let limits = tree.limits();
        assert_eq!(limits, CgroupLimits { quota_millicpus: Some(500), cpuset: Some(vec![0, 2]) });
        assert_eq!(cpu_budget(&[0, 1, 2, 3], &limits), 1);
    }

    #[test]
    fn nothing_readable_limits_nothing() {
        let limits = Tree::new("none", &[("cgroup", "garbage\n0::/../..\n")]).limits();
        assert_eq!(limits, CgroupLimits::default());
        assert_eq!(cpu_budget(&[3, 5], &limits), 2);
    }

    #[test]
    fn a_thread_pinned_to_a_cpu_may_use_that_one_only() {
        std::thread::spawn(|| {
            let cpu = allowed_cpus().unwrap()[0];
            pin_current_thread(cpu).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [cpu]);
            assert!(pin_current_thread(1023).is_err() && pin_current_thread(100_000).is_err());
        })
        .join()
        .unwrap();
    }
}
