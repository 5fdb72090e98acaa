//! The dynamic table (RFC 7541 section 2.3.2): octets in one vector, entries in a ring; both sides' tables are this.
//!
//! Entries stand behind each other in the vector, the newest last, so that name and value are slices. Room is made by
//! moving the living octets to the front, at most once for as many octets as are moved: no allocation once it has grown.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What an entry costs besides its name and value (RFC 7541 section 4.1).
pub(super) const OVERHEAD: usize = 32;

/// Octets of a table until SETTINGS say something else (RFC 9113 section 6.5.2).
pub(super) const DEFAULT_SIZE: u32 = 4096;

/// The vector's first allocation.
const FIRST_CAPACITY: usize = 512;

/// One field of the table, with what its side notes about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<T> {
    /// Place of the name among all octets that were ever stored, modulo 2^32.
    at: u32,
    name_len: u32,
    value_len: u32,
    pub(super) note: T,
}

impl<T> Entry<T> {
    #[inline]
    fn len(&self) -> usize {
        self.name_len as usize + self.value_len as usize
    }
}

/// The dynamic table of one direction.
#[derive(Clone, Debug)]
pub(super) struct Table<T> {
    bytes: Vec<u8>,
    /// Octets that were dropped from the front of `bytes` so far, modulo 2^32.
    dropped: u32,
    /// The oldest entry first.
    entries: VecDeque<Entry<T>>,
    /// Sum of the entries' sizes.
    size: usize,
    max_size: u32,
}

impl<T: Copy> Table<T> {
    pub(super) const fn new(max_size: u32) -> Self {
        Self { bytes: Vec::new(), dropped: 0, entries: VecDeque::new(), size: 0, max_size }
    }

    #[inline]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    #[inline]
    pub(super) fn max_size(&self) -> u32 {
        self.max_size
    }

    /// The entry that is `age` entries older than the newest.
    #[inline]
    pub(super) fn entry(&self, age: u32) -> Option<&Entry<T>> {
        let place = self.entries.len().checked_sub(age as usize + 1)?;
        self.entries.get(place)
    }

    /// An entry's name and value.
    #[inline]
    pub(super) fn field(&self, entry: &Entry<T>) -> (&[u8], &[u8]) {
        let start = entry.at.wrapping_sub(self.dropped) as usize;
        self.bytes[start..start + entry.len()].split_at(entry.name_len as usize)
    }

    /// Where an entry's name stands in [`Table::scratch`] as long as that only grows.
    #[inline]
    pub(super) fn name_range(&self, entry: &Entry<T>) -> core::ops::Range<usize> {
        let start = entry.at.wrapping_sub(self.dropped) as usize;
        start..start + entry.name_len as usize
    }

    /// Room for `more` octets; the start of what is written to [`Table::scratch`] next.
    #[inline]
    pub(super) fn make_room(&mut self, more: usize) -> usize {
        if self.bytes.capacity() - self.bytes.len() < more {
            self.compact(more);
        }
        self.bytes.len()
    }

    #[cold]
    fn compact(&mut self, more: usize) {
        let oldest = self.entries.front().map(|entry| entry.at.wrapping_sub(self.dropped) as usize);
        let dead = oldest.unwrap_or(self.bytes.len());
        let live = self.bytes.len() - dead;
        self.bytes.drain(..dead);
        self.dropped = self.dropped.wrapping_add(dead as u32);
        // As much room as is in use: moving costs no more than what was written since the last time.
        let wanted = 2 * live + more;
        if self.bytes.capacity() < wanted {
            self.bytes.reserve(wanted.next_power_of_two().max(FIRST_CAPACITY) - live);
        }
    }

    /// The octets; a new entry is written behind them.
    #[inline]
    pub(super) fn scratch(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    #[inline]
    pub(super) fn written(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what was written from `start` on, and a vector that a huge field has grown.
    #[inline]
    pub(super) fn forget(&mut self, start: usize) {
        self.bytes.truncate(start);
        if self.bytes.capacity() > 8 * (self.max_size as usize).max(DEFAULT_SIZE as usize) {
            self.compact(0);
            self.bytes.shrink_to(2 * self.bytes.len());
        }
    }

    /// Makes an entry of what was written from `start` on, `name_len` octets of name and then the value. One that is
    /// larger than the table empties it (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, start: usize, name_len: usize, note: T) {
        let value_len = self.bytes.len() - start - name_len;
        let size = name_len + value_len + OVERHEAD;
        match (self.max_size as usize).checked_sub(size) {
            Some(rest) => {
                self.evict(rest);
                self.size += size;
                self.entries.push_back(Entry {
                    at: self.dropped.wrapping_add(start as u32),
                    name_len: name_len as u32,
                    value_len: value_len as u32,
                    note,
                });
            }
            None => {
                self.evict(0);
                self.forget(start);
            }
        }
    }

    /// Changes the size that the table may have.
    pub(super) fn resize(&mut self, max_size: u32) {
        self.evict(max_size as usize);
        self.max_size = max_size;
    }

    /// Evicts entries, the oldest first, until no more than `size` is in use.
    #[inline]
    fn evict(&mut self, size: usize) {
        while self.size > size
            && let Some(entry) = self.entries.pop_front()
        {
            self.size -= entry.len() + OVERHEAD;
        }
    }

    /// Octets that the table holds on to.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.bytes.capacity(), self.entries.capacity())
    }
}
