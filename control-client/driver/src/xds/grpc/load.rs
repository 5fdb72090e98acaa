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

/// How a stream went.
pub(crate) struct Ended {
    /// The server has asked for something.
    pub answered: bool,
    /// It has not ended with the status OK.
    pub failed: bool,
    /// One line for the log.
    pub reason: String,
}

impl LoadStream<'_> {
    /// Runs until the stream ends.
    pub(crate) async fn run(self) -> Ended {
        let who = format!("StreamLoadStats gRPC stream to {}", self.service.name());
        let failed = |answered, why: &dyn std::fmt::Display| Ended {
            answered,
            failed: true,
            reason: format!("{who} {why}"),
        };
        let Opened { mut grpc, metadata, _connection } = match open(self.service).await {
            Ok(opened) => opened,
            Err(reason) => return failed(false, &format_args!("not opened: {reason}")),
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
            Err(status) => return failed(false, &format_args!("closed: {}", describe(&status))),
        };
        let mut plan = Plan::default();
        loop {
            tokio::select! {
                message = messages.message() => match message {
                    Ok(Some(response)) => self.tell(plan.take(response)).await,
                    Ok(None) => {
                        let reason = format!("{who} closed: 0, OK");
                        return Ended { answered: plan.asked, failed: false, reason };
                    }
                    Err(status) => {
                        return failed(plan.asked, &format_args!("closed: {}", describe(&status)));
                    }
                },
                () = plan.due() => {
                    plan.due_at = None;
                    self.tell(LoadEvent::Due).await;
                }
                // What no stream took stays there until a server asks again.
                Some(loads) = self.reports.recv(), if plan.asked => {
                    let cluster_stats = plan.report(loads);
                    let request = LoadStatsRequest { node: Some(self.node.clone()), cluster_stats };
                    // A stream that has just ended says so itself.
                    let _ = requests.send(request).await;
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

    /// Fills in the intervals; the next one begins.
    fn report(&mut self, mut loads: Vec<ClusterStats>) -> Vec<ClusterStats> {
        let now = Instant::now();
        let elapsed = now - self.since.replace(now).unwrap_or(now);
        self.due_at = Some(now + self.interval);
        for load in &mut loads {
            load.load_report_interval.get_or_insert(protobuf::Duration {
                seconds: i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX),
                nanos: elapsed.subsec_nanos().cast_signed(),
            });
        }
        loads
    }
}

fn duration(message: &protobuf::Duration) -> Option<Duration> {
    let whole = Duration::from_secs(u64::try_from(message.seconds).ok()?);
    Some(whole + Duration::from_nanos(u64::try_from(message.nanos).ok()?)).filter(|d| !d.is_zero())
}
