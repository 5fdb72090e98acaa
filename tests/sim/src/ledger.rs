//! What every request of a run is, what was promised for it, and what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_base::Rng;

use crate::churn::InForce;
use crate::setup::Setup;
use crate::wire::Framing;

/// What an upstream does instead of answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Bytes that are no HTTP.
    Garbage,
    /// The connection ends in the middle of the answer.
    Truncate,
    /// The connection is reset in the middle of the answer.
    Reset,
    /// A body whose framing breaks in the middle.
    BadChunk,
    /// No byte, ever.
    Silence,
    /// The connection ends before the first byte of the answer.
    Hangup,
}

/// The answer promised for a request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The final status.
    pub status: u16,
    /// How the body is delimited.
    pub framing: Framing,
    /// Length of the body.
    pub length: usize,
    /// Trailers follow a chunked body.
    pub trailers: bool,
    /// Interim responses before it.
    pub interim: u8,
    /// `connection: close`.
    pub close: bool,
    /// Sent as soon as the head of the request is there.
    pub early: bool,
    /// Before the first byte.
    pub delay: Duration,
    /// Most bytes written at once.
    pub piece: usize,
    /// Between two pieces.
    pub gap: Duration,
    /// So many tries are answered with 503 first.
    pub fail_first: u32,
    /// So many tries after them are answered with 302 to the same place.
    pub redirects: u32,
    /// What goes wrong instead.
    pub fault: Option<Fault>,
}

/// What the endpoint of one try says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// 503.
    Fails,
    /// 302.
    Redirects,
    /// What was promised, or a fault.
    Promised,
}

impl Reply {
    /// What the try that is the `heads`th to arrive is told.
    pub fn turn(&self, heads: u32) -> Turn {
        match heads {
            heads if heads <= self.fail_first => Turn::Fails,
            heads if heads <= self.fail_first + self.redirects => Turn::Redirects,
            _ => Turn::Promised,
        }
    }

    /// Interim responses to such a try: no other one follows them.
    pub fn interim(&self, turn: Turn) -> u8 {
        if turn == Turn::Fails { 0 } else { self.interim }
    }

    /// Status and length of the body of the answer to such a try.
    pub fn of(&self, turn: Turn) -> (u16, usize) {
        match turn {
            Turn::Fails => (503, 9),
            Turn::Redirects => (302, 9),
            Turn::Promised => (self.status, self.length),
        }
    }
}

