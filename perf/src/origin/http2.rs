//! One HTTP/2 connection of the origin, without a socket. It reads no header block and answers every request with
//! the same bytes, so that it costs next to nothing; flow control (RFC 9113 5.2) it does keep.

use std::collections::VecDeque;

use super::answer::{Answer, Table};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// The most that one of our frames carries; every peer takes it.
const PAYLOAD_MAX: usize = 16_384;
/// Streams that a client may have open at once, as many servers allow.
const STREAMS_MAX: u32 = 100;
/// Both windows towards us; a connection's is filled up after half of it.
const WINDOW: u32 = 1 << 30;
const WINDOW_DEFAULT: i64 = 65_535;
/// Output beyond this waits for the socket.
const OUTPUT_MAX: usize = 256 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const HEADER_TABLE_SIZE: u16 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// An answer whose body has not left completely.
struct Body {
    stream: u32,
    left: usize,
    window: i64,
}

/// A client's connection.
pub(super) struct Session {
    /// A frame that is not complete yet, or the preface.
    input: Vec<u8>,
    greeted: bool,
    table: Table,
    /// Room of the connection, and of a new stream.
    window: i64,
    initial_window: i64,
    /// Octets of DATA received since our last WINDOW_UPDATE.
    received: u32,
    bodies: VecDeque<Body>,
    /// Requests that are not answered while `hold` is set.
    held: Vec<u32>,
    hold: bool,
    /// What is to be written next.
    pub(super) out: Vec<u8>,
}

impl Session {
    /// With `hold`, requests wait for `release`.
    pub(super) fn new(hold: bool) -> Self {
        let mut out = Vec::new();
        let settings = [(MAX_CONCURRENT_STREAMS, STREAMS_MAX), (INITIAL_WINDOW_SIZE, WINDOW)];
        frame(&mut out, settings.len() * 6, SETTINGS, 0, 0);
        for (name, value) in settings {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        window_update(&mut out, WINDOW);
        Self {
            input: Vec::new(),
            greeted: false,
            table: Table::Fresh,
            window: WINDOW_DEFAULT,
            initial_window: WINDOW_DEFAULT,
            received: 0,
            bodies: VecDeque::new(),
            held: Vec::new(),
            hold,
            out,
        }
    }

    /// Requests that wait for `release`.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Answers what was held, and everything from now on at once.
    pub(super) fn release(&mut self, answer: &Answer) {
        self.hold = false;
        for stream in std::mem::take(&mut self.held) {
            self.answer(stream, answer);
        }
    }

    /// Bytes of the client; false when they are no HTTP/2.
    pub(super) fn receive(&mut self, bytes: &[u8], answer: &Answer) -> bool {
        if self.input.is_empty() {
            let Some(used) = self.frames(bytes, answer) else { return false };
            self.input.extend_from_slice(&bytes[used..]);
            return true;
        }
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let Some(used) = self.frames(&input, answer) else { return false };
        self.input = input;
        self.input.drain(..used);
        true
    }

    /// Octets of the complete frames at the start of `bytes`, which were dealt with.
    fn frames(&mut self, bytes: &[u8], answer: &Answer) -> Option<usize> {
        let mut used = 0;
        if !self.greeted {
            if bytes.len() < PREFACE.len() {
                return PREFACE.starts_with(bytes).then_some(0);
            }
            if !bytes.starts_with(PREFACE) {
                return None;
            }
            (self.greeted, used) = (true, PREFACE.len());
        }
        while let Some((head, rest)) =
            bytes.get(used..).and_then(|rest| rest.split_first_chunk::<FRAME_HEADER>())
        {
            let [a, b, c, kind, flags, stream @ ..] = *head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > PAYLOAD_MAX {
                return None;
            }
            let Some(payload) = rest.get(..length) else { break };
            let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
            self.frame(kind, flags, stream, payload, answer);
            used += FRAME_HEADER + length;
        }
        Some(used)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], answer: &Answer) {
        match kind {
            HEADERS if flags & END_STREAM != 0 => self.request(stream, answer),
            DATA => {
                self.received += u32::try_from(payload.len()).unwrap_or(0);
                if self.received > WINDOW / 2 {
                    window_update(&mut self.out, self.received);
                    self.received = 0;
                }
                if flags & END_STREAM != 0 {
                    self.request(stream, answer);
                }
            }
            SETTINGS if flags & ACK == 0 => self.settings(payload),
            PING if flags & ACK == 0 => {
                frame(&mut self.out, payload.len(), PING, ACK, 0);
                self.out.extend_from_slice(payload);
            }
            RST_STREAM => {
                self.bodies.retain(|body| body.stream != stream);
                self.held.retain(|held| *held != stream);
            }
            WINDOW_UPDATE => {
                let more = i64::from(number(payload) & 0x7fff_ffff);
                if stream == 0 {
                    self.window += more;
                } else if let Some(body) = self.bodies.iter_mut().find(|body| body.stream == stream) {
                    body.window += more;
                }
            }
            _ => {}
        }
    }

