//! What the codec tells its caller, and the heads that it fills.

use core::ops::Range;

use super::error::ErrorCode;
use crate::head::{RequestHead, ResponseHead};
use crate::header::HeaderMap;

/// A stream in the codec's table: found without a search, and recognised when the stream is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamRef {
    /// The stream's identifier on the wire.
    pub id: u32,
    pub(super) slot: u32,
}

/// Where decoded heads land. One is enough for many connections: a head is complete when its event is returned, and the
/// caller swaps it out with `mem::swap`. The codec clears before it fills.
#[derive(Debug, Default)]
pub struct Heads {
    /// The head of [`Event::Request`] and [`Event::TooLarge`].
    pub request: RequestHead,
    /// The head of [`Event::Informational`] and [`Event::Response`].
    pub response: ResponseHead,
    /// The fields of [`Event::Trailers`].
    pub trailers: HeaderMap,
}

/// Which side ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The peer, by RST_STREAM or GOAWAY.
    Peer,
    /// The codec: the peer broke a rule on this stream.
    Us,
}

/// What [`super::Connection::goaway`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GoAway {
    /// The first step of a graceful end: nothing is refused yet, the peer is asked to open no more streams.
    Drain,
    /// The last stream that was taken is named; what the peer opens later is ignored.
    Final(ErrorCode),
}

/// One step of [`super::Connection::receive`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What they said.
    pub event: Event,
}

/// What happened. `user` is what [`super::Connection::bind`] or `send_request` named the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing more to be had from these bytes: call again with the unconsumed rest and more behind it.
    NeedMore,
    /// A frame was dealt with: call again.
    Progress,
    /// Server: a request head is in [`Heads::request`]. The caller answers with `bind` or `reset` before the next call.
    Request {
        /// The new stream.
        stream: StreamRef,
        /// Nothing follows.
        end: bool,
        /// Octets of the HEADERS and CONTINUATION frames on the wire.
        head_bytes: u32,
    },
    /// Server: like `Request`, but the head exceeds the limits; what was decoded up to them is in [`Heads::request`]. The
    /// answer is 431.
    TooLarge {
        /// The new stream.
        stream: StreamRef,
        /// Nothing follows.
        end: bool,
        /// Octets of the HEADERS and CONTINUATION frames on the wire.
        head_bytes: u32,
    },
    /// Client: an interim head (1xx, never 101) is in [`Heads::response`].
    Informational {
        /// The stream.
        stream: StreamRef,
        /// Its name.
        user: u64,
    },
    /// Client: the final head is in [`Heads::response`].
    Response {
        /// The stream.
        stream: StreamRef,
        /// Its name.
        user: u64,
        /// Nothing follows.
        end: bool,
        /// Octets of the HEADERS and CONTINUATION frames on the wire.
        head_bytes: u32,
    },
    /// A part of a DATA frame's payload. The windows were charged: `release` gives every byte back, sooner or later and
    /// also when the stream is gone by then.
    Data {
        /// The stream.
        stream: StreamRef,
        /// Its name.
        user: u64,
        /// Where the bytes stand in the input; empty only with `end`.
        range: Range<usize>,
        /// The last bytes of this direction.
        end: bool,
    },
    /// Trailers are in [`Heads::trailers`]; this direction is over.
    Trailers {
        /// The stream.
        stream: StreamRef,
        /// Its name.
        user: u64,
    },
    /// The stream is over before its time and gone from the table; RST_STREAM was queued if it was due.
    Reset {
        /// The stream.
        stream: StreamRef,
        /// Its name.
        user: u64,
        /// Why.
        code: ErrorCode,
        /// Who ended it.
        by: Side,
        /// For its fields: the head of the response, or trailers.
        malformed: bool,
    },
    /// WINDOW_UPDATE gave this stream room that had none.
    StreamWritable {
        /// The stream.
        stream: StreamRef,
        /// Its name.
        user: u64,
    },
    /// The connection's window has room again, or the initial window grew: look at every stream that waits.
    ConnectionWritable,
    /// SETTINGS of the peer were taken; [`super::Connection::peer_max_streams`] may have changed.
    Settings,
    /// The peer opens or serves no stream above `last`. Client: those that are open come as `Reset` with `RefusedStream` by
    /// `Peer` afterwards.
    GoAway {
        /// The last stream that the peer took.
        last: u32,
        /// Why.
        code: ErrorCode,
    },
    /// The answer to our `ping`.
    Pong,
}
