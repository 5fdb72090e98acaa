//! The header map: one byte vector in wire form, one vector of small entries.
//!
//! Every field is kept as `name: value\r\n` with the name in lower case, in the order it came or was
//! added. So an unedited head is encoded again as one copy, and clearing keeps both allocations: after a
//! few requests nothing allocates. Edits append to the byte vector; the space of replaced fields comes
//! back with [`HeaderMap::clear`].

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::id::HeaderId;
use super::token::{self, is_token};
pub(crate) use indexed::Indexed;

const NO_CASE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    line_at: u32,
    name_len: u32,
    value_len: u32,
    /// Where the name's original spelling stands in `cased`, or [`NO_CASE`].
    cased_at: u32,
    id: Option<HeaderId>,
    live: bool,
    /// Came as "never indexed" and has to leave like that (RFC 7541 section 6.2.3).
    sensitive: bool,
}

impl Entry {
    #[inline]
    fn name(&self) -> Range<usize> {
        let at = self.line_at as usize;
        at..at + self.name_len as usize
    }

    #[inline]
    fn value(&self) -> Range<usize> {
        let at = self.line_at as usize + self.name_len as usize + 2;
        at..at + self.value_len as usize
    }

    #[inline]
    fn line(&self) -> Range<usize> {
        self.line_at as usize..self.value().end + 2
    }
}

/// Fields of a head or a trailer section, in order, names in lower case (RFC 9110 section 5).
#[derive(Clone, Default)]
pub struct HeaderMap {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    cased: Vec<u8>,
    /// Known names that are present.
    present: [u64; 2],
    /// Known names that may stand in several fields; only ever too many of them.
    repeated: [u64; 2],
    live: u32,
}

