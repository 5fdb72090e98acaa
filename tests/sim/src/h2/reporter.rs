//! Endpoints that are asked for their load on connections of their own, and stream reports, break off, answer badly or
//! keep silent. They count who asks them how often.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_http::h2::{ErrorCode, Event, GoAway, Role, StreamRef};
use millrace_http::{HeaderMap, ResponseHead};
use millrace_ring::sim::{Peer, PeerListener};
use millrace_ring::{IoError, SocketAddress};

use super::link::Link;
use crate::ledger::Ledger;
use crate::net::Net;
use crate::setup::Setup;

/// Where endpoints are asked, whatever the port that they serve on.
pub const PORT: u16 = 9900;
/// `oob_reporting_period`.
pub const PERIOD: Duration = Duration::from_millis(250);
/// The message that asks for it: `report_interval` of 250 ms.
const ASKED: [u8; 12] = [0, 0, 0, 0, 7, 0x0a, 5, 0x10, 0x80, 0xe5, 0x9a, 0x77];
/// So many connections in a row without a report take longer than [`ROW_TIME`]: waits between them double.
const ROW: usize = 10;
const ROW_TIME: Duration = Duration::from_secs(2);
/// Connections at once. One is asked for, others may be closed while the end is on its way.
const CONNECTIONS_MAX: usize = 3;

/// What follows the last report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fin,
    Reset,
    ResetStream,
    Trailers,
    GoAway,
    /// A message that is compressed, or too long.
    BadMessage,
    Silence,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// So many reports.
    Reports(u64, End),
    /// An answer that is none.
    Status(u16),
    NoGrpc,
    Unimplemented,
    /// Bytes that are no HTTP/2.
    Garbage,
    Hangup,
    /// Not a byte.
    Silence,
}

#[derive(Debug)]
struct Connection {
    link: Link,
    manner: Manner,
    stream: Option<StreamRef>,
    /// The request's body.
    asked: Vec<u8>,
    answered: bool,
    /// When the next report is due.
    next: Time,
    /// Messages that have not left, and how much of them has.
    body: Vec<u8>,
    sent: usize,
    /// Reports in `body`, and those before.
    waiting: [u64; 2],
    told: [u64; 2],
    /// Everything was said, and how it ends.
    ended: bool,
    fin_sent: bool,
    over: bool,
    /// The handle is used up.
    is_reset: bool,
}

/// One endpoint.
#[derive(Debug)]
pub struct Reporter {
    listener: PeerListener,
    connections: Vec<Connection>,
    rng: Rng,
    /// Requests a second that it reports; half of its processor is busy, so the weight is twice as much.
    rps: u32,
    /// Connections since the last report.
    row: VecDeque<Time>,
    /// From now on every stream is a good one.
    well: bool,
    /// It said that it has no reports.
    pub refused: bool,
    /// Reports that were sent, and of these those that no weight follows from.
    pub sent: [u64; 2],
    /// The same of connections that said all they had to.
    pub whole: [u64; 2],
}

impl Reporter {
    /// Listens.
    ///
    /// # Errors
    /// The address is in use.
    pub fn listen(net: &Net, endpoint: SocketAddr, rng: Rng) -> Result<Self, IoError> {
        let address = SocketAddr::new(endpoint.ip(), PORT);
        Ok(Self {
            listener: net.listen_peer(SocketAddress::Inet(address))?,
            connections: Vec::new(),
            rng,
            rps: u32::from(endpoint.port()),
            row: VecDeque::new(),
            well: false,
            refused: false,
            sent: [0; 2],
            whole: [0; 2],
        })
    }

    /// The weight that follows from its reports.
    pub fn weight(&self) -> u32 {
        self.rps * 2
    }