/// How a request ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The promised answer, whole, with this status.
    Answered(u16),
    /// An answer of the proxy's own.
    Local(u16),
    /// The beginning of an answer.
    CutOff,
    /// The connection ended before its turn, or the client gave up on purpose.
    Lost,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD`, `POST` or `PUT`.
    pub method: &'static str,
    /// Length of the body.
    pub length: usize,
    /// How the body is delimited.
    pub framing: Framing,
    /// `expect: 100-continue`.
    pub expects: bool,
    /// `connection: close`.
    pub close: bool,
    /// The answer promised.
    pub reply: Reply,
    /// Heads that reached an upstream.
    pub heads: u32,
    /// Whole requests that reached an upstream.
    pub delivered: u32,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The route table that was in force when it was made.
    pub table: u64,
    /// Somebody broke its stream on purpose: it may end in any way, its neighbours may not.
    pub harmed: bool,
    /// Tries that an endpoint refused unprocessed.
    pub refused: u32,
}

impl Request {
    /// The method has a body.
    pub fn has_body(&self) -> bool {
        matches!(self.method, "POST" | "PUT")
    }
}

/// What goes through one tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Pipe {
    /// Bytes to the upstream.
    pub up: usize,
    /// Bytes to the client.
    pub down: usize,
    /// The upstream got everything and the end.
    pub up_whole: bool,
    /// The client got everything and the end.
    pub down_whole: bool,
    /// One of its ends reset it on purpose.
    pub harmed: bool,
}

/// All requests of a run and everything found wrong.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By number.
    pub requests: BTreeMap<u64, Request>,
    /// What must not happen and did.
    pub violations: Vec<String>,
    /// What configuration answers may come from.
    pub in_force: InForce,
    /// Tunnels, by number.
    pub pipes: BTreeMap<u64, Pipe>,
}

impl Ledger {
    /// Writes down something that must not happen.
    pub fn violation(&mut self, text: impl Into<String>) {
        if self.violations.len() < 20 {
            self.violations.push(text.into());
        }
    }

    /// Writes down how a request ended; more than one end is a violation.
    pub fn settle(&mut self, id: u64, outcome: Outcome) {
        let Some(request) = self.requests.get_mut(&id) else {
            return self.violation(format!("no request {id}"));
        };
        if let Some(before) = request.outcome.replace(outcome) {
            self.violation(format!("request {id} ended twice: {before:?} and {outcome:?}"));
        }
    }

    /// Makes up a request.
    pub fn add(&mut self, id: u64, setup: &Setup, rng: &mut Rng) {
        let method = ["GET", "GET", "POST", "POST", "PUT", "HEAD"][rng.below(6) as usize];
        let with_body = matches!(method, "POST" | "PUT");
        let length = if with_body { size(setup.body_max, rng) } else { 0 };
        let chunked = with_body && rng.chance(1, 2);
        let reply = reply(setup, with_body, method == "HEAD", rng);
        let request = Request {
            method,
            length,
            framing: if chunked { Framing::Chunked } else { Framing::Length(length as u64) },
            expects: with_body && rng.chance(1, 4),
            // Under churn connections are many and short, so that some meet every change.
            close: rng.chance(1, if self.in_force.published > 0 { 2 } else { 12 }),
            reply,
            heads: 0,
            delivered: 0,
            outcome: None,
            table: 0,
            harmed: false,
            refused: 0,
        };
        self.requests.insert(id, request);
    }
}

/// Small, medium or large, each as likely.
fn size(max: usize, rng: &mut Rng) -> usize {
    let bound = [10, 300, max / 8, max][rng.below(4) as usize];
    rng.below(bound as u64 + 1) as usize
}

fn reply(setup: &Setup, with_body: bool, is_head: bool, rng: &mut Rng) -> Reply {
    let status = [200, 200, 200, 201, 404, 204, 304][rng.below(7) as usize];
    let bodiless = matches!(status, 204 | 304);
    let length = if bodiless { 0 } else { size(setup.body_max, rng) };
    let framing = match rng.below(6) {
        _ if bodiless => Framing::Length(0),
        0..=2 => Framing::Length(length as u64),
        3 | 4 => Framing::Chunked,
        _ if is_head => Framing::Chunked,
        _ => Framing::UntilClose,
    };
    let slow = rng.chance(1, 5);
    let millis = |rng: &mut Rng, most: u64| Duration::from_micros(rng.below(most * 1000));
    let faults =
        [Fault::Garbage, Fault::Truncate, Fault::Reset, Fault::BadChunk, Fault::Silence, Fault::Hangup];
    let faulty = rng.chance(setup.upstream_faults, 1000);
    Reply {
        status,
        framing,
        length,
        trailers: rng.chance(1, 3),
        interim: if rng.chance(1, 6) { 1 + rng.below(3) as u8 } else { 0 },
        close: framing == Framing::UntilClose || rng.chance(1, 10),
        early: with_body && rng.chance(setup.early, 1000),
        delay: if slow { millis(rng, setup.delay_max) } else { Duration::ZERO },
        piece: if slow { 1 + rng.below(setup.body_max as u64 / 4 + 100) as usize } else { usize::MAX },
        gap: if slow { millis(rng, setup.delay_max / 4 + 1) } else { Duration::ZERO },
        fail_first: if rng.chance(setup.fail_first, 1000) { 1 + rng.below(2) as u32 } else { 0 },
        redirects: if setup.redirects > 0 && rng.chance(setup.redirects, 1000) {
            1 + rng.below(2) as u32
        } else {
            0
        },
        fault: faulty.then(|| faults[rng.below(6) as usize]),
    }
}
