//! One field line: name, colon, value, CRLF (RFC 9112 section 5), shared by heads and trailers.

use memchr::memchr;

use crate::block;
use crate::header::HeaderId;
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

/// A line in the form that nearly all have: `name: value` with a name of letters, digits and `-`, one space, no tab and
/// no blank at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) name_len: usize,
    pub(crate) value_len: usize,
    /// The name has capital letters.
    pub(crate) capitals: bool,
    pub(crate) id: Option<HeaderId>,
}

impl Plain {
    /// Length of the line with its CRLF.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.name_len + self.value_len + ": \r\n".len()
    }
}

/// Where the colon of a plain name is looked for: what is looked at behind the last field must have a bound.
const NAME_BYTES_MAX: usize = 64;

/// The first line of `rest` if it is a [`Plain`] one. `None` says nothing: [`split`] is the judge of all others.
// Its parts are functions of their own: they need few registers, and the parser around them has none left.
#[inline]
pub(crate) fn plain(rest: &[u8]) -> Option<Plain> {
    let name_len = colon(rest)?;
    let (id, capitals) = match HeaderId::find(rest, name_len) {
        // A known name is one of letters, digits and `-`.
        Some((id, capitals)) => (Some(id), capitals),
        None => (None, unknown_name(rest, name_len)?),
    };
    let value_len = value_len(rest.get(name_len..)?)?;
    Some(Plain { name_len, value_len, capitals, id })
}

/// Where the first colon of a line may be.
#[inline(never)]
fn colon(rest: &[u8]) -> Option<usize> {
    // The end of the section: what follows is no name.
    if rest.first() == Some(&b'\r') {
        return None;
    }
    block::find(rest.get(..NAME_BYTES_MAX).unwrap_or(rest), block::colons)
}

/// Whether a name of letters, digits and `-` has capitals; `None` for others.
#[inline(never)]
fn unknown_name(rest: &[u8], len: usize) -> Option<bool> {
    let (mut at, mut raised) = (0, 0);
    while at < len {
        let word = block::load(rest, at)?;
        let inside = block::first_bytes(len - at);
        if block::not_name(word) & inside != 0 {
            return None;
        }
        raised |= block::raised(word) & inside;
        at += block::LEN;
    }
    (len > 0).then_some(raised != 0)
}

/// The length of a value behind `: ` at the start of `rest` if it has no blank at its ends, no tab, and CRLF behind it.
#[inline(never)]
fn value_len(rest: &[u8]) -> Option<usize> {
    let value = rest.strip_prefix(b": ")?;
    let len = block::find(value, block::controls)?;
    let [b'\r', b'\n', ..] = value.get(len..)? else { return None };
    // Before an empty value stands the space behind the colon.
    let last = rest.get(len + 1).filter(|_| len > 0);
    (value.first() != Some(&b' ') && last != Some(&b' ')).then_some(len)
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

/// The table of `token` decides for short values and where a word has a control byte, which HTAB is, too.
#[inline]
pub(crate) fn is_value(value: &[u8]) -> bool {
    block::none(value, block::controls) || token::all(value, VALUE)
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
            for at in 0..37 {
                let mut value = [b'a'; 37];
                value[at] = b;
                assert_eq!(is_value(&value), token::all(&value, VALUE), "{b:#x} at {at}");
            }
        }
    }

    /// What [`plain`] must say, from [`split`].
    fn plain_by_split(input: &[u8]) -> Option<Plain> {
        let Ok(Line::Field { name, value, line }) = split(input) else { return None };
        let simple = name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-') && !value.contains(&b'\t');
        let stored = line.len() == name.len() + value.len() + 4 && line[name.len() + 1] == b' ';
        (simple && stored && name.len() < NAME_BYTES_MAX).then(|| Plain {
            name_len: name.len(),
            value_len: value.len(),
            capitals: name.iter().any(u8::is_ascii_uppercase),
            id: HeaderId::lookup(&name.to_ascii_lowercase()),
        })
    }

    #[test]
    fn plain_lines_are_those_that_split_finds() {
        let lines: [&[u8]; 7] = [
            b"a: b\r\n\r\n",
            b"x-request-id: 5f9c6d2e-2c5b-4d1f\r\n\r\n",
            b"X-Envoy-Upstream-Rq-Timeout-Alt-Response: 0123456789abcdef0123\r\nnext: line\r\n",
            b"content-length: 0\r\n\r\n0123456789",
            b"cookie: \r\n0123456789abcdef",
            b"a-name-of-sixteen-and-sixteen-bytes: b c d\r\n",
            b"accept: */*\r\n\r\n",
        ];
        let mut found = 0;
        let mut check = |input: &[u8]| {
            let expected = plain_by_split(input);
            found += usize::from(expected.is_some());
            assert_eq!(plain(input), expected, "{}", input.escape_ascii());
        };
        for line in lines {
            for end in 0..=line.len() {
                check(&line[..end]);
            }
            for at in 0..line.len() {
                for b in 0..=255u8 {
                    let mut changed = line.to_vec();
                    changed[at] = b;
                    check(&changed);
                    changed = line.to_vec();
                    changed.insert(at, b);
                    check(&changed);
                    changed.insert(at, b);
                    check(&changed);
                }
            }
        }
        assert!(found > 10_000, "{found}");
    }
}
