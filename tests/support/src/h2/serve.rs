//! One connection of the scripted upstream: read, judge, record, perform the acts of every stream in turn.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::frame::{self, Frame, PREFACE, kind};
use super::reply::Act;
use super::rules;
use super::session::{End, Session};
use super::upstream::{Asked, Shared};
use crate::strict::Fields;
use crate::wait::PATIENCE;
use crate::wire;

#[derive(Default)]
struct Work {
    acts: VecDeque<Act>,
    wakes: Option<Instant>,
    /// Octets of the first act that have been sent.
    sent: usize,
    echo: bool,
    answered: bool,
    complete: bool,
    over: bool,
}

struct Serving<'a> {
    session: Session,
    shared: &'a Shared,
    number: usize,
    work: BTreeMap<u32, Work>,
    faults: usize,
    goaways: usize,
}

pub(super) fn connection(mut socket: TcpStream, number: usize, shared: &Shared) {
    let mut preface = [0; 24];
    // Without a timeout a silent peer would keep the thread, no more.
    let _ = socket.set_read_timeout(Some(3 * PATIENCE));
    match socket.read_exact(&mut preface) {
        Ok(()) if preface == PREFACE => {}
        // A connection that was opened ahead and never used.
        Err(_) => return,
        Ok(()) => {
            shared.log().violations.push(format!("preface {:?}", crate::strict::latin1(&preface)));
            return;
        }
    }
    let mut session = Session::new(socket, &shared.settings);
    session.send(&frame::settings(&shared.settings));
    session.grant_connection(1 << 24);
    let work = BTreeMap::new();
    Serving { session, shared, number, work, faults: 0, goaways: 0 }.run();
}

