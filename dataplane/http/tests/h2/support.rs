//! A peer made of bytes, and what the codec makes of them.

use millrace_base::Time;
use millrace_http::h2::{
    Connection, ConnectionError, ErrorCode, Event, Heads, Options, PREFACE, Role, Side, StreamRef,
};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};

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
pub const PRIORITY_UPDATE: u8 = 16;

pub const END: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 32;

/// Pseudo-header fields of a plain request.
pub const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h")];
pub const POST: &[(&str, &str)] =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "h")];
pub const OK: &[(&str, &str)] = &[(":status", "200")];

/// What a connection said, in words that do not depend on how its input was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Request { id: u32, end: bool, head: String },
    TooLarge { id: u32 },
    Informational { id: u32, status: u16 },
    Response { id: u32, end: bool, head: String },
    Data { id: u32, bytes: Vec<u8>, end: bool },
    Trailers { id: u32, fields: String },
    Reset { id: u32, code: ErrorCode, by: Side },
    StreamWritable(u32),
    ConnectionWritable,
    Settings,
    GoAway { last: u32, code: ErrorCode },
    Pong,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A field block of literals that nobody indexes, whatever octets they have.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    block_of_bytes(fields)
}

pub fn block_of_bytes<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            if text.len() < 127 {
                block.push(text.len() as u8);
            } else {
                let mut rest = text.len() - 127;
                block.push(127);
                while rest >= 128 {
                    block.push(rest as u8 | 128);
                    rest >>= 7;
                }
                block.push(rest as u8);
            }
            block.extend_from_slice(text);
        }
    }
    block
}

pub fn headers(id: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, id, &block(fields))
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (setting, value) in values {
        payload.extend_from_slice(&setting.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

pub fn window_update(id: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, id, &increment.to_be_bytes())
}

pub fn rst_stream(id: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, id, &code.to_be_bytes())
}

/// One end of a connection with its caller, who names streams by their identifier and gives every byte back at once.
pub struct End2 {
    pub connection: Connection,
    pub heads: Heads,
    pub now: Time,
    /// Streams that were handed out.
    pub streams: Vec<StreamRef>,
    /// Give bytes of DATA back at once.
    pub release: bool,
    unread: Vec<u8>,
}

impl End2 {
    pub fn new(options: &Options) -> Self {
        let now = Time(1_000_000);
        let connection = Connection::new(options, now);
        let heads = Heads::default();
        Self { connection, heads, now, streams: Vec::new(), release: true, unread: Vec::new() }
    }

    /// A server whose client has opened properly.
    pub fn server(options: &Options) -> Self {
        let mut end = Self::new(options);
        let opening = [&PREFACE[..], &settings(&[]), &frame(SETTINGS, ACK, 0, &[])].concat();
        assert_eq!(end.feed(&opening), Ok(vec![Seen::Settings]));
        end.take();
        end
    }

    /// A client whose server has answered.
    pub fn client(options: &Options) -> Self {
        let mut end = Self::new(options);
        let opening = [settings(&[]), frame(SETTINGS, ACK, 0, &[])].concat();
        assert_eq!(end.feed(&opening), Ok(vec![Seen::Settings]));
        end.take();
        end
    }

    pub fn stream(&self, id: u32) -> StreamRef {
        *self.streams.iter().find(|s| s.id == id).expect("a stream that was handed out")
    }

