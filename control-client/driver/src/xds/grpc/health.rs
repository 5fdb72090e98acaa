//! One stream of health discovery (HDS).

use millrace_proto::Message as _;
use millrace_proto::pb::envoy::config::core::v3::Node;
use millrace_proto::pb::envoy::service::health::v3::capability::Protocol;
use millrace_proto::pb::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use millrace_proto::pb::envoy::service::health::v3::{
    Capability, EndpointHealthResponse, HealthCheckRequest,
    HealthCheckRequestOrEndpointHealthResponse as Said,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::connection::Service;
use super::load::Ended;
use super::stream::{Opened, describe, open, with_metadata};
use crate::xds::health_report::HealthEvent;

const PATH: &str = "/envoy.service.health.v3.HealthDiscoveryService/StreamHealthCheck";

/// What is needed to run a stream.
pub(crate) struct HealthStream<'a> {
    pub service: &'a Service,
    pub node: &'a Node,
    pub events: &'a mpsc::Sender<HealthEvent>,
    pub reports: &'a mut mpsc::Receiver<Option<EndpointHealthResponse>>,
}

impl HealthStream<'_> {
    /// Runs until the stream ends.
    pub(crate) async fn run(self) -> Ended {
        let who = format!("StreamHealthCheck gRPC stream to {}", self.service.name());
        let ended = |answered, failed, why: &dyn std::fmt::Display| Ended {
            answered,
            failed,
            reason: format!("{who} {why}"),
        };
        let Opened { mut grpc, metadata, _connection } = match open(self.service).await {
            Ok(opened) => opened,
            Err(reason) => return ended(false, true, &format_args!("not opened: {reason}")),
        };
        // What was found for a stream that is gone: the next report says it again.
        while self.reports.try_recv().is_ok() {}
        let (requests, outgoing) = mpsc::channel(1);
        // There is room for one.
        let _ = requests.try_send(introduction(self.node));
        let request = with_metadata(ReceiverStream::new(outgoing), metadata);
        let path = http::uri::PathAndQuery::from_static(PATH);
        let mut messages = match grpc.streaming(request, path, Octets).await {
            Ok(response) => response.into_inner(),
            Err(status) => return ended(false, true, &format_args!("closed: {}", describe(&status))),
        };
        let mut answered = false;
        loop {
            tokio::select! {
                message = messages.message() => match message {
                    Ok(Some(specifier)) => {
                        answered = true;
                        // Without a receiver the task is about to be aborted.
                        let _ = self.events.send(HealthEvent::Assigned(specifier)).await;
                    }
                    Ok(None) => return ended(answered, false, &"closed: 0, OK"),
                    Err(status) => {
                        return ended(answered, true, &format_args!("closed: {}", describe(&status)));
                    }
                },
                Some(report) = self.reports.recv() => {
                    let said = Said { request_type: report.map(RequestType::EndpointHealthResponse) };
                    // A stream that has just ended says so itself.
                    let _ = requests.send(said).await;
                }
            }
        }
    }
}

/// The first message of every stream. Envoy names these two protocols, although it checks by gRPC, too.
fn introduction(node: &Node) -> Said {
    let protocols = vec![Protocol::Http.into(), Protocol::Tcp.into()];
    Said {
        request_type: Some(RequestType::HealthCheckRequest(HealthCheckRequest {
            node: Some(node.clone()),
            capability: Some(Capability { health_check_protocols: protocols }),
        })),
    }
}

/// Messages leave as they are encoded and come as they were sent, so that whoever judges them sees every field.
#[derive(Clone, Copy, Debug)]
struct Octets;

impl Codec for Octets {
    type Encode = Said;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Octets {
    type Item = Said;
    type Error = Status;

    fn encode(&mut self, message: Said, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Octets {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use hyper::body::Buf as _;
        let mut message = vec![0; bytes.remaining()];
        bytes.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}
