//! Connections, streams and the names of the services; what is said on them is decided in `state`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codegen::{Bytes, http};
use tonic::server::{Grpc, StreamingService};
use tonic::{Status, Streaming};

use super::codec::Raw;
use super::record::Opened;
use super::resource::Type;
use super::script::Transport;
use super::session::{Out, Session};
use super::{Shared, side};

/// Largest request that is read; Envoy's first one with all its extensions is some 60 kB.
const REQUEST_MAX: usize = 64 << 20;

/// A bound socket of either family.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Listener {
    async fn accept(&self) -> std::io::Result<Box<dyn Io>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// Accepts until the task is ended.
pub(super) async fn accept(listener: Listener, shared: Arc<Shared>) {
    loop {
        let Ok(io) = listener.accept().await else { return };
        let (number, transport) = shared.with(|s| (s.connected(), s.script.transport.clone()));
        if transport == Transport::Flap {
            continue;
        }
        let for_task = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            connection(io, number, transport, &for_task).await;
            for_task.with(|state| state.disconnected(number));
        });
        shared.with(|state| state.connections.insert(number, task.abort_handle()));
        if task.is_finished() {
            shared.with(|state| state.disconnected(number));
        }
    }
}

async fn connection(io: Box<dyn Io>, number: u64, transport: Transport, shared: &Arc<Shared>) {
    if transport == Transport::Mute {
        let _held = io;
        return std::future::pending().await;
    }
    let io: Box<dyn Io> = match transport {
        Transport::Trickle(octets, pause) => Box::new(Trickle { io, octets, pause, sleep: None }),
        _ => io,
    };
    let Some(acceptor) = &shared.tls else { return http2(io, number, None, shared).await };
    if let Ok(stream) = acceptor.accept(io).await {
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(<[_]>::first).map(|c| c.as_ref().to_vec());
        http2(Box::new(stream), number, certificate, shared).await;
    }
}

async fn http2(io: Box<dyn Io>, connection: u64, certificate: Option<Vec<u8>>, shared: &Arc<Shared>) {
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let (shared, certificate) = (Arc::clone(shared), certificate.clone());
        async move { Ok::<_, Infallible>(dispatch(request, connection, certificate, shared).await) }
    });
    // How a connection ends is the client's business; the record shows it.
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await;
}

/// Method path behind `/envoy.service.`, kind (none for the aggregated one), incremental or not.
const METHODS: &[(&str, Option<Type>, bool)] = &[
    ("discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources", None, false),
    ("discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", None, true),
    ("cluster.v3.ClusterDiscoveryService/StreamClusters", Some(Type::Cluster), false),
    ("cluster.v3.ClusterDiscoveryService/DeltaClusters", Some(Type::Cluster), true),
    ("endpoint.v3.EndpointDiscoveryService/StreamEndpoints", Some(Type::Endpoint), false),
    ("endpoint.v3.EndpointDiscoveryService/DeltaEndpoints", Some(Type::Endpoint), true),
    ("listener.v3.ListenerDiscoveryService/StreamListeners", Some(Type::Listener), false),
    ("listener.v3.ListenerDiscoveryService/DeltaListeners", Some(Type::Listener), true),
    ("route.v3.RouteDiscoveryService/StreamRoutes", Some(Type::Route), false),
    ("route.v3.RouteDiscoveryService/DeltaRoutes", Some(Type::Route), true),
    ("route.v3.ScopedRoutesDiscoveryService/StreamScopedRoutes", Some(Type::ScopedRoute), false),
    ("route.v3.ScopedRoutesDiscoveryService/DeltaScopedRoutes", Some(Type::ScopedRoute), true),
    ("route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts", Some(Type::VirtualHost), true),
    ("secret.v3.SecretDiscoveryService/StreamSecrets", Some(Type::Secret), false),
    ("secret.v3.SecretDiscoveryService/DeltaSecrets", Some(Type::Secret), true),
    ("runtime.v3.RuntimeDiscoveryService/StreamRuntime", Some(Type::Runtime), false),
    ("runtime.v3.RuntimeDiscoveryService/DeltaRuntime", Some(Type::Runtime), true),
    ("extension.v3.ExtensionConfigDiscoveryService/StreamExtensionConfigs", Some(Type::Extension), false),
    ("extension.v3.ExtensionConfigDiscoveryService/DeltaExtensionConfigs", Some(Type::Extension), true),
];

async fn dispatch(
    request: http::Request<Incoming>,
    connection: u64,
    client_certificate: Option<Vec<u8>>,
    shared: Arc<Shared>,
) -> http::Response<tonic::body::Body> {
    let path = request.uri().path().strip_prefix("/envoy.service.").unwrap_or_default();
    let known = METHODS.iter().copied().find(|(known, ..)| *known == path);
    let beside = side::kind(path);
    let Some((path, only, delta)) = known.or(beside.map(|kind| (kind.path, None, false))) else {
        return Status::unimplemented("no such method").into_http();
    };
    if let Transport::Refuse(code, message) = shared.with(|s| s.script.transport.clone()) {
        return Status::new(code, message).into_http();
    }
    let metadata = request
        .headers()
        .iter()
        .map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
        .collect();
    let method = path.rsplit('/').next().unwrap_or_default().to_owned();
    let opened = Opened { stream: 0, connection, method, metadata, client_certificate };
    let open = Open { shared, opened, only, delta, beside };
    let mut grpc = Grpc::new(Raw)
        .max_decoding_message_size(REQUEST_MAX)
        .max_encoding_message_size(usize::try_from(u32::MAX).unwrap_or(usize::MAX));
    grpc.streaming(open, request).await
}

struct Open {
    shared: Arc<Shared>,
    opened: Opened,
    only: Option<Type>,
    delta: bool,
    beside: Option<&'static side::Kind>,
}

impl StreamingService<Bytes> for Open {
    type Response = Bytes;
    type ResponseStream = UnboundedReceiverStream<Out>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let (out, receiver) = mpsc::unbounded_channel();
        if let Some(kind) = self.beside {
            side::serve(kind, Arc::clone(&self.shared), self.opened.clone(), out, request.into_inner());
            return ready(Ok(tonic::Response::new(UnboundedReceiverStream::new(receiver))));
        }
        let session = Session {
            connection: self.opened.connection,
            delta: self.delta,
            only: self.only,
            out,
            kinds: std::collections::BTreeMap::new(),
            nonces: 0,
        };
        let opened = self.opened.clone();
        let number = self.shared.with(|state| state.opened(opened, session));
        let shared = Arc::clone(&self.shared);
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(bytes)) = incoming.message().await {
                shared.with(|state| state.receive(number, &bytes));
            }
            shared.with(|state| state.closed(number));
        });
        ready(Ok(tonic::Response::new(UnboundedReceiverStream::new(receiver))))
    }
}

/// Lets a few octets out at a time.
struct Trickle {
    io: Box<dyn Io>,
    octets: usize,
    pause: Duration,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if let Some(sleep) = &mut self.sleep {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        let len = self.octets.max(1).min(buf.len());
        let written = Pin::new(&mut self.io).poll_write(cx, &buf[..len]);
        if written.is_ready() {
            self.sleep = Some(Box::pin(tokio::time::sleep(self.pause)));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
