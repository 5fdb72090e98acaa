//! Memory of the control group that this process is in, version 2 or 1.

use std::path::{Path, PathBuf};

use millrace_ring::affinity::{CgroupPaths, controller_groups};

/// A limit from here on is none: version 1 writes a number of pages where version 2 writes `max`.
const UNLIMITED: u64 = 1 << 60;

/// The files of the group; those of version 1 have other names.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// Field of `memory.stat`.
    inactive: &'static str,
}

const V2: Files = Files { limit: "memory.max", usage: "memory.current", inactive: "inactive_file" };
const V1: Files =
    Files { limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", inactive: "total_inactive_file" };

/// The group, and the ancestors that bound it.
pub(super) struct MemoryGroup {
    groups: Vec<PathBuf>,
    files: &'static Files,
}

impl MemoryGroup {
    /// The group of this process.
    pub(super) fn own() -> Self {
        Self::of(&CgroupPaths::default())
    }

    fn of(paths: &CgroupPaths) -> Self {
        let found = |controller: &str, files: &'static Files| {
            let mut groups = controller_groups(paths, controller);
            groups.retain(|group| group.join(files.usage).is_file());
            (!groups.is_empty()).then_some(Self { groups, files })
        };
        found("memory", &V1).or_else(|| found("", &V2)).unwrap_or(Self { groups: Vec::new(), files: &V2 })
    }

    /// The tightest limit of the group and its ancestors; `None` for none.
    pub(super) fn limit(&self) -> Option<u64> {
        let limits = self.groups.iter().filter_map(|group| number(&group.join(self.files.limit)));
        limits.min().filter(|limit| *limit < UNLIMITED)
    }

    /// What the group uses, caches of files included.
    pub(super) fn used(&self) -> Option<u64> {
        number(&self.groups.first()?.join(self.files.usage))
    }

    /// What the group uses but for caches that the kernel can drop at once: files that were read or written once.
    pub(super) fn working_set(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(self.groups.first()?.join("memory.stat")).unwrap_or_default();
        let field = |line: &str| line.strip_prefix(self.files.inactive)?.trim().parse::<u64>().ok();
        let inactive = stat.lines().find_map(field).unwrap_or(0);
        Some(self.used()?.saturating_sub(inactive))
    }
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree(name: &str, files: &[(&str, &str)]) -> (PathBuf, MemoryGroup) {
        let root = std::env::temp_dir().join(format!("millrace-cgroup-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let group = MemoryGroup::of(&CgroupPaths { membership: root.join("cgroup"), root: root.join("fs") });
        (root, group)
    }

    #[test]
    fn version_2_with_a_limit_of_an_ancestor() {
        let (root, group) = tree(
            "v2",
            &[
                ("cgroup", "0::/a/b\n"),
                ("fs/a/memory.max", "1000\n"),
                ("fs/a/memory.current", "700\n"),
                ("fs/a/b/memory.max", "max\n"),
                ("fs/a/b/memory.current", "600\n"),
                ("fs/a/b/memory.stat", "anon 1\ninactive_file 150\nactive_file 9\n"),
            ],
        );
        assert_eq!((group.limit(), group.used(), group.working_set()), (Some(1000), Some(600), Some(450)));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn version_1_and_no_limit() {
        let (root, group) = tree(
            "v1",
            &[
                ("cgroup", "5:memory:/x\n0::/\n"),
                ("fs/memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
                ("fs/memory/x/memory.usage_in_bytes", "500\n"),
                ("fs/memory/x/memory.stat", "inactive_file 3\ntotal_inactive_file 100\n"),
            ],
        );
        assert_eq!((group.limit(), group.used(), group.working_set()), (None, Some(500), Some(400)));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn without_a_group_nothing_is_known() {
        let (_, group) = tree("none", &[]);
        assert_eq!((group.limit(), group.used(), group.working_set()), (None, None, None));
    }
}
