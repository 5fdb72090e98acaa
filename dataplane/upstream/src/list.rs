//! Doubly linked lists through the entries of a slab: removal from the middle in constant time, no
//! allocation of their own.

use millrace_base::{Key, Slab};

/// The neighbours of an entry in one list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Links {
    before: Option<Key>,
    after: Option<Key>,
}

/// An entry that can be in one or more lists, told apart by number.
pub(crate) trait Linked {
    fn links(&self, list: usize) -> &Links;
    fn links_mut(&mut self, list: usize) -> &mut Links;
}

/// List number `N` over a slab.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List<const N: usize> {
    first: Option<Key>,
    last: Option<Key>,
    len: u32,
}

impl<const N: usize> List<N> {
    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn first(&self) -> Option<Key> {
        self.first
    }

    pub fn last(&self) -> Option<Key> {
        self.last
    }

    /// Appends `key`, which must be in the slab and not in this list.
    pub fn push_back<T: Linked>(&mut self, slab: &mut Slab<T>, key: Key) {
        let before = self.last;
        let Some(entry) = slab.get_mut(key) else { return };
        *entry.links_mut(N) = Links { before, after: None };
        match before.and_then(|b| slab.get_mut(b)) {
            Some(neighbour) => neighbour.links_mut(N).after = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.len += 1;
    }

    /// Takes `key` out; it must be in this list.
    pub fn remove<T: Linked>(&mut self, slab: &mut Slab<T>, key: Key) {
        let Some(entry) = slab.get_mut(key) else { return };
        let Links { before, after } = std::mem::take(entry.links_mut(N));
        match before.and_then(|b| slab.get_mut(b)) {
            Some(neighbour) => neighbour.links_mut(N).after = after,
            None => self.first = after,
        }
        match after.and_then(|a| slab.get_mut(a)) {
            Some(neighbour) => neighbour.links_mut(N).before = before,
            None => self.last = before,
        }
        self.len -= 1;
    }

    /// Keys from first to last.
    pub fn keys<'a, T: Linked>(&self, slab: &'a Slab<T>) -> impl Iterator<Item = Key> + 'a {
        std::iter::successors(self.first, move |key| slab.get(*key)?.links(N).after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry(Links);

    impl Linked for Entry {
        fn links(&self, _: usize) -> &Links {
            &self.0
        }
        fn links_mut(&mut self, _: usize) -> &mut Links {
            &mut self.0
        }
    }

    #[test]
    fn entries_leave_from_both_ends_and_the_middle() {
        let mut slab = Slab::new();
        let mut list = List::<0>::default();
        let keys: Vec<_> = (0..4).map(|_| slab.insert(Entry(Links::default()))).collect();
        for key in &keys {
            list.push_back(&mut slab, *key);
        }
        list.remove(&mut slab, keys[1]);
        assert_eq!(list.keys(&slab).collect::<Vec<_>>(), [keys[0], keys[2], keys[3]]);
        list.remove(&mut slab, keys[0]);
        list.remove(&mut slab, keys[3]);
        assert_eq!((list.first(), list.last(), list.len()), (Some(keys[2]), Some(keys[2]), 1));
        list.remove(&mut slab, keys[2]);
        assert_eq!((list.first(), list.last(), list.len()), (None, None, 0));
    }
}
