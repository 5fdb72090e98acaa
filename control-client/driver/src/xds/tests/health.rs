//! Health discovery: introduced, assigned, reported when due, and introduced again by the next stream.

use std::time::Duration;

use millrace_proto::Message as _;
use millrace_proto::pb::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use millrace_proto::pb::envoy::service::health::v3::{
    ClusterEndpointsHealth, EndpointHealthResponse, HealthCheckRequestOrEndpointHealthResponse as Said,
    HealthCheckSpecifier, health_discovery_service_server as hds,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::super::{HealthEvent, HealthReporter};
use super::*;

type Stream = (Streaming<Said>, mpsc::Sender<Result<HealthCheckSpecifier, Status>>);

struct Served(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl hds::HealthDiscoveryService for Served {
    type StreamHealthCheckStream = ReceiverStream<Result<HealthCheckSpecifier, Status>>;

    async fn stream_health_check(
        &self,
        request: Request<Streaming<Said>>,
    ) -> Result<Response<Self::StreamHealthCheckStream>, Status> {
        let (responses, answers) = mpsc::channel(1);
        let stream = (request.into_inner(), responses);
        self.0.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn fetch_health_check(&self, _: Request<Said>) -> Result<Response<HealthCheckSpecifier>, Status> {
        Err(Status::unimplemented("streams only"))
    }
}

async fn heard(requests: &mut Streaming<Said>) -> Option<RequestType> {
    within(requests.message()).await.unwrap().unwrap().request_type
}

#[tokio::test]
async fn health_is_reported_when_it_is_due() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (give, mut streams) = mpsc::channel(1);
    let server = Server::builder().add_service(hds::HealthDiscoveryServiceServer::new(Served(give)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener).map(|io| io)));
    let node = Node { id: "n".to_owned(), ..Node::default() };
    let mut reporter = HealthReporter::start(service(tcp(address)), node, 1);
    let (mut requests, responses) = within(streams.recv()).await.unwrap();
    assert_eq!(within(reporter.next()).await, HealthEvent::Opening);
    let Some(RequestType::HealthCheckRequest(first)) = heard(&mut requests).await else {
        panic!("no introduction")
    };
    assert_eq!(first.node.unwrap().id, "n");
    let specifier = HealthCheckSpecifier::default();
    responses.send(Ok(specifier.clone())).await.unwrap();
    assert_eq!(within(reporter.next()).await, HealthEvent::Assigned(specifier.encode_to_vec()));
    // An interval that is too short is the shortest one.
    reporter.report_every(Duration::from_millis(1));
    for round in 0..2 {
        let began = std::time::Instant::now();
        assert_eq!(within(reporter.next()).await, HealthEvent::Due);
        assert!(round == 0 || began.elapsed() >= Duration::from_millis(90));
        let cluster = ClusterEndpointsHealth { cluster_name: "a".to_owned(), ..Default::default() };
        let report = EndpointHealthResponse { cluster_endpoints_health: vec![cluster], ..Default::default() };
        assert!(reporter.report(Some(report.clone())));
        assert_eq!(heard(&mut requests).await, Some(RequestType::EndpointHealthResponse(report)));
    }
    assert!(reporter.report(None));
    assert_eq!(heard(&mut requests).await, None);
    responses.send(Err(Status::unavailable("restart"))).await.unwrap();
    let reason = "StreamHealthCheck gRPC stream to xds-grpc closed: 14, restart".to_owned();
    loop {
        match within(reporter.next()).await {
            HealthEvent::Due => {}
            other => break assert_eq!(other, HealthEvent::Disconnected { reason, failed: true }),
        }
    }
    // Nothing is due before the next stream has said what to check; what was found meanwhile is not sent.
    assert!(reporter.report(None));
    assert_eq!(within(reporter.next()).await, HealthEvent::Opening);
    let (mut requests, _responses) = within(streams.recv()).await.unwrap();
    assert!(matches!(heard(&mut requests).await, Some(RequestType::HealthCheckRequest(_))));
}