impl HeaderMap {
    /// An empty map that allocates nothing yet.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            entries: Vec::new(),
            cased: Vec::new(),
            present: [0; 2],
            repeated: [0; 2],
            live: 0,
        }
    }

    /// Forgets every field and keeps the allocations.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.cased.clear();
        (self.present, self.repeated, self.live) = ([0; 2], [0; 2], 0);
    }

    /// Number of fields (lines, not distinct names).
    pub fn len(&self) -> usize {
        self.live as usize
    }

    /// True without any field.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Sum of the lengths of names and values, as Envoy's `byteSize` counts.
    pub fn byte_len(&self) -> usize {
        self.live().map(|e| e.name_len as usize + e.value_len as usize).sum()
    }

    /// The first value of a known name.
    #[inline]
    pub fn get(&self, id: HeaderId) -> Option<&[u8]> {
        if !self.contains(id) {
            return None;
        }
        self.values(id).next()
    }

    /// The first value of a name given in lower case.
    pub fn get_name(&self, lower_name: &[u8]) -> Option<&[u8]> {
        match HeaderId::lookup(lower_name) {
            Some(id) => self.get(id),
            None => self.live().find(|e| self.matches(e, None, lower_name)).map(|e| &self.bytes[e.value()]),
        }
    }

    /// All values of a known name, in order.
    #[inline]
    pub fn values(&self, id: HeaderId) -> impl Iterator<Item = &[u8]> + Clone + '_ {
        let entries = if self.contains(id) { self.entries.as_slice() } else { &[] };
        entries.iter().filter(move |e| e.live && e.id == Some(id)).map(|e| &self.bytes[e.value()])
    }

    /// All values of a name given in lower case, in order.
    pub fn values_name<'m, 'n>(
        &'m self,
        lower_name: &'n [u8],
    ) -> impl Iterator<Item = &'m [u8]> + Clone + use<'m, 'n> {
        let id = HeaderId::lookup(lower_name);
        self.live().filter(move |e| self.matches(e, id, lower_name)).map(|e| &self.bytes[e.value()])
    }

    /// True when a field of this known name exists.
    #[inline]
    pub fn contains(&self, id: HeaderId) -> bool {
        is_in(&self.present, id)
    }

    /// True when a field of one of these names exists ([`HeaderId::set`]).
    #[inline]
    pub fn contains_any(&self, set: u128) -> bool {
        self.present() & set != 0
    }

    /// True when a field of this lower-case name exists.
    pub fn contains_name(&self, lower_name: &[u8]) -> bool {
        self.get_name(lower_name).is_some()
    }

    /// Appends all values of a name to `out`, joined by `,` as Envoy's `getAllOfHeaderAsString` does.
    /// Returns false, with `out` untouched, when there is no such field.
    pub fn joined(&self, lower_name: &[u8], out: &mut Vec<u8>) -> bool {
        let mut found = false;
        for value in self.values_name(lower_name) {
            if found {
                out.push(b',');
            }
            out.extend_from_slice(value);
            found = true;
        }
        found
    }

    /// Adds a field after the others. The name is stored in lower case; bytes that may not stand in a
    /// value (RFC 9110 section 5.5) become spaces. Returns false, and stores nothing, when the name is
    /// not a token or the map would exceed 4 GiB.
    pub fn append(&mut self, name: &[u8], value: &[u8]) -> bool {
        if !is_token(name) {
            return false;
        }
        self.push(name, value, None, true)
    }

    /// Adds a field of a known name after the others; see [`HeaderMap::append`] for the value.
    pub fn append_id(&mut self, id: HeaderId, value: &[u8]) -> bool {
        self.push(id.name().as_bytes(), value, Some(id), true)
    }

    /// Adds a line that the parser already checked and split. `keep_case` remembers the original spelling.
    pub(crate) fn push_wire(&mut self, name: &[u8], value: &[u8], keep_case: bool) -> bool {
        debug_assert!(is_token(name) && token::is_valid_value(value), "the parser checks before it stores");
        let pushed = self.push(name, value, None, false);
        if keep_case
            && pushed
            && let Some(entry) = self.entries.last_mut()
        {
            entry.cased_at = self.cased.len() as u32;
            self.cased.extend_from_slice(name);
        }
        pushed
    }

    #[inline]
    fn push(&mut self, name: &[u8], value: &[u8], id: Option<HeaderId>, sanitise: bool) -> bool {
        let Some(mut entry) = self.write_line(name, value, id, sanitise) else { return false };
        entry.id = id.or_else(|| HeaderId::lookup(&self.bytes[entry.name()]));
        self.note(entry.id);
        self.entries.push(entry);
        true
    }

    /// Counts a new entry.
    #[inline]
    fn note(&mut self, id: Option<HeaderId>) {
        self.live += 1;
        if let Some(id) = id {
            let (word, bit) = place(id);
            self.repeated[word] |= self.present[word] & bit;
            self.present[word] |= bit;
        }
    }

    #[inline]
    fn write_line(
        &mut self,
        name: &[u8],
        value: &[u8],
        id: Option<HeaderId>,
        sanitise: bool,
    ) -> Option<Entry> {
        let at = self.bytes.len();
        // Positions are 32 bits wide; heads are bounded far below, this keeps the cast honest.
        u32::try_from(at + name.len() + value.len() + 4).ok()?;
        self.bytes.reserve(name.len() + value.len() + 4);
        match id {
            Some(id) => self.bytes.extend_from_slice(id.line_start()),
            None => {
                self.bytes.extend_from_slice(name);
                self.bytes[at..].make_ascii_lowercase();
                self.bytes.extend_from_slice(b": ");
            }
        }
        let value_at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        if sanitise {
            blank_invalid(&mut self.bytes[value_at..]);
        }
        self.bytes.extend_from_slice(b"\r\n");
        Some(Entry {
            line_at: at as u32,
            name_len: name.len() as u32,
            value_len: value.len() as u32,
            cased_at: NO_CASE,
            id: None,
            live: true,
            sensitive: false,
        })
    }

    /// Makes `value` the only value of `name`, at the place of the first field of that name or at the end.
    /// Returns what [`HeaderMap::append`] returns.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> bool {
        if !is_token(name) {
            return false;
        }
        let at = self.entries.iter().position(|e| {
            e.live && e.name_len as usize == name.len() && self.bytes[e.name()].eq_ignore_ascii_case(name)
        });
        self.set_at(at, name, None, value)
    }

    /// Makes `value` the only value of a known name; see [`HeaderMap::set`].
    pub fn set_id(&mut self, id: HeaderId, value: &[u8]) -> bool {
        let at = match self.contains(id) {
            true => self.entries.iter().position(|e| e.live && e.id == Some(id)),
            false => None,
        };
        self.set_at(at, id.name().as_bytes(), Some(id), value)
    }

    fn set_at(&mut self, at: Option<usize>, name: &[u8], id: Option<HeaderId>, value: &[u8]) -> bool {
        let Some(at) = at else { return self.push(name, value, id, true) };
        let old = self.entries[at];
        if old.value_len as usize == value.len() {
            let range = old.value();
            self.bytes[range.clone()].copy_from_slice(value);
            blank_invalid(&mut self.bytes[range]);
        } else {
            let Some(new) = self.write_line(name, value, id, true) else { return false };
            self.entries[at] = Entry { id: old.id, cased_at: old.cased_at, sensitive: old.sensitive, ..new };
        }
        if old.id.is_some_and(|id| !is_in(&self.repeated, id)) {
            return true;
        }
        for i in at + 1..self.entries.len() {
            let entry = self.entries[i];
            if entry.live
                && entry.id == old.id
                && (old.id.is_some() || self.bytes[entry.name()] == self.bytes[old.name()])
            {
                self.entries[i].live = false;
                self.live -= 1;
            }
        }
        true
    }

    /// Removes every field of a known name and returns how many there were.
    #[inline]
    pub fn remove_id(&mut self, id: HeaderId) -> usize {
        if !self.contains(id) {
            return 0;
        }
        let (word, bit) = place(id);
        self.present[word] &= !bit;
        self.kill(|_, e| e.id == Some(id), !is_in(&self.repeated, id))
    }

    /// Removes every field of a lower-case name and returns how many there were.
    pub fn remove_name(&mut self, lower_name: &[u8]) -> usize {
        match HeaderId::lookup(lower_name) {
            Some(id) => self.remove_id(id),
            None => self.kill(|bytes, e| e.id.is_none() && &bytes[e.name()] == lower_name, false),
        }
    }

    /// Removes the entries that `hit` names; with `once` there is no second one.
    #[inline]
    fn kill(&mut self, hit: impl Fn(&[u8], &Entry) -> bool, once: bool) -> usize {
        let mut removed = 0;
        for entry in &mut self.entries {
            if entry.live && hit(&self.bytes, entry) {
                entry.live = false;
                removed += 1;
                if once {
                    break;
                }
            }
        }
        self.live -= removed;
        removed as usize
    }

    /// Keeps the fields for which `keep(id, name, value)` holds; returns how many were removed.
    pub fn retain(&mut self, mut keep: impl FnMut(Option<HeaderId>, &[u8], &[u8]) -> bool) -> usize {
        let (mut present, mut removed) = ([0; 2], 0);
        for entry in self.entries.iter_mut().filter(|e| e.live) {
            if keep(entry.id, &self.bytes[entry.name()], &self.bytes[entry.value()]) {
                if let Some((word, bit)) = entry.id.map(place) {
                    present[word] |= bit;
                }
            } else {
                entry.live = false;
                removed += 1;
            }
        }
        self.present = present;
        self.live -= removed;
        removed as usize
    }

    /// The fields in order: lower-case name and value.
    pub fn iter(&self) -> Iter<'_> {
        Iter { map: self, entries: self.entries.iter() }
    }

    /// The live fields as the longest possible runs of `name: value\r\n` lines, in order.
    /// `skip` names known fields to leave out (a set of [`HeaderId`] bits).
    pub(crate) fn wire_runs(&self, skip: u128, mut write: impl FnMut(&[u8])) {
        let mut run = 0..0;
        for entry in self.live().filter(|e| e.id.is_none_or(|id| skip & id.bit() == 0)) {
            let line = entry.line();
            if line.start == run.end {
                run.end = line.end;
            } else {
                if !run.is_empty() {
                    write(&self.bytes[run]);
                }
                run = line;
            }
        }
        if !run.is_empty() {
            write(&self.bytes[run]);
        }
    }

    /// The fields in order with the spelling that they arrived with, where it was kept.
    pub(crate) fn iter_cased(
        &self,
    ) -> impl Iterator<Item = (Option<HeaderId>, &[u8], Option<&[u8]>, &[u8])> + '_ {
        self.live().map(|e| {
            let cased = (e.cased_at != NO_CASE)
                .then(|| &self.cased[e.cased_at as usize..e.cased_at as usize + e.name_len as usize]);
            (e.id, &self.bytes[e.name()], cased, &self.bytes[e.value()])
        })
    }

    /// Known names that are present, as a set of bits.
    #[inline]
    pub(crate) fn present(&self) -> u128 {
        u128::from(self.present[1]) << 64 | u128::from(self.present[0])
    }

    /// Bytes and entries that the map can hold without allocating; for tests of steady state.
    pub fn capacity(&self) -> (usize, usize) {
        (self.bytes.capacity(), self.entries.capacity())
    }

    fn live(&self) -> impl Iterator<Item = &Entry> + Clone + '_ {
        self.entries.iter().filter(|e| e.live)
    }

    #[inline]
    fn matches(&self, entry: &Entry, id: Option<HeaderId>, lower_name: &[u8]) -> bool {
        entry.id == id && (id.is_some() || &self.bytes[entry.name()] == lower_name)
    }
}

