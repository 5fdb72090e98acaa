//! SETTINGS of both sides (RFC 9113 section 6.5, RFC 8441 section 3, RFC 9218 section 2.1).

use alloc::vec::Vec;

use super::error::ConnectionError;
use super::frame::STREAM_MAX;
use super::limits::{DEFAULT_TABLE_BYTES, DEFAULT_WINDOW, FRAME_BYTES_MAX, STREAMS_BEFORE_SETTINGS};
use super::options::{Options, Role};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;
const NO_RFC7540_PRIORITIES: u16 = 9;

const SETTING_LEN: usize = 6;

/// What the peer announced. SETTINGS_MAX_HEADER_LIST_SIZE is advice and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerSettings {
    pub(super) table_size: u32,
    pub(super) max_streams: u32,
    pub(super) initial_window: u32,
    pub(super) frame_bytes_max: u32,
    pub(super) connect: bool,
}

impl PeerSettings {
    /// Initial values, which hold until the peer's first SETTINGS arrive.
    pub(super) fn new() -> Self {
        Self {
            table_size: DEFAULT_TABLE_BYTES,
            max_streams: STREAMS_BEFORE_SETTINGS,
            initial_window: DEFAULT_WINDOW,
            frame_bytes_max: FRAME_BYTES_MAX as u32,
            connect: false,
        }
    }

    /// Takes the payload of a SETTINGS frame; values count in the order they stand.
    pub(super) fn apply(&mut self, payload: &[u8], our_role: Role) -> Result<(), ConnectionError> {
        let (settings, rest) = payload.as_chunks::<SETTING_LEN>();
        if !rest.is_empty() {
            return Err(ConnectionError::FrameSize);
        }
        for [a, b, value @ ..] in settings {
            self.set(u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value), our_role)?;
        }
        Ok(())
    }

    fn set(&mut self, setting: u16, value: u32, our_role: Role) -> Result<(), ConnectionError> {
        match setting {
            HEADER_TABLE_SIZE => self.table_size = value,
            // A server never lets itself be pushed to.
            ENABLE_PUSH if value > u32::from(our_role == Role::Server) => {
                return Err(ConnectionError::BadSetting);
            }
            MAX_CONCURRENT_STREAMS => self.max_streams = value,
            INITIAL_WINDOW_SIZE if value > STREAM_MAX => return Err(ConnectionError::BadInitialWindow),
            INITIAL_WINDOW_SIZE => self.initial_window = value,
            MAX_FRAME_SIZE if !(FRAME_BYTES_MAX as u32..=0xff_ffff).contains(&value) => {
                return Err(ConnectionError::BadSetting);
            }
            MAX_FRAME_SIZE => self.frame_bytes_max = value,
            // What was offered once may not be taken back (RFC 8441 section 3).
            ENABLE_CONNECT_PROTOCOL if value > 1 || (value == 0 && self.connect) => {
                return Err(ConnectionError::BadSetting);
            }
            ENABLE_CONNECT_PROTOCOL => self.connect = value == 1,
            NO_RFC7540_PRIORITIES if value > 1 => return Err(ConnectionError::BadSetting),
            _ => {}
        }
        Ok(())
    }
}

/// Appends the payload of our SETTINGS.
pub(super) fn write_ours(options: &Options, out: &mut Vec<u8>) {
    let mut put = |setting: u16, value: u32| {
        out.extend_from_slice(&setting.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    };
    if options.hpack_table_size != DEFAULT_TABLE_BYTES {
        put(HEADER_TABLE_SIZE, options.hpack_table_size);
    }
    match options.role {
        Role::Server => put(MAX_CONCURRENT_STREAMS, options.max_concurrent_streams),
        Role::Client => put(ENABLE_PUSH, 0),
    }
    put(INITIAL_WINDOW_SIZE, options.initial_stream_window);
    put(MAX_HEADER_LIST_SIZE, options.head_bytes_max);
    if options.role == Role::Server && options.allow_connect {
        put(ENABLE_CONNECT_PROTOCOL, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::ErrorCode;

    fn apply(role: Role, settings: &[(u16, u32)]) -> Result<PeerSettings, ConnectionError> {
        let mut wire = Vec::new();
        for (setting, value) in settings {
            wire.extend_from_slice(&setting.to_be_bytes());
            wire.extend_from_slice(&value.to_be_bytes());
        }
        let mut peer = PeerSettings::new();
        peer.apply(&wire, role).map(|()| peer)
    }

    #[test]
    fn the_last_value_counts_and_unknown_settings_are_ignored() {
        let peer = apply(Role::Client, &[(3, 1), (0xffff, 9), (3, 7), (1, 0), (4, 5), (5, 20_000), (8, 1)]);
        let expected = PeerSettings {
            table_size: 0,
            max_streams: 7,
            initial_window: 5,
            frame_bytes_max: 20_000,
            connect: true,
        };
        assert_eq!(peer, Ok(expected));
    }

    #[test]
    fn values_that_may_not_be() {
        for (role, bad, code) in [
            (Role::Server, &[(ENABLE_PUSH, 2)][..], ErrorCode::Protocol),
            (Role::Client, &[(ENABLE_PUSH, 1)], ErrorCode::Protocol),
            (Role::Server, &[(INITIAL_WINDOW_SIZE, 1 << 31)], ErrorCode::FlowControl),
            (Role::Server, &[(MAX_FRAME_SIZE, 16_383)], ErrorCode::Protocol),
            (Role::Server, &[(MAX_FRAME_SIZE, 1 << 24)], ErrorCode::Protocol),
            (Role::Client, &[(ENABLE_CONNECT_PROTOCOL, 2)], ErrorCode::Protocol),
            (Role::Client, &[(ENABLE_CONNECT_PROTOCOL, 1), (8, 0)], ErrorCode::Protocol),
            (Role::Server, &[(NO_RFC7540_PRIORITIES, 2)], ErrorCode::Protocol),
        ] {
            assert_eq!(apply(role, bad).map_err(|e| e.code()), Err(code), "{bad:?}");
        }
        assert!(apply(Role::Server, &[(ENABLE_PUSH, 1), (NO_RFC7540_PRIORITIES, 1)]).is_ok());
        let mut peer = PeerSettings::new();
        assert_eq!(peer.apply(&[0; 7], Role::Server), Err(ConnectionError::FrameSize));
    }

    #[test]
    fn ours_are_what_we_accept_ourselves() {
        for role in [Role::Server, Role::Client] {
            let options = Options { hpack_table_size: 100, allow_connect: true, ..Options::new(role) };
            let mut wire = Vec::new();
            write_ours(&options, &mut wire);
            let other = if role == Role::Server { Role::Client } else { Role::Server };
            let mut peer = PeerSettings::new();
            assert_eq!(peer.apply(&wire, other), Ok(()));
            assert_eq!((peer.table_size, peer.initial_window), (100, 65_536));
            assert_eq!(peer.connect, role == Role::Server);
            assert_eq!(peer.max_streams == 100, role == Role::Server || STREAMS_BEFORE_SETTINGS == 100);
        }
    }
}
