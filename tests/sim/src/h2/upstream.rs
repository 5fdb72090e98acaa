//! Endpoints that speak HTTP/2: strict about every request they get, and answering as the ledger promises, many at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_http::h2::{ErrorCode, Event, GoAway, Role, Side, StreamRef};
use millrace_ring::sim::PeerListener;
use millrace_ring::{IoError, SocketAddress};

use super::answer::{Exchange, step};
use super::link::Link;
use super::windows::frame;
use crate::ledger::{Ledger, Turn};
use crate::net::Net;
use crate::setup::Setup;
use crate::wire::{Framing, fill};

const GOAWAY: u8 = 7;

#[derive(Debug)]
struct Connection {
    link: Link,
    open: BTreeMap<u32, Exchange>,
    /// The second GOAWAY follows once the proxy has answered the PING behind the first.
    leaves: bool,
    /// Streams above this were refused by GOAWAY.
    refused_above: Option<u32>,
    /// No more streams are taken.
    final_sent: bool,
    idle_close: Option<Time>,
    fin_sent: bool,
    over: bool,
}

/// One endpoint.
#[derive(Debug)]
pub struct Upstream {
    listener: PeerListener,
    connections: Vec<Connection>,
    rng: Rng,
}

impl Upstream {
    /// Listens.
    ///
    /// # Errors
    /// The address is in use.
    pub fn listen(net: &Net, address: SocketAddr, rng: Rng) -> Result<Self, IoError> {
        let listener = net.listen_peer(SocketAddress::Inet(address))?;
        Ok(Self { listener, connections: Vec::new(), rng })
    }

    /// Closes the listener and everything that is left.
    pub fn close(&mut self, net: &Net) {
        net.close_listener(self.listener);
        for connection in self.connections.drain(..) {
            net.close(connection.link.peer);
        }
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Bytes are still on their way to the socket.
    pub fn is_busy(&self) -> bool {
        self.connections.iter().any(|c| !c.link.out.is_empty())
    }

    /// What is left when nothing should be under way.
    ///
    /// # Errors
    /// Streams, or credit that was never given back.
    pub fn assert_idle(&self) -> Result<(), String> {
        for connection in &self.connections {
            let codec = &connection.link.codec;
            if !connection.open.is_empty() || codec.open_streams() > 0 || codec.unreleased() > 0 {
                let streams: Vec<u64> = connection.open.values().map(|e| e.id).collect();
                let (open, owed) = (codec.open_streams(), codec.unreleased());
                return Err(format!("an upstream has {streams:?}, {open} streams and owes {owed} bytes"));
            }
        }
        Ok(())
    }

    /// Does what is possible now; returns when it wants to be looked at again.
    pub fn poll(&mut self, net: &Net, setup: &Setup, ledger: &mut Ledger) -> Time {
        let now = net.now();
        while let Some(peer) = net.accept(self.listener) {
            self.connections.push(Connection {
                link: Link::new(peer, Role::Server, setup, now, &mut self.rng),
                open: BTreeMap::new(),
                leaves: false,
                refused_above: None,
                final_sent: false,
                idle_close: None,
                fin_sent: false,
                over: false,
            });
        }
        let mut wake = Time::MAX;
        for connection in &mut self.connections {
            connection.link.receive(net, &mut self.rng);
            connection.events(setup, ledger, now, &mut self.rng);
            wake = wake.min(connection.answer(setup, ledger, now, &mut self.rng));
            wake = wake.min(connection.leave(net, setup, ledger, &mut self.rng));
            connection.link.flush(net, &mut self.rng);
            connection.over |= connection.link.end.is_some();
            if connection.over {
                connection.gone(setup, ledger);
                net.close(connection.link.peer);
                continue;
            }
            wake = wake.min(connection.link.wake(net));
        }
        self.connections.retain(|c| !c.over);
        wake
    }
}

impl Connection {
    fn events(&mut self, setup: &Setup, ledger: &mut Ledger, now: Time, rng: &mut Rng) {
        loop {
            let (event, bytes) = match self.link.next(now) {
                Ok(None) => return,
                Ok(Some(found)) => found,
                Err(error) => {
                    ledger.violation(format!("an upstream got nonsense: {error}"));
                    self.over = true;
                    return;
                }
            };
            let result = match event {
                Event::Request { stream, end, .. } => self.request(stream, end, setup, ledger, now, rng),
                Event::Data { stream, user, end, .. } => {
                    self.link.owe(stream, bytes.len(), now, rng);
                    self.data(user as u32, &bytes, end, ledger, now)
                }
                Event::Trailers { user, .. } => self.arrived(user as u32, ledger, now),
                Event::Reset { stream, user, code, by, .. } => {
                    self.link.closed(stream);
                    self.reset(user as u32, code, by, setup, ledger)
                }
                Event::Pong => {
                    self.go_away_finally();
                    Ok(())
                }
                Event::TooLarge { .. } => Err("an upstream got too large a head".into()),
                Event::GoAway { code, .. } if code != ErrorCode::NoError && setup.lossless => {
                    Err(format!("the proxy goes away from an upstream: {code:?}"))
                }
                _ => Ok(()),
            };
            if let Err(error) = result {
                ledger.violation(error);
                self.over = true;
                return;
            }
        }
    }

