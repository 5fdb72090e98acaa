//! YAML text to the same tree as JSON, with the scalar rules of Envoy's loader: plain `yes`, `on`, `y` are
//! booleans, plain integers (decimal, `0x` or octal) are numbers, everything else is a string (a fraction too,
//! which the typed reader then takes as a quoted number). Tags are ignored; of equal keys the last one counts;
//! `<<` is an ordinary key; only the first document is read.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use crate::json::{DEPTH_MAX, SyntaxError};

/// Most nodes of a document after its aliases are expanded, so that a small file cannot fill the memory.
const NODES_MAX: usize = 2_000_000;

/// Parses the first document.
///
/// # Errors
/// The first place that is not YAML, an unknown alias, or a document beyond the limits.
pub fn parse(text: &str) -> Result<Value, SyntaxError> {
    let mut loader = Loader { parser: Parser::new_from_str(text), anchors: BTreeMap::new(), nodes: 0 };
    loop {
        match loader.next()? {
            (Event::StreamEnd, span) => return Err(error(&span.start, "the document is empty")),
            (Event::DocumentStart(_), _) => return loader.node(0),
            _ => {}
        }
    }
}

fn error(at: &Marker, message: impl Into<String>) -> SyntaxError {
    SyntaxError { line: at.line(), column: at.col() + 1, message: message.into() }
}

struct Loader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, (Value, usize)>,
    nodes: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(e)) => Err(error(e.marker(), e.info())),
            None => Err(SyntaxError { line: 1, column: 1, message: "unexpected end of input".into() }),
        }
    }

    fn node(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let (event, span) = self.next()?;
        self.value(event, span, depth)
    }

    fn value(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Value, SyntaxError> {
        let before = self.nodes;
        self.count(1, &span)?;
        if depth > DEPTH_MAX {
            return Err(error(&span.start, "nested too deeply"));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain
                    || tag.is_some_and(|t| t.handle.is_empty() && t.suffix == "!");
                (if quoted { Value::String(text.into_owned()) } else { plain(&text) }, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(id) => {
                let found = self.anchors.get(&id).cloned();
                let (value, size) =
                    found.ok_or_else(|| error(&span.start, "the referenced anchor is not defined"))?;
                self.count(size, &span)?;
                return Ok(value);
            }
            _ => return Err(error(&span.start, "a value was expected")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), self.nodes - before));
        }
        Ok(value)
    }

    fn count(&mut self, more: usize, span: &Span) -> Result<(), SyntaxError> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > NODES_MAX {
            return Err(error(&span.start, "the document has too many nodes"));
        }
        Ok(())
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(list)),
                (event, span) => list.push(self.value(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut map = Map::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Object(map)),
                (Event::Scalar(text, _, anchor, _), _) => {
                    if anchor != 0 {
                        self.anchors.insert(anchor, (Value::String(text.to_string()), 1));
                    }
                    text.into_owned()
                }
                (event, span) => match self.value(event, span, depth + 1)? {
                    Value::String(key) => key,
                    _ => return Err(error(&span.start, "a key must be a scalar")),
                },
            };
            let value = self.node(depth + 1)?;
            map.insert(key, value);
        }
    }
}

/// What a scalar without quotes means.
fn plain(text: &str) -> Value {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    if let Some(value) = boolean(text) {
        return Value::Bool(value);
    }
    match integer(text) {
        // Beyond 2^53 a double would lose digits, so it travels as text.
        Some(number) if number.unsigned_abs() <= 1 << 53 => Value::Number(number.into()),
        Some(number) => Value::String(number.to_string()),
        None => Value::String(text.to_owned()),
    }
}

fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let tail = text.get(1..)?;
    let one_case = text == lower || text == text.to_ascii_uppercase() || tail == tail.to_ascii_lowercase();
    match lower.as_str() {
        "y" | "yes" | "true" | "on" if one_case => Some(true),
        "n" | "no" | "false" | "off" if one_case => Some(false),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (16, hex),
        None if digits.len() > 1 && digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_follow_envoys_loader() {
        for (text, value) in [
            ("~", Value::Null),
            ("Yes", json!(true)),
            ("OFF", json!(false)),
            ("tRue", json!("tRue")),
            ("y", json!(true)),
            ("12", json!(12)),
            ("+12", json!(12)),
            ("0x10", json!(16)),
            ("010", json!(8)),
            ("08", json!("08")),
            ("1.50", json!("1.50")),
            ("0.25s", json!("0.25s")),
            ("9007199254740993", json!("9007199254740993")),
            ("18446744073709551615", json!("18446744073709551615")),
            ("é", json!("é")),
        ] {
            assert_eq!(parse(&format!("a: {text}")).unwrap(), json!({"a": value}), "{text}");
        }
    }

    #[test]
    fn quotes_blocks_anchors_and_documents() {
        let text = "a: '12'\nb: \"yes\"\nc: |\n  on\nd: &x {k: [1]}\ne: *x\ne2: !foo 3\n<<: {f: 1}\ng: 1\ng: 2\n---\nz: 1\n";
        let value = json!({
            "a": "12", "b": "yes", "c": "on\n", "d": {"k": [1]}, "e": {"k": [1]}, "e2": 3, "<<": {"f": 1}, "g": 2
        });
        assert_eq!(parse(text).unwrap(), value);
    }

    #[test]
    fn errors_name_the_line() {
        for text in ["a: [1\n", "a: *nope", "a: 1\n\tb: 2\n", "", "# only a comment\n"] {
            let error = parse(text).unwrap_err();
            assert!(error.line >= 1 && !error.message.is_empty(), "{text}: {error}");
        }
        assert_eq!(parse("a: 1\nb: *x\n").unwrap_err().line, 2);
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            text += &format!("a{i}: &a{i} [{refs}]\n");
        }
        assert!(parse(&text).unwrap_err().message.contains("too many nodes"));
        assert!(parse(&"[".repeat(5000)).is_err());
    }
}
