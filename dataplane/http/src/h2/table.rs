//! The streams that are open: slots that are used again, and an index by identifier.
//!
//! The index is open addressing over a hash with a seed of the connection's own, so that a client cannot choose
//! identifiers that collide, and those that follow each other do not heap up. Nothing is allocated once the table has
//! seen its peak.

use alloc::vec::Vec;

use super::event::StreamRef;
use super::limits::SLOTS_KEPT;
use super::stream::Stream;

const NONE: u32 = u32::MAX;
const FIRST_INDEX: usize = 16;

/// The table of streams.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Stream>,
    /// The first free slot, or [`NONE`].
    free: u32,
    open: u32,
    /// Slot numbers plus one, 0 where empty; a power of two, at least twice the streams.
    index: Vec<u32>,
    seed: u64,
}

impl Table {
    /// An empty table. `seed` is hard to know for the peer.
    pub(super) fn new(seed: u64) -> Self {
        Self { slots: Vec::new(), free: NONE, open: 0, index: Vec::new(), seed }
    }

    /// Open streams.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.open as usize
    }

    /// Most streams that were open at once since the table was last given back.
    #[inline]
    pub(super) fn peak(&self) -> usize {
        self.slots.len()
    }

    /// Where an identifier is at home, before the mask.
    #[inline]
    fn home(&self, id: u32) -> usize {
        let mixed = (u64::from(id) ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ mixed >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as usize
    }

    /// The place in the index of an open stream.
    #[inline]
    fn place(&self, id: u32) -> Option<usize> {
        let mask = self.index.len().checked_sub(1)?;
        let mut place = self.home(id) & mask;
        loop {
            match self.index[place] {
                0 => return None,
                slot if self.slots[slot as usize - 1].id == id => return Some(place),
                _ => place = (place + 1) & mask,
            }
        }
    }

    /// The slot of an open stream.
    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<u32> {
        self.place(id).map(|place| self.index[place] - 1)
    }

    /// The stream in a slot that [`Table::find`] or [`Table::insert`] has just returned.
    #[inline]
    pub(super) fn at(&mut self, slot: u32) -> &mut Stream {
        &mut self.slots[slot as usize]
    }

    /// The stream that a caller names; `None` when it is gone.
    #[inline]
    pub(super) fn get(&self, stream: StreamRef) -> Option<&Stream> {
        self.slots.get(stream.slot as usize).filter(|s| s.id == stream.id && s.id != 0)
    }

    /// The stream that a caller names; `None` when it is gone.
    #[inline]
    pub(super) fn get_mut(&mut self, stream: StreamRef) -> Option<&mut Stream> {
        self.slots.get_mut(stream.slot as usize).filter(|s| s.id == stream.id && s.id != 0)
    }

    /// Adds a stream whose identifier is not 0 and not in the table.
    #[inline]
    pub(super) fn insert(&mut self, stream: Stream) -> u32 {
        if self.index.len() < 2 * (self.open as usize + 1) {
            self.grow();
        }
        let id = stream.id;
        let slot = self.free;
        let slot = match self.slots.get_mut(slot as usize) {
            Some(place) => {
                self.free = place.user as u32;
                *place = stream;
                slot
            }
            None => {
                self.slots.push(stream);
                self.slots.len() as u32 - 1
            }
        };
        self.open += 1;
        self.enter(id, slot);
        slot
    }

    #[inline]
    fn enter(&mut self, id: u32, slot: u32) {
        let mask = self.index.len() - 1;
        let mut place = self.home(id) & mask;
        while self.index[place] != 0 {
            place = (place + 1) & mask;
        }
        self.index[place] = slot + 1;
    }

    #[cold]
    fn grow(&mut self) {
        let len = (2 * self.index.len()).max(FIRST_INDEX);
        self.index.clear();
        self.index.resize(len, 0);
        for slot in 0..self.slots.len() {
            let id = self.slots[slot].id;
            if id != 0 {
                self.enter(id, slot as u32);
            }
        }
    }

    /// Takes an open stream out; its slot is free.
    #[inline]
    pub(super) fn remove(&mut self, id: u32) {
        let Some(mut hole) = self.place(id) else { return };
        let slot = self.index[hole] - 1;
        let mask = self.index.len() - 1;
        let mut next = (hole + 1) & mask;
        // What stands behind the hole moves up, unless it is at home behind it: searches end at an empty place.
        while self.index[next] != 0 {
            let home = self.home(self.slots[self.index[next] as usize - 1].id) & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.index[hole] = self.index[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.index[hole] = 0;
        let stream = &mut self.slots[slot as usize];
        (stream.id, stream.user) = (0, u64::from(self.free));
        stream.protocol = None;
        self.free = slot;
        self.open -= 1;
        if self.open == 0 && self.slots.len() > SLOTS_KEPT {
            self.give_back();
        }
    }

    #[cold]
    fn give_back(&mut self) {
        (self.slots, self.index, self.free) = (Vec::new(), Vec::new(), NONE);
    }

    /// Every open stream with its slot, in the order of slots from `from` on.
    pub(super) fn open_from(&self, from: usize) -> impl Iterator<Item = (StreamRef, &Stream)> {
        let slots = self.slots.iter().enumerate().skip(from);
        slots.filter(|(_, s)| s.id != 0).map(|(i, s)| (StreamRef { id: s.id, slot: i as u32 }, s))
    }

    /// Every open stream, to change it.
    pub(super) fn open_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().filter(|s| s.id != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::flow::{ReceiveWindow, SendWindow};
    use millrace_base::{Rng, Time};
    use std::collections::BTreeMap;

    fn stream(id: u32) -> Stream {
        Stream {
            id,
            state: 0,
            priority: Default::default(),
            user: u64::from(id) * 10,
            send: SendWindow::new(0),
            receive: ReceiveWindow::new(0),
            length_left: 0,
            opened: Time::ZERO,
            protocol: None,
        }
    }

    #[test]
    fn the_index_agrees_with_a_map() {
        for seed in 0..20 {
            let (mut table, mut map, mut rng) = (Table::new(seed), BTreeMap::new(), Rng::new(seed));
            let mut next = 1;
            for _ in 0..5000 {
                if map.is_empty() || rng.chance(11, 20) {
                    next += 2 * (1 + rng.below(3) as u32 * rng.below(1000) as u32);
                    map.insert(next, table.insert(stream(next)));
                } else {
                    let nth = rng.below(map.len() as u64) as usize;
                    let (id, slot) = map.iter().nth(nth).map(|(i, s)| (*i, *s)).unwrap();
                    let stale = StreamRef { id, slot };
                    assert_eq!(table.get(stale).map(|s| s.user), Some(u64::from(id) * 10));
                    table.remove(id);
                    map.remove(&id);
                    assert!(table.get(stale).is_none() && table.get_mut(stale).is_none());
                    assert_eq!(table.find(id), None);
                }
                assert_eq!(table.len(), map.len());
            }
            assert!(map.iter().all(|(id, slot)| table.find(*id) == Some(*slot)));
            assert_eq!(table.open_from(0).count(), map.len());
            for id in map.keys() {
                table.remove(*id);
            }
            assert_eq!((table.len(), table.open_from(0).count()), (0, 0));
        }
    }

    #[test]
    fn slots_are_used_again_and_a_peak_is_forgotten() {
        let mut table = Table::new(3);
        for id in (1..200).step_by(2) {
            let slot = table.insert(stream(id));
            assert_eq!(slot, 0);
            table.remove(id);
        }
        assert_eq!(table.peak(), 1);
        let ids: Vec<u32> = (0..1000).map(|i| 1001 + 2 * i).collect();
        for id in &ids {
            table.insert(stream(*id));
        }
        assert_eq!(table.peak(), 1000);
        for id in &ids {
            table.remove(*id);
        }
        assert_eq!(table.peak(), 0);
        assert_eq!(table.find(1001), None);
        assert_eq!(table.insert(stream(5001)), 0);
    }

    #[test]
    fn identifiers_far_apart_do_not_collide() {
        let mut table = Table::new(0x1234_5678_9abc);
        let ids: Vec<u32> = (0..1000).map(|i| 1 + (i << 21)).collect();
        for id in &ids {
            table.insert(stream(*id));
        }
        let far = |id: u32| {
            let mask = table.index.len() - 1;
            table.place(id).unwrap().wrapping_sub(table.home(id) & mask) & mask
        };
        let worst = ids.iter().map(|id| far(*id)).max();
        assert!(worst < Some(64), "{worst:?}");
    }

    #[test]
    fn identifiers_that_follow_each_other_do_not_heap_up() {
        for seed in 0..500 {
            let mut table = Table::new(seed);
            (0..64).for_each(|i| {
                table.insert(stream(20_001 + 2 * i));
            });
            let (mut longest, mut run) = (0, 0);
            for place in table.index.iter().chain(&table.index) {
                run = if *place == 0 { 0 } else { run + 1 };
                longest = longest.max(run);
            }
            assert!(longest <= 40, "seed {seed}: {longest} in a row");
        }
    }
}
