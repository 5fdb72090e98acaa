//! The protobuf wire format: writing fields, and reading a message as fields grouped by number.

use std::borrow::Cow;
use std::fmt;

use crate::schema::{Field, Kind, Label, Message};

/// Messages nested deeper than this are refused, as protobuf's own parsers do.
pub(crate) const DEPTH_MAX: usize = 100;

/// Bytes that are no protobuf message. Whoever sent them is at fault; the same bytes never parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The bytes end inside a field.
    Truncated,
    /// A tag, wire type or varint that cannot be.
    Malformed,
    /// More than 100 levels.
    TooDeep,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the message ends inside a field",
            Self::Malformed => "not a protobuf message",
            Self::TooDeep => "messages are nested too deeply",
        })
    }
}

impl std::error::Error for WireError {}

/// One value on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw<'a> {
    /// Integers, bools, enums.
    Varint(u64),
    /// `fixed64`, `double`.
    Fixed64(u64),
    /// `fixed32`, `float`.
    Fixed32(u32),
    /// Strings, bytes, messages.
    Bytes(Cow<'a, [u8]>),
}

impl Raw<'_> {
    /// The bytes of a length-delimited value, else nothing.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => &[],
        }
    }

    /// The bits of a number, else 0.
    pub fn bits(&self) -> u64 {
        match self {
            Self::Varint(v) | Self::Fixed64(v) => *v,
            Self::Fixed32(v) => u64::from(*v),
            Self::Bytes(_) => 0,
        }
    }
}

/// The fields of one message.
#[derive(Debug, Default)]
pub(crate) struct Group<'a> {
    /// Known fields that are set, by number; singular ones hold one value, messages merged.
    pub fields: Vec<(Field, Vec<Raw<'a>>)>,
    /// Numbers that the message type does not have.
    pub unknown: Vec<u32>,
}

impl<'a> Group<'a> {
    pub fn get(&self, field: Field) -> &[Raw<'a>] {
        self.fields.iter().find(|(known, _)| *known == field).map_or(&[], |(_, values)| values)
    }

    /// Parses `bytes` as a message of this type.
    pub fn parse(message: Message, bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut group = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (number, raw) = next(&mut rest)?;
            match message.field(number) {
                Some(field) => group.add(field, raw)?,
                None => group.unknown.push(number),
            }
        }
        group.fields.sort_by_key(|(field, _)| field.number());
        Ok(group)
    }

    fn add(&mut self, field: Field, raw: Raw<'a>) -> Result<(), WireError> {
        if let Some(index) = field.oneof() {
            // The last member of a oneof wins.
            self.fields.retain(|(other, _)| other.oneof() != Some(index) || *other == field);
        }
        let at = self.fields.iter().position(|(known, _)| *known == field).unwrap_or_else(|| {
            self.fields.push((field, Vec::new()));
            self.fields.len() - 1
        });
        let values = &mut self.fields[at].1;
        match (field.label(), raw, field.kind()) {
            (Label::Repeated, Raw::Bytes(block), kind) if fixed_or_varint(kind).is_some() => {
                unpack(&block, kind, values)?
            }
            (Label::Repeated | Label::Map, raw, _) => values.push(raw),
            (_, Raw::Bytes(more), Kind::Message(_)) => match values.first_mut() {
                Some(Raw::Bytes(first)) => first.to_mut().extend_from_slice(&more),
                _ => values.push(Raw::Bytes(more)),
            },
            (_, raw, _) => {
                values.clear();
                values.push(raw);
            }
        }
        Ok(())
    }
}

/// Width of a number: 0 for varints; `None` for what is not a number.
fn fixed_or_varint(kind: Kind) -> Option<usize> {
    match kind {
        Kind::String | Kind::Bytes | Kind::Message(_) => None,
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Some(8),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Some(4),
        _ => Some(0),
    }
}

fn unpack(block: &[u8], kind: Kind, out: &mut Vec<Raw<'_>>) -> Result<(), WireError> {
    let mut rest = block;
    while !rest.is_empty() {
        out.push(match fixed_or_varint(kind) {
            Some(8) => Raw::Fixed64(u64::from_le_bytes(take_array(&mut rest)?)),
            Some(4) => Raw::Fixed32(u32::from_le_bytes(take_array(&mut rest)?)),
            _ => Raw::Varint(varint(&mut rest)?),
        });
    }
    Ok(())
}

