//! Bounded polling; the only place where a test waits for something it cannot read from a socket.

use std::time::{Duration, Instant};

/// How long a test waits for anything before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Polls `probe` until it yields a value; `None` once `limit` has passed.
pub fn until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            // A machine that stood still since the last look gets one more.
            return probe();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Polls until `probe` is true.
///
/// # Panics
/// When [`PATIENCE`] has passed; `what` names the expectation.
#[track_caller]
pub fn for_true(what: &str, mut probe: impl FnMut() -> bool) {
    assert!(until(PATIENCE, || probe().then_some(())).is_some(), "waited in vain for: {what}");
}
