//! What waits in memory of the shard's own: how much it is, and from when on its sources are read no further.
//!
//! Bytes that nobody takes yet are copied out of the receive buffers or gathered in queues. Whoever keeps some keeps a
//! [`Share`] of their number beside them, set anew whenever that changes; the sum of all shares is what decides. Above half of
//! the bound only those go on who have little waiting; above all of it nothing is read whose bytes would have to wait.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use millrace_ring::Token;

/// Up to so many bytes in one place are not counted: a small message costs a comparison.
const SMALL_BYTES: usize = 4 * 1024;
/// What one stream or HTTP/1.1 connection may always have waiting.
pub(crate) const ALWAYS_BYTES: usize = 16 * 1024;
/// The same for the streams of one HTTP/2 connection of a client.
const ALWAYS_OF_CONNECTION: usize = 64 * 1024;

#[derive(Debug)]
struct Account {
    sum: Cell<usize>,
    most: usize,
}

/// The account of a shard.
#[derive(Debug)]
pub(crate) struct Held {
    account: Rc<Account>,
    /// Links that are not read until there is room again.
    pub(crate) starved: VecDeque<Token>,
    /// The bound was reached and little waits not yet again: answers without room are not read.
    pub(crate) defers: bool,
}

impl Held {
    /// Nothing waits; at most about `most` bytes may.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            account: Rc::new(Account { sum: Cell::new(0), most }),
            starved: VecDeque::new(),
            defers: false,
        }
    }

    /// More than half of the bound waits.
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        self.account.sum.get() > self.account.most / 2
    }

    /// The bound is reached.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.account.sum.get() > self.account.most
    }

    /// So little waits that whoever was stopped may go on.
    #[inline]
    pub(crate) fn has_eased(&self) -> bool {
        self.account.sum.get() <= self.account.most / 8 * 3
    }

    /// Whoever starves may be looked at again.
    #[inline]
    pub(crate) fn may_feed(&self) -> bool {
        (self.defers || !self.starved.is_empty()) && self.has_eased()
    }

    /// `calm`, or as much as one stream may have waiting while the shard is pressed.
    #[inline]
    pub(crate) fn allowance(&self, calm: usize) -> usize {
        if self.is_pressed() { calm.min(ALWAYS_BYTES) } else { calm }
    }

    /// Bytes that the streams of an HTTP/2 connection may have waiting while the shard is pressed.
    pub(crate) fn allowance_of_connection(&self) -> usize {
        if self.is_full() { ALWAYS_BYTES } else { ALWAYS_OF_CONNECTION }
    }

    /// Bytes that wait.
    pub(crate) fn sum(&self) -> usize {
        self.account.sum.get()
    }
}

/// What one place keeps; gone from the account with it.
#[derive(Debug)]
pub(crate) struct Share {
    account: Rc<Account>,
    bytes: usize,
}

impl Share {
    /// Counts `bytes` instead of whatever counted before.
    #[inline]
    pub(crate) fn set(share: &mut Option<Self>, held: &Held, bytes: usize) {
        if bytes > SMALL_BYTES || share.is_some() {
            Self::change(share, held, bytes);
        }
    }

    fn change(share: &mut Option<Self>, held: &Held, bytes: usize) {
        if bytes <= SMALL_BYTES {
            *share = None;
            return;
        }
        let share = share.get_or_insert_with(|| Self { account: held.account.clone(), bytes: 0 });
        let sum = &share.account.sum;
        sum.set(sum.get() + bytes - share.bytes);
        share.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.sum.set(self.account.sum.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_leave_with_their_owner() {
        let held = Held::new(80_000);
        let (mut first, mut second) = (None, None);
        Share::set(&mut first, &held, SMALL_BYTES);
        assert!(first.is_none() && held.has_eased());
        Share::set(&mut first, &held, 30_000);
        Share::set(&mut second, &held, 30_000);
        assert_eq!((held.sum(), held.is_pressed(), held.is_full()), (60_000, true, false));
        assert_eq!((held.allowance(1 << 20), held.allowance(100)), (ALWAYS_BYTES, 100));
        Share::set(&mut first, &held, 50_001);
        assert!(held.is_full() && !held.has_eased());
        drop(second);
        assert_eq!((held.sum(), held.is_pressed()), (50_001, true));
        Share::set(&mut first, &held, 0);
        assert!(first.is_none());
        assert_eq!((held.sum(), held.allowance(1 << 20)), (0, 1 << 20));
    }
}
