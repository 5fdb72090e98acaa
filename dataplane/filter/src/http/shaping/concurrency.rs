//! `envoy.filters.http.adaptive_concurrency`: as many requests at a time as their latencies allow.
//!
//! The controller is shared by all shards, as by Envoy's workers. A request touches two counts of it; its timers are looked
//! at when requests come and go, and whoever finds one due takes the lock.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use millrace_base::{Rng, Time};
use millrace_config::{
    AdaptiveConcurrency, GradientConfig, GradientGauges, GradientState, GradientWindow, LATENCY_BINS, MinRtt,
};
use millrace_observe::stats::{ShardStats, gradient_controller as metric};

use crate::http::LocalReply;
use crate::http::stream_filters::{Env, Verdict};

/// Windows in a row at the least limit after which the least time is measured anew.
const AT_MINIMUM_MAX: u32 = 5;
/// Nothing is due while the least time is measured.
const MEASURING: u64 = u64::MAX;

/// A request that counts. Whoever drops it must have called [`ConcurrencyActive::end`].
#[derive(Debug)]
pub(crate) struct ConcurrencyActive {
    config: Arc<AdaptiveConcurrency>,
    began: Time,
    over: bool,
}

impl ConcurrencyActive {
    pub(crate) fn begin(config: &Arc<AdaptiveConcurrency>, env: &mut Env<'_>) -> (Option<Self>, Verdict) {
        if !config.enabled {
            return (None, Verdict::Continue);
        }
        tick(config, env.now, env.stats);
        let state = &config.state;
        let limit = state.limit.load(Relaxed);
        let more = |outstanding: u32| (outstanding < limit).then_some(outstanding + 1);
        if state.outstanding.fetch_update(Relaxed, Relaxed, more).is_err() {
            env.stats.inc(config.scope, metric::RQ_BLOCKED);
            let reply =
                LocalReply::new(config.status, "reached concurrency limit", "reached_concurrency_limit");
            return (None, Verdict::Reply(reply.into()));
        }
        (Some(Self { config: Arc::clone(config), began: env.now, over: false }), Verdict::Continue)
    }

    /// The request is over; only a complete answer tells how long it took.
    pub(crate) fn end(&mut self, complete: bool, now: Time, rng: &mut Rng, stats: &mut ShardStats) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let config = &self.config;
        config.state.outstanding.fetch_sub(1, Relaxed);
        if complete && self.began.0 >= config.state.epoch.load(Relaxed) {
            sample(config, now.since(self.began).as_micros() as u64, now, rng, stats);
        }
        tick(config, now, stats);
    }
}

fn sample(config: &AdaptiveConcurrency, micros: u64, now: Time, rng: &mut Rng, stats: &mut ShardStats) {
    let state = &config.state;
    state.samples[bin(micros)].fetch_add(1, Relaxed);
    let count = state.sample_count.fetch_add(1, Relaxed) + 1;
    let MinRtt::Measured { interval, jitter, requests } = config.gradient.min_rtt else { return };
    if state.due.load(Relaxed) != MEASURING || count < requests {
        return;
    }
    let mut window = state.window.lock().unwrap_or_else(PoisonError::into_inner);
    // Another shard may have been faster.
    let Some(limit) = window.deferred_limit.take() else { return };
    window.min_rtt = take_percentile(state, config.gradient.percentile);
    let range = (interval.as_millis() as f64 * jitter).ceil() as u64;
    let more = if range == 0 { 0 } else { rng.next_u64() % range };
    window.measure_at = now.0 + interval.as_nanos() as u64 + more * 1_000_000;
    let mut gauges = window.told;
    gauges.min_rtt_msecs = (window.min_rtt / 1000.0) as u64;
    gauges.measuring = 0;
    set_limit(config, &mut window, &mut gauges, limit);
    tell(config, &mut window, gauges, stats);
    state.due.store(next(config, &window, now), Relaxed);
}

/// Does what is due.
fn tick(config: &AdaptiveConcurrency, now: Time, stats: &mut ShardStats) {
    let state = &config.state;
    if now.0 < state.due.load(Relaxed) {
        return;
    }
    let Ok(mut window) = state.window.try_lock() else { return };
    let due = state.due.load(Relaxed);
    if now.0 < due {
        return;
    }
    let mut gauges = window.told;
    match (due, config.gradient.min_rtt) {
        (0, MinRtt::Measured { .. }) => {
            measure(config, &mut window, &mut gauges, now);
        }
        (0, MinRtt::Fixed(time)) => {
            window.min_rtt = time.as_micros() as f64;
            gauges.min_rtt_msecs = time.as_millis() as u64;
            gauges.concurrency_limit = u64::from(state.limit.load(Relaxed));
        }
        (_, by) => {
            if state.sample_count.load(Relaxed) > 0 {
                end_window(config, &mut window, &mut gauges);
            }
            let again = window.at_minimum >= AT_MINIMUM_MAX || now.0 >= window.measure_at;
            if matches!(by, MinRtt::Measured { .. }) && again {
                measure(config, &mut window, &mut gauges, now);
            }
        }
    }
    tell(config, &mut window, gauges, stats);
    let next = if window.deferred_limit.is_some() { MEASURING } else { next(config, &window, now) };
    state.due.store(next, Relaxed);
}

