//! Memory that submission entries point to: read by the kernel during submission only (`SUBMIT_STABLE`).

use crate::Payload;
use crate::sys::RawAddress;

/// Most pieces of a payload handed to the kernel in one call.
const PIECES_MAX: usize = 64;
const IOVECS: usize = 1024;

/// Headers, iovecs and addresses of the entries queued since the last submission. The vectors never grow
/// beyond their first capacity, so the entries' pointers stay good.
pub(super) struct Scratch {
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::msghdr>,
    addresses: Vec<RawAddress>,
}

impl Scratch {
    pub(super) fn new(sq_entries: u32) -> Self {
        let entries = sq_entries as usize;
        Self {
            iovecs: Vec::with_capacity(IOVECS),
            headers: Vec::with_capacity(entries),
            addresses: Vec::with_capacity(entries),
        }
    }

    /// True when the next entry may not find room: submit and [`clear`](Self::clear) first.
    pub(super) fn is_full(&self) -> bool {
        self.iovecs.len() + PIECES_MAX > IOVECS
            || self.headers.len() == self.headers.capacity()
            || self.addresses.len() == self.addresses.capacity()
    }

    /// Forgets everything; nothing may be queued and unsubmitted.
    pub(super) fn clear(&mut self) {
        self.iovecs.clear();
        self.headers.clear();
        self.addresses.clear();
    }

    /// The message header for the payload from byte `offset` on, up to [`PIECES_MAX`] pieces of it.
    pub(super) fn message(&mut self, payload: &Payload, offset: usize) -> *const libc::msghdr {
        debug_assert!(!self.is_full());
        let start = self.iovecs.len();
        self.iovecs.extend(
            payload.slices_from(offset).take(PIECES_MAX).map(|slice| libc::iovec {
                iov_base: slice.as_ptr().cast_mut().cast(),
                iov_len: slice.len(),
            }),
        );
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iovlen = (self.iovecs.len() - start) as _;
        header.msg_iov = self.iovecs[start..].as_mut_ptr();
        let index = self.headers.len();
        self.headers.push(header);
        &raw const self.headers[index]
    }

    /// Keeps an address for a connect.
    pub(super) fn address(&mut self, address: RawAddress) -> (*const libc::sockaddr, libc::socklen_t) {
        debug_assert!(!self.is_full());
        let index = self.addresses.len();
        self.addresses.push(address);
        (self.addresses[index].pointer(), self.addresses[index].length())
    }
}
