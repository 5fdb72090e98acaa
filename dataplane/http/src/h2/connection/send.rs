//! Heads, DATA and trailers on their way out (RFC 9113 section 8.1).

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Connection;
use crate::h1::{trim_ows, upgrade_type};
use crate::h2::event::StreamRef;
use crate::h2::flow::{ReceiveWindow, SendWindow};
use crate::h2::frame::{self, HEADER_LEN, flag, kind};
use crate::h2::hpack::{Encoder, Name};
use crate::h2::priority::Priority;
use crate::h2::stream::{Stream, UNKNOWN_LENGTH, state};
use crate::head::{Method, RequestHead, ResponseHead};
use crate::header::{HeaderId, HeaderMap, Indexed};
use millrace_base::Time;

/// Fields that never leave on HTTP/2 (RFC 9113 section 8.2.2); `te` only as `trailers`.
const LEFT_OUT: u128 = HeaderId::set(&[
    HeaderId::Host,
    HeaderId::Connection,
    HeaderId::KeepAlive,
    HeaderId::ProxyConnection,
    HeaderId::TransferEncoding,
    HeaderId::Upgrade,
    HeaderId::Http2Settings,
]);

/// What trailers may not have besides (RFC 9110 section 6.5.1).
const NO_TRAILER: u128 = HeaderId::set(&[HeaderId::ContentLength, HeaderId::Te]);

impl Connection {
    /// Client: appends a request head; `None` without room (see [`Self::can_open`]). A GET with an upgrade becomes
    /// extended CONNECT where the peer takes it or has not said, else a plain GET.
    pub fn send_request(
        &mut self,
        head: &RequestHead,
        user: u64,
        end: bool,
        out: &mut Vec<u8>,
    ) -> Option<StreamRef> {
        if !self.can_open() {
            return None;
        }
        self.control_first(out);
        let id = if self.highest == 0 { 1 } else { self.highest + 2 };
        self.highest = id;
        self.budgets.open();
        let kind = head.method_kind();
        let protocol = match kind {
            // Before the peer's SETTINGS nobody knows; as Envoy does, the best is hoped for.
            Method::Get if self.peer.connect || !self.settings_seen => upgrade_type(&head.headers),
            _ => None,
        };
        let at = begin_block(&mut self.encoder, out);
        self.encode_pseudo(head, protocol, out);
        encode_fields(&mut self.encoder, &head.headers, LEFT_OUT, out);
        self.end_block(at, id, end, out);
        let state = match kind {
            _ if protocol.is_some() => state::CONNECT | state::EXTENDED,
            Method::Connect => state::CONNECT,
            Method::Head => state::BODYLESS,
            _ => 0,
        };
        let slot = self.streams.insert(Stream {
            id,
            state: state | if end { state::LOCAL_ENDED } else { 0 },
            priority: Priority::default(),
            user,
            send: SendWindow::new(self.peer.initial_window),
            receive: ReceiveWindow::new(self.stream_window),
            length_left: UNKNOWN_LENGTH,
            opened: Time::ZERO,
            protocol: protocol.map(Box::from),
        });
        Some(StreamRef { id, slot })
    }

    #[inline]
    fn encode_pseudo(&mut self, head: &RequestHead, protocol: Option<&[u8]>, out: &mut Vec<u8>) {
        let or = |text, default| if <[u8]>::is_empty(text) { default } else { text };
        let encoder = &mut self.encoder;
        encoder.method(if protocol.is_some() { b"CONNECT" } else { head.method() }, out);
        if let Some(protocol) = protocol {
            let id = Name::Pseudo(crate::h2::hpack::Pseudo::Protocol);
            encoder.field(b":protocol", protocol, id, out);
        }
        if head.method_kind() != Method::Connect {
            encoder.scheme(or(head.scheme(), b"http"), out);
            encoder.path(or(head.path(), b"/"), out);
        }
        if !head.authority().is_empty() {
            encoder.authority(head.authority(), out);
        }
    }

    /// Server: appends a response head; status 1xx is interim and ends nothing. 101 is the answer to an extended CONNECT
    /// and becomes 200. False, and nothing appended: the stream is gone, or it is 101 to another request.
    pub fn send_response(
        &mut self,
        stream: StreamRef,
        head: &ResponseHead,
        end: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(open) = self.streams.get(stream).filter(|s| !s.is(state::LOCAL_ENDED)) else { return false };
        let status = match head.status {
            101 if open.is(state::EXTENDED) => 200,
            101 => return false,
            status => status,
        };
        let end = end && status >= 200;
        self.control_first(out);
        let at = begin_block(&mut self.encoder, out);
        self.encoder.status(status, out);
        encode_fields(&mut self.encoder, &head.headers, LEFT_OUT | HeaderId::Te.bit(), out);
        self.end_block(at, stream.id, end, out);
        if end {
            self.end_side(stream.slot, state::LOCAL_ENDED);
        }
        true
    }

