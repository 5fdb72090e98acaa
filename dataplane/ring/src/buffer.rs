//! Receive buffers: one mapped region cut into equal pieces, and the ranges of it that hold received bytes.
//!
//! A buffer is free, lent to the kernel, or filled. A filled one is read through [`Filled`] values that share
//! it; when the last share is dropped the buffer is home again. Single-threaded: the counts are plain cells.

use crate::{Config, IoError};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::rc::Rc;

const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

struct Pool {
    base: NonNull<u8>,
    mapped_bytes: usize,
    buffer_bytes: u32,
    /// Living [`Filled`] values of each buffer; 0 for a free or lent one.
    shares: Box<[Cell<u32>]>,
    /// Buffers that neither the kernel nor a [`Filled`] has; last in, first out keeps the warm ones in use.
    free: RefCell<Vec<u16>>,
    outstanding: Cell<u16>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: base and mapped_bytes are those of the mmap in `BufferPool::new`; no Filled is left, since
        // each of them holds the Rc, and back ends take their lent buffers back before they drop theirs.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
    }
}

/// The receive buffers of one shard; a clone is the same pool.
#[derive(Clone)]
pub struct BufferPool(Rc<Pool>);

impl BufferPool {
    /// Maps the region (nothing is touched yet).
    ///
    /// # Errors
    /// What `mmap` reports: the process may not have that much address space.
    pub fn new(config: &Config) -> Result<Self, IoError> {
        let count = config.buffers.clamp(1, 32768);
        let buffer_bytes = config.buffer_bytes.clamp(64, 1 << 24).next_multiple_of(64);
        let bytes = usize::from(count) * buffer_bytes as usize;
        let (base, mapped_bytes) = map(bytes, config.hugepages)?;
        Ok(Self(Rc::new(Pool {
            base,
            mapped_bytes,
            buffer_bytes,
            shares: (0..count).map(|_| Cell::new(0)).collect(),
            free: RefCell::new((0..count).rev().collect()),
            outstanding: Cell::new(0),
        })))
    }

    /// Number of buffers.
    pub fn count(&self) -> usize {
        self.0.shares.len()
    }

    /// Size of a buffer, bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.0.buffer_bytes as usize
    }

    /// Buffers that hold received bytes somebody still looks at.
    pub fn outstanding(&self) -> usize {
        usize::from(self.0.outstanding.get())
    }

    /// Buffers that are free or wait in the kernel for bytes. Equals [`count`](Self::count) at quiescence.
    pub fn home(&self) -> usize {
        self.count() - self.outstanding()
    }

    /// A free buffer filled with a copy of the first bytes of `bytes` (as many as fit). `None` when no buffer
    /// is free or there is nothing to copy.
    pub fn copy_from(&self, bytes: &[u8]) -> Option<Filled> {
        let length = bytes.len().min(self.buffer_bytes());
        if length == 0 {
            return None;
        }
        let buffer = self.take()?;
        // SAFETY: the buffer was free, so nothing else points into it, and it is at least `length` long.
        unsafe { self.address(buffer).as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), length) };
        // SAFETY: taken just now, and its first `length` bytes were just written.
        Some(unsafe { self.filled(buffer, length as u32) })
    }

    /// Takes a free buffer to lend it to the kernel.
    pub(crate) fn take(&self) -> Option<u16> {
        self.0.free.borrow_mut().pop()
    }

    /// Gives back a buffer from [`take`](Self::take) that nothing was received into.
    pub(crate) fn put_back(&self, buffer: u16) {
        debug_assert_eq!(self.0.shares[usize::from(buffer)].get(), 0, "a lent buffer has no share");
        self.0.free.borrow_mut().push(buffer);
    }

    /// True when no buffer can be taken.
    pub(crate) fn none_free(&self) -> bool {
        self.0.free.borrow().is_empty()
    }

    /// Start of a buffer.
    pub(crate) fn address(&self, buffer: u16) -> NonNull<u8> {
        debug_assert!(usize::from(buffer) < self.count());
        // SAFETY: the index is below the count (only `take` makes them), so the offset stays in the mapping.
        unsafe { self.0.base.add(usize::from(buffer) * self.buffer_bytes()) }
    }

    /// Turns a lent buffer into its first filled range.
    ///
    /// # Safety
    /// `buffer` came from [`take`](Self::take), nobody writes to it any more, and its first `length` bytes
    /// are initialised (mapped memory always is).
    pub(crate) unsafe fn filled(&self, buffer: u16, length: u32) -> Filled {
        debug_assert!(length <= self.0.buffer_bytes);
        let shares = &self.0.shares[usize::from(buffer)];
        debug_assert_eq!(shares.get(), 0, "a buffer is filled once");
        shares.set(1);
        self.0.outstanding.set(self.0.outstanding.get() + 1);
        Filled { pool: Rc::clone(&self.0), start: 0, end: length.min(self.0.buffer_bytes), buffer }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferPool({} of {} home)", self.home(), self.count())
    }
}

