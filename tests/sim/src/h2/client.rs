//! Clients that speak HTTP/2: many requests at once on few connections, every answer checked byte by byte.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_http::RequestHead;
use millrace_http::h2::{ErrorCode, Event, GoAway, Role, Side, StreamRef};
use millrace_ring::SocketAddress;
use millrace_ring::sim::PeerRead;

use super::link::{Cut, Link};
use super::response;
use crate::churn::Provenance;
use crate::client::{CONTINUE_WAIT, finish};
use crate::ledger::{Ledger, Outcome, Request};
use crate::net::Net;
use crate::setup::Setup;
use crate::wire::{Framing, Head, fill};

/// Connections that one client may need at the most.
const CONNECTIONS_MAX: u32 = 300;
/// How long a connection without streams stays open.
const LINGER: Duration = Duration::from_secs(5);

/// One request under way.
#[derive(Debug)]
struct Exchange {
    stream: StreamRef,
    body: Vec<u8>,
    sent: usize,
    /// END_STREAM was sent.
    ended: bool,
    trailers: bool,
    /// The body waits for `100 Continue`, or for this time.
    waits: Option<Time>,
    continued: bool,
    head: Option<Head>,
    expected: Vec<u8>,
    got: usize,
    answered: bool,
    /// Given up at this time.
    resets: Time,
}

#[derive(Debug)]
struct Connection {
    link: Link,
    open: BTreeMap<u64, Exchange>,
    provenance: Provenance,
    /// No more requests: either side said so.
    leaving: bool,
    idle_since: Option<Time>,
    over: bool,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    todo: VecDeque<u64>,
    connections: Vec<Connection>,
    rng: Rng,
    depth: usize,
    opened: u32,
    next_open: Time,
    /// Waits for the proxy to close idle connections instead of closing them.
    pub patient: bool,
}

impl Client {
    /// A client with these requests to make.
    pub fn new(todo: VecDeque<u64>, mut rng: Rng, start: Time) -> Self {
        let depth = [1, 3, 10, 40][rng.below(4) as usize];
        let next_open = start + Duration::from_millis(rng.below(30));
        Self { todo, connections: Vec::new(), rng, depth, opened: 0, next_open, patient: false }
    }

    /// True when every request was answered and the connections are gone.
    pub fn is_done(&self) -> bool {
        self.todo.is_empty() && self.connections.is_empty()
    }

    /// What it is doing, for the output of a failure.
    pub fn state(&self) -> String {
        let open = |c: &Connection| {
            let streams = c.open.iter().map(|(id, e)| {
                let (sent, all) = (e.sent, e.body.len());
                let (got, due) = (e.got, e.expected.len());
                format!("{id}: sent {sent} of {all}, end {}, got {got} of {due}, {:?}", e.ended, e.head)
            });
            let streams: Vec<String> = streams.collect();
            format!("{streams:?} out {} leaving {}", c.link.out.len(), c.leaving)
        };
        let connections: Vec<String> = self.connections.iter().map(open).collect();
        format!("HTTP/2 client: todo {:?}, {connections:?}", self.todo)
    }

    /// Does what is possible now; returns when it wants to be looked at again.
    pub fn poll(&mut self, net: &Net, to: &SocketAddress, setup: &Setup, ledger: &mut Ledger) -> Time {
        let now = net.now();
        let mut connections = std::mem::take(&mut self.connections);
        for connection in &mut connections {
            connection.link.receive(net, &mut self.rng);
            self.events(connection, setup, ledger, now);
        }
        if !self.todo.is_empty() && connections.iter().all(|c| c.leaving) && now >= self.next_open {
            connections.extend(self.open(net, to, setup, ledger));
        }
        let mut wake = Time::MAX;
        for connection in &mut connections {
            self.ask(connection, setup, ledger, now);
            wake = wake.min(self.send(connection, setup, ledger, now));
            connection.link.flush(net, &mut self.rng);
            self.look_for_the_end(connection, setup, ledger, now);
            if connection.over {
                match connection.link.cut {
                    Some(Cut::Reset) => net.reset(connection.link.peer),
                    _ => net.close(connection.link.peer),
                }
                self.next_open = now + Duration::from_micros(self.rng.below(3000));
                continue;
            }
            wake = wake.min(connection.link.wake(net));
            if let Some(since) = connection.idle_since
                && !self.patient
            {
                wake = wake.min(since + LINGER);
            }
        }
        connections.retain(|c| !c.over);
        self.connections = connections;
        if !self.todo.is_empty() && self.connections.iter().all(|c| c.leaving) {
            wake = wake.min(self.next_open.max(now + Duration::from_micros(1)));
        }
        wake
    }

