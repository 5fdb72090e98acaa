//! One HTTP/2 connection: its state, its begin, and what may be asked about it.
//!
//! Read `receive` first (what a frame is allowed to be now), then `headers`, `data` and `control` (what each frame does),
//! `send` (what we say) and `goaway` (how it ends).

mod control;
mod data;
mod goaway;
mod headers;
mod receive;
mod send;
mod streams;

use alloc::vec::Vec;

use millrace_base::Time;

use self::data::Part;
use self::goaway::Leaving;
use self::headers::Block;
use super::PREFACE;
use super::closed::Closed;
use super::counts::Counts;
use super::error::ConnectionError;
use super::event::StreamRef;
use super::flow::{ReceiveWindow, SendWindow};
use super::frame::{self, STREAM_MAX, kind};
use super::hpack::{Decoder, Encoder};
use super::limits::{Budgets, DEFAULT_WINDOW};
use super::options::{Options, Role};
use super::priority::Priority;
use super::settings::{self, PeerSettings};
use super::stream::state;
use super::table::Table;

/// What is to be done before the next frame: bits of [`Connection::first`].
mod first {
    /// An error was returned.
    pub(crate) const FAILED: u8 = 1;
    /// The client's preface is not complete.
    pub(crate) const PREFACE: u8 = 2;
    /// The peer's SETTINGS must come.
    pub(crate) const SETTINGS: u8 = 4;
    /// The rest of a DATA frame comes.
    pub(crate) const PART: u8 = 8;
    /// The caller must hear that streams may have room.
    pub(crate) const WRITABLE: u8 = 16;
    /// Streams that the peer's GOAWAY refused must be handed out.
    pub(crate) const SWEEP: u8 = 32;
}

/// One HTTP/2 connection of either side. Boxed by its owner; tables grow with the streams that are open at once.
#[derive(Debug)]
pub struct Connection {
    options: Options,
    /// What is to be done before the next frame.
    first: u8,
    error: Option<ConnectionError>,
    /// Octets of a frame that is consumed with its last event.
    held: usize,
    /// Octets of the client's preface that came.
    preface: u8,
    streams: Table,
    closed: Closed,
    /// Server: the highest stream that the client opened. Client: the highest of ours, or 0.
    highest: u32,
    send: SendWindow,
    receive: ReceiveWindow,
    /// What a stream's receive window begins with.
    stream_window: u32,
    part: Part,
    block: Block,
    /// The last authority that was valid; see [`super::head::RequestReader`].
    authority: Vec<u8>,
    decoder: Decoder,
    encoder: Encoder,
    peer: PeerSettings,
    /// The peer's first SETTINGS came.
    settings_seen: bool,
    /// The peer has acknowledged our SETTINGS.
    acknowledged: bool,
    ping_sent: bool,
    leaving: Leaving,
    /// Control frames that wait to be taken.
    control: Vec<u8>,
    /// How many those are, and how many were taken and have not left.
    control_queued: u32,
    control_taken: u32,
    /// DATA, HEADERS and CONTINUATION frames in a row that carried nothing.
    empty_frames: u32,
    budgets: Budgets,
    counts: Counts,
}