    /// Feeds bytes as they are.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Seen>, ConnectionError> {
        self.feed_cut(bytes, &mut || usize::MAX)
    }

    /// Feeds bytes in pieces.
    pub fn feed_cut(
        &mut self,
        bytes: &[u8],
        cut: &mut dyn FnMut() -> usize,
    ) -> Result<Vec<Seen>, ConnectionError> {
        let mut seen = Vec::new();
        self.feed_into(bytes, cut, &mut seen).map(|()| seen)
    }

    /// Like [`Self::feed_cut`], and keeps what was seen before an error.
    pub fn feed_into(
        &mut self,
        mut bytes: &[u8],
        cut: &mut dyn FnMut() -> usize,
        seen: &mut Vec<Seen>,
    ) -> Result<(), ConnectionError> {
        loop {
            let (piece, rest) = bytes.split_at(cut().clamp(1, bytes.len().max(1)).min(bytes.len()));
            bytes = rest;
            self.unread.extend_from_slice(piece);
            let input = std::mem::take(&mut self.unread);
            let mut at = 0;
            loop {
                let step = self.connection.receive(&input[at..], self.now, &mut self.heads)?;
                let here = at;
                at += step.consumed;
                assert!(at <= input.len());
                if step.event == Event::NeedMore {
                    break;
                }
                self.note(step.event, &input[here..], seen);
                // A caller may stop here: whatever a frame has to tell comes before its end.
                if at == input.len() {
                    break;
                }
            }
            self.unread = input[at..].to_vec();
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Bytes that were fed and not consumed.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    fn note(&mut self, event: Event, input: &[u8], seen: &mut Vec<Seen>) {
        let named = |stream: StreamRef, user: u64| {
            assert_eq!(user, u64::from(stream.id), "the caller's name");
            stream.id
        };
        let event = match event {
            Event::NeedMore | Event::Progress => return,
            Event::Request { stream, end, head_bytes } => {
                assert!(head_bytes > 9);
                self.connection.bind(stream, u64::from(stream.id));
                self.streams.push(stream);
                Seen::Request { id: stream.id, end, head: request_text(&self.heads.request) }
            }
            Event::TooLarge { stream, .. } => {
                self.connection.bind(stream, u64::from(stream.id));
                self.streams.push(stream);
                Seen::TooLarge { id: stream.id }
            }
            Event::Informational { stream, user } => {
                Seen::Informational { id: named(stream, user), status: self.heads.response.status }
            }
            Event::Response { stream, user, end, .. } => {
                Seen::Response { id: named(stream, user), end, head: response_text(&self.heads.response) }
            }
            Event::Data { stream, user, range, end } => {
                let id = named(stream, user);
                if self.release {
                    self.connection.release(stream, range.len());
                }
                let more = &input[range];
                if let Some(Seen::Data { id: last, bytes, end: over @ false }) = seen.last_mut()
                    && *last == id
                {
                    bytes.extend_from_slice(more);
                    *over = end;
                    return;
                }
                Seen::Data { id, bytes: more.to_vec(), end }
            }
            Event::Trailers { stream, user } => {
                Seen::Trailers { id: named(stream, user), fields: fields_text(&self.heads.trailers) }
            }
            Event::Reset { stream, user, code, by, .. } => Seen::Reset { id: named(stream, user), code, by },
            Event::StreamWritable { stream, user } => Seen::StreamWritable(named(stream, user)),
            Event::ConnectionWritable => Seen::ConnectionWritable,
            Event::Settings => Seen::Settings,
            Event::GoAway { last, code } => Seen::GoAway { last, code },
            Event::Pong => Seen::Pong,
        };
        seen.push(event);
    }

    /// Control frames that wait, taken as sent.
    pub fn take(&mut self) -> Vec<Frame> {
        let mut out = Vec::new();
        self.connection.take_control(&mut out);
        self.connection.flushed();
        frames(&out)
    }

    /// Client: a request without a body.
    pub fn get(&mut self, end: bool) -> (StreamRef, Vec<u8>) {
        let mut out = Vec::new();
        let head = request(GET);
        let user = self.streams.last().map_or(1, |s| s.id + 2);
        let stream = self.connection.send_request(&head, user.into(), end, &mut out).expect("room");
        assert_eq!(u64::from(stream.id), u64::from(user));
        self.streams.push(stream);
        (stream, out)
    }

    /// Server: a response without a body.
    pub fn respond(&mut self, id: u32, end: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut head = ResponseHead::new();
        head.status = 200;
        assert!(self.connection.send_response(self.stream(id), &head, end, &mut out));
        out
    }
}

/// A frame as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The number that the payload starts with.
    pub fn number(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().expect("four octets"))
    }
}

/// Splits output into frames; a client's preface is skipped.
pub fn frames(out: &[u8]) -> Vec<Frame> {
    let mut out = out.strip_prefix(&PREFACE[..]).unwrap_or(out);
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, d, e, f, g, rest @ ..] = out {
        let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let stream = u32::from_be_bytes([*d, *e, *f, *g]);
        frames.push(Frame { kind: *kind, flags: *flags, stream, payload: rest[..len].to_vec() });
        out = &rest[len..];
    }
    assert!(out.is_empty(), "whole frames only");
    frames
}

/// A request head of these fields.
pub fn request(fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::new();
    for (name, value) in fields {
        match *name {
            ":method" => head.set_method(value.as_bytes()),
            ":scheme" => head.set_scheme(value.as_bytes()),
            ":path" => head.set_path(value.as_bytes()),
            ":authority" => head.set_authority(value.as_bytes()),
            _ => assert!(head.headers.append(name.as_bytes(), value.as_bytes())),
        }
    }
    head
}

pub fn request_text(head: &RequestHead) -> String {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let line = [head.method(), head.scheme(), head.authority(), head.path()].map(text).join(" ");
    format!("{line}|{}", fields_text(&head.headers))
}

pub fn response_text(head: &ResponseHead) -> String {
    format!("{}|{}", head.status, fields_text(&head.headers))
}

pub fn fields_text(fields: &HeaderMap) -> String {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    fields.iter().map(|(name, value)| format!("{}: {}|", text(name), text(value))).collect()
}

pub fn server_options() -> Options {
    Options::new(Role::Server)
}

pub fn client_options() -> Options {
    Options::new(Role::Client)
}
