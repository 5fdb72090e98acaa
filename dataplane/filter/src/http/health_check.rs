//! `envoy.filters.http.health_check`: answers the checks that others make of this proxy, or adds what it knows to the
//! answers of endpoints.

use std::fmt::Debug;

use millrace_base::{ResponseFlag, Time};
use millrace_config::{ClusterId, HealthCheckFilter};
use millrace_http::{HeaderId, RequestHead, ResponseHead};
use millrace_observe::stats::{Counter, ShardStats, health_check as metric};
use millrace_route::header::matches_request;

use super::LocalReply;
use super::stream_filters::Verdict;

/// What the filter reads of the process.
pub trait Health: Debug {
    /// `/healthcheck/fail` was called, or the process leaves.
    fn is_failing(&self) -> bool;

    /// Of a cluster: endpoints that are healthy or degraded, and all of them. `None` for one that does not exist.
    fn members(&self, cluster: ClusterId) -> Option<(u64, u64)>;
}

/// The filter on one request.
#[derive(Debug)]
pub(crate) struct HealthCheckActive {
    /// Its position in the chain.
    at: usize,
    /// The name that this proxy is known by, if the request is a check.
    check: Option<Box<[u8]>>,
    failing: bool,
    begun: Time,
    /// The answer, until all of the request is here.
    held: Option<Box<LocalReply>>,
}

/// Who asks, and of whom.
pub(crate) struct Asked<'a> {
    pub head: &'a RequestHead,
    /// No body follows the head.
    pub whole: bool,
    pub health: Option<&'a dyn Health>,
    pub node_cluster: &'a str,
}

impl HealthCheckActive {
    /// Looks at a request. It takes part in checks and, while checks shall fail, in every answer. That is decided when the
    /// request comes; Envoy decides when the answer goes.
    pub fn begin(
        at: usize,
        filter: &HealthCheckFilter,
        asked: &Asked<'_>,
        now: Time,
        stats: &mut ShardStats,
    ) -> Option<(Self, Verdict)> {
        let failing = asked.health.is_some_and(Health::is_failing);
        let mut active = Self { at, check: None, failing, begun: now, held: None };
        if !filter.headers.iter().all(|matcher| matches_request(matcher, asked.head)) {
            return failing.then_some((active, Verdict::Continue));
        }
        active.check = Some(asked.node_cluster.as_bytes().into());
        let cached = filter.cache.as_ref().and_then(|cache| cache.get(now));
        let (reply, why) = match (failing, cached) {
            (true, _) => (unhealthy("health_check_failed"), None),
            (false, Some((status, degraded))) => (known(status, degraded), Some(metric::CACHED_RESPONSE)),
            (false, None) if filter.pass_through => return Some((active, Verdict::Continue)),
            (false, None) => own(filter, asked.health),
        };
        let good = if reply.flag.is_none() { metric::OK } else { metric::FAILED };
        let degraded = (!reply.headers.is_empty()).then_some(metric::DEGRADED);
        for counter in [Some(metric::REQUEST_TOTAL), Some(good), why, degraded].into_iter().flatten() {
            stats.inc(filter.scope, counter);
        }
        if asked.whole {
            return Some((active, Verdict::Reply(reply)));
        }
        active.held = Some(reply);
        Some((active, Verdict::Hold))
    }

    /// All of the request is here.
    pub fn resume(&mut self) -> Verdict {
        self.held.take().map_or(Verdict::Continue, Verdict::Reply)
    }

    /// True when the request is a check.
    pub fn is_check(&self) -> bool {
        self.check.is_some()
    }

    /// Where in the chain its configuration is.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Tells who was checked, and that checks shall fail.
    pub fn response_head(&self, filter: Option<&HealthCheckFilter>, head: &mut ResponseHead) {
        if let Some(name) = &self.check {
            if let Some(cache) = filter.and_then(|filter| filter.cache.as_ref()) {
                cache.set(self.begun, head.status, head.headers.contains(HeaderId::XEnvoyDegraded));
            }
            head.headers.set_id(HeaderId::XEnvoyUpstreamHealthcheckedCluster, name);
        }
        if self.failing {
            head.headers.set_id(HeaderId::XEnvoyImmediateHealthCheckFail, b"true");
        }
    }
}

