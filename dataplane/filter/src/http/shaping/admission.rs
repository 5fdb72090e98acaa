//! `envoy.filters.http.admission_control`: requests are refused as their answers of late were failures.
//!
//! As in Envoy, what was seen is kept by each worker on its own: here by each shard.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_config::{AdmissionControl, AdmissionId, HttpFilterKind};
use millrace_http::{HeaderId, HeaderMap, ResponseHead};
use millrace_observe::stats::admission_control as metric;

use crate::http::LocalReply;
use crate::http::grpc::is_grpc_response;
use crate::http::stream_filters::{Env, ResponseEnv, Verdict};

/// How finely time is cut.
const SECOND: Duration = Duration::from_secs(1);
/// Filters that a shard remembers; beyond them, those that have seen nothing of late are forgotten.
const REMEMBERED_MAX: usize = 256;

/// What the filters of one shard have seen.
#[derive(Debug, Default)]
pub(crate) struct Admissions(BTreeMap<AdmissionId, Window>);

impl Admissions {
    fn of(&mut self, id: AdmissionId, window: Duration, now: Time) -> &mut Window {
        if self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(&id) {
            self.0.retain(|_, seen| {
                seen.forget(window, now);
                !seen.seconds.is_empty()
            });
        }
        self.0.entry(id).or_default()
    }
}

/// Answers within the sampling window.
#[derive(Debug, Default)]
struct Window {
    seconds: VecDeque<Second>,
    requests: u64,
    successes: u64,
}

#[derive(Debug)]
struct Second {
    since: Time,
    requests: u64,
    successes: u64,
}

impl Window {
    fn forget(&mut self, window: Duration, now: Time) {
        while let Some(oldest) = self.seconds.front().filter(|oldest| now.since(oldest.since) >= window) {
            self.requests -= oldest.requests;
            self.successes -= oldest.successes;
            self.seconds.pop_front();
        }
    }

    fn record(&mut self, success: bool, window: Duration, now: Time) {
        self.forget(window, now);
        if self.seconds.back().is_none_or(|newest| now.since(newest.since) >= SECOND) {
            self.seconds.push_back(Second { since: now, requests: 0, successes: 0 });
        }
        if let Some(newest) = self.seconds.back_mut() {
            newest.requests += 1;
            newest.successes += u64::from(success);
        }
        self.requests += 1;
        self.successes += u64::from(success);
    }

    fn rejects(&mut self, config: &AdmissionControl, now: Time, rng: &mut Rng) -> bool {
        if self.requests / config.window.as_secs().max(1) < u64::from(config.rps_threshold) {
            return false;
        }
        self.forget(config.window, now);
        let probability = probability(config, self.requests as f64, self.successes as f64);
        // Four digits, as Envoy.
        10_000.0 * probability > (rng.next_u64() % 10_000) as f64
    }
}

fn probability(config: &AdmissionControl, requests: f64, successes: f64) -> f64 {
    let excess = (requests - successes / config.success_threshold) / (requests + 1.0);
    let probability = if config.aggression == 1.0 { excess } else { excess.powf(1.0 / config.aggression) };
    // A negative number has no root.
    if probability.is_nan() { 0.0 } else { probability.min(config.max_rejection).max(0.0) }
}

/// A request whose answer counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionActive {
    /// The filter's position in the chain.
    at: u16,
    /// The status of gRPC comes in the trailers.
    awaits_trailers: bool,
}

impl AdmissionActive {
    pub(crate) fn begin(at: usize, config: &AdmissionControl, env: &mut Env<'_>) -> (Option<Self>, Verdict) {
        if !config.enabled {
            return (None, Verdict::Continue);
        }
        let (now, window) = (env.now, config.window);
        if env.shard.admissions.of(config.id, window, now).rejects(config, now, env.rng) {
            env.stats.inc(config.scope, metric::RQ_REJECTED);
            let reply = LocalReply::new(503, "", "denied_by_admission_control");
            return (None, Verdict::Reply(reply.into()));
        }
        let at = u16::try_from(at).unwrap_or(u16::MAX);
        (Some(Self { at, awaits_trailers: false }), Verdict::Continue)
    }