    /// From now on it answers well.
    pub fn heal(&mut self) {
        self.well = true;
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Those that have said something of use.
    pub fn streams(&self) -> usize {
        self.connections.iter().filter(|c| c.told[0] > c.told[1]).count()
    }

    /// Closes the listener and everything that is left.
    pub fn close(&mut self, net: &Net) {
        net.close_listener(self.listener);
        for connection in self.connections.drain(..) {
            net.close(connection.link.peer);
        }
    }

    /// Does what is possible now; returns when it wants to be looked at again.
    pub fn poll(&mut self, net: &Net, setup: &Setup, ledger: &mut Ledger) -> Time {
        let now = net.now();
        while let Some(peer) = net.accept(self.listener) {
            self.accepted(peer, setup, now, ledger);
        }
        let mut wake = Time::MAX;
        for c in &mut self.connections {
            c.link.receive(net, &mut self.rng);
            c.events(ledger, now, &mut self.rng);
            let before = c.told;
            if c.link.end.is_none() && !c.over {
                c.speak(net, self.rps, now, &mut self.rng);
            }
            for (sent, (told, before)) in self.sent.iter_mut().zip(c.told.into_iter().zip(before)) {
                *sent += told - before;
            }
            if c.told != before {
                self.row.clear();
            }
            if c.link.end.is_some() || c.over {
                c.over = true;
                if c.ended && c.link.out.is_empty() {
                    self.whole.iter_mut().zip(c.told).for_each(|(whole, told)| *whole += told);
                }
                if !c.is_reset {
                    net.close(c.link.peer);
                }
                continue;
            }
            wake = wake.min(c.wake(net, now));
        }
        self.refused |=
            self.connections.iter().any(|c| matches!(c.manner, Manner::Status(404) | Manner::Unimplemented));
        self.connections.retain(|c| !c.over);
        wake
    }

    fn accepted(&mut self, peer: Peer, setup: &Setup, now: Time, ledger: &mut Ledger) {
        self.row.push_back(now);
        if self.row.len() >= ROW
            && let Some(first) = self.row.pop_front()
            && now.since(first) < ROW_TIME
        {
            ledger.violation(format!("asked {ROW} times within {:?}", now.since(first)));
        }
        let rng = &mut self.rng;
        let manner = if self.well { Manner::Reports(u64::MAX, End::Silence) } else { manner(rng) };
        self.connections.push(Connection {
            link: Link::new(peer, Role::Server, setup, now, rng),
            manner,
            stream: None,
            asked: Vec::new(),
            answered: false,
            next: Time::MAX,
            body: Vec::new(),
            sent: 0,
            waiting: [0; 2],
            told: [0; 2],
            ended: false,
            fin_sent: false,
            over: false,
            is_reset: false,
        });
        if self.connections.len() > CONNECTIONS_MAX {
            ledger.violation(format!("{} connections for one stream of reports", self.connections.len()));
        }
    }
}

fn manner(rng: &mut Rng) -> Manner {
    let ends =
        [End::Fin, End::Reset, End::ResetStream, End::Trailers, End::GoAway, End::BadMessage, End::Silence];
    match rng.below(40) {
        0..8 => Manner::Reports(u64::MAX, End::Silence),
        8..26 => Manner::Reports(rng.below(5), ends[rng.below(7) as usize]),
        26..29 => Manner::Status(503),
        29..31 => Manner::NoGrpc,
        31..34 => Manner::Garbage,
        34..36 => Manner::Hangup,
        36..39 => Manner::Silence,
        _ => [Manner::Unimplemented, Manner::Status(404)][rng.below(2) as usize],
    }
}

impl Connection {
    fn wake(&self, net: &Net, now: Time) -> Time {
        // Who is silent, or has said all it had to, says nothing of windows and streams either.
        if self.manner == Manner::Silence || self.ended {
            return self.link.wake_for_bytes(net);
        }
        self.link.wake(net).min(if self.next > now { self.next } else { Time::MAX })
    }

    fn events(&mut self, ledger: &mut Ledger, now: Time, rng: &mut Rng) {
        // Who is silent hears nothing, and what garbage is answered with is no matter.
        while !self.over && !self.ended && self.manner != Manner::Silence {
            let (event, bytes) = match self.link.next(now) {
                Ok(None) => return,
                Ok(Some(found)) => found,
                Err(error) => {
                    ledger.violation(format!("an endpoint that reports its load got nonsense: {error}"));
                    self.over = true;
                    return;
                }
            };
            match event {
                Event::Request { stream, .. } => {
                    let head = &self.link.heads.request;
                    let asked = (head.method(), head.path(), head.headers.get_name(b"content-type"));
                    let path = &b"/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"[..];
                    if asked != (b"POST", path, Some(b"application/grpc")) || self.stream.is_some() {
                        ledger.violation(format!("an endpoint was asked for its load by {head:?}"));
                    }
                    self.stream = Some(stream);
                    self.next = now + Duration::from_micros(rng.below(20_000));
                    self.link.opened(stream, now, rng);
                }
                Event::Data { stream, end, .. } => {
                    self.asked.extend_from_slice(&bytes);
                    if end && self.asked != ASKED {
                        ledger.violation(format!("an endpoint was asked for its load with {:?}", self.asked));
                    }
                    self.link.owe(stream, bytes.len(), now, rng);
                }
                Event::Reset { stream, .. } => self.link.closed(stream),
                _ => {}
            }
        }
    }

