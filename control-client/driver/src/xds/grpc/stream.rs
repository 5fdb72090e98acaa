//! One stream of discovery: requests in, responses out, at most one decoded response waiting.

use std::sync::Arc;

use millrace_ads::source::Variant;
use millrace_proto::Message;
use millrace_proto::pb::envoy::service::discovery::v3 as pb;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic_prost::ProstCodec;

use super::Method;
use super::connection::{Calls, Connection, Service};
use super::metadata::metadata;

/// Largest message where the configuration has none. Istio and Consul send tens of MiB; at most this much is held for
/// one stream, and `grpc.max_receive_message_length` changes it.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

pub(crate) use millrace_ads::{Request, Response};

/// What a stream says.
#[derive(Debug)]
pub(crate) enum StreamEvent {
    /// The connection is up; requests may go.
    Open,
    /// A message. The next one is read when the permit is dropped.
    Response(Response, OwnedSemaphorePermit),
    /// The end, with one line that says whose and why. Nothing follows.
    Closed(String),
}

/// What is needed to run a stream.
pub(crate) struct StreamTask {
    pub service: Arc<Service>,
    pub method: Method,
    pub variant: Variant,
    pub requests: mpsc::Receiver<Request>,
    /// Told whenever a request was taken.
    pub taken: Arc<Notify>,
}

impl StreamTask {
    /// Runs until the stream ends. Dropping the future cancels the stream.
    pub(crate) async fn run(self, mut tell: impl AsyncFnMut(StreamEvent)) {
        let who = format!("{} gRPC config stream to {}", self.method.name(), self.service.name());
        let reason = match self.exchange(&mut tell).await {
            Ok(()) => format!("{who} closed: 0, OK"),
            Err(End::Status(status)) => format!("{who} closed: {}", describe(&status)),
            Err(End::NotOpened(reason)) => format!("{who} not opened: {reason}"),
        };
        tell(StreamEvent::Closed(reason)).await;
    }

    async fn exchange(self, tell: &mut impl AsyncFnMut(StreamEvent)) -> Result<(), End> {
        let Opened { mut grpc, metadata, _connection } = open(&self.service).await.map_err(End::NotOpened)?;
        tell(StreamEvent::Open).await;
        let taken = self.taken;
        let requests = ReceiverStream::new(self.requests).map(move |request| {
            taken.notify_one();
            request
        });
        // A stream speaks one variant; the other one never gets here.
        match self.variant {
            Variant::Sotw => {
                let requests = requests.filter_map(|request| match request {
                    Request::Sotw(request) => Some(request),
                    Request::Delta(_) => None,
                });
                let request = with_metadata(requests, metadata);
                converse(&mut grpc, request, self.method, tell, |m: pb::DiscoveryResponse| Response::Sotw(m))
                    .await
            }
            Variant::Delta => {
                let requests = requests.filter_map(|request| match request {
                    Request::Delta(request) => Some(request),
                    Request::Sotw(_) => None,
                });
                let request = with_metadata(requests, metadata);
                converse(&mut grpc, request, self.method, tell, |m: pb::DeltaDiscoveryResponse| {
                    Response::Delta(m)
                })
                .await
            }
        }
    }
}

/// Ready for a call.
pub(super) struct Opened {
    pub grpc: Grpc<Calls>,
    pub metadata: MetadataMap,
    /// To be held until the call is over.
    pub _connection: Arc<Connection>,
}

/// Connects if need be. The error is one line.
pub(super) async fn open(service: &Service) -> Result<Opened, String> {
    let connection = service.connection().await.map_err(|error| error.to_string())?;
    let origin = service.origin().map_err(|error| error.to_string())?;
    let metadata = metadata(&service.config).await.map_err(|error| error.to_string())?;
    let limit = service.config.message_bytes_max.unwrap_or(MESSAGE_BYTES_MAX);
    let mut grpc = Grpc::with_origin(connection.calls(), origin).max_decoding_message_size(limit);
    grpc.ready().await.map_err(|error| error.to_string())?;
    Ok(Opened { grpc, metadata, _connection: connection })
}

pub(super) fn with_metadata<S>(requests: S, metadata: MetadataMap) -> tonic::Request<S> {
    let mut request = tonic::Request::new(requests);
    *request.metadata_mut() = metadata;
    request
}

async fn converse<Q, R>(
    grpc: &mut Grpc<Calls>,
    request: tonic::Request<impl Stream<Item = Q> + Send + 'static>,
    method: Method,
    tell: &mut impl AsyncFnMut(StreamEvent),
    wrap: impl Fn(R) -> Response,
) -> Result<(), End>
where
    Q: Message + Send + Sync + 'static,
    R: Message + Default + Send + Sync + 'static,
{
    let path = http::uri::PathAndQuery::from_static(method.path);
    let response = grpc.streaming(request, path, ProstCodec::<Q, R>::default()).await;
    let mut messages = response.map_err(End::Status)?.into_inner();
    let slot = Arc::new(Semaphore::new(1));
    loop {
        let Ok(permit) = Arc::clone(&slot).acquire_owned().await else { return Ok(()) };
        match messages.message().await.map_err(End::Status)? {
            Some(message) => tell(StreamEvent::Response(wrap(message), permit)).await,
            None => return Ok(()),
        }
    }
}

enum End {
    NotOpened(String),
    Status(Status),
}

/// Code, message and the causes that the message does not repeat.
pub(super) fn describe(status: &Status) -> String {
    let code = status.code();
    let mut text = format!("{}, {}", code as i32, status.message());
    if status.message().is_empty() {
        text.push_str(code.description());
    }
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
