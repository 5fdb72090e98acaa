//! `envoy.filters.http.buffer`: the request goes on when all of it is here.

use millrace_http::{HeaderId, RequestHead};

use crate::http::LocalReply;
use crate::http::router::reply;

/// A request that is collected.
#[derive(Debug)]
pub(crate) struct BufferActive {
    max: usize,
    len: usize,
    /// The request is whole.
    pub(crate) done: bool,
}

impl BufferActive {
    pub(crate) fn new(max: u32) -> Self {
        Self { max: max as usize, len: 0, done: false }
    }

    /// Bytes that the shard keeps; `end` says that they are the last ones.
    pub(crate) fn data(&mut self, data: &[u8], end: bool) -> Result<(), Box<LocalReply>> {
        self.len += data.len();
        self.done |= end;
        if self.len > self.max { Err(reply::payload_too_large().into()) } else { Ok(()) }
    }

    /// The request goes on: its length is known now.
    pub(crate) fn resume(&self, head: &mut RequestHead) {
        if !head.headers.contains(HeaderId::ContentLength) {
            head.headers.set_id(HeaderId::ContentLength, self.len.to_string().as_bytes());
        }
    }
}
