//! Connection pools: who waits, which connection serves whom, what must be opened or closed.
//!
//! This file owns the vocabulary between the pools and the shard; `http`, `streams` and `tcp` own the rules.

mod ahead;
mod conn;
mod expiry;
mod http;
mod limits;
mod ready;
mod streams;
mod tcp;

use millrace_base::Key;

pub(crate) use conn::{AGE, Conn, ConnState, IDLE, Kind, POOL, PoolId, Waiter};
pub(crate) use ready::Ready;

use crate::host::HostPool;
use crate::{HostId, ResourcePriority, TransportKey};

/// A connection in the pools' own table. The shard stores it beside its connection and hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub(crate) Key);

/// A request's place in a pool's queue; valid until it is assigned, failed or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaitId(pub(crate) Key);

/// Which version of HTTP a request's connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpProtocol {
    /// HTTP/1.1: one request per connection at a time.
    #[default]
    Http1,
    /// HTTP/2: a stream for every request.
    Http2,
    /// Either, as ALPN agrees for each connection (`auto_config`): see [`crate::ClusterState::connected_as`].
    Auto,
}

/// The immediate answer to [`crate::ClusterState::acquire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Acquire {
    /// Send the request on this connection now. Give it back with `released` (HTTP/1), `stream_ended`
    /// (HTTP/2) or `closed`.
    Reuse {
        /// The shard's key, as given to `bind`.
        conn: Key,
        /// The pool's id of the same connection.
        id: ConnId,
    },
    /// The request waits; a later [`PoolAction::Assign`] or [`PoolAction::Fail`] names its waiter.
    Queued(WaitId),
    /// No connection: a circuit breaker is open (flag `UO`, 503, `x-envoy-overloaded`), or the host is gone.
    Refused(PoolFailure),
}

/// Why a request got no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolFailure {
    /// `max_pending_requests` are waiting already (flag `UO`; may be retried elsewhere).
    PendingOverflow,
    /// `max_requests` are active already (flag `UO`; may be retried elsewhere).
    RequestOverflow,
    /// `max_connections` are open already; TCP only (flag `UO`).
    ConnectionOverflow,
    /// `max_connection_pools` are in use already: as if there were no endpoint (flag `UH`; not retried).
    PoolOverflow,
    /// The connection that was opened failed (flag `UF`; `connect-failure` and `reset` retry).
    ConnectFailed,
    /// The endpoint left the cluster between choice and use (choose again).
    HostGone,
}

impl PoolFailure {
    /// True when a circuit breaker refused, false when the endpoint failed.
    pub fn is_overflow(self) -> bool {
        matches!(self, Self::PendingOverflow | Self::RequestOverflow | Self::ConnectionOverflow)
    }
}

/// What the shard must do next. Actions are appended in the order in which they must happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolAction {
    /// Open a connection to `host`, then `bind`; later `connected` or `connect_failed`.
    Connect {
        /// The pool's id of the new connection.
        conn: ConnId,
        /// Where to.
        host: HostId,
        /// The pool it belongs to.
        priority: ResourcePriority,
        /// What it shall speak.
        protocol: HttpProtocol,
        /// What its handshake asks for: [`crate::ClusterState::transport`].
        transport: TransportKey,
    },
    /// `waiter` is served: its request goes out on `conn`.
    Assign {
        /// As given to `acquire`.
        waiter: Key,
        /// As given to `bind`.
        conn: Key,
        /// The pool's id of the same connection.
        id: ConnId,
    },
    /// `waiter` is not served.
    Fail {
        /// As given to `acquire`.
        waiter: Key,
        /// Why.
        reason: PoolFailure,
    },
    /// Close this connection. The pool has forgotten it, budgets included; do not report it again.
    Close {
        /// As given to `bind`; `None` when it was never bound.
        conn: Option<Key>,
        /// The pool's id, no longer valid.
        id: ConnId,
        /// Where it led to.
        host: HostId,
        /// Why.
        reason: CloseReason,
    },
    /// Add one to a counter of the cluster.
    Count(PoolEvent),
}

/// Why a pool closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// `idle_timeout` passed.
    Idle,
    /// `max_connection_duration` passed and the last request ended.
    MaxDuration,
    /// `max_requests_per_connection` were served.
    MaxRequests,
    /// The last exchange left the connection in doubt (`released` with `reusable` false).
    NotReusable,
    /// `retire_conn`, and the last stream ended.
    Retired,
    /// The endpoint left the cluster.
    HostGone,
    /// The endpoint turned unhealthy under `close_connections_on_host_health_failure`; a request may be on it
    /// (flag `UC`).
    HostUnhealthy,
    /// The cluster or the process drains.
    Drain,
}

/// Counters of the cluster scope that only the pools can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolEvent {
    /// An HTTP/1 connection: `upstream_cx_total`, `upstream_cx_http1_total`; also the host's `cx_total`.
    ConnectionOpened,
    /// An HTTP/2 connection: `upstream_cx_total`, `upstream_cx_http2_total`; also the host's `cx_total`.
    Http2ConnectionOpened,
    /// A TCP connection: `upstream_cx_total`; also the host's `cx_total`.
    TcpConnectionOpened,
    /// A connection whose protocol is not known yet: `upstream_cx_total`; also the host's `cx_total`.
    AutoConnectionOpened,
    /// It turned out to be HTTP/1: `upstream_cx_http1_total`.
    AutoIsHttp1,
    /// It turned out to be HTTP/2: `upstream_cx_http2_total`.
    AutoIsHttp2,
    /// `upstream_cx_overflow`.
    ConnectionOverflow,
    /// `upstream_cx_pool_overflow`.
    PoolOverflow,
    /// `upstream_cx_max_requests`.
    ConnectionMaxRequests,
    /// `upstream_cx_max_duration_reached`.
    ConnectionMaxDuration,
    /// `upstream_cx_idle_timeout`.
    ConnectionIdleTimeout,
    /// `upstream_rq_pending_total`.
    PendingTotal,
    /// `upstream_rq_pending_overflow`.
    PendingOverflow,
    /// `upstream_rq_active_overflow`.
    RequestOverflow,
    /// `upstream_rq_pending_failure_eject`.
    PendingFailureEject,
    /// `upstream_rq_cancelled`.
    Cancelled,
}