    fn request(
        &mut self,
        stream: StreamRef,
        end: bool,
        setup: &Setup,
        ledger: &mut Ledger,
        now: Time,
        rng: &mut Rng,
    ) -> Result<(), String> {
        self.link.codec.bind(stream, u64::from(stream.id));
        if self.refused_above.is_some_and(|last| stream.id > last) {
            // On its way when GOAWAY was sent; the proxy will know.
            return Ok(());
        }
        let limit = self.link.most_streams();
        if self.link.acknowledged && self.link.codec.open_streams() > limit {
            return Err(format!("more than {limit} streams at once"));
        }
        let fields = super::fields(&self.link.heads.request.headers);
        let count = |name: &str| fields.iter().filter(|(n, _)| n == name).count();
        let number =
            |name: &str| fields.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.parse::<u64>().ok());
        let id = number("x-id").ok_or("no x-id")?;
        let request = ledger.requests.get_mut(&id).ok_or("an unknown request")?;
        let head = &self.link.heads.request;
        let copy = setup.knobs.mirrors && head.authority() == b"sim.test-shadow";
        let host = if copy { &b"sim.test-shadow"[..] } else { b"sim.test" };
        let expected = (request.method.as_bytes(), format!("/r/{id}").into_bytes(), host);
        if (head.method(), head.path().to_vec(), head.authority()) != expected {
            return Err(format!("request {id} came as {head:?}"));
        }
        if count("x-request-id") != 1 || count("x-forwarded-proto") != 1 {
            return Err(format!("request {id} has the fields {fields:?}"));
        }
        let expects = request.expects && setup.knobs.proxy_continue;
        if (count("expect") > 0) != expects {
            return Err(format!("request {id}: expect comes {} times", count("expect")));
        }
        let length = request.has_body().then_some(()).and(match request.framing {
            Framing::Length(length) => Some(length),
            _ => None,
        });
        if number("content-length") != length && request.has_body() {
            return Err(format!("request {id}: {fields:?} instead of {length:?}"));
        }
        if request.refused == 0 && !copy && rng.chance(setup.http2.refusals, 1000) {
            request.refused += 1;
            self.link.codec.reset(stream, ErrorCode::RefusedStream);
            return Ok(());
        }
        self.link.opened(stream, now, rng);
        request.heads += u32::from(!copy);
        self.idle_close = None;
        let expected = if request.has_body() { fill(!id, request.length) } else { Vec::new() };
        let exchange = Exchange {
            id,
            stream,
            expected,
            got: 0,
            arrived: false,
            next: None,
            head_sent: false,
            turn: Turn::Promised,
            copy,
            body: Vec::new(),
            sent: 0,
            cut: None,
            done: false,
        };
        self.open.insert(stream.id, exchange);
        if end {
            return self.arrived(stream.id, ledger, now);
        }
        if ledger.requests.get(&id).is_some_and(|r| r.reply.early) {
            self.plan(stream.id, ledger, now);
        }
        Ok(())
    }

