//! Rules that every field block has: its limits, the validity of each field, connection-specific fields, underscores.

use super::super::hpack::{Field, Name, Validity};
use super::super::limits::HEADER_BOMB_FACTOR;
use super::super::options::Options;
use super::super::stream::UNKNOWN_LENGTH;
use crate::h1::{UnderscoreAction, parse_length, shadows};
use crate::header::{HeaderId, Indexed};

/// Octets that each field counts for besides name and value (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// What is wrong with a field block. The block was decoded to its end all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// RFC 9113 section 8.1.1.
    Malformed,
    /// Beyond `head_bytes_max` or `head_fields_max`.
    TooLarge,
    /// A name with `_` that is refused.
    Underscore,
}

/// What fields pass through on their way into a head.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    options: &'a Options,
    bytes: u32,
    fields: u32,
    fault: Option<Fault>,
    bomb: bool,
    /// Fields that were left out because of a `_`.
    pub(crate) dropped: u32,
}

impl<'a> Gate<'a> {
    pub(crate) fn new(options: &'a Options) -> Self {
        Self { options, bytes: 0, fields: 0, fault: None, bomb: false, dropped: 0 }
    }

    /// Counts a field; false when it is not to be looked at, for itself or for what came before it.
    #[inline]
    pub(crate) fn admits(&mut self, field: &Field<'_>) -> bool {
        let bytes = field.name.len() + field.value.len() + FIELD_OVERHEAD;
        self.bytes = self.bytes.saturating_add(bytes as u32);
        self.fields += 1;
        if self.bytes > self.options.head_bytes_max || self.fields > self.options.head_fields_max {
            return self.overflow();
        }
        if field.valid != Validity::Ok {
            self.fail(Fault::Malformed);
        }
        self.fault.is_none()
    }

    #[cold]
    fn overflow(&mut self) -> bool {
        self.fail(Fault::TooLarge);
        let times = |limit: u32| limit.saturating_mul(HEADER_BOMB_FACTOR);
        self.bomb |= self.bytes > times(self.options.head_bytes_max)
            || self.fields > times(self.options.head_fields_max);
        false
    }

    /// Notes what is wrong; the first fault stays.
    #[cold]
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.fault = self.fault.or(Some(fault));
    }

    /// Whether the decoder shall hand out more fields.
    #[inline]
    pub(crate) fn wants_more(&self) -> bool {
        !self.bomb
    }

    /// True when the block is an attack on our memory and time, and the connection is to end.
    pub(crate) fn is_bomb(&self) -> bool {
        self.bomb
    }

    /// The first fault.
    #[inline]
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// True when an ordinary field is stored; a `_` in its name may refuse or drop it.
    #[inline]
    pub(crate) fn keeps_name(&mut self, field: &Field<'_>) -> bool {
        // No known name has an underscore.
        field.id != Name::Other
            || memchr::memchr(b'_', field.name).is_none()
            || self.keeps_underscore(field.name)
    }

    #[cold]
    fn keeps_underscore(&mut self, name: &[u8]) -> bool {
        match self.options.underscores {
            UnderscoreAction::DropHeader => self.dropped += 1,
            UnderscoreAction::Allow if !shadows(name) => return true,
            UnderscoreAction::Allow | UnderscoreAction::RejectRequest => self.fail(Fault::Underscore),
        }
        false
    }

    /// Reads content-length into `length`, which holds [`UNKNOWN_LENGTH`] before: one field, one plain number.
    pub(crate) fn content_length(&mut self, value: &[u8], length: &mut u64) {
        match parse_length(value) {
            Some(n) if *length == UNKNOWN_LENGTH => *length = n,
            _ => self.fail(Fault::Malformed),
        }
    }

    pub(crate) fn options(&self) -> &'a Options {
        self.options
    }
}

/// Fields about one HTTP/1.1 connection, which make a message malformed (RFC 9113 section 8.2.2).
#[inline]
pub(crate) fn is_connection_specific(id: HeaderId) -> bool {
    use HeaderId::*;
    matches!(id, Connection | KeepAlive | ProxyConnection | TransferEncoding | Upgrade)
}

/// A field as the map takes it.
#[inline]
pub(crate) fn indexed<'f>(field: &Field<'f>) -> Indexed<'f> {
    let id = match field.id {
        Name::Known(id) => Some(id),
        _ => None,
    };
    Indexed { id, name: field.name, value: field.value, sensitive: field.sensitive }
}
