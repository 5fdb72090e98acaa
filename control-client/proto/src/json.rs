//! JSON text as Envoy's parser takes it: besides RFC 8259 it allows single quotes, bare keys, trailing commas
//! and raw control characters in strings. A key that stands twice is refused, because readers disagree on it.

use std::fmt;

use serde_json::{Map, Number, Value};

/// Text that is no JSON or YAML document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// What is wrong, in one line.
    pub message: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// Deepest nesting of objects and lists.
pub(crate) const DEPTH_MAX: usize = 100;

/// Parses one document.
///
/// # Errors
/// The first place that is not JSON.
pub fn parse(text: &str) -> Result<Value, SyntaxError> {
    let mut parser = Parser { text, at: 0 };
    parser.skip_space();
    if parser.at == text.len() {
        return Err(parser.error("unexpected end of input"));
    }
    let value = parser.value(0)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.error("extraneous characters after end of JSON object"));
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, message: impl Into<String>) -> SyntaxError {
        let before = self.text.get(..self.at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        SyntaxError { line, column, message: message.into() }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        match self.peek() {
            Some('{') => self.object(depth),
            Some('[') => self.list(depth),
            Some('"' | '\'') => self.string().map(Value::String),
            Some('-' | '0'..='9') => self.number(),
            Some('a'..='z') => self.word(),
            Some(c) => Err(self.error(format!("unexpected character: {c:?}"))),
            None => Err(self.error("unexpected end of input")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.bump();
        let mut map = Map::new();
        loop {
            self.skip_space();
            if self.eat('}') {
                return Ok(Value::Object(map));
            }
            let key = match self.peek() {
                Some('"' | '\'') => self.string()?,
                _ => self.bare_key()?,
            };
            self.skip_space();
            if !self.eat(':') {
                return Err(self.error("expected ':'"));
            }
            self.skip_space();
            let value = self.value(depth + 1)?;
            if map.contains_key(&key) {
                return Err(self.error(format!("the key {key:?} stands twice")));
            }
            map.insert(key, value);
            self.comma('}')?;
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.bump();
        let mut list = Vec::new();
        loop {
            self.skip_space();
            if self.eat(']') {
                return Ok(Value::Array(list));
            }
            list.push(self.value(depth + 1)?);
            self.comma(']')?;
        }
    }

    fn comma(&mut self, end: char) -> Result<(), SyntaxError> {
        self.skip_space();
        match self.eat(',') || self.peek() == Some(end) {
            true => Ok(()),
            false => Err(self.error("expected ','")),
        }
    }

    fn bare_key(&mut self) -> Result<String, SyntaxError> {
        let rest = self.rest();
        let len =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))).unwrap_or(rest.len());
        let key = rest.get(..len).filter(|k| !k.is_empty() && !k.starts_with(|c: char| c.is_ascii_digit()));
        let key = key.ok_or_else(|| self.error("expected a key"))?.to_owned();
        self.at += len;
        Ok(key)
    }

    fn word(&mut self) -> Result<Value, SyntaxError> {
        for (word, value) in
            [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
        {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error("expected true, false or null"))
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let rest = self.rest();
        let len =
            rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let text = rest.get(..len).unwrap_or_default();
        let digits = text.trim_start_matches('-');
        if digits.len() > 1
            && digits.starts_with('0')
            && digits.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
        {
            return Err(self.error("number cannot have extraneous leading zero"));
        }
        let number: Option<Number> = serde_json::from_str(text).ok();
        let number = number.ok_or_else(|| self.error(format!("invalid number: '{text}'")))?;
        self.at += len;
        Ok(Value::Number(number))
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let quote = self.bump();
        let mut out = String::new();
        loop {
            match self.bump() {
                None => return Err(self.error("unexpected end of input in a string")),
                c if c == quote => return Ok(out),
                Some('\\') => out.push(self.escape()?),
                Some(c) => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        Ok(match self.bump() {
            Some(c @ ('"' | '\\' | '/' | '\'')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.unicode(),
            _ => return Err(self.error("invalid escape char")),
        })
    }

    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let high = self.hex4()?;
        let code = match high {
            0xd800..0xdc00 if self.rest().starts_with("\\u") => {
                self.at += 2;
                let low = self.hex4()?;
                let low = low.checked_sub(0xdc00).filter(|l| *l < 0x400);
                low.map(|low| 0x1_0000 + ((high - 0xd800) << 10) + low)
            }
            code => Some(code),
        };
        code.and_then(char::from_u32).ok_or_else(|| self.error("unpaired surrogate"))
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        let digits = self.rest().get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|d| u32::from_str_radix(d, 16).ok());
        let code = code.ok_or_else(|| self.error("expected four hexadecimal digits"))?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strict_and_lenient_documents_parse() {
        for (text, value) in [
            (r#" {"a":[1,-2.5e1,true,null,"x"]} "#, json!({"a":[1,-25.0,true,null,"x"]})),
            (r"{'node':{id:'a',},}", json!({"node":{"id":"a"}})),
            ("[18446744073709551615]", json!([u64::MAX])),
            (r#""\u00e9\ud83d\ude00\n\/""#, json!("é😀\n/")),
            ("\"a\tb\"", json!("a\tb")),
        ] {
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (text, place) in [
            ("", "line 1, column 1: unexpected end of input"),
            ("{\"a\":1\n \"b\":2}", "line 2, column 2: expected ','"),
            ("{} // x", "line 1, column 4: extraneous characters after end of JSON object"),
            ("[01]", "line 1, column 2: number cannot have extraneous leading zero"),
            (r#"{"a":1,"a":2}"#, "line 1, column 13: the key \"a\" stands twice"),
            (r#""\x""#, "line 1, column 4: invalid escape char"),
            (r#""\ud800""#, "line 1, column 8: unpaired surrogate"),
            ("[NaN]", "line 1, column 2: unexpected character: 'N'"),
            ("[1-]", "line 1, column 2: invalid number: '1-'"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), place, "{text}");
        }
        assert!(parse(&"[".repeat(5000)).is_err());
    }
}