fn map(bytes: usize, hugepages: bool) -> Result<(NonNull<u8>, usize), IoError> {
    let attempt = |bytes: usize, extra: i32| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | extra;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no existing memory.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        (address != libc::MAP_FAILED).then_some(address).and_then(|a| NonNull::new(a.cast::<u8>()))
    };
    if hugepages {
        let rounded = bytes.next_multiple_of(HUGE_PAGE_BYTES);
        // Without NORESERVE a missing huge page fails here instead of as SIGBUS at first touch.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
        // SAFETY: as above.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), rounded, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if address != libc::MAP_FAILED
            && let Some(base) = NonNull::new(address.cast::<u8>())
        {
            return Ok((base, rounded));
        }
    }
    let base = attempt(bytes, 0).ok_or_else(IoError::last)?;
    let advice = if hugepages { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
    // SAFETY: advises on our own fresh mapping; refusal (a kernel without huge pages) is harmless.
    unsafe { libc::madvise(base.as_ptr().cast(), bytes, advice) };
    Ok((base, bytes))
}

/// A range of received bytes. Holds its buffer away from home until dropped; stays on its shard's thread.
pub struct Filled {
    pool: Rc<Pool>,
    start: u32,
    end: u32,
    buffer: u16,
}

impl Filled {
    fn sibling(&self, start: u32, end: u32) -> Self {
        let shares = &self.pool.shares[usize::from(self.buffer)];
        shares.set(shares.get() + 1);
        Self { pool: Rc::clone(&self.pool), start, end, buffer: self.buffer }
    }

    /// Clamps an offset to the range.
    fn at(&self, offset: usize) -> u32 {
        self.start + offset.min(self.len()) as u32
    }

    /// Forgets the first `count` bytes (all, if there are fewer).
    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.start = self.at(count);
    }

    /// Keeps the first `count` bytes (all, if there are fewer).
    #[inline]
    pub fn truncate(&mut self, count: usize) {
        self.end = self.at(count);
    }

    /// Cuts off and returns the first `count` bytes (all, if there are fewer); both share the buffer.
    #[inline]
    pub fn split_to(&mut self, count: usize) -> Self {
        let middle = self.at(count);
        let head = self.sibling(self.start, middle);
        self.start = middle;
        head
    }

    /// Another look at a part of the range (clamped to it); both share the buffer.
    #[inline]
    pub fn share(&self, range: Range<usize>) -> Self {
        let start = self.at(range.start);
        self.sibling(start, self.at(range.end).max(start))
    }

    /// The bytes for writing (decryption in place), if nobody else shares the buffer.
    pub fn unique_mut(&mut self) -> Option<&mut [u8]> {
        if self.pool.shares[usize::from(self.buffer)].get() != 1 {
            return None;
        }
        let (offset, length) = self.location();
        // SAFETY: the range lies in the mapping, is initialised, and this is the buffer's only share, borrowed
        // mutably; the kernel does not have the buffer while a share lives.
        Some(unsafe { std::slice::from_raw_parts_mut(self.pool.base.add(offset).as_ptr(), length) })
    }

    /// Bytes of the whole buffer that this range keeps away from home.
    pub fn buffer_bytes(&self) -> usize {
        self.pool.buffer_bytes as usize
    }

    fn location(&self) -> (usize, usize) {
        let offset = usize::from(self.buffer) * self.pool.buffer_bytes as usize + self.start as usize;
        (offset, (self.end - self.start) as usize)
    }
}

