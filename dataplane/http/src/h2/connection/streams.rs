//! How streams end early, and what becomes of frames for streams that are gone.

use alloc::vec::Vec;

use super::Connection;
use crate::h2::closed::End;
use crate::h2::error::{ConnectionError, ErrorCode};
use crate::h2::event::{Event, Side, StreamRef};
use crate::h2::frame::{self, kind};
use crate::h2::limits::Budgets;
use crate::h2::options::Role;
use crate::h2::stream::state;
use millrace_base::Time;

impl Connection {
    /// Appends a control frame to the queue.
    pub(super) fn queue(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        frame::write(&mut self.control, kind, flags, stream, payload);
        self.control_queued = self.control_queued.saturating_add(1);
    }

    /// Queues RST_STREAM; what comes for the stream until the peer knows is ignored.
    pub(super) fn queue_reset(&mut self, id: u32, code: ErrorCode) {
        self.queue(kind::RST_STREAM, 0, id, &code.to_wire().to_be_bytes());
        self.closed.push(id, End::ByUs);
        self.counts.tx_reset += 1;
    }

    /// Names the caller's stream in later events.
    #[inline]
    pub fn bind(&mut self, stream: StreamRef, user: u64) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.user = user;
        }
    }

    /// Queues RST_STREAM and forgets the stream: late frames for it are ignored. Nothing happens when it is gone.
    pub fn reset(&mut self, stream: StreamRef, code: ErrorCode) {
        if self.streams.get(stream).is_some() {
            self.streams.remove(stream.id);
            self.queue_reset(stream.id, code);
        }
    }

    /// The peer broke a rule on a stream that is open.
    #[cold]
    pub(super) fn stream_error(
        &mut self,
        stream: StreamRef,
        code: ErrorCode,
    ) -> Result<Event, ConnectionError> {
        let user = self.streams.get(stream).map_or(0, |s| s.user);
        // While the stream is in the table: when this ends the connection, the caller ends what is in there.
        self.refuse(stream.id, code)?;
        self.streams.remove(stream.id);
        Ok(Event::Reset { stream, user, code, by: Side::Us, malformed: false })
    }

    /// The peer broke a rule on a stream that is not in the table.
    #[cold]
    pub(super) fn refuse(&mut self, id: u32, code: ErrorCode) -> Result<Event, ConnectionError> {
        self.queue_reset(id, code);
        self.early_end()?;
        Ok(Event::Progress)
    }

    /// Servers count streams that ended early, by the client or because of it.
    fn early_end(&mut self) -> Result<(), ConnectionError> {
        match self.options.role == Role::Client || self.budgets.early_end() {
            true => Ok(()),
            false => Err(ConnectionError::ResetFlood),
        }
    }

    /// The peer has reset an open stream.
    pub(super) fn reset_by_peer(
        &mut self,
        stream: StreamRef,
        code: ErrorCode,
        now: Time,
    ) -> Result<Event, ConnectionError> {
        let Some(open) = self.streams.get(stream) else { return Ok(Event::Progress) };
        let user = open.user;
        let early = Budgets::is_early(open.opened, now) && !open.is(state::LOCAL_ENDED);
        if early {
            self.early_end()?;
        }
        self.streams.remove(stream.id);
        self.closed.push(stream.id, End::ByPeer);
        Ok(Event::Reset { stream, user, code, by: Side::Peer, malformed: false })
    }

    /// True for a stream that nobody has opened yet, or that only a server could open.
    #[inline]
    pub(super) fn is_idle(&self, id: u32) -> bool {
        id > self.highest || id & 1 == 0
    }

    /// DATA or a field block for a stream that is not in the table: ignored when we have reset it, an error of the stream
    /// when the peer has, else one of the connection.
    #[cold]
    pub(super) fn frame_for_closed(&mut self, id: u32) -> Result<(), ConnectionError> {
        if self.is_idle(id) {
            return Err(ConnectionError::BadStreamId);
        }
        match self.closed.end_of(id) {
            // On its way when we reset the stream; without end it is an attack.
            Some(End::ByUs) => self.glitch(),
            Some(End::ByPeer) => self.refuse(id, ErrorCode::StreamClosed).map(drop),
            Some(End::Complete) => Err(ConnectionError::StreamClosed),
            // Our own streams were open once; the neighbours shall not suffer from a memory that is short.
            None if self.options.role == Role::Client => self.glitch(),
            None if self.leaving.refuses(id) => self.glitch(),
            None => Err(ConnectionError::DecreasingStreamId),
        }
    }

    /// One of the sides has ended: a stream that both have ended leaves the table.
    #[inline]
    pub(super) fn end_side(&mut self, slot: u32, side: u8) {
        let stream = self.streams.at(slot);
        stream.state |= side;
        if stream.is_over() {
            let id = stream.id;
            self.streams.remove(id);
            self.closed.push(id, End::Complete);
        }
    }

    /// Appends pending control frames; true if there were any. The `send_*` functions put them first themselves.
    pub fn take_control(&mut self, out: &mut Vec<u8>) -> bool {
        if self.control.is_empty() {
            return false;
        }
        out.extend_from_slice(&self.control);
        self.control.clear();
        if self.control.capacity() > crate::h2::limits::CONTROL_KEPT {
            self.control = Vec::new();
        }
        self.control_taken = self.control_taken.saturating_add(self.control_queued);
        self.control_queued = 0;
        true
    }

    /// True when [`Self::take_control`] has something.
    #[inline]
    pub fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// What the last [`Self::take_control`] gave has left towards the peer: those frames are no longer counted against
    /// `max_outbound_control_frames`. DATA behind them may still wait.
    #[inline]
    pub fn flushed(&mut self) {
        self.control_taken = 0;
    }
}