/// A name's word and bit in a set of two words.
#[inline]
fn place(id: HeaderId) -> (usize, u64) {
    (usize::from(id as u8 >> 6) & 1, 1 << (id as u8 & 63))
}

#[inline]
fn is_in(set: &[u64; 2], id: HeaderId) -> bool {
    let (word, bit) = place(id);
    set[word] & bit != 0
}

fn blank_invalid(value: &mut [u8]) {
    if crate::h1::is_value(value) {
        return;
    }
    for b in value {
        if token::CLASS[*b as usize] & token::VALUE == 0 {
            *b = b' ';
        }
    }
}

impl fmt::Debug for HeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |b| alloc::string::String::from_utf8_lossy(b).into_owned();
        f.debug_list().entries(self.iter().map(|(n, v)| (text(n), text(v)))).finish()
    }
}

/// Two maps are equal when they hold the same fields in the same order.
impl PartialEq for HeaderMap {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for HeaderMap {}

/// Fields of a [`HeaderMap`], in order.
#[derive(Clone)]
pub struct Iter<'a> {
    map: &'a HeaderMap,
    entries: core::slice::Iter<'a, Entry>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.by_ref().find(|e| e.live)?;
        Some((&self.map.bytes[entry.name()], &self.map.bytes[entry.value()]))
    }
}

impl<'a> IntoIterator for &'a HeaderMap {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

mod indexed;
mod run;
#[cfg(test)]
mod tests;
