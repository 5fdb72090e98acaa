//! One field line: name, colon, value, CRLF (RFC 9112 section 5), shared by heads and trailers.

use memchr::memchr;

use crate::header::token::{self, CLASS, TOKEN, VALUE};

/// What stands at the start of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// No line feed yet.
    Incomplete,
    /// The empty line that ends the section.
    End,
    /// A field and its whole line with CRLF.
    Field { name: &'a [u8], value: &'a [u8], line: &'a [u8] },
}

/// Why a line is no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    /// Bare LF, folding, white space around the name, no colon, or a name that is no token.
    Field,
    /// A control byte in the value.
    Value,
}

/// Splits the first line of `input`. White space around the value is not part of it.
#[inline]
pub(crate) fn split(input: &[u8]) -> Result<Line<'_>, LineError> {
    let Some(lf) = memchr(b'\n', input) else { return Ok(Line::Incomplete) };
    let Some(line) = input[..lf].strip_suffix(b"\r") else { return Err(LineError::Field) };
    if line.is_empty() {
        return Ok(Line::End);
    }
    let name_len = line.iter().position(|b| CLASS[*b as usize] & TOKEN == 0).unwrap_or(line.len());
    if name_len == 0 || line.get(name_len) != Some(&b':') {
        return Err(LineError::Field);
    }
    let value = trim(&line[name_len + 1..]);
    if !is_value(value) {
        return Err(LineError::Value);
    }
    Ok(Line::Field { name: &line[..name_len], value, line: &input[..=lf] })
}

/// Removes OWS at both ends.
#[inline]
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Eight bytes at a time: true if one may be below 0x20 or DEL. HTAB is a false alarm.
#[inline]
fn suspicious(word: u64) -> bool {
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let del = word ^ (ONES * 0x7f);
    let del = del.wrapping_sub(ONES) & !del;
    (control | del) & HIGH != 0
}

/// The table of `token`, reached only for the words that look suspicious. The last word overlaps the one before it,
/// so that no byte is left over.
#[inline]
pub(crate) fn is_value(value: &[u8]) -> bool {
    let fine = |word: &[u8; 8]| !suspicious(u64::from_ne_bytes(*word)) || token::all(word, VALUE);
    match value.last_chunk::<8>() {
        Some(last) => value.as_chunks::<8>().0.iter().all(fine) && fine(last),
        None => token::all(value, VALUE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_split_and_trimmed() {
        let field = |input: &'static [u8]| match split(input) {
            Ok(Line::Field { name, value, line }) => (name, value, line.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!(field(b"A-b:\t c d \t\r\nrest"), (&b"A-b"[..], &b"c d"[..], 13));
        assert_eq!(field(b"a:\r\n"), (&b"a"[..], &b""[..], 4));
        assert_eq!(field(b"a: :b: \xff\r\n").1, b":b: \xff");
        assert_eq!(split(b"a: b\r"), Ok(Line::Incomplete));
        assert_eq!(split(b"\r\nx"), Ok(Line::End));
    }

    #[test]
    fn what_others_repair_is_refused() {
        for bad in [
            "a: b\n",
            "\n",
            " a: b\r\n",
            "\ta: b\r\n",
            "a : b\r\n",
            ": b\r\n",
            "a\r\n",
            "a b: c\r\n",
            "\r\r\n",
        ] {
            assert_eq!(split(bad.as_bytes()), Err(LineError::Field), "{bad:?}");
        }
        for bad in [
            "a: b\rc\r\n",
            "a: b\r\r\n",
            "a: \0\r\n",
            "a: 1234567\x7f\r\n",
            "a: \x0b\r\n",
            "a: 12345678\x01\r\n",
        ] {
            assert_eq!(split(bad.as_bytes()), Err(LineError::Value), "{bad:?}");
        }
    }

    #[test]
    fn the_fast_value_check_agrees_with_the_table() {
        for b in 0..=255u8 {
            for at in 0..17 {
                let mut value = [b'a'; 17];
                value[at] = b;
                assert_eq!(is_value(&value), token::all(&value, VALUE), "{b:#x} at {at}");
            }
        }
    }
}