    fn data(
        &mut self,
        stream: u32,
        bytes: &[u8],
        end: bool,
        ledger: &mut Ledger,
        now: Time,
    ) -> Result<(), String> {
        let Some(exchange) = self.open.get_mut(&stream) else { return Ok(()) };
        if exchange.expected.get(exchange.got..exchange.got + bytes.len()) != Some(bytes) {
            return Err(format!("request {} arrived with wrong bytes at {}", exchange.id, exchange.got));
        }
        exchange.got += bytes.len();
        if end { self.arrived(stream, ledger, now) } else { Ok(()) }
    }

    fn arrived(&mut self, stream: u32, ledger: &mut Ledger, now: Time) -> Result<(), String> {
        let Some(exchange) = self.open.get_mut(&stream) else { return Ok(()) };
        exchange.arrived = true;
        if exchange.got != exchange.expected.len() {
            let (got, due) = (exchange.got, exchange.expected.len());
            return Err(format!("request {} arrived with {got} of {due} bytes", exchange.id));
        }
        if let Some(request) = ledger.requests.get_mut(&exchange.id) {
            request.delivered += u32::from(!exchange.copy);
        }
        self.plan(stream, ledger, now);
        Ok(())
    }

    fn plan(&mut self, stream: u32, ledger: &mut Ledger, now: Time) {
        let Some(exchange) = self.open.get_mut(&stream).filter(|e| e.next.is_none()) else { return };
        let Some(request) = ledger.requests.get_mut(&exchange.id) else { return };
        exchange.next = Some(now + request.reply.delay);
        if !exchange.copy {
            exchange.turn = request.reply.turn(request.heads);
        }
        let (status, length) = request.reply.of(exchange.turn);
        if request.method != "HEAD" && !matches!(status, 204 | 304) {
            exchange.body = fill(exchange.id, length);
        }
        let promised = !exchange.is_preliminary() && !exchange.copy;
        request.harmed |= request.reply.fault.is_some() && promised;
    }

    fn reset(
        &mut self,
        stream: u32,
        code: ErrorCode,
        by: Side,
        setup: &Setup,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let Some(exchange) = self.open.remove(&stream) else { return Ok(()) };
        let id = exchange.id;
        if by == Side::Us {
            return Err(format!("request {id} arrived malformed: {code:?}"));
        }
        let Some(request) = ledger.requests.get(&id) else { return Ok(()) };
        let excused = request.harmed || exchange.is_preliminary() || exchange.copy || request.reply.early;
        if setup.lossless && !excused {
            return Err(format!("the proxy gave up the answer to {id}: {code:?}"));
        }
        Ok(())
    }

    /// Sends what is due of every answer, beginning with another one each time.
    fn answer(&mut self, setup: &Setup, ledger: &mut Ledger, now: Time, rng: &mut Rng) -> Time {
        let streams: Vec<u32> = self.open.keys().copied().collect();
        let first = rng.below(streams.len() as u64 + 1) as usize;
        let mut wake = Time::MAX;
        for stream in streams[first..].iter().chain(&streams[..first]) {
            let Some(exchange) = self.open.get_mut(stream) else { continue };
            let Some(request) = ledger.requests.get(&exchange.id) else { continue };
            while !exchange.done
                && self.link.has_room()
                && exchange.next.is_some_and(|next| next <= now)
                && step(exchange, request, &mut self.link, now, rng)
            {}
            wake = wake.min(exchange.next.filter(|next| *next > now && !exchange.done).unwrap_or(Time::MAX));
            let (answered, arrived) = (exchange.done, exchange.arrived);
            if !answered {
                continue;
            }
            if !arrived && self.link.codec.is_receiving(exchange.stream) {
                // Answered early: the rest of the request is awaited, or not wanted.
                if rng.chance(1, 2) {
                    continue;
                }
                self.link.codec.reset(exchange.stream, ErrorCode::NoError);
            }
            self.link.closed(exchange.stream);
            let closes = request.reply.close;
            self.open.remove(stream);
            if (closes || rng.chance(setup.http2.goaways, 1000)) && !self.leaves && !self.final_sent {
                self.link.codec.goaway(GoAway::Drain);
                self.link.codec.ping();
                self.leaves = true;
            } else if self.open.is_empty() && rng.chance(setup.idle_close, 1000) {
                self.idle_close = Some(now + Duration::from_micros(rng.below(20_000)));
            }
        }
        wake
    }

