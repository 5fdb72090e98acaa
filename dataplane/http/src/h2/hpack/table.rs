//! The dynamic table (RFC 7541 section 2.3.2): octets in one vector, entries in a ring; both sides' tables are this.
//!
//! Entries stand behind each other in the vector, the newest last, so that name and value are slices. Room is made by
//! moving the living octets to the front, at most once for as many octets as are moved: no allocation once it has grown.

use alloc::vec::Vec;

/// What an entry costs besides its name and value (RFC 7541 section 4.1).
pub(super) const OVERHEAD: usize = 32;

/// Octets of a table until SETTINGS say something else (RFC 9113 section 6.5.2).
pub(super) const DEFAULT_SIZE: u32 = 4096;

/// The first allocations: octets and entries.
const FIRST_CAPACITY: usize = 512;
const FIRST_ENTRIES: usize = 16;

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
    max_size: u32,
    /// A power of two of entries, each at its number modulo that.
    ring: Vec<Entry<T>>,
    /// Entries that were ever inserted, modulo 2^32: the number of the next one.
    inserted: u32,
    len: u32,
    /// Sum of the entries' sizes.
    size: usize,
}

impl<T: Copy> Table<T> {
    pub(super) const fn new(max_size: u32) -> Self {
        Self { bytes: Vec::new(), dropped: 0, max_size, ring: Vec::new(), inserted: 0, len: 0, size: 0 }
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
    pub(super) fn by_age(&self, age: u32) -> Option<&Entry<T>> {
        if age < self.len { self.ring.get(self.place(self.number_of(age))) } else { None }
    }

    /// The entry that was inserted as this number, unless it has left.
    #[inline]
    pub(super) fn by_number(&self, number: u32) -> Option<&Entry<T>> {
        if self.age_of(number) < self.len { self.ring.get(self.place(number)) } else { None }
    }

    /// The number of the entry that is inserted next; numbers begin again after 2^32.
    #[inline]
    pub(super) fn next_number(&self) -> u32 {
        self.inserted
    }

    /// How many entries are newer than the one of this number.
    #[inline]
    pub(super) fn age_of(&self, number: u32) -> u32 {
        self.inserted.wrapping_sub(number).wrapping_sub(1)
    }

    #[inline]
    fn number_of(&self, age: u32) -> u32 {
        self.inserted.wrapping_sub(age).wrapping_sub(1)
    }

    #[inline]
    fn place(&self, number: u32) -> usize {
        number as usize & self.ring.len().wrapping_sub(1)
    }

    /// An entry's name and value.
    #[inline]
    pub(super) fn field(&self, entry: &Entry<T>) -> (&[u8], &[u8]) {
        let start = entry.at.wrapping_sub(self.dropped) as usize;
        self.bytes[start..start + entry.len()].split_at(entry.name_len as usize)
    }

    /// An entry's value.
    #[inline]
    pub(super) fn value(&self, entry: &Entry<T>) -> &[u8] {
        let start = entry.at.wrapping_sub(self.dropped) as usize + entry.name_len as usize;
        &self.bytes[start..start + entry.value_len as usize]
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
        let oldest = self.by_age(self.len.wrapping_sub(1));
        let dead = oldest.map_or(self.bytes.len(), |entry| entry.at.wrapping_sub(self.dropped) as usize);
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
                self.push(Entry {
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

    #[inline]
    fn push(&mut self, entry: Entry<T>) {
        if self.len as usize == self.ring.len() {
            self.grow(entry);
        }
        let place = self.place(self.inserted);
        if let Some(slot) = self.ring.get_mut(place) {
            *slot = entry;
        }
        self.inserted = self.inserted.wrapping_add(1);
        self.len += 1;
    }

    #[cold]
    fn grow(&mut self, filler: Entry<T>) {
        let mut ring = alloc::vec![filler; (self.ring.len() * 2).max(FIRST_ENTRIES)];
        let mask = ring.len() - 1;
        for age in 0..self.len {
            if let Some(entry) = self.by_age(age) {
                ring[self.number_of(age) as usize & mask] = *entry;
            }
        }
        self.ring = ring;
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
            && let Some(oldest) = self.by_age(self.len.wrapping_sub(1))
        {
            self.size -= oldest.len() + OVERHEAD;
            self.len -= 1;
        }
    }

    /// Makes an empty table one whose numbers and places are about to begin again.
    #[cfg(test)]
    pub(super) fn grow_old(&mut self) {
        (self.inserted, self.dropped) = (u32::MAX - 5, u32::MAX - 100);
    }

    /// Octets and entries that the table has allocated.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.bytes.capacity(), self.ring.capacity())
    }
}
