//! Network filters in front of the terminal one: they let a connection in or not, or write about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_base::TokenBucket;

use crate::{ConnectionState, ScopeId, SniForwardProxy};

/// `extensions.filters.network.local_ratelimit.v3.LocalRateLimit`.
#[derive(Debug)]
pub struct ConnectionRateLimit {
    /// Statistics scope `local_rate_limit.<stat_prefix>.`.
    pub scope: ScopeId,
    /// `token_bucket`, one for all shards and for all filters of the same `share_key`: a connection costs one.
    pub bucket: Arc<TokenBucket>,
    /// `runtime_enabled`, default true.
    pub enabled: bool,
}

/// `extensions.filters.network.connection_limit.v3.ConnectionLimit`.
#[derive(Debug)]
pub struct ConnectionLimit {
    /// Statistics scope `connection_limit.<stat_prefix>.`.
    pub scope: ScopeId,
    /// `max_connections`.
    pub max: u64,
    /// `delay`: how long a connection above the limit is kept before it is closed; zero closes it at once.
    pub delay: Duration,
    /// `runtime_enabled`, default true.
    pub enabled: bool,
    /// Connections on all shards.
    open: AtomicU64,
}

impl ConnectionLimit {
    /// Nobody is connected yet.
    pub fn new(scope: ScopeId, max: u64, delay: Duration, enabled: bool) -> Self {
        Self { scope, max, delay, enabled, open: AtomicU64::new(0) }
    }

    /// Counts one more connection; false when there are as many as allowed.
    pub fn open(&self) -> bool {
        let more = |open: u64| (open < self.max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts a connection that is refused and stays for the `delay`: until then it takes a place, as in Envoy.
    pub fn open_above(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// One that was counted is gone.
    pub fn close(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One network filter in front of the terminal one.
#[derive(Clone, Debug)]
pub enum ConnectionGate {
    /// `envoy.filters.network.local_ratelimit`.
    RateLimit(Arc<ConnectionRateLimit>),
    /// `envoy.filters.network.connection_limit`.
    Limit(Arc<ConnectionLimit>),
    /// `envoy.filters.network.set_filter_state`: lets everybody in.
    SetFilterState(Arc<ConnectionState>),
    /// `envoy.filters.network.sni_dynamic_forward_proxy`, which may have the connection wait.
    SniForwardProxy(Arc<SniForwardProxy>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_allowed_at_a_time() {
        let limit = ConnectionLimit::new(ScopeId(0), 2, Duration::ZERO, true);
        assert_eq!([limit.open(), limit.open(), limit.open()], [true, true, false]);
        limit.close();
        assert_eq!([limit.open(), limit.open()], [true, false]);
    }

    #[test]
    fn what_waits_to_be_closed_takes_a_place() {
        let limit = ConnectionLimit::new(ScopeId(0), 1, Duration::from_secs(1), true);
        assert!(limit.open() && !limit.open());
        limit.open_above();
        limit.close();
        assert!(!limit.open());
        limit.close();
        assert!(limit.open());
    }
}
