//! What the simulated network and kernel do wrong, and how often.

use millrace_base::Rng;
use std::time::Duration;

/// Rates are in thousandths of the occasions named. Everything is drawn from the simulation's seed.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// One-way latency of bytes, FIN and RST: from, to.
    pub latency: (Duration, Duration),
    /// Bytes under way and unread in one direction of a connection.
    pub window: usize,
    /// Reads that get a random part of what is there.
    pub short_reads: u16,
    /// Writes that take a random part of what fits (the send goes on later).
    pub short_writes: u16,
    /// Operations that make no progress for a while: up to `delay_max`. Covers starved receives as well.
    pub delays: u16,
    /// Longest delay.
    pub delay_max: Duration,
    /// Connections that are reset after a random number of bytes, up to `reset_within`.
    pub resets: u16,
    /// Bytes after which such a connection is reset at the latest.
    pub reset_within: u64,
    /// Resets that destroy bytes which arrived before them and were not read.
    pub resets_overtake: u16,
    /// Connects that are refused.
    pub connect_refused: u16,
    /// Connects that are answered with ETIMEDOUT after `connect_timeout_after`.
    pub connect_timeouts: u16,
    /// When such a connect gives up.
    pub connect_timeout_after: Duration,
    /// Accepts that end with EMFILE (the connection stays in the backlog).
    pub accept_errors: u16,
    /// Closes after which events of the closed socket still come, possibly when its id is reused.
    pub late_events: u16,
    /// Turns that return without an event although something is due.
    pub empty_turns: u16,
    /// Turns in which the clock jumps forward, by up to `clock_jump_max`.
    pub clock_jumps: u16,
    /// Longest jump.
    pub clock_jump_max: Duration,
}

impl Default for FaultPlan {
    /// A quiet network: 50 to 60 microseconds of latency, 64 KiB windows, no fault.
    fn default() -> Self {
        Self {
            latency: (Duration::from_micros(50), Duration::from_micros(60)),
            window: 64 * 1024,
            short_reads: 0,
            short_writes: 0,
            delays: 0,
            delay_max: Duration::from_millis(5),
            resets: 0,
            reset_within: 10_000,
            resets_overtake: 0,
            connect_refused: 0,
            connect_timeouts: 0,
            connect_timeout_after: Duration::from_secs(20),
            accept_errors: 0,
            late_events: 0,
            empty_turns: 0,
            clock_jumps: 0,
            clock_jump_max: Duration::from_secs(2),
        }
    }
}

impl FaultPlan {
    /// Slow and in pieces, but nothing is lost: every exchange must still succeed.
    pub fn choppy() -> Self {
        Self {
            latency: (Duration::from_micros(10), Duration::from_millis(20)),
            window: 4 * 1024,
            short_reads: 500,
            short_writes: 500,
            delays: 200,
            late_events: 500,
            empty_turns: 100,
            ..Self::default()
        }
    }

    /// Everything goes wrong now and then.
    pub fn rough() -> Self {
        Self {
            resets: 150,
            resets_overtake: 300,
            connect_refused: 50,
            connect_timeouts: 30,
            accept_errors: 30,
            clock_jumps: 5,
            ..Self::choppy()
        }
    }

    pub(super) fn latency(&self, rng: &mut Rng) -> Duration {
        let spread = self.latency.1.saturating_sub(self.latency.0).as_nanos() as u64;
        self.latency.0 + Duration::from_nanos(rng.below(spread + 1))
    }
}

/// True for `permille` of the calls.
pub(super) fn strikes(rng: &mut Rng, permille: u16) -> bool {
    permille > 0 && rng.chance(u64::from(permille), 1000)
}

/// A part of `whole`, at least one.
pub(super) fn part_of(rng: &mut Rng, whole: usize) -> usize {
    1 + rng.below(whole as u64) as usize
}
