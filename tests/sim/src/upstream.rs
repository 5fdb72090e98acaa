//! Upstreams: strict about every request they get, and answering as the ledger promises.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_ring::sim::{Peer, PeerListener, PeerRead};
use millrace_ring::{IoError, SocketAddress};

use crate::ledger::{Fault, Ledger, Request, Turn};
use crate::net::Net;
use crate::setup::Setup;
use crate::wire::{Framing, Head, Item, Reader, fill, framed};

/// What follows the last byte of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Keep,
    Close,
    /// Closes so that over TLS it does not look like the end.
    Cut,
    Reset,
    /// Says nothing more and leaves the connection open.
    Silence,
}

#[derive(Debug)]
struct Exchange {
    id: u64,
    /// The whole request has arrived.
    arrived: bool,
    scheduled: bool,
    after: After,
    /// A copy, whose answer nobody waits for.
    copy: bool,
}

#[derive(Debug)]
struct Connection {
    peer: Peer,
    /// TLS is spoken.
    secure: bool,
    reader: Reader,
    exchange: Option<Exchange>,
    out: VecDeque<(Time, Vec<u8>)>,
    at: usize,
    next_read: Time,
    idle_close: Option<Time>,
    fin_sent: bool,
    over: bool,
    /// Health checks came: it is none of the connections that requests use.
    checks: bool,
}

/// One endpoint.
#[derive(Debug)]
pub struct Upstream {
    listener: PeerListener,
    connections: Vec<Connection>,
    rng: Rng,
    slow: bool,
}

impl Upstream {
    /// Listens.
    ///
    /// # Errors
    /// The address is in use.
    pub fn listen(net: &Net, address: SocketAddr, setup: &Setup, mut rng: Rng) -> Result<Self, IoError> {
        let listener = net.listen_peer(SocketAddress::Inet(address))?;
        let slow = setup.slow && rng.chance(1, 2);
        Ok(Self { listener, connections: Vec::new(), rng, slow })
    }

    /// Closes the listener and everything that is left.
    pub fn close(&mut self, net: &Net) {
        net.close_listener(self.listener);
        for connection in self.connections.drain(..) {
            net.close(connection.peer);
        }
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.iter().filter(|c| !c.checks).count()
    }

    /// Does what is possible now; returns when it wants to be looked at again.
    pub fn poll(&mut self, net: &Net, setup: &Setup, ledger: &mut Ledger) -> Time {
        let now = net.now();
        while let Some(peer) = net.accept(self.listener) {
            self.connections.push(Connection {
                peer,
                secure: net.is_secure(peer),
                reader: Reader::default(),
                exchange: None,
                out: VecDeque::new(),
                at: 0,
                next_read: Time::ZERO,
                idle_close: None,
                fin_sent: false,
                over: false,
                checks: false,
            });
        }
        let mut wake = Time::MAX;
        for connection in &mut self.connections {
            read(connection, net, setup, self.slow, ledger, &mut self.rng);
            write(connection, net, setup, &mut self.rng);
            if connection.over {
                net.close(connection.peer);
                continue;
            }
            if let Some(at) = connection.out.front().map(|(at, _)| *at).filter(|at| *at > now) {
                wake = wake.min(at);
            }
            if let Some(arrival) = net.next_arrival(connection.peer) {
                wake = wake.min(arrival.max(connection.next_read));
            }
            if let Some(at) = connection.idle_close {
                wake = wake.min(at);
            }
        }
        self.connections.retain(|c| !c.over);
        wake
    }
}

fn read(c: &mut Connection, net: &Net, setup: &Setup, slow: bool, ledger: &mut Ledger, rng: &mut Rng) {
    let now = net.now();
    while !c.over && now >= c.next_read {
        match net.read(c.peer, if slow { 400 } else { 64 * 1024 }) {
            PeerRead::Nothing => break,
            PeerRead::Bytes(bytes) => {
                c.idle_close = None;
                c.reader.push(&bytes);
                if slow {
                    c.next_read = now + Duration::from_micros(rng.below(4000));
                }
                requests(c, setup, ledger, rng, now);
            }
            PeerRead::Eof | PeerRead::Reset => {
                let unfinished = c.exchange.as_ref().is_some_and(|e| e.after == After::Keep);
                if setup.lossless && unfinished && !c.out.is_empty() {
                    let id = c.exchange.as_ref().map(|e| e.id);
                    let request = id.and_then(|id| ledger.requests.get(&id));
                    let early = request.is_some_and(|r| r.reply.early || r.harmed);
                    if !early && !c.exchange.as_ref().is_some_and(|e| e.copy) {
                        ledger.violation(format!("the proxy hung up on the answer to {id:?}"));
                    }
                }
                c.over = true;
            }
        }
    }
}

