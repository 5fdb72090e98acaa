//! `extensions.filters.http.bandwidth_limit.v3.BandwidthLimit`.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::TokenBucket;

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
    /// What all streams under this limit share, in bytes.
    pub bucket: TokenBucket,
}
