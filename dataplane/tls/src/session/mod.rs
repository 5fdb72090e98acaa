//! One TLS connection: bytes in, plaintext ranges out.

mod established;
mod handshake;
mod key_schedule;
mod post_handshake;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use millrace_base::TlsFacts;

use crate::client::ClientContext;
use crate::error::TlsError;
use crate::server::ServerContext;
use established::Established;
use handshake::{Advance, Handshake};

/// What one call of [`Session::receive`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes at the front of `input` that are dealt with; a range of [`Event::Data`] lies within them.
    pub consumed: usize,
    /// What became of them.
    pub event: Event,
}

/// What the bytes were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Not one whole record, or no whole ClientHello, is in `input`: call again with the same bytes and at least
    /// `missing` more behind them. Nothing was consumed.
    NeedMore {
        /// At least one.
        missing: usize,
    },
    /// Something was dealt with: a part of the handshake, a key update, a ticket, an empty record.
    Progress,
    /// Once: [`Session::facts`] are there, and application data may flow both ways.
    Established,
    /// Plaintext, decrypted in place: a range of `input`, never empty.
    Data(Range<usize>),
    /// The peer's clean end. Whatever is behind it is ignored; we may go on sending.
    CloseNotify,
}

/// What a client asks for, connection by connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientOptions<'a> {
    /// Host name for the server; empty for none. A literal address is never sent.
    pub server_name: &'a str,
    /// Replaces the context's protocols.
    pub alpn: Option<&'a [Arc<[u8]>]>,
    /// `auto_san_validation`: the certificate must have this name as well.
    pub extra_dns_san: Option<&'a str>,
}

/// One TLS connection.
pub struct Session(State);

enum State {
    /// The ClientHello is awaited.
    Hello(Rc<ServerContext>),
    Handshake(Box<Handshake>),
    Established(Box<Established>),
    /// Nothing more can be done.
    Ended,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            State::Hello(_) => "Session(awaits ClientHello)",
            State::Handshake(_) => "Session(handshake)",
            State::Established(_) => "Session(established)",
            State::Ended => "Session(ended)",
        })
    }
}

impl Session {
    /// Awaits a client.
    pub fn server(context: &Rc<ServerContext>) -> Self {
        Self(State::Hello(context.clone()))
    }

    /// Greets a server: the ClientHello is appended to `out`.
    pub fn client(
        context: &Rc<ClientContext>,
        options: ClientOptions<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Self, TlsError> {
        Ok(Self(State::Handshake(Box::new(Handshake::client(context, options, out)?))))
    }

    /// Takes what came from the peer; `input` starts at the start of a record. Appends to `out` whole records that
    /// must be sent before anything that is sealed later. After an error the alert is in `out` already: flush it and
    /// close.
    pub fn receive(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<Step, TlsError> {
        let received = match &mut self.0 {
            State::Hello(context) => match Handshake::server(context, input, out) {
                Ok(handshake::Hello::Missing(missing)) => return Ok(need_more(missing)),
                Ok(handshake::Hello::Begun(handshake, advance, consumed)) => {
                    self.0 = State::Handshake(handshake);
                    Ok((advance, consumed))
                }
                Err(error) => Err(error),
            },
            State::Handshake(handshake) => match handshake.receive(input, out) {
                Ok((Advance::NeedMore(missing), _)) => return Ok(need_more(missing)),
                received => received,
            },
            State::Established(established) => match established.receive(input, out) {
                Ok(step) => return Ok(step),
                Err(error) => Err(error),
            },
            State::Ended => Err(TlsError::Closed),
        };
        match received.and_then(|(advance, consumed)| Ok((self.advance(advance)?, consumed))) {
            Ok((event, consumed)) => Ok(Step { consumed, event }),
            Err(error) => {
                self.0 = State::Ended;
                Err(error)
            }
        }
    }

    fn advance(&mut self, advance: Advance) -> Result<Event, TlsError> {
        if advance != Advance::Finished {
            return Ok(Event::Progress);
        }
        let State::Handshake(handshake) = std::mem::replace(&mut self.0, State::Ended) else {
            return Err(TlsError::Closed);
        };
        self.0 = State::Established(Box::new(handshake.finish()?));
        Ok(Event::Established)
    }

    /// Seals all of `plaintext` into records of at most 16 KiB, appended to `out`; small slices share a record.
    /// Only once established. TLS 1.3 changes its keys in time; TLS 1.2 ends with [`TlsError::Exhausted`].
    pub fn seal<'a>(
        &mut self,
        plaintext: impl Iterator<Item = &'a [u8]> + Clone,
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        match &mut self.0 {
            State::Established(established) => established.seal(plaintext, out),
            _ => Err(TlsError::Closed),
        }
    }

    /// Our clean end, at most once; nothing can be sealed after it. A session that is not established just ends.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        match &mut self.0 {
            State::Established(established) => established.close_notify(out),
            // Nobody owes a close_notify before there are keys that vouch for it.
            State::Hello(_) | State::Handshake(_) | State::Ended => self.0 = State::Ended,
        }
    }

    /// True from [`Event::Established`] until an error.
    pub fn is_established(&self) -> bool {
        matches!(self.0, State::Established(_))
    }

    /// What the handshake told.
    pub fn facts(&self) -> Option<&Rc<TlsFacts>> {
        match &self.0 {
            State::Established(established) => Some(established.facts()),
            _ => None,
        }
    }
}

fn need_more(missing: usize) -> Step {
    Step { consumed: 0, event: Event::NeedMore { missing } }
}
