//! What the gRPC filters of a request have counted and not yet told the statistics.

use std::time::Duration;

use millrace_config::ScopeId;
use millrace_observe::stats::{GrpcProtocol, ShardStats, grpc as metric};

use super::grpc::status::GrpcStatus;

/// `service.method` as statistics name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallName(Box<str>);

impl CallName {
    /// `None` for a name that is too long to be kept; the call counts for its cluster alone then.
    pub(super) fn new(service: &str, method: &str, replace_dots: bool) -> Option<Self> {
        if service.len() + method.len() >= GrpcProtocol::NAME_BYTES_MAX {
            return None;
        }
        let mut name = String::with_capacity(service.len() + 1 + method.len());
        match replace_dots {
            true => name.extend(service.chars().map(|c| if c == '.' { '_' } else { c })),
            false => name.push_str(service),
        }
        name.push('.');
        name.push_str(method);
        Some(Self(name.into()))
    }

    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Counts that wait for [`Report::tell`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) request_messages: u32,
    pub(super) response_messages: u32,
    /// The head's and the trailers' at the most.
    statuses: [Option<GrpcStatus>; 2],
    /// The response is over, and the time that it took is wanted.
    pub(super) upstream_time: bool,
}

impl Report {
    pub(super) fn add(&mut self, status: Option<GrpcStatus>) {
        if let Some(free) = self.statuses.iter_mut().find(|s| s.is_none()) {
            *free = status;
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Counts everything that waits in the scope of `name`, or of the cluster.
    pub(super) fn tell(
        &mut self,
        stats: &mut ShardStats,
        cluster: ScopeId,
        protocol: GrpcProtocol,
        name: Option<&CallName>,
        upstream_time: Option<Duration>,
    ) {
        if self.is_empty() {
            return;
        }
        let report = std::mem::take(self);
        // The end of the response may be reported before its time is known.
        self.upstream_time = report.upstream_time && upstream_time.is_none();
        let Some(scope) = stats.grpc_scope(cluster, protocol, name.map(|name| &*name.0)) else { return };
        if report.request_messages > 0 {
            stats.add(scope, metric::REQUEST_MESSAGE_COUNT, u64::from(report.request_messages));
        }
        if report.response_messages > 0 {
            stats.add(scope, metric::RESPONSE_MESSAGE_COUNT, u64::from(report.response_messages));
        }
        for status in report.statuses.into_iter().flatten() {
            let number = match status {
                GrpcStatus::Known(status) => Some(status),
                GrpcStatus::Other => None,
            };
            stats.inc(scope, metric::status(number));
            stats.inc(scope, if status.is_ok() { metric::SUCCESS } else { metric::FAILURE });
            stats.inc(scope, metric::TOTAL);
        }
        if let Some(time) = upstream_time.filter(|_| report.upstream_time) {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            stats.record(scope, metric::UPSTREAM_RQ_TIME, millis);
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_observe::stats::{Registry, ScopeKind};

    use super::*;

    #[test]
    fn names_are_bounded_and_may_lose_their_dots() {
        let name = |service, replace| CallName::new(service, "M", replace).map(|n| n.as_str().to_owned());
        assert_eq!(name("a.b.C", false).as_deref(), Some("a.b.C.M"));
        assert_eq!(name("a.b.C", true).as_deref(), Some("a_b_C.M"));
        assert_eq!(name(&"x".repeat(GrpcProtocol::NAME_BYTES_MAX), false), None);
    }

    #[test]
    fn the_time_may_be_told_later_and_counts_once() {
        let registry = Registry::new();
        let cluster = registry.scope(ScopeKind::Cluster, "c");
        let mut shard = registry.attach_shard("worker_0");
        let mut report = Report { upstream_time: true, ..Report::default() };
        report.add(Some(GrpcStatus::Known(0)));
        for time in [None, None, Some(Duration::from_millis(3)), Some(Duration::from_millis(3))] {
            report.tell(&mut shard, cluster, GrpcProtocol::Grpc, None, time);
        }
        assert!(report.is_empty());
        let scope = registry.scope(ScopeKind::Grpc, "c.grpc");
        assert_eq!(registry.counter(scope, metric::TOTAL), 1);
    }

    #[test]
    fn a_head_and_trailers_may_both_have_a_status() {
        let mut report = Report::default();
        for status in [None, Some(GrpcStatus::Known(5)), Some(GrpcStatus::Known(0)), Some(GrpcStatus::Other)]
        {
            report.add(status);
        }
        assert_eq!(report.statuses, [Some(GrpcStatus::Known(5)), Some(GrpcStatus::Known(0))]);
    }
}
