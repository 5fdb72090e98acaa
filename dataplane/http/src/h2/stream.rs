//! One stream (RFC 9113 section 5.1), as long as at least one side may still send on it.

use alloc::boxed::Box;

use millrace_base::Time;

use super::flow::{ReceiveWindow, SendWindow};
use super::priority::Priority;

/// Bits of [`Stream::state`].
pub(super) mod state {
    /// The peer has sent its last byte.
    pub(crate) const REMOTE_ENDED: u8 = 1;
    /// We have.
    pub(crate) const LOCAL_ENDED: u8 = 2;
    /// The final head has arrived: always for servers.
    pub(crate) const HEAD_IN: u8 = 4;
    /// A response without a body whatever its content-length says: to HEAD, or 304.
    pub(crate) const BODYLESS: u8 = 8;
    /// The request was CONNECT, plain or extended.
    pub(crate) const CONNECT: u8 = 16;
    /// The request was extended CONNECT (RFC 8441).
    pub(crate) const EXTENDED: u8 = 32;
}

/// Content-length that was not given.
pub(super) const UNKNOWN_LENGTH: u64 = u64::MAX;

/// A stream in the table.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// 0 for a free slot, whose `user` is then the next free one.
    pub(super) id: u32,
    pub(super) state: u8,
    pub(super) priority: Priority,
    pub(super) user: u64,
    pub(super) send: SendWindow,
    pub(super) receive: ReceiveWindow,
    /// Bytes of DATA that content-length still announces, or [`UNKNOWN_LENGTH`].
    pub(super) length_left: u64,
    pub(super) opened: Time,
    /// What an extended CONNECT of ours asked for: the `upgrade` field of the 101 that the answer becomes.
    pub(super) protocol: Option<Box<[u8]>>,
}

impl Stream {
    /// True when one of these bits is set.
    #[inline]
    pub(super) fn is(&self, bits: u8) -> bool {
        self.state & bits != 0
    }

    /// True when neither side sends any more.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        const BOTH: u8 = state::REMOTE_ENDED | state::LOCAL_ENDED;
        self.state & BOTH == BOTH
    }

    /// Charges payload to content-length; false when there is more than announced, or less at the end.
    #[inline]
    pub(super) fn count_content(&mut self, bytes: usize, end: bool) -> bool {
        if self.length_left == UNKNOWN_LENGTH {
            return true;
        }
        match self.length_left.checked_sub(bytes as u64) {
            Some(left) => {
                self.length_left = left;
                !end || left == 0
            }
            None => false,
        }
    }
}
