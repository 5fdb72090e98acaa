//! Log line patterns in spdlog syntax, compiled once.

use std::fmt::Write as _;

use serde_json::Value;

use super::clock::Calendar;
use super::level::Level;

/// Envoy's default.
pub const DEFAULT_FORMAT: &str = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v";

/// Widest padding that is taken from a pattern, as in spdlog.
const WIDTH_MAX: usize = 64;

/// Everything a line may print.
pub(super) struct Record<'a> {
    pub(super) time: Calendar,
    pub(super) thread: u64,
    pub(super) process: u32,
    pub(super) level: Level,
    pub(super) component: &'static str,
    pub(super) file: &'static str,
    pub(super) line: u32,
    pub(super) message: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Right,
    Left,
    Center,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Literal(String),
    Verb { verb: char, width: usize, align: Align, truncate: bool },
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Item>);

const VERBS: &str = "vtPnlLaAbhBcCYDxmdHIMSefFprRTXzE%@sg#!+_j^$u";

impl Pattern {
    /// Compiles `text`. What is no verb is printed as it stands. With `escaped` (`--log-format-escaped`)
    /// messages have their control characters escaped.
    pub fn new(text: &str, escaped: bool) -> Self {
        let mut items = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            let spec = &rest[at + 1..];
            match parse_verb(spec, escaped) {
                Some((item, used)) => {
                    if !literal.is_empty() {
                        items.push(Item::Literal(std::mem::take(&mut literal)));
                    }
                    items.push(item);
                    rest = &spec[used..];
                }
                // A lone percent sign at the end is dropped, as spdlog does.
                None if spec.is_empty() => rest = spec,
                None => {
                    literal.push('%');
                    rest = spec;
                }
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            items.push(Item::Literal(literal));
        }
        Self(items)
    }

    /// Compiles `application_log_config.log_format.json_format`: one JSON object a line. `%v` and `%_` would
    /// break the JSON and are refused in Envoy's words; `%j` is the message.
    pub fn json(format: &Value) -> Result<Self, String> {
        let text = format.to_string();
        for verb in ["%v", "%_"] {
            if text.contains(verb) {
                return Err(format!("Usage of {verb} is unavailable for JSON log formats"));
            }
        }
        Ok(Self::new(&text, false))
    }

    /// Appends one line, newline included.
    pub(super) fn render(&self, record: &Record<'_>, out: &mut String) {
        for item in &self.0 {
            match item {
                Item::Literal(text) => out.push_str(text),
                Item::Verb { verb, width: 0, .. } => verb_text(*verb, record, out),
                Item::Verb { verb, width, align, truncate } => {
                    let start = out.len();
                    verb_text(*verb, record, out);
                    pad(out, start, *width, *align, *truncate);
                }
            }
        }
        out.push('\n');
    }
}

/// The item behind a `%` and how many bytes it takes.
fn parse_verb(spec: &str, escaped: bool) -> Option<(Item, usize)> {
    let bytes = spec.as_bytes();
    let mut at = 0;
    let align = match bytes.first() {
        Some(b'-') => Align::Left,
        Some(b'=') => Align::Center,
        _ => Align::Right,
    };
    at += usize::from(align != Align::Right);
    let digits = bytes.iter().skip(at).take_while(|byte| byte.is_ascii_digit()).count();
    let width = spec.get(at..at + digits)?.parse::<usize>().unwrap_or(0).min(WIDTH_MAX);
    at += digits;
    let truncate = width > 0 && bytes.get(at) == Some(&b'!');
    at += usize::from(truncate);
    let verb = char::from(*bytes.get(at)?);
    let verb = if verb == 'v' && escaped { '_' } else { verb };
    VERBS.contains(verb).then(|| (Item::Verb { verb, width, align, truncate }, at + 1))
}

fn pad(out: &mut String, start: usize, width: usize, align: Align, truncate: bool) {
    let length = out.len() - start;
    if length >= width {
        if truncate && out.is_char_boundary(start + width) {
            out.truncate(start + width);
        }
        return;
    }
    let missing = width - length;
    let left = match align {
        Align::Right => missing,
        Align::Left => 0,
        Align::Center => missing / 2,
    };
    out.insert_str(start, &" ".repeat(left));
    out.push_str(&" ".repeat(missing - left));
}

fn verb_text(verb: char, record: &Record<'_>, out: &mut String) {
    let time = &record.time;
    // Writing to a String cannot fail.
    let _ = match verb {
        'v' => out.write_str(record.message),
        '_' => {
            escape_c(record.message, out);
            Ok(())
        }
        'j' => {
            escape_json(record.message, out);
            Ok(())
        }
        't' => write!(out, "{}", record.thread),
        'P' => write!(out, "{}", record.process),
        'n' => out.write_str(record.component),
        'l' => out.write_str(record.level.name()),
        'L' => out.write_str(record.level.letter()),
        'g' => out.write_str(record.file),
        's' => out.write_str(record.file.rsplit('/').next().unwrap_or("")),
        '#' => write!(out, "{}", record.line),
        '@' => write!(out, "{}:{}", record.file, record.line),
        '%' => out.write_char('%'),
        '+' => write!(out, "[{:04}-{:02}-{:02} ", time.year, time.month, time.day)
            .and_then(|()| {
                write!(
                    out,
                    "{:02}:{:02}:{:02}.{:03}] ",
                    time.hour,
                    time.minute,
                    time.second,
                    time.nanos / 1_000_000
                )
            })
            .and_then(|()| {
                let (name, level) = (record.component, record.level.name());
                write!(out, "[{name}] [{level}] [{}:{}] {}", record.file, record.line, record.message)
            }),
        _ => time_text(verb, time, out),
    };
}