/// What the proxy says of itself, or of the clusters behind it.
fn own(filter: &HealthCheckFilter, health: Option<&dyn Health>) -> (Box<LocalReply>, Option<Counter>) {
    if filter.min_healthy.is_empty() {
        return (LocalReply::new(200, "", "health_check_ok").into(), None);
    }
    for (cluster, percent) in &filter.min_healthy {
        let (details, why) = match health.and_then(|health| health.members(*cluster)) {
            None => ("health_check_failed_no_cluster_found", metric::FAILED_CLUSTER_NOT_FOUND),
            Some((_, 0)) if *percent == 0 => continue,
            Some((_, 0)) => ("health_check_failed_cluster_empty", metric::FAILED_CLUSTER_EMPTY),
            Some((usable, total)) if usable.saturating_mul(100) < total.saturating_mul(*percent) => {
                ("health_check_failed_cluster_unhealthy", metric::FAILED_CLUSTER_UNHEALTHY)
            }
            Some(_) => continue,
        };
        return (unhealthy(details), Some(why));
    }
    (LocalReply::new(200, "", "health_check_ok_cluster_healthy").into(), None)
}

fn known(status: u16, degraded: bool) -> Box<LocalReply> {
    let mut reply = LocalReply::new(status, "", "health_check_cached");
    if !matches!(status, 200..=299) {
        reply = reply.flagged(ResponseFlag::FailedLocalHealthCheck);
    }
    if degraded {
        reply.headers = Box::new([(b"x-envoy-degraded"[..].into(), Vec::new())]);
    }
    reply.into()
}

