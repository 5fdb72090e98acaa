//! What endpoints that speak HTTP/2 answer, frame by frame: as the ledger promises, or with a fault.

use millrace_base::{Rng, Time};
use millrace_http::h2::{ErrorCode, StreamRef};
use millrace_http::{HeaderMap, ResponseHead};

use super::link::Link;
use super::windows::{END_HEADERS, HEADERS, frame};
use crate::ledger::{Fault, Request, Turn};
use crate::wire::Framing;

/// One request and its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) id: u64,
    pub(super) stream: StreamRef,
    pub(super) expected: Vec<u8>,
    pub(super) got: usize,
    pub(super) arrived: bool,
    /// When the answer goes on; `None` before it was planned.
    pub(super) next: Option<Time>,
    pub(super) head_sent: bool,
    pub(super) turn: Turn,
    /// A copy, whose answer nobody waits for.
    pub(super) copy: bool,
    pub(super) body: Vec<u8>,
    pub(super) sent: usize,
    /// The stream is reset, or ended too early, here.
    pub(super) cut: Option<usize>,
    pub(super) done: bool,
}

impl Exchange {
    /// This is not the answer that was promised.
    pub(super) fn is_preliminary(&self) -> bool {
        self.turn != Turn::Promised
    }
}

/// The next frames of an answer; false when it waits.
pub(super) fn step(
    exchange: &mut Exchange,
    request: &Request,
    link: &mut Link,
    now: Time,
    rng: &mut Rng,
) -> bool {
    let reply = &request.reply;
    let fault = reply.fault.filter(|_| !exchange.is_preliminary());
    if !exchange.head_sent {
        return begin(exchange, request, fault, link, rng);
    }
    if let Some(cut) = exchange.cut.filter(|cut| exchange.sent >= *cut) {
        exchange.done = true;
        let short = exchange.body.len() > cut && matches!(reply.framing, Framing::Length(_));
        if fault == Some(Fault::BadChunk) && short {
            link.codec.send_data(exchange.stream, 0, true, &mut link.out);
        } else {
            link.codec.reset(exchange.stream, ErrorCode::Internal);
        }
        return false;
    }
    let most = reply.piece.min(1 + rng.below(20_000) as usize);
    let most = exchange.cut.map_or(most, |cut| most.min(cut - exchange.sent));
    let trailers = reply.trailers && reply.framing == Framing::Chunked && !exchange.is_preliminary();
    let ends = !trailers && exchange.cut.is_none() && rng.chance(3, 4);
    let count = link.data(exchange.stream, &exchange.body, exchange.sent, most, ends, rng);
    exchange.sent += count;
    exchange.next = Some(now + reply.gap);
    let all = exchange.sent == exchange.body.len() && exchange.cut.is_none();
    exchange.done = all;
    if all && trailers {
        let mut fields = HeaderMap::new();
        fields.append(b"x-sum", b"1");
        link.codec.send_trailers(exchange.stream, &fields, &mut link.out);
    } else if all && !(ends && count > 0) {
        link.codec.send_data(exchange.stream, 0, true, &mut link.out);
    }
    count > 0
}

/// Interim responses and the head, or what comes instead.
fn begin(
    exchange: &mut Exchange,
    request: &Request,
    fault: Option<Fault>,
    link: &mut Link,
    rng: &mut Rng,
) -> bool {
    let reply = &request.reply;
    exchange.head_sent = true;
    match fault {
        Some(Fault::Silence) => {
            exchange.next = Some(Time::MAX);
            return false;
        }
        Some(Fault::Hangup) => {
            exchange.done = true;
            link.codec.reset(exchange.stream, ErrorCode::RefusedStream);
            return false;
        }
        Some(Fault::Garbage) => {
            exchange.next = Some(Time::MAX);
            garbage(exchange.stream.id, link, rng);
            return false;
        }
        Some(_) => exchange.cut = Some(rng.below(exchange.body.len() as u64 + 1) as usize),
        None => {}
    }
    let mut head = ResponseHead::new();
    for _ in 0..reply.interim(exchange.turn) {
        head.status = [100, 102, 103][rng.below(3) as usize];
        link.codec.send_response(exchange.stream, &head, false, &mut link.out);
    }
    let (status, length) = reply.of(exchange.turn);
    head.status = status;
    head.headers.append(b"x-id", exchange.id.to_string().as_bytes());
    head.headers.append(b"x-len", length.to_string().as_bytes());
    if exchange.turn == Turn::Redirects {
        let location = format!("http://sim.test/r/{}", exchange.id);
        head.headers.append(b"location", location.as_bytes());
    }
    let declared = exchange.is_preliminary() || matches!(reply.framing, Framing::Length(_));
    if declared && !matches!(status, 204 | 304) {
        head.headers.append(b"content-length", length.to_string().as_bytes());
    }
    let bodiless = exchange.body.is_empty() && exchange.cut.is_none();
    let end = bodiless && (!reply.trailers || reply.framing != Framing::Chunked) && rng.chance(3, 4);
    link.head(rng, |codec, out| codec.send_response(exchange.stream, &head, end, out));
    exchange.done = end;
    !end
}

/// A head that no HTTP/2 response may have. It leaves the state of HPACK alone.
fn garbage(stream: u32, link: &mut Link, rng: &mut Rng) {
    let blocks: [&[u8]; 4] = [
        // A name in upper case, no status, a field of connections, a status that is none.
        b"\x88\0\x03X-A\x011",
        b"\0\x03x-a\x011",
        b"\x88\0\x0aconnection\x05close",
        b"\x08\x032x0",
    ];
    link.codec.take_control(&mut link.out);
    let at = link.out.len();
    frame(&mut link.out, HEADERS, stream, blocks[rng.below(4) as usize]);
    link.out[at + 4] = END_HEADERS;
}
