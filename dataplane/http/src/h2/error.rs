//! Error codes of RFC 9113 section 7 and everything that ends a connection.

use core::fmt;

/// An error code as RST_STREAM and GOAWAY carry it (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the code of its name")]
pub enum ErrorCode {
    NoError,
    Protocol,
    Internal,
    FlowControl,
    SettingsTimeout,
    StreamClosed,
    FrameSize,
    RefusedStream,
    Cancel,
    Compression,
    Connect,
    EnhanceYourCalm,
    InadequateSecurity,
    Http11Required,
    /// A code without meaning for us; RFC 9113 section 7 treats it like `Internal`.
    Unknown(u32),
}

const KNOWN: [ErrorCode; 14] = [
    ErrorCode::NoError,
    ErrorCode::Protocol,
    ErrorCode::Internal,
    ErrorCode::FlowControl,
    ErrorCode::SettingsTimeout,
    ErrorCode::StreamClosed,
    ErrorCode::FrameSize,
    ErrorCode::RefusedStream,
    ErrorCode::Cancel,
    ErrorCode::Compression,
    ErrorCode::Connect,
    ErrorCode::EnhanceYourCalm,
    ErrorCode::InadequateSecurity,
    ErrorCode::Http11Required,
];

impl ErrorCode {
    /// The code of a number on the wire.
    pub fn from_wire(code: u32) -> Self {
        KNOWN.get(code as usize).copied().unwrap_or(Self::Unknown(code))
    }

    /// The number on the wire.
    pub fn to_wire(self) -> u32 {
        match self {
            Self::Unknown(code) => code,
            known => KNOWN.iter().position(|k| *k == known).unwrap_or(0) as u32,
        }
    }
}

/// Why the connection is over: what RFC 9113 calls a connection error, and floods. GOAWAY is queued already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionError {
    /// The client did not open with the preface (section 3.4).
    BadPreface,
    /// The first frame is not SETTINGS (section 3.4).
    SettingsMissing,
    /// A frame on a stream that it may not stand on: stream 0, an idle stream, one of the wrong parity (sections 5.1, 6).
    BadStreamId,
    /// HEADERS for a new stream below one that was opened already (section 5.1.1).
    DecreasingStreamId,
    /// A frame on a stream that both sides have ended (section 5.1).
    StreamClosed,
    /// A frame above SETTINGS_MAX_FRAME_SIZE, or of a length that its type does not allow (sections 4.2, 6).
    FrameSize,
    /// Padding that does not fit the frame (sections 6.1, 6.2).
    BadPadding,
    /// A field block that another frame interrupts, or CONTINUATION without one (section 6.10).
    InterruptedBlock,
    /// PUSH_PROMISE, which neither clients nor, since we switch it off, servers may send (section 8.4).
    UnexpectedPush,
    /// A setting with a value that it may not have (section 6.5.2).
    BadSetting,
    /// SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1, or one that lifts a stream's window above it (section 6.9.2).
    BadInitialWindow,
    /// WINDOW_UPDATE of 0 for the connection (section 6.9).
    ZeroIncrement,
    /// WINDOW_UPDATE lifts the connection's window above 2^31-1 (section 6.9.1).
    WindowOverflow,
    /// DATA beyond the connection's window (section 6.9).
    FlowControl,
    /// PRIORITY_UPDATE that names no request stream or is too short (RFC 9218 section 7.1).
    BadPriorityUpdate,
    /// A field block that cannot be decoded (RFC 7541).
    Compression,
    /// A field block of more than four times the limits: an HPACK bomb.
    HeaderBomb,
    /// More CONTINUATION frames for one block than `max_continuations`.
    ContinuationFlood,
    /// More than `max_consecutive_empty_frames` of them.
    EmptyFrameFlood,
    /// PRIORITY frames beyond `max_priority_frames_per_stream`.
    PriorityFlood,
    /// WINDOW_UPDATE frames beyond `max_window_updates_per_data`.
    WindowUpdateFlood,
    /// More SETTINGS and PING frames than the budget allows.
    ControlFlood,
    /// More than `max_outbound_control_frames` wait for the peer to read.
    OutboundControlFlood,
    /// Too large a part of the streams ended early: rapid reset, or resets that the peer provoked.
    ResetFlood,
    /// Too many frames that have no effect.
    GlitchFlood,
}

impl ConnectionError {
    /// The code in GOAWAY.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::BadPreface
            | Self::SettingsMissing
            | Self::BadStreamId
            | Self::DecreasingStreamId
            | Self::BadPadding
            | Self::InterruptedBlock
            | Self::UnexpectedPush
            | Self::BadSetting
            | Self::ZeroIncrement
            | Self::BadPriorityUpdate => ErrorCode::Protocol,
            Self::StreamClosed => ErrorCode::StreamClosed,
            Self::FrameSize => ErrorCode::FrameSize,
            Self::BadInitialWindow | Self::WindowOverflow | Self::FlowControl => ErrorCode::FlowControl,
            Self::Compression => ErrorCode::Compression,
            _ => ErrorCode::EnhanceYourCalm,
        }
    }

    /// `%RESPONSE_CODE_DETAILS%` and the details of the connection's end, in Envoy's words where it has some.
    pub fn details(&self) -> &'static str {
        match self {
            Self::EmptyFrameFlood => "http2.inbound_empty_frames_flood",
            Self::PriorityFlood => "http2.inbound_priority_frames_flood",
            Self::WindowUpdateFlood => "http2.inbound_window_update_frames_flood",
            Self::OutboundControlFlood => "http2.outbound_control_frames_flood",
            Self::ControlFlood => "http2.inbound_control_frames_flood",
            Self::ContinuationFlood => "http2.continuation_flood",
            Self::ResetFlood => "http2.reset_flood",
            Self::GlitchFlood => "http2.glitch_flood",
            Self::HeaderBomb => "http2.header_bomb",
            Self::Compression => "http2.header_compression_error",
            Self::FlowControl | Self::WindowOverflow | Self::BadInitialWindow => "http2.flow_control_error",
            Self::FrameSize => "http2.frame_size_error",
            Self::BadPreface => "http2.bad_preface",
            _ => "http2.protocol_error",
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP/2 connection ended: {self:?} ({})", self.details())
    }
}

impl core::error::Error for ConnectionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbered_as_in_the_rfc() {
        for wire in 0..14 {
            let code = ErrorCode::from_wire(wire);
            assert!(!matches!(code, ErrorCode::Unknown(_)));
            assert_eq!(code.to_wire(), wire);
        }
        assert_eq!(ErrorCode::EnhanceYourCalm.to_wire(), 11);
        assert_eq!(ErrorCode::from_wire(14), ErrorCode::Unknown(14));
        assert_eq!(ErrorCode::from_wire(u32::MAX).to_wire(), u32::MAX);
    }
}
