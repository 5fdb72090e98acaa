//! HEADERS and CONTINUATION (RFC 9113 sections 6.2 and 6.10): field blocks, and what they are for.
//!
//! A block that is complete in its frame is decoded where it stands; fragments are gathered first. Whatever the block is
//! for, it is decoded to its end: the decoder's table belongs to all streams.

use alloc::vec::Vec;

use millrace_base::Time;

use super::Connection;
use crate::h2::error::{ConnectionError, ErrorCode};
use crate::h2::event::{Event, Heads, StreamRef};
use crate::h2::flow::{ReceiveWindow, SendWindow};
use crate::h2::frame::STREAM_MAX;
use crate::h2::frame::{FrameHeader, HEADER_LEN, flag, number};
use crate::h2::head::{Fault, Gate, Request, RequestReader, ResponseReader, TrailerReader};
use crate::h2::hpack::Decoder;
use crate::h2::limits::FRAGMENTS_KEPT;
use crate::h2::options::Role;
use crate::h2::stream::{Stream, UNKNOWN_LENGTH, state};
use crate::head::ResponseHead;
use crate::header::{HeaderId, Indexed};

/// A field block whose end has not come.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// 0 for none.
    pub(super) stream: u32,
    end: bool,
    self_dependent: bool,
    /// Frames behind HEADERS.
    continuations: u32,
    /// Octets of its frames on the wire.
    wire: u32,
    fragments: Vec<u8>,
}

/// What is known of a block besides its octets.
#[derive(Clone, Copy)]
struct Opening {
    stream: u32,
    end: bool,
    self_dependent: bool,
    wire: u32,
}

impl Connection {
    #[inline]
    pub(super) fn headers(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
        now: Time,
        heads: &mut Heads,
    ) -> Result<Event, ConnectionError> {
        if frame.stream & 1 == 0 {
            return Err(ConnectionError::BadStreamId);
        }
        let (fragment, dependency) = split(frame, payload)?;
        let end = frame.has(flag::END_STREAM);
        self.count_empty(fragment.is_empty() && !end)?;
        let opening = Opening {
            stream: frame.stream,
            end,
            self_dependent: dependency == Some(frame.stream),
            wire: (HEADER_LEN + frame.len) as u32,
        };
        if frame.has(flag::END_HEADERS) {
            return self.block(opening, fragment, now, heads);
        }
        self.block.stream = opening.stream;
        (self.block.end, self.block.self_dependent) = (end, opening.self_dependent);
        (self.block.continuations, self.block.wire) = (0, opening.wire);
        self.block.fragments.extend_from_slice(fragment);
        Ok(Event::Progress)
    }

    #[cold]
    pub(super) fn continuation(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
        now: Time,
        heads: &mut Heads,
    ) -> Result<Event, ConnectionError> {
        if self.block.stream == 0 {
            return Err(ConnectionError::InterruptedBlock);
        }
        self.count_empty(payload.is_empty() && !frame.has(flag::END_HEADERS))?;
        self.block.continuations += 1;
        if self.block.continuations > self.options.max_continuations {
            return Err(ConnectionError::ContinuationFlood);
        }
        self.block.wire = self.block.wire.saturating_add((HEADER_LEN + frame.len) as u32);
        self.block.fragments.extend_from_slice(payload);
        if !frame.has(flag::END_HEADERS) {
            return Ok(Event::Progress);
        }
        let Block { stream, end, self_dependent, wire, .. } = self.block;
        let fragments = core::mem::take(&mut self.block.fragments);
        self.block.stream = 0;
        let event = self.block(Opening { stream, end, self_dependent, wire }, &fragments, now, heads);
        if fragments.capacity() <= FRAGMENTS_KEPT {
            self.block.fragments = fragments;
            self.block.fragments.clear();
        }
        event
    }

    /// A whole field block.
    #[inline]
    fn block(
        &mut self,
        opening: Opening,
        block: &[u8],
        now: Time,
        heads: &mut Heads,
    ) -> Result<Event, ConnectionError> {
        let id = opening.stream;
        if self.options.role == Role::Server && id > self.highest {
            return self.request(opening, block, now, heads);
        }
        let Some(slot) = self.streams.find(id) else { return self.block_for_closed(id, block) };
        let stream = StreamRef { id, slot };
        let open = self.streams.at(slot);
        if open.is(state::REMOTE_ENDED) {
            self.skip(block)?;
            return self.stream_error(stream, ErrorCode::StreamClosed);
        }
        if opening.self_dependent {
            self.skip(block)?;
            return self.stream_error(stream, ErrorCode::Protocol);
        }
        match open.is(state::HEAD_IN) {
            true => self.trailers(stream, opening, block, heads),
            false => self.response(stream, opening, block, heads),
        }
    }

