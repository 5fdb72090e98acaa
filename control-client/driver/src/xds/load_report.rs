//! Load reports to a control plane (LRS): when they are due and for which clusters; the counters are the owner's.

use std::sync::Arc;

use millrace_ads::source::GrpcService;
use millrace_proto::pb::envoy::config::core::v3::Node;
use millrace_proto::pb::envoy::config::endpoint::v3::ClusterStats;
use tokio::sync::mpsc;

use super::grpc::{Ended, LoadStream, Service};
use super::pauses::Pauses;
use super::told::Owned;
use crate::dns::SystemResolver;

/// Which clusters a server wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clusters {
    /// `send_all_clusters`.
    All,
    /// `clusters`; none of the others.
    Named(Vec<String>),
}

/// What the owner of the counters is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadEvent {
    /// A stream is being opened, with a first message that holds no report (`load_reporter.responses` counts it).
    Opening {
        /// It is not the first one.
        retry: bool,
    },
    /// Count for these from now on.
    Collect {
        /// For whom.
        clusters: Clusters,
        /// `report_endpoint_granularity`: for each endpoint, too.
        endpoint_granularity: bool,
    },
    /// An interval is over: hand what was counted to [`LoadReporter::report`].
    Due,
    /// The stream has ended or could not be opened; another attempt follows by itself.
    Disconnected {
        /// One line for the log.
        reason: String,
        /// It has not ended with the status OK.
        failed: bool,
    },
}

/// One `load_stats_config`.
pub struct LoadReporter {
    events: mpsc::Receiver<LoadEvent>,
    reports: mpsc::Sender<Vec<ClusterStats>>,
    _task: Owned,
}

impl LoadReporter {
    /// Connects and keeps connected. `node` is sent with `envoy.lrs.supports_send_all_clusters`, as Envoy sends it.
    /// Must run inside the runtime.
    pub fn start(service: GrpcService, mut node: Node, seed: u64) -> Self {
        node.client_features.push("envoy.lrs.supports_send_all_clusters".to_owned());
        let (tell, events) = mpsc::channel(4);
        let (reports, mut inbox) = mpsc::channel(1);
        let service = Service::new(service, Arc::new(SystemResolver::default()));
        let task = tokio::spawn(async move {
            let mut pauses = Pauses::new(seed);
            let mut retry = false;
            loop {
                // Without a receiver the task is about to be aborted.
                let _ = tell.send(LoadEvent::Opening { retry }).await;
                retry = true;
                let stream =
                    LoadStream { service: &service, node: &node, events: &tell, reports: &mut inbox };
                let Ended { answered, failed, reason } = stream.run().await;
                let _ = tell.send(LoadEvent::Disconnected { reason, failed }).await;
                pauses.pause(answered).await;
            }
        });
        Self { events, reports, _task: Owned(task) }
    }

    /// The next event. Cancel safe; never ends.
    pub async fn next(&mut self) -> LoadEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The task ends with `self` only.
            None => std::future::pending().await,
        }
    }

    /// What was counted since the last report; `load_report_interval` is filled in where it is missing. False when the
    /// last report has not been taken yet: keep counting, and hand over the sum when the next one is due. One that was
    /// taken goes to whoever asks next; only what a breaking stream swallows is lost.
    pub fn report(&mut self, loads: Vec<ClusterStats>) -> bool {
        self.reports.try_send(loads).is_ok()
    }
}
