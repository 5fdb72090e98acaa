//! `envoy.filters.http.fault`: delays, aborts and slow answers, in this order.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::ResponseFlag;
use millrace_config::{Fault, FaultAbort, FaultDelay, FaultFilter, FaultRate, Fraction};
use millrace_http::{HeaderId, RequestHead};
use millrace_observe::stats::{ShardStats, fault as metric};
use millrace_route::header::matches_request;

use super::pace::Pace;
use super::{number, sampled};
use crate::http::LocalReply;
use crate::http::stream_filters::{Env, Start, Verdict};

const ABORT: &[u8] = b"x-envoy-fault-abort-request";
const ABORT_GRPC: &[u8] = b"x-envoy-fault-abort-grpc-request";
const ABORT_PERCENTAGE: &[u8] = b"x-envoy-fault-abort-request-percentage";
const DELAY: &[u8] = b"x-envoy-fault-delay-request";
const DELAY_PERCENTAGE: &[u8] = b"x-envoy-fault-delay-request-percentage";
const THROUGHPUT: &[u8] = b"x-envoy-fault-throughput-response";
const THROUGHPUT_PERCENTAGE: &[u8] = b"x-envoy-fault-throughput-response-percentage";

/// A request with a fault. Whoever drops it must have called [`FaultActive::end`].
#[derive(Debug)]
pub(crate) struct FaultActive {
    filter: Arc<FaultFilter>,
    fault: Arc<Fault>,
    /// The request is among the active faults, where it counts once.
    counted: bool,
    pub(crate) pace: Option<Pace>,
}

impl FaultActive {
    /// What the filter does to this request; `None` for nothing.
    pub(crate) fn begin(
        filter: &Arc<FaultFilter>,
        fault: &Arc<Fault>,
        start: &Start<'_>,
        env: &mut Env<'_>,
        head: &RequestHead,
    ) -> Option<(Self, Verdict)> {
        if (fault.delay.is_none() && fault.abort.is_none() && fault.rate.is_none())
            || !applies(fault, start, head)
        {
            return None;
        }
        let mut active =
            Self { filter: Arc::clone(filter), fault: Arc::clone(fault), counted: false, pace: None };
        active.limit_rate(env, head);
        let verdict =
            active.delay(env, head).or_else(|| active.abort(env, head)).unwrap_or(Verdict::Continue);
        active.counted.then_some((active, verdict))
    }

    /// The delay is over.
    pub(crate) fn resume(&mut self, env: &mut Env<'_>, head: &RequestHead) -> Verdict {
        self.abort(env, head).unwrap_or(Verdict::Continue)
    }

    /// The request is over, whatever became of it.
    pub(crate) fn end(&mut self, stats: &mut ShardStats) {
        if std::mem::take(&mut self.counted) {
            self.filter.end();
            stats.gauge_dec(self.filter.scope, metric::ACTIVE_FAULTS);
        }
    }

    fn count(&mut self, stats: &mut ShardStats) -> bool {
        if self.counted {
            return true;
        }
        self.counted = self.filter.begin(self.fault.max_active);
        match self.counted {
            true => stats.gauge_inc(self.filter.scope, metric::ACTIVE_FAULTS),
            false => stats.inc(self.filter.scope, metric::FAULTS_OVERFLOW),
        }
        self.counted
    }

    fn limit_rate(&mut self, env: &mut Env<'_>, head: &RequestHead) {
        let Some((rate, percentage)) = self.fault.rate else { return };
        let percentage = match rate {
            FaultRate::Fixed(_) => percentage,
            FaultRate::Header => asked_for(percentage, head, THROUGHPUT_PERCENTAGE),
        };
        if !sampled(percentage, env.rng) {
            return;
        }
        let rate = match rate {
            FaultRate::Fixed(rate) => Some(rate),
            FaultRate::Header => number(&head.headers, THROUGHPUT).filter(|rate| *rate > 0),
        };
        if let Some(rate) = rate
            && self.count(env.stats)
        {
            env.stats.inc(self.filter.scope, metric::RESPONSE_RL_INJECTED);
            self.pace = Some(Pace::new(rate, env.now));
        }
    }