    /// Decodes a block that is for nobody.
    #[cold]
    fn skip(&mut self, block: &[u8]) -> Result<(), ConnectionError> {
        let mut gate = Gate::new(&self.options);
        let decoded = self.decoder.decode(block, &mut |field| {
            gate.admits(&field);
            gate.wants_more()
        });
        decoded.map_err(|_| ConnectionError::Compression)?;
        if gate.is_bomb() { Err(ConnectionError::HeaderBomb) } else { Ok(()) }
    }

    #[cold]
    fn block_for_closed(&mut self, id: u32, block: &[u8]) -> Result<Event, ConnectionError> {
        if !self.is_idle(id) {
            self.counts.headers_cb_no_stream += 1;
            self.skip(block)?;
        }
        self.frame_for_closed(id)?;
        self.glitch()?;
        Ok(Event::Progress)
    }

    #[inline]
    fn request(
        &mut self,
        opening: Opening,
        block: &[u8],
        now: Time,
        heads: &mut Heads,
    ) -> Result<Event, ConnectionError> {
        let id = opening.stream;
        self.highest = id;
        if self.leaving.refuses(id) {
            self.skip(block)?;
            self.glitch()?;
            return Ok(Event::Progress);
        }
        if self.streams.len() >= self.options.max_concurrent_streams as usize {
            return self.too_many(id, block);
        }
        self.budgets.open();
        self.budgets.useful = self.budgets.useful.wrapping_add(1);
        let mut reader =
            RequestReader::new(Gate::new(&self.options), &mut heads.request, &mut self.authority);
        decode(&mut self.decoder, block, |field| reader.field(field))?;
        if reader.gate.is_bomb() {
            return Err(ConnectionError::HeaderBomb);
        }
        self.counts.dropped_headers_with_underscores += reader.gate.dropped;
        let mut result = reader.finish(opening.end);
        if opening.self_dependent {
            result = Err(Fault::Malformed);
        }
        let (request, too_large) = match result {
            Ok(request) => (request, false),
            Err(Fault::TooLarge) => {
                self.counts.header_overflow += 1;
                (Request::default(), true)
            }
            Err(fault) => return self.malformed(id, fault),
        };
        let stream = self.insert(id, &request, opening.end, now);
        let (end, head_bytes) = (opening.end, opening.wire);
        Ok(match too_large {
            false => Event::Request { stream, end, head_bytes },
            true => Event::TooLarge { stream, end, head_bytes },
        })
    }

    #[inline]
    fn insert(&mut self, id: u32, request: &Request, end: bool, now: Time) -> StreamRef {
        let bit = |holds: bool, bit: u8| if holds { bit } else { 0 };
        let slot = self.streams.insert(Stream {
            id,
            state: state::HEAD_IN
                | bit(end, state::REMOTE_ENDED)
                | bit(request.connect, state::CONNECT)
                | bit(request.extended, state::EXTENDED),
            priority: request.priority,
            user: 0,
            send: SendWindow::new(self.peer.initial_window),
            receive: ReceiveWindow::new(self.stream_window),
            length_left: request.length,
            opened: now,
            protocol: None,
        });
        StreamRef { id, slot }
    }

    /// Beyond SETTINGS_MAX_CONCURRENT_STREAMS (section 5.1.2). Safe to try again, and not counted as an early end.
    #[cold]
    fn too_many(&mut self, id: u32, block: &[u8]) -> Result<Event, ConnectionError> {
        self.skip(block)?;
        self.counts.refused_streams += 1;
        // The client may have sent frames for it that a stream entitles it to.
        self.budgets.opened = self.budgets.opened.saturating_add(1);
        self.queue_reset(id, ErrorCode::RefusedStream);
        self.glitch()?;
        Ok(Event::Progress)
    }

    #[cold]
    fn malformed(&mut self, id: u32, fault: Fault) -> Result<Event, ConnectionError> {
        match fault {
            Fault::Underscore => self.counts.requests_rejected_with_underscores_in_headers += 1,
            Fault::Malformed | Fault::TooLarge => self.counts.rx_messaging_error += 1,
        }
        self.refuse(id, ErrorCode::Protocol)
    }

