//! How streams that are gone have ended, for the frames that still come for them (RFC 9113 section 5.1, "closed").

use alloc::vec::Vec;

use super::limits::{ENDS_REMEMBERED, RESETS_REMEMBERED};

/// How a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides said END_STREAM: frames that follow end the connection.
    Complete,
    /// The peer has reset it: frames that follow are an error of that stream.
    ByPeer,
    /// We have reset it: what the peer sent before it knew is ignored.
    ByUs,
}

/// The last streams of each kind of end.
#[derive(Debug, Default)]
pub(super) struct Closed {
    ends: Ring,
    resets: Ring,
}

/// The last numbers, as many as were asked for at once.
#[derive(Debug, Default)]
struct Ring {
    numbers: Vec<u32>,
    next: usize,
}

impl Ring {
    #[inline]
    fn push(&mut self, number: u32, most: usize) {
        match self.numbers.get_mut(self.next) {
            Some(oldest) => *oldest = number,
            None => self.numbers.push(number),
        }
        self.next = if self.next + 1 < most { self.next + 1 } else { 0 };
    }
}

const BY_PEER: u32 = 1 << 31;

impl Closed {
    /// Remembers a stream's end. An identifier has 31 bits, the upper one tells the two kinds of `ends` apart.
    #[inline]
    pub(super) fn push(&mut self, id: u32, end: End) {
        match end {
            End::Complete => self.ends.push(id, ENDS_REMEMBERED),
            End::ByPeer => self.ends.push(id | BY_PEER, ENDS_REMEMBERED),
            End::ByUs => self.resets.push(id, RESETS_REMEMBERED),
        }
    }

    /// How a stream has ended; `None` when that is forgotten or it never was.
    #[cold]
    pub(super) fn end_of(&self, id: u32) -> Option<End> {
        if self.resets.numbers.contains(&id) {
            return Some(End::ByUs);
        }
        let end = self.ends.numbers.iter().find(|number| **number & !BY_PEER == id)?;
        Some(if end & BY_PEER == 0 { End::Complete } else { End::ByPeer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ends_are_known() {
        let mut closed = Closed::default();
        for i in 0..1000u32 {
            closed.push(6 * i + 1, End::Complete);
            closed.push(6 * i + 3, End::ByPeer);
            closed.push(6 * i + 5, End::ByUs);
        }
        assert_eq!(closed.end_of(5995), Some(End::Complete));
        assert_eq!(closed.end_of(5997), Some(End::ByPeer));
        assert_eq!(closed.end_of(5999), Some(End::ByUs));
        assert_eq!((closed.end_of(5), closed.end_of(1), closed.end_of(6001)), (Some(End::ByUs), None, None));
        assert!(closed.ends.numbers.capacity() <= 2 * ENDS_REMEMBERED);
    }
}
