//! HTTP/2 to a gRPC service: one connection for all streams to it, or as many as the server's
//! `MAX_CONCURRENT_STREAMS` makes necessary, each closed with the last of its streams.

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
use millrace_ads::source::{Endpoint, GrpcService};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use tonic::body::Body;

use crate::dns::SystemResolver;
use crate::xds::connect::{ByteStream, ConnectError, connect, endpoint_name};

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
    open: Mutex<Vec<Weak<Connection>>>,
}

impl Service {
    pub(crate) fn new(config: GrpcService, resolver: Arc<SystemResolver>) -> Self {
        Self { config, resolver, open: Mutex::default() }
    }

    /// Whom messages name.
    pub(crate) fn name(&self) -> &str {
        &self.config.target.name
    }

    /// An open connection with room for a stream, or a new one. Certificates are read anew for it.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, ConnectError> {
        let mut open = self.open.lock().await;
        // A connection that was told to go away takes no new stream, though its old ones live on.
        open.retain(|one| one.upgrade().is_some_and(|connection| !connection.sender.is_closed()));
        let room = |one: &Weak<Connection>| {
            // Every stream holds it once.
            let streams = one.strong_count();
            one.upgrade().filter(|connection| streams < connection.streams_max())
        };
        if let Some(connection) = open.iter().find_map(room) {
            return Ok(connection);
        }
        let fresh = Arc::new(self.dial().await?);
        open.push(Arc::downgrade(&fresh));
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
        let driver = Arc::new(Driving(std::sync::Mutex::new(Some(driver))));
        let (keep, dropped) = oneshot::channel::<Infallible>();
        let driven = Arc::clone(&driver);
        tokio::spawn(async move {
            // How it ends is told to every stream on it.
            let ended = tokio::select! {
                () = driven.run() => true,
                _ = dropped => false,
            };
            if !ended {
                let _ = timeout(GOODBYE, driven.run()).await;
            }
        });
        Ok(Connection { sender, driver, _keep: keep })
    }

    /// Scheme and `:authority` of every call. A cluster's name need not be a valid authority; the address is used then.
    pub(super) fn origin(&self) -> Result<Uri, http::Error> {
        let target = &self.config.target;
        let scheme = if target.tls.is_some() { "https" } else { "http" };
        let address = match target.endpoints.first() {
            Some(endpoint @ Endpoint::Inet(..)) => endpoint_name(endpoint),
            // The path of a socket is no authority.
            Some(Endpoint::Unix(_)) | None => "localhost".to_owned(),
        };
        let configured = self.config.authority.parse::<http::uri::Authority>();
        let authority = configured.map_or(address, |authority| authority.to_string());
        Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Service").field(&self.config.target.name).finish()
    }
}

type Driver = hyper::client::conn::http2::Connection<TokioIo<Box<dyn ByteStream>>, Body, TokioExecutor>;

/// What moves the bytes, shared with whoever asks how many streams the server allows. It is dropped when it is done,
/// for only then do calls that it has not taken fail.
struct Driving(std::sync::Mutex<Option<Driver>>);

impl Driving {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Driver>> {
        // A panic in between would have ended the only thread that locks it.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn run(&self) {
        std::future::poll_fn(|cx| {
            let mut driver = self.lock();
            let ended = driver.as_mut().is_none_or(|driver| Pin::new(driver).poll(cx).is_ready());
            if !ended {
                return Poll::Pending;
            }
            *driver = None;
            Poll::Ready(())
        })
        .await;
    }
}

/// The connection lives as long as somebody holds it.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    driver: Arc<Driving>,
    _keep: oneshot::Sender<Infallible>,
}

impl Connection {
    /// `MAX_CONCURRENT_STREAMS` of the server; 100 until it has said so, and 0 when it takes no more.
    fn streams_max(&self) -> usize {
        self.driver.lock().as_ref().map_or(0, Driver::current_max_send_streams)
    }

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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use millrace_ads::source::Upstream;

    use super::*;

    fn origin(authority: &str, endpoint: Endpoint) -> String {
        let target = Upstream {
            name: "xds".to_owned(),
            endpoints: vec![endpoint],
            connect_timeout: Duration::from_secs(5),
            keepalive: None,
            tcp_keepalive: None,
            tls: None,
        };
        let config = GrpcService {
            target,
            initial_metadata: Vec::new(),
            token_files: Vec::new(),
            authority: authority.to_owned(),
            message_bytes_max: None,
        };
        Service::new(config, Arc::default()).origin().unwrap().to_string()
    }

    #[test]
    fn the_authority_is_the_configured_one_or_the_address() {
        let v6 = || Endpoint::Inet("::1".to_owned(), 15010);
        assert_eq!(origin("xds_cluster", v6()), "http://xds_cluster/");
        assert_eq!(origin("istiod.istio-system.svc:15012", v6()), "http://istiod.istio-system.svc:15012/");
        assert_eq!(origin("", v6()), "http://[::1]:15010/");
        assert_eq!(origin("outbound|80||a b", v6()), "http://[::1]:15010/");
        assert_eq!(origin("", Endpoint::Unix(PathBuf::from("./etc/XDS"))), "http://localhost/");
    }
}
