//! The admin listener: HTTP/1.1 on a TCP or Unix socket, one answer per request from the control loop.
//!
//! Connections are tasks of the control thread's runtime; each request becomes an [`AdminCall`] in a bounded
//! queue, and the control loop, which owns the state, answers it. hyper takes the raw `^ | \ ( ) $` that
//! readiness probes put into the request target (tested below).

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use millrace_config::Address;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Bounds of the listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; further ones wait in the kernel's backlog. Default 128.
    pub connections_max: usize,
    /// Longest time for one request head, and for an idle keep-alive connection. Default 60 s.
    pub header_timeout: Duration,
    /// Largest request head, bytes. Default 64 KiB; hyper may take up to one more read of the same size.
    pub head_bytes_max: usize,
    /// Largest request body, bytes; more is answered with 413. Default 64 KiB.
    pub body_bytes_max: usize,
    /// Requests that wait for the control loop; further ones wait in their connection. Default 32.
    pub calls_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 128,
            header_timeout: Duration::from_secs(60),
            head_bytes_max: 64 * 1024,
            body_bytes_max: 64 * 1024,
            calls_max: 32,
        }
    }
}

/// One request, complete with its body.
#[derive(Clone, Debug)]
pub struct AdminRequest {
    /// `GET` ...
    pub method: String,
    /// The request target as received: path and query, nothing decoded.
    pub target: String,
    /// Lower-case names with their values, in order; values that are no text are left out.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub protocol: &'static str,
    /// Who asks: `ip:port`, or `@` for a Unix socket's unnamed peer.
    pub peer: Arc<str>,
    /// When the head was complete.
    pub received: Instant,
}

/// What to send. `server`, `date` and framing are added.
#[derive(Clone, Debug)]
pub struct AdminResponse {
    /// Status code.
    pub status: u16,
    /// Names in lower case; invalid ones are left out.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// A request that waits for its answer. Dropping it answers 503.
#[derive(Debug)]
pub struct AdminCall {
    /// What was asked.
    pub request: AdminRequest,
    reply: oneshot::Sender<AdminResponse>,
}

impl AdminCall {
    /// Answers. The client may be gone already; that is no error.
    pub fn respond(self, response: AdminResponse) {
        let _ = self.reply.send(response);
    }
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A bound admin listener.
pub struct AdminServer {
    socket: Socket,
    address: Address,
}

/// The queue of requests. Dropping it closes the listener and its connections.
pub struct AdminCalls {
    calls: mpsc::Receiver<AdminCall>,
    accept: tokio::task::JoinHandle<()>,
    closing: watch::Sender<bool>,
}

impl AdminCalls {
    /// The next request. Cancel safe.
    pub async fn next(&mut self) -> Option<AdminCall> {
        self.calls.recv().await
    }

    /// Accepts no more, refuses what still waits with 503, and lets answers that were given leave; waits
    /// for `patience` at the most.
    pub async fn finish(mut self, patience: Duration) {
        self.calls.close();
        while self.calls.try_recv().is_ok() {}
        self.closing.send_replace(true);
        // Whoever does not read its answer by then is cut off.
        let _ = tokio::time::timeout(patience, &mut self.accept).await;
    }
}

impl Drop for AdminCalls {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

impl AdminServer {
    /// Binds. A stale socket file at the path of a Unix socket is removed first; `mode` bits are set when
    /// they are not 0. Must run inside the runtime.
    pub fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Inet(wanted) => {
                let listener = std::net::TcpListener::bind(wanted)?;
                listener.set_nonblocking(true)?;
                let bound = Address::Inet(listener.local_addr()?);
                Ok(Self { socket: Socket::Tcp(TcpListener::from_std(listener)?), address: bound })
            }
            Address::Pipe { path, mode } => {
                let listener = bind_unix(path, *mode)?;
                listener.set_nonblocking(true)?;
                let socket = Socket::Unix(UnixListener::from_std(listener)?);
                Ok(Self { socket, address: address.clone() })
            }
        }
    }

    /// The bound address, with the real port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Writes the bound address to the file of `--admin-address-path`, without a newline as Envoy does.
    pub fn write_address_file(&self, path: &str) -> io::Result<()> {
        std::fs::write(path, self.address.to_string())
    }

    /// Starts to accept.
    pub fn start(self, limits: Limits) -> AdminCalls {
        let (sender, calls) = mpsc::channel(limits.calls_max.max(1));
        let (closing, watched) = watch::channel(false);
        let accept = tokio::spawn(accept(self.socket, sender, limits, watched));
        AdminCalls { calls, accept, closing }
    }
}

fn bind_unix(path: &str, mode: u32) -> io::Result<std::os::unix::net::UnixListener> {
    if let Some(name) = path.strip_prefix('@') {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())?;
        return std::os::unix::net::UnixListener::bind_addr(&address);
    }
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    if mode != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(listener)
}

async fn accept(
    socket: Socket,
    calls: mpsc::Sender<AdminCall>,
    limits: Limits,
    mut closing: watch::Receiver<bool>,
) {
    let mut connections = tokio::task::JoinSet::new();
    let watched = closing.clone();
    tokio::select! {
        () = accept_into(&mut connections, &socket, &calls, limits, watched) => {}
        _ = closing.changed() => {}
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

async fn accept_into(
    connections: &mut tokio::task::JoinSet<()>,
    socket: &Socket,
    calls: &mpsc::Sender<AdminCall>,
    limits: Limits,
    closing: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let closing = closing.clone();
        let accepted = match socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                // Delayed small writes would slow down scrapes; without it the answer is still right.
                let _ = stream.set_nodelay(true);
                let peer: Arc<str> = peer.to_string().into();
                connections.spawn(serve(stream, peer, calls.clone(), limits, permit, closing));
            }),
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                connections.spawn(serve(stream, "@".into(), calls.clone(), limits, permit, closing));
            }),
        };
        if accepted.is_err() {
            // Out of descriptors: wait for one instead of spinning.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Arc<str>,
    calls: mpsc::Sender<AdminCall>,
    limits: Limits,
    _permit: tokio::sync::OwnedSemaphorePermit,
    mut closing: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| answer(request, Arc::clone(&peer), calls.clone(), limits));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.head_bytes_max.max(8192))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Errors are the client's; it gets hyper's 400 where a request was readable at all.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: Arc<str>,
    calls: mpsc::Sender<AdminCall>,
    limits: Limits,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let received = Instant::now();
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, limits.body_bytes_max).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE));
    };
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let headers = head.headers.iter();
    let request = AdminRequest {
        method: head.method.as_str().to_owned(),
        target,
        headers: headers
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect(),
        body: body.to_bytes().to_vec(),
        protocol: if head.version == hyper::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
        peer,
        received,
    };
    let (reply, answered) = oneshot::channel();
    if calls.send(AdminCall { request, reply }).await.is_err() {
        return Ok(plain(StatusCode::SERVICE_UNAVAILABLE));
    }
    match answered.await {
        Ok(response) => Ok(encode(response)),
        Err(_) => Ok(plain(StatusCode::SERVICE_UNAVAILABLE)),
    }
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn encode(answer: AdminResponse) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    headers.insert("server", HeaderValue::from_static("envoy"));
    response
}

#[cfg(test)]
mod tests;
