//! Whole HTTP/1.1 messages read from a [`Wire`] by the rules of [`crate::strict`].

use crate::strict::{self, Declared, Fields, latin1};
use crate::wire::{Fault, Wire, grammar};

/// How a body was delimited on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The message has no body by its nature or declares none.
    None,
    /// `content-length`.
    Length(u64),
    /// Chunked, with the size of every chunk.
    Chunked(Vec<usize>),
    /// A response that ends with its connection.
    UntilClose,
    /// The connection is no longer HTTP (101, or 2xx to CONNECT).
    Tunnel,
}

/// A request as received by the recording upstream.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Target as sent.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// Header fields.
    pub fields: Fields,
    /// Decoded body.
    pub body: Vec<u8>,
    /// Its delimitation.
    pub framing: Framing,
    /// Trailer fields.
    pub trailers: Fields,
    /// Every byte of the message.
    pub raw: Vec<u8>,
    /// Number of the upstream connection, from 0.
    pub connection: usize,
}

/// An interim (1xx) response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interim {
    /// 100, 102, 103.
    pub status: u16,
    /// Its fields.
    pub fields: Fields,
}

/// A response as received by a client.
#[derive(Clone, Debug)]
pub struct Response {
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// Final status.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Header fields.
    pub fields: Fields,
    /// Decoded body.
    pub body: Vec<u8>,
    /// Its delimitation.
    pub framing: Framing,
    /// Trailer fields.
    pub trailers: Fields,
    /// 1xx responses that came first.
    pub interim: Vec<Interim>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        latin1(&self.body)
    }

    /// The value of a field that occurs exactly once.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// True when the sender announced the end of the connection.
    pub fn closes(&self) -> bool {
        self.fields.all("connection").iter().any(|v| v.eq_ignore_ascii_case("close"))
    }
}

/// Reads a request's head; the body fields are still empty.
pub fn request_head(wire: &mut Wire, connection: usize) -> Result<(Request, Declared), Fault> {
    wire.take_record();
    if wire.at_end()? {
        return Err(Fault::Closed);
    }
    let (method, target, version) = strict::request_line(&wire.line("request line")?)?;
    let fields = strict::fields(wire, "request head")?;
    if version == "HTTP/1.1" {
        strict::host(&fields)?;
    }
    let declared = strict::declared(&fields, &version)?;
    let framing = Framing::None;
    let trailers = Fields::default();
    let body = Vec::new();
    let raw = wire.take_record();
    Ok((Request { method, target, version, fields, body, framing, trailers, raw, connection }, declared))
}

/// Reads the body that the head declared into `request`.
pub fn request_body(wire: &mut Wire, request: &mut Request, declared: Declared) -> Result<(), Fault> {
    (request.body, request.framing, request.trailers) = match declared {
        Declared::Nothing => return Ok(()),
        Declared::Length(n) => (length(wire, n)?, Framing::Length(n), Fields::default()),
        Declared::Chunked => chunked(wire)?,
    };
    request.raw.extend(wire.take_record());
    Ok(())
}

fn length(wire: &mut Wire, n: u64) -> Result<Vec<u8>, Fault> {
    match usize::try_from(n) {
        Ok(n) if n < (1 << 32) => wire.exact(n, "body by length"),
        _ => grammar(format!("a body of {n} octets")),
    }
}

fn chunked(wire: &mut Wire) -> Result<(Vec<u8>, Framing, Fields), Fault> {
    let (mut body, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let line = latin1(&wire.line("chunk size")?);
        let hex = !line.is_empty() && line.len() <= 16 && line.bytes().all(|b| b.is_ascii_hexdigit());
        let Some(size) = usize::from_str_radix(&line, 16).ok().filter(|n| hex && *n < (1 << 32)) else {
            return grammar(format!("chunk size {line:?}"));
        };
        if size == 0 {
            break;
        }
        body.extend(wire.exact(size, "chunk data")?);
        sizes.push(size);
        if !wire.line("end of chunk")?.is_empty() {
            return grammar("chunk data longer than its size");
        }
    }
    let trailers = strict::fields(wire, "trailers")?;
    for name in ["content-length", "transfer-encoding", "host", "connection", "te"] {
        if trailers.has(name) {
            return grammar(format!("trailer {name}"));
        }
    }
    Ok((body, Framing::Chunked(sizes), trailers))
}

