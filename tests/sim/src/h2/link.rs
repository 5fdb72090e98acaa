//! One connection of a peer: its codec, its socket, and how unwilling it is to read, write and give credit back.

use std::collections::VecDeque;
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_http::h2::{Connection, Event, Heads, Options, PREFACE, Role, StreamRef};
use millrace_ring::sim::{Peer, PeerRead};

use super::windows::{PADDED, StreamLimit, WINDOW, Windows, fragment};
use crate::client::STALL;
use crate::net::Net;
use crate::setup::{STALL_WINDOW, Setup};

/// Bytes that wait for the socket above which no DATA is written.
const BACKLOG_MAX: usize = 20_000;
/// An acknowledgement of SETTINGS up to its flags.
const ACKNOWLEDGEMENT: [u8; 5] = [0, 0, 0, 4, 1];

/// How a connection ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// By closing our half.
    Fin,
    /// With a reset.
    Reset,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) codec: Connection,
    pub(super) heads: Heads,
    input: Vec<u8>,
    at: usize,
    pub(super) out: Vec<u8>,
    written: usize,
    split: usize,
    slow: bool,
    next_write: Time,
    next_read: Time,
    windows: Option<Windows>,
    limit: Option<StreamLimit>,
    /// Credit that is given back later.
    debts: VecDeque<(Time, StreamRef, usize)>,
    /// Reads nothing for long after so many bytes.
    stalls_after: Option<usize>,
    /// Gives credit back late.
    lazy: bool,
    /// The connection is cut after so many bytes.
    cuts_after: Option<(usize, Cut)>,
    pub(super) cut: Option<Cut>,
    /// The proxy acknowledged our SETTINGS.
    pub(super) acknowledged: bool,
    /// Something has come.
    pub(super) heard: bool,
    /// How the proxy's half ended.
    pub(super) end: Option<PeerRead>,
}

impl Link {
    pub(super) fn new(peer: Peer, role: Role, setup: &Setup, now: Time, rng: &mut Rng) -> Self {
        let mut windows = setup.http2.late_windows.then(|| Windows::new(rng));
        let small = setup.http2.small_windows && rng.chance(1, 2);
        let initial_stream_window = match small {
            true => {
                windows = None;
                let bound = [100, 500, 5000][rng.below(3) as usize];
                (50 + setup.body_max as u64 / 40 + rng.below(bound)) as u32
            }
            false => WINDOW,
        };
        let mut options =
            Options { initial_stream_window, allow_connect: setup.tunnel, ..Options::new(role) };
        if rng.chance(1, 2) {
            options.initial_connection_window = 0;
        }
        let mut codec = Connection::new(&options, now);
        let mut out = Vec::new();
        codec.take_control(&mut out);
        if let Some(windows) = &windows {
            windows.announce(&mut out, if role == Role::Client { PREFACE.len() } else { 0 });
        }
        let most = setup.http2.max_streams.filter(|_| role == Role::Server);
        let limit = most.map(|most| StreamLimit::new(most, now, rng));
        if let Some(limit) = &limit {
            limit.announce(&mut out);
        }
        let stalls = role == Role::Client && rng.chance(setup.stalls, 1000);
        let cuts = rng.chance(setup.client_faults, 1000) && role == Role::Client;
        let cut = if rng.chance(2, 3) { Cut::Reset } else { Cut::Fin };
        Self {
            peer,
            codec,
            heads: Heads::default(),
            input: Vec::new(),
            at: 0,
            out,
            written: 0,
            // No body shall take as long as a route's timeout.
            split: [1 + setup.body_max / 2000 + rng.below(20) as usize, 200, 5000, usize::MAX]
                [rng.below(4) as usize],
            slow: setup.slow && rng.chance(1, 2),
            next_write: Time::ZERO,
            next_read: Time::ZERO,
            windows,
            limit,
            debts: VecDeque::new(),
            stalls_after: stalls.then(|| rng.below(STALL_WINDOW as u64) as usize),
            lazy: (setup.slow || setup.http2.small_windows) && rng.chance(1, 2),
            cuts_after: cuts.then(|| (rng.below(2 * setup.body_max as u64) as usize, cut)),
            cut: None,
            acknowledged: false,
            heard: false,
            end: None,
        }
    }

    /// Reads what has come.
    pub(super) fn receive(&mut self, net: &Net, rng: &mut Rng) {
        let now = net.now();
        while self.end.is_none() && now >= self.next_read {
            match net.read(self.peer, if self.slow { 300 } else { 64 * 1024 }) {
                PeerRead::Nothing => break,
                PeerRead::Bytes(bytes) => {
                    self.heard = true;
                    self.input.drain(..std::mem::take(&mut self.at));
                    self.input.extend_from_slice(&bytes);
                    if let Some(after) = &mut self.stalls_after {
                        *after = after.saturating_sub(bytes.len());
                        if *after == 0 {
                            self.stalls_after = None;
                            self.next_read = now + STALL;
                        }
                    } else if self.slow {
                        self.next_read = now + Duration::from_micros(rng.below(4000));
                    }
                }
                end => self.end = Some(end),
            }
        }
    }

    /// The next event, with the bytes of DATA.
    ///
    /// # Errors
    /// What ends the connection.
    pub(super) fn next(&mut self, now: Time) -> Result<Option<(Event, Vec<u8>)>, String> {
        while self.at < self.input.len() {
            let rest = &self.input[self.at..];
            if rest.starts_with(b"HTTP/1.1 408 ") && !self.acknowledged {
                // The preface took too long: nobody could know the version.
                self.end = Some(PeerRead::Eof);
                return Ok(None);
            }
            let step = self.codec.receive(rest, now, &mut self.heads).map_err(|error| error.to_string())?;
            self.acknowledged |= step.consumed == 9 && rest[..5] == ACKNOWLEDGEMENT;
            let bytes = match &step.event {
                Event::Data { range, .. } => rest[range.clone()].to_vec(),
                _ => Vec::new(),
            };
            self.at += step.consumed;
            match step.event {
                Event::NeedMore => return Ok(None),
                Event::Progress => {}
                event => return Ok(Some((event, bytes))),
            }
        }
        Ok(None)
    }

