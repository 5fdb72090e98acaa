//! Bodies: turns received bytes into ranges to forward, never into copies.
//!
//! A small state machine over RFC 9112 section 7.1 that accepts exactly the grammar: CRLF line ends, no
//! white space, hexadecimal sizes of at most 16 digits, well-formed extensions within a budget. Chunk lines
//! may be split anywhere; only trailer lines are kept until they are complete.

use alloc::vec::Vec;
use core::ops::Range;

use millrace_base::Limits;

use super::error::BodyError;
use super::field::{self, Line};
use super::framing::BodyFraming;
use crate::header::token::{CLASS, TOKEN, VALUE};
use crate::header::{HeaderId, HeaderMap};

/// Bounds of one message's body framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of chunk extensions in one message.
    pub chunk_extension_bytes_max: u32,
    /// Bytes of the trailer section.
    pub trailer_bytes_max: u32,
    /// Fields of the trailer section.
    pub trailer_fields_max: u16,
}

impl BodyLimits {
    /// The bounds that follow from the shard's limits.
    pub const fn of(limits: &Limits) -> Self {
        Self {
            chunk_extension_bytes_max: limits.chunk_extension_bytes_max,
            trailer_bytes_max: limits.head_bytes_max,
            trailer_fields_max: limits.head_fields_max,
        }
    }
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self::of(&Limits::DEFAULT)
    }
}

/// What a call of [`BodyDecoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyEvent {
    /// Body bytes: a non-empty range of the input.
    Data(Range<usize>),
    /// The input is used up.
    NeedMore,
    /// The trailer section is complete and had fields; those that may be forwarded are in the map.
    Trailers,
    /// The message is complete; the rest of the input belongs to the next message.
    End,
}

/// One event and how many bytes of the input it used (ranges lie within them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeStep {
    /// Bytes to skip before the next call.
    pub consumed: usize,
    /// What they were.
    pub event: BodyEvent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Content-Length: bytes left.
    Counted,
    UntilEnd,
    /// Chunk size; `digits` so far.
    Size {
        digits: u8,
    },
    Extension(Ext),
    /// CR seen at the end of a chunk line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailersTold,
    Done,
}

/// Positions within `*( ";" name [ "=" ( token / quoted-string ) ] )`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ext {
    NameStart,
    Name,
    ValueStart,
    Value,
    Quoted,
    Escaped,
    QuotedEnd,
}

/// Decodes the body of one message. Recycled with [`BodyDecoder::reset`].
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Bytes left of the body or the chunk; the size while a chunk line is read.
    left: u64,
    extension_bytes: u32,
    limits: BodyLimits,
    trailer: Vec<u8>,
}

impl BodyDecoder {
    /// A decoder with the default limits.
    pub fn new(framing: BodyFraming) -> Self {
        Self::with_limits(framing, BodyLimits::default())
    }

    /// A decoder with these limits.
    pub fn with_limits(framing: BodyFraming, limits: BodyLimits) -> Self {
        let mut decoder =
            Self { state: State::Done, left: 0, extension_bytes: 0, limits, trailer: Vec::new() };
        decoder.reset(framing);
        decoder
    }

    /// Starts the next message and keeps allocations.
    pub fn reset(&mut self, framing: BodyFraming) {
        self.left = 0;
        self.extension_bytes = 0;
        self.trailer.clear();
        self.state = match framing {
            BodyFraming::None | BodyFraming::Length(0) => State::Done,
            BodyFraming::Length(n) => {
                self.left = n;
                State::Counted
            }
            BodyFraming::Chunked => State::Size { digits: 0 },
            BodyFraming::UntilClose | BodyFraming::Tunnel => State::UntilEnd,
        };
    }

