//! Durations that differ from connection to connection, so that not all end at once.

use std::time::Duration;

/// How much longer one of them is: at random less than so many percent, in whole milliseconds, rounded up, as in Envoy.
pub fn jitter(whole: Duration, percent: f64, random: u64) -> Duration {
    let most = (whole.as_millis() as f64 * percent / 100.0).ceil() as u64;
    Duration::from_millis(if most > 0 { random % most } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_so_many_percent() {
        let second = Duration::from_secs(1);
        assert_eq!(jitter(second, 0.0, 77), Duration::ZERO);
        assert_eq!(jitter(second, 50.0, 499), Duration::from_millis(499));
        assert_eq!(jitter(second, 50.0, 500), Duration::ZERO);
    }
}
