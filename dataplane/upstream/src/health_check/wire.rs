//! One connection of HTTP/2 as checks by HTTP and by gRPC use it, and streams of load reports.

use millrace_base::Time;
use millrace_config::Cluster;
use millrace_http::RequestHead;
use millrace_http::h2::{Connection, ErrorCode, Event, Heads, Options, Role, StreamRef};

use super::conversation::Reply;

/// One stream at a time.
#[derive(Debug)]
pub(crate) struct Wire {
    codec: Connection,
    heads: Heads,
    /// Received and not looked at.
    input: Vec<u8>,
    stream: Option<StreamRef>,
    /// A part of the request's body that the endpoint has no room for yet.
    unsent: Vec<u8>,
    /// The endpoint says goodbye: what is under way may end, nothing new begins.
    pub leaving: bool,
}

/// A part of an answer.
pub(crate) enum Heard {
    /// A final head is in the heads.
    Head { end: bool },
    /// Bytes of the body.
    Data { bytes: Vec<u8>, end: bool },
    /// Trailers are in the heads.
    Trailers,
}

/// What is over before its time.
enum Lost {
    /// The stream.
    Stream,
    /// The connection: an error, or a GOAWAY with one.
    Connection,
}

impl Wire {
    pub fn new(cluster: &Cluster, now: Time) -> Self {
        let http2 = &cluster.http.http2;
        let options = Options {
            role: Role::Client,
            max_concurrent_streams: http2.max_concurrent_streams,
            initial_stream_window: http2.initial_stream_window,
            initial_connection_window: http2.initial_connection_window,
            hpack_table_size: http2.hpack_table_size,
            head_bytes_max: cluster.http.h2_head_bytes_max(),
            head_fields_max: u32::from(cluster.http.head_fields_max),
            ..Options::default()
        };
        Self {
            codec: Connection::new(&options, now),
            heads: Heads::default(),
            input: Vec::new(),
            stream: None,
            unsent: Vec::new(),
            leaving: false,
        }
    }

    /// Opens a stream; false when the endpoint takes none.
    pub fn send(&mut self, request: &RequestHead, body: &[u8], out: &mut Vec<u8>) -> bool {
        self.control(out);
        if !self.codec.can_open() {
            return false;
        }
        self.stream = self.codec.send_request(request, 0, body.is_empty(), out);
        self.unsent = body.to_vec();
        self.flush(out);
        self.stream.is_some()
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        let Some(stream) = self.stream else { return };
        while !self.unsent.is_empty() {
            let room = self.codec.capacity(stream).min(self.unsent.len());
            if room == 0 || !self.codec.send_data(stream, room, room == self.unsent.len(), out) {
                break;
            }
            out.extend(self.unsent.drain(..room));
        }
        self.control(out);
    }

    fn control(&mut self, out: &mut Vec<u8>) {
        if self.codec.has_control() {
            self.codec.take_control(out);
            self.codec.flushed();
        }
    }

    /// True while an answer is awaited.
    pub fn is_in_flight(&self) -> bool {
        self.stream.is_some()
    }

    /// Takes what the endpoint sent; `judge` is shown every part of the answer until it has a verdict.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        now: Time,
        out: &mut Vec<u8>,
        mut judge: impl FnMut(Heard, &Heads) -> Option<Reply>,
    ) -> Reply {
        self.input.extend_from_slice(bytes);
        let mut reply = Reply::default();
        while let Some(heard) = self.next(now, out) {
            match heard {
                Ok(heard) => {
                    if let Some(judged) = judge(heard, &self.heads) {
                        self.end(out);
                        reply = judged;
                    }
                }
                Err(Lost::Stream) => {
                    self.stream = None;
                    return Reply { close: self.leaving, ..Reply::broken(true) };
                }
                Err(Lost::Connection) => {
                    let in_flight = self.is_in_flight() && reply.verdict.is_none();
                    let verdict = reply.verdict.or(Reply::broken(in_flight).verdict);
                    return Reply { verdict, close: true, ..reply };
                }
            }
        }
        // A connection whose endpoint says goodbye is of no use once the check is over.
        reply.close |= reply.verdict.is_some() && self.leaving;
        reply
    }

    /// The next thing that concerns the check; `None` when more bytes are needed.
    fn next(&mut self, now: Time, out: &mut Vec<u8>) -> Option<Result<Heard, Lost>> {
        loop {
            if self.input.is_empty() {
                self.flush(out);
                return None;
            }
            let Ok(step) = self.codec.receive(&self.input, now, &mut self.heads) else {
                self.control(out);
                return Some(Err(Lost::Connection));
            };
            let data = match &step.event {
                Event::Data { range, .. } => self.input[range.clone()].to_vec(),
                _ => Vec::new(),
            };
            self.input.drain(..step.consumed);
            let heard = match step.event {
                Event::NeedMore => {
                    self.flush(out);
                    return None;
                }
                Event::Data { stream, end, .. } => {
                    self.codec.release(stream, data.len());
                    (self.stream == Some(stream)).then_some(Ok(Heard::Data { bytes: data, end }))
                }
                Event::Response { stream, end, .. } => {
                    (self.stream == Some(stream)).then_some(Ok(Heard::Head { end }))
                }
                Event::Trailers { stream, .. } => {
                    (self.stream == Some(stream)).then_some(Ok(Heard::Trailers))
                }
                Event::Reset { stream, .. } => (self.stream == Some(stream)).then_some(Err(Lost::Stream)),
                Event::GoAway { code, .. } => {
                    self.leaving = true;
                    let fine = code == ErrorCode::NoError && self.stream.is_some();
                    (!fine).then_some(Err(Lost::Connection))
                }
                _ => None,
            };
            if heard.is_some() {
                self.control(out);
                return heard;
            }
        }
    }

    /// Forgets the stream; one that is not over is reset.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.unsent.clear();
        if let Some(stream) = self.stream.take() {
            self.codec.reset(stream, ErrorCode::Cancel);
            self.control(out);
        }
    }
}