    pub(crate) fn awaits_trailers(&self) -> bool {
        self.awaits_trailers
    }

    pub(crate) fn response_head(&mut self, head: &ResponseHead, end: bool, env: &mut ResponseEnv<'_>) {
        let Some(config) = config_at(env, self.at) else { return };
        let status = head.headers.get(HeaderId::GrpcStatus);
        let success = match (is_grpc_response(head, end), status) {
            (true, None) => {
                self.awaits_trailers = true;
                return;
            }
            (true, Some(status)) => is_success(config, status),
            (false, _) => config.is_http_success(head.status),
        };
        record(config, success, env);
    }

    pub(crate) fn response_trailers(&mut self, trailers: &HeaderMap, env: &mut ResponseEnv<'_>) {
        if !std::mem::take(&mut self.awaits_trailers) {
            return;
        }
        let Some(config) = config_at(env, self.at) else { return };
        let success = trailers.get(HeaderId::GrpcStatus).is_some_and(|status| is_success(config, status));
        record(config, success, env);
    }
}

fn config_at<'e>(env: &ResponseEnv<'e>, at: u16) -> Option<&'e AdmissionControl> {
    match &env.start.hcm.http_filters.get(usize::from(at))?.kind {
        HttpFilterKind::AdmissionControl(config) => Some(config),
        _ => None,
    }
}

fn is_success(config: &AdmissionControl, status: &[u8]) -> bool {
    let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
    status.is_some_and(|status| config.is_grpc_success(status))
}

fn record(config: &AdmissionControl, success: bool, env: &mut ResponseEnv<'_>) {
    let (now, window) = (env.now, config.window);
    env.shard.admissions.of(config.id, window, now).record(success, window, now);
    env.stats.inc(config.scope, if success { metric::RQ_SUCCESS } else { metric::RQ_FAILURE });
}

#[cfg(test)]
mod tests {
    use millrace_config::ScopeId;

    use super::*;

    fn config(aggression: f64, rps_threshold: u32) -> AdmissionControl {
        AdmissionControl {
            scope: ScopeId(0),
            id: AdmissionId::unique(),
            enabled: true,
            http_success: std::iter::once(100..500).collect(),
            grpc_success: AdmissionControl::GRPC_SUCCESS,
            window: Duration::from_secs(30),
            aggression,
            success_threshold: 0.95,
            rps_threshold,
            max_rejection: 0.8,
        }
    }

    #[test]
    fn the_probability_follows_the_failures() {
        let linear = config(1.0, 0);
        assert_eq!((probability(&linear, 0.0, 0.0), probability(&linear, 100.0, 100.0)), (0.0, 0.0));
        assert_eq!(probability(&linear, 100.0, 95.0), 0.0);
        let half = probability(&linear, 99.0, 47.5);
        assert!((half - 0.49).abs() < 1e-9, "{half}");
        assert_eq!(probability(&linear, 1000.0, 0.0), 0.8);
        assert!(probability(&config(2.0, 0), 99.0, 47.5) > 0.69);
        assert_eq!(probability(&config(2.0, 0), 100.0, 100.0), 0.0);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let config = config(1.0, 2);
        let (mut window, mut rng) = (Window::default(), Rng::new(1));
        let at = |seconds: u64| Time(seconds * 1_000_000_000);
        for _ in 0..59 {
            window.record(false, config.window, at(1));
        }
        assert!(!(0..100).any(|_| window.rejects(&config, at(2), &mut rng)), "below the rate");
        window.record(false, config.window, at(2));
        let refused = (0..1000).filter(|_| window.rejects(&config, at(2), &mut rng)).count();
        assert!((750..850).contains(&refused), "{refused}");
        window.forget(config.window, at(32));
        assert_eq!((window.requests, window.seconds.len()), (0, 0));
    }

    #[test]
    fn statuses_of_grpc() {
        let config = config(1.0, 0);
        let good: Vec<u8> = (0..40).filter(|status| config.is_grpc_success(*status)).collect();
        assert_eq!(good, [0, 1, 2, 3, 5, 6, 7, 9, 11, 12, 16]);
        assert!(is_success(&config, b"0") && !is_success(&config, b"14") && !is_success(&config, b"x"));
    }
}
