//! TLS on a link: ciphertext in, plaintext buffers out, and the other way round.
//!
//! A received buffer is decrypted where it lies, and what its records hold is moved together, so that one buffer of
//! ciphertext becomes one buffer of plaintext. Only a record that straddles two buffers is copied. What is written in
//! a turn is sealed into as few records as it fits in when the link is flushed.

use std::rc::Rc;

use millrace_base::TlsFacts;
use millrace_ring::{Filled, Payload, Socket, Token};
use millrace_tls::{Event, Session, TlsError};

use crate::link::{Io, Link};

/// Plaintext of one send: three full records, so that a payload stays within the capacity that is kept for reuse.
const PLAIN_BYTES_MAX: usize = 48 * 1024;

/// The TLS half of a link.
#[derive(Debug)]
pub(crate) struct Secure {
    session: Session,
    /// Ciphertext of a record that has not come whole.
    carry: Vec<u8>,
    /// Records to be sent before anything else: flights of the handshake, alerts, key updates.
    wire: Vec<u8>,
    /// The peer said that it has nothing more to say.
    peer_closed: bool,
    /// We said so; what the peer still has to say is heard.
    closed: bool,
    /// An error ended the session.
    failed: bool,
}

/// What one received buffer brought, besides plaintext.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// The handshake is through.
    pub(crate) established: bool,
    /// The peer's clean end.
    pub(crate) close_notify: bool,
    /// The session is over; its alert is queued.
    pub(crate) error: Option<Failure>,
}

/// Why a session is over before its time.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the session says.
    Session(TlsError),
    /// No buffer was left for plaintext.
    OutOfBuffers,
}

/// The last bytes of a connection that is otherwise gone: an alert, or `close_notify`.
#[derive(Debug)]
pub(crate) struct Farewell {
    pub(crate) socket: Socket,
    pub(crate) payload: Payload,
    /// Wait a moment before the socket is closed: a reset must not overtake the alert.
    pub(crate) linger: bool,
    /// Records of the connection with this token are on their way: they come first.
    pub(crate) after: Option<Token>,
}

impl Secure {
    pub(crate) fn new(session: Session, wire: Vec<u8>) -> Self {
        Self { session, carry: Vec::new(), wire, peer_closed: false, closed: false, failed: false }
    }

    pub(crate) fn is_established(&self) -> bool {
        self.session.is_established()
    }

    pub(crate) fn facts(&self) -> Option<&Rc<TlsFacts>> {
        self.session.facts()
    }

    /// True when an error ended it.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// True when a FIN of the peer now cuts off what it wanted to say.
    pub(crate) fn is_truncated(&self) -> bool {
        !self.peer_closed
    }

    /// Takes received bytes; appends the plaintext in them to `pieces`.
    fn open(&mut self, mut data: Filled, pieces: &mut Vec<Filled>, io: &Io) -> Opened {
        let mut opened = Opened::default();
        if self.peer_closed || self.failed {
            return opened;
        }
        if !self.carry.is_empty() {
            self.open_carried(&mut data, pieces, io, &mut opened);
        }
        if data.is_empty() || opened.error.is_some() || self.peer_closed {
            return opened;
        }
        match data.unique_mut() {
            Some(bytes) => {
                let plain = self.open_in_place(bytes, &mut opened);
                data.advance(plain.start);
                data.truncate(plain.len());
            }
            None => {
                // Nobody shares a buffer that has just come; should that change, a copy is as good.
                let mut copy = data.to_vec();
                let plain = self.open_in_place(&mut copy, &mut opened);
                push_copy(&copy[plain], pieces, io, &mut opened);
                data.truncate(0);
            }
        }
        if !data.is_empty() {
            pieces.push(data);
        }
        opened
    }

    /// Opens every whole record of `bytes` and keeps the rest; returns where their plaintext stands.
    fn open_in_place(&mut self, bytes: &mut [u8], opened: &mut Opened) -> std::ops::Range<usize> {
        let (mut at, mut plain) = (0, 0..0);
        while at < bytes.len() {
            let step = match self.session.receive(&mut bytes[at..], &mut self.wire) {
                Ok(step) => step,
                Err(error) => {
                    self.failed = true;
                    opened.error = Some(Failure::Session(error));
                    return plain;
                }
            };
            match step.event {
                Event::NeedMore { missing } => {
                    let rest = &bytes[at..];
                    self.carry.reserve_exact(rest.len() + missing);
                    self.carry.extend_from_slice(rest);
                    return plain;
                }
                Event::Data(range) if plain.is_empty() => plain = at + range.start..at + range.end,
                Event::Data(range) => {
                    bytes.copy_within(at + range.start..at + range.end, plain.end);
                    plain.end += range.len();
                }
                Event::Established => opened.established = true,
                Event::CloseNotify => {
                    (self.peer_closed, opened.close_notify) = (true, true);
                    return plain;
                }
                Event::Progress => {}
            }
            at += step.consumed;
        }
        plain
    }

