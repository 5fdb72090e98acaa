//! Discovery services whose streams are handed to the test.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use millrace_proto::Message as _;
use millrace_proto::pb::envoy::config::cluster::v3::Cluster;
use millrace_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server as ads;
use millrace_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use millrace_proto::pb::envoy::service::secret::v3::secret_discovery_service_server as sds;
use millrace_proto::pb::google::protobuf::Any;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::super::connect::ByteStream;
use super::within;

pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// One stream, from the server's side.
pub struct Exchange<Q, R> {
    pub metadata: MetadataMap,
    requests: Streaming<Q>,
    responses: mpsc::Sender<Result<R, Status>>,
}

impl<Q, R> Exchange<Q, R> {
    /// The next request; `None` when the client has closed its side.
    pub async fn request(&mut self) -> Option<Q> {
        within(self.requests.message()).await.unwrap_or(None)
    }

    /// Sends a response.
    pub async fn respond(&self, response: R) {
        assert!(self.responses.send(Ok(response)).await.is_ok(), "the client is gone");
    }

    /// Ends the stream.
    pub async fn fail(self, status: Status) {
        assert!(self.responses.send(Err(status)).await.is_ok(), "the client is gone");
    }

    /// Waits until the client has given the stream up.
    pub async fn given_up(&self) {
        within(self.responses.closed()).await;
    }
}

pub type Sotw = Exchange<DiscoveryRequest, DiscoveryResponse>;
pub type Delta = Exchange<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

/// The services: each new stream comes out of one of these.
pub struct Played {
    pub sotw: mpsc::Receiver<Sotw>,
    pub delta: mpsc::Receiver<Delta>,
    pub secrets: mpsc::Receiver<Sotw>,
}

impl Played {
    pub async fn sotw(&mut self) -> Sotw {
        within(self.sotw.recv()).await.expect("the server runs")
    }

    pub async fn delta(&mut self) -> Delta {
        within(self.delta.recv()).await.expect("the server runs")
    }

    pub async fn secrets(&mut self) -> Sotw {
        within(self.secrets.recv()).await.expect("the server runs")
    }
}

#[derive(Clone)]
struct Services {
    sotw: mpsc::Sender<Sotw>,
    delta: mpsc::Sender<Delta>,
    secrets: mpsc::Sender<Sotw>,
}

type Answers<R> = ReceiverStream<Result<R, Status>>;

async fn hand_over<Q, R>(
    to: &mpsc::Sender<Exchange<Q, R>>,
    request: Request<Streaming<Q>>,
) -> Result<Response<Answers<R>>, Status> {
    let (responses, answers) = mpsc::channel(1);
    let (metadata, _, requests) = request.into_parts();
    let exchange = Exchange { metadata, requests, responses };
    to.send(exchange).await.map_err(|_| Status::unavailable("the test is over"))?;
    Ok(Response::new(ReceiverStream::new(answers)))
}

#[tonic::async_trait]
impl ads::AggregatedDiscoveryService for Services {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Answers<DiscoveryResponse>>, Status> {
        hand_over(&self.sotw, request).await
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Answers<DeltaDiscoveryResponse>>, Status> {
        hand_over(&self.delta, request).await
    }
}

#[tonic::async_trait]
impl sds::SecretDiscoveryService for Services {
    type StreamSecretsStream = Answers<DiscoveryResponse>;
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Answers<DiscoveryResponse>>, Status> {
        hand_over(&self.secrets, request).await
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Answers<DeltaDiscoveryResponse>>, Status> {
        Err(Status::unimplemented("as Istio's agent"))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("as Istio's agent"))
    }
}

/// A connection of any kind.
pub struct Io(Box<dyn ByteStream>);

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Serves whatever connections come out of the channel.
pub fn serve(connections: mpsc::Receiver<Io>) -> Played {
    serve_with(connections, Server::builder())
}

fn serve_with(connections: mpsc::Receiver<Io>, mut server: Server) -> Played {
    let (sotw_in, sotw) = mpsc::channel(8);
    let (delta_in, delta) = mpsc::channel(8);
    let (secrets_in, secrets) = mpsc::channel(8);
    let services = Services { sotw: sotw_in, delta: delta_in, secrets: secrets_in };
    let server = server
        .add_service(ads::AggregatedDiscoveryServiceServer::new(services.clone()))
        .add_service(sds::SecretDiscoveryServiceServer::new(services));
    let incoming = ReceiverStream::new(connections).map(Ok::<_, io::Error>);
    tokio::spawn(async move { server.serve_with_incoming(incoming).await });
    Played { sotw, delta, secrets }
}

/// Over TCP in the clear.
pub async fn over_tcp() -> (SocketAddr, Played) {
    over_tcp_with(Server::builder()).await
}

/// Over TCP, with settings of HTTP/2.
pub async fn over_tcp_with(server: Server) -> (SocketAddr, Played) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (give, connections) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if give.send(Io(Box::new(stream))).await.is_err() {
                return;
            }
        }
    });
    (address, serve_with(connections, server))
}

/// Over a socket in the file system or an abstract one.
pub fn over_unix(listener: UnixListener) -> Played {
    let (give, connections) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if give.send(Io(Box::new(stream))).await.is_err() {
                return;
            }
        }
    });
    serve(connections)
}

/// Over TLS; `acceptor` is asked for each connection. Handshakes that fail come out of the second channel.
pub async fn over_tls(
    acceptor: impl Fn() -> Arc<tokio_rustls::rustls::ServerConfig> + Send + 'static,
) -> (SocketAddr, Played, mpsc::Receiver<io::Error>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (give, connections) = mpsc::channel(8);
    let (tell, failures) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match TlsAcceptor::from(acceptor()).accept(stream).await {
                Ok(stream) => assert!(give.send(Io(Box::new(stream))).await.is_ok(), "the server runs"),
                // Nobody has to look.
                Err(error) => drop(tell.try_send(error)),
            }
        }
    });
    (address, serve(connections), failures)
}

fn cluster(name: &str) -> Any {
    let cluster = Cluster { name: name.to_owned(), ..Cluster::default() };
    Any { type_url: CLUSTER.to_owned(), value: cluster.encode_to_vec() }
}

/// A state of the world of clusters.
pub fn clusters(version: &str, names: &[&str]) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.to_owned(),
        type_url: CLUSTER.to_owned(),
        nonce: format!("nonce-{version}"),
        resources: names.iter().map(|name| cluster(name)).collect(),
        ..DiscoveryResponse::default()
    }
}

/// New clusters.
pub fn delta_clusters(version: &str, names: &[&str]) -> DeltaDiscoveryResponse {
    let resource = |name: &&str| Resource {
        name: (*name).to_owned(),
        version: version.to_owned(),
        resource: Some(cluster(name)),
        ..Resource::default()
    };
    DeltaDiscoveryResponse {
        system_version_info: version.to_owned(),
        type_url: CLUSTER.to_owned(),
        nonce: format!("nonce-{version}"),
        resources: names.iter().map(resource).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}
