//! How long to wait before a stream beside discovery is opened again.

use std::time::Duration;

use millrace_base::Rng;

/// Back-off as Envoy's for these streams: drawn from zero up to an interval that doubles.
const BASE: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_secs(30);

/// The pauses between one stream and the next.
pub(super) struct Pauses {
    rng: Rng,
    interval: Duration,
}

impl Pauses {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), interval: BASE }
    }

    /// Waits after a stream; one that the server has `answered` on begins the row anew.
    pub(super) async fn pause(&mut self, answered: bool) {
        if answered {
            self.interval = BASE;
        }
        let nanoseconds = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_nanos(self.rng.below(nanoseconds))).await;
        self.interval = (self.interval * 2).min(MAX);
    }
}
