//! `envoy.filters.http.bandwidth_limit`: bodies move no faster than all streams under the limit may together.

use std::sync::Arc;
use std::time::Duration;

use millrace_base::Time;
use millrace_config::BandwidthLimit;
use millrace_http::HeaderMap;
use millrace_observe::stats::{ShardStats, bandwidth_limit as metric};

use crate::http::stream_filters::Env;

/// A request under a limit. Whoever drops it must have called [`BandwidthActive::end`].
#[derive(Debug)]
pub(crate) struct BandwidthActive {
    limit: Arc<BandwidthLimit>,
    pub(crate) request: Option<Throttle>,
    pub(crate) response: Option<Throttle>,
    /// The response has come.
    answered: bool,
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Throttle {
    /// First and last time at which a byte was here.
    first: Option<Time>,
    last: Time,
    resumes: Time,
    /// What the filter has added.
    delay: Duration,
    counts: Counts,
    pending: bool,
    over: bool,
}

/// What waits for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    incoming: Option<u64>,
    incoming_total: u64,
    allowed: Option<u64>,
    allowed_total: u64,
    enforced: u64,
}

impl BandwidthActive {
    /// `None` for a filter that limits nothing here.
    pub(crate) fn begin(limit: &Arc<BandwidthLimit>, env: &mut Env<'_>) -> Option<Self> {
        if !limit.enabled || limit.kib_per_second.is_none() || !(limit.request || limit.response) {
            return None;
        }
        if limit.request {
            env.stats.inc(limit.scope, metric::REQUEST_ENABLED);
        }
        let throttle = |on: bool| on.then(Throttle::default);
        let (request, response) = (throttle(limit.request), throttle(limit.response));
        Some(Self { limit: Arc::clone(limit), request, response, answered: false })
    }

    pub(crate) fn response_head(&mut self, stats: &mut ShardStats) {
        if self.response.is_some() && !std::mem::replace(&mut self.answered, true) {
            stats.inc(self.limit.scope, metric::RESPONSE_ENABLED);
        }
    }

    /// How many of `wanted` bytes of the request may move on now; they count as moved.
    pub(crate) fn take_request(&mut self, wanted: usize, now: Time) -> usize {
        self.request.as_mut().map_or(wanted, |throttle| throttle.take(&self.limit, wanted, now))
    }

    /// The same for the response.
    pub(crate) fn take_response(&mut self, wanted: usize, now: Time) -> usize {
        self.response.as_mut().map_or(wanted, |throttle| throttle.take(&self.limit, wanted, now))
    }

    pub(crate) fn has_trailers(&self) -> bool {
        self.response.is_some() && self.limit.trailers.is_some()
    }

    /// The last byte of the response has moved on: what was waited for.
    pub(crate) fn tell(&self, trailers: &mut HeaderMap) {
        let (Some(names), Some(response)) = (&self.limit.trailers, &self.response) else { return };
        let request = self.request.unwrap_or_default();
        let times = [request.took(), response.took(), request.delay, response.delay];
        for (name, time) in names.iter().zip(times).filter(|(_, time)| time.as_millis() > 0) {
            trailers.set(name, time.as_millis().to_string().as_bytes());
        }
    }

    /// Counts what has moved since the last call.
    pub(crate) fn report(&mut self, stats: &mut ShardStats) {
        let scope = self.limit.scope;
        for (throttle, of) in [(&mut self.request, &REQUEST), (&mut self.response, &RESPONSE)] {
            let Some(throttle) = throttle else { continue };
            let counts = std::mem::take(&mut throttle.counts);
            if counts == Counts::default() {
                continue;
            }
            if throttle.first.is_some() && !std::mem::replace(&mut throttle.pending, true) {
                stats.gauge_inc(scope, of.pending);
            }
            if let Some(bytes) = counts.incoming {
                stats.gauge_set(scope, of.incoming_size, bytes);
            }
            if let Some(bytes) = counts.allowed {
                stats.gauge_set(scope, of.allowed_size, bytes);
            }
            stats.add(scope, of.incoming_total, counts.incoming_total);
            stats.add(scope, of.allowed_total, counts.allowed_total);
            stats.add(scope, of.enforced, counts.enforced);
        }
    }

    /// The stream is over.
    pub(crate) fn end(&mut self, stats: &mut ShardStats) {
        self.report(stats);
        let scope = self.limit.scope;
        for (throttle, of) in [(&mut self.request, &REQUEST), (&mut self.response, &RESPONSE)] {
            let Some(throttle) = throttle.as_mut().filter(|throttle| throttle.pending) else { continue };
            throttle.pending = false;
            stats.gauge_dec(scope, of.pending);
            if !std::mem::replace(&mut throttle.over, true) {
                stats.record(scope, of.duration, throttle.took().as_millis() as u64);
            }
        }
    }
}

