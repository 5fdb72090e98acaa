//! Hierarchical timer wheel: O(1) insert and cancel, about a millisecond of resolution, weeks of range.
//!
//! Four levels of 256 slots; a tick is 2^20 ns (1.05 ms). A timer lies in the level of the highest base-256
//! digit in which its tick differs from the current one, and moves down when the wheel gets there. It never
//! fires early; it fires late by less than two ticks (plus however late `advance` is called).

use millrace_base::Time;

const TICK_BITS: u32 = 20;
const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 4;
/// Ticks beyond which a deadline is clamped (52 days ahead): less than a full turn of the top level.
const RANGE_TICKS: u64 = ((SLOTS as u64) - 1) << (SLOT_BITS * (LEVELS as u32 - 1));
const NONE: u32 = u32::MAX;

/// Names a timer until it fires or is cancelled; a stale id is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Node<T> {
    /// Low 32 bits of the due tick; the range is narrower than that, so the rest follows from the current one.
    tick: u32,
    /// Next timer of the slot, or next free node.
    next: u32,
    /// Previous timer of the slot; `NONE` for the first.
    previous: u32,
    /// Odd while the timer lives.
    generation: u32,
    value: T,
}

/// Timers of one shard. The value says what to do (a packed key, not a closure); with an 8-byte value a timer
/// takes 24 bytes.
#[derive(Debug)]
pub struct TimerWheel<T> {
    nodes: Vec<Node<T>>,
    free: u32,
    length: usize,
    /// Current tick: what was due at it or before has fired.
    now: u64,
    heads: [[u32; SLOTS]; LEVELS],
    /// A bit for every slot that has timers.
    occupied: [[u64; SLOTS / 64]; LEVELS],
}

impl<T: Copy> TimerWheel<T> {
    /// An empty wheel; `now` is the earliest time that it will hear of.
    pub fn new(now: Time) -> Self {
        Self {
            nodes: Vec::new(),
            free: NONE,
            length: 0,
            now: now.0 >> TICK_BITS,
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [[0; SLOTS / 64]; LEVELS],
        }
    }

    /// Timers set.
    pub fn len(&self) -> usize {
        self.length
    }

    /// True when no timer is set.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Sets a timer. A deadline in the past fires at the next tick.
    pub fn insert(&mut self, deadline: Time, value: T) -> TimerId {
        let tick = self.due_tick(deadline) as u32;
        let index = match self.nodes.get_mut(self.free as usize) {
            Some(node) => {
                let index = self.free;
                self.free = node.next;
                *node = Node { tick, generation: node.generation.wrapping_add(1), value, ..*node };
                index
            }
            None => {
                self.nodes.push(Node { tick, next: NONE, previous: NONE, generation: 1, value });
                (self.nodes.len() - 1) as u32
            }
        };
        self.length += 1;
        self.link(index);
        TimerId { index, generation: self.nodes[index as usize].generation }
    }

    /// Moves a timer to another deadline; false when it has fired or was cancelled.
    pub fn reset(&mut self, id: TimerId, deadline: Time) -> bool {
        if !self.lives(id) {
            return false;
        }
        self.unlink(id.index);
        self.nodes[id.index as usize].tick = self.due_tick(deadline) as u32;
        self.link(id.index);
        true
    }

