//! Frames of RFC 9113 as bytes; any frame can be built, the malformed ones too.

/// Frame types.
pub mod kind {
    #![allow(missing_docs, reason = "the names are RFC 9113's")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub mod flag {
    #![allow(missing_docs, reason = "the names are RFC 9113's")]
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Error codes (section 7).
pub mod code {
    #![allow(missing_docs, reason = "the names are RFC 9113's")]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const CONNECT_ERROR: u32 = 10;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// Identifiers of settings (section 6.5.2, RFC 8441).
pub mod setting {
    #![allow(missing_docs, reason = "the names are RFC 9113's")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// What a client sends first (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Octets of a frame header.
pub const HEADER: usize = 9;

/// A frame as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of [`kind`], or unknown.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream, 0 for the connection.
    pub stream: u32,
    /// Payload with its padding.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The first complete frame of `bytes` and its length on the wire.
    pub fn first(bytes: &[u8]) -> Option<(Self, usize)> {
        let header = bytes.get(..HEADER)?;
        let len = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let payload = bytes.get(HEADER..HEADER + len)?.to_vec();
        let stream = number(&header[5..]) & 0x7fff_ffff;
        Some((Self { kind: header[3], flags: header[4], stream, payload }, HEADER + len))
    }

    /// True when all these flags are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The payload of DATA or HEADERS without padding and priority.
    pub fn content(&self) -> Option<&[u8]> {
        let mut rest = &self.payload[..];
        let mut padding = 0;
        if self.has(flag::PADDED) {
            padding = usize::from(*rest.first()?);
            rest = &rest[1..];
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            rest = rest.get(5..)?;
        }
        rest.get(..rest.len().checked_sub(padding)?)
    }
}

/// The first four octets as a number; missing ones count as 0.
pub fn number(bytes: &[u8]) -> u32 {
    (0..4).fold(0, |n, i| n << 8 | u32::from(bytes.get(i).copied().unwrap_or(0)))
}

/// A frame; the payload may be up to 2^24-1 octets.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let head = [len[1], len[2], len[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS.
pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// The acknowledgement of SETTINGS.
pub fn settings_ack() -> Vec<u8> {
    frame(kind::SETTINGS, flag::ACK, 0, &[])
}

/// RST_STREAM.
pub fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// PING.
pub fn ping(payload: &[u8; 8]) -> Vec<u8> {
    frame(kind::PING, 0, 0, payload)
}

/// GOAWAY.
pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// WINDOW_UPDATE.
pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// PRIORITY.
pub fn priority(stream: u32, on: u32) -> Vec<u8> {
    frame(kind::PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[1]].concat())
}

/// HEADERS with a whole block, cut into CONTINUATIONs at 16,384 octets.
pub fn headers(stream: u32, block: &[u8], end: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let pieces: Vec<&[u8]> = if block.is_empty() { vec![block] } else { block.chunks(16_384).collect() };
    for (n, piece) in pieces.iter().enumerate() {
        let (kind, mut flags) = if n == 0 { (kind::HEADERS, u8::from(end)) } else { (kind::CONTINUATION, 0) };
        if n + 1 == pieces.len() {
            flags |= flag::END_HEADERS;
        }
        out.extend(frame(kind, flags, stream, piece));
    }
    out
}

/// DATA.
pub fn data(stream: u32, payload: &[u8], end: bool) -> Vec<u8> {
    frame(kind::DATA, u8::from(end), stream, payload)
}