    /// A stream has begun.
    pub(super) fn opened(&mut self, stream: StreamRef, now: Time, rng: &mut Rng) {
        if let Some(windows) = &mut self.windows {
            windows.opened(stream.id, now, rng);
        }
    }

    /// A stream is over.
    pub(super) fn closed(&mut self, stream: StreamRef) {
        if let Some(windows) = &mut self.windows {
            windows.closed(stream.id);
        }
    }

    /// Gives credit back, now or later.
    pub(super) fn owe(&mut self, stream: StreamRef, bytes: usize, now: Time, rng: &mut Rng) {
        let due = if self.lazy { now + Duration::from_micros(rng.below(30_000)) } else { now };
        self.debts.push_back((due, stream, bytes));
    }

    /// DATA may be written.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < BACKLOG_MAX && self.cut.is_none()
    }

    /// Writes at most `most` bytes of `body` from `sent` on as one DATA frame, as the windows allow; tells how many.
    pub(super) fn data(
        &mut self,
        stream: StreamRef,
        body: &[u8],
        sent: usize,
        most: usize,
        ends: bool,
        rng: &mut Rng,
    ) -> usize {
        let room = self.codec.capacity(stream);
        let mut len = room.min(body.len() - sent).min(most);
        if len == 0 {
            return 0;
        }
        // Padding and its length take room as well.
        let padding =
            if room > 1 && rng.chance(1, 8) { (1 + rng.below(200) as usize).min(room - 1) } else { 0 };
        len = len.min(room - padding);
        let end = ends && sent + len == body.len();
        self.codec.take_control(&mut self.out);
        let at = self.out.len();
        self.codec.send_data(stream, len + padding, end, &mut self.out);
        if padding > 0 {
            self.out[at + 4] |= PADDED;
            self.out.push(padding as u8 - 1);
        }
        self.out.extend_from_slice(&body[sent..sent + len]);
        self.out.resize(self.out.len() + padding.saturating_sub(1), 0);
        len
    }

    /// The codec writes a head; sometimes it goes out in pieces.
    pub(super) fn head<T>(
        &mut self,
        rng: &mut Rng,
        write: impl FnOnce(&mut Connection, &mut Vec<u8>) -> T,
    ) -> T {
        self.codec.take_control(&mut self.out);
        let at = self.out.len();
        let written = write(&mut self.codec, &mut self.out);
        if self.out.len() > at && rng.chance(1, 4) {
            fragment(&mut self.out, at, rng);
        }
        written
    }

    /// Most streams that the proxy may have open, once it has acknowledged SETTINGS.
    pub(super) fn most_streams(&self) -> usize {
        self.limit.as_ref().map_or(usize::MAX, StreamLimit::most)
    }

    /// Our own frames, then everything goes to the socket as far as it takes it.
    pub(super) fn flush(&mut self, net: &Net, rng: &mut Rng) {
        let now = net.now();
        let mut later = VecDeque::new();
        for (due, stream, bytes) in self.debts.drain(..) {
            match due <= now {
                true => self.codec.release(stream, bytes),
                false => later.push_back((due, stream, bytes)),
            }
        }
        self.debts = later;
        self.codec.take_control(&mut self.out);
        if let Some(windows) = &mut self.windows {
            windows.run(&mut self.out, now, rng);
        }
        if let Some(limit) = &mut self.limit {
            limit.run(&mut self.out, now);
        }
        while !self.out.is_empty() && self.cut.is_none() && self.next_write <= now {
            let mut end = self.out.len().min(self.split);
            if let Some((after, _)) = self.cuts_after {
                end = end.min(after.saturating_sub(self.written));
            }
            // A failure shows when reading.
            let count = if end > 0 { net.write(self.peer, &self.out[..end]).unwrap_or(0) } else { 0 };
            self.out.drain(..count);
            self.written += count;
            if let Some((_, cut)) = self.cuts_after.filter(|(after, _)| self.written >= *after) {
                self.cut = Some(cut);
                return;
            }
            if count == 0 {
                break;
            }
            if rng.chance(1, 4) {
                self.next_write = now + Duration::from_micros(rng.below(2000));
            }
        }
        if self.out.is_empty() {
            self.codec.flushed();
        }
    }

    /// No streams, and no credit that waits. PINGs come and go all the time.
    pub(super) fn is_settled(&self) -> bool {
        self.debts.is_empty() && self.codec.open_streams() == 0
    }

    /// When it wants to be looked at again.
    pub(super) fn wake(&self, net: &Net) -> Time {
        let debt = self.debts.iter().map(|(due, ..)| *due).min().unwrap_or(Time::MAX);
        let limit = self.limit.as_ref().map_or(Time::MAX, StreamLimit::next);
        self.wake_for_bytes(net)
            .min(debt)
            .min(limit)
            .min(self.windows.as_ref().map_or(Time::MAX, Windows::next))
    }

    /// The same for bytes to read and to write alone.
    pub(super) fn wake_for_bytes(&self, net: &Net) -> Time {
        let now = net.now();
        let mut wake = Time::MAX;
        if self.end.is_none()
            && let Some(arrival) = net.next_arrival(self.peer)
        {
            wake = wake.min(arrival.max(self.next_read));
        }
        if !self.out.is_empty() && self.next_write > now {
            wake = wake.min(self.next_write);
        }
        wake
    }
}