impl Deref for Filled {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let (offset, length) = self.location();
        // SAFETY: the range lies in the mapping and is initialised; while a share lives the kernel does not
        // have the buffer, and `unique_mut` hands out writes only when there is a single share.
        unsafe { std::slice::from_raw_parts(self.pool.base.add(offset).as_ptr(), length) }
    }
}

impl Drop for Filled {
    #[inline]
    fn drop(&mut self) {
        let shares = &self.pool.shares[usize::from(self.buffer)];
        let left = shares.get() - 1;
        shares.set(left);
        if left == 0 {
            self.pool.outstanding.set(self.pool.outstanding.get() - 1);
            self.pool.free.borrow_mut().push(self.buffer);
        }
    }
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filled({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Rng;

    fn pool(buffers: u16, buffer_bytes: u32) -> BufferPool {
        BufferPool::new(&Config { buffers, buffer_bytes, ..Config::default() }).unwrap()
    }

    #[test]
    fn a_buffer_is_home_when_its_last_share_is_gone() {
        let pool = pool(2, 64);
        let mut whole = pool.copy_from(b"head body").unwrap();
        let head = whole.split_to(5);
        assert_eq!((&*head, &*whole, pool.outstanding()), (&b"head "[..], &b"body"[..], 1));
        assert!(whole.unique_mut().is_none());
        drop(head);
        whole.unique_mut().unwrap()[0] = b'B';
        let view = whole.share(1..99);
        assert_eq!((&*view, &*whole), (&b"ody"[..], &b"Body"[..]));
        drop((whole, view));
        assert_eq!(pool.home(), 2);
    }

    #[test]
    fn an_empty_pool_says_so_and_long_input_is_cut() {
        let pool = pool(1, 64);
        let only = pool.copy_from(&[7; 100]).unwrap();
        assert_eq!(only.len(), 64);
        assert!(pool.copy_from(b"x").is_none() && pool.none_free());
    }

    #[test]
    fn random_splits_keep_bytes_and_counts() {
        let mut rng = Rng::new(1);
        let pool = pool(4, 256);
        for _ in 0..2_000 {
            let text: Vec<u8> = (0..1 + rng.below(256)).map(|_| rng.next_u64() as u8).collect();
            let mut pieces = vec![(pool.copy_from(&text).unwrap(), 0..text.len())];
            for _ in 0..rng.below(12) {
                let pick = rng.below(pieces.len() as u64) as usize;
                let at = rng.below(300) as usize;
                let (piece, range) = &mut pieces[pick];
                let middle = (range.start + at).min(range.end);
                match rng.below(4) {
                    0 => {
                        let head = piece.split_to(at);
                        let head_range = range.start..middle;
                        range.start = middle;
                        pieces.push((head, head_range));
                    }
                    1 => {
                        piece.advance(at);
                        range.start = middle;
                    }
                    2 => {
                        piece.truncate(at);
                        range.end = middle;
                    }
                    _ => {
                        let view = piece.share(at..at + 10);
                        let view_range = middle..(range.start + at + 10).min(range.end).max(middle);
                        pieces.push((view, view_range));
                    }
                }
                assert!(pieces.iter().all(|(piece, range)| piece[..] == text[range.clone()]));
                assert_eq!(pool.outstanding(), 1);
            }
            drop(pieces);
            assert_eq!(pool.home(), 4);
        }
    }
}
