//! Frames about the connection and its windows: SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, PRIORITY, PRIORITY_UPDATE.

use millrace_base::Time;

use super::{Connection, first};
use crate::h2::error::{ConnectionError, ErrorCode};
use crate::h2::event::{Event, StreamRef};
use crate::h2::frame::{self, FrameHeader, STREAM_MAX, flag, kind, number};
use crate::h2::options::Role;
use crate::h2::priority::Priority;
use crate::h2::stream::state;

/// What our PING carries.
const PING_PAYLOAD: &[u8; 8] = b"millrace";

impl Connection {
    pub(super) fn settings(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
        now: Time,
    ) -> Result<Event, ConnectionError> {
        if frame.stream != 0 {
            return Err(ConnectionError::BadStreamId);
        }
        if frame.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(ConnectionError::FrameSize);
            }
            return self.settings_acknowledged();
        }
        if !self.budgets.control(now) {
            return Err(ConnectionError::ControlFlood);
        }
        let before = self.peer;
        if !self.settings_seen {
            self.settings_seen = true;
            self.peer.max_streams = u32::MAX;
        }
        self.peer.apply(payload, self.options.role)?;
        let after = self.peer;
        if after.table_size != before.table_size {
            self.encoder.set_peer_table_size(after.table_size);
        }
        if after.initial_window != before.initial_window {
            for stream in self.streams.open_mut() {
                if !stream.send.adjust(before.initial_window, after.initial_window) {
                    return Err(ConnectionError::BadInitialWindow);
                }
            }
            if after.initial_window > before.initial_window && self.streams.len() > 0 {
                self.first |= first::WRITABLE;
            }
        }
        self.queue(kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(Event::Settings)
    }

    /// From here on the peer keeps to what we announced.
    fn settings_acknowledged(&mut self) -> Result<Event, ConnectionError> {
        if self.acknowledged {
            self.glitch()?;
            return Ok(Event::Progress);
        }
        self.acknowledged = true;
        self.decoder.set_table_size(self.options.hpack_table_size);
        let surplus = self.stream_window - self.options.initial_stream_window;
        if surplus > 0 {
            self.stream_window -= surplus;
            for stream in self.streams.open_mut() {
                let increment = stream.receive.shrink(surplus, self.stream_window);
                if let Some(increment) = increment.filter(|_| !stream.is(state::REMOTE_ENDED)) {
                    let increment = increment.to_be_bytes();
                    frame::write(&mut self.control, kind::WINDOW_UPDATE, 0, stream.id, &increment);
                }
            }
        }
        Ok(Event::Progress)
    }

    pub(super) fn ping_frame(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
        now: Time,
    ) -> Result<Event, ConnectionError> {
        if frame.stream != 0 {
            return Err(ConnectionError::BadStreamId);
        }
        if payload.len() != PING_PAYLOAD.len() {
            return Err(ConnectionError::FrameSize);
        }
        if frame.has(flag::ACK) {
            if self.ping_sent && payload == PING_PAYLOAD {
                self.ping_sent = false;
                return Ok(Event::Pong);
            }
            self.glitch()?;
            return Ok(Event::Progress);
        }
        if !self.budgets.control(now) {
            return Err(ConnectionError::ControlFlood);
        }
        self.queue(kind::PING, flag::ACK, 0, payload);
        Ok(Event::Progress)
    }

    /// Queues PING, at most one outstanding; [`Event::Pong`] is its answer.
    pub fn ping(&mut self) {
        if !self.ping_sent {
            self.ping_sent = true;
            self.queue(kind::PING, 0, 0, PING_PAYLOAD);
        }
    }

    pub(super) fn window_update(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
    ) -> Result<Event, ConnectionError> {
        let (4, Some(increment)) = (payload.len(), number(payload)) else {
            return Err(ConnectionError::FrameSize);
        };
        let increment = increment & STREAM_MAX;
        if !self.budgets.window_update(self.options.max_window_updates_per_data) {
            return Err(ConnectionError::WindowUpdateFlood);
        }
        let id = frame.stream;
        if id == 0 {
            if increment == 0 {
                return Err(ConnectionError::ZeroIncrement);
            }
            let writable = self.send.grow(increment).ok_or(ConnectionError::WindowOverflow)?;
            return Ok(if writable { Event::ConnectionWritable } else { Event::Progress });
        }
        let Some(slot) = self.streams.find(id) else { return self.control_for_closed(id) };
        let (stream, open) = (StreamRef { id, slot }, self.streams.at(slot));
        if increment == 0 {
            return self.stream_error(stream, ErrorCode::Protocol);
        }
        let user = open.user;
        match open.send.grow(increment) {
            Some(true) => Ok(Event::StreamWritable { stream, user }),
            Some(false) => Ok(Event::Progress),
            None => self.stream_error(stream, ErrorCode::FlowControl),
        }
    }

    /// RST_STREAM and WINDOW_UPDATE may come for streams that have ended, but not for idle ones (section 5.1).
    fn control_for_closed(&mut self, id: u32) -> Result<Event, ConnectionError> {
        if self.is_idle(id) {
            return Err(ConnectionError::BadStreamId);
        }
        self.glitch()?;
        Ok(Event::Progress)
    }

    pub(super) fn rst_stream(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
        now: Time,
    ) -> Result<Event, ConnectionError> {
        let (4, Some(code)) = (payload.len(), number(payload)) else {
            return Err(ConnectionError::FrameSize);
        };
        self.counts.rx_reset += 1;
        let id = frame.stream;
        match self.streams.find(id) {
            Some(slot) => self.reset_by_peer(StreamRef { id, slot }, ErrorCode::from_wire(code), now),
            None => self.control_for_closed(id),
        }
    }

    /// PRIORITY of RFC 7540 does nothing; it may come for any stream (section 5.3).
    pub(super) fn priority_frame(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
    ) -> Result<Event, ConnectionError> {
        let id = frame.stream;
        if id == 0 {
            return Err(ConnectionError::BadStreamId);
        }
        if !self.budgets.priority(self.options.max_priority_frames_per_stream) {
            return Err(ConnectionError::PriorityFlood);
        }
        let dependency = number(payload).map(|stream| stream & STREAM_MAX);
        let code = match (payload.len(), dependency) {
            (5, Some(dependency)) if dependency == id => ErrorCode::Protocol,
            (5, _) => return Ok(Event::Progress),
            _ => ErrorCode::FrameSize,
        };
        match self.streams.find(id) {
            Some(slot) => self.stream_error(StreamRef { id, slot }, code),
            None => self.refuse(id, code),
        }
    }

    /// RFC 9218 section 7.1.
    pub(super) fn priority_update(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
    ) -> Result<Event, ConnectionError> {
        if frame.stream != 0 || self.options.role == Role::Client {
            return Err(ConnectionError::BadPriorityUpdate);
        }
        let Some((id, value)) = number(payload).zip(payload.get(4..)) else {
            return Err(ConnectionError::FrameSize);
        };
        let id = id & STREAM_MAX;
        if id & 1 == 0 {
            return Err(ConnectionError::BadPriorityUpdate);
        }
        self.glitch()?;
        if let Some(slot) = self.streams.find(id) {
            self.streams.at(slot).priority = Priority::parse(value);
        }
        Ok(Event::Progress)
    }
}
