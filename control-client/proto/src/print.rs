//! Wire bytes as proto3-JSON, as `config_dump` prints them: names as in the `.proto` file, enums by name, 64-bit
//! integers as text, default values left out. An `Any` of an unknown type keeps its bytes in base64; field numbers
//! that a known type does not have are left out, as protobuf's own printer does.

use serde_json::{Map, Number, Value};

use crate::print_wkt;
use crate::schema::{Field, Kind, Label, Message};
use crate::wire::{DEPTH_MAX, Group, Raw, WireError};

/// Prints the message that an `Any` holds, with its `@type` in front.
///
/// # Errors
/// Bytes that are not a message of that type.
pub fn to_json(type_url: &str, bytes: &[u8]) -> Result<Value, WireError> {
    print_wkt::any_parts(type_url, bytes, 0)
}

/// Prints a message whose type is known from its URL or full name, without `@type`.
///
/// # Errors
/// Bytes that are not a message of that type. An unknown type prints as base64.
pub fn message_to_json(type_url: &str, bytes: &[u8]) -> Result<Value, WireError> {
    match Message::by_type_url(type_url) {
        Some(known) => message(known, bytes, 0),
        None => Ok(Value::String(print_wkt::base64(bytes))),
    }
}

pub(crate) fn message(message: Message, bytes: &[u8], depth: usize) -> Result<Value, WireError> {
    if depth > DEPTH_MAX {
        return Err(WireError::TooDeep);
    }
    if let Some(special) = print_wkt::message(message, bytes, depth)? {
        return Ok(special);
    }
    Ok(Value::Object(fields(message, bytes, depth)?))
}

pub(crate) fn fields(message: Message, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, WireError> {
    let group = Group::parse(message, bytes)?;
    let mut map = Map::new();
    for (field, values) in &group.fields {
        if let Some(value) = field_value(*field, values, depth)? {
            map.insert(field.name().to_owned(), value);
        }
    }
    Ok(map)
}

fn field_value(field: Field, values: &[Raw<'_>], depth: usize) -> Result<Option<Value>, WireError> {
    match (field.label(), values) {
        (_, []) => Ok(None),
        (Label::Repeated, values) => {
            let list: Result<_, _> = values.iter().map(|raw| single(field.kind(), raw, depth)).collect();
            list.map(|list| Some(Value::Array(list)))
        }
        (Label::Map, values) => map_value(field, values, depth).map(Some),
        (Label::Implicit, [raw, ..]) if raw.bits() == 0 && raw.bytes().is_empty() => Ok(None),
        (_, [raw, ..]) => single(field.kind(), raw, depth).map(Some),
    }
}

fn map_value(field: Field, values: &[Raw<'_>], depth: usize) -> Result<Value, WireError> {
    let entry = field.message().ok_or(WireError::Malformed)?;
    let (Some(key_field), Some(value_field)) = (entry.field(1), entry.field(2)) else {
        return Err(WireError::Malformed);
    };
    let mut sorted = std::collections::BTreeMap::new();
    for raw in values {
        let group = Group::parse(entry, raw.bytes())?;
        let key = match group.get(key_field).first() {
            Some(raw) => single(key_field.kind(), raw, depth)?,
            None => single(key_field.kind(), &crate::read_scalar::zero(key_field.kind()), depth)?,
        };
        let value = match group.get(value_field).first() {
            Some(raw) => single(value_field.kind(), raw, depth)?,
            None => single(value_field.kind(), &crate::read_scalar::zero(value_field.kind()), depth)?,
        };
        sorted.insert(key.as_str().map_or_else(|| key.to_string(), str::to_owned), value);
    }
    Ok(Value::Object(sorted.into_iter().collect()))
}

pub(crate) fn single(kind: Kind, raw: &Raw<'_>, depth: usize) -> Result<Value, WireError> {
    let bits = raw.bits();
    Ok(match kind {
        Kind::Message(inner) => message(inner, raw.bytes(), depth + 1)?,
        Kind::String => Value::String(String::from_utf8_lossy(raw.bytes()).into_owned()),
        Kind::Bytes => Value::String(print_wkt::base64(raw.bytes())),
        Kind::Bool => Value::Bool(bits != 0),
        Kind::Double => double(f64::from_bits(bits)),
        Kind::Float => {
            // The shortest text of the narrow number, not the digits that widening invents.
            let narrow = f32::from_bits(bits as u32);
            double(narrow.to_string().parse().unwrap_or_else(|_| f64::from(narrow)))
        }
        Kind::Int64 | Kind::Sfixed64 => Value::String(bits.cast_signed().to_string()),
        Kind::Sint64 => Value::String(unzigzag(bits).to_string()),
        Kind::Uint64 | Kind::Fixed64 => Value::String(bits.to_string()),
        Kind::Int32 | Kind::Sfixed32 => Value::from((bits as u32).cast_signed()),
        Kind::Sint32 => Value::from(unzigzag(bits)),
        Kind::Uint32 | Kind::Fixed32 => Value::from(bits as u32),
        Kind::Enum(names) => {
            let number = (bits as u32).cast_signed();
            match names.name() {
                "google.protobuf.NullValue" => Value::Null,
                _ => names.value_name(number).map_or_else(|| number.into(), Into::into),
            }
        }
    })
}

fn unzigzag(bits: u64) -> i64 {
    (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()
}

/// A whole number prints without a fraction, as protobuf prints it; what JSON cannot say is a word.
pub(crate) fn double(number: f64) -> Value {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}
