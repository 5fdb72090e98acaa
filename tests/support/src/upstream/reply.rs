//! What a scripted upstream does about one request: a list of plain steps.

use std::time::Duration;

use crate::strict::latin1;

/// One action on the connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends exactly these bytes, well formed or not.
    Send(Vec<u8>),
    /// Waits.
    Sleep(Duration),
    /// Sends FIN and goes on reading.
    Finish,
    /// Closes with RST.
    Reset,
    /// Says nothing more until the peer gives up.
    Hang,
    /// Sends back every byte received from now on, until the peer's FIN.
    EchoTunnel,
}

/// What follows the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Read on: the body if this answered a head, then the next request.
    Next,
    /// Close with FIN.
    Close,
    /// After an interim reply to a head: read the body and ask the script again.
    Continue,
}

/// The scripted answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Done in order.
    pub steps: Vec<Step>,
    /// Done last.
    pub then: Then,
}

impl Reply {
    /// No steps yet; keeps the connection.
    pub fn new() -> Self {
        Self { steps: Vec::new(), then: Then::Next }
    }

    /// These exact bytes.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::new().send(bytes)
    }

    /// 200 with a text body by length.
    pub fn ok(body: &str) -> Self {
        Self::bytes(200, body.as_bytes())
    }

    /// An empty response with this status (204 and 304 without a length).
    pub fn status(status: u16) -> Self {
        Self::bytes(status, b"")
    }

    /// A response by length.
    pub fn bytes(status: u16, body: &[u8]) -> Self {
        Self::with(status, &[], body)
    }

    /// A response by length with extra header fields.
    pub fn with(status: u16, fields: &[(&str, &str)], body: &[u8]) -> Self {
        let mut head = head(status, fields);
        if !matches!(status, 204 | 304) {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        Self::raw([head.as_bytes(), body].concat())
    }

    /// A chunked response, one chunk for each piece, with trailer fields.
    pub fn chunked(fields: &[(&str, &str)], pieces: &[&[u8]], trailers: &[(&str, &str)]) -> Self {
        let mut out = head(200, fields);
        out.push_str("transfer-encoding: chunked\r\n\r\n");
        for piece in pieces {
            out.push_str(&format!("{:x}\r\n{}\r\n", piece.len(), latin1(piece)));
        }
        out.push_str("0\r\n");
        for (name, value) in trailers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        Self::raw(out.chars().map(|c| c as u8).collect::<Vec<u8>>())
    }

    /// A response whose body ends with the connection.
    pub fn until_close(body: &[u8]) -> Self {
        Self::raw([head(200, &[]).as_bytes(), b"connection: close\r\n\r\n", body].concat()).then(Then::Close)
    }

    /// Switches protocols, then echoes.
    pub fn websocket() -> Self {
        let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
        Self::raw(head(101, &upgrade) + "\r\n").step(Step::EchoTunnel)
    }

    /// Closes with RST.
    pub fn reset() -> Self {
        Self::new().step(Step::Reset)
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self::new().step(Step::Hang)
    }

    /// Closes with FIN without answering.
    pub fn close() -> Self {
        Self::new().then(Then::Close)
    }

    /// Appends bytes to send.
    #[must_use]
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref().to_vec();
        self.step(Step::Send(bytes))
    }

    /// Appends a step.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Waits before everything else.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.steps.insert(0, Step::Sleep(delay));
        self
    }

    /// Says what follows.
    #[must_use]
    pub fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self::new()
    }
}

fn head(status: u16, fields: &[(&str, &str)]) -> String {
    let mut out = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in fields {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out
}
