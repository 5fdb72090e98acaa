//! The provided-buffer ring: which free buffers the kernel may fill.

use crate::{BufferPool, Filled, IoError};
use io_uring::types::BufRingEntry;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffers lent at first. The kernel uses its ring first in, first out, so a small window keeps the same few
/// buffers warm; it doubles whenever the kernel runs dry.
const WINDOW_AT_START: u16 = 32;

/// The ring of buffers lent to the kernel.
#[derive(Debug)]
pub(super) struct Lending {
    pool: BufferPool,
    entries: NonNull<BufRingEntry>,
    /// Power of two.
    capacity: u16,
    tail: u16,
    lent: u16,
    window: u16,
}

impl Lending {
    /// A ring for all buffers of the pool, none lent yet.
    pub(super) fn new(pool: BufferPool) -> Result<Self, IoError> {
        let count = pool.count() as u16;
        let capacity = count.next_power_of_two();
        // SAFETY: a fresh anonymous mapping; page-aligned as the kernel demands, and zeroed.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::mapped_bytes(capacity),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let entries = NonNull::new(address.cast()).filter(|_| address != libc::MAP_FAILED);
        let entries = entries.ok_or_else(IoError::last)?;
        Ok(Self { pool, entries, capacity, tail: 0, lent: 0, window: WINDOW_AT_START.min(count) })
    }

    fn mapped_bytes(capacity: u16) -> usize {
        usize::from(capacity) * size_of::<BufRingEntry>()
    }

    /// Address and entry count to register.
    pub(super) fn registration(&self) -> (u64, u16) {
        (self.entries.as_ptr() as u64, self.capacity)
    }

    /// Lends free buffers up to the window; true when the kernel has any.
    pub(super) fn refill(&mut self) -> bool {
        let before = self.tail;
        while self.lent < self.window
            && let Some(buffer) = self.pool.take()
        {
            let index = self.tail & (self.capacity - 1);
            // SAFETY: the index is below the capacity, so the entry lies in our mapping; the kernel reads
            // entries between its head and the published tail only, and this one is beyond the tail. At most
            // `count <= capacity` buffers are lent, so an unread entry is never overwritten. Field by field,
            // because the tail lives in the padding of entry 0.
            let entry = unsafe { self.entries.add(usize::from(index)).as_mut() };
            entry.set_addr(self.pool.address(buffer).as_ptr() as u64);
            entry.set_len(self.pool.buffer_bytes() as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            self.lent += 1;
        }
        if self.tail != before {
            // SAFETY: the tail is an aligned u16 of our mapping; the kernel only reads it, so an atomic view
            // of it is sound for as long as the mapping lives.
            let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
            tail.store(self.tail, Ordering::Release);
        }
        self.lent > 0
    }

    /// The kernel ran dry: lend more from now on, up to a quarter of the pool. One bulk receive takes all that is
    /// lent at once; the rest stays for what is on its way to a peer.
    pub(super) fn widen(&mut self) {
        let count = self.pool.count() as u16;
        let most = (count / 4).max(WINDOW_AT_START).min(count);
        self.window = self.window.saturating_mul(2).min(most);
    }

    /// Takes a lent buffer back that the kernel says it wrote `length` bytes into.
    pub(super) fn take_filled(&mut self, buffer: u16, length: u32) -> Filled {
        self.lent -= 1;
        // SAFETY: the completion hands the buffer over: it was lent, and the kernel is done with it.
        unsafe { self.pool.filled(buffer, length) }
    }

    /// Takes a lent buffer back that the kernel used for nothing.
    pub(super) fn take_unused(&mut self, buffer: u16) {
        self.lent -= 1;
        self.pool.put_back(buffer);
    }

    pub(super) fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// How many receives may be re-armed without running dry at once.
    pub(super) fn lent(&self) -> usize {
        usize::from(self.lent)
    }
}

impl Drop for Lending {
    /// Buffers that are still lent do not return to the free list; they count as home, and go with the pool.
    fn drop(&mut self) {
        // SAFETY: our own mapping; the ring that read it is closed (see the field order of `Uring`).
        unsafe { libc::munmap(self.entries.as_ptr().cast(), Self::mapped_bytes(self.capacity)) };
    }
}
