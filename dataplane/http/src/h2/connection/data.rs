//! DATA (RFC 9113 section 6.1): charged to both windows and to content-length when its header comes, handed out in
//! ranges of the input, given back as it is passed on.

use super::{Connection, first};
use crate::h2::error::{ConnectionError, ErrorCode};
use crate::h2::event::{Event, Step, StreamRef};
use crate::h2::frame::{self, FrameHeader, HEADER_LEN, flag, kind};
use crate::h2::stream::state;

/// What is left of a DATA frame that has begun.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    slot: u32,
    /// 0 when the payload is of no stream any more, and was given back already.
    id: u32,
    data: usize,
    padding: usize,
    end: bool,
}

impl Connection {
    #[inline]
    pub(super) fn data(&mut self, frame: &FrameHeader, input: &[u8]) -> Result<Step, ConnectionError> {
        let mut consumed = HEADER_LEN;
        let mut padding = 0;
        if frame.has(flag::PADDED) {
            if frame.len == 0 {
                return Err(ConnectionError::FrameSize);
            }
            let Some(length) = input.get(HEADER_LEN) else {
                return Ok(Step { consumed: 0, event: Event::NeedMore });
            };
            consumed += 1;
            padding = usize::from(*length);
            if padding >= frame.len {
                return Err(ConnectionError::BadPadding);
            }
        }
        let data = frame.len + HEADER_LEN - consumed - padding;
        if !self.receive.charge(frame.len) {
            return Err(ConnectionError::FlowControl);
        }
        let end = frame.has(flag::END_STREAM);
        self.count_empty(data == 0 && !end)?;
        self.part = Part { slot: 0, id: 0, data, padding, end };
        let event = match self.streams.find(frame.stream) {
            Some(slot) => self.data_of(frame, slot)?,
            None => {
                self.frame_for_closed(frame.stream)?;
                Some(Event::Progress)
            }
        };
        if self.part.id == 0 {
            self.release_connection(frame.len);
        } else if frame.len > data {
            self.release(StreamRef { id: self.part.id, slot: self.part.slot }, frame.len - data);
        }
        self.first |= first::PART;
        match event {
            Some(event) => Ok(Step { consumed, event }),
            None => {
                let step = self.data_part(&input[consumed..]);
                Ok(at(step, consumed))
            }
        }
    }

    /// Checks a DATA frame of an open stream; `None` when its payload may be handed out.
    #[inline]
    fn data_of(&mut self, frame: &FrameHeader, slot: u32) -> Result<Option<Event>, ConnectionError> {
        let part = &mut self.part;
        let stream = self.streams.at(slot);
        let code = if stream.is(state::REMOTE_ENDED) {
            ErrorCode::StreamClosed
        } else if !stream.is(state::HEAD_IN) {
            self.counts.rx_messaging_error += 1;
            ErrorCode::Protocol
        } else if !stream.count_content(part.data, part.end) {
            // No error of messaging, as in Envoy.
            ErrorCode::Protocol
        } else if !stream.receive.charge(frame.len) {
            ErrorCode::FlowControl
        } else {
            (part.slot, part.id) = (slot, frame.stream);
            self.budgets.useful = self.budgets.useful.wrapping_add(u32::from(part.data > 0));
            return Ok(None);
        };
        self.stream_error(StreamRef { id: frame.stream, slot }, code).map(Some)
    }

    /// Hands out, or skips, what has come of a DATA frame.
    #[inline]
    pub(super) fn data_part(&mut self, input: &[u8]) -> Step {
        let Part { slot, id, data, padding, end } = self.part;
        let here = input.len().min(data);
        let skipped = if here == data { (input.len() - here).min(padding) } else { 0 };
        let consumed = here + skipped;
        let stream = StreamRef { id, slot };
        let user = self.streams.get(stream).map(|s| s.user);
        // The last byte ends the stream, whatever padding follows.
        let ends = end && here == data;
        self.part.data -= here;
        self.part.padding -= skipped;
        if ends {
            self.part.end = false;
        }
        if user.is_none() {
            self.part.end = false;
            if id != 0 {
                // Gone since the frame began: what is left is given back at once.
                self.part.id = 0;
                self.release_connection(data);
            }
        }
        let done = self.part.data == 0 && self.part.padding == 0 && !self.part.end;
        if done {
            self.first &= !first::PART;
        }
        let event = match user {
            Some(user) if here > 0 || ends => {
                if ends {
                    self.end_side(slot, state::REMOTE_ENDED);
                }
                Event::Data { stream, user, range: 0..here, end: ends }
            }
            _ if consumed > 0 || done => Event::Progress,
            _ => Event::NeedMore,
        };
        Step { consumed, event }
    }

    /// `bytes` of [`Event::Data`] were passed on: WINDOW_UPDATE when half a window has gathered. Also for streams that
    /// are gone.
    #[inline]
    pub fn release(&mut self, stream: StreamRef, bytes: usize) {
        self.release_connection(bytes);
        let size = self.stream_window;
        let Some(open) = self.streams.get_mut(stream) else { return };
        if let Some(increment) = open.receive.release(bytes, size)
            && !open.is(state::REMOTE_ENDED)
        {
            self.queue_window_update(stream.id, increment);
        }
    }

    /// Not counted as a control frame, as in Envoy: each stands for half a window of the peer's bytes.
    fn queue_window_update(&mut self, id: u32, increment: u32) {
        frame::write(&mut self.control, kind::WINDOW_UPDATE, 0, id, &increment.to_be_bytes());
    }

    #[inline]
    pub(super) fn release_connection(&mut self, bytes: usize) {
        if let Some(increment) = self.receive.release(bytes, self.options.initial_connection_window) {
            self.queue_window_update(0, increment);
        }
    }
}

/// A step that began further behind in the input.
#[inline]
fn at(step: Step, offset: usize) -> Step {
    let event = match step.event {
        Event::Data { stream, user, range, end } => {
            Event::Data { stream, user, range: range.start + offset..range.end + offset, end }
        }
        Event::NeedMore => Event::Progress,
        event => event,
    };
    Step { consumed: step.consumed + offset, event }
}
