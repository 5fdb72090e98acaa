//! Scalar values of the JSON mapping.

use serde_json::Value;

use crate::number::{self, expected};
use crate::schema::Kind;
use crate::wire::Raw;

/// The value of an absent scalar.
pub(crate) fn zero(kind: Kind) -> Raw<'static> {
    match kind {
        Kind::String | Kind::Bytes | Kind::Message(_) => Raw::Bytes(Vec::new().into()),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Raw::Fixed64(0),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Raw::Fixed32(0),
        _ => Raw::Varint(0),
    }
}

/// Reads one scalar; the error is a sentence without a path.
pub(crate) fn scalar(kind: Kind, value: &Value) -> Result<Raw<'static>, String> {
    Ok(match kind {
        Kind::Double => Raw::Fixed64(number::float(value)?.to_bits()),
        Kind::Float => Raw::Fixed32(single_float(value)?.to_bits()),
        Kind::Int64 => Raw::Varint(signed(value, i64::MIN.into(), i64::MAX.into())?.cast_unsigned()),
        Kind::Int32 => Raw::Varint(signed(value, i32::MIN.into(), i32::MAX.into())?.cast_unsigned()),
        Kind::Uint64 => Raw::Varint(unsigned(value, u64::MAX)?),
        Kind::Uint32 => Raw::Varint(unsigned(value, u32::MAX.into())?),
        Kind::Fixed64 => Raw::Fixed64(unsigned(value, u64::MAX)?),
        Kind::Fixed32 => Raw::Fixed32(unsigned(value, u32::MAX.into())? as u32),
        Kind::Sfixed64 => Raw::Fixed64(signed(value, i64::MIN.into(), i64::MAX.into())?.cast_unsigned()),
        Kind::Sfixed32 => Raw::Fixed32(signed(value, i32::MIN.into(), i32::MAX.into())? as u32),
        Kind::Sint64 => Raw::Varint(zigzag(signed(value, i64::MIN.into(), i64::MAX.into())?)),
        Kind::Sint32 => Raw::Varint(zigzag(signed(value, i32::MIN.into(), i32::MAX.into())?)),
        Kind::Bool => Raw::Varint(boolean(value)?.into()),
        Kind::String => Raw::Bytes(text(value)?.as_bytes().to_vec().into()),
        Kind::Bytes => Raw::Bytes(base64(text(value)?).ok_or("not base64")?.into()),
        Kind::Enum(names) => match value {
            Value::Null => Raw::Varint(0),
            Value::String(name) if names.number(name).is_some() => {
                Raw::Varint(i64::from(names.number(name).unwrap_or(0)).cast_unsigned())
            }
            value => Raw::Varint(signed(value, i32::MIN.into(), i32::MAX.into())?.cast_unsigned()),
        },
        Kind::Message(_) => return Err(expected("a scalar", value)),
    })
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| expected("a string", value))
}

fn single_float(value: &Value) -> Result<f32, String> {
    let wide = number::float(value)?;
    let narrow = wide as f32;
    match narrow.is_infinite() && wide.is_finite() {
        true => Err("number out of range for float".into()),
        false => Ok(narrow),
    }
}

fn signed(value: &Value, min: i128, max: i128) -> Result<i64, String> {
    let number = number::integer(value)?;
    let number = Some(number).filter(|n| (min..=max).contains(n)).and_then(|n| i64::try_from(n).ok());
    number.ok_or_else(|| "integer out of range".into())
}

fn unsigned(value: &Value, max: u64) -> Result<u64, String> {
    let number = u64::try_from(number::integer(value)?).ok().filter(|n| *n <= max);
    number.ok_or_else(|| "integer out of range".into())
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

/// Words as Envoy's parser reads them from quoted text.
fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(b) => Ok(*b),
        Value::String(word) => match word.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "0" => Ok(false),
            _ => Err("expected 'true' or 'false'".into()),
        },
        other => Err(expected("'true' or 'false'", other)),
    }
}

/// Both alphabets, padded or not.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in digits.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn base64_of_both_alphabets() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("YQ==", b"a"),
            ("YWI", b"ab"),
            ("-_-_", b"\xfb\xff\xbf"),
            ("+/+/", b"\xfb\xff\xbf"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["Y", "Y===", "a b=", "YQ==YQ=="] {
            assert_eq!(base64(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_words_and_types() {
        assert_eq!(scalar(Kind::Uint32, &json!("4294967295")), Ok(Raw::Varint(u64::from(u32::MAX))));
        assert!(scalar(Kind::Uint32, &json!(4_294_967_296_u64)).is_err());
        assert!(scalar(Kind::Uint32, &json!(-1)).is_err());
        assert_eq!(scalar(Kind::Int32, &json!(-1)), Ok(Raw::Varint(u64::MAX)));
        assert_eq!(scalar(Kind::Sint32, &json!(-2)), Ok(Raw::Varint(3)));
        assert_eq!(scalar(Kind::Bool, &json!("Yes")), Ok(Raw::Varint(1)));
        assert!(scalar(Kind::Bool, &json!(1)).is_err());
        assert!(scalar(Kind::String, &json!(1)).is_err());
        assert!(scalar(Kind::Float, &json!(1e39)).is_err());
    }
}
