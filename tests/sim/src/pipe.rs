//! Both ends of tunnels: TCP connections and upgrades. Every byte that comes out must have gone in.

use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_ring::SocketAddress;
use millrace_ring::sim::{Peer, PeerListener, PeerRead};

use crate::fixture::Mode;
use crate::ledger::Ledger;
use crate::net::Net;
use crate::setup::{Disturbance, Setup};
use crate::wire::{Framing, Item, Reader, fill};

/// How far one end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Running,
    /// Both directions ended as they should.
    Whole,
    /// Reset, or refused before a byte came.
    Broken,
}

/// One end of a tunnel.
#[derive(Debug)]
struct End {
    peer: Peer,
    send: Vec<u8>,
    at: usize,
    fin_sent: bool,
    expect: Vec<u8>,
    got: usize,
    eof: bool,
    failed: bool,
    split: usize,
    slow: bool,
    next_write: Time,
    next_read: Time,
    /// Resets the connection after so many bytes sent.
    resets_after: Option<usize>,
}

impl End {
    fn new(peer: Peer, send: Vec<u8>, expect: Vec<u8>, setup: &Setup, rng: &mut Rng) -> Self {
        let resets = rng.chance(setup.client_faults, 1000);
        Self {
            peer,
            at: 0,
            fin_sent: false,
            got: 0,
            eof: false,
            failed: false,
            split: [1 + rng.below(100) as usize, 3000, usize::MAX][rng.below(3) as usize],
            slow: setup.slow && rng.chance(1, 2),
            next_write: Time::ZERO,
            next_read: Time::ZERO,
            resets_after: resets.then(|| rng.below(send.len() as u64 + 1) as usize),
            send,
            expect,
        }
    }

    fn take(&mut self, bytes: &[u8], who: &str, ledger: &mut Ledger) {
        let end = self.got + bytes.len();
        if self.expect.get(self.got..end) != Some(bytes) {
            ledger.violation(format!("{who} got wrong bytes at {} of {}", self.got, self.expect.len()));
        }
        self.got = end;
    }

    fn poll(&mut self, net: &Net, rng: &mut Rng, who: &str, ledger: &mut Ledger) -> Progress {
        let now = net.now();
        if self.resets_after.is_some_and(|at| self.at >= at) {
            net.reset(self.peer);
            return Progress::Broken;
        }
        while self.at < self.send.len() && self.next_write <= now {
            let end = self.send.len().min(self.at.saturating_add(self.split));
            match net.write(self.peer, &self.send[self.at..end]) {
                Ok(0) => break,
                Ok(count) => self.at += count,
                Err(_) => {
                    self.failed = true;
                    break;
                }
            }
            if rng.chance(1, 4) {
                self.next_write = now + Duration::from_micros(rng.below(3000));
            }
        }
        if self.at == self.send.len() && !self.fin_sent {
            self.fin_sent = true;
            net.shutdown(self.peer);
        }
        while !self.eof && self.next_read <= now {
            match net.read(self.peer, if self.slow { 300 } else { 64 * 1024 }) {
                PeerRead::Nothing => break,
                PeerRead::Bytes(bytes) => {
                    self.take(&bytes, who, ledger);
                    if self.slow {
                        self.next_read = now + Duration::from_micros(rng.below(4000));
                    }
                }
                PeerRead::Eof => self.eof = true,
                PeerRead::Reset => return Progress::Broken,
            }
        }
        if self.eof && self.failed {
            return Progress::Broken;
        }
        if !self.eof || !self.fin_sent {
            // An end in the middle needs no answer.
            return if self.eof && self.got < self.expect.len() {
                Progress::Broken
            } else {
                Progress::Running
            };
        }
        if self.got == self.expect.len() { Progress::Whole } else { Progress::Broken }
    }

    /// A FIN after some but not all of the bytes would pass for the whole.
    fn is_cut_in_silence(&self) -> bool {
        self.eof && self.got > 0 && self.got < self.expect.len()
    }

    fn wake(&self, net: &Net) -> Time {
        let arrival = match self.eof {
            true => Time::MAX,
            false => net.next_arrival(self.peer).map_or(Time::MAX, |at| at.max(self.next_read)),
        };
        if self.at < self.send.len() && self.next_write > net.now() {
            return arrival.min(self.next_write);
        }
        arrival
    }
}

