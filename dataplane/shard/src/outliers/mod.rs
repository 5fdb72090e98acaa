//! Outlier detection on a shard: tries are reported to their cluster, and what follows from them is counted.

mod log;

use std::sync::Arc;

use millrace_base::Key;
use millrace_config::{Cluster, ClusterId, ScopeId};
use millrace_filter::http::router::retry::ResetReason;
use millrace_http::{HeaderId, ResponseHead};
use millrace_observe::stats::{Counter, ShardStats, cluster as metric};
use millrace_route::header;
use millrace_upstream::{Ejection, HostId, OutlierAction, OutlierEvent, TryResult};

use crate::housekeeping::HOUSEKEEPING_EVERY;
use crate::shard::Shard;
use crate::token::Kind;

impl Shard {
    /// Tells the cluster what a try of this stream showed of its endpoint.
    #[inline]
    pub(crate) fn report_try(&mut self, id: Key, result: TryResult) {
        self.report_as(id, |_, _| result);
    }

    /// Tells it of an answer, whose status, or gRPC status, counts as `judged`; an `error_matcher` overrules it.
    #[inline]
    pub(crate) fn report_answer(&mut self, id: Key, judged: u16) {
        self.report_as(id, |config, answer| {
            let judged = match &config.http.errors {
                Some(errors) if header::predicate_takes(errors, answer) => 500,
                Some(_) => 200,
                None => judged,
            };
            match answer.headers.contains(HeaderId::XEnvoyDegraded) {
                true => TryResult::Degraded(judged),
                false => TryResult::Status(judged),
            }
        });
    }

    /// Reports what `judge` makes of the answer under the configuration of its cluster.
    #[inline]
    fn report_as(&mut self, id: Key, judge: impl FnOnce(&Cluster, &ResponseHead) -> TryResult) {
        let Some(stream) = self.streams.get(id) else { return };
        let (Some(cluster), Some(host)) = (stream.facts.member, stream.facts.host) else { return };
        let Some(state) = self.clusters.get_mut(cluster) else { return };
        let (result, now) = (judge(state.config(), &stream.response), self.io.now);
        if let Some(sent) = stream.facts.times.upstream_pool_ready {
            state.time_try(host, result, now.since(sent), now);
        }
        if state.report(host, result, now) {
            self.count_outliers(cluster);
        }
    }

    /// The same for a try that ended without an answer. A circuit breaker says nothing of an endpoint.
    pub(crate) fn report_reset(&mut self, id: Key, reason: ResetReason) {
        let result = match reason {
            ResetReason::Overflow => return,
            _ if reason.is_timeout() => TryResult::TimedOut(self.timeout_status(id)),
            _ => TryResult::Failed,
        };
        self.report_try(id, result);
    }

    /// The status that a client sees when time is up.
    pub(crate) fn timeout_status(&self, id: Key) -> u16 {
        if self.streams.get(id).is_some_and(|stream| stream.timeout_is_204) { 204 } else { 504 }
    }

    /// The same for an endpoint that is known otherwise.
    #[inline]
    pub(crate) fn report_result(&mut self, cluster: ClusterId, host: HostId, result: TryResult) {
        let now = self.io.now;
        if self.clusters.get_mut(cluster).is_some_and(|state| state.report(host, result, now)) {
            self.count_outliers(cluster);
        }
    }

    /// Ends the intervals that are over. Those shorter than the housekeeping's get timers in between.
    pub(crate) fn look_at_outliers(&mut self, cluster: ClusterId) {
        let now = self.io.now;
        let Some(state) = self.clusters.get_mut(cluster) else { return };
        if state.next_outlier_look().is_none_or(|at| at > now) {
            return;
        }
        let news = state.look_at_outliers(now);
        let next = state.next_outlier_look();
        if news {
            self.count_outliers(cluster);
        }
        if let Some(next) = next.filter(|next| *next < now + HOUSEKEEPING_EVERY) {
            let token = Kind::Outliers.token(Key { slot: cluster.0, generation: 0 });
            self.wheel.insert(next, token.0);
        }
    }

    /// Statistics of what outlier detection did.
    fn count_outliers(&mut self, cluster: ClusterId) {
        let Some(state) = self.clusters.get_mut(cluster) else { return };
        let (scope, name) = (state.config().scope, Arc::clone(&state.config().name));
        let events = state.take_outlier_events();
        let fewer = events.iter().any(|event| {
            matches!(event.action, OutlierAction::Eject { enforced: true, .. } | OutlierAction::Degrade)
        });
        self.count_outlier_events(scope, &name, events);
        if fewer {
            self.tell_shards(cluster);
        }
    }