/// Reads requests as far as they go.
fn requests(c: &mut Connection, setup: &Setup, ledger: &mut Ledger, rng: &mut Rng, now: Time) {
    loop {
        match c.reader.next_item() {
            Ok(None) => return,
            Ok(Some(Item::Head(head))) if head.start.starts_with("GET /hc ") => {
                checked(c, setup, rng, now);
            }
            Ok(Some(Item::Head(head))) => {
                if let Err(error) = request_head(c, &head, setup, ledger) {
                    ledger.violation(format!("an upstream got {}: {error}", head.start));
                    c.over = true;
                    return;
                }
            }
            Ok(Some(Item::Body(body))) => {
                let Some(exchange) = &mut c.exchange else { continue };
                exchange.arrived = true;
                let Some(request) = ledger.requests.get_mut(&exchange.id) else { return };
                request.delivered += u32::from(!exchange.copy);
                if body != fill(!exchange.id, request.length) {
                    let text = format!("request {} arrived with a wrong body", exchange.id);
                    ledger.violation(text);
                }
                if exchange.scheduled && exchange.after == After::Keep && c.out.is_empty() {
                    // Answered early and in full: the next request may follow at once.
                    c.exchange = None;
                }
            }
            Err(error) => {
                ledger.violation(format!("an upstream got nonsense: {error}"));
                c.over = true;
                return;
            }
        }
        let Some(exchange) = &mut c.exchange else { continue };
        let Some(request) = ledger.requests.get_mut(&exchange.id) else { return };
        if !exchange.scheduled && (exchange.arrived || request.reply.early) {
            exchange.scheduled = true;
            let promised = request.reply.turn(request.heads) == Turn::Promised;
            request.harmed |= request.reply.fault.is_some() && promised && !exchange.copy;
            schedule(c, request, setup, rng, now);
        }
    }
}

fn request_head(c: &mut Connection, head: &Head, setup: &Setup, ledger: &mut Ledger) -> Result<(), String> {
    let id = head.number("x-id").ok_or("no x-id")?;
    if let Some(exchange) = &c.exchange {
        return Err(format!("{id} follows {} before its answer", exchange.id));
    }
    if c.fin_sent {
        return Err("a request on a connection that was closed".into());
    }
    let request = ledger.requests.get_mut(&id).ok_or("an unknown request")?;
    let with_body = matches!(request.method, "POST" | "PUT");
    let copy = setup.knobs.mirrors && head.get("host") == Some("sim.test-shadow");
    let expected = copy || head.get("host") == Some("sim.test");
    if head.start != format!("{} /r/{id} HTTP/1.1", request.method) || !expected {
        return Err(format!("host {:?}", head.get("host")));
    }
    for name in ["host", "x-request-id", "x-forwarded-proto"] {
        if head.count(name) != 1 {
            return Err(format!("{name} comes {} times", head.count(name)));
        }
    }
    let expects = head.count("expect") > 0;
    if expects != (request.expects && setup.knobs.proxy_continue) || head.count("connection") > 0 {
        return Err("a hop-by-hop field".into());
    }
    let framing = head.framing(Framing::Length(0))?;
    // Over HTTP/2 nothing may follow the head at all.
    let nothing = setup.http2.clients && request.length == 0 && framing == Framing::Length(0);
    if with_body && framing != request.framing && !nothing {
        return Err(format!("{framing:?} instead of {:?}", request.framing));
    }
    request.heads += u32::from(!copy);
    c.reader.body(framing);
    c.exchange = Some(Exchange { id, arrived: false, scheduled: false, after: After::Keep, copy });
    Ok(())
}

