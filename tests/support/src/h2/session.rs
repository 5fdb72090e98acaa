//! One HTTP/2 connection of either side, over a blocking socket: reads frames, keeps the books of windows and streams,
//! notes what the peer does wrong, and sends whatever it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::frame::{self, Frame, code, flag, kind, setting};
use super::hpack::{self, Decoder};
use crate::strict::Fields;
use crate::wait::PATIENCE;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN.
    Closed,
    /// RST or another error of the socket.
    Reset,
}

/// What was received on one stream.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Header blocks in order: interim ones, the head, trailers.
    pub blocks: Vec<Fields>,
    /// Octets of DATA.
    pub body: Vec<u8>,
    /// DATA frames.
    pub frames: usize,
    /// Blocks that came before the first DATA frame.
    pub blocks_before_body: usize,
    /// END_STREAM came.
    pub ended: bool,
    /// RST_STREAM came with this code.
    pub reset: Option<u32>,
}

#[derive(Debug, Default)]
struct Stream {
    received: Received,
    /// What we may still send, and what the peer may still send.
    window: i64,
    allowance: i64,
    held: bool,
}

/// The connection.
#[derive(Debug)]
pub struct Session {
    socket: TcpStream,
    buffer: Vec<u8>,
    at: usize,
    decoder: Decoder,
    streams: BTreeMap<u32, Stream>,
    forgotten: BTreeSet<u32>,
    block: Option<(u32, bool, Vec<u8>)>,
    window: i64,
    allowance: i64,
    granted: i64,
    peer: BTreeMap<u16, u32>,
    /// GOAWAY frames: last stream and code.
    pub goaways: Vec<(u32, u32)>,
    /// Payloads of answered PINGs.
    pub pongs: Vec<Vec<u8>>,
    /// SETTINGS of the peer and its acknowledgements of ours.
    pub settings: (usize, usize),
    /// How the connection ended.
    pub end: Option<End>,
    /// What the peer did against RFC 9113.
    pub faults: Vec<String>,
    /// Frames received.
    pub frames: usize,
    /// Answers SETTINGS and PING; on by default.
    pub polite: bool,
    /// The peer took nothing more for a whole write timeout, which ends the use of the connection.
    pub stalled: bool,
}

