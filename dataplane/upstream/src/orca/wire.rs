//! Just enough of protobuf's wire format and of base64 to read a report.

/// A value of a protobuf message.
pub(super) enum Wire<'b> {
    Double(f64),
    Bytes(&'b [u8]),
    Other,
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The next field: its number and its value.
pub(super) fn field<'b>(rest: &mut &'b [u8]) -> Option<(u64, Wire<'b>)> {
    let tag = varint(rest)?;
    let mut take = |count: usize| {
        let (head, after) = rest.split_at_checked(count)?;
        *rest = after;
        Some(head)
    };
    let value = match tag & 7 {
        1 => Wire::Double(f64::from_le_bytes(take(8)?.try_into().ok()?)),
        5 => take(4).map(|_| Wire::Other)?,
        0 => varint(rest).map(|_| Wire::Other)?,
        2 => {
            let count = usize::try_from(varint(rest)?).ok()?;
            let (head, after) = rest.split_at_checked(count)?;
            *rest = after;
            Wire::Bytes(head)
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

/// An entry of a map from names to numbers.
pub(super) fn entry_of(mut entry: &[u8]) -> Option<(&str, f64)> {
    let (mut name, mut number) = ("", 0.0);
    while !entry.is_empty() {
        match field(&mut entry)? {
            (1, Wire::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok()?,
            (2, Wire::Double(value)) => number = value,
            _ => {}
        }
    }
    Some((name, number))
}

/// RFC 4648 section 4, with or without padding.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let (mut out, mut bits, mut count) = (Vec::with_capacity(text.len() * 3 / 4), 0u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    (text.len() % 4 != 1).then_some(out)
}