    fn settings(&mut self, payload: &[u8]) {
        for entry in payload.chunks_exact(6) {
            let value = number(&entry[2..]);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.initial_window;
                    self.initial_window += change;
                    for body in &mut self.bodies {
                        body.window += change;
                    }
                }
                HEADER_TABLE_SIZE if value < 4096 && self.table != Table::None => self.table = Table::Refused,
                _ => {}
            }
        }
        frame(&mut self.out, 0, SETTINGS, ACK, 0);
    }

    /// A request is complete.
    fn request(&mut self, stream: u32, answer: &Answer) {
        if self.hold { self.held.push(stream) } else { self.answer(stream, answer) }
    }

    fn answer(&mut self, stream: u32, answer: &Answer) {
        let at = self.out.len();
        frame(&mut self.out, 0, HEADERS, END_HEADERS, stream);
        answer.block(&mut self.table, &mut self.out);
        self.patch_length(at);
        let mut body = Body { stream, left: answer.body, window: self.initial_window };
        // Most bodies fit at once.
        if !self.bodies.is_empty() || answer.body > PAYLOAD_MAX || !self.data(&mut body, answer) {
            self.bodies.push_back(body);
        }
    }

    /// Writes a DATA frame; true when the answer is complete.
    fn data(&mut self, body: &mut Body, answer: &Answer) -> bool {
        let room = usize::try_from(self.window.min(body.window)).unwrap_or(0);
        let length = body.left.min(PAYLOAD_MAX).min(room);
        if length == 0 && body.left > 0 {
            return false;
        }
        body.left -= length;
        body.window -= length as i64;
        self.window -= length as i64;
        let last = if body.left == 0 && answer.trailers.is_none() { END_STREAM } else { 0 };
        frame(&mut self.out, length, DATA, last, body.stream);
        self.out.resize(self.out.len() + length, b'x');
        if body.left > 0 {
            return false;
        }
        if let Some(trailers) = &answer.trailers {
            frame(&mut self.out, trailers.len(), HEADERS, END_HEADERS | END_STREAM, body.stream);
            self.out.extend_from_slice(trailers);
        }
        true
    }

    /// Fills the output with a frame of each unfinished body in turn, as far as the windows and the bound on output allow.
    pub(super) fn fill(&mut self, answer: &Answer) {
        let mut blocked = 0;
        while blocked < self.bodies.len() && self.out.len() < OUTPUT_MAX {
            let Some(mut body) = self.bodies.pop_front() else { return };
            let before = body.left;
            if self.data(&mut body, answer) {
                continue;
            }
            blocked = if body.left < before { 0 } else { blocked + 1 };
            self.bodies.push_back(body);
        }
    }

    fn patch_length(&mut self, at: usize) {
        let length = u32::try_from(self.out.len() - at - FRAME_HEADER).unwrap_or(0);
        self.out[at..at + 3].copy_from_slice(&length.to_be_bytes()[1..]);
    }
}

fn frame(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = u32::try_from(length).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn window_update(out: &mut Vec<u8>, more: u32) {
    frame(out, 4, WINDOW_UPDATE, 0, 0);
    out.extend_from_slice(&more.to_be_bytes());
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(body: usize, hold: bool) -> (Session, Answer) {
        let mut session = Session::new(hold);
        let answer = Answer::new(body, 0, false).unwrap();
        assert!(session.receive(PREFACE, &answer));
        session.out.clear();
        (session, answer)
    }

    fn request(stream: u32) -> Vec<u8> {
        let mut out = Vec::new();
        frame(&mut out, 1, HEADERS, END_HEADERS | END_STREAM, stream);
        out.push(0x82);
        out
    }

    /// (kind, flags, stream, length) of the frames that were written since the last call.
    fn written(session: &mut Session) -> Vec<(u8, u8, u32, usize)> {
        let (mut all, mut rest) = (Vec::new(), &session.out[..]);
        while let Some((head, after)) = rest.split_first_chunk::<FRAME_HEADER>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            all.push((head[3], head[4], number(&head[5..]), length));
            rest = &after[length..];
        }
        session.out.clear();
        all
    }

    #[test]
    fn requests_are_answered_however_the_bytes_are_cut() {
        let (mut session, answer) = session(5, false);
        let bytes = [request(1), request(3)].concat();
        for byte in &bytes {
            assert!(session.receive(std::slice::from_ref(byte), &answer));
        }
        let head = answer_length(&answer);
        let expected = [(HEADERS, 4, 1, head), (DATA, 1, 1, 5), (HEADERS, 4, 3, 3), (DATA, 1, 3, 5)];
        assert_eq!(written(&mut session), expected);
    }

    fn answer_length(answer: &Answer) -> usize {
        let mut block = Vec::new();
        answer.block(&mut Table::Fresh.clone(), &mut block);
        block.len()
    }

    #[test]
    fn a_large_body_keeps_within_the_windows() {
        let (mut session, answer) = session(100_000, false);
        assert!(session.receive(&request(1), &answer));
        session.fill(&answer);
        let sent: usize = written(&mut session).iter().filter(|f| f.0 == DATA).map(|f| f.3).sum();
        assert_eq!(sent, 65_535);
        let mut updates = Vec::new();
        for stream in [0, 1] {
            frame(&mut updates, 4, WINDOW_UPDATE, 0, stream);
            updates.extend_from_slice(&100_000_u32.to_be_bytes());
        }
        assert!(session.receive(&updates, &answer));
        session.fill(&answer);
        let rest = written(&mut session);
        assert_eq!(rest.iter().map(|f| f.3).sum::<usize>(), 100_000 - 65_535);
        assert_eq!(rest.last().map(|f| f.1), Some(END_STREAM));
    }

    #[test]
    fn held_requests_wait_and_a_reset_one_is_forgotten() {
        let (mut session, answer) = session(5, true);
        let mut bytes = [request(1), request(3)].concat();
        frame(&mut bytes, 4, RST_STREAM, 0, 1);
        bytes.extend_from_slice(&8_u32.to_be_bytes());
        assert!(session.receive(&bytes, &answer));
        assert_eq!((session.held(), written(&mut session).len()), (1, 0));
        session.release(&answer);
        assert_eq!((session.held(), written(&mut session).len()), (0, 2));
    }

    #[test]
    fn what_is_no_http2_ends_the_connection() {
        let mut session = Session::new(false);
        let answer = Answer::new(5, 0, false).unwrap();
        assert!(!session.receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", &answer));
    }
}
