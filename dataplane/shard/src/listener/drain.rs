//! The end of drains: connections whose time is over are closed, removed listeners are forgotten.

use std::time::Duration;

use millrace_base::{Key, Time};

use crate::downstream::Protocol;
use crate::shard::Shard;
use crate::token::Kind;

/// Connections closed at once when a drain ends; the next ones follow after [`PAUSE`], so that the others
/// are served in between.
const CLOSED_AT_ONCE: usize = 256;
const PAUSE: Duration = Duration::from_millis(2);

impl Shard {
    /// Has [`Shard::end_drains`] called at this time, once however often it is asked for.
    pub(super) fn arm_drain(&mut self, at: Time) {
        if self.listeners.due.insert(at) {
            self.wheel.insert(at, Kind::Drain.token(Key { slot: 0, generation: 0 }).0);
        }
    }

    /// Closes what drains and is due. Costs a look at every connection, once for each drain that ends with
    /// connections left.
    pub(crate) fn end_drains(&mut self) {
        let now = self.io.now;
        self.listeners.due.retain(|at| *at > now);
        if self.shared.doors()[self.index].draining_connections() > 0 {
            let due =
                self.downstreams.iter().filter(|(_, d)| d.origin.drain_until() <= now && !d.is_lingering());
            let keys: Vec<Key> = due.map(|(key, _)| key).take(CLOSED_AT_ONCE).collect();
            if keys.len() == CLOSED_AT_ONCE {
                self.arm_drain(now + PAUSE);
            }
            for key in keys {
                match self.downstreams.get(key).map(|d| &d.protocol) {
                    Some(Protocol::Tcp(_)) => self.tcp_drain_over(key),
                    Some(Protocol::Http(_)) => self.http_drain_over(key),
                    Some(Protocol::Securing(_) | Protocol::Refused(_)) => self.close_downstream(key, true),
                    None => {}
                }
            }
        }
        for key in self.listeners.removed.clone() {
            self.listeners.forget_if_over(key, now);
        }
    }
}
