//! Earliest-deadline-first rotation: each host comes up in proportion to its weight, as evenly spaced as
//! the weights allow.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: f64,
    /// Breaks ties in order of insertion, so equal weights rotate.
    order: u64,
    index: u32,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// Reversed, because the heap's top is its greatest entry.
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.order.cmp(&self.order))
    }
}

/// A rotation over the indices `0..n`. A pick allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Edf {
    heap: BinaryHeap<Entry>,
    now: f64,
    order: u64,
}

impl Edf {
    pub fn new(weights: impl Iterator<Item = f64>) -> Self {
        let mut edf = Self::default();
        for (index, weight) in weights.enumerate() {
            edf.push(index as u32, weight);
        }
        edf
    }

    fn push(&mut self, index: u32, weight: f64) {
        self.heap.push(Entry { deadline: self.now + 1.0 / weight, order: self.order, index });
        self.order += 1;
    }

    /// The index whose turn it is; `weight` gives the weight for its next turn, which must be positive.
    pub fn pick(&mut self, weight: impl FnOnce(u32) -> f64) -> Option<u32> {
        let mut top = self.heap.peek_mut()?;
        let index = top.index;
        self.now = top.deadline;
        // Changed in place: one sift instead of a pop and a push.
        *top = Entry { deadline: self.now + 1.0 / weight(index), order: self.order, index };
        self.order += 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_follow_weights_and_are_spread_out() {
        let weights = [5.0, 1.0, 2.0];
        let mut edf = Edf::new(weights.into_iter());
        let picks: Vec<u32> = (0..16).filter_map(|_| edf.pick(|i| weights[i as usize])).collect();
        let count = |wanted| picks.iter().filter(|p| **p == wanted).count();
        assert_eq!([count(0), count(1), count(2)], [10, 2, 4]);
        let heaviest_run = picks.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
        assert!(heaviest_run <= Some(4), "{picks:?}");
    }

    #[test]
    fn equal_weights_rotate_and_nothing_picks_nothing() {
        let mut edf = Edf::new([1.0; 3].into_iter());
        let picks: Vec<u32> = (0..6).filter_map(|_| edf.pick(|_| 1.0)).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
        assert_eq!(Edf::default().pick(|_| 1.0), None);
    }
}