/// Reads one response to a request with this method, interim responses included.
pub fn response(wire: &mut Wire, method: &str) -> Result<Response, Fault> {
    let mut interim = Vec::new();
    loop {
        wire.take_record();
        if wire.at_end()? {
            return Err(if interim.is_empty() { Fault::Closed } else { Fault::Truncated("interim".into()) });
        }
        let (version, status, reason) = strict::status_line(&wire.line("status line")?)?;
        let fields = strict::fields(wire, "response head")?;
        let declared = strict::declared(&fields, &version)?;
        if status < 200 && status != 101 {
            if declared != Declared::Nothing {
                return grammar("framing fields in an interim response");
            }
            interim.push(Interim { status, fields });
            continue;
        }
        let (body, framing, trailers) = response_body(wire, method, status, declared)?;
        return Ok(Response { version, status, reason, fields, body, framing, trailers, interim });
    }
}

fn response_body(
    wire: &mut Wire,
    method: &str,
    status: u16,
    declared: Declared,
) -> Result<(Vec<u8>, Framing, Fields), Fault> {
    let empty = |framing| Ok((Vec::new(), framing, Fields::default()));
    if status == 101 || (method == "CONNECT" && (200..300).contains(&status)) {
        return empty(Framing::Tunnel);
    }
    if status == 204 && declared != Declared::Nothing {
        return grammar("framing fields in a 204");
    }
    if method == "HEAD" || matches!(status, 204 | 304) {
        return empty(Framing::None);
    }
    match declared {
        Declared::Length(n) => Ok((length(wire, n)?, Framing::Length(n), Fields::default())),
        Declared::Chunked => chunked(wire),
        Declared::Nothing => Ok((wire.rest()?, Framing::UntilClose, Fields::default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    /// A wire whose peer has sent `bytes` and closed.
    fn wire(bytes: &[u8]) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.write_all(bytes).unwrap();
        drop(peer);
        Wire::new(listener.accept().unwrap().0, Duration::from_secs(5))
    }

    fn request(bytes: &[u8]) -> Result<Request, Fault> {
        let mut wire = wire(bytes);
        let (mut request, declared) = request_head(&mut wire, 0)?;
        request_body(&mut wire, &mut request, declared)?;
        Ok(request)
    }

    #[test]
    fn chunked_requests_keep_sizes_trailers_and_raw_bytes() {
        let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nX-T: 1\r\n\r\n";
        let read = request(bytes).unwrap();
        assert_eq!(read.body, b"abcd");
        assert_eq!(read.framing, Framing::Chunked(vec![3, 1]));
        assert_eq!(read.trailers.get("x-t"), Some("1"));
        assert_eq!(read.raw, bytes);
    }

    #[test]
    fn chunk_oddities_are_faults() {
        for tail in [
            "3;x\r\nabc\r\n0\r\n\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "2\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            "-1\r\n",
            "3\r\nabc\r\n0\r\nhost: b\r\n\r\n",
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{tail}");
            assert!(matches!(request(bytes.as_bytes()), Err(Fault::Grammar(_))), "{tail:?}");
        }
    }

    #[test]
    fn responses_of_every_framing() {
        let read = |method: &str, bytes: &[u8]| response(&mut wire(bytes), method);
        assert_eq!(read("GET", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap().body, b"hi");
        assert_eq!(read("GET", b"HTTP/1.0 200 OK\r\n\r\nhi").unwrap().framing, Framing::UntilClose);
        assert_eq!(
            read("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").unwrap().framing,
            Framing::None
        );
        let late = read("GET", b"HTTP/1.1 103 x\r\nlink: a\r\n\r\nHTTP/1.1 204 No\r\n\r\n").unwrap();
        assert_eq!((late.status, late.interim[0].status), (204, 103));
        assert!(matches!(
            read("GET", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi"),
            Err(Fault::Truncated(_))
        ));
        assert!(matches!(read("GET", b""), Err(Fault::Closed)));
        assert!(matches!(
            read("GET", b"HTTP/1.1 204 x\r\ncontent-length: 0\r\n\r\n"),
            Err(Fault::Grammar(_))
        ));
    }
}