/// What one side of all tunnels has in common.
fn judge(id: u64, up: bool, end: &End, progress: Progress, setup: &Setup, ledger: &mut Ledger) {
    // What TLS did not announce passes for the end of a TCP session, as it does in Envoy.
    let silent = end.is_cut_in_silence() && setup.mode == Mode::Tcp && setup.tls.faults == 0;
    if silent && setup.disturbance != Disturbance::Stop {
        ledger.violation(format!("tunnel {id}: a FIN after {} of {} bytes", end.got, end.expect.len()));
    }
    let harmed = ledger.pipes.get(&id).is_some_and(|pipe| pipe.harmed);
    if progress == Progress::Broken && setup.lossless && !harmed {
        let (got, due, eof) = (end.got, end.expect.len(), end.eof);
        ledger
            .violation(format!("tunnel {id} broke, to the upstream: {up}, {got} of {due} bytes, eof {eof}"));
    }
    if let (Progress::Whole, Some(pipe)) = (progress, ledger.pipes.get_mut(&id)) {
        match up {
            true => pipe.up_whole = true,
            false => pipe.down_whole = true,
        }
    }
}

#[derive(Debug)]
enum Side {
    /// Says its first words and waits for the other side's.
    Handshake(Peer, Box<Reader>, Vec<u8>),
    Open(u64, Box<End>),
    Over,
}

/// The client of one tunnel.
#[derive(Debug)]
pub struct PipeClient {
    id: u64,
    side: Option<Side>,
    rng: Rng,
    start: Time,
}

impl PipeClient {
    /// Will open tunnel `id` at some time.
    pub fn new(id: u64, mut rng: Rng, start: Time) -> Self {
        Self { id, side: None, start: start + Duration::from_millis(rng.below(40)), rng }
    }

    /// True when the tunnel ended.
    pub fn is_done(&self) -> bool {
        matches!(self.side, Some(Side::Over))
    }

    /// What it is doing, for the output of a failure.
    pub fn state(&self) -> String {
        match &self.side {
            Some(Side::Open(id, e)) => format!(
                "tunnel {id}: sent {} of {}, fin {}, got {} of {}, eof {}",
                e.at,
                e.send.len(),
                e.fin_sent,
                e.got,
                e.expect.len(),
                e.eof
            ),
            other => format!("tunnel {}: {}", self.id, if other.is_some() { "handshake" } else { "idle" }),
        }
    }

    /// Does what is possible now; returns when it wants to be looked at again.
    pub fn poll(&mut self, net: &Net, to: &SocketAddress, setup: &Setup, ledger: &mut Ledger) -> Time {
        let id = self.id;
        let Some(pipe) = ledger.pipes.get(&id).copied() else { return Time::MAX };
        if self.side.is_none() {
            if net.now() < self.start {
                return self.start;
            }
            let Ok(peer) = net.connect(to) else {
                self.side = Some(Side::Over);
                return Time::MAX;
            };
            let down = fill(id, pipe.down);
            self.side = Some(if setup.mode == Mode::Tcp {
                let mut send = id.to_le_bytes().to_vec();
                send.extend(fill(!id, pipe.up));
                Side::Open(id, Box::new(End::new(peer, send, down, setup, &mut self.rng)))
            } else {
                let head = format!(
                    "GET /t/{id} HTTP/1.1\r\nhost: sim.test\r\nx-id: {id}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
                );
                Side::Handshake(peer, Box::default(), head.into_bytes())
            });
        }
        if let Some(Side::Handshake(peer, reader, head)) = &mut self.side {
            let peer = *peer;
            // A failure shows when reading.
            while let Ok(count @ 1..) = net.write(peer, head) {
                head.drain(..count);
            }
            match net.read(peer, 4096) {
                PeerRead::Nothing => return net.next_arrival(peer).unwrap_or(Time::MAX),
                PeerRead::Bytes(bytes) => reader.push(&bytes),
                PeerRead::Eof | PeerRead::Reset => {
                    if setup.lossless {
                        ledger.violation(format!("tunnel {id} refused"));
                    }
                    net.close(peer);
                    self.side = Some(Side::Over);
                    return Time::MAX;
                }
            }
            match reader.next_item() {
                Ok(None) => return net.now(),
                Ok(Some(Item::Head(head))) if head.start.starts_with("HTTP/1.1 101 ") => {
                    let send = fill(!id, pipe.up);
                    let mut end = End::new(peer, send, fill(id, pipe.down), setup, &mut self.rng);
                    end.take(&reader.take_rest(), "a client", ledger);
                    self.side = Some(Side::Open(id, Box::new(end)));
                }
                other => {
                    if setup.lossless || !matches!(&other, Ok(Some(Item::Head(h))) if h.count("x-id") == 0) {
                        ledger.violation(format!("tunnel {id}: {other:?}"));
                    }
                    net.close(peer);
                    self.side = Some(Side::Over);
                }
            }
        }
        let Some(Side::Open(_, end)) = &mut self.side else { return Time::MAX };
        let progress = end.poll(net, &mut self.rng, "a client", ledger);
        if progress == Progress::Running {
            return end.wake(net);
        }
        judge(id, false, end, progress, setup, ledger);
        net.close(end.peer);
        self.side = Some(Side::Over);
        Time::MAX
    }
}

