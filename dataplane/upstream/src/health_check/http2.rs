//! Checks over HTTP/2.

use millrace_base::Time;
use millrace_config::{Cluster, HttpHealthCheck};
use millrace_http::RequestHead;
use millrace_http::h2::{Connection, ErrorCode, Event, Heads, Options, Role, StreamRef};

use super::conversation::Reply;
use super::judge::Answer;

/// One connection as both kinds of checks over HTTP/2 use it: one stream at a time.
#[derive(Debug)]
pub(super) struct Wire {
    codec: Connection,
    pub heads: Heads,
    /// Received and not looked at.
    input: Vec<u8>,
    pub stream: Option<StreamRef>,
    /// A part of the request's body that the endpoint has no room for yet.
    unsent: Vec<u8>,
    /// The endpoint says goodbye: what is under way may end, nothing new begins.
    pub leaving: bool,
}

/// One step that concerns a check.
pub(super) enum Heard {
    /// A final head is in [`Wire::heads`].
    Head { end: bool },
    /// Bytes of the body.
    Data { bytes: Vec<u8>, end: bool },
    /// Trailers are in [`Wire::heads`].
    Trailers,
    /// The stream is over before its time.
    Reset,
    /// The connection is: an error, or a GOAWAY with one.
    Broken,
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
            head_bytes_max: cluster.http.head_bytes_max,
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

    pub fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next thing that concerns the check; `None` when more bytes are needed.
    pub fn next(&mut self, now: Time, out: &mut Vec<u8>) -> Option<Heard> {
        loop {
            if self.input.is_empty() {
                self.flush(out);
                return None;
            }
            let Ok(step) = self.codec.receive(&self.input, now, &mut self.heads) else {
                self.control(out);
                return Some(Heard::Broken);
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
                    (self.stream == Some(stream)).then_some(Heard::Data { bytes: data, end })
                }
                Event::Response { stream, end, .. } => {
                    (self.stream == Some(stream)).then_some(Heard::Head { end })
                }
                Event::Trailers { stream, .. } => (self.stream == Some(stream)).then_some(Heard::Trailers),
                Event::Reset { stream, .. } => (self.stream == Some(stream)).then_some(Heard::Reset),
                Event::GoAway { code, .. } => {
                    self.leaving = true;
                    let fine = code == ErrorCode::NoError && self.stream.is_some();
                    (!fine).then_some(Heard::Broken)
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

/// One connection of HTTP checks.
#[derive(Debug)]
pub struct Http2 {
    wire: Wire,
    answer: Option<Answer>,
}

impl Http2 {
    pub(super) fn new(cluster: &Cluster, now: Time) -> Self {
        Self { wire: Wire::new(cluster, now), answer: None }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.wire.stream.is_some()
    }

    pub(super) fn begin(
        &mut self,
        check: &HttpHealthCheck,
        request: &RequestHead,
        out: &mut Vec<u8>,
    ) -> Reply {
        self.answer = None;
        if self.wire.send(request, &check.send, out) { Reply::default() } else { Reply::broken(true) }
    }

    pub(super) fn receive(
        &mut self,
        check: &HttpHealthCheck,
        bytes: &[u8],
        now: Time,
        out: &mut Vec<u8>,
    ) -> Reply {
        self.wire.push(bytes);
        let mut reply = Reply::default();
        while let Some(heard) = self.wire.next(now, out) {
            let over = match heard {
                Heard::Head { end } => {
                    self.answer = Some(Answer::of(&self.wire.heads.response));
                    end
                }
                Heard::Data { bytes, end } => {
                    if let Some(answer) = &mut self.answer {
                        answer.body(check, &bytes);
                    }
                    end
                }
                Heard::Trailers => true,
                Heard::Reset => {
                    self.wire.stream = None;
                    return Reply { close: !reuse(&self.wire), ..Reply::broken(true) };
                }
                Heard::Broken => {
                    let in_flight = self.is_in_flight() && reply.verdict.is_none();
                    return Reply {
                        verdict: reply.verdict.or(Reply::broken(in_flight).verdict),
                        close: true,
                        ..reply
                    };
                }
            };
            if over {
                self.wire.end(out);
                reply = match self.answer.take() {
                    Some(answer) => answer.verdict(check),
                    None => Reply::broken(true),
                };
            }
        }
        reply.close |= reply.verdict.is_some() && !reuse(&self.wire);
        reply
    }
}

/// A connection whose endpoint says goodbye is of no use once the check is over.
fn reuse(wire: &Wire) -> bool {
    !wire.leaving
}