fn unhealthy(details: &'static str) -> Box<LocalReply> {
    LocalReply::new(503, "", details).flagged(ResponseFlag::FailedLocalHealthCheck).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millrace_config::{HeaderMatcher, HeaderMatcherKind, HealthCheckCache, StringMatcher};
    use millrace_observe::stats::{Registry, ScopeKind};

    use super::*;

    #[derive(Debug, Default)]
    struct Facts {
        failing: bool,
        members: Option<(u64, u64)>,
    }

    impl Health for Facts {
        fn is_failing(&self) -> bool {
            self.failing
        }

        fn members(&self, _cluster: ClusterId) -> Option<(u64, u64)> {
            self.members
        }
    }

    fn filter(pass_through: bool) -> HealthCheckFilter {
        let path = StringMatcher::Exact { value: b"/hc"[..].into(), ignore_case: false };
        let matcher = HeaderMatcher {
            name: b":path"[..].into(),
            kind: HeaderMatcherKind::String(path),
            invert: false,
            missing_as_empty: false,
        };
        let (registry, _) = stats();
        let scope = registry.scope(ScopeKind::HttpHealthCheck, "main.health_check");
        HealthCheckFilter {
            pass_through,
            cache: None,
            min_healthy: Vec::new(),
            headers: vec![matcher],
            scope,
        }
    }

    fn stats() -> (Registry, ShardStats) {
        let registry = Registry::new();
        registry.scope(ScopeKind::HttpHealthCheck, "main.health_check");
        let shard = registry.attach_shard("worker_0");
        (registry, shard)
    }

    fn ask(
        filter: &HealthCheckFilter,
        facts: &Facts,
        path: &str,
        now: u64,
    ) -> Option<(HealthCheckActive, Verdict)> {
        let mut head = RequestHead::new();
        head.set_path(path.as_bytes());
        let asked = Asked { head: &head, whole: true, health: Some(facts), node_cluster: "own" };
        HealthCheckActive::begin(3, filter, &asked, Time(now), &mut stats().1)
    }

    fn answer(filter: &HealthCheckFilter, facts: &Facts) -> (u16, String) {
        match ask(filter, facts, "/hc", 0) {
            Some((_, Verdict::Reply(reply))) => (reply.status, reply.details.to_string()),
            other => panic!("no answer: {other:?}"),
        }
    }

    #[test]
    fn only_checks_are_answered() {
        let facts = Facts::default();
        assert!(ask(&filter(false), &facts, "/other", 0).is_none());
        assert_eq!(answer(&filter(false), &facts), (200, "health_check_ok".to_owned()));
        let (active, verdict) = ask(&filter(true), &facts, "/hc", 0).unwrap();
        assert_eq!((verdict, active.is_check(), active.position()), (Verdict::Continue, true, 3));
        let mut head = ResponseHead::new();
        active.response_head(None, &mut head);
        assert_eq!(head.headers.get(HeaderId::XEnvoyUpstreamHealthcheckedCluster), Some(&b"own"[..]));
    }

    #[test]
    fn a_body_is_awaited_and_every_answer_counts() {
        let (registry, mut shard) = stats();
        let (filter, facts) = (filter(false), Facts::default());
        let mut head = RequestHead::new();
        head.set_path(b"/hc");
        let asked = Asked { head: &head, whole: false, health: Some(&facts), node_cluster: "own" };
        let begun = HealthCheckActive::begin(0, &filter, &asked, Time(0), &mut shard);
        let (mut active, verdict) = begun.expect("a check");
        assert_eq!(verdict, Verdict::Hold);
        let Verdict::Reply(reply) = active.resume() else { panic!("no answer") };
        assert_eq!((reply.status, active.resume()), (200, Verdict::Continue));
        let count = |metric| registry.counter(filter.scope, metric);
        assert_eq!((count(metric::REQUEST_TOTAL), count(metric::OK), count(metric::FAILED)), (1, 1, 0));
    }

    #[test]
    fn failing_shows_in_every_answer() {
        let facts = Facts { failing: true, members: None };
        assert_eq!(answer(&filter(true), &facts), (503, "health_check_failed".to_owned()));
        let (active, verdict) = ask(&filter(true), &facts, "/other", 0).unwrap();
        assert_eq!((verdict, active.is_check()), (Verdict::Continue, false));
        let mut head = ResponseHead::new();
        active.response_head(None, &mut head);
        assert_eq!(head.headers.get(HeaderId::XEnvoyImmediateHealthCheckFail), Some(&b"true"[..]));
    }

    #[test]
    fn clusters_must_have_enough_members() {
        let with =
            |percent| HealthCheckFilter { min_healthy: vec![(ClusterId(1), percent)], ..filter(false) };
        for (members, percent, status, details) in [
            (None, 0, 503, "health_check_failed_no_cluster_found"),
            (Some((0, 0)), 0, 200, "health_check_ok_cluster_healthy"),
            (Some((0, 0)), 1, 503, "health_check_failed_cluster_empty"),
            (Some((1, 2)), 50, 200, "health_check_ok_cluster_healthy"),
            (Some((1, 2)), 51, 503, "health_check_failed_cluster_unhealthy"),
        ] {
            let facts = Facts { failing: false, members };
            assert_eq!(answer(&with(percent), &facts), (status, details.to_owned()));
        }
    }

    #[test]
    fn answers_of_endpoints_are_kept_for_a_while() {
        let cache = Some(HealthCheckCache::new(Duration::from_secs(1)));
        let filter = HealthCheckFilter { cache, ..filter(true) };
        let facts = Facts::default();
        let (active, _) = ask(&filter, &facts, "/hc", 0).unwrap();
        let mut head = ResponseHead::new();
        head.status = 503;
        head.headers.append(b"x-envoy-degraded", b"");
        active.response_head(Some(&filter), &mut head);
        let Some((_, Verdict::Reply(reply))) = ask(&filter, &facts, "/hc", 1) else { panic!("no answer") };
        assert_eq!((reply.status, &*reply.details, reply.headers.len()), (503, "health_check_cached", 1));
        assert_eq!(reply.flag, Some(ResponseFlag::FailedLocalHealthCheck));
        let later = ask(&filter, &facts, "/hc", 1_000_000_000).unwrap();
        assert_eq!(later.1, Verdict::Continue);
    }
}
