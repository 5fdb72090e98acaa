//! One TLS connection of a peer: bytes of the simulated socket on one side, plaintext on the other.

use std::collections::VecDeque;

use millrace_base::Rng;
use millrace_ring::IoError;
use millrace_ring::sim::{Peer, PeerRead, SimNet};
use rustls::{AlertDescription, Connection, Error, ProtocolVersion};

/// Plaintext taken from the user at once.
const WRITE_BYTES_MAX: usize = 20 * 1024;
/// The same where every byte travels in a record of its own.
const GRAINS_MAX: usize = 100;
/// KeyUpdates of one connection: rustls takes 32 answers without data in between.
const UPDATES_MAX: u8 = 12;
/// Bytes of ciphertext read at once during a handshake.
const READ_BYTES: usize = 64 * 1024;

/// What goes wrong on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Says nothing more after so many bytes, in the middle of the handshake.
    Stall(usize),
    /// Resets after so many bytes.
    Reset(usize),
    /// FIN after so many bytes, in the middle of whatever it is.
    Fin(usize),
    /// One bit at this position is another one.
    Tamper(usize),
    /// Bytes that are no TLS.
    Garbage,
    /// A fatal alert instead of the first flight.
    Alert,
    /// Shows a certificate that must not be believed, or none where one is asked for.
    Stranger,
    /// Takes offence at what it reads, after so much plaintext written: a fatal alert in the middle.
    Poison(usize),
    /// FIN without `close_notify`.
    NoCloseNotify,
}

impl Fault {
    /// Any of them that a side may have.
    pub(super) fn any(rng: &mut Rng, bytes_max: usize) -> Self {
        let at = |rng: &mut Rng| {
            let bound = [600, 6_000, 2 * bytes_max as u64][rng.below(3) as usize];
            rng.below(bound) as usize
        };
        match rng.below(9) {
            0 => Self::Stall(rng.below(150) as usize),
            1 => Self::Reset(at(rng)),
            2 => Self::Fin(at(rng)),
            3 => Self::Tamper(at(rng)),
            4 => Self::Garbage,
            5 => Self::Alert,
            6 => Self::Stranger,
            7 => Self::Poison(rng.below(bytes_max as u64) as usize),
            _ => Self::NoCloseNotify,
        }
    }
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Stall(_) => "stalled",
            Self::Reset(_) => "reset",
            Self::Fin(_) => "fin",
            Self::Tamper(_) => "tampered",
            Self::Garbage => "garbage",
            Self::Alert => "alert",
            Self::Stranger => "stranger",
            Self::Poison(_) => "poisoned",
            Self::NoCloseNotify => "bare fin",
        }
    }
}

/// How the user wants the connection to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ending {
    #[default]
    Open,
    /// `close_notify` and FIN once the handshake is through.
    Wanted,
    /// They are queued, or FIN alone.
    Queued,
    Sent,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    peer: Peer,
    tls: Connection,
    /// Ciphertext to be written.
    out: VecDeque<u8>,
    /// Ciphertext that was queued, and what of it was written.
    queued: usize,
    sent: usize,
    /// Plaintext for the user.
    plain: VecDeque<u8>,
    /// Plaintext of the user so far.
    written: usize,
    /// Plaintext of one record.
    grain: usize,
    updates: u8,
    fault: Option<Fault>,
    ending: Ending,
    /// The user has closed it: it goes once everything has left.
    closing: bool,
    /// `close_notify` came.
    peer_closed: bool,
    /// The handshake was looked at.
    pub(super) judged: bool,
    dead: bool,
    resets: bool,
    /// FIN came without `close_notify`.
    bare_fin: bool,
    pub(super) violations: Vec<String>,
    /// The alert that came after a fault.
    pub(super) told: Option<String>,
    /// The certificate that was in force everywhere when it began.
    pub(super) since: u64,
}

