//! Frames from bytes: what may come now, and whole frames to whoever deals with their type.

use millrace_base::Time;

use super::{Connection, first};
use crate::h2::PREFACE;
use crate::h2::error::ConnectionError;
use crate::h2::event::{Event, Heads, Step};
use crate::h2::frame::{FrameHeader, HEADER_LEN, flag, kind};
use crate::h2::limits::FRAME_BYTES_MAX;

const NEED_MORE: Step = Step { consumed: 0, event: Event::NeedMore };

impl Connection {
    /// Takes one frame, or a part of a DATA frame, from the start of `input`. Call until [`Event::NeedMore`] or until
    /// everything is consumed; a frame with several events is consumed with the last of them. Frames other than DATA must
    /// stand in `input` as a whole (they are at most 16,393 octets long); the caller joins its buffers when they do not.
    ///
    /// # Errors
    ///
    /// The connection is over: GOAWAY is queued. Send what [`Self::take_control`] gives and close. Every later call
    /// returns the same error.
    #[inline]
    pub fn receive(&mut self, input: &[u8], now: Time, heads: &mut Heads) -> Result<Step, ConnectionError> {
        self.step(input, now, heads).inspect_err(|error| self.fail(*error))
    }

    fn step(&mut self, input: &[u8], now: Time, heads: &mut Heads) -> Result<Step, ConnectionError> {
        if self.first != 0
            && let Some(step) = self.before_frames(input)?
        {
            return Ok(step);
        }
        if self.control_queued + self.control_taken > self.options.max_outbound_control_frames {
            self.check_outbound()?;
        }
        let Some(wire) = input.first_chunk() else { return Ok(NEED_MORE) };
        let frame = FrameHeader::parse(wire);
        if frame.len > FRAME_BYTES_MAX {
            return Err(ConnectionError::FrameSize);
        }
        if self.block.stream != 0 && (frame.kind, frame.stream) != (kind::CONTINUATION, self.block.stream) {
            return Err(ConnectionError::InterruptedBlock);
        }
        if frame.kind == kind::DATA {
            return self.data(&frame, input);
        }
        let consumed = HEADER_LEN + frame.len;
        let Some(payload) = input.get(HEADER_LEN..consumed) else { return Ok(NEED_MORE) };
        let event = match frame.kind {
            kind::HEADERS => self.headers(&frame, payload, now, heads),
            kind::WINDOW_UPDATE => self.window_update(&frame, payload),
            _ => {
                let event = self.other(&frame, payload, now, heads)?;
                return Ok(self.hold(consumed, event));
            }
        }?;
        Ok(Step { consumed, event })
    }

    /// A frame that has more events is consumed with the last of them, so that nobody stops reading in between.
    fn hold(&mut self, consumed: usize, event: Event) -> Step {
        if self.first & (first::WRITABLE | first::SWEEP) == 0 {
            return Step { consumed, event };
        }
        self.held = consumed;
        Step { consumed: 0, event }
    }

    fn other(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
        now: Time,
        heads: &mut Heads,
    ) -> Result<Event, ConnectionError> {
        match frame.kind {
            kind::RST_STREAM => self.rst_stream(frame, payload, now),
            kind::SETTINGS => self.settings(frame, payload, now),
            kind::PING => self.ping_frame(frame, payload, now),
            kind::PRIORITY => self.priority_frame(frame, payload),
            kind::GOAWAY => self.goaway_frame(frame, payload),
            kind::CONTINUATION => self.continuation(frame, payload, now, heads),
            kind::PUSH_PROMISE => Err(ConnectionError::UnexpectedPush),
            kind::PRIORITY_UPDATE => self.priority_update(frame, payload),
            _ => {
                self.glitch()?;
                Ok(Event::Progress)
            }
        }
    }

    /// What [`first`] says; `None` when a frame is due.
    #[inline(never)]
    fn before_frames(&mut self, input: &[u8]) -> Result<Option<Step>, ConnectionError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.first & first::WRITABLE != 0 {
            self.first &= !first::WRITABLE;
            return Ok(Some(Step { consumed: self.held.min(input.len()), event: Event::ConnectionWritable }));
        }
        if self.first & first::SWEEP != 0 {
            return Ok(Some(match self.sweep() {
                Some(event) => Step { consumed: 0, event },
                None => Step { consumed: self.held.min(input.len()), event: Event::Progress },
            }));
        }
        if self.first & first::PART != 0 {
            return Ok(Some(self.data_part(input)));
        }
        if self.first & first::PREFACE != 0 {
            return self.preface(input).map(Some);
        }
        if self.first & first::SETTINGS != 0 {
            let Some(wire) = input.first_chunk() else { return Ok(Some(NEED_MORE)) };
            let frame = FrameHeader::parse(wire);
            if frame.kind != kind::SETTINGS || frame.has(flag::ACK) {
                return Err(ConnectionError::SettingsMissing);
            }
            self.first &= !first::SETTINGS;
        }
        Ok(None)
    }

    fn preface(&mut self, input: &[u8]) -> Result<Step, ConnectionError> {
        let expected = &PREFACE[usize::from(self.preface)..];
        let consumed = input.len().min(expected.len());
        if input[..consumed] != expected[..consumed] {
            return Err(ConnectionError::BadPreface);
        }
        self.preface += consumed as u8;
        if consumed < expected.len() {
            return Ok(Step { consumed, event: Event::NeedMore });
        }
        self.first &= !first::PREFACE;
        Ok(Step { consumed, event: Event::Progress })
    }

    /// Control frames that the peer does not read: as many more as streams were open at once may wait, since our own
    /// side may reset all of those.
    #[cold]
    fn check_outbound(&mut self) -> Result<(), ConnectionError> {
        let waiting = (self.control_queued + self.control_taken) as usize;
        match waiting > self.options.max_outbound_control_frames as usize + self.streams.peak() {
            true => Err(ConnectionError::OutboundControlFlood),
            false => Ok(()),
        }
    }

    /// Counts a frame that does nothing.
    pub(super) fn glitch(&mut self) -> Result<(), ConnectionError> {
        if self.budgets.glitch() { Ok(()) } else { Err(ConnectionError::GlitchFlood) }
    }

    /// Counts DATA, HEADERS and CONTINUATION frames that carry and end nothing.
    #[inline]
    pub(super) fn count_empty(&mut self, empty: bool) -> Result<(), ConnectionError> {
        if !empty {
            self.empty_frames = 0;
            return Ok(());
        }
        self.empty_frames += 1;
        match self.empty_frames > self.options.max_consecutive_empty_frames {
            true => Err(ConnectionError::EmptyFrameFlood),
            false => Ok(()),
        }
    }
}