/// The next field number and its value.
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Result<(u32, Raw<'a>), WireError> {
    let tag = varint(rest)?;
    let number =
        u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 29).contains(n)).ok_or(WireError::Malformed)?;
    let raw = match tag & 7 {
        0 => Raw::Varint(varint(rest)?),
        1 => Raw::Fixed64(u64::from_le_bytes(take_array(rest)?)),
        2 => {
            let len = usize::try_from(varint(rest)?).map_err(|_| WireError::Truncated)?;
            Raw::Bytes(Cow::Borrowed(take(rest, len)?))
        }
        5 => Raw::Fixed32(u32::from_le_bytes(take_array(rest)?)),
        _ => return Err(WireError::Malformed),
    };
    Ok((number, raw))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], WireError> {
    let (head, tail) = rest.split_at_checked(len).ok_or(WireError::Truncated)?;
    *rest = tail;
    Ok(head)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], WireError> {
    take(rest, N)?.try_into().map_err(|_| WireError::Truncated)
}

fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let [byte] = take_array(rest)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WireError::Malformed)
}

/// The values of one length-delimited field, and all other fields as they stand.
///
/// # Errors
/// Bytes that are no message.
pub fn set_apart(bytes: &[u8], number: u32) -> Result<(Vec<&[u8]>, Vec<u8>), WireError> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest;
        match next(&mut rest)? {
            (at, Raw::Bytes(Cow::Borrowed(value))) if at == number => found.push(value),
            _ => others.extend_from_slice(&before[..before.len() - rest.len()]),
        }
    }
    Ok((found, others))
}

/// Appends a length-delimited field.
pub fn put_field(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put(out, number, &Raw::Bytes(Cow::Borrowed(value)));
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field.
pub(crate) fn put(out: &mut Vec<u8>, number: u32, raw: &Raw<'_>) {
    let wire_type = match raw {
        Raw::Varint(_) => 0,
        Raw::Fixed64(_) => 1,
        Raw::Bytes(_) => 2,
        Raw::Fixed32(_) => 5,
    };
    put_varint(out, u64::from(number) << 3 | wire_type);
    match raw {
        Raw::Varint(value) => put_varint(out, *value),
        Raw::Fixed64(value) => out.extend(value.to_le_bytes()),
        Raw::Fixed32(value) => out.extend(value.to_le_bytes()),
        Raw::Bytes(bytes) => put_bytes(out, bytes),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_grouped_and_singular_messages_merged() {
        let node = Message::by_name("envoy.config.bootstrap.v3.Bootstrap").unwrap();
        let mut bytes = Vec::new();
        put(&mut bytes, 1, &Raw::Bytes(Cow::Borrowed(b"\x0a\x01a")));
        put(&mut bytes, 1, &Raw::Bytes(Cow::Borrowed(b"\x12\x01b")));
        put(&mut bytes, 4000, &Raw::Varint(300));
        let group = Group::parse(node, &bytes).unwrap();
        assert_eq!(group.unknown, [4000]);
        assert_eq!(group.fields.len(), 1);
        assert_eq!(group.fields[0].1[0].bytes(), b"\x0a\x01a\x12\x01b");
    }

    #[test]
    fn a_field_is_set_apart_from_all_others() {
        let mut bytes = Vec::new();
        put(&mut bytes, 1, &Raw::Varint(300));
        let mut expected = bytes.clone();
        put(&mut bytes, 2, &Raw::Bytes(Cow::Borrowed(b"a")));
        put(&mut bytes, 3, &Raw::Bytes(Cow::Borrowed(b"c")));
        put(&mut expected, 3, &Raw::Bytes(Cow::Borrowed(b"c")));
        put(&mut bytes, 2, &Raw::Bytes(Cow::Borrowed(b"")));
        assert_eq!(set_apart(&bytes, 2), Ok((vec![&b"a"[..], b""], expected)));
        assert_eq!(set_apart(b"\x12\x05a", 2), Err(WireError::Truncated));
    }

    #[test]
    fn broken_bytes_are_errors() {
        let any = Message::by_name("google.protobuf.Any").unwrap();
        for (bytes, error) in [
            (&b"\x0a\x05ab"[..], WireError::Truncated),
            (b"\x0b", WireError::Malformed),
            (b"\x00\x00", WireError::Malformed),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", WireError::Malformed),
        ] {
            assert_eq!(Group::parse(any, bytes).unwrap_err(), error, "{bytes:?}");
        }
    }
}
