//! Messages of `google.protobuf` whose JSON is not an object of their fields.

use serde_json::{Map, Value};

use crate::number::{self, expected};
use crate::read::{JsonError, Reader};
use crate::schema::{Kind, Message};
use crate::wire::{self, Raw};

const PREFIX: &str = "google.protobuf.";

fn short(message: Message) -> Option<&'static str> {
    message.name().strip_prefix(PREFIX)
}

/// True when JSON `null` is a value of this kind, not its absence.
pub(crate) fn means_null(kind: Kind) -> bool {
    match kind {
        Kind::Message(message) => short(message) == Some("Value"),
        Kind::Enum(names) => names.name() == "google.protobuf.NullValue",
        _ => false,
    }
}

/// True when a JSON list is a value of this kind.
pub(crate) fn may_be_list(kind: Kind) -> bool {
    matches!(kind, Kind::Message(message) if matches!(short(message), Some("Value" | "ListValue")))
}

/// True when an `Any` holds this type under the key `value`.
pub(crate) fn is_special(message: Message) -> bool {
    const NAMES: &[&str] = &["Any", "Duration", "Timestamp", "FieldMask", "Struct", "Value", "ListValue"];
    message.is_wrapper() || short(message).is_some_and(|name| NAMES.contains(&name))
}

