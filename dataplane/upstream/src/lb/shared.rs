//! Tables that are the same on every shard: the first that needs one builds it, the others take it from there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::hashed::Table;

/// A table, built by whoever asks first; others wait for it.
pub(super) type Place = OnceLock<Arc<Table>>;

/// What a table is made of, in 128 bits.
pub(super) type Fingerprint = (u64, u64);

/// The tables of one cluster that shards use, by what they are made of. Locked when a shard builds its balancer, never by
/// a request.
#[derive(Debug, Default)]
pub struct SharedTables {
    places: Mutex<BTreeMap<Fingerprint, Weak<Place>>>,
    newest: Mutex<TableShape>,
}

/// How a ring or a table is divided among hosts (`ring_hash_lb.*`, `maglev_lb.*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableShape {
    /// Positions or slots.
    pub size: u64,
    /// Of the host with the fewest.
    pub least: u32,
    /// Of the host with the most.
    pub most: u32,
}

impl SharedTables {
    /// The shape of the table that was built last.
    pub fn newest(&self) -> TableShape {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn built(&self, shape: TableShape) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = shape;
    }

    /// The place of a table; empty when nobody has built it yet.
    pub(super) fn place(&self, fingerprint: Fingerprint) -> Arc<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = places.get(&fingerprint).and_then(Weak::upgrade) {
            return known;
        }
        // Whoever adds one looks which ones nobody has any more, so there are never more than shards hold.
        places.retain(|_, place| place.strong_count() > 0);
        let place = Arc::default();
        places.insert(fingerprint, Arc::downgrade(&place));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_table_serves_all_that_ask_for_the_same_and_goes_with_the_last() {
        let shared = SharedTables::default();
        let (first, second, other) = (shared.place((1, 2)), shared.place((1, 2)), shared.place((1, 3)));
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other));
        drop((first, second));
        drop(shared.place((9, 9)));
        assert_eq!(shared.places.lock().unwrap().len(), 2, "that of the first is gone");
        drop(other);
        drop(shared.place((1, 1)));
        assert_eq!(shared.places.lock().unwrap().len(), 1);
    }
}
