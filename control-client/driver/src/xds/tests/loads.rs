//! Load reports: asked for, sent when due, and asked for again by the next stream.

use millrace_proto::pb::envoy::config::endpoint::v3::ClusterStats;
use millrace_proto::pb::envoy::service::load_stats::v3::{
    LoadStatsRequest, LoadStatsResponse, load_reporting_service_server as lrs,
};
use millrace_proto::pb::google::protobuf;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::super::{Clusters, LoadEvent, LoadReporter};
use super::*;

type Stream = (Streaming<LoadStatsRequest>, mpsc::Sender<Result<LoadStatsResponse, Status>>);

struct Served(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl lrs::LoadReportingService for Served {
    type StreamLoadStatsStream = ReceiverStream<Result<LoadStatsResponse, Status>>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let (responses, answers) = mpsc::channel(1);
        let stream = (request.into_inner(), responses);
        self.0.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

#[tokio::test]
async fn loads_are_reported_when_they_are_due() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (give, mut streams) = mpsc::channel(1);
    let server = Server::builder().add_service(lrs::LoadReportingServiceServer::new(Served(give)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener).map(|io| io)));
    let node = Node { id: "n".to_owned(), ..Node::default() };
    let mut reporter = LoadReporter::start(service(tcp(address)), node, 1);
    let (mut requests, responses) = within(streams.recv()).await.unwrap();
    assert_eq!(within(reporter.next()).await, LoadEvent::Opening { retry: false });
    let first = within(requests.message()).await.unwrap().unwrap();
    let node = first.node.unwrap();
    assert_eq!((&*node.id, node.client_features.len(), first.cluster_stats.len()), ("n", 1, 0));
    let interval = protobuf::Duration { seconds: 0, nanos: 100_000_000 };
    let ask = LoadStatsResponse {
        clusters: vec!["a".to_owned()],
        load_reporting_interval: Some(interval),
        ..LoadStatsResponse::default()
    };
    responses.send(Ok(ask.clone())).await.unwrap();
    let named = LoadEvent::Collect { clusters: Clusters::Named(ask.clusters), endpoint_granularity: false };
    assert_eq!(within(reporter.next()).await, named);
    for round in 1..=2 {
        assert_eq!(within(reporter.next()).await, LoadEvent::Due);
        let load = ClusterStats {
            cluster_name: "a".to_owned(),
            total_dropped_requests: round,
            ..ClusterStats::default()
        };
        assert!(reporter.report(vec![load]));
        let report = within(requests.message()).await.unwrap().unwrap();
        assert_eq!(report.cluster_stats[0].total_dropped_requests, round);
        let elapsed = report.cluster_stats[0].load_report_interval.as_ref().unwrap();
        assert!(elapsed.seconds > 0 || elapsed.nanos >= 100_000_000, "{elapsed:?}");
    }
    // The next stream asks anew.
    responses.send(Err(Status::unavailable("restart"))).await.unwrap();
    let reason = "StreamLoadStats gRPC stream to xds-grpc closed: 14, restart".to_owned();
    assert_eq!(within(reporter.next()).await, LoadEvent::Disconnected { reason, failed: true });
    assert_eq!(within(reporter.next()).await, LoadEvent::Opening { retry: true });
    let (_requests, responses) = within(streams.recv()).await.unwrap();
    let all = LoadStatsResponse { send_all_clusters: true, ..LoadStatsResponse::default() };
    responses.send(Ok(all)).await.unwrap();
    let all = LoadEvent::Collect { clusters: Clusters::All, endpoint_granularity: false };
    assert_eq!(within(reporter.next()).await, all);
    drop(responses);
    let reason = "StreamLoadStats gRPC stream to xds-grpc closed: 0, OK".to_owned();
    assert_eq!(within(reporter.next()).await, LoadEvent::Disconnected { reason, failed: false });
}
