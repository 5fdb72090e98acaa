//! What a back end reports to the shard.

use crate::{Filled, IoError, Payload, Socket, SocketAddress, Token};

/// Something that happened since the last turn.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted, or accepting failed.
    Accepted {
        /// Token of the [`Op::Accept`](crate::Op::Accept).
        token: Token,
        /// The connection.
        result: Result<Accepted, IoError>,
        /// `false`: accepting has ended (out of files, or the listener is gone) and must be asked for again,
        /// after a pause.
        more: bool,
    },
    /// Answer to [`Op::Connect`](crate::Op::Connect).
    Connected {
        /// Token of the connect.
        token: Token,
        /// The connected socket. On an error nothing is left to close.
        result: Result<Socket, IoError>,
    },
    /// Bytes arrived.
    Received {
        /// Token of the [`Op::Recv`](crate::Op::Recv).
        token: Token,
        /// At least one byte.
        data: Filled,
    },
    /// Receiving ended; nothing more comes with this token.
    RecvEnded {
        /// Token of the [`Op::Recv`](crate::Op::Recv).
        token: Token,
        /// Why.
        reason: RecvEnd,
    },
    /// Answer to [`Op::Send`](crate::Op::Send).
    Sent {
        /// Token of the send.
        token: Token,
        /// Bytes taken by the kernel: all of them. An error may come after a part was taken.
        result: Result<usize, IoError>,
        /// The payload, cleared (its buffers are home), to be used again.
        payload: Payload,
    },
    /// Bytes of an [`Op::Relay`](crate::Op::Relay) were moved, or it ended.
    Relayed {
        /// Token of the relay.
        token: Token,
        /// Bytes that the sink took since the last report.
        bytes: usize,
        /// The sink takes no more for now: what the relay waits for is its peer. Cleared by the next report.
        sink_full: bool,
        /// The relay is over, and both sockets may be used again.
        end: Option<RelayEnd>,
    },
    /// Another thread called [`Waker::wake`](crate::Waker::wake) since the last turn.
    Wake,
}

/// A fresh downstream connection: non-blocking, close-on-exec.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub socket: Socket,
    /// Who connected.
    pub peer: SocketAddress,
}

/// Why receiving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvEnd {
    /// The peer closed its write half.
    Eof,
    /// [`Op::StopRecv`](crate::Op::StopRecv) took effect; more may be waiting in the kernel.
    Stopped,
    /// The connection failed.
    Error(IoError),
}

/// Why a relay ended. Everything that was taken from the source has been given to the sink, unless the sink
/// failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEnd {
    /// As many bytes as were asked for were moved.
    Limit,
    /// The source is empty and gave little at a time; receiving is cheaper. Only without a limit.
    Idle,
    /// The source's peer closed its write half.
    Eof,
    /// The source failed, or was closed here (`CANCELED`).
    From(IoError),
    /// The sink failed, or was closed here (`CANCELED`); bytes under way are lost with it.
    To(IoError),
    /// The kernel has no means left (descriptors, pipes); receive and send instead.
    Unavailable,
}
