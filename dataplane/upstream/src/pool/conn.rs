//! The records of connections and waiting requests.

use millrace_base::{Key, Time};

use crate::list::{Linked, Links};
use crate::{HostId, ResourcePriority};

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http1,
    Tcp,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnState {
    Connecting,
    /// In its pool's idle stack; `idle_since` is valid.
    Idle,
    /// Carries a request (HTTP/1) or a session (TCP).
    Busy,
}

/// Lists that a connection can be in: the idle stack of its pool.
pub(crate) const POOL: usize = 0;
/// Idle connections of the cluster, the longest idle first.
pub(crate) const IDLE: usize = 1;
/// Established HTTP/1 connections of the cluster, the oldest first.
pub(crate) const AGE: usize = 2;

/// One upstream connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The shard's key; `None` until `bind`.
    pub key: Option<Key>,
    pub host: HostId,
    pub priority: ResourcePriority,
    pub kind: Kind,
    pub state: ConnState,
    /// Close at the end of the current request.
    pub closing: Option<super::CloseReason>,
    /// The current request holds a unit of the request budget.
    pub counted: bool,
    /// A TCP session that is still connecting holds a unit of the pending budget.
    pub pending: bool,
    /// In the list of established connections by age.
    pub aged: bool,
    pub requests: u32,
    pub connected_at: Time,
    pub idle_since: Time,
    links: [Links; 3],
}

impl Conn {
    pub fn new(host: HostId, priority: ResourcePriority, kind: Kind) -> Self {
        Self {
            key: None,
            host,
            priority,
            kind,
            state: ConnState::Connecting,
            closing: None,
            counted: false,
            pending: false,
            aged: false,
            requests: 0,
            connected_at: Time::ZERO,
            idle_since: Time::ZERO,
            links: Default::default(),
        }
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
    pub host: HostId,
    pub priority: ResourcePriority,
    links: Links,
}

impl Waiter {
    pub fn new(key: Key, host: HostId, priority: ResourcePriority) -> Self {
        Self { key, host, priority, links: Links::default() }
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
        assert!(size_of::<crate::Host>() <= 232, "{}", size_of::<crate::Host>());
    }
}
