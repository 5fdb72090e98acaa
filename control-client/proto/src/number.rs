//! Numbers as proto3-JSON writes them: bare, or quoted, where Envoy also takes `1.0`, `1e3` and `0x10`.

use serde_json::Value;

/// An integer of any 64-bit type; the caller checks the range.
pub(crate) fn integer(value: &Value) -> Result<i128, String> {
    match value {
        Value::Number(n) => {
            let whole = n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
            whole.or_else(|| n.as_f64().and_then(whole_float)).ok_or_else(|| not_whole(n.as_f64()))
        }
        Value::String(text) => integer_text(text),
        other => Err(expected("a number", other)),
    }
}

fn integer_text(text: &str) -> Result<i128, String> {
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Err("non-number characters in quoted number".into());
    }
    if let Ok(number) = text.parse::<i128>() {
        return Ok(number);
    }
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let number = u64::from_str_radix(hex, 16).map_err(|_| invalid(text))?;
        return Ok(sign * i128::from(number));
    }
    let float: f64 = decimal(text).ok_or_else(|| invalid(text))?;
    whole_float(float).ok_or_else(|| not_whole(Some(float)))
}

fn whole_float(float: f64) -> Option<i128> {
    // Every integer of 64 bits lies below 2^65, and a float there converts without loss.
    (float.fract() == 0.0 && float.abs() < 3.7e19).then_some(float as i128)
}

fn not_whole(float: Option<f64>) -> String {
    match float {
        Some(f) if f.fract() != 0.0 && f.is_finite() => {
            "expected integer, but JSON number had fractional part".into()
        }
        _ => "JSON number out of range for int".into(),
    }
}

fn invalid(text: &str) -> String {
    format!("invalid number: '{text}'")
}

/// A decimal number; the words that Rust would take for infinity or NaN are not numbers here.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    plain.then(|| text.parse().ok()).flatten()
}

/// A floating-point number.
pub(crate) fn float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(n) => n.as_f64().ok_or_else(|| "number out of range".into()),
        Value::String(text) => match text.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            text => decimal(text).filter(|f| f.is_finite()).ok_or_else(|| invalid(text)),
        },
        other => Err(expected("a number", other)),
    }
}

/// The usual sentence for a value of the wrong JSON type.
pub(crate) fn expected(what: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("expected {what}, found {found}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn integers() {
        for (value, number) in [
            (json!(5), 5),
            (json!("5"), 5),
            (json!(1.0), 1),
            (json!("1e3"), 1000),
            (json!("0x1F"), 31),
            (json!("-0x1F"), -31),
            (json!("010"), 10),
            (json!(u64::MAX), i128::from(u64::MAX)),
            (json!("-9223372036854775808"), i128::from(i64::MIN)),
        ] {
            assert_eq!(integer(&value), Ok(number), "{value}");
        }
        for value in [
            json!(1.5),
            json!("1.5"),
            json!(""),
            json!(" 9"),
            json!("99_9"),
            json!(true),
            json!("nan"),
            json!(1e300),
        ] {
            assert!(integer(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn floats() {
        assert_eq!(float(&json!("0.5")), Ok(0.5));
        assert_eq!(float(&json!("-Infinity")), Ok(f64::NEG_INFINITY));
        assert!(float(&json!("NaN")).unwrap().is_nan());
        assert!(float(&json!("inf")).is_err() && float(&json!({})).is_err());
    }
}