impl Serving<'_> {
    fn run(&mut self) {
        while self.session.end.is_none() && !self.shared.stop.load(Ordering::SeqCst) {
            let busy = self.perform();
            let limit = Duration::from_millis(if busy { 2 } else { 40 });
            if let Some(frame) = self.session.read(limit) {
                self.on_frame(&frame);
            }
        }
    }

    fn on_frame(&mut self, frame: &Frame) {
        let new_faults = self.session.faults[self.faults..].to_vec();
        self.faults = self.session.faults.len();
        let mut log = self.shared.log();
        log.violations.extend(new_faults);
        for (last, code) in &self.session.goaways[self.goaways..] {
            log.goaways.push((self.number, *last, *code));
        }
        self.goaways = self.session.goaways.len();
        match frame.kind {
            // Both sides may end a stream at once.
            kind::RST_STREAM if !self.work.contains_key(&frame.stream) => {}
            kind::RST_STREAM => {
                log.resets.push((self.number, frame.stream, frame::number(&frame.payload)));
                let work = self.work.entry(frame.stream).or_default();
                work.acts.clear();
                (work.over, work.complete, work.echo) = (true, true, false);
            }
            kind::DATA => {
                let content = frame.content().unwrap_or_default();
                log.octets += content.len();
                if let Some(work) = self.work.get_mut(&frame.stream).filter(|w| w.echo) {
                    work.acts.push_back(Act::Data(content.to_vec(), frame.has(frame::flag::END_STREAM)));
                }
            }
            _ => {}
        }
        drop(log);
        if matches!(frame.kind, kind::DATA | kind::HEADERS | kind::CONTINUATION) {
            self.on_message(frame.stream);
        }
    }

    fn on_message(&mut self, id: u32) {
        let Some(received) = self.session.peek(id) else { return };
        let Some(head) = received.blocks.first().cloned() else { return };
        let ended = received.ended;
        let mut asked = Asked {
            fields: head,
            body: Vec::new(),
            trailers: Fields::default(),
            ended,
            stream: id,
            connection: self.number,
        };
        let fresh = !self.work.contains_key(&id);
        if fresh {
            self.begin(id, &asked);
        }
        if !ended || self.work.get(&id).is_some_and(|w| w.complete) {
            return;
        }
        let received = self.session.received(id);
        (asked.body, asked.trailers) = (received.body, received.blocks.get(1).cloned().unwrap_or_default());
        self.complete(id, asked);
    }

    fn begin(&mut self, id: u32, asked: &Asked) {
        let verdict = rules::request(&asked.fields);
        let open = 1 + self.work.values().filter(|w| !(w.over && w.complete)).count();
        {
            let mut log = self.shared.log();
            log.violations.extend(verdict.err().map(|rule| format!("{rule}: {:?}", asked.fields)));
            log.heads.push(asked.clone());
            let number = self.number;
            if log.peaks.len() <= number {
                log.peaks.resize(number + 1, 0);
            }
            log.peaks[number] = log.peaks[number].max(open);
        }
        let mut work = Work::default();
        if let Some(reply) = (self.shared.on_head)(asked) {
            // Acts that send nothing leave the answer to the script.
            let silent = |act: &Act| matches!(act, Act::Hold | Act::Wait(_) | Act::Grant(_));
            work.answered = !reply.0.iter().all(silent);
            work.acts = reply.0.into();
        }
        self.work.insert(id, work);
    }

    fn complete(&mut self, id: u32, asked: Asked) {
        let verdict = rules::length(&asked.fields, asked.body.len())
            .and_then(|()| rules::fields(&asked.trailers))
            .and_then(|()| rules::pseudo(&asked.trailers, &[]));
        let work = self.work.entry(id).or_default();
        work.complete = true;
        let reply = if work.answered { None } else { Some((self.shared.on_request)(&asked)) };
        work.acts.extend(reply.map(|r| r.0).unwrap_or_default());
        let mut log = self.shared.log();
        log.violations.extend(verdict.err().map(|rule| format!("{rule}: {:?}", asked.fields)));
        log.requests.push(asked);
    }

    /// Does what can be done now; true when something waits.
    fn perform(&mut self) -> bool {
        let mut busy = false;
        let ids: Vec<u32> = self.work.keys().copied().collect();
        for id in ids {
            while self.session.end.is_none() && self.step(id) {}
            busy |= self.work.get(&id).is_some_and(|w| !w.acts.is_empty());
            if self.work.get(&id).is_some_and(|w| w.over && w.complete) {
                self.session.forget(id);
                self.work.retain(|other, _| *other != id);
            }
        }
        busy
    }

    /// Performs one act of a stream; false when there is none or it has to wait.
    fn step(&mut self, id: u32) -> bool {
        let Some(work) = self.work.get_mut(&id) else { return false };
        if work.wakes.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        work.wakes = None;
        let Some(act) = work.acts.pop_front() else { return false };
        match act {
            Act::Wait(time) => work.wakes = Some(Instant::now() + time),
            Act::Echo => work.echo = true,
            Act::Data(bytes, end) => return self.data(id, bytes, end),
            Act::Block(fields, end) => {
                work.over |= end;
                self.session.headers(id, &fields, end);
            }
            Act::Reset(code) => {
                (work.over, work.complete) = (true, true);
                self.session.send(&frame::rst_stream(id, code));
            }
            Act::Goaway(last, code) => self.session.send(&frame::goaway(last, code)),
            Act::Raw(bytes) => self.session.send(&bytes),
            Act::Close => {
                self.session.finish_sending();
                self.session.end = Some(End::Closed);
            }
            Act::Abort => {
                wire::reset(self.session.socket());
                self.session.end = Some(End::Reset);
            }
            Act::Hold => self.session.hold(id),
            Act::Grant(by) => self.session.grant(id, by),
        }
        true
    }

    /// Sends what the windows let through; false when something is left.
    fn data(&mut self, id: u32, bytes: Vec<u8>, end: bool) -> bool {
        let mut from = self.work.get(&id).map_or(0, |w| w.sent);
        loop {
            let room = self.session.room(id).min(bytes.len() - from);
            let last = from + room == bytes.len();
            if room > 0 || last {
                self.session.data(id, &bytes[from..from + room], end && last);
            }
            from += room;
            let Some(work) = self.work.get_mut(&id) else { return false };
            if last {
                work.over |= end;
                work.sent = 0;
                return true;
            }
            if room == 0 || self.session.end.is_some() {
                work.sent = from;
                work.acts.push_front(Act::Data(bytes, end));
                return false;
            }
        }
    }
}
