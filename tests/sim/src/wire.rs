//! A strict HTTP/1.1 reader for the test's side, one message at a time, nothing forgiven, and the requests that
//! clients write. It shares no line with the proxy's own codec.

use millrace_base::Rng;

use crate::ledger::Request;
use crate::setup::Setup;

/// A head as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The first line.
    pub start: String,
    /// Names and values in order.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The value of a field that may occur once.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A field that holds a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// How often a field occurs.
    pub fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    }

    /// What the fields say about the body, for a message that may have one.
    ///
    /// # Errors
    /// Contradictory or repeated framing fields.
    pub fn framing(&self, otherwise: Framing) -> Result<Framing, String> {
        if self.count("content-length") + self.count("transfer-encoding") > 1 {
            return Err(format!("framing is given twice: {self:?}"));
        }
        match (self.get("content-length"), self.get("transfer-encoding")) {
            (Some(length), _) => {
                length.parse().map(Framing::Length).map_err(|_| format!("length {length:?}"))
            }
            (None, Some("chunked")) => Ok(Framing::Chunked),
            (None, Some(other)) => Err(format!("transfer coding {other:?}")),
            (None, None) => Ok(otherwise),
        }
    }
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By this number of bytes, or no body.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// What a reader found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A complete head; call [`Reader::body`] next, or read on for an interim response.
    Head(Head),
    /// The whole body of the last head.
    Body(Vec<u8>),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    ChunkLine,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
}

/// Reads one direction of a connection.
#[derive(Debug)]
pub struct Reader {
    bytes: Vec<u8>,
    at: usize,
    state: State,
    body: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { bytes: Vec::new(), at: 0, state: State::Head, body: Vec::new() }
    }
}

