//! How a connection ends: GOAWAY in two steps (RFC 9113 section 6.8), the peer's GOAWAY, errors.

use super::{Connection, first};
use crate::h2::closed::End;
use crate::h2::error::{ConnectionError, ErrorCode};
use crate::h2::event::{Event, GoAway, Side};
use crate::h2::frame::{FrameHeader, STREAM_MAX, kind, number};
use crate::h2::options::Role;

/// Who has said that the connection ends, and which streams still count.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// The peer said it, and the last stream that it named.
    peer: Option<u32>,
    /// We said it; streams above this are ignored.
    us: Option<u32>,
    /// Where the search for refused streams goes on.
    sweep_from: usize,
}

impl Leaving {
    /// True for a stream behind the last one that we said to take.
    #[inline]
    pub(super) fn refuses(&self, id: u32) -> bool {
        self.us.is_some_and(|last| id > last)
    }
}

impl Connection {
    /// Queues GOAWAY. Either step keeps streams that are open; a client opens no more after it. A step that says nothing
    /// new is left out.
    pub fn goaway(&mut self, step: GoAway) {
        // Servers never open streams, so that clients name none.
        let taken = if self.options.role == Role::Server { self.highest } else { 0 };
        let (last, code) = match step {
            GoAway::Drain => (STREAM_MAX, ErrorCode::NoError),
            GoAway::Final(code) => (taken, code),
        };
        if self.leaving.us.is_some_and(|before| before <= last) && code == ErrorCode::NoError {
            return;
        }
        // Never more than was said before (section 6.8).
        let last = self.leaving.us.map_or(last, |before| before.min(last));
        self.leaving.us = Some(last);
        let mut payload = [0; 8];
        payload[..4].copy_from_slice(&last.to_be_bytes());
        payload[4..].copy_from_slice(&code.to_wire().to_be_bytes());
        self.queue(kind::GOAWAY, 0, 0, &payload);
        // As in Envoy, the announcement of it does not count.
        self.counts.goaway_sent += u32::from(step != GoAway::Drain);
    }

    /// Either side sent GOAWAY.
    pub fn is_going_away(&self) -> bool {
        self.leaving.peer.is_some() || self.leaving.us.is_some()
    }

    pub(super) fn goaway_frame(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
    ) -> Result<Event, ConnectionError> {
        if frame.stream != 0 {
            return Err(ConnectionError::BadStreamId);
        }
        let Some((last, code)) = number(payload).zip(payload.get(4..).and_then(number)) else {
            return Err(ConnectionError::FrameSize);
        };
        // A later one may only take more back.
        let last = (last & STREAM_MAX).min(self.leaving.peer.unwrap_or(STREAM_MAX));
        if self.leaving.peer.is_some() {
            self.glitch()?;
        }
        self.leaving.peer = Some(last);
        if self.options.role == Role::Client {
            self.leaving.sweep_from = 0;
            self.first |= first::SWEEP;
        }
        Ok(Event::GoAway { last, code: ErrorCode::from_wire(code) })
    }

    /// The next stream that the peer's GOAWAY refused; `None` when there is no more.
    #[cold]
    pub(super) fn sweep(&mut self) -> Option<Event> {
        let last = self.leaving.peer.unwrap_or(STREAM_MAX);
        let refused = self.streams.open_from(self.leaving.sweep_from).find(|(stream, _)| stream.id > last);
        let Some((stream, user)) = refused.map(|(stream, s)| (stream, s.user)) else {
            self.first &= !first::SWEEP;
            return None;
        };
        self.leaving.sweep_from = stream.slot as usize + 1;
        self.streams.remove(stream.id);
        self.closed.push(stream.id, End::ByPeer);
        Some(Event::Reset { stream, user, code: ErrorCode::RefusedStream, by: Side::Peer, malformed: false })
    }

    /// Ends the connection for an error; the first one stays.
    #[cold]
    pub(super) fn fail(&mut self, error: ConnectionError) {
        if self.error.is_some() {
            return;
        }
        self.error = Some(error);
        self.first |= first::FAILED;
        let counter = match error {
            ConnectionError::EmptyFrameFlood => &mut self.counts.inbound_empty_frames_flood,
            ConnectionError::PriorityFlood => &mut self.counts.inbound_priority_frames_flood,
            ConnectionError::WindowUpdateFlood => &mut self.counts.inbound_window_update_frames_flood,
            ConnectionError::OutboundControlFlood => &mut self.counts.outbound_control_flood,
            ConnectionError::ControlFlood => &mut self.counts.inbound_control_flood,
            ConnectionError::ContinuationFlood => &mut self.counts.continuation_flood,
            ConnectionError::ResetFlood => &mut self.counts.reset_flood,
            ConnectionError::GlitchFlood => &mut self.counts.glitch_flood,
            ConnectionError::HeaderBomb => &mut self.counts.header_overflow,
            _ => &mut self.counts.connection_errors,
        };
        *counter += 1;
        self.goaway(GoAway::Final(error.code()));
    }
}
