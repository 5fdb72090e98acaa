//! HPACK (RFC 7541): the interface that the codec is written against.

use crate::header::HeaderId;
use alloc::vec::Vec;

/// A field block that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpackError;

/// What a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "stands in for the real module")]
pub enum Pseudo {
    Method,
    Path,
    Scheme,
    Authority,
    Status,
    Protocol,
    Other,
}

/// What a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "stands in for the real module")]
pub enum Name {
    Pseudo(Pseudo),
    Known(HeaderId),
    Other,
}

/// Whether a field is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "stands in for the real module")]
pub enum Validity {
    Ok,
    BadName,
    BadValue,
}

/// A decoded field.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "stands in for the real module")]
pub struct Field<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
    pub id: Name,
    pub sensitive: bool,
    pub valid: Validity,
}

/// Decoder.
#[derive(Debug)]
pub struct Decoder;

impl Decoder {
    /// New.
    pub fn new(_table_size: u32) -> Self {
        Self
    }

    /// Decode.
    pub fn decode(
        &mut self,
        _block: &[u8],
        _field: &mut impl FnMut(Field<'_>) -> bool,
    ) -> Result<(), HpackError> {
        Err(HpackError)
    }
}

/// Encoder.
#[derive(Debug)]
pub struct Encoder;

impl Encoder {
    /// New.
    pub fn new(_max_table_size: u32) -> Self {
        Self
    }
    /// Set.
    pub fn set_peer_table_size(&mut self, _size: u32) {}
    /// Begin.
    pub fn begin(&mut self, _out: &mut Vec<u8>) {}
    /// Field.
    pub fn field(&mut self, _name: &[u8], _value: &[u8], _id: Option<HeaderId>, _out: &mut Vec<u8>) {}
    /// Status.
    pub fn status(&mut self, _status: u16, _out: &mut Vec<u8>) {}
}