impl Session {
    pub(super) fn new(
        peer: Peer,
        tls: Connection,
        fault: Option<Fault>,
        grain: usize,
        rng: &mut Rng,
    ) -> Self {
        let mut session = Self {
            peer,
            tls,
            out: VecDeque::new(),
            queued: 0,
            sent: 0,
            plain: VecDeque::new(),
            written: 0,
            grain,
            updates: 0,
            fault,
            ending: Ending::Open,
            closing: false,
            peer_closed: false,
            judged: false,
            dead: false,
            resets: false,
            bare_fin: false,
            violations: Vec::new(),
            told: None,
            since: 0,
        };
        match fault {
            Some(Fault::Alert) => {
                session.queue(&[0x15, 3, 3, 0, 2, 2, 40]);
                session.dead = true;
            }
            Some(Fault::Garbage) => {
                let garbage: Vec<u8> =
                    (0..1 + rng.below(2_000)).map(|_| 128 + rng.below(128) as u8).collect();
                session.queue(&garbage);
            }
            _ => session.collect(),
        }
        session
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    pub(super) fn tls(&self) -> &Connection {
        &self.tls
    }

    pub(super) fn is_established(&self) -> bool {
        !self.tls.is_handshaking() && self.fault != Some(Fault::Garbage)
    }

    /// True, once, when a FIN came without a reason to leave out `close_notify`: an upload may be given up in the middle of
    /// a record.
    pub(super) fn ended_unannounced(&mut self) -> bool {
        let client = matches!(self.tls, Connection::Client(_));
        std::mem::take(&mut self.bare_fin) && client
    }

    /// True when somebody has to look at it as soon as bytes arrive, whether or not the user reads.
    pub(super) fn waits_for_handshake(&self) -> bool {
        !self.is_established() && !self.dead
    }

    /// The user has something to read that came already.
    pub(super) fn has_news(&self) -> bool {
        !self.plain.is_empty() || self.dead
    }

    fn queue(&mut self, bytes: &[u8]) {
        let start = self.out.len();
        self.out.extend(bytes);
        if let Some(Fault::Tamper(at)) = self.fault
            && (self.queued..self.queued + bytes.len()).contains(&at)
        {
            self.out[start + at - self.queued] ^= 1 << (at % 8);
        }
        self.queued += bytes.len();
    }

    /// Takes what rustls wants to send.
    fn collect(&mut self) {
        let mut bytes = Vec::new();
        while self.tls.wants_write() && self.tls.write_tls(&mut bytes).is_ok() {}
        if self.fault != Some(Fault::Garbage) {
            self.queue(&bytes);
        }
    }

    /// Writes what the socket takes.
    fn flush(&mut self, sim: &SimNet) {
        while !self.out.is_empty() && !self.resets {
            let left = match self.fault {
                Some(Fault::Stall(at) | Fault::Reset(at) | Fault::Fin(at)) => at.saturating_sub(self.sent),
                _ => usize::MAX,
            };
            if left == 0 {
                return self.strike(sim);
            }
            let piece: Vec<u8> = self.out.iter().copied().take(left.min(8 * 1024)).collect();
            match sim.write(self.peer, &piece) {
                Ok(0) => return,
                Ok(count) => {
                    self.sent += count;
                    self.out.drain(..count.min(self.out.len()));
                }
                Err(_) => {
                    self.out.clear();
                    self.dead = true;
                    return;
                }
            }
        }
        if self.ending == Ending::Queued && self.out.is_empty() {
            self.ending = Ending::Sent;
            sim.shutdown(self.peer);
        }
    }

    fn strike(&mut self, sim: &SimNet) {
        match self.fault {
            Some(Fault::Reset(_)) => (self.dead, self.resets) = (true, true),
            Some(Fault::Fin(_)) if self.ending != Ending::Sent => {
                self.ending = Ending::Sent;
                self.dead = true;
                sim.shutdown(self.peer);
            }
            _ => {}
        }
        if self.dead {
            self.out.clear();
        }
    }

    /// The handshake as far as it gets, and what follows from its end.
    pub(super) fn drive(&mut self, sim: &SimNet) {
        self.flush(sim);
        while self.waits_for_handshake() {
            match sim.read(self.peer, READ_BYTES) {
                PeerRead::Nothing => return,
                PeerRead::Bytes(bytes) => self.feed(&bytes),
                PeerRead::Eof => (self.dead, self.bare_fin) = (true, true),
                PeerRead::Reset => self.dead = true,
            }
            self.flush(sim);
        }
        if self.ending == Ending::Wanted && self.is_established() && !self.dead {
            self.say_goodbye();
            self.flush(sim);
        }
    }

    fn say_goodbye(&mut self) {
        // rustls asserts that no error follows its close_notify.
        if !matches!(self.fault, Some(Fault::NoCloseNotify | Fault::Poison(_))) {
            self.tls.send_close_notify();
            self.collect();
        }
        self.ending = Ending::Queued;
    }

    /// Gives ciphertext to rustls, and takes what it makes of it.
    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.peer_closed && !self.dead {
            let read = self.tls.read_tls(&mut rest).unwrap_or(0);
            let done = self.tls.process_new_packets();
            self.take_plaintext();
            match done {
                Ok(state) => self.peer_closed |= state.peer_has_closed(),
                Err(error) => self.failed(&error),
            }
            if read == 0 {
                break;
            }
        }
        if self.peer_closed && !rest.is_empty() {
            self.violations.push(format!("{} bytes behind close_notify", rest.len()));
        }
        self.collect();
    }

