//! Handshake messages after the handshake (RFC 8446 4.6), put together from their fragments.

use crate::error::TlsError;

/// Bytes of one message: a ticket with a long chain in it.
const MESSAGE_MAX: usize = 1 << 16;
const HEADER: usize = 4;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// A message that may come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// KeyUpdate; whether an answer is asked for, and whether it ends its record.
    KeyUpdate { requested: bool, last: bool },
    /// The payload of a NewSessionTicket.
    Ticket(Vec<u8>),
}

/// The bytes of messages that have not been read; almost always none.
#[derive(Debug, Default)]
pub(super) struct Reassembly(Vec<u8>);

impl Reassembly {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what one record had. The type of a message is judged as soon as it is there.
    pub(super) fn add(&mut self, fragment: &[u8], takes_tickets: bool) -> Result<(), TlsError> {
        self.0.extend_from_slice(fragment);
        let expected = match self.0.first() {
            Some(&KEY_UPDATE) | None => true,
            Some(&NEW_SESSION_TICKET) => takes_tickets,
            Some(_) => false,
        };
        if expected { Ok(()) } else { Err(TlsError::UnexpectedMessage) }
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Result<Option<Message>, TlsError> {
        let Some(&[kind, a, b, c]) = self.0.first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > MESSAGE_MAX || (kind == KEY_UPDATE && length != 1) {
            return Err(TlsError::Decode);
        }
        let whole = HEADER + length;
        if self.0.len() < whole {
            return Ok(None);
        }
        let rest = self.0.split_off(whole);
        let message = std::mem::replace(&mut self.0, rest);
        match (kind, &message[HEADER..]) {
            (KEY_UPDATE, &[requested @ (0 | 1)]) => {
                Ok(Some(Message::KeyUpdate { requested: requested == 1, last: self.0.is_empty() }))
            }
            (KEY_UPDATE, _) => Err(TlsError::Decode),
            (NEW_SESSION_TICKET, payload) => Ok(Some(Message::Ticket(payload.to_vec()))),
            _ => Err(TlsError::UnexpectedMessage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_put_together_and_bounded() {
        let mut partial = Reassembly::default();
        partial.add(&[4, 0, 0, 2, 7], true).expect("a ticket may come");
        assert_eq!(partial.next(), Ok(None));
        assert!(!partial.is_empty());
        partial.add(&[8, 24, 0, 0, 1, 1], true).expect("its end");
        assert_eq!(partial.next(), Ok(Some(Message::Ticket(vec![7, 8]))));
        assert_eq!(partial.next(), Ok(Some(Message::KeyUpdate { requested: true, last: true })));
        assert!(partial.is_empty());
        assert_eq!(Reassembly::default().add(&[4], false), Err(TlsError::UnexpectedMessage));
        assert_eq!(Reassembly::default().add(&[13], true), Err(TlsError::UnexpectedMessage));
        for bad in [&[24, 0, 0, 1, 2][..], &[24, 0, 0, 2, 0, 0], &[4, 1, 0, 1, 0]] {
            let mut partial = Reassembly::default();
            partial.add(bad, true).expect("the type is known");
            assert_eq!(partial.next(), Err(TlsError::Decode));
        }
        let mut two = Reassembly::default();
        two.add(&[24, 0, 0, 1, 0, 24], true).expect("known");
        assert_eq!(two.next(), Ok(Some(Message::KeyUpdate { requested: false, last: false })));
    }
}
