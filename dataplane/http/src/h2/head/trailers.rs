//! Trailer sections (RFC 9113 section 8.1, RFC 9110 section 6.5.1).

use super::check::{self, Fault, Gate};
use crate::h2::hpack::{Field, Name};
use crate::header::{HeaderId, HeaderMap};

/// Fills a map with trailers field by field.
#[derive(Debug)]
pub(crate) struct TrailerReader<'a> {
    pub(crate) gate: Gate<'a>,
    fields: &'a mut HeaderMap,
}

impl<'a> TrailerReader<'a> {
    pub(crate) fn new(gate: Gate<'a>, fields: &'a mut HeaderMap) -> Self {
        fields.clear();
        Self { gate, fields }
    }

    /// Takes a field; false when it has seen enough. Nothing that frames or routes a message may come behind it.
    #[inline]
    pub(crate) fn field(&mut self, field: &Field<'_>) -> bool {
        if !self.gate.admits(field) {
            return self.gate.wants_more();
        }
        let refused = match field.id {
            Name::Pseudo(_) => true,
            Name::Known(HeaderId::Host | HeaderId::ContentLength | HeaderId::Te) => true,
            Name::Known(id) => check::is_connection_specific(id),
            Name::Other => false,
        };
        if refused {
            self.gate.fail(Fault::Malformed);
        } else if self.gate.keeps_name(field) {
            self.fields.push_indexed(&check::indexed(field));
        }
        true
    }
}
