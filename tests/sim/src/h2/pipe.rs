//! Both ends of tunnels over HTTP/2 (RFC 8441): clients use a stream on a connection of its
//! own. Every byte that comes out must
//! have gone in.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_http::h2::{ErrorCode, Event, Role, StreamRef};
use millrace_http::{RequestHead, ResponseHead};
use millrace_ring::SocketAddress;
use millrace_ring::sim::PeerListener;

use super::link::{Cut, Link};
use crate::ledger::Ledger;
use crate::net::Net;
use crate::setup::Setup;
use crate::wire::fill;

/// How long a tunnel that is over keeps its connection.
const LINGER: Duration = Duration::from_millis(500);

/// One end of a tunnel.
#[derive(Debug)]
struct End {
    id: u64,
    stream: StreamRef,
    /// The tunnel is there.
    open: bool,
    send: Vec<u8>,
    at: usize,
    ended: bool,
    expect: Vec<u8>,
    got: usize,
    eof: bool,
    /// The stream was reset, or refused, or its connection ended.
    broken: bool,
    /// Resets the stream after so many bytes sent.
    resets_after: Option<usize>,
}

impl End {
    fn new(
        id: u64,
        stream: StreamRef,
        (send, expect): (Vec<u8>, Vec<u8>),
        setup: &Setup,
        rng: &mut Rng,
    ) -> Self {
        let resets = rng.chance(setup.http2.resets, 1000);
        Self {
            id,
            stream,
            open: false,
            send,
            at: 0,
            ended: false,
            expect,
            got: 0,
            eof: false,
            broken: false,
            resets_after: resets.then(|| rng.below(setup.body_max as u64) as usize),
        }
    }

    fn is_whole(&self) -> bool {
        self.eof && self.ended && !self.broken && self.got == self.expect.len()
    }

    /// Nothing follows.
    fn is_over(&self) -> bool {
        self.broken || self.eof && self.ended
    }

    fn take(&mut self, event: &Event, bytes: &[u8]) -> Result<(), String> {
        match event {
            Event::Data { end, .. } if self.open => {
                if self.expect.get(self.got..self.got + bytes.len()) != Some(bytes) {
                    return Err(format!("tunnel {}: wrong bytes at {}", self.id, self.got));
                }
                self.got += bytes.len();
                self.eof |= end;
            }
            Event::Reset { .. } => self.broken = !(self.eof && self.ended),
            _ => {}
        }
        Ok(())
    }

    /// Sends what may be sent.
    fn go_on(&mut self, link: &mut Link, ledger: &mut Ledger, rng: &mut Rng) {
        if !self.open || self.broken {
            return;
        }
        if self.resets_after.is_some_and(|after| self.at >= after) && !self.is_over() {
            self.broken = true;
            if let Some(pipe) = ledger.pipes.get_mut(&self.id) {
                pipe.harmed = true;
            }
            return link.codec.reset(self.stream, ErrorCode::Cancel);
        }
        while !self.ended && link.has_room() {
            let most = 1 + rng.below(5000) as usize;
            let count = link.data(self.stream, &self.send, self.at, most, false, rng);
            self.at += count;
            if self.at == self.send.len() {
                self.ended = true;
                link.codec.send_data(self.stream, 0, true, &mut link.out);
            } else if count == 0 {
                break;
            }
        }
    }

    /// Writes down how it ended.
    fn judge(&self, up: bool, setup: &Setup, ledger: &mut Ledger) {
        if self.eof && !self.broken && self.got < self.expect.len() {
            let (got, due) = (self.got, self.expect.len());
            ledger.violation(format!("tunnel {}: an end after {got} of {due} bytes", self.id));
        }
        let harmed = ledger.pipes.get(&self.id).is_some_and(|pipe| pipe.harmed);
        if !self.is_whole() && setup.lossless && !harmed {
            let (id, sent, all) = (self.id, self.at, self.send.len());
            let (got, due, eof) = (self.got, self.expect.len(), self.eof);
            let how = format!("sent {sent} of {all}, got {got} of {due}, eof {eof}");
            ledger.violation(format!("tunnel {id} broke, to the upstream: {up}: {how}"));
        }
        if let Some(pipe) = ledger.pipes.get_mut(&self.id).filter(|_| self.is_whole()) {
            match up {
                true => pipe.up_whole = true,
                false => pipe.down_whole = true,
            }
        }
    }
}