    /// Removes a timer and returns its value; `None` when it has fired or was cancelled.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        if !self.lives(id) {
            return None;
        }
        self.unlink(id.index);
        Some(self.release(id.index))
    }

    /// Appends the values of all timers that are due at `now`, earlier ticks first. A clock that goes back is
    /// ignored.
    pub fn advance(&mut self, now: Time, fired: &mut Vec<T>) {
        let target = now.0 >> TICK_BITS;
        while let Some((level, slot, start)) = self.next_slot()
            && start <= target
        {
            self.now = start;
            let mut index = std::mem::replace(&mut self.heads[level][slot], NONE);
            self.occupied[level][slot / 64] &= !(1 << (slot % 64));
            while index != NONE {
                let node = &self.nodes[index as usize];
                let next = node.next;
                if node.tick == self.now as u32 {
                    fired.push(self.release(index));
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
        self.now = self.now.max(target);
    }

    /// When to call [`advance`](Self::advance) next: not later than the earliest timer, possibly earlier (when
    /// timers have to move down a level). `None` without timers.
    pub fn next_deadline(&self) -> Option<Time> {
        self.next_slot().map(|(_, _, start)| Time(start << TICK_BITS))
    }

    fn lives(&self, id: TimerId) -> bool {
        id.generation & 1 == 1
            && self.nodes.get(id.index as usize).is_some_and(|node| node.generation == id.generation)
    }

    fn due_tick(&self, deadline: Time) -> u64 {
        let tick = deadline.0.div_ceil(1 << TICK_BITS);
        tick.clamp(self.now + 1, self.now + RANGE_TICKS)
    }

    /// Level and slot of a timer, which follow from its tick and the current one.
    fn place(&self, index: u32) -> (usize, usize) {
        let ahead = self.nodes[index as usize].tick.wrapping_sub(self.now as u32);
        let due = self.now + u64::from(ahead);
        let highest_bit = 63 - ((due ^ self.now) | 1).leading_zeros();
        // A difference above the top digit is a turn of the top level, which is circular.
        let level = ((highest_bit / SLOT_BITS) as usize).min(LEVELS - 1);
        (level, digit(due, level))
    }

    fn link(&mut self, index: u32) {
        let (level, slot) = self.place(index);
        let head = std::mem::replace(&mut self.heads[level][slot], index);
        self.occupied[level][slot / 64] |= 1 << (slot % 64);
        if let Some(node) = self.nodes.get_mut(head as usize) {
            node.previous = index;
        }
        let node = &mut self.nodes[index as usize];
        (node.previous, node.next) = (NONE, head);
    }

    fn unlink(&mut self, index: u32) {
        let Node { previous, next, .. } = self.nodes[index as usize];
        if let Some(node) = self.nodes.get_mut(next as usize) {
            node.previous = previous;
        }
        if let Some(node) = self.nodes.get_mut(previous as usize) {
            node.next = next;
            return;
        }
        let (level, slot) = self.place(index);
        self.heads[level][slot] = next;
        if next == NONE {
            self.occupied[level][slot / 64] &= !(1 << (slot % 64));
        }
    }

    fn release(&mut self, index: u32) -> T {
        let free = std::mem::replace(&mut self.free, index);
        self.length -= 1;
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.wrapping_add(1);
        node.next = free;
        node.value
    }

    /// The occupied slot whose turn comes first: level, slot, and the tick at which it starts.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        for level in 0..LEVELS {
            let shift = SLOT_BITS * level as u32;
            let current = digit(self.now, level);
            let turn = self.now >> shift >> SLOT_BITS;
            // Lower levels hold nothing at or before the current digit; the top one is circular.
            let found = self.occupied_from(level, current + 1).map(|slot| (slot, turn)).or_else(|| {
                let wraps = level == LEVELS - 1;
                wraps.then(|| self.occupied_from(level, 0)).flatten().map(|slot| (slot, turn + 1))
            });
            if let Some((slot, turn)) = found {
                return Some((level, slot, ((turn << SLOT_BITS) | slot as u64) << shift));
            }
        }
        None
    }

    fn occupied_from(&self, level: usize, first: usize) -> Option<usize> {
        let words = &self.occupied[level];
        (first / 64..words.len()).find_map(|index| {
            let skipped = if index == first / 64 { first % 64 } else { 0 };
            let word = words[index] & (u64::MAX << skipped);
            (word != 0).then(|| index * 64 + word.trailing_zeros() as usize)
        })
    }
}

