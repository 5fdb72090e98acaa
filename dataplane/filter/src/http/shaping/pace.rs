//! The rate at which body bytes may move on.

use std::time::Duration;

use millrace_base::{Time, TokenBucket};

/// How long a direction waits once its bucket is empty, as in Envoy.
const SLICE: Duration = Duration::from_millis(50);

/// Bytes of one direction of one stream, a second at a time and a slice of 50 ms after the other. It holds no byte: what
/// may not go yet stays where it is, and whoever sends is not read.
#[derive(Debug)]
pub(crate) struct Pace {
    bucket: TokenBucket,
    /// Nothing moves before.
    resumes: Time,
}

impl Pace {
    /// So many KiB a second, of which one slice may go at once.
    pub(crate) fn new(kib_per_second: u64, now: Time) -> Self {
        let bytes = kib_per_second.saturating_mul(1024);
        let first = bytes / (1000 / SLICE.as_millis() as u64);
        let bucket = TokenBucket::new(bytes, bytes, Duration::from_secs(1)).holding(first, now);
        Self { bucket, resumes: Time::ZERO }
    }

    /// How many of `wanted` bytes may move now; they count as moved. With less than all, ask again at
    /// [`Pace::resumes_at`].
    pub(crate) fn take(&mut self, wanted: usize, now: Time) -> usize {
        if now < self.resumes {
            return 0;
        }
        let taken = self.bucket.take_up_to(wanted as u64, now) as usize;
        if taken < wanted {
            self.resumes = now + SLICE;
        }
        taken
    }

    /// When bytes may move again; in the past if they may now.
    pub(crate) fn resumes_at(&self) -> Time {
        self.resumes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_goes_at_once_and_a_second_holds_the_rate() {
        let mut pace = Pace::new(64, Time(0));
        assert_eq!(pace.take(100_000, Time(0)), 3276);
        assert_eq!((pace.take(100_000, Time(1)), pace.resumes_at()), (0, Time(50_000_000)));
        let mut moved = 0;
        for slice in 1..=20 {
            moved += pace.take(100_000, Time(slice * 50_000_000));
        }
        assert!((65_530..=65_536).contains(&moved), "{moved}");
        assert_eq!(pace.take(10, Time(u64::from(u32::MAX))), 10);
        assert!(pace.resumes_at() < Time(u64::from(u32::MAX)));
    }
}
