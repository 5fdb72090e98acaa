//! The printed form of `google.protobuf` messages that are not objects of their fields.

use serde_json::{Map, Value};

use crate::print::{double, fields, message as print_message, single};
use crate::read_wkt::is_special;
use crate::schema::{Label, Message};
use crate::wire::{Group, Raw, WireError};

/// Prints the message if its type has a JSON form of its own.
pub(crate) fn message(message: Message, bytes: &[u8], depth: usize) -> Result<Option<Value>, WireError> {
    let Some(short) = message.name().strip_prefix("google.protobuf.") else {
        return Ok(None);
    };
    if !is_special(message) {
        return Ok(None);
    }
    let group = Group::parse(message, bytes)?;
    let first = |number| message.field(number).and_then(|field| group.get(field).first());
    let number = |field| first(field).map_or(0, Raw::bits).cast_signed();
    Ok(Some(match short {
        "Any" => {
            let url =
                first(1).map(|raw| String::from_utf8_lossy(raw.bytes()).into_owned()).unwrap_or_default();
            any_parts(&url, first(2).map_or(&[], Raw::bytes), depth)?
        }
        "Duration" => Value::String(duration(number(1), number(2) as i32)),
        "Timestamp" => Value::String(timestamp(number(1), number(2) as i32)),
        "FieldMask" => {
            let paths = message.field(1).map(|field| group.get(field)).unwrap_or_default();
            let names: Vec<_> =
                paths.iter().map(|raw| camel(&String::from_utf8_lossy(raw.bytes()))).collect();
            Value::String(names.join(","))
        }
        "Struct" => {
            fields(message, bytes, depth)?.remove("fields").unwrap_or_else(|| Value::Object(Map::new()))
        }
        "ListValue" => {
            fields(message, bytes, depth)?.remove("values").unwrap_or_else(|| Value::Array(Vec::new()))
        }
        "Value" => value(&group, depth)?,
        _ => wrapper(message, &group, depth)?,
    }))
}

fn wrapper(message: Message, group: &Group<'_>, depth: usize) -> Result<Value, WireError> {
    let Some(field) = message.field(1).filter(|field| field.label() != Label::Repeated) else {
        return Ok(Value::Null);
    };
    match group.get(field).first() {
        Some(raw) => single(field.kind(), raw, depth),
        None => single(field.kind(), &crate::read_scalar::zero(field.kind()), depth),
    }
}

fn value(group: &Group<'_>, depth: usize) -> Result<Value, WireError> {
    match group.fields.first() {
        Some((field, values)) => match (field.number(), values.first()) {
            (2, Some(raw)) => Ok(double(f64::from_bits(raw.bits()))),
            (_, Some(raw)) => single(field.kind(), raw, depth),
            (_, None) => Ok(Value::Null),
        },
        None => Ok(Value::Null),
    }
}

/// An `Any` as an object with `@type`; an unknown type keeps its bytes under `value`.
pub(crate) fn any_parts(url: &str, bytes: &[u8], depth: usize) -> Result<Value, WireError> {
    let mut map = Map::new();
    if url.is_empty() && bytes.is_empty() {
        return Ok(Value::Object(map));
    }
    map.insert("@type".into(), url.into());
    match Message::by_type_url(url) {
        None => {
            map.insert("value".into(), base64(bytes).into());
        }
        Some(inner) if is_special(inner) => {
            map.insert("value".into(), print_message(inner, bytes, depth + 1)?);
        }
        Some(inner) => match print_message(inner, bytes, depth + 1)? {
            Value::Object(inner) => map.extend(inner),
            other => {
                map.insert("value".into(), other);
            }
        },
    }
    Ok(Value::Object(map))
}

/// Standard alphabet, padded.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << ((3 - chunk.len()) * 8);
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

fn duration(seconds: i64, nanos: i32) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    format!("{sign}{}{}s", seconds.unsigned_abs(), fraction(nanos.unsigned_abs()))
}

/// No digits, or 3, 6 or 9 of them.
fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        n if n % 1_000_000 == 0 => format!(".{:03}", n / 1_000_000),
        n if n % 1000 == 0 => format!(".{:06}", n / 1000),
        n => format!(".{n:09}"),
    }
}

fn timestamp(seconds: i64, nanos: i32) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{}Z",
        fraction(nanos.unsigned_abs())
    )
}

fn camel(snake: &str) -> String {
    let mut out = String::with_capacity(snake.len());
    let mut upper = false;
    for c in snake.chars() {
        match (c, upper) {
            ('_', _) => upper = true,
            (c, true) => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_base64() {
        assert_eq!(duration(0, 250_000_000), "0.250s");
        assert_eq!(duration(-1, -1), "-1.000000001s");
        assert_eq!(duration(15, 0), "15s");
        assert_eq!(timestamp(1_709_208_000, 500_000_000), "2024-02-29T12:00:00.500Z");
        assert_eq!(timestamp(-1, 0), "1969-12-31T23:59:59Z");
        assert_eq!([base64(b""), base64(b"a"), base64(b"ab"), base64(b"abc")], ["", "YQ==", "YWI=", "YWJj"]);
    }
}