/// An endpoint that answers tunnels.
#[derive(Debug)]
pub struct PipeServer {
    listener: PeerListener,
    sides: Vec<Side>,
    rng: Rng,
}

impl PipeServer {
    /// Serves what comes to `listener`.
    pub fn new(listener: PeerListener, rng: Rng) -> Self {
        Self { listener, sides: Vec::new(), rng }
    }

    /// Closes the listener and everything that is left.
    pub fn close(&mut self, net: &Net) {
        net.close_listener(self.listener);
        for side in self.sides.drain(..) {
            match side {
                Side::Handshake(peer, ..) => net.close(peer),
                Side::Open(_, end) => net.close(end.peer),
                Side::Over => {}
            }
        }
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.sides.len()
    }

    /// Does what is possible now; returns when it wants to be looked at again.
    pub fn poll(&mut self, net: &Net, setup: &Setup, ledger: &mut Ledger) -> Time {
        while let Some(peer) = net.accept(self.listener) {
            self.sides.push(Side::Handshake(peer, Box::default(), Vec::new()));
        }
        let mut wake = Time::MAX;
        for side in &mut self.sides {
            if let Side::Handshake(peer, reader, _) = side {
                let peer = *peer;
                match net.read(peer, 4096) {
                    PeerRead::Nothing => {}
                    PeerRead::Bytes(bytes) => reader.push(&bytes),
                    PeerRead::Eof | PeerRead::Reset => {
                        net.close(peer);
                        *side = Side::Over;
                        continue;
                    }
                }
                match greet(reader, setup) {
                    Ok(None) => {
                        wake = wake.min(net.next_arrival(peer).unwrap_or(Time::MAX));
                        continue;
                    }
                    Ok(Some((id, greeting, first))) => {
                        let Some(pipe) = ledger.pipes.get(&id).copied() else {
                            ledger.violation(format!("an unknown tunnel {id}"));
                            net.close(peer);
                            *side = Side::Over;
                            continue;
                        };
                        let mut send = greeting;
                        send.extend(fill(id, pipe.down));
                        let mut end = End::new(peer, send, fill(!id, pipe.up), setup, &mut self.rng);
                        end.take(&first, "an upstream", ledger);
                        *side = Side::Open(id, Box::new(end));
                    }
                    Err(error) => {
                        ledger.violation(format!("an upstream got {error}"));
                        net.close(peer);
                        *side = Side::Over;
                        continue;
                    }
                }
            }
            if let Side::Open(id, end) = side {
                let progress = end.poll(net, &mut self.rng, "an upstream", ledger);
                if progress == Progress::Running {
                    wake = wake.min(end.wake(net));
                    continue;
                }
                judge(*id, true, end, progress, setup, ledger);
                net.close(end.peer);
                *side = Side::Over;
            }
        }
        self.sides.retain(|s| !matches!(s, Side::Over));
        wake
    }
}

/// What the first bytes say: which tunnel, what to send first, and what belongs to the tunnel already.
fn greet(reader: &mut Reader, setup: &Setup) -> Result<Option<(u64, Vec<u8>, Vec<u8>)>, String> {
    if setup.mode == Mode::Tcp {
        let mut bytes = reader.take_rest();
        if bytes.len() < 8 {
            reader.push(&bytes);
            return Ok(None);
        }
        let rest = bytes.split_off(8);
        let id = bytes.iter().rev().fold(0, |id, b| id << 8 | u64::from(*b));
        return Ok(Some((id, Vec::new(), rest)));
    }
    let Some(Item::Head(head)) = reader.next_item()? else { return Ok(None) };
    let id = head.number("x-id").ok_or("no x-id")?;
    let upgrade = head.get("upgrade") == Some("websocket") && head.count("connection") == 1;
    if !upgrade || head.framing(Framing::Length(0))? != Framing::Length(0) {
        return Err(format!("no upgrade: {head:?}"));
    }
    let greeting = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-id: {id}\r\n\r\n"
    );
    Ok(Some((id, greeting.into_bytes(), reader.take_rest())))
}
