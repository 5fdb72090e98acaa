//! A slab whose keys carry a generation, so that a late event for a reused slot is recognised.

/// Slot and generation of a slab entry. 64 bits, order-free, cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Index of the slot.
    pub slot: u32,
    /// How often the slot was filled before; wraps at 2^24 so that it fits a [`Key::pack`].
    pub generation: u32,
}

const GENERATION_MASK: u32 = 0x00ff_ffff;

impl Key {
    /// Packs the key with an 8-bit kind into one number (`kind << 56 | generation << 32 | slot`).
    #[inline]
    pub fn pack(self, kind: u8) -> u64 {
        (u64::from(kind) << 56) | (u64::from(self.generation & GENERATION_MASK) << 32) | u64::from(self.slot)
    }

    /// Undoes [`Key::pack`].
    #[inline]
    pub fn unpack(packed: u64) -> (u8, Self) {
        let kind = (packed >> 56) as u8;
        let generation = ((packed >> 32) as u32) & GENERATION_MASK;
        (kind, Self { slot: packed as u32, generation })
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Dense storage with O(1) insert, remove and lookup.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// An empty slab that allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries in use.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// True when no entry is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stores the value that `make` builds from its own key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let slot = self.free.last().copied().unwrap_or(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let generation = self.slots.get(slot as usize).map_or(0, |entry| entry.generation);
        self.insert(make(Key { slot, generation }))
    }

    /// Stores `value` and returns its key.
    pub fn insert(&mut self, value: T) -> Key {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            debug_assert!(entry.value.is_none(), "a free slot holds no value");
            entry.value = Some(value);
            return Key { slot, generation: entry.generation };
        }
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Key { slot, generation: 0 }
    }

    /// The entry, unless it was removed.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slots.get(key.slot as usize).filter(|s| s.generation == key.generation)?.value.as_ref()
    }

    /// The entry for writing, unless it was removed.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slots.get_mut(key.slot as usize).filter(|s| s.generation == key.generation)?.value.as_mut()
    }

    /// Removes the entry; its key is never valid again (until 2^24 reuses of the slot).
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.slots.get_mut(key.slot as usize).filter(|s| s.generation == key.generation)?;
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        self.free.push(key.slot);
        Some(value)
    }

    /// Keys of all entries, in slot order.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.iter().map(|(key, _)| key)
    }

    /// All entries, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> + '_ {
        self.slots.iter().enumerate().filter_map(|(slot, entry)| {
            let key = Key { slot: slot as u32, generation: entry.generation };
            entry.value.as_ref().map(|value| (key, value))
        })
    }

    /// As [`Slab::iter`], to change the entries.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> + '_ {
        self.slots.iter_mut().enumerate().filter_map(|(slot, entry)| {
            let key = Key { slot: slot as u32, generation: entry.generation };
            entry.value.as_mut().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing_after_reuse() {
        let mut slab = Slab::new();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(first.slot, second.slot);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"b"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn keys_survive_packing() {
        let key = Key { slot: 0xdead_beef, generation: 0x00ab_cdef };
        assert_eq!(Key::unpack(key.pack(0x7f)), (0x7f, key));
    }
}
