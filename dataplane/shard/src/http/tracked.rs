//! What `track_cluster_stats` asks for: how large requests and responses are, and how much of their time they take.

use millrace_base::{Key, Time};
use millrace_config::TrackedStats;
use millrace_http::ResponseHead;
use millrace_observe::stats::{cluster_budgets, cluster_sizes};

use super::stream::Stream;
use crate::shard::Shard;

/// The last try of a stream, if its cluster is tracked.
#[derive(Debug)]
pub(crate) struct Tracked {
    stats: TrackedStats,
    /// `None` once the try is over.
    began: Option<Time>,
    /// The request's timeout ends it, and not the try's.
    outlived: bool,
    /// Bytes and fields of the endpoint's head.
    head: Option<(usize, usize)>,
    /// Body bytes of the endpoint.
    pub(super) received: u64,
}

impl Tracked {
    pub(super) fn begin(stats: TrackedStats, now: Time) -> Box<Self> {
        Box::new(Self { stats, began: Some(now), outlived: false, head: None, received: 0 })
    }

    /// The head as it came.
    pub(super) fn head(&mut self, head: &ResponseHead) {
        // The status is a field, too.
        self.head = Some((head.byte_len(), head.headers.len() + 1));
    }
}

/// Envoy takes a time without an end as one of which nothing is used.
fn percent(used: std::time::Duration, of: Option<std::time::Duration>) -> u64 {
    let of = of.map_or(0, |of| of.as_millis());
    (used.as_millis() * 100).checked_div(of).and_then(|percent| u64::try_from(percent).ok()).unwrap_or(0)
}

impl Shard {
    /// The try is over, whatever came of it.
    #[inline]
    pub(super) fn try_is_over(&mut self, id: Key) {
        if self.streams.get(id).is_some_and(|stream| stream.tracked.is_some()) {
            self.record_try(id);
        }
    }

    #[cold]
    fn record_try(&mut self, id: Key) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        let sent = sent_bytes(stream);
        let Some(tracked) = &mut stream.tracked else { return };
        let Some(began) = tracked.began.take() else { return };
        if let Some(scope) = tracked.stats.budgets.filter(|_| !tracked.outlived) {
            let used = percent(now.since(began), stream.timeouts.per_try);
            self.stats.record(scope, cluster_budgets::UPSTREAM_RQ_TIMEOUT_BUDGET_PER_TRY_PERCENT_USED, used);
        }
        let Some(scope) = tracked.stats.sizes else { return };
        let head = &stream.request;
        let pseudo = [head.method(), head.path(), head.authority(), head.scheme()];
        let pseudo = pseudo.iter().filter(|part| !part.is_empty()).count();
        let fields = head.headers.len() + pseudo;
        self.stats.record(scope, cluster_sizes::UPSTREAM_RQ_HEADERS_SIZE, head.byte_len() as u64);
        self.stats.record(scope, cluster_sizes::UPSTREAM_RQ_HEADERS_COUNT, fields as u64);
        self.stats.record(scope, cluster_sizes::UPSTREAM_RQ_BODY_SIZE, sent);
        if let Some((bytes, fields)) = tracked.head {
            self.stats.record(scope, cluster_sizes::UPSTREAM_RS_HEADERS_SIZE, bytes as u64);
            self.stats.record(scope, cluster_sizes::UPSTREAM_RS_HEADERS_COUNT, fields as u64);
            self.stats.record(scope, cluster_sizes::UPSTREAM_RS_BODY_SIZE, tracked.received);
        }
    }

    /// The response is whole, or a timeout answers instead: `timed_out` says that it is the request's own.
    #[inline]
    pub(super) fn budget_is_used(&mut self, id: Key, timed_out: bool) {
        if self.streams.get(id).is_some_and(|stream| stream.tracked.is_some()) {
            self.record_budget(id, timed_out);
        }
    }

    #[cold]
    fn record_budget(&mut self, id: Key, timed_out: bool) {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(tracked) = &mut stream.tracked else { return };
        tracked.outlived |= timed_out;
        let Some((scope, since)) = tracked.stats.budgets.zip(stream.facts.times.downstream_rx_end) else {
            return;
        };
        let used = percent(now.since(since), stream.timeouts.global);
        self.stats.record(scope, cluster_budgets::UPSTREAM_RQ_TIMEOUT_BUDGET_PERCENT_USED, used);
    }
}

/// Body bytes that went to the endpoint: those of the client but for what waits; none without a connection.
fn sent_bytes(stream: &Stream) -> u64 {
    match stream.facts.times.upstream_pool_ready {
        Some(_) => stream.facts.bytes.received.saturating_sub(stream.flow.request_queue.len() as u64),
        None => 0,
    }
}
