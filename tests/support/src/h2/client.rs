//! A client at the level of frames: sends exactly what it is told and reports what comes back.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::frame::{self, PREFACE};
use super::session::{End, Session};
use crate::strict::Fields;
use crate::wait::PATIENCE;

/// A complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// `:status`.
    pub status: u16,
    /// Its fields without `:status`.
    pub fields: Fields,
    /// All of DATA.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
    /// Interim responses.
    pub interim: Vec<(u16, Fields)>,
}

impl Response {
    /// The value of a field that occurs exactly once.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        crate::strict::latin1(&self.body)
    }
}

/// Why there is no complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// RST_STREAM with this code; with the status of the head, if one came before.
    Reset(u32, Option<u16>),
    /// The connection ended first.
    Ended(End, Vec<(u32, u32)>),
    /// Patience ran out.
    Timeout,
    /// The response breaks RFC 9113.
    Malformed(String),
}

/// A client connection.
pub struct Client {
    session: Session,
    next: u32,
}

impl Client {
    /// Connects, sends the preface with empty SETTINGS, and opens the connection's window wide.
    ///
    /// # Panics
    /// When nobody listens there.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::connect_with(address, &[]);
        client.session.grant_connection(1 << 24);
        client
    }

    /// As [`Client::connect`] with these settings and no more than the first window for the connection.
    #[track_caller]
    pub fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        Self::connect_silent(address, settings).greet(settings)
    }

    /// As [`Client::connect`] on a connected socket.
    pub fn over(socket: TcpStream) -> Self {
        let mut client = Self { session: Session::new(socket, &[]), next: 1 }.greet(&[]);
        client.session.grant_connection(1 << 24);
        client
    }

    fn greet(mut self, settings: &[(u16, u32)]) -> Self {
        self.session.send(&[PREFACE, &frame::settings(settings)].concat());
        self
    }

    /// Connects and sends nothing; `settings` are those that the caller will announce.
    #[track_caller]
    pub fn connect_silent(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).expect("connect to the proxy");
        Self { session: Session::new(socket, settings), next: 1 }
    }

    /// The connection below.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The next stream's id, which is then used up.
    pub fn next_id(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends a header block as it is on a new stream.
    pub fn open<N: AsRef<str>, V: AsRef<str>>(&mut self, fields: &[(N, V)], end: bool) -> u32 {
        let id = self.next_id();
        self.session.headers(id, fields, end);
        id
    }

    /// Sends the head of a request with `:authority: test.local` and these fields.
    pub fn head(&mut self, method: &str, path: &str, fields: &[(&str, &str)], end: bool) -> u32 {
        self.open(&head(method, path, fields), end)
    }

    /// Sends a whole request, with a `content-length` unless the body is empty.
    pub fn request(&mut self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> u32 {
        let len = body.len().to_string();
        let mut all = fields.to_vec();
        if !body.is_empty() {
            all.push(("content-length", &len));
        }
        let id = self.head(method, path, &all, body.is_empty());
        if !body.is_empty() {
            self.body(id, body, true);
        }
        id
    }

    /// Sends DATA within the windows, reading while it waits for them. Ends early when the stream or the connection
    /// does; returns what was sent.
    pub fn body(&mut self, id: u32, bytes: &[u8], end: bool) -> usize {
        self.body_within(id, bytes, end, PATIENCE)
    }

    /// As [`Client::body`], giving up when there is no window for `patience`.
    pub fn body_within(&mut self, id: u32, bytes: &[u8], end: bool, patience: Duration) -> usize {
        let mut sent = 0;
        if bytes.is_empty() {
            self.session.data(id, b"", end);
        }
        while sent < bytes.len() {
            let room = self.session.room(id).min(bytes.len() - sent);
            if room == 0 {
                let deadline = Instant::now() + patience;
                while self.session.room(id) == 0 {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let over = self.session.peek(id).is_some_and(|r| r.reset.is_some());
                    if over || self.session.read(left).is_none() {
                        return sent;
                    }
                }
                continue;
            }
            let last = sent + room == bytes.len();
            self.session.data(id, &bytes[sent..sent + room], end && last);
            if self.session.end.is_some() {
                return sent;
            }
            sent += room;
        }
        sent
    }

    /// Sends RST_STREAM.
    pub fn reset(&mut self, id: u32, code: u32) {
        self.session.send(&frame::rst_stream(id, code));
    }

    /// Waits for the end of a stream.
    ///
    /// # Errors
    /// How the response was lost.
    pub fn response(&mut self, id: u32) -> Result<Response, Lost> {
        let over = |s: &Session| s.peek(id).is_some_and(|r| r.ended || r.reset.is_some());
        let met = self.session.until(over);
        let received = self.session.received(id);
        // A reset with NO_ERROR behind the end only stops the request's body.
        if let Some(code) = received.reset.filter(|_| !received.ended) {
            return Err(Lost::Reset(code, status(received.blocks.last())));
        }
        if !met {
            return Err(match self.session.end {
                Some(end) => Lost::Ended(end, self.session.goaways.clone()),
                None => Lost::Timeout,
            });
        }
        assemble(received.blocks, received.body).map_err(Lost::Malformed)
    }

    /// Waits for the first final head on a stream.
    ///
    /// # Errors
    /// How it was lost.
    pub fn response_head(&mut self, id: u32) -> Result<u16, Lost> {
        let found = |s: &Session| {
            s.peek(id).and_then(|r| r.blocks.iter().find_map(|b| status(Some(b)).filter(|s| *s >= 200)))
        };
        let over = |s: &Session| s.peek(id).is_some_and(|r| r.reset.is_some());
        self.session.until(|s| found(s).is_some() || over(s));
        let reset = self.session.peek(id).and_then(|r| r.reset);
        found(&self.session).ok_or(match (reset, self.session.end) {
            (Some(code), _) => Lost::Reset(code, None),
            (None, Some(end)) => Lost::Ended(end, self.session.goaways.clone()),
            (None, None) => Lost::Timeout,
        })
    }

    /// One whole exchange.
    ///
    /// # Errors
    /// How the response was lost.
    pub fn exchange(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, Lost> {
        let id = self.request(method, path, fields, body);
        let response = self.response(id);
        self.session.forget(id);
        response
    }

    /// A GET that must be answered.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.exchange("GET", path, &[], b"").expect("a response")
    }

    /// True when a PING comes back.
    pub fn is_alive(&mut self) -> bool {
        let payload = *b"alive!??";
        let before = self.session.pongs.len();
        self.session.send(&frame::ping(&payload));
        self.session.until(|s| s.pongs.len() > before)
    }

    /// Fails when the peer broke a rule of RFC 9113.
    #[track_caller]
    pub fn assert_strict(&self) {
        assert!(self.session.faults.is_empty(), "{:#?}", self.session.faults);
    }
}

/// Pseudo fields for `:authority: test.local` and then these.
pub fn head<'a>(method: &'a str, path: &'a str, fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all =
        vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "test.local")];
    // A test may name another authority or scheme.
    all.retain(|(name, _)| !fields.iter().any(|(n, _)| n == name));
    let (pseudo, regular): (Vec<_>, Vec<_>) = fields.iter().copied().partition(|(n, _)| n.starts_with(':'));
    all.into_iter().chain(pseudo).chain(regular).collect()
}

fn status(block: Option<&Fields>) -> Option<u16> {
    block?.get(":status")?.parse().ok()
}

fn assemble(blocks: Vec<Fields>, body: Vec<u8>) -> Result<Response, String> {
    let mut out = Response {
        status: 0,
        fields: Fields::default(),
        body,
        trailers: Fields::default(),
        interim: Vec::new(),
    };
    for fields in blocks {
        super::rules::fields(&fields)?;
        match status(Some(&fields)) {
            _ if out.status != 0 => out.trailers = fields,
            Some(code) => {
                super::rules::pseudo(&fields, &[":status"])?;
                let fields = Fields(fields.0.into_iter().filter(|(n, _)| n != ":status").collect());
                if code < 200 {
                    out.interim.push((code, fields));
                } else {
                    (out.status, out.fields) = (code, fields);
                }
            }
            None => return Err(format!("no :status in {fields:?}")),
        }
    }
    super::rules::pseudo(&out.trailers, &[])?;
    if out.status == 0 { Err("no head".into()) } else { Ok(out) }
}
