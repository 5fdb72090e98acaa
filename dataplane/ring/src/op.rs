//! What a shard asks of a back end.

use crate::{Payload, SocketAddress};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The shard's name for an operation; comes back with its events. Opaque here
/// (`millrace_base::Key::pack` puts kind, generation and slot into it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// A socket of the back end: a file descriptor, or an index in the simulator. A copy is the same socket;
/// only [`Op::Close`] (or `sockets::close`) ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Socket(i32);

impl Socket {
    /// The file descriptor.
    pub fn raw(self) -> i32 {
        self.0
    }

    /// Names the socket behind a file descriptor that this process owns (inherited, or handed over).
    pub fn from_raw(fd: i32) -> Self {
        Self(fd)
    }
}

/// One piece of work for the kernel.
#[derive(Debug)]
pub enum Op {
    /// Accept connections until an [`Event::Accepted`](crate::Event::Accepted) says `more: false`. One per listener.
    Accept {
        /// A socket from `sockets::listen`.
        listener: Socket,
        /// Comes back with every connection.
        token: Token,
    },
    /// Stop accepting: what waits in the listener's queue stays there for the next [`Op::Accept`]. Connections that the
    /// kernel had given out already are still reported; nothing says that accepting has ended. Ignored when there is none.
    StopAccept {
        /// The listener of the accept.
        listener: Socket,
    },
    /// Make a socket and connect it. Answered by exactly one [`Event::Connected`](crate::Event::Connected).
    Connect {
        /// Comes back with the result.
        token: Token,
        /// The peer.
        address: SocketAddress,
        /// Socket options to set before connecting.
        options: Box<ConnectOptions>,
    },
    /// Give up on the unanswered [`Op::Connect`] with this token: it is answered with `Canceled` (nothing
    /// leaks, even if the connection had just come up). Ignored when there is none.
    CancelConnect {
        /// The token of the connect.
        token: Token,
    },
    /// Receive until an [`Event::RecvEnded`](crate::Event::RecvEnded) with this token, of which there is exactly one
    /// unless the socket is closed first. One per socket at a time.
    Recv {
        /// A connected socket.
        socket: Socket,
        /// Comes back with every event.
        token: Token,
    },
    /// As [`Op::Recv`], but stop by itself after one buffer of bytes: for a source that may turn out to send in
    /// bulk, of which no more shall be taken than it needs to tell.
    RecvOnce {
        /// A connected socket.
        socket: Socket,
        /// Comes back with every event.
        token: Token,
    },
    /// Stop receiving. Bytes already taken from the kernel are delivered before the
    /// [`RecvEnd::Stopped`](crate::RecvEnd::Stopped); the rest stays in the kernel for the next [`Op::Recv`]. If the
    /// stream ends at the same moment its own end is reported instead. Ignored when nothing is being received.
    StopRecv {
        /// The socket of the receive.
        socket: Socket,
    },
    /// Send all of the payload. Answered by exactly one [`Event::Sent`](crate::Event::Sent), also after a close.
    /// One in flight per socket.
    Send {
        /// A connected socket.
        socket: Socket,
        /// Comes back with the result.
        token: Token,
        /// What to send; not empty.
        payload: Payload,
    },
    /// Move bytes from one socket to another inside the kernel, as they come, at most `limit` of them.
    /// Answered by any number of [`Event::Relayed`](crate::Event::Relayed), exactly one of which has an end,
    /// also after a close of either socket. Until then the source has no receive and the sink no other send.
    Relay {
        /// The source; nothing is being received from it.
        from: Socket,
        /// The sink; nothing is being sent to it.
        to: Socket,
        /// Comes back with the reports.
        token: Token,
        /// Bytes at most; `u64::MAX` for no limit.
        limit: u64,
    },
    /// Close the write half (FIN), after the send or relay in flight if there is one.
    Shutdown {
        /// A connected socket.
        socket: Socket,
    },
    /// Close the socket at once, cancelling whatever is outstanding on it. A send in flight still hands its
    /// payload back; other events of its tokens may still come (the simulator makes a point of it), also when
    /// the id is reused already: tell them by the token's generation. What waits in the queue of a listener with
    /// an [`Op::Accept`] is accepted first and reported with its token as usual, but then nothing says that
    /// accepting has ended.
    Close {
        /// A connected socket or a listener.
        socket: Socket,
        /// Abort with a RST instead of a FIN (`SO_LINGER` 0).
        reset: bool,
    },
}

/// TCP keep-alive (`envoy.config.core.v3.TcpKeepalive`); `None` leaves the kernel's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Unanswered probes before the connection is dropped (`TCP_KEEPCNT`).
    pub probes: Option<u32>,
    /// Idle time before the first probe, seconds resolution (`TCP_KEEPIDLE`).
    pub time: Option<Duration>,
    /// Time between probes, seconds resolution (`TCP_KEEPINTVL`).
    pub interval: Option<Duration>,
}

/// Options of an upstream socket, set before it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Local address to bind (`upstream_bind_config`); port 0 is chosen at connect (`IP_BIND_ADDRESS_NO_PORT`).
    pub source: Option<SocketAddr>,
    /// `TCP_NODELAY`; on by default, as in Envoy.
    pub nodelay: bool,
    /// TCP keep-alive; `None` is off.
    pub keepalive: Option<Keepalive>,
    /// `SO_MARK`.
    pub mark: Option<u32>,
    /// `IP_FREEBIND` / `IPV6_FREEBIND`: bind a source address that is not local yet.
    pub freebind: bool,
    /// `IP_TRANSPARENT` / `IPV6_TRANSPARENT`: bind a foreign source address (original_src). Needs CAP_NET_ADMIN.
    pub transparent: bool,
    /// Further options by number, set in this order before the bind; one that the kernel refuses fails the connect.
    pub raw: Vec<RawOption>,
}

/// A socket option by its numbers (`setsockopt(2)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawOption {
    /// `level`.
    pub level: i32,
    /// `optname`.
    pub name: i32,
    /// `optval`.
    pub value: Arc<[u8]>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            source: None,
            nodelay: true,
            keepalive: None,
            mark: None,
            freebind: false,
            transparent: false,
            raw: Vec::new(),
        }
    }
}
