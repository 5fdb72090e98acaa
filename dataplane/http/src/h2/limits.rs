//! Every bound that nobody configures, with what happens beyond it, and the budgets that frames are charged to.

use core::time::Duration;

use millrace_base::Time;

/// Largest frame that we accept: SETTINGS_MAX_FRAME_SIZE stays at its initial value. Beyond: FRAME_SIZE_ERROR.
pub(super) const FRAME_BYTES_MAX: usize = 16_384;
/// Initial SETTINGS_INITIAL_WINDOW_SIZE, and the connection's first window (RFC 9113 section 6.9.2).
pub(super) const DEFAULT_WINDOW: u32 = 65_535;
/// Initial SETTINGS_HEADER_TABLE_SIZE.
pub(super) const DEFAULT_TABLE_BYTES: u32 = 4096;
/// Streams that a client opens before it has seen the server's SETTINGS: what RFC 9113 section 6.5.2 calls the least
/// that a server should allow.
pub(super) const STREAMS_BEFORE_SETTINGS: u32 = 100;

/// A field block that decodes to this many times the limits ends the connection with ENHANCE_YOUR_CALM; below, it is
/// read to its end so that the neighbours' HPACK state stays in step.
pub(super) const HEADER_BOMB_FACTOR: u32 = 4;
/// A buffer for fragments of field blocks is given back when it grew beyond this.
pub(super) const FRAGMENTS_KEPT: usize = FRAME_BYTES_MAX;
/// The control queue gives its memory back when it grew beyond this and is empty.
pub(super) const CONTROL_KEPT: usize = 4096;

/// SETTINGS and PING that may come at once; beyond: ENHANCE_YOUR_CALM.
const CONTROL_BURST: u32 = 100;
/// One more for each of these. So 10 a second are sustained.
const CONTROL_REFILL: Duration = Duration::from_millis(100);
/// One more for each frame that does something (DATA either way, heads): clients measure the bandwidth with a PING a
/// round trip while data flows.
const CONTROL_PER_USEFUL: u32 = 1;

/// Frames without effect (unknown types, frames for streams that are gone, refused streams, repeated GOAWAY,
/// PRIORITY_UPDATE) that may come between frames that do something; beyond: ENHANCE_YOUR_CALM.
const GLITCHES: u32 = 1_000;
/// Of those, forgiven for each frame that does something.
const GLITCHES_PER_USEFUL: u32 = 10;

/// Streams that must have been opened before the share of early ends counts.
const RESETS_FROM: u32 = 100;
/// The count of streams is halved at this many, and the early ends with it, so that a good past does not pay for an
/// attack.
const RESETS_WINDOW: u32 = 400;
/// A peer's RST_STREAM within this time of the stream's begin, before we ended our side, is an early end. Envoy's
/// `overload.premature_reset_min_stream_lifetime_seconds`: who gives up after a deadline is no attacker.
const EARLY: Duration = Duration::from_secs(1);

/// WINDOW_UPDATE frames that are always allowed, as in Envoy.
const WINDOW_UPDATES_FREE: u32 = 5;

/// Streams that we reset and whose late frames are ignored. Older ones are answered like streams that never were.
pub(super) const RESETS_REMEMBERED: usize = 1024;
/// Streams that ended or that the peer reset, for the right answer to frames that follow.
pub(super) const ENDS_REMEMBERED: usize = 64;

/// Longest authority that is remembered as valid.
pub(super) const AUTHORITY_KEPT: usize = 128;

/// Slots that an idle connection keeps.
pub(super) const SLOTS_KEPT: usize = 256;

/// What a connection's frames are charged to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budgets {
    /// Frames that did something: DATA with content in either direction, heads.
    pub(super) useful: u32,
    /// DATA frames that we sent.
    pub(super) data_sent: u32,
    /// Streams that were opened.
    pub(super) opened: u32,
    pub(super) priority_frames: u32,
    window_updates: u32,
    control: u32,
    control_useful: u32,
    control_since: Time,
    glitches: u32,
    glitches_useful: u32,
    streams: u32,
    early_ends: u32,
}

impl Budgets {
    pub(super) fn new(now: Time) -> Self {
        Self {
            useful: 0,
            data_sent: 0,
            opened: 0,
            priority_frames: 0,
            window_updates: 0,
            control: 0,
            control_useful: 0,
            control_since: now,
            glitches: 0,
            glitches_useful: 0,
            streams: 0,
            early_ends: 0,
        }
    }

    /// Counts a stream that was opened.
    #[inline]
    pub(super) fn open(&mut self) {
        self.opened = self.opened.saturating_add(1);
        self.streams += 1;
        if self.streams >= RESETS_WINDOW {
            self.streams /= 2;
            self.early_ends /= 2;
        }
    }