/// The client of one tunnel.
#[derive(Debug)]
pub struct PipeClient {
    id: u64,
    link: Option<Box<Link>>,
    end: Option<End>,
    over_since: Option<Time>,
    done: bool,
    rng: Rng,
    start: Time,
}

impl PipeClient {
    /// Will open tunnel `id` at some time.
    pub fn new(id: u64, mut rng: Rng, start: Time) -> Self {
        let start = start + Duration::from_millis(rng.below(40));
        Self { id, link: None, end: None, over_since: None, done: false, rng, start }
    }

    /// True when the tunnel ended.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What it is doing, for the output of a failure.
    pub fn state(&self) -> String {
        let Some(e) = &self.end else { return format!("tunnel {}", self.id) };
        let (sent, all, got, due) = (e.at, e.send.len(), e.got, e.expect.len());
        format!(
            "tunnel {}: open {}, sent {sent} of {all}, got {got} of {due}, eof {}",
            self.id, e.open, e.eof
        )
    }

    /// Does what is possible now; returns when it wants to be looked at again.
    pub fn poll(&mut self, net: &Net, to: &SocketAddress, setup: &Setup, ledger: &mut Ledger) -> Time {
        let now = net.now();
        if self.done {
            return Time::MAX;
        }
        if now < self.start {
            return self.start;
        }
        if self.link.is_none() {
            self.begin(net, to, setup, ledger);
        }
        let (Some(link), Some(end)) = (&mut self.link, &mut self.end) else {
            self.done = true;
            return Time::MAX;
        };
        link.receive(net, &mut self.rng);
        if let Err(error) = events(link, end, setup, now, &mut self.rng) {
            ledger.violation(error);
            end.broken = true;
        }
        end.go_on(link, ledger, &mut self.rng);
        link.flush(net, &mut self.rng);
        let gone = link.end.is_some() || link.cut.is_some();
        end.broken |= gone && !end.is_over();
        if end.is_over() && (end.broken || link.out.is_empty()) {
            self.over_since.get_or_insert(now);
        }
        let linger = self.over_since.map_or(Time::MAX, |since| since + LINGER);
        if !gone && now < linger {
            return link.wake(net).min(linger);
        }
        end.judge(false, setup, ledger);
        match link.cut {
            Some(Cut::Reset) => net.reset(link.peer),
            _ => net.close(link.peer),
        }
        self.done = true;
        Time::MAX
    }

    fn begin(&mut self, net: &Net, to: &SocketAddress, setup: &Setup, ledger: &Ledger) {
        let (Some(pipe), Ok(peer)) = (ledger.pipes.get(&self.id), net.connect(to)) else { return };
        let mut link = Link::new(peer, Role::Client, setup, net.now(), &mut self.rng);
        let head = request_head(self.id);
        let Some(stream) = link.codec.send_request(&head, self.id, false, &mut link.out) else { return };
        link.opened(stream, net.now(), &mut self.rng);
        let bytes = (fill(!self.id, pipe.up), fill(self.id, pipe.down));
        self.end = Some(End::new(self.id, stream, bytes, setup, &mut self.rng));
        self.link = Some(Box::new(link));
    }
}

/// What came for the client of a tunnel.
fn events(link: &mut Link, end: &mut End, setup: &Setup, now: Time, rng: &mut Rng) -> Result<(), String> {
    while let Some((event, bytes)) = link.next(now)? {
        match event {
            Event::Response { .. } => {
                let status = link.heads.response.status;
                end.open = status == 101;
                end.broken |= !end.open;
                if !end.open && setup.lossless {
                    return Err(format!("tunnel {} was refused: {status}", end.id));
                }
            }
            Event::Data { stream, .. } => link.owe(stream, bytes.len(), now, rng),
            Event::Reset { stream, .. } => link.closed(stream),
            _ => {}
        }
        end.take(&event, &bytes)?;
    }
    Ok(())
}

