//! Flow control windows (RFC 9113 sections 5.2 and 6.9).

use super::frame::STREAM_MAX;

/// What the peer may still send: shrinks with DATA, grows again as bytes are passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReceiveWindow {
    /// What the peer may send now; below zero after our SETTINGS took back what it had used.
    available: i64,
    /// Passed on and not yet announced.
    pending: u32,
}

impl ReceiveWindow {
    #[inline]
    pub(super) fn new(size: u32) -> Self {
        Self { available: i64::from(size), pending: 0 }
    }

    /// Charges a frame; false when it does not fit. An empty one always does (section 6.9.1).
    #[inline]
    pub(super) fn charge(&mut self, bytes: usize) -> bool {
        let fits = bytes == 0 || bytes as i64 <= self.available;
        if fits {
            self.available -= bytes as i64;
        }
        fits
    }

    /// Gives bytes back to a window of `size`. Returns the increment to announce, when half a window has gathered.
    #[inline]
    pub(super) fn release(&mut self, bytes: usize, size: u32) -> Option<u32> {
        // Never beyond the size: nobody can give back what was not charged.
        let owed = i64::from(size) - self.available - i64::from(self.pending);
        self.pending += (bytes as i64).min(owed).max(0) as u32;
        self.announce(size)
    }

    /// The increment that is due in a window of `size`, if any.
    #[inline]
    fn announce(&mut self, size: u32) -> Option<u32> {
        if self.pending < (size / 2).max(1) {
            return None;
        }
        let increment = self.pending;
        self.available += i64::from(increment);
        self.pending = 0;
        Some(increment)
    }

    /// Takes back what a window had beyond the `size` that the peer has now acknowledged. What had gathered may be an
    /// increment that is due now, and nothing else would bring it about.
    pub(super) fn shrink(&mut self, by: u32, size: u32) -> Option<u32> {
        self.available -= i64::from(by);
        self.announce(size)
    }

    /// Bytes that were charged and not given back yet.
    pub(super) fn debt(&self, size: u32) -> i64 {
        i64::from(size) - self.available - i64::from(self.pending)
    }
}

/// What we may still send; below zero when SETTINGS shrank it (section 6.9.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SendWindow(i32);

impl SendWindow {
    #[inline]
    pub(super) fn new(size: u32) -> Self {
        Self(size.min(STREAM_MAX) as i32)
    }

    /// Bytes that may be sent now.
    #[inline]
    pub(super) fn available(self) -> usize {
        self.0.max(0) as usize
    }

    /// Charges bytes that were sent.
    #[inline]
    pub(super) fn charge(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes.min(STREAM_MAX as usize) as i32);
    }

    /// Adds the increment of a WINDOW_UPDATE. Says whether there is room now that there was not; `None` beyond 2^31-1.
    #[inline]
    pub(super) fn grow(&mut self, increment: u32) -> Option<bool> {
        let had_room = self.0 > 0;
        self.0 = self.0.checked_add_unsigned(increment)?;
        Some(!had_room && self.0 > 0)
    }

    /// Follows a change of SETTINGS_INITIAL_WINDOW_SIZE; false beyond 2^31-1.
    pub(super) fn adjust(&mut self, old: u32, new: u32) -> bool {
        let window = i64::from(self.0) + i64::from(new) - i64::from(old);
        // The lower end holds: what was sent is at most what was once allowed.
        self.0 = window.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        window <= i64::from(STREAM_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_window_is_announced_at_once() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.charge(100) && !window.charge(1) && window.charge(0));
        assert_eq!((window.release(49, 100), window.release(1, 100)), (None, Some(50)));
        assert!(window.charge(50) && !window.charge(1));
        assert_eq!(window.debt(100), 100);
        assert_eq!(window.release(5000, 100), Some(100), "never more than was charged");
        assert_eq!((window.debt(100), window.release(7, 100)), (0, None));
        let mut tiny = ReceiveWindow::new(1);
        assert!(tiny.charge(1) && tiny.release(0, 1).is_none());
        assert_eq!(tiny.release(1, 1), Some(1));
    }

    #[test]
    fn a_window_that_shrank_is_not_announced_until_it_is_paid() {
        let mut window = ReceiveWindow::new(65_535);
        assert!(window.charge(60_000));
        assert_eq!(window.shrink(65_535 - 1000, 1000), None);
        assert!(!window.charge(1) && window.charge(0), "a window below zero takes an empty frame");
        assert_eq!(window.release(60_000, 1000), Some(60_000));
        assert_eq!(window.debt(1000), 0);
        assert!(window.charge(1000) && !window.charge(1));
    }

    #[test]
    fn a_window_that_shrank_below_what_was_passed_on_is_announced_at_once() {
        let mut window = ReceiveWindow::new(65_535);
        assert!(window.charge(5000) && window.release(5000, 65_535).is_none());
        assert_eq!(window.shrink(65_535 - 1000, 1000), Some(5000));
        assert!(window.charge(1000) && !window.charge(1));
    }

    #[test]
    fn send_windows_follow_settings_and_updates() {
        let mut window = SendWindow::new(10);
        window.charge(10);
        assert_eq!((window.available(), window.grow(5)), (0, Some(true)));
        assert!(window.adjust(10, 2));
        assert_eq!((window.available(), window.grow(3), window.grow(1)), (0, Some(false), Some(true)));
        assert!(window.adjust(2, STREAM_MAX) && !window.adjust(0, STREAM_MAX));
        assert_eq!(SendWindow::new(STREAM_MAX).grow(1), None);
    }
}
