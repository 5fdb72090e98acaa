//! Network filters in front of the terminal one: they let a connection in or not, or write about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millrace_base::TokenBucket;

use crate::{ConnectionState, ScopeId, SniForwardProxy};

/// `extensions.filters.network.local_ratelimit.v3.LocalRateLimit`.
#[derive(Debug)]
pub struct ConnectionRateLimit {
    /// Statistics scope `local_rate_limit.<stat_prefix>.`.
    pub scope: ScopeId,
    /// `token_bucket`, one for all shards: a connection costs one.
    pub bucket: TokenBucket,
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
    /// `runtime_enabled`, default true.
    pub enabled: bool,
    /// Connections on all shards.
    open: AtomicU64,
}

impl ConnectionLimit {
    /// Nobody is connected yet.
    pub fn new(scope: ScopeId, max: u64, enabled: bool) -> Self {
        Self { scope, max, enabled, open: AtomicU64::new(0) }
    }

    /// Counts one more connection; false when there are as many as allowed.
    pub fn open(&self) -> bool {
        let more = |open: u64| (open < self.max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
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
        let limit = ConnectionLimit::new(ScopeId(0), 2, true);
        assert_eq!([limit.open(), limit.open(), limit.open()], [true, true, false]);
        limit.close();
        assert_eq!([limit.open(), limit.open()], [true, false]);
    }
}