    /// Counts a SETTINGS or PING frame; false beyond the budget.
    pub(super) fn control(&mut self, now: Time) -> bool {
        let refilled = now.since(self.control_since).as_nanos() / CONTROL_REFILL.as_nanos();
        let refilled = u32::try_from(refilled).unwrap_or(u32::MAX);
        if refilled > 0 {
            self.control_since = self.control_since + CONTROL_REFILL * refilled.min(CONTROL_BURST * 10);
            if refilled > CONTROL_BURST {
                self.control_since = now;
            }
        }
        let useful = self.useful.wrapping_sub(self.control_useful).saturating_mul(CONTROL_PER_USEFUL);
        self.control_useful = self.useful;
        self.control = self.control.saturating_sub(refilled.saturating_add(useful)) + 1;
        self.control <= CONTROL_BURST
    }

    /// Counts a frame without effect; false beyond the budget.
    pub(super) fn glitch(&mut self) -> bool {
        let useful = self.useful.wrapping_sub(self.glitches_useful).saturating_mul(GLITCHES_PER_USEFUL);
        self.glitches_useful = self.useful;
        self.glitches = self.glitches.saturating_sub(useful) + 1;
        self.glitches <= GLITCHES
    }

    /// Counts a WINDOW_UPDATE frame; false beyond the budget, which is Envoy's.
    #[inline]
    pub(super) fn window_update(&mut self, per_data: u32) -> bool {
        self.window_updates = self.window_updates.saturating_add(1);
        let earned = self.data_sent.saturating_mul(per_data).saturating_add(self.opened);
        self.window_updates <= earned.saturating_mul(2).saturating_add(WINDOW_UPDATES_FREE)
    }

    /// Counts a PRIORITY frame; false beyond the budget, which is Envoy's.
    pub(super) fn priority(&mut self, per_stream: u32) -> bool {
        self.priority_frames = self.priority_frames.saturating_add(1);
        self.priority_frames <= per_stream.saturating_mul(self.opened.saturating_add(1))
    }

    /// True when a peer's RST_STREAM counts as an early end.
    pub(super) fn is_early(opened: Time, now: Time) -> bool {
        now.since(opened) < EARLY
    }

    /// Counts a stream that ended early; false when those are too large a share.
    pub(super) fn early_end(&mut self) -> bool {
        self.early_ends += 1;
        match self.streams < RESETS_FROM {
            true => self.early_ends <= RESETS_FROM,
            false => self.early_ends * 2 <= self.streams,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_frames_come_at_ten_a_second() {
        let mut now = Time(5);
        let mut budgets = Budgets::new(now);
        let at_once = |budgets: &mut Budgets, now| (0..1000).take_while(|_| budgets.control(now)).count();
        assert_eq!(at_once(&mut budgets, now), 100);
        now = now + Duration::from_secs(1);
        assert_eq!(at_once(&mut budgets, now), 9, "one was spent on the refusal");
        now = now + Duration::from_millis(100);
        for _ in 0..200 {
            now = now + Duration::from_millis(100);
            assert!(budgets.control(now));
        }
        now = now + Duration::from_secs(1 << 40);
        assert_eq!(at_once(&mut budgets, now), 100);
        budgets.useful = budgets.useful.wrapping_add(50);
        assert_eq!(at_once(&mut budgets, now), 49);
    }

    #[test]
    fn half_intervals_are_not_lost() {
        let mut budgets = Budgets::new(Time::ZERO);
        let mut accepted = 0;
        for i in 1..=1000u64 {
            accepted += u32::from(budgets.control(Time(i * 150_000_000)));
        }
        assert_eq!(accepted, 1000);
        let mut budgets = Budgets::new(Time::ZERO);
        let refused = (1..=2000u64).filter(|i| !budgets.control(Time(i * 50_000_000))).count();
        assert!(refused > 0, "20 a second are too many");
    }

    #[test]
    fn glitches_are_forgiven_for_work() {
        let mut budgets = Budgets::new(Time::ZERO);
        assert_eq!((0..20_000).take_while(|_| budgets.glitch()).count(), 1_000);
        budgets.useful = 2;
        assert_eq!((0..20_000).take_while(|_| budgets.glitch()).count(), 19);
    }

    #[test]
    fn early_ends_count_from_a_hundred_streams() {
        let mut budgets = Budgets::new(Time::ZERO);
        let mut ended = 0;
        while budgets.early_end() {
            budgets.open();
            ended += 1;
        }
        assert_eq!(ended, 100);
        let mut budgets = Budgets::new(Time::ZERO);
        for i in 0..10_000 {
            budgets.open();
            assert!(i % 2 == 0 || budgets.early_end(), "half of them is allowed");
        }
        let good = Budgets { streams: 199, early_ends: 0, ..budgets };
        let mut attacked = good;
        let attack = (0..1000)
            .take_while(|_| {
                attacked.open();
                attacked.early_end()
            })
            .count();
        assert!(attack < 450, "{attack}");
    }
}