/// Reads `value` if the type has a JSON form of its own; false when it is an ordinary message.
pub(crate) fn message(
    reader: &mut Reader,
    message: Message,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<bool, JsonError> {
    match (short(message), value) {
        (Some("Any"), value) => any(reader, value, out)?,
        (Some("Duration"), Value::String(text)) => {
            let (seconds, nanos) = duration(text).map_err(|m| reader.error(m))?;
            seconds_and_nanos(seconds, nanos, out);
        }
        (Some("Timestamp"), Value::String(text)) => {
            let (seconds, nanos) = timestamp(text).ok_or_else(|| reader.error("not an RFC 3339 time"))?;
            seconds_and_nanos(seconds, nanos, out);
        }
        (Some("Duration" | "Timestamp"), Value::Object(_)) => return Ok(false),
        (Some("Duration" | "Timestamp"), other) => return Err(reader.error(expected("a string", other))),
        (Some("FieldMask"), Value::String(text)) => {
            for path in text.split(',').filter(|p| !p.is_empty()) {
                wire::put(out, 1, &Raw::Bytes(snake(path).into_bytes().into()));
            }
        }
        (Some("Struct"), Value::Object(map)) => struct_(reader, map, out)?,
        (Some("Struct"), other) => return Err(reader.error(expected("an object", other))),
        (Some("ListValue"), Value::Array(list)) => list_value(reader, list, out)?,
        (Some("ListValue"), other) => return Err(reader.error(expected("a list", other))),
        (Some("Value"), value) => value_(reader, value, out)?,
        // A wrapper is its value; the object form is an ordinary message.
        (Some(_), value) if message.is_wrapper() && !value.is_object() => {
            let map = Map::from_iter([("value".to_owned(), value.clone())]);
            reader.fields(message, &map, out)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn any(reader: &mut Reader, value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let Value::Object(map) = value else {
        return Err(reader.error(expected("an object", value)));
    };
    let url = match map.get("@type") {
        None if map.is_empty() => return Ok(()),
        None => return Err(reader.error("missing @type in Any")),
        Some(Value::String(url)) => url,
        Some(other) => return Err(reader.error(expected("a string in @type", other))),
    };
    if url.find('/').is_none_or(|at| at == 0) {
        return Err(
            reader.error(format!("@type must contain at least one / and a nonempty host; got: {url}"))
        );
    }
    let inner =
        Message::by_type_url(url).ok_or_else(|| reader.error(format!("could not find @type '{url}'")))?;
    let mut bytes = Vec::new();
    if is_special(inner) {
        if let Some(value) = map.get("value") {
            reader.within(|path| path.field("value"), |reader| reader.message(inner, value, &mut bytes))?;
        }
    } else {
        reader.message(inner, value, &mut bytes)?;
    }
    wire::put(out, 1, &Raw::Bytes(url.as_bytes().to_vec().into()));
    if !bytes.is_empty() {
        wire::put(out, 2, &Raw::Bytes(bytes.into()));
    }
    Ok(())
}

fn struct_(reader: &mut Reader, map: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), JsonError> {
    for (key, value) in map {
        let mut entry = Vec::new();
        wire::put(&mut entry, 1, &Raw::Bytes(key.as_bytes().to_vec().into()));
        let mut bytes = Vec::new();
        reader.within(|path| path.field(key.clone()), |reader| value_(reader, value, &mut bytes))?;
        wire::put(&mut entry, 2, &Raw::Bytes(bytes.into()));
        wire::put(out, 1, &Raw::Bytes(entry.into()));
    }
    Ok(())
}

fn list_value(reader: &mut Reader, list: &[Value], out: &mut Vec<u8>) -> Result<(), JsonError> {
    for (i, value) in list.iter().enumerate() {
        let mut bytes = Vec::new();
        reader.within(|path| path.index(i), |reader| value_(reader, value, &mut bytes))?;
        wire::put(out, 1, &Raw::Bytes(bytes.into()));
    }
    Ok(())
}

/// `google.protobuf.Value`: null 1, number 2, string 3, bool 4, struct 5, list 6.
fn value_(reader: &mut Reader, value: &Value, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut bytes = Vec::new();
    let (number, raw) = match value {
        Value::Null => (1, Raw::Varint(0)),
        Value::Number(_) => {
            let number = number::float(value).map_err(|m| reader.error(m))?;
            (2, Raw::Fixed64(number.to_bits()))
        }
        Value::String(text) => (3, Raw::Bytes(text.as_bytes().to_vec().into())),
        Value::Bool(b) => (4, Raw::Varint((*b).into())),
        Value::Object(map) => {
            struct_(reader, map, &mut bytes)?;
            (5, Raw::Bytes(bytes.into()))
        }
        Value::Array(list) => {
            list_value(reader, list, &mut bytes)?;
            (6, Raw::Bytes(bytes.into()))
        }
    };
    wire::put(out, number, &raw);
    Ok(())
}

fn seconds_and_nanos(seconds: i64, nanos: i32, out: &mut Vec<u8>) {
    if seconds != 0 {
        wire::put(out, 1, &Raw::Varint(seconds.cast_unsigned()));
    }
    if nanos != 0 {
        wire::put(out, 2, &Raw::Varint(i64::from(nanos).cast_unsigned()));
    }
}

const DURATION_SECONDS_MAX: i64 = 315_576_000_000;

fn duration(text: &str) -> Result<(i64, i32), &'static str> {
    let number = text.strip_suffix('s').ok_or("duration must end with a single 's'")?;
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |n| (true, n));
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    if whole.is_empty() || !whole.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("duration must start with an integer");
    }
    if !whole.bytes().all(|b| b.is_ascii_digit()) {
        return Err("duration must end with a single 's'");
    }
    let seconds: i64 = whole.parse().map_err(|_| "duration out of range")?;
    if seconds > DURATION_SECONDS_MAX {
        return Err("duration out of range");
    }
    let nanos = match fraction {
        Some(digits) => fraction_nanos(digits).ok_or("duration had bad nanoseconds")?,
        None => 0,
    };
    Ok(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

/// One to nine digits after the point.
fn fraction_nanos(digits: &str) -> Option<i32> {
    let valid = (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let value: i32 = valid.then(|| digits.parse().ok())??;
    Some(value * 10_i32.pow(9 - digits.len() as u32))
}

/// `2024-01-31T01:02:03.5Z` or with an offset, as seconds since 1970 and nanoseconds.
fn timestamp(text: &str) -> Option<(i64, i32)> {
    let (date, time) = text.split_once('T')?;
    let (time, offset) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => {
            let at = time.rfind(['+', '-'])?;
            let (hours, minutes) = time.get(at + 1..)?.split_once(':')?;
            let seconds = (digits(hours, 2)? * 60 + digits(minutes, 2)?) * 60;
            (time.get(..at)?, if time[at..].starts_with('-') { -seconds } else { seconds })
        }
    };
    let mut parts = date.splitn(3, '-');
    let (year, month, day) =
        (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let (clock, fraction) = time.split_once('.').map_or((time, None), |(c, f)| (c, Some(f)));
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) =
        (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
        || year < 1
    {
        return None;
    }
    let nanos = fraction.map_or(Some(0), fraction_nanos)?;
    Some((days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset, nanos))
}

fn digits(text: &str, len: usize) -> Option<i64> {
    (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Proleptic Gregorian calendar, years counted from March so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, value) in [
            ("0s", (0, 0)),
            ("0.25s", (0, 250_000_000)),
            ("-1.5s", (-1, -500_000_000)),
            ("1.000000001s", (1, 1)),
            ("315576000000s", (DURATION_SECONDS_MAX, 0)),
        ] {
            assert_eq!(duration(text), Ok(value), "{text}");
        }
        for text in [
            "1",
            "1S",
            "1ms",
            ".5s",
            "1.s",
            "1.0000000001s",
            "+1s",
            "-s",
            "s",
            "",
            "315576000001s",
            "1 s",
            "99999999999999999999s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timestamps() {
        assert_eq!(timestamp("1970-01-01T00:00:00Z"), Some((0, 0)));
        assert_eq!(timestamp("2024-02-29T12:00:00.5Z"), Some((1_709_208_000, 500_000_000)));
        assert_eq!(timestamp("2000-01-01T01:00:00+01:00"), Some((946_684_800, 0)));
        for text in [
            "",
            "2024",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "é-01-01T00:00:00Z",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }
}