    /// Appends trailers, which end our direction; without any field that is an empty DATA frame. False, and nothing
    /// appended: the stream is gone.
    pub fn send_trailers(&mut self, stream: StreamRef, trailers: &HeaderMap, out: &mut Vec<u8>) -> bool {
        if !self.is_sending(stream) {
            return false;
        }
        self.control_first(out);
        let at = begin_block(&mut self.encoder, out);
        encode_fields(&mut self.encoder, trailers, LEFT_OUT | NO_TRAILER, out);
        if out.len() == at + HEADER_LEN {
            out.truncate(at);
            return self.send_data(stream, 0, true, out);
        }
        self.end_block(at, stream.id, true, out);
        self.end_side(stream.slot, state::LOCAL_ENDED);
        true
    }

    /// What was queued goes first: the preface and SETTINGS before anything else, and the acknowledgement of SETTINGS
    /// before DATA that they make room for.
    #[inline]
    fn control_first(&mut self, out: &mut Vec<u8>) {
        if !self.control.is_empty() {
            self.take_control(out);
        }
    }

    /// Writes the frame header of a block that began at `at`, and splits it where the peer's frames are smaller.
    #[inline]
    fn end_block(&mut self, at: usize, id: u32, end: bool, out: &mut Vec<u8>) {
        let len = out.len() - at - HEADER_LEN;
        let end = if end { flag::END_STREAM } else { 0 };
        let most = self.peer.frame_bytes_max as usize;
        if len > most {
            return split_block(at, id, end, most, out);
        }
        let header = frame::header(len, kind::HEADERS, flag::END_HEADERS | end, id);
        out[at..at + HEADER_LEN].copy_from_slice(&header);
    }

    /// Bytes of DATA that may be sent now in one frame: the least of both windows and the peer's frame size; 0 for a
    /// stream that is gone or that we have ended.
    #[inline]
    pub fn capacity(&self, stream: StreamRef) -> usize {
        match self.streams.get(stream) {
            Some(open) if !open.is(state::LOCAL_ENDED) => {
                let windows = open.send.available().min(self.send.available());
                windows.min(self.peer.frame_bytes_max as usize)
            }
            _ => 0,
        }
    }

    /// Appends the header of a DATA frame of `len` bytes, which the caller appends right behind; at most
    /// [`Self::capacity`]. 0 with `end` is allowed always. False, and nothing appended: the stream is gone.
    #[inline]
    pub fn send_data(&mut self, stream: StreamRef, len: usize, end: bool, out: &mut Vec<u8>) -> bool {
        debug_assert!(len <= self.capacity(stream), "DATA beyond the capacity");
        let Some(open) = self.streams.get_mut(stream).filter(|s| !s.is(state::LOCAL_ENDED)) else {
            return false;
        };
        open.send.charge(len);
        self.send.charge(len);
        self.control_first(out);
        let flags = if end { flag::END_STREAM } else { 0 };
        out.extend_from_slice(&frame::header(len, kind::DATA, flags, stream.id));
        self.budgets.data_sent = self.budgets.data_sent.saturating_add(1);
        self.budgets.useful = self.budgets.useful.wrapping_add(u32::from(len > 0));
        if end {
            self.end_side(stream.slot, state::LOCAL_ENDED);
        }
        true
    }
}

/// Leaves room for a frame header and begins a field block.
#[inline]
fn begin_block(encoder: &mut Encoder, out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    encoder.begin(out);
    at
}

/// Appends the fields that may leave. Most heads have none of the others.
#[inline]
fn encode_fields(encoder: &mut Encoder, fields: &HeaderMap, left_out: u128, out: &mut Vec<u8>) {
    if fields.contains_any(left_out | HeaderId::Te.bit()) {
        return encode_some(encoder, fields, left_out, out);
    }
    for field in fields.indexed() {
        encode_field(encoder, &field, out);
    }
}

#[cold]
fn encode_some(encoder: &mut Encoder, fields: &HeaderMap, left_out: u128, out: &mut Vec<u8>) {
    for field in fields.indexed() {
        match field.id {
            Some(id) if left_out & id.bit() != 0 => {}
            Some(HeaderId::Te) if !field.value.eq_ignore_ascii_case(b"trailers") => {}
            _ => encode_field(encoder, &field, out),
        }
    }
}

#[inline]
fn encode_field(encoder: &mut Encoder, field: &Indexed<'_>, out: &mut Vec<u8>) {
    let id = field.id.map_or(Name::Other, Name::Known);
    let value = match field.value {
        // White space at an end would make the message malformed.
        [0..=b' ', ..] | [.., 0..=b' '] => trim_ows(field.value),
        value => value,
    };
    match field.sensitive {
        false => encoder.field(field.name, value, id, out),
        true => encoder.sensitive(field.name, value, id, out),
    }
}

/// Makes HEADERS and CONTINUATION frames of a block that is too long for one frame.
#[cold]
fn split_block(at: usize, id: u32, end: u8, most: usize, out: &mut Vec<u8>) {
    let block = out.split_off(at + HEADER_LEN);
    out.truncate(at);
    let mut fragments = block.chunks(most).peekable();
    let mut flags = (kind::HEADERS, end);
    while let Some(fragment) = fragments.next() {
        let last = if fragments.peek().is_none() { flag::END_HEADERS } else { 0 };
        frame::write(out, flags.0, flags.1 | last, id, fragment);
        flags = (kind::CONTINUATION, 0);
    }
}
