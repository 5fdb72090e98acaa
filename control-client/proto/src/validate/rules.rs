//! The rules of one field. Numbers and names of the rule fields are those of `validate.proto`.

use regex::Regex;

use crate::path::Path;
use crate::schema::{Field, Kind, Label};
use crate::validate::{Violation, fail};
use crate::wire::{self, Raw};

/// A rule as `(number, value)` pairs.
type Rule<'a> = Vec<(u32, Raw<'a>)>;

fn read(bytes: &[u8]) -> Rule<'_> {
    let mut rest = bytes;
    let mut rule = Vec::new();
    while let Ok((number, raw)) = wire::next(&mut rest) {
        rule.push((number, raw));
    }
    rule
}

fn flag(rule: &Rule<'_>, number: u32) -> bool {
    rule.iter().any(|(n, raw)| *n == number && raw.bits() != 0)
}

fn value(rule: &Rule<'_>, number: u32) -> Option<u64> {
    rule.iter().find(|(n, _)| *n == number).map(|(_, raw)| raw.bits())
}

const MESSAGE: u32 = 17;
const REPEATED: u32 = 18;
const MAP: u32 = 19;

/// Checks what stands in `field`; an absent scalar without presence counts as its default value.
pub(super) fn check(field: Field, values: &[Raw<'_>], path: &Path) -> Result<(), Violation> {
    if values.is_empty() && field.oneof().is_some() {
        // Another member was chosen, or none: that is the oneof's own rule.
        return Ok(());
    }
    let rules = read(field.rules());
    for (kind, raw) in &rules {
        let rule = read(raw.bytes());
        match (*kind, field.label()) {
            (MESSAGE, _) if flag(&rule, 2) && values.is_empty() => {
                return Err(fail(path, "value is required"));
            }
            (MESSAGE, _) => {}
            (REPEATED, _) => list(field, &rule, values, path)?,
            (MAP, _) => count(&rule, values.len(), "pairs", path)?,
            // `required` of Any (1) and Duration (1).
            (20 | 21, _) if values.is_empty() && flag(&rule, 1) => {
                return Err(fail(path, "value is required"));
            }
            (20, _) => {}
            (kind, Label::Implicit) => match values.first() {
                Some(raw) => one(kind, &rule, field.kind(), raw, path)?,
                None => one(kind, &rule, field.kind(), &crate::read_scalar::zero(field.kind()), path)?,
            },
            (kind, _) => {
                for raw in values {
                    one(kind, &rule, field.kind(), raw, path)?;
                }
            }
        }
    }
    Ok(())
}

fn count(rule: &Rule<'_>, count: usize, what: &str, path: &Path) -> Result<(), Violation> {
    if count == 0 && (flag(rule, 5) || flag(rule, 6)) {
        return Ok(());
    }
    if let Some(min) = value(rule, 1).filter(|min| (count as u64) < *min) {
        return Err(fail(path, format!("value must contain at least {min} {what}")));
    }
    match value(rule, 2).filter(|max| count as u64 > *max) {
        Some(max) => Err(fail(path, format!("value must contain no more than {max} {what}"))),
        None => Ok(()),
    }
}

fn list(field: Field, rule: &Rule<'_>, values: &[Raw<'_>], path: &Path) -> Result<(), Violation> {
    let sizes: Rule<'_> = rule.iter().filter(|(n, _)| matches!(n, 1 | 2)).cloned().collect();
    if !(values.is_empty() && flag(rule, 5)) {
        count(&sizes, values.len(), "item(s)", path)?;
    }
    if flag(rule, 3) {
        for (i, raw) in values.iter().enumerate() {
            if values[..i].contains(raw) {
                return Err(fail(&path.at(i), "repeated value must contain unique items"));
            }
        }
    }
    let items = rule.iter().filter(|(n, _)| *n == 4).flat_map(|(_, raw)| read(raw.bytes()));
    for (kind, item_rule) in items
        .map(|(kind, raw)| {
            (kind, read(raw.bytes()).into_iter().map(|(n, r)| (n, owned(&r))).collect::<Rule<'static>>())
        })
        .collect::<Vec<_>>()
    {
        for (i, raw) in values.iter().enumerate() {
            one(kind, &item_rule, field.kind(), raw, &path.at(i))?;
        }
    }
    Ok(())
}

fn owned(raw: &Raw<'_>) -> Raw<'static> {
    match raw {
        Raw::Varint(v) => Raw::Varint(*v),
        Raw::Fixed64(v) => Raw::Fixed64(*v),
        Raw::Fixed32(v) => Raw::Fixed32(*v),
        Raw::Bytes(bytes) => Raw::Bytes(bytes.to_vec().into()),
    }
}

/// One value against the rule of its kind; a wrapper is its value.
fn one(kind: u32, rule: &Rule<'_>, held: Kind, raw: &Raw<'_>, path: &Path) -> Result<(), Violation> {
    if let (Kind::Message(wrapper), true) = (held, kind < 16)
        && let Some(inner) = wrapper.field(1).filter(|_| wrapper.is_wrapper())
    {
        let fields = read(raw.bytes());
        let zero = crate::read_scalar::zero(inner.kind());
        let value = fields.iter().rev().find(|(n, _)| *n == 1).map_or(&zero, |(_, raw)| raw);
        return one(kind, rule, inner.kind(), value, path);
    }
    match kind {
        1..=12 => number(kind, rule, raw, path),
        13 => match value(rule, 1).filter(|wanted| (*wanted != 0) != (raw.bits() != 0)) {
            Some(wanted) => Err(fail(path, format!("value must equal {}", wanted != 0))),
            None => Ok(()),
        },
        14 => text(rule, raw.bytes(), path),
        15 => byte_string(rule, raw.bytes(), path),
        16 => enumerated(rule, held, raw, path),
        21 => duration(rule, raw.bytes(), path),
        _ => Ok(()),
    }
}

/// A number of rule kind 1..=12 in a form that compares: floats and integers both fit an `f64` well enough
/// for the limits that the files state (all below 2^53).
fn numeric(kind: u32, raw: &Raw<'_>) -> f64 {
    let bits = raw.bits();
    match kind {
        1 => f64::from(f32::from_bits(bits as u32)),
        2 => f64::from_bits(bits),
        3 | 4 | 11 | 12 => bits.cast_signed() as f64,
        7 | 8 => ((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()) as f64,
        _ => bits as f64,
    }
}

fn number(kind: u32, rule: &Rule<'_>, raw: &Raw<'_>, path: &Path) -> Result<(), Violation> {
    let found = numeric(kind, raw);
    if flag(rule, 8) && found == 0.0 {
        return Ok(());
    }
    let limits: Vec<(u32, f64)> = rule.iter().map(|(n, limit)| (*n, numeric(kind, limit))).collect();
    compare(&limits, 1, found, |limit| limit.to_string()).map_err(|reason| fail(path, reason))
}

/// `const`, `lt`, `lte`, `gt`, `gte`, `in`, `not_in` follow each other from number `first` on.
fn compare<T: PartialOrd + Copy>(
    limits: &[(u32, T)],
    first: u32,
    found: T,
    print: impl Fn(T) -> String,
) -> Result<(), String> {
    for (n, limit) in limits {
        let (holds, what) = match n.wrapping_sub(first) {
            0 => (found == *limit, "equal"),
            1 => (found < *limit, "be less than"),
            2 => (found <= *limit, "be less than or equal to"),
            3 => (found > *limit, "be greater than"),
            4 => (found >= *limit, "be greater than or equal to"),
            6 => (found != *limit, "not be"),
            _ => (true, ""),
        };
        if !holds {
            return Err(format!("value must {what} {}", print(*limit)));
        }
    }
    let allowed: Vec<T> = limits.iter().filter(|(n, _)| *n == first + 5).map(|(_, v)| *v).collect();
    if !allowed.is_empty() && !allowed.contains(&found) {
        let list: Vec<_> = allowed.into_iter().map(print).collect();
        return Err(format!("value must be in list [{}]", list.join(" ")));
    }
    Ok(())
}

fn duration(rule: &Rule<'_>, bytes: &[u8], path: &Path) -> Result<(), Violation> {
    let limits: Vec<(u32, i128)> =
        rule.iter().filter(|(n, _)| *n > 1).map(|(n, raw)| (*n, nanos(raw.bytes()))).collect();
    let print = |nanos: i128| format!("{}s", nanos as f64 / 1e9);
    compare(&limits, 2, nanos(bytes), print).map_err(|reason| fail(path, reason))
}

fn nanos(duration: &[u8]) -> i128 {
    let parts = read(duration);
    let part = |n| value(&parts, n).map_or(0, |v| i128::from(v.cast_signed()));
    part(1) * 1_000_000_000 + part(2)
}

fn enumerated(rule: &Rule<'_>, held: Kind, raw: &Raw<'_>, path: &Path) -> Result<(), Violation> {
    let found = (raw.bits() as u32).cast_signed();
    let Kind::Enum(names) = held else {
        return Ok(());
    };
    if flag(rule, 2) && names.value_name(found).is_none() {
        return Err(fail(path, "value must be one of the defined enum values"));
    }
    let listed =
        |number| rule.iter().any(|(n, raw)| *n == number && raw.bits() as u32 == found.cast_unsigned());
    if rule.iter().any(|(n, _)| *n == 3) && !listed(3) {
        return Err(fail(path, "value must be in the allowed list"));
    }
    if listed(4) {
        return Err(fail(path, format!("value must not be {}", names.value_name(found).unwrap_or("that"))));
    }
    Ok(())
}

fn text(rule: &Rule<'_>, bytes: &[u8], path: &Path) -> Result<(), Violation> {
    let found = String::from_utf8_lossy(bytes);
    if flag(rule, 26) && found.is_empty() {
        return Ok(());
    }
    let strict = value(rule, 25) != Some(0);
    for (n, raw) in rule {
        let wanted = String::from_utf8_lossy(raw.bytes());
        let reason = match n {
            2..=5 | 19 | 20 => length(*n, raw.bits(), &found),
            1 if found != wanted => Some(format!("value must equal {wanted}")),
            6 if !pattern(&wanted, &found) => Some(format!("value does not match regex pattern {wanted:?}")),
            7 if !found.starts_with(&*wanted) => Some(format!("value does not have prefix {wanted:?}")),
            8 if !found.ends_with(&*wanted) => Some(format!("value does not have suffix {wanted:?}")),
            9 if !found.contains(&*wanted) => Some(format!("value does not contain substring {wanted:?}")),
            23 if found.contains(&*wanted) => Some(format!("value contains substring {wanted:?}")),
            11 if found == wanted => Some("value must not be in list".to_owned()),
            24 if !well_known(raw.bits(), strict, &found) => {
                let name = if raw.bits() == 1 { "HTTP_HEADER_NAME" } else { "HTTP_HEADER_VALUE" };
                Some(format!("value does not match the {name} pattern"))
            }
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(fail(path, reason));
        }
    }
    let allowed: Vec<_> = rule.iter().filter(|(n, _)| *n == 10).map(|(_, raw)| raw.bytes()).collect();
    match allowed.is_empty() || allowed.contains(&bytes) {
        true => Ok(()),
        false => Err(fail(path, "value must be in the allowed list")),
    }
}

fn length(rule: u32, limit: u64, text: &str) -> Option<String> {
    let (chars, bytes) = (text.chars().count() as u64, text.len() as u64);
    match rule {
        2 if chars < limit => Some(format!("value length must be at least {limit} characters")),
        3 if chars > limit => Some(format!("value length must be at most {limit} characters")),
        4 if bytes < limit => Some(format!("value length must be at least {limit} bytes")),
        5 if bytes > limit => Some(format!("value length must be at most {limit} bytes")),
        19 if chars != limit => Some(format!("value length must be {limit} characters")),
        20 if bytes != limit => Some(format!("value length must be {limit} bytes")),
        _ => None,
    }
}

fn byte_string(rule: &Rule<'_>, bytes: &[u8], path: &Path) -> Result<(), Violation> {
    if flag(rule, 14) && bytes.is_empty() {
        return Ok(());
    }
    let len = bytes.len() as u64;
    for (n, raw) in rule {
        let limit = raw.bits();
        match n {
            2 if len < limit => {
                return Err(fail(path, format!("value length must be at least {limit} bytes")));
            }
            3 if len > limit => {
                return Err(fail(path, format!("value length must be at most {limit} bytes")));
            }
            13 if len != limit => return Err(fail(path, format!("value length must be {limit} bytes"))),
            _ => {}
        }
    }
    Ok(())
}

/// A pattern that this engine cannot compile forbids nothing; a test compiles every pattern of the schema.
fn pattern(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
}

/// `KnownRegex`: 1 header names, 2 header values; `strict` false forbids only NUL, CR and LF.
fn well_known(which: u64, strict: bool, text: &str) -> bool {
    match (which, strict) {
        (1, true) => {
            let name = text.strip_prefix(':').unwrap_or(text);
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_|~`".contains(&b))
        }
        (_, true) => text.bytes().all(|b| b == b'\t' || !(b < b' ' || b == 0x7f)),
        (_, false) => !text.contains(['\0', '\r', '\n']),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Message;

    #[test]
    fn every_rule_of_the_schema_is_one_that_we_check() {
        let mut seen = 0;
        for field in Message::all().filter(|m| !m.is_unchecked()).flat_map(Message::fields) {
            for (kind, raw) in read(field.rules()) {
                assert!(matches!(kind, 1..=22), "{}", field.name());
                for (n, rule) in read(raw.bytes()) {
                    seen += 1;
                    let known = match kind {
                        14 => !matches!(n, 12..=16 | 21 | 22),
                        15 => matches!(n, 2 | 3 | 13 | 14),
                        18 => matches!(n, 1..=5),
                        19 => matches!(n, 1..=6),
                        22 => false,
                        _ => true,
                    };
                    assert!(known, "{} uses rule {kind}.{n}", field.name());
                    if (kind, n) == (14, 6) {
                        let pattern = String::from_utf8(rule.bytes().to_vec()).unwrap();
                        assert!(Regex::new(&pattern).is_ok(), "{pattern}");
                    }
                }
            }
        }
        assert!(seen > 800, "{seen}");
    }

    #[test]
    fn header_names_and_values() {
        assert!(well_known(1, true, ":path") && well_known(1, true, "x-a_b"));
        assert!(!well_known(1, true, "") && !well_known(1, true, "a b") && !well_known(1, true, "a:b"));
        assert!(well_known(1, false, "a b") && !well_known(1, false, "a\n"));
        assert!(well_known(2, true, "a\tb") && !well_known(2, true, "a\u{1}"));
    }
}