impl Reader {
    /// Takes received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.at));
        self.bytes.extend_from_slice(bytes);
    }

    /// True between messages with nothing received of the next one.
    pub fn is_idle(&self) -> bool {
        self.state == State::Head && self.at == self.bytes.len()
    }

    /// What was received and belongs to no message; the connection has become a tunnel.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.bytes.split_off(std::mem::take(&mut self.at));
        self.bytes.clear();
        rest
    }

    /// Bytes of the unfinished body so far.
    pub fn partial(&self) -> &[u8] {
        &self.body
    }

    /// Says how the body of the head just returned is delimited.
    pub fn body(&mut self, framing: Framing) {
        self.body.clear();
        self.state = match framing {
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkLine,
            Framing::UntilClose => State::UntilClose,
        };
    }

    /// The next head or body, or `None` while bytes are missing.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn next_item(&mut self) -> Result<Option<Item>, String> {
        loop {
            match self.state {
                State::Head => return self.head(),
                State::Length(0) => {
                    self.state = State::Head;
                    return Ok(Some(Item::Body(std::mem::take(&mut self.body))));
                }
                State::Length(left) => match self.copy(left) {
                    0 => return Ok(None),
                    count => self.state = State::Length(left - count),
                },
                State::Chunk(0) => self.state = State::ChunkEnd,
                State::Chunk(left) => match self.copy(left) {
                    0 => return Ok(None),
                    count => self.state = State::Chunk(left - count),
                },
                State::ChunkEnd => match self.line()? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.state = State::ChunkLine,
                    Some(line) => return Err(format!("after a chunk: {line:?}")),
                },
                State::ChunkLine => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    let size = u64::from_str_radix(&line, 16).map_err(|_| format!("chunk size {line:?}"))?;
                    self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                }
                State::Trailers => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    if line.is_empty() {
                        self.state = State::Length(0);
                    } else {
                        field(&line)?;
                    }
                }
                State::UntilClose => {
                    self.copy(u64::MAX);
                    return Ok(None);
                }
            }
        }
    }

    /// The connection ended: `Some` body if that completes a message, `None` if none was under way.
    ///
    /// # Errors
    /// The message is cut off.
    pub fn end(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self.state {
            State::UntilClose => Ok(Some(std::mem::take(&mut self.body))),
            State::Head if self.at == self.bytes.len() => Ok(None),
            _ => Err("cut off".into()),
        }
    }

    fn copy(&mut self, most: u64) -> u64 {
        let count = (self.bytes.len() - self.at).min(usize::try_from(most).unwrap_or(usize::MAX));
        self.body.extend_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        count as u64
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            let limit = 32 * 1024;
            return if rest.len() > limit { Err("a line without end".into()) } else { Ok(None) };
        };
        let line = rest[..end].strip_suffix(b"\r").ok_or("a line that ends with a bare LF")?;
        if line.iter().any(|b| !(b' '..=b'~').contains(b)) {
            return Err(format!("control bytes in {:?}", String::from_utf8_lossy(line)));
        }
        let line = String::from_utf8_lossy(line).into_owned();
        self.at += end + 1;
        Ok(Some(line))
    }

    fn head(&mut self) -> Result<Option<Item>, String> {
        let rest = &self.bytes[self.at..];
        if !rest.windows(4).any(|w| w == b"\r\n\r\n") {
            // Nobody sends us anything but HTTP.
            let plausible = rest.first().is_none_or(u8::is_ascii_uppercase);
            return if plausible { Ok(None) } else { Err(format!("no head: {}", rest[0])) };
        }
        let Some(start) = self.line()? else { return Ok(None) };
        let mut head = Head { start, fields: Vec::new() };
        while let Some(line) = self.line()?.filter(|l| !l.is_empty()) {
            head.fields.push(field(&line)?);
        }
        Ok(Some(Item::Head(head)))
    }
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) =
        line.split_once(": ").or_else(|| line.split_once(':')).ok_or("a field without colon")?;
    let token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(token) || value.trim() != value {
        return Err(format!("field {line:?}"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The body that belongs to a number.
pub fn fill(id: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng::new(id);
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        out.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    out.truncate(length);
    out
}

/// A body in the framing named, cut into chunks of at most `chunk` bytes.
pub fn framed(body: &[u8], framing: Framing, chunk: usize, trailers: bool, rng: &mut Rng) -> Vec<u8> {
    if framing != Framing::Chunked {
        return body.to_vec();
    }
    let mut out = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let count = (1 + rng.below(chunk as u64) as usize).min(rest.len());
        out.extend_from_slice(format!("{count:x}\r\n").as_bytes());
        out.extend_from_slice(&rest[..count]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[count..];
    }
    out.extend_from_slice(if trailers { b"0\r\nx-sum: 1\r\n\r\n" } else { b"0\r\n\r\n" });
    out
}

/// Head and body of a request; the body in chunks as it comes.
pub fn request(id: u64, request: &Request, setup: &Setup, rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
    let mut head = format!("{} /r/{id} HTTP/1.1\r\nhost: sim.test\r\nx-id: {id}\r\n", request.method);
    if matches!(request.method, "POST" | "PUT") {
        match request.framing {
            Framing::Length(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
            Framing::Chunked | Framing::UntilClose => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
    }
    if request.expects {
        head.push_str("expect: 100-continue\r\n");
    }
    if request.close {
        head.push_str("connection: close\r\n");
    }
    head.push_str("\r\n");
    let chunk = 1 + rng.below(setup.body_max as u64) as usize;
    let body = fill(!id, request.length);
    let body = match request.method {
        "POST" | "PUT" => framed(&body, request.framing, chunk, rng.chance(1, 4), rng),
        _ => Vec::new(),
    };
    (head.into_bytes(), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], split: usize) -> Result<Vec<u8>, String> {
        let mut reader = Reader::default();
        let mut out = Vec::new();
        for piece in text.chunks(split) {
            reader.push(piece);
            while let Some(item) = reader.next_item()? {
                match item {
                    Item::Head(head) => reader.body(head.framing(Framing::Length(0))?),
                    Item::Body(body) => out.extend_from_slice(&body),
                }
            }
        }
        assert!(reader.is_idle());
        Ok(out)
    }

    #[test]
    fn messages_are_read_however_they_are_split() {
        let mut rng = Rng::new(1);
        let body = fill(7, 100);
        let mut text =
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\nPOST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_vec();
        text.extend(framed(&body, Framing::Chunked, 30, true, &mut rng));
        for split in [1, 7, 1000] {
            assert_eq!(read(&text, split), Ok(body.clone()));
        }
    }

    #[test]
    fn sloppy_messages_are_refused() {
        for text in [
            "GET / HTTP/1.1\nhost: a\r\n\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            assert!(read(text.as_bytes(), 1000).is_err(), "{text:?}");
        }
    }
}
