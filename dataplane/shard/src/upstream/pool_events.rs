//! What the pools count, in the statistics of their clusters.

use millrace_config::ClusterId;
use millrace_observe::stats::cluster as metric;
use millrace_upstream::PoolEvent;

use crate::shard::Shard;

impl Shard {
    pub(super) fn count_pool_event(&mut self, cluster: ClusterId, event: PoolEvent) {
        let Some(scope) = self.clusters.get(cluster).map(|state| state.config().scope) else { return };
        let counter = match event {
            PoolEvent::ConnectionOpened => {
                self.stats.inc(scope, metric::UPSTREAM_CX_HTTP1_TOTAL);
                metric::UPSTREAM_CX_TOTAL
            }
            PoolEvent::Http2ConnectionOpened => {
                self.stats.inc(scope, metric::UPSTREAM_CX_HTTP2_TOTAL);
                metric::UPSTREAM_CX_TOTAL
            }
            PoolEvent::TcpConnectionOpened | PoolEvent::AutoConnectionOpened => metric::UPSTREAM_CX_TOTAL,
            PoolEvent::AutoIsHttp1 => metric::UPSTREAM_CX_HTTP1_TOTAL,
            PoolEvent::AutoIsHttp2 => metric::UPSTREAM_CX_HTTP2_TOTAL,
            PoolEvent::ConnectionOverflow => metric::UPSTREAM_CX_OVERFLOW,
            PoolEvent::PoolOverflow => metric::UPSTREAM_CX_POOL_OVERFLOW,
            PoolEvent::ConnectionMaxRequests => metric::UPSTREAM_CX_MAX_REQUESTS,
            PoolEvent::ConnectionMaxDuration => metric::UPSTREAM_CX_MAX_DURATION_REACHED,
            PoolEvent::ConnectionIdleTimeout => metric::UPSTREAM_CX_IDLE_TIMEOUT,
            PoolEvent::PendingTotal => metric::UPSTREAM_RQ_PENDING_TOTAL,
            PoolEvent::PendingOverflow => metric::UPSTREAM_RQ_PENDING_OVERFLOW,
            PoolEvent::RequestOverflow => metric::UPSTREAM_RQ_ACTIVE_OVERFLOW,
            PoolEvent::PendingFailureEject => metric::UPSTREAM_RQ_PENDING_FAILURE_EJECT,
            PoolEvent::Cancelled => metric::UPSTREAM_RQ_CANCELLED,
        };
        self.stats.inc(scope, counter);
    }
}