    /// GOAWAY in two steps, or at once with streams refused; then the end of the connection.
    fn leave(&mut self, net: &Net, setup: &Setup, ledger: &mut Ledger, rng: &mut Rng) -> Time {
        let now = net.now();
        if self.idle_close.is_some_and(|at| at <= now && self.open.is_empty()) {
            self.over = true;
        }
        if self.open.len() > 1 && !self.final_sent && rng.chance(setup.http2.refusals, 4000) {
            self.refuse_some(ledger, rng);
        }
        let empty = self.link.out.is_empty() && !self.link.codec.has_control();
        if self.final_sent && self.open.is_empty() && empty && !self.fin_sent {
            self.fin_sent = true;
            net.shutdown(self.link.peer);
        }
        self.idle_close.unwrap_or(Time::MAX)
    }

    /// The proxy knows: what it sent before has arrived.
    fn go_away_finally(&mut self) {
        if std::mem::take(&mut self.leaves) {
            self.final_sent = true;
            self.link.codec.goaway(GoAway::Final(ErrorCode::NoError));
        }
    }

    /// GOAWAY that names a stream in the middle: what is above was never looked at, as far as the proxy knows.
    fn refuse_some(&mut self, ledger: &mut Ledger, rng: &mut Rng) {
        let at = 1 + rng.below(self.open.len() as u64 - 1) as usize;
        let Some(last) = self.open.keys().nth(at - 1).copied() else { return };
        let above =
            |open: &BTreeMap<u32, Exchange>| open.range(last + 1..).map(|(s, e)| (*s, e.id)).collect();
        let refused: Vec<(u32, u64)> = above(&self.open);
        let repeatable = |(stream, id): &(u32, u64)| {
            let untouched = self.open.get(stream).is_some_and(|e| !e.head_sent && !e.copy);
            untouched && ledger.requests.get(id).is_some_and(|r| r.refused == 0)
        };
        if !refused.iter().all(repeatable) {
            return;
        }
        for (stream, id) in refused {
            let (Some(exchange), Some(request)) = (self.open.remove(&stream), ledger.requests.get_mut(&id))
            else {
                continue;
            };
            request.refused += 1;
            request.heads -= 1;
            request.delivered -= u32::from(exchange.arrived);
        }
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend_from_slice(&0_u32.to_be_bytes());
        self.link.codec.take_control(&mut self.link.out);
        frame(&mut self.link.out, GOAWAY, 0, &payload);
        (self.refused_above, self.final_sent, self.leaves) = (Some(last), true, false);
    }

    /// The connection ended: in a run without faults nothing may be under way.
    fn gone(&mut self, setup: &Setup, ledger: &mut Ledger) {
        for (_, exchange) in std::mem::take(&mut self.open) {
            let request = ledger.requests.get(&exchange.id);
            let excused = request.is_none_or(|r| r.harmed || r.reply.early) || exchange.copy;
            if setup.lossless && !excused && !exchange.is_preliminary() {
                ledger.violation(format!("the proxy hung up on the answer to {}", exchange.id));
            }
        }
    }
}
