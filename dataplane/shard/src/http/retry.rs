//! Trying again: whether, when, and with which of the cluster's retry budget.

use millrace_base::{Key, ResponseFlag, Time};
use millrace_filter::http::router::mutation::Levels;
use millrace_filter::http::router::retry::{ResetReason, RetryDecision};
use millrace_filter::http::router::{reply, request as router};
use millrace_observe::stats::{cluster as metric, host as host_metric, route as route_metric};
use millrace_route::Selected;

use super::attempt::priority;
use super::finish::tally;
use super::routing::retry_policy;
use super::stream::Attempt;
use crate::shard::Shard;
use crate::upstream::EndedBy;

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With the head that the stream holds.
    Response,
    /// Without one; `true` when bytes of the request were written to the connection.
    Reset(ResetReason, bool),
    /// Not yet, although its time is over.
    SoftTimeout,
}

/// What the retry policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Another try follows.
    Yes,
    /// Nobody asks for one.
    No,
    /// One is asked for and may not be made.
    Refused,
}

impl Shard {
    /// A try is on its connection: the retry budget of its cluster counts it for a while (`budget_interval`).
    #[cold]
    pub(super) fn count_beginning(&mut self, id: Key) {
        let Some(facts) = self.streams.get(id).map(|stream| &stream.facts) else { return };
        if let Some(state) = facts.member.and_then(|cluster| self.clusters.get(cluster)) {
            state.begins(priority(facts.high_priority), self.io.now);
        }
    }

    /// Asks the retry policy about a try that ended.
    pub(super) fn try_again(&mut self, id: Key, outcome: Outcome) -> Again {
        let now = self.io.now;
        let Some(stream) = self.streams.get_mut(id) else { return Again::No };
        if stream.retry.is_none() || stream.response_started || stream.tunnel {
            return Again::No;
        }
        let (Some(options), Some(plan)) = (stream.options.clone(), stream.facts.plan) else {
            return Again::No;
        };
        let policy = retry_policy(stream, &options, &self.snapshot);
        let (Some(retry), Some(cluster)) = (&mut stream.retry, plan.cluster) else { return Again::No };
        let refreshes = policy.is_some_and(|policy| policy.refresh_cluster);
        let high = stream.facts.high_priority;
        let (clusters, home) = (&self.clusters, stream.rotation.as_ref().map_or(cluster, |r| r.home));
        let slot = || clusters.get(home).is_some_and(|state| state.try_retry(priority(high), now));
        let decision = match outcome {
            Outcome::Response => retry.on_response(policy, &stream.response, self.wall, slot, &mut self.rng),
            Outcome::Reset(reason, started) => retry.on_reset(policy, reason, started, slot, &mut self.rng),
            Outcome::SoftTimeout => retry.on_soft_timeout(policy, slot, &mut self.rng),
        };
        let Some(scope) = clusters.get(cluster).map(|state| state.config().scope) else { return Again::No };
        match decision {
            RetryDecision::Retry { after, rate_limited } => {
                let scope = match refreshes {
                    true => self.refresh_cluster(id),
                    false => Some(scope),
                };
                let Some(stream) = self.streams.get_mut(id) else { return Again::No };
                tally(&mut self.stats, stream, route_metric::UPSTREAM_RQ_RETRY);
                if let Some(scope) = scope {
                    self.stats.inc(scope, metric::UPSTREAM_RQ_RETRY);
                    let back_off = match rate_limited {
                        true => metric::UPSTREAM_RQ_RETRY_BACKOFF_RATELIMITED,
                        false => metric::UPSTREAM_RQ_RETRY_BACKOFF_EXPONENTIAL,
                    };
                    self.stats.inc(scope, back_off);
                }
                stream.retrying = true;
                stream.after_timeout = match outcome {
                    Outcome::SoftTimeout => true,
                    Outcome::Reset(reason, _) => reason.is_timeout(),
                    Outcome::Response => false,
                };
                stream.attempt = Attempt::BackOff(self.io.now + after);
                (stream.try_deadline, stream.try_ends) = (Time::MAX, Time::MAX);
                self.rearm_stream(id);
                Again::Yes
            }
            RetryDecision::NoRetryLimitExceeded => {
                self.stats.inc(scope, metric::UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED);
                tally(&mut self.stats, stream, route_metric::UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED);
                stream.flag(ResponseFlag::UpstreamRetryLimitExceeded);
                Again::Refused
            }
            RetryDecision::NoOverflow => {
                self.stats.inc(scope, metric::UPSTREAM_RQ_RETRY_OVERFLOW);
                tally(&mut self.stats, stream, route_metric::UPSTREAM_RQ_RETRY_OVERFLOW);
                stream.flag(ResponseFlag::UpstreamOverflow);
                Again::Refused
            }
            RetryDecision::No => Again::No,
        }
    }

