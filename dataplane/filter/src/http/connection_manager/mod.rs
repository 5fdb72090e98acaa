//! What the HTTP connection manager does to heads before and after the filters.
//!
//! [`request::mutate`] runs once per request, before a route is chosen; [`response::mutate`] runs on every
//! response, local replies included. Framing headers (`connection`, `transfer-encoding`, ...) are the
//! codec's business, chunking included.

pub mod address;
pub mod date;
pub mod host;
pub mod reject;
pub mod request;
pub mod request_id;
pub mod response;
pub mod xfcc;

use std::net::{IpAddr, SocketAddr};

use millrace_base::TlsFacts;
use millrace_config::Node;

/// What is known of a downstream connection.
#[derive(Clone, Copy, Debug)]
pub struct Downstream<'a> {
    /// The peer (after PROXY protocol or the like); `None` for a Unix domain socket.
    pub peer: Option<SocketAddr>,
    /// Our own end; `None` for a Unix domain socket.
    pub local: Option<SocketAddr>,
    /// What the handshake told; `None` for clear text.
    pub tls: Option<&'a TlsFacts>,
    /// The address of this host that stands in for a loopback peer in `x-forwarded-for`.
    pub host_address: Option<IpAddr>,
    /// Who we are (`add_user_agent`).
    pub node: &'a Node,
}

/// Outcome of [`request::mutate`] for a request that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The trusted client: `%DOWNSTREAM_REMOTE_ADDRESS%`. The port is 0 when it came from
    /// `x-forwarded-for`; `None` for a Unix domain socket without a usable header.
    pub remote: Option<SocketAddr>,
    /// The request counts as internal (`x-envoy-internal: true`).
    pub internal: bool,
}
