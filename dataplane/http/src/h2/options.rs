//! What a listener or cluster may configure about HTTP/2.

use crate::h1::UnderscoreAction;

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We accepted the connection: requests come in.
    Server,
    /// We opened it: requests go out.
    Client,
}

/// Everything that a listener or cluster may configure. Bounds that nobody may configure are constants of `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which end we are.
    pub role: Role,
    /// Server: SETTINGS_MAX_CONCURRENT_STREAMS that is announced and enforced (more: REFUSED_STREAM), 100. Client: most
    /// own streams whatever the peer allows, 1024.
    pub max_concurrent_streams: u32,
    /// Bytes that the peer may send on a stream ahead of [`super::Connection::release`], announced by SETTINGS; 64 KiB,
    /// at most 2^31-1.
    pub initial_stream_window: u32,
    /// The same for the whole connection, announced by a WINDOW_UPDATE behind SETTINGS; 1 MiB, at least 65,535.
    pub initial_connection_window: u32,
    /// Octets of our decoder's dynamic table, and the most that our encoder uses of what the peer allows; 4096.
    pub hpack_table_size: u32,
    /// Largest head, names + values + 32 for each field as SETTINGS_MAX_HEADER_LIST_SIZE counts; 60 KiB.
    pub head_bytes_max: u32,
    /// Most fields of a head, pseudo-header fields and every cookie crumb counted; 100.
    pub head_fields_max: u32,
    /// Server: announce SETTINGS_ENABLE_CONNECT_PROTOCOL and accept extended CONNECT (RFC 8441). Clients use it whenever
    /// the peer offers it.
    pub allow_connect: bool,
    /// Any token is a method, not only the registered ones; servers only.
    pub allow_custom_methods: bool,
    /// What becomes of request fields with `_` in their name.
    pub underscores: UnderscoreAction,
    /// Most control frames (RST_STREAM, acknowledgements of SETTINGS and PING) that wait for the peer to read; 1000.
    pub max_outbound_control_frames: u32,
    /// Most DATA, HEADERS and CONTINUATION frames in a row that carry nothing and end nothing; 10.
    pub max_consecutive_empty_frames: u32,
    /// PRIORITY frames for each stream that was opened, and one more time that; 100.
    pub max_priority_frames_per_stream: u32,
    /// WINDOW_UPDATE frames for each DATA frame that was sent: 5 + 2 x (streams + this x DATA frames); 10.
    pub max_window_updates_per_data: u32,
    /// CONTINUATION frames of one field block; 8.
    pub max_continuations: u32,
}

impl Options {
    /// The defaults for one end.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            max_concurrent_streams: if role == Role::Server { 100 } else { 1024 },
            initial_stream_window: 64 * 1024,
            initial_connection_window: 1024 * 1024,
            hpack_table_size: 4096,
            head_bytes_max: 60 * 1024,
            head_fields_max: 100,
            allow_connect: false,
            allow_custom_methods: false,
            underscores: UnderscoreAction::Allow,
            max_outbound_control_frames: 1000,
            max_consecutive_empty_frames: 10,
            max_priority_frames_per_stream: 100,
            max_window_updates_per_data: 10,
            max_continuations: 8,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new(Role::Server)
    }
}
