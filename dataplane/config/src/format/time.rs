//! Time formats of `%START_TIME(...)%`: `strftime` with Envoy's fractions.

/// A compiled time format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat {
    /// Pieces in order.
    pub parts: Vec<TimePart>,
}

/// One piece of a [`TimeFormat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimePart {
    /// Copied as it stands.
    Text(Box<str>),
    /// A `strftime` conversion character.
    Conversion(char),
    /// `%s`: Unix seconds.
    UnixSeconds,
    /// `%f` and `%Nf`: this many digits of the fraction, without the point.
    Fraction(u8),
    /// `%ENS`: seconds with this many digits of the fraction.
    SecondsFraction(u8),
    /// `%Ez`: the offset with a colon.
    OffsetColon,
    /// `%E4Y`: the year with at least four digits.
    Year4,
}

impl TimeFormat {
    /// Parses the parameter of a time operator. Newlines are refused, as Envoy does, and so are
    /// `strftime`'s padding and case flags (`%-d`); conversions that nobody knows are printed as they stand.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let (part, used) = conversion(after)?;
            match part {
                Some(part) => {
                    if !literal.is_empty() {
                        parts.push(TimePart::Text(std::mem::take(&mut literal).into()));
                    }
                    parts.push(part);
                }
                None => literal.push_str(if after.starts_with('%') { "%" } else { &rest[at..=at + used] }),
            }
            rest = &after[used..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(TimePart::Text(literal.into()));
        }
        Ok(Self { parts })
    }
}

/// The conversion behind a `%` and the bytes it takes; `None` for text.
fn conversion(after: &str) -> Result<(Option<TimePart>, usize), String> {
    let digits = after.bytes().take_while(|b| (b'1'..=b'9').contains(b)).count();
    let width = after[..digits].parse::<u8>().ok().filter(|_| digits == 1);
    let mut chars = after[digits..].chars();
    let Some(letter) = chars.next() else { return Ok((None, digits)) };
    let used = digits + letter.len_utf8();
    if letter == 'n' {
        return Err("Invalid header configuration. Format string contains newline.".to_owned());
    }
    let padded = digits > 0 && CONVERSIONS.contains(letter);
    if padded || (digits == 0 && "-_0^#".contains(letter)) {
        return Err(format!(
            "padding and case flags of time formats are not served yet: %{}",
            &after[..used]
        ));
    }
    Ok(match (letter, width) {
        ('f', None) if digits == 0 => (Some(TimePart::Fraction(9)), used),
        ('f', Some(width)) => (Some(TimePart::Fraction(width)), used),
        ('s', _) if digits <= 1 => (Some(TimePart::UnixSeconds), used),
        ('E', None) if digits == 0 => {
            extended(chars.as_str()).map_or((None, used), |(p, n)| (Some(p), used + n))
        }
        (letter, None) if digits == 0 && CONVERSIONS.contains(letter) => {
            (Some(TimePart::Conversion(letter)), used)
        }
        _ => (None, used),
    })
}

const CONVERSIONS: &str = "aAbBcCdDeFgGhHIjklmMprRStTuUVwWxXyYzZ";

fn extended(after: &str) -> Option<(TimePart, usize)> {
    let mut chars = after.chars();
    match (chars.next()?, chars.next()) {
        ('z', _) => Some((TimePart::OffsetColon, 1)),
        ('4', Some('Y')) => Some((TimePart::Year4, 2)),
        ('*', Some('S')) => Some((TimePart::SecondsFraction(9), 2)),
        ('*', Some('f')) => Some((TimePart::Fraction(9), 2)),
        (digit @ '1'..='9', Some('S')) => Some((TimePart::SecondsFraction(digit as u8 - b'0'), 2)),
        (digit @ '1'..='9', Some('f')) => Some((TimePart::Fraction(digit as u8 - b'0'), 2)),
        _ => None,
    }
}
