//! The encoder's way from a field to its entry: chains of entries by hash, newest first.
//!
//! A chain is a head and the links in the entries. Entries leave the table oldest first, so that the first link to one
//! that left ends a chain: nothing is ever taken out of a chain.

use super::static_table::{Name, Pseudo};
use super::table::{Entry, Table};
use crate::HeaderId;

/// Heads of each kind of chain; as many as known names, so that each of those has a chain of its own.
const HEADS: usize = 128;
/// Remembered hashes of fields that were sent without an entry.
const SEEN: usize = 32;

/// What the encoder keeps of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    name: NameKey,
    field: u32,
    /// The next older entry of the same chain by name, and by name and value.
    older_name: u32,
    older_field: u32,
}

/// The same for equal names; different for known and pseudo names that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameKey(u32);

/// What there is besides the table: the newest entry of every chain, by number.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    names: [u32; HEADS],
    fields: [u32; HEADS],
    seen: [u32; SEEN],
}

impl Default for Lookup {
    fn default() -> Self {
        Self { names: [0; HEADS], fields: [0; HEADS], seen: [0; SEEN] }
    }
}

impl NameKey {
    #[inline]
    pub(super) fn of(name: &[u8], id: Name) -> Self {
        Self(match id {
            Name::Known(id) => id as u32,
            // Behind the known names, from the last chain down.
            Name::Pseudo(pseudo) if pseudo != Pseudo::Other => 2 * HEADS as u32 - 1 - pseudo as u32,
            _ => 1 << 31 | hash(0, name),
        })
    }

    /// Equal keys are equal names.
    #[inline]
    fn is_exact(self) -> bool {
        self.0 >> 31 == 0
    }

    /// The same for equal fields.
    #[inline]
    pub(super) fn with(self, value: &[u8]) -> u32 {
        hash(self.0, value)
    }
}

impl Lookup {
    /// The number of the newest entry of a name when that has this value, too: a name has one value most of the time.
    #[inline]
    pub(super) fn newest(
        &self,
        table: &Table<Links>,
        key: NameKey,
        name: &[u8],
        value: &[u8],
    ) -> Option<u32> {
        let number = self.names[key.0 as usize % HEADS];
        let entry = table.by_number(number)?;
        let found =
            entry.note.name == key && same(table.value(entry), value) && is_name(table, entry, key, name);
        found.then_some(number)
    }

    /// The number of the entry that is this field.
    #[inline]
    pub(super) fn field(
        &self,
        table: &Table<Links>,
        (key, field): (NameKey, u32),
        name: &[u8],
        value: &[u8],
    ) -> Option<u32> {
        walk(table, self.fields[field as usize % HEADS], |entry| {
            let found = entry.note.field == field
                && entry.note.name == key
                && is_field(table, entry, (key, name), value);
            (found, entry.note.older_field)
        })
    }

    /// The number of the newest entry of this name.
    #[inline]
    pub(super) fn name(&self, table: &Table<Links>, key: NameKey, name: &[u8]) -> Option<u32> {
        walk(table, self.names[key.0 as usize % HEADS], |entry| {
            (entry.note.name == key && is_name(table, entry, key, name), entry.note.older_name)
        })
    }

    /// Puts the entry that is inserted next at the front of its chains.
    pub(super) fn link(&mut self, number: u32, name: NameKey, field: u32) -> Links {
        let older_name = core::mem::replace(&mut self.names[name.0 as usize % HEADS], number);
        let older_field = core::mem::replace(&mut self.fields[field as usize % HEADS], number);
        Links { name, field, older_name, older_field }
    }

    /// Whether this field was sent before, not long ago; remembers that it is now.
    #[inline]
    pub(super) fn is_second_sight(&mut self, field: u32) -> bool {
        let place = &mut self.seen[field as usize / HEADS % SEEN];
        core::mem::replace(place, field) == field
    }
}

#[inline]
fn is_name(table: &Table<Links>, entry: &Entry<Links>, key: NameKey, name: &[u8]) -> bool {
    key.is_exact() || same(table.field(entry).0, name)
}

// A call of its own: the loops within would crowd the walk's registers.
#[inline(never)]
fn is_field(table: &Table<Links>, entry: &Entry<Links>, (key, name): (NameKey, &[u8]), value: &[u8]) -> bool {
    same(table.value(entry), value) && is_name(table, entry, key, name)
}

/// Follows a chain to the first entry that `look` holds for.
#[inline]
fn walk(
    table: &Table<Links>,
    mut number: u32,
    mut look: impl FnMut(&Entry<Links>) -> (bool, u32),
) -> Option<u32> {
    // `None`: the entry has left.
    while let Some(entry) = table.by_number(number) {
        let (found, older) = look(entry);
        if found {
            return Some(number);
        }
        // A link that is no older is one from before the numbers began again.
        if table.age_of(older) <= table.age_of(number) {
            return None;
        }
        number = older;
    }
    None
}

/// Equality without a call: most of what is compared is short.
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let word = |octets: &[u8; 8]| u64::from_le_bytes(*octets);
    match (one.last_chunk(), other.last_chunk()) {
        (Some(last), Some(wanted)) => {
            let words = one.as_chunks().0.iter().zip(other.as_chunks().0);
            words.fold(word(last) ^ word(wanted), |differs, (one, other)| differs | (word(one) ^ word(other)))
                == 0
        }
        _ => short(one) == short(other),
    }
}

const _: () = assert!(HeaderId::ALL.len() <= HEADS);

/// Mixes eight octets at a time. Collisions cost time alone, and no more than the table has entries.
#[inline]
fn hash(seed: u32, text: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut hash = u64::from(seed) ^ (text.len() as u64) << 32;
    if let Some(last) = text.last_chunk() {
        for word in text.as_chunks().0 {
            hash = mix(hash, u64::from_le_bytes(*word));
        }
        hash = mix(hash, u64::from_le_bytes(*last));
    } else {
        hash = mix(hash, short(text));
    }
    (hash >> 32) as u32
}

/// A text of less than eight octets as a word.
#[inline]
fn short(text: &[u8]) -> u64 {
    match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
        }
        _ => text.iter().fold(0, |word, b| word << 8 | u64::from(*b)),
    }
}
