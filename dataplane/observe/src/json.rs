//! JSON strings as Envoy writes them.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends a quoted string. Bytes that are no UTF-8 make every byte above 0x7f a `\u00XX`, as Envoy's
/// sanitiser does; control characters and quotes are always escaped, so no value can forge a line.
#[inline]
pub(crate) fn push_string(bytes: &[u8], out: &mut impl Sink) {
    if is_clean(bytes) {
        out.put(b"\"");
        out.put(bytes);
        out.put(b"\"");
    } else {
        push_escaped(bytes, out);
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = ONES * 0x80;

/// A word without control byte, quote, backslash and byte above 0x7f. Exact: below 0x80 no sum carries.
#[inline]
fn is_clean_word(word: &[u8; 8]) -> bool {
    let word = u64::from_le_bytes(*word);
    let low = word & !HIGH;
    let printable = low + ONES * (0x80 - 0x20);
    let no_quote = (low ^ (ONES * b'"' as u64)) + ONES * 0x7f;
    let no_backslash = (low ^ (ONES * b'\\' as u64)) + ONES * 0x7f;
    printable & no_quote & no_backslash & !word & HIGH == HIGH
}

/// True when every byte stands for itself in a JSON string.
#[inline]
fn is_clean(bytes: &[u8]) -> bool {
    match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().all(is_clean_word) && is_clean_word(last),
        None => bytes.iter().all(|b| matches!(b, 0x20..0x80) && !matches!(b, b'"' | b'\\')),
    }
}

fn push_escaped(bytes: &[u8], out: &mut impl Sink) {
    let utf8 = std::str::from_utf8(bytes).is_ok();
    out.put(b"\"");
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            0x00..=0x1f => b"",
            0x80.. if !utf8 => b"",
            _ => continue,
        };
        out.put(&bytes[plain..at]);
        plain = at + 1;
        match short {
            b"" => {
                let digits = [HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]];
                out.put(b"\\u00");
                out.put(&digits);
            }
            _ => out.put(short),
        }
    }
    out.put(&bytes[plain..]);
    out.put(b"\"");
}

/// Where text goes: a byte vector, or a string that takes only what is UTF-8.
pub(crate) trait Sink {
    /// Appends whole pieces of text.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for String {
    fn put(&mut self, bytes: &[u8]) {
        self.push_str(&String::from_utf8_lossy(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(bytes: &[u8]) -> String {
        let mut out = String::new();
        push_string(bytes, &mut out);
        out
    }

    #[test]
    fn clean_strings_need_no_escape() {
        for b in 0..=255u8 {
            for (len, at) in (1..20).flat_map(|len| (0..len).map(move |at| (len, at))) {
                let mut text = vec![b'a'; len];
                text[at] = b;
                let (mut fast, mut slow) = (Vec::new(), Vec::new());
                push_string(&text, &mut fast);
                push_escaped(&text, &mut slow);
                assert_eq!(fast, slow);
                assert_eq!(is_clean(&text), b.is_ascii() && slow.len() == len + 2, "{b:#x} at {at} of {len}");
            }
        }
    }

    #[test]
    fn strings_are_escaped_as_envoy_escapes_them() {
        assert_eq!(json(b"a\"b\\c\td"), r#""a\"b\\c\td""#);
        assert_eq!(json("café".as_bytes()), "\"café\"");
        assert_eq!(json(b"caf\xc3\xa9\xff"), r#""caf\u00c3\u00a9\u00ff""#);
        assert_eq!(json(b"\r\n\x01\x7f"), "\"\\r\\n\\u0001\x7f\"");
    }
}
