//! Load shedding of the TCP proxy.

use millrace_base::{Key, ResponseFlag};
use millrace_config::ShedPoint;
use millrace_observe::stats::tcp as metric;

use crate::shard::Shard;

impl Shard {
    /// Ends the session if load is shed at this point; `received` bytes were just read.
    pub(super) fn tcp_sheds(&mut self, key: Key, point: ShedPoint, received: usize) -> bool {
        if !self.sheds_of(key, point) {
            return false;
        }
        if let Some(session) = self.tcp_session(key) {
            session.flags.set(ResponseFlag::OverloadManagerTerminated);
            let scope = session.proxy.scope;
            self.stats.add(scope, metric::DOWNSTREAM_CX_RX_BYTES_TOTAL, received as u64);
            self.stats.inc(scope, metric::DOWNSTREAM_CX_OVERLOAD_CLOSE);
        }
        self.tcp_close(key, false);
        true
    }
}
