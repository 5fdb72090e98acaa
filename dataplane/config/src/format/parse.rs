//! From text to parts: `%COMMAND(PARAMETERS):LENGTH%`, `%%` and everything between.

use super::command::{self, Command};
use super::{FormatError, Part};

/// Most operators and texts of one format.
const PARTS_MAX: usize = 4096;

pub(super) fn parts(text: &str) -> Result<Vec<Part>, FormatError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(found) = text[at..].find('%').map(|i| at + i) {
        literal.push_str(&text[at..found]);
        if text[found + 1..].starts_with('%') {
            literal.push('%');
            at = found + 2;
            continue;
        }
        let (command, end) = split(text, found).ok_or_else(|| FormatError {
            position: found,
            message: format!(
                "Incorrect configuration: {text}. Couldn't find valid command at position {found}"
            ),
        })?;
        let operator =
            command::operator(&command).map_err(|message| FormatError { position: found, message })?;
        flush(&mut literal, &mut parts);
        parts.push(Part::Operator(operator));
        if parts.len() > PARTS_MAX {
            return Err(FormatError { position: found, message: format!("more than {PARTS_MAX} operators") });
        }
        at = end;
    }
    literal.push_str(&text[at..]);
    flush(&mut literal, &mut parts);
    Ok(parts)
}

fn flush(literal: &mut String, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal).into()));
    }
}

/// Splits the command that starts with the `%` at `start`; returns it with the position after its last `%`.
fn split(text: &str, start: usize) -> Option<(Command<'_>, usize)> {
    let rest = &text[start + 1..];
    let name_len =
        rest.bytes().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_').count();
    if name_len == 0 {
        return None;
    }
    let name = &rest[..name_len];
    let after = &rest[name_len..];
    let base = start + 1 + name_len;
    let Some(inside) = after.strip_prefix('(') else {
        let (max_len, used) = tail(after)?;
        return Some((Command { name, parameters: "", max_len }, base + used));
    };
    // Parameters end at the first `)` behind which the command can end: `%START_TIME(%Y)%`, `%REQ(a)b)%`.
    let line = &inside[..inside.find('\n').unwrap_or(inside.len())];
    line.match_indices(')').find_map(|(close, _)| {
        let (max_len, used) = tail(&inside[close + 1..])?;
        Some((Command { name, parameters: &inside[..close], max_len }, base + 1 + close + 1 + used))
    })
}

/// `:LENGTH%` or `%`, and how many bytes that is.
fn tail(text: &str) -> Option<(Option<usize>, usize)> {
    let Some(length) = text.strip_prefix(':') else {
        return text.starts_with('%').then_some((None, 1));
    };
    let digits = length.bytes().take_while(u8::is_ascii_digit).count();
    let max_len = length[..digits].parse().ok()?;
    length[digits..].starts_with('%').then_some((Some(max_len), digits + 2))
}