    /// The same for events of a cluster that need not be in use here.
    pub(crate) fn count_outlier_events(
        &mut self,
        scope: ScopeId,
        name: &Arc<str>,
        events: Vec<OutlierEvent>,
    ) {
        let (now, wall, sink) = (self.io.now, self.wall, self.snapshot.outlier_log.clone());
        for event in events {
            count(&mut self.stats, scope, event.action);
            if let Some(sink) = &sink {
                log::write(&mut self.logs, sink, name, &event, (now, wall));
            }
        }
    }
}

fn count(stats: &mut ShardStats, scope: ScopeId, action: OutlierAction) {
    match action {
        OutlierAction::Detected(why) => {
            stats.inc(scope, detected(why));
            match why {
                Ejection::Consecutive5xx => {
                    stats.inc(scope, metric::OUTLIER_DETECTION_EJECTIONS_CONSECUTIVE_5XX);
                }
                Ejection::SuccessRate | Ejection::SuccessRateLocalOrigin => {
                    stats.inc(scope, metric::OUTLIER_DETECTION_EJECTIONS_SUCCESS_RATE);
                }
                _ => {}
            }
        }
        OutlierAction::Overflow => stats.inc(scope, metric::OUTLIER_DETECTION_EJECTIONS_OVERFLOW),
        OutlierAction::Degrade => {
            stats.inc(scope, metric::OUTLIER_DETECTION_EJECTIONS_DETECTED_DEGRADATION);
        }
        OutlierAction::Recover => {}
        OutlierAction::Eject { why, enforced, .. } => {
            if matches!(why, Ejection::Consecutive5xx | Ejection::SuccessRate) {
                stats.inc(scope, metric::OUTLIER_DETECTION_EJECTIONS_TOTAL);
            }
            if enforced {
                stats.inc(scope, metric::OUTLIER_DETECTION_EJECTIONS_ENFORCED_TOTAL);
                stats.inc(scope, self::enforced(why));
                stats.gauge_inc(scope, metric::OUTLIER_DETECTION_EJECTIONS_ACTIVE);
            }
        }
        OutlierAction::Uneject | OutlierAction::Left => {
            stats.gauge_dec(scope, metric::OUTLIER_DETECTION_EJECTIONS_ACTIVE);
        }
    }
}

fn detected(why: Ejection) -> Counter {
    match why {
        Ejection::Consecutive5xx => metric::OUTLIER_DETECTION_EJECTIONS_DETECTED_CONSECUTIVE_5XX,
        Ejection::ConsecutiveGatewayFailure => {
            metric::OUTLIER_DETECTION_EJECTIONS_DETECTED_CONSECUTIVE_GATEWAY_FAILURE
        }
        Ejection::ConsecutiveLocalOriginFailure => {
            metric::OUTLIER_DETECTION_EJECTIONS_DETECTED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE
        }
        Ejection::SuccessRate => metric::OUTLIER_DETECTION_EJECTIONS_DETECTED_SUCCESS_RATE,
        Ejection::SuccessRateLocalOrigin => {
            metric::OUTLIER_DETECTION_EJECTIONS_DETECTED_LOCAL_ORIGIN_SUCCESS_RATE
        }
        Ejection::FailurePercentage => metric::OUTLIER_DETECTION_EJECTIONS_DETECTED_FAILURE_PERCENTAGE,
        Ejection::FailurePercentageLocalOrigin => {
            metric::OUTLIER_DETECTION_EJECTIONS_DETECTED_LOCAL_ORIGIN_FAILURE_PERCENTAGE
        }
    }
}

fn enforced(why: Ejection) -> Counter {
    match why {
        Ejection::Consecutive5xx => metric::OUTLIER_DETECTION_EJECTIONS_ENFORCED_CONSECUTIVE_5XX,
        Ejection::ConsecutiveGatewayFailure => {
            metric::OUTLIER_DETECTION_EJECTIONS_ENFORCED_CONSECUTIVE_GATEWAY_FAILURE
        }
        Ejection::ConsecutiveLocalOriginFailure => {
            metric::OUTLIER_DETECTION_EJECTIONS_ENFORCED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE
        }
        Ejection::SuccessRate => metric::OUTLIER_DETECTION_EJECTIONS_ENFORCED_SUCCESS_RATE,
        Ejection::SuccessRateLocalOrigin => {
            metric::OUTLIER_DETECTION_EJECTIONS_ENFORCED_LOCAL_ORIGIN_SUCCESS_RATE
        }
        Ejection::FailurePercentage => metric::OUTLIER_DETECTION_EJECTIONS_ENFORCED_FAILURE_PERCENTAGE,
        Ejection::FailurePercentageLocalOrigin => {
            metric::OUTLIER_DETECTION_EJECTIONS_ENFORCED_LOCAL_ORIGIN_FAILURE_PERCENTAGE
        }
    }
}
