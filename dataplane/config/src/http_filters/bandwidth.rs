//! `extensions.filters.http.bandwidth_limit.v3.BandwidthLimit`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millrace_base::{Time, TokenBucket};

use crate::ScopeId;

/// `BandwidthLimit`, of the filter or of a route.
#[derive(Debug)]
pub struct BandwidthLimit {
    /// Statistics scope `<stat_prefix>.http_bandwidth_limit.`.
    pub scope: ScopeId,
    /// `enable_mode` has requests in it.
    pub request: bool,
    /// `enable_mode` has responses in it.
    pub response: bool,
    /// `limit_kbps`; without one nothing is limited.
    pub kib_per_second: Option<u64>,
    /// `fill_interval`, 20 ms to 1 s, default 50 ms.
    pub fill_interval: Duration,
    /// `runtime_enabled`, the runtime's value in it.
    pub enabled: bool,
    /// `enable_response_trailers`, with their names: request delay, response delay, request filter delay, response filter
    /// delay.
    pub trailers: Option<[Arc<[u8]>; 4]>,
    /// What all streams under this limit share; [`BandwidthLimit::bucket`] makes it.
    pub shared: OnceLock<TokenBucket>,
}

impl BandwidthLimit {
    /// The bytes that may move: those of a second at the most, and of one `fill_interval` at first. `None` without a limit.
    pub fn bucket(&self, now: Time) -> Option<&TokenBucket> {
        let bytes = self.kib_per_second?.saturating_mul(1024);
        let first = (bytes as f64 * self.fill_interval.as_secs_f64()) as u64;
        let fresh = || TokenBucket::new(bytes, bytes, Duration::from_secs(1)).holding(first, now);
        Some(self.shared.get_or_init(fresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_interval_is_there_at_once() {
        let mut limit = BandwidthLimit {
            scope: ScopeId(0),
            request: true,
            response: true,
            kib_per_second: Some(10),
            fill_interval: Duration::from_millis(100),
            enabled: true,
            trailers: None,
            shared: OnceLock::new(),
        };
        let now = Time(5_000_000_000);
        let take = |limit: &BandwidthLimit, now| limit.bucket(now).map(|bucket| bucket.take_up_to(5000, now));
        assert_eq!((take(&limit, now), take(&limit, now)), (Some(1024), Some(0)));
        assert_eq!(take(&limit, now + Duration::from_secs(60)), Some(5000));
        limit.kib_per_second = None;
        assert!(limit.bucket(now).is_none());
    }
}