    fn open(
        &mut self,
        net: &Net,
        to: &SocketAddress,
        setup: &Setup,
        ledger: &mut Ledger,
    ) -> Option<Connection> {
        self.opened += 1;
        if self.opened > CONNECTIONS_MAX {
            ledger.violation(format!("{CONNECTIONS_MAX} connections do not suffice: {:?}", self.todo));
            self.todo.clear();
            return None;
        }
        let Ok(peer) = net.connect(to) else {
            // The listener is closed.
            for id in std::mem::take(&mut self.todo) {
                ledger.settle(id, Outcome::Lost);
            }
            return None;
        };
        Some(Connection {
            link: Link::new(peer, Role::Client, setup, net.now(), &mut self.rng),
            open: BTreeMap::new(),
            provenance: Provenance::default(),
            leaving: false,
            idle_since: None,
            over: false,
        })
    }

    /// Begins requests as far as the depth and the proxy allow.
    fn ask(&mut self, c: &mut Connection, setup: &Setup, ledger: &mut Ledger, now: Time) {
        while !c.leaving && c.link.cut.is_none() && c.open.len() < self.depth && c.link.codec.can_open() {
            let Some(id) = self.todo.pop_front() else { return };
            let Some(request) = ledger.requests.get_mut(&id) else { return };
            let rng = &mut self.rng;
            let mut body = if request.has_body() { fill(!id, request.length) } else { Vec::new() };
            let (mut resets, reset) = (Time::MAX, rng.chance(setup.http2.resets, 1000));
            request.table = ledger.in_force.table;
            if reset {
                request.harmed = true;
                // Too little of a body whose length was promised, or a reset at any time.
                if request.framing == Framing::Length(request.length as u64)
                    && request.length > 0
                    && rng.chance(1, 3)
                {
                    body.truncate(rng.below(request.length as u64) as usize);
                } else {
                    let micros = [1, 2_000, 60_000][rng.below(3) as usize];
                    resets = now + Duration::from_micros(rng.below(micros));
                }
            }
            let trailers = request.framing == Framing::Chunked && request.has_body() && rng.chance(1, 4);
            let end = body.is_empty() && !trailers && rng.chance(3, 4);
            let head = request_head(id, request);
            let sent = c.link.head(rng, |codec, out| codec.send_request(&head, id, end, out));
            let Some(stream) = sent else {
                self.todo.push_front(id);
                return;
            };
            c.link.opened(stream, now, rng);
            let waits = (request.expects && !end).then(|| now + CONTINUE_WAIT);
            let expected = Vec::new();
            let exchange = Exchange {
                stream,
                body,
                sent: 0,
                ended: end,
                trailers,
                waits,
                continued: false,
                head: None,
                expected,
                got: 0,
                answered: false,
                resets,
            };
            c.open.insert(id, exchange);
        }
    }

    /// Sends parts of bodies, from another stream each time, and resets.
    fn send(&mut self, c: &mut Connection, setup: &Setup, ledger: &mut Ledger, now: Time) -> Time {
        let mut wake = Time::MAX;
        let due: Vec<u64> = c.open.iter().filter(|(_, e)| e.resets <= now).map(|(id, _)| *id).collect();
        for id in due {
            let Some(exchange) = c.open.remove(&id) else { continue };
            let code =
                [ErrorCode::Cancel, ErrorCode::NoError, ErrorCode::Internal][self.rng.below(3) as usize];
            c.link.codec.reset(exchange.stream, code);
            c.link.closed(exchange.stream);
            if !exchange.answered {
                ledger.settle(id, Outcome::Lost);
            }
        }
        let ids: Vec<u64> = c.open.keys().copied().collect();
        let first = self.rng.below(ids.len() as u64 + 1) as usize;
        for id in ids[first..].iter().chain(&ids[..first]) {
            let Some(exchange) = c.open.get_mut(id) else { continue };
            wake = wake.min(exchange.resets);
            if let Some(until) = exchange.waits.filter(|until| *until > now && !exchange.continued) {
                wake = wake.min(until);
                continue;
            }
            while !exchange.ended && c.link.has_room() {
                let most = 1 + self.rng.below(setup.body_max as u64 / 2) as usize;
                let ends = !exchange.trailers && self.rng.chance(3, 4);
                let (body, sent) = (&exchange.body, exchange.sent);
                let count = c.link.data(exchange.stream, body, sent, most, ends, &mut self.rng);
                exchange.sent += count;
                let all = exchange.sent == exchange.body.len();
                exchange.ended = all && ends && count > 0;
                if all && !exchange.ended {
                    exchange.ended = true;
                    finish_request(exchange, &mut c.link);
                }
                if count == 0 {
                    break;
                }
            }
        }
        wake
    }

