//! The service by tonic on hyper.

use std::convert::Infallible;
use std::future::{pending, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use millrace_support::xds::codec::Raw;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codegen::http;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, StreamingService};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{SERVICE, split};

type Out = Result<Bytes, Status>;

/// The server on a thread of its own; ends when dropped.
pub struct Server {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// Listens on a port that the kernel picks.
    ///
    /// # Panics
    /// When it cannot.
    pub fn start() -> Self {
        let (stop, stopped) = oneshot::channel();
        let (told, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind an ephemeral port");
                // The test is gone when nobody listens to this.
                let _ = told.send(listener.local_addr().expect("address of a bound socket"));
                let cancelled = Arc::new(AtomicUsize::new(0));
                tokio::select! {
                    () = accept(listener, cancelled) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address: address.recv().expect("the server's address"), _stop: stop }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, cancelled: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let cancelled = Arc::clone(&cancelled);
        // Without it a call would only take longer.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let cancelled = Arc::clone(&cancelled);
                async move { Ok::<_, Infallible>(dispatch(request, cancelled).await) }
            });
            // How a connection ends is the client's business.
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn dispatch(
    request: http::Request<Incoming>,
    cancelled: Arc<AtomicUsize>,
) -> http::Response<tonic::body::Body> {
    let method = request.uri().path().strip_prefix(SERVICE).unwrap_or_default().to_owned();
    let known = ["Echo", "Count", "Send", "Fail", "FailLate", "Sleep", "Cancelled"];
    if !known.contains(&method.as_str()) {
        return Status::unimplemented("no such method").into_http();
    }
    let mut grpc = Grpc::new(Raw).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20);
    grpc.streaming(Call { method, cancelled }, request).await
}

struct Call {
    method: String,
    cancelled: Arc<AtomicUsize>,
}

impl StreamingService<Bytes> for Call {
    type Response = Bytes;
    type ResponseStream = UnboundedReceiverStream<Out>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        if self.method == "Sleep" {
            let count = CountOnDrop(Arc::clone(&self.cancelled));
            return Box::pin(async move {
                let _held = (request, count);
                pending().await
            });
        }
        let (out, receiver) = unbounded_channel();
        let echoed = echoed(request.metadata());
        let mut response = Response::new(UnboundedReceiverStream::new(receiver));
        *response.metadata_mut() = echoed.clone();
        let (method, cancelled) = (self.method.clone(), Arc::clone(&self.cancelled));
        tokio::spawn(async move {
            // A receiver that is gone was cancelled, and needs no status.
            let _ = serve(&method, request.into_inner(), &out, echoed, &cancelled).await;
        });
        Box::pin(ready(Ok(response)))
    }
}

/// Counts a call that was given up.
struct CountOnDrop(Arc<AtomicUsize>);

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn echoed(metadata: &MetadataMap) -> MetadataMap {
    let mut out = MetadataMap::new();
    for value in metadata.get_all("x-echo") {
        out.append("x-echo", value.clone());
    }
    for value in metadata.get_all_bin("x-echo-bin") {
        out.append_bin("x-echo-bin", value.clone());
    }
    out
}

async fn serve(
    method: &str,
    mut incoming: Streaming<Bytes>,
    out: &UnboundedSender<Out>,
    metadata: MetadataMap,
    cancelled: &AtomicUsize,
) -> Result<(), Status> {
    let gone = |_| Status::cancelled("the caller is gone");
    let (mut messages, mut octets) = (0, 0);
    while let Some(message) = incoming.message().await? {
        messages += 1;
        octets += message.len();
        let (number, rest) = split(&message);
        match method {
            "Echo" => out.send(Ok(message)).map_err(gone)?,
            "Send" => {
                for _ in 0..number {
                    out.send(Ok(vec![b'x'; rest.parse().unwrap_or(0)].into())).map_err(gone)?;
                }
            }
            "Fail" | "FailLate" => {
                for _ in 0..if method == "Fail" { 0 } else { 2 } {
                    out.send(Ok(Bytes::from_static(b"before"))).map_err(gone)?;
                }
                let code = Code::from_i32(i32::try_from(number).unwrap_or(2));
                let status = Status::with_metadata(code, rest, metadata.clone());
                return out.send(Err(status)).map_err(gone);
            }
            _ => {}
        }
    }
    match method {
        "Count" => out.send(Ok(format!("{messages}:{octets}").into())).map_err(gone),
        "Cancelled" => out.send(Ok(cancelled.load(Ordering::SeqCst).to_string().into())).map_err(gone),
        _ => Ok(()),
    }
}
