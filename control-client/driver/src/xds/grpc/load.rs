//! One stream of load reports (LRS).

use std::time::Duration;

use millrace_proto::pb::envoy::config::core::v3::Node;
use millrace_proto::pb::envoy::config::endpoint::v3::ClusterStats;
use millrace_proto::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use millrace_proto::pb::google::protobuf;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic_prost::ProstCodec;

use super::connection::Service;
use super::stream::{Opened, describe, open, with_metadata};
use crate::xds::load_report::{Clusters, LoadEvent};

const PATH: &str = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";

/// Interval of a server that names none.
const INTERVAL: Duration = Duration::from_secs(10);
/// Shortest interval that a server gets.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What is needed to run a stream.
pub(crate) struct LoadStream<'a> {
    pub service: &'a Service,
    pub node: &'a Node,
    pub events: &'a mpsc::Sender<LoadEvent>,
    pub reports: &'a mut mpsc::Receiver<Vec<ClusterStats>>,
}

impl LoadStream<'_> {
    /// Runs until the stream ends; says whether the server has answered, and why it ended.
    pub(crate) async fn run(self) -> (bool, String) {
        let who = format!("StreamLoadStats gRPC stream to {}", self.service.name());
        let Opened { mut grpc, metadata, _connection } = match open(self.service).await {
            Ok(opened) => opened,
            Err(reason) => return (false, format!("{who} not opened: {reason}")),
        };
        let (requests, outgoing) = mpsc::channel(1);
        // There is room for one.
        let _ =
            requests.try_send(LoadStatsRequest { node: Some(self.node.clone()), cluster_stats: Vec::new() });
        let request = with_metadata(ReceiverStream::new(outgoing), metadata);
        let path = http::uri::PathAndQuery::from_static(PATH);
        let codec = ProstCodec::<LoadStatsRequest, LoadStatsResponse>::default();
        let mut messages = match grpc.streaming(request, path, codec).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (false, format!("{who} closed: {}", describe(&status))),
        };
        let mut plan = Plan::default();
        loop {
            tokio::select! {
                message = messages.message() => match message {
                    Ok(Some(response)) => self.tell(plan.take(response)).await,
                    Ok(None) => return (plan.asked, format!("{who} closed: 0, OK")),
                    Err(status) => return (plan.asked, format!("{who} closed: {}", describe(&status))),
                },
                () = plan.due() => {
                    plan.due_at = None;
                    self.tell(LoadEvent::Due).await;
                }
                Some(loads) = self.reports.recv() => {
                    // What was due on an older stream counts from then; this server did not ask for it.
                    if let Some(cluster_stats) = plan.report(loads) {
                        let request = LoadStatsRequest { node: Some(self.node.clone()), cluster_stats };
                        // A stream that has just ended says so itself.
                        let _ = requests.send(request).await;
                    }
                }
            }
        }
    }

    async fn tell(&self, event: LoadEvent) {
        // Without a receiver the task is about to be aborted.
        let _ = self.events.send(event).await;
    }
}

/// What the server has asked for.
#[derive(Default)]
struct Plan {
    asked: bool,
    interval: Duration,
    since: Option<Instant>,
    due_at: Option<Instant>,
}

impl Plan {
    fn take(&mut self, response: LoadStatsResponse) -> LoadEvent {
        let interval = response.load_reporting_interval.as_ref().and_then(duration);
        self.interval = interval.unwrap_or(INTERVAL).max(INTERVAL_MIN);
        self.asked = true;
        let now = Instant::now();
        self.since = Some(now);
        self.due_at = Some(now + self.interval);
        let clusters =
            if response.send_all_clusters { Clusters::All } else { Clusters::Named(response.clusters) };
        LoadEvent::Collect { clusters, endpoint_granularity: response.report_endpoint_granularity }
    }

    async fn due(&self) {
        match self.due_at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Fills in the intervals; `None` when nothing is due.
    fn report(&mut self, mut loads: Vec<ClusterStats>) -> Option<Vec<ClusterStats>> {
        if self.due_at.is_some() {
            return None;
        }
        let now = Instant::now();
        let elapsed = now - self.since.replace(now)?;
        self.due_at = Some(now + self.interval);
        for load in &mut loads {
            load.load_report_interval.get_or_insert(protobuf::Duration {
                seconds: i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX),
                nanos: elapsed.subsec_nanos().cast_signed(),
            });
        }
        Some(loads)
    }
}

fn duration(message: &protobuf::Duration) -> Option<Duration> {
    let whole = Duration::from_secs(u64::try_from(message.seconds).ok()?);
    Some(whole + Duration::from_nanos(u64::try_from(message.nanos).ok()?)).filter(|d| !d.is_zero())
}