impl Throttle {
    /// Bytes have come.
    pub(crate) fn incoming(&mut self, bytes: usize, now: Time) {
        if bytes > 0 {
            self.first.get_or_insert(now);
            self.last = now;
            self.counts.incoming = Some(bytes as u64);
            self.counts.incoming_total += bytes as u64;
        }
    }

    fn take(&mut self, limit: &BandwidthLimit, wanted: usize, now: Time) -> usize {
        let Some(bucket) = limit.bucket(now).filter(|_| now >= self.resumes) else { return 0 };
        let taken = bucket.take_up_to(wanted as u64, now);
        self.last = now;
        self.counts.allowed = Some(taken);
        self.counts.allowed_total += taken;
        if (taken as usize) < wanted {
            self.resumes = now + limit.fill_interval;
            self.counts.enforced += 1;
            self.delay += limit.fill_interval;
        }
        taken as usize
    }

    /// When bytes may move again; in the past if they may now.
    pub(crate) fn resumes_at(&self) -> Time {
        self.resumes
    }

    fn took(&self) -> Duration {
        self.first.map_or(Duration::ZERO, |first| self.last.since(first))
    }
}

/// The statistics of one direction.
struct Metrics {
    pending: millrace_observe::stats::Gauge,
    incoming_size: millrace_observe::stats::Gauge,
    allowed_size: millrace_observe::stats::Gauge,
    incoming_total: millrace_observe::stats::Counter,
    allowed_total: millrace_observe::stats::Counter,
    enforced: millrace_observe::stats::Counter,
    duration: millrace_observe::stats::Histogram,
}

static REQUEST: Metrics = Metrics {
    pending: metric::REQUEST_PENDING,
    incoming_size: metric::REQUEST_INCOMING_SIZE,
    allowed_size: metric::REQUEST_ALLOWED_SIZE,
    incoming_total: metric::REQUEST_INCOMING_TOTAL_SIZE,
    allowed_total: metric::REQUEST_ALLOWED_TOTAL_SIZE,
    enforced: metric::REQUEST_ENFORCED,
    duration: metric::REQUEST_TRANSFER_DURATION,
};
static RESPONSE: Metrics = Metrics {
    pending: metric::RESPONSE_PENDING,
    incoming_size: metric::RESPONSE_INCOMING_SIZE,
    allowed_size: metric::RESPONSE_ALLOWED_SIZE,
    incoming_total: metric::RESPONSE_INCOMING_TOTAL_SIZE,
    allowed_total: metric::RESPONSE_ALLOWED_TOTAL_SIZE,
    enforced: metric::RESPONSE_ENFORCED,
    duration: metric::RESPONSE_TRANSFER_DURATION,
};

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use millrace_config::ScopeId;
    use millrace_observe::stats::{Registry, ScopeKind};

    use super::*;
    use crate::http::test::{bytes, lines};

    const MILLIS: u64 = 1_000_000;

    fn active(scope: ScopeId) -> BandwidthActive {
        let limit = Arc::new(BandwidthLimit {
            scope,
            request: true,
            response: true,
            kib_per_second: Some(10),
            fill_interval: Duration::from_millis(100),
            enabled: true,
            trailers: Some([bytes("rq"), bytes("rs"), bytes("rq-f"), bytes("rs-f")]),
            shared: OnceLock::new(),
        });
        let throttle = Some(Throttle::default());
        BandwidthActive { limit, request: throttle, response: throttle, answered: false }
    }

    #[test]
    fn directions_share_the_bytes_and_count_on_their_own() {
        let registry = Registry::new();
        let scope = registry.scope(ScopeKind::HttpBandwidthLimit, "p.http_bandwidth_limit");
        let mut stats = registry.attach_shard("worker_0");
        let mut active = active(scope);
        active.request.as_mut().unwrap().incoming(1000, Time(0));
        active.response.as_mut().unwrap().incoming(1000, Time(0));
        assert_eq!((active.take_request(1000, Time(0)), active.take_response(1000, Time(0))), (1000, 24));
        assert_eq!(active.take_response(976, Time(50 * MILLIS)), 0);
        assert_eq!(active.take_response(976, Time(100 * MILLIS)), 976);
        let mut trailers = HeaderMap::new();
        active.tell(&mut trailers);
        assert_eq!(lines(&trailers), "rs: 100 | rs-f: 100");
        active.report(&mut stats);
        assert_eq!(registry.gauge(scope, metric::RESPONSE_PENDING), 1);
        active.end(&mut stats);
        let counted = |counter| registry.counter(scope, counter);
        assert_eq!(
            [metric::RESPONSE_ALLOWED_TOTAL_SIZE, metric::RESPONSE_ENFORCED, metric::REQUEST_ENFORCED]
                .map(counted),
            [1000, 1, 0]
        );
        assert_eq!(registry.gauge(scope, metric::RESPONSE_PENDING), 0);
    }
}