    /// True when the message is complete: `decode` would report [`BodyEvent::End`] without input.
    #[inline]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done | State::TrailersTold)
    }

    /// Bytes left of a body of known length; 0 for any other.
    #[inline]
    pub fn counted_left(&self) -> u64 {
        if self.state == State::Counted { self.left } else { 0 }
    }

    /// Counts bytes of a body of known length that were forwarded unseen: at most
    /// [`counted_left`](Self::counted_left).
    pub fn skip(&mut self, count: u64) {
        debug_assert!(count <= self.counted_left(), "only a counted body is forwarded unseen");
        if self.state == State::Counted {
            self.left -= count.min(self.left);
            if self.left == 0 {
                self.state = State::Done;
            }
        }
    }

    /// Reports the connection's end: fine after the last byte of a message, and the only end of a body
    /// that is delimited by it.
    pub fn eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done | State::UntilEnd | State::TrailersTold => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }

    /// Decodes up to the next event. Call until [`BodyEvent::NeedMore`] or [`BodyEvent::End`], each time with
    /// what is left. Trailer fields that may be forwarded are appended to `trailers`. After an error the
    /// decoder must be reset.
    pub fn decode(&mut self, input: &[u8], trailers: &mut HeaderMap) -> Result<DecodeStep, BodyError> {
        let mut at = 0;
        let event = loop {
            match self.state {
                State::Counted | State::Data | State::UntilEnd if at < input.len() => {
                    let range = self.take_data(at, input.len());
                    at = range.end;
                    break BodyEvent::Data(range);
                }
                State::Done => break BodyEvent::End,
                State::TrailersTold => {
                    self.state = State::Done;
                    break BodyEvent::End;
                }
                State::Trailer => match self.trailer_line(&input[at..], trailers)? {
                    (used, Some(event)) => {
                        at += used;
                        break event;
                    }
                    (used, None) => at += used,
                },
                _ => match input.get(at) {
                    Some(byte) => {
                        self.byte(*byte)?;
                        at += 1;
                    }
                    None => break BodyEvent::NeedMore,
                },
            }
        };
        Ok(DecodeStep { consumed: at, event })
    }

    /// The longest run of body bytes from `at`.
    #[inline]
    fn take_data(&mut self, at: usize, len: usize) -> Range<usize> {
        if self.state == State::UntilEnd {
            return at..len;
        }
        let run = usize::try_from(self.left).unwrap_or(usize::MAX).min(len - at);
        self.left -= run as u64;
        if self.left == 0 {
            self.state = if self.state == State::Data { State::DataCr } else { State::Done };
        }
        at..at + run
    }

    /// One byte of a chunk line or of the CRLF after chunk data.
    #[inline]
    fn byte(&mut self, byte: u8) -> Result<(), BodyError> {
        self.state = match self.state {
            State::Size { digits } => return self.size_byte(byte, digits),
            State::Extension(ext) => return self.extension_byte(byte, ext),
            State::SizeLf if byte == b'\n' && self.left == 0 => State::Trailer,
            State::SizeLf if byte == b'\n' => State::Data,
            State::SizeLf => return Err(BodyError::BadChunkLine),
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { digits: 0 },
            State::DataCr | State::DataLf => return Err(BodyError::ChunkSpill),
            // The caller's loop handles these; a byte does not change them.
            state => state,
        };
        Ok(())
    }

    #[inline]
    fn size_byte(&mut self, byte: u8, digits: u8) -> Result<(), BodyError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => {
                self.state = State::SizeLf;
                return Ok(());
            }
            b';' if digits > 0 => {
                self.state = State::Extension(Ext::NameStart);
                return self.count_extension_byte();
            }
            b'\n' if digits > 0 => return Err(BodyError::BadChunkLine),
            _ => return Err(BodyError::BadChunkSize),
        };
        if digits == 16 {
            return Err(BodyError::BadChunkSize);
        }
        self.left = if digits == 0 { 0 } else { self.left << 4 } | u64::from(digit);
        self.state = State::Size { digits: digits + 1 };
        Ok(())
    }

    fn count_extension_byte(&mut self) -> Result<(), BodyError> {
        self.extension_bytes += 1;
        if self.extension_bytes > self.limits.chunk_extension_bytes_max {
            return Err(BodyError::ExtensionsTooLarge);
        }
        Ok(())
    }

    fn extension_byte(&mut self, byte: u8, ext: Ext) -> Result<(), BodyError> {
        let token = CLASS[byte as usize] & TOKEN != 0;
        let may_end = matches!(ext, Ext::Name | Ext::Value | Ext::QuotedEnd);
        let next = match (ext, byte) {
            (_, b'\r') if may_end => {
                self.state = State::SizeLf;
                return Ok(());
            }
            (_, b';') if may_end => Ext::NameStart,
            (Ext::NameStart | Ext::Name, _) if token => Ext::Name,
            (Ext::Name, b'=') => Ext::ValueStart,
            (Ext::ValueStart, b'"') => Ext::Quoted,
            (Ext::ValueStart | Ext::Value, _) if token => Ext::Value,
            (Ext::Quoted, b'"') => Ext::QuotedEnd,
            (Ext::Quoted, b'\\') => Ext::Escaped,
            (Ext::Quoted | Ext::Escaped, _) if CLASS[byte as usize] & VALUE != 0 => Ext::Quoted,
            _ => return Err(BodyError::BadChunkExtension),
        };
        self.state = State::Extension(next);
        self.count_extension_byte()
    }

    /// Takes one trailer line, or all of an incomplete one into the decoder.
    fn trailer_line(
        &mut self,
        input: &[u8],
        trailers: &mut HeaderMap,
    ) -> Result<(usize, Option<BodyEvent>), BodyError> {
        // Almost every message ends here, without trailers and in one piece.
        if self.trailer.is_empty() && input.starts_with(b"\r\n") {
            self.state = State::Done;
            return Ok((2, Some(BodyEvent::End)));
        }
        let line_end = memchr::memchr(b'\n', input);
        let used = line_end.map_or(input.len(), |at| at + 1);
        if self.trailer.len() + used > self.limits.trailer_bytes_max as usize {
            return Err(BodyError::TrailersTooLarge);
        }
        self.trailer.extend_from_slice(&input[..used]);
        if line_end.is_none() {
            return Ok((used, Some(BodyEvent::NeedMore)));
        }
        if !self.trailer.ends_with(b"\r\n") {
            return Err(BodyError::BadTrailer);
        }
        if !self.trailer.ends_with(b"\r\n\r\n") && self.trailer != b"\r\n" {
            return Ok((used, None));
        }
        let any = self.take_trailers(trailers)?;
        self.state = if any { State::TrailersTold } else { State::Done };
        Ok((used, Some(if any { BodyEvent::Trailers } else { BodyEvent::End })))
    }

    /// Parses the collected section; returns whether a field was kept.
    fn take_trailers(&mut self, trailers: &mut HeaderMap) -> Result<bool, BodyError> {
        let (mut at, mut fields, mut kept) = (0, 0, false);
        while let Line::Field { name, value, line } =
            field::split(&self.trailer[at..]).map_err(|_| BodyError::BadTrailer)?
        {
            fields += 1;
            if fields > self.limits.trailer_fields_max {
                return Err(BodyError::TrailersTooLarge);
            }
            if trailers.push_wire(name, value, false) {
                kept = true;
            }
            at += line.len();
        }
        if kept {
            kept = trailers.retain(|id, _, _| id.is_none_or(may_trail)) < usize::from(fields);
        }
        Ok(kept)
    }
}

/// RFC 9110 section 6.5.1: never framing, routing, authentication, or content handling.
fn may_trail(id: HeaderId) -> bool {
    use HeaderId::*;
    let content = matches!(
        id,
        ContentType
            | ContentEncoding
            | ContentRange
            | SetCookie
            | Location
            | CacheControl
            | Range
            | Vary
            | Age
            | Expires
            | Date
            | RetryAfter
            | WwwAuthenticate
            | ProxyAuthenticate
            | IfMatch
            | IfNoneMatch
            | IfModifiedSince
            | Origin
    );
    !content && !id.is_framing() && !id.is_identity()
}

#[cfg(test)]
mod tests;
