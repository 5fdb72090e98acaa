//! A request that waits for the addresses of the host that it names: in front of a filter, or of its endpoint.

use millrace_base::Key;

use super::stream::Attempt;
use crate::named_hosts::Waiter;
use crate::shard::Shard;

impl Shard {
    /// The endpoint of a try depends on a host that is being resolved.
    pub(super) fn await_host(&mut self, id: Key) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.attempt = Attempt::Naming;
        }
    }

    /// The host that a request waited for was resolved, or was not.
    pub(crate) fn host_resolved(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.attempt == Attempt::Naming {
            stream.attempt = Attempt::None;
            return self.attempt_named(id, true);
        }
        self.filters_let_go(id);
    }

    /// A request waits for no host any more.
    pub(super) fn leave_host(&mut self, id: Key) {
        if !self.named_hosts.is_quiet() {
            self.named_hosts.withdraw(Waiter::Stream(id));
        }
    }
}
