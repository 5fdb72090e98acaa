//! One HTTP/2 connection.

use alloc::vec::Vec;

use millrace_base::Time;

use super::counts::Counts;
use super::error::{ConnectionError, ErrorCode};
use super::event::{Event, GoAway, Heads, Step, StreamRef};
use super::options::Options;
use super::priority::Priority;
use crate::head::{RequestHead, ResponseHead};
use crate::header::HeaderMap;

/// One HTTP/2 connection of either side. Boxed by its owner; tables grow with the streams that are open at once.
#[derive(Debug)]
pub struct Connection {
    counts: Counts,
}

#[expect(unused_variables, reason = "first version: the interface only")]
impl Connection {
    /// A new connection; the preface (client), SETTINGS and WINDOW_UPDATE are queued as control frames.
    pub fn new(options: &Options, now: Time) -> Self {
        Self { counts: Counts::default() }
    }

    /// Takes one frame, or a part of a DATA frame, from the start of `input`. Call until [`Event::NeedMore`], also with
    /// nothing left to read: one frame may have several events. After an error GOAWAY is queued; send what
    /// [`Self::take_control`] gives and close.
    pub fn receive(&mut self, input: &[u8], now: Time, heads: &mut Heads) -> Result<Step, ConnectionError> {
        Ok(Step { consumed: 0, event: Event::NeedMore })
    }

    /// Names the caller's stream in later events.
    pub fn bind(&mut self, stream: StreamRef, user: u64) {}

    /// Client: appends a request head; `None` without room (see [`Self::can_open`]).
    pub fn send_request(
        &mut self,
        head: &RequestHead,
        user: u64,
        end: bool,
        out: &mut Vec<u8>,
    ) -> Option<StreamRef> {
        None
    }

    /// Server: appends a response head; status 1xx is interim (`end` is false then). False: the stream is gone.
    pub fn send_response(
        &mut self,
        stream: StreamRef,
        head: &ResponseHead,
        end: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        false
    }

    /// Appends trailers, which end our direction. False: the stream is gone.
    pub fn send_trailers(&mut self, stream: StreamRef, trailers: &HeaderMap, out: &mut Vec<u8>) -> bool {
        false
    }

    /// Bytes of DATA that may be sent now in one frame; 0 for a stream that is gone.
    pub fn capacity(&self, stream: StreamRef) -> usize {
        0
    }

    /// Appends the header of a DATA frame of `len` bytes, which the caller appends right behind; at most
    /// [`Self::capacity`]. 0 with `end` is allowed always.
    pub fn send_data(&mut self, stream: StreamRef, len: usize, end: bool, out: &mut Vec<u8>) {}

    /// Queues RST_STREAM and forgets the stream: late frames for it are ignored.
    pub fn reset(&mut self, stream: StreamRef, code: ErrorCode) {}

    /// `bytes` of [`Event::Data`] were passed on. Also for streams that are gone.
    pub fn release(&mut self, stream: StreamRef, bytes: usize) {}

    /// Queues GOAWAY.
    pub fn goaway(&mut self, step: GoAway) {}

    /// Queues PING, at most one outstanding; [`Event::Pong`] is its answer.
    pub fn ping(&mut self) {}

    /// Appends pending control frames; true if there were any.
    pub fn take_control(&mut self, out: &mut Vec<u8>) -> bool {
        false
    }

    /// True when [`Self::take_control`] has something.
    pub fn has_control(&self) -> bool {
        false
    }

    /// Everything that was appended has left towards the peer: resets the count of outbound control frames.
    pub fn flushed(&mut self) {}

    /// Client: another request may be sent now.
    pub fn can_open(&self) -> bool {
        false
    }

    /// Client: most streams at once, ours and the peer's limit.
    pub fn peer_max_streams(&self) -> u32 {
        0
    }

    /// Streams in the table.
    pub fn open_streams(&self) -> usize {
        0
    }

    /// Every open stream with its name.
    pub fn users(&self) -> impl Iterator<Item = (StreamRef, u64)> + '_ {
        core::iter::empty()
    }

    /// Either side sent GOAWAY.
    pub fn is_going_away(&self) -> bool {
        false
    }

    /// The peer may still send on the stream.
    pub fn is_receiving(&self, stream: StreamRef) -> bool {
        false
    }

    /// We may still send on the stream.
    pub fn is_sending(&self, stream: StreamRef) -> bool {
        false
    }

    /// Client: the peer takes extended CONNECT (RFC 8441).
    pub fn peer_allows_connect(&self) -> bool {
        false
    }

    /// The priority that the client asked for (RFC 9218).
    pub fn priority(&self, stream: StreamRef) -> Priority {
        Priority::default()
    }

    /// What happened since the last call.
    pub fn take_counts(&mut self) -> Counts {
        core::mem::take(&mut self.counts)
    }
}