fn time_text(verb: char, time: &Calendar, out: &mut String) -> std::fmt::Result {
    let short = |name: &'static str| name.get(..3).unwrap_or(name);
    let half = if time.hour < 12 { "AM" } else { "PM" };
    match verb {
        'Y' => write!(out, "{:04}", time.year),
        'C' => write!(out, "{:02}", time.year % 100),
        'm' => write!(out, "{:02}", time.month),
        'd' => write!(out, "{:02}", time.day),
        'H' => write!(out, "{:02}", time.hour),
        'I' => write!(out, "{:02}", time.hour12()),
        'M' => write!(out, "{:02}", time.minute),
        'S' => write!(out, "{:02}", time.second),
        'e' => write!(out, "{:03}", time.nanos / 1_000_000),
        'f' => write!(out, "{:06}", time.nanos / 1000),
        'F' => write!(out, "{:09}", time.nanos),
        'E' => write!(out, "{}", time.epoch_seconds),
        'p' => out.write_str(half),
        'r' => write!(out, "{:02}:{:02}:{:02} {half}", time.hour12(), time.minute, time.second),
        'R' => write!(out, "{:02}:{:02}", time.hour, time.minute),
        'T' | 'X' => write!(out, "{:02}:{:02}:{:02}", time.hour, time.minute, time.second),
        'D' | 'x' => write!(out, "{:02}/{:02}/{:02}", time.month, time.day, time.year % 100),
        'z' => out.write_str("+00:00"),
        'a' => out.write_str(short(time.weekday_name())),
        'A' => out.write_str(time.weekday_name()),
        'b' | 'h' => out.write_str(short(time.month_name())),
        'B' => out.write_str(time.month_name()),
        'c' => write!(
            out,
            "{} {} {} {:02}:{:02}:{:02} {:04}",
            short(time.weekday_name()),
            short(time.month_name()),
            time.day,
            time.hour,
            time.minute,
            time.second,
            time.year
        ),
        // Colours, and function names, which Rust does not give.
        _ => Ok(()),
    }
}

/// C escapes, as `--log-format-escaped` and `%_` print messages.
fn escape_c(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' => out.push_str("\\\""),
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            other if other.is_ascii() && !other.is_ascii_control() => out.push(other),
            other => {
                for byte in other.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\{byte:03o}");
                }
            }
        }
    }
}

/// The inside of a JSON string.
fn escape_json(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if other.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(other));
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pattern: &Pattern, message: &str) -> String {
        let record = Record {
            time: Calendar::new(1_795_402_453, 7_089_010),
            thread: 42,
            process: 41,
            level: Level::Warning,
            component: "upstream",
            file: "dataplane/proxy/src/run.rs",
            line: 12,
            message,
        };
        let mut out = String::new();
        pattern.render(&record, &mut out);
        out
    }

    fn with(pattern: &str) -> String {
        line(&Pattern::new(pattern, false), "hi")
    }

    #[test]
    fn the_default_and_the_formats_of_meshes() {
        let time = "2026-11-23";
        assert_eq!(
            with(DEFAULT_FORMAT),
            format!("[{time} 02:54:13.007][42][warning][upstream] [dataplane/proxy/src/run.rs:12] hi\n")
        );
        assert_eq!(
            with("%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"),
            format!(
                "{time}T02:54:13.007089Z\twarning\tenvoy upstream dataplane/proxy/src/run.rs:12\thi\tthread=42\n"
            )
        );
        assert_eq!(
            with("%Y-%m-%dT%T.%eZ%z [%l] envoy.%n(%t) %v"),
            format!("{time}T02:54:13.007Z+00:00 [warning] envoy.upstream(42) hi\n")
        );
    }

    #[test]
    fn every_verb() {
        assert_eq!(
            with("%L %P %s %@ %F %E %%"),
            "W 41 run.rs dataplane/proxy/src/run.rs:12 007089010 1795402453 %\n"
        );
        assert_eq!(
            with("%a %A %b %B %D %H %I %M %S %p"),
            "Mon Monday Nov November 11/23/26 02 02 54 13 AM\n"
        );
        assert_eq!(with("%r|%R|%c|%C"), "02:54:13 AM|02:54|Mon Nov 23 02:54:13 2026|26\n");
        assert_eq!(with("%^%l%$%!"), "warning\n");
        assert_eq!(
            with("%+"),
            "[2026-11-23 02:54:13.007] [upstream] [warning] [dataplane/proxy/src/run.rs:12] hi\n"
        );
        assert_eq!(with("%q 100% %"), "%q 100% \n");
    }

    #[test]
    fn padding() {
        assert_eq!(with("%9l|%-9l|%=9l|%3l|%3!l|"), "  warning|warning  | warning |warning|war|\n");
    }

    #[test]
    fn messages_are_escaped_on_demand() {
        let message = "a\"b\n\u{1}é";
        assert_eq!(line(&Pattern::new("%v", true), message), "a\\\"b\\n\\001\\303\\251\n");
        assert_eq!(line(&Pattern::new("%j", true), message), "a\\\"b\\n\\u0001é\n");
        let json = serde_json::json!({"msg": "%j", "level": "%l", "n": {"x": 5}});
        let text = line(&Pattern::json(&json).unwrap(), message);
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed, serde_json::json!({"msg": message, "level": "warning", "n": {"x": 5}}));
        let bad = serde_json::json!({"msg": "%v"});
        assert_eq!(Pattern::json(&bad).unwrap_err(), "Usage of %v is unavailable for JSON log formats");
    }
}
