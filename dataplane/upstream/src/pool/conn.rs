//! The records of connections and waiting requests.

use millrace_base::{Key, Time};

use super::HttpProtocol;
use super::ready::Level;
use crate::list::{Linked, Links};
use crate::{HostId, ResourcePriority, TransportKey};

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http1,
    Http2,
    Tcp,
}

/// The connections and waiters of one host, priority, version of HTTP and kind of handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolId {
    pub host: HostId,
    pub priority: ResourcePriority,
    pub protocol: HttpProtocol,
    pub transport: TransportKey,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnState {
    Connecting,
    /// Established, carries nothing; `idle_since` is valid.
    Idle,
    /// Carries requests (HTTP) or a session (TCP).
    Busy,
}

/// Lists that a connection can be in: one of its pool's levels.
pub(crate) const POOL: usize = 0;
/// Idle connections of the cluster, the longest idle first.
pub(crate) const IDLE: usize = 1;
/// Established HTTP connections of the cluster, the oldest first.
pub(crate) const AGE: usize = 2;

/// One upstream connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The shard's key; `None` until `bind`.
    pub key: Option<Key>,
    pub host: HostId,
    pub priority: ResourcePriority,
    /// What it carries; a guess while an automatic one connects.
    pub kind: Kind,
    /// The version that its pool is for; HTTP only.
    pub protocol: HttpProtocol,
    pub transport: TransportKey,
    pub state: ConnState,
    /// Close at the end of the last request that it carries.
    pub closing: Option<super::CloseReason>,
    /// Requests under way that hold a unit of the request budget.
    pub counted: u32,
    /// Requests under way; HTTP only.
    pub streams: u32,
    /// So many at a time; HTTP only.
    pub limit: u32,
    /// Where it is in its pool; `None` without room.
    pub level: Option<Level>,
    /// A TCP session that is still connecting holds a unit of the pending budget.
    pub pending: bool,
    /// In the list of established connections by age.
    pub aged: bool,
    /// Holds a unit of its endpoint's count of connections.
    pub counted_host: bool,
    pub requests: u32,
    pub connected_at: Time,
    pub idle_since: Time,
    links: [Links; 3],
}

impl Conn {
    pub fn new(pool: PoolId, kind: Kind) -> Self {
        Self {
            key: None,
            host: pool.host,
            priority: pool.priority,
            kind,
            protocol: pool.protocol,
            transport: pool.transport,
            state: ConnState::Connecting,
            closing: None,
            counted: 0,
            streams: 0,
            limit: 0,
            level: None,
            pending: false,
            aged: false,
            counted_host: false,
            requests: 0,
            connected_at: Time::ZERO,
            idle_since: Time::ZERO,
            links: Default::default(),
        }
    }

    /// The pool of an HTTP connection.
    pub fn pool(&self) -> PoolId {
        let Self { host, priority, protocol, transport, .. } = *self;
        PoolId { host, priority, protocol, transport }
    }
}

impl Linked for Conn {
    fn links(&self, list: usize) -> &Links {
        &self.links[list]
    }

    fn links_mut(&mut self, list: usize) -> &mut Links {
        &mut self.links[list]
    }
}

/// One request that waits for a connection.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub key: Key,
    pub pool: PoolId,
    links: Links,
}

impl Waiter {
    pub fn new(key: Key, pool: PoolId) -> Self {
        Self { key, pool, links: Links::default() }
    }
}

impl Linked for Waiter {
    fn links(&self, _list: usize) -> &Links {
        &self.links
    }

    fn links_mut(&mut self, _list: usize) -> &mut Links {
        &mut self.links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_small_as_docs_limits_says() {
        assert!(size_of::<Conn>() <= 176, "{}", size_of::<Conn>());
        assert!(size_of::<Waiter>() <= 56, "{}", size_of::<Waiter>());
        assert!(size_of::<crate::Host>() <= 336, "{}", size_of::<crate::Host>());
        assert!(size_of::<crate::host::HostPool>() <= 88, "{}", size_of::<crate::host::HostPool>());
    }
}