    fn delay(&mut self, env: &mut Env<'_>, head: &RequestHead) -> Option<Verdict> {
        let (delay, percentage) = self.fault.delay?;
        let percentage = match delay {
            FaultDelay::Fixed(_) => percentage,
            FaultDelay::Header => asked_for(percentage, head, DELAY_PERCENTAGE),
        };
        if !sampled(percentage, env.rng) {
            return None;
        }
        let delay = match delay {
            FaultDelay::Fixed(delay) => delay,
            FaultDelay::Header => Duration::from_millis(number(&head.headers, DELAY)?),
        };
        let delay = self.fault.delay_override.unwrap_or(delay);
        if delay.is_zero() || !self.count(env.stats) {
            return None;
        }
        env.stats.inc(self.filter.scope, metric::DELAYS_INJECTED);
        env.flags.set(ResponseFlag::DelayInjected);
        Some(Verdict::Wait(env.now + delay))
    }

    fn abort(&mut self, env: &mut Env<'_>, head: &RequestHead) -> Option<Verdict> {
        let (abort, percentage) = self.fault.abort?;
        let percentage = match abort {
            FaultAbort::Http(_) | FaultAbort::Grpc(_) => percentage,
            FaultAbort::Header => asked_for(percentage, head, ABORT_PERCENTAGE),
        };
        if !sampled(percentage, env.rng) {
            return None;
        }
        let http = match abort {
            FaultAbort::Http(status) => Some(status),
            FaultAbort::Grpc(_) => None,
            FaultAbort::Header => {
                let status = number(&head.headers, ABORT).and_then(|status| u16::try_from(status).ok());
                status.filter(|status| (200..600).contains(status))
            }
        };
        let grpc = match abort {
            FaultAbort::Http(_) => None,
            FaultAbort::Grpc(status) => Some(u64::from(status)),
            FaultAbort::Header => number(&head.headers, ABORT_GRPC),
        };
        let http = http.map(|status| self.fault.abort_http_override.unwrap_or(status));
        let grpc = grpc.map(|status| self.fault.abort_grpc_override.map_or(status, u64::from));
        if (http.is_none() && grpc.is_none()) || !self.count(env.stats) {
            return None;
        }
        env.stats.inc(self.filter.scope, metric::ABORTS_INJECTED);
        let reply = LocalReply {
            body: Cow::Owned(self.fault.abort_body.as_bytes().to_vec()),
            grpc_status: grpc.filter(|_| http.is_none()).map(|status| Cow::Owned(status.to_string())),
            ..LocalReply::new(http.unwrap_or(200), "", "fault_filter_abort")
        };
        Some(Verdict::Reply(reply.flagged(ResponseFlag::FaultInjected).into()))
    }
}

/// A client may ask for fewer faults than configured, never for more.
fn asked_for(configured: Fraction, head: &RequestHead, name: &[u8]) -> Fraction {
    match number(&head.headers, name).and_then(|asked| u32::try_from(asked).ok()) {
        Some(asked) => Fraction { numerator: asked.min(configured.numerator), ..configured },
        None => configured,
    }
}

fn applies(fault: &Fault, start: &Start<'_>, head: &RequestHead) -> bool {
    if !fault.upstream_cluster.is_empty() && start.cluster != Some(&*fault.upstream_cluster) {
        return false;
    }
    if !fault.downstream_nodes.is_empty() {
        let node = head.headers.get(HeaderId::XEnvoyDownstreamServiceNode);
        if !node.is_some_and(|node| fault.downstream_nodes.iter().any(|one| **one == *node)) {
            return false;
        }
    }
    fault.headers.iter().all(|matcher| matches_request(matcher, head))
}

#[cfg(test)]
mod tests;