    #[inline]
    fn response(
        &mut self,
        stream: StreamRef,
        opening: Opening,
        block: &[u8],
        heads: &mut Heads,
    ) -> Result<Event, ConnectionError> {
        let mut reader = ResponseReader::new(Gate::new(&self.options), &mut heads.response);
        decode(&mut self.decoder, block, |field| reader.field(field))?;
        if reader.gate.is_bomb() {
            return Err(ConnectionError::HeaderBomb);
        }
        let open = self.streams.at(stream.slot);
        let user = open.user;
        let length = match reader.finish(opening.end, open.is(state::BODYLESS)) {
            Ok(length) => length,
            Err(fault) => return self.bad_fields(stream, fault),
        };
        self.budgets.useful = self.budgets.useful.wrapping_add(1);
        let status = heads.response.status;
        if status < 200 {
            return Ok(Event::Informational { stream, user });
        }
        open.state |= state::HEAD_IN;
        open.length_left = length;
        if open.is(state::CONNECT) {
            let protocol = open.protocol.take();
            if status >= 300 {
                // No tunnel but an ordinary response.
                open.state &= !(state::CONNECT | state::EXTENDED);
            } else {
                open.length_left = UNKNOWN_LENGTH;
                protocol.iter().for_each(|protocol| switch_protocols(&mut heads.response, protocol));
            }
        }
        if opening.end {
            self.end_side(stream.slot, state::REMOTE_ENDED);
        }
        Ok(Event::Response { stream, user, end: opening.end, head_bytes: opening.wire })
    }

    fn trailers(
        &mut self,
        stream: StreamRef,
        opening: Opening,
        block: &[u8],
        heads: &mut Heads,
    ) -> Result<Event, ConnectionError> {
        let mut reader = TrailerReader::new(Gate::new(&self.options), &mut heads.trailers);
        decode(&mut self.decoder, block, |field| reader.field(field))?;
        if reader.gate.is_bomb() {
            return Err(ConnectionError::HeaderBomb);
        }
        let fault = reader.gate.fault();
        self.counts.dropped_headers_with_underscores += reader.gate.dropped;
        self.counts.trailers += 1;
        let open = self.streams.at(stream.slot);
        let user = open.user;
        // A section that does not end the stream, or a tunnel's, or one before the body is complete.
        let misplaced = !opening.end || open.is(state::CONNECT) || !open.count_content(0, true);
        match fault {
            Some(fault) => return self.bad_fields(stream, fault),
            None if misplaced => return self.bad_fields(stream, Fault::Malformed),
            None => {}
        }
        self.end_side(stream.slot, state::REMOTE_ENDED);
        Ok(Event::Trailers { stream, user })
    }

    /// Ends an open stream for a response head or trailers.
    #[cold]
    fn bad_fields(&mut self, stream: StreamRef, fault: Fault) -> Result<Event, ConnectionError> {
        let code = match fault {
            Fault::TooLarge => {
                self.counts.header_overflow += 1;
                ErrorCode::EnhanceYourCalm
            }
            Fault::Malformed | Fault::Underscore => {
                self.counts.rx_messaging_error += 1;
                ErrorCode::Protocol
            }
        };
        let mut event = self.stream_error(stream, code)?;
        if let Event::Reset { malformed, .. } = &mut event {
            *malformed = true;
        }
        Ok(event)
    }
}

/// Decodes a block into whatever takes the fields.
#[inline]
fn decode(
    decoder: &mut Decoder,
    block: &[u8],
    mut take: impl FnMut(&crate::h2::hpack::Field<'_>) -> bool,
) -> Result<(), ConnectionError> {
    decoder.decode(block, &mut |field| take(&field)).map_err(|_| ConnectionError::Compression)
}

/// Takes padding and priority off a HEADERS frame: the fragment, and the stream that it depends on.
#[inline]
fn split<'p>(frame: &FrameHeader, mut payload: &'p [u8]) -> Result<(&'p [u8], Option<u32>), ConnectionError> {
    if frame.flags & (flag::PADDED | flag::PRIORITY) == 0 {
        return Ok((payload, None));
    }
    let mut padding = 0;
    if frame.has(flag::PADDED) {
        let (length, rest) = payload.split_first().ok_or(ConnectionError::FrameSize)?;
        (padding, payload) = (usize::from(*length), rest);
    }
    let mut dependency = None;
    if frame.has(flag::PRIORITY) {
        dependency = number(payload).map(|stream| stream & STREAM_MAX);
        // The weight behind the stream is of no use to anybody since RFC 9113.
        payload = payload.get(5..).ok_or(ConnectionError::FrameSize)?;
    }
    let length = payload.len().checked_sub(padding).ok_or(ConnectionError::BadPadding)?;
    Ok((&payload[..length], dependency))
}

/// A 2xx to extended CONNECT is what 101 was in HTTP/1.1.
#[cold]
fn switch_protocols(head: &mut ResponseHead, protocol: &[u8]) {
    head.status = 101;
    for (id, value) in [(HeaderId::Upgrade, protocol), (HeaderId::Connection, b"upgrade")] {
        let name = id.name().as_bytes();
        head.headers.push_indexed(&Indexed { id: Some(id), name, value, sensitive: false });
    }
}
