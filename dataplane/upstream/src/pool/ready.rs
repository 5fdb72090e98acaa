//! The established connections of one pool that can take a request, by how much they carry.

use millrace_base::{Key, Slab};

use super::{Conn, POOL};
use crate::list::List;

/// Where a connection stands in [`Ready`].
pub(crate) type Level = u8;

/// The level of idle connections whose peer allows no stream: they serve nobody but end as idle ones do.
pub(crate) const STARVED: Level = 63;
/// From here on a level stands for more than one number of streams.
const EXACT: u32 = 16;

/// The level of a connection that carries so many streams: exact below 16, within a quarter above that.
pub(crate) fn level_of(streams: u32) -> Level {
    if streams < EXACT {
        return streams as Level;
    }
    let octave = streams.ilog2();
    let quarter = (streams >> (octave - 2)) & 3;
    (EXACT + (octave - 4) * 4 + quarter).min(u32::from(STARVED) - 1) as Level
}

/// Connections with room. The next one is found in constant time, whatever their number: among the least
/// loaded ones the warmest, so that those that nobody needs become idle and end.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Level 0. All that HTTP/1 ever uses.
    idle: List<POOL>,
    loaded: Option<Box<Loaded>>,
}

/// Levels above 0.
#[derive(Debug, Default)]
struct Loaded {
    /// Bit `n` is set while level `n` has a connection.
    filled: u64,
    /// Level `n` at `n - 1`.
    levels: Vec<List<POOL>>,
    starved: List<POOL>,
}

impl Ready {
    /// The connection that serves the next request.
    #[inline]
    pub fn best(&self) -> Option<Key> {
        self.idle.last().or_else(|| {
            let loaded = self.loaded.as_ref().filter(|l| l.filled != 0)?;
            loaded.levels.get(loaded.filled.trailing_zeros() as usize - 1)?.last()
        })
    }

    /// Connections that carry nothing.
    pub fn idle_len(&self) -> u32 {
        self.idle.len()
    }

    /// An idle connection, one without room included.
    pub fn any_idle(&self) -> Option<Key> {
        self.idle.last().or_else(|| self.loaded.as_ref()?.starved.last())
    }

    #[inline]
    pub fn push(&mut self, conns: &mut Slab<Conn>, conn: Key, level: Level) {
        if level == 0 {
            return self.idle.push_back(conns, conn);
        }
        let loaded = self.loaded.get_or_insert_default();
        if level == STARVED {
            return loaded.starved.push_back(conns, conn);
        }
        let at = usize::from(level) - 1;
        if loaded.levels.len() <= at {
            loaded.levels.resize(at + 1, List::default());
        }
        loaded.levels[at].push_back(conns, conn);
        loaded.filled |= 1 << level;
    }

    /// Takes out `conn`, which must be at `level`.
    #[inline]
    pub fn remove(&mut self, conns: &mut Slab<Conn>, conn: Key, level: Level) {
        if level == 0 {
            return self.idle.remove(conns, conn);
        }
        let Some(loaded) = &mut self.loaded else { return };
        if level == STARVED {
            return loaded.starved.remove(conns, conn);
        }
        let Some(list) = loaded.levels.get_mut(usize::from(level) - 1) else { return };
        list.remove(conns, conn);
        if list.len() == 0 {
            loaded.filled &= !(1 << level);
        }
    }

    /// Every connection with its level, for the invariants.
    pub fn each(&self, conns: &Slab<Conn>, mut look: impl FnMut(Key, Level)) {
        self.idle.keys(conns).for_each(|key| look(key, 0));
        if let Some(loaded) = &self.loaded {
            for (list, level) in loaded.levels.iter().zip(1..) {
                assert_eq!(loaded.filled >> level & 1 == 1, list.len() > 0, "filled");
                list.keys(conns).for_each(|key| look(key, level));
            }
            loaded.starved.keys(conns).for_each(|key| look(key, STARVED));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_rise_with_the_load_and_stay_within_a_quarter() {
        let mut first_of_level = 0;
        for streams in 0..100_000 {
            let (level, before) = (level_of(streams), level_of(streams.saturating_sub(1)));
            assert!(level < STARVED && (level == before || level == before + 1), "{streams}");
            if level != before {
                first_of_level = streams;
            }
            let close = streams - first_of_level <= first_of_level / 4;
            assert!(close || level == STARVED - 1, "{streams} is far from {first_of_level}");
            assert!(streams >= EXACT || u32::from(level) == streams);
        }
        assert_eq!(level_of(u32::MAX), STARVED - 1);
    }
}
