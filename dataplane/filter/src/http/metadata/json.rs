//! JSON as bodies have it: a text is checked as a whole, then values are looked up in it. No tree is built.
//!
//! What is JSON, and what is too deep or too large a number, is as in Envoy, so that the same bodies are read.

use std::borrow::Cow;

/// Deepest nesting.
const DEPTH_MAX: usize = 1000;

/// A value that was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'t> {
    Null,
    Bool(bool),
    Integer(i64),
    Double(f64),
    Text(Cow<'t, str>),
    List,
    /// Its fields can be looked up.
    Object(Fields<'t>),
}

/// The fields of an object that was checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fields<'t>(Reader<'t>);

impl<'t> Fields<'t> {
    /// The value of a field; of several with the name the last one's.
    pub(super) fn get(self, name: &str) -> Option<Json<'t>> {
        let (mut reader, mut found) = (self.0, None);
        reader.eat(b'{');
        reader.space();
        while reader.peek() == Some(b'"') {
            let wanted = reader.string()? == name;
            reader.colon()?;
            found = if wanted { Some(reader) } else { found };
            reader.skip()?;
            reader.space();
            reader.eat(b',');
            reader.space();
        }
        found?.value()
    }
}

/// The outermost value; `None` for a text that is no JSON.
pub(super) fn parse(text: &[u8]) -> Option<Json<'_>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = Reader { text, at: 0 };
    reader.skip()?;
    reader.space();
    // Envoy's reader takes a NUL for the end.
    matches!(reader.peek(), None | Some(0)).then_some(())?;
    Reader { text, at: 0 }.value()
}

fn closing(object: bool) -> u8 {
    if object { b'}' } else { b']' }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn colon(&mut self) -> Option<()> {
        self.space();
        self.eat(b':').then_some(())
    }

    /// The name of a field and its colon.
    fn name(&mut self) -> Option<()> {
        self.space();
        self.string()?;
        self.colon()
    }

    /// Passes over a value and all within; `None` when it is malformed.
    fn skip(&mut self) -> Option<()> {
        // What is open: true for an object. Not recursive, for the depth is the sender's.
        let mut open: Vec<bool> = Vec::new();
        loop {
            self.space();
            match self.peek()? {
                bracket @ (b'{' | b'[') => {
                    if open.len() == DEPTH_MAX {
                        return None;
                    }
                    self.at += 1;
                    self.space();
                    let object = bracket == b'{';
                    if !self.eat(closing(object)) {
                        open.push(object);
                        if object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                _ => _ = self.scalar()?,
            }
            if !self.goes_on(&mut open)? {
                return Some(());
            }
        }
    }

    /// Behind a value: true when another one follows, false when nothing is open any more.
    fn goes_on(&mut self, open: &mut Vec<bool>) -> Option<bool> {
        while let Some(object) = open.last().copied() {
            self.space();
            if self.eat(b',') {
                if object {
                    self.name()?;
                }
                return Some(true);
            }
            self.eat(closing(object)).then_some(())?;
            open.pop();
        }
        Some(false)
    }

    /// The value here; objects and lists without what is in them.
    fn value(mut self) -> Option<Json<'t>> {
        self.space();
        match self.peek()? {
            b'{' => Some(Json::Object(Fields(self))),
            b'[' => Some(Json::List),
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Option<Json<'t>> {
        match self.peek()? {
            b'"' => self.string().map(Json::Text),
            b't' => self.word(b"true", Json::Bool(true)),
            b'f' => self.word(b"false", Json::Bool(false)),
            b'n' => self.word(b"null", Json::Null),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8], value: Json<'t>) -> Option<Json<'t>> {
        self.text.get(self.at..)?.starts_with(word).then_some(())?;
        self.at += word.len();
        Some(value)
    }

    /// Digits; false when there is none.
    fn digits(&mut self) -> bool {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at > from
    }

    fn number(&mut self) -> Option<Json<'t>> {
        let from = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits().then_some(())?;
        }
        let whole = self.at;
        if self.eat(b'.') {
            self.digits().then_some(())?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            self.digits().then_some(())?;
        }
        let text = std::str::from_utf8(self.text.get(from..self.at)?).ok()?;
        if self.at == whole {
            match text.parse() {
                Ok(number) => return Some(Json::Integer(number)),
                // Envoy takes what is too large for `int64` but not for `uint64` for malformed.
                Err(_) if text.parse::<u64>().is_ok() => return None,
                Err(_) => {}
            }
        }
        text.parse().ok().filter(|number: &f64| number.is_finite()).map(Json::Double)
    }

    /// A string, from quote to quote.
    fn string(&mut self) -> Option<Cow<'t, str>> {
        self.eat(b'"').then_some(())?;
        let mut out = Cow::Borrowed("");
        loop {
            let rest = self.text.get(self.at..)?;
            let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
            let piece = std::str::from_utf8(&rest[..length]).ok()?;
            match out.is_empty() {
                true => out = Cow::Borrowed(piece),
                false => out.to_mut().push_str(piece),
            }
            self.at += length + 1;
            match rest[length] {
                b'"' => return Some(out),
                b'\\' => {
                    let letter = self.escape()?;
                    out.to_mut().push(letter);
                }
                _ => return None,
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += 1;
        Some(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.unit()?;
                if !(0xd800..0xdc00).contains(&unit) {
                    return char::from_u32(unit);
                }
                (self.eat(b'\\') && self.eat(b'u')).then_some(())?;
                let low = self.unit()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                char::from_u32(0x10000 + ((unit - 0xd800) << 10) + low)?
            }
            _ => return None,
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    }
}

#[cfg(test)]
mod tests;