    /// `per_try_timeout` or its idle form is over.
    pub(super) fn try_timed_out(&mut self, id: Key, reason: ResetReason) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        (stream.try_deadline, stream.try_idles) = (Time::MAX, false);
        let started = stream.response_started;
        // The bytes of an upgrade belong to one endpoint.
        if stream.timeouts.hedges && !stream.upgrade {
            return self.hedge(id);
        }
        self.count_timeout(
            id,
            match reason {
                ResetReason::PerTryIdleTimeout => metric::UPSTREAM_RQ_PER_TRY_IDLE_TIMEOUT,
                _ => metric::UPSTREAM_RQ_PER_TRY_TIMEOUT,
            },
        );
        if !started {
            self.drop_attempt(id, EndedBy::Local);
            return self.attempt_failed(id, reason, true);
        }
        self.report_reset(id, reason);
        self.abort_or_reply(id, reply::per_try_idle_timeout(false));
    }

    /// `max_stream_duration` of the cluster is over for the try.
    pub(super) fn try_outlasts(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.try_ends = Time::MAX;
        let (started, answer) =
            (stream.response_started, reply::max_stream_duration(stream.request_complete));
        let cluster = stream.facts.plan.and_then(|plan| plan.cluster);
        let host = self.host_scope(id);
        if let Some(scope) = cluster.and_then(|cluster| self.cluster_scope(cluster)) {
            self.stats.inc(scope, metric::UPSTREAM_RQ_MAX_DURATION_REACHED);
        }
        self.drop_attempt(id, EndedBy::Local);
        self.end_retry_slot(id);
        if !started && self.try_again(id, Outcome::Reset(ResetReason::LocalReset, true)) == Again::Yes {
            if let Some(host) = host {
                self.stats.inc(host, host_metric::RQ_ERROR);
            }
            return;
        }
        self.abort_or_reply(id, answer);
    }

    /// The back-off is over.
    pub(super) fn retry_now(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.attempt = Attempt::None;
        stream.response.clear();
        stream.trailers.clear();
        stream.flow.response_queue.clear();
        stream.flow.response_end = false;
        stream.facts.transport_failure = None;
        let (Some(options), Some(plan)) = (stream.options.clone(), stream.facts.plan) else { return };
        let Some(config) = &options.routes else { return };
        let Some(virtual_host) = config.virtual_hosts.get(plan.virtual_host) else { return };
        if let Some(route) = virtual_host.routes.get(plan.route) {
            let levels = Levels { config, selected: Selected { virtual_host, route }, weighted: None };
            let since = stream.facts.times.downstream_rx_end.unwrap_or(self.io.now);
            let elapsed = self.io.now.since(since);
            let (attempt, after_timeout) = (stream.facts.attempts + 1, stream.after_timeout);
            let retry = router::Retry { attempt, after_timeout, elapsed };
            let head = &mut stream.request;
            router::prepare_retry(&levels, options.router, &stream.timeouts, retry, head);
        }
        self.attempt(id);
    }

    /// The try that held a unit of the retry budget is over.
    pub(super) fn end_retry_slot(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !std::mem::take(&mut stream.retrying) {
            return;
        }
        let priority = priority(stream.facts.high_priority);
        let Some(cluster) = stream.home_cluster() else { return };
        // A cluster that left the configuration meanwhile is kept for as long as a retry holds its budget.
        debug_assert!(self.clusters.get(cluster).is_some(), "a cluster outlives its retries");
        if let Some(state) = self.clusters.get(cluster) {
            state.end_retry(priority);
        }
    }
}
