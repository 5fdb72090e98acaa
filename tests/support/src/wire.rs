//! A TCP stream with a look-ahead buffer that keeps every byte it received for the test to quote.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Why a message could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer closed before the first byte of a message: the ordinary end of a connection.
    Closed,
    /// The peer closed inside a message.
    Truncated(String),
    /// The peer reset the connection.
    Reset,
    /// Nothing arrived within the read timeout.
    Timeout,
    /// Another socket error.
    Io(io::ErrorKind),
    /// The bytes break a rule of HTTP/1.1 as the strict parser reads it.
    Grammar(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Truncated(at) => write!(f, "closed inside {at}"),
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timeout"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::Grammar(rule) => write!(f, "grammar: {rule}"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            kind => Self::Io(kind),
        }
    }
}

/// A grammar fault with this rule's name.
pub fn grammar<T>(rule: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Grammar(rule.into()))
}

/// The longest line the strict parser reads, far above any limit of a proxy.
const MAX_LINE: usize = 1 << 20;

/// One connection.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    record: Vec<u8>,
}

impl Wire {
    /// Wraps a connected stream; reads and writes give up after `patience`.
    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        // Failing to set an option would only make a test slower.
        let _ = stream.set_read_timeout(Some(patience));
        let _ = stream.set_write_timeout(Some(patience));
        let _ = stream.set_nodelay(true);
        Self { stream, buffer: Vec::new(), start: 0, record: Vec::new() }
    }

    /// The socket, for options and shutdown.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Bytes received and not yet consumed.
    pub fn ahead(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Consumed bytes since the last call.
    pub fn take_record(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.record)
    }

    /// Receives once; 0 at end of stream.
    pub fn fill(&mut self) -> Result<usize, Fault> {
        if self.start > 0 && self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        let mut chunk = [0u8; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn consume(&mut self, n: usize) -> Vec<u8> {
        let taken = self.buffer[self.start..self.start + n].to_vec();
        self.record.extend_from_slice(&taken);
        self.start += n;
        taken
    }

    /// True when the stream ended and nothing is left to read.
    pub fn at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.ahead().is_empty() && self.fill()? == 0)
    }

    /// One line without its CRLF. A bare CR or a bare LF is a grammar fault.
    pub fn line(&mut self, what: &str) -> Result<Vec<u8>, Fault> {
        let mut from = 0;
        loop {
            if let Some(at) = self.ahead()[from..].iter().position(|b| *b == b'\n') {
                let mut line = self.consume(from + at + 1);
                line.pop();
                if line.pop() != Some(b'\r') {
                    return grammar(format!("bare LF in {what}"));
                }
                if line.contains(&b'\r') {
                    return grammar(format!("bare CR in {what}"));
                }
                return Ok(line);
            }
            from = self.ahead().len();
            if from > MAX_LINE {
                return grammar(format!("endless line in {what}"));
            }
            if self.fill()? == 0 {
                return Err(Fault::Truncated(what.to_owned()));
            }
        }
    }

    /// Exactly `n` bytes.
    pub fn exact(&mut self, n: usize, what: &str) -> Result<Vec<u8>, Fault> {
        while self.ahead().len() < n {
            if self.fill()? == 0 {
                return Err(Fault::Truncated(what.to_owned()));
            }
        }
        Ok(self.consume(n))
    }

    /// Whatever is there, at least one byte; empty at end of stream.
    pub fn some(&mut self) -> Result<Vec<u8>, Fault> {
        if self.ahead().is_empty() && self.fill()? == 0 {
            return Ok(Vec::new());
        }
        let n = self.ahead().len();
        Ok(self.consume(n))
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Result<Vec<u8>, Fault> {
        let mut all = Vec::new();
        loop {
            let piece = self.some()?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stream.write_all(bytes).map_err(Fault::from)
    }

    /// Sends FIN and keeps reading.
    pub fn finish_sending(&self) {
        // The peer may already be gone, which is what the caller wants.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with RST instead of FIN.
    pub fn reset(self) {
        reset(&self.stream);
    }
}

/// Arms `stream` so that closing it sends RST, then shuts nothing down: the last owner closes.
pub fn reset(stream: &TcpStream) {
    // A socket that is already dead cannot be reset any more.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
