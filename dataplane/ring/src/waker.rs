//! Waking a shard from another thread: an eventfd that is written only when the shard sleeps.

use crate::IoError;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const AWAKE: u8 = 0;
const SLEEPING: u8 = 1;
const NOTIFIED: u8 = 2;

#[derive(Debug)]
struct Shared {
    /// Every change is a read-modify-write, so whoever sees NOTIFIED also sees what was written before it.
    state: AtomicU8,
    eventfd: OwnedFd,
}

/// Makes the back end's current or next `turn` return with [`Event::Wake`](crate::Event::Wake).
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// A waker whose target is awake.
    pub(crate) fn new() -> Result<Self, IoError> {
        // SAFETY: creates a descriptor, touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(IoError::last());
        }
        // SAFETY: the descriptor is fresh and nobody else owns it.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(Arc::new(Shared { state: AtomicU8::new(AWAKE), eventfd })))
    }

    /// Wakes the target. What was written before the call is visible to it when it sees the event. A system
    /// call only when it sleeps.
    pub fn wake(&self) {
        if self.0.state.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING {
            let one = 1_u64;
            // SAFETY: writes 8 bytes of a local to a descriptor that the Arc keeps open. The only failure is
            // EAGAIN of a full counter, when a wake-up is pending anyway.
            unsafe { libc::write(self.0.eventfd.as_raw_fd(), (&raw const one).cast(), 8) };
        }
    }

    /// Before the target sleeps: false when it must not, since it was woken already.
    pub(crate) fn prepare_sleep(&self) -> bool {
        let order = (Ordering::AcqRel, Ordering::Acquire);
        self.0.state.compare_exchange(AWAKE, SLEEPING, order.0, order.1).is_ok()
    }

    /// After the target slept (or chose not to): true when it was woken since the last call.
    pub(crate) fn finish_sleep(&self) -> bool {
        self.0.state.swap(AWAKE, Ordering::AcqRel) == NOTIFIED
    }

    /// The descriptor that becomes readable when a sleeping target is woken.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.eventfd.as_raw_fd()
    }

    /// Empties the counter.
    pub(crate) fn reset(&self) {
        let mut count = 0_u64;
        // SAFETY: reads 8 bytes into a local; EAGAIN when the counter is empty changes nothing.
        unsafe { libc::read(self.0.eventfd.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}
