//! A connection whose handshake is over: records are opened and sealed here, without rustls.

use std::rc::Rc;

use millrace_base::{Origin, TlsFacts};
use rustls::AlertDescription;

use super::key_schedule::KeySchedule;
use super::post_handshake::{Message, Reassembly};
use super::{Event, Step, need_more};
use crate::error::{RecordError, TlsError};
use crate::record::{Framed, HEADER, PLAINTEXT_MAX, Protection, content, frame};

/// Key updates and tickets, or empty records, without data in between.
const FRUITLESS_MAX: u8 = 32;
/// Warnings of TLS 1.2, and user_canceled.
const WARNINGS_MAX: u8 = 4;
/// KeyUpdate (RFC 8446 4.6.3) with update_not_requested.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// An established connection.
pub(super) struct Established {
    opening: Protection,
    sealing: Protection,
    schedule: KeySchedule,
    facts: Rc<TlsFacts>,
    /// A handshake message whose end is missing.
    partial: Reassembly,
    peer: Origin,
    messages: u8,
    empty: u8,
    warnings: u8,
    /// The peer asked for a key update, once or more: it gets one with what is sealed next.
    update_owed: bool,
    closed_by_us: bool,
    closed_by_peer: bool,
    failed: bool,
}

impl Established {
    pub(super) fn new(
        opening: Protection,
        sealing: Protection,
        schedule: KeySchedule,
        facts: Rc<TlsFacts>,
        peer: Origin,
    ) -> Self {
        Self {
            opening,
            sealing,
            schedule,
            facts,
            partial: Reassembly::default(),
            peer,
            messages: 0,
            empty: 0,
            warnings: 0,
            update_owed: false,
            closed_by_us: false,
            closed_by_peer: false,
            failed: false,
        }
    }

    pub(super) fn facts(&self) -> &Rc<TlsFacts> {
        &self.facts
    }

    pub(super) fn receive(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<Step, TlsError> {
        if self.closed_by_peer {
            // RFC 8446 6.1: data behind a closure alert is ignored.
            return Ok(if input.is_empty() { need_more(1) } else { progress(input.len()) });
        }
        if self.failed {
            return Err(TlsError::Closed);
        }
        let whole = match frame(input) {
            Framed::Whole(whole) => whole,
            Framed::Missing(missing) => return Ok(need_more(missing)),
            Framed::NotTls => return Err(self.fail(TlsError::Record(RecordError::Malformed), out)),
            Framed::TooLong => return Err(self.fail(TlsError::Record(RecordError::Overflow), out)),
        };
        let record = &mut input[..whole];
        let result = match self.opening.open(record) {
            Ok((content::APPLICATION_DATA, range)) if self.partial.is_empty() => {
                if range.is_empty() {
                    self.count_empty()
                } else {
                    (self.messages, self.empty) = (0, 0);
                    return Ok(Step { consumed: whole, event: Event::Data(range) });
                }
            }
            Ok((content::HANDSHAKE, range)) => self.handshake(&record[range]),
            Ok((content::ALERT, range)) if self.partial.is_empty() => match self.alert(&record[range]) {
                Ok(false) => Ok(()),
                Ok(true) => return Ok(Step { consumed: whole, event: Event::CloseNotify }),
                Err(error) => Err(error),
            },
            Ok(_) => Err(TlsError::UnexpectedMessage),
            Err(error) => Err(TlsError::Record(error)),
        };
        match result {
            Ok(()) => Ok(progress(whole)),
            Err(error) => Err(self.fail(error, out)),
        }
    }

    fn count_empty(&mut self) -> Result<(), TlsError> {
        self.empty += 1;
        if self.empty > FRUITLESS_MAX { Err(TlsError::Flood) } else { Ok(()) }
    }

    /// What comes after a handshake (RFC 8446 4.6); in TLS 1.2 nothing does.
    fn handshake(&mut self, fragment: &[u8]) -> Result<(), TlsError> {
        if fragment.is_empty() {
            // RFC 8446 5.1: no empty fragments of handshake messages.
            return Err(TlsError::UnexpectedMessage);
        }
        if !self.schedule.updates() {
            // HelloRequest of a server, ClientHello of a client.
            let asks = if self.peer == Origin::Downstream { 1 } else { 0 };
            return Err(if fragment[0] == asks {
                TlsError::Renegotiation
            } else {
                TlsError::UnexpectedMessage
            });
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.add(fragment, self.schedule.takes_tickets())?;
        while let Some(message) = partial.next()? {
            self.messages += 1;
            if self.messages > FRUITLESS_MAX {
                return Err(TlsError::Flood);
            }
            match message {
                Message::KeyUpdate { requested, last } => self.update(requested, last)?,
                Message::Ticket(payload) => self.schedule.keep_ticket(&payload)?,
            }
        }
        self.partial = partial;
        Ok(())
    }

    /// RFC 8446 4.6.3. `last`: nothing of the record is behind the message, which would be under the new keys. The
    /// answer is due before our next data, one for all requests until then: peers bound updates without data.
    fn update(&mut self, requested: bool, last: bool) -> Result<(), TlsError> {
        if !last {
            return Err(TlsError::UnexpectedMessage);
        }
        self.opening = self.schedule.next_opening().ok_or(TlsError::UnexpectedMessage)?;
        self.update_owed |= requested;
        Ok(())
    }

    /// Announces new keys under the old ones, and takes them.
    fn rekey(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.update_owed = false;
        self.sealing
            .seal(content::HANDSHAKE, KEY_UPDATE.len(), out, |out| out.extend_from_slice(&KEY_UPDATE))
            .map_err(|_| TlsError::Exhausted)?;
        self.sealing = self.schedule.next_sealing().ok_or(TlsError::Exhausted)?;
        Ok(())
    }

    /// RFC 8446 6. True for close_notify.
    fn alert(&mut self, alert: &[u8]) -> Result<bool, TlsError> {
        const WARNING: u8 = 1;
        let &[level, description] = alert else { return Err(TlsError::Decode) };
        if description == u8::from(AlertDescription::CloseNotify) {
            self.closed_by_peer = true;
            return Ok(true);
        }
        let tolerated = !self.schedule.updates() && level == WARNING;
        if tolerated || description == u8::from(AlertDescription::UserCanceled) {
            self.warnings += 1;
            return if self.warnings > WARNINGS_MAX { Err(TlsError::Flood) } else { Ok(false) };
        }
        Err(TlsError::Alert(description))
    }

    pub(super) fn seal<'a>(
        &mut self,
        plaintext: impl Iterator<Item = &'a [u8]> + Clone,
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        if self.closed_by_us || self.failed {
            return Err(TlsError::Closed);
        }
        let mut left: usize = plaintext.clone().map(<[u8]>::len).sum();
        out.reserve(left + left.div_ceil(PLAINTEXT_MAX) * self.sealing.overhead());
        let mut chunks = plaintext;
        let mut chunk: &[u8] = &[];
        while left > 0 {
            let length = left.min(PLAINTEXT_MAX);
            if self.update_owed || !self.sealing.may_seal(length) {
                if !self.schedule.updates() {
                    return Err(TlsError::Exhausted);
                }
                self.rekey(out)?;
            }
            self.sealing
                .seal(content::APPLICATION_DATA, length, out, |out| {
                    let mut missing = length;
                    while missing > 0 {
                        if chunk.is_empty() {
                            let Some(next) = chunks.next() else { break };
                            chunk = next;
                        }
                        let (now, later) = chunk.split_at(chunk.len().min(missing));
                        out.extend_from_slice(now);
                        (chunk, missing) = (later, missing - now.len());
                    }
                })
                .map_err(|_| TlsError::Exhausted)?;
            left -= length;
        }
        Ok(())
    }

    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) {
        if !self.closed_by_us && !self.failed {
            self.closed_by_us = true;
            self.seal_alert([1, AlertDescription::CloseNotify.into()], out);
        }
    }

