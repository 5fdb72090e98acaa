//! Response heads (RFC 9113 section 8.3.2).

use super::check::{self, Fault, Gate};
use crate::h2::hpack::{Field, Name, Pseudo};
use crate::h2::stream::UNKNOWN_LENGTH;
use crate::head::{ResponseHead, Version};
use crate::header::HeaderId;

/// Fills a response head field by field.
#[derive(Debug)]
pub(crate) struct ResponseReader<'a> {
    pub(crate) gate: Gate<'a>,
    head: &'a mut ResponseHead,
    /// An ordinary field came: pseudo-header fields are over.
    ordinary: bool,
    length: u64,
}

impl<'a> ResponseReader<'a> {
    pub(crate) fn new(gate: Gate<'a>, head: &'a mut ResponseHead) -> Self {
        head.clear();
        head.version = Version::Http2;
        Self { gate, head, ordinary: false, length: UNKNOWN_LENGTH }
    }

    /// Takes a field; false when it has seen enough.
    #[inline]
    pub(crate) fn field(&mut self, field: &Field<'_>) -> bool {
        if !self.gate.admits(field) {
            return self.gate.wants_more();
        }
        match field.id {
            Name::Pseudo(pseudo) => self.pseudo(pseudo, field.value),
            id => {
                self.ordinary = true;
                match id {
                    Name::Known(id) if check::is_connection_specific(id) || id == HeaderId::Te => {
                        self.gate.fail(Fault::Malformed);
                    }
                    _ => {
                        if id == Name::Known(HeaderId::ContentLength) {
                            self.gate.content_length(field.value, &mut self.length);
                        }
                        self.head.headers.push_indexed(&check::indexed(field));
                    }
                }
            }
        }
        true
    }

    #[inline]
    fn pseudo(&mut self, pseudo: Pseudo, value: &[u8]) {
        let digit = |d: u8| u16::from(d - b'0');
        match (pseudo, value) {
            (Pseudo::Status, &[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'])
                if !self.ordinary && self.head.status == 0 =>
            {
                self.head.status = digit(a) * 100 + digit(b) * 10 + digit(c);
            }
            _ => self.gate.fail(Fault::Malformed),
        }
    }

    /// Checks what only the whole head shows. `end`: nothing follows; `bodyless`: the request was HEAD. Returns the bytes
    /// of DATA that must follow, or [`UNKNOWN_LENGTH`].
    pub(crate) fn finish(self, end: bool, bodyless: bool) -> Result<u64, Fault> {
        if let Some(fault) = self.gate.fault() {
            return Err(fault);
        }
        let announced = self.length != UNKNOWN_LENGTH && self.length != 0;
        let malformed = match self.head.status {
            // 101 has no place in HTTP/2 (section 8.6).
            0 | 101 => true,
            100..=199 => end || announced,
            204 => announced,
            304 => false,
            _ => announced && end && !bodyless,
        };
        match self.head.status {
            _ if malformed => Err(Fault::Malformed),
            204 | 304 => Ok(0),
            _ if bodyless => Ok(0),
            _ => Ok(self.length),
        }
    }
}