/// A health check is answered, or not.
fn checked(c: &mut Connection, setup: &Setup, rng: &mut Rng, now: Time) {
    c.checks = true;
    c.reader.body(Framing::Length(0));
    let fails = rng.chance(setup.check_faults, 1000);
    match rng.below(4) {
        0 if fails => c.over = true,
        1 if fails => {}
        case if fails => {
            let status = if case == 2 { "503 No" } else { "2x0 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            c.out.push_back((now, answer.into_bytes()));
        }
        _ => c.out.push_back((now, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())),
    }
}

/// Plans every byte of the answer.
fn schedule(c: &mut Connection, request: &Request, setup: &Setup, rng: &mut Rng, now: Time) {
    let Some(exchange) = &mut c.exchange else { return };
    let reply = &request.reply;
    let turn = if exchange.copy { Turn::Promised } else { reply.turn(request.heads) };
    let fault = reply.fault.filter(|_| turn == Turn::Promised);
    let mut bytes = Vec::new();
    for _ in 0..reply.interim(turn) {
        let interim = ["100 Continue", "102 Processing", "103 Early Hints"][rng.below(3) as usize];
        bytes.extend_from_slice(format!("HTTP/1.1 {interim}\r\n\r\n").as_bytes());
    }
    exchange.after = if reply.close { After::Close } else { After::Keep };
    match fault {
        None => bytes.extend(answer(exchange.id, request, turn, rng)),
        Some(Fault::Garbage) => {
            let garbage: [&[u8]; 4] = [
                b"SSH-2.0-OpenSSH\r\n",
                b"HTTP/1.1 2x0 OK\r\n\r\n",
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            ];
            bytes.extend_from_slice(garbage[rng.below(4) as usize]);
        }
        Some(Fault::Silence) => {
            exchange.after = After::Silence;
            return;
        }
        Some(Fault::Hangup) => {
            exchange.after = After::Close;
            bytes.clear();
        }
        Some(Fault::BadChunk) if reply.framing == Framing::Chunked && request.method != "HEAD" => {
            let whole = answer(exchange.id, request, Turn::Promised, rng);
            let head = whole.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
            bytes.extend_from_slice(&whole[..head]);
            bytes.extend_from_slice(b"zz\r\n");
        }
        Some(fault) => {
            let whole = answer(exchange.id, request, Turn::Promised, rng);
            let cut = rng.below(whole.len() as u64) as usize;
            bytes.extend_from_slice(&whole[..cut]);
            // A body that ends with its connection is only seen to be cut off by a reset, or by a FIN that TLS did
            // not announce.
            exchange.after = match (fault, reply.framing) {
                (Fault::Truncate, Framing::UntilClose) if c.secure => After::Cut,
                (Fault::Truncate, Framing::UntilClose) => After::Reset,
                (Fault::Truncate, _) => After::Close,
                _ => After::Reset,
            };
        }
    }
    let mut at = now + reply.delay;
    let slow_start = setup.slow && rng.chance(1, 3);
    for piece in bytes.chunks(reply.piece.min(bytes.len().max(1))) {
        c.out.push_back((at, piece.to_vec()));
        at = at + reply.gap;
        if slow_start {
            at = at + Duration::from_micros(rng.below(3000));
        }
    }
    if c.out.is_empty() {
        c.out.push_back((at, Vec::new()));
    }
}

/// A well-formed answer.
fn answer(id: u64, request: &Request, turn: Turn, rng: &mut Rng) -> Vec<u8> {
    let reply = &request.reply;
    let (status, length) = reply.of(turn);
    let framing = if turn == Turn::Promised { reply.framing } else { Framing::Length(9) };
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nx-id: {id}\r\nx-len: {length}\r\n");
    let bodiless = matches!(status, 204 | 304);
    match framing {
        _ if bodiless => {}
        Framing::Length(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::UntilClose => {}
    }
    if turn == Turn::Redirects {
        head.push_str(&format!("Location: http://sim.test/r/{id}\r\n"));
    }
    if reply.close {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    if !bodiless && request.method != "HEAD" {
        let chunk = 1 + rng.below(length as u64 + 1) as usize;
        bytes.extend(framed(&fill(id, length), framing, chunk, reply.trailers, rng));
    }
    bytes
}

fn write(c: &mut Connection, net: &Net, setup: &Setup, rng: &mut Rng) {
    let now = net.now();
    if c.idle_close.is_some_and(|at| at <= now) {
        c.over = true;
    }
    while !c.over
        && let Some((at, bytes)) = c.out.front()
        && *at <= now
    {
        if c.at < bytes.len() {
            match net.write(c.peer, &bytes[c.at..]) {
                Ok(0) => return,
                Ok(count) => c.at += count,
                Err(_) => c.over = true,
            }
        }
        if c.at >= bytes.len() {
            c.out.pop_front();
            c.at = 0;
        }
    }
    let Some(exchange) = c.exchange.as_ref().filter(|e| e.scheduled && c.out.is_empty() && !c.over) else {
        return;
    };
    match exchange.after {
        After::Keep if exchange.arrived => {
            c.exchange = None;
            if rng.chance(setup.idle_close, 1000) {
                c.idle_close = Some(now + Duration::from_micros(rng.below(20_000)));
            }
        }
        After::Keep | After::Silence => {}
        After::Close => {
            // Half-closed until the proxy has closed its half: nothing that was sent may get lost.
            if !c.fin_sent {
                c.fin_sent = true;
                net.shutdown(c.peer);
            }
        }
        After::Cut => {
            if !c.fin_sent {
                c.fin_sent = true;
                net.truncate(c.peer);
            }
        }
        After::Reset => {
            net.reset(c.peer);
            c.over = true;
        }
    }
}