impl Session {
    /// Takes a connected socket; `own` are the settings that we announce elsewhere.
    pub fn new(socket: TcpStream, own: &[(u16, u32)]) -> Self {
        // Failing to set an option would only make a test slower.
        let _ = socket.set_nodelay(true);
        let _ = socket.set_write_timeout(Some(PATIENCE));
        let find = |id| own.iter().find(|(i, _)| *i == id).map(|(_, v)| *v);
        let granted = i64::from(find(setting::INITIAL_WINDOW_SIZE).unwrap_or(65_535));
        let table = find(setting::HEADER_TABLE_SIZE).unwrap_or(4096);
        Self {
            socket,
            buffer: Vec::new(),
            at: 0,
            decoder: Decoder::new(usize::try_from(table).unwrap_or(4096)),
            streams: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            block: None,
            window: 65_535,
            allowance: 65_535,
            granted,
            peer: BTreeMap::new(),
            goaways: Vec::new(),
            pongs: Vec::new(),
            settings: (0, 0),
            end: None,
            faults: Vec::new(),
            frames: 0,
            polite: true,
            stalled: false,
        }
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends these bytes; a peer that is gone shows in [`Session::end`].
    pub fn send(&mut self, bytes: &[u8]) {
        if self.end.is_some() {
            return;
        }
        if let Err(error) = self.socket.write_all(bytes) {
            self.stalled = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            // What the peer said before it left is still to be read.
            while self.read(Duration::from_millis(200)).is_some() {}
            self.end = self.end.or(Some(End::Reset));
        }
    }

    /// Sends FIN and keeps reading.
    pub fn finish_sending(&self) {
        // The peer may already be gone.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// A setting of the peer.
    pub fn peer_setting(&self, id: u16) -> Option<u32> {
        self.peer.get(&id).copied()
    }

    /// What was received on a stream so far.
    pub fn received(&self, stream: u32) -> Received {
        self.streams.get(&stream).map(|s| s.received.clone()).unwrap_or_default()
    }

    /// As [`Session::received`] without a copy.
    pub fn peek(&self, stream: u32) -> Option<&Received> {
        self.streams.get(&stream).map(|s| &s.received)
    }

    /// The streams that were seen.
    pub fn stream_ids(&self) -> Vec<u32> {
        self.streams.keys().copied().collect()
    }

    /// Forgets a stream that is over; what still comes for it is ignored.
    pub fn forget(&mut self, stream: u32) {
        self.streams.remove(&stream);
        self.forgotten.insert(stream);
    }

    /// Knows a stream, so that its windows are kept.
    pub fn open(&mut self, stream: u32) {
        self.entry(stream);
    }

    /// Gives no more window for a stream.
    pub fn hold(&mut self, stream: u32) {
        self.entry(stream).held = true;
    }

    /// Gives window for a stream again, `by` octets at once.
    pub fn grant(&mut self, stream: u32, by: u32) {
        let entry = self.entry(stream);
        entry.held = false;
        entry.allowance += i64::from(by);
        self.send(&frame::window_update(stream, by));
    }

    /// Gives window for the connection.
    pub fn grant_connection(&mut self, by: u32) {
        self.allowance += i64::from(by);
        self.send(&frame::window_update(0, by));
    }

    /// Octets of DATA that may be sent on a stream now.
    pub fn room(&self, stream: u32) -> usize {
        let own = self.streams.get(&stream).map_or(0, |s| s.window);
        usize::try_from(own.min(self.window)).unwrap_or(0).min(16_384)
    }

    /// Sends one DATA frame and charges the windows, which it does not look at.
    pub fn data(&mut self, stream: u32, bytes: &[u8], end: bool) {
        let len = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        self.window -= len;
        self.entry(stream).window -= len;
        self.send(&frame::data(stream, bytes, end));
    }

    /// Sends a header block of literals.
    pub fn headers<N: AsRef<str>, V: AsRef<str>>(&mut self, stream: u32, fields: &[(N, V)], end: bool) {
        self.entry(stream);
        self.send(&frame::headers(stream, &hpack::block(fields), end));
    }

    fn entry(&mut self, stream: u32) -> &mut Stream {
        let window = i64::from(self.peer_setting(setting::INITIAL_WINDOW_SIZE).unwrap_or(65_535));
        let allowance = self.granted;
        self.streams.entry(stream).or_insert_with(|| Stream { window, allowance, ..Stream::default() })
    }

    /// Reads and handles one frame; `None` when none came within `limit`, or the connection is over.
    pub fn read(&mut self, limit: Duration) -> Option<Frame> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some((frame, len)) = Frame::first(&self.buffer[self.at..]) {
                self.at += len;
                self.frames += 1;
                self.handle(&frame);
                return Some(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.end.is_some() || left.is_zero() || !self.fill(left) {
                return None;
            }
        }
    }

    /// Reads frames until `met` holds. False when it does not within [`PATIENCE`].
    pub fn until(&mut self, mut met: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !met(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.read(left).is_none() {
                return met(self);
            }
        }
        true
    }

    /// Waits for the end of the connection; `None` when it is still open after `limit`.
    pub fn end_within(&mut self, limit: Duration) -> Option<End> {
        let deadline = Instant::now() + limit;
        while self.end.is_none() && Instant::now() < deadline {
            self.read(deadline.saturating_duration_since(Instant::now()));
        }
        self.end
    }

    fn fill(&mut self, limit: Duration) -> bool {
        self.buffer.drain(..self.at);
        self.at = 0;
        // Zero would mean no limit.
        let _ = self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1))));
        let mut chunk = [0; 64 * 1024];
        match self.socket.read(&mut chunk) {
            Ok(0) => self.end = Some(End::Closed),
            Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return false;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.end = Some(End::Reset),
        }
        self.end.is_none()
    }

    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    fn handle(&mut self, frame: &Frame) {
        if self.block.is_some() && frame.kind != kind::CONTINUATION {
            self.fault(format!("{frame:?} inside a header block"));
        }
        match frame.kind {
            kind::DATA => self.on_data(frame),
            kind::HEADERS | kind::CONTINUATION => self.on_block(frame),
            kind::RST_STREAM if self.forgotten.contains(&frame.stream) => {}
            kind::RST_STREAM => {
                let code = frame::number(&frame.payload);
                self.entry(frame.stream).received.reset = Some(code);
            }
            kind::SETTINGS if frame.has(flag::ACK) => self.settings.1 += 1,
            kind::SETTINGS => self.on_settings(frame),
            kind::PING if frame.has(flag::ACK) => self.pongs.push(frame.payload.clone()),
            kind::PING if self.polite => {
                self.send(&super::frame::frame(kind::PING, flag::ACK, 0, &frame.payload));
            }
            kind::GOAWAY => {
                let last = frame::number(&frame.payload) & 0x7fff_ffff;
                let code = frame::number(frame.payload.get(4..).unwrap_or_default());
                self.goaways.push((last, code));
            }
            kind::WINDOW_UPDATE => {
                let by = i64::from(frame::number(&frame.payload) & 0x7fff_ffff);
                if frame.stream == 0 {
                    self.window += by;
                } else if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.window += by;
                }
            }
            kind::PUSH_PROMISE => self.fault("PUSH_PROMISE"),
            _ => {}
        }
    }

    fn on_settings(&mut self, frame: &Frame) {
        self.settings.0 += 1;
        for pair in frame.payload.chunks_exact(6) {
            let (id, value) = (u16::from_be_bytes([pair[0], pair[1]]), frame::number(&pair[2..]));
            if id == setting::INITIAL_WINDOW_SIZE {
                let before = self.peer_setting(id).unwrap_or(65_535);
                for stream in self.streams.values_mut() {
                    stream.window += i64::from(value) - i64::from(before);
                }
            }
            self.peer.insert(id, value);
        }
        if self.polite {
            self.send(&super::frame::settings_ack());
        }
    }

    fn on_data(&mut self, frame: &Frame) {
        let Some(content) = frame.content() else { return self.fault("bad padding") };
        let (content, len) = (content.to_vec(), u32::try_from(frame.payload.len()).unwrap_or(u32::MAX));
        self.allowance -= i64::from(len);
        if self.forgotten.contains(&frame.stream) {
            return self.grant_connection(len.max(1));
        }
        let known = self.streams.contains_key(&frame.stream);
        let stream = self.entry(frame.stream);
        stream.allowance -= i64::from(len);
        let wrong =
            stream.allowance < 0 || stream.received.ended || stream.received.blocks.is_empty() || !known;
        stream.received.body.extend_from_slice(&content);
        stream.received.frames += 1;
        stream.received.ended |= frame.has(flag::END_STREAM);
        let refresh = !stream.held && !stream.received.ended && len > 0;
        if wrong || self.allowance < 0 {
            let allowance = self.allowance;
            self.fault(format!(
                "DATA on {}: {:?}, connection {allowance}",
                frame.stream,
                self.streams.get(&frame.stream)
            ));
        }
        if len > 0 {
            self.grant_connection(len);
        }
        if refresh {
            self.grant(frame.stream, len);
        }
    }

    fn on_block(&mut self, frame: &Frame) {
        let content = frame.content().map(<[u8]>::to_vec).unwrap_or_default();
        let mut block = match (frame.kind, self.block.take()) {
            (kind::CONTINUATION, Some(open)) if open.0 == frame.stream => open,
            (kind::HEADERS, None) => (frame.stream, frame.has(flag::END_STREAM), Vec::new()),
            other => return self.fault(format!("header block {other:?} {}", frame.stream)),
        };
        block.2.extend(content);
        if !frame.has(flag::END_HEADERS) {
            self.block = Some(block);
            return;
        }
        let (stream, end, bytes) = block;
        let fields = match self.decoder.decode(&bytes) {
            Ok(fields) => fields,
            Err(rule) => return self.fault(format!("HPACK: {rule}")),
        };
        if self.forgotten.contains(&stream) {
            return;
        }
        let received = &mut self.entry(stream).received;
        let late = received.ended;
        received.blocks.push(fields);
        received.blocks_before_body += usize::from(received.frames == 0);
        received.ended |= end;
        if late {
            self.fault(format!("HEADERS behind the end of stream {stream}"));
        }
    }

    /// Says goodbye without a reason.
    pub fn goaway(&mut self, last: u32) {
        self.send(&frame::goaway(last, code::NO_ERROR));
    }
}