fn next(config: &AdaptiveConcurrency, window: &GradientWindow, now: Time) -> u64 {
    let next = now.0 + config.gradient.update_interval.as_nanos() as u64;
    match config.gradient.min_rtt {
        MinRtt::Measured { .. } => next.min(window.measure_at),
        MinRtt::Fixed(_) => next,
    }
}

/// From now on few requests at a time tell the least time.
fn measure(
    config: &AdaptiveConcurrency,
    window: &mut GradientWindow,
    gauges: &mut GradientGauges,
    now: Time,
) {
    let state = &config.state;
    window.deferred_limit = Some(state.limit.load(Relaxed));
    gauges.measuring = 1;
    state.epoch.store(now.0, Relaxed);
    clear(state);
    set_limit(config, window, gauges, config.gradient.measuring_limit);
}

fn end_window(config: &AdaptiveConcurrency, window: &mut GradientWindow, gauges: &mut GradientGauges) {
    let state = &config.state;
    let sample_rtt = take_percentile(state, config.gradient.percentile);
    let step = new_limit(&config.gradient, window.min_rtt, sample_rtt, state.limit.load(Relaxed));
    gauges.sample_rtt_msecs = (sample_rtt / 1000.0) as u64;
    gauges.gradient = (step.gradient * 1000.0) as u64;
    gauges.burst_queue_size = step.headroom as u64;
    set_limit(config, window, gauges, step.limit);
}

/// What a window ends with.
#[derive(Clone, Copy, Debug, PartialEq)]
struct NewLimit {
    gradient: f64,
    headroom: f64,
    limit: u32,
}

/// Times are microseconds.
fn new_limit(gradient: &GradientConfig, min_rtt: f64, sample_rtt: f64, limit: u32) -> NewLimit {
    let buffered = min_rtt + min_rtt * gradient.buffer;
    let ratio = (buffered / sample_rtt.max(1.0)).clamp(0.5, 2.0);
    let scaled = f64::from(limit) * ratio;
    let headroom = scaled.sqrt();
    let limit = ((scaled + headroom) as u32).min(gradient.max_limit).max(gradient.min_limit);
    NewLimit { gradient: ratio, headroom, limit }
}

fn set_limit(
    config: &AdaptiveConcurrency,
    window: &mut GradientWindow,
    gauges: &mut GradientGauges,
    limit: u32,
) {
    let before = config.state.limit.swap(limit, Relaxed);
    gauges.concurrency_limit = u64::from(limit);
    let least = config.gradient.min_limit;
    let stays = window.deferred_limit.is_none() && before == least && limit == least;
    window.at_minimum = if stays { window.at_minimum + 1 } else { 0 };
}

/// Gauges are printed as sums over the shards, whichever of them changed one.
fn tell(
    config: &AdaptiveConcurrency,
    window: &mut GradientWindow,
    gauges: GradientGauges,
    stats: &mut ShardStats,
) {
    let told = std::mem::replace(&mut window.told, gauges);
    for (gauge, before, after) in [
        (metric::CONCURRENCY_LIMIT, told.concurrency_limit, gauges.concurrency_limit),
        (metric::GRADIENT, told.gradient, gauges.gradient),
        (metric::BURST_QUEUE_SIZE, told.burst_queue_size, gauges.burst_queue_size),
        (metric::MIN_RTT_MSECS, told.min_rtt_msecs, gauges.min_rtt_msecs),
        (metric::SAMPLE_RTT_MSECS, told.sample_rtt_msecs, gauges.sample_rtt_msecs),
        (metric::MIN_RTT_CALCULATION_ACTIVE, told.measuring, gauges.measuring),
    ] {
        if before != after {
            stats.gauge_add(config.scope, gauge, after as i64 - before as i64);
        }
    }
}

/// 32 bins for each doubling; below 32 one for each microsecond.
fn bin(micros: u64) -> usize {
    let exponent = micros.max(32).ilog2();
    let within = (micros >> (exponent - 5)) as usize;
    // The first doubling has the bins below 64 to itself.
    ((exponent as usize - 5) * 32 + within).min(LATENCY_BINS - 1)
}

