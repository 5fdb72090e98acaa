//! The wall clock as rustls asks for it: what the shard was told last, never the machine's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_base::WallTime;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// Seconds since 1970 as the event loop knows them.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn set(&self, now: WallTime) {
        self.0.store(now.seconds(), Ordering::Relaxed);
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.seconds())))
    }
}
