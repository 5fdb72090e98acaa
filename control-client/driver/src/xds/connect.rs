//! A byte stream to a control plane: names resolved, addresses tried in order, TCP options set, TLS on top.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_ads::source::{Endpoint, Upstream};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::{self, TlsError};
use crate::dns::{Family, Lookup as _, SystemResolver};

/// Addresses that one attempt tries, over all endpoints.
const ATTEMPTS_MAX: usize = 16;

/// TCP keepalive when `tcp_keepalive` is not set: probes, and seconds before the first and between them. A host that
/// vanished is noticed after a minute, and no control plane can object, because kernels answer.
const TCP_KEEPALIVE: (u32, u32, u32) = (3, 30, 10);

/// Sent bytes that stay unacknowledged for so long end the connection, instead of the kernel's 15 minutes.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connected stream of bytes, encrypted or not.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Why there is no connection. Every one may be over at the next attempt.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The source names no endpoint.
    NoEndpoint,
    /// A host name has no address, or nobody answers for it.
    Resolve { host: String, reason: String },
    /// The system's reason.
    Io { peer: String, reason: std::io::Error },
    /// Nothing within `connect_timeout`.
    Timeout { peer: String, after: Duration },
    /// Certificates that cannot be loaded.
    TlsSetup(TlsError),
    /// The handshake failed: what the peer showed was not accepted, or ours was not.
    TlsHandshake { peer: String, reason: std::io::Error },
    /// The peer does not speak HTTP as expected.
    Http { peer: String, reason: String },
    /// One of these for each address.
    All(Vec<Self>),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("no endpoint is configured"),
            Self::Resolve { host, reason } => write!(f, "{host} cannot be resolved: {reason}"),
            Self::Io { peer, reason } => write!(f, "{peer}: {reason}"),
            Self::Timeout { peer, after } => write!(f, "{peer}: no connection within {after:?}"),
            Self::TlsSetup(reason) => write!(f, "TLS cannot be set up: {reason}"),
            Self::TlsHandshake { peer, reason } => write!(f, "{peer}: TLS handshake failed: {reason}"),
            Self::Http { peer, reason } => write!(f, "{peer}: {reason}"),
            Self::All(reasons) => {
                for (index, reason) in reasons.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{reason}")?;
                }
                Ok(())
            }
        }
    }
}

/// What an address is called in messages.
pub(super) fn endpoint_name(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Inet(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        Endpoint::Inet(host, port) => format!("{host}:{port}"),
        Endpoint::Unix(path) => path.display().to_string(),
    }
}

enum Address {
    Inet(SocketAddr),
    Unix(PathBuf),
}

/// Connects to the first address that answers. `alpn` is offered under TLS; `connect_timeout` holds for each address
/// and includes the TLS handshake.
pub(super) async fn connect(
    upstream: &Upstream,
    resolver: &SystemResolver,
    alpn: &[u8],
) -> Result<Box<dyn ByteStream>, ConnectError> {
    let connector = match &upstream.tls {
        Some(tls) => Some(tls::connector(tls, alpn).await.map_err(ConnectError::TlsSetup)?),
        None => None,
    };
    let mut reasons = Vec::new();
    for endpoint in &upstream.endpoints {
        let addresses = match addresses(endpoint, resolver, upstream.connect_timeout).await {
            Ok(addresses) => addresses,
            Err(reason) => {
                reasons.push(reason);
                continue;
            }
        };
        for address in addresses {
            if reasons.len() >= ATTEMPTS_MAX {
                break;
            }
            let peer = endpoint_name(endpoint);
            let attempt = open(upstream, endpoint, &address, connector.as_ref());
            match timeout(upstream.connect_timeout, attempt).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(reason)) => reasons.push(reason),
                Err(_) => reasons.push(ConnectError::Timeout { peer, after: upstream.connect_timeout }),
            }
        }
    }
    match reasons.len() {
        0 | 1 => Err(reasons.pop().unwrap_or(ConnectError::NoEndpoint)),
        _ => Err(ConnectError::All(reasons)),
    }
}

async fn addresses(
    endpoint: &Endpoint,
    resolver: &SystemResolver,
    limit: Duration,
) -> Result<Vec<Address>, ConnectError> {
    let (host, port) = match endpoint {
        Endpoint::Unix(path) => return Ok(vec![Address::Unix(socket_path(path))]),
        Endpoint::Inet(host, port) => (host, *port),
    };
    if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![Address::Inet(SocketAddr::new(ip, port))]);
    }
    let both = async { tokio::join!(resolver.lookup(host, Family::V4), resolver.lookup(host, Family::V6)) };
    let failed = |reason: String| ConnectError::Resolve { host: host.clone(), reason };
    let (v4, v6) = timeout(limit, both).await.map_err(|_| failed(format!("no answer within {limit:?}")))?;
    let error = v4.as_ref().err().or(v6.as_ref().err()).map(|error| error.reason.clone());
    let found = [v4, v6].into_iter().flatten().flat_map(|answer| answer.addresses);
    let found: Vec<_> = found.map(|ip| Address::Inet(SocketAddr::new(ip, port))).collect();
    if found.is_empty() {
        return Err(failed(error.unwrap_or_else(|| "it has no address".to_owned())));
    }
    Ok(found)
}

/// The system's name of a socket: abstract ones start with a zero byte where configuration has `@`.
fn socket_path(path: &Path) -> PathBuf {
    match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => {
            let mut bytes = vec![0];
            bytes.extend_from_slice(name);
            std::ffi::OsString::from_vec(bytes).into()
        }
        _ => path.to_owned(),
    }
}

async fn open(
    upstream: &Upstream,
    endpoint: &Endpoint,
    address: &Address,
    connector: Option<&(TlsConnector, tls::PeerName)>,
) -> Result<Box<dyn ByteStream>, ConnectError> {
    let peer = || endpoint_name(endpoint);
    let failed = |reason| ConnectError::Io { peer: peer(), reason };
    match address {
        Address::Inet(address) => {
            let stream = TcpStream::connect(address).await.map_err(failed)?;
            prepare(&stream, upstream.tcp_keepalive).map_err(failed)?;
            secure(stream, endpoint, connector).await
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(failed)?;
            secure(stream, endpoint, connector).await
        }
    }
}

fn prepare(
    stream: &TcpStream,
    configured: Option<(Option<u32>, Option<u32>, Option<u32>)>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (probes, time, interval) = TCP_KEEPALIVE;
    let (own_probes, own_time, own_interval) = configured.unwrap_or_default();
    let seconds = |own: Option<u32>, default| Duration::from_secs(own.unwrap_or(default).into());
    let keepalive = TcpKeepalive::new()
        .with_retries(own_probes.unwrap_or(probes))
        .with_time(seconds(own_time, time))
        .with_interval(seconds(own_interval, interval));
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))
}

async fn secure(
    stream: impl ByteStream + 'static,
    endpoint: &Endpoint,
    connector: Option<&(TlsConnector, tls::PeerName)>,
) -> Result<Box<dyn ByteStream>, ConnectError> {
    let Some((connector, name)) = connector else {
        return Ok(Box::new(stream));
    };
    let host = match endpoint {
        Endpoint::Inet(host, _) => host.as_str(),
        Endpoint::Unix(_) => "localhost",
    };
    let name = name.resolve(host).map_err(ConnectError::TlsSetup)?;
    let secured = connector.connect(name, stream).await;
    let secured =
        secured.map_err(|reason| ConnectError::TlsHandshake { peer: endpoint_name(endpoint), reason })?;
    Ok(Box::new(secured))
}