/// The middle of a bin.
fn middle(bin: usize) -> f64 {
    if bin < 64 {
        return bin as f64;
    }
    let (exponent, within) = (bin / 32 - 1, bin % 32 + 32);
    (within as f64 + 0.5) * f64::from(1u32 << exponent.min(31))
}

/// The percentile of the samples, in microseconds; they are gone then.
fn take_percentile(state: &GradientState, percentile: f64) -> f64 {
    let counts: Vec<u32> = state.samples.iter().map(|count| count.swap(0, Relaxed)).collect();
    state.sample_count.store(0, Relaxed);
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    let wanted = (total as f64 * percentile).ceil().max(1.0) as u64;
    let mut seen = 0;
    for (bin, count) in counts.iter().enumerate() {
        seen += u64::from(*count);
        if seen >= wanted {
            return middle(bin);
        }
    }
    0.0
}

fn clear(state: &GradientState) {
    state.samples.iter().for_each(|count| count.store(0, Relaxed));
    state.sample_count.store(0, Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millrace_config::ScopeId;
    use millrace_observe::stats::{Registry, ScopeKind};

    use super::*;

    const MILLIS: u64 = 1_000_000;

    fn config(scope: ScopeId, min_rtt: MinRtt) -> Arc<AdaptiveConcurrency> {
        let gradient = GradientConfig {
            percentile: 0.5,
            max_limit: 1000,
            min_limit: 3,
            update_interval: Duration::from_millis(100),
            min_rtt,
            measuring_limit: 3,
            buffer: 0.25,
        };
        let state = GradientState::new(&gradient);
        Arc::new(AdaptiveConcurrency { scope, enabled: true, status: 503, gradient, state })
    }

    #[test]
    fn bins_are_in_order_and_near_their_values() {
        let mut before = 0;
        for micros in (0..2000u64).chain((1..40).map(|n| n * 54_321)) {
            let at = bin(micros);
            assert!(at >= before, "{micros}");
            before = at;
            let middle = middle(at);
            assert!((middle - micros as f64).abs() <= micros as f64 / 30.0 + 0.5, "{micros} {middle}");
        }
        assert_eq!(bin(u64::MAX), LATENCY_BINS - 1);
    }

    #[test]
    fn limits_grow_and_shrink_within_bounds() {
        let registry = Registry::new();
        let scope = registry.scope(ScopeKind::HttpGradientController, "x");
        let gradient = config(scope, MinRtt::Fixed(Duration::from_millis(10))).gradient;
        let limit = |sample, limit| new_limit(&gradient, 10_000.0, sample, limit).limit;
        // 100 * 1.25 and its root.
        assert_eq!(limit(10_000.0, 100), 136);
        assert_eq!(limit(1.0, 100), 214);
        assert_eq!(limit(100_000.0, 100), 57);
        assert_eq!((limit(100_000.0, 3), limit(1.0, 1000)), (3, 1000));
    }

    #[test]
    fn the_least_time_is_measured_with_few_requests() {
        let registry = Registry::new();
        let scope = registry.scope(ScopeKind::HttpGradientController, "x");
        let (mut stats, mut rng) = (registry.attach_shard("worker_0"), Rng::new(1));
        let by = MinRtt::Measured { interval: Duration::from_secs(60), jitter: 0.0, requests: 5 };
        let config = config(scope, by);
        let gauge = |gauge| registry.gauge(scope, gauge);
        let begin =
            |now: u64| ConcurrencyActive { config: Arc::clone(&config), began: Time(now), over: false };
        tick(&config, Time(1), &mut stats);
        assert_eq!((gauge(metric::MIN_RTT_CALCULATION_ACTIVE), gauge(metric::CONCURRENCY_LIMIT)), (1, 3));
        let mut answer = |at: u64, took: u64| {
            config.state.outstanding.fetch_add(1, Relaxed);
            begin(at).end(true, Time(at + took), &mut rng, &mut stats);
        };
        for n in 0..5 {
            answer((n + 1) * 20 * MILLIS, 10 * MILLIS);
        }
        assert_eq!((gauge(metric::MIN_RTT_CALCULATION_ACTIVE), gauge(metric::MIN_RTT_MSECS)), (0, 10));
        assert_eq!(config.state.outstanding.load(Relaxed), 0);
        // A window of good times: the limit grows. 3 * 1.25 and its root.
        answer(200 * MILLIS, 10 * MILLIS);
        assert_eq!((gauge(metric::CONCURRENCY_LIMIT), gauge(metric::SAMPLE_RTT_MSECS)), (5, 10));
        // A minute later it is measured again.
        answer(61_000 * MILLIS, 10 * MILLIS);
        assert_eq!((gauge(metric::MIN_RTT_CALCULATION_ACTIVE), gauge(metric::CONCURRENCY_LIMIT)), (1, 3));
    }
}