    fn take_plaintext(&mut self) {
        let mut plain = Vec::new();
        // Ends with an error when there is no more, which is no news.
        let _ = std::io::Read::read_to_end(&mut self.tls.reader(), &mut plain);
        if self.fault == Some(Fault::Stranger) && !plain.is_empty() {
            self.violations.push(format!("a stranger was served {} bytes", plain.len()));
        }
        self.plain.extend(plain);
    }

    fn failed(&mut self, error: &Error) {
        self.dead = true;
        if let (Error::AlertReceived(alert), Some(fault)) = (error, self.fault) {
            self.told = Some(format!("{}, {}: {alert:?}", kind(&self.tls), fault.name()));
        }
        let harmless = match error {
            Error::AlertReceived(AlertDescription::InternalError) => false,
            // What follows from a fault of ours.
            _ => self.fault.is_some(),
        };
        if !harmless {
            self.violations.push(format!(
                "rustls as {:?}, fault {:?}: {error:?}",
                kind(&self.tls),
                self.fault
            ));
        }
    }

    /// Takes plaintext of the user, as much as there is room for.
    pub(super) fn write(&mut self, sim: &SimNet, bytes: &[u8], rng: &mut Rng) -> Result<usize, IoError> {
        self.drive(sim);
        if self.dead {
            return Err(IoError::RESET);
        }
        if !self.is_established() || !self.out.is_empty() || self.ending != Ending::Open || bytes.is_empty() {
            return Ok(0);
        }
        let most = WRITE_BYTES_MAX.min(self.grain.saturating_mul(GRAINS_MAX));
        let bytes = &bytes[..bytes.len().min(most)];
        for record in bytes.chunks(self.grain) {
            if std::io::Write::write_all(&mut self.tls.writer(), record).is_err() {
                self.violations.push("rustls takes no plaintext".into());
            }
            let updates = self.updates < UPDATES_MAX && rng.chance(1, 30);
            if updates && self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
                self.updates += 1;
                let updated = self.tls.refresh_traffic_keys();
                if updated.is_err() {
                    self.violations.push(format!("KeyUpdate: {updated:?}"));
                }
            }
            self.collect();
        }
        self.written += bytes.len();
        if let Some(Fault::Poison(at)) = self.fault
            && self.written >= at
            && !self.peer_closed
        {
            self.feed(&[
                0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
            ]);
        }
        self.flush(sim);
        Ok(bytes.len())
    }

    /// Gives the user up to `room` bytes of plaintext.
    pub(super) fn read(&mut self, sim: &SimNet, room: usize) -> PeerRead {
        self.drive(sim);
        loop {
            if !self.plain.is_empty() {
                let count = room.min(self.plain.len());
                return PeerRead::Bytes(self.plain.drain(..count).collect());
            }
            if self.dead {
                return PeerRead::Reset;
            }
            if self.peer_closed {
                return PeerRead::Eof;
            }
            if !self.is_established() {
                return PeerRead::Nothing;
            }
            match sim.read(self.peer, room) {
                PeerRead::Nothing => return PeerRead::Nothing,
                PeerRead::Bytes(bytes) => self.feed(&bytes),
                // A FIN alone is no end.
                PeerRead::Eof => (self.dead, self.bare_fin) = (true, true),
                PeerRead::Reset => self.dead = true,
            }
            self.flush(sim);
        }
    }

    /// Closes the write half.
    pub(super) fn shutdown(&mut self, sim: &SimNet) {
        if self.ending == Ending::Open {
            self.ending = Ending::Wanted;
        }
        self.drive(sim);
    }

    /// FIN without `close_notify`, behind what was written.
    pub(super) fn truncate(&mut self, sim: &SimNet) {
        self.ending = Ending::Queued;
        self.flush(sim);
    }

    /// Closes the connection; true when the socket is gone.
    pub(super) fn close(&mut self, sim: &SimNet) -> bool {
        self.closing = true;
        if self.ending == Ending::Open && !self.dead && self.is_established() {
            self.say_goodbye();
        }
        self.finish(sim)
    }

    /// Goes on with a close; true when the socket is gone.
    pub(super) fn finish(&mut self, sim: &SimNet) -> bool {
        if !self.closing {
            return false;
        }
        self.flush(sim);
        let stalled = matches!(self.fault, Some(Fault::Stall(at)) if at <= self.sent);
        if !self.out.is_empty() && !self.dead && self.is_established() && !stalled {
            return false;
        }
        match self.resets {
            true => sim.reset(self.peer),
            false => sim.close(self.peer),
        }
        true
    }
}

fn kind(tls: &Connection) -> &'static str {
    match tls {
        Connection::Client(_) => "a client",
        Connection::Server(_) => "an endpoint",
    }
}