/// Digit number `level` of a tick, base 256.
fn digit(tick: u64, level: usize) -> usize {
    (tick >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Rng;
    use std::collections::BTreeMap;
    use std::time::Duration;

    const TICK: u64 = 1 << TICK_BITS;

    /// The obvious implementation: a sorted map from due tick.
    struct Twin {
        now: u64,
        timers: BTreeMap<u64, (TimerId, u64)>,
    }

    impl Twin {
        fn due(&self, deadline: Time) -> u64 {
            deadline.0.div_ceil(TICK).clamp(self.now + 1, self.now + RANGE_TICKS)
        }

        fn advance(&mut self, now: Time) -> Vec<u64> {
            self.now = self.now.max(now.0 / TICK);
            let due: Vec<(u64, u64)> =
                self.timers.iter().filter(|t| t.1.1 <= self.now).map(|t| (t.1.1, *t.0)).collect();
            self.timers.retain(|_, t| t.1 > self.now);
            due.into_iter().map(|(_, value)| value).collect()
        }
    }

    fn random_deadline(rng: &mut Rng, now: Time) -> Time {
        // From a microsecond to far beyond the range, every magnitude alike.
        let span = 1_u64 << (10 + rng.below(45));
        match rng.chance(1, 20) {
            true => Time(now.0.saturating_sub(rng.below(span))),
            false => Time(now.0 + rng.below(span)),
        }
    }

    #[test]
    fn behaves_like_a_sorted_map() {
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            // Some start right before a turn of the top level.
            let mut now =
                Time(if seed % 2 == 0 { rng.below(1 << 50) } else { (1 << 52) - rng.below(1 << 30) });
            let mut wheel = TimerWheel::new(now);
            let mut twin = Twin { now: now.0 / TICK, timers: BTreeMap::new() };
            let mut gone = Vec::new();
            for value in 0..1_500_u64 {
                let deadline = random_deadline(&mut rng, now);
                let pick = twin.timers.keys().nth(rng.below(twin.timers.len() as u64) as usize).copied();
                match (rng.below(8), pick) {
                    (0, Some(pick)) => {
                        let (id, _) = twin.timers.remove(&pick).unwrap();
                        assert_eq!(wheel.cancel(id), Some(pick));
                        gone.push(id);
                    }
                    (1, Some(pick)) => {
                        let due = twin.due(deadline);
                        let timer = twin.timers.get_mut(&pick).unwrap();
                        assert!(wheel.reset(timer.0, deadline));
                        timer.1 = due;
                    }
                    (2 | 3, _) => {
                        let step = 1_u64 << (10 + rng.below(40));
                        now = Time(now.0 + rng.below(step));
                        gone.extend(twin.timers.values().filter(|t| t.1 <= now.0 / TICK).map(|t| t.0));
                        let mut fired = Vec::new();
                        wheel.advance(now, &mut fired);
                        fired.sort_unstable();
                        let mut expected = twin.advance(now);
                        expected.sort_unstable();
                        assert_eq!(fired, expected, "seed {seed}");
                    }
                    _ => {
                        let due = twin.due(deadline);
                        twin.timers.insert(value, (wheel.insert(deadline, value), due));
                    }
                }
                assert_eq!(wheel.len(), twin.timers.len());
                let earliest = twin.timers.values().map(|t| t.1 * TICK).min();
                assert_eq!(wheel.next_deadline().is_some(), earliest.is_some());
                assert!(
                    wheel
                        .next_deadline()
                        .is_none_or(|d| d > Time(now.0 & !(TICK - 1)) && Some(d.0) <= earliest)
                );
            }
            for id in gone {
                assert!(wheel.cancel(id).is_none() && !wheel.reset(id, Time::ZERO));
            }
        }
    }

    #[test]
    fn sleeping_until_next_deadline_fires_on_time() {
        let start = Time(12_345_678_901);
        let mut wheel = TimerWheel::new(start);
        for seconds in [1_u64, 15, 60, 3600, 86_400] {
            wheel.insert(start + Duration::from_secs(seconds), seconds);
        }
        let (mut fired, mut wakes) = (Vec::new(), 0);
        while let Some(now) = wheel.next_deadline() {
            let before = fired.len();
            wheel.advance(now, &mut fired);
            wakes += 1;
            for seconds in &fired[before..] {
                let due = start + Duration::from_secs(*seconds);
                assert!(now >= due && now - due < Duration::from_nanos(2 * TICK));
            }
        }
        assert_eq!(fired, [1, 15, 60, 3600, 86_400]);
        assert!(wakes <= 20, "{wakes} wake-ups for 5 timers");
    }

    #[test]
    fn a_timer_is_small() {
        assert_eq!(size_of::<Node<u64>>(), 24);
    }
}
