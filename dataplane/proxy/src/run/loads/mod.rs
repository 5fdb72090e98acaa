//! Load reports to a control plane (LRS): what was sent where, when it asks for it.

mod report;
mod tally;

use millrace_ads::source::GrpcService;
use millrace_assembly::Phase;
use millrace_config::{ScopeId, Update};
use millrace_driver::xds::{LoadEvent, LoadReporter};
use millrace_observe::stats::{
    ControlStats, Registry, ScopeKind, cluster as cluster_metric, host as metric, load_reporter,
};
use millrace_proto::pb::envoy::config::core::v3::Node;
use millrace_translate::Compiled;
use millrace_upstream::MetricBooks;

use super::control::Control;
use super::xds;
use crate::logging::{Component, Level};
pub(in crate::run) use report::address;
use tally::{Counters, Counts, Dropped, Tally};

/// `cluster_manager.load_stats_config` and what came of it.
pub struct Loads {
    state: State,
    tally: Tally,
    endpoint_granularity: bool,
    stats: ControlStats,
    scope: ScopeId,
}

enum State {
    /// Start-up is not that far.
    Waiting(Box<(GrpcService, Node)>),
    Started(LoadReporter),
}

impl Loads {
    /// `None` without a `load_stats_config`. Nothing is contacted before [`Control::start_loads`].
    pub fn new(compiled: &Compiled, registry: &Registry) -> Option<Self> {
        let service = compiled.dynamic.load_stats.clone()?;
        Some(Self {
            state: State::Waiting(Box::new((service, xds::node_of(compiled)))),
            tally: Tally::default(),
            endpoint_granularity: false,
            stats: registry.attach_control(),
            scope: registry.scope(ScopeKind::LoadReporter, ""),
        })
    }
}

/// The next event; none ever comes where nothing is reported. Cancel safe.
pub async fn next(loads: &mut Option<Loads>) -> LoadEvent {
    match loads.as_mut().map(|loads| &mut loads.state) {
        Some(State::Started(reporter)) => reporter.next().await,
        Some(State::Waiting(_)) | None => std::future::pending().await,
    }
}

impl Counters for Registry {
    fn host(&self, scope: ScopeId) -> (Counts, u64) {
        let wanted = [metric::RQ_TOTAL, metric::RQ_SUCCESS, metric::RQ_ERROR];
        let [issued, success, error] = self.counters_since_start(scope, wanted);
        (Counts { issued, success, error }, self.gauge(scope, metric::RQ_ACTIVE))
    }

    fn dropped(&self, scope: ScopeId) -> Dropped {
        let metrics =
            [cluster_metric::UPSTREAM_RQ_PENDING_OVERFLOW, cluster_metric::UPSTREAM_RQ_DROP_OVERLOAD];
        let [overflow, on_purpose] = self.counters_since_start(scope, metrics);
        Dropped { overflow, on_purpose }
    }
}

impl Control {
    /// As Envoy, when the clusters of the bootstrap are ready and runtime layers have come, which is before CDS is asked.
    pub(super) fn start_loads(&mut self) {
        let is_time = self.xds.assembly.phase() >= Phase::Clusters;
        if let Some(loads) = self.loads.as_mut().filter(|_| is_time)
            && let State::Waiting(whom) = &loads.state
        {
            let (service, node) = *whom.clone();
            loads.state = State::Started(LoadReporter::start(service, node, xds::seed()));
        }
    }

    /// The shards are about to get this.
    pub(super) fn loads_change(&mut self, update: &Update) {
        let now = self.now();
        if let Some(loads) = &mut self.loads {
            loads.tally.update(update, &self.registry, now);
        }
    }

    /// Time has passed.
    pub(super) fn tick_loads(&mut self) {
        let now = self.now();
        if let Some(loads) = &mut self.loads {
            loads.tally.let_go(&self.registry, now);
        }
    }

    /// Something came from the server of load reports, or a report is due.
    pub(super) fn loads_event(&mut self, event: LoadEvent) {
        let now = self.now();
        let Some(Loads { state: State::Started(reporter), tally, endpoint_granularity, stats, scope }) =
            &mut self.loads
        else {
            return;
        };
        match event {
            LoadEvent::Opening { retry } => {
                stats.inc(*scope, load_reporter::RESPONSES);
                stats.add(*scope, load_reporter::RETRIES, u64::from(retry));
            }
            LoadEvent::Collect { clusters, endpoint_granularity: wanted } => {
                stats.inc(*scope, load_reporter::REQUESTS);
                *endpoint_granularity = wanted;
                let all = self.xds.assembly.snapshot().clusters.iter().flatten();
                tally.collect(clusters, all, &self.registry, now);
            }
            LoadEvent::Due => {
                let shared = &self.workers.shared;
                let metrics = |cluster| shared.load_metrics(cluster, MetricBooks::take).unwrap_or_default();
                let loads = tally.read(&self.registry, &metrics);
                let report = loads.map(|load| report::cluster_stats(load, *endpoint_granularity, now));
                if reporter.report(report.collect()) {
                    stats.inc(*scope, load_reporter::RESPONSES);
                    tally.restart(now);
                }
            }
            LoadEvent::Disconnected { reason, failed } => {
                stats.add(*scope, load_reporter::ERRORS, u64::from(failed));
                let level = if failed { Level::Warning } else { Level::Debug };
                self.logger.log(Component::UPSTREAM, level, format_args!("{reason}"));
            }
        }
    }
}
