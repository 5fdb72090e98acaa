//! A client at the level of bytes: sends exactly what it is told and reads strictly.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::message::{self, Response};
use crate::wait::PATIENCE;
use crate::wire::{Fault, Wire};

/// How a connection came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN after these bytes.
    Closed(Vec<u8>),
    /// RST.
    Reset,
    /// Still open when patience ran out.
    Open,
}

/// One client connection.
pub struct Client {
    wire: Wire,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens there.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("connect to the proxy")
    }

    /// Connects, or says why not.
    pub fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        Ok(Self::over(stream))
    }

    /// Takes a connected socket.
    pub fn over(stream: TcpStream) -> Self {
        Self { wire: Wire::new(stream, PATIENCE) }
    }

    /// Connects from another loopback address than 127.0.0.1.
    ///
    /// # Panics
    /// When nobody listens there.
    #[track_caller]
    pub fn connect_from(source: &str, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        let source = SocketAddr::new(source.parse().expect("a source address"), 0);
        socket.bind(&source.into()).expect("bind the source address");
        socket.connect(&address.into()).expect("connect to the proxy");
        Self::over(socket.into())
    }

    /// Sends these bytes; a peer that is gone shows when reading.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.wire.send(bytes);
    }

    /// Sends these bytes, or says why not.
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.wire.send(bytes)
    }

    /// Sends a request with a `content-length` unless the body is empty.
    pub fn request(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) {
        self.send(&encode(method, target, fields, body));
    }

    /// Reads one response to a request with this method.
    pub fn response(&mut self, method: &str) -> Result<Response, Fault> {
        message::response(&mut self.wire, method)
    }

    /// One GET with `host: test.local` on this connection.
    ///
    /// # Panics
    /// When there is no well-formed response.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.get_with(target, &[])
    }

    /// As [`Client::get`] with more header fields.
    #[track_caller]
    pub fn get_with(&mut self, target: &str, fields: &[(&str, &str)]) -> Response {
        self.exchange("GET", target, fields, b"")
    }

    /// One request with `host: test.local` and its response.
    ///
    /// # Panics
    /// When there is no well-formed response.
    #[track_caller]
    pub fn exchange(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Response {
        let mut all = vec![("host", "test.local")];
        all.extend_from_slice(fields);
        self.request(method, target, &all, body);
        match self.response(method) {
            Ok(response) => response,
            Err(fault) => {
                assert_eq!(fault.to_string(), "a response", "{method} {target}");
                unreachable!("the assertion above always fails")
            }
        }
    }

    /// Reads until the end of the connection.
    pub fn end(&mut self) -> End {
        self.end_within(PATIENCE)
    }

    /// Reads until the end of the connection, or until `limit` passes without a byte.
    pub fn end_within(&mut self, limit: Duration) -> End {
        // Without a timeout the test would only take longer.
        let _ = self.wire.stream().set_read_timeout(Some(limit));
        let end = match self.wire.rest() {
            Ok(bytes) => End::Closed(bytes),
            Err(Fault::Timeout) => End::Open,
            Err(_) => End::Reset,
        };
        let _ = self.wire.stream().set_read_timeout(Some(PATIENCE));
        end
    }

    /// Sends FIN and keeps reading.
    pub fn finish_sending(&self) {
        self.wire.finish_sending();
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        self.wire.reset();
    }

    /// The wire, for reading bytes behind a tunnel.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

/// The bytes of a request; `content-length` is added when there is a body.
pub fn encode(method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\n");
    for (name, value) in fields {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        out.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    out.push_str("\r\n");
    [out.as_bytes(), body].concat()
}

/// The same request with a chunked body, one chunk for each piece, and trailers.
pub fn encode_chunked(
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    pieces: &[&[u8]],
    trailers: &[(&str, &str)],
) -> Vec<u8> {
    let mut all = fields.to_vec();
    all.push(("transfer-encoding", "chunked"));
    let mut out = encode(method, target, &all, b"");
    for piece in pieces {
        out.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        out.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}
