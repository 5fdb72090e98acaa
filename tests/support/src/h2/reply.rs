//! What a scripted HTTP/2 upstream does about one request: a list of plain acts.

use std::time::Duration;

/// One act on the stream or its connection.
#[derive(Clone, Debug)]
pub enum Act {
    /// A header block as it is; true: with END_STREAM.
    Block(Vec<(String, String)>, bool),
    /// DATA within the windows; true: with END_STREAM.
    Data(Vec<u8>, bool),
    /// RST_STREAM.
    Reset(u32),
    /// Waits.
    Wait(Duration),
    /// GOAWAY with this last stream and code.
    Goaway(u32, u32),
    /// Exactly these bytes.
    Raw(Vec<u8>),
    /// FIN.
    Close,
    /// RST of the connection.
    Abort,
    /// Gives no more window for the stream.
    Hold,
    /// Gives so much at once, and then as it is used.
    Grant(u32),
    /// Sends every DATA frame back, END_STREAM too.
    Echo,
}

/// The scripted answer.
#[derive(Clone, Debug, Default)]
pub struct Reply(pub Vec<Act>);

impl Reply {
    /// Never answers.
    pub fn hang() -> Self {
        Self::default()
    }

    /// 200 with a text body.
    pub fn ok(body: &str) -> Self {
        Self::bytes(200, body.as_bytes())
    }

    /// A response with its length.
    pub fn bytes(status: u16, body: &[u8]) -> Self {
        Self::with(status, &[("content-length", &body.len().to_string())], body)
    }

    /// A response with exactly these fields.
    pub fn with(status: u16, fields: &[(&str, &str)], body: &[u8]) -> Self {
        let reply = Self::default().head(status, fields, body.is_empty());
        if body.is_empty() { reply } else { reply.data(body, true) }
    }

    /// RST_STREAM at once.
    pub fn reset(code: u32) -> Self {
        Self::default().act(Act::Reset(code))
    }

    /// Appends a head.
    #[must_use]
    pub fn head(self, status: u16, fields: &[(&str, &str)], end: bool) -> Self {
        let status = status.to_string();
        let mut all = vec![(":status", status.as_str())];
        all.extend_from_slice(fields);
        self.block(&all, end)
    }

    /// Appends trailers, which end the stream.
    #[must_use]
    pub fn trailers(self, fields: &[(&str, &str)]) -> Self {
        self.block(fields, true)
    }

    /// Appends a header block.
    #[must_use]
    pub fn block(self, fields: &[(&str, &str)], end: bool) -> Self {
        let owned = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        self.act(Act::Block(owned, end))
    }

    /// Appends DATA.
    #[must_use]
    pub fn data(self, bytes: &[u8], end: bool) -> Self {
        self.act(Act::Data(bytes.to_vec(), end))
    }

    /// Appends a pause.
    #[must_use]
    pub fn wait(self, time: Duration) -> Self {
        self.act(Act::Wait(time))
    }

    /// Appends an act.
    #[must_use]
    pub fn act(mut self, act: Act) -> Self {
        self.0.push(act);
        self
    }

    /// Waits before everything else.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.0.insert(0, Act::Wait(delay));
        self
    }
}