fn request_head(id: u64) -> RequestHead {
    let mut head = RequestHead::new();
    head.set_method(b"GET");
    head.set_scheme(b"http");
    head.set_authority(b"sim.test");
    head.set_path(format!("/t/{id}").as_bytes());
    head.headers.append(b"x-id", id.to_string().as_bytes());
    head.headers.append(b"connection", b"upgrade");
    head.headers.append(b"upgrade", b"websocket");
    head
}

/// Tunnels on one connection of the proxy.
#[derive(Debug)]
struct Connection {
    link: Link,
    ends: BTreeMap<u32, End>,
}

/// An endpoint that answers tunnels.
#[derive(Debug)]
pub struct PipeServer {
    listener: PeerListener,
    connections: Vec<Connection>,
    rng: Rng,
}

impl PipeServer {
    /// Serves what comes to `listener`.
    pub fn new(listener: PeerListener, rng: Rng) -> Self {
        Self { listener, connections: Vec::new(), rng }
    }

    /// Closes the listener and everything that is left.
    pub fn close(&mut self, net: &Net) {
        net.close_listener(self.listener);
        self.connections.drain(..).for_each(|connection| net.close(connection.link.peer));
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Does what is possible now; returns when it wants to be looked at again.
    pub fn poll(&mut self, net: &Net, setup: &Setup, ledger: &mut Ledger) -> Time {
        let (now, rng) = (net.now(), &mut self.rng);
        while let Some(peer) = net.accept(self.listener) {
            let link = Link::new(peer, Role::Server, setup, now, rng);
            self.connections.push(Connection { link, ends: BTreeMap::new() });
        }
        let mut wake = Time::MAX;
        self.connections.retain_mut(|connection| {
            connection.link.receive(net, rng);
            let result = connection.events(setup, ledger, now, rng);
            for end in connection.ends.values_mut() {
                end.go_on(&mut connection.link, ledger, rng);
            }
            connection.link.flush(net, rng);
            let gone = connection.link.end.is_some() || result.is_err();
            if let Err(error) = result {
                ledger.violation(error);
            }
            connection.ends.retain(|_, end| {
                end.broken |= gone && !end.is_over();
                if end.is_over() {
                    end.judge(true, setup, ledger);
                    connection.link.closed(end.stream);
                }
                !end.is_over()
            });
            if gone {
                net.close(connection.link.peer);
            }
            wake = wake.min(connection.link.wake(net));
            !gone
        });
        wake
    }
}

impl Connection {
    fn events(&mut self, setup: &Setup, ledger: &mut Ledger, now: Time, rng: &mut Rng) -> Result<(), String> {
        let link = &mut self.link;
        while let Some((event, bytes)) = link.next(now)? {
            match event {
                Event::Request { stream, .. } => {
                    link.codec.bind(stream, u64::from(stream.id));
                    let head = super::fields(&link.heads.request.headers);
                    let get = |name: &str| head.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
                    let id: u64 =
                        get("x-id").and_then(|id| id.parse().ok()).ok_or("a tunnel without x-id")?;
                    let pipe = ledger.pipes.get(&id).ok_or("an unknown tunnel")?;
                    if get("upgrade") != Some("websocket") {
                        return Err(format!("tunnel {id} is no upgrade: {head:?}"));
                    }
                    link.opened(stream, now, rng);
                    let bytes = (fill(id, pipe.down), fill(!id, pipe.up));
                    let mut end = End::new(id, stream, bytes, setup, rng);
                    end.open = true;
                    let mut answer = ResponseHead::new();
                    answer.status = 101;
                    answer.headers.append(b"x-id", id.to_string().as_bytes());
                    link.head(rng, |codec, out| codec.send_response(stream, &answer, false, out));
                    self.ends.insert(stream.id, end);
                }
                Event::Data { stream, user, .. } => {
                    link.owe(stream, bytes.len(), now, rng);
                    if let Some(end) = self.ends.get_mut(&(user as u32)) {
                        end.take(&event, &bytes)?;
                    }
                }
                Event::Reset { stream, user, .. } => {
                    link.closed(stream);
                    if let Some(end) = self.ends.get_mut(&(user as u32)) {
                        end.take(&event, &bytes)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