impl Connection {
    /// A new connection; the preface (client), SETTINGS and WINDOW_UPDATE are queued as control frames.
    pub fn new(options: &Options, now: Time) -> Self {
        let mut options = *options;
        options.initial_stream_window = options.initial_stream_window.min(STREAM_MAX);
        options.initial_connection_window =
            options.initial_connection_window.clamp(DEFAULT_WINDOW, STREAM_MAX);
        let preface = if options.role == Role::Server { first::PREFACE } else { 0 };
        let mut connection = Self {
            options,
            first: preface | first::SETTINGS,
            error: None,
            held: 0,
            preface: 0,
            streams: Table::new(now.0),
            closed: Closed::default(),
            highest: 0,
            send: SendWindow::new(DEFAULT_WINDOW),
            receive: ReceiveWindow::new(options.initial_connection_window),
            // Until the peer has seen our SETTINGS it may use the initial window.
            stream_window: options.initial_stream_window.max(DEFAULT_WINDOW),
            part: Part::default(),
            block: Block::default(),
            authority: Vec::new(),
            decoder: Decoder::new(options.hpack_table_size),
            encoder: Encoder::new(options.hpack_table_size),
            peer: PeerSettings::new(),
            settings_seen: false,
            acknowledged: false,
            ping_sent: false,
            leaving: Leaving::default(),
            control: Vec::new(),
            control_queued: 0,
            control_taken: 0,
            empty_frames: 0,
            budgets: Budgets::new(now),
            counts: Counts::default(),
        };
        connection.open();
        connection
    }

    /// Queues what we say first.
    fn open(&mut self) {
        if self.options.role == Role::Client {
            self.control.extend_from_slice(PREFACE);
        }
        let mut ours = Vec::new();
        settings::write_ours(&self.options, &mut ours);
        frame::write(&mut self.control, kind::SETTINGS, 0, 0, &ours);
        let increment = self.options.initial_connection_window - DEFAULT_WINDOW;
        if increment > 0 {
            frame::write(&mut self.control, kind::WINDOW_UPDATE, 0, 0, &increment.to_be_bytes());
        }
    }

    /// Client: another request may be sent now.
    #[inline]
    pub fn can_open(&self) -> bool {
        self.options.role == Role::Client
            && (self.streams.len() as u64) < u64::from(self.peer_max_streams())
            && self.highest < STREAM_MAX - 1
            && !self.is_going_away()
            && self.error.is_none()
    }

    /// Client: most streams at once, the smaller of our limit and the peer's. Before the peer's SETTINGS came its limit
    /// is taken to be 100.
    pub fn peer_max_streams(&self) -> u32 {
        self.peer.max_streams.min(self.options.max_concurrent_streams)
    }

    /// Streams in the table.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Every open stream with its name, in no order that means anything.
    pub fn users(&self) -> impl Iterator<Item = (StreamRef, u64)> + '_ {
        self.streams.open_from(0).map(|(stream, s)| (stream, s.user))
    }

    /// The peer may still send on the stream.
    pub fn is_receiving(&self, stream: StreamRef) -> bool {
        self.streams.get(stream).is_some_and(|s| !s.is(state::REMOTE_ENDED))
    }

    /// We may still send on the stream.
    pub fn is_sending(&self, stream: StreamRef) -> bool {
        self.streams.get(stream).is_some_and(|s| !s.is(state::LOCAL_ENDED))
    }

    /// Client: the peer takes extended CONNECT (RFC 8441).
    pub fn peer_allows_connect(&self) -> bool {
        self.peer.connect
    }

    /// The priority that the client asked for (RFC 9218): by the `priority` field, or by PRIORITY_UPDATE since.
    pub fn priority(&self, stream: StreamRef) -> Priority {
        self.streams.get(stream).map_or_else(Priority::default, |s| s.priority)
    }

    /// Bytes of DATA that were handed out, or are still to come of a frame that has begun, and were not given back.
    pub fn unreleased(&self) -> u64 {
        self.receive.debt(self.options.initial_connection_window).max(0) as u64
    }

    /// True while a head has begun and its CONTINUATION frames are awaited.
    pub fn is_in_head(&self) -> bool {
        self.block.stream != 0
    }

    /// What happened since the last call.
    pub fn take_counts(&mut self) -> Counts {
        core::mem::take(&mut self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small_while_nothing_happens() {
        assert!(size_of::<Connection>() <= 1024, "{}", size_of::<Connection>());
        assert!(size_of::<crate::h2::stream::Stream>() <= 80);
        let connection = Connection::new(&Options::default(), Time::ZERO);
        assert!(connection.control.capacity() <= 128 && connection.streams.peak() == 0);
    }
}