    fn events(&mut self, c: &mut Connection, setup: &Setup, ledger: &mut Ledger, now: Time) {
        loop {
            let (event, bytes) = match c.link.next(now) {
                Ok(None) => return,
                Ok(Some(found)) => found,
                Err(error) => {
                    ledger.violation(format!("a client got nonsense: {error}"));
                    c.over = true;
                    return;
                }
            };
            if let Err(error) = self.event(c, event, &bytes, setup, ledger, now) {
                ledger.violation(error);
                c.over = true;
                return;
            }
        }
    }

    fn event(
        &mut self,
        c: &mut Connection,
        event: Event,
        bytes: &[u8],
        setup: &Setup,
        ledger: &mut Ledger,
        now: Time,
    ) -> Result<(), String> {
        match event {
            Event::Informational { user, .. } => {
                let head = response(&c.link.heads.response);
                let status = c.link.heads.response.status;
                let exchange = c.open.get_mut(&user).ok_or("an interim answer to nothing")?;
                let expects = ledger.requests.get(&user).is_some_and(|r| r.expects);
                let again = exchange.continued && !setup.knobs.proxy_continue;
                if status != 100 || !expects || again || !head.fields.is_empty() {
                    return Err(format!("request {user}: an uninvited {status} or a second one: {head:?}"));
                }
                exchange.continued = true;
            }
            Event::Response { user, end, .. } => {
                let head = response(&c.link.heads.response);
                let exchange = c.open.get_mut(&user).ok_or("an answer to nothing")?;
                let request = ledger.requests.get(&user).ok_or("an unknown request")?;
                if let Some(other) = head.number("x-id").filter(|other| *other != user) {
                    return Err(format!("{user} got the answer of {other}"));
                }
                c.provenance.check(&head, request, setup, &ledger.in_force)?;
                let length = head.number("x-len").unwrap_or(0) as usize;
                exchange.expected = if head.get("x-id").is_some() { fill(user, length) } else { Vec::new() };
                exchange.head = Some(head);
                if end {
                    self.answered(c, user, setup, ledger, now);
                }
            }
            Event::Data { stream, user, end, .. } => {
                c.link.owe(stream, bytes.len(), now, &mut self.rng);
                let Some(exchange) = c.open.get_mut(&user) else { return Ok(()) };
                let range = exchange.got..exchange.got + bytes.len();
                let local = exchange.head.as_ref().is_some_and(|head| head.get("x-id").is_none());
                if local {
                    exchange.expected.extend_from_slice(bytes);
                } else if exchange.expected.get(range) != Some(bytes) {
                    return Err(format!("request {user}: wrong bytes at {}", exchange.got));
                }
                exchange.got += bytes.len();
                if end {
                    self.answered(c, user, setup, ledger, now);
                }
            }
            Event::Trailers { user, .. } => self.answered(c, user, setup, ledger, now),
            Event::Reset { stream, user, code, by, .. } => {
                c.link.closed(stream);
                return self.reset(c, user, code, by, setup, ledger);
            }
            Event::GoAway { code, .. } => {
                c.leaving = true;
                c.provenance.goes_away();
                let blamed = code == ErrorCode::EnhanceYourCalm && !setup.lossless;
                if code != ErrorCode::NoError && !blamed {
                    return Err(format!("the proxy goes away: {code:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An answer is complete.
    fn answered(&mut self, c: &mut Connection, id: u64, setup: &Setup, ledger: &mut Ledger, now: Time) {
        let Some(exchange) = c.open.get_mut(&id) else { return };
        let Some(head) = exchange.head.clone() else { return };
        let body = &exchange.expected[..exchange.got];
        exchange.answered = true;
        finish(id, &head, body, setup, ledger);
        if self.rng.chance(setup.http2.goaways, 1000) && !c.leaving {
            c.leaving = true;
            c.link.codec.goaway(GoAway::Final(ErrorCode::NoError));
        }
        _ = now;
    }

    /// The proxy ended a stream before its time.
    fn reset(
        &mut self,
        c: &mut Connection,
        id: u64,
        code: ErrorCode,
        by: Side,
        setup: &Setup,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        if by == Side::Us {
            return Err(format!("request {id}: a malformed answer: {code:?}"));
        }
        let Some(exchange) = c.open.remove(&id) else { return Ok(()) };
        if exchange.answered {
            return Ok(());
        }
        let Some(request) = ledger.requests.get(&id) else { return Ok(()) };
        if code == ErrorCode::RefusedStream {
            if request.heads > 0 || exchange.head.is_some() {
                return Err(format!("request {id} was refused after it was passed on"));
            }
            self.todo.push_back(id);
            return Ok(());
        }
        if setup.lossless && !request.harmed {
            return Err(format!("request {id} was reset: {code:?}, {request:?}"));
        }
        ledger.settle(id, if exchange.head.is_some() { Outcome::CutOff } else { Outcome::Lost });
        Ok(())
    }

    /// Forgets what is over, and closes what is of no use any more.
    fn look_for_the_end(&mut self, c: &mut Connection, setup: &Setup, ledger: &mut Ledger, now: Time) {
        let Connection { link, open, .. } = c;
        open.retain(|_, exchange| {
            let over = exchange.answered && exchange.ended;
            if over {
                link.closed(exchange.stream);
            }
            !over
        });
        let useless = open.is_empty() && (c.leaving || self.todo.is_empty());
        match (useless && link.is_settled(), c.idle_since) {
            (false, _) => c.idle_since = None,
            (true, None) => c.idle_since = Some(now),
            (true, Some(since)) if since + LINGER <= now && !self.patient => {
                c.over = true;
                if link.codec.unreleased() != 0 {
                    ledger.violation(format!("a client owes {} bytes", link.codec.unreleased()));
                }
            }
            (true, Some(_)) => {}
        }
        if link.end.is_some() || link.cut.is_some() {
            c.over = true;
        }
        if !c.over {
            return;
        }
        let careful = setup.lossless && link.cut.is_none();
        if careful && link.end == Some(PeerRead::Reset) {
            ledger.violation("the proxy reset a connection");
        }
        if careful
            && link.end.is_some()
            && let Err(error) = c.provenance.ended(&ledger.in_force)
        {
            ledger.violation(error);
        }
        for (id, exchange) in std::mem::take(open).into_iter().filter(|(_, e)| !e.answered) {
            let Some(request) = ledger.requests.get(&id) else { continue };
            // Closed before the proxy knew the version: idle, as far as it could see.
            if careful && !link.heard && request.heads == 0 {
                self.todo.push_back(id);
                continue;
            }
            if careful && !request.harmed && link.end.is_some() {
                ledger.violation(format!("a connection ended with request {id} open"));
            }
            ledger.settle(id, if exchange.head.is_some() { Outcome::CutOff } else { Outcome::Lost });
        }
    }
}

/// Trailers, or END_STREAM on a frame of its own.
fn finish_request(exchange: &Exchange, link: &mut Link) {
    if exchange.trailers {
        let mut trailers = millrace_http::HeaderMap::new();
        trailers.append(b"x-sum", b"1");
        link.codec.send_trailers(exchange.stream, &trailers, &mut link.out);
    } else {
        link.codec.send_data(exchange.stream, 0, true, &mut link.out);
    }
}

fn request_head(id: u64, request: &Request) -> RequestHead {
    let mut head = RequestHead::new();
    head.set_method(request.method.as_bytes());
    head.set_scheme(b"http");
    head.set_authority(b"sim.test");
    head.set_path(format!("/r/{id}").as_bytes());
    head.headers.append(b"x-id", id.to_string().as_bytes());
    if request.has_body() && request.framing != Framing::Chunked {
        head.headers.append(b"content-length", request.length.to_string().as_bytes());
    }
    if request.expects {
        head.headers.append(b"expect", b"100-continue");
    }
    head
}
