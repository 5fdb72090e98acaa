//! What is said on one connection to an endpoint under check, whatever the protocol.

use millrace_base::Time;
use millrace_config::{Cluster, HealthCheck, HealthCheckKind};
use millrace_http::RequestHead;

use super::grpc::Grpc;
use super::http1::Http1;
use super::http2::Http2;
use super::tcp::Tcp;
use super::{Failure, FailureKind};

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint passes.
    Passed {
        /// It says that it is degraded.
        degraded: bool,
        /// The HTTP status, or 0.
        status: u16,
    },
    /// It does not.
    Failed(Failure),
}

/// What came of received bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The check is over.
    pub verdict: Option<Verdict>,
    /// The connection serves no further check.
    pub close: bool,
    /// The cluster's name was compared.
    pub verified: bool,
}

impl Reply {
    /// The connection is of no use any more; a check that is under way fails.
    pub(super) fn broken(in_flight: bool) -> Self {
        let failed = Verdict::Failed(Failure::of(FailureKind::Network));
        Self { verdict: in_flight.then_some(failed), close: true, verified: false }
    }
}

/// One connection's conversation: one check after the other.
#[derive(Debug)]
pub enum Conversation {
    /// HTTP/1.1.
    Http1(Box<Http1>),
    /// HTTP/2.
    Http2(Box<Http2>),
    /// gRPC.
    Grpc(Box<Grpc>),
    /// Payloads, or none.
    Tcp(Tcp),
}

impl Conversation {
    /// For a connection that is about to be opened.
    pub fn new(check: &HealthCheck, cluster: &Cluster, now: Time) -> Self {
        match &check.kind {
            HealthCheckKind::Http(http) if http.http2 => Self::Http2(Box::new(Http2::new(cluster, now))),
            HealthCheckKind::Http(_) => Self::Http1(Box::new(Http1::new(cluster))),
            HealthCheckKind::Grpc(_) => Self::Grpc(Box::new(Grpc::new(cluster, now))),
            HealthCheckKind::Tcp(_) => Self::Tcp(Tcp::default()),
        }
    }

    /// Begins a check on a connection that is open. What is to be sent is appended to `out`; `request` is the head of
    /// HTTP and gRPC.
    pub fn begin(&mut self, check: &HealthCheck, request: &RequestHead, out: &mut Vec<u8>) -> Reply {
        match (self, &check.kind) {
            (Self::Http1(one), HealthCheckKind::Http(http)) => one.begin(http, request, out),
            (Self::Http2(two), HealthCheckKind::Http(http)) => two.begin(http, request, out),
            (Self::Grpc(grpc), HealthCheckKind::Grpc(config)) => grpc.begin(config, request, out),
            (Self::Tcp(tcp), HealthCheckKind::Tcp(config)) => tcp.begin(config, out),
            // The checks have another configuration than the connection was opened for.
            _ => Reply::broken(true),
        }
    }

    /// Takes what the endpoint sent; answers that the protocol asks for are appended to `out`.
    pub fn receive(&mut self, check: &HealthCheck, bytes: &[u8], now: Time, out: &mut Vec<u8>) -> Reply {
        let mut reply = match (self, &check.kind) {
            (Self::Http1(one), HealthCheckKind::Http(http)) => one.receive(http, bytes),
            (Self::Http2(two), HealthCheckKind::Http(http)) => two.receive(http, bytes, now, out),
            (Self::Grpc(grpc), HealthCheckKind::Grpc(_)) => grpc.receive(bytes, now, out),
            (Self::Tcp(tcp), HealthCheckKind::Tcp(config)) => tcp.receive(config, bytes),
            _ => Reply::broken(true),
        };
        reply.close |= reply.verdict.is_some() && !check.reuse_connection;
        reply
    }

    /// The endpoint ended the connection, cleanly or not.
    pub fn ended(&mut self, check: &HealthCheck, clean: bool) -> Reply {
        match (self, &check.kind) {
            (Self::Http1(one), HealthCheckKind::Http(http)) => one.ended(http, clean),
            (Self::Http2(two), _) => Reply::broken(two.is_in_flight()),
            (Self::Grpc(grpc), _) => Reply::broken(grpc.is_in_flight()),
            // Nobody closes a connection that its next check is awaited on, as in Envoy.
            _ => Reply::broken(true),
        }
    }

    /// No answer came in time. True when the connection may serve the next check.
    pub fn time_out(&mut self, check: &HealthCheck, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Grpc(grpc) => grpc.time_out(out) && check.reuse_connection,
            Self::Http1(_) | Self::Http2(_) | Self::Tcp(_) => false,
        }
    }

    /// True for a TCP check that the connection itself answers.
    pub fn is_connect_only(check: &HealthCheck) -> bool {
        matches!(&check.kind, HealthCheckKind::Tcp(tcp) if tcp.receive.is_empty())
    }
}
