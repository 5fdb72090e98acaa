//! Giving memory back that only start-up, or a large update, needed.

/// Gives free pages of all of the allocator's arenas back to the system.
pub fn release_free_memory() {
    // SAFETY: takes no pointer; the allocator returns free pages to the kernel under its own locks.
    unsafe { libc::malloc_trim(0) };
}

/// Drops the resident pages of the program's own code and constants and the allocator's free pages. What is used
/// again comes back from the page cache, page by page; an idle process keeps only what it runs. Call it once
/// the process serves. Returns the bytes of code that were advised.
pub fn release_startup_pages() -> usize {
    release_free_memory();
    let Ok(executable) = std::fs::read_link("/proc/self/exe") else { return 0 };
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return 0 };
    let executable = executable.to_string_lossy();
    maps.lines().filter(|line| line.ends_with(&*executable)).filter_map(clean_range).map(release).sum()
}

/// Start and end of a mapping whose file pages nobody ever changed: code, and the constants that the file begins with.
fn clean_range(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, offset) = (fields.next()?, fields.next()?);
    // What the loader relocates and then protects stands further on in the file.
    let is_constant = permissions == "r--p" && offset.bytes().all(|digit| digit == b'0');
    (permissions == "r-xp" || is_constant).then_some(())?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

fn release((start, end): (usize, usize)) -> usize {
    let length = end.saturating_sub(start);
    // SAFETY: the range is one of this process's mappings, as the kernel just listed it; it is a private file
    // mapping without write permission, so no page of it is dirty, and MADV_DONTNEED on such pages only makes
    // the next access read the same bytes from the file again.
    let result = unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    if result == 0 { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_pages_are_released_and_code_still_runs() {
        for (line, range) in [
            ("55d0-55f0 r-xp 00001000 fe:00 5 /bin/x", Some((0x55d0, 0x55f0))),
            ("55d0-55f0 r--p 00000000 fe:00 5 /bin/x", Some((0x55d0, 0x55f0))),
            ("55d0-55f0 r--p 00c2d000 fe:00 5 /bin/x", None),
            ("55d0-55f0 rw-p 00000000 fe:00 5 /bin/x", None),
        ] {
            assert_eq!(clean_range(line), range, "{line}");
        }
        assert!(release_startup_pages() > 0);
        assert_eq!("still here".len(), 10);
    }
}