    /// Tells the peer of `error`, unless the peer told us.
    fn fail(&mut self, error: TlsError, out: &mut Vec<u8>) -> TlsError {
        self.failed = true;
        let alert = match &error {
            TlsError::Alert(_) => return error,
            TlsError::Record(RecordError::BadMac) => AlertDescription::BadRecordMac,
            TlsError::Record(RecordError::Overflow) => AlertDescription::RecordOverflow,
            TlsError::Record(RecordError::Malformed) | TlsError::Decode => AlertDescription::DecodeError,
            TlsError::Renegotiation => AlertDescription::NoRenegotiation,
            TlsError::Exhausted => AlertDescription::InternalError,
            _ => AlertDescription::UnexpectedMessage,
        };
        if !self.closed_by_us {
            self.seal_alert([2, alert.into()], out);
        }
        error
    }

    fn seal_alert(&mut self, alert: [u8; 2], out: &mut Vec<u8>) {
        // The reserve of the keys is there for this; without it the connection just ends.
        let _ = self.sealing.seal(content::ALERT, alert.len(), out, |out| out.extend_from_slice(&alert));
    }
}

#[cfg(test)]
impl Established {
    pub(super) fn wear_out(&mut self) {
        self.sealing.exhaust();
    }

    pub(super) fn is_closed_by_peer(&self) -> bool {
        self.closed_by_peer
    }

    /// Asks for the peer's next keys and takes our own.
    pub(super) fn ask_for_keys(&mut self, out: &mut Vec<u8>) {
        self.send(content::HANDSHAKE, &[24, 0, 0, 1, 1], out);
        self.sealing = self.schedule.next_sealing().expect("TLS 1.3");
    }

    /// One record of any type, as a peer could seal that breaks the rules.
    pub(super) fn send(&mut self, kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
        self.sealing.seal(kind, bytes.len(), out, |out| out.extend_from_slice(bytes)).expect("fresh keys");
    }
}

fn progress(consumed: usize) -> Step {
    debug_assert!(consumed <= usize::from(u16::MAX) + HEADER || consumed > 0);
    Step { consumed, event: Event::Progress }
}