    /// Says what is due.
    fn speak(&mut self, net: &Net, rps: u32, now: Time, rng: &mut Rng) {
        match (self.manner, self.stream) {
            (Manner::Hangup, _) => {
                self.over = true;
                return;
            }
            (Manner::Silence, _) => return,
            (Manner::Garbage, _) if !self.ended => {
                self.link.out = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec();
                self.ended = true;
            }
            (_, Some(stream)) if self.next <= now && !self.ended => self.answer(stream, rps, now, rng),
            _ => {}
        }
        if self.sent < self.body.len()
            && let Some(stream) = self.stream
        {
            let most = [1, 7, 100, usize::MAX][rng.below(4) as usize];
            while self.link.has_room() {
                let count =
                    self.link.data(stream, &self.body, self.sent, most.max(self.body.len() / 50), false, rng);
                self.sent += count;
                if count == 0 {
                    break;
                }
            }
        }
        if self.sent == self.body.len() {
            self.told
                .iter_mut()
                .zip(std::mem::take(&mut self.waiting))
                .for_each(|(told, more)| *told += more);
            self.body.clear();
            self.sent = 0;
        }
        self.link.flush(net, rng);
        if self.ended && self.link.out.is_empty() {
            self.leave(net);
        }
    }

    fn leave(&mut self, net: &Net) {
        match self.manner {
            Manner::Reports(_, End::Fin) if !self.fin_sent => {
                self.fin_sent = true;
                net.shutdown(self.link.peer);
            }
            Manner::Reports(_, End::Reset) => {
                net.reset(self.link.peer);
                // What was on its way is lost with it.
                (self.over, self.is_reset, self.ended) = (true, true, false);
            }
            _ => {}
        }
    }

    fn answer(&mut self, stream: StreamRef, rps: u32, now: Time, rng: &mut Rng) {
        if !std::mem::replace(&mut self.answered, true) && !self.begin(stream, rng) {
            self.ended = true;
            return;
        }
        let Manner::Reports(left, end) = &mut self.manner else { return };
        if !self.body.is_empty() {
            // Windows are closed.
            self.next = now + PERIOD / 4;
            return;
        }
        if *left > 0 {
            *left -= 1;
            self.next = now + PERIOD;
            let kind = rng.below(8);
            if kind == 0 {
                self.body.extend([0; 5]);
            }
            let useless = kind == 1;
            report(if useless { 0 } else { rps }, [0, 0, 0, 3000][rng.below(4) as usize], &mut self.body);
            self.waiting = [1, u64::from(useless)];
            return;
        }
        self.ended = true;
        match *end {
            End::ResetStream => self.link.codec.reset(stream, ErrorCode::Internal),
            End::Trailers => {
                let mut trailers = HeaderMap::new();
                trailers.append(b"grpc-status", if rng.chance(1, 2) { b"0" } else { b"14" });
                self.link.codec.send_trailers(stream, &trailers, &mut self.link.out);
            }
            End::GoAway => {
                self.link.codec.goaway(GoAway::Final(ErrorCode::NoError));
                // The proxy takes one more.
                report(rps, 0, &mut self.body);
                self.waiting = [1, 0];
            }
            End::BadMessage => {
                let bad: [&[u8]; 3] = [&[1, 0, 0, 0, 0], &[0, 1, 0, 0, 0], &[0, 0, 0, 0, 1, 9]];
                self.body = bad[rng.below(3) as usize].to_vec();
            }
            // After silence it is the proxy that gives up.
            End::Fin | End::Reset | End::Silence => {}
        }
    }

    /// The head of the answer; false when nothing follows it.
    fn begin(&mut self, stream: StreamRef, rng: &mut Rng) -> bool {
        let (status, kind, grpc_status) = match self.manner {
            Manner::Status(status) => (status, "text/plain", None),
            Manner::NoGrpc => (200, "text/plain", None),
            Manner::Unimplemented => (200, "application/grpc", Some(&b"12"[..])),
            _ => (200, "application/grpc", None),
        };
        let reports = matches!(self.manner, Manner::Reports(..));
        let mut head = ResponseHead::new();
        head.status = status;
        head.headers.append(b"content-type", kind.as_bytes());
        if let Some(status) = grpc_status {
            head.headers.append(b"grpc-status", status);
        }
        let end = !reports && (grpc_status.is_some() || rng.chance(1, 2));
        self.link.head(rng, |codec, out| codec.send_response(stream, &head, end, out));
        reports
    }
}

/// A report: half of the processor is busy, so many requests a second, and something that nobody knows.
fn report(rps: u32, unknown: usize, out: &mut Vec<u8>) {
    let mut message = [&[0x09][..], &0.5_f64.to_le_bytes(), &[0x31], &f64::from(rps).to_le_bytes()].concat();
    if unknown > 0 {
        let length = unknown as u16;
        message.extend([0x7a, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        message.resize(message.len() + unknown, 0);
    }
    out.push(0);
    out.extend((message.len() as u32).to_be_bytes());
    out.extend(message);
}
