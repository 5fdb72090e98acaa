//! Frame headers, types and flags (RFC 9113 sections 4.1 and 6).

use alloc::vec::Vec;

/// Octets of a frame header.
pub(super) const HEADER_LEN: usize = 9;

/// Frame types.
pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
    /// RFC 9218 section 7.1.
    pub(crate) const PRIORITY_UPDATE: u8 = 0x10;
}

/// Frame flags; others are ignored.
pub(super) mod flag {
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// A frame header as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Octets of the payload.
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// The stream; the reserved bit is ignored.
    pub(super) stream: u32,
}

impl FrameHeader {
    #[inline]
    pub(super) fn parse(wire: &[u8; HEADER_LEN]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *wire;
        Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & STREAM_MAX,
        }
    }

    /// True when the frame has this flag.
    #[inline]
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The highest stream identifier, and the largest window.
pub(super) const STREAM_MAX: u32 = 0x7fff_ffff;

/// A frame header on the wire. `len` is below 2^24.
#[inline]
pub(super) fn header(len: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEADER_LEN] {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

/// Appends a whole frame with a payload of a few octets.
#[inline]
pub(super) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.reserve(HEADER_LEN + payload.len());
    out.extend_from_slice(&header(payload.len(), kind, flags, stream));
    out.extend_from_slice(payload);
}

/// The big-endian number at the start of a payload; `None` when it is shorter.
#[inline]
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|word| u32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_written() {
        for (len, kind, flags, stream) in
            [(0, 0, 0, 0), (16_384, 9, 0x2d, 1), (0xff_ffff, 0xff, 0xff, STREAM_MAX)]
        {
            let frame = FrameHeader { len, kind, flags, stream };
            assert_eq!(FrameHeader::parse(&header(len, kind, flags, stream)), frame);
        }
        let reserved = FrameHeader::parse(&[0, 0, 1, 0, 0, 0x80, 0, 0, 3]);
        assert_eq!(reserved.stream, 3, "section 4.1: the reserved bit is ignored");
        let mut out = Vec::new();
        write(&mut out, kind::PING, flag::ACK, 0, &[7; 8]);
        assert_eq!(out, [0, 0, 8, 6, 1, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7]);
        assert_eq!((number(&[0, 0, 1, 0, 9]), number(&[0, 0, 1])), (Some(256), None));
    }
}
