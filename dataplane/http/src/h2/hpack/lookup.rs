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
    key: Key,
    /// The next older entry of the same chain by name and value, and by name.
    older_field: u32,
    older_name: u32,
}

/// A field as it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The same for equal names; different for known and pseudo names that differ.
    name: u32,
    /// The same for equal fields.
    field: u32,
}

/// What there is besides the table.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    /// Entries that were ever inserted, modulo 2^32: the number of the next one.
    inserted: u32,
    fields: [u32; HEADS],
    names: [u32; HEADS],
    seen: [u32; SEEN],
}

impl Default for Lookup {
    fn default() -> Self {
        Self { inserted: 0, fields: [0; HEADS], names: [0; HEADS], seen: [0; SEEN] }
    }
}

impl Key {
    #[inline]
    pub(super) fn of_name(name: &[u8], id: Name) -> Self {
        let name = match id {
            Name::Known(id) => id as u32,
            // Behind the known names, from the last chain down.
            Name::Pseudo(pseudo) if pseudo != Pseudo::Other => 2 * HEADS as u32 - 1 - pseudo as u32,
            _ => 1 << 31 | hash(0, name),
        };
        Self { name, field: 0 }
    }

    #[inline]
    pub(super) fn of_field(name: &[u8], value: &[u8], id: Name) -> Self {
        let key = Self::of_name(name, id);
        Self { field: hash(key.name, value), ..key }
    }

    /// Equal keys are equal names.
    #[inline]
    fn is_exact(self) -> bool {
        self.name >> 31 == 0
    }
}

impl Lookup {
    /// The age of the entry that is this field.
    #[inline]
    pub(super) fn field(&self, table: &Table<Links>, key: Key, name: &[u8], value: &[u8]) -> Option<u32> {
        self.walk(table, self.fields[key.field as usize % HEADS], |entry| {
            let same = entry.note.key == key && {
                let field = table.field(entry);
                field.1 == value && (key.is_exact() || field.0 == name)
            };
            (same, entry.note.older_field)
        })
    }

    /// The age of the newest entry of this name.
    #[inline]
    pub(super) fn name(&self, table: &Table<Links>, key: Key, name: &[u8]) -> Option<u32> {
        self.walk(table, self.names[key.name as usize % HEADS], |entry| {
            let same = entry.note.key.name == key.name && (key.is_exact() || table.field(entry).0 == name);
            (same, entry.note.older_name)
        })
    }

    /// Follows a chain to the first entry that `look` holds for.
    #[inline]
    fn walk(
        &self,
        table: &Table<Links>,
        head: u32,
        mut look: impl FnMut(&Entry<Links>) -> (bool, u32),
    ) -> Option<u32> {
        let mut age = self.age(head);
        // `None`: the entry has left.
        while let Some(entry) = table.entry(age) {
            let (found, older) = look(entry);
            if found {
                return Some(age);
            }
            let next = self.age(older);
            // Numbers begin again after 2^32 entries.
            if next <= age {
                return None;
            }
            age = next;
        }
        None
    }

    #[inline]
    fn age(&self, number: u32) -> u32 {
        self.inserted.wrapping_sub(number).wrapping_sub(1)
    }

    /// Puts the next entry at the front of its chains.
    pub(super) fn link(&mut self, key: Key) -> Links {
        let number = self.inserted;
        self.inserted = number.wrapping_add(1);
        let older_field = core::mem::replace(&mut self.fields[key.field as usize % HEADS], number);
        let older_name = core::mem::replace(&mut self.names[key.name as usize % HEADS], number);
        Links { key, older_field, older_name }
    }

    /// Whether this field was sent before, not long ago; remembers that it is now.
    #[inline]
    pub(super) fn is_second_sight(&mut self, key: Key) -> bool {
        let place = &mut self.seen[key.field as usize / HEADS % SEEN];
        core::mem::replace(place, key.field) == key.field
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
