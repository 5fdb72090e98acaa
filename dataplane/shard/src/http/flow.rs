//! Where the body bytes of a stream stand between its two connections.

use millrace_base::Time;
use millrace_ring::Payload;

use crate::held::Share;

/// Body bytes and ends of a stream between its two connections.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Request bytes that the endpoint has no room for yet.
    pub(crate) request_queue: Payload,
    /// Response bytes that the client has no room for yet.
    pub(crate) response_queue: Payload,
    /// Bytes that came over HTTP/2 and hold flow-control credit until they have been passed on.
    pub(crate) held_request: usize,
    pub(crate) held_response: usize,
    /// The sender has sent everything.
    pub(crate) request_end: bool,
    pub(crate) response_end: bool,
    /// The receiver was told so.
    pub(crate) request_end_sent: bool,
    pub(crate) response_end_sent: bool,
    /// In the list of streams that wait for room on a connection.
    pub(crate) awaits_client: bool,
    pub(crate) awaits_upstream: bool,
    pub(crate) awaits_since: Time,
    /// The whole response is here and waits for the client alone, for which it has until then.
    pub(crate) flush_until: Option<Time>,
    /// What the stream keeps in memory of the shard's own.
    pub(crate) share: Option<Share>,
}

impl Flow {
    /// As good as new; queued bytes go home.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}
