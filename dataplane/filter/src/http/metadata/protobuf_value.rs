//! A serialised `google.protobuf.Value`, as clients may put it into a field.

use millrace_base::{MetadataStruct, MetadataValue};

/// Deepest nesting of structs and lists.
const DEPTH_MAX: usize = 32;

/// What the bytes say; `None` when they say nothing, or not properly.
pub(super) fn parse(bytes: &[u8]) -> Option<MetadataValue> {
    value(bytes, 0)
}

/// One field of a message.
enum Field<'b> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'b [u8]),
}

fn value(mut rest: &[u8], depth: usize) -> Option<MetadataValue> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut found = None;
    while !rest.is_empty() {
        // Of several the last one counts.
        found = match field(&mut rest)? {
            (1, Field::Varint(_)) => Some(MetadataValue::Null),
            (2, Field::Fixed(bits)) => Some(MetadataValue::Number(f64::from_bits(bits))),
            (3, Field::Bytes(text)) => Some(MetadataValue::from(std::str::from_utf8(text).ok()?)),
            (4, Field::Varint(bit)) => Some(MetadataValue::Bool(bit != 0)),
            (5, Field::Bytes(fields)) => Some(MetadataValue::Struct(tree(fields, depth + 1)?)),
            (6, Field::Bytes(values)) => Some(MetadataValue::List(list(values, depth + 1)?)),
            _ => found,
        };
    }
    found
}

fn tree(mut rest: &[u8], depth: usize) -> Option<MetadataStruct> {
    let mut out = MetadataStruct::default();
    while !rest.is_empty() {
        let (1, Field::Bytes(mut entry)) = field(&mut rest)? else { continue };
        let (mut key, mut inner) = ("", &b""[..]);
        while !entry.is_empty() {
            match field(&mut entry)? {
                (1, Field::Bytes(bytes)) => key = std::str::from_utf8(bytes).ok()?,
                (2, Field::Bytes(bytes)) => inner = bytes,
                _ => {}
            }
        }
        out.insert(key, value(inner, depth).unwrap_or(MetadataValue::Null));
    }
    Some(out)
}

fn list(mut rest: &[u8], depth: usize) -> Option<Vec<MetadataValue>> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        if let (1, Field::Bytes(bytes)) = field(&mut rest)? {
            out.push(value(bytes, depth)?);
        }
    }
    Some(out)
}

/// The next field: its number and what it holds.
fn field<'b>(rest: &mut &'b [u8]) -> Option<(u64, Field<'b>)> {
    let tag = varint(rest)?;
    let number = tag >> 3;
    let held = match tag & 7 {
        0 => Field::Varint(varint(rest)?),
        1 => Field::Fixed(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Field::Bytes(take(rest, length)?)
        }
        5 => Field::Varint(u64::from(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))),
        _ => return None,
    };
    (number > 0).then_some((number, held))
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, later) = rest.split_at_checked(length)?;
    *rest = later;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, later) = rest.split_first()?;
        *rest = later;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_kind() {
        assert_eq!(parse(&[0x1a, 3, b'a', b'b', b'c']), Some("abc".into()));
        assert_eq!(parse(&[0x08, 0]), Some(MetadataValue::Null));
        assert_eq!(parse(&[0x20, 1]), Some(MetadataValue::Bool(true)));
        let number = [&[0x11][..], &1.5f64.to_le_bytes()].concat();
        assert_eq!(parse(&number), Some(MetadataValue::Number(1.5)));
        let inner = [0x2a, 9, 0x0a, 7, 0x0a, 1, b'k', 0x12, 2, 0x20, 1];
        let tree: MetadataStruct = [("k", MetadataValue::Bool(true))].into_iter().collect();
        assert_eq!(parse(&inner), Some(MetadataValue::Struct(tree)));
        let list = MetadataValue::List(vec![MetadataValue::Bool(false), "x".into()]);
        assert_eq!(parse(&[0x32, 9, 0x0a, 2, 0x20, 0, 0x0a, 3, 0x1a, 1, b'x']), Some(list));
        assert_eq!((parse(&[]), parse(&[0xff]), parse(&[0x1a, 9, b'a'])), (None, None, None));
    }

    #[test]
    fn nesting_has_an_end() {
        let mut bytes = vec![0x20, 1];
        for _ in 0..40 {
            let inner = [&[0x0a, bytes.len() as u8][..], &bytes].concat();
            bytes = [&[0x32, inner.len() as u8][..], &inner].concat();
            if bytes.len() > 120 {
                break;
            }
        }
        assert!(parse(&bytes).is_some());
        let mut deep = vec![0x20, 1];
        for _ in 0..40 {
            let inner = [&[0x0a][..], &length(deep.len()), &deep].concat();
            deep = [&[0x32][..], &length(inner.len()), &inner].concat();
        }
        assert_eq!(parse(&deep), None);
    }

    fn length(n: usize) -> Vec<u8> {
        if n < 0x80 { vec![n as u8] } else { vec![n as u8 | 0x80, (n >> 7) as u8] }
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let mut rng = millrace_base::Rng::new(4);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.below(24)).map(|_| rng.next_u64() as u8).collect();
            let _ = parse(&bytes);
        }
    }
}