    /// Completes the record that was carried over, byte by byte as it asks for them.
    fn open_carried(&mut self, data: &mut Filled, pieces: &mut Vec<Filled>, io: &Io, opened: &mut Opened) {
        let mut carry = std::mem::take(&mut self.carry);
        let mut at = 0;
        while at < carry.len() {
            let step = match self.session.receive(&mut carry[at..], &mut self.wire) {
                Ok(step) => step,
                Err(error) => {
                    self.failed = true;
                    opened.error = Some(Failure::Session(error));
                    return;
                }
            };
            match step.event {
                Event::NeedMore { .. } if data.is_empty() => {
                    carry.drain(..at);
                    self.carry = carry;
                    return;
                }
                Event::NeedMore { missing } => {
                    let take = missing.max(1).min(data.len());
                    carry.extend_from_slice(&data[..take]);
                    data.advance(take);
                }
                Event::Data(range) => push_copy(&carry[at + range.start..at + range.end], pieces, io, opened),
                Event::Established => opened.established = true,
                Event::CloseNotify => {
                    (self.peer_closed, opened.close_notify) = (true, true);
                    return;
                }
                Event::Progress => {}
            }
            at += step.consumed;
        }
    }

    /// What leaves with the close of a socket that nothing is being sent to.
    fn farewell(&mut self) -> Option<Vec<u8>> {
        let mut last = std::mem::take(&mut self.wire);
        if self.owes_close() {
            self.closed = true;
            self.session.close_notify(&mut last);
        }
        (!last.is_empty()).then_some(last)
    }
}

/// Moves plaintext that lies elsewhere into buffers of the shard.
fn push_copy(plain: &[u8], pieces: &mut Vec<Filled>, io: &Io, opened: &mut Opened) {
    let mut rest = plain;
    while !rest.is_empty() {
        let Some(piece) = io.plain_buffer(rest) else {
            opened.error = Some(Failure::OutOfBuffers);
            return;
        };
        rest = &rest[piece.len()..];
        pieces.push(piece);
    }
}

impl Link {
    /// From now on everything travels in records of this session.
    pub(crate) fn secure(&mut self, session: Session, wire: Vec<u8>, io: &mut Io) {
        let pending = !wire.is_empty();
        self.set_secure(Secure::new(session, wire));
        if pending {
            self.mark(io);
        }
    }

    /// Takes received ciphertext; the plaintext is appended to `pieces`.
    pub(crate) fn open(&mut self, data: Filled, pieces: &mut Vec<Filled>, io: &mut Io) -> Opened {
        self.pace_bulk(&data, io);
        let Some(secure) = self.secure_mut() else {
            pieces.push(data);
            return Opened::default();
        };
        let opened = secure.open(data, pieces, io);
        let speaks = !secure.wire.is_empty() || opened.established;
        if opened.close_notify {
            self.end_receiving();
        }
        if speaks {
            self.mark(io);
        }
        opened
    }

    /// True when a FIN that was just received cuts off what the peer wanted to say.
    pub(crate) fn is_truncated(&self) -> bool {
        self.secure_ref().is_some_and(Secure::is_truncated)
    }

    /// What the handshake told, once it is through.
    pub(crate) fn tls_facts(&self) -> Option<&Rc<TlsFacts>> {
        self.secure_ref().and_then(Secure::facts)
    }

    /// Seals what is queued into `payload`; returns how many bytes of plaintext went in.
    pub(crate) fn seal_into(
        secure: &mut Secure,
        out: &mut Payload,
        finished: bool,
        payload: &mut Payload,
        io: &mut Io,
    ) -> usize {
        let mut plain = 0;
        payload.write_with(|bytes| {
            bytes.append(&mut secure.wire);
            if secure.failed || secure.closed || !secure.is_established() {
                return;
            }
            if out.len() > PLAIN_BYTES_MAX {
                let mut piece = io.payload();
                out.move_front(PLAIN_BYTES_MAX, &mut piece);
                plain = piece.len();
                secure.seal(&piece, bytes);
                io.recycle(piece);
            } else if !out.is_empty() {
                plain = out.len();
                secure.seal(out, bytes);
                io.recycle(std::mem::take(out));
            }
            if finished && out.is_empty() && secure.owes_close() {
                secure.closed = true;
                secure.session.close_notify(bytes);
            }
        });
        plain
    }

    /// Says goodbye before the socket is closed, where that is due and possible.
    pub(crate) fn say_farewell(&mut self, socket: Socket, io: &mut Io) -> bool {
        let after = self.sending_token();
        let Some(secure) = self.secure_mut() else { return false };
        let failed = secure.failed;
        let Some(last) = secure.farewell() else { return false };
        let mut payload = io.payload();
        payload.push_bytes(&last);
        io.farewells.push(Farewell { socket, payload, linger: failed, after });
        true
    }
}

impl Secure {
    /// Appends the records; a session that can seal no more ends with its alert.
    fn seal(&mut self, plain: &Payload, bytes: &mut Vec<u8>) {
        if self.session.seal(plain.slices(), bytes).is_err() {
            self.failed = true;
        }
    }

    /// True when there is something for the socket.
    pub(crate) fn has_records(&self) -> bool {
        !self.wire.is_empty()
    }

    /// True when `close_notify` is still to be said.
    pub(crate) fn owes_close(&self) -> bool {
        !self.closed && !self.failed && self.is_established()
    }
}
