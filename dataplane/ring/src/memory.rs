//! Giving memory back that only start-up, or a large update, needed.

/// Drops the resident pages of the program's own code and the allocator's free pages. Code that is used
/// again comes back from the page cache, page by page; an idle process keeps only what it runs. Call it once
/// the process serves. Returns the bytes of code that were advised.
pub fn release_startup_pages() -> usize {
    // SAFETY: takes no pointer; the allocator returns free pages to the kernel under its own locks.
    unsafe { libc::malloc_trim(0) };
    let Ok(executable) = std::fs::read_link("/proc/self/exe") else { return 0 };
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return 0 };
    let executable = executable.to_string_lossy();
    maps.lines().filter(|line| line.ends_with(&*executable)).filter_map(code_range).map(release).sum()
}

/// Start and end of a mapping that is executable and not writable: file pages that nobody ever changed.
fn code_range(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    (fields.next()? == "r-xp").then_some(())?;
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
    fn only_executable_mappings_are_released_and_code_still_runs() {
        assert_eq!(code_range("55d0-55f0 r--p 00000000 fe:00 5 /bin/x"), None);
        assert_eq!(code_range("55d0-55f0 rw-p 00000000 fe:00 5 /bin/x"), None);
        assert_eq!(code_range("55d0-55f0 r-xp 00000000 fe:00 5 /bin/x"), Some((0x55d0, 0x55f0)));
        assert!(release_startup_pages() > 0);
        assert_eq!("still here".len(), 10);
    }
}
