//! One HTTP/2 connection to a gRPC service, shared by all streams to it and closed with the last of them.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::header::{HeaderValue, USER_AGENT};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use millrace_ads::source::GrpcService;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use tonic::body::Body;

use crate::dns::SystemResolver;
use crate::xds::connect::{ConnectError, connect, endpoint_name};

/// PING interval and timeout where the configuration has none. gRPC servers may close a connection that asks more often
/// than every 5 minutes unless they are told otherwise, so a frozen peer is noticed after five and a half; a vanished
/// host is noticed by TCP after one. `connection_keepalive` is used as it stands.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(310), Duration::from_secs(20));

/// Bytes that a server may send before we have read them: of one stream, of all of them.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// How long a connection that nobody needs may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

const AGENT: &str = concat!("millrace/", env!("CARGO_PKG_VERSION"));

/// One entry of `grpc_services`.
pub(crate) struct Service {
    pub(super) config: GrpcService,
    resolver: Arc<SystemResolver>,
    open: Mutex<Weak<Connection>>,
}

impl Service {
    pub(crate) fn new(config: GrpcService, resolver: Arc<SystemResolver>) -> Self {
        Self { config, resolver, open: Mutex::new(Weak::new()) }
    }

    /// Whom messages name.
    pub(crate) fn name(&self) -> &str {
        &self.config.target.name
    }

    /// The open connection, or a new one. Certificates are read anew for it.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, ConnectError> {
        let mut open = self.open.lock().await;
        if let Some(connection) = open.upgrade().filter(|connection| !connection.sender.is_closed()) {
            return Ok(connection);
        }
        let fresh = Arc::new(self.dial().await?);
        *open = Arc::downgrade(&fresh);
        Ok(fresh)
    }

    async fn dial(&self) -> Result<Connection, ConnectError> {
        let target = &self.config.target;
        let stream = connect(target, &self.resolver, b"h2").await?;
        let (interval, limit) = target.keepalive.unwrap_or(KEEPALIVE);
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(interval)
            .keep_alive_timeout(limit)
            .keep_alive_while_idle(true);
        let http = |reason: String| ConnectError::Http { peer: target.name.clone(), reason };
        let shake = timeout(target.connect_timeout, builder.handshake(TokioIo::new(stream))).await;
        let shake =
            shake.map_err(|_| http(format!("no HTTP/2 preface within {:?}", target.connect_timeout)))?;
        let (sender, driver) = shake.map_err(|error| http(error.to_string()))?;
        let (keep, dropped) = oneshot::channel::<Infallible>();
        tokio::spawn(async move {
            tokio::pin!(driver);
            // How it ended is told to every stream on it.
            let ended = tokio::select! {
                ended = &mut driver => Some(ended),
                _ = dropped => None,
            };
            if ended.is_none() {
                let _ = timeout(GOODBYE, driver).await;
            }
        });
        Ok(Connection { sender, _keep: keep })
    }

    /// Scheme and `:authority` of every call.
    pub(super) fn origin(&self) -> Result<Uri, http::Error> {
        let target = &self.config.target;
        let scheme = if target.tls.is_some() { "https" } else { "http" };
        let authority = match (self.config.authority.as_str(), target.endpoints.first()) {
            ("", Some(endpoint @ millrace_ads::source::Endpoint::Inet(..))) => endpoint_name(endpoint),
            // The path of a socket is no authority.
            ("", _) => "localhost".to_owned(),
            (configured, _) => configured.to_owned(),
        };
        Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Service").field(&self.config.target.name).finish()
    }
}

/// The connection lives as long as somebody holds it.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    _keep: oneshot::Sender<Infallible>,
}

impl Connection {
    pub(super) fn calls(&self) -> Calls {
        Calls { sender: self.sender.clone() }
    }
}

/// What tonic sends calls to.
pub(super) struct Calls {
    sender: SendRequest<Body>,
}

impl tower_service::Service<http::Request<Body>> for Calls {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        Box::pin(self.sender.send_request(request))
    }
}
